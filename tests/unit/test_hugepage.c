#include "unit.h"

#include "config/policy.h"
#include "fake_kernel.h"
#include "fresh_arena.h"

static int fresh(void **state)
{
    (void)state;
    if (os_page_bytes() != 4096)
        skip();
    fresh_arena();
    mode = OS_HUGE_MADVISE;
    clock_ms += 10 * HUGEPAGE_BROKEN_MS;
    kernel_refuses = false;
    advice_count = 0;
    store_relaxed(&policy_live.thp, THP_DEFAULT);
    store_relaxed(&policy_live.huge_birth, 0);
    store_relaxed(&policy_live.decay_ms, 1000);
    store_relaxed(&policy_live.decay_floor_bytes, 0);
    store_relaxed(&policy_live.decay_rate_bytes, 0);
    return 0;
}

/* ---- */

static struct superslab_usage usage_of(uint32_t superslab)
{
    struct superslab_usage usage = {0};
    assert_true(arena_superslab_usage(superslab, &usage));
    return usage;
}

static enum superslab_pages pages_of(uint32_t superslab)
{
    return usage_of(superslab).pages;
}

/* `count` SuperSlabs, all in use; the first one's number. */
static uint32_t map_superslabs(uint32_t count)
{
    bool zeroed;
    uint32_t first = 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t slab = arena_alloc(SUPERSLAB_SLABS, 1, NULL, &zeroed);
        assert_int_not_equal(slab, SLAB_NONE);
        if (i == 0)
            first = slab / SUPERSLAB_SLABS;
    }
    return first;
}

static void unmap_superslab(uint32_t superslab)
{
    arena_free(superslab * SUPERSLAB_SLABS, SUPERSLAB_SLABS);
    arena_purge_all();
}

/* Counts the edges anew; the running count must say the same. */
static uint32_t edges_now(void)
{
    uint32_t first, end, edges = 0;
    arena_superslab_range(&first, &end);
    for (uint32_t i = first; i + 1 < end; i++) {
        const struct superslab *a = &superslab_table[i], *b = a + 1;
        if (a->state == SUPERSLAB_MAPPED && b->state == SUPERSLAB_MAPPED && ((a->pages ^ b->pages) >> 2 & 3) != 0)
            edges++;
    }
    assert_int_equal(arena.advice_edges, edges);
    return edges;
}

/* What the kernel has to keep for the SuperSlabs. */
static uint32_t mappings_now(void)
{
    uint32_t first, end, mappings = 0;
    arena_superslab_range(&first, &end);
    for (uint32_t i = first; i < end; i++)
        if (superslab_table[i].state == SUPERSLAB_MAPPED && (i == first || superslab_table[i - 1].state != SUPERSLAB_MAPPED))
            mappings++;
    return mappings + edges_now();
}

static void test_small_processes_opt_out(void **state)
{
    (void)state;
    mode = OS_HUGE_ALWAYS;
    const uint32_t first = map_superslabs(1);
    assert_int_equal(advice_count, 1);
    assert_false(last.is_huge);
    assert_int_equal(last.bytes, SUPERSLAB_BYTES);
    assert_int_equal(pages_of(first), SUPERSLAB_SMALL);
    struct superslab_usage usage;
    assert_false(arena_superslab_usage(first + 1, &usage));
}

static void test_madvise_is_left_alone(void **state)
{
    (void)state;
    const uint32_t first = map_superslabs(40);
    assert_int_equal(advice_count, 0); /* so that all of them are one mapping, which mremap wants */
    for (uint32_t i = 0; i < 40; i++)
        assert_int_equal(pages_of(first + i), SUPERSLAB_SMALL);
    assert_int_equal(edges_now(), 0);
}

static void test_always_is_used_once_the_heap_is_large(void **state)
{
    (void)state;
    for (mode = OS_HUGE_ALWAYS; mode != OS_HUGE_UNREAD; mode = mode == OS_HUGE_ALWAYS ? OS_HUGE_UNKNOWN : OS_HUGE_UNREAD) {
        fresh_arena();
        advice_count = 0;
        const uint32_t first = map_superslabs(HUGEPAGE_BORN_AFTER + 4);
        for (uint32_t i = 0; i < HUGEPAGE_BORN_AFTER + 4; i++)
            assert_int_equal(pages_of(first + i), i < HUGEPAGE_BORN_AFTER ? SUPERSLAB_SMALL : SUPERSLAB_HUGE);
        assert_int_equal(advice_count, HUGEPAGE_BORN_AFTER);
        assert_int_equal(edges_now(), 1);
        /* A wide run as well. */
        bool zeroed;
        const uint32_t wide = arena_alloc(70, 1, NULL, &zeroed) / SUPERSLAB_SLABS;
        for (uint32_t i = 0; i < 3; i++)
            assert_int_equal(pages_of(wide + i), SUPERSLAB_HUGE);
    }
}

static void test_never(void **state)
{
    (void)state;
    mode = OS_HUGE_ALWAYS;
    store_relaxed(&policy_live.thp, THP_NEVER);
    const uint32_t first = map_superslabs(HUGEPAGE_BORN_AFTER + 4);
    assert_int_equal(advice_count, HUGEPAGE_BORN_AFTER + 4);
    assert_false(last.is_huge);
    assert_int_equal(pages_of(first + HUGEPAGE_BORN_AFTER), SUPERSLAB_SMALL);
    assert_false(arena_superslab_make_huge(first, NULL));
    assert_int_equal(edges_now(), 0);
}

static void test_always(void **state)
{
    (void)state;
    store_relaxed(&policy_live.thp, THP_ALWAYS);
    const uint32_t first = map_superslabs(2);
    assert_int_equal(advice_count, 2);
    assert_true(last.is_huge);
    assert_int_equal(pages_of(first), SUPERSLAB_HUGE);
    assert_false(arena_superslab_break(first));
    assert_false(arena_may_purge(first, SUPERSLAB_BYTES / 2, true));
    assert_int_equal(pages_of(first), SUPERSLAB_HUGE);
    /* Part of one stays, a whole one goes. */
    arena_free(first * SUPERSLAB_SLABS, 31);
    assert_int_equal(arena_purge_all(), 0);
    arena_free(first * SUPERSLAB_SLABS + 31, 1);
    assert_int_equal(arena_purge_all(), SUPERSLAB_BYTES);
    /* Where the kernel gives none it makes no sense to hold on. */
    mode = OS_HUGE_NEVER;
    assert_int_equal(pages_of(map_superslabs(1)), SUPERSLAB_SMALL);
}

/* Learning predicts that what is mapped next will fill up. */
static void test_born_huge_on_request(void **state)
{
    (void)state;
    bool zeroed;
    store_relaxed(&policy_live.huge_birth, UINT32_MAX);
    const uint32_t first = map_superslabs(2);
    assert_int_equal(pages_of(first), SUPERSLAB_HUGE);
    assert_true(last.is_huge);
    assert_int_equal(last.bytes, SUPERSLAB_BYTES);
    assert_int_equal(pages_of(arena_alloc(40, 1, NULL, &zeroed) / SUPERSLAB_SLABS), SUPERSLAB_SMALL); /* a wide run */
    mode = OS_HUGE_NEVER;
    assert_int_equal(pages_of(map_superslabs(1)), SUPERSLAB_SMALL);
    mode = OS_HUGE_MADVISE;
    store_relaxed(&policy_live.thp, THP_NEVER);
    assert_int_equal(pages_of(map_superslabs(1)), SUPERSLAB_SMALL);
    edges_now();
}

/* So many may be huge on prediction alone; each that fills up, is broken or goes away makes room for another. */
static void test_born_huge_within_bounds(void **state)
{
    (void)state;
    store_relaxed(&policy_live.huge_birth, 2);
    const uint32_t first = map_superslabs(5);
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(pages_of(first + i), i < 2 ? SUPERSLAB_HUGE : SUPERSLAB_SMALL);
        assert_int_equal(arena_superslab_is_unproven(first + i), i < 2);
    }
    arena_superslab_prove(first);
    arena_superslab_prove(first); /* once is enough */
    arena_superslab_prove(first + 3);
    assert_int_equal(pages_of(first), SUPERSLAB_HUGE);
    assert_false(arena_superslab_is_unproven(first));
    const uint32_t second = map_superslabs(2);
    assert_int_equal(pages_of(second), SUPERSLAB_HUGE);
    assert_int_equal(pages_of(second + 1), SUPERSLAB_SMALL);
    assert_true(arena_superslab_break(second));
    const uint32_t third = map_superslabs(2);
    assert_int_equal(pages_of(third), SUPERSLAB_HUGE);
    assert_int_equal(pages_of(third + 1), SUPERSLAB_SMALL);
    unmap_superslab(third);
    assert_int_equal(pages_of(map_superslabs(1)), SUPERSLAB_HUGE);
    assert_int_equal(pages_of(map_superslabs(1)), SUPERSLAB_SMALL);
    assert_int_equal(arena.unproven, 2);
    edges_now();
}

static void test_make_and_break(void **state)
{
    (void)state;
    const uint32_t first = map_superslabs(4);
    assert_true(arena_superslab_break(first + 2)); /* there is nothing to break */
    assert_int_equal(pages_of(first + 2), SUPERSLAB_SMALL);
    assert_true(arena_superslab_make_huge(first + 2, NULL));
    assert_true(last.is_huge);
    assert_int_equal(last.address, (uintptr_t)window_slab_address((first + 2) * SUPERSLAB_SLABS));
    assert_int_equal(last.bytes, SUPERSLAB_BYTES);
    assert_int_equal(pages_of(first + 2), SUPERSLAB_HUGE);
    assert_int_equal(edges_now(), 2);
    const unsigned advices = advice_count;
    assert_true(arena_superslab_make_huge(first + 2, NULL)); /* it is so already */
    assert_int_equal(advice_count, advices);
    assert_true(arena_superslab_break(first + 2));
    assert_false(last.is_huge);
    assert_int_equal(pages_of(first + 2), SUPERSLAB_BROKEN);
    /* It rests for minutes. */
    assert_false(arena_superslab_make_huge(first + 2, NULL));
    clock_ms += HUGEPAGE_BROKEN_MS - 1000;
    assert_false(arena_superslab_make_huge(first + 2, NULL));
    assert_int_equal(pages_of(first + 2), SUPERSLAB_BROKEN);
    clock_ms += 1000;
    assert_true(arena_superslab_make_huge(first + 2, NULL));
    assert_int_equal(pages_of(first + 2), SUPERSLAB_HUGE);
    assert_false(arena_superslab_make_huge(first + 4, NULL)); /* nothing is mapped there */
    mode = OS_HUGE_NEVER;
    assert_false(arena_superslab_make_huge(first + 1, NULL));
    mode = OS_HUGE_MADVISE;
    kernel_refuses = true;
    assert_false(arena_superslab_make_huge(first + 1, NULL));
    assert_false(arena_superslab_break(first + 2));
    assert_int_equal(pages_of(first + 1), SUPERSLAB_SMALL);
    assert_int_equal(pages_of(first + 2), SUPERSLAB_HUGE);
    assert_int_equal(edges_now(), 2);
}

static void test_a_new_mapping_has_no_past(void **state)
{
    (void)state;
    const uint32_t first = map_superslabs(3);
    assert_true(arena_superslab_make_huge(first + 1, NULL));
    assert_true(arena_superslab_break(first + 1));
    unmap_superslab(first + 1);
    assert_int_equal(edges_now(), 0);
    assert_int_equal(map_superslabs(1), first + 1);
    assert_int_equal(pages_of(first + 1), SUPERSLAB_SMALL);
    assert_true(arena_superslab_make_huge(first + 1, NULL));
}

/* One touch of a huge page brings all of it: it counts as resident as a whole, and its zeroes are given back, too. */
static void test_resident_as_a_whole(void **state)
{
    (void)state;
    const uint32_t first = map_superslabs(2);
    bool zeroed;
    unmap_superslab(first + 1);
    const uint32_t slab = arena_alloc(1, 1, NULL, &zeroed);
    assert_int_equal(slab, (first + 1) * SUPERSLAB_SLABS);
    assert_int_equal(usage_of(first + 1).slabs_resident, 1);
    assert_int_equal(usage_of(first + 1).slabs_in_use, 1);
    assert_true(arena_superslab_make_huge(first + 1, NULL));
    assert_int_equal(usage_of(first + 1).slabs_resident, SUPERSLAB_SLABS);
    /* Nevertheless a slab that nobody has used is known to be zero. */
    assert_int_equal(arena_alloc(1, 1, NULL, &zeroed), slab + 1);
    assert_true(zeroed);
    assert_int_equal(arena_purge_all(), 30 * SLAB_BYTES);
    assert_int_equal(pages_of(first + 1), SUPERSLAB_BROKEN);
    assert_int_equal(usage_of(first + 1).slabs_resident, 2);
}

static void test_broken_when_enough_lies_idle(void **state)
{
    (void)state;
    const uint32_t first = map_superslabs(2);
    const size_t half = HUGEPAGE_IDLE_BYTES / 2;
    assert_true(arena_may_purge(first + 1, 4096, false)); /* SMALL: any time */
    assert_true(arena_superslab_make_huge(first + 1, NULL));
    assert_false(arena_may_purge(first + 1, half, false));
    clock_ms += 1000; /* in another period it counts anew: it may be the same again */
    assert_false(arena_may_purge(first + 1, half, false));
    assert_false(arena_may_purge(first + 1, half - 1024, false));
    assert_int_equal(pages_of(first + 1), SUPERSLAB_HUGE);
    assert_true(arena_may_purge(first + 1, 1024, false));
    assert_int_equal(pages_of(first + 1), SUPERSLAB_BROKEN);
    assert_true(arena_may_purge(first + 1, 4096, false));
    assert_true(arena_superslab_make_huge(first, NULL));
    assert_true(arena_may_purge(first, 4096, true));
    assert_int_equal(pages_of(first), SUPERSLAB_BROKEN);
}

/* Free slabs are seen again at every pass: they count once, beside what slabs in use have asked for. */
static void test_free_slabs_do_not_add_up(void **state)
{
    (void)state;
    const uint32_t first = map_superslabs(2);
    assert_true(arena_superslab_make_huge(first + 1, NULL));
    for (unsigned i = 0; i < 9; i++)
        assert_int_equal(hugepage_to_purge(first + 1, 0x7, false), 0);
    assert_false(arena_may_purge(first + 1, SLAB_BYTES, false));
    assert_int_equal(hugepage_to_purge(first + 1, 0x3, false), 0);
    assert_int_equal(pages_of(first + 1), SUPERSLAB_HUGE);
    assert_int_equal(hugepage_to_purge(first + 1, 0x7, false), 0x7);
    assert_int_equal(pages_of(first + 1), SUPERSLAB_BROKEN);
}

static void decay(void)
{
    clock_ms += 1000;
    arena_decay(clock_ms, 1000, UINT32_MAX);
}

static void test_decay_leaves_small_gaps(void **state)
{
    (void)state;
    const uint32_t first = map_superslabs(3);
    for (uint32_t i = 0; i < 3; i++)
        assert_true(arena_superslab_make_huge(first + i, NULL));
    arena_free((first + 1) * SUPERSLAB_SLABS, 3);
    arena_free((first + 2) * SUPERSLAB_SLABS, 4);
    for (unsigned i = 0; i < 4; i++)
        decay();
    assert_int_equal(pages_of(first), SUPERSLAB_HUGE);
    assert_int_equal(pages_of(first + 1), SUPERSLAB_HUGE);
    assert_int_equal(usage_of(first + 1).slabs_resident, SUPERSLAB_SLABS);
    assert_int_equal(pages_of(first + 2), SUPERSLAB_BROKEN);
    assert_int_equal(usage_of(first + 2).slabs_resident, 28);
    /* The whole of one goes without being broken; the lowest empty one stays mapped. */
    arena_free(first * SUPERSLAB_SLABS, SUPERSLAB_SLABS);
    for (unsigned i = 0; i < 4; i++)
        decay();
    assert_int_equal(pages_of(first), SUPERSLAB_HUGE);
    assert_int_equal(usage_of(first).slabs_resident, 0);
}

static void test_edges_are_bounded(void **state)
{
    (void)state;
    enum { COUNT = 200 };
    const uint32_t first = map_superslabs(COUNT);
    unsigned made = 0;
    for (uint32_t i = 1; i < COUNT; i += 2)
        made += arena_superslab_make_huge(first + i, NULL);
    assert_in_range(made, 10, COUNT / 4);
    assert_in_range(edges_now(), HUGEPAGE_EDGES_MAX - 1, HUGEPAGE_EDGES_MAX);
    /* What joins two neighbours costs none. */
    assert_true(arena_superslab_make_huge(first + 2, NULL));
    assert_true(edges_now() < HUGEPAGE_EDGES_MAX);
    for (uint32_t i = 0; i < COUNT; i++)
        arena_superslab_make_huge(first + i, NULL);
    assert_in_range(edges_now(), 0, HUGEPAGE_EDGES_MAX);
}

/* A break always succeeds: out of edges it takes a longer stretch along, which stays huge, and unproven. */
static void test_breaking_never_runs_out_of_edges(void **state)
{
    (void)state;
    enum { COUNT = 200 };
    mode = OS_HUGE_ALWAYS;
    store_relaxed(&policy_live.huge_birth, UINT32_MAX);
    const uint32_t first = map_superslabs(COUNT);
    for (uint32_t i = 0; i < COUNT; i += 2) {
        assert_true(arena_superslab_break(first + i));
        assert_int_equal(pages_of(first + i), SUPERSLAB_BROKEN);
        assert_in_range(edges_now(), 0, HUGEPAGE_EDGES_MAX);
    }
    assert_int_equal(arena.unproven, COUNT / 2);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_true(arena_superslab_break(first + i));
    assert_int_equal(edges_now(), 0);
}

/* Births as well: what is mapped beside another then gets its advice. */
static void test_random_lives_keep_the_bound(void **state)
{
    (void)state;
    enum { COUNT = 120 };
    uint64_t seed = 11;
    mode = OS_HUGE_ALWAYS;
    const uint32_t first = map_superslabs(COUNT);
    for (unsigned i = 0; i < 4000; i++) {
        const uint64_t r = next_random(&seed);
        const uint32_t superslab = first + (uint32_t)(r >> 8) % COUNT;
        struct superslab_usage usage;
        clock_ms += HUGEPAGE_BROKEN_MS / 4;
        store_relaxed(&policy_live.thp, r >> 40 & 1 ? THP_DEFAULT : THP_NEVER); /* for the births' sake */
        const uint32_t edges = edges_now(), mappings = mappings_now();
        if (!arena_superslab_usage(superslab, &usage)) {
            const uint32_t born = map_superslabs(1);
            assert_in_range(born, first, superslab);
            if (edges >= HUGEPAGE_EDGES_MAX &&
                (arena_superslab_usage(born - 1, &usage) || arena_superslab_usage(born + 1, &usage)))
                assert_in_range(mappings_now(), 0, mappings);
            continue;
        } else if (r % 3 == 0)
            unmap_superslab(superslab);
        else if (r % 3 == 1)
            assert_true(arena_superslab_break(superslab));
        else
            arena_superslab_make_huge(superslab, NULL);
        assert_in_range(edges_now(), 0, edges > HUGEPAGE_EDGES_MAX ? edges : HUGEPAGE_EDGES_MAX);
    }
}

static void test_collapse_within_a_budget(void **state)
{
    (void)state;
    const uint32_t first = map_superslabs(3);
    for (uint32_t i = 0; i < 3; i++)
        memset(window_slab_address((first + i) * SUPERSLAB_SLABS), 3, SUPERSLAB_BYTES);
    uint64_t budget = 0;
    assert_true(arena_superslab_make_huge(first, &budget)); /* the advice at least */
    assert_int_equal(budget, 0);
    budget = 10000000;
    assert_true(arena_superslab_make_huge(first + 1, &budget));
    assert_true(budget < 10000000);
    for (size_t i = 0; i < SUPERSLAB_BYTES; i += 4096)
        assert_int_equal(((char *)window_slab_address((first + 1) * SUPERSLAB_SLABS))[i], 3);
}

#define THREADS 4u

static uint32_t contended_first;

static void *make_and_break(void *argument)
{
    uint64_t seed = *(uint64_t *)argument;
    for (unsigned i = 0; i < 4000; i++) {
        const uint64_t r = next_random(&seed);
        const uint32_t superslab = contended_first + (uint32_t)(r >> 8) % 8;
        struct superslab_usage usage;
        bool zeroed;
        uint32_t slab;
        switch (r % 5) {
        case 0:
            arena_superslab_make_huge(superslab, NULL);
            break;
        case 1:
            arena_superslab_break(superslab);
            break;
        case 2:
            arena_may_purge(superslab, 65536, r >> 20 & 1);
            break;
        case 3:
            arena_superslab_usage(superslab, &usage);
            fetch_add_relaxed(&clock_ms, 60000);
            break;
        default:
            slab = arena_alloc(SUPERSLAB_SLABS, 1, NULL, &zeroed);
            if (slab != SLAB_NONE)
                arena_free(slab, SUPERSLAB_SLABS);
            if (i % 16 == 0)
                arena_purge_all();
        }
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    uint64_t seeds[THREADS] = {1, 22, 333, 4444};
    contended_first = map_superslabs(8);
    run_threads(THREADS, make_and_break, seeds, sizeof seeds[0]);
    edges_now();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_small_processes_opt_out, fresh),
        cmocka_unit_test_setup(test_madvise_is_left_alone, fresh),
        cmocka_unit_test_setup(test_always_is_used_once_the_heap_is_large, fresh),
        cmocka_unit_test_setup(test_never, fresh),
        cmocka_unit_test_setup(test_always, fresh),
        cmocka_unit_test_setup(test_born_huge_on_request, fresh),
        cmocka_unit_test_setup(test_born_huge_within_bounds, fresh),
        cmocka_unit_test_setup(test_make_and_break, fresh),
        cmocka_unit_test_setup(test_a_new_mapping_has_no_past, fresh),
        cmocka_unit_test_setup(test_resident_as_a_whole, fresh),
        cmocka_unit_test_setup(test_broken_when_enough_lies_idle, fresh),
        cmocka_unit_test_setup(test_free_slabs_do_not_add_up, fresh),
        cmocka_unit_test_setup(test_decay_leaves_small_gaps, fresh),
        cmocka_unit_test_setup(test_edges_are_bounded, fresh),
        cmocka_unit_test_setup(test_breaking_never_runs_out_of_edges, fresh),
        cmocka_unit_test_setup(test_random_lives_keep_the_bound, fresh),
        cmocka_unit_test_setup(test_collapse_within_a_budget, fresh),
        cmocka_unit_test_setup(test_threads, fresh),
    };
    os_start();
    return cmocka_run_group_tests_name("hugepage", tests, NULL, NULL);
}
