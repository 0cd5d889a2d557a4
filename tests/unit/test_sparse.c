#include "unit.h"

#include <sys/mman.h>

#include "fresh_arena.h"
#include "large/large.h"
#include "large/sparse.h"
#include "os/os.h"

enum { BYTES = 1 << 20, SURE = SPARSE_SURE, ONCE_IN = 8 };

#define MIB ((size_t)1 << 20)
#define LANE ((size_t)256 << 10)
#define TRACK_BYTES (32 * MIB)
#define PAGE os_page_bytes()

static _Alignas(65536) char block[BYTES];

static void look_often(unsigned times)
{
    for (unsigned i = 0; i < times; i++)
        sparse_look(block, BYTES);
}

static int clean(void **state)
{
    (void)state;
    memset(block, 1, BYTES);
    look_often(ONCE_IN); /* nothing is known of the program */
    assert_false(sparse_blocks(BYTES));
    memset(block, 0, BYTES);
    return 0;
}

/* The first test: no large one has been looked at yet. */
static void test_small_blocks_tell_of_all_at_first(void **state)
{
    (void)state;
    for (unsigned i = 0; i < SURE; i++)
        sparse_look(block, 64 << 10);
    assert_true(sparse_blocks(BYTES));
}

static void test_several_in_a_row_tell(void **state)
{
    (void)state;
    block[0] = block[BYTES - 1] = 1;
    look_often(SURE - 1);
    assert_false(sparse_blocks(BYTES));
    look_often(1);
    assert_true(sparse_blocks(BYTES));
    look_often(100);
    assert_true(sparse_blocks(BYTES));
}

static void test_a_quarter_that_is_filled_tells(void **state)
{
    (void)state;
    for (size_t quarter = 0; quarter < 4; quarter++) {
        memset(block + quarter * (BYTES / 4), 1, BYTES / 4);
        look_often(SURE);
        assert_false(sparse_blocks(BYTES));
        memset(block, 0, BYTES);
    }
}

/* Its pages may never have been written to, and are faulted in by reading them. */
static void test_who_is_known_is_asked_seldom(void **state)
{
    (void)state;
    look_often(SURE);
    memset(block, 1, BYTES);
    look_often(ONCE_IN - 1);
    assert_true(sparse_blocks(BYTES));
    look_often(1);
    assert_false(sparse_blocks(BYTES));
    memset(block, 0, BYTES);
    look_often(SURE + ONCE_IN);
    assert_true(sparse_blocks(BYTES));
    memset(block, 1, BYTES);
    look_often(ONCE_IN - 1);
    assert_true(sparse_blocks(BYTES));
    look_often(1);
    assert_false(sparse_blocks(BYTES));
}

static void test_one_dense_block_is_enough(void **state)
{
    (void)state;
    look_often(SURE);
    assert_true(sparse_blocks(BYTES));
    /* The last byte of each page: a page is read to its end. */
    for (size_t i = os_page_bytes() - 1; i < BYTES; i += os_page_bytes())
        block[i] = 1;
    look_often(ONCE_IN);
    assert_false(sparse_blocks(BYTES));
    memset(block, 0, BYTES);
    look_often(SURE - 1);
    assert_false(sparse_blocks(BYTES));
}

static void test_small_blocks_tell_of_large_ones_until_these_do(void **state)
{
    (void)state;
    const size_t small = 64 << 10, least = 8 * PAGE;
    for (unsigned i = 0; i < SURE; i++)
        sparse_look(block, small);
    assert_true(sparse_blocks(small));
    assert_false(sparse_blocks(BYTES)); /* of which dense ones have been seen */
    look_often(SURE);
    memset(block, 1, small);
    for (unsigned i = 0; i < ONCE_IN; i++)
        sparse_look(block, small);
    assert_false(sparse_blocks(small));
    assert_true(sparse_blocks(BYTES));
    memset(block, 0, BYTES);
    block[0] = 1;
    for (unsigned i = 0; i < SURE; i++)
        sparse_look(block, least - 1); /* it is its first page that would be read */
    assert_false(sparse_blocks(small));
    for (unsigned i = 0; i < SURE; i++)
        sparse_look(block, least);
    assert_true(sparse_blocks(small));
    block[0] = 0;
}

static char *alloc(size_t bytes)
{
    bool zeroed;
    char *got = large_alloc(bytes, 1, &zeroed);
    assert_non_null(got);
    return got;
}

/* Two SuperSlabs, all of whose free slabs hold pages; the verdict that is wanted. */
static void prepare(bool sparse)
{
    fresh_arena();
    char *used = alloc(2 * SUPERSLAB_BYTES);
    memset(used, 1, 2 * SUPERSLAB_BYTES);
    large_free(used);
    for (unsigned group = 0; group < SPARSE_GROUPS; group++)
        store_relaxed(&sparse_in_row[group], sparse ? SPARSE_SURE : 0);
}

static uintptr_t track_of(const char *large)
{
    return align_down((uintptr_t)large, TRACK_BYTES);
}

/* Pages that blocks of some sizes would touch that are written to at both ends, in a track of their own. */
static unsigned pages_touched(const char *const *ends, unsigned count)
{
    unsigned pages = 0;
    for (unsigned i = 0; i < count; i++) {
        bool is_new = true;
        for (unsigned j = 0; j < i; j++)
            is_new &= (uintptr_t)ends[i] / PAGE != (uintptr_t)ends[j] / PAGE;
        pages += is_new;
    }
    return pages;
}

/* One at a time, so that all of them could have the same place. */
static unsigned pages_of_sizes(size_t least, size_t most, size_t step)
{
    static const char *ends[1024];
    unsigned count = 0;
    for (size_t bytes = least; bytes <= most; bytes += step) {
        char *large = alloc(bytes);
        ends[count++] = large;
        ends[count++] = large + bytes - 1;
        assert_true(count <= ARRAY_COUNT(ends));
        large_free(large);
    }
    return pages_touched(ends, count);
}

static void test_blocks_of_many_sizes_touch_few_pages(void **state)
{
    (void)state;
    const size_t kib = 1024;
    for (unsigned sparse = 0; sparse < 2; sparse++) {
        prepare(sparse != 0);
        const unsigned small = pages_of_sizes(36 * kib, 64 * kib, 4 * kib);
        const unsigned medium = pages_of_sizes(72 * kib, 128 * kib, 8 * kib);
        const unsigned large = pages_of_sizes(2 * MIB, 30 * MIB, 60 * kib);
        assert_int_equal(small, sparse ? 4 + 2 : 1 + 8); /* first pages and last ones */
        assert_int_equal(medium, sparse ? 4 + 2 : 1 + 8);
        assert_true(sparse ? large <= 128 + 64 : large > 400); /* first pages of eight slabs, and one last one in 128 */
        arena_totals_now();
        assert_int_equal(arena_claimed_bytes(), 0);
    }
}

static void test_blocks_stand_at_the_beginning_of_tracks(void **state)
{
    (void)state;
    const size_t sizes[] = { LANE + 1, 600 << 10, SUPERSLAB_BYTES, 3 * MIB, 9 * MIB / 2 + 1, 11 * MIB + SLAB_BYTES, 32 * MIB };
    for (unsigned i = 0; i < ARRAY_COUNT(sizes); i++) {
        prepare(true);
        char *first = alloc(sizes[i]), *second = alloc(sizes[i]);
        assert_true((uintptr_t)first - track_of(first) < 8 * SLAB_BYTES);
        assert_int_equal(first - (char *)track_of(first), second - (char *)track_of(second));
        assert_int_equal(track_of(second), track_of(first) + TRACK_BYTES);
        assert_int_equal(large_usable_bytes(first), align_up(sizes[i], PAGE));
        if (first != (char *)track_of(first)) /* what lies before the block is nobody's */
            assert_int_equal(large_usable_bytes((char *)track_of(first)), 0);
        large_free(first);
        char *third = alloc(sizes[i]);
        assert_ptr_equal(third, first);
        large_free(second);
        large_free(third);
        arena_totals_now();
        assert_int_equal(arena_claimed_bytes(), 0); /* what lay before them is free, too */
        prepare(false); /* as close as they can */
        first = alloc(sizes[i]);
        second = alloc(sizes[i]);
        assert_true((size_t)(second - first) <= align_up(sizes[i], sizes[i] > SUPERSLAB_BYTES ? SUPERSLAB_BYTES : SLAB_BYTES));
        large_free(second);
        large_free(first);
    }
}

/* Further ones have a multiple of the power of two not below their size to themselves. */
static void test_there_are_only_so_many_tracks(void **state)
{
    (void)state;
    enum { TRACKS = 32, MORE = 8 };
    char *taken[TRACKS + MORE];
    const size_t sizes[] = { 600 << 10, 3 * MIB };
    for (unsigned s = 0; s < ARRAY_COUNT(sizes); s++) {
        prepare(true);
        unsigned at_start = 0;
        for (unsigned i = 0; i < TRACKS + MORE; i++) {
            taken[i] = alloc(sizes[s]);
            at_start += (uintptr_t)taken[i] - track_of(taken[i]) < 8 * SLAB_BYTES;
            if (i >= TRACKS)
                assert_true((uintptr_t)taken[i] % (sizes[s] < MIB ? MIB : 4 * MIB) < MIB);
        }
        assert_in_range(at_start, TRACKS - 1, TRACKS + 1); /* the window need not begin with a track */
        for (unsigned i = 0; i < TRACKS + MORE; i++)
            large_free(taken[i]);
        arena_totals_now();
        assert_int_equal(arena_claimed_bytes(), 0);
    }
}

static void test_small_ones_stand_at_multiples_of_a_lane(void **state)
{
    (void)state;
    prepare(true);
    char *first = alloc(40 << 10), *second = alloc(160 << 10), *third = alloc(LANE);
    assert_int_equal(align_down((uintptr_t)first, LANE) + LANE, align_down((uintptr_t)second, LANE));
    assert_int_equal((uintptr_t)third, align_down((uintptr_t)second, LANE) + LANE);
    assert_int_equal(((uintptr_t)first + (40 << 10)) % (16 << 10), 0);
    assert_int_equal(((uintptr_t)second + (160 << 10)) % (64 << 10), 0);
    large_free(first);
    large_free(second);
    large_free(third);
}

/* Every slab that was ever used counts there, and so do records. */
static void test_under_a_limit_blocks_stand_close(void **state)
{
    (void)state;
    prepare(true);
    store_relaxed(&policy_live.memory_limit_bytes, (uint64_t)1 << 40);
    char *first = alloc(6 * SLAB_BYTES), *second = alloc(6 * SLAB_BYTES);
    store_relaxed(&policy_live.memory_limit_bytes, NO_MEMORY_LIMIT);
    assert_ptr_equal(second, first + 6 * SLAB_BYTES);
    large_free(first);
    large_free(second);
}

static void test_a_lead_stays_behind_when_the_block_moves(void **state)
{
    (void)state;
    prepare(true);
    const size_t lead = 3 * SLAB_BYTES, bytes = 5 * MIB + (8 * SLAB_BYTES - lead);
    char *block_with_lead = alloc(bytes);
    memset(block_with_lead, 3, bytes);
    assert_int_equal((uintptr_t)block_with_lead, track_of(block_with_lead) + lead);
    store_relaxed(&sparse_in_row[0], 0);
    char *behind = alloc(SLAB_BYTES); /* in the way, so that it cannot grow where it stands */
    while (behind < block_with_lead)
        behind = alloc(SLAB_BYTES);
    while (behind != block_with_lead + bytes) {
        assert_true(behind < block_with_lead + bytes);
        behind = alloc(SLAB_BYTES);
    }
    const uint64_t claimed = arena_claimed_bytes();
    char *moved = large_resize(block_with_lead, 6 * MIB);
    assert_non_null(moved);
    assert_true(window_slab_index(moved) >= load_acquire(&window.limit));
    assert_int_equal(moved[bytes - 1], 3);
    assert_int_equal(arena_claimed_bytes(), claimed - bytes - lead);
    arena_totals_now();
    large_free(moved);
}

static void test_alignment_asked_for_comes_first(void **state)
{
    (void)state;
    prepare(true);
    bool zeroed;
    char *first = large_alloc(5 * MIB, 2 * SLAB_BYTES, &zeroed), *second = large_alloc(5 * MIB, 2 * SLAB_BYTES, &zeroed);
    assert_int_equal(window_slab_index(first), first_slab());
    assert_int_equal((uintptr_t)second % (2 * SLAB_BYTES), 0);
    assert_int_equal(window_slab_index(second), first_slab() + 3 * SUPERSLAB_SLABS);
    large_free(first);
    large_free(second);
}

/* The last test: there is no way back. */
static void test_a_forked_child_does_not_look(void **state)
{
    (void)state;
    sparse_stop_looking();
    assert_int_equal(mprotect(block, BYTES, PROT_NONE), 0);
    look_often(SURE);
    assert_int_equal(mprotect(block, BYTES, PROT_READ | PROT_WRITE), 0);
    assert_false(sparse_blocks(BYTES));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_blocks_tell_of_all_at_first),
        cmocka_unit_test_setup(test_several_in_a_row_tell, clean),
        cmocka_unit_test_setup(test_a_quarter_that_is_filled_tells, clean),
        cmocka_unit_test_setup(test_who_is_known_is_asked_seldom, clean),
        cmocka_unit_test_setup(test_one_dense_block_is_enough, clean),
        cmocka_unit_test_setup(test_small_blocks_tell_of_large_ones_until_these_do, clean),
        cmocka_unit_test(test_blocks_of_many_sizes_touch_few_pages),
        cmocka_unit_test(test_blocks_stand_at_the_beginning_of_tracks),
        cmocka_unit_test(test_there_are_only_so_many_tracks),
        cmocka_unit_test(test_small_ones_stand_at_multiples_of_a_lane),
        cmocka_unit_test(test_under_a_limit_blocks_stand_close),
        cmocka_unit_test(test_a_lead_stays_behind_when_the_block_moves),
        cmocka_unit_test(test_alignment_asked_for_comes_first),
        cmocka_unit_test_setup(test_a_forked_child_does_not_look, clean),
    };
    return cmocka_run_group_tests_name("sparse", tests, NULL, NULL);
}
