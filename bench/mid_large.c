/* mid_large: how fast are blocks of several KiB, of which a slab holds only a few?
 *
 * Workload: the user's own: buffers of 8 KiB, or with --min-size 2048 --max-size 32768 a mixture, sizes uniform. Each
 * thread has 256 slots; a step picks one at random, frees its block if it holds one, mallocs another and writes its
 * first and last byte only: what lies between is the program's affair and would measure memory, not the allocator.
 * An operation is one malloc or one free. Blocks never change threads. */
#define _GNU_SOURCE
#include "common.h"

static uint64_t size_min_bytes = 8192;
static uint64_t size_max_bytes = 8192;
static uint64_t slot_count = 256;

struct slot {
    char *block;
    uint64_t size; /* maintained with --check only */
};

static inline __attribute__((always_inline)) uint64_t replace(struct bench_worker *worker, uint64_t steps,
                                                              const bool check)
{
    struct slot *slots = worker->state;
    uint32_t size_range = (uint32_t)(size_max_bytes - size_min_bytes + 1);
    uint64_t random = worker->random;
    uint64_t frees = 0;
    for (uint64_t i = 0; i < steps; i++) {
        uint64_t draw = bench_random(&random);
        struct slot *slot = &slots[bench_scale((uint32_t)draw, (uint32_t)slot_count)];
        size_t size = size_min_bytes + bench_scale((uint32_t)(draw >> 32), size_range);
        if (slot->block != NULL) {
            if (check) {
                bench_verify(slot->block, slot->size, (uintptr_t)slot);
            }
            free(slot->block);
            frees++;
        }
        slot->block = bench_malloc(size);
        if (check) {
            bench_fill(slot->block, size, (uintptr_t)slot);
            slot->size = size;
        }
    }
    worker->random = random;
    return steps + frees;
}

BENCH_DEFINE_RUN(replace, (ops + 1) / 2)

static void finish(struct bench_worker *worker)
{
    struct slot *slots = worker->state;
    for (uint64_t i = 0; i < slot_count; i++) {
        if (worker->options->check && slots[i].block != NULL) {
            bench_verify(slots[i].block, slots[i].size, (uintptr_t)&slots[i]);
        }
        free(slots[i].block);
    }
}

int main(int argc, char **argv)
{
    struct bench_options options = {.seconds = 1.0, .threads = 1, .seed = 42};
    const struct bench_extra extras[] = {
        {"min-size", "smallest block in bytes", &size_min_bytes, 1, UINT32_MAX / 2},
        {"max-size", "largest block in bytes", &size_max_bytes, 1, UINT32_MAX / 2},
        {"slots", "blocks held by each thread", &slot_count, 1, 1000000},
    };
    bench_parse(argc, argv, "mid_large: malloc and free of blocks of several KiB in random slots", &options, extras,
                sizeof extras / sizeof extras[0]);
    if (size_min_bytes > size_max_bytes) {
        bench_fail("--min-size is above --max-size");
    }
    const struct bench_workload workload = {
        .name = "mid_large",
        .state_bytes = slot_count * sizeof(struct slot),
        .ops_per_batch = 4096,
        .run = run,
        .finish = finish,
    };
    return bench_run(&workload, &options);
}
