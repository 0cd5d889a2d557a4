/* The configuration is read once, before main: the program starts itself anew for each that it needs. */
#include "unit.h"

#include <stdlib.h>
#include <unistd.h>

#include "caches.h"
#include "learn/alloc_window.h"
#include "stats/counters.h"

enum { WINDOW = 2000, BIN = 3, USER_BIN = 12, USER_CAP = 100, USER_REFILL = 10, OTHER_BIN = 7 };

static void *held[20000];

static void burst(struct tcache *t, unsigned bin, unsigned width)
{
    for (unsigned i = 0; i < width; i++) {
        held[i] = cache_take(t, bin);
        assert_non_null(held[i]);
    }
    for (unsigned i = 0; i < width; i++)
        cache_give(t, bin, held[i]);
}

/* Blocks that only ever leave: windows go by, and no round trips. */
static void let_windows_pass(struct tcache *t, unsigned windows)
{
    for (unsigned i = 0; i < windows * WINDOW; i++)
        assert_non_null(cache_take(t, OTHER_BIN));
}

static uint64_t windows_so_far(void)
{
    struct alloc_learn_totals totals;
    alloc_learn_read_totals(&totals);
    return totals.windows;
}

static void test_params_are_the_knobs(void **state)
{
    (void)state;
    struct config config = *config_get();
    struct alloc_params params;
    config.alloc_learn_rate_ppm = 1;
    config.learn_threshold_ppm = 2;
    config.learn_hysteresis = 3;
    config.learn_cooldown_windows = 5;
    config.learn_cap_min = 6;
    config.learn_cap_max = 7;
    config.learn_advanced = true;
    config.learn_mode = LEARN_MODE_OBSERVE;
    alloc_params_from_config(&params, &config);
    assert_int_equal(params.law.rate_ppm, 1);
    assert_int_equal(params.law.share_ppm, 2);
    assert_int_equal(params.law.hysteresis, 3);
    assert_int_equal(params.law.cooldown_windows, 5);
    assert_int_equal(params.cap_min, 6);
    assert_int_equal(params.cap_max, 7);
    assert_true(params.advanced);
    assert_true(params.law.observe);
    config.learn_mode = LEARN_MODE_APPLY;
    alloc_params_from_config(&params, &config);
    assert_false(params.law.observe);
}

/* A look comes before a window is over by more than a batch, and not in every slow operation. */
static void test_windows_are_as_long_as_they_should(void **state)
{
    (void)state;
    struct tcache *t = new_cache();
    const uint64_t before = windows_so_far();
    let_windows_pass(t, 41);
    assert_in_range(windows_so_far() - before, 35, 40); /* the first only begins to count */
    assert_in_range(t->slow_left, 1, TICK_SLOW_OPERATIONS);
}

/* Round trips end once the ceiling is as wide as the burst; the magazine is really there. */
static void test_a_wide_burst_is_learned(void **state)
{
    (void)state;
    struct tcache *t = new_cache();
    assert_int_equal(magazine_ceiling(t, BIN), 512);
    for (unsigned i = 0; i < 300; i++) {
        burst(t, BIN, 1500);
        assert_true(cache_is_valid(t));
    }
    assert_in_range(magazine_ceiling(t, BIN), 1500, 1800);
    assert_int_equal(t->bins[BIN].capacity, magazine_ceiling(t, BIN));
    const uint64_t refills = t->heap.bins[BIN].refill_count;
    burst(t, BIN, 1500);
    assert_in_range(t->heap.bins[BIN].refill_count - refills, 0, 1);
    tcache_flush_all(t);
    assert_int_equal(t->heap.bins[BIN].outstanding, 0);
}

/* A miss now and then, for long, under one ceiling: the mean that is kept for exports is that ceiling. */
static void test_what_is_kept_for_exports_does_not_drift(void **state)
{
    (void)state;
    struct tcache *t = new_cache();
    tcache_set_ceiling(t, BIN, 40);
    for (unsigned i = 0; i < 80; i++) {
        for (unsigned block = 0; block < 30; block++)
            assert_non_null(cache_take(t, BIN));
        let_windows_pass(t, 1);
        const struct tcache_bin *b = &t->bins[BIN];
        assert_int_equal(b->ceiling, 40);
        assert_true(i < 4 || b->cap_weight != 0);
        if (b->cap_weight != 0)
            assert_int_equal((b->cap_sum + b->cap_weight / 2) / b->cap_weight, 40);
    }
}

/* What lies idle goes back to the slabs, and with it the ceiling. */
static void test_a_narrow_burst_gives_back(void **state)
{
    (void)state;
    struct tcache *t = new_cache();
    for (unsigned i = 0; i < 300; i++)
        burst(t, BIN, 1500);
    const uint32_t wide = magazine_count(t, BIN);
    assert_true(wide >= 1400);
    for (unsigned i = 0; i < 60; i++) {
        burst(t, BIN, 50);
        let_windows_pass(t, 1);
        assert_true(cache_is_valid(t));
    }
    assert_true(magazine_count(t, BIN) < wide / 2);
    assert_true(t->bins[BIN].capacity < wide / 2);
    burst(t, BIN, 50);
    assert_true(cache_is_valid(t));
}

static void test_the_users_ceiling_holds(void **state)
{
    (void)state;
    struct tcache *t = new_cache();
    for (unsigned i = 0; i < 300; i++) {
        burst(t, USER_BIN, 1500);
        assert_in_range(magazine_ceiling(t, USER_BIN), 1, USER_CAP);
        assert_in_range(t->bins[USER_BIN].refill, 1, USER_REFILL);
    }
}

static void test_the_budget_holds(void **state)
{
    (void)state;
    struct tcache *t = new_cache();
    store_relaxed(&policy_live.thread_cache_bytes, 1500 * bin_info(BIN)->block_bytes);
    uint32_t widest = 0; /* not what is left at the end: a growth that did not pay, by the clock of a busy machine, is undone */
    for (unsigned i = 0; i < 300; i++) {
        burst(t, BIN, 5000);
        assert_true(t->entitled_bytes <= 1500 * bin_info(BIN)->block_bytes);
        if (t->bins[BIN].capacity > widest)
            widest = t->bins[BIN].capacity;
    }
    assert_in_range(widest, 600, 1500);
}

static void *bursts_elsewhere(void *argument)
{
    for (unsigned i = 0; i < 60; i++)
        burst(argument, BIN, 3000);
    return NULL;
}

/* Whoever gets the cache next goes on with what it has learned; its clock begins anew. */
static void test_a_cache_changes_hands(void **state)
{
    (void)state;
    struct tcache *t = new_cache();
    for (unsigned i = 0; i < 100; i++)
        burst(t, BIN, 1500);
    const uint32_t learned = magazine_ceiling(t, BIN);
    assert_true(learned > 512);
    pthread_t thread;
    start_thread(&thread, bursts_elsewhere, t);
    pthread_join(thread, NULL);
    assert_true(magazine_ceiling(t, BIN) > learned);
    burst(t, BIN, 3000);
    assert_true(cache_is_valid(t));
}

static void test_statistics_know(void **state)
{
    (void)state;
    struct snapshot snapshot;
    snapshot_read(&snapshot);
    assert_true(snapshot.learn_windows != 0);
    assert_true(snapshot.learn_decisions != 0);
    assert_true(snapshot.learn_rollbacks <= snapshot.learn_decisions);
}

static void test_observing_decides_and_changes_nothing(void **state)
{
    (void)state;
    struct tcache *t = new_cache();
    for (unsigned i = 0; i < 300; i++)
        burst(t, BIN, 1500);
    struct alloc_learn_totals totals;
    alloc_learn_read_totals(&totals);
    assert_true(totals.windows != 0);
    assert_true(totals.decisions != 0);
    assert_int_equal(totals.rollbacks, 0);
    assert_int_equal(magazine_ceiling(t, BIN), 512);
    assert_int_equal(t->heap.spare_limit, HEAP_SPARE_MAX);
}

static void start_anew(char **argv, const char *mode)
{
    setenv("HAKMEM_ALLOC_LEARN", "1", 1);
    setenv("HAKMEM_ALLOC_LEARN_WINDOW", "2000", 1);
    setenv("HAKMEM_LEARN_ADVANCED", "1", 1);
    setenv("HAKMEM_TINY_TLS_CLASS_OVERRIDE", "C5:100:10", 1);
    setenv("HAKMEM_LEARN_MODE", mode, 1);
    execv("/proc/self/exe", argv);
    abort();
}

#define TEST(name) cmocka_unit_test_setup(name, reset_policy)

int main(int argc, char **argv)
{
    (void)argc;
    const char *mode = getenv("HAKMEM_LEARN_MODE");
    const struct CMUnitTest applying[] = {
        TEST(test_params_are_the_knobs),      TEST(test_windows_are_as_long_as_they_should),
        TEST(test_a_wide_burst_is_learned),   TEST(test_a_narrow_burst_gives_back),
        TEST(test_the_users_ceiling_holds),   TEST(test_the_budget_holds),
        TEST(test_a_cache_changes_hands),     TEST(test_what_is_kept_for_exports_does_not_drift),
        TEST(test_statistics_know),
    };
    const struct CMUnitTest observing[] = {TEST(test_observing_decides_and_changes_nothing)};
    if (mode == NULL)
        start_anew(argv, "apply");
    if (strcmp(mode, "observe") == 0)
        return cmocka_run_group_tests_name("alloc_window_observe", observing, NULL, NULL);
    const int failed = cmocka_run_group_tests_name("alloc_window", applying, NULL, NULL);
    if (failed == 0)
        start_anew(argv, "observe");
    return failed;
}
