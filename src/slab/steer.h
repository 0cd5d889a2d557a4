/* Steering: which bins keep next to nothing in magazines, so that blocks freed in sparse slabs stay there.
 *
 * A magazine hands out what was freed last, wherever that stands. A program that frees and allocates in turn therefore puts
 * its new blocks exactly where its old ones were: thousands of slabs in which a few blocks survive stay as they are, and
 * so do their pages, although refills take from the fullest slabs. Of such a bin the magazines hold STEER_BLOCKS at most
 * (tcache/magazine.c): nearly every block that is freed goes back into its slab, nearly every new one comes from the slab that
 * serves the bin. By the time each block has been replaced three times, 95 % of those that keep sparse slabs alive are gone.
 *
 * Batches of a few blocks are slow, so it must pay. A purge pass (slab/passes.c), which visits the slabs anyway, adds up
 * what is free in them and has pages; where what survives is never replaced, steering gives up and rests.
 *
 * The law is a pure function of what one pass saw; all of it is under the heap's lock. */
#ifndef HAKMEM_SLAB_STEER_H
#define HAKMEM_SLAB_STEER_H

#include <stdbool.h>
#include <stdint.h>

#define STEER_BLOCKS 2u              /* that a magazine may hold meanwhile */
#define STEER_MIN_BYTES (256u << 10) /* idle ones that are worth it: four slabs' */
#define STEER_TURNS 4u               /* in which each block may have been replaced, until it must have helped */
#define STEER_REST_TURNS 64u         /* ... and if it has not, until it is tried again: a sixteenth of all batches is short */

enum steer_state { STEER_OFF, STEER_ON, STEER_RESTING };

/* Of one bin. All zero: off. */
struct steer {
    uint64_t from_blocks; /* refilled when this state, or this trial, began ... */
    uint64_t from_bytes;  /* ... and idle then */
    uint32_t state;       /* enum steer_state */
};

/* What a pass over the bin's slabs saw. */
struct steer_look {
    uint64_t idle_bytes; /* in free blocks on resident pages */
    uint64_t out_blocks, out_bytes; /* in use, or in a magazine */
    uint64_t refilled_blocks; /* over the life of the heap */
};

/* Returns whether magazines of the bin are to be kept short from now on. */
bool steer_decide(struct steer *s, const struct steer_look *look);

#endif
