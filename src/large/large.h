/* Blocks above MEDIUM_MAX_BYTES. Up to LARGE_MAX_BYTES they are runs of whole slabs in the window, owned by nobody, so
 * that any thread frees them without a protocol; beyond that, or when the window has no room, they are huge: mappings
 * of their own, placed by the kernel. Thread-safe; no heap lock is needed. None of these sets errno. */
#ifndef HAKMEM_LARGE_LARGE_H
#define HAKMEM_LARGE_LARGE_H

#include "arena/arena.h"
#include "base/attr.h"

#define LARGE_MAX_BYTES ((size_t)64 << 20)

/* A block of at least `bytes`, aligned to `alignment` (a power of two). NULL: memory is out. */
void *large_alloc(size_t bytes, size_t alignment, bool *zeroed);
/* For every address whose slab no heap owns, in the window or outside: it must be a live large or huge block's, or the
 * process aborts with a line that names the fault. */
void large_free(void *block);
/* Bytes the program may use; 0 when the address is no live large or huge block. */
size_t large_usable_bytes(const void *block);
/* Resizes where it stands, or, for huge blocks and runs that grow, wherever the pages are moved to. NULL: could not be
 * done without a second block; the block is as it was. */
void *large_resize(void *block, size_t bytes);

/* Live blocks: bytes the program may use, and how many. */
struct large_totals {
    uint64_t run_bytes, run_count;   /* in the window */
    uint64_t huge_bytes, huge_count; /* mappings of their own */
    uint64_t alloc_count, free_count; /* over the life of the process */
};
void large_read_totals(struct large_totals *totals);

struct lock *huge_lock(void);

#endif
