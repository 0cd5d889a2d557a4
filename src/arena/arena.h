/* Runs of slabs: carving them out of SuperSlabs, mapping SuperSlabs as needed, taking runs back. A run of up to 32
 * slabs lies inside one SuperSlab; a wider one starts at a SuperSlab and goes on over its neighbours, leaving the rest
 * of the last one to others. Thread-safe; no heap lock is needed, but one may be held (LOCK_HEAP < LOCK_ARENA). */
#ifndef HAKMEM_ARENA_ARENA_H
#define HAKMEM_ARENA_ARENA_H

#include "arena/window.h"
#include "base/lock.h"

#define SLAB_NONE 0u

/* What a call on a slow path gives back beside what it frees: some 40 us of system calls. */
#define EXCESS_STEP_BYTES ((size_t)512 << 10)

/* Claims `slabs` neighbouring slabs, aligned to `alignment_slabs` (a power of two). *hint is the SuperSlab tried
 * first, and the one used last; NULL: no preference. *zeroed: the whole run reads as zero. Returns the first slab, or
 * SLAB_NONE when the window or memory is exhausted. */
uint32_t arena_alloc(uint32_t slabs, uint32_t alignment_slabs, uint32_t *hint, bool *zeroed);
/* The same for large blocks that are hardly written to: at the beginning of one of the first tracks, of 32 MiB of addresses
 * each. SLAB_NONE: none has so much room. */
uint32_t arena_alloc_in_track(uint32_t slabs, bool *zeroed);
/* The run's map words are zero already. Its pages stay until they decay. */
void arena_free(uint32_t slab, uint32_t slabs);
/* The same for a run whose pages were moved away: it is mapped and reads as zero. What usage_take has granted for the
 * pages goes with them. */
void arena_free_moved(uint32_t slab, uint32_t slabs);
/* Claims the slabs [slab + have, slab + want) as well. All or nothing. */
bool arena_extend(uint32_t slab, uint32_t have, uint32_t want, bool *zeroed);

/* After window_start, before a second thread exists. prewarm_superslabs: how many to map and fault in once a second one is
 * needed. */
void arena_start(uint32_t prewarm_superslabs);

/* One step of giving memory back, every tick: pages of slabs that stayed free for decay_ms..2*decay_ms, and
 * SuperSlabs that stayed empty as long; of empty SuperSlabs only `retain` may wait (UINT32_MAX: all), the others go at
 * once, and one is always kept mapped. Called by one thread at a time. */
void arena_decay(uint64_t now_ms, uint32_t decay_ms, uint32_t retain);
/* How many free pages, in bytes, are too many. */
uint64_t arena_excess_bytes(void);
/* So many free pages, in bytes, neither decay nor the end of a burst takes: HAKMEM_DECAY_FLOOR. Once a burst is known to be
 * over, up to 2 MiB of it only as far as as much is in use. */
uint64_t arena_floor_bytes(void);
/* So much is in use that a burst may be left of it one day. */
bool arena_may_leave_burst(void);
/* Far more free pages wait for their decay than is good, or a burst has left some: gives back `bytes` of them and not much
 * more. No lock is held. */
bool arena_has_excess(void);
SLOW void arena_give_back_excess(size_t bytes);
/* The same, if there is reason to, by who has just freed so many bytes, or others have. */
FAST void arena_note_freed(size_t bytes)
{
    if (UNLIKELY(arena_has_excess()))
        arena_give_back_excess(EXCESS_STEP_BYTES + 2 * bytes);
}

/* The credit that bounds what giving back by and by may cost (HAKMEM_DECAY_RATE): asked before, charged after, by whoever
 * gives back pages whose time has come, and once more when such pages are taken into use again. Thread-safe. */
bool arena_has_credit(uint64_t now_ms);
void arena_charge_credit(size_t bytes);
void arena_charge_refault(size_t bytes);
/* So many bytes that counts have as given back have never gone, or count as held again without a fault. */
void arena_note_held(size_t bytes);
/* So many bytes are used for the first time: after a burst as many may go back without credit, but no more than is held. */
void arena_earn(size_t bytes);
/* Clean slabs of which the next claim will be charged, though nothing was given back that could come back. */
void arena_refund_refault(size_t bytes);

/* Slabs that somebody has; and free ones that hold pages, and spare mappings (spare.h). Exact while nobody allocates, frees or purges. */
uint64_t arena_claimed_bytes(void);
uint64_t arena_free_resident_bytes(void);
/* Gives back free pages and empty SuperSlabs now, until no more than `keep_bytes` of free pages are left; 0: all of them.
 * Returns bytes given back. */
size_t arena_purge_beyond(size_t keep_bytes);
/* The same for so many SuperSlabs as may be visited in one tick, from that one on; 0: the first. Returns where to go on, or 0
 * when it has been at the last. */
uint32_t arena_purge_some(uint32_t from);

struct arena_totals {
    uint64_t mapped_bytes;         /* SuperSlabs, and spare mappings */
    uint64_t free_dirty_bytes;     /* free, but still holding pages */
    uint64_t free_clean_bytes;     /* free, no pages behind it */
    uint64_t purged_bytes;         /* given back over the life of the process */
    uint64_t superslabs_mapped;    /* over the life of the process */
    uint64_t superslabs_released;
};
void arena_read_totals(struct arena_totals *totals);

/* Over the life of the process; a few loads. */
struct arena_flow {
    uint64_t superslabs_mapped, superslabs_released;
    uint64_t decayed_bytes;   /* whole slabs that had stayed free for decay_ms and were given back */
    uint64_t refaulted_bytes; /* claimed again within a few times that delay: given back too soon */
};
void arena_read_flow(struct arena_flow *flow);

/* In a forked child: a thread that is gone may have released slabs without having come to say so, or to count them. */
void arena_recover_after_fork(void);

struct lock *arena_lock(void);

#endif
