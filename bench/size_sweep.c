/* size_sweep: is there a size at which the allocator falls off a cliff?
 *
 * Workload: our own. A pass goes through sizes of 8 bytes to 4 MiB, eight per doubling. At each size a thread allocates
 * a small group of blocks, writes the first and the last byte of each, and frees them in the order they came; then
 * the next size. So every border between two ways of serving a request is crossed, and nothing stays warm for long.
 * All sizes have the same number of operations, so the slow ones decide the result: --size measures one size alone,
 * and a loop over it draws the curve. An operation is one malloc or one free. */
#define _GNU_SOURCE
#include "common.h"

#define STEPS_PER_DOUBLING 8
#define DOUBLINGS 19 /* 8 bytes << 19 is 4 MiB */
#define SIZE_COUNT (DOUBLINGS * STEPS_PER_DOUBLING + 1)
#define GROUP_MAX 1024

static uint64_t only_size_bytes = 0;
static uint64_t group_blocks = 8;

struct sweep {
    uint32_t position; /* 0..SIZE_COUNT - 1 */
    char *group[GROUP_MAX];
};

/* 8, 9, ... 15, 16, 18, ... 30, 32, 36, ... 4 MiB */
static size_t size_at(uint32_t position)
{
    return (size_t)(STEPS_PER_DOUBLING + position % STEPS_PER_DOUBLING) << position / STEPS_PER_DOUBLING;
}

static inline __attribute__((always_inline)) uint64_t run_batch(struct bench_worker *worker, uint64_t ops,
                                                                const bool check)
{
    struct sweep *sweep = worker->state;
    uint64_t count = group_blocks;
    uint64_t done = 0;
    while (done < ops) {
        size_t size = only_size_bytes != 0 ? only_size_bytes : size_at(sweep->position);
        sweep->position = (sweep->position + 1) % SIZE_COUNT;
        for (uint64_t i = 0; i < count; i++) {
            sweep->group[i] = bench_malloc(size);
            if (check) {
                bench_fill(sweep->group[i], size, (worker->index << 32) + i);
            }
        }
        for (uint64_t i = 0; i < count; i++) {
            if (check) {
                bench_verify(sweep->group[i], size, (worker->index << 32) + i);
            }
            free(sweep->group[i]);
        }
        done += 2 * count;
    }
    return done;
}

BENCH_DEFINE_RUN(run_batch, ops)

int main(int argc, char **argv)
{
    struct bench_options options = {.seconds = 1.0, .threads = 1, .seed = 42};
    const struct bench_extra extras[] = {
        {"size", "this size alone, in bytes; 0: all", &only_size_bytes, 0, (uint64_t)1 << 32},
        {"group", "blocks allocated before the first of them is freed", &group_blocks, 1, GROUP_MAX},
    };
    bench_parse(argc, argv, "size_sweep: sizes of 8 bytes to 4 MiB in turn, eight per doubling", &options, extras,
                sizeof extras / sizeof extras[0]);
    const struct bench_workload workload = {
        .name = "size_sweep",
        .state_bytes = sizeof(struct sweep),
        .ops_per_batch = 64,
        .run = run,
    };
    return bench_run(&workload, &options);
}
