/* The numbers of a snapshot against what was really allocated. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/entry.h"
#include "api/introspect.h"
#include "arena/spare.h"
#include "config/config.h"
#include "config/policy.h"
#include "learn/memory.h"
#include "lifecycle/lifecycle.h"
#include "os/os.h"
#include "stats/counters.h"
#include "tcache/tcache.h"

enum { BLOCK_COUNT = 5000, THREAD_COUNT = 4 };

#define MIB ((size_t)1 << 20)

static void *blocks[THREAD_COUNT][BLOCK_COUNT];

static void take(unsigned thread, size_t bytes)
{
    for (size_t i = 0; i < BLOCK_COUNT; i++) {
        blocks[thread][i] = api_malloc(bytes);
        assert_non_null(blocks[thread][i]);
    }
}

static void give_back(unsigned thread)
{
    for (size_t i = 0; i < BLOCK_COUNT; i++)
        api_free(blocks[thread][i]);
}

/* What must hold of any snapshot while nothing else happens. */
static void assert_adds_up(const struct snapshot *s)
{
    uint64_t used_bytes = 0;
    for (size_t bin = 0; bin < COUNTERS_BIN_COUNT; bin++) {
        const struct bin_counters *b = &s->bins[bin];
        used_bytes += (b->live_blocks + b->cached_blocks) * b->block_bytes;
        assert_true((b->live_blocks + b->cached_blocks) * b->block_bytes <= b->slab_bytes);
        assert_int_equal(b->refill_blocks, b->flush_blocks + b->collected_blocks + b->live_blocks + b->cached_blocks);
    }
    assert_int_equal(s->bin_bytes + s->transit_bytes + s->cached_bytes, used_bytes);
    assert_int_equal(s->live_bytes, s->bin_bytes + s->large_bytes + s->huge_bytes);
    assert_true(s->bin_bytes + s->cached_bytes + s->slab_free_bytes + s->large_bytes + s->free_dirty_bytes +
                    s->free_clean_bytes <= s->mapped_bytes);
    assert_int_equal(s->mapped_bytes, ((s->superslabs_mapped - s->superslabs_released) << SUPERSLAB_SHIFT) + spare_bytes());
    assert_int_equal(s->large_alloc_count - s->large_free_count, s->large_blocks + s->huge_blocks);
    assert_int_equal(s->held_bytes, s->resident_bytes + s->slab_purged_bytes + s->metadata_bytes);
}

static void test_one_thread(void **state)
{
    (void)state;
    const unsigned bin = bin_of_size(200);
    struct snapshot before, full, after;
    snapshot_read(&before);
    assert_adds_up(&before);
    take(0, 200);
    snapshot_read(&full);
    assert_adds_up(&full);
    assert_int_equal(full.live_blocks - before.live_blocks, BLOCK_COUNT);
    assert_int_equal(full.bins[bin].live_blocks - before.bins[bin].live_blocks, BLOCK_COUNT);
    assert_int_equal(full.live_bytes - before.live_bytes, BLOCK_COUNT * full.bins[bin].block_bytes);
    assert_int_equal(full.bins[bin].block_bytes, 224);
    give_back(0);
    snapshot_read(&after);
    assert_adds_up(&after);
    assert_int_equal(after.live_bytes, before.live_bytes);
    assert_int_equal(after.live_blocks, before.live_blocks);
    assert_true(after.bins[bin].flush_blocks > before.bins[bin].flush_blocks);
}

static void test_large_and_huge(void **state)
{
    (void)state;
    struct snapshot before, full, after;
    snapshot_read(&before);
    void *large = api_malloc(100000);
    void *huge = api_malloc(200 * MIB);
    snapshot_read(&full);
    assert_adds_up(&full);
    assert_int_equal(full.large_blocks, before.large_blocks + 1);
    assert_int_equal(full.large_bytes, before.large_bytes + api_usable_bytes(large));
    assert_int_equal(full.huge_blocks, before.huge_blocks + 1);
    assert_int_equal(full.huge_bytes, before.huge_bytes + 200 * MIB);
    assert_int_equal(full.live_blocks, before.live_blocks + 2);
    assert_true(full.resident_bytes >= full.huge_bytes);
    api_free(large);
    api_free(huge);
    snapshot_read(&after);
    assert_adds_up(&after);
    assert_int_equal(after.live_bytes, before.live_bytes);
    assert_true(after.metadata_bytes > 0);
}

static void test_limits(void **state)
{
    (void)state;
    struct snapshot s;
    policy_start(config_get());
    snapshot_read(&s);
    assert_int_equal(s.memory_limit_bytes, 0);
    assert_int_equal(s.cache_bound_bytes, 0);
    assert_int_equal(s.entitled_bytes, tcache_entitled_bytes());
    assert_true(s.entitled_bytes != 0);
    store_relaxed(&policy_live.memory_limit_bytes, 700 * MIB);
    budgets_apply(&(struct os_limits){.memory_bytes = 64 * MIB, .cpu_count = 5});
    snapshot_read(&s);
    assert_int_equal(s.memory_limit_bytes, 700 * MIB);
    assert_int_equal(s.usable_bytes, 64 * MIB);
    assert_int_equal(s.cpu_count, 5);
    assert_int_equal(s.cache_bound_bytes, 4 * MIB);
    assert_int_equal(s.retained_bound_bytes, 8 * MIB);
    policy_start(config_get());
}

/* Every second page of 4 KiB holds a survivor. */
static void test_pages_inside_slabs(void **state)
{
    (void)state;
    if (os_page_bytes() != 4096)
        skip();
    struct snapshot before, purged, after;
    take(0, 4096);
    for (size_t i = 0; i < BLOCK_COUNT; i++)
        *(char *)blocks[0][i] = 1;
    for (size_t i = 0; i < BLOCK_COUNT; i += 2)
        api_free(blocks[0][i]);
    snapshot_read(&before);
    const size_t given_back = api_purge();
    snapshot_read(&purged);
    assert_adds_up(&purged);
    const uint64_t pages = purged.pages_purged - before.pages_purged;
    assert_in_range(pages, BLOCK_COUNT / 2 - 64, BLOCK_COUNT / 2 + 64);
    assert_true(given_back >= pages * 4096);
    assert_int_equal(purged.purged_bytes - before.purged_bytes, given_back);
    assert_int_equal(purged.slab_purged_bytes - before.slab_purged_bytes, pages * 4096);
    assert_true(purged.slab_purged_bytes <= purged.slab_free_bytes);
    assert_true(purged.resident_bytes + pages * 4096 <= before.resident_bytes);
    for (size_t i = 0; i < BLOCK_COUNT; i += 2)
        blocks[0][i] = api_malloc(4096);
    snapshot_read(&after);
    assert_adds_up(&after);
    assert_in_range(after.pages_woken - purged.pages_woken, BLOCK_COUNT / 2 - 64, pages);
    assert_int_equal(after.pages_purged, purged.pages_purged);
    assert_int_equal(purged.slab_purged_bytes - after.slab_purged_bytes, (after.pages_woken - purged.pages_woken) * 4096);
    give_back(0);
}

static void *taking_thread(void *number)
{
    take((unsigned)(uintptr_t)number, 64);
    return NULL;
}

static void *freeing_thread(void *number)
{
    give_back((unsigned)(uintptr_t)number);
    return NULL;
}

static void run_all(void *(*body)(void *))
{
    pthread_t threads[THREAD_COUNT];
    for (uintptr_t i = 0; i < THREAD_COUNT; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, body, (void *)i), 0);
    for (size_t i = 0; i < THREAD_COUNT; i++)
        pthread_join(threads[i], NULL);
}

/* Blocks of threads that are gone, freed by others that are gone as well. */
static void test_threads(void **state)
{
    (void)state;
    const unsigned bin = bin_of_size(64);
    struct snapshot before, full, after;
    snapshot_read(&before);
    run_all(taking_thread);
    snapshot_read(&full);
    assert_adds_up(&full);
    assert_int_equal(full.bins[bin].live_blocks - before.bins[bin].live_blocks, THREAD_COUNT * BLOCK_COUNT);
    assert_true(full.heaps > before.heaps);
    assert_true(full.heaps_parked > before.heaps_parked);
    assert_int_equal(full.heaps_attached, before.heaps_attached);

    give_back(0); /* remote for this thread; */
    snapshot_read(&after); /* what is still in transit is delivered first */
    assert_adds_up(&after);
    assert_int_equal(after.transit_bytes, 0);
    assert_int_equal(after.bins[bin].live_blocks - before.bins[bin].live_blocks, (THREAD_COUNT - 1) * BLOCK_COUNT);
    assert_int_equal(after.bins[bin].collected_blocks - before.bins[bin].collected_blocks, BLOCK_COUNT);
    take(0, 64);

    run_all(freeing_thread);
    snapshot_read(&after);
    assert_adds_up(&after);
    assert_int_equal(after.bins[bin].live_blocks, before.bins[bin].live_blocks);
    assert_int_equal(after.transit_bytes, 0);
    assert_true(after.delivered_blocks > before.delivered_blocks);
    assert_true(after.delivery_count <= after.delivered_blocks);
}

static uint32_t churn_goes_on; /* atomic */

static void *churning_thread(void *unused)
{
    void *held[100] = { NULL };
    for (unsigned i = 0; load_relaxed(&churn_goes_on) != 0; i++) {
        api_free(held[i % 100]);
        held[i % 100] = api_malloc(i * 37 % 5000);
    }
    for (size_t i = 0; i < 100; i++)
        api_free(held[i]);
    return unused;
}

/* Read while others work: no number goes wild, and no lock is left behind. */
static void test_under_load(void **state)
{
    (void)state;
    pthread_t threads[THREAD_COUNT];
    struct snapshot before, s;
    snapshot_read(&before);
    store_relaxed(&churn_goes_on, 1);
    for (size_t i = 0; i < THREAD_COUNT; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, churning_thread, NULL), 0);
    for (int i = 0; i < 300; i++) {
        snapshot_read(&s);
        assert_true(s.live_bytes < before.live_bytes + 64 * MIB);
        assert_true(s.cached_bytes < 64 * MIB);
        assert_true(s.slab_free_bytes <= s.mapped_bytes);
    }
    store_relaxed(&churn_goes_on, 0);
    for (size_t i = 0; i < THREAD_COUNT; i++)
        pthread_join(threads[i], NULL);
    snapshot_read(&s);
    assert_adds_up(&s);
    assert_int_equal(s.live_bytes, before.live_bytes);
}

/* What memory learning has done is what users are shown. */
static void test_memory_learning(void **state)
{
    (void)state;
    struct config config = *config_get();
    struct memory_totals totals;
    struct snapshot snapshot;
    config.mem_learn_window_ops = 100;
    memory_start(&config);
    take(0, 200);
    give_back(0);
    heap_report_moved(&tcache_self()->heap);
    memory_tick(os_clock_ms());
    store_relaxed(&policy_live.steer_to_full, 0);
    memory_read_totals(&totals);
    snapshot_read(&snapshot);
    assert_true(totals.windows != 0);
    assert_int_equal(snapshot.mem_learn_windows, totals.windows);
    assert_int_equal(snapshot.mem_learn_rollbacks, totals.rolled_back);
    assert_int_equal(snapshot.superslabs_made_huge, totals.made_huge);
    assert_int_equal(snapshot.superslabs_broken, totals.broken);
    assert_int_equal(snapshot.collapse_us, totals.collapse_us);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_thread),
        cmocka_unit_test(test_large_and_huge),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_pages_inside_slabs),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_under_load),
        cmocka_unit_test(test_memory_learning),
    };
    return cmocka_run_group_tests_name("snapshot", tests, NULL, NULL);
}
