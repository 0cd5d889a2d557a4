/* Transparent huge pages, a SuperSlab at a time: a huge page makes a dense SuperSlab faster and a sparse one fat.
 *
 *            make_huge, or born so                       break
 *   SMALL ---------------------------> HUGE ----------------------------> BROKEN
 *     ^                                 |  ^                                |
 *     '------ unmapped and mapped ------'  '---- make_huge, minutes later --'
 *
 * SMALL    pages come and go one by one.
 * HUGE     one touch may bring all 2 MiB. It is given back whole or, once enough of it lies idle, broken first
 *          (arena_may_purge).
 * BROKEN   opted out, so that the kernel does not fill up again what is purged; free slabs that a huge page brought and
 *          nobody used are given back at once. It stays so for a while, against flapping.
 *
 * TCMalloc's hugepage-aware allocator breaks sparse huge pages on purpose, too (Hunter et al., OSDI 2021).
 *
 * Advice belongs to the kernel's mappings: SuperSlabs side by side with the same advice share one, each place where it
 * changes (an edge) costs another, and a process has a limited number. So edges are counted and bounded; where there is
 * no room for one more, advice is given to a longer stretch, or not at all. */
#ifndef HAKMEM_ARENA_HUGEPAGE_H
#define HAKMEM_ARENA_HUGEPAGE_H

#include "arena/superslab.h"

#define HUGEPAGE_EDGES_MAX 48u       /* of some 65,000 mappings that a process may have, but they also cost lookups */
#define HUGEPAGE_BORN_AFTER 16u      /* SuperSlabs in the heap: the next one adds at most a sixteenth in vain */
#define HUGEPAGE_IDLE_BYTES (SUPERSLAB_BYTES / 8) /* as much of a HUGE SuperSlab may lie idle before it is broken */
#define HUGEPAGE_BROKEN_MS 180000u   /* how long BROKEN is left alone */

/* ---- for whoever decides about SuperSlabs: thread-safe, no heap lock is needed, one may be held ---- */

/* Backs it with huge pages from now on. Refused (false): the user or the administrator said never, nothing is mapped
 * here, it was broken lately, or there is no room for another edge. With a budget in microseconds, what is there already
 * is moved into a huge page at once, if that is likely to fit; the time it took is subtracted, and all of it where the
 * kernel refused. At most three system calls. */
bool arena_superslab_make_huge(uint32_t superslab, uint64_t *collapse_budget_us);
/* HUGE -> BROKEN. True: it is not HUGE now. False: the user said always, or the kernel refused. One system call, and up to
 * 16 for its free slabs. */
bool arena_superslab_break(uint32_t superslab);

/* It was born huge because policy_live.huge_birth predicted that it would fill up, and nobody has said yet that it has. */
bool arena_superslab_is_unproven(uint32_t superslab);
/* It has: it no longer counts against policy_live.huge_birth. */
void arena_superslab_prove(uint32_t superslab);

struct superslab_usage {
    enum superslab_pages pages;
    uint32_t slabs_in_use;
    uint32_t slabs_resident; /* may hold pages, in use or not; all of a HUGE one that has been used */
    uint32_t node;
};
/* False: nothing is mapped here. A snapshot: stale when it is read. */
bool arena_superslab_usage(uint32_t superslab, struct superslab_usage *usage);
/* SuperSlabs [*first, *end) have ever been mapped. */
void arena_superslab_range(uint32_t *first, uint32_t *end);

/* ---- for who gives pages back ---- */

/* Asked before pages of a slab in use are purged, `bytes` in all. False: leave them, too little of a huge page is idle.
 * True: the SuperSlab is not HUGE, or has just been broken: `all` is to go, or what was asked for within a decay period has
 * added up. Who is refused asks again once, a period later: by then somebody else's pages may have added up with these. A
 * heap lock may be held, LOCK_ARENA not. */
bool arena_may_purge(uint32_t superslab, size_t bytes, bool all);

/* Which of the free slabs that the caller has claimed are to be purged now: those that hold pages, the whole of a HUGE
 * SuperSlab if it is claimed as a whole, of another none or, once enough is idle or `all` is to go, all, and then it is
 * broken. */
uint32_t hugepage_to_purge(uint32_t superslab, uint32_t claimed, bool all);

/* ---- for arena.c and purge.c, under LOCK_ARENA ---- */

/* SuperSlabs [from, to) have just been mapped and not been touched. */
void hugepage_born(uint32_t from, uint32_t to);
/* This one is about to count as absent. */
void hugepage_gone(uint32_t superslab);

#endif
