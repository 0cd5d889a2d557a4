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

static void free_one_by_one(const uint32_t *slabs, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        arena_free(slabs[i], 32);
        arena_note_freed(SUPERSLAB_BYTES);
    }
}

static void give_back_all_excess(void)
{
    for (unsigned i = 0; arena_has_excess(); i++) {
        assert_true(i < 1000);
        arena_give_back_excess(SUPERSLAB_BYTES);
    }
}

static void test_a_burst_goes_without_a_tick(void **state)
{
    (void)state;
    enum { COUNT = 64, FLOOR = 4 };
    uint32_t slabs[COUNT];
    set_decay_policy(FLOOR * SUPERSLAB_BYTES, 0, 0);
    const uint32_t stays = take_touched(32);
    for (unsigned i = 0; i < COUNT; i++)
        slabs[i] = take_touched(32);
    free_one_by_one(slabs, COUNT);
    /* The floor but for 2 MiB, and a sixteenth of what is in use; in whole slabs. */
    assert_in_range(arena_totals_now().free_dirty_bytes, (FLOOR - 1) * SUPERSLAB_BYTES,
                    (FLOOR - 1) * SUPERSLAB_BYTES + SUPERSLAB_BYTES / 16);
    assert_true(arena_totals_now().superslabs_released > COUNT / 2);
    assert_false(reads_zero(stays));
}

static void test_the_floor_is_the_policys_until_a_burst_is_over(void **state)
{
    (void)state;
    enum { FLOOR = 4 };
    set_decay_policy(FLOOR * SUPERSLAB_BYTES, 0, 0);
    take_touched(32);
    superslab_counts.fallen = BURST_SLABS;
    assert_int_equal(arena_floor_bytes(), FLOOR * SUPERSLAB_BYTES);
    superslab_counts.fallen++;
    assert_int_equal(arena_floor_bytes(), (FLOOR - 1) * SUPERSLAB_BYTES); /* chosen for bursts as well */
    set_decay_policy(SUPERSLAB_BYTES, 0, 0);
    assert_int_equal(arena_floor_bytes(), SUPERSLAB_BYTES);
    assert_int_equal(superslab_claimed_count(), 32);
    set_decay_policy(2 * SUPERSLAB_BYTES, 0, 0);
    assert_int_equal(arena_floor_bytes(), SUPERSLAB_BYTES);
    set_decay_policy(SUPERSLAB_BYTES * 3 / 2, 0, 0);
    assert_int_equal(arena_floor_bytes(), SUPERSLAB_BYTES); /* as much as is in use */
    set_decay_policy(FLOOR * SUPERSLAB_BYTES, 0, 0);
    superslab_counts.fallen--;
    take_touched(2 * FLOOR * 32);
    superslab_counts.fallen = BURST_SLABS + 1;
    assert_int_equal(arena_floor_bytes(), FLOOR * SUPERSLAB_BYTES);
}

/* Each of them is behind the cursor, which begins anew at the top; what is unmapped already must not be in its way. */
static void test_wide_blocks_go_in_whatever_order_they_are_freed(void **state)
{
    (void)state;
    enum { COUNT = 20, WIDE = 15 * 32 };
    uint32_t slabs[COUNT];
    for (unsigned down = 0; down < 2; down++) {
        fresh(state);
        for (unsigned i = 0; i < COUNT; i++)
            slabs[i] = take_touched(WIDE);
        for (unsigned i = 0; i < COUNT; i++) {
            arena_free(slabs[down ? COUNT - 1 - i : i], WIDE);
            arena_note_freed(WIDE * SLAB_BYTES);
        }
        assert_int_equal(arena_totals_now().free_dirty_bytes, 0);
        assert_int_equal(arena_totals_now().superslabs_released, COUNT * WIDE / 32);
        for (uint32_t s = window.first_superslab; s < arena.next; s++)
            assert_int_equal(arena_vacant[s / 64] >> s % 64 & 1, 0);
    }
}

/* As when several threads have purged it while its last slabs were freed. */
static void test_an_empty_superslab_without_pages_goes_too(void **state)
{
    (void)state;
    enum { COUNT = 32 };
    const uint32_t goes = take_touched(COUNT * 32), clean = take_slabs(32);
    arena_purge_claimed(clean / 32, UINT32_MAX);
    arena_free(clean, 32);
    arena_free(goes, COUNT * 32);
    give_back_all_excess();
    assert_int_equal(superslab_table[clean / 32].state, SUPERSLAB_ABSENT);
    assert_int_equal(arena_totals_now().mapped_bytes, 0);
}

static void test_the_work_of_one_call_is_bounded(void **state)
{
    (void)state;
    enum { COUNT = 32 };
    const uint32_t goes = take_touched(COUNT * 32);
    arena_free(goes, COUNT * 32);
    arena_note_freed(0);
    assert_int_equal(arena_totals_now().purged_bytes, EXCESS_STEP_BYTES);
    arena_note_freed(SUPERSLAB_BYTES);
    assert_int_equal(arena_totals_now().purged_bytes, 2 * EXCESS_STEP_BYTES + 2 * SUPERSLAB_BYTES);
}

static void test_a_small_burst_is_kept(void **state)
{
    (void)state;
    enum { COUNT = 16 };
    uint32_t slabs[COUNT];
    for (unsigned i = 0; i < COUNT; i++)
        slabs[i] = take_touched(32);
    free_one_by_one(slabs, COUNT);
    assert_int_equal(arena_totals_now().free_dirty_bytes, COUNT * SUPERSLAB_BYTES);
}

/* It has far more free in the end, but what it takes tells that it goes on. */
static void test_a_loop_is_no_burst(void **state)
{
    (void)state;
    enum { COUNT = 96, TURNS = 16, FREED = 4 };
    uint32_t slabs[COUNT];
    unsigned held = 0;
    while (held < COUNT)
        slabs[held++] = take_touched(32);
    for (unsigned turn = 0; turn < TURNS; turn++) {
        held -= FREED;
        free_one_by_one(slabs + held, FREED);
        slabs[held++] = take_touched(32);
    }
    assert_int_equal(arena_totals_now().free_dirty_bytes, (COUNT - held) * SUPERSLAB_BYTES);
    free_one_by_one(slabs, held);
    give_back_all_excess();
    assert_int_equal(arena_totals_now().free_dirty_bytes, 0);
}

/* What goes is paid for by its first use. If it comes back, it is kept for as long as the rate takes to pay for that. */
static void test_bursts_that_come_back_are_kept(void **state)
{
    (void)state;
    enum { COUNT = 32, RATE = 32 * SUPERSLAB_BYTES };
    uint32_t slabs[COUNT];
    uint64_t now_ms = os_clock_ms();
    set_decay_policy(0, RATE, 0);
    store_relaxed(&arena_credit.refilled_ms, now_ms + 3600000); /* no time passes but what the test says */
    for (unsigned turn = 0; turn < 3; turn++) {
        for (unsigned i = 0; i < COUNT; i++)
            slabs[i] = take_touched(32);
        free_one_by_one(slabs, COUNT);
        assert_int_equal(arena_totals_now().free_dirty_bytes, turn == 0 ? 0 : COUNT * SUPERSLAB_BYTES);
    }
    take_touched(2 * COUNT * 32); /* half of it first use: nothing that was earned may be spent while something is owed */
    assert_false(arena_has_excess());
    assert_false(arena_has_credit(now_ms += 3600000 + 2900)); /* three times 32 SuperSlabs, in three seconds */
    assert_false(arena_has_earned());
    assert_true(arena_has_credit(now_ms += 200));
    assert_true(arena_has_earned());
}

static void test_the_ratio_decides_what_is_too_much(void **state)
{
    (void)state;
    enum { COUNT = 32 };
    const uint32_t stays = take_touched(COUNT * 32);
    const uint32_t goes = take_touched(COUNT * 32);
    store_relaxed(&arena_credit.earned, 0); /* credit pays for all of this */
    arena_free(goes, COUNT * 32);
    assert_false(arena_has_excess()); /* 64 MiB free, 64 + 128 may be */
    store_relaxed(&policy_live.retained_ratio_ppm, 125000);
    assert_true(arena_has_excess());
    give_back_all_excess();
    assert_in_range(arena_totals_now().free_dirty_bytes, 20 << 20, 24 << 20);
    set_decay_policy(0, 0, 4 * SUPERSLAB_BYTES); /* a limit may allow for less */
    give_back_all_excess();
    assert_in_range(arena_totals_now().free_dirty_bytes, 0, 4 * SUPERSLAB_BYTES);
    assert_false(reads_zero(stays));
}

static void test_excess_obeys_the_rate(void **state)
{
    (void)state;
    enum { COUNT = 128 };
    uint32_t slabs[COUNT];
    set_decay_policy(0, SUPERSLAB_BYTES, 0);
    for (unsigned i = 0; i < COUNT; i++)
        slabs[i] = take_touched(32);
    store_relaxed(&arena_credit.earned, 0);
    free_one_by_one(slabs, COUNT);
    assert_true(arena_totals_now().superslabs_released <= 3);
}

/* More of it than a burst may leave, and than may wait. */
static void test_what_is_prewarmed_is_no_excess(void **state)
{
    (void)state;
    enum { PREWARM = 17 };
    set_decay_policy(0, 0, SUPERSLAB_BYTES);
    arena_start(PREWARM);
    take_touched(32);
    const uint32_t goes = take_touched(32);
    assert_int_equal(arena_free_resident_bytes(), PREWARM * SUPERSLAB_BYTES);
    assert_false(arena_has_excess());
    arena_free(goes, 32);
    assert_false(arena_has_excess());
    assert_int_equal(take_slabs(32), goes);
    assert_int_equal(take_slabs(32), goes + 32); /* its first use: from now on it is as any other */
    assert_int_equal(superslab_counts.prewarmed, PREWARM - 1);
    arena_recover_after_fork();
    assert_int_equal(superslab_counts.prewarmed, PREWARM - 1);
    arena_purge_all(); /* even that goes when somebody asks */
    assert_int_equal(superslab_counts.prewarmed, 0);
    assert_int_equal(arena_free_resident_bytes(), 0);
}

/* However much of it is free: the next block of the loop tells more than its size. */
static void test_a_loop_of_large_blocks_is_no_burst(void **state)
{
    (void)state;
    enum { WIDE = 16 * 32, SMALL = 5, TURNS = 4 };
    uint32_t slabs[TURNS];
    store_relaxed(&policy_live.retained_ratio_ppm, 1000000);
    for (unsigned i = 0; i < TURNS; i++)
        slabs[i] = take_touched(WIDE);
    for (unsigned i = 0; i < TURNS; i++) {
        arena_free(slabs[i], WIDE);
        arena_note_freed(WIDE * SLAB_BYTES);
        slabs[i] = take_touched(SMALL);
    }
    assert_int_equal(arena_totals_now().purged_bytes, 0);
}

/* The memory learner lengthens decay's delay where decay is regretted; excess does not wait for any delay. */
static void test_excess_is_not_decays_regret(void **state)
{
    (void)state;
    enum { COUNT = 64 };
    struct arena_flow flow;
    const uint32_t wide = take_touched(COUNT * 32);
    arena_free(wide, COUNT * 32);
    give_back_all_excess();
    assert_true(arena_totals_now().superslabs_released > 0);
    take_touched(COUNT * 32);
    arena_read_flow(&flow);
    assert_int_equal(flow.refaulted_bytes, 0);
}

/* A run that could not be extended in all its SuperSlabs is no free. */
static void test_a_vain_extension_is_no_fall(void **state)
{
    (void)state;
    bool zeroed;
    const uint32_t slab = take_slabs(20);
    take_slabs(SUPERSLAB_SLABS);
    const uint64_t before = superslab_counts.fallen = 100;
    assert_false(arena_extend(slab, 20, 40, &zeroed));
    assert_int_equal(superslab_counts.fallen, before);
    assert_int_equal(arena_claimed_bytes(), (20 + SUPERSLAB_SLABS) * SLAB_BYTES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_a_burst_goes_without_a_tick, fresh),
        cmocka_unit_test_setup(test_the_floor_is_the_policys_until_a_burst_is_over, fresh),
        cmocka_unit_test_setup(test_wide_blocks_go_in_whatever_order_they_are_freed, fresh),
        cmocka_unit_test_setup(test_an_empty_superslab_without_pages_goes_too, fresh),
        cmocka_unit_test_setup(test_the_work_of_one_call_is_bounded, fresh),
        cmocka_unit_test_setup(test_a_vain_extension_is_no_fall, fresh),
        cmocka_unit_test_setup(test_a_small_burst_is_kept, fresh),
        cmocka_unit_test_setup(test_a_loop_is_no_burst, fresh),
        cmocka_unit_test_setup(test_a_loop_of_large_blocks_is_no_burst, fresh),
        cmocka_unit_test_setup(test_bursts_that_come_back_are_kept, fresh),
        cmocka_unit_test_setup(test_the_ratio_decides_what_is_too_much, fresh),
        cmocka_unit_test_setup(test_excess_obeys_the_rate, fresh),
        cmocka_unit_test_setup(test_what_is_prewarmed_is_no_excess, fresh),
        cmocka_unit_test_setup(test_excess_is_not_decays_regret, fresh),
    };
    return cmocka_run_group_tests_name("excess", tests, NULL, NULL);
}
