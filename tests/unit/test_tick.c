#include "unit.h"

#include "base/lock.h"
#include "base/tick.h"

static unsigned first_count, second_count, calls;
static uint64_t first_ms;
static unsigned first_turn, second_turn;

static void first(uint64_t now_ms)
{
    first_count++;
    first_ms = now_ms;
    first_turn = ++calls;
    tick_run(now_ms + 1000); /* periodic work that gets onto a slow path itself must not start over */
}

static void second(uint64_t now_ms)
{
    (void)now_ms;
    second_count++;
    second_turn = ++calls;
}

static int register_both(void **state)
{
    (void)state;
    tick_register(first);
    tick_register(second);
    return 0;
}

static uint64_t now_ms = (uint64_t)1 << 40; /* ahead of the clock, so that nothing else ticks in between */

static void test_once_per_period(void **state)
{
    (void)state;
    first_count = second_count = 0;
    now_ms += TICK_PERIOD_MS;
    tick_run(now_ms);
    assert_int_equal(first_count, 1);
    assert_int_equal(second_count, 1);
    assert_int_equal(first_ms, now_ms);
    assert_true(first_turn < second_turn);
    tick_run(now_ms);
    tick_run(now_ms + TICK_PERIOD_MS - 1);
    assert_int_equal(first_count, 1);
    tick_run(now_ms += TICK_PERIOD_MS);
    assert_int_equal(first_count, 2);
    assert_int_equal(second_count, 2);
}

/* A thread that read the clock, and then slept through another thread's tick, comes with an older time. */
static void test_older_time_is_no_new_period(void **state)
{
    (void)state;
    tick_run(now_ms += TICK_PERIOD_MS);
    first_count = 0;
    tick_run(now_ms - 4);
    assert_int_equal(first_count, 0);
    tick_run(now_ms + TICK_PERIOD_MS - 1);
    assert_int_equal(first_count, 0);
}

static void test_skipped_while_another_runs(void **state)
{
    (void)state;
    first_count = 0;
    now_ms += TICK_PERIOD_MS;
    assert_true(lock_try(tick_lock()));
    tick_run(now_ms);
    assert_int_equal(first_count, 0);
    lock_release(tick_lock());
    tick_run(now_ms); /* the skipped one was not counted as run */
    assert_int_equal(first_count, 1);
}

static void overfill(void *argument)
{
    (void)argument;
    for (unsigned i = 0; i < 1000; i++)
        tick_register(second);
}

static void test_full_table_is_fatal(void **state)
{
    (void)state;
    assert_aborts(overfill, NULL, "internal error: tick table full", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_once_per_period),
        cmocka_unit_test(test_older_time_is_no_new_period),
        cmocka_unit_test(test_skipped_while_another_runs),
        cmocka_unit_test(test_full_table_is_fatal),
    };
    return cmocka_run_group_tests_name("tick", tests, register_both, NULL);
}
