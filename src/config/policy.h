/* The live policy: numbers that the layers obey at their next slow path and that learning may change while the process
 * runs. It starts out as the configuration says. A leaf: every layer above os may include it.
 *
 * Writers: policy_start before any other thread exists, then only the learners, and once budgets_start, when it has asked
 * what the system allows. Readers: slow paths of any thread.
 * Every word is touched by relaxed atomics (base/atomic.h) and stands for itself: a reader must not conclude from one
 * word what another holds, and a value that is one decision old does no harm. */
#ifndef HAKMEM_CONFIG_POLICY_H
#define HAKMEM_CONFIG_POLICY_H

#include "config/classes.h"
#include "config/config.h"

/* retained_superslabs: every empty SuperSlab may wait for its decay. */
#define RETAIN_ALL_SUPERSLABS UINT32_MAX

/* page_decay_ms: only malloc_trim and the like give back pages of slabs in use. */
#define PAGE_DECAY_NEVER UINT32_MAX
/* memory_limit_bytes: none, but that the sum of what is held is signed (arena/usage.h). */
#define NO_MEMORY_LIMIT ((uint64_t)INT64_MAX)
/* A lower limit would not even let a program start: the records of the first SuperSlabs alone take 3 MiB. */
#define MEMORY_LIMIT_MIN_BYTES ((uint64_t)8 << 20)
/* cache_bytes: as much as threads see fit. */
#define NO_CACHE_BOUND ((uint64_t)1 << 62)

struct policy {
    /* Bytes the process may hold, as arena/usage.h counts them; beyond it allocation fails. Read by arena and large. */
    uint64_t memory_limit_bytes;
    /* What the process may use: the least of that and what control groups, resource limits and the machine allow; and
     * how many CPUs at once. 0: not asked yet. Read by lifecycle and statistics. */
    uint64_t usable_bytes;
    uint32_t cpu_count;
    /* Bytes one thread's magazines may be entitled to hold over all bins. Read by tcache. */
    uint64_t thread_cache_bytes;
    /* The same for the magazines of all threads together; at most NO_CACHE_BOUND. Read by tcache. */
    uint64_t cache_bytes;
    /* Age in ms at which freed pages go back to the system. Read by the arena's decay. */
    uint32_t decay_ms;
    /* Free pages that decay leaves alone, in bytes, and bytes it may give back per second (0: no bound). Read by the
     * arena's decay. */
    uint64_t decay_floor_bytes;
    uint64_t decay_rate_bytes;
    /* Free pages that may wait for their decay at all, in bytes; 0: as many as the arena sees fit. Read by the arena. */
    uint64_t retained_bytes;
    /* ... and as a part of what is in use, in parts per million. Read by the arena. */
    uint32_t retained_ratio_ppm;
    /* Age in ms at which free pages of slabs in use go back; PAGE_DECAY_NEVER: they stay. Read by slab. */
    uint32_t page_decay_ms;
    /* Empty SuperSlabs that may wait for decay_ms; those beyond go back at the next tick. Never 0: one may stay,
     * against flapping. Read by arena. */
    uint32_t retained_superslabs;
    /* SuperSlabs to be mapped and faulted in once the process allocates. Read by arena. */
    uint32_t prewarm_superslabs;
    /* New SuperSlabs are backed with huge pages before their first touch, because those before them filled up, while fewer
     * than so many that were born so have not filled up yet. Read by the arena; written by memory learning. */
    uint32_t huge_birth;
    /* 1: magazines of bins with sparse slabs are kept short (slab/steer.h). Written at start only. Read by slab. */
    uint32_t steer_blocks;
    /* 1: SuperSlabs marked as draining are claimed from last. Read by the arena; written by memory learning. */
    uint32_t steer_to_full;
    /* enum thp: what the user said about huge pages. Written at start only, for it wins over learning. Read by arena and
     * large. */
    uint32_t thp;
    /* Objects a thread may cache per bin, a ceiling, and blocks a refill moves; 1 <= refill <= cap, which a reader must
     * see to itself because the two are not read together. Read by tcache. */
    uint32_t bin_cap[TINY_BIN_COUNT];
    uint32_t bin_refill[TINY_BIN_COUNT];
};

extern struct policy policy_live __attribute__((visibility("hidden")));

/* Sets every word from the configuration. */
void policy_start(const struct config *config);
/* Sets the budgets that depend on how much memory the process may use, where the user has not set them. NO_MEMORY_LIMIT:
 * that is not known (yet). */
void policy_derive(const struct config *config, uint64_t limit_bytes);

#endif
