/* The traced half of the slow-path budget: bursts wider than a magazine, in which every call is announced to the tracer
 * (count_steps, as in fastpath_driver.c). So the mean holds its share of refills, flushes or deliveries, and the longest
 * call is one that paid for one. */
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

enum { COUNT = 1000, WARM_ROUNDS = 8, BLOCK_BYTES = 64 };

static void *volatile blocks[COUNT];
static int turns[COUNT]; /* which block is freed as the i-th */
static pthread_barrier_t barrier;

static __attribute__((noinline)) void announce(void *function, const char *name)
{
#if defined(__x86_64__)
    __asm__ volatile("int3" : : "D"(function), "S"(name), "d"((size_t)BLOCK_BYTES) : "memory");
#else
    (void)function, (void)name;
#endif
}

static void take_all(const char *name)
{
    for (int i = 0; i < COUNT; i++) {
        if (name)
            announce((void *)(uintptr_t)malloc, name);
        blocks[i] = malloc(BLOCK_BYTES);
    }
}

static void give_all(const char *name)
{
    for (int i = 0; i < COUNT; i++) {
        void *block = blocks[turns[i]];
        if (name)
            announce((void *)(uintptr_t)free, name);
        free(block);
    }
}

static void trace_bursts(const char *take_name, const char *give_name)
{
    for (int round = 0; round < WARM_ROUNDS; round++) {
        take_all(NULL);
        give_all(NULL);
    }
    take_all(take_name);
    give_all(give_name);
}

/* Allocates, and is alive while its blocks are freed: they are another thread's. */
static void *produce(void *unused)
{
    for (int round = 0; round <= WARM_ROUNDS; round++) {
        take_all(NULL);
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
    }
    return unused;
}

int main(void)
{
    for (int i = 0; i < COUNT; i++)
        turns[i] = i;
    trace_bursts("malloc:in_order", "free:in_order");
    pthread_t producer;
    pthread_barrier_init(&barrier, NULL, 2);
    if (pthread_create(&producer, NULL, produce, NULL) != 0)
        return 1;
    for (int round = 0; round <= WARM_ROUNDS; round++) {
        pthread_barrier_wait(&barrier);
        give_all(round == WARM_ROUNDS ? "free:remote" : NULL);
        pthread_barrier_wait(&barrier);
    }
    pthread_join(producer, NULL);
    uint32_t random = 7;
    for (int i = COUNT - 1; i > 0; i--) {
        random = random * 1664525 + 1013904223;
        int other = (int)((random >> 8) % (uint32_t)(i + 1)), turn = turns[i];
        turns[i] = turns[other];
        turns[other] = turn;
    }
    trace_bursts("malloc:shuffled", "free:shuffled");
    return 0;
}
