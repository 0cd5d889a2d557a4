#include "unit.h"

#include "config/policy.h"
#include "fresh_arena.h"

#define RATE (4 * SUPERSLAB_BYTES) /* a second */

static uint64_t now_ms = 1000000;

static int fresh(void **state)
{
    (void)state;
    set_decay_policy(0, RATE, 0);
    fresh_arena();
    arena_has_credit(now_ms += 1000);
    return 0;
}

static void test_begins_with_nothing_and_grows_for_two_seconds(void **state)
{
    (void)state;
    assert_false(arena_has_credit(now_ms));
    assert_true(arena_has_credit(now_ms += 1000));
    assert_int_equal(arena_credit.bytes, RATE);
    assert_true(arena_has_credit(now_ms += 100000));
    assert_int_equal(arena_credit.bytes, 2 * RATE);
    assert_true(arena_has_credit(now_ms - 5000)); /* a thread whose clock reading is older */
    assert_int_equal(arena_credit.bytes, 2 * RATE);
}

static void test_no_rate_is_no_bound(void **state)
{
    (void)state;
    set_decay_policy(0, 0, 0);
    arena_charge_refault(SUPERSLAB_BYTES);
    assert_true(arena_has_credit(now_ms));
    arena_earn(SUPERSLAB_BYTES);
    assert_true(arena_has_earned());
}

static void test_debt_is_bounded(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 100; i++)
        arena_charge_refault(SUPERSLAB_BYTES);
    /* Six seconds' worth: what a full credit gave back has all come back. All time that passes pays for it. */
    assert_int_equal(arena_credit.bytes, -(int64_t)(6 * RATE));
    assert_false(arena_has_credit(now_ms += 5900));
    assert_true(arena_has_credit(now_ms += 200));
}

/* Memory that stays away for long may come back and go once more: the credit for that is not lost. */
static void test_what_is_away_saves_for_its_return(void **state)
{
    (void)state;
    enum { COUNT = 32 };
    arena_earn(COUNT * SUPERSLAB_BYTES);
    arena_charge_earned(COUNT * SUPERSLAB_BYTES);
    assert_true(arena_has_credit(now_ms += 3600000));
    assert_int_equal(arena_credit.bytes, 2 * RATE + 4 * COUNT * SUPERSLAB_BYTES);
    arena_charge_refault(COUNT * SUPERSLAB_BYTES);
    assert_int_equal(arena_away_bytes(), 0);
    assert_int_equal(arena_credit.bytes, 2 * RATE + COUNT * SUPERSLAB_BYTES);
    arena_charge_refault(SUPERSLAB_BYTES); /* more than is away, by the books */
    assert_int_equal(arena_away_bytes(), 0);
}

static void test_what_was_earned_waits_until_nothing_is_owed(void **state)
{
    (void)state;
    assert_false(arena_has_earned());
    arena_earn(2 * SUPERSLAB_BYTES);
    assert_true(arena_has_earned());
    arena_charge_earned(SUPERSLAB_BYTES);
    assert_true(arena_has_earned());
    arena_charge_refault(SUPERSLAB_BYTES);
    assert_false(arena_has_earned());
    arena_has_credit(now_ms += 1000); /* four SuperSlabs' worth, three of which are owed */
    assert_true(arena_has_earned());
    arena_charge_earned(SUPERSLAB_BYTES);
    assert_false(arena_has_earned()); /* spent */
}

/* Memory that was asked back is clean as if nobody had used it. */
static void test_no_more_is_earned_than_is_held(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 10; i++) {
        arena_free(take_touched(32), 32);
        arena_purge_all();
    }
    assert_int_equal(arena_credit.earned, SUPERSLAB_BYTES);
    take_touched(64);
    assert_int_equal(arena_credit.earned, 2 * SUPERSLAB_BYTES);
}

/* Of a huge page all is given back, however little of it was in use since the last time. */
static void test_no_more_is_away_than_was_there(void **state)
{
    (void)state;
    const uint32_t run = take_touched(32);
    store_relaxed(&superslab_of_slab(run)->pages, SUPERSLAB_HUGE);
    arena_free(run, 32);
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(arena_purge_free(run / SUPERSLAB_SLABS, UINT32_MAX, PURGE_DUE), SUPERSLAB_BYTES);
        assert_int_equal(arena_away_bytes(), SUPERSLAB_BYTES);
        arena_free(take_touched(1), 1);
        assert_int_equal(arena_away_bytes(), 31 * SLAB_BYTES);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_begins_with_nothing_and_grows_for_two_seconds, fresh),
        cmocka_unit_test_setup(test_no_rate_is_no_bound, fresh),
        cmocka_unit_test_setup(test_debt_is_bounded, fresh),
        cmocka_unit_test_setup(test_what_is_away_saves_for_its_return, fresh),
        cmocka_unit_test_setup(test_what_was_earned_waits_until_nothing_is_owed, fresh),
        cmocka_unit_test_setup(test_no_more_is_earned_than_is_held, fresh),
        cmocka_unit_test_setup(test_no_more_is_away_than_was_there, fresh),
    };
    return cmocka_run_group_tests_name("credit", tests, NULL, NULL);
}
