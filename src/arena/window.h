/* The window: a range of addresses, random per process, in which every SuperSlab lies. It is a range and not a
 * reservation: memory is mapped in it piece by piece, so virtual size and RLIMIT_AS stay honest.
 *
 *   base                                                                                  base + bytes
 *   | slab map | SuperSlab 32.. | ... grows up ...                     | records, bitmaps, grow up |
 *   |  u32 per |  2 MiB each    |                                      | (window.slabs .. )        |
 *   |  64 KiB  |                |                                      |                           |
 *
 * Glossary: a slab is 64 KiB and is named by its index, (address - base) >> 16; a SuperSlab is 32 slabs; slab index 0
 * lies in the map and so never names a slab: 0 is "none".
 *
 * The slab map says for each slab who owns it. One word:
 *
 *   owner << 12 | bin * 16      a slab of a heap; owner >= 1
 *           0   | MAP_LARGE + n first of the n slabs of a large block
 *           0                   the others of those (window_run_head), or nothing handed out
 *
 * Invariant: the slab map is mapped for every index below `limit`, slab records and bitmaps for those that are not the map's
 * own; they are valid when zero and never unmapped. Where no SuperSlab is mapped slab records and bitmaps may become zero
 * again (window_forget); map words and remote records never do, since a late remote free may still write to them. */
#ifndef HAKMEM_ARENA_WINDOW_H
#define HAKMEM_ARENA_WINDOW_H

#include "base/atomic.h"
#include "base/attr.h"
#include "base/bits.h"

#define SLAB_SHIFT 16u
#define SLAB_BYTES ((size_t)1 << SLAB_SHIFT)
#define SUPERSLAB_SHIFT 21u
#define SUPERSLAB_BYTES ((size_t)1 << SUPERSLAB_SHIFT)
#define SUPERSLAB_SLABS 32u

#define MAP_OWNER_SHIFT 12u
#define MAP_OWNER_MAX ((1u << 20) - 1)
#define MAP_LARGE 0x800u
#define MAP_RUN_SLABS_MAX 1024u

#define SLAB_RECORD_BYTES 128u
#define SLAB_RECORD_LENT_BYTES 24u /* of these, the first: for whoever has the slab and is no heap */
#define REMOTE_RECORD_BYTES 64u
#define BITMAP_BYTES 512u /* one bit per 16-byte block of a slab */

/* Where the map's words and the slabs' records would begin if address 0 lay in slab 0: an address, shifted, is its own
 * index. */
struct window_origin {
    uintptr_t words, slabs;
};

struct window {
    uintptr_t base;      /* written once at start; 0: no window could be had, everything is a huge mapping */
    uint32_t first_superslab;
    uint32_t superslab_max; /* index past the last SuperSlab */
    char *slabs;         /* SLAB_RECORD_BYTES per slab index */
    char *remotes;       /* REMOTE_RECORD_BYTES per slab index */
    char *free_bitmaps;  /* BITMAP_BYTES per slab index, for bins of small blocks only */
    char *remote_bitmaps;
    struct window_origin origin; /* fixed once the window stands */
    uint64_t limit;      /* atomic; slab indexes below are backed by metadata. Rises only: release store under
                            LOCK_ARENA, acquire load */
};

extern struct window window;

/* Picks the base. False: none could be had. At start, before a second thread exists. */
bool window_start(void);
/* Raises the limit so that SuperSlab `superslab` is backed by metadata. Under LOCK_ARENA. False: no memory, or the
 * window is full or blocked. */
bool window_grow(uint32_t superslab);
/* SuperSlabs whose records share pages: aligned to that many, and at least a few, so that one call serves several. */
uint32_t window_record_group(void);
/* The pages of slab records and bitmaps of the group that `superslab` is in go back to the system, since nothing of it is
 * mapped. Under LOCK_ARENA, so that nobody maps any of it meanwhile. */
void window_forget(uint32_t superslab);

/* What is fixed once the window stands, for loops whose stores would make the compiler load it again. */
struct window_view {
    uintptr_t base;
    char *slabs;
};

FAST struct window_view window_view(void)
{
    return (struct window_view){ window.base, window.slabs };
}

FAST uint32_t *window_word(uint32_t slab)
{
    return (uint32_t *)window.base + slab;
}

FAST void *window_slab_address(uint32_t slab)
{
    return (void *)(window.base + ((uintptr_t)slab << SLAB_SHIFT));
}

/* How many slabs the large block has whose first slab's map word this is; 0: it is no such word. */
FAST uint32_t map_run_slabs(uint32_t word)
{
    return word / MAP_LARGE == 1 ? word % MAP_LARGE : 0;
}

/* Of a slab whose map word is 0: the first slab of the large block that reaches over it, or 0. A walk over words of 0, up
 * to MAP_RUN_SLABS_MAX. */
uint32_t window_run_head(uint32_t slab);
/* How many slabs of a SuperSlab belong to large blocks. A hint, where others come and go. */
uint32_t window_large_slabs(uint32_t superslab);

/* SLAB_RECORD_BYTES for whoever has the slab. */
FAST void *window_slab_record(uint32_t slab)
{
    return window.slabs + (size_t)slab * SLAB_RECORD_BYTES;
}

/* The slab index of an address; >= limit when the address is not in the window (also for NULL). */
FAST uint64_t window_slab_index(const void *address)
{
    return ((uintptr_t)address - window.base) >> SLAB_SHIFT;
}

#endif
