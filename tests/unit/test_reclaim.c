/* Memory is out, by the user's limit: what is retained goes first. */
#include "unit.h"

#include "arena/usage.h"
#include "caches.h"
#include "large/large.h"
#include "lifecycle/lifecycle.h"

#define MIB ((size_t)1 << 20)

static void *take(size_t bytes)
{
    return bytes <= TINY_MAX_BYTES ? hot_malloc(bytes, tcache_malloc_slow) : tcache_malloc_slow(bytes);
}

static void give(void *block)
{
    hot_free(block, tcache_free_slow, tcache_free_foreign, tcache_free_full);
}

static void set_room(uint64_t bytes)
{
    store_relaxed(&policy_live.memory_limit_bytes, usage_bytes() + bytes);
}

/* What is retained goes before a request is refused: for small and large blocks, and for growth, where a copy would
 * need twice as much. */
static void test_memory_limit(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    static void *blocks[COUNT];
    tcache_reclaim(0);
    void *large = take(16 * MIB), *huge = take(100 * MIB);
    memset(huge, 5, MIB);
    give(large); /* retained */
    set_room(8 * MIB);
    huge = tcache_resize_in_place(huge, 120 * MIB); /* 20 more, of which 12 had to come back */
    assert_non_null(huge);
    assert_int_equal(((char *)huge)[MIB - 1], 5);
    assert_null(tcache_resize_in_place(huge, 140 * MIB));
    assert_null(take(140 * MIB));
    assert_int_equal(tcache_usable_bytes(huge), 120 * MIB);
    give(huge);

    set_room(16 * MIB);
    for (unsigned i = 0; i < COUNT; i++)
        assert_non_null(blocks[i] = take(10000));
    for (unsigned i = 0; i < COUNT; i++)
        give(blocks[i]);
    assert_non_null(large = take(14 * MIB)); /* not without what magazines and spare slabs hold */
    set_room(0);
    for (unsigned i = 0; i < COUNT; i++)
        if ((blocks[i] = take(10000)) == NULL)
            break;
        else
            assert_true(i + 1 < COUNT);
    give(large);
    assert_non_null(large = take(13 * MIB));
    give(large);
    for (unsigned i = 0; i < COUNT && blocks[i] != NULL; i++)
        give(blocks[i]);
    reset_policy(NULL);
}

/* The stray heap keeps one empty run, which has to go before another bin may have one. */
static void test_memory_limit_without_a_cache(void **state)
{
    (void)state;
    const unsigned kept = bin_of_size(20000), wanted = bin_of_size(40);
    tcache_reclaim(0);
    set_room(0);
    while (stray_malloc(wanted) != NULL) /* what its slabs have left */
        ;
    set_room(SLAB_BYTES << bin_info(kept)->run_slabs_log2);
    struct tcache *t = tcache_self();
    tcache_leave();
    void *retained = stray_malloc(kept);
    assert_non_null(retained);
    tcache_reclaim(0); /* the arena is empty but for that run */
    assert_false(usage_has_room(1));
    heap_flush(&stray_heap, kept, &retained, 1);
    void *block = stray_malloc(wanted);
    tcache_enter(t);
    assert_non_null(block);
    give(block);
    reset_policy(NULL);
}

/* Whatever is free goes back at once, and the answer says how much that was. */
static void test_reclaim_says_how_much(void **state)
{
    (void)state;
    give(take(10)); /* now the thread has its cache */
    tcache_reclaim(0);
    const uint64_t before = usage_bytes();
    void *large = take(8 * MIB), *medium = take(10000), *tiny = take(700);
    give(large);
    give(medium);
    give(tiny);
    const uint64_t retained = usage_bytes() - before;
    assert_true(retained >= 8 * MIB);
    assert_int_equal(tcache_reclaim(0), retained);
    assert_int_equal(usage_bytes(), before);
    assert_int_equal(tcache_reclaim(0), 0);
}

static int start(void **state)
{
    (void)state;
    return process_start() ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reclaim_says_how_much),
        cmocka_unit_test(test_memory_limit),
        cmocka_unit_test(test_memory_limit_without_a_cache),
    };
    return cmocka_run_group_tests_name("reclaim", tests, start, NULL);
}
