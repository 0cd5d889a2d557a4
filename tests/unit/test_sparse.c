#include "unit.h"

#include <sys/mman.h>

#include "fresh_arena.h"
#include "large/large.h"
#include "large/sparse.h"
#include "os/os.h"

enum { BYTES = 1 << 20, SURE = SPARSE_SURE, ONCE_IN = 8 };

#define MIB ((size_t)1 << 20)

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
    assert_false(sparse_blocks());
    memset(block, 0, BYTES);
    return 0;
}

static void test_several_in_a_row_tell(void **state)
{
    (void)state;
    block[0] = block[BYTES - 1] = 1;
    look_often(SURE - 1);
    assert_false(sparse_blocks());
    look_often(1);
    assert_true(sparse_blocks());
    look_often(100);
    assert_true(sparse_blocks());
}

static void test_a_quarter_that_is_filled_tells(void **state)
{
    (void)state;
    for (size_t quarter = 0; quarter < 4; quarter++) {
        memset(block + quarter * (BYTES / 4), 1, BYTES / 4);
        look_often(SURE);
        assert_false(sparse_blocks());
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
    assert_true(sparse_blocks());
    look_often(1);
    assert_false(sparse_blocks());
    memset(block, 0, BYTES);
    look_often(SURE + ONCE_IN);
    assert_true(sparse_blocks());
    memset(block, 1, BYTES);
    look_often(ONCE_IN - 1);
    assert_true(sparse_blocks());
    look_often(1);
    assert_false(sparse_blocks());
}

static void test_one_dense_block_is_enough(void **state)
{
    (void)state;
    look_often(SURE);
    assert_true(sparse_blocks());
    /* The last byte of each page: a page is read to its end. */
    for (size_t i = os_page_bytes() - 1; i < BYTES; i += os_page_bytes())
        block[i] = 1;
    look_often(ONCE_IN);
    assert_false(sparse_blocks());
    memset(block, 0, BYTES);
    look_often(SURE - 1);
    assert_false(sparse_blocks());
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
    store_relaxed(&sparse_in_row, sparse ? SPARSE_SURE : 0);
}

/* Of a wide run: its lead's, if it has one. */
static uintptr_t run_start(const char *large)
{
    return align_down((uintptr_t)large, 2 * SLAB_BYTES);
}

static void test_narrow_runs_begin_with_superslabs(void **state)
{
    (void)state;
    for (unsigned sparse = 0; sparse < 2; sparse++) {
        prepare(sparse != 0);
        char *first = alloc(6 * SLAB_BYTES), *second = alloc(6 * SLAB_BYTES), *third = alloc(6 * SLAB_BYTES);
        assert_int_equal(window_slab_index(first), first_slab());
        assert_int_equal(window_slab_index(second), first_slab() + (sparse ? SUPERSLAB_SLABS : 6));
        /* There is no more such room with pages; a page fault more is worse. */
        assert_int_equal(window_slab_index(third), first_slab() + (sparse ? 6 : 12));
        large_free(first);
        large_free(second);
        large_free(third);
    }
}

/* That is what the lead is for, wherever the block begins. */
static void check_ends_with_every_second_slab(const char *large)
{
    assert_int_equal(((uintptr_t)large + large_usable_bytes(large)) % (2 * SLAB_BYTES), 0);
}

static void test_wide_runs_begin_at_few_places(void **state)
{
    (void)state;
    const size_t sizes[] = { 3 * MIB, 4 * MIB - SLAB_BYTES, 9 * MIB / 2 + 1, 6 * MIB, 11 * MIB + SLAB_BYTES, 64 * MIB };
    const size_t aligned[] = { 4 * MIB, 4 * MIB, 8 * MIB, 8 * MIB, 16 * MIB, 64 * MIB };
    for (unsigned i = 0; i < ARRAY_COUNT(sizes); i++) {
        prepare(true);
        char *first = alloc(sizes[i]), *second = alloc(sizes[i]);
        assert_int_equal(run_start(first) % aligned[i], 0);
        assert_int_equal(run_start(second), run_start(first) + aligned[i]);
        check_ends_with_every_second_slab(first);
        check_ends_with_every_second_slab(second);
        assert_int_equal(large_usable_bytes((char *)run_start(first)), (uintptr_t)first == run_start(first) ? sizes[i] : 0);
        large_free(second);
        large_free(first);
        arena_totals_now();
        assert_int_equal(arena_claimed_bytes(), 0); /* the leads are free, too */
        prepare(false); /* as close as they can: with the next SuperSlab */
        first = alloc(sizes[i]);
        second = alloc(sizes[i]);
        assert_int_equal(run_start(second), run_start(first) + align_up(sizes[i], SUPERSLAB_BYTES));
        large_free(second);
        large_free(first);
    }
}

static void test_a_lead_stays_behind_when_the_block_moves(void **state)
{
    (void)state;
    prepare(true);
    char *block_with_lead = alloc(5 * MIB + SLAB_BYTES);
    memset(block_with_lead, 3, 5 * MIB + SLAB_BYTES);
    char *behind = alloc(SLAB_BYTES); /* in the way, so that it cannot grow where it stands */
    while (behind < block_with_lead)
        behind = alloc(SLAB_BYTES);
    assert_ptr_equal(behind, block_with_lead + 5 * MIB + SLAB_BYTES);
    const uint64_t claimed = arena_claimed_bytes();
    char *moved = large_resize(block_with_lead, 6 * MIB);
    assert_non_null(moved);
    assert_true(window_slab_index(moved) >= load_acquire(&window.limit));
    assert_int_equal(moved[5 * MIB + SLAB_BYTES - 1], 3);
    assert_int_equal(arena_claimed_bytes(), claimed - 5 * MIB - 2 * SLAB_BYTES);
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
    assert_false(sparse_blocks());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_several_in_a_row_tell, clean),
        cmocka_unit_test_setup(test_a_quarter_that_is_filled_tells, clean),
        cmocka_unit_test_setup(test_who_is_known_is_asked_seldom, clean),
        cmocka_unit_test_setup(test_one_dense_block_is_enough, clean),
        cmocka_unit_test(test_narrow_runs_begin_with_superslabs),
        cmocka_unit_test(test_wide_runs_begin_at_few_places),
        cmocka_unit_test(test_a_lead_stays_behind_when_the_block_moves),
        cmocka_unit_test(test_alignment_asked_for_comes_first),
        cmocka_unit_test_setup(test_a_forked_child_does_not_look, clean),
    };
    return cmocka_run_group_tests_name("sparse", tests, NULL, NULL);
}
