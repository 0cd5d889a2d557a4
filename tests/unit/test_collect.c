#include "unit.h"

#include "caches.h"
#include "learn/alloc_window.h"
#include "learn/collect.h"

static struct learned_profile learned; /* too large for a stack */

static void test_policy(void **state)
{
    (void)state;
    store_relaxed(&policy_live.decay_ms, 77);
    store_relaxed(&policy_live.prewarm_superslabs, 3);
    learn_collect(&learned);
    assert_int_equal(learned.policy.decay_floor_bytes, config_get()->decay_floor_bytes);
    assert_int_equal(learned.policy.decay_rate_bytes, config_get()->decay_rate_bytes);
    assert_int_equal(learned.policy.decay_ms, 77);
    assert_int_equal(learned.policy.prewarm_superslabs, 3);
    assert_int_equal(learned.policy.thread_cache_bytes, config_get()->thread_cache_bytes);
    assert_int_equal(learned.policy.retained_superslabs, RETAIN_ALL_SUPERSLABS);
}

enum { BIN = 9, BLOCKS = 400 };

/* Bursts that a first magazine cannot hold. */
static void work(struct tcache *t, unsigned rounds)
{
    static void *blocks[BLOCKS];
    for (unsigned round = 0; round < rounds; round++) {
        for (unsigned i = 0; i < BLOCKS; i++)
            blocks[i] = cache_take(t, BIN);
        for (unsigned i = 0; i < BLOCKS; i++)
            cache_give(t, BIN, blocks[i]);
    }
}

static void test_caches(void **state)
{
    (void)state;
    learn_collect(&learned);
    assert_int_equal(learned.bins[BIN].cache_count, 0);
    struct tcache *busy = new_cache(), *quiet = new_cache();
    work(busy, 20);
    void *one = cache_take(quiet, BIN);
    learn_collect(&learned);
    const struct learn_bin *bin = &learned.bins[BIN];
    assert_int_equal(bin->cache_count, 2);
    assert_int_equal(bin->sample_count, 2);
    assert_int_equal(bin->samples[0].cap, quiet->bins[BIN].room);
    assert_int_equal(bin->samples[0].misses, 1);
    assert_int_equal(bin->samples[1].cap, busy->bins[BIN].room);
    assert_int_equal(bin->samples[1].misses, busy->heap.bins[BIN].refill_count);
    assert_int_equal(bin->samples[1].blocks, busy->heap.bins[BIN].refill_blocks);
    cache_give(quiet, BIN, one);

    /* What was earned is remembered while the bin lies idle. */
    const uint32_t earned = busy->bins[BIN].room;
    tcache_close_idle(busy);
    tcache_close_idle(busy);
    assert_false(busy->bins[BIN].opened);
    assert_true(busy->bins[BIN].capacity < earned);
    learn_collect(&learned);
    assert_int_equal(learned.bins[BIN].samples[1].cap, earned);
}

static void test_checked_caches_say_nothing(void **state)
{
    (void)state;
    struct tcache *t = new_cache();
    learn_collect(&learned);
    const uint32_t before = learned.bins[BIN].cache_count;
    t->checked = true;
    cache_give(t, BIN, cache_take(t, BIN));
    learn_collect(&learned);
    assert_int_equal(learned.bins[BIN].cache_count, before);
}

/* With learning on, what counts is the ceiling that was learned, whatever the magazine has come to. The configuration is
 * read once, so it takes a process of its own. */
static void collect_with_learning(const void *unused)
{
    (void)unused;
    char *const arguments[] = {"test_collect", "ceilings", NULL};
    char *const environment[] = {"HAKMEM_ALLOC_LEARN=1", NULL};
    execve("/proc/self/exe", arguments, environment);
    abort();
}

static int look_at_ceilings(void)
{
    struct tcache *t = new_cache();
    work(t, 3);
    tcache_set_ceiling(t, BIN, 33);
    learn_collect(&learned);
    const struct learn_bin *bin = &learned.bins[BIN];
    if (bin->sample_count != 1 || bin->samples[0].cap != 33 || t->bins[BIN].room <= 33)
        return 1;
    work(t, 200);
    struct alloc_learn_totals totals;
    alloc_learn_read_totals(&totals);
    learn_collect(&learned);
    if (totals.windows == 0 || learned.windows != totals.windows)
        return 1;
    tcache_set_ceiling(t, BIN, 33);
    /* Lowered while the program took its data apart: what it was when the bin refilled counts. */
    t->bins[BIN].cap_weight = 3;
    t->bins[BIN].cap_sum = 3 * 50;
    learn_collect(&learned);
    if (bin->sample_count != 1 || bin->samples[0].cap != 50)
        return 1;
    /* Raised until there were no misses: what it missed under is too little. */
    tcache_set_ceiling(t, BIN, 600);
    learn_collect(&learned);
    return bin->sample_count == 1 && bin->samples[0].cap == 600 ? 0 : 1;
}

static void test_learned_ceilings(void **state)
{
    (void)state;
    struct captured said;
    capture_child(&said, collect_with_learning, NULL);
    assert_int_equal(said.status, 0);
}

struct worker {
    uint32_t stop, rounds; /* atomic */
};

static void *keep_working(void *argument)
{
    struct worker *worker = argument;
    struct tcache *t = new_cache();
    while (load_relaxed(&worker->stop) == 0) {
        work(t, 1);
        fetch_add_relaxed(&worker->rounds, 1);
    }
    return NULL;
}

/* Beside a thread that works: for the race detector. */
static void test_concurrently(void **state)
{
    (void)state;
    struct worker worker = {0};
    pthread_t thread;
    start_thread(&thread, keep_working, &worker);
    assert_true(WAIT_UNTIL(load_relaxed(&worker.rounds) > 0));
    for (unsigned i = 0; i < 200; i++)
        learn_collect(&learned);
    store_relaxed(&worker.stop, 1);
    pthread_join(thread, NULL);
    learn_collect(&learned);
    assert_true(learned.bins[BIN].cache_count >= 3);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "ceilings") == 0)
        return look_at_ceilings();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_policy, reset_policy),
        cmocka_unit_test(test_caches),
        cmocka_unit_test(test_checked_caches_say_nothing),
        cmocka_unit_test(test_learned_ceilings),
        cmocka_unit_test(test_concurrently),
    };
    return cmocka_run_group_tests_name("collect", tests, NULL, NULL);
}
