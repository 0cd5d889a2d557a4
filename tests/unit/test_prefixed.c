/* The twins reach the same heap as the layers below, and the public header holds in what it says about them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/entry.h"
#include "hakmem/hakmem.h"

static void test_every_way_in_and_out(void **state)
{
    (void)state;
    void (*const out[])(void *) = {hakmem_free, hakmem_cfree, api_free};
    for (size_t way = 0; way < ARRAY_COUNT(out); way++) {
        void *slot = NULL;
        assert_int_equal(hakmem_posix_memalign(&slot, 64, 10), 0);
        void *const in[] = {
            hakmem_malloc(10),          hakmem_calloc(2, 5),  hakmem_realloc(NULL, 10), hakmem_reallocarray(NULL, 2, 5),
            hakmem_reallocf(NULL, 10),  hakmem_valloc(10),    hakmem_pvalloc(10),       hakmem_memalign(64, 10),
            hakmem_aligned_alloc(64, 10), slot,
        };
        for (size_t i = 0; i < ARRAY_COUNT(in); i++) {
            assert_non_null(in[i]);
            assert_true(hakmem_malloc_usable_size(in[i]) >= 10);
            assert_int_equal(hakmem_malloc_size(in[i]), hakmem_malloc_usable_size(in[i]));
            out[way](in[i]);
        }
    }
    hakmem_free_sized(hakmem_malloc(100), 100);
    hakmem_free_aligned_sized(hakmem_aligned_alloc(256, 100), 256, 100);
    hakmem_free(NULL);
    hakmem_free_sized(NULL, 5);
}

static void test_resizing(void **state)
{
    (void)state;
    char *block = hakmem_malloc(10);
    strcpy(block, "unchanged");
    block = hakmem_realloc(block, 100000);
    assert_string_equal(block, "unchanged");
    block = hakmem_reallocarray(block, 3, 10);
    assert_string_equal(block, "unchanged");
    assert_int_equal(hakmem_reallocarr(&block, 300, 10), 0);
    assert_string_equal(block, "unchanged");
    block = hakmem_reallocf(block, 10);
    assert_string_equal(block, "unchanged");
    assert_null(hakmem_realloc(block, 0));
    assert_true(hakmem_malloc_good_size(33) >= 33);
}

static void test_what_it_says_of_itself(void **state)
{
    (void)state;
    int major, minor, patch;
    assert_int_equal(sscanf(hakmem_version(), "%d.%d.%d", &major, &minor, &patch), 3);
    struct hakmem_stats stats;
    assert_int_equal(hakmem_stats(&stats, sizeof stats), 0);
    assert_int_equal(stats.size, sizeof stats);
    assert_int_equal(hakmem_mallinfo2().uordblks + hakmem_mallinfo2().hblkhd, stats.live_bytes);
    assert_int_equal(hakmem_mallinfo().uordblks, hakmem_mallinfo2().uordblks);
    assert_int_equal(hakmem_mallopt(-1, 0), 1);
    assert_int_equal(hakmem_malloc_info(7, stdout), EINVAL);
    hakmem_purge();
    assert_int_equal(hakmem_malloc_trim(0), 0);
    /* What is freed and not purged is at most what trim was told to leave. */
    enum { BLOCK_BYTES = 8 << 20, KEEP_BYTES = 3 << 20 };
    void *block = hakmem_malloc(BLOCK_BYTES);
    memset(block, 1, BLOCK_BYTES);
    hakmem_free(block);
    assert_int_equal(hakmem_malloc_trim(KEEP_BYTES), 1);
    assert_int_equal(hakmem_stats(&stats, sizeof stats), 0);
    assert_in_range(stats.free_dirty_bytes, 1, KEEP_BYTES);
    assert_int_equal(hakmem_malloc_trim(KEEP_BYTES), 0);
    /* An idle thread holds nothing. */
    hakmem_free(hakmem_malloc(100));
    assert_int_equal(hakmem_stats(&stats, sizeof stats), 0);
    assert_true(stats.cached_bytes != 0);
    hakmem_thread_idle();
    assert_int_equal(hakmem_stats(&stats, sizeof stats), 0);
    assert_int_equal(stats.cached_bytes, 0);
    hakmem_free(hakmem_malloc(100));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_way_in_and_out),
        cmocka_unit_test(test_resizing),
        cmocka_unit_test(test_what_it_says_of_itself),
    };
    return cmocka_run_group_tests_name("prefixed", tests, NULL, NULL);
}
