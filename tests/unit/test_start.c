#include "unit.h"

#include "api/entry.h"
#include "arena/arena_internal.h"
#include "base/tick.h"
#include "config/policy.h"
#include "lifecycle/lifecycle.h"
#include "os/os.h"

static void test_everything_is_up(void **state)
{
    (void)state;
    assert_true(process_start());
    assert_true(window.base != 0);
    assert_true(window.limit != 0);
    assert_true(config_get()->is_sealed);
    assert_int_equal(load_relaxed(&policy_live.decay_ms), config_get()->decay_ms);
    assert_int_equal(load_relaxed(&policy_live.thread_cache_bytes), config_get()->thread_cache_bytes);
    assert_int_equal(stray_heap.id, 1);
    assert_ptr_equal(heap_by_id(1), &stray_heap);
    assert_true(thread_is_first());
}

/* Nothing is mapped for blocks before the first one is asked for. */
static void test_start_maps_no_superslab(void **state)
{
    (void)state;
    struct arena_totals t;
    arena_read_totals(&t);
    assert_int_equal(t.superslabs_mapped, 0);
    assert_int_equal(heap_count(), 1);
    api_free(api_malloc(1));
    arena_read_totals(&t);
    assert_int_equal(t.superslabs_mapped, 1);
    assert_int_equal(heap_count(), 2);
}

static void *start_again(void *argument)
{
    uint32_t *done = argument;
    if (process_start() && !thread_is_first())
        fetch_add_relaxed(done, 1);
    return NULL;
}

static void test_starting_again_changes_nothing(void **state)
{
    (void)state;
    const uintptr_t base = window.base;
    const uint32_t heaps = heap_count();
    uint32_t done = 0;
    assert_true(process_start());
    run_threads(4, start_again, &done, 0);
    assert_int_equal(done, 4);
    assert_int_equal(window.base, base);
    assert_int_equal(heap_count(), heaps);
    assert_true(lock_try(lifecycle_lock()));
    lock_release(lifecycle_lock());
}

/* The periodic work that start registers: free pages decay, and heaps without a thread are aged. */
static void test_ticks_are_registered(void **state)
{
    (void)state;
    void *block;
    assert_int_equal(heap_refill(&stray_heap, 23, &block, 1), 1);
    heap_flush(&stray_heap, 23, &block, 1);
    char *large = api_malloc(16 << 20); /* well above what decay leaves */
    memset(large, 1, 16 << 20);
    api_free(large);
    struct arena_totals before, after;
    arena_read_totals(&before);
    uint64_t now_ms = os_clock_ms() + 1000000;
    for (unsigned i = 0; i < 8; i++)
        tick_run(now_ms += config_get()->decay_ms + TICK_PERIOD_MS);
    arena_read_totals(&after);
    assert_true(after.purged_bytes >= before.purged_bytes + (8 << 20));
    assert_int_equal(stray_heap.bins[23].slab_count, 0);
}

/* The constructor registers the handlers: fork and exec in any program work, and pay nothing for it. */
static void look_at_pending(void *argument)
{
    (void)argument;
    REQUIRE(process_start());
    REQUIRE(lock_try(lifecycle_lock()));
    lock_release(lifecycle_lock());
    REQUIRE(lock_try(arena_lock()));
    lock_release(arena_lock());
}

static void test_child_is_started_too(void **state)
{
    (void)state;
    assert_child_passes(look_at_pending, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything_is_up),
        cmocka_unit_test(test_start_maps_no_superslab),
        cmocka_unit_test(test_starting_again_changes_nothing),
        cmocka_unit_test(test_ticks_are_registered),
        cmocka_unit_test(test_child_is_started_too),
    };
    return cmocka_run_group_tests_name("start", tests, NULL, NULL);
}
