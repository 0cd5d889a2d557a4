/* What arena.c, wide.c and purge.c share. */
#ifndef HAKMEM_ARENA_ARENA_INTERNAL_H
#define HAKMEM_ARENA_ARENA_INTERNAL_H

#include "arena/arena.h"
#include "arena/hugepage.h"
#include "arena/node.h"
#include "arena/spare.h"
#include "arena/superslab.h"
#include "os/os.h"

#define SUPERSLAB_LIMIT ((1u << 24) / SUPERSLAB_SLABS)

struct arena_state {
    struct lock lock;
    uint32_t next; /* SuperSlabs from here on were never mapped. Under the lock; atomic, read relaxed by scans */
    uint32_t lowest_absent; /* no absent slot below; under the lock */
    uint32_t prewarm; /* still to do; under the lock */
    uint32_t advice_edges; /* neighbours with different advice about huge pages; under the lock */
    uint32_t unproven;     /* SuperSlabs that were born huge on prediction and have not filled up; under the lock */
    /* Statistics; atomic relaxed. */
    uint64_t mapped, released, purged_bytes;
};

extern struct arena_state arena;

/* One bit per SuperSlab: it may have free slabs. Atomic. Whoever makes a free mask non-zero sets the bit (release)
 * afterwards; who finds a mask empty clears it (acquire) and looks again. So a set free bit is never left without its
 * vacant bit for longer than that. Apart from the struct above, whose lock has a rank: together they would be 64 KiB of
 * zeros in the file and in every small process's memory. */
extern uint64_t arena_vacant[SUPERSLAB_LIMIT / 64];

/* Why pages go back: their time has come, which draws on the credit; a burst is over, which draws on what first use has
 * earned; or somebody wants all of them back. */
enum purge_reason { PURGE_DUE, PURGE_EARNED, PURGE_ASKED_FOR };

/* credit.c. Atomic relaxed: written by whoever gives back, or takes into use. */
struct arena_credit {
    uint64_t refilled_ms;
    int64_t bytes;  /* below zero: owed */
    int64_t earned; /* by first use, and not spent yet */
    uint64_t away;  /* given back, and not taken into use since. An estimate, as refaults are */
};
extern struct arena_credit arena_credit;

/* May something go back on what has been earned? False while anything is owed. */
bool arena_has_earned(void);
void arena_charge_earned(size_t bytes);
uint64_t arena_away_bytes(void);

/* spare.c. Unmaps so much of the end of the spare that has waited longest, if it came at that time or before, and no more
 * than it has. Returns bytes given back; 0: there is none. No lock is held. */
size_t spare_give_back(size_t bytes, uint64_t before_ms, enum purge_reason reason);

/* purge.c. Purges those of `slabs` that are free; of a huge page only what hugepage_to_purge says. Returns bytes given
 * back. */
size_t arena_purge_free(uint32_t superslab, uint32_t slabs, enum purge_reason reason);
/* Unmaps an empty SuperSlab. False: it is no longer empty, or the kernel refused. */
bool arena_release_superslab(uint32_t superslab, enum purge_reason reason);
/* Purges slabs that the caller has claimed. Returns bytes given back. */
size_t arena_purge_claimed(uint32_t superslab, uint32_t slabs);

/* Under the lock. Maps the absent SuperSlabs [from, to) as one piece; their slabs in `claimed_last` (of the last one)
 * and all of the others become the caller's. On OCCUPIED the slot that is in the way is marked foreign. NO_MEMORY may
 * also be our own limit. */
enum os_map_result arena_map_superslabs(uint32_t from, uint32_t to, uint32_t claimed_last);
/* superslab_claim_exact, and when it was refused the SuperSlab is noted as vacant. */
bool arena_claim_exact(uint32_t superslab, uint32_t slabs, bool *zeroed, uint64_t *held);
/* Claims a run that is wider or to be aligned to more than a SuperSlab; below the SuperSlab `end`. */
uint32_t arena_alloc_wide(uint32_t slabs, uint32_t alignment, uint32_t end, uint32_t node, bool *zeroed);

/* Marks that the SuperSlab's free mask became non-zero. */
void arena_note_vacant(uint32_t superslab);
/* The vacant bit said yes and the mask said no; or nothing is mapped there any more, and who looks for free slabs is not to
 * come by. */
void arena_clear_vacant(uint32_t superslab);
/* Gives the slabs of one SuperSlab back, after whatever the caller did to them. */
void arena_release_in(uint32_t superslab, uint32_t slabs);
/* Gives a run back that nobody had: the rest of it was not to be had. */
void arena_unclaim(uint32_t slab, uint32_t slabs);

#endif
