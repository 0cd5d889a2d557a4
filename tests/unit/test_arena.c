#define _GNU_SOURCE
#include "unit.h"

#include <sys/mman.h>

#include "config/policy.h"
#include "fresh_arena.h"
#include "os/os.h"

static int fresh(void **state)
{
    (void)state;
    fresh_arena();
    return 0;
}

static void touch(uint32_t slab, uint32_t slabs, char value)
{
    for (uint32_t i = 0; i < slabs; i++)
        memset(window_slab_address(slab + i), value, 64);
}

static void test_narrow(void **state)
{
    (void)state;
    bool zeroed = false;
    assert_int_equal(arena_alloc(1, 1, NULL, &zeroed), first_slab());
    assert_true(zeroed);
    assert_int_equal(arena_alloc(3, 1, NULL, &zeroed), first_slab() + 1);
    assert_int_equal(arena_alloc(4, 4, NULL, &zeroed), first_slab() + 4);
    assert_int_equal(arena_alloc(1, 2, NULL, &zeroed), first_slab() + 8);
    assert_int_equal(arena_alloc(2, 2, NULL, &zeroed), first_slab() + 10);
    assert_int_equal(arena_alloc(1, 1, NULL, &zeroed), first_slab() + 9); /* the gap */
    touch(first_slab(), 12, 1);
    assert_int_equal(arena_totals_now().mapped_bytes, SUPERSLAB_BYTES);
    assert_int_equal(arena_totals_now().free_clean_bytes, 20 * SLAB_BYTES);
    assert_int_equal(arena_totals_now().free_dirty_bytes, 0);
    assert_int_equal(arena_alloc(32, 32, NULL, &zeroed), first_slab() + 32);
    assert_int_equal(arena_totals_now().superslabs_mapped, 2);
}

static void test_reuse_lowest_first(void **state)
{
    (void)state;
    bool zeroed;
    assert_int_equal(take_slabs(40 - 8), first_slab());
    assert_int_equal(take_slabs(8), first_slab() + 32);
    touch(first_slab(), 40, 5);
    arena_free(first_slab() + 35, 1);
    arena_free(first_slab() + 7, 2);
    arena_free(first_slab() + 20, 1);
    assert_int_equal(arena_totals_now().free_dirty_bytes, 4 * SLAB_BYTES);
    assert_int_equal(arena_alloc(1, 1, NULL, &zeroed), first_slab() + 7);
    assert_false(zeroed);
    assert_int_equal(arena_alloc(1, 1, NULL, &zeroed), first_slab() + 8);
    assert_int_equal(arena_alloc(1, 1, NULL, &zeroed), first_slab() + 20);
    assert_int_equal(arena_alloc(1, 1, NULL, &zeroed), first_slab() + 35);
    assert_int_equal(arena_alloc(1, 1, NULL, &zeroed), first_slab() + 40);
    assert_true(zeroed);
    assert_int_equal(arena_totals_now().superslabs_mapped, 2);
}

static void test_hint_comes_first(void **state)
{
    (void)state;
    bool zeroed;
    uint32_t hint = 0;
    take_slabs(30);
    assert_int_equal(arena_alloc(4, 1, &hint, &zeroed), first_slab() + 32);
    assert_int_equal(hint, window.first_superslab + 1);
    assert_int_equal(arena_alloc(1, 1, &hint, &zeroed), first_slab() + 36); /* although the first has room */
    assert_int_equal(arena_alloc(1, 1, NULL, &zeroed), first_slab() + 30);
    assert_int_equal(arena_alloc(28, 1, &hint, &zeroed), first_slab() + 64);
    assert_int_equal(hint, window.first_superslab + 2);
}

static void test_alignment(void **state)
{
    (void)state;
    bool zeroed;
    take_slabs(3);
    for (uint32_t alignment = 1; alignment <= 1024; alignment *= 2) {
        const uint32_t sizes[] = {1, 5, 33};
        for (unsigned i = 0; i < ARRAY_COUNT(sizes); i++) {
            const uint32_t slab = arena_alloc(sizes[i], alignment, NULL, &zeroed);
            assert_true(slab != SLAB_NONE);
            assert_int_equal((uintptr_t)window_slab_address(slab) % (alignment * SLAB_BYTES), 0);
            touch(slab, sizes[i], 1);
        }
    }
    /* What alignment skipped is not lost. */
    const uint64_t mapped = arena_totals_now().superslabs_mapped;
    uint32_t slab = take_slabs(32);
    assert_true(slab < first_slab() + 32 * 40);
    assert_int_equal(arena_totals_now().superslabs_mapped, mapped + 1);
}

static void test_extend_inside(void **state)
{
    (void)state;
    bool zeroed = false;
    const uint32_t a = take_slabs(4);
    assert_true(arena_extend(a, 4, 10, &zeroed));
    assert_true(zeroed);
    touch(a, 10, 1);
    const uint32_t b = take_slabs(1);
    assert_int_equal(b, a + 10);
    assert_false(arena_extend(a, 10, 11, &zeroed));
    arena_free(b, 1);
    assert_true(arena_extend(a, 10, 32, &zeroed));
    assert_false(zeroed); /* b's page */
    assert_int_equal(arena_totals_now().free_clean_bytes + arena_totals_now().free_dirty_bytes, 0);
}

static void test_extend_over_the_edge(void **state)
{
    (void)state;
    bool zeroed = false;
    const uint32_t a = take_slabs(20);
    assert_true(arena_extend(a, 20, 100, &zeroed));
    assert_true(zeroed);
    touch(a, 100, 1);
    assert_int_equal(arena_totals_now().superslabs_mapped, 4);
    assert_int_equal(arena_totals_now().free_clean_bytes, 28 * SLAB_BYTES);
    arena_free(a, 100);
    assert_int_equal(arena_totals_now().free_dirty_bytes, 100 * SLAB_BYTES);
    assert_int_equal(take_slabs(32), a);
}

static void test_extend_is_all_or_nothing(void **state)
{
    (void)state;
    bool zeroed;
    const uint32_t a = take_slabs(20);
    const uint32_t b = arena_alloc(32, 32, NULL, &zeroed);
    const uint32_t c = arena_alloc(32, 32, NULL, &zeroed);
    assert_int_equal(c, a + 64);
    arena_free(b, 32);
    const struct arena_totals before = arena_totals_now();
    assert_false(arena_extend(a, 20, 65, &zeroed)); /* c is in the way */
    const struct arena_totals after = arena_totals_now();
    assert_int_equal(after.free_clean_bytes + after.free_dirty_bytes,
                     before.free_clean_bytes + before.free_dirty_bytes);
    assert_int_equal(take_slabs(32), b);
    assert_int_equal(take_slabs(12), a + 20);
}

static void test_foreign_mapping_in_the_way(void **state)
{
    (void)state;
    bool zeroed;
    const uint32_t superslab = window.first_superslab + 1;
    char *foreign = (char *)window_slab_address(superslab * SUPERSLAB_SLABS) + 5 * SLAB_BYTES;
    assert_int_equal(os_map_at((uintptr_t)foreign, SLAB_BYTES), OS_MAP_OK);
    *foreign = 42;
    assert_int_equal(take_slabs(32), first_slab());
    assert_int_equal(take_slabs(32), first_slab() + 64); /* not 32: somebody is there */
    assert_int_equal(superslab_table[superslab].state, SUPERSLAB_FOREIGN);
    assert_int_equal(superslab_table[superslab].free_mask, 0);

    /* A wide run meets one, too: the slots before and behind it stay good. */
    char *second = (char *)window_slab_address(first_slab() + 4 * 32);
    assert_int_equal(os_map_at((uintptr_t)second, SLAB_BYTES), OS_MAP_OK);
    *second = 43;
    const uint32_t wide = arena_alloc(64, 1, NULL, &zeroed);
    assert_int_equal(wide, first_slab() + 5 * 32);
    touch(wide, 64, 1);
    assert_int_equal(take_slabs(32), first_slab() + 3 * 32);
    assert_false(arena_extend(first_slab() + 3 * 32, 32, 33, &zeroed));
    assert_int_equal(*foreign, 42);
    assert_int_equal(*second, 43);
    assert_int_equal(arena_totals_now().mapped_bytes, 5 * SUPERSLAB_BYTES);
    os_unmap(foreign, SLAB_BYTES);
    os_unmap(second, SLAB_BYTES);
}

static void test_foreign_mapping_met_by_extension(void **state)
{
    (void)state;
    bool zeroed;
    const uint32_t a = take_slabs(32);
    char *foreign = window_slab_address(first_slab() + 32);
    assert_int_equal(os_map_at((uintptr_t)foreign, SLAB_BYTES), OS_MAP_OK);
    assert_false(arena_extend(a, 32, 40, &zeroed));
    assert_false(arena_extend(a, 32, 40, &zeroed));
    assert_int_equal(take_slabs(1), first_slab() + 64);
    os_unmap(foreign, SLAB_BYTES);
}

static void test_window_full(void **state)
{
    (void)state;
    bool zeroed;
    window.superslab_max = window.first_superslab + 3;
    const uint32_t a = take_slabs(32);
    assert_int_equal(arena_alloc(97, 1, NULL, &zeroed), SLAB_NONE);
    assert_int_equal(arena_alloc(1, 1u << 20, NULL, &zeroed), SLAB_NONE);
    assert_int_equal(arena_alloc(64, 1, NULL, &zeroed), first_slab() + 32);
    assert_int_equal(take_slabs(1), SLAB_NONE);
    assert_int_equal(take_slabs(33), SLAB_NONE);
    assert_false(arena_extend(first_slab() + 32, 64, 65, &zeroed));
    arena_free(a, 32);
    assert_int_equal(take_slabs(32), a);
}

static void test_no_window(void **state)
{
    (void)state;
    window = (struct window){0};
    bool zeroed;
    assert_int_equal(arena_alloc(1, 1, NULL, &zeroed), SLAB_NONE);
    assert_int_equal(arena_alloc(100, 1, NULL, &zeroed), SLAB_NONE);
    assert_int_equal(arena_purge_all(), 0);
    arena_decay(1, 0, 0);
    assert_int_equal(arena_totals_now().mapped_bytes, 0);
}

static void run_out(void *argument)
{
    (void)argument;
    fresh_arena();
    REQUIRE(take_slabs(32) != SLAB_NONE);
    struct rlimit limit;
    REQUIRE(getrlimit(RLIMIT_AS, &limit) == 0);
    const struct rlimit none = {1 << 20, limit.rlim_max};
    REQUIRE(setrlimit(RLIMIT_AS, &none) == 0);
    REQUIRE(take_slabs(1) == SLAB_NONE);
    REQUIRE(take_slabs(64) == SLAB_NONE);
    bool zeroed;
    REQUIRE(!arena_extend(first_slab(), 32, 33, &zeroed));
    REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0);
    REQUIRE(take_slabs(1) == first_slab() + 32); /* refused once is not refused for ever */
}

static void test_memory_is_out(void **state)
{
    (void)state;
    assert_child_passes(run_out, NULL);
}

static unsigned resident_pages(uint32_t superslab)
{
    static unsigned char pages[SUPERSLAB_BYTES / 4096];
    unsigned count = 0;
    assert_int_equal(mincore(window_slab_address(superslab * SUPERSLAB_SLABS), SUPERSLAB_BYTES, pages), 0);
    for (unsigned i = 0; i < SUPERSLAB_BYTES / os_page_bytes(); i++)
        count += pages[i] & 1;
    return count;
}

static void test_prewarm(void **state)
{
    (void)state;
    bool zeroed = false;
    arena_start(2);
    take_slabs(32);
    assert_int_equal(arena_totals_now().superslabs_mapped, 1); /* a short command pays nothing */
    assert_int_equal(take_slabs(32), first_slab() + 32);
    assert_int_equal(arena_totals_now().superslabs_mapped, 4);
    for (uint32_t i = 2; i < 4; i++)
        assert_int_equal(resident_pages(window.first_superslab + i), SUPERSLAB_BYTES / os_page_bytes());
    assert_int_equal(arena_totals_now().free_dirty_bytes, 2 * SUPERSLAB_BYTES); /* there are pages behind them */
    for (uint64_t now = 1000000; now < 1010000; now += 1000) /* not to be given back before use */
        arena_decay(now, 1000, 1);
    assert_int_equal(arena_totals_now().superslabs_released, 0);
    assert_int_equal(arena_alloc(1, 1, NULL, &zeroed), first_slab() + 64);
    assert_true(zeroed);
    take_slabs(31);
    take_slabs(32);
    assert_int_equal(arena_totals_now().superslabs_mapped, 4);
    take_slabs(1);
    assert_int_equal(arena_totals_now().superslabs_mapped, 5); /* once only */
}

/* What was given back between them does not hide free slabs that hold pages. */
static void test_pages_are_looked_for_far_up(void **state)
{
    (void)state;
    enum { COUNT = 100 };
    uint32_t slabs[COUNT];
    for (unsigned i = 0; i < COUNT; i++)
        slabs[i] = take_slabs(32);
    for (unsigned i = 0; i < COUNT; i++)
        arena_free(slabs[i], 32);
    for (unsigned i = 0; i + 1 < COUNT; i++)
        arena_purge_free(slabs[i] / SUPERSLAB_SLABS, UINT32_MAX, PURGE_ASKED_FOR);
    for (unsigned i = 0; i < 31; i++)
        assert_int_equal(take_slabs(1), slabs[COUNT - 1] + i);
    assert_int_equal(take_slabs(2), slabs[0]); /* one with pages is left, which is no run */
}

#define THREADS 4u
#define HELD 6u

static uint32_t damage;

static void *churn(void *argument)
{
    uint64_t seed = *(uint64_t *)argument;
    const uint64_t mine = seed;
    struct {
        uint32_t slab, slabs;
    } held[HELD] = {{0, 0}};
    uint32_t hint = 0;
    for (unsigned i = 0; i < 3000; i++) {
        const uint64_t r = next_random(&seed);
        const unsigned at = (unsigned)(r % HELD);
        bool zeroed;
        if (held[at].slab != SLAB_NONE) {
            for (uint32_t s = 0; s < held[at].slabs; s++) {
                uint64_t *mark = window_slab_address(held[at].slab + s);
                if (*mark != mine)
                    fetch_add_relaxed(&damage, 1);
            }
            const uint32_t more = held[at].slabs + (uint32_t)(r >> 40) % 5;
            if (r >> 50 & 1 && arena_extend(held[at].slab, held[at].slabs, more, &zeroed))
                held[at].slabs = more;
            arena_free(held[at].slab, held[at].slabs);
        }
        held[at].slabs = 1 + (uint32_t)(r >> 8) % ((r >> 16) % 8 == 0 ? 80 : 6);
        held[at].slab = arena_alloc(held[at].slabs, 1u << (r >> 24) % 3, r >> 30 & 1 ? &hint : NULL, &zeroed);
        for (uint32_t s = 0; held[at].slab != SLAB_NONE && s < held[at].slabs; s++) {
            uint64_t *mark = window_slab_address(held[at].slab + s);
            if (zeroed && *mark != 0)
                fetch_add_relaxed(&damage, 1);
            *mark = mine;
        }
        if (i % 500 == mine % 500)
            arena_purge_all();
    }
    for (unsigned at = 0; at < HELD; at++)
        if (held[at].slab != SLAB_NONE)
            arena_free(held[at].slab, held[at].slabs);
    return NULL;
}

static void test_draining_is_claimed_from_last(void **state)
{
    (void)state;
    store_relaxed(&policy_live.steer_to_full, 1);
    const uint32_t a = take_slabs(32), b = take_slabs(32);
    struct superslab *sparse = superslab_of_slab(a);
    touch(a, 32, 1);
    touch(b, 32, 1);
    arena_free(a, 31);
    arena_free(b + 30, 2);
    store_relaxed(&sparse->draining, 1);
    assert_int_equal(take_slabs(1), b + 30); /* although there is lower room */
    arena_purge_all();
    assert_int_equal(take_slabs(1), b + 31); /* rather a page fault */
    uint32_t hint = a / SUPERSLAB_SLABS;
    bool zeroed;
    assert_int_equal(arena_alloc(1, 1, &hint, &zeroed), a); /* rather than map another one, though */
    assert_int_equal(arena_totals_now().superslabs_mapped, 2);
    assert_int_equal(take_slabs(31), 2 * 32 + first_slab()); /* which this needs */
    store_relaxed(&sparse->draining, 0);
    assert_int_equal(take_slabs(1), a + 1);
    /* Mapped anew it is like any other. */
    store_relaxed(&sparse->draining, 1);
    arena_free(a, 2);
    arena_free(a + 31, 1);
    arena_purge_all();
    assert_int_equal(sparse->state, SUPERSLAB_ABSENT);
    assert_int_equal(take_slabs(32), a);
    assert_int_equal(sparse->draining, 0);
    store_relaxed(&policy_live.steer_to_full, 0);
}

static void test_threads_never_share(void **state)
{
    (void)state;
    uint64_t seeds[THREADS] = {101, 202, 303, 404};
    run_threads(THREADS, churn, seeds, sizeof seeds[0]);
    assert_int_equal(damage, 0);
    const struct arena_totals t = arena_totals_now();
    assert_int_equal(t.free_clean_bytes + t.free_dirty_bytes, t.mapped_bytes); /* nothing lost */
    assert_int_equal(t.mapped_bytes, (t.superslabs_mapped - t.superslabs_released) * SUPERSLAB_BYTES);
    arena_purge_all();
    assert_int_equal(arena_totals_now().mapped_bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_narrow, fresh),
        cmocka_unit_test_setup(test_reuse_lowest_first, fresh),
        cmocka_unit_test_setup(test_hint_comes_first, fresh),
        cmocka_unit_test_setup(test_alignment, fresh),
        cmocka_unit_test_setup(test_extend_inside, fresh),
        cmocka_unit_test_setup(test_extend_over_the_edge, fresh),
        cmocka_unit_test_setup(test_extend_is_all_or_nothing, fresh),
        cmocka_unit_test_setup(test_foreign_mapping_in_the_way, fresh),
        cmocka_unit_test_setup(test_foreign_mapping_met_by_extension, fresh),
        cmocka_unit_test_setup(test_window_full, fresh),
        cmocka_unit_test_setup(test_no_window, fresh),
        cmocka_unit_test_setup(test_memory_is_out, fresh),
        cmocka_unit_test_setup(test_prewarm, fresh),
        cmocka_unit_test_setup(test_pages_are_looked_for_far_up, fresh),
        cmocka_unit_test_setup(test_draining_is_claimed_from_last, fresh),
        cmocka_unit_test_setup(test_threads_never_share, fresh),
    };
    return cmocka_run_group_tests_name("arena", tests, NULL, NULL);
}
