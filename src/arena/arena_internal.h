/* What arena.c and purge.c share. */
#ifndef HAKMEM_ARENA_ARENA_INTERNAL_H
#define HAKMEM_ARENA_ARENA_INTERNAL_H

#include "arena/arena.h"
#include "arena/superslab.h"

#define SUPERSLAB_LIMIT ((1u << 24) / SUPERSLAB_SLABS)

struct arena_state {
    struct lock lock;
    uint32_t next; /* SuperSlabs from here on were never mapped. Under the lock; atomic, read relaxed by scans */
    uint32_t lowest_absent; /* no absent slot below; under the lock */
    uint32_t prewarm; /* still to do; under the lock */
    /* One bit per SuperSlab: it may have free slabs. Atomic. Whoever makes a free mask non-zero sets the bit
     * (release) afterwards; who finds a mask empty clears it (acquire) and looks again. So a set free bit is never
     * left without its vacant bit for longer than that. */
    uint64_t vacant[SUPERSLAB_LIMIT / 64];
    /* Statistics; atomic relaxed. */
    uint64_t mapped, released, purged_bytes;
};

extern struct arena_state arena;

/* Marks that the SuperSlab's free mask became non-zero. */
void arena_note_vacant(uint32_t superslab);
/* Gives the slabs of one SuperSlab back, after whatever the caller did to them. */
void arena_release_in(uint32_t superslab, uint32_t slabs);

#endif
