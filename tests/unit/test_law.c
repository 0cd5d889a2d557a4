#include "unit.h"

#include "learn/law.h"

static const struct law_params params = {
    .rate_ppm = 100000, .share_ppm = 20000, .hysteresis = 4, .cooldown_windows = 4};
static const struct law_window window = {.moved_blocks = 10000, .passed_ns = 1000000};

static struct law_track track;
static struct law_signal signal_now;

static int fresh_track(void **state)
{
    (void)state;
    memset(&track, 0, sizeof track);
    signal_now = (struct law_signal){.value = 100, .low = 10, .high = 1000, .is_reached = true};
    return 0;
}

static void traffic(uint64_t blocks, uint32_t turns, uint32_t excess, uint32_t idle)
{
    signal_now.refilled = signal_now.flushed = blocks;
    signal_now.turns = turns;
    signal_now.excess = excess;
    signal_now.idle = idle;
}

/* A window with that traffic; returns what the law proposes then. */
static uint32_t see(const struct law_params *p)
{
    law_observe(&track, p, &window, &signal_now);
    return law_propose(&track, p, &signal_now);
}

static void step(const struct law_params *p, uint32_t to)
{
    law_note_step(&track, p, &window, &signal_now, to);
    if (!p->observe)
        signal_now.value = to;
}

static void test_thresholds_are_a_hysteresis_apart(void **state)
{
    (void)state;
    const uint64_t hot = law_hot_trips(&params, &window);
    assert_in_range(hot, 200, 201);
    assert_in_range(law_cold_trips(&params, &window), hot / 4, hot / 4 + 1);
    traffic(hot - 1, 2, 50, 0); /* neither hot nor cold: nothing happens however long it lasts */
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(see(&params), 100);
}

static void test_hot_for_two_windows(void **state)
{
    (void)state;
    traffic(1000, 10, 100, 0);
    assert_int_equal(see(&params), 100);
    assert_int_equal(see(&params), 110);
    traffic(0, 0, 0, 0);
    assert_int_equal(see(&params), 100); /* the averages are still hot, this window is not */
}

/* What flows one way only is not a round trip. */
static void test_one_way_traffic(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        traffic(1000, 0, 0, 0);
        signal_now.flushed = 0;
        assert_int_equal(see(&params), 100);
    }
}

/* ... and what flows through is not idle, even if two windows in a row pass between two refills. */
static void test_a_cache_with_a_flow_does_not_shrink(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 60; i++) {
        traffic(0, 0, 0, i % 3 == 0 ? 0 : 30);
        signal_now.refilled = i % 3 == 0 ? 400 : 0;
        assert_int_equal(see(&params), 100);
    }
}

static void test_a_ceiling_that_is_not_reached_stays(void **state)
{
    (void)state;
    signal_now.is_reached = false;
    traffic(1000, 10, 100, 0);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(see(&params), 100);
}

/* Round trips that cost less than a thousandth of the time are not worth memory. */
static void test_rare_round_trips_are_left_alone(void **state)
{
    (void)state;
    const struct law_window slow = {.moved_blocks = 10000, .passed_ns = 1000000000};
    traffic(4900, 50, 100, 0);
    for (unsigned i = 0; i < 20; i++) {
        law_observe(&track, &params, &slow, &signal_now);
        assert_int_equal(law_propose(&track, &params, &signal_now), 100);
    }
}

static void test_a_step_is_no_wider_than_what_is_missing(void **state)
{
    (void)state;
    traffic(1000, 300, 3, 0);
    see(&params);
    assert_int_equal(see(&params), 103);
    signal_now.high = 102;
    assert_int_equal(see(&params), 102);
}

static void test_what_is_out_of_reach_is_not_tried(void **state)
{
    (void)state;
    traffic(4000, 1, 100 * 66, 0);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(see(&params), 100);
    traffic(4000, 1, 100 * 60, 0);
    assert_int_equal(see(&params), 110);
}

static void test_cold_and_idle_for_two_windows(void **state)
{
    (void)state;
    traffic(0, 0, 0, 50);
    assert_int_equal(see(&params), 100);
    assert_int_equal(see(&params), 90);
    traffic(0, 0, 0, 4); /* the lower of the last two windows */
    assert_int_equal(see(&params), 96);
    signal_now.low = 98;
    assert_int_equal(see(&params), 98);
}

/* One window as a learner passes it: observed, judged, and the next step taken. */
static enum law_verdict pass_window(void)
{
    law_observe(&track, &params, &window, &signal_now);
    const enum law_verdict verdict = law_judge(&track, &params, &signal_now);
    const uint32_t to = law_propose(&track, &params, &signal_now);
    if (verdict == LAW_NONE && to != signal_now.value)
        step(&params, to);
    return verdict;
}

static void grow_to_the_verdict(enum law_verdict expected)
{
    enum law_verdict verdict = LAW_NONE;
    for (unsigned i = 0; i < 30 && verdict == LAW_NONE; i++) {
        verdict = pass_window();
    }
    assert_int_equal(verdict, expected);
    assert_true(signal_now.value > 100);
    assert_int_equal(track.trial_from, 100);
}

static void test_growth_that_does_not_help_is_undone(void **state)
{
    (void)state;
    traffic(1000, 10, 100, 0);
    grow_to_the_verdict(LAW_UNDONE);
    signal_now.value = 100;
    unsigned waited = 0;
    while (see(&params) == 100 && waited < 100)
        waited++;
    assert_in_range(waited, 3, 4);
    grow_to_the_verdict(LAW_UNDONE);
    signal_now.value = 100;
    for (unsigned i = 0; i < 100; i++) { /* twice as long, and by then it rests */
        const uint32_t to = see(&params);
        assert_int_equal(to, 100);
        law_rest(&track, to != 100);
    }
    assert_true(track.frozen);
    traffic(4000, 10, 400, 0); /* other traffic wakes it */
    for (unsigned i = 0; i < 20 && track.frozen; i++)
        see(&params);
    assert_int_equal(see(&params), 110);
}

/* A block less per turn for each object: the burst's way. */
static void test_growth_that_helps_bursts_is_confirmed(void **state)
{
    (void)state;
    enum law_verdict verdict = LAW_NONE;
    for (unsigned i = 0; i < 30 && verdict == LAW_NONE; i++) {
        traffic(1000, 1, 2000 - signal_now.value, 0);
        verdict = pass_window();
    }
    assert_int_equal(verdict, LAW_CONFIRMED);
}

/* The same where a turn takes three windows: growth begins before one has been seen whole, and is judged from then on. */
static void test_growth_on_long_turns_is_confirmed(void **state)
{
    (void)state;
    enum law_verdict verdict = LAW_NONE;
    unsigned windows = 0;
    for (; windows < 30 && verdict == LAW_NONE; windows++) {
        const bool has_turned = windows % 3 == 0;
        traffic(5000, has_turned, has_turned && windows > 3 ? 7500 - signal_now.value : 0, 0);
        verdict = pass_window();
    }
    assert_int_equal(verdict, LAW_CONFIRMED);
    assert_in_range(windows, 8, 12);
    assert_int_equal(track.trial_from, 100);
    assert_true(signal_now.value > 200);
}

/* The same depth each turn, but fewer turns a second: the way of steady traffic to and fro. */
static void test_growth_that_makes_turns_rarer_is_confirmed(void **state)
{
    (void)state;
    enum law_verdict verdict = LAW_NONE;
    for (unsigned i = 0; i < 30 && verdict == LAW_NONE; i++) {
        const struct law_window w = {.moved_blocks = 10000,
                                     .passed_ns = 1000000ull * signal_now.value * signal_now.value / 10000};
        traffic(5000, 40, 125, 0);
        law_observe(&track, &params, &w, &signal_now);
        verdict = law_judge(&track, &params, &signal_now);
        uint32_t to = law_propose(&track, &params, &signal_now);
        if (verdict == LAW_NONE && to != signal_now.value)
            step(&params, to);
    }
    assert_int_equal(verdict, LAW_CONFIRMED);
    assert_true(law_measured(&track) < track.trial_rate * 3 / 4);
}

static void test_shrinking_that_harms_is_undone(void **state)
{
    (void)state;
    traffic(0, 0, 0, 50);
    see(&params);
    step(&params, see(&params)); /* 90 */
    step(&params, see(&params)); /* 81 */
    step(&params, see(&params)); /* 73 */
    assert_int_equal(signal_now.value, 73);
    traffic(2000, 20, 10, 0);
    see(&params);
    assert_int_equal(law_judge(&track, &params, &signal_now), LAW_UNDONE);
    assert_int_equal(track.trial_from, 90); /* the last two steps */
    signal_now.value = 90;
    traffic(0, 0, 0, 50);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(law_concede(&track, &params, &signal_now), 90); /* held: not for other bins either */
}

static void test_shrinking_that_does_no_harm_is_confirmed(void **state)
{
    (void)state;
    traffic(0, 0, 0, 50);
    see(&params);
    step(&params, see(&params));
    traffic(0, 0, 0, 0);
    see(&params);
    assert_int_equal(law_judge(&track, &params, &signal_now), LAW_NONE);
    see(&params);
    assert_int_equal(law_judge(&track, &params, &signal_now), LAW_CONFIRMED);
}

static void test_observing_takes_no_step(void **state)
{
    (void)state;
    struct law_params observing = params;
    observing.observe = true;
    traffic(1000, 10, 100, 0);
    see(&observing);
    const uint32_t to = see(&observing);
    assert_true(law_note_step(&track, &observing, &window, &signal_now, to) < track.rate);
    assert_int_equal(track.trial, LAW_AT_REST);
    assert_int_equal(see(&observing), 100); /* said; not again at once */
}

#define TEST(name) cmocka_unit_test_setup(name, fresh_track)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_thresholds_are_a_hysteresis_apart),
        TEST(test_hot_for_two_windows),
        TEST(test_one_way_traffic),
        TEST(test_a_cache_with_a_flow_does_not_shrink),
        TEST(test_a_ceiling_that_is_not_reached_stays),
        TEST(test_rare_round_trips_are_left_alone),
        TEST(test_a_step_is_no_wider_than_what_is_missing),
        TEST(test_what_is_out_of_reach_is_not_tried),
        TEST(test_cold_and_idle_for_two_windows),
        TEST(test_growth_that_does_not_help_is_undone),
        TEST(test_growth_that_helps_bursts_is_confirmed),
        TEST(test_growth_on_long_turns_is_confirmed),
        TEST(test_growth_that_makes_turns_rarer_is_confirmed),
        TEST(test_shrinking_that_harms_is_undone),
        TEST(test_shrinking_that_does_no_harm_is_confirmed),
        TEST(test_observing_takes_no_step),
    };
    return cmocka_run_group_tests_name("law", tests, NULL, NULL);
}
