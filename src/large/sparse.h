/* Does the program hardly write to its large blocks? Thread-safe; no lock is held or needed. */
#ifndef HAKMEM_LARGE_SPARSE_H
#define HAKMEM_LARGE_SPARSE_H

#include <stddef.h>

#include "base/atomic.h"
#include "base/attr.h"

/* A block has been freed that read as zero when it was handed out, and is the caller's still: what has become of it? */
void sparse_look(const char *block, size_t bytes);

/* In a forked child, for good: pages may be missing that its parent kept from it (MADV_DONTFORK), as network cards want it. */
void sparse_stop_looking(void);

/* Up to 256 KiB, and above: who fills pages and small buffers may still hardly write to its large ones. */
#define SPARSE_GROUPS 2u
FAST unsigned sparse_group(size_t bytes)
{
    return bytes > (size_t)256 << 10;
}

/* Sparse blocks of a group since its last dense one; beyond SPARSE_SURE it turns in a circle, which says whose turn it is to be
 * looked at. Atomic relaxed; written by any thread that frees a block to be looked at. A lost update delays the verdict by one. */
extern uint32_t sparse_in_row[SPARSE_GROUPS];
#define SPARSE_SURE 4u

/* Of that size it does not, as far as the last ones tell. */
FAST bool sparse_blocks(size_t bytes)
{
    return load_relaxed(&sparse_in_row[sparse_group(bytes)]) >= SPARSE_SURE;
}

#endif
