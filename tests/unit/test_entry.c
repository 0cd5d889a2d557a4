/* What every public name means: api/entry.h. */
#include "unit.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "api/entry.h"
#include "arena/arena_internal.h"
#include "large/large.h"

#define MIB ((size_t)1 << 20)

static const size_t sizes[] = {
    1,     15,    16,    17,  64,          65,      1000,     2048,     2049,         30000,    32768,
    32769, 65536, 65537, MIB, 2 * MIB + 1, 5 * MIB, 63 * MIB, 64 * MIB, 64 * MIB + 1, 70 * MIB,
};

/* Values that the compiler cannot see through. */
static volatile size_t too_much = (size_t)PTRDIFF_MAX + 1;

static void fill(void *block, size_t bytes, unsigned seed)
{
    unsigned char *at = block;
    for (size_t i = 0; i < bytes; i += i < 5000 ? 1 : 997)
        at[i] = (unsigned char)(i * 7 + seed);
    if (bytes != 0)
        at[bytes - 1] = (unsigned char)((bytes - 1) * 7 + seed);
}

static void assert_filled(const void *block, size_t bytes, unsigned seed)
{
    const unsigned char *at = block;
    for (size_t i = 0; i < bytes; i += i < 5000 ? 1 : 997)
        assert_int_equal(at[i], (unsigned char)(i * 7 + seed));
}

static void assert_no_memory(const void *result)
{
    assert_null(result);
    assert_int_equal(errno, ENOMEM);
    errno = 0;
}

static void test_success_keeps_errno(void **state)
{
    (void)state;
    errno = EDOM;
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        void *block = api_malloc(sizes[i]);
        assert_non_null(block);
        assert_int_equal((uintptr_t)block % 16, 0);
        assert_true(api_usable_bytes(block) >= sizes[i]);
        fill(block, sizes[i], 1);
        block = api_realloc(block, sizes[i] * 2);
        assert_filled(block, sizes[i] - 1, 1);
        api_free(block);
        api_free(api_calloc(1, sizes[i]));
        api_free(api_aligned(4096, sizes[i]));
    }
    api_free(NULL);
    assert_int_equal(errno, EDOM);
    errno = 0;
}

static void test_too_much(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        const size_t bytes = k == 0 ? too_much : SIZE_MAX - (too_much & 1);
        void *block = api_malloc(100);
        fill(block, 100, 3);
        errno = 0;
        assert_no_memory(api_malloc(bytes));
        assert_no_memory(api_calloc(1, bytes));
        assert_no_memory(api_calloc(bytes, 1));
        assert_no_memory(api_realloc(NULL, bytes));
        assert_no_memory(api_realloc(block, bytes));
        assert_no_memory(api_reallocarray(block, bytes, 1));
        assert_no_memory(api_aligned(64, bytes));
        assert_no_memory(api_memalign(MIB, bytes));
        assert_no_memory(api_valloc(bytes));
        assert_no_memory(api_pvalloc(bytes));
        assert_filled(block, 100, 3);
        api_free(block);
    }
    assert_no_memory(api_calloc(too_much, 2));
    assert_no_memory(api_calloc(SIZE_MAX / 16 + 2, 16));
    void *block = api_malloc(24);
    assert_no_memory(api_reallocarray(block, too_much, 2));
    assert_no_memory(api_reallocf(block, too_much));
}

static void test_calloc_is_zero(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        for (int round = 0; round < 3; round++) {
            unsigned char *block = api_calloc(sizes[i], 1);
            assert_non_null(block);
            for (size_t k = 0; k < sizes[i]; k += k < 5000 ? 1 : 499)
                assert_int_equal(block[k], 0);
            assert_int_equal(block[sizes[i] - 1], 0);
            memset(block, 0xff, api_usable_bytes(block));
            api_free(block);
        }
    }
    void *empty = api_calloc(0, 5);
    assert_non_null(empty);
    api_free(empty);
}

static void test_realloc_keeps_bytes(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        for (size_t k = 0; k < ARRAY_COUNT(sizes); k++) {
            const size_t common = sizes[i] < sizes[k] ? sizes[i] : sizes[k];
            void *block = api_realloc(NULL, sizes[i]);
            assert_non_null(block);
            fill(block, common, (unsigned)k);
            block = api_realloc(block, sizes[k]);
            assert_non_null(block);
            assert_true(api_usable_bytes(block) >= sizes[k]);
            assert_filled(block, common - 1, (unsigned)k);
            api_free(block);
        }
    }
}

/* Shrinking gives memory back, growing by a little does not move: neither is a promise of C's, both are ours. */
static void test_realloc_in_place(void **state)
{
    (void)state;
    char *block = api_malloc(100 * 1024);
    assert_ptr_equal(api_realloc(block, 110 * 1024), block);
    assert_ptr_equal(api_realloc(block, 90 * 1024), block);
    char *small = api_realloc(block, 40);
    assert_true(api_usable_bytes(small) < 100);
    api_free(small);
}

/* The process may map no more addresses than it has by now. */
static void limit_addresses(void)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    REQUIRE(file != NULL && fscanf(file, "%lu", &pages) == 1);
    fclose(file);
    struct rlimit limit;
    REQUIRE(getrlimit(RLIMIT_AS, &limit) == 0);
    limit.rlim_cur = pages * (rlim_t)sysconf(_SC_PAGESIZE);
    REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0);
}

static void grow_without_addresses(void *argument)
{
    (void)argument;
    tcache_reclaim(0);
    arena_credit.bytes = -((int64_t)1 << 40); /* something is owed: what is freed waits */
    char *block = api_malloc(100 * MIB), *other = api_malloc(30 * MIB);
    fill(block, 100 * MIB, 5);
    fill(other, 30 * MIB, 6);
    api_free(other);
    REQUIRE(arena_free_resident_bytes() >= 30 * MIB);
    limit_addresses();
    if (mmap(NULL, 300 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED)
        return; /* an emulator limits itself, not the program */
    errno = EDOM;
    block = api_realloc(block, 120 * MIB);
    REQUIRE(block != NULL && errno == EDOM);
    assert_filled(block, 100 * MIB - 1, 5);
    REQUIRE(api_realloc(block, 300 * MIB) == NULL && errno == ENOMEM);
    assert_filled(block, 100 * MIB - 1, 5);
}

/* Addresses that free memory takes up are not missing. */
static void test_realloc_without_addresses(void **state)
{
    (void)state;
    assert_child_passes(grow_without_addresses, NULL);
}

static void test_realloc_zero(void **state)
{
    (void)state;
    errno = EDOM;
    assert_null(api_realloc(api_malloc(100), 0));
    assert_null(api_realloc(api_malloc(3 * MIB), 0));
    assert_null(api_reallocf(api_malloc(100), 0)); /* freed once, not twice */
    void *a = api_realloc(NULL, 0);
    void *b = api_malloc(0);
    assert_non_null(a);
    assert_non_null(b);
    assert_ptr_not_equal(a, b);
    api_free(a);
    api_free(b);
    assert_int_equal(errno, EDOM);
    errno = 0;
}

static void test_reallocarr(void **state)
{
    (void)state;
    char *block = NULL;
    errno = EDOM;
    assert_int_equal(api_reallocarr(&block, 10, 10), 0);
    fill(block, 100, 5);
    assert_int_equal(api_reallocarr(&block, 100, 1000), 0);
    assert_filled(block, 100, 5);
    char *before = block;
    assert_int_equal(api_reallocarr(&block, too_much, 2), EOVERFLOW);
    assert_int_equal(api_reallocarr(&block, too_much, 1), ENOMEM);
    assert_ptr_equal(block, before);
    assert_filled(block, 100, 5);
    assert_int_equal(api_reallocarr(&block, 0, 8), 0);
    assert_null(block);
    assert_int_equal(errno, EDOM);
    errno = 0;
}

static void test_alignment(void **state)
{
    (void)state;
    static const size_t lengths[] = {0, 1, 40, 3000, 33000, 70000, 3 * MIB};
    for (unsigned shift = 0; shift <= 30; shift++) {
        const size_t alignment = (size_t)1 << shift;
        for (size_t i = 0; i < ARRAY_COUNT(lengths); i++) {
            void *block = api_aligned(alignment, lengths[i]);
            assert_non_null(block);
            assert_int_equal((uintptr_t)block & (alignment - 1), 0);
            assert_true(api_usable_bytes(block) >= lengths[i]);
            fill(block, lengths[i], shift);
            assert_filled(block, lengths[i], shift);
            api_free(block);
        }
    }
}

static void test_memalign_rounds_up(void **state)
{
    (void)state;
    static const size_t asked[][2] = {{0, 1}, {1, 1}, {3, 4}, {24, 32}, {48, 64}, {4097, 8192}};
    for (size_t i = 0; i < ARRAY_COUNT(asked); i++) {
        void *block = api_memalign(asked[i][0], 10);
        assert_non_null(block);
        assert_int_equal((uintptr_t)block % asked[i][1], 0);
        api_free(block);
    }
    errno = 0;
    assert_null(api_memalign(too_much + 1, 10));
    assert_int_equal(errno, EINVAL);
    errno = 0;
    assert_null(api_memalign(too_much, 10)); /* a power of two, but nothing is aligned like that */
    assert_int_equal(errno, ENOMEM);
}

static void test_posix_memalign(void **state)
{
    (void)state;
    static const size_t bad[] = {0, 1, 2, 4, 7, 24, 4097};
    void *const untouched = &state;
    void *block = untouched;
    errno = EDOM;
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
        assert_int_equal(api_posix_memalign(&block, bad[i], 64), EINVAL);
    assert_int_equal(api_posix_memalign(&block, 64, too_much), ENOMEM);
    assert_ptr_equal(block, untouched);
    assert_int_equal(api_posix_memalign(&block, 512, 0), 0);
    assert_int_equal((uintptr_t)block % 512, 0);
    assert_int_equal(errno, EDOM);
    api_free(block);
    errno = 0;
}

static void test_pages(void **state)
{
    (void)state;
    void *block = api_valloc(10);
    assert_int_equal((uintptr_t)block % 4096, 0);
    api_free(block);
    block = api_pvalloc(4097);
    assert_int_equal((uintptr_t)block % 4096, 0);
    assert_true(api_usable_bytes(block) >= 8192);
    api_free(block);
    block = api_pvalloc(0);
    assert_non_null(block);
    api_free(block);
}

static void test_sizes(void **state)
{
    (void)state;
    assert_int_equal(api_usable_bytes(NULL), 0);
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        char *block = api_malloc(sizes[i]);
        assert_int_equal(api_good_bytes(sizes[i]), api_usable_bytes(block));
        assert_int_equal(api_size_if_ours(block), api_usable_bytes(block));
        assert_int_equal(api_size_if_ours(block + 8), 0);
        api_free(block);
    }
    assert_int_equal(api_good_bytes(0), 16);
    assert_int_equal(api_good_bytes(SIZE_MAX), SIZE_MAX);
    assert_int_equal(api_size_if_ours(NULL), 0);
    assert_int_equal(api_size_if_ours(&state), 0);
    assert_int_equal(api_size_if_ours(sizes), 0);
    assert_int_equal(api_size_if_ours((void *)window.base), 0);
    void *gone = api_malloc(5 * MIB);
    api_free(gone);
    assert_int_equal(api_size_if_ours(gone), 0);
}

/* Every address of a run that could be taken for a block's: only those that begin one have a size. */
static void test_small_bytes(void **state)
{
    (void)state;
    for (unsigned bin = 0; bin < BIN_COUNT; bin++) {
        const struct bin_info *info = bin_info(bin);
        const size_t bytes = info->block_bytes;
        /* Two bins are for 8 KiB: with an alignment, and without one. */
        void *block = bytes == 8192 ? api_aligned(16, bytes) : api_malloc(bytes == 8256 ? 8192 : bytes);
        const char *run = window_slab_address(slab_head((uint32_t)window_slab_index(block), info));
        for (uint32_t offset = 0; offset <= info->run_mask; offset += 8) {
            const bool begins = offset % info->block_bytes == 0 && offset / info->block_bytes < info->block_count;
            assert_int_equal(tcache_small_bytes(run + offset), begins ? info->block_bytes : 0);
        }
        api_free(block);
    }
    char *large = api_malloc(3 * MIB);
    assert_int_equal(tcache_small_bytes(large), 0);
    assert_int_equal(tcache_small_bytes(large + MIB), 0);
    assert_int_equal(tcache_small_bytes(NULL), 0);
    assert_int_equal(tcache_small_bytes(&state), 0);
    assert_int_equal(tcache_small_bytes((void *)window.base), 0);
    api_free(large);
    assert_int_equal(tcache_small_bytes(large), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_success_keeps_errno), cmocka_unit_test(test_too_much),
        cmocka_unit_test(test_calloc_is_zero),      cmocka_unit_test(test_realloc_keeps_bytes),
        cmocka_unit_test(test_realloc_in_place),    cmocka_unit_test(test_realloc_zero),
        cmocka_unit_test(test_realloc_without_addresses),
        cmocka_unit_test(test_reallocarr),          cmocka_unit_test(test_alignment),
        cmocka_unit_test(test_memalign_rounds_up),  cmocka_unit_test(test_posix_memalign),
        cmocka_unit_test(test_pages),               cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_small_bytes),
    };
    return cmocka_run_group_tests_name("entry", tests, NULL, NULL);
}
