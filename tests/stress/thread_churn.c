/* thread_churn: is memory bounded however many threads have come and gone?
 *
 * Part "churn": 20,000 short threads. Each fills several thread-specific keys; their destructors, which run when
 * the thread is nearly dead, allocate, reallocate and free, and set their key again, so that the destructors run
 * for as many rounds as the system allows: the allocator sees calls after its own thread-exit work. Part
 * "orphan": a thread allocates some MiB and exits with all of it live; a later thread frees it. The memory of a
 * heap without a thread must be used again.
 *
 * In both, after the first tenth of the threads resident memory may not grow by more than 5 MiB. */
#define _GNU_SOURCE
#include "alloc.h"
#include "common.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum {
    KEY_COUNT = 4,
    DESTRUCTOR_ROUNDS = 3, /* below PTHREAD_DESTRUCTOR_ITERATIONS, so nothing is left behind */
    BLOCKS_PER_ORPHAN = 4096,
    SAMPLES = 100,
};
#define ALLOWED_GROWTH_BYTES (5 * MIB)
#define STACK_BYTES (256 * KIB)

static uint64_t thread_total = 20000;
static uint64_t parallel = 8;
static uint64_t orphan_rounds = 300;
static uint64_t user_seed = 1;

static pthread_key_t keys[KEY_COUNT];
static pthread_attr_t attributes;

/* What hangs from a thread-specific key: header, then a pattern. */
struct value {
    size_t size;
    uint64_t random;
    unsigned key_index;
    unsigned rounds_left;
};

static void fill_value(struct value *value)
{
    stress_fill(value + 1, value->size - sizeof *value, stress_key(value, value->size));
}

static void verify_value(const struct value *value, const void *filled_at, size_t filled_size, const char *what)
{
    size_t size = filled_size < value->size ? filled_size : value->size;
    stress_verify(value + 1, size - sizeof *value, stress_key(filled_at, filled_size), what);
}

static void *must(void *block, size_t size)
{
    if (block == NULL) {
        stress_fail("allocation of %zu bytes failed: %s", size, strerror(errno));
    }
    return block;
}

static size_t choose_size(uint64_t *random)
{
    size_t limit = stress_between(random, 0, 15) == 0 ? 32 * KIB : KIB;
    return stress_between(random, sizeof(struct value), limit);
}

static void touch_some(uint64_t *random)
{
    void *blocks[16];
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        size_t size = choose_size(random);
        blocks[i] = must(i % 2 == 0 ? test_malloc(size) : test_calloc(1, size), size);
        memset(blocks[i], 0x5a, size);
    }
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        test_free(blocks[i]);
    }
}

/* Allocates, reallocates and frees; keeps the key alive for some rounds. */
static void destroy_value(void *argument)
{
    struct value *value = argument;
    size_t old_size = value->size;
    verify_value(value, value, old_size, "a destructor's value");
    uint64_t random = value->random;
    touch_some(&random);
    size_t size = choose_size(&random);
    struct value *moved = must(test_realloc(value, size), size);
    moved->size = size;
    verify_value(moved, argument, old_size, "realloc in a destructor");
    touch_some(&random);
    if (moved->rounds_left == 0) {
        test_free(moved);
        return;
    }
    moved->rounds_left--;
    moved->random = random;
    fill_value(moved);
    if (pthread_setspecific(keys[moved->key_index], moved) != 0) {
        stress_fail("pthread_setspecific failed in a destructor");
    }
}

static void *live_shortly(void *argument)
{
    uint64_t random = stress_seed(user_seed, (uintptr_t)argument);
    touch_some(&random);
    for (unsigned i = 0; i < KEY_COUNT; i++) {
        size_t size = choose_size(&random);
        struct value *value = must(test_malloc(size), size);
        *value = (struct value){size, stress_seed(random, i), i, DESTRUCTOR_ROUNDS - 1};
        fill_value(value);
        pthread_setspecific(keys[i], value);
    }
    return NULL;
}

static void start(pthread_t *thread, void *(*work)(void *), void *argument)
{
    int error = pthread_create(thread, &attributes, work, argument);
    if (error != 0) {
        stress_fail("cannot start a thread: %s", strerror(error));
    }
}

/* Resident memory over the run; the base is what it was after the first tenth. */
struct watch {
    size_t base_bytes;
    size_t highest_bytes;
    size_t lowest_bytes;
};

static void sample(struct watch *watch, uint64_t done, uint64_t total)
{
    size_t rss_bytes = stress_rss_bytes();
    if (done <= total / 10) {
        *watch = (struct watch){rss_bytes, rss_bytes, rss_bytes};
        return;
    }
    watch->highest_bytes = rss_bytes > watch->highest_bytes ? rss_bytes : watch->highest_bytes;
    watch->lowest_bytes = rss_bytes < watch->lowest_bytes ? rss_bytes : watch->lowest_bytes;
}

static void judge(const struct watch *watch, const char *part, uint64_t total, double seconds)
{
    size_t growth_bytes = watch->highest_bytes - watch->base_bytes;
    printf("thread_churn: %s: %" PRIu64 " threads in %.2f s; RSS %zu KiB after a tenth, then %zu..%zu KiB (+%zu KiB)\n",
           part, total, seconds, watch->base_bytes / KIB, watch->lowest_bytes / KIB, watch->highest_bytes / KIB,
           growth_bytes / KIB);
    fflush(stdout);
    if (growth_bytes > ALLOWED_GROWTH_BYTES && !STRESS_SANITIZED) {
        stress_fail("%s: resident memory grew by %zu KiB after the first tenth (base %zu KiB), allowed are %zu KiB",
                    part, growth_bytes / KIB, watch->base_bytes / KIB, ALLOWED_GROWTH_BYTES / KIB);
    }
}

/* A ring of `parallel` threads: the oldest is joined before the next is born. */
static void run_churn(void)
{
    static pthread_t ring[STRESS_MAX_THREADS];
    struct watch watch = {0, 0, 0};
    double begin = stress_now();
    uint64_t sample_every = thread_total / SAMPLES + 1;
    for (uint64_t i = 0; i < thread_total; i++) {
        pthread_t *place = &ring[i % parallel];
        if (i >= parallel) {
            pthread_join(*place, NULL);
        }
        start(place, live_shortly, (void *)(uintptr_t)i);
        if (i % sample_every == 0 || i == thread_total / 10) {
            sample(&watch, i, thread_total);
        }
    }
    for (uint64_t i = 0; i < parallel && i < thread_total; i++) {
        pthread_join(ring[i], NULL);
    }
    sample(&watch, thread_total, thread_total);
    judge(&watch, "churn", thread_total, stress_now() - begin);
}

/* Written by one thread, freed by a later one; joining orders the two. */
static struct value **orphans;

static void *leave_orphans(void *argument)
{
    uint64_t random = stress_seed(user_seed, (uintptr_t)argument);
    for (size_t i = 0; i < BLOCKS_PER_ORPHAN; i++) {
        size_t size = choose_size(&random);
        orphans[i] = must(test_malloc(size), size);
        orphans[i]->size = size;
        fill_value(orphans[i]);
    }
    return NULL;
}

static void *free_orphans(void *argument)
{
    (void)argument;
    for (size_t i = 0; i < BLOCKS_PER_ORPHAN; i++) {
        verify_value(orphans[i], orphans[i], orphans[i]->size, "a block of a thread that is gone");
        test_free(orphans[i]);
    }
    return NULL;
}

/* Measured when the blocks are live, the highest point of each round. */
static void run_orphan(void)
{
    struct watch watch = {0, 0, 0};
    double begin = stress_now();
    orphans = stress_map(BLOCKS_PER_ORPHAN * sizeof *orphans);
    for (uint64_t i = 0; i < orphan_rounds; i++) {
        pthread_t thread;
        /* The same sizes in every round: whatever growth is seen is not of the program's making. */
        start(&thread, leave_orphans, NULL);
        pthread_join(thread, NULL);
        sample(&watch, i, orphan_rounds);
        start(&thread, free_orphans, NULL);
        pthread_join(thread, NULL);
    }
    judge(&watch, "orphan", 2 * orphan_rounds, stress_now() - begin);
}

int main(int argc, char **argv)
{
    const char *part = "all";
    const struct stress_option options[] = {
        {"mode", "churn, orphan or all", NULL, 0, 0, &part},
        {"threads", "short threads in all", &thread_total, 10, 100000000, NULL},
        {"parallel", "threads alive at a time", &parallel, 1, STRESS_MAX_THREADS, NULL},
        {"rounds", "rounds of leaving and freeing orphans", &orphan_rounds, 10, 1000000, NULL},
        {"seed", "seed of the random choices", &user_seed, 0, UINT64_MAX, NULL},
    };
    stress_parse(argc, argv, "thread_churn: memory stays flat while threads come and go", options,
                 sizeof options / sizeof options[0]);
    stress_watchdog((unsigned)(60 + thread_total / 100 + orphan_rounds), "thread_churn");
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    for (size_t i = 0; i < KEY_COUNT; i++) {
        if (pthread_key_create(&keys[i], destroy_value) != 0) {
            stress_fail("cannot create a key");
        }
    }
    bool all = strcmp(part, "all") == 0;
    if (!all && strcmp(part, "churn") != 0 && strcmp(part, "orphan") != 0) {
        fprintf(stderr, "thread_churn: no mode '%s'\n", part);
        return 2;
    }
    if (all || strcmp(part, "churn") == 0) {
        run_churn();
    }
    if (all || strcmp(part, "orphan") == 0) {
        run_orphan();
    }
    return 0;
}
