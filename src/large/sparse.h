/* Does the program hardly write to its large blocks? Thread-safe; no lock is held or needed. */
#ifndef HAKMEM_LARGE_SPARSE_H
#define HAKMEM_LARGE_SPARSE_H

#include "base/atomic.h"
#include "base/attr.h"

/* Blocks of fewer slabs are not worth the looking. */
#define SPARSE_MIN_SLABS 5u

/* A block has been freed that read as zero when it was handed out, and is the caller's still: what has become of it? */
void sparse_look(const char *block, size_t bytes);

/* In a forked child, for good: pages may be missing that its parent kept from it (MADV_DONTFORK), as network cards want it. */
void sparse_stop_looking(void);

/* Sparse blocks since the last dense one; beyond SPARSE_SURE it turns in a circle, which says whose turn it is to be looked
 * at. Atomic relaxed; written by any thread that frees a block to be looked at. A lost update delays the verdict by one. */
extern uint32_t sparse_in_row;
#define SPARSE_SURE 4u

/* It does not, as far as the last ones tell. */
FAST bool sparse_blocks(void)
{
    return load_relaxed(&sparse_in_row) >= SPARSE_SURE;
}

#endif
