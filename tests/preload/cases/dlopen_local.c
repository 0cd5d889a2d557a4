/* The library opened late and privately: its functions work, and its blocks are its own. argv[1] is the library. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static void *(*lib_malloc)(size_t);
static void (*lib_free)(void *);

static void *thread(void *arg)
{
    for (int round = 0; round < 50; round++) {
        char *block[100];
        for (int i = 0; i < 100; i++)
            memset(block[i] = lib_malloc(i * 50 + 1), i, i * 50 + 1);
        for (int i = 0; i < 100; i++) {
            if (block[i][i * 50] != (char)i)
                return "a block was overwritten";
            lib_free(block[i]);
        }
    }
    return arg;
}

int main(int argc, char **argv)
{
    void *lib = argc > 1 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    if (!lib) {
        printf("dlopen: %s\n", dlerror());
        return 1;
    }
    *(void **)&lib_malloc = dlsym(lib, "malloc");
    *(void **)&lib_free = dlsym(lib, "free");
    if (!lib_malloc || !lib_free)
        return 2;
    pthread_t t[4];
    void *said;
    for (int i = 0; i < 4; i++)
        if (pthread_create(&t[i], NULL, thread, NULL))
            return 3;
    for (int i = 0; i < 4; i++)
        if (pthread_join(t[i], &said) || said)
            return 4;
    if (thread(NULL))
        return 5;
    lib_free(NULL);
    if (dlclose(lib)) /* the library stays: threads may still run its destructors */
        return 6;
    printf("dlopen ok\n");
    return 0;
}
