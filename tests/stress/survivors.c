/* survivors: what does a peak leave behind when few of its blocks stay?
 *
 * Threads allocate blocks of mixed sizes and free all but one in so many, at random. Then they go on with a little work of
 * another size. Within some seconds the process must hold no more than twice what survived, and a fixed allowance for
 * magazines, records and stacks. A profile that gives back nothing of itself inside slabs is asked to (malloc_trim).
 * The survivors keep their contents, and so do those that come after them, on pages that had been given back. */
#include "alloc.h"
#include "common.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORK_SIZE = 40000, WORK_PAIRS = 64, TIMEOUT_S = 120 };

static uint64_t thread_count = 4;
static uint64_t seed = 1;
static uint64_t peak_mib = 256;
static uint64_t one_in = 20;
static uint64_t size_min = 2048;
static uint64_t size_max = 16384;
static uint64_t wait_s = 15;
static uint64_t allowance_mib = 8;

struct entry {
    unsigned char *block; /* NULL: freed */
    uint32_t size;
    uint64_t key;
};

struct worker {
    pthread_t thread;
    uint64_t random;
    struct entry *entries;
    size_t count;
    size_t live_bytes; /* of the survivors; read after `quiet` */
};

static pthread_barrier_t quiet; /* all that goes is gone */
static int stop;                /* atomic */

static void allocate(struct worker *w, struct entry *e, uint64_t serial)
{
    e->size = (uint32_t)stress_between(&w->random, size_min, size_max);
    e->block = test_malloc(e->size);
    if (e->block == NULL) {
        stress_fail("malloc(%" PRIu32 ") gave NULL", e->size);
    }
    e->key = stress_key(e->block, serial);
    stress_fill(e->block, e->size, e->key);
}

static void release(struct entry *e)
{
    stress_verify(e->block, e->size, e->key, "block");
    test_free(e->block);
    e->block = NULL;
}

static void *work(void *argument)
{
    struct worker *w = argument;
    for (size_t i = 0; i < w->count; i++) {
        allocate(w, &w->entries[i], i);
    }
    for (size_t i = 0; i < w->count; i++) {
        if (stress_random(&w->random) % one_in == 0) {
            w->live_bytes += w->entries[i].size;
        } else {
            release(&w->entries[i]);
        }
    }
    pthread_barrier_wait(&quiet);
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        for (unsigned i = 0; i < WORK_PAIRS; i++) {
            test_free(test_malloc(WORK_SIZE));
        }
        stress_sleep_ms(1);
    }
    /* Between the survivors again, and then all goes. */
    for (size_t i = 0; i < w->count; i++) {
        if (w->entries[i].block == NULL && stress_random(&w->random) % 2 == 0) {
            allocate(w, &w->entries[i], w->count + i);
        }
    }
    for (size_t i = 0; i < w->count; i++) {
        if (w->entries[i].block != NULL) {
            release(&w->entries[i]);
        }
    }
    return NULL;
}

/* The profile says whether pages go by themselves; the library linked in has no profile. */
static bool must_be_asked(void)
{
#ifdef HAKMEM_PREFIXED
    return true;
#else
    const char *profile = getenv("HAKMEM_PROFILE");
    return profile == NULL || strcmp(profile, "default") == 0;
#endif
}

static void wait_for(size_t before, size_t live)
{
    const size_t bound = 2 * live + allowance_mib * MIB;
    const double end = stress_now() + (double)wait_s;
    const size_t at_first = stress_rss_bytes() - before;
    size_t held = at_first;
    while (held > bound && stress_now() < end) {
        stress_sleep_ms(100);
        if (must_be_asked()) {
            test_malloc_trim();
        }
        size_t now = stress_rss_bytes();
        held = now > before ? now - before : 0;
    }
    printf("peak %" PRIu64 " MiB, live %zu KiB, held %zu KiB at first and %zu KiB in the end, %.2f of live\n", peak_mib,
           live / KIB, at_first / KIB, held / KIB, (double)held / (double)live);
    if (held > bound && !STRESS_SANITIZED) {
        stress_fail("%zu KiB are more than 2 x live + %" PRIu64 " MiB", held / KIB, allowance_mib);
    }
}

int main(int argc, char **argv)
{
    const struct stress_option options[] = {
        {"threads", "threads", &thread_count, 1, STRESS_MAX_THREADS, NULL},
        {"seed", "of sizes and survivors", &seed, 0, UINT64_MAX, NULL},
        {"mib", "allocated before most of it is freed", &peak_mib, 1, 65536, NULL},
        {"one-in", "blocks of which one survives", &one_in, 1, 1000000, NULL},
        {"min", "smallest block, bytes", &size_min, 16, 1 << 20, NULL},
        {"max", "largest block, bytes", &size_max, 16, 1 << 20, NULL},
        {"wait", "seconds at most until memory is back", &wait_s, 0, 3600, NULL},
        {"allowance", "MiB beside twice the live bytes", &allowance_mib, 0, 65536, NULL},
    };
    stress_parse(argc, argv, "memory held by few survivors of a peak", options, sizeof options / sizeof options[0]);
    stress_watchdog((unsigned)wait_s + TIMEOUT_S, "survivors");
    struct worker *workers = stress_map(thread_count * sizeof *workers);
    const size_t each = peak_mib * MIB / thread_count / ((size_min + size_max) / 2) + 1;
    for (uint64_t i = 0; i < thread_count; i++) {
        workers[i].random = stress_seed(seed, i);
        workers[i].count = each;
        workers[i].entries = stress_map(each * sizeof(struct entry));
        memset(workers[i].entries, 0, each * sizeof(struct entry));
    }
    const size_t before = stress_rss_bytes();
    pthread_barrier_init(&quiet, NULL, (unsigned)thread_count + 1);
    for (uint64_t i = 0; i < thread_count; i++) {
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0) {
            stress_fail("no thread");
        }
    }
    pthread_barrier_wait(&quiet);
    size_t live = 0;
    for (uint64_t i = 0; i < thread_count; i++) {
        live += workers[i].live_bytes;
    }
    wait_for(before, live);
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    for (uint64_t i = 0; i < thread_count; i++) {
        pthread_join(workers[i].thread, NULL);
    }
    return 0;
}
