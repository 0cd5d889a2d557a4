/* Memory for the allocator's own records: never freed to the OS, zero when first handed out. Thread-safe. */
#ifndef HAKMEM_ARENA_META_H
#define HAKMEM_ARENA_META_H

#include "base/attr.h"
#include "base/lock.h"

/* Zeroed, aligned to a cache line, for ever. NULL when memory is out. */
void *meta_alloc(size_t bytes);

/* Arrays that come and go (magazines): sizes are rounded up to a power of two, freed ones are kept by size. Contents
 * are unspecified. */
#define META_ARRAY_MIN_BYTES 128u
void *meta_array_alloc(size_t bytes);
/* What that comes to: an array asked for with so many bytes has these. */
size_t meta_array_bytes(size_t bytes);
void meta_array_free(void *array, size_t bytes);

struct lock *meta_lock(void);

#endif
