#include "heaps.h"
#include "large/large.h"
#include "slab/occupancy.h"

static const unsigned bin_small = 3; /* of one slab */

static uint32_t superslab_of(const void *block)
{
    return (uint32_t)(window_slab_index(block) / SUPERSLAB_SLABS);
}

static void test_blocks_of_bins(void **state)
{
    (void)state;
    static void *blocks[8192];
    struct heap *h = new_heap();
    const struct bin_info *info = bin_info(bin_small);
    const unsigned got = take_slabs(h, bin_small, blocks, 2);
    const uint32_t superslab = superslab_of(blocks[0]);
    const uint32_t others = occupancy_used_bytes(superslab) - got * info->block_bytes;
    assert_int_equal(others, 0);
    heap_flush(h, bin_small, blocks, got / 2);
    assert_int_equal(occupancy_used_bytes(superslab), (got - got / 2) * info->block_bytes);
    /* Slabs of a second heap between them, and a run of several slabs. */
    struct heap *other = new_heap();
    const unsigned bin_wide = BIN_COUNT - 1;
    assert_true(bin_info(bin_wide)->run_slabs_log2 > 0);
    void *wide[2];
    assert_int_equal(take_blocks(other, bin_wide, wide, 2), 2);
    assert_int_equal(superslab_of(wide[0]), superslab);
    assert_int_equal(occupancy_used_bytes(superslab),
                     (got - got / 2) * info->block_bytes + 2 * bin_info(bin_wide)->block_bytes);
    heap_flush(other, bin_wide, wide, 2);
    heap_flush(h, bin_small, blocks + got / 2, got - got / 2);
    assert_int_equal(occupancy_used_bytes(superslab), 0);
}

static void test_large_blocks_are_full(void **state)
{
    (void)state;
    bool zeroed;
    void *block = large_alloc(5 * SLAB_BYTES, 1, &zeroed);
    const uint32_t superslab = superslab_of(block);
    const uint32_t with = occupancy_used_bytes(superslab);
    large_free(block);
    assert_int_equal(with - occupancy_used_bytes(superslab), 5 * SLAB_BYTES);
}

/* Who asks is about to take a huge page away: not where it cannot be known. */
static void test_a_busy_heap_counts_as_full(void **state)
{
    (void)state;
    void *block;
    struct lock_holder holder;
    struct heap *h = new_heap();
    assert_int_equal(take_blocks(h, bin_small, &block, 1), 1);
    const uint32_t superslab = superslab_of(block);
    const uint32_t used = occupancy_used_bytes(superslab);
    lock_holder_start(&holder, &h->lock);
    assert_int_equal(occupancy_used_bytes(superslab) - used, SLAB_BYTES - bin_info(bin_small)->block_bytes);
    lock_holder_end(&holder);
    assert_int_equal(occupancy_used_bytes(superslab), used);
    heap_flush(h, bin_small, &block, 1);
}

/* Slabs change hands while somebody looks: never more than a SuperSlab, and never a fault. */
static uint32_t stop; /* atomic */

static void *churn(void *argument)
{
    struct heap *h = argument;
    void *blocks[600];
    while (load_relaxed(&stop) == 0) {
        const unsigned got = take_blocks(h, BIN_COUNT - 4, blocks, 16);
        const unsigned more = take_blocks(h, bin_small, blocks + got, 500);
        heap_flush(h, BIN_COUNT - 4, blocks, got);
        heap_flush(h, bin_small, blocks + got, more);
        age(h, true);
    }
    return NULL;
}

static void test_while_slabs_come_and_go(void **state)
{
    (void)state;
    pthread_t threads[2];
    for (unsigned i = 0; i < 2; i++)
        start_thread(&threads[i], churn, new_heap());
    uint32_t most = 0;
    for (unsigned i = 0; i < 20000; i++) {
        const uint32_t used = occupancy_used_bytes(window.first_superslab);
        most = used > most ? used : most;
    }
    store_relaxed(&stop, 1);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_true(most <= SUPERSLAB_BYTES);
    assert_int_equal(occupancy_used_bytes(window.first_superslab), 0);
}

static void test_moved_blocks_are_reported(void **state)
{
    (void)state;
    void *blocks[100];
    struct heap *h = new_heap();
    const uint64_t before = load_relaxed(&heap_moved_blocks);
    take_blocks(h, bin_small, blocks, 100);
    heap_flush(h, bin_small, blocks, 100);
    assert_int_equal(load_relaxed(&heap_moved_blocks), before);
    heap_report_moved(h);
    heap_report_moved(h);
    assert_int_equal(load_relaxed(&heap_moved_blocks) - before, 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks_of_bins),
        cmocka_unit_test(test_large_blocks_are_full),
        cmocka_unit_test(test_a_busy_heap_counts_as_full),
        cmocka_unit_test(test_while_slabs_come_and_go),
        cmocka_unit_test(test_moved_blocks_are_reported),
    };
    return cmocka_run_group_tests_name("occupancy", tests, NULL, NULL);
}
