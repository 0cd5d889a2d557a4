#include "unit.h"

#include "learn/alloc_learner.h"

enum { BIN = 5 };

static struct alloc_learner learner;
static struct alloc_params params;
static struct alloc_snapshot snapshot;
static struct learn_decision decisions[ALLOC_DECISIONS_MAX];

static int fresh(void **state)
{
    (void)state;
    memset(&learner, 0, sizeof learner);
    memset(&snapshot, 0, sizeof snapshot);
    params = (struct alloc_params){.law = {.rate_ppm = 250000, .hysteresis = 4, .cooldown_windows = 4}};
    snapshot.bins[BIN] = (struct alloc_bin){
        .capacity = 300, .cap = 300, .refill = 16, .cap_ceiling = 65535, .refill_ceiling = 65535};
    return 0;
}

/* A window in which each of ten turns took `refills` refills. What is decided is carried out. */
static const struct learn_decision *window(uint32_t refills)
{
    struct alloc_output out = {.list = decisions};
    snapshot.window++;
    snapshot.bins[BIN].turns = 10;
    snapshot.bins[BIN].refill_count = 10 * refills;
    alloc_decide_refills(&learner, &params, &snapshot, &out);
    if (out.count == 0)
        return NULL;
    assert_int_equal(out.count, 1);
    assert_int_equal(decisions[0].subject, LEARN_BIN_REFILL);
    assert_int_equal(decisions[0].place, BIN);
    if (decisions[0].verdict == LEARN_APPLIED)
        snapshot.bins[BIN].refill = (uint32_t)decisions[0].to;
    if (decisions[0].verdict == LEARN_ROLLED_BACK)
        snapshot.bins[BIN].refill = (uint32_t)decisions[0].from;
    return decisions;
}

static void test_many_refills_a_turn(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++)
        assert_null(window(5));
    assert_non_null(window(5));
    assert_int_equal(snapshot.bins[BIN].refill, 20); /* a quarter more */
    for (unsigned i = 0; i < 2; i++)
        assert_null(window(2));
    assert_int_equal(window(2)->verdict, LEARN_CONFIRMED);
    for (unsigned i = 0; i < 50; i++) /* between few and many it stays */
        assert_null(window(2));
}

static void test_what_does_not_help_is_undone(void **state)
{
    (void)state;
    unsigned undone = 0, windows = 0;
    for (; undone < 4 && windows < 200; windows++) {
        const struct learn_decision *d = window(8);
        if (d != NULL && d->verdict == LEARN_ROLLED_BACK) {
            undone++;
            assert_int_equal(snapshot.bins[BIN].refill, 16);
        }
    }
    assert_int_equal(undone, 4);
    assert_true(windows > 4 + 8 + 16); /* each time twice as long */
}

static void test_a_smaller_batch_is_tried_where_one_is_enough(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++)
        window(1);
    assert_int_equal(snapshot.bins[BIN].refill, 12);
    window(4);
    window(4);
    assert_int_equal(window(4)->verdict, LEARN_ROLLED_BACK);
    assert_int_equal(snapshot.bins[BIN].refill, 16);
}

static void test_bounds(void **state)
{
    (void)state;
    params.law.rate_ppm = 1000000;
    snapshot.bins[BIN].refill_ceiling = 20;
    for (unsigned i = 0; i < 4; i++)
        window(5);
    assert_int_equal(snapshot.bins[BIN].refill, 20);
    fresh(state);
    params.law.rate_ppm = 1000000;
    snapshot.bins[BIN].refill = 100;
    for (unsigned i = 0; i < 4; i++)
        window(5);
    assert_int_equal(snapshot.bins[BIN].refill, ALLOC_REFILL_MAX);
    fresh(state);
    params.law.rate_ppm = 1000000;
    for (unsigned i = 0; i < 4; i++)
        window(1);
    assert_int_equal(snapshot.bins[BIN].refill, 1);
}

static void test_observing(void **state)
{
    (void)state;
    params.law.observe = true;
    unsigned said = 0;
    for (unsigned i = 0; i < 40; i++) {
        const struct learn_decision *d = window(5);
        said += d != NULL;
        assert_true(d == NULL || d->verdict == LEARN_OBSERVED);
    }
    assert_in_range(said, 2, 6);
    assert_int_equal(snapshot.bins[BIN].refill, 16);
}

#define TEST(name) cmocka_unit_test_setup(name, fresh)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_many_refills_a_turn), TEST(test_what_does_not_help_is_undone),
        TEST(test_a_smaller_batch_is_tried_where_one_is_enough), TEST(test_bounds), TEST(test_observing),
    };
    return cmocka_run_group_tests_name("refill_batch", tests, NULL, NULL);
}
