#include "unit.h"

#include "arena/meta.h"
#include "arena/usage.h"
#include "os/os.h"

static bool is_zero(const unsigned char *at, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (at[i] != 0)
            return false;
    return true;
}

static void test_records(void **state)
{
    (void)state;
    unsigned char *before = NULL;
    for (size_t bytes = 1; bytes < 200000; bytes = bytes * 3 + 1) {
        unsigned char *p = meta_alloc(bytes);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % CACHE_LINE_BYTES, 0);
        assert_true(is_zero(p, bytes));
        memset(p, 0xaa, bytes);
        if (before != NULL)
            assert_int_equal(before[0], 0xaa);
        before = p;
    }
    assert_null(meta_alloc((size_t)1 << 60));
}

static void test_small_records_share_a_chunk(void **state)
{
    (void)state;
    meta_alloc(64);
    const size_t mapped = usage_record_bytes();
    for (unsigned i = 0; i < 100; i++)
        assert_non_null(meta_alloc(100));
    assert_true(usage_record_bytes() <= mapped + 256 * 1024);
    assert_int_equal(usage_record_bytes() % os_page_bytes(), 0);
    const size_t now = usage_record_bytes();
    assert_non_null(meta_alloc(1 << 20)); /* a piece of its own */
    assert_int_equal(usage_record_bytes(), now + (1 << 20));
}

static void test_arrays_come_back_by_size(void **state)
{
    (void)state;
    void *a = meta_array_alloc(1000);
    void *b = meta_array_alloc(1024);
    void *c = meta_array_alloc(1025);
    assert_true(a != b && b != c);
    memset(a, 1, 1024); /* rounded up to a power of two */
    memset(c, 1, 2048);
    meta_array_free(a, 1000);
    meta_array_free(c, 1025);
    assert_ptr_equal(meta_array_alloc(513), a);
    assert_ptr_equal(meta_array_alloc(2048), c);
    void *tiny = meta_array_alloc(1);
    memset(tiny, 1, META_ARRAY_MIN_BYTES);
    meta_array_free(tiny, 1);
    assert_ptr_equal(meta_array_alloc(META_ARRAY_MIN_BYTES), tiny);
    meta_array_free(b, 1024);
    const size_t mapped = usage_record_bytes();
    for (unsigned i = 0; i < 10000; i++) /* going round costs nothing */
        meta_array_free(meta_array_alloc(1024), 1024);
    assert_int_equal(usage_record_bytes(), mapped);
}

#define THREADS 4u

static uint32_t damaged;

static void *take_and_give(void *argument)
{
    uint64_t seed = *(uint64_t *)argument;
    const unsigned char mark = (unsigned char)seed;
    unsigned char *held[16] = {0};
    size_t bytes[16] = {0};
    for (unsigned i = 0; i < 4000; i++) {
        const uint64_t r = next_random(&seed);
        const unsigned at = (unsigned)(r % 16);
        if (held[at] != NULL) {
            if (held[at][0] != mark || held[at][bytes[at] - 1] != mark)
                fetch_add_relaxed(&damaged, 1);
            meta_array_free(held[at], bytes[at]);
        }
        bytes[at] = (size_t)(r >> 8) % 3000 + 1;
        held[at] = meta_array_alloc(bytes[at]);
        held[at][0] = held[at][bytes[at] - 1] = mark;
        if (i % 256 == 0)
            *(volatile char *)meta_alloc(200) = 1;
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    uint64_t seeds[THREADS] = {1, 2, 3, 4};
    run_threads(THREADS, take_and_give, seeds, sizeof seeds[0]);
    assert_int_equal(damaged, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_records),
        cmocka_unit_test(test_small_records_share_a_chunk),
        cmocka_unit_test(test_arrays_come_back_by_size),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests_name("meta", tests, NULL, NULL);
}
