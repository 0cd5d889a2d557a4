#include "unit.h"

#include "config/policy.h"
#include "fresh_arena.h"

enum { WIDE = 28 * 32, FREES = 4096 }; /* 56 MiB: more than half of the 64 that are too much */

static enum os_huge_page_mode mode;

enum os_huge_page_mode os_huge_page_mode(void) /* instead of this machine's */
{
    return mode;
}

static int fresh(void **state)
{
    (void)state;
    set_decay_policy(0, 0, 0);
    mode = OS_HUGE_MADVISE;
    fresh_arena();
    return 0;
}

static uint64_t dirty_bytes(void)
{
    return arena_totals_now().free_dirty_bytes;
}

/* From now on nearly all is more than half of what is too much. */
static void near_excess_for_long(void)
{
    store_relaxed(&policy_live.retained_bytes, SLAB_BYTES);
}

/* A touched run in which a sparse block was, free now. */
static uint32_t free_sparse(uint32_t slabs)
{
    const uint32_t slab = take_touched(slabs);
    arena_note_sparse(slab, slabs);
    arena_free(slab, slabs);
    return slab;
}

static void free_others(unsigned count)
{
    while (count-- > 0)
        arena_sparse_freed();
}

static void test_cold_superslabs_are_given_back(void **state)
{
    (void)state;
    const uint32_t small = free_sparse(12 * 32);
    free_others(FREES); /* too few to mind */
    assert_false(arena_minds_sparse());
    assert_false(reads_zero(small));
    const uint32_t slab = free_sparse(WIDE);
    assert_int_equal(slab, small);
    const uint64_t before = dirty_bytes();
    free_others(16); /* not yet cold */
    assert_true(arena_minds_sparse());
    assert_int_equal(dirty_bytes(), before);
    free_others(FREES);
    assert_in_range(dirty_bytes(), 30 << 20, 32 << 20); /* half of what is too much */
    near_excess_for_long();
    assert_int_equal(arena_totals_now().superslabs_released, 0);
    free_others(FREES);
    assert_int_equal(dirty_bytes(), 0);
    assert_true(reads_zero(slab));
    assert_int_equal(arena_totals_now().superslabs_released, 0);
}

static void test_where_such_blocks_come_stays(void **state)
{
    (void)state;
    const uint32_t slab = free_sparse(WIDE);
    near_excess_for_long();
    for (unsigned i = 0; i < FREES; i++) {
        arena_note_sparse(slab + 20 * 32, 1);
        arena_note_sparse(slab, 33); /* of the second SuperSlab it has one slab */
        free_others(1);
    }
    assert_false(reads_zero(slab));
    assert_false(reads_zero(slab + 32));
    assert_false(reads_zero(slab + 20 * 32));
    assert_true(reads_zero(slab + 64));
}

static void test_other_memory_is_left_alone(void **state)
{
    (void)state;
    const uint32_t slab = take_touched(WIDE);
    arena_free(slab, WIDE);
    const uint64_t before = dirty_bytes();
    free_others(FREES);
    assert_int_equal(dirty_bytes(), before);
}

/* One touch would bring it back. */
static void test_huge_pages_are_left_alone(void **state)
{
    (void)state;
    mode = OS_HUGE_ALWAYS;
    free_sparse(WIDE);
    const uint64_t before = dirty_bytes();
    free_others(FREES);
    assert_int_equal(dirty_bytes(), before);
    store_relaxed(&policy_live.thp, THP_NEVER);
    free_others(FREES);
    store_relaxed(&policy_live.thp, THP_DEFAULT);
    assert_true(dirty_bytes() < before);
}

static void test_costs_no_credit(void **state)
{
    (void)state;
    set_decay_policy(0, 1, 0);
    const uint32_t slab = free_sparse(WIDE);
    near_excess_for_long();
    free_others(FREES);
    assert_true(reads_zero(slab));
    struct arena_flow flow;
    const uint32_t again = take_touched(WIDE);
    assert_int_equal(again, slab);
    arena_read_flow(&flow);
    assert_int_equal(flow.decayed_bytes, 0);
    assert_int_equal(flow.refaulted_bytes, 0);
}

/* Not even where decay had been before: else such a loop would owe so much that nothing else went for as long as it runs. */
static void test_costs_no_credit_where_pages_had_gone(void **state)
{
    (void)state;
    uint32_t slab = take_touched(WIDE);
    const uint32_t first = slab / SUPERSLAB_SLABS, end = first + WIDE / SUPERSLAB_SLABS;
    arena_free(slab, WIDE);
    for (uint32_t i = first; i < end; i++)
        arena_purge_free(i, UINT32_MAX, PURGE_DUE);
    set_decay_policy(0, 1, 0);
    near_excess_for_long();
    slab = free_sparse(WIDE);
    arena_credit.bytes = 0;
    const uint64_t away = arena_away_bytes();
    free_others(FREES);
    assert_true(reads_zero(slab));
    assert_int_equal(take_touched(WIDE), slab);
    assert_int_equal(arena_credit.bytes, 0);
    assert_int_equal(arena_away_bytes(), away);
}

static void test_runs_that_begin_with_a_superslab(void **state)
{
    (void)state;
    bool zeroed;
    assert_int_equal(arena_alloc_at_start(8, &zeroed), SLAB_NONE);
    const uint32_t slab = take_touched(96);
    arena_free(slab, 96);
    const uint32_t small = take_slabs(1);
    assert_int_equal(small, slab);
    assert_int_equal(arena_alloc_at_start(8, &zeroed), slab + 32);
    assert_false(zeroed);
    assert_int_equal(arena_alloc_at_start(8, &zeroed), slab + 64);
    assert_int_equal(arena_alloc_at_start(8, &zeroed), SLAB_NONE); /* no SuperSlab is mapped for it */
    assert_int_equal(take_slabs(8), slab + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_cold_superslabs_are_given_back, fresh),
        cmocka_unit_test_setup(test_where_such_blocks_come_stays, fresh),
        cmocka_unit_test_setup(test_other_memory_is_left_alone, fresh),
        cmocka_unit_test_setup(test_huge_pages_are_left_alone, fresh),
        cmocka_unit_test_setup(test_costs_no_credit, fresh),
        cmocka_unit_test_setup(test_costs_no_credit_where_pages_had_gone, fresh),
        cmocka_unit_test_setup(test_runs_that_begin_with_a_superslab, fresh),
    };
    return cmocka_run_group_tests_name("cold", tests, NULL, NULL);
}
