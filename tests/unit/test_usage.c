/* The sum of what is held: by itself, and as slabs, huge mappings and records make it. */
#include "unit.h"

#include "api/entry.h"
#include "arena/meta.h"
#include "arena/usage.h"
#include "config/policy.h"
#include "fresh_arena.h"
#include "large/huge.h"
#include "large/large.h"
#include "os/os.h"

#define MIB ((uint64_t)1 << 20)

static void set_limit(uint64_t bytes)
{
    store_relaxed(&policy_live.memory_limit_bytes, bytes);
}

/* So much more than now. */
static void set_room(uint64_t bytes)
{
    set_limit(usage_bytes() + bytes);
}

static int fresh(void **state)
{
    (void)state;
    policy_start(config_get());
    usage_correct(0);
    fresh_arena();
    return 0;
}

static int unlimited(void **state)
{
    (void)state;
    policy_start(config_get());
    return 0;
}

static void test_take_and_give(void **state)
{
    (void)state;
    const uint64_t before = usage_bytes();
    set_limit(before + 100);
    assert_true(usage_has_room(100));
    assert_false(usage_has_room(101));
    assert_true(usage_take(60));
    assert_int_equal(usage_bytes(), before + 60);
    assert_false(usage_take(41));
    assert_int_equal(usage_bytes(), before + 60); /* a refusal leaves no trace */
    assert_true(usage_take(40));
    assert_true(usage_take(0));
    assert_false(usage_take(1));
    assert_false(usage_take(UINT64_MAX));
    assert_false(usage_has_room(UINT64_MAX));
    usage_give(50);
    assert_true(usage_take(50));
    set_limit(before); /* lowered below what is held: nothing until enough has come back */
    assert_false(usage_has_room(0));
    assert_false(usage_take(1));
    usage_give(100);
    assert_true(usage_has_room(0));
    assert_false(usage_take(1));
    assert_int_equal(usage_bytes(), before);
}

static void test_no_limit(void **state)
{
    (void)state;
    set_limit(NO_MEMORY_LIMIT);
    assert_true(usage_has_room((uint64_t)1 << 62));
    assert_true(usage_take((uint64_t)1 << 62));
    assert_false(usage_take(INT64_MAX)); /* as huge blocks of that size ask for: the sum has 63 bits */
    usage_give((uint64_t)1 << 62);
}

static void test_records_count_twice(void **state)
{
    (void)state;
    const uint64_t all = usage_bytes(), records = usage_record_bytes();
    assert_true(all >= records && records != 0);
    set_room(1000);
    assert_true(usage_take_records(1000));
    assert_false(usage_take_records(1));
    assert_int_equal(usage_bytes(), all + 1000);
    assert_int_equal(usage_record_bytes(), records + 1000);
    usage_give_records(1000);
    assert_int_equal(usage_bytes(), all);
    assert_int_equal(usage_record_bytes(), records);
}

static void test_correction(void **state)
{
    (void)state;
    const uint64_t records = usage_record_bytes();
    usage_correct(5000);
    assert_int_equal(usage_bytes(), 5000 + records);
    usage_correct(0);
    usage_give(records + 700); /* of somebody who was interrupted: nothing wraps around */
    assert_int_equal(usage_bytes(), 0);
    set_limit(1000);
    assert_true(usage_take(1000));
    usage_correct(0);
}

#define THREADS 4u
enum { ROUNDS = 20000 };

static uint32_t excess;

static void *take_and_give(void *argument)
{
    uint64_t seed = *(uint64_t *)argument;
    for (unsigned i = 0; i < ROUNDS; i++) {
        const uint64_t bytes = next_random(&seed) % 100;
        if (!usage_take(bytes))
            continue;
        if (usage_bytes() > load_relaxed(&policy_live.memory_limit_bytes))
            fetch_add_relaxed(&excess, 1);
        usage_give(bytes);
    }
    return NULL;
}

static void test_threads_never_exceed_it(void **state)
{
    (void)state;
    uint64_t seeds[THREADS] = {1, 22, 333, 4444};
    const uint64_t before = usage_bytes();
    set_room(150);
    run_threads(THREADS, take_and_give, seeds, sizeof seeds[0]);
    assert_int_equal(excess, 0);
    assert_int_equal(usage_bytes(), before);
}

static uint64_t slab_usage(void)
{
    assert_int_equal(usage_bytes() - usage_record_bytes(), arena_claimed_bytes() + arena_free_resident_bytes());
    return usage_bytes() - usage_record_bytes();
}

static void test_slabs(void **state)
{
    (void)state;
    bool zeroed;
    uint32_t hint = 0;
    assert_int_equal(slab_usage(), 0);
    const uint32_t one = arena_alloc(1, 1, &hint, &zeroed);
    assert_int_equal(slab_usage(), SLAB_BYTES); /* mapped is not held: 31 others have no pages */
    const uint32_t four = arena_alloc(4, 4, &hint, &zeroed);
    assert_int_equal(slab_usage(), 5 * SLAB_BYTES);
    arena_free(one, 1);
    assert_int_equal(slab_usage(), 5 * SLAB_BYTES); /* it keeps its pages */
    const uint32_t again = arena_alloc(1, 1, &hint, &zeroed);
    assert_int_equal(again, one);
    assert_int_equal(slab_usage(), 5 * SLAB_BYTES);
    arena_free(one, 1);
    arena_purge_all();
    assert_int_equal(slab_usage(), 4 * SLAB_BYTES);
    arena_free(four, 4);
    const uint32_t wide = arena_alloc(70, 1, NULL, &zeroed);
    assert_in_range(slab_usage(), 70 * SLAB_BYTES, 74 * SLAB_BYTES);
    assert_true(arena_extend(wide, 70, 100, &zeroed));
    arena_free(wide, 100);
    arena_purge_all();
    assert_int_equal(slab_usage(), 0);
}

static void test_slabs_at_the_limit(void **state)
{
    (void)state;
    bool zeroed;
    uint32_t hint = 0, slabs[8];
    slabs[0] = arena_alloc(1, 1, &hint, &zeroed);
    set_room(7 * SLAB_BYTES);
    for (unsigned i = 1; i < 8; i++)
        assert_true((slabs[i] = arena_alloc(1, 1, &hint, &zeroed)) != SLAB_NONE);
    assert_int_equal(arena_alloc(1, 1, &hint, &zeroed), SLAB_NONE);
    assert_int_equal(arena_alloc(32, 1, &hint, &zeroed), SLAB_NONE);
    assert_int_equal(arena_alloc(40, 1, NULL, &zeroed), SLAB_NONE);
    assert_false(arena_extend(slabs[7], 1, 2, &zeroed));
    assert_int_equal(slab_usage(), 8 * SLAB_BYTES);
    arena_free(slabs[3], 1); /* dirty: it may be had again, and nothing else */
    assert_int_equal(arena_alloc(2, 1, &hint, &zeroed), SLAB_NONE);
    assert_int_equal(arena_alloc(1, 1, &hint, &zeroed), slabs[3]);
    arena_free(slabs[3], 1);
    arena_purge_all(); /* now anything of its size may */
    assert_true((slabs[3] = arena_alloc(1, 1, &hint, &zeroed)) != SLAB_NONE);
    assert_int_equal(arena_alloc(1, 1, &hint, &zeroed), SLAB_NONE);
    set_limit(NO_MEMORY_LIMIT); /* what was refused is free, and found again */
    uint32_t rest[24];
    for (unsigned i = 0; i < 24; i++) {
        rest[i] = arena_alloc(1, 1, &hint, &zeroed);
        assert_int_equal(rest[i] / SUPERSLAB_SLABS, slabs[0] / SUPERSLAB_SLABS);
    }
    assert_int_equal(slab_usage(), 32 * SLAB_BYTES);
}

/* A run of several SuperSlabs that is refused half-way leaves nothing claimed, and does not search the whole window. */
static void test_wide_runs_at_the_limit(void **state)
{
    (void)state;
    bool zeroed;
    uint32_t blocks[3], hint = 0;
    for (unsigned i = 0; i < 3; i++)
        blocks[i] = arena_alloc(32, 1, &hint, &zeroed);
    for (unsigned i = 0; i < 3; i++)
        arena_free(blocks[i], 32);
    for (unsigned i = 1; i < 3; i++)
        assert_true(arena_alloc(1, 1, NULL, &zeroed) != SLAB_NONE);
    arena_purge_all();
    const uint64_t held = slab_usage(), records = usage_record_bytes();
    const uint64_t limit = window.limit;
    set_room(40 * SLAB_BYTES);
    assert_int_equal(arena_alloc(64, 1, NULL, &zeroed), SLAB_NONE);
    assert_int_equal(slab_usage(), held);
    arena_purge_all();
    assert_int_equal(slab_usage(), held);
    assert_int_equal(usage_record_bytes(), records);
    assert_int_equal(window.limit, limit);
    const uint32_t wide = arena_alloc(40, 1, NULL, &zeroed);
    assert_true(wide != SLAB_NONE);
    arena_free(wide, 40);
}

static void test_prewarmed_superslabs(void **state)
{
    (void)state;
    bool zeroed;
    uint32_t hint = 0;
    arena_start(2);
    const uint32_t first = arena_alloc(32, 1, &hint, &zeroed);
    const uint32_t second = arena_alloc(32, 1, &hint, &zeroed);
    assert_int_equal(slab_usage(), 4 * 32 * SLAB_BYTES); /* faulted in before they are used */
    const uint32_t third = arena_alloc(1, 1, &hint, &zeroed);
    assert_true(zeroed);
    assert_int_equal(slab_usage(), 4 * 32 * SLAB_BYTES);
    arena_free(first, 32);
    arena_free(second, 32);
    arena_free(third, 1);
    arena_purge_all();
    assert_int_equal(slab_usage(), 0);
}

static void test_huge_mappings(void **state)
{
    (void)state;
    const uint64_t page = os_page_bytes();
    huge_free(huge_alloc(1, 1)); /* the table is there from now on */
    const uint64_t before = usage_bytes();
    set_room(100 * page);
    char *block = huge_alloc(60 * page, 1);
    assert_int_equal(usage_bytes(), before + 60 * page);
    assert_null(huge_alloc(40 * page + 1, 1));
    assert_null(huge_resize(block, 101 * page));
    assert_int_equal(usage_bytes(), before + 60 * page);
    assert_int_equal(huge_bytes(block), 60 * page);
    block = huge_resize(block, 100 * page);
    assert_non_null(block);
    assert_null(huge_alloc(1, 1));
    block = huge_resize(block, 10 * page - 1);
    assert_int_equal(usage_bytes(), before + 10 * page);
    assert_null(huge_resize(block, (size_t)1 << 60));
    assert_true(huge_free(block));
    assert_int_equal(usage_bytes(), before);
    set_limit(NO_MEMORY_LIMIT);
    assert_null(huge_alloc((size_t)1 << 60, 1)); /* the kernel's refusal is undone, too */
    assert_int_equal(usage_bytes(), before);
}

/* A run that moves out takes along what it was granted, and needs only the difference. */
static void test_runs_that_move_out(void **state)
{
    (void)state;
    bool zeroed;
    huge_free(huge_alloc(1, 1)); /* the table is there from now on */
    char *block = large_alloc(8 * MIB, 1, &zeroed), *behind = large_alloc(SLAB_BYTES, 1, &zeroed);
    const uint64_t before = usage_bytes();
    set_room(MIB - 1);
    assert_null(large_resize(block, 9 * MIB));
    assert_int_equal(usage_bytes(), before);
    set_room(MIB);
    block = large_resize(block, 9 * MIB);
    assert_non_null(block);
    assert_int_equal(huge_bytes(block), 9 * MIB);
    assert_int_equal(usage_bytes(), before + MIB);
    large_free(block);
    assert_int_equal(spare_bytes(), 9 * MIB);
    assert_int_equal(usage_bytes(), before + MIB);
    large_free(behind);
    arena_purge_all();
    assert_int_equal(slab_usage(), 0);
}

static void test_records_at_the_limit(void **state)
{
    (void)state;
    const size_t much = 4 * MIB;
    const size_t mapped = usage_record_bytes();
    set_room(much - 1);
    assert_null(meta_alloc(much));
    assert_int_equal(usage_record_bytes(), mapped);
    set_room(much);
    assert_non_null(meta_alloc(much));
    assert_int_equal(usage_record_bytes(), mapped + much);
    const uint64_t limit = window.limit, records = usage_record_bytes();
    assert_false(window_grow((uint32_t)(limit / SUPERSLAB_SLABS))); /* its arrays are records as well */
    assert_int_equal(window.limit, limit);
    assert_int_equal(usage_record_bytes(), records);
    set_limit(NO_MEMORY_LIMIT);
    assert_true(window_grow((uint32_t)(limit / SUPERSLAB_SLABS)));
    assert_true(usage_record_bytes() > records);
}

static void child_counts_what_it_holds(void *unused)
{
    struct large_totals large;
    (void)unused;
    api_free(api_malloc(1 << 20)); /* recovers */
    large_read_totals(&large);
    CHECK(usage_bytes() ==
            arena_claimed_bytes() + arena_free_resident_bytes() + large.huge_bytes + usage_record_bytes(),
          "a sum that is right", NULL);
}

/* As of a thread that was about to map what it had taken. */
static void test_usage_is_corrected(void **state)
{
    (void)state;
    void *huge = api_malloc(100 << 20);
    const uint64_t before = usage_bytes();
    assert_true(usage_take(1 << 20));
    assert_child_passes(child_counts_what_it_holds, NULL);
    usage_give(1 << 20);
    assert_int_equal(usage_bytes(), before);
    api_free(huge);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fresh, unlimited)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_usage_is_corrected), /* first: with the arena that the process came up with */
        TEST(test_take_and_give),
        TEST(test_no_limit),
        TEST(test_records_count_twice),
        TEST(test_correction),
        TEST(test_threads_never_exceed_it),
        TEST(test_slabs),
        TEST(test_slabs_at_the_limit),
        TEST(test_wide_runs_at_the_limit),
        TEST(test_prewarmed_superslabs),
        TEST(test_huge_mappings),
        TEST(test_runs_that_move_out),
        TEST(test_records_at_the_limit),
    };
    return cmocka_run_group_tests_name("usage", tests, NULL, NULL);
}
