/* The purge delay and the retained SuperSlabs, learned in worlds that answer as a program would. */
#include "unit.h"

#include "learn/mem_learner.h"

#define CONFIGURED_MS 1000u
#define WINDOW_MS 1000u

static struct mem_learner learner;
static struct mem_params params;
static uint32_t decay_ms, retained, prewarm;
static uint64_t window;
static unsigned verdicts[LEARN_VERDICT_COUNT];

static int fresh(void **state)
{
    (void)state;
    learner = (struct mem_learner){0};
    params = (struct mem_params){.threshold_ppm = 800000, .cooldown_windows = 8, .decay_ms = CONFIGURED_MS,
                                 .retained = MEM_RETAIN_ALL, .advanced = true};
    decay_ms = CONFIGURED_MS;
    retained = MEM_RETAIN_ALL;
    prewarm = 0;
    window = 0;
    memset(verdicts, 0, sizeof verdicts);
    return 0;
}

static unsigned step(struct mem_snapshot s)
{
    struct learn_decision decisions[MEM_NUMBER_DECISIONS_MAX];
    s.window = ++window;
    s.time_ms = window * WINDOW_MS;
    s.decay_ms = decay_ms;
    s.retained = retained;
    s.prewarm = prewarm;
    const unsigned count = mem_decide_numbers(&learner, &params, &s, 1, decisions);
    for (unsigned i = 0; i < count; i++) {
        const struct learn_decision *d = &decisions[i];
        uint32_t *value = d->subject == LEARN_PURGE_DELAY ? &decay_ms : d->subject == LEARN_RETAINED ? &retained : &prewarm;
        verdicts[d->verdict]++;
        if (d->verdict == LEARN_APPLIED)
            *value = (uint32_t)d->to;
        else if (d->verdict == LEARN_ROLLED_BACK)
            *value = (uint32_t)d->from;
    }
    return count;
}

/* A program that wants its memory again after `again_ms`: what decays earlier is regretted, what need not is not even given
 * back. Always some memory that is never wanted again. */
static unsigned step_program(uint32_t again_ms)
{
    struct mem_snapshot s = {.decayed_bytes = 1 << 20};
    if (decay_ms < again_ms) {
        s.decayed_bytes += 2 << 20;
        s.refaulted_bytes = 2 << 20;
    }
    return step(s);
}

/* Windows out of so many in which the delay is as long as the program needs it. Tries for less come in between. */
static unsigned count_served(uint32_t again_ms, unsigned windows)
{
    unsigned served = 0;
    while (windows-- != 0) {
        step_program(again_ms);
        served += decay_ms >= again_ms;
    }
    return served;
}

static void test_too_short_a_delay_is_lengthened(void **state)
{
    (void)state;
    assert_true(count_served(3500, 50) > 0);
    assert_true(count_served(3500, 200) > 160);
    assert_true(decay_ms <= 4000);
    assert_true(verdicts[LEARN_CONFIRMED] != 0);
}

static void test_an_idle_delay_is_shortened(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 50; i++)
        step_program(0);
    assert_int_equal(decay_ms, CONFIGURED_MS / 4);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(step_program(0), 0); /* it rests there */
}

/* No delay that may be learned helps this one: it stays where it was for nearly all of the time. */
static void test_what_does_not_help_is_undone(void **state)
{
    (void)state;
    unsigned elsewhere = 0;
    for (unsigned i = 0; i < 300; i++) {
        step_program(100 * CONFIGURED_MS);
        elsewhere += decay_ms != CONFIGURED_MS;
    }
    assert_true(verdicts[LEARN_ROLLED_BACK] >= 2);
    assert_true(elsewhere < 150);
    assert_in_range(decay_ms, CONFIGURED_MS, 2 * CONFIGURED_MS);
}

static void test_stationary_traffic_converges(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 60; i++)
        step_program(1500);
    unsigned moved = 0;
    for (unsigned i = 0; i < 200; i++) {
        const uint32_t before = decay_ms;
        step_program(1500);
        moved += decay_ms != before;
        assert_in_range(decay_ms, 1000, 4000);
    }
    assert_true(moved <= 24); /* a trial now and then, and back */
}

static void test_a_phase_change_is_recovered_from(void **state)
{
    (void)state;
    assert_true(count_served(7000, 200) > 100);
    for (unsigned i = 0; i < 50; i++)
        step_program(0);
    assert_true(decay_ms <= CONFIGURED_MS);
    for (unsigned i = 0; i < 100; i++)
        step_program(0);
    assert_true(count_served(1800, 50) > 0);
    assert_true(count_served(1800, 50) > 30);
}

static void test_a_harmful_delay_is_undone(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 20; i++)
        step((struct mem_snapshot){.decayed_bytes = 8 << 20, .refaulted_bytes = 1 << 20}); /* between the thresholds */
    assert_int_equal(decay_ms, CONFIGURED_MS);
    /* Injected, as though it had been decided. */
    learner.delay.trial = -1;
    learner.delay.trial_from = decay_ms;
    decay_ms = CONFIGURED_MS / 4;
    unsigned windows = 0;
    while (decay_ms != CONFIGURED_MS && windows++ < 3)
        step_program(500);
    assert_int_equal(decay_ms, CONFIGURED_MS);
    assert_int_equal(verdicts[LEARN_ROLLED_BACK], 1);
}

static void test_no_evidence_no_decision(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 500; i++) {
        assert_int_equal(step((struct mem_snapshot){.decayed_bytes = 0}), 0);
        params.decay_ms = i < 250 ? CONFIGURED_MS : 0; /* the user wants none: not to be learned */
    }
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(step((struct mem_snapshot){.decayed_bytes = 9 << 20, .refaulted_bytes = 9 << 20}), 0);
}

/* A program whose heap swings by eight SuperSlabs: those beyond the retained ones are unmapped and mapped again. */
static unsigned step_swing(uint32_t swing)
{
    const uint32_t again = retained < swing ? swing - retained : 0;
    return step((struct mem_snapshot){.superslabs_mapped = again, .superslabs_released = again});
}

static void test_swings_are_retained(void **state)
{
    (void)state;
    params.retained = retained = 1;
    for (unsigned i = 0; i < 50; i++)
        step_swing(8);
    assert_true(retained >= 6 && retained <= 16);
    for (unsigned i = 0; i < 400; i++)
        step_swing(0);
    assert_int_equal(retained, 1);
}

static void test_all_retained_is_left_alone(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(step((struct mem_snapshot){.superslabs_mapped = 9, .superslabs_released = 9}), 0);
    assert_int_equal(retained, MEM_RETAIN_ALL);
}

static unsigned step_heap(uint32_t superslabs)
{
    return step((struct mem_snapshot){.superslabs = superslabs, .claimed_bytes = (uint64_t)superslabs * MEM_SUPERSLAB_BYTES});
}

/* What the process never came down from may be made ready by the next one. */
static void test_prewarm_is_what_stays(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 200; i++)
        step_heap(10 + i % 5);
    assert_int_equal(prewarm, 8); /* two are there anyway */
    for (unsigned i = 0; i < 200; i++)
        assert_int_equal(step_heap(11 + i % 7), 0); /* about as many */
    for (unsigned i = 0; i < 200; i++)
        step_heap(1000);
    assert_int_equal(prewarm, 16);
    for (unsigned i = 0; i < 200; i++)
        step_heap(i % 50 == 0 ? 1 : 1000);
    assert_int_equal(prewarm, 0);
    params.prewarm = 4; /* the user wants so many */
    for (unsigned i = 0; i < 200; i++)
        step_heap(1);
    assert_int_equal(prewarm, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_too_short_a_delay_is_lengthened, fresh),
        cmocka_unit_test_setup(test_an_idle_delay_is_shortened, fresh),
        cmocka_unit_test_setup(test_what_does_not_help_is_undone, fresh),
        cmocka_unit_test_setup(test_stationary_traffic_converges, fresh),
        cmocka_unit_test_setup(test_a_phase_change_is_recovered_from, fresh),
        cmocka_unit_test_setup(test_a_harmful_delay_is_undone, fresh),
        cmocka_unit_test_setup(test_no_evidence_no_decision, fresh),
        cmocka_unit_test_setup(test_swings_are_retained, fresh),
        cmocka_unit_test_setup(test_all_retained_is_left_alone, fresh),
        cmocka_unit_test_setup(test_prewarm_is_what_stays, fresh),
    };
    return cmocka_run_group_tests_name("mem_numbers", tests, NULL, NULL);
}
