#include "unit.h"

#include "arena/meta.h"
#include "arena/usage.h"
#include "caches.h"

static void test_first_arrays_are_small(void **state)
{
    (void)state;
    struct tcache *t = new_cache();
    void **lowest = t->bins[0].array, **highest = lowest;
    for (unsigned bin = 0; bin < BIN_COUNT; bin++) {
        const struct tcache_bin *b = &t->bins[bin];
        assert_in_range(b->capacity, 2, 16);
        assert_true(b->capacity <= magazine_ceiling(t, bin));
        assert_true(b->packed);
        assert_int_equal(magazine_count(t, bin), 0);
        assert_null(hot_pop(&t->hot.bins[bin]));
        if (b->array < lowest)
            lowest = b->array;
        if (b->array + b->capacity > highest)
            highest = b->array + b->capacity;
    }
    assert_true(cache_is_valid(t));
    assert_true((char *)highest - (char *)lowest <= 8192); /* one or two pages for all bins together */
    assert_int_equal(t->entitled_bytes, 0); /* a bin counts from its first use on */
}

static void test_growth_doubles_up_to_the_ceiling(void **state)
{
    (void)state;
    struct tcache *t = new_cache();
    void *entries[1024];
    set_bin_bounds(t, 3, 100, 8);
    for (uint32_t i = 0; i < t->bins[3].capacity; i++)
        cache_give(t, 3, entries[i] = &entries[i]);
    assert_int_equal(magazine_count(t, 3), 16);
    const uint32_t capacities[] = {32, 64, 100};
    for (unsigned i = 0; i < ARRAY_COUNT(capacities); i++) {
        assert_true(magazine_grow(t, 3));
        assert_int_equal(t->bins[3].capacity, capacities[i]);
        assert_false(t->bins[3].packed);
        assert_true(cache_is_valid(t));
        assert_int_equal(magazine_count(t, 3), 16);
    }
    assert_false(magazine_grow(t, 3)); /* the user's cap */
    assert_int_equal(t->bins[3].capacity, 100);
    for (unsigned i = 16; i-- > 0;) /* the same entries, the newest first */
        assert_ptr_equal(hot_pop(&t->hot.bins[3]), &entries[i]);
    assert_null(hot_pop(&t->hot.bins[3]));
}

static void test_ceilings(void **state)
{
    (void)state;
    const uint32_t caps[] = {512, 512, 512, 384, 256, 384, 192, 96}; /* per class, as the default preset has them */
    struct tcache *t = new_cache();
    for (unsigned bin = 0; bin < TINY_BIN_COUNT; bin++)
        assert_int_equal(magazine_ceiling(t, bin), caps[tiny_bin_class(bin)]);
    for (unsigned bin = TINY_BIN_COUNT; bin < BIN_COUNT; bin++) {
        assert_in_range(magazine_ceiling(t, bin), 2, 64);
        assert_true((uint64_t)magazine_ceiling(t, bin) * bin_info(bin)->block_bytes <= 524288);
    }
    for (unsigned bin = 0; bin < TINY_BIN_COUNT; bin++)
        set_bin_policy(bin, bin + 1, 1); /* from one object on: also for the first arrays */
    t = new_cache();
    for (unsigned bin = 0; bin < TINY_BIN_COUNT; bin++) {
        assert_true(t->bins[bin].capacity <= bin + 1);
        while (magazine_grow(t, bin))
            ;
        assert_int_equal(t->bins[bin].capacity, bin + 1);
    }
    assert_true(cache_is_valid(t));
}

static void test_lowered_ceiling_stops_growth(void **state)
{
    (void)state;
    struct tcache *t = new_cache();
    assert_true(magazine_grow(t, 5));
    assert_int_equal(t->bins[5].capacity, 32);
    set_bin_bounds(t, 5, 20, 8);
    assert_false(magazine_grow(t, 5));
    set_bin_bounds(t, 5, 33, 8);
    assert_true(magazine_grow(t, 5));
    assert_int_equal(t->bins[5].capacity, 33);
    assert_true(cache_is_valid(t));
}

static void test_bins_count_from_their_first_use(void **state)
{
    (void)state;
    struct tcache *t = new_cache();
    magazine_open(t, 8);
    assert_int_equal(t->entitled_bytes, t->bins[8].capacity * 160);
    magazine_open(t, 8);
    assert_int_equal(t->entitled_bytes, t->bins[8].capacity * 160);
    magazine_grow(t, 12);
    assert_int_equal(t->entitled_bytes, t->bins[8].capacity * 160 + t->bins[12].capacity * 320);
    assert_true(cache_is_valid(t));
}

static void test_budget_of_the_thread(void **state)
{
    (void)state;
    struct tcache *t = new_cache();
    for (unsigned bin = 0; bin < BIN_COUNT; bin++)
        magazine_open(t, bin);
    const uint64_t budget = t->entitled_bytes + 40000;
    store_relaxed(&policy_live.thread_cache_bytes, budget);
    for (unsigned round = 0; round < 12; round++) {
        for (unsigned bin = 0; bin < BIN_COUNT; bin++) {
            magazine_grow(t, bin);
            assert_true(t->entitled_bytes <= budget);
        }
    }
    assert_true(cache_is_valid(t));
    assert_true(t->entitled_bytes > budget - 40000); /* something did grow */
    for (unsigned bin = 0; bin < BIN_COUNT; bin++)
        assert_false(magazine_grow(t, bin));
}

/* A small budget makes small first arrays, so that there is something left to earn. */
static void test_small_budgets(void **state)
{
    (void)state;
    struct tcache *rich = new_cache();
    store_relaxed(&policy_live.thread_cache_bytes, 262144);
    struct tcache *tight = new_cache();
    store_relaxed(&policy_live.thread_cache_bytes, 16384);
    struct tcache *least = new_cache();
    for (unsigned bin = 0; bin < BIN_COUNT; bin++) {
        assert_in_range(least->bins[bin].capacity, 1, tight->bins[bin].capacity);
        assert_in_range(tight->bins[bin].capacity, 1, rich->bins[bin].capacity);
        assert_true(tight->bins[bin].capacity * bin_info(bin)->block_bytes <= 65536);
    }
    assert_true(magazine_grow(least, 1)); /* a program of few sizes may grow even then */
    store_relaxed(&policy_live.thread_cache_bytes, 262144);
    for (unsigned bin = 0; bin < 8; bin++)
        assert_true(magazine_grow(tight, bin));
    assert_true(cache_is_valid(tight) && cache_is_valid(least));
}

static void test_outgrown_arrays_are_used_again(void **state)
{
    (void)state;
    struct tcache *one = new_cache();
    for (unsigned bin = 0; bin < 8; bin++)
        while (magazine_grow(one, bin))
            ;
    const size_t mapped = usage_record_bytes();
    struct tcache *two = new_cache(); /* its smaller arrays are the ones that the first cache outgrew */
    for (unsigned bin = 0; bin < 8; bin++)
        for (unsigned i = 0; i < 3; i++)
            assert_true(magazine_grow(two, bin));
    assert_true(usage_record_bytes() <= mapped + 256 * 1024);
    assert_true(cache_is_valid(one) && cache_is_valid(two));
    for (unsigned a = 0; a < 8; a++) {
        for (unsigned b = 0; b < 8; b++) {
            void **start = one->bins[a].array;
            assert_true(two->bins[b].array >= start + one->bins[a].capacity + 1 ||
                        two->bins[b].array + two->bins[b].capacity + 1 <= start);
        }
    }
}

static void set_process_room(uint64_t bytes)
{
    store_relaxed(&policy_live.cache_bytes, tcache_entitled_bytes() + bytes);
}

static void test_budget_of_the_process(void **state)
{
    (void)state;
    struct tcache *one = new_cache(), *two = new_cache();
    const uint64_t before = tcache_entitled_bytes();
    set_process_room(20000);
    while (magazine_grow(one, 4)) /* blocks of 80 bytes */
        ;
    assert_in_range(one->entitled_bytes, 8000, 20000);
    assert_true(one->bins[4].capacity < magazine_ceiling(one, 4));
    assert_int_equal(tcache_entitled_bytes(), before + one->entitled_bytes);
    magazine_open(two, 4);
    assert_int_equal(two->bins[4].capacity, 16); /* it fits */
    assert_false(magazine_grow(two, 4) && magazine_grow(two, 4) && magazine_grow(two, 4) && magazine_grow(two, 4));
    assert_int_equal(tcache_entitled_bytes(), before + one->entitled_bytes + two->entitled_bytes);
    assert_true(tcache_entitled_bytes() <= before + 20000);
    const uint32_t capacity = two->bins[4].capacity;
    magazine_shrink(one, 4, one->bins[4].capacity / 2); /* what one gives up the other may have */
    assert_true(magazine_grow(two, 4));
    assert_true(two->bins[4].capacity > capacity);
    assert_int_equal(tcache_entitled_bytes(), before + one->entitled_bytes + two->entitled_bytes);
    magazine_close(one, 4);
    magazine_close(two, 4);
    assert_int_equal(tcache_entitled_bytes(), before);
    assert_true(cache_is_valid(one) && cache_is_valid(two));
}

/* Who comes late gets little, but no magazine is left without room: that would make every free a slow one. */
static void test_late_to_a_spent_budget(void **state)
{
    (void)state;
    struct tcache *t = new_cache();
    set_process_room(0);
    uint64_t bytes = 0;
    for (unsigned bin = 0; bin < BIN_COUNT; bin++) {
        const uint32_t block_bytes = bin_info(bin)->block_bytes;
        magazine_open(t, bin);
        assert_in_range(t->bins[bin].capacity, 1, 16);
        assert_true(t->bins[bin].capacity == 1 || t->bins[bin].capacity * block_bytes <= 1024);
        assert_false(magazine_grow(t, bin));
        bytes += t->bins[bin].capacity * block_bytes;
    }
    assert_int_equal(t->entitled_bytes, bytes);
    assert_true(cache_is_valid(t));
    assert_int_equal(tcache_entitled_bytes(), load_relaxed(&policy_live.cache_bytes) + bytes);
    for (unsigned bin = 0; bin < BIN_COUNT; bin++)
        magazine_close(t, bin);
    assert_int_equal(tcache_entitled_bytes(), load_relaxed(&policy_live.cache_bytes));
}

/* The rich give up half of their richest bin when the budget is nearly spent: at each ageing, and for a bin that
 * opens. */
static void test_need(void **state)
{
    (void)state;
    struct tcache *rich = new_cache(), *poor = new_cache();
    while (magazine_grow(rich, 23)) /* blocks of 2048 bytes */
        ;
    while (magazine_grow(poor, 2))
        ;
    assert_true(rich->entitled_bytes > 65536 && poor->entitled_bytes <= 65536);
    store_relaxed(&policy_live.cache_bytes, tcache_entitled_bytes() * 2);
    assert_false(magazine_is_rich_in_need(rich));
    set_process_room(100);
    assert_true(magazine_is_rich_in_need(rich));
    assert_false(magazine_is_rich_in_need(poor));
    const uint32_t capacity = rich->bins[23].capacity;
    rich->heap.bins[23].flush_count++; /* in use, so that ageing does not close it */
    tcache_close_idle(rich);
    assert_int_equal(rich->bins[23].capacity, capacity / 2);
    set_process_room(100);
    void *block = cache_take(rich, 10);
    assert_int_equal(rich->bins[23].capacity, capacity / 4);
    assert_true(cache_is_valid(rich));
    cache_give(rich, 10, block);
    tcache_flush_all(rich);
    tcache_close_idle(rich);
    tcache_close_idle(rich);
    assert_int_equal(rich->entitled_bytes, 0);
    magazine_close(poor, 2);
}

static void test_shares_come_and_go_with_the_thread(void **state)
{
    (void)state;
    struct tcache *t = new_cache(), *other = new_cache();
    const uint64_t before = tcache_entitled_bytes();
    magazine_grow(t, 6);
    magazine_grow(t, 7);
    const uint64_t share = t->entitled_bytes;
    tcache_give_share(t);
    assert_int_equal(tcache_entitled_bytes(), before);
    tcache_take_share(t);
    assert_int_equal(tcache_entitled_bytes(), before + share);
    assert_int_equal(t->bins[6].capacity, 32);
    tcache_give_share(t);
    magazine_grow(other, 8);
    set_process_room(share - 1); /* not enough any more: it starts anew */
    tcache_take_share(t);
    assert_int_equal(t->entitled_bytes, 0);
    assert_true(cache_is_valid(t));
    magazine_open(t, 6);
    assert_int_equal(t->bins[6].capacity, 16);
    assert_int_equal(tcache_entitled_bytes(), before + t->entitled_bytes + other->entitled_bytes);
    /* As after fork, whatever the sum was before. */
    tcache_recover_shares(other);
    assert_int_equal(tcache_entitled_bytes(), other->entitled_bytes);
    tcache_recover_shares(NULL);
    assert_int_equal(tcache_entitled_bytes(), 0);
    magazine_close(t, 6); /* of one that was forgotten: nothing wraps around */
    assert_int_equal(tcache_entitled_bytes(), 0);
    assert_true(magazine_grow(other, 9));
    tcache_recover_shares(NULL);
}

static void test_recount_mends_what_a_fork_tore(void **state)
{
    (void)state;
    struct tcache *t = new_cache();
    magazine_grow(t, 6);
    magazine_grow(t, 7);
    const uint64_t share = t->entitled_bytes;
    t->entitled_bytes += 4711; /* taken, and the thread was gone before it had grown */
    t->hot.bins[6].end = t->bins[6].array;
    magazine_recount(t);
    assert_int_equal(t->entitled_bytes, share);
    assert_true(cache_is_valid(t));
    t->entitled_bytes = 0; /* given, and gone before it had shrunk */
    magazine_recount(t);
    assert_int_equal(t->entitled_bytes, share);
    magazine_close(t, 6);
    magazine_close(t, 7);
    assert_int_equal(t->entitled_bytes, 0);
}

/* Of a bin with sparse slabs nearly every block goes back where it came from. */
static void test_steered_bins_hold_next_to_nothing(void **state)
{
    (void)state;
    enum { BIN = 7, OTHER = 8 };
    struct tcache *t = new_cache();
    void *held[64];
    store_relaxed(&policy_live.page_decay_ms, PAGE_DECAY_NEVER); /* no tick says otherwise */
    for (unsigned i = 0; i < 64; i++)
        held[i] = cache_take(t, BIN);
    void *other = cache_take(t, OTHER);
    for (unsigned i = 0; i < 64; i++)
        cache_give(t, BIN, held[i]);
    assert_in_range(magazine_count(t, BIN), STEER_BLOCKS + 1, 64);
    const uint32_t ceiling = t->bins[BIN].ceiling;
    tcache_steer(t, (uint64_t)1 << BIN | (uint64_t)1 << (BIN + 3)); /* one that is open, and one that is not */
    assert_int_equal(magazine_count(t, BIN), 0);
    assert_int_equal(t->bins[BIN].capacity, STEER_BLOCKS);
    assert_true(cache_is_valid(t));
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < 64; i++) {
            held[i] = cache_take(t, BIN);
            assert_true(magazine_count(t, BIN) < (STEER_BLOCKS + 1) / 2 + 1);
        }
        for (unsigned i = 0; i < 64; i++) {
            const uint32_t had = magazine_count(t, BIN);
            cache_give(t, BIN, held[i]);
            assert_int_equal(magazine_count(t, BIN), had == STEER_BLOCKS ? 1 : had + 1); /* full: all of it goes */
        }
        cache_give(t, BIN + 3, cache_take(t, BIN + 3));
    }
    assert_int_equal(t->bins[BIN].capacity, STEER_BLOCKS); /* round trips earn nothing meanwhile */
    assert_int_equal(t->bins[BIN + 3].capacity, STEER_BLOCKS);
    assert_int_equal(t->bins[BIN].ceiling, ceiling);
    assert_true(cache_is_valid(t));
    tcache_steer(t, 0);
    for (unsigned round = 0; round < 8; round++) {
        for (unsigned i = 0; i < 64; i++)
            held[i] = cache_take(t, BIN);
        for (unsigned i = 0; i < 64; i++)
            cache_give(t, BIN, held[i]);
    }
    assert_in_range(t->bins[BIN].capacity, 16, ceiling);
    cache_give(t, OTHER, other);
    assert_true(cache_is_valid(t));
    tcache_flush_all(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_first_arrays_are_small, reset_policy),
        cmocka_unit_test_setup(test_recount_mends_what_a_fork_tore, reset_policy),
        cmocka_unit_test_setup(test_growth_doubles_up_to_the_ceiling, reset_policy),
        cmocka_unit_test_setup(test_ceilings, reset_policy),
        cmocka_unit_test_setup(test_lowered_ceiling_stops_growth, reset_policy),
        cmocka_unit_test_setup(test_bins_count_from_their_first_use, reset_policy),
        cmocka_unit_test_setup(test_budget_of_the_thread, reset_policy),
        cmocka_unit_test_setup(test_small_budgets, reset_policy),
        cmocka_unit_test_setup(test_outgrown_arrays_are_used_again, reset_policy),
        cmocka_unit_test_setup(test_budget_of_the_process, reset_policy),
        cmocka_unit_test_setup(test_late_to_a_spent_budget, reset_policy),
        cmocka_unit_test_setup(test_steered_bins_hold_next_to_nothing, reset_policy),
        cmocka_unit_test_setup(test_need, reset_policy),
        cmocka_unit_test_setup(test_shares_come_and_go_with_the_thread, reset_policy),
    };
    return cmocka_run_group_tests_name("magazine", tests, NULL, NULL);
}
