#include "unit.h"

#include "fresh_arena.h"

/* A machine with two nodes: the thread runs where the test says. */
static uint32_t here;
static unsigned asked;

uint32_t os_current_node(void)
{
    asked++;
    return here;
}

static void go_to(uint32_t node)
{
    here = node;
    assert_int_equal(node_refresh(), node);
}

static int one_node(void **state)
{
    (void)state;
    fresh_arena();
    store_relaxed(&os_nodes, 1);
    asked = 0;
    return 0;
}

static int two_nodes(void **state)
{
    one_node(state);
    store_relaxed(&os_nodes, 2);
    go_to(0);
    return 0;
}

static uint32_t node_of(uint32_t slab)
{
    return load_relaxed(&superslab_of_slab(slab)->node);
}

static uint64_t mapped(void)
{
    struct arena_totals t;
    arena_read_totals(&t);
    return t.mapped_bytes / SUPERSLAB_BYTES;
}

static void test_one_node_asks_nobody(void **state)
{
    (void)state;
    here = 1;
    const uint32_t slab = take_slabs(70);
    assert_int_equal(take_slabs(1), slab + 70);
    assert_int_equal(node_self(), NODE_ANY);
    assert_int_equal(node_refresh(), NODE_ANY);
    assert_int_equal(node_of(slab), 0);
    assert_int_equal(asked, 0);
}

static void test_asked_when_the_second_is_mapped(void **state)
{
    (void)state;
    store_relaxed(&os_nodes, 0);
    take_slabs(20);
    assert_int_equal(load_relaxed(&os_nodes), 0);
    take_slabs(20);
    assert_int_equal(load_relaxed(&os_nodes), os_node_count());
}

static void test_each_node_has_its_own(void **state)
{
    (void)state;
    const uint32_t on_zero = take_slabs(4);
    assert_int_equal(on_zero, first_slab());
    go_to(1);
    const uint32_t on_one = take_slabs(4);
    assert_int_equal(on_one, first_slab() + 32); /* although there is room on the other */
    assert_int_equal(node_of(on_zero), 0);
    assert_int_equal(node_of(on_one), 1);
    assert_int_equal(take_slabs(4), on_one + 4);
    go_to(0);
    assert_int_equal(take_slabs(4), on_zero + 4);
    const unsigned before = asked;
    for (unsigned i = 0; i < 5; i++)
        take_slabs(4);
    assert_int_equal(asked, before); /* only a refresh asks */
    assert_int_equal(mapped(), 2);
}

/* A heap's preferred SuperSlab is left behind by a thread that has moved. */
static void test_hint_of_another_node(void **state)
{
    (void)state;
    bool zeroed;
    uint32_t hint = 0;
    const uint32_t on_zero = arena_alloc(1, 1, &hint, &zeroed);
    assert_int_equal(hint, on_zero / 32);
    go_to(1);
    const uint32_t on_one = arena_alloc(1, 1, &hint, &zeroed);
    assert_int_equal(node_of(on_one), 1);
    assert_int_equal(hint, on_one / 32);
}

static void test_empty_ones_without_pages_are_anybodys(void **state)
{
    (void)state;
    const uint32_t slab = take_slabs(4);
    arena_free(slab, 4);
    go_to(1);
    assert_int_equal(take_slabs(2), slab + 32); /* it holds pages of the other node */
    assert_int_equal(mapped(), 2);
    arena_free(slab + 32, 2);
    arena_purge_all(); /* unmaps the empty ones ... */
    go_to(0);
    assert_int_equal(take_slabs(32), slab);
    memset(window_slab_address(slab), 1, 4096);
    arena_free(slab, 32);
    superslab_of_slab(slab)->dirty_mask = 0; /* ... but not one that decayed */
    superslab_count(-superslab_held(0, superslab_free_resident_count()));
    go_to(1);
    assert_int_equal(take_slabs(2), slab);
    assert_int_equal(node_of(slab), 1);
    assert_int_equal(mapped(), 1);
}

/* Locality must not double the heap. */
static void test_growth_beside_free_memory_is_bounded(void **state)
{
    (void)state;
    enum { COUNT = 40 };
    uint32_t slabs[COUNT];
    for (unsigned i = 0; i < COUNT; i++)
        slabs[i] = take_slabs(32);
    for (unsigned i = 0; i < COUNT; i++)
        arena_free(slabs[i] + 1, 31);
    assert_false(node_may_grow());
    go_to(1);
    assert_int_equal(take_slabs(1), slabs[0] + 1);
    assert_int_equal(node_of(slabs[0]), 0);
    assert_int_equal(mapped(), COUNT);
}

static void test_taken_from_anywhere_before_it_fails(void **state)
{
    (void)state;
    const uint32_t slab = take_slabs(4);
    go_to(1);
    window.superslab_max = arena.next; /* nothing more can be mapped */
    assert_int_equal(take_slabs(4), slab + 4);
    assert_int_equal(node_of(slab), 0);
    assert_int_equal(take_slabs(32), SLAB_NONE);
}

static void test_wide_runs(void **state)
{
    (void)state;
    const uint32_t wide = take_slabs(70);
    assert_int_equal(node_of(wide + 64), 0);
    go_to(1);
    const uint32_t other = take_slabs(40);
    assert_int_equal(other, wide + 96); /* not into what the other left of its third */
    assert_int_equal(node_of(other), 1);
    arena_free(wide, 70);
    arena_free(other, 40);
    assert_int_equal(take_slabs(64), other); /* its own pages, although the lower ones are free as well */
    arena_free(other, 64);
    window.superslab_max = arena.next;
    assert_int_equal(take_slabs(5 * 32), wide); /* across both: there is nothing else */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_one_node_asks_nobody, one_node),
        cmocka_unit_test_setup(test_asked_when_the_second_is_mapped, one_node),
        cmocka_unit_test_setup(test_each_node_has_its_own, two_nodes),
        cmocka_unit_test_setup(test_hint_of_another_node, two_nodes),
        cmocka_unit_test_setup(test_empty_ones_without_pages_are_anybodys, two_nodes),
        cmocka_unit_test_setup(test_growth_beside_free_memory_is_bounded, two_nodes),
        cmocka_unit_test_setup(test_taken_from_anywhere_before_it_fails, two_nodes),
        cmocka_unit_test_setup(test_wide_runs, two_nodes),
    };
    os_start();
    return cmocka_run_group_tests_name("node", tests, NULL, NULL);
}
