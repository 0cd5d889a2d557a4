#include "unit.h"

#include <sys/mman.h>

#include "api/entry.h"
#include "arena/superslab.h"
#include "arena/window.h"
#include "fresh_arena.h"
#include "os/os.h"

static int fresh(void **state)
{
    (void)state;
    fresh_arena();
    return 0;
}

static void test_base(void **state)
{
    (void)state;
    assert_int_equal(window.base % SUPERSLAB_BYTES, 0);
    assert_true(window.base >> os_address_bits() == 0);
    assert_true(window.base >> 34 != 0); /* above everything that asks for low addresses */
    assert_true(window.first_superslab >= 1); /* slab index 0 lies in the map: it is "none" */
    assert_true(window.first_superslab * SUPERSLAB_SLABS < window.limit);
    assert_true(window.superslab_max > window.first_superslab);
    assert_true(window.superslab_max <= SUPERSLAB_LIMIT);
    /* The map of the whole window ends before the first SuperSlab. */
    assert_true((char *)window_word(window.superslab_max * SUPERSLAB_SLABS) <=
                (char *)window_slab_address(window.first_superslab * SUPERSLAB_SLABS));
}

static void test_arrays_do_not_overlap(void **state)
{
    (void)state;
    const size_t slabs = (size_t)window.superslab_max * SUPERSLAB_SLABS;
    const char *end = (char *)window_slab_address((uint32_t)slabs - 1) + SLAB_BYTES;
    assert_true(end <= window.slabs);
    assert_true(window.slabs + slabs * SLAB_RECORD_BYTES <= window.remotes);
    assert_true(window.remotes + slabs * REMOTE_RECORD_BYTES <= window.free_bitmaps);
    assert_true(window.free_bitmaps + slabs * BITMAP_BYTES <= window.remote_bitmaps);
    assert_true(window.remote_bitmaps + slabs * BITMAP_BYTES <= (char *)superslab_table);
    assert_true((uintptr_t)(superslab_table + window.superslab_max) >> 47 == 0);
    assert_int_equal((uintptr_t)window.slabs % CACHE_LINE_BYTES, 0);
    assert_int_equal((uintptr_t)window.remotes % CACHE_LINE_BYTES, 0);
}

/* Every array is there for these indexes: zero, and writable. */
static void assert_backed(uint64_t from, uint64_t to)
{
    for (uint64_t slab = from; slab < to; slab++) {
        uint32_t *word = window_word((uint32_t)slab);
        char *ends[] = {
            window.slabs + slab * SLAB_RECORD_BYTES,
            window.slabs + (slab + 1) * SLAB_RECORD_BYTES - 1,
            window.remotes + slab * REMOTE_RECORD_BYTES,
            window.remotes + (slab + 1) * REMOTE_RECORD_BYTES - 1,
            window.free_bitmaps + slab * BITMAP_BYTES,
            window.free_bitmaps + (slab + 1) * BITMAP_BYTES - 1,
            window.remote_bitmaps + slab * BITMAP_BYTES,
            window.remote_bitmaps + (slab + 1) * BITMAP_BYTES - 1,
            (char *)superslab_of_slab((uint32_t)slab) + slab % SUPERSLAB_SLABS,
        };
        assert_int_equal(*word, 0);
        *word = 1;
        for (unsigned i = 0; i < ARRAY_COUNT(ends); i++) {
            assert_int_equal(*ends[i], 0);
            *ends[i] = 1;
        }
    }
}

static void test_metadata_is_there(void **state)
{
    (void)state;
    const uint32_t first = window.first_superslab * SUPERSLAB_SLABS;
    for (uint32_t slab = 0; slab < first; slab++) /* the map's own indexes are found to be nobody's */
        assert_int_equal(*window_word(slab), 0);
    assert_backed(first, window.limit);
    uint64_t before = window.limit;
    assert_true(window_grow((uint32_t)(before / SUPERSLAB_SLABS)));
    assert_true(window.limit > before);
    assert_backed(before, window.limit);
    before = window.limit;
    assert_true(window_grow((uint32_t)(before / SUPERSLAB_SLABS) + 100)); /* leaving some out */
    assert_true(window.limit > before + 100 * SUPERSLAB_SLABS);
    assert_backed(before, window.limit);
}

static bool is_mapped(const char *address)
{
    unsigned char in_core;
    return mincore((void *)align_down((uintptr_t)address, os_page_bytes()), 1, &in_core) == 0;
}

/* Nobody has blocks where the map is, so there is nothing to record of it. */
static void test_the_map_has_no_records(void **state)
{
    (void)state;
    const size_t first = (size_t)window.first_superslab * SUPERSLAB_SLABS, page = os_page_bytes();
    assert_false(is_mapped(window.slabs + first * SLAB_RECORD_BYTES - page));
    assert_false(is_mapped(window.remotes + first * REMOTE_RECORD_BYTES - page));
    assert_false(is_mapped(window.free_bitmaps + first * BITMAP_BYTES - page));
    assert_false(is_mapped(window.remote_bitmaps + first * BITMAP_BYTES - page));
}

static void free_it(void *block)
{
    api_free(block);
}

/* Nor is there anything to crash on, when a program frees what it should not. First: with the window of the process. */
static void test_an_address_in_the_map_is_no_block(void **state)
{
    (void)state;
    api_free(api_malloc(100));
    const size_t map_bytes = (size_t)window.first_superslab * SUPERSLAB_BYTES;
    for (unsigned part = 0; part < 4; part++) {
        char *inside = (char *)window.base + part * (map_bytes / 4) + 4096;
        assert_int_equal(api_size_if_ours(inside), 0);
        assert_aborts(free_it, inside, "double free, or free of a pointer that malloc did not return", inside);
    }
}

static void test_grow_only_rises(void **state)
{
    (void)state;
    const uint64_t limit = window.limit;
    assert_true(window_grow(window.first_superslab));
    assert_true(window_grow(0));
    assert_int_equal(window.limit, limit);
    assert_false(window_grow(window.superslab_max));
    assert_false(window_grow(UINT32_MAX));
    assert_int_equal(window.limit, limit);
}

static void test_grow_up_to_the_end(void **state)
{
    (void)state;
    window.superslab_max = (uint32_t)(window.limit / SUPERSLAB_SLABS) + 5; /* no multiple of the step */
    assert_true(window_grow(window.superslab_max - 1));
    assert_int_equal(window.limit, window.superslab_max * SUPERSLAB_SLABS);
    assert_false(window_grow(window.superslab_max));
}

static void test_blocked_growth_is_undone(void **state)
{
    (void)state;
    const uint64_t limit = window.limit;
    const size_t page = os_page_bytes();
    const uintptr_t in_the_way = align_up((uintptr_t)window.remote_bitmaps + limit * BITMAP_BYTES, page);
    assert_int_equal(os_map_at(in_the_way, page), OS_MAP_OK);
    memset((void *)in_the_way, 3, page);
    assert_false(window_grow((uint32_t)(limit / SUPERSLAB_SLABS)));
    assert_int_equal(window.limit, limit);
    assert_int_equal(*(char *)in_the_way, 3);
    const uintptr_t undone = align_up((uintptr_t)window.slabs + limit * SLAB_RECORD_BYTES, page);
    assert_int_equal(os_map_at(undone, page), OS_MAP_OK); /* vacant again */
    os_unmap((void *)undone, page);
    os_unmap((void *)in_the_way, page);
    assert_true(window_grow((uint32_t)(limit / SUPERSLAB_SLABS)));
    assert_backed(limit, window.limit);
}

static void test_indexes(void **state)
{
    (void)state;
    const uint32_t slab = window.first_superslab * SUPERSLAB_SLABS + 7;
    char *address = window_slab_address(slab);
    assert_int_equal(window_slab_index(address), slab);
    assert_int_equal(window_slab_index(address + SLAB_BYTES - 1), slab);
    assert_int_equal(window_slab_index(address - 1), slab - 1);
    int here;
    static int there;
    assert_true(window_slab_index(NULL) >= window.limit);
    assert_true(window_slab_index(&here) >= window.limit);
    assert_true(window_slab_index(&there) >= window.limit);
    assert_true(window_slab_index((char *)window.base - 1) >= window.limit);
    assert_true(window_slab_index((void *)UINTPTR_MAX) >= window.limit);
}

/* Of a run only the first slab's word says so. */
static void test_runs_in_the_map(void **state)
{
    (void)state;
    const uint32_t first = window.first_superslab * SUPERSLAB_SLABS;
    assert_true(window_grow(window.first_superslab + 40));
    assert_int_equal(map_run_slabs(0), 0);
    assert_int_equal(map_run_slabs(MAP_LARGE + MAP_RUN_SLABS_MAX), MAP_RUN_SLABS_MAX);
    assert_int_equal(map_run_slabs(1u << MAP_OWNER_SHIFT), 0);
    assert_int_equal(map_run_slabs(MAP_OWNER_MAX << MAP_OWNER_SHIFT | MAP_LARGE), 0);
    assert_int_equal(window_run_head(first + 3), 0);
    *window_word(first + 3) = MAP_LARGE + 70;
    *window_word(first + 74) = 1u << MAP_OWNER_SHIFT;
    *window_word(first + 80) = MAP_LARGE + 1;
    assert_int_equal(window_run_head(first + 2), 0);
    assert_int_equal(window_run_head(first + 4), first + 3);
    assert_int_equal(window_run_head(first + 72), first + 3);
    assert_int_equal(window_run_head(first + 73), 0);
    assert_int_equal(window_run_head(first + 75), 0); /* a heap's slab stands between */
    assert_int_equal(window_run_head(first + 81), 0);
    assert_int_equal(window_large_slabs(window.first_superslab), 29);
    assert_int_equal(window_large_slabs(window.first_superslab + 1), 32);
    assert_int_equal(window_large_slabs(window.first_superslab + 2), 9 + 1);
    assert_int_equal(window_large_slabs(window.first_superslab + 3), 0);
    *window_word(first + 100) = MAP_LARGE + MAP_RUN_SLABS_MAX;
    assert_int_equal(window_run_head(first + 100 + MAP_RUN_SLABS_MAX - 1), first + 100);
    assert_int_equal(window_run_head(first + 100 + MAP_RUN_SLABS_MAX), 0);
}

static void test_bases_differ(void **state)
{
    (void)state;
    const uintptr_t one = window.base;
    fresh_arena();
    assert_true(window.base != one);
}

static void start_without_addresses(void *argument)
{
    (void)argument;
    const struct rlimit none = {1 << 20, 1 << 20};
    REQUIRE(setrlimit(RLIMIT_AS, &none) == 0);
    window = (struct window){0};
    REQUIRE(!window_start());
    REQUIRE(window.base == 0);
    REQUIRE(window.limit == 0);
}

static void test_no_window(void **state)
{
    (void)state;
    assert_child_passes(start_without_addresses, NULL);
}

/* Where addresses are narrow the map ends within a group: what lies before the first records is not ours to purge. */
static void test_forgetting_begins_with_the_first_record(void **state)
{
    (void)state;
    const uint32_t group = window_record_group();
    const uint32_t first = (uint32_t)align_up(window.first_superslab, group) + group / 2;
    char *const before = window.free_bitmaps + (size_t)(first - 1) * SUPERSLAB_SLABS * BITMAP_BYTES;
    char *const after = window.free_bitmaps + (size_t)first * SUPERSLAB_SLABS * BITMAP_BYTES;
    *before = *after = 1;
    window.first_superslab = first;
    window_forget(first);
    assert_int_equal(*after, 0);
    assert_int_equal(*before, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_address_in_the_map_is_no_block),
        cmocka_unit_test_setup(test_base, fresh),
        cmocka_unit_test_setup(test_arrays_do_not_overlap, fresh),
        cmocka_unit_test_setup(test_metadata_is_there, fresh),
        cmocka_unit_test_setup(test_the_map_has_no_records, fresh),
        cmocka_unit_test_setup(test_grow_only_rises, fresh),
        cmocka_unit_test_setup(test_grow_up_to_the_end, fresh),
        cmocka_unit_test_setup(test_blocked_growth_is_undone, fresh),
        cmocka_unit_test_setup(test_indexes, fresh),
        cmocka_unit_test_setup(test_runs_in_the_map, fresh),
        cmocka_unit_test_setup(test_bases_differ, fresh),
        cmocka_unit_test_setup(test_no_window, fresh),
        cmocka_unit_test_setup(test_forgetting_begins_with_the_first_record, fresh),
    };
    return cmocka_run_group_tests_name("window", tests, NULL, NULL);
}
