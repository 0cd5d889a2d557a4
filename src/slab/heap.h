/* A heap: the slabs of one thread, and what is needed to give blocks out of them in batches and to take blocks back.
 * It outlives its thread: parked, it waits for the next thread, and its partial slabs may be stolen one by one.
 *
 * Everything is guarded by `lock` but the remote stack and the fields marked atomic. The lock is taken once per batch,
 * practically always uncontended: only statistics, stealing and reclaiming take another thread's. */
#ifndef HAKMEM_SLAB_HEAP_H
#define HAKMEM_SLAB_HEAP_H

#include "arena/node.h"
#include "base/upcall.h"
#include "slab/remote.h"
#include "slab/slab.h"
#include "slab/steer.h"

enum heap_state {
    HEAP_ATTACHED,
    HEAP_PARKED,  /* no thread; to be adopted or stolen from */
    HEAP_RETIRED, /* never used again: its lock was held by a thread that fork() did not copy */
};

#define HEAP_SPARE_MAX 4u /* retired single slabs kept for any bin, at first: 256 KiB */
#define HEAP_SPARE_ROOM 16u /* ... and at most; what lies between is learned */
#define HEAP_EMPTY_MAX 8u /* runs without a block out that may stay attached to their bin, over all bins */

_Static_assert(BIN_COUNT <= 64, "`steered` has a bit for each bin");

struct heap_bin {
    uint32_t list;          /* slabs with free blocks; SLAB_NONE: none */
    uint32_t slab_count;    /* attached */
    /* One batch adds to several of these. They are no neighbours, or the compiler adds both at once as a vector, which costs
     * more than one after the other. */
    int64_t outstanding;        /* blocks handed out and not yet collected */
    uint64_t collected_blocks;  /* remote frees */
    uint64_t refill_count;      /* batches, over the life of the heap */
    uint64_t flush_count;
    uint64_t refill_blocks;
    uint64_t flush_blocks;
    /* The lower half of refill_count: at the last heap_age, and when a slab was last left without a block out. */
    uint32_t aged_refills, emptied_refills;
};

struct heap {
    struct lock lock; /* LOCK_HEAP */
    uint32_t id;      /* 1..MAP_OWNER_MAX, fixed */
    uint32_t state;   /* enum heap_state; under the lock; atomic, read relaxed as a hint */
    uint32_t remote_rest; /* what a drain has left of the remote stack, linked as there; SLAB_NONE: nothing. Written under
                             the lock, atomic relaxed: others ask whether there is any */
    uint32_t superslab; /* where the next slab is looked for first */
    uint32_t spare_count;
    uint32_t spare_low;  /* lowest spare_count since the last heap_age */
    uint32_t empty_count; /* attached slabs without a block out */
    uint32_t spare_limit; /* most slabs in `spare` */
    uint32_t spare[HEAP_SPARE_ROOM];
    struct heap *next_parked; /* lifecycle's list */
    uint32_t node; /* atomic relaxed; the memory node of its thread, the last one if it is parked. Written by that thread */
    uint64_t harvest_batches; /* refills and flushes over all bins at the last heap_harvest */
    uint64_t helped_blocks; /* moved_blocks at the last heap_help */
    uint64_t slabs_attached, slabs_retired, slabs_stolen; /* over the life of the heap */
    bool has_retired; /* a slab since the last flush: there may be more free pages now than is good */
    /* slab/pages.h. A pass visits the bins from the last to the first */
    uint32_t purge_bins; /* bins left in this pass, the one it is at included; 0: between passes */
    uint32_t purge_next; /* the slab it goes on with; SLAB_NONE: the bin's end */
    bool purge_again;    /* the next pass may find something to give back */
    uint64_t purge_end_ms;
    int64_t purge_out_bytes; /* most bytes of blocks that were out since the last pass began */
    uint64_t pass_idle_blocks; /* free ones with pages, in the slabs of this bin that the pass has visited */
    uint64_t steered; /* bits of the bins whose magazines are to be kept short (slab/steer.h) */
    struct steer *steers; /* of all bins; NULL before the first pass that may steer, which few profiles let it */
    uint64_t purged_pages; /* in attached slabs, now */
    uint64_t pages_purged, pages_woken; /* over the life of the heap */
    uint64_t moved_blocks;    /* refilled and flushed, over the life; the stray heap's apart only its thread moves any */
    uint64_t reported_blocks; /* of these, in heap_moved_blocks. Its thread's */
    struct heap_bin bins[BIN_COUNT];
    CACHE_ALIGNED uint32_t remote_stack; /* atomic; see slab/remote.h */
};

/* NODE_ANY, on machines with one node, leaves the field alone: nobody asks. */
FAST void heap_note_node(struct heap *h, uint32_t node)
{
    if (UNLIKELY(node != NODE_ANY))
        store_relaxed(&h->node, node);
}

/* Gives the heap its id and enters it in the table. False: ids or memory are out. Thread-safe. */
bool heap_register(struct heap *h);
struct heap *heap_by_id(uint32_t id);
/* Ids run from 1 to this. An entry below it may still be NULL for a moment. */
uint32_t heap_count(void);
struct lock *heap_table_lock(void);

/* Takes up to `want` blocks, written downwards from `last` as slab_take does. Less than `want` when the slabs at hand
 * hold no more; 0 when memory is out. Takes the heap's lock. */
unsigned heap_refill(struct heap *h, unsigned bin, void **last, unsigned want);
/* The same, but where the first slab had no pages when it was attached, only `fresh` (at least 1) of the blocks are such as
 * nobody has had, and none if a fair batch of others can be had. */
#define HEAP_FRESH_ANY UINT32_MAX
unsigned heap_refill_sparing(struct heap *h, unsigned bin, void **last, unsigned want, unsigned fresh);
/* Gives back blocks of this heap; aborts on a double free. Takes the heap's lock. */
void heap_flush(struct heap *h, unsigned bin, void *const *blocks, unsigned count);
/* The same for what somebody's free waits for, in three steps: lock, batch, and what counts it and unlocks. The batch puts the
 * first of `blocks` into their slabs, not more than a free should wait for, and returns how many, at least one. */
FAST void heap_flush_begin(struct heap *h)
{
    lock_acquire_as(&h->lock, LOCK_HEAP);
}

NOINLINE unsigned heap_flush_batch(struct heap *h, unsigned bin, void *const *blocks, unsigned count);

FAST void heap_flush_end(struct heap *h, unsigned bin, unsigned count)
{
    struct heap_bin *b = &h->bins[bin];
    b->flush_count++;
    b->flush_blocks += count;
    b->outstanding -= count;
    h->moved_blocks += count;
    const bool has_retired = h->has_retired;
    h->has_retired = false;
    lock_release_as(&h->lock, LOCK_HEAP);
    if (UNLIKELY(has_retired))
        arena_note_freed(0);
    upcall_background_note_free(); /* this thread may sleep from now on, and leave empty slabs behind */
}

/* Blocks refilled and flushed over the life of the process, as far as their threads have said so. Atomic relaxed. */
extern uint64_t heap_moved_blocks;
/* By the heap's thread, now and then: adds what it has moved since. */
void heap_report_moved(struct heap *h);

/* Others have freed something that has not been collected. A hint without the lock. */
FAST bool heap_has_news(const struct heap *h)
{
    return load_relaxed(&h->remote_stack) != SLAB_NONE || load_relaxed(&h->remote_rest) != SLAB_NONE;
}

/* Collects remote frees. The lock is held. */
void heap_drain(struct heap *h);
/* A little of what the last drain has left. The lock is held. */
void heap_drain_rest(struct heap *h);
/* Gives slabs that had no use since the last call back to the arena; everything that is empty if `all`. Then a step of
 * heap_purge_pages. True: pages are still on their way out, to be looked after by further calls. Lock held. */
bool heap_age(struct heap *h, bool all);
/* Tells thieves which bins the heap has free blocks in. It is parked, or just being parked; lock held. */
void heap_offer(const struct heap *h);
/* How many spare slabs the heap may keep, up to HEAP_SPARE_ROOM; gives back what is beyond. Takes the lock. */
void heap_set_spare_limit(struct heap *h, uint32_t limit);
/* Memory is out: collect and trim every heap that can be locked, except `self` (NULL: none). No lock is held. */
void heap_reclaim_others(const struct heap *self);

/* The same for `most` heaps at a stretch, the one with the id `from` first. Returns the id to go on with; 0: no more. */
uint32_t heap_reclaim_some(uint32_t from, uint32_t most, const struct heap *self);

/* heap_purge_pages_now for every heap, waiting for its lock. Returns bytes. No lock is held. */
size_t heap_purge_pages_everywhere(void);

/* A step of ageing for heaps that no thread of their own ages, one heap per call: the stray heap, the parked ones, and
 * those of threads that have news from others and do not come by. */
void heap_age_next(void);

/* By who frees blocks of this heap: if it has moved none of its own since the last such look, its thread sleeps, and `words` words
 * of what others have freed are collected for it. False: somebody else is at work; to be asked again. No lock is held. */
bool heap_help(uint32_t id, unsigned words);

/* The background thread's look at one heap: takes from it what its thread does not need if there is none, or if it has
 * moved no batch since the last look. True if something has moved since then: the next look may find more. Under the tick
 * lock, so that no fork catches it in between. */
bool heap_harvest(uint32_t id);

/* After fork, in the child, for a surviving slab: see docs/concurrency.md. */
void heap_rearm_after_fork(struct heap *h, uint32_t slab);

/* The parked heaps' number; > 0: stealing may pay. Atomic relaxed; written by lifecycle under the parked list's lock. */
extern uint32_t heap_parked_count;

/* The heap of threads that have no cache: before their first and after their last moment with one. */
extern struct heap stray_heap;

#endif
