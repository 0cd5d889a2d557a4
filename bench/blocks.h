/* What several benchmarks need of their blocks: two distributions of sizes, and blocks that say how large they are, so
 * that a thread can verify what another wrote. */
#ifndef HAKMEM_BENCH_BLOCKS_H
#define HAKMEM_BENCH_BLOCKS_H

#include "common.h"

#include <string.h>

/* How often `min` doubles on its way to `max`; ends the program if that is not a whole number of times. */
static inline uint32_t bench_doublings(size_t min, size_t max)
{
    uint32_t doublings = 0;
    while (min << doublings < max) {
        doublings++;
    }
    if (doublings == 0 || min << doublings != max) {
        bench_fail("the largest size must be 2, 4, 8, ... times the smallest");
    }
    return doublings;
}

/* Log-uniform sizes: every doubling above `min` is as likely as any other, and sizes within one are uniform. Yields
 * min..(min << doublings) - 1. */
static inline size_t bench_size_even(uint32_t random, size_t min, uint32_t doublings)
{
    uint64_t position = (uint64_t)random * doublings; /* a fixed-point number with 32 bits behind the point */
    size_t base = min << (position >> 32);
    return base + bench_scale((uint32_t)position, (uint32_t)base);
}

/* Skewed sizes: every doubling above `min` is half as likely as the one below, so that the many small blocks and the
 * few large ones hold about as many bytes. Yields min..(min << doublings) - 1. */
static inline size_t bench_size_skewed(uint32_t random, size_t min, uint32_t doublings)
{
    uint32_t doubling = (uint32_t)__builtin_ctz(random | UINT32_C(1) << (doublings - 1));
    size_t base = min << doubling;
    return base + bench_scale(random, (uint32_t)base);
}

/* A block of at least 8 bytes that any thread can verify: with `check`, its size comes first and then the pattern. */
static inline __attribute__((always_inline)) char *bench_malloc_labelled(size_t size, uint64_t salt, const bool check)
{
    char *block = bench_malloc(size);
    if (check) {
        uint64_t label = size;
        memcpy(block, &label, sizeof label);
        bench_fill(block + sizeof label, size - sizeof label, salt);
    }
    return block;
}

static inline __attribute__((always_inline)) void bench_free_labelled(char *block, uint64_t salt, const bool check)
{
    if (check) {
        uint64_t label;
        memcpy(&label, block, sizeof label);
        bench_verify(block + sizeof label, (size_t)label - sizeof label, salt);
    }
    free(block);
}

/* A place for a block of one thread. */
struct bench_slot {
    char *block;
    size_t size_bytes;
};

static inline uint64_t bench_slot_salt(const struct bench_worker *worker, uint64_t index)
{
    return (worker->index << 32) + index;
}

/* Frees the slot's block, if it holds one, having verified it with `check`. Returns how many blocks that were. */
static inline __attribute__((always_inline)) uint64_t bench_slot_free(const struct bench_slot *slot, uint64_t salt,
                                                                      const bool check)
{
    if (slot->block == NULL) {
        return 0;
    }
    if (check) {
        bench_verify(slot->block, slot->size_bytes, salt);
    }
    free(slot->block);
    return 1;
}

/* What a workload whose state is slots does in the end. */
static inline void bench_slots_finish(struct bench_worker *worker, uint64_t count)
{
    const struct bench_slot *slots = worker->state;
    for (uint64_t i = 0; i < count; i++) {
        bench_slot_free(&slots[i], bench_slot_salt(worker, i), worker->options->check);
    }
}

#endif
