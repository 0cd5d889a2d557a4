/* idle: what does a process hold that has been busy and then sleeps?
 *
 * Threads allocate blocks, write to them, free them all and then sleep for ever, without another call of malloc or free.
 * With the background thread resident memory must fall below the limit before the time is up; without it nothing gives
 * it back. The first thread only looks, and does not allocate.
 *
 * With --ends 1 the first thread frees all the blocks, and the others end instead of sleeping. That must do without a
 * background thread. */
#define _GNU_SOURCE
#include "alloc.h"
#include "common.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LOOK_MS = 100, THREADS_MAX = 1000 };
#define STACK_BYTES (256 * KIB)

static uint64_t thread_count = 4;
static uint64_t total_mib = 610;
static uint64_t block_bytes = 40000;
static uint64_t limit_mib = 30;
static uint64_t wait_seconds = 20;
static uint64_t threads_end;
static char **held[THREADS_MAX];
static pthread_barrier_t all_hold, all_freed;

static void free_all(char **blocks)
{
    size_t count = total_mib * MIB / thread_count / block_bytes;
    for (size_t i = 0; i < count; i++) {
        test_free(blocks[i]);
    }
    stress_unmap(blocks, count * sizeof *blocks);
}

static void *burst(void *where)
{
    size_t count = total_mib * MIB / thread_count / block_bytes;
    char **blocks = stress_map(count * sizeof *blocks);
    *(char ***)where = blocks;
    for (size_t i = 0; i < count; i++) {
        blocks[i] = test_malloc(block_bytes);
        if (blocks[i] == NULL) {
            stress_fail("allocation failed: %s", strerror(errno));
        }
        memset(blocks[i], 1, block_bytes);
    }
    pthread_barrier_wait(&all_hold);
    pthread_barrier_wait(&all_hold);
    if (threads_end == 0) {
        free_all(blocks);
    }
    pthread_barrier_wait(&all_freed);
    while (threads_end == 0) {
        pause();
    }
    return NULL;
}

int main(int argc, char **argv)
{
    const struct stress_option options[] = {
        {"threads", "threads that allocate and then sleep", &thread_count, 1, THREADS_MAX, NULL},
        {"mib", "what they hold together at the peak", &total_mib, 1, 100000, NULL},
        {"block", "size of a block", &block_bytes, 1, 1 << 30, NULL},
        {"limit", "MiB that may be resident in the end", &limit_mib, 1, 100000, NULL},
        {"wait", "seconds until then", &wait_seconds, 1, 3600, NULL},
        {"ends", "1: the first thread frees, and the others end", &threads_end, 0, 1, NULL},
    };
    stress_parse(argc, argv, "Resident memory of a process whose threads sleep.", options,
                 sizeof options / sizeof options[0]);
    pthread_barrier_init(&all_hold, NULL, (unsigned)thread_count + 1);
    pthread_barrier_init(&all_freed, NULL, (unsigned)thread_count + 1);
    pthread_t threads[THREADS_MAX];
    pthread_attr_t attributes; /* a thousand usual stacks are more addresses than some containers allow */
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    for (uint64_t i = 0; i < thread_count; i++) {
        if (pthread_create(&threads[i], &attributes, burst, &held[i]) != 0) {
            stress_fail("cannot start a thread");
        }
    }
    pthread_barrier_wait(&all_hold);
    size_t peak_bytes = stress_rss_bytes();
    pthread_barrier_wait(&all_hold); /* ... until it has been looked at */
    if (peak_bytes < total_mib * MIB) {
        stress_fail("%zu MiB resident at the peak: the test does not do what it should", peak_bytes / MIB);
    }
    for (uint64_t i = 0; i < thread_count && threads_end != 0; i++) {
        free_all(held[i]);
    }
    pthread_barrier_wait(&all_freed);
    for (uint64_t i = 0; i < thread_count && threads_end != 0; i++) {
        pthread_join(threads[i], NULL);
    }
    double start = stress_now();
    size_t bytes;
    do {
        stress_sleep_ms(LOOK_MS);
        bytes = stress_rss_bytes();
    } while (bytes > limit_mib * MIB && stress_now() - start < (double)wait_seconds);
    if (bytes > limit_mib * MIB) {
        stress_fail("%zu MiB resident after %d s of sleep, of %zu MiB at the peak; at most %d are allowed", bytes / MIB,
                    (int)wait_seconds, peak_bytes / MIB, (int)limit_mib);
    }
    printf("idle: %zu MiB at the peak, %zu KiB after %.1f s of sleep\n", peak_bytes / MIB, bytes / KIB,
           stress_now() - start);
    return 0;
}
