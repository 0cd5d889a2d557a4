#define _GNU_SOURCE
#include "unit.h"

#include "api/entry.h"
#include "arena/usage.h"
#include "config/policy.h"
#include "lifecycle/lifecycle.h"

#define MIB ((uint64_t)1 << 20)

static uint64_t now_ms = 1000000;

static void allow(uint64_t memory_bytes)
{
    budgets_apply(&(struct os_limits){.memory_bytes = memory_bytes, .cpu_count = 3});
}

static int reset(void **state)
{
    (void)state;
    policy_start(config_get());
    tcache_reclaim(0);
    return 0;
}

static void retain(uint64_t bytes)
{
    void *block = api_malloc(bytes);
    memset(block, 1, bytes);
    api_free(block);
}

/* What the constructor asked for; a tick opens no file any more. */
static void test_asked_once_at_start(void **state)
{
    (void)state;
    struct os_limits limits;
    os_limits_read("", &limits);
    budgets_start();
    assert_int_equal(load_relaxed(&policy_live.usable_bytes), limits.memory_bytes);
    assert_int_equal(load_relaxed(&policy_live.cpu_count), limits.cpu_count);
    assert_int_equal(load_relaxed(&policy_live.retained_bytes), limits.memory_bytes / 8);
    allow(1024 * MIB);
    void *block = api_malloc(8 * MIB);
    budgets_tick(now_ms++);
    assert_int_equal(load_relaxed(&policy_live.usable_bytes), 1024 * MIB);
    policy_start(config_get()); /* as before the constructor: no limit is known, so none is near */
    retain(2 * MIB);
    budgets_tick(now_ms += 1000);
    assert_true(arena_free_resident_bytes() >= 2 * MIB);
    api_free(block);
}

static void test_the_least_limit_counts(void **state)
{
    (void)state;
    allow(512 * MIB);
    assert_int_equal(load_relaxed(&policy_live.usable_bytes), 512 * MIB);
    assert_int_equal(load_relaxed(&policy_live.cache_bytes), 32 * MIB);
    assert_int_equal(load_relaxed(&policy_live.retained_bytes), 64 * MIB);
    assert_true(load_relaxed(&policy_live.memory_limit_bytes) == NO_MEMORY_LIMIT); /* the system's limit is not ours */
    store_relaxed(&policy_live.memory_limit_bytes, 256 * MIB);
    allow(512 * MIB);
    assert_int_equal(load_relaxed(&policy_live.usable_bytes), 256 * MIB);
    assert_int_equal(load_relaxed(&policy_live.cache_bytes), 16 * MIB);
    store_relaxed(&policy_live.memory_limit_bytes, NO_MEMORY_LIMIT);
    allow(OS_NO_LIMIT);
    assert_int_equal(load_relaxed(&policy_live.cache_bytes), NO_CACHE_BOUND);
    assert_int_equal(load_relaxed(&policy_live.retained_bytes), 0);
}

/* All that is free goes back, but not so often that a program at its limit does nothing else. */
static void test_near_the_limit(void **state)
{
    (void)state;
    void *live = api_malloc(20 * MIB);
    allow(1024 * MIB);
    retain(2 * MIB);
    assert_true(arena_free_resident_bytes() >= 2 * MIB);
    now_ms += 1000;
    budgets_tick(now_ms);
    assert_true(arena_free_resident_bytes() >= 2 * MIB); /* far from it */
    allow(usage_bytes() + 2 * MIB);
    budgets_tick(now_ms);
    assert_true(arena_free_resident_bytes() < MIB);
    retain(2 * MIB);
    budgets_tick(now_ms + 99);
    assert_true(arena_free_resident_bytes() >= 2 * MIB);
    budgets_tick(now_ms + 100);
    assert_true(arena_free_resident_bytes() < MIB);
    api_free(live);
}

static struct heap many[150];

static unsigned with_an_empty_slab(void)
{
    unsigned count = 0;
    for (unsigned i = 0; i < ARRAY_COUNT(many); i++)
        count += many[i].empty_count != 0;
    return count;
}

/* A tick is somebody's malloc: the heaps are visited a part at a time. */
static void test_near_the_limit_with_many_heaps(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ARRAY_COUNT(many); i++) {
        void *block;
        lock_init(&many[i].lock, LOCK_HEAP);
        assert_true(heap_register(&many[i]));
        assert_int_equal(heap_refill(&many[i], 5, &block, 1), 1);
        heap_flush(&many[i], 5, &block, 1);
    }
    assert_int_equal(with_an_empty_slab(), ARRAY_COUNT(many));
    allow(usage_bytes() + MIB / 8);
    now_ms += 1000;
    for (unsigned before = ARRAY_COUNT(many), rounds = 0; before != 0; rounds++) {
        assert_true(rounds < 5);
        budgets_tick(++now_ms); /* a round that is under way waits for no period */
        allow(usage_bytes() + MIB / 8);
        const unsigned after = with_an_empty_slab();
        assert_true(after < before && before - after <= 64);
        before = after;
    }
}

static int start(void **state)
{
    (void)state;
    return process_start() ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_asked_once_at_start, reset),
        cmocka_unit_test_setup(test_the_least_limit_counts, reset),
        cmocka_unit_test_setup(test_near_the_limit, reset),
        cmocka_unit_test_setup(test_near_the_limit_with_many_heaps, reset),
    };
    return cmocka_run_group_tests_name("budgets", tests, start, NULL);
}
