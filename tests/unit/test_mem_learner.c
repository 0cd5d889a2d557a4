/* The memory learner over worlds of the test's own: no allocator, no kernel, no clock. */
#include "unit.h"

#include "learn/mem_learner.h"

#define WORLD_MAX 64u
#define WINDOW_MS 1000u

struct world {
    struct mem_learner learner;
    struct mem_params params;
    struct mem_track tracks[WORLD_MAX];
    struct {
        bool is_mapped, is_huge, is_unproven, is_draining;
        uint32_t used_bytes, claimed_bytes;
    } superslabs[WORLD_MAX];
    uint64_t window;
    uint32_t mapped, released; /* in this window */
    uint64_t decayed, refaulted;
    uint32_t decay_ms, retained, prewarm;
    bool huge_birth;
    struct learn_decision last[MEM_DECISIONS_MAX];
    unsigned decided;
    unsigned changes; /* decisions carried out */
};

static struct world w;

static int fresh(void **state)
{
    (void)state;
    w = (struct world){
        .params = {.threshold_ppm = 800000, .cooldown_windows = 8, .decay_ms = 1000, .retained = MEM_RETAIN_ALL},
        .decay_ms = 1000,
        .retained = MEM_RETAIN_ALL,
    };
    return 0;
}

static void add(uint32_t count, unsigned percent)
{
    for (uint32_t i = 0; i < WORLD_MAX && count != 0; i++) {
        if (w.superslabs[i].is_mapped)
            continue;
        w.superslabs[i].is_mapped = true;
        w.superslabs[i].is_huge = w.huge_birth;
        w.superslabs[i].claimed_bytes = MEM_SUPERSLAB_BYTES;
        w.superslabs[i].used_bytes = MEM_SUPERSLAB_BYTES / 100 * percent;
        w.mapped++;
        count--;
    }
    assert_int_equal(count, 0);
}

static void use(uint32_t superslab, unsigned percent)
{
    w.superslabs[superslab].used_bytes = MEM_SUPERSLAB_BYTES / 100 * percent;
}

static void carry_out(const struct learn_decision *d)
{
    if (d->verdict != LEARN_APPLIED && d->verdict != LEARN_ROLLED_BACK)
        return;
    const uint64_t to = d->verdict == LEARN_APPLIED ? d->to : d->from;
    w.changes++;
    if (d->subject == LEARN_PURGE_DELAY)
        w.decay_ms = (uint32_t)to;
    else if (d->subject == LEARN_RETAINED)
        w.retained = (uint32_t)to;
    else if (d->subject == LEARN_PREWARM)
        w.prewarm = (uint32_t)to;
    else if (d->place == 0)
        w.huge_birth = to != 0;
    else
        w.superslabs[d->place - 1].is_huge = to != 0;
}

/* SuperSlab i is called i + 1: 0 stands for those to come. */
static void look(struct mem_snapshot *s, uint32_t from)
{
    s->count = 0;
    for (uint32_t i = from; i < from + MEM_PLACES_MAX; i++) {
        const uint32_t claimed = w.superslabs[i].claimed_bytes, used = w.superslabs[i].used_bytes;
        assert_true(!w.superslabs[i].is_mapped || used <= claimed);
        s->places[s->count++] = (struct mem_place){
            .superslab = i + 1,
            .is_mapped = w.superslabs[i].is_mapped,
            .is_huge = w.superslabs[i].is_huge, .is_unproven = w.superslabs[i].is_unproven,
            .is_draining = w.superslabs[i].is_draining,
            .claimed_bytes = claimed,
            .used_bytes = used,
            .resident_bytes = w.superslabs[i].is_huge ? MEM_SUPERSLAB_BYTES : claimed,
            .track = &w.tracks[i],
        };
    }
}

/* What holds of every decision in every world. */
static void check(const struct learn_decision *d)
{
    assert_true(d->subject == LEARN_HUGE_PAGE || w.params.advanced);
    assert_true(d->from != d->to);
    assert_true(d->verdict != LEARN_OBSERVED || w.params.observe);
    assert_true(d->verdict == LEARN_OBSERVED || !w.params.observe);
    if (d->subject == LEARN_PURGE_DELAY)
        assert_in_range(d->to, w.params.decay_ms / 4, w.params.decay_ms * 8);
    else if (d->subject == LEARN_RETAINED)
        assert_in_range(d->to, w.params.retained, 64);
    else if (d->subject == LEARN_PREWARM)
        assert_in_range(d->to, w.params.prewarm, 16);
    else
        assert_true(d->to <= 1 && d->from <= 1 && d->place <= WORLD_MAX);
}

static void step(void)
{
    w.window++;
    w.decided = 0;
    for (uint32_t from = 0; from < WORLD_MAX; from += MEM_PLACES_MAX) {
        struct mem_snapshot s = {.time_ms = w.window * WINDOW_MS, .window = w.window, .decay_ms = w.decay_ms,
                                 .retained = w.retained, .prewarm = w.prewarm, .huge_birth = w.huge_birth};
        for (uint32_t i = 0; i < WORLD_MAX; i++) {
            s.superslabs += w.superslabs[i].is_mapped;
            s.claimed_bytes += w.superslabs[i].is_mapped ? w.superslabs[i].claimed_bytes : 0;
        }
        if (from == 0) {
            s.superslabs_mapped = w.mapped;
            s.superslabs_released = w.released;
            s.decayed_bytes = w.decayed;
            s.refaulted_bytes = w.refaulted;
            w.mapped = w.released = 0;
        }
        look(&s, from);
        struct learn_decision decisions[MEM_DECISIONS_MAX];
        const unsigned count = mem_decide(&w.learner, &w.params, &s, decisions);
        assert_true(count <= MEM_DECISIONS_MAX);
        for (unsigned i = 0; i < count; i++) {
            check(&decisions[i]);
            carry_out(&decisions[i]);
            if (w.decided < MEM_DECISIONS_MAX)
                w.last[w.decided++] = decisions[i];
        }
        for (unsigned i = 0; i < s.count; i++)
            w.superslabs[s.places[i].superslab - 1].is_draining = s.places[i].is_draining;
    }
}

static void steps(unsigned count)
{
    while (count-- != 0)
        step();
}

static unsigned count_huge(void)
{
    unsigned count = 0;
    for (uint32_t i = 0; i < WORLD_MAX; i++)
        count += w.superslabs[i].is_mapped && w.superslabs[i].is_huge;
    return count;
}

/* ---- huge pages ---- */

static void test_dense_ones_get_huge_pages(void **state)
{
    (void)state;
    add(10, 85);
    add(10, 70);
    steps(MEM_PATIENCE_WINDOWS);
    assert_int_equal(count_huge(), 0); /* it may be passing */
    step();
    assert_int_equal(count_huge(), 10);
    for (unsigned i = 0; i < 10; i++)
        assert_true(w.superslabs[i].is_huge);
    assert_int_equal(w.last[0].verdict, LEARN_APPLIED);
    assert_int_equal(w.last[0].predicted, 125); /* percent: 1 / threshold */
    assert_int_equal(w.last[0].measured, LEARN_NOT_MEASURED);
    steps(MEM_TRIAL_WINDOWS);
    assert_int_equal(w.decided, 10);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(w.last[i].verdict, LEARN_CONFIRMED);
    /* Nothing changes: nothing is decided. */
    const unsigned changes = w.changes;
    steps(200);
    assert_int_equal(w.changes, changes);
}

static void test_the_threshold_is_obeyed(void **state)
{
    (void)state;
    w.params.threshold_ppm = 950000;
    add(4, 94);
    steps(50);
    assert_int_equal(count_huge(), 0);
    w.params.threshold_ppm = 930000;
    steps(50);
    assert_int_equal(count_huge(), 4);
}

/* In use does not mean touched: a large block may be hardly resident. */
static void test_untouched_memory_gets_none(void **state)
{
    (void)state;
    struct mem_snapshot s = {.superslabs = 1, .count = 1};
    struct learn_decision decisions[MEM_DECISIONS_MAX];
    for (s.window = 1; s.window < 100; s.window++) {
        s.places[0] = (struct mem_place){.superslab = 1, .is_mapped = true, .claimed_bytes = MEM_SUPERSLAB_BYTES,
                                         .used_bytes = MEM_SUPERSLAB_BYTES,
                                         .resident_bytes = MEM_SUPERSLAB_BYTES / 2, .track = &w.tracks[0]};
        s.claimed_bytes = MEM_SUPERSLAB_BYTES;
        assert_int_equal(mem_decide(&w.learner, &w.params, &s, decisions), 0);
    }
}

static void test_sparse_ones_are_broken(void **state)
{
    (void)state;
    add(8, 90);
    steps(30);
    assert_int_equal(count_huge(), 8);
    for (unsigned i = 0; i < 4; i++)
        use(i, 21); /* above a quarter of the threshold: four times apart */
    steps(50);
    assert_int_equal(count_huge(), 8);
    for (unsigned i = 0; i < 4; i++)
        use(i, 19);
    steps(MEM_PATIENCE_WINDOWS + 1);
    assert_int_equal(count_huge(), 4);
    steps(50);
    assert_int_equal(count_huge(), 4);
    for (unsigned i = 0; i < 4; i++)
        use(i, 90); /* the phase is over */
    steps(50);
    assert_int_equal(count_huge(), 8);
}

/* A huge page under what is hardly used: wrong however it came about. */
static void test_a_harmful_decision_is_undone(void **state)
{
    (void)state;
    add(4, 10);
    steps(20);
    assert_int_equal(count_huge(), 0);
    w.superslabs[2].is_huge = true;
    mem_note_huge(&w.tracks[2], w.window, MEM_SUPERSLAB_BYTES / 10);
    unsigned windows = 0;
    while (count_huge() != 0 && windows++ < 3)
        step();
    assert_int_equal(count_huge(), 0);
    assert_int_equal(w.last[0].verdict, LEARN_ROLLED_BACK);
    assert_int_equal(w.last[0].place, 3);
    assert_true(w.last[0].measured > 2 * w.last[0].predicted);
    /* It cools down, and longer each time. */
    use(2, 90);
    unsigned waits[3];
    for (unsigned i = 0; i < 3; i++) {
        for (waits[i] = 0; count_huge() == 0; waits[i]++)
            step();
        use(2, 10);
        steps(3);
        assert_int_equal(count_huge(), 0);
        use(2, 90);
    }
    assert_true(waits[1] > waits[0] && waits[2] > waits[1]);
    assert_true(waits[2] <= 50); /* the phase is recovered from all the same */
}

static void test_a_refusal_is_remembered(void **state)
{
    (void)state;
    add(1, 90);
    steps(MEM_PATIENCE_WINDOWS + 1);
    assert_true(w.superslabs[0].is_huge);
    w.superslabs[0].is_huge = false;
    mem_note_refused(&w.tracks[0], &w.params, w.window);
    steps(w.params.cooldown_windows - 1);
    assert_int_equal(count_huge(), 0);
    step();
    assert_int_equal(count_huge(), 1);
}

/* ---- births ---- */

static void grow(unsigned windows, unsigned percent)
{
    for (unsigned i = 0; i < windows; i++) {
        add(1, percent);
        step();
    }
}

static void test_growth_that_fills_is_born_huge(void **state)
{
    (void)state;
    grow(10, 95);
    assert_false(w.huge_birth); /* a small heap */
    grow(10, 95);
    assert_true(w.huge_birth);
    grow(10, 95);
    steps(MEM_PATIENCE_WINDOWS + 2);
    assert_int_equal(count_huge(), 30);
    const unsigned changes = w.changes;
    steps(100);
    assert_int_equal(w.changes, changes);
    /* One was unmapped, mapped anew and born huge between two looks: it has still to fill up. */
    w.superslabs[3].is_unproven = true;
    use(3, 30);
    step();
    assert_int_equal(w.tracks[3].trial, MEM_BORN);
    use(3, 95);
    w.superslabs[3].is_unproven = false;
    step();
    assert_int_equal(w.tracks[3].trial, MEM_AT_REST);
    /* The heap shrinks. */
    for (uint32_t i = 10; i < 30; i++)
        w.superslabs[i].is_mapped = false;
    w.released = 20;
    step();
    assert_false(w.huge_birth);
}

static void test_growth_that_does_not_fill_is_not(void **state)
{
    (void)state;
    grow(40, 50);
    assert_false(w.huge_birth);
    assert_int_equal(count_huge(), 0);
}

static void test_a_wrong_prediction_is_withdrawn(void **state)
{
    (void)state;
    grow(24, 95);
    assert_true(w.huge_birth);
    grow(4, 2);
    unsigned windows = 0;
    while (w.huge_birth && windows++ < 50)
        step();
    assert_false(w.huge_birth);
    steps(10);
    for (uint32_t i = 24; i < 28; i++)
        assert_false(w.superslabs[i].is_huge);
    assert_true(count_huge() >= 20);
}

/* ---- steering ---- */

static void test_sparse_ones_drain(void **state)
{
    (void)state;
    add(6, 90);
    add(6, 5);
    for (unsigned i = 6; i < 12; i++)
        w.superslabs[i].claimed_bytes = MEM_SUPERSLAB_BYTES / 10;
    steps(MEM_PATIENCE_WINDOWS + 2);
    unsigned draining = 0;
    for (unsigned i = 0; i < 12; i++) {
        draining += w.superslabs[i].is_draining;
        assert_true(i >= 6 || !w.superslabs[i].is_draining);
    }
    assert_int_equal(draining, 6);
    assert_int_equal(w.learner.draining, 6);
    /* Needed after all. */
    w.superslabs[7].claimed_bytes = MEM_SUPERSLAB_BYTES;
    w.superslabs[8].is_mapped = false;
    steps(2);
    assert_false(w.superslabs[7].is_draining);
    assert_int_equal(w.learner.draining, 4);
}

static void test_a_small_heap_does_not_drain(void **state)
{
    (void)state;
    add(3, 1);
    for (unsigned i = 0; i < 3; i++)
        w.superslabs[i].claimed_bytes = MEM_SUPERSLAB_BYTES / 10;
    steps(50);
    for (unsigned i = 0; i < 3; i++)
        assert_false(w.superslabs[i].is_draining);
}

/* ---- collapsing ---- */

static void test_collapsing_has_a_budget(void **state)
{
    (void)state;
    step();
    assert_int_equal(mem_collapse_budget(&w.learner, WINDOW_MS), 0);
    uint64_t spent_us = 0;
    const unsigned windows = 1000;
    for (unsigned i = 0; i < windows; i++) {
        step();
        const uint64_t budget_us = mem_collapse_budget(&w.learner, w.window * WINDOW_MS);
        assert_true(budget_us <= 5000);
        spent_us += budget_us;
        mem_note_collapse(&w.learner, w.window * WINDOW_MS, budget_us, false);
        assert_int_equal(mem_collapse_budget(&w.learner, w.window * WINDOW_MS), 0);
    }
    assert_true(spent_us <= (uint64_t)windows * WINDOW_MS * 1000 / 50);
    assert_true(spent_us >= windows * 1000);
}

static void test_a_refused_collapse_backs_off(void **state)
{
    (void)state;
    unsigned tries = 0;
    steps(2);
    for (unsigned i = 0; i < 1000; i++) {
        step();
        if (mem_collapse_budget(&w.learner, w.window * WINDOW_MS) != 0) {
            mem_note_collapse(&w.learner, w.window * WINDOW_MS, 10, true);
            tries++;
        }
    }
    assert_in_range(tries, 5, 30);
    w.window += 100;
    steps(2);
    mem_note_collapse(&w.learner, w.window * WINDOW_MS, 10, false);
    step();
    assert_true(mem_collapse_budget(&w.learner, w.window * WINDOW_MS) != 0);
}

/* ---- whatever comes ---- */

static void test_observing_changes_nothing(void **state)
{
    (void)state;
    w.params.observe = w.params.advanced = true;
    w.refaulted = w.decayed = 4 << 20;
    unsigned announced = 0;
    for (unsigned i = 0; i < 100; i++) {
        if (i < 30)
            add(1, i < 25 ? 95 : 3);
        step();
        announced += w.decided;
    }
    assert_int_equal(w.changes, 0);
    assert_int_equal(count_huge(), 0);
    assert_true(announced >= 25 && announced < 300); /* said, but not over and over */
    for (uint32_t i = 0; i < WORLD_MAX; i++)
        assert_false(w.superslabs[i].is_draining);
}

static void test_bounds_hold_in_random_worlds(void **state)
{
    (void)state;
    uint64_t random = 4711;
    w.params.advanced = true;
    w.params.retained = w.retained = 1;
    for (unsigned round = 0; round < 20000; round++) {
        const uint64_t draw = next_random(&random);
        const uint32_t at = (uint32_t)(draw % WORLD_MAX);
        const uint32_t claimed = (uint32_t)(draw >> 8) % (MEM_SUPERSLAB_BYTES + 1);
        if ((draw >> 40) % 16 == 0) {
            w.released += w.superslabs[at].is_mapped;
            w.mapped += !w.superslabs[at].is_mapped;
            w.superslabs[at].is_mapped = !w.superslabs[at].is_mapped;
            w.superslabs[at].is_huge = w.superslabs[at].is_mapped && w.huge_birth;
        }
        w.superslabs[at].claimed_bytes = claimed;
        w.superslabs[at].used_bytes = claimed / 100 * (uint32_t)((draw >> 32) % 101);
        w.decayed = (draw >> 45) % 16 << 18;
        w.refaulted = (draw >> 50) % 16 << 18;
        step(); /* which checks every decision */
        assert_in_range(w.decay_ms, 250, 8000);
        assert_in_range(w.retained, 1, 64);
        unsigned draining = 0, mapped = 0;
        for (uint32_t i = 0; i < WORLD_MAX; i++) {
            mapped += w.superslabs[i].is_mapped;
            draining += w.tracks[i].is_draining;
        }
        assert_int_equal(w.learner.draining, draining);
        assert_true(mapped <= WORLD_MAX);
    }
    assert_true(w.changes > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_dense_ones_get_huge_pages, fresh),
        cmocka_unit_test_setup(test_the_threshold_is_obeyed, fresh),
        cmocka_unit_test_setup(test_untouched_memory_gets_none, fresh),
        cmocka_unit_test_setup(test_sparse_ones_are_broken, fresh),
        cmocka_unit_test_setup(test_a_harmful_decision_is_undone, fresh),
        cmocka_unit_test_setup(test_a_refusal_is_remembered, fresh),
        cmocka_unit_test_setup(test_growth_that_fills_is_born_huge, fresh),
        cmocka_unit_test_setup(test_growth_that_does_not_fill_is_not, fresh),
        cmocka_unit_test_setup(test_a_wrong_prediction_is_withdrawn, fresh),
        cmocka_unit_test_setup(test_sparse_ones_drain, fresh),
        cmocka_unit_test_setup(test_a_small_heap_does_not_drain, fresh),
        cmocka_unit_test_setup(test_collapsing_has_a_budget, fresh),
        cmocka_unit_test_setup(test_a_refused_collapse_backs_off, fresh),
        cmocka_unit_test_setup(test_observing_changes_nothing, fresh),
        cmocka_unit_test_setup(test_bounds_hold_in_random_worlds, fresh),
    };
    return cmocka_run_group_tests_name("mem_learner", tests, NULL, NULL);
}
