/* thread_churn: what do short-lived threads cost, when their blocks outlive them?
 *
 * Workload: a server with a thread for each request. On each of --threads lanes one short thread follows another: it
 * allocates --blocks blocks of 16..512 bytes, half-way frees what its predecessor left, at its end frees its own but
 * --keep of them, chosen at random, and leaves these to its successor. So the allocator sees a thread attach, fill its
 * caches, exit with live blocks and find a stranger's blocks in every life of some microseconds. Larson & Krishnan's
 * server (see larson.c) has the same hand-over between threads that live a thousand times longer. An operation is one
 * malloc or one free; the time of creating and joining the threads is part of the result, and most of it. */
#define _GNU_SOURCE
#include "common.h"

enum { BLOCKS_MAX = 10000, SIZE_MIN_BYTES = 16, SIZE_MAX_BYTES = 512 };

static uint64_t block_count = 200;
static uint64_t keep_count = 50;

struct entry {
    char *block;
    uint32_t size;
    uint32_t salt; /* of the pattern, with --check */
};

/* Owned by one thread at a time: pthread_create and pthread_join order the hand-overs. */
struct lane {
    uint64_t random;
    uint64_t ops;
    uint64_t left_count; /* of what the last thread left, in left[] */
    struct entry left[BLOCKS_MAX];
    struct entry own[BLOCKS_MAX]; /* of the thread that lives now */
};

static inline __attribute__((always_inline)) void release(const struct entry *entry, const bool check)
{
    if (check) {
        bench_verify(entry->block, entry->size, entry->salt);
    }
    free(entry->block);
}

static inline __attribute__((always_inline)) void live(struct lane *lane, const bool check)
{
    uint64_t inherited = lane->left_count;
    for (uint64_t i = 0; i < block_count; i++) {
        uint64_t draw = bench_random(&lane->random);
        uint32_t size = SIZE_MIN_BYTES + bench_scale((uint32_t)(draw >> 32), SIZE_MAX_BYTES - SIZE_MIN_BYTES + 1);
        lane->own[i] = (struct entry){bench_malloc(size), size, (uint32_t)draw};
        if (check) {
            bench_fill(lane->own[i].block, size, (uint32_t)draw);
        }
        for (uint64_t k = 0; i == block_count / 2 && k < inherited; k++) {
            release(&lane->left[k], check);
        }
    }
    for (uint64_t i = 0; i < keep_count; i++) {
        uint32_t kept = (uint32_t)i + bench_scale((uint32_t)(bench_random(&lane->random) >> 32),
                                                  (uint32_t)(block_count - i));
        lane->left[i] = lane->own[kept];
        lane->own[kept] = lane->own[i];
    }
    lane->left_count = keep_count;
    for (uint64_t i = keep_count; i < block_count; i++) {
        release(&lane->own[i], check);
    }
    lane->ops += block_count + inherited + block_count - keep_count;
}

static void *live_timed(void *lane)
{
    live(lane, false);
    return NULL;
}

static void *live_checked(void *lane)
{
    live(lane, true);
    return NULL;
}

static void prepare(struct bench_worker *worker)
{
    struct lane *lane = worker->state;
    lane->random = worker->random;
}

static uint64_t run(struct bench_worker *worker, uint64_t ops)
{
    struct lane *lane = worker->state;
    for (lane->ops = 0; lane->ops < ops;) {
        pthread_t thread;
        bench_thread_start(&thread, worker->options->check ? live_checked : live_timed, lane);
        pthread_join(thread, NULL);
    }
    return lane->ops;
}

static void finish(struct bench_worker *worker)
{
    struct lane *lane = worker->state;
    for (uint64_t i = 0; i < lane->left_count; i++) {
        release(&lane->left[i], worker->options->check);
    }
}

int main(int argc, char **argv)
{
    struct bench_options options = {.seconds = 1.0, .threads = 1, .seed = 42};
    const struct bench_extra extras[] = {
        {"blocks", "mallocs in a thread's life", &block_count, 1, BLOCKS_MAX},
        {"keep", "blocks that a thread leaves to the next", &keep_count, 0, BLOCKS_MAX},
    };
    bench_parse(argc, argv, "thread_churn: short-lived threads that leave live blocks to their successors", &options,
                extras, sizeof extras / sizeof extras[0]);
    if (keep_count > block_count) {
        bench_fail("--keep is above --blocks");
    }
    static const struct bench_workload workload = {
        .name = "thread_churn",
        .state_bytes = sizeof(struct lane),
        .ops_per_batch = 1, /* one thread's life */
        .prepare = prepare,
        .run = run,
        .finish = finish,
    };
    return bench_run(&workload, &options);
}
