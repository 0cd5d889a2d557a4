/* locked: a process that keeps all of its memory in RAM, present and future, within a limit of 64 MiB.
 *
 * Every mapping then counts as soon as it is made, and beyond the limit mmap is refused. So mapping addresses in reserve
 * would be the end of it. After mlockall the process starts threads, which allocate and free; it then allocates until
 * nothing is left, frees all of it, and must be able to start threads and allocate again.
 *
 * Where the administrator allows less, as much is taken as he does, by one thread with a small stack; where even the
 * program itself is too much for that, addresses are limited instead: then every mapping counts likewise, though nothing
 * is locked. */
#define _GNU_SOURCE
#include "alloc.h"
#include "common.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

enum { NOBODY = 65534, BLOCKS = 200, ROUNDS = 50, HOARD_MAX = 4096, OVERHEAD_MIB = 6 };
#define STACK_BYTES (256 * KIB)
#define HOARD_BLOCK_BYTES (64 * KIB)

static uint64_t limit_mib = 64;
static uint64_t thread_count = 4;
static bool has_room_for_stacks = true; /* of libc's size */

static void *churn(void *stream)
{
    uint64_t seed = stress_seed(1, (uintptr_t)stream);
    for (unsigned round = 0; round < ROUNDS; round++) {
        void *blocks[BLOCKS];
        for (unsigned i = 0; i < BLOCKS; i++) {
            const size_t size = stress_between(&seed, 16, i % 50 == 0 ? 200 * KIB : 2 * KIB);
            blocks[i] = test_malloc(size);
            if (blocks[i] == NULL) {
                stress_fail("no %zu bytes, though the limit is far: %s", size, strerror(errno));
            }
            memset(blocks[i], 1, size);
        }
        for (unsigned i = 0; i < BLOCKS; i++) {
            test_free(blocks[i]);
        }
    }
    return NULL;
}

static void run_threads(const char *when)
{
    pthread_t threads[STRESS_MAX_THREADS];
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, STACK_BYTES);
    for (uintptr_t i = 0; i < thread_count; i++) {
        /* The first one as most programs start them: libc's stacks have as much as RLIMIT_STACK says. */
        const int error = pthread_create(&threads[i], i == 0 && has_room_for_stacks ? NULL : &small, churn, (void *)i);
        if (error != 0) {
            stress_fail("cannot start a thread %s: %s", when, strerror(error));
        }
    }
    for (uint64_t i = 0; i < thread_count; i++) {
        pthread_join(threads[i], NULL);
    }
}

static void take_everything(void)
{
    static char *hoard[HOARD_MAX];
    size_t count = 0;
    while (count < HOARD_MAX && (hoard[count] = test_malloc(HOARD_BLOCK_BYTES)) != NULL) {
        memset(hoard[count++], 2, HOARD_BLOCK_BYTES);
    }
    if (count == HOARD_MAX) {
        stress_fail("%zu MiB were given under a limit of %d", count * HOARD_BLOCK_BYTES / MIB, (int)limit_mib);
    }
    if (errno != ENOMEM) {
        stress_fail("malloc failed with %s", strerror(errno));
    }
    /* The program, the library and the stacks that libc keeps take some MiB. */
    if (count * HOARD_BLOCK_BYTES * 2 + OVERHEAD_MIB * MIB < limit_mib * MIB) {
        stress_fail("no more than %zu KiB were to be had under a limit of %d MiB", count * HOARD_BLOCK_BYTES / KIB,
                    (int)limit_mib);
    }
    for (size_t i = 0; i < count; i++) {
        test_free(hoard[i]);
    }
    test_malloc_trim();
    printf("locked: %zu MiB were to be had under a limit of %d\n", count * HOARD_BLOCK_BYTES / MIB, (int)limit_mib);
}

/* False: what may be locked is too little. */
static bool lock_all(void)
{
    struct rlimit limit = {limit_mib * MIB, limit_mib * MIB};
    if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0) {
        getrlimit(RLIMIT_MEMLOCK, &limit);
        limit.rlim_cur = limit.rlim_max;
    }
    /* It holds neither for root nor for whoever may lock as much as he likes. */
    if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0 || (geteuid() == 0 && setresuid(NOBODY, NOBODY, NOBODY) != 0)) {
        return false;
    }
    const bool is_less = limit.rlim_cur < limit_mib * MIB;
    if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) {
        if (is_less) {
            return false;
        }
        stress_fail("mlockall: %s", strerror(errno));
    }
    if (is_less) {
        limit_mib = limit.rlim_cur / MIB;
        thread_count = 1;
        has_room_for_stacks = false;
    }
    return true;
}

int main(int argc, char **argv)
{
    const struct stress_option options[] = {
        {"limit", "MiB that may be locked", &limit_mib, 16, 200, NULL},
        {"threads", "threads at a time", &thread_count, 1, STRESS_MAX_THREADS, NULL},
    };
    stress_parse(argc, argv, "Allocates with all memory locked, under a limit.", options,
                 sizeof options / sizeof options[0]);
    test_free(test_malloc(1));
    const bool is_locked = lock_all();
    const struct rlimit limit = {limit_mib * MIB, limit_mib * MIB};
    if (!is_locked && setrlimit(RLIMIT_AS, &limit) != 0) {
        stress_fail("neither locked memory nor addresses can be limited: %s", strerror(errno));
    }
    printf("locked: %d MiB of %s\n", (int)limit_mib, is_locked ? "locked memory" : "addresses, as RLIMIT_MEMLOCK is too low");
    run_threads("at first");
    take_everything();
    run_threads("after malloc had failed");
    printf("locked: %zu threads ran, before and after\n", (size_t)thread_count);
    return 0;
}
