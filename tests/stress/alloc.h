/* The allocator under test, under one set of names: test_malloc() and so on call malloc of whatever serves the
 * process, or, with HAKMEM_PREFIXED, the library linked in. Everything else in these programs (tables, threads,
 * stdio) keeps away from test_*(), so that only what is meant to be tested is. */
#ifndef HAKMEM_STRESS_ALLOC_H
#define HAKMEM_STRESS_ALLOC_H

#include <stddef.h>

#ifdef HAKMEM_PREFIXED
#include <hakmem/hakmem.h>
#define TEST_NAME(name) hakmem_##name
#else
#include <malloc.h>
#include <stdlib.h>
#define TEST_NAME(name) name
/* Weak: not every libc has it. */
__attribute__((weak)) int malloc_trim(size_t pad_bytes);
#endif

/* Out of line, without the attributes a header may carry: the compiler knows neither the size of the block nor that it
 * is fresh, so that checks such as "every usable byte may be written" mean what they say. */
#define TEST_CALL static __attribute__((noinline, unused))

TEST_CALL void *test_malloc(size_t size)
{
    return TEST_NAME(malloc)(size);
}

TEST_CALL void *test_calloc(size_t count, size_t size)
{
    return TEST_NAME(calloc)(count, size);
}

TEST_CALL void *test_realloc(void *block, size_t size)
{
    return TEST_NAME(realloc)(block, size);
}

TEST_CALL void *test_aligned_alloc(size_t alignment, size_t size)
{
    return TEST_NAME(aligned_alloc)(alignment, size);
}

TEST_CALL int test_posix_memalign(void **block, size_t alignment, size_t size)
{
    return TEST_NAME(posix_memalign)(block, alignment, size);
}

TEST_CALL size_t test_usable_size(void *block)
{
    return TEST_NAME(malloc_usable_size)(block);
}

TEST_CALL void test_free(void *block)
{
    TEST_NAME(free)(block);
}

/* Does nothing where there is none. */
TEST_CALL void test_malloc_trim(void)
{
#ifdef HAKMEM_PREFIXED
    hakmem_malloc_trim(0);
#else
    if (malloc_trim != NULL)
        malloc_trim(0);
#endif
}

#endif
