/* Huge blocks: one mapping each, found by address in a table under its own lock. */
#ifndef HAKMEM_LARGE_HUGE_H
#define HAKMEM_LARGE_HUGE_H

#include "base/attr.h"

void *huge_alloc(size_t bytes, size_t alignment);
/* The same out of a spare mapping, not zeroed. NULL: there is none that is large enough. */
void *huge_alloc_spare(size_t bytes, size_t alignment);
/* False: no such block. */
bool huge_free(void *block);
size_t huge_bytes(const void *block); /* 0: no such block */
void *huge_resize(void *block, size_t bytes);
/* A mapping that was made elsewhere becomes a huge block: room for it first (false: memory is out), so that entering it,
 * when it stands, cannot fail; or the room is given up. Its pages may come from the window: then the kernel has to be told
 * once more what it is to do about huge pages. */
bool huge_reserve(void);
void huge_enter(void *block, size_t bytes);
void huge_advise_moved(void *block, size_t bytes);
void huge_unreserve(void);
void huge_read_totals(uint64_t *bytes, uint64_t *count);

#endif
