#include "unit.h"

#include <sys/syscall.h>

#include "arena/usage.h"
#include "config/policy.h"
#include "fresh_arena.h"

#define DECAY_MS 1000u
#define KEEP_ALL UINT32_MAX

/* The time of the last pass lives on between tests: so does this clock. */
static uint64_t now_ms = (uint64_t)1 << 40;

static int fresh(void **state)
{
    (void)state;
    set_decay_policy(0, 0, 0);
    fresh_arena();
    now_ms += 10 * DECAY_MS;
    return 0;
}

/* A decay period later. */
static void decay(uint32_t retain)
{
    now_ms += DECAY_MS;
    arena_decay(now_ms, DECAY_MS, retain);
}

static void test_pages_go_at_the_second_pass(void **state)
{
    (void)state;
    bool zeroed;
    const uint32_t a = take_touched(8);
    arena_free(a + 2, 3);
    decay(KEEP_ALL);
    assert_int_equal(arena_totals_now().free_dirty_bytes, 3 * SLAB_BYTES);
    arena_free(a + 6, 1); /* between the passes: too young at the next one */
    decay(KEEP_ALL);
    assert_int_equal(arena_totals_now().free_dirty_bytes, SLAB_BYTES);
    assert_int_equal(arena_totals_now().purged_bytes, 3 * SLAB_BYTES);
    assert_true(reads_zero(a + 2) && reads_zero(a + 3) && reads_zero(a + 4));
    assert_false(reads_zero(a + 1)); /* in use */
    assert_false(reads_zero(a + 6));
    decay(KEEP_ALL);
    assert_int_equal(arena_totals_now().free_dirty_bytes, 0);
    assert_int_equal(arena_alloc(3, 1, NULL, &zeroed), a + 2);
    assert_true(zeroed);
}

/* Those of a group go with its last SuperSlab; the neighbours' stay, and so do the remote records. */
static void test_records_go_with_their_superslabs(void **state)
{
    (void)state;
    const uint32_t group = window_record_group();
    const uint32_t first = (uint32_t)align_up(window.first_superslab, group) + group; /* a whole group */
    const uint32_t before = (first - window.first_superslab) * SUPERSLAB_SLABS;
    const uint32_t all = take_touched(before + (group + 1) * SUPERSLAB_SLABS);
    const uint32_t from = all + before, to = from + group * SUPERSLAB_SLABS;
    assert_int_equal(from / SUPERSLAB_SLABS, first);
    for (uint32_t slab = from - 1; slab <= to; slab++) {
        memset(window_slab_record(slab), 7, SLAB_RECORD_BYTES);
        memset(window.remotes + (size_t)slab * REMOTE_RECORD_BYTES, 7, REMOTE_RECORD_BYTES);
        memset(window.free_bitmaps + (size_t)slab * BITMAP_BYTES, 7, BITMAP_BYTES);
    }
    for (uint32_t i = 0; i < group; i++) {
        assert_int_equal(*(char *)window_slab_record(from), 7);
        arena_free(from + i * SUPERSLAB_SLABS, SUPERSLAB_SLABS);
        assert_true(arena_release_superslab(first + i, PURGE_ASKED_FOR));
    }
    for (uint32_t slab = from - 1; slab <= to; slab++) {
        const int expected = slab < from || slab == to ? 7 : 0;
        assert_int_equal(*(char *)window_slab_record(slab), expected);
        assert_int_equal(window.free_bitmaps[(size_t)slab * BITMAP_BYTES], expected);
        assert_int_equal(window.remotes[(size_t)slab * REMOTE_RECORD_BYTES], 7);
    }
}

static void test_used_in_between_is_young_again(void **state)
{
    (void)state;
    const uint32_t a = take_touched(8);
    arena_free(a + 2, 1);
    decay(KEEP_ALL);
    assert_int_equal(take_touched(1), a + 2);
    arena_free(a + 2, 1);
    decay(KEEP_ALL);
    assert_int_equal(arena_totals_now().free_dirty_bytes, SLAB_BYTES);
    decay(KEEP_ALL);
    assert_int_equal(arena_totals_now().free_dirty_bytes, 0);
}

static void test_not_before_its_time(void **state)
{
    (void)state;
    const uint32_t a = take_touched(8);
    arena_free(a + 2, 1);
    decay(KEEP_ALL);
    for (unsigned i = 0; i < 9; i++)
        arena_decay(now_ms += DECAY_MS / 10, DECAY_MS, KEEP_ALL);
    assert_int_equal(arena_totals_now().free_dirty_bytes, SLAB_BYTES);
    arena_decay(now_ms += DECAY_MS / 10, DECAY_MS, KEEP_ALL);
    assert_int_equal(arena_totals_now().free_dirty_bytes, 0);
}

static void test_empty_superslabs_go_but_one(void **state)
{
    (void)state;
    const uint32_t a = take_touched(128);
    arena_free(a, 128);
    decay(KEEP_ALL);
    assert_int_equal(arena_totals_now().superslabs_released, 0);
    decay(KEEP_ALL);
    assert_int_equal(arena_totals_now().superslabs_released, 3);
    assert_int_equal(arena_totals_now().mapped_bytes, SUPERSLAB_BYTES);
    assert_int_equal(arena_totals_now().free_dirty_bytes, 0); /* the one that stays has no pages either */
    assert_int_equal(arena_totals_now().purged_bytes, 128 * SLAB_BYTES);
    decay(KEEP_ALL);
    decay(KEEP_ALL);
    assert_int_equal(arena_totals_now().mapped_bytes, SUPERSLAB_BYTES);
    /* Gone ones come back, lowest first. */
    bool zeroed = false;
    assert_int_equal(arena_alloc(33, 1, NULL, &zeroed), a);
    assert_true(zeroed);
    assert_true(reads_zero(a + 32));
}

static void test_few_are_retained(void **state)
{
    (void)state;
    const uint32_t a = take_touched(6 * 32);
    arena_free(a, 6 * 32);
    arena_decay(now_ms += DECAY_MS, DECAY_MS, 3); /* three may wait for their time, the others go at once */
    assert_int_equal(arena_totals_now().superslabs_released, 3);
    assert_int_equal(arena_totals_now().free_dirty_bytes, 3 * SUPERSLAB_BYTES);
    arena_decay(now_ms += 1, DECAY_MS, 3);
    assert_int_equal(arena_totals_now().superslabs_released, 3);
    arena_decay(now_ms += 1, DECAY_MS, 1); /* between two passes over the pages, too */
    assert_int_equal(arena_totals_now().superslabs_released, 5);
    assert_int_equal(arena_totals_now().free_dirty_bytes, SUPERSLAB_BYTES);
}

static void test_superslab_in_use_stays(void **state)
{
    (void)state;
    const uint32_t a = take_touched(64);
    arena_free(a, 63);
    for (unsigned i = 0; i < 4; i++)
        decay(1);
    assert_int_equal(arena_totals_now().superslabs_released, 0);
    assert_int_equal(arena_totals_now().free_clean_bytes, 63 * SLAB_BYTES);
    assert_false(reads_zero(a + 63));
}

static void test_a_pass_is_spread_over_ticks(void **state)
{
    (void)state;
    enum { COUNT = 40 };
    uint32_t slabs[COUNT];
    for (unsigned i = 0; i < COUNT; i++)
        slabs[i] = take_touched(32);
    for (unsigned i = 0; i < COUNT; i++)
        arena_free(slabs[i], 31);
    decay(KEEP_ALL);
    decay(KEEP_ALL);
    const uint64_t once = arena_totals_now().purged_bytes;
    assert_true(once > 0 && once < COUNT * 31 * SLAB_BYTES); /* a bounded piece of work */
    for (unsigned i = 0; i < 10; i++)
        arena_decay(++now_ms, DECAY_MS, KEEP_ALL);
    assert_int_equal(arena_totals_now().purged_bytes, COUNT * 31 * SLAB_BYTES);
}

static void test_purge_all_at_once(void **state)
{
    (void)state;
    const uint32_t a = take_touched(70);
    arena_free(a + 1, 69);
    assert_int_equal(arena_purge_all(), 69 * SLAB_BYTES);
    assert_int_equal(arena_totals_now().superslabs_released, 2);
    assert_int_equal(arena_totals_now().free_dirty_bytes, 0);
    assert_int_equal(arena_totals_now().purged_bytes, 69 * SLAB_BYTES);
    assert_false(reads_zero(a));
    assert_true(reads_zero(a + 1));
    assert_int_equal(arena_purge_all(), 0);
}

static void test_locked_pages_stay_dirty(void **state)
{
    (void)state;
    bool zeroed = true;
    const uint32_t a = take_touched(4);
    /* The system call itself: a sanitizer's mlock does nothing. */
    if (syscall(SYS_mlock, (char *)window_slab_address(a + 1), SLAB_BYTES) != 0)
        skip();
    arena_free(a + 1, 1);
    assert_int_equal(arena_purge_all(), 0);
    assert_int_equal(arena_totals_now().free_dirty_bytes, SLAB_BYTES);
    assert_int_equal(arena_alloc(1, 1, NULL, &zeroed), a + 1);
    assert_false(zeroed);
}

static void test_the_floor_stays(void **state)
{
    (void)state;
    set_decay_policy(5 * SLAB_BYTES, 0, 0);
    uint32_t slabs[4];
    for (unsigned i = 0; i < 4; i++)
        slabs[i] = take_touched(32);
    for (unsigned i = 0; i < 4; i++)
        arena_free(slabs[i] + 1, 3);
    for (unsigned i = 0; i < 4; i++)
        decay(KEEP_ALL);
    /* 12 slabs, 3 a SuperSlab: two of those reach the floor of 5. */
    assert_int_equal(arena_totals_now().free_dirty_bytes, 3 * SLAB_BYTES);
    set_decay_policy(0, 0, 0);
    decay(KEEP_ALL);
    assert_int_equal(arena_totals_now().free_dirty_bytes, 0);
}

static void test_the_rate_bounds_decay(void **state)
{
    (void)state;
    enum { COUNT = 12 };
    set_decay_policy(0, 4 * SUPERSLAB_BYTES, 0);
    arena_has_credit(now_ms); /* it begins with nothing */
    now_ms += 10 * DECAY_MS;
    uint32_t slabs[COUNT];
    for (unsigned i = 0; i < COUNT; i++)
        slabs[i] = take_touched(32);
    for (unsigned i = 0; i < COUNT; i++)
        arena_free(slabs[i] + 1, 31);
    decay(KEEP_ALL);
    decay(KEEP_ALL);
    /* Two seconds' credit, in whole SuperSlabs, and the last may overdraw. */
    const uint64_t at_once = arena_totals_now().purged_bytes;
    assert_in_range(at_once, 8 * 31 * SLAB_BYTES, 9 * 31 * SLAB_BYTES);
    arena_decay(now_ms += 10, DECAY_MS, KEEP_ALL);
    assert_int_equal(arena_totals_now().purged_bytes, at_once);
    arena_decay(now_ms += 500, DECAY_MS, KEEP_ALL);
    assert_in_range(arena_totals_now().purged_bytes, at_once + SLAB_BYTES, at_once + 3 * 31 * SLAB_BYTES);
}

static void test_what_is_asked_for_costs_no_credit(void **state)
{
    (void)state;
    enum { COUNT = 24 };
    set_decay_policy(0, 4 * SUPERSLAB_BYTES, 0);
    decay(KEEP_ALL); /* fills the credit */
    for (unsigned i = 0; i < 4; i++) {
        const uint32_t a = take_touched(COUNT * 32);
        arena_free(a, COUNT * 32);
        arena_purge_all();
    }
    const uint32_t stays = take_touched(32);
    arena_free(stays + 1, 31);
    decay(KEEP_ALL);
    decay(KEEP_ALL);
    assert_int_equal(arena_totals_now().free_dirty_bytes, 0);
}

/* Under a rate of 4 SuperSlabs a second. */
static void give_all_back_and_fill_the_credit(void)
{
    arena_has_credit(now_ms);
    now_ms += 10 * DECAY_MS;
    decay(KEEP_ALL);
    decay(KEEP_ALL);
    assert_int_equal(arena_totals_now().free_dirty_bytes, 0);
    store_relaxed(&arena_credit.away, 0); /* nothing saves for its return */
    assert_true(arena_has_credit(now_ms += 10 * DECAY_MS)); /* two seconds' worth: 8 SuperSlabs */
}

/* The first use of memory is nobody's fault; taking again what decay gave back costs three times what giving it did. */
static void test_what_comes_back_costs_credit(void **state)
{
    (void)state;
    enum { COUNT = 3 };
    set_decay_policy(0, 4 * SUPERSLAB_BYTES, 0);
    uint32_t slabs[COUNT];
    for (unsigned i = 0; i < COUNT; i++)
        slabs[i] = take_touched(32);
    for (unsigned i = 0; i < COUNT; i++)
        arena_free(slabs[i] + 1, 31);
    give_all_back_and_fill_the_credit();
    take_touched(COUNT * 32 * 2); /* wide: it lies behind the others */
    assert_true(arena_has_credit(now_ms));
    for (unsigned i = 0; i < COUNT; i++) {
        assert_true(arena_has_credit(now_ms));
        take_touched(31);
    }
    assert_false(arena_has_credit(now_ms)); /* 8 - 3 * 3 * 31/32 */
    assert_false(arena_has_credit(now_ms += 100));
    assert_true(arena_has_credit(now_ms += 200));
}

/* Nothing was given back of a run whose pages were moved away: to claim it again is charged and has been refunded. */
static void test_what_was_moved_costs_no_credit(void **state)
{
    (void)state;
    set_decay_policy(0, 4 * SUPERSLAB_BYTES, 0);
    uint32_t run = take_touched(32);
    arena_free(run + 1, 31);
    give_all_back_and_fill_the_credit();
    arena_charge_credit(4 * SUPERSLAB_BYTES);
    assert_int_equal(take_touched(31), run + 1); /* 3 * 31/32 of them: given back, and here again */
    assert_true(arena_has_credit(now_ms));
    for (unsigned i = 0; i < 10; i++) {
        os_purge(window_slab_address(run + 1), 31 * SLAB_BYTES); /* as mremap leaves it */
        usage_give(31 * SLAB_BYTES);
        arena_free_moved(run + 1, 31);
        assert_int_equal(take_touched(31), run + 1);
        assert_true(arena_has_credit(now_ms));
    }
    arena_charge_credit(2 * SUPERSLAB_BYTES);
    assert_false(arena_has_credit(now_ms));
}

static void test_the_floor_keeps_no_empty_mappings(void **state)
{
    (void)state;
    set_decay_policy(64 * SUPERSLAB_BYTES, 0, 0);
    const uint32_t a = take_touched(8 * 32);
    arena_free(a, 8 * 32);
    for (unsigned i = 0; i < 8; i++) /* empty, and without pages */
        arena_purge_free(a / SUPERSLAB_SLABS + i, UINT32_MAX, PURGE_ASKED_FOR);
    assert_int_equal(arena_totals_now().mapped_bytes, 8 * SUPERSLAB_BYTES);
    decay(KEEP_ALL);
    decay(KEEP_ALL);
    assert_int_equal(arena_totals_now().mapped_bytes, SUPERSLAB_BYTES);
}

static struct arena_flow flow_now(void)
{
    struct arena_flow flow;
    arena_read_flow(&flow);
    return flow;
}

/* What decay gave back and is claimed again within a few delays was given back too soon. */
static void test_regret_is_counted(void **state)
{
    (void)state;
    decay(KEEP_ALL); /* the end of a pass that another test began */
    const struct arena_flow before = flow_now();
    const uint32_t a = take_touched(16);
    arena_free(a + 8, 8);
    arena_purge_all(); /* asked for: not decay's doing */
    take_touched(2);
    assert_int_equal(flow_now().decayed_bytes, before.decayed_bytes);
    assert_int_equal(flow_now().refaulted_bytes, before.refaulted_bytes);
    arena_free(a + 8, 2);
    decay(KEEP_ALL);
    decay(KEEP_ALL);
    assert_int_equal(flow_now().decayed_bytes - before.decayed_bytes, 2 * SLAB_BYTES);
    take_touched(3);
    assert_int_equal(flow_now().refaulted_bytes - before.refaulted_bytes, 3 * SLAB_BYTES);
    for (unsigned i = 0; i < SUPERSLAB_SOON_EPOCHS + 1; i++)
        decay(KEEP_ALL);
    take_touched(1);
    assert_int_equal(flow_now().refaulted_bytes - before.refaulted_bytes, 3 * SLAB_BYTES);
    /* A SuperSlab that went as a whole. */
    const uint32_t b = take_touched(32);
    arena_free(b, 32);
    arena_free(a, 12);
    decay(KEEP_ALL);
    decay(KEEP_ALL);
    assert_int_equal(flow_now().superslabs_released - before.superslabs_released, 1);
    const uint64_t refaulted = flow_now().refaulted_bytes;
    assert_true(take_touched(32) == b || take_touched(32) == b);
    assert_true(flow_now().refaulted_bytes - refaulted >= 32 * SLAB_BYTES);
}

/* It runs inside somebody's malloc: 27 ms at once were seen. */
static void test_some_of_it_at_a_time(void **state)
{
    (void)state;
    enum { COUNT = 40, AT_ONCE = 16 };
    uint32_t stays[COUNT];
    const uint32_t wide = take_touched(COUNT * 32);
    for (unsigned i = 0; i < COUNT; i++) { /* one slab of each, so that none is unmapped */
        stays[i] = wide + i * 32;
        arena_free(stays[i] + 1, 31);
    }
    unsigned calls = 0;
    uint64_t left = arena_totals_now().free_dirty_bytes;
    for (uint32_t next = 0; calls == 0 || next != 0; calls++) {
        next = arena_purge_some(next);
        const uint64_t now_left = arena_totals_now().free_dirty_bytes;
        assert_in_range(left - now_left, 1, AT_ONCE * SUPERSLAB_BYTES);
        left = now_left;
    }
    assert_int_equal(left, 0);
    assert_in_range(calls, COUNT / AT_ONCE, COUNT / AT_ONCE + 1);
    for (unsigned i = 0; i < COUNT; i++)
        assert_false(reads_zero(stays[i]));
    assert_int_equal(arena_purge_some(0), 0); /* what has nothing to give is passed over */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_pages_go_at_the_second_pass, fresh),
        cmocka_unit_test_setup(test_records_go_with_their_superslabs, fresh),
        cmocka_unit_test_setup(test_used_in_between_is_young_again, fresh),
        cmocka_unit_test_setup(test_not_before_its_time, fresh),
        cmocka_unit_test_setup(test_empty_superslabs_go_but_one, fresh),
        cmocka_unit_test_setup(test_few_are_retained, fresh),
        cmocka_unit_test_setup(test_superslab_in_use_stays, fresh),
        cmocka_unit_test_setup(test_a_pass_is_spread_over_ticks, fresh),
        cmocka_unit_test_setup(test_purge_all_at_once, fresh),
        cmocka_unit_test_setup(test_locked_pages_stay_dirty, fresh),
        cmocka_unit_test_setup(test_the_floor_stays, fresh),
        cmocka_unit_test_setup(test_the_rate_bounds_decay, fresh),
        cmocka_unit_test_setup(test_what_is_asked_for_costs_no_credit, fresh),
        cmocka_unit_test_setup(test_what_comes_back_costs_credit, fresh),
        cmocka_unit_test_setup(test_what_was_moved_costs_no_credit, fresh),
        cmocka_unit_test_setup(test_the_floor_keeps_no_empty_mappings, fresh),
        cmocka_unit_test_setup(test_regret_is_counted, fresh),
        cmocka_unit_test_setup(test_some_of_it_at_a_time, fresh),
    };
    return cmocka_run_group_tests_name("purge", tests, NULL, NULL);
}
