/* An IFUNC whose resolver, which the loader runs while it relocates the program, calls malloc. glibc resets
 * thread-local storage after that, so what an allocator noted there is lost, but the blocks must live on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_COUNT 200

static char *early[BLOCK_COUNT];

static int chosen(int x)
{
    return x + 1;
}

__attribute__((used)) static int (*resolve_twice(void))(int)
{
    for (int i = 0; i < BLOCK_COUNT; i++) {
        free(malloc(i * 11 + 1));
        early[i] = malloc(i * 13 + 1);
        if (early[i])
            memset(early[i], i, i * 13 + 1);
    }
    return chosen;
}

int twice(int x) __attribute__((ifunc("resolve_twice")));

int main(void)
{
    void *late[BLOCK_COUNT];
    for (int i = 0; i < BLOCK_COUNT; i++)
        memset(late[i] = malloc(i * 13 + 1), 0xee, i * 13 + 1);
    for (int i = 0; i < BLOCK_COUNT; i++) {
        for (int k = 0; k < i * 13 + 1; k++)
            if (early[i][k] != (char)i)
                return 1;
        free(early[i]);
        free(late[i]);
    }
    printf("ifunc %d\n", twice(41));
    return 0;
}
