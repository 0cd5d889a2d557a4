/* What every public name means, once: the plain names, the hakmem_ twins and C++'s operators are thin shells around
 * these. Here live the C signatures' promises (NULL and ENOMEM, overflow, zero sizes); how blocks are had and given
 * back is tcache's.
 *
 * Thread-safe throughout. A call that succeeds leaves errno alone; one that runs out of memory, or is asked for more
 * than PTRDIFF_MAX bytes, returns NULL with errno ENOMEM. */
#ifndef HAKMEM_API_ENTRY_H
#define HAKMEM_API_ENTRY_H

#include <string.h>

#include "tcache/tcache.h"

/* A hit ends in the inline part; everything else is one tail call of a function that knows the rest. */
NOINLINE void *api_malloc_slow(size_t bytes);
NOINLINE void *api_calloc_slow(size_t bytes);

FAST void *api_malloc(size_t bytes)
{
    return hot_malloc(bytes, api_malloc_slow);
}

FAST void api_free(void *block)
{
    hot_free(block, tcache_free_slow, tcache_free_foreign, tcache_free_full);
}

FAST void *api_calloc(size_t count, size_t size)
{
    size_t bytes;
    if (UNLIKELY(__builtin_mul_overflow(count, size, &bytes)))
        bytes = SIZE_MAX; /* which cannot be had either */
    if (LIKELY(bytes <= TINY_MAX_BYTES)) {
        void *block = hot_pop_tiny(bytes);
        if (LIKELY(block != NULL))
            return memset(block, 0, bytes);
    }
    return api_calloc_slow(bytes);
}

/* realloc of a block that is there. */
NOINLINE void *api_resize(void *block, size_t bytes);

/* glibc's: realloc(NULL, n) is malloc(n), and as fast, since some programs have no other malloc (Lua); realloc(p, 0) frees p
 * and returns NULL. On failure the old block lives on. */
FAST void *api_realloc(void *block, size_t bytes)
{
    return block == NULL ? api_malloc(bytes) : api_resize(block, bytes);
}

/* OpenBSD: realloc of count * size, with a look at overflow. */
void *api_reallocarray(void *block, size_t count, size_t size);
/* NetBSD: block_address is the address of the block's pointer, which is replaced. Returns 0, EOVERFLOW or ENOMEM, and
 * leaves errno alone. Nothing wanted: the block is freed and the pointer NULL. */
int api_reallocarr(void *block_address, size_t count, size_t size);
/* FreeBSD: as realloc, but a failure frees the old block. */
void *api_reallocf(void *block, size_t bytes);

/* alignment: a power of two. */
void *api_aligned(size_t alignment, size_t bytes);
/* Any alignment, rounded up to a power of two as glibc does; EINVAL if there is none. */
void *api_memalign(size_t alignment, size_t bytes);
/* POSIX: returns 0, EINVAL or ENOMEM; neither touches errno nor, when it fails, *block. */
int api_posix_memalign(void **block, size_t alignment, size_t bytes);
void *api_valloc(size_t bytes);
/* The size is rounded up to whole pages as well. */
void *api_pvalloc(size_t bytes);

/* Bytes of the block that may be used; 0 for NULL. Aborts for an address that is no block of ours. */
NOINLINE size_t api_usable_bytes_uncommon(const void *block);
FAST size_t api_usable_bytes(const void *block)
{
    const size_t bytes = tcache_small_bytes(block);
    return LIKELY(bytes != 0) ? bytes : api_usable_bytes_uncommon(block);
}

/* macOS: the same, but 0 for an address that no block of ours begins at. */
size_t api_size_if_ours(const void *block);
/* macOS: the usable size that a block of `bytes` would have. */
size_t api_good_bytes(size_t bytes);

#endif
