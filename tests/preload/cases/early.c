/* malloc at every moment before and after main: .preinit_array, early constructors, atexit, destructors, and in an
 * interposed getenv that calls dlsym, as some start-up code does. Prints one line of check marks. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK_COUNT 40

struct hoard {
    unsigned char *block[BLOCK_COUNT];
    size_t bytes[BLOCK_COUNT];
};

static struct hoard preinit_hoard, constructor_hoard, main_hoard;
static unsigned long getenv_calls;

/* Fills a hoard with blocks of many sizes, each with a pattern of its own. */
static void hoard_fill(struct hoard *h, unsigned seed)
{
    for (unsigned i = 0; i < BLOCK_COUNT; i++) {
        h->bytes[i] = i < 34 ? (i + 1) * 37 + seed : (size_t)1 << (i - 22);
        h->block[i] = malloc(h->bytes[i]);
        if (!h->block[i])
            _exit(90);
        memset(h->block[i], (int)(seed + i), h->bytes[i]);
        if (i % 3 == 0) {
            h->block[i] = realloc(h->block[i], h->bytes[i] + 100);
            memset(h->block[i] + h->bytes[i], (int)(seed + i), 100);
            h->bytes[i] += 100;
        }
    }
}

static void hoard_check_and_free(struct hoard *h, unsigned seed)
{
    for (unsigned i = 0; i < BLOCK_COUNT; i++) {
        for (size_t k = 0; k < h->bytes[i]; k++)
            if (h->block[i][k] != (unsigned char)(seed + i))
                _exit(91);
        free(h->block[i]);
    }
}

char *getenv(const char *name)
{
    static char *(*next)(const char *);
    getenv_calls++;
    void *p = malloc(33);
    if (!next)
        next = (char *(*)(const char *))dlsym(RTLD_NEXT, "getenv");
    dlsym(RTLD_DEFAULT, "a symbol that does not exist"); /* dlerror's message is allocated */
    free(p);
    return next(name);
}

static void preinit(int argc, char **argv, char **envp)
{
    (void)argc, (void)argv, (void)envp;
    hoard_fill(&preinit_hoard, 1);
}
__attribute__((section(".preinit_array"), used)) static void (*preinit_entry)(int, char **, char **) = preinit;

__attribute__((constructor(101))) static void constructor_first(void)
{
    hoard_fill(&constructor_hoard, 2);
    if (getenv("A_NAME_THAT_NOBODY_SET"))
        _exit(92);
}

static void at_exit(void)
{
    hoard_check_and_free(&constructor_hoard, 2);
    struct hoard h;
    hoard_fill(&h, 5);
    hoard_check_and_free(&h, 5);
    printf("atexit ok\n");
}

__attribute__((destructor(101))) static void destructor_last(void)
{
    struct hoard h;
    hoard_check_and_free(&main_hoard, 3);
    hoard_fill(&h, 6);
    hoard_check_and_free(&h, 6);
    printf("destructor ok\n");
}

/* A destructor that allocates and sets its value again runs PTHREAD_DESTRUCTOR_ITERATIONS times, the last ones after
 * the library's own. */
static pthread_key_t key;

static void key_destructor(void *value)
{
    char *p = realloc(value, 3000);
    memset(p, 7, 3000);
    void *q = malloc(64);
    pthread_setspecific(key, q);
    free(p);
}

static void *thread(void *arg)
{
    struct hoard h;
    hoard_fill(&h, 4);
    pthread_setspecific(key, malloc(20));
    hoard_check_and_free(&h, 4);
    return arg;
}

int main(void)
{
    hoard_check_and_free(&preinit_hoard, 1);
    printf("preinit ok\n");
    hoard_fill(&main_hoard, 3);
    atexit(at_exit);
    if (pthread_key_create(&key, key_destructor))
        return 93;
    for (int i = 0; i < 20; i++) {
        pthread_t t;
        if (pthread_create(&t, NULL, thread, NULL) || pthread_join(t, NULL))
            return 94;
    }
    printf("threads ok\n");
    printf("getenv %s\n", getenv_calls ? "ok" : "not called");
    return 0;
}
