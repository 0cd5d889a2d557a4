/* mixed_lifetimes: does the allocator hold up when blocks of all sizes and ages move between threads?
 *
 * Workload: in the spirit of mstress, the stress test that mimalloc ships, written anew. Each thread has blocks in
 * short-lived slots and, eight times as many, in long-lived ones. Of 16 steps, 11 replace the block of a random
 * short-lived slot, 1 that of a long-lived slot, and 4 swap the block of a random slot, mostly a long-lived one, for
 * what lies in a random place of a transfer area that all threads share. So any thread frees blocks of any other, at
 * no particular time and never in bulk. Sizes are 16 bytes to 1 MiB, each doubling half as likely as the one below.
 * An operation is one malloc or one free; a swap counts none. The clock starts when all slots are full. */
#define _GNU_SOURCE
#include "blocks.h"

#include <stdatomic.h>

#define SIZE_MIN_BYTES ((size_t)16)
#define SIZE_DOUBLINGS 16
#define TRANSFER_SLOTS 1024
#define LONG_PER_SHORT 8

static uint64_t short_slots = 1024;

/* Whoever exchanges a pointer owns the block it got. The exchanges publish what was written to it (release) and see
 * what the thread before has written (acquire). */
static _Atomic(char *) transfer[TRANSFER_SLOTS];

static inline __attribute__((always_inline)) char *random_block(uint32_t random, uint64_t salt, const bool check)
{
    return bench_malloc_labelled(bench_size_skewed(random, SIZE_MIN_BYTES, SIZE_DOUBLINGS), salt, check);
}

/* 1 if there was something to free. */
static inline __attribute__((always_inline)) uint64_t release(char *block, uint64_t salt, const bool check)
{
    if (block == NULL) {
        return 0;
    }
    bench_free_labelled(block, salt, check);
    return 1;
}

static inline __attribute__((always_inline)) uint64_t run_batch(struct bench_worker *worker, uint64_t ops,
                                                                const bool check)
{
    char **young = worker->state;
    char **old = young + short_slots;
    uint32_t young_count = (uint32_t)short_slots;
    uint32_t old_count = young_count * LONG_PER_SHORT;
    uint64_t salt = worker->options->seed; /* the same for all threads: one verifies what another wrote */
    uint64_t random = worker->random;
    uint64_t done = 0;
    while (done < ops) {
        uint64_t draw = bench_random(&random);
        uint32_t kind = (uint32_t)draw % 16;
        bool long_lived = kind >= 11 && kind <= 14;
        char **slot = long_lived ? &old[bench_scale((uint32_t)draw, old_count)]
                                 : &young[bench_scale((uint32_t)draw, young_count)];
        if (kind <= 11) {
            done += release(*slot, salt, check) + 1;
            *slot = random_block((uint32_t)(draw >> 32), salt, check);
        } else {
            uint32_t place = bench_scale((uint32_t)(draw >> 32), TRANSFER_SLOTS);
            *slot = atomic_exchange_explicit(&transfer[place], *slot, memory_order_acq_rel);
        }
    }
    worker->random = random;
    return done;
}

BENCH_DEFINE_RUN(run_batch, ops)

static void prepare(struct bench_worker *worker)
{
    const struct bench_options *options = worker->options;
    char **slots = worker->state;
    for (uint64_t i = 0; i < short_slots * (1 + LONG_PER_SHORT); i++) {
        slots[i] = random_block((uint32_t)(bench_random(&worker->random) >> 32), options->seed, options->check);
    }
}

/* Its own blocks, and what lies in the transfer area: others may still add to that, but the last to end finds all. */
static void finish(struct bench_worker *worker)
{
    char **slots = worker->state;
    for (uint64_t i = 0; i < short_slots * (1 + LONG_PER_SHORT); i++) {
        release(slots[i], worker->options->seed, worker->options->check);
    }
    for (uint32_t i = 0; i < TRANSFER_SLOTS; i++) {
        char *block = atomic_exchange_explicit(&transfer[i], NULL, memory_order_acq_rel);
        release(block, worker->options->seed, worker->options->check);
    }
}

int main(int argc, char **argv)
{
    struct bench_options options = {.seconds = 1.0, .threads = 2, .seed = 42};
    const struct bench_extra extras[] = {
        {"slots", "short-lived blocks per thread; eight times as many live long", &short_slots, 1, 1 << 20},
    };
    bench_parse(argc, argv, "mixed_lifetimes: blocks of all sizes and ages, some swapped between threads", &options,
                extras, sizeof extras / sizeof extras[0]);
    const struct bench_workload workload = {
        .name = "mixed_lifetimes",
        .state_bytes = short_slots * (1 + LONG_PER_SHORT) * sizeof(char *),
        .ops_per_batch = 4096,
        .prepare = prepare,
        .run = run,
        .finish = finish,
    };
    return bench_run(&workload, &options);
}
