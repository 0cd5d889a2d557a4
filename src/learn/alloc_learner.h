/* The allocation learner: decides, at the end of each window of a thread, how much its tiny bins may cache, how many
 * empty slabs it keeps, and (advanced) how much a refill brings. A pure function from a snapshot to decisions, with a
 * memory that belongs to the thread: no allocator is needed to run it, and tests/learn replays recorded snapshots.
 *
 * The law for one number is learn/law.h's. What is added here: bins compete for the bytes of the thread and of the
 * process. The bin with most round trips per byte is served first; where bytes are short it takes them from the bin whose
 * bytes are used least, and only if that one is a hysteresis below. */
#ifndef HAKMEM_LEARN_ALLOC_LEARNER_H
#define HAKMEM_LEARN_ALLOC_LEARNER_H

#include "config/classes.h"
#include "learn/decision.h"
#include "learn/law.h"

struct alloc_params {
    struct law_params law;
    uint32_t cap_min, cap_max; /* objects */
    bool advanced;             /* refill batches too */
};

/* A slab that went to the arena and came back costs about as much as this many blocks. */
#define ALLOC_SLAB_WORTH_BLOCKS 64u
#define ALLOC_KEEP_SLABS_MAX 16u
#define ALLOC_SLAB_BYTES 65536u
/* A longer batch is hardly cheaper a block: see tcache/refill.c. */
#define ALLOC_REFILL_MAX 128u

/* One bin in one window. */
struct alloc_bin {
    uint32_t refill_count, refill_blocks;
    uint32_t flush_blocks;
    uint32_t collected_blocks; /* freed by other threads */
    uint32_t turns;            /* refills that followed a flush */
    uint32_t excess;           /* blocks refilled per turn, over whole turns; 0: no turn was completed */
    uint32_t low_water;        /* fewest objects seen in the magazine; 0 where a refill found it empty */
    uint32_t capacity;         /* what the magazine may hold now; 0: the bin is not in use */
    uint32_t cap, refill;      /* in force: the ceiling of the capacity, and the first batch after a flush */
    uint32_t cap_ceiling;      /* what the user set, or the largest cap there is */
    uint32_t refill_ceiling;
};

struct alloc_snapshot {
    uint64_t time_ms;
    uint64_t window; /* counted from 1 */
    uint32_t heap;
    uint64_t moved_blocks;
    uint64_t passed_ns;
    uint64_t budget_left_bytes; /* what the magazines may gain: the thread's or the process's, whichever is less */
    uint64_t keep_budget_bytes; /* what empty slabs may hold */
    uint32_t slabs_attached, slabs_retired; /* in the window */
    uint32_t slabs_idle;                    /* kept and not needed */
    uint32_t keep_slabs;                    /* in force */
    struct alloc_bin bins[TINY_BIN_COUNT];
};

/* How often a refill had to be followed by another, and what came of the last change. */
struct alloc_refill_track {
    uint32_t refills_q8, turns_q8; /* moving averages */
    uint8_t many_windows, few_windows;
    uint8_t trial_waited;
    int8_t trial; /* enum law_trial */
    uint16_t hold, holdoff;
    uint32_t trial_from;
    uint32_t trial_before; /* refills per 100 turns */
};

/* A thread's memory. All zero at first. */
struct alloc_learner {
    struct law_track bins[TINY_BIN_COUNT];
    struct law_track keep_slabs;
    struct alloc_refill_track refills[TINY_BIN_COUNT];
};

/* In one window; what finds no room waits for the next. */
#define ALLOC_DECISIONS_MAX 16u

/* Fills `decisions`, in the order in which they are to be carried out: bytes are given up before they are granted.
 * LEARN_ROLLED_BACK is carried out by setting `from` again; LEARN_CONFIRMED and LEARN_OBSERVED ask for nothing. Returns
 * how many there are. */
unsigned alloc_decide(struct alloc_learner *learner, const struct alloc_params *params,
                      const struct alloc_snapshot *snapshot, struct learn_decision decisions[ALLOC_DECISIONS_MAX]);

/* What a learner does with refill batches; learn/refill_batch.c. */
struct alloc_output {
    struct learn_decision *list;
    unsigned count;
};
void alloc_decide_refills(struct alloc_learner *learner, const struct alloc_params *params,
                          const struct alloc_snapshot *snapshot, struct alloc_output *out);
/* The next record, with what all have in common; NULL: there is no room. */
struct learn_decision *alloc_output_next(struct alloc_output *out, const struct alloc_snapshot *snapshot);

#endif
