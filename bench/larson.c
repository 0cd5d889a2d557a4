/* larson: how fast is a server whose blocks outlive the threads that allocated them?
 *
 * Workload: the server simulation of Larson & Krishnan, "Memory Allocation for Long-Running Server Applications"
 * (ISMM 1998), written anew. Each of N lanes owns an array of blocks of random size. The thread working on a lane
 * picks an entry at random, frees its block and allocates another; after `rounds` times `blocks` such
 * replacements it starts a fresh thread, hands the array over and exits. So a thread frees blocks of its
 * predecessors, most of them remote frees, and the allocator sees threads come and go. An operation is one malloc
 * or one free: a replacement counts two. (The original program counts replacements.) The first fill of the arrays
 * is done by the main thread and not counted. */
#define _GNU_SOURCE
#include "common.h"

#include <math.h>
#include <semaphore.h>

struct config {
    struct bench_options options;
    uint64_t blocks_per_thread;
    uint64_t rounds; /* of blocks_per_thread replacements each, before the array is handed over */
    uint64_t size_min_bytes;
    uint64_t size_max_bytes;
};

/* Owned by one thread at a time; pthread_create and the semaphore order the hand-overs. */
struct lane {
    _Alignas(BENCH_CACHE_LINE_BYTES) const struct config *config;
    char **blocks;
    uint32_t *sizes; /* maintained with --check only */
    uint64_t random;
    uint64_t replacements_wanted; /* UINT64_MAX: until the deadline */
    uint64_t replacements_done;
    double begin; /* first replacement; 0: none yet */
    double end;
    double deadline;
    uint64_t salt;
    pthread_t previous; /* the thread before the current one, joined by it: it has long ended by then */
    bool has_previous;
    sem_t finished;
};

static struct config config = {
    .options = {.seconds = 2.0, .threads = 1, .seed = 4141},
    .blocks_per_thread = 1000,
    .rounds = 100,
    .size_min_bytes = 8,
    .size_max_bytes = 1024,
};

static uint32_t random_size(const struct config *shape, uint32_t random)
{
    return (uint32_t)shape->size_min_bytes +
           bench_scale(random, (uint32_t)(shape->size_max_bytes - shape->size_min_bytes + 1));
}

/* One body for both flavours; `check` is a constant at each call, so the timed loop carries no trace of it. */
static inline __attribute__((always_inline)) void replace(struct lane *lane, uint64_t count, const bool check)
{
    char **blocks = lane->blocks;
    uint32_t block_count = (uint32_t)lane->config->blocks_per_thread;
    uint32_t size_min = (uint32_t)lane->config->size_min_bytes;
    uint32_t size_range = (uint32_t)(lane->config->size_max_bytes - size_min + 1);
    uint64_t random = lane->random;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t draw = bench_random(&random);
        uint32_t victim = bench_scale((uint32_t)draw, block_count);
        uint32_t size = size_min + bench_scale((uint32_t)(draw >> 32), size_range);
        if (check) {
            bench_verify(blocks[victim], lane->sizes[victim], lane->salt + victim);
        }
        free(blocks[victim]);
        char *block = bench_malloc(size);
        if (check) {
            bench_fill(block, size, lane->salt + victim);
            lane->sizes[victim] = size;
        }
        blocks[victim] = block;
    }
    lane->random = random;
}

static __attribute__((noinline)) void replace_timed(struct lane *lane, uint64_t count)
{
    replace(lane, count, false);
}

static __attribute__((noinline)) void replace_checked(struct lane *lane, uint64_t count)
{
    replace(lane, count, true);
}

/* True once the lane has had its replacements or its time. */
static bool work_rounds(struct lane *lane)
{
    const struct config *shape = lane->config;
    for (uint64_t round = 0; round < shape->rounds; round++) {
        uint64_t left = lane->replacements_wanted - lane->replacements_done;
        uint64_t count = left < shape->blocks_per_thread ? left : shape->blocks_per_thread;
        if (shape->options.check) {
            replace_checked(lane, count);
        } else {
            replace_timed(lane, count);
        }
        lane->replacements_done += count;
        lane->end = bench_now();
        if (count == left || lane->end >= lane->deadline) {
            return true;
        }
    }
    return false;
}

static void *work(void *argument)
{
    struct lane *lane = argument;
    if (lane->begin == 0.0) {
        lane->begin = bench_now();
        bool timed = lane->replacements_wanted == UINT64_MAX;
        lane->deadline = timed ? lane->begin + lane->config->options.seconds : INFINITY;
    }
    bool done = work_rounds(lane);
    if (lane->has_previous) {
        pthread_join(lane->previous, NULL);
    }
    lane->previous = pthread_self();
    lane->has_previous = true;
    if (done) {
        sem_post(&lane->finished);
    } else {
        pthread_t successor;
        bench_thread_start(&successor, work, lane);
    }
    return NULL;
}

static void prepare_lane(struct lane *lane, uint64_t index)
{
    const struct bench_options *options = &config.options;
    uint64_t replacements = options->ops / 2;
    lane->config = &config;
    lane->blocks = bench_map(config.blocks_per_thread * sizeof *lane->blocks);
    lane->sizes = bench_map(config.blocks_per_thread * sizeof *lane->sizes);
    lane->random = bench_seed(options->seed, index);
    lane->salt = lane->random;
    lane->replacements_wanted = UINT64_MAX;
    if (options->ops != 0) {
        lane->replacements_wanted = replacements / options->threads + (index < replacements % options->threads ? 1 : 0);
    }
    sem_init(&lane->finished, 0, 0);
    for (uint64_t i = 0; i < config.blocks_per_thread; i++) {
        uint32_t size = random_size(&config, (uint32_t)bench_random(&lane->random));
        lane->blocks[i] = bench_malloc(size);
        if (options->check) {
            bench_fill(lane->blocks[i], size, lane->salt + i);
            lane->sizes[i] = size;
        }
    }
}

/* Waits until the lane's last thread is gone, then frees what it left. */
static void finish_lane(struct lane *lane)
{
    while (sem_wait(&lane->finished) != 0) {
    }
    pthread_join(lane->previous, NULL);
    for (uint64_t i = 0; i < config.blocks_per_thread; i++) {
        if (config.options.check) {
            bench_verify(lane->blocks[i], lane->sizes[i], lane->salt + i);
        }
        free(lane->blocks[i]);
    }
}

int main(int argc, char **argv)
{
    const struct bench_extra extras[] = {
        {"blocks", "blocks per thread", &config.blocks_per_thread, 1, 1000000},
        {"rounds", "rounds of that many replacements until a fresh thread takes over", &config.rounds, 1, UINT32_MAX},
        {"min-size", "smallest block in bytes", &config.size_min_bytes, 1, UINT32_MAX / 2},
        {"max-size", "largest block in bytes", &config.size_max_bytes, 1, UINT32_MAX / 2},
    };
    bench_parse(argc, argv, "larson: a server that replaces random blocks and hands them from thread to thread",
                &config.options, extras, sizeof extras / sizeof extras[0]);
    if (config.size_min_bytes > config.size_max_bytes) {
        bench_fail("--min-size is above --max-size");
    }

    uint64_t lane_count = config.options.threads;
    struct lane *lanes = bench_map(lane_count * sizeof *lanes);
    for (uint64_t i = 0; i < lane_count; i++) {
        prepare_lane(&lanes[i], i);
    }
    for (uint64_t i = 0; i < lane_count; i++) {
        pthread_t thread;
        bench_thread_start(&thread, work, &lanes[i]);
    }
    uint64_t replacements = 0;
    double begin = INFINITY;
    double end = 0.0;
    for (uint64_t i = 0; i < lane_count; i++) {
        finish_lane(&lanes[i]);
        replacements += lanes[i].replacements_done;
        begin = lanes[i].begin < begin ? lanes[i].begin : begin;
        end = lanes[i].end > end ? lanes[i].end : end;
    }
    bench_report("larson", &config.options, 2 * replacements, end - begin);
    return 0;
}
