/* SuperSlabs: 2 MiB of the window each, 32 slabs, with the state of every slab as bits of 32-bit masks. Runs inside
 * one SuperSlab are claimed and released without a lock. */
#ifndef HAKMEM_ARENA_SUPERSLAB_H
#define HAKMEM_ARENA_SUPERSLAB_H

#include "arena/window.h"

enum superslab_state {
    SUPERSLAB_ABSENT, /* nothing mapped here */
    SUPERSLAB_MAPPED,
    SUPERSLAB_FOREIGN, /* somebody else's mapping stands in this slot */
};

/* What the kernel puts under a SuperSlab: see arena/hugepage.h. */
enum superslab_pages { SUPERSLAB_SMALL, SUPERSLAB_HUGE, SUPERSLAB_BROKEN };
#define SUPERSLAB_PAGES_MASK 3u

enum { PREWARMED = 1, PREWARMED_FIRST_USE };
/* No pages of it have been given back yet; some have, but none by decay. */
enum { STAMP_NEVER, STAMP_EXCESS, STAMP_FIRST_EPOCH };

/* Valid when zero (absent, nothing free).
 *
 * Invariant (while nobody claims, releases or purges): superslab_claimed_count is the number of zeros in the free masks
 * of mapped SuperSlabs, and superslab_free_resident_count that of free slabs that hold pages. Every bit of
 * superslab_resident stands for SLAB_BYTES that usage_take has granted: it is set after that, and usage_give follows its
 * end. */
struct superslab {
    uint32_t free_mask;  /* atomic; 1 = nobody's. Claim: CAS acquire. Release: fetch_or release */
    uint32_t dirty_mask; /* atomic relaxed; 0 = reads as zero. Written by whoever has the slab claimed */
    uint32_t idle_mask;  /* atomic relaxed; free and dirty at the last purge pass. Claims clear it, passes set it */
    uint32_t state;      /* atomic; enum superslab_state; written under LOCK_ARENA, release; read relaxed as a hint */
    uint8_t prewarmed;   /* atomic; cleared with release, read with acquire. PREWARMED: faulted in ahead of use, not to be
                            given back before that use; the first claimer turns it to PREWARMED_FIRST_USE and then to 0 */
    uint8_t draining;    /* atomic relaxed; 1: claimed from last, so that it may become empty. Written by memory learning,
                            cleared under LOCK_ARENA when it is mapped */
    uint8_t decay_stamp; /* atomic relaxed; low byte of superslab_decay_epoch when decay last took pages; or STAMP_NEVER,
                            STAMP_EXCESS */
    uint32_t pages;      /* atomic relaxed; enum superslab_pages in the low bits, the rest is hugepage.c's. Written
                            under LOCK_ARENA, read as a hint */
    uint32_t idle;       /* atomic relaxed; hugepage.c: what arena_may_purge was asked for lately, and when */
    uint32_t node;       /* atomic relaxed; the memory node that it is meant to lie on */
};
_Static_assert(sizeof(struct superslab) == 32, "one byte per slab: window_grow counts on a whole stride");

extern struct superslab *superslab_table; /* by SuperSlab index; set once by window_start */

/* Over all SuperSlabs, in slabs. Atomic relaxed: added to by any thread that claims, releases or purges. */
struct superslab_counts {
    uint64_t held; /* claimed ones in the low half, free ones that hold pages in the high: one locked instruction, not two.
                      Claims add once they have the slabs and releases before they give them up, so neither is ever negative */
    uint64_t decayed;   /* over the life: slabs that decay gave back ... */
    uint64_t refaulted; /* ... and slabs without pages that were claimed soon after, where decay had been */
    uint64_t prewarmed; /* SuperSlabs, not slabs, that wait for their first use. Their slabs count as free ones that hold pages,
                           but giving back passes them by */
    uint64_t fallen;    /* slabs released, less those claimed meanwhile as superslab_note_rise weighs them, never below none: what
                           tells a burst's end from a loop. No read-modify-write: a lost update is another free's */
};
extern struct superslab_counts superslab_counts;

FAST uint64_t superslab_held(uint64_t claimed, uint64_t free_resident)
{
    return claimed + (free_resident << 32);
}

FAST uint64_t superslab_claimed_count(void)
{
    return (uint32_t)load_relaxed(&superslab_counts.held);
}

/* A fork between a claim and its count, out of a signal handler, may leave less than none. */
FAST uint64_t superslab_free_resident_count(void)
{
    const int32_t count = (int32_t)(load_relaxed(&superslab_counts.held) >> 32);
    return count < 0 ? 0 : (uint64_t)count;
}

/* Decay passes over pages so far, from STAMP_FIRST_EPOCH on. Atomic relaxed; written under the tick lock. */
extern uint32_t superslab_decay_epoch;
/* Slabs claimed within so many decay delays should not have been given back. */
#define SUPERSLAB_SOON_EPOCHS 4u

/* A burst is known to be over when so many more slabs were released than claimed: 32 MiB. */
#define BURST_SLABS 512u
enum {
    RISE_WEIGHT = 4,
    RISE_WIDE = 5, /* wider than any slab of a heap: a large block. Their sizes differ so much that a loop's frees outweigh its
                      claims for a while, so each of them is weighed as BURST_SLABS at least */
};

/* By who releases a run, and who claims one. Not by who has it for purging. */
FAST void superslab_note_fall(uint32_t slabs)
{
    store_relaxed(&superslab_counts.fallen, load_relaxed(&superslab_counts.fallen) + slabs);
}

/* Once a burst is known to be over it stays so until as much is taken again, slab for slab. */
FAST void superslab_note_rise(uint32_t slabs)
{
    const uint64_t fallen = load_relaxed(&superslab_counts.fallen);
    uint64_t less = slabs;
    if (fallen <= BURST_SLABS)
        less = slabs < RISE_WIDE ? RISE_WEIGHT * slabs : BURST_SLABS;
    if (fallen != 0)
        store_relaxed(&superslab_counts.fallen, fallen > less ? fallen - less : 0);
}

FAST struct superslab *superslab_of_slab(uint32_t slab)
{
    return &superslab_table[slab / SUPERSLAB_SLABS];
}

FAST bool superslab_is_huge(const struct superslab *s)
{
    return (load_relaxed(&s->pages) & SUPERSLAB_PAGES_MASK) == SUPERSLAB_HUGE;
}

/* The slabs that may hold pages; but for those that a huge page has brought with others and nobody has used. */
FAST uint32_t superslab_resident(const struct superslab *s)
{
    return load_acquire(&s->prewarmed) ? UINT32_MAX : load_relaxed(&s->dirty_mask);
}

/* What superslab_claim returns. */
enum {
    CLAIM_NONE = -1,
    CLAIM_REFUSED = -2, /* there were some, but new pages would exceed the memory limit: they are free again */
};
/* Decay has given `slabs` of its slabs back. */
void superslab_note_decayed(struct superslab *s, unsigned slabs);
/* Some of its slabs have been given back because their time had come, by decay or as excess. */
void superslab_note_given_back(struct superslab *s);
/* So many slabs without pages have been claimed: for the first time (arena_earn), or, if any were given back before, at the
 * price of credit (arena_charge_refault). The stamp is the whole SuperSlab's, and what was never used of it counts with the
 * rest. */
void superslab_note_clean_claim(const struct superslab *s, unsigned slabs);

/* These slabs, which the caller has claimed, are clean because their pages were moved away: to claim them again is to
 * cost nothing in the end. */
void superslab_note_moved(struct superslab *s, uint32_t slabs);

/* Claims `count` (1..32) neighbouring slabs out of `among`, aligned to `alignment` slabs (a power of two, 1..32), lowest
 * first. Returns the first slab's number inside the SuperSlab, CLAIM_NONE or CLAIM_REFUSED. *clean: they all read as
 * zero. Lock-free. Where it was refused, somebody may have seen no free slab meanwhile: the caller says that there are
 * some (arena_note_vacant). */
int superslab_claim(struct superslab *s, uint32_t among, unsigned count, unsigned alignment, bool *clean);
/* Claims exactly these slabs, or none. False: they were not free, or as CLAIM_REFUSED. Does not count them: what is to be
 * added for them goes to *held, so that a run over many SuperSlabs is counted once (superslab_count). */
bool superslab_claim_exact(struct superslab *s, uint32_t slabs, bool *clean, uint64_t *held);
/* Claims what is free of `among`, for purging and unmapping: the slabs' dirty bits stay as they are. */
uint32_t superslab_claim_free(struct superslab *s, uint32_t among);
/* The same for all 32 slabs, or none. */
bool superslab_claim_empty(struct superslab *s);
/* The pages of these slabs, which the caller has claimed, have gone back to the system. */
void superslab_note_clean(struct superslab *s, uint32_t slabs);
FAST void superslab_count(uint64_t held)
{
    fetch_add_relaxed(&superslab_counts.held, held);
}
/* What the claim of these slabs, which are the caller's, has added to the counts. It is to be taken off before they are
 * released. */
uint64_t superslab_counted(const struct superslab *s, uint32_t slabs);
/* Returns the slabs that were free before. Does not count. */
uint32_t superslab_release(struct superslab *s, uint32_t slabs);

#endif
