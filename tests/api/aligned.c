/* The aligned family: every entry point, many alignments and sizes, freed by every legal form. */
#define _GNU_SOURCE
#include "api.h"

#include <unistd.h>

static const size_t sizes[] = {0, 1, 16, 100, 1000, 2048, 4000, 70000, 1 << 20, 4 << 20};
#define SIZE_COUNT (sizeof sizes / sizeof *sizes)

static void check_and_free(void *p, size_t alignment, size_t size, int how)
{
    CHECK(p && aligned_to(p, alignment) && api.malloc_usable_size(p) >= size);
    if (!p)
        return;
    memset(p, 0x42, size);
    if (how % 4 == 1) {
        p = api.realloc(p, size + 100); /* keeps the bytes; the alignment need not survive */
        CHECK(p && api_all_bytes(p, size, 0x42));
        api.free(p);
    } else if (how % 4 == 2 && api.free_aligned_sized) {
        api.free_aligned_sized(p, alignment, size);
    } else if (how % 4 == 3 && api.cfree) {
        api.cfree(p);
    } else {
        api.free(p);
    }
}

static void test_alignments(void)
{
    int how = 0;
    for (int shift = 0; shift <= 26; shift++) {
        size_t alignment = (size_t)1 << shift;
        for (size_t i = 0; i < SIZE_COUNT; i++) {
            void *p = NULL;
            check_and_free(api.memalign(alignment, sizes[i]), alignment, sizes[i], how++);
            check_and_free(api.aligned_alloc(alignment, sizes[i]), alignment, sizes[i], how++);
            if (alignment >= sizeof(void *)) {
                CHECK(api.posix_memalign(&p, alignment, sizes[i]) == 0);
                check_and_free(p, alignment, sizes[i], how++);
            }
        }
        how++; /* so that no entry point meets the same form of free at every alignment */
    }
    void *giant = api.memalign((size_t)1 << 30, 5000);
    check_and_free(giant, (size_t)1 << 30, 5000, 0);
}

/* Many at once, so that neighbours exist to be damaged. */
static void test_neighbours(void)
{
    enum { COUNT = 300 };
    static unsigned char *block[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        size_t alignment = (size_t)1 << (4 + i % 12);
        block[i] = api.memalign(alignment, i * 7 + 1);
        CHECK(block[i] && aligned_to(block[i], alignment));
        memset(block[i], (int)i, i * 7 + 1);
    }
    for (size_t i = 0; i < COUNT; i++) {
        CHECK(api_all_bytes(block[i], i * 7 + 1, (unsigned char)i));
        api.free(block[i]);
    }
}

static void test_errors(void)
{
    void *p = &p;
    CHECK(api.posix_memalign(&p, 0, 100) == EINVAL && p == &p);
    CHECK(api.posix_memalign(&p, 3, 100) == EINVAL && p == &p);
    CHECK(api.posix_memalign(&p, 4, 100) == EINVAL && p == &p); /* less than a pointer */
    CHECK(api.posix_memalign(&p, 24, 100) == EINVAL && p == &p);
    CHECK(api.posix_memalign(&p, 64, api_too_much) == ENOMEM && p == &p);
    errno = 0;
    CHECK(api.aligned_alloc(64, api_too_much) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(api.memalign(4096, SIZE_MAX - (api_too_much & 1)) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(api.memalign(api_too_much, 1) == NULL && (errno == ENOMEM || errno == EINVAL));
    if (api.free_aligned_sized)
        api.free_aligned_sized(NULL, 64, 100);
    p = api.memalign(48, 100); /* glibc rounds up to a power of two */
    CHECK(p && aligned_to(p, 64));
    api.free(p);
}

static void test_pages(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t i = 0; i < SIZE_COUNT; i++) {
        if (api.valloc)
            check_and_free(api.valloc(sizes[i]), page, sizes[i], (int)i);
        if (api.pvalloc) /* whole pages; glibc gives one even for 0 bytes or none: only the rounding is common */
            check_and_free(api.pvalloc(sizes[i]), page, (sizes[i] + page - 1) / page * page, 0);
    }
    errno = 0;
    if (api.valloc)
        CHECK(api.valloc(api_too_much) == NULL && errno == ENOMEM);
    errno = 0;
    if (api.pvalloc)
        CHECK(api.pvalloc(SIZE_MAX - (api_too_much & 1)) == NULL && errno == ENOMEM);
}

void test_aligned(void)
{
    test_alignments();
    test_neighbours();
    test_errors();
    test_pages();
}
