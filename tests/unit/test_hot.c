#include "unit.h"

#include "caches.h"

static unsigned slow_mallocs, slow_frees;
static size_t slow_bytes;
static const struct magazine *full_magazine; /* NULL: the last block was not refused because of one */
static void *slow_block;
static int marker;

static void *malloc_slow(size_t bytes)
{
    slow_mallocs++;
    slow_bytes = bytes;
    return &marker;
}

static void free_slow(void *block)
{
    slow_frees++;
    slow_block = block;
}

static void free_foreign(void *block, size_t offset)
{
    assert_true(offset >= sizeof(struct hot));
    free_slow(block);
}

static void free_full(void *block, struct magazine *m)
{
    free_slow(block);
    full_magazine = m;
}

static bool hits(size_t bytes)
{
    const unsigned before = slow_mallocs;
    hot_malloc(bytes, malloc_slow);
    return slow_mallocs == before;
}

static bool is_taken(void *block)
{
    const unsigned before = slow_frees;
    full_magazine = NULL;
    hot_free(block, free_slow, free_foreign, free_full);
    assert_true(slow_frees == before || slow_block == block);
    return slow_frees == before;
}

static void test_thread_without_a_cache(void **state)
{
    (void)state;
    assert_null(tcache_self());
    for (size_t bytes = 0; bytes <= TINY_MAX_BYTES; bytes++) {
        assert_ptr_equal(hot_malloc(bytes, malloc_slow), &marker);
        assert_int_equal(slow_bytes, bytes);
    }
    assert_false(hits(SIZE_MAX));
    assert_false(is_taken(NULL));
    assert_false(is_taken(&marker));
    assert_false(is_taken(window_slab_address(window.first_superslab * SUPERSLAB_SLABS)));
}

static void test_last_in_first_out(void **state)
{
    (void)state;
    struct tcache *t = new_cache();
    void *blocks[8];
    for (unsigned i = 0; i < 8; i++)
        blocks[i] = cache_take(t, 6);
    tcache_flush_bin(t, 6);
    tcache_enter(t);
    assert_ptr_equal(tcache_self(), t);
    assert_false(hits(112)); /* empty */
    for (unsigned i = 0; i < 8; i++)
        assert_true(is_taken(blocks[i]));
    assert_int_equal(magazine_count(t, 6), 8);
    assert_ptr_equal(hot_malloc(97, malloc_slow), blocks[7]);
    assert_ptr_equal(hot_malloc(112, malloc_slow), blocks[6]);
    assert_false(hits(113)); /* another bin */
    assert_false(hits(96));
    assert_true(is_taken(blocks[7]));
    assert_ptr_equal(hot_malloc(100, malloc_slow), blocks[7]);
    for (unsigned i = 6; i-- > 0;)
        assert_ptr_equal(hot_malloc(100, malloc_slow), blocks[i]);
    assert_false(hits(100));
    for (unsigned i = 0; i < 8; i++)
        assert_true(is_taken(blocks[i]));
    tcache_leave();
    assert_null(tcache_self());
    assert_false(is_taken(blocks[0]));
    tcache_flush_all(t);
}

static void test_every_size_finds_its_magazine(void **state)
{
    (void)state;
    struct tcache *t = new_cache();
    void *block[BIN_COUNT];
    for (unsigned bin = 0; bin < BIN_COUNT; bin++)
        block[bin] = cache_take(t, bin);
    tcache_flush_all(t);
    tcache_enter(t);
    for (size_t bytes = 0; bytes <= TINY_MAX_BYTES; bytes++) {
        const unsigned bin = bin_of_size(bytes);
        assert_true(is_taken(block[bin]));
        assert_int_equal(magazine_count(t, bin), 1);
        assert_ptr_equal(hot_malloc(bytes, malloc_slow), block[bin]);
    }
    for (unsigned bin = TINY_BIN_COUNT; bin < BIN_COUNT; bin++) { /* free is the same for medium blocks */
        assert_true(is_taken(block[bin]));
        assert_int_equal(magazine_count(t, bin), 1);
    }
    assert_false(hits(TINY_MAX_BYTES + 1));
    for (unsigned bin = 0; bin < TINY_BIN_COUNT; bin++)
        assert_true(is_taken(block[bin]));
    tcache_leave();
    tcache_flush_all(t);
}

static void test_what_goes_the_slow_way(void **state)
{
    (void)state;
    struct tcache *t = new_cache();
    struct tcache *other = new_cache();
    void *mine[64];
    const uint32_t capacity = t->bins[6].capacity;
    for (unsigned i = 0; i <= capacity; i++)
        mine[i] = cache_take(t, 6);
    void *theirs = cache_take(other, 6);
    tcache_flush_bin(t, 6);
    tcache_enter(t);
    hot_thread.limit = window.limit;
    assert_false(is_taken(theirs));
    assert_false(is_taken(NULL));
    assert_false(is_taken(&marker));
    assert_false(is_taken((void *)UINTPTR_MAX));
    assert_false(is_taken((void *)window.base)); /* the map itself */
    assert_false(is_taken(window_slab_address((uint32_t)window.limit - 1)));
    assert_true(is_taken(mine[0]));
    assert_false(is_taken(mine[0])); /* freed twice in a row */
    assert_null(full_magazine);
    for (unsigned i = 1; i < capacity; i++)
        assert_true(is_taken(mine[i]));
    assert_false(is_taken(mine[capacity])); /* full */
    assert_ptr_equal(full_magazine, &t->hot.bins[6]);
    assert_int_equal(magazine_count(t, 6), capacity);
    while (hot_pop(&t->hot.bins[6]) != NULL)
        ;
    t->hot.bins[6].end = t->bins[6].bottom; /* a checked mode */
    assert_false(is_taken(mine[0]));
    t->hot.bins[6].end = t->bins[6].bottom + capacity;
    hot_thread.limit = 0; /* a limit that lags behind is only slow */
    assert_false(is_taken(mine[0]));
    hot_thread.limit = window.limit;
    for (unsigned i = 0; i < capacity; i++)
        assert_true(is_taken(mine[i]));
    tcache_leave();
    cache_give(t, 6, mine[capacity]);
    cache_give(other, 6, theirs);
    tcache_flush_all(t);
    tcache_flush_all(other);
    assert_int_equal(t->heap.bins[6].outstanding, 0);
}

/* No map word of anything that is not a block of this heap may pass for one, whatever the heap's id. */
static void test_tags_are_unmistakable(void **state)
{
    (void)state;
    const uint32_t ids[] = {1, 2, 3, 1000, MAP_OWNER_MAX};
    const uint32_t range = BIN_COUNT * BIN_STRIDE_BYTES;
    for (unsigned i = 0; i < ARRAY_COUNT(ids); i++) {
        const uint32_t tag = ids[i] << MAP_OWNER_SHIFT;
        assert_true((0 ^ tag) >= range);
        assert_true(((MAP_LARGE + 1) ^ tag) >= range);
        assert_true(((MAP_LARGE + MAP_RUN_SLABS_MAX) ^ tag) >= range);
        for (unsigned k = 0; k < ARRAY_COUNT(ids); k++)
            for (uint32_t bin = 0; bin < BIN_COUNT; bin++)
                assert_int_equal(((ids[k] << MAP_OWNER_SHIFT | bin * BIN_STRIDE_BYTES) ^ tag) < range, i == k);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_thread_without_a_cache),
        cmocka_unit_test(test_last_in_first_out),
        cmocka_unit_test(test_every_size_finds_its_magazine),
        cmocka_unit_test(test_what_goes_the_slow_way),
        cmocka_unit_test(test_tags_are_unmistakable),
    };
    return cmocka_run_group_tests_name("hot", tests, NULL, NULL);
}
