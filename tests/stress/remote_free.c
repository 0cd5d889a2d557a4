/* remote_free: what does memory cost when blocks are never freed by the thread that allocated them?
 *
 * Mode "feed": producers (8) allocate, one thread only frees. Mode "ring": every thread frees what the thread
 * before it allocated. Blocks of 16..1024 bytes travel through bounded queues, which the producers keep full:
 * that is the live memory. Every block carries a pattern, verified by the thread that frees it. Resident memory
 * is sampled as the program runs and held against 1.2 times the highest live memory (as requested) + 4 MiB,
 * in one of three tries; --enforce 0 only reports. The same bound is what ROBUSTNESS asks; the program's queues and thread stacks count
 * as if the allocator had used them. */
#define _GNU_SOURCE
#include "alloc.h"
#include "common.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    SAMPLE_MS = 20,
    TRIES = 3,    /* a thread that a busy machine keeps from running holds what the others have freed of its blocks */
    TOO_MUCH = 3, /* exit code of such a try */
};
#define ALLOWED_RATIO 1.2
#define ALLOWED_EXTRA_BYTES (4 * MIB)
#define STACK_BYTES (256 * KIB)

/* A block on its way. */
struct parcel {
    unsigned char *block;
    size_t size;
};

/* Queue of one writer and one reader. head and tail only grow; tail - head parcels are inside. */
struct queue {
    _Alignas(STRESS_CACHE_LINE_BYTES) atomic_size_t tail;        /* writer: release; reader: acquire */
    _Alignas(STRESS_CACHE_LINE_BYTES) atomic_size_t head;        /* reader: release; writer: acquire */
    _Alignas(STRESS_CACHE_LINE_BYTES) atomic_size_t put_bytes;   /* written by the writer, relaxed: statistics */
    _Alignas(STRESS_CACHE_LINE_BYTES) atomic_size_t taken_bytes; /* written by the reader, relaxed: statistics */
    struct parcel *parcels;
};

static uint64_t producer_count = 8;
static uint64_t run_seconds = 3;
static uint64_t user_seed = 1;
static uint64_t queue_length = 8192;
static uint64_t size_min = 16;
static uint64_t size_max = 1024;
static uint64_t enforce = 1;

static struct queue *queues;
static atomic_bool stop; /* relaxed: only says when */
static pthread_attr_t attributes;

static void count_bytes(atomic_size_t *counter, size_t bytes)
{
    /* One writer each, so that a plain add of a relaxed load is exact. */
    size_t now = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, now + bytes, memory_order_relaxed);
}

static bool produce(struct queue *queue, uint64_t *random)
{
    size_t tail = atomic_load_explicit(&queue->tail, memory_order_relaxed);
    if (tail - atomic_load_explicit(&queue->head, memory_order_acquire) >= queue_length) {
        return false;
    }
    size_t size = stress_between(random, size_min, size_max);
    unsigned char *block = test_malloc(size);
    if (block == NULL) {
        stress_fail("allocation of %zu bytes failed: %s", size, strerror(errno));
    }
    stress_fill(block, size, stress_key(block, tail));
    queue->parcels[tail % queue_length] = (struct parcel){block, size};
    count_bytes(&queue->put_bytes, size);
    atomic_store_explicit(&queue->tail, tail + 1, memory_order_release);
    return true;
}

static bool consume(struct queue *queue)
{
    size_t head = atomic_load_explicit(&queue->head, memory_order_relaxed);
    if (atomic_load_explicit(&queue->tail, memory_order_acquire) == head) {
        return false;
    }
    struct parcel parcel = queue->parcels[head % queue_length];
    stress_verify(parcel.block, parcel.size, stress_key(parcel.block, head), "remote free");
    test_free(parcel.block);
    count_bytes(&queue->taken_bytes, parcel.size);
    atomic_store_explicit(&queue->head, head + 1, memory_order_release);
    return true;
}

static void *feed(void *argument)
{
    struct queue *queue = argument;
    uint64_t random = stress_seed(user_seed, (uint64_t)(queue - queues));
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        if (!produce(queue, &random)) {
            sched_yield();
        }
    }
    return NULL;
}

/* Takes a stretch from each queue in turn until the producers have stopped and all queues are empty. */
static void *only_free(void *argument)
{
    (void)argument;
    bool any = true;
    while (any || !atomic_load_explicit(&stop, memory_order_relaxed)) {
        any = false;
        for (uint64_t i = 0; i < producer_count; i++) {
            for (size_t j = 0; j < 256 && consume(&queues[i]); j++) {
                any = true;
            }
        }
        if (!any) {
            sched_yield();
        }
    }
    return NULL;
}

/* Whether the queue is nearly full: the ring leaves it so, to keep the live memory high and steady. */
static bool nearly_full(struct queue *queue)
{
    size_t head = atomic_load_explicit(&queue->head, memory_order_relaxed);
    return atomic_load_explicit(&queue->tail, memory_order_relaxed) - head > queue_length / 8 * 7;
}

/* Allocates for the next thread, frees for the one before. */
static void *feed_and_free(void *argument)
{
    struct queue *own = argument;
    size_t index = (size_t)(own - queues);
    struct queue *before = &queues[(index + producer_count - 1) % producer_count];
    uint64_t random = stress_seed(user_seed, index);
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        bool made = false;
        for (size_t i = 0; i < 64 && produce(own, &random); i++) {
            made = true;
        }
        for (size_t i = 0; i < 64 && nearly_full(before) && consume(before); i++) {
            made = true;
        }
        if (!made) {
            sched_yield();
        }
    }
    return NULL;
}

struct measure {
    size_t live_peak_bytes;
    size_t rss_peak_bytes;
    size_t rss_before_bytes;
    uint64_t blocks;
};

static size_t live_bytes(void)
{
    size_t live = 0;
    for (uint64_t i = 0; i < producer_count; i++) {
        size_t taken = atomic_load_explicit(&queues[i].taken_bytes, memory_order_relaxed);
        live += atomic_load_explicit(&queues[i].put_bytes, memory_order_relaxed) - taken;
    }
    return live;
}

static void watch(struct measure *measure)
{
    double deadline = stress_now() + (double)run_seconds;
    while (stress_now() < deadline) {
        stress_sleep_ms(SAMPLE_MS);
        size_t live = live_bytes();
        size_t rss = stress_rss_bytes();
        measure->live_peak_bytes = live > measure->live_peak_bytes ? live : measure->live_peak_bytes;
        measure->rss_peak_bytes = rss > measure->rss_peak_bytes ? rss : measure->rss_peak_bytes;
    }
    atomic_store_explicit(&stop, true, memory_order_relaxed);
}

static void start(pthread_t *thread, void *(*work)(void *), void *argument)
{
    if (pthread_create(thread, &attributes, work, argument) != 0) {
        stress_fail("cannot start a thread");
    }
}

static void judge(const struct measure *measure, const char *mode)
{
    double allowed = ALLOWED_RATIO * (double)measure->live_peak_bytes + (double)ALLOWED_EXTRA_BYTES;
    printf("remote_free: %s: %" PRIu64 " blocks; live peak %zu KiB, RSS peak %zu KiB (before: %zu KiB): %.3f x live, "
           "allowed %.0f KiB\n",
           mode, measure->blocks, measure->live_peak_bytes / KIB, measure->rss_peak_bytes / KIB,
           measure->rss_before_bytes / KIB, (double)measure->rss_peak_bytes / (double)measure->live_peak_bytes,
           allowed / (double)KIB);
    fflush(stdout);
    if ((double)measure->rss_peak_bytes > allowed && enforce != 0 && !STRESS_SANITIZED) {
        _exit(TOO_MUCH);
    }
}

static void run(const char *mode, bool ring)
{
    static pthread_t producers[STRESS_MAX_THREADS];
    pthread_t consumer;
    struct measure measure = {0, 0, stress_rss_bytes(), 0};
    stress_watchdog((unsigned)run_seconds + 60, mode);
    size_t parcel_bytes = queue_length * sizeof(struct parcel);
    queues = stress_map(producer_count * sizeof *queues);
    atomic_store_explicit(&stop, false, memory_order_relaxed);
    for (uint64_t i = 0; i < producer_count; i++) {
        queues[i].parcels = stress_map(parcel_bytes);
    }
    for (uint64_t i = 0; i < producer_count; i++) {
        start(&producers[i], ring ? feed_and_free : feed, &queues[i]);
    }
    if (!ring) {
        start(&consumer, only_free, NULL);
    }
    watch(&measure);
    for (uint64_t i = 0; i < producer_count; i++) {
        pthread_join(producers[i], NULL);
    }
    if (!ring) {
        pthread_join(consumer, NULL);
    }
    for (uint64_t i = 0; i < producer_count; i++) {
        while (consume(&queues[i])) {
        }
        measure.blocks += atomic_load_explicit(&queues[i].tail, memory_order_relaxed);
        stress_unmap(queues[i].parcels, parcel_bytes);
    }
    stress_unmap(queues, producer_count * sizeof *queues);
    judge(&measure, mode);
}

/* In a process of its own, so that what one mode leaves behind does not count against the next. */
static bool run_apart(const char *mode, bool ring)
{
    int status = 0;
    for (unsigned i = 0; i < TRIES; i++) {
        const pid_t child = fork();
        if (child == 0) {
            run(mode, ring);
            _exit(0);
        }
        if (child < 0 || waitpid(child, &status, 0) != child) {
            stress_fail("cannot run in a process apart");
        }
        if (!WIFEXITED(status) || WEXITSTATUS(status) != TOO_MUCH) {
            break;
        }
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int main(int argc, char **argv)
{
    const char *mode = "both";
    const struct stress_option options[] = {
        {"mode", "feed, ring or both", NULL, 0, 0, &mode},
        {"threads", "producers, or threads in the ring", &producer_count, 1, STRESS_MAX_THREADS, NULL},
        {"seconds", "how long each mode runs", &run_seconds, 1, 86400, NULL},
        {"seed", "seed of the random sizes", &user_seed, 0, UINT64_MAX, NULL},
        {"queue", "blocks a queue holds", &queue_length, 64, 10000000, NULL},
        {"min-size", "smallest block in bytes", &size_min, 1, 64 * MIB, NULL},
        {"max-size", "largest block in bytes", &size_max, 1, 64 * MIB, NULL},
        {"enforce", "1: fail if three tries are beyond 1.2 x live + 4 MiB; 0: report only", &enforce, 0, 1, NULL},
    };
    stress_parse(argc, argv, "remote_free: memory when threads free what others allocated", options,
                 sizeof options / sizeof options[0]);
    bool both = strcmp(mode, "both") == 0;
    stress_watchdog((unsigned)(2 * TRIES * run_seconds) + 120, "remote_free");
    if (size_min > size_max || (!both && strcmp(mode, "feed") != 0 && strcmp(mode, "ring") != 0)) {
        fprintf(stderr, "remote_free: no mode '%s', or --min-size above --max-size\n", mode);
        return 2;
    }
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    const bool good = strcmp(mode, "ring") == 0 || run_apart("feed", false);
    return (strcmp(mode, "feed") == 0 || run_apart("ring", true)) && good ? 0 : 1;
}
