#include "unit.h"

#include "config/policy.h"
#include "fresh_arena.h"

static int fresh(void **state)
{
    (void)state;
    set_decay_policy(0, 0, 0);
    fresh_arena();
    return 0;
}

static void test_excess_goes_without_a_tick(void **state)
{
    (void)state;
    enum { COUNT = 64 }; /* 128 MiB: twice the excess's least */
    uint32_t slabs[COUNT];
    const uint32_t stays = take_touched(32);
    for (unsigned i = 0; i < COUNT; i++)
        slabs[i] = take_touched(32);
    for (unsigned i = 0; i < COUNT; i++)
        arena_free(slabs[i], 32);
    assert_in_range(arena_totals_now().free_dirty_bytes, 60 << 20, 68 << 20);
    assert_true(arena_totals_now().superslabs_released > 20);
    assert_false(reads_zero(stays));
    set_decay_policy(0, 0, 4 * SUPERSLAB_BYTES); /* a limit may allow for less */
    const uint64_t before = arena_totals_now().free_dirty_bytes;
    arena_free(take_touched(1), 1); /* a heap's, under its lock: nothing yet */
    assert_int_equal(arena_totals_now().free_dirty_bytes, before);
    for (unsigned i = 0; arena_has_excess(); i++) {
        assert_true(i < COUNT);
        arena_give_back_excess(2);
    }
    assert_in_range(arena_totals_now().free_dirty_bytes, 0, 4 * SUPERSLAB_BYTES);
}

static void test_the_ratio_decides_what_is_too_much(void **state)
{
    (void)state;
    enum { COUNT = 32 };
    const uint32_t stays = take_touched(COUNT * 32);
    const uint32_t goes = take_touched(COUNT * 32);
    arena_free(goes, COUNT * 32);
    assert_false(arena_has_excess()); /* 64 MiB free, (64 + 128) / 2 may be */
    store_relaxed(&policy_live.retained_ratio_ppm, 125000);
    assert_true(arena_has_excess());
    for (unsigned i = 0; i < COUNT && arena_has_excess(); i++)
        arena_give_back_excess(1);
    assert_in_range(arena_totals_now().free_dirty_bytes, 20 << 20, 24 << 20);
    assert_false(reads_zero(stays));
}

static void test_excess_obeys_the_rate(void **state)
{
    (void)state;
    enum { COUNT = 64 };
    uint32_t slabs[COUNT];
    set_decay_policy(0, SUPERSLAB_BYTES, 0);
    for (unsigned i = 0; i < COUNT; i++)
        slabs[i] = take_touched(32);
    for (unsigned i = 0; i < COUNT; i++)
        arena_free(slabs[i], 32);
    assert_true(arena_totals_now().superslabs_released <= 3);
}

/* The memory learner lengthens decay's delay where decay is regretted; excess does not wait for any delay. */
static void test_excess_is_not_decays_regret(void **state)
{
    (void)state;
    enum { COUNT = 64 };
    struct arena_flow flow;
    const uint32_t wide = take_touched(COUNT * 32);
    arena_free(wide, COUNT * 32);
    while (arena_has_excess())
        arena_give_back_excess(1);
    assert_true(arena_totals_now().superslabs_released > 0);
    store_relaxed(&policy_live.decay_rate_bytes, SUPERSLAB_BYTES);
    arena_has_credit(os_clock_ms());
    arena_charge_credit((size_t)COUNT * SUPERSLAB_BYTES); /* none, and as much debt as there can be */
    store_relaxed(&policy_live.decay_rate_bytes, 10 * SUPERSLAB_BYTES);
    take_touched(COUNT * 32);
    arena_read_flow(&flow);
    assert_int_equal(flow.refaulted_bytes, 0);
    assert_false(arena_has_credit(os_clock_ms())); /* but it costs as much */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_excess_goes_without_a_tick, fresh),
        cmocka_unit_test_setup(test_the_ratio_decides_what_is_too_much, fresh),
        cmocka_unit_test_setup(test_excess_obeys_the_rate, fresh),
        cmocka_unit_test_setup(test_excess_is_not_decays_regret, fresh),
    };
    return cmocka_run_group_tests_name("excess", tests, NULL, NULL);
}
