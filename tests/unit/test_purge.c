#include "unit.h"

#include <sys/syscall.h>

#include "fresh_arena.h"

#define DECAY_MS 1000u
#define KEEP_ALL UINT32_MAX

/* The time of the last pass lives on between tests: so does this clock. */
static uint64_t now_ms = (uint64_t)1 << 40;

static int fresh(void **state)
{
    (void)state;
    fresh_arena();
    now_ms += 10 * DECAY_MS;
    return 0;
}

static struct arena_totals totals_now(void)
{
    struct arena_totals t;
    arena_read_totals(&t);
    /* The counters that are kept agree with what the masks say. */
    assert_int_equal(arena_free_resident_bytes(), t.free_dirty_bytes);
    assert_int_equal(arena_claimed_bytes(), t.mapped_bytes - t.free_dirty_bytes - t.free_clean_bytes);
    return t;
}

static uint32_t take_touched(uint32_t slabs)
{
    bool zeroed;
    const uint32_t slab = arena_alloc(slabs, 1, NULL, &zeroed);
    for (uint32_t i = 0; i < slabs; i++)
        memset(window_slab_address(slab + i), 9, 4096);
    return slab;
}

/* A decay period later. */
static void decay(uint32_t retain)
{
    now_ms += DECAY_MS;
    arena_decay(now_ms, DECAY_MS, retain);
}

static bool reads_zero(uint32_t slab)
{
    return *(volatile char *)window_slab_address(slab) == 0;
}

static void test_pages_go_at_the_second_pass(void **state)
{
    (void)state;
    bool zeroed;
    const uint32_t a = take_touched(8);
    arena_free(a + 2, 3);
    decay(KEEP_ALL);
    assert_int_equal(totals_now().free_dirty_bytes, 3 * SLAB_BYTES);
    arena_free(a + 6, 1); /* between the passes: too young at the next one */
    decay(KEEP_ALL);
    assert_int_equal(totals_now().free_dirty_bytes, SLAB_BYTES);
    assert_int_equal(totals_now().purged_bytes, 3 * SLAB_BYTES);
    assert_true(reads_zero(a + 2) && reads_zero(a + 3) && reads_zero(a + 4));
    assert_false(reads_zero(a + 1)); /* in use */
    assert_false(reads_zero(a + 6));
    decay(KEEP_ALL);
    assert_int_equal(totals_now().free_dirty_bytes, 0);
    assert_int_equal(arena_alloc(3, 1, NULL, &zeroed), a + 2);
    assert_true(zeroed);
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
    assert_int_equal(totals_now().free_dirty_bytes, SLAB_BYTES);
    decay(KEEP_ALL);
    assert_int_equal(totals_now().free_dirty_bytes, 0);
}

static void test_not_before_its_time(void **state)
{
    (void)state;
    const uint32_t a = take_touched(8);
    arena_free(a + 2, 1);
    decay(KEEP_ALL);
    for (unsigned i = 0; i < 9; i++)
        arena_decay(now_ms += DECAY_MS / 10, DECAY_MS, KEEP_ALL);
    assert_int_equal(totals_now().free_dirty_bytes, SLAB_BYTES);
    arena_decay(now_ms += DECAY_MS / 10, DECAY_MS, KEEP_ALL);
    assert_int_equal(totals_now().free_dirty_bytes, 0);
}

static void test_empty_superslabs_go_but_one(void **state)
{
    (void)state;
    const uint32_t a = take_touched(128);
    arena_free(a, 128);
    decay(KEEP_ALL);
    assert_int_equal(totals_now().superslabs_released, 0);
    decay(KEEP_ALL);
    assert_int_equal(totals_now().superslabs_released, 3);
    assert_int_equal(totals_now().mapped_bytes, SUPERSLAB_BYTES);
    assert_int_equal(totals_now().free_dirty_bytes, 0); /* the one that stays has no pages either */
    assert_int_equal(totals_now().purged_bytes, 128 * SLAB_BYTES);
    decay(KEEP_ALL);
    decay(KEEP_ALL);
    assert_int_equal(totals_now().mapped_bytes, SUPERSLAB_BYTES);
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
    assert_int_equal(totals_now().superslabs_released, 3);
    assert_int_equal(totals_now().free_dirty_bytes, 3 * SUPERSLAB_BYTES);
    arena_decay(now_ms += 1, DECAY_MS, 3);
    assert_int_equal(totals_now().superslabs_released, 3);
    arena_decay(now_ms += 1, DECAY_MS, 1); /* between two passes over the pages, too */
    assert_int_equal(totals_now().superslabs_released, 5);
    assert_int_equal(totals_now().free_dirty_bytes, SUPERSLAB_BYTES);
}

static void test_superslab_in_use_stays(void **state)
{
    (void)state;
    const uint32_t a = take_touched(64);
    arena_free(a, 63);
    for (unsigned i = 0; i < 4; i++)
        decay(1);
    assert_int_equal(totals_now().superslabs_released, 0);
    assert_int_equal(totals_now().free_clean_bytes, 63 * SLAB_BYTES);
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
    const uint64_t once = totals_now().purged_bytes;
    assert_true(once > 0 && once < COUNT * 31 * SLAB_BYTES); /* a bounded piece of work */
    for (unsigned i = 0; i < 10; i++)
        arena_decay(++now_ms, DECAY_MS, KEEP_ALL);
    assert_int_equal(totals_now().purged_bytes, COUNT * 31 * SLAB_BYTES);
}

static void test_purge_all_at_once(void **state)
{
    (void)state;
    const uint32_t a = take_touched(70);
    arena_free(a + 1, 69);
    assert_int_equal(arena_purge_all(), 69 * SLAB_BYTES);
    assert_int_equal(totals_now().superslabs_released, 2);
    assert_int_equal(totals_now().free_dirty_bytes, 0);
    assert_int_equal(totals_now().purged_bytes, 69 * SLAB_BYTES);
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
    assert_int_equal(totals_now().free_dirty_bytes, SLAB_BYTES);
    assert_int_equal(arena_alloc(1, 1, NULL, &zeroed), a + 1);
    assert_false(zeroed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_pages_go_at_the_second_pass, fresh),
        cmocka_unit_test_setup(test_used_in_between_is_young_again, fresh),
        cmocka_unit_test_setup(test_not_before_its_time, fresh),
        cmocka_unit_test_setup(test_empty_superslabs_go_but_one, fresh),
        cmocka_unit_test_setup(test_few_are_retained, fresh),
        cmocka_unit_test_setup(test_superslab_in_use_stays, fresh),
        cmocka_unit_test_setup(test_a_pass_is_spread_over_ticks, fresh),
        cmocka_unit_test_setup(test_purge_all_at_once, fresh),
        cmocka_unit_test_setup(test_locked_pages_stay_dirty, fresh),
    };
    return cmocka_run_group_tests_name("purge", tests, NULL, NULL);
}
