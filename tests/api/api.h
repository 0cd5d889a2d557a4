/* Every C entry point as a table of functions, so that one test serves two flavours:
 *   plain       malloc, free ... looked up in the running process: the library is preloaded
 *   prefixed    hakmem_malloc, hakmem_free ... of include/hakmem/hakmem.h, linked in (HAKMEM_PREFIXED) */
#ifndef HAKMEM_TESTS_API_H
#define HAKMEM_TESTS_API_H

#include <errno.h>
#include <malloc.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef HAKMEM_PREFIXED
#include <hakmem/hakmem.h>
typedef __typeof__(hakmem_mallinfo()) api_mallinfo;
typedef __typeof__(hakmem_mallinfo2()) api_mallinfo2;
#else
typedef struct mallinfo api_mallinfo;
typedef struct mallinfo2 api_mallinfo2;
#endif

/* glibc's numbers, for a C library whose malloc.h has none. */
#ifndef M_TRIM_THRESHOLD
#define M_TRIM_THRESHOLD (-1)
#endif
#ifndef M_MMAP_THRESHOLD
#define M_MMAP_THRESHOLD (-3)
#endif
#ifndef M_ARENA_MAX
#define M_ARENA_MAX (-8)
#endif

#define API_LIST(X)                                                \
    X(void *, malloc, (size_t size))                               \
    X(void *, calloc, (size_t count, size_t size))                 \
    X(void *, realloc, (void *block, size_t size))                 \
    X(void, free, (void *block))                                   \
    X(void, cfree, (void *block))                                  \
    X(void *, memalign, (size_t alignment, size_t size))           \
    X(void *, aligned_alloc, (size_t alignment, size_t size))      \
    X(int, posix_memalign, (void **block, size_t alignment, size_t size)) \
    X(void *, valloc, (size_t size))                               \
    X(void *, pvalloc, (size_t size))                              \
    X(size_t, malloc_usable_size, (void *block))                   \
    X(void *, reallocarray, (void *block, size_t count, size_t size)) \
    X(int, reallocarr, (void *block_pointer, size_t count, size_t size)) \
    X(void *, reallocf, (void *block, size_t size))                \
    X(void, free_sized, (void *block, size_t size))                \
    X(void, free_aligned_sized, (void *block, size_t alignment, size_t size)) \
    X(size_t, malloc_size, (const void *block))                    \
    X(size_t, malloc_good_size, (size_t size))                     \
    X(int, malloc_trim, (size_t pad))                              \
    X(int, mallopt, (int parameter, int value))                    \
    X(api_mallinfo, mallinfo, (void))                              \
    X(api_mallinfo2, mallinfo2, (void))                            \
    X(void, malloc_stats, (void))                                  \
    X(int, malloc_info, (int options, FILE *stream))

struct api {
#define API_FIELD(type, name, arguments) type(*name) arguments;
    API_LIST(API_FIELD)
#undef API_FIELD
};
extern struct api api;

/* Findings are printed and counted; the test goes on. */
extern int api_failures;
#define CHECK(cond)                                                      \
    do {                                                                 \
        if (!(cond)) {                                                   \
            printf("%s:%d: not true: %s\n", __FILE__, __LINE__, #cond);  \
            api_failures++;                                              \
        }                                                                \
    } while (0)
/* A function that is missing has been reported already: what needs it is passed over. */
#define NEED(name) \
    if (!api.name) \
    return

/* More than any block can have, and a value that the compiler cannot see through. */
extern volatile size_t api_too_much;   /* PTRDIFF_MAX + 1 */
extern volatile size_t api_half_of_all; /* SIZE_MAX / 2 + 2: twice this wraps to 2 */

static inline bool aligned_to(const void *block, size_t alignment)
{
    return (uintptr_t)block % alignment == 0;
}

bool api_all_bytes(const void *block, size_t size, unsigned char value);
size_t api_resident_bytes(void);
/* True where RSS says something about the allocator: not with a sanitizer's shadow memory. */
bool api_resident_counts(void);

void test_family(void);
void test_glibc_names(void);
void test_cxx_names(void);
void test_aligned(void);
void test_introspection(void);

#endif
