/* The traced half of the fast-path budget: for every function and size it warms the thread's cache up, then announces
 * one call to the tracer with a breakpoint and makes it. Plain C++ names are called too: what a C++ program executes
 * counts.
 *
 * The announcement is an int3 with rdi = the function's address, rsi = its name, rdx = the size. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#define WARM_ROUNDS 2000
#define SAMPLE_COUNT 5

typedef void *(*new_fn)(size_t);
typedef void (*delete_fn)(void *);
typedef void (*sized_delete_fn)(void *, size_t);

static __attribute__((noinline)) void announce(void *function, const char *name, size_t size)
{
#if defined(__x86_64__)
    __asm__ volatile("int3" : : "D"(function), "S"(name), "d"(size) : "memory");
#else
    (void)function, (void)name, (void)size;
#endif
}

static void *lookup(const char *name)
{
    return dlsym(RTLD_DEFAULT, name);
}

/* One pair of functions: warm, then SAMPLE_COUNT announced pairs. The block stays in this thread, so each is a hit. */
static void trace_pair(const char *take_name, const char *give_name, size_t size, int sized)
{
    new_fn take = (new_fn)lookup(take_name);
    void *give = lookup(give_name);
    if (!take || !give) {
        fprintf(stderr, "%s or %s is not there\n", take_name, give_name);
        return;
    }
    for (int i = 0; i < WARM_ROUNDS; i++) {
        void *volatile p = take(size);
        sized ? ((sized_delete_fn)give)(p, size) : ((delete_fn)give)(p);
    }
    for (int i = 0; i < SAMPLE_COUNT; i++) {
        announce((void *)take, take_name, size);
        void *volatile p = take(size);
        announce(give, give_name, size);
        sized ? ((sized_delete_fn)give)(p, size) : ((delete_fn)give)(p);
    }
}

/* What interpreters call as often: the size of a block, and a realloc as malloc and where the block may stay. */
static void trace_size_and_resize(size_t size)
{
    size_t (*size_of)(void *) = (size_t (*)(void *))lookup("malloc_usable_size");
    void *(*resize)(void *, size_t) = (void *(*)(void *, size_t))lookup("realloc");
    for (int i = 0; i < SAMPLE_COUNT; i++) {
        announce((void *)resize, "realloc:NULL", size);
        void *volatile p = resize(NULL, size);
        announce((void *)size_of, "malloc_usable_size", size);
        size_of(p);
        announce((void *)resize, "realloc:stays", size);
        p = resize(p, size);
        free(p);
    }
}

int main(void)
{
    static const size_t sizes[] = {24, 200, 2000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        trace_pair("malloc", "free", sizes[i], 0);
        trace_pair("_Znwm", "_ZdlPv", sizes[i], 0);
        trace_pair("_Znwm", "_ZdlPvm", sizes[i], 1);
        trace_pair("malloc", "free_sized", sizes[i], 1);
        trace_size_and_resize(sizes[i]);
    }
    return 0;
}
