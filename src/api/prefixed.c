/* The hakmem_ twins of the plain names; see include/hakmem/hakmem.h. */
#include "hakmem/hakmem.h"

#include "api/entry.h"
#include "api/introspect.h"

EXPORT void *hakmem_malloc(size_t bytes)
{
    return api_malloc(bytes);
}

EXPORT void hakmem_free(void *block)
{
    api_free(block);
}

EXPORT void hakmem_cfree(void *block)
{
    api_free(block);
}

EXPORT void *hakmem_calloc(size_t count, size_t size)
{
    return api_calloc(count, size);
}

EXPORT void hakmem_free_sized(void *block, size_t bytes)
{
    (void)bytes;
    api_free(block);
}

EXPORT void hakmem_free_aligned_sized(void *block, size_t alignment, size_t bytes)
{
    (void)alignment;
    (void)bytes;
    api_free(block);
}

EXPORT void *hakmem_realloc(void *block, size_t bytes)
{
    return api_realloc(block, bytes);
}

EXPORT void *hakmem_reallocarray(void *block, size_t count, size_t size)
{
    return api_reallocarray(block, count, size);
}

EXPORT int hakmem_reallocarr(void *block_address, size_t count, size_t size)
{
    return api_reallocarr(block_address, count, size);
}

EXPORT void *hakmem_reallocf(void *block, size_t bytes)
{
    return api_reallocf(block, bytes);
}

EXPORT void *hakmem_memalign(size_t alignment, size_t bytes)
{
    return api_memalign(alignment, bytes);
}

EXPORT void *hakmem_aligned_alloc(size_t alignment, size_t bytes)
{
    return api_memalign(alignment, bytes);
}

EXPORT int hakmem_posix_memalign(void **block, size_t alignment, size_t bytes)
{
    return api_posix_memalign(block, alignment, bytes);
}

EXPORT void *hakmem_valloc(size_t bytes)
{
    return api_valloc(bytes);
}

EXPORT void *hakmem_pvalloc(size_t bytes)
{
    return api_pvalloc(bytes);
}

EXPORT size_t hakmem_malloc_usable_size(void *block)
{
    return api_usable_bytes(block);
}

EXPORT size_t hakmem_malloc_size(const void *block)
{
    return api_size_if_ours(block);
}

EXPORT size_t hakmem_malloc_good_size(size_t bytes)
{
    return api_good_bytes(bytes);
}

EXPORT int hakmem_malloc_trim(size_t pad_bytes)
{
    return api_malloc_trim(pad_bytes);
}

EXPORT int hakmem_mallopt(int parameter, int value)
{
    return api_mallopt(parameter, value);
}

EXPORT struct hakmem_mallinfo hakmem_mallinfo(void)
{
    return api_mallinfo();
}

EXPORT struct hakmem_mallinfo2 hakmem_mallinfo2(void)
{
    return api_mallinfo2();
}

EXPORT void hakmem_malloc_stats(void)
{
    api_malloc_stats();
}

EXPORT int hakmem_malloc_info(int options, FILE *stream)
{
    return api_malloc_info(options, stream);
}

EXPORT const char *hakmem_version(void)
{
    return HAKMEM_VERSION_STRING;
}

EXPORT int hakmem_stats(struct hakmem_stats *out, size_t size)
{
    return api_stats(out, size);
}

EXPORT void hakmem_thread_idle(void)
{
    api_thread_idle();
}

EXPORT size_t hakmem_purge(void)
{
    return api_purge();
}
