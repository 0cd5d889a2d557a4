/* Says whether /proc is there, and allocates in every size class and in threads. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *work(void *arg)
{
    for (size_t n = 1; n < 8u << 20; n += n / 3 + 1) {
        char *p = calloc(1, n);
        if (!p)
            return "calloc";
        memset(p, 1, n);
        p = realloc(p, n * 2);
        if (!p || p[n - 1] != 1)
            return "realloc";
        free(p);
    }
    return arg;
}

int main(void)
{
    pthread_t t;
    void *said = NULL;
    if (work(NULL) || pthread_create(&t, NULL, work, NULL) || pthread_join(t, &said) || said)
        return 1;
    printf("/proc %s\n", access("/proc/self", F_OK) ? "is not here" : "is here");
    return 0;
}
