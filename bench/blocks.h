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

#endif
