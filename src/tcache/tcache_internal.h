/* What the slow paths of a thread's cache share. */
#ifndef HAKMEM_TCACHE_TCACHE_INTERNAL_H
#define HAKMEM_TCACHE_TCACHE_INTERNAL_H

#include "base/upcall.h"
#include "tcache/tcache.h"

/* Lets the learner look, reads the clock, ages the thread's heap and runs the process's ticks, as far as each is
 * due. */
NEAR void tcache_tick(struct tcache *t);

/* Every slow path begins with this: counts it, and now and then lets the clock tick. */
FAST void tcache_note_slow(struct tcache *t)
{
    upcall_fork_recover();
    if (UNLIKELY(--t->slow_left == 0))
        tcache_tick(t);
}

/* The calling thread's cache, made if need be; NULL: it has none and must use the stray heap. */
struct tcache *tcache_self_or_attach(void);

/* A block of a bin, whose magazine is most likely empty; where slabs are not to be had, from elsewhere. NULL: memory is out. */
void *tcache_refill(struct tcache *t, unsigned bin);
/* The same when a refill of this heap brought none. */
SLOW void *tcache_block_in_need(struct heap *h, unsigned bin);
/* Frees a block of this heap whose magazine is full: gives the oldest ones back to the slabs first. */
void tcache_overflow(struct tcache *t, unsigned bin, void *block);
/* Closes bins that moved no batch since the last call, or had no room in the budget. */
void tcache_close_idle(struct tcache *t);
/* The bins to be kept short have changed: those that have become so empty their magazines, the others may grow again. */
void tcache_steer(struct tcache *t, uint64_t bins);
/* Magazines are empty: closes every bin. */
void tcache_close_all(struct tcache *t);
/* Lets everything out of quarantine. */
void tcache_empty_quarantine(struct tcache *t);
/* Empties one magazine. */
void tcache_flush_bin(struct tcache *t, unsigned bin);

/* Ceilings and refill batches as the policy has them. */
void magazine_take_policy(struct tcache *t);
/* Arrays. Growth obeys the ceilings and the budgets of thread and process; false: it may not, or memory is out. */
bool magazine_pack_all(struct tcache *t);
/* A bin counts against the budget from its first refill or flush on. Where the budget has no room for its first array,
 * its capacity is what fits, or 0: then every block goes to and from the slabs one by one. The process's budget leaves
 * it LEAST_BYTES, or one block: the thread cannot help it that others were first. */
void magazine_open(struct tcache *t, unsigned bin);
/* An open bin gives up what it is entitled to beyond `capacity`; its magazine holds no more. */
void magazine_shrink(struct tcache *t, unsigned bin, uint32_t capacity);
/* The process's budget is spent, or nearly so, and this thread has more than the least of it. */
bool magazine_is_rich_in_need(const struct tcache *t);
/* An open bin, empty: gives up what it is entitled to, and asks anew at its next use. */
void magazine_close(struct tcache *t, unsigned bin);
bool magazine_grow(struct tcache *t, unsigned bin);
/* What it holds from now on: the entries above `bottom` up to `top`, both in its array. They stay where they are as long
 * as there are slots for a full magazine above `bottom`; without entries it begins again at the array's start. */
void magazine_place(struct tcache *t, unsigned bin, void **bottom, void **top);
/* In a forked child: the thread that is gone may have been about to change a capacity. What the cache is entitled to and
 * where its magazines end is put right from what its bins say. */
void magazine_recount(struct tcache *t);
/* Its magazine is kept short, and what overflows goes back into the slabs all at once (slab/steer.h). */
FAST bool tcache_is_steered(const struct tcache *t, unsigned bin)
{
    return (t->steered >> bin & 1) != 0;
}

FAST uint32_t magazine_ceiling(const struct tcache *t, unsigned bin)
{
    const uint32_t ceiling = load_relaxed(&t->bins[bin].ceiling);
    return tcache_is_steered(t, bin) && ceiling > STEER_BLOCKS ? STEER_BLOCKS : ceiling;
}

/* Back to the array's start, where there is room for a full magazine. The heap's lock is held, so that statistics see both
 * bottom and top before or behind it. */
void magazine_slide_down(struct tcache *t, unsigned bin);

/* Blocks without a cache. */
void *stray_malloc(unsigned bin);

FAST uint32_t magazine_count(const struct tcache *t, unsigned bin)
{
    return (uint32_t)(load_relaxed(&t->hot.bins[bin].top) - t->bins[bin].bottom);
}

#endif
