/* What arena.c and purge.c share. */
#ifndef HAKMEM_ARENA_ARENA_INTERNAL_H
#define HAKMEM_ARENA_ARENA_INTERNAL_H

#include "arena/arena.h"
#include "arena/hugepage.h"
#include "arena/node.h"
#include "arena/superslab.h"

#define SUPERSLAB_LIMIT ((1u << 24) / SUPERSLAB_SLABS)

struct arena_state {
    struct lock lock;
    uint32_t next; /* SuperSlabs from here on were never mapped. Under the lock; atomic, read relaxed by scans */
    uint32_t lowest_absent; /* no absent slot below; under the lock */
    uint32_t prewarm; /* still to do; under the lock */
    uint32_t advice_edges; /* neighbours with different advice about huge pages; under the lock */
    /* Statistics; atomic relaxed. */
    uint64_t mapped, released, purged_bytes;
};

extern struct arena_state arena;

/* One bit per SuperSlab: it may have free slabs. Atomic. Whoever makes a free mask non-zero sets the bit (release)
 * afterwards; who finds a mask empty clears it (acquire) and looks again. So a set free bit is never left without its
 * vacant bit for longer than that. Apart from the struct above, whose lock has a rank: together they would be 64 KiB of
 * zeros in the file and in every small process's memory. */
extern uint64_t arena_vacant[SUPERSLAB_LIMIT / 64];

/* Why pages go back: their time has come, which draws on the credit; or somebody wants all of them back. */
enum purge_reason { PURGE_DUE, PURGE_ASKED_FOR };

/* excess.c. In a forked child: the thread that was at it is gone. */
void arena_forget_excess_worker(void);

/* purge.c. Purges those of `slabs` that are free; of a huge page only what hugepage_to_purge says. Returns bytes given
 * back. */
size_t arena_purge_free(uint32_t superslab, uint32_t slabs, enum purge_reason reason);
/* Unmaps an empty SuperSlab. False: it is no longer empty, or the kernel refused. */
bool arena_release_superslab(uint32_t superslab, enum purge_reason reason);
/* Purges slabs that the caller has claimed. Returns bytes given back. */
size_t arena_purge_claimed(uint32_t superslab, uint32_t slabs);

/* Marks that the SuperSlab's free mask became non-zero. */
void arena_note_vacant(uint32_t superslab);
/* Gives the slabs of one SuperSlab back, after whatever the caller did to them. */
void arena_release_in(uint32_t superslab, uint32_t slabs);

#endif
