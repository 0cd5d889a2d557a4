/* contract: does every entry point keep the promises of its manual page, glibc's where pages differ?
 *
 * Sizes that cannot be, alignments 1 to 64 MiB, calloc's zeroes after dirty memory, usable size, zero sizes, errno.
 * Plain checks, one process, one thread; every failed check is printed, and the exit code is 1 if there was any. */
#define _GNU_SOURCE
#include "alloc.h"
#include "common.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#ifdef HAKMEM_PREFIXED
#define HAVE(name) true
#else
/* Not in every C library: called only where the process has them. */
void *reallocarray(void *block, size_t count, size_t size) __attribute__((weak));
void *memalign(size_t alignment, size_t size) __attribute__((weak));
void free_sized(void *block, size_t size) __attribute__((weak));
void free_aligned_sized(void *block, size_t alignment, size_t size) __attribute__((weak));
#define HAVE(name) (name != NULL)
#endif

static unsigned check_count, failure_count;

static void check(bool holds, int line, const char *text, size_t first, size_t second)
{
    check_count++;
    if (!holds && ++failure_count <= 50) {
        printf("contract: FAILED at line %d: %s (%zu, %zu; errno %d)\n", line, text, first, second, errno);
    }
}

/* A condition and the two numbers that tell which case it was. */
#define CHECK(condition, first, second) check((condition), __LINE__, #condition, (first), (second))

static bool aligned(const void *block, size_t alignment)
{
    return ((uintptr_t)block & (alignment - 1)) == 0;
}

/* For blocks without which a check means nothing. */
static void *must_have(size_t size)
{
    void *block = test_malloc(size);
    if (block == NULL) {
        stress_fail("malloc(%zu) failed with errno %d", size, errno);
    }
    return block;
}

/* ---- 22: sizes that cannot be ---- */

static void check_impossible_size(size_t size)
{
    void *survivor = must_have(100);
    void *untouched = &check_count;
    uint64_t key = stress_key(survivor, size);
    stress_fill(survivor, 100, key);
    errno = 0;
    CHECK(test_malloc(size) == NULL && errno == ENOMEM, size, 0);
    errno = 0;
    CHECK(test_calloc(1, size) == NULL && errno == ENOMEM, size, 0);
    errno = 0;
    CHECK(test_calloc(size, 1) == NULL && errno == ENOMEM, size, 0);
    errno = 0;
    CHECK(test_realloc(NULL, size) == NULL && errno == ENOMEM, size, 0);
    errno = 0;
    CHECK(test_realloc(survivor, size) == NULL && errno == ENOMEM, size, 0);
    for (size_t alignment = 8; alignment <= 64 * MIB; alignment *= 8) {
        errno = 0;
        CHECK(test_aligned_alloc(alignment, size) == NULL && errno == ENOMEM, alignment, size);
        CHECK(test_posix_memalign(&untouched, alignment, size) == ENOMEM, alignment, size);
    }
    CHECK(untouched == &check_count, size, 0);
    stress_verify(survivor, 100, key, "realloc to an impossible size");
    test_free(survivor);
}

static void check_overflowing_products(void)
{
    static const size_t pairs[][2] = {
        {SIZE_MAX, 2},          {2, SIZE_MAX},
        {SIZE_MAX / 2 + 1, 2},  {SIZE_MAX / 16 + 2, 16},
        {(size_t)1 << 32, (size_t)1 << 32}, {((size_t)1 << 32) + 1, (size_t)1 << 32},
        {SIZE_MAX, SIZE_MAX},   {PTRDIFF_MAX, 2},
        {SIZE_MAX / 3, 4},      {65537, SIZE_MAX / 65536},
    };
    void *survivor = must_have(24);
    memset(survivor, 7, 24);
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        size_t count = pairs[i][0];
        size_t size = pairs[i][1];
        errno = 0;
        CHECK(test_calloc(count, size) == NULL && errno == ENOMEM, count, size);
        if (HAVE(reallocarray)) {
            errno = 0;
            CHECK(TEST_NAME(reallocarray)(survivor, count, size) == NULL && errno == ENOMEM, count, size);
        }
    }
    CHECK(((char *)survivor)[0] == 7 && ((char *)survivor)[23] == 7, 0, 0);
    test_free(survivor);
}

static void check_bad_alignments(void)
{
    static const size_t alignments[] = {0, 1, 2, 3, 4, 7, 9, 12, 24, 48, 4095, 4097, SIZE_MAX, SIZE_MAX / 2};
    for (size_t i = 0; i < sizeof alignments / sizeof alignments[0]; i++) {
        void *untouched = &check_count;
        errno = EDOM;
        CHECK(test_posix_memalign(&untouched, alignments[i], 64) == EINVAL, alignments[i], 0);
        CHECK(untouched == &check_count, alignments[i], 0);
        CHECK(errno == EDOM, alignments[i], 0);
    }
}

static void check_sizes_that_cannot_be(void)
{
    static const size_t sizes[] = {
        (size_t)PTRDIFF_MAX + 1, (size_t)PTRDIFF_MAX + 2, (size_t)PTRDIFF_MAX + 4096, SIZE_MAX - 65536, SIZE_MAX - 4096,
        SIZE_MAX - 64, SIZE_MAX - 15, SIZE_MAX - 1, SIZE_MAX,
    };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        check_impossible_size(sizes[i]);
    }
    check_overflowing_products();
    check_bad_alignments();
}

/* ---- 23: alignments ---- */

static const size_t aligned_sizes[] = {
    0, 1, 8, 15, 16, 17, 48, 64, 100, 128, 129, 255, 256, 500, 1024, 1025, 2048, 2049, 4096, 5000, 16384, 32769, 65536,
    100000, 262144, 1 << 20, (1 << 20) + 1, 4 << 20,
};
enum { ALIGNED_SIZE_COUNT = sizeof aligned_sizes / sizeof aligned_sizes[0] };

static void *allocate_aligned(unsigned entry, size_t alignment, size_t size)
{
    void *block = NULL;
    switch (entry) {
    case 0:
        return test_aligned_alloc(alignment, size);
    case 1:
        alignment = alignment < sizeof block ? sizeof block : alignment;
        CHECK(test_posix_memalign(&block, alignment, size) == 0, alignment, size);
        return block;
    default:
        return TEST_NAME(memalign)(alignment, size);
    }
}

/* Each legal way to end a block in turn; realloc need not keep the alignment, only the contents. */
static void free_somehow(size_t way, void *block, size_t alignment, size_t size, unsigned entry, uint64_t key)
{
    switch (way % 4) {
    case 0: {
        size_t moved_size = size + size / 2 + 1;
        void *moved = test_realloc(block, moved_size);
        CHECK(moved != NULL, alignment, size);
        if (moved != NULL) {
            stress_verify(moved, size, key, "realloc of an aligned block");
            block = moved;
        }
        test_free(block);
        return;
    }
    case 1: {
        size_t moved_size = size / 2 + 1;
        void *moved = test_realloc(block, moved_size);
        CHECK(moved != NULL, alignment, size);
        if (moved != NULL) {
            stress_verify(moved, moved_size < size ? moved_size : size, key, "shrinking realloc of an aligned block");
            block = moved;
        }
        test_free(block);
        return;
    }
    case 2:
        if (entry == 0 && HAVE(free_aligned_sized)) {
            TEST_NAME(free_aligned_sized)(block, alignment, size);
            return;
        }
    }
    test_free(block);
}

/* All sizes of one alignment live at once, so that overlap shows. */
static void check_one_alignment(unsigned entry, size_t alignment)
{
    void *blocks[ALIGNED_SIZE_COUNT];
    for (size_t i = 0; i < ALIGNED_SIZE_COUNT; i++) {
        size_t size = aligned_sizes[i];
        blocks[i] = allocate_aligned(entry, alignment, size);
        CHECK(blocks[i] != NULL, alignment, size);
        if (blocks[i] == NULL) {
            continue;
        }
        CHECK(aligned(blocks[i], alignment), alignment, size);
        CHECK(test_usable_size(blocks[i]) >= size, alignment, size);
        stress_fill(blocks[i], size, stress_key(blocks[i], alignment));
    }
    for (size_t i = 0; i < ALIGNED_SIZE_COUNT; i++) {
        if (blocks[i] != NULL) {
            uint64_t key = stress_key(blocks[i], alignment);
            stress_verify(blocks[i], aligned_sizes[i], key, "an aligned block");
            free_somehow(i + alignment, blocks[i], alignment, aligned_sizes[i], entry, key);
        }
    }
}

static void check_alignments(void)
{
    for (unsigned entry = 0; entry < 3; entry++) {
        if (entry == 2 && !HAVE(memalign)) {
            continue;
        }
        for (unsigned bit = 0; bit <= 26; bit++) {
            check_one_alignment(entry, (size_t)1 << bit);
        }
    }
    for (size_t size = 0; size < 5000; size++) {
        void *block = test_malloc(size);
        CHECK(block != NULL && aligned(block, 16), size, 16);
        test_free(block);
    }
}

/* ---- 24: calloc's zeroes ---- */

static void check_calloc_of(size_t size)
{
    enum { MOST = 64 };
    void *blocks[MOST];
    size_t count = size <= 4096 ? MOST : size <= 256 * KIB ? 8 : 2;
    for (int pass = 0; pass < 3; pass++) {
        for (size_t i = 0; i < count; i++) {
            bool zeroed = pass > 0 || i % 2 == 1;
            blocks[i] = zeroed ? test_calloc(i % 3 == 0 ? size : 1, i % 3 == 0 ? 1 : size) : test_malloc(size);
            CHECK(blocks[i] != NULL, size, i);
            if (blocks[i] != NULL && zeroed) {
                stress_verify_zero(blocks[i], size, "calloc");
            }
            if (blocks[i] != NULL) {
                /* All that may be written: what calloc hands out next must not show it. */
                memset(blocks[i], 0xa5, test_usable_size(blocks[i]));
            }
        }
        for (size_t i = 0; i < count; i++) {
            test_free(blocks[i]);
        }
        if (pass == 1 && size >= 1024 && HAVE(malloc_trim)) {
            TEST_NAME(malloc_trim)(0); /* purged pages may come back with or without their contents */
        }
    }
}

static void check_calloc(void)
{
    for (size_t size = 1; size <= 2100; size += size < 300 ? 1 : 37) {
        check_calloc_of(size);
    }
    for (size_t size = 2048; size <= 32 * MIB; size *= 2) {
        check_calloc_of(size - 1);
        check_calloc_of(size);
        check_calloc_of(size + size / 3);
    }
    check_calloc_of(64 * MIB);
}

/* ---- 25: usable size ---- */

static void check_usable_of(size_t size)
{
    void *block = test_malloc(size);
    CHECK(block != NULL, size, 0);
    if (block == NULL) {
        return;
    }
    size_t usable = test_usable_size(block);
    uint64_t key = stress_key(block, size);
    CHECK(usable >= size, size, usable);
    stress_fill(block, usable, key);
    CHECK(test_usable_size(block) == usable, size, usable);
    size_t bigger = usable + usable / 2 + 1;
    void *moved = test_realloc(block, bigger);
    CHECK(moved != NULL, size, bigger);
    if (moved == NULL) {
        test_free(block);
        return;
    }
    stress_verify(moved, usable, key, "all usable bytes after realloc");
    stress_fill(moved, test_usable_size(moved), key);
    size_t smaller = size / 3 + 1;
    block = test_realloc(moved, smaller);
    CHECK(block != NULL, size, smaller);
    if (block != NULL) {
        stress_verify(block, smaller, key, "shrinking realloc");
        CHECK(test_usable_size(block) >= smaller, size, smaller);
        test_free(block);
    }
}

static void check_usable(void)
{
    CHECK(test_usable_size(NULL) == 0, 0, 0);
    for (size_t size = 0; size <= 4200; size++) {
        check_usable_of(size);
    }
    for (size_t size = 4200; size <= 8 * MIB; size += size / 17) {
        check_usable_of(size);
    }
}

/* ---- 26 and the rest of 22: zero sizes, errno ---- */

static void check_zero_sizes(void)
{
    void *first = test_malloc(0);
    void *second = test_malloc(0);
    void *third = test_realloc(NULL, 0);
    void *fourth = test_calloc(0, 16);
    void *fifth = test_calloc(16, 0);
    CHECK(first != NULL && second != NULL && third != NULL && fourth != NULL && fifth != NULL, 0, 0);
    CHECK(first != second && second != third && third != fourth && fourth != fifth, 0, 0);
    CHECK(aligned(first, 16) && aligned(third, 16) && aligned(fourth, 16), 0, 0);
    test_free(first);
    test_free(second);
    test_free(fourth);
    test_free(fifth);
    errno = EDOM;
#ifdef __GLIBC__
    CHECK(test_realloc(third, 0) == NULL && errno == EDOM, 0, 0);
    void *big = must_have(3 * MIB);
    CHECK(test_realloc(big, 0) == NULL && errno == EDOM, 0, 0);
#else
    test_free(third);
#endif
    test_free(NULL);
    CHECK(errno == EDOM, 0, 0);
}

static void check_errno_after_free(void)
{
    static const size_t sizes[] = {1, 16, 100, 1000, 2048, 5000, 40000, 200000, MIB, 5 * MIB, 40 * MIB};
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            void *block = test_malloc(sizes[i]);
            CHECK(block != NULL, sizes[i], 0);
            errno = EDOM;
            test_free(block);
            CHECK(errno == EDOM, sizes[i], 0);
        }
    }
}

static void check_free_sized(void)
{
    if (!HAVE(free_sized)) {
        printf("contract: no free_sized in this process: that check was left out\n");
        return;
    }
    for (size_t size = 0; size < 5000; size += size < 100 ? 1 : 61) {
        errno = EDOM;
        TEST_NAME(free_sized)(test_malloc(size), size);
        TEST_NAME(free_sized)(test_calloc(1, size), size);
        CHECK(errno == EDOM, size, 0);
    }
    TEST_NAME(free_sized)(test_malloc(3 * MIB), 3 * MIB);
    TEST_NAME(free_sized)(NULL, 0);
}

int main(int argc, char **argv)
{
    stress_parse(argc, argv, "contract: what the manual pages promise of malloc and its family", NULL, 0);
    stress_watchdog(300, "contract");
    static const struct part {
        const char *name;
        void (*run)(void);
    } parts[] = {
        {"sizes that cannot be", check_sizes_that_cannot_be}, {"alignments", check_alignments},
        {"calloc", check_calloc},                             {"usable size", check_usable},
        {"zero sizes", check_zero_sizes},                     {"errno after free", check_errno_after_free},
        {"free_sized", check_free_sized},
    };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        unsigned failures_before = failure_count;
        double begin = stress_now();
        parts[i].run();
        printf("contract: %s: %s (%.2f s)\n", parts[i].name, failure_count == failures_before ? "ok" : "FAILED",
               stress_now() - begin);
        fflush(stdout);
    }
    printf("contract: %u checks, %u failed\n", check_count, failure_count);
    return failure_count == 0 ? 0 : 1;
}
