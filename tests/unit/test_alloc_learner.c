#include "unit.h"

#include <stdlib.h>

#include "alloc_model.h"

static struct model m;
static struct alloc_snapshot last;

static int fresh_model(void **state)
{
    (void)state;
    model_init(&m);
    return 0;
}

static void windows(unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        model_window(&m, &last);
}

static unsigned count_of(enum learn_verdict verdict, enum learn_subject subject)
{
    unsigned count = 0;
    for (unsigned i = 0; i < m.decision_count; i++)
        count += m.decisions[i].verdict == verdict && m.decisions[i].subject == subject;
    return count;
}

static uint32_t largest_step(uint32_t value, uint32_t rate_ppm)
{
    const uint32_t step = (uint32_t)((uint64_t)value * rate_ppm / 1000000);
    return step == 0 ? 1 : step;
}

/* Every record obeys the bounds; bytes are given up before they are granted. */
static void check_bounds(const uint32_t cap_before[TINY_BIN_COUNT])
{
    int64_t left = (int64_t)last.budget_left_bytes;
    for (unsigned i = 0; i < m.decision_count; i++) {
        const struct learn_decision *d = &m.decisions[i];
        assert_true(d->from != d->to);
        if (d->subject == LEARN_KEEP_SLABS) {
            assert_true(d->to <= ALLOC_KEEP_SLABS_MAX);
            continue;
        }
        if (d->subject != LEARN_BIN_CAP)
            continue;
        const struct model_bin *b = &m.bins[d->place];
        const uint32_t high = b->ceiling < m.params.cap_max ? b->ceiling : m.params.cap_max;
        const uint32_t low = m.params.cap_min < high ? m.params.cap_min : high;
        const int64_t bytes = tiny_bin_bytes(d->place);
        if (d->verdict == LEARN_APPLIED) {
            assert_int_equal(d->from, cap_before[d->place]);
            assert_in_range(labs((long)d->to - (long)d->from), 1, largest_step((uint32_t)d->from, m.params.law.rate_ppm));
            assert_true(d->to < d->from || d->to <= high);
            assert_true(d->to > d->from || d->to >= low);
            left -= ((int64_t)d->to - (int64_t)d->from) * bytes;
            assert_true(d->to < d->from || left >= 0);
        } else if (d->verdict == LEARN_ROLLED_BACK) {
            assert_int_equal(d->to, cap_before[d->place]);
            left += d->from < d->to ? ((int64_t)d->to - (int64_t)d->from) * bytes : 0;
        }
    }
}

static void checked_windows(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        uint32_t before[TINY_BIN_COUNT];
        for (unsigned bin = 0; bin < TINY_BIN_COUNT; bin++)
            before[bin] = m.bins[bin].cap;
        model_window(&m, &last);
        check_bounds(before);
    }
}

static void test_nothing_is_decided_while_all_fits(void **state)
{
    (void)state;
    m.bins[3].width = 250; /* of 256: nothing is idle but a few */
    m.params.cap_min = 256;
    for (unsigned i = 0; i < 100; i++) {
        windows(1);
        assert_int_equal(m.decision_count, 0);
    }
}

/* Two hot windows before the first step; then one each window, until the burst fits. */
static void test_growth(void **state)
{
    (void)state;
    m.bins[3].width = 1000;
    windows(1);
    assert_int_equal(m.decision_count, 0);
    windows(1);
    assert_int_equal(m.decision_count, 1);
    assert_int_equal(m.decisions[0].subject, LEARN_BIN_CAP);
    assert_int_equal(m.decisions[0].verdict, LEARN_APPLIED);
    assert_int_equal(m.decisions[0].place, 3);
    assert_int_equal(m.decisions[0].from, 256);
    assert_int_equal(m.decisions[0].to, 281);
    assert_int_equal(m.decisions[0].heap, 2);
    assert_int_equal(m.decisions[0].window, 2);
    assert_true(m.decisions[0].predicted < m.decisions[0].before);
    assert_true(m.decisions[0].evidence[0] != 0 && m.decisions[0].evidence[1] != 0);
    bool confirmed = false;
    for (unsigned i = 0; i < 48; i++) {
        windows(1);
        assert_int_equal(count_of(LEARN_ROLLED_BACK, LEARN_BIN_CAP), 0);
        confirmed |= count_of(LEARN_CONFIRMED, LEARN_BIN_CAP) != 0;
    }
    assert_true(confirmed);
    assert_in_range(m.bins[3].cap, 980, 1010);
}

/* What outgrows the processor's cache is worth having only for a program that does little but allocate. */
static void test_large_magazines_must_be_worth_it(void **state)
{
    (void)state;
    enum { CHEAP = 256 * 1024 / 64 };
    m.bins[3].width = 3 * CHEAP;
    m.think_ns = 500;
    checked_windows(300);
    assert_in_range(m.bins[3].cap, CHEAP - 100, CHEAP);
    m.think_ns = 0;
    checked_windows(600);
    assert_in_range(m.bins[3].cap, 2 * CHEAP, 3 * CHEAP + 100);
}

static void test_a_users_cap_is_a_ceiling(void **state)
{
    (void)state;
    m.bins[3].width = 5000;
    m.bins[3].ceiling = 300;
    m.bins[5].width = 5000;
    m.bins[5].ceiling = 256;
    checked_windows(100);
    assert_in_range(m.bins[3].cap, 256, 300);
    assert_int_equal(m.bins[5].cap, 256);
}

static void test_idle_objects_are_given_up(void **state)
{
    (void)state;
    m.bins[3].width = 100;
    m.bins[3].cap = 2000;
    checked_windows(60);
    assert_in_range(m.bins[3].cap, 95, 110);
}

/* So small a cache is not worth less: 32 objects, or as many as 8 KiB are. */
static void test_a_little_is_left(void **state)
{
    (void)state;
    const struct { unsigned bin; uint32_t least; } cases[] = {{3, 32}, {11, 32}, {15, 16}, {23, 8}};
    for (unsigned i = 0; i < ARRAY_COUNT(cases); i++)
        m.bins[cases[i].bin].width = 2;
    checked_windows(200);
    for (unsigned i = 0; i < ARRAY_COUNT(cases); i++)
        assert_int_equal(m.bins[cases[i].bin].cap, cases[i].least);
}

/* What no cap avoids: the trial is undone as a whole, waits twice as long after each attempt, and then rests. */
static void test_growth_without_effect_is_undone(void **state)
{
    (void)state;
    unsigned undone = 0, last_undone = 0, wait_before = 0;
    m.bins[3].deaf = 400;
    for (unsigned i = 1; i <= 50; i++) {
        windows(1);
        if (count_of(LEARN_ROLLED_BACK, LEARN_BIN_CAP) != 0) {
            assert_int_equal(m.bins[3].cap, 256);
            assert_true(undone == 0 || i - last_undone > wait_before);
            wait_before = undone == 0 ? 0 : i - last_undone;
            last_undone = i;
            undone++;
        }
    }
    assert_in_range(undone, 1, 3);
    assert_int_equal(m.bins[3].cap, 256);
    for (unsigned i = 0; i < 200; i++) {
        windows(1);
        assert_int_equal(m.decision_count, 0);
    }
    m.bins[3].deaf = 0; /* another program */
    m.bins[3].width = 2000;
    windows(50);
    assert_in_range(m.bins[3].cap, 1900, 2100);
}

/* As if the learner had shrunk what is needed: the trial is its own, the harm is not its expectation. */
static void test_a_harmful_decision_is_undone(void **state)
{
    (void)state;
    uint64_t seed = 99;
    for (unsigned round = 0; round < 50; round++) {
        model_init(&m);
        const unsigned bin = 1 + next_random(&seed) % (TINY_BIN_COUNT - 1);
        const uint32_t width = 200 + next_random(&seed) % 600;
        m.bins[bin].width = width;
        m.bins[bin].cap = width + 10;
        windows(20);
        const uint32_t good = m.bins[bin].cap;
        assert_in_range(good, width, width + 10);
        const uint32_t harmful = good * (30 + next_random(&seed) % 50) / 100;
        struct law_signal x = {.value = good, .low = m.params.cap_min, .high = 65535, .is_reached = true};
        const struct law_window w = {.moved_blocks = last.moved_blocks, .passed_ns = last.passed_ns};
        law_note_step(&m.learner.bins[bin], &m.params.law, &w, &x, harmful);
        m.bins[bin].cap = harmful;
        unsigned undone_after = 0;
        for (unsigned i = 1; i <= 3 && undone_after == 0; i++) {
            windows(1);
            undone_after = count_of(LEARN_ROLLED_BACK, LEARN_BIN_CAP) != 0 ? i : 0;
        }
        assert_in_range(undone_after, 1, 3);
        assert_in_range(m.bins[bin].cap, good, width + 10); /* the step before is undone too, if it was on trial */
    }
}

static void test_bins_compete_for_bytes(void **state)
{
    (void)state;
    m.bins[20].width = 100; /* of 1280 bytes, and few of them go to and fro */
    m.bins[20].cap = 99;
    m.bins[3].width = 3000;
    m.budget_bytes = 99 * 1280 + 256 * 64; /* all of it is given out */
    checked_windows(60);
    assert_true(m.bins[20].cap < 99);
    assert_true(m.bins[3].cap > 256);
    assert_true((uint64_t)m.bins[20].capacity * 1280 + (uint64_t)m.bins[3].capacity * 64 <= m.budget_bytes);
}

static void test_observing_changes_nothing(void **state)
{
    (void)state;
    m.params.law.observe = true;
    m.params.advanced = true;
    m.bins[3].width = 3000;
    m.slabs_cycled = 40;
    unsigned observed = 0;
    for (unsigned i = 0; i < 100; i++) {
        windows(1);
        for (unsigned d = 0; d < m.decision_count; d++) {
            assert_int_equal(m.decisions[d].verdict, LEARN_OBSERVED);
            observed++;
        }
    }
    assert_in_range(observed, 3, 40); /* said now and then, not in every window */
    assert_int_equal(m.bins[3].cap, 256);
    assert_int_equal(m.keep_slabs, 4);
}

static void test_empty_slabs(void **state)
{
    (void)state;
    m.bins[3].width = 200;
    m.slabs_cycled = 14; /* kept, they need not go to the arena and back */
    checked_windows(60);
    assert_in_range(m.keep_slabs, 9, 14);
    m.slabs_cycled = 0;
    checked_windows(60);
    assert_in_range(m.keep_slabs, 0, 1);
    m.slabs_cycled = 100;
    m.budget_bytes = 4 * 5 * ALLOC_SLAB_BYTES; /* a quarter of it: 5 slabs */
    checked_windows(60);
    assert_in_range(m.keep_slabs, 0, 5);
}

/* Refill batches are decided with `advanced` only, and stay below the user's. */
static void test_refill_batches(void **state)
{
    (void)state;
    m.bins[3].deaf = 1000; /* eight refills of 128 in a row */
    windows(40);
    assert_int_equal(m.bins[3].refill, 16);
    model_init(&m);
    m.params.advanced = true;
    m.params.law.rate_ppm = 500000;
    m.bins[3].deaf = 1000;
    m.bins[3].ceiling = 24;
    m.bins[3].cap = 24;
    unsigned undone = 0;
    for (unsigned i = 0; i < 60; i++) {
        windows(1);
        undone += count_of(LEARN_ROLLED_BACK, LEARN_BIN_REFILL);
        assert_int_equal(count_of(LEARN_CONFIRMED, LEARN_BIN_REFILL), 0); /* the model's batches do not depend on it */
        assert_in_range(m.bins[3].refill, 16, 24);
    }
    assert_in_range(undone, 1, 6);
}

/* ---- properties, from seeds ------------------------------------------------------------------------------------ */

static void random_program(uint64_t *seed)
{
    for (unsigned bin = 0; bin < TINY_BIN_COUNT; bin++) {
        m.bins[bin].width = next_random(seed) % 3 == 0 ? (uint32_t)(next_random(seed) % 900) : 0;
        m.bins[bin].deaf = next_random(seed) % 6 == 0 ? (uint32_t)(next_random(seed) % 300) : 0;
    }
    m.slabs_cycled = next_random(seed) % 20;
}

static void random_params(uint64_t *seed)
{
    static const uint32_t rates[] = {1000, 50000, 100000, 150000, 500000, 1000000};
    model_init(&m);
    m.params.law.rate_ppm = rates[next_random(seed) % ARRAY_COUNT(rates)];
    m.params.law.hysteresis = 2 + next_random(seed) % 8;
    m.params.law.cooldown_windows = 1 + next_random(seed) % 10;
    m.params.cap_min = 1 + next_random(seed) % 64;
    m.params.cap_max = m.params.cap_min + (uint32_t)(next_random(seed) % 4000);
    m.params.advanced = next_random(seed) % 2;
    m.window_ops = 100 + next_random(seed) % 20000;
    m.budget_bytes = 16384 + next_random(seed) % (8 << 20);
    m.random = *seed;
    m.noise_percent = 30;
    for (unsigned bin = 0; bin < TINY_BIN_COUNT; bin++) {
        m.bins[bin].cap = 1 + (uint32_t)(next_random(seed) % 1000);
        if (next_random(seed) % 2)
            m.bins[bin].ceiling = m.bins[bin].cap + (uint32_t)(next_random(seed) % 100);
    }
}

static void test_bounds_always_hold(void **state)
{
    (void)state;
    uint64_t seed = 12345;
    for (unsigned run = 0; run < 200; run++) {
        random_params(&seed);
        for (unsigned phase = 0; phase < 4; phase++) {
            random_program(&seed);
            checked_windows(40);
        }
    }
}

/* Whatever was in the memory, as after a fork in the middle of a window: the bounds hold. */
static void test_bounds_hold_with_any_memory(void **state)
{
    (void)state;
    uint64_t seed = 777;
    for (unsigned run = 0; run < 300; run++) {
        random_params(&seed);
        random_program(&seed);
        windows(10);
        uint64_t *words = (uint64_t *)&m.learner;
        for (unsigned i = 0; i < 40; i++)
            words[next_random(&seed) % (sizeof m.learner / 8)] = next_random(&seed) & 0x0101010101010101u;
        for (unsigned bin = 0; bin < TINY_BIN_COUNT; bin++)
            m.learner.bins[bin].trial = m.learner.refills[bin].trial = LAW_AT_REST;
        m.learner.keep_slabs.trial = LAW_AT_REST;
        checked_windows(20);
    }
}

static void test_stationary_traffic_settles(void **state)
{
    (void)state;
    static const uint32_t rates[] = {50000, 100000, 150000, 1000000};
    uint64_t seed = 4242;
    for (unsigned run = 0; run < 100; run++) {
        model_init(&m);
        m.params.law.rate_ppm = rates[run % ARRAY_COUNT(rates)];
        for (unsigned bin = 0; bin < TINY_BIN_COUNT; bin++) { /* within reach of 50 steps */
            m.bins[bin].width = next_random(&seed) % 3 == 0 ? 100 + (uint32_t)(next_random(&seed) % 400) : 0;
            m.bins[bin].deaf = next_random(&seed) % 6 == 0 ? (uint32_t)(next_random(&seed) % 300) : 0;
        }
        m.random = seed;
        m.noise_percent = 5;
        checked_windows(50);
        uint32_t settled[TINY_BIN_COUNT];
        for (unsigned bin = 0; bin < TINY_BIN_COUNT; bin++)
            settled[bin] = m.bins[bin].cap;
        for (unsigned i = 0; i < 100; i++) {
            checked_windows(1);
            for (unsigned bin = 0; bin < TINY_BIN_COUNT; bin++)
                assert_in_range(labs((long)m.bins[bin].cap - (long)settled[bin]), 0,
                                largest_step(settled[bin], m.params.law.rate_ppm));
        }
    }
}

/* Wide and narrow bursts in turn: within 50 windows the cap fits again, whichever way it had to go. */
static void test_recovery_after_a_phase_change(void **state)
{
    (void)state;
    uint64_t seed = 31337;
    for (unsigned run = 0; run < 30; run++) {
        model_init(&m);
        m.params.law.rate_ppm = run % 2 ? 100000 : 150000;
        for (unsigned phase = 0; phase < 6; phase++) {
            const uint32_t width = 200 + (uint32_t)(next_random(&seed) % 1400);
            m.bins[3].width = width;
            checked_windows(50);
            assert_in_range(m.bins[3].cap, width * 9 / 10, width * 6 / 5 + 8);
        }
    }
}

#define TEST(name) cmocka_unit_test_setup(name, fresh_model)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_nothing_is_decided_while_all_fits),
        TEST(test_growth),
        TEST(test_large_magazines_must_be_worth_it),
        TEST(test_a_users_cap_is_a_ceiling),
        TEST(test_idle_objects_are_given_up),
        TEST(test_a_little_is_left),
        TEST(test_growth_without_effect_is_undone),
        TEST(test_a_harmful_decision_is_undone),
        TEST(test_bins_compete_for_bytes),
        TEST(test_observing_changes_nothing),
        TEST(test_empty_slabs),
        TEST(test_refill_batches),
        TEST(test_bounds_always_hold),
        TEST(test_bounds_hold_with_any_memory),
        TEST(test_stationary_traffic_settles),
        TEST(test_recovery_after_a_phase_change),
    };
    return cmocka_run_group_tests_name("alloc_learner", tests, NULL, NULL);
}
