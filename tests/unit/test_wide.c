#include "unit.h"

#include "arena/usage.h"
#include "config/policy.h"
#include "fresh_arena.h"

static int fresh(void **state)
{
    (void)state;
    policy_start(config_get());
    usage_correct(0);
    fresh_arena();
    return 0;
}

static void touch(uint32_t slab, uint32_t slabs, char value)
{
    memset(window_slab_address(slab), value, slabs * SLAB_BYTES);
}

static void test_wide(void **state)
{
    (void)state;
    bool zeroed = false;
    assert_int_equal(take_slabs(1), first_slab());
    const uint32_t run = arena_alloc(70, 1, NULL, &zeroed);
    assert_int_equal(run, first_slab() + 32);
    assert_true(zeroed);
    touch(run, 70, 1);
    assert_int_equal(arena_totals_now().mapped_bytes, 4 * SUPERSLAB_BYTES);
    /* What the run leaves of its last SuperSlab is for others. */
    assert_int_equal(take_slabs(31), first_slab() + 1);
    assert_int_equal(take_slabs(26), run + 70);
    assert_int_equal(take_slabs(1), first_slab() + 128);
    arena_free(run, 70);
    assert_int_equal(arena_alloc(64, 1, NULL, &zeroed), run);
    assert_false(zeroed);
    assert_int_equal(arena_alloc(33, 1, NULL, &zeroed), first_slab() + 160);
    assert_int_equal(arena_alloc(6, 1, NULL, &zeroed), run + 64);
}

static void test_wide_over_absent_and_mapped(void **state)
{
    (void)state;
    bool zeroed;
    const uint32_t a = take_slabs(32);
    const uint32_t b = take_slabs(32);
    const uint32_t c = take_slabs(1); /* third SuperSlab: 31 free */
    touch(a, 64, 1);
    arena_free(b, 32);
    assert_int_equal(arena_alloc(33, 1, NULL, &zeroed), first_slab() + 96); /* c stands at the start of the third */
    arena_free(c, 1);
    assert_int_equal(arena_alloc(40, 1, NULL, &zeroed), b);
    assert_false(zeroed);
    assert_int_equal(arena_totals_now().superslabs_mapped, 5);
}

/* Full ones and such with too little room are passed over, whichever word of the vacant bits they stand in. */
static void test_finds_the_lowest_that_is_free(void **state)
{
    (void)state;
    enum { COUNT = 150 };
    uint32_t slabs[COUNT];
    for (unsigned i = 0; i < COUNT; i++)
        slabs[i] = take_slabs(32);
    assert_int_equal(take_slabs(64), slabs[COUNT - 1] + 32);
    for (unsigned i = 0; i < COUNT; i += 3) /* holes of less than one SuperSlab */
        arena_free(slabs[i] + 1, 31);
    arena_free(slabs[140], 32); /* its right neighbour is taken, and the next but one has 31 */
    assert_int_equal(take_slabs(33), slabs[COUNT - 1] + 3 * 32);
    arena_free(slabs[143], 32);
    arena_free(slabs[142], 32);
    assert_int_equal(take_slabs(40), slabs[142]);
    arena_free(slabs[67], 32);
    arena_free(slabs[68], 32);
    arena_free(slabs[3], 1);
    arena_free(slabs[4], 1);
    assert_int_equal(take_slabs(33), slabs[3]);
    assert_int_equal(take_slabs(64), slabs[67]);
    arena_totals_now();
}

/* It is refused after some of the SuperSlabs have been claimed: those are given up again. */
static void test_refused_half_way(void **state)
{
    (void)state;
    const uint32_t run = take_slabs(100);
    const uint32_t behind = take_slabs(1);
    assert_int_equal(behind, run + 100);
    arena_free(run, 100);
    for (unsigned i = 0; i < 4; i++)
        arena_purge_free(run / SUPERSLAB_SLABS + i, UINT32_MAX, PURGE_ASKED_FOR);
    const uint64_t held = usage_bytes();
    store_relaxed(&policy_live.memory_limit_bytes, held + 70 * SLAB_BYTES);
    assert_int_equal(take_slabs(100), SLAB_NONE);
    assert_int_equal(arena_claimed_bytes(), SLAB_BYTES);
    assert_int_equal(usage_bytes(), held + arena_totals_now().free_dirty_bytes);
    store_relaxed(&policy_live.memory_limit_bytes, NO_MEMORY_LIMIT);
    assert_int_equal(take_slabs(100), run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_wide, fresh),
        cmocka_unit_test_setup(test_wide_over_absent_and_mapped, fresh),
        cmocka_unit_test_setup(test_finds_the_lowest_that_is_free, fresh),
        cmocka_unit_test_setup(test_refused_half_way, fresh),
    };
    return cmocka_run_group_tests_name("wide", tests, NULL, NULL);
}
