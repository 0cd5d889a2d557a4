/* The plain names: what a program calls. Only names stand here; what they mean is api/entry.h's and
 * api/introspect.h's. Neither stdlib.h nor malloc.h is included: which of these they declare, and how, depends on the
 * C library and its age. */
#include <stdio.h>

#include "api/entry.h"
#include "api/introspect.h"

/* A function of this file under another name. */
#define ALSO(name) EXPORT __attribute__((alias(#name)))

/* Aligned: malloc's hit fits into one cache line then, and free's into a line and a few bytes. */
EXPORT CACHE_ALIGNED void *malloc(size_t bytes);
EXPORT CACHE_ALIGNED void free(void *block);
EXPORT void *calloc(size_t count, size_t size);
EXPORT void *realloc(void *block, size_t bytes);
EXPORT void *reallocarray(void *block, size_t count, size_t size);
EXPORT int reallocarr(void *block_address, size_t count, size_t size);
EXPORT void *reallocf(void *block, size_t bytes);
EXPORT void *memalign(size_t alignment, size_t bytes);
EXPORT int posix_memalign(void **block, size_t alignment, size_t bytes);
EXPORT int __posix_memalign(void **block, size_t alignment, size_t bytes);
EXPORT void *valloc(size_t bytes);
EXPORT void *pvalloc(size_t bytes);
EXPORT void free_sized(void *block, size_t bytes);
EXPORT void free_aligned_sized(void *block, size_t alignment, size_t bytes);
EXPORT size_t malloc_usable_size(void *block);
EXPORT size_t malloc_size(const void *block);
EXPORT size_t malloc_good_size(size_t bytes);
EXPORT int malloc_trim(size_t pad_bytes);
EXPORT int mallopt(int parameter, int value);
EXPORT struct hakmem_mallinfo mallinfo(void);
EXPORT struct hakmem_mallinfo2 mallinfo2(void);
EXPORT void malloc_stats(void);
EXPORT int malloc_info(int options, FILE *stream);

/* ---- the hot ones: bodies of their own ---- */

void *malloc(size_t bytes)
{
    return api_malloc(bytes);
}

void free(void *block)
{
    api_free(block);
}

void *calloc(size_t count, size_t size)
{
    return api_calloc(count, size);
}

/* C23 lets the size be used to find the block's bin; the slab map does that faster than it could be checked. */
void free_sized(void *block, size_t bytes)
{
    (void)bytes;
    api_free(block);
}

void free_aligned_sized(void *block, size_t alignment, size_t bytes)
{
    (void)alignment;
    (void)bytes;
    api_free(block);
}

/* ---- the rest ---- */

void *realloc(void *block, size_t bytes)
{
    return api_realloc(block, bytes);
}

void *reallocarray(void *block, size_t count, size_t size)
{
    return api_reallocarray(block, count, size);
}

int reallocarr(void *block_address, size_t count, size_t size)
{
    return api_reallocarr(block_address, count, size);
}

void *reallocf(void *block, size_t bytes)
{
    return api_reallocf(block, bytes);
}

void *memalign(size_t alignment, size_t bytes)
{
    return api_memalign(alignment, bytes);
}

int posix_memalign(void **block, size_t alignment, size_t bytes)
{
    return api_posix_memalign(block, alignment, bytes);
}

/* No alias: the compiler knows posix_memalign and gives it attributes that an alias would have to repeat. */
int __posix_memalign(void **block, size_t alignment, size_t bytes)
{
    return api_posix_memalign(block, alignment, bytes);
}

void *valloc(size_t bytes)
{
    return api_valloc(bytes);
}

void *pvalloc(size_t bytes)
{
    return api_pvalloc(bytes);
}

size_t malloc_usable_size(void *block)
{
    return api_usable_bytes(block);
}

size_t malloc_size(const void *block)
{
    return api_size_if_ours(block);
}

size_t malloc_good_size(size_t bytes)
{
    return api_good_bytes(bytes);
}

int malloc_trim(size_t pad_bytes)
{
    return api_malloc_trim(pad_bytes);
}

int mallopt(int parameter, int value)
{
    return api_mallopt(parameter, value);
}

struct hakmem_mallinfo mallinfo(void)
{
    return api_mallinfo();
}

struct hakmem_mallinfo2 mallinfo2(void)
{
    return api_mallinfo2();
}

void malloc_stats(void)
{
    api_malloc_stats();
}

int malloc_info(int options, FILE *stream)
{
    return api_malloc_info(options, stream);
}

/* ---- the same under other names ---- */

/* Any size, as glibc's takes it. */
ALSO(memalign) void *aligned_alloc(size_t alignment, size_t bytes);
ALSO(free) void cfree(void *block);

/* glibc's own names: old programs and some libraries call them, and they must meet the same heap. */
ALSO(malloc) void *__libc_malloc(size_t bytes);
ALSO(free) void __libc_free(void *block);
ALSO(free) void __libc_cfree(void *block);
ALSO(calloc) void *__libc_calloc(size_t count, size_t size);
ALSO(realloc) void *__libc_realloc(void *block, size_t bytes);
ALSO(memalign) void *__libc_memalign(size_t alignment, size_t bytes);
ALSO(valloc) void *__libc_valloc(size_t bytes);
ALSO(pvalloc) void *__libc_pvalloc(size_t bytes);
