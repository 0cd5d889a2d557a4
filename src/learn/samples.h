/* What the threads have learned about one bin, and the one ceiling that stands for all of them: for the export over the
 * threads of a process, for `hakmem merge` over the profiles of a fleet. Pure functions on plain data; no lock, no
 * memory of their own. */
#ifndef HAKMEM_LEARN_SAMPLES_H
#define HAKMEM_LEARN_SAMPLES_H

#include "base/attr.h"
#include "config/classes.h"

/* A ceiling that is below what the busiest tenth uses would cost refills where they hurt; the maximum would let one
 * thread's burst size the caches of all. */
#define LEARN_PERCENTILE 90u
/* Different caps that are told apart; a further one counts as the next larger. Learned caps are few: they grow by
 * doubling or in steps. */
#define LEARN_SAMPLE_MAX 64u

struct learn_sample {
    uint32_t cap;
    uint64_t misses; /* refills under this cap: the sample's weight */
    uint64_t blocks; /* moved by them */
};

struct learn_bin {
    uint32_t sample_count;
    uint32_t cache_count;                          /* what was added */
    struct learn_sample samples[LEARN_SAMPLE_MAX]; /* by rising cap, each cap once */
};

struct learn_choice {
    uint32_t cap;    /* 1.. */
    uint32_t refill; /* 1..cap */
    uint64_t misses; /* of all samples */
};

/* A cache without misses says nothing about the bin and is not counted. */
void learn_bin_add(struct learn_bin *bin, uint32_t cap, uint64_t misses, uint64_t blocks);
/* The least cap that is enough for `percent` of the misses, and the mean batch of all of them. False: there were
 * none. */
bool learn_bin_choose(const struct learn_bin *bin, unsigned percent, struct learn_choice *out);

#endif
