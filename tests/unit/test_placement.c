/* Which slab serves next: what a heap's lists and the table of heaps do together so that sparse slabs drain. */
#include "unit.h"

#include "heaps.h"

#define BIN 23u /* 2048 bytes, 32 blocks a slab */
#define SLAB_BLOCKS 32u
#define BIN_32K 41u /* 8 blocks in a run of four slabs */

static void *blocks[2048];

/* `count` full slabs; block i of slab s is blocks[s * SLAB_BLOCKS + i]. */
static void fill(struct heap *h, unsigned count)
{
    assert_int_equal(take_slabs(h, BIN, blocks, count), count * SLAB_BLOCKS);
}

static uint32_t slab_number(unsigned s)
{
    return slab_of(blocks[s * SLAB_BLOCKS], BIN);
}

static void give(struct heap *h, unsigned s, unsigned count)
{
    heap_flush(h, BIN, blocks + s * SLAB_BLOCKS, count);
}

static unsigned refill(struct heap *h, unsigned count)
{
    void *out[SLAB_BLOCKS * 4];
    return heap_refill(h, BIN, out + count - 1, count);
}

static void test_the_fullest_slab_is_next(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    fill(h, 3);
    give(h, 1, 9);
    give(h, 2, 20);
    give(h, 0, 12); /* at the front */
    assert_int_equal(h->bins[BIN].list, slab_number(0));
    assert_int_equal(refill(h, 12), 12); /* the one at hand is used up ... */
    assert_int_equal(h->bins[BIN].list, slab_number(1)); /* ... then not what happens to come next */
    assert_int_equal(listed_slabs(h, BIN), 2);
    assert_int_equal(refill(h, 10), 9); /* nearly all: not worth a look at the next one */
    assert_int_equal(refill(h, 1), 1);
    assert_int_equal(slab_at(slab_number(1))->state, SLAB_FULL);
    assert_int_equal(slab_at(slab_number(2))->free_count, 19);
}

static void test_of_equals_the_lowest(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    fill(h, 3);
    give(h, 1, 10);
    give(h, 2, 10);
    give(h, 0, 5);
    assert_int_equal(refill(h, 5), 5);
    const uint32_t lower = slab_number(1) < slab_number(2) ? slab_number(1) : slab_number(2);
    assert_int_equal(h->bins[BIN].list, lower);
}

/* One is held back until all others have been used, however long the list is. */
static void test_a_sparse_slab_waits_until_the_end(void **state)
{
    (void)state;
    enum { COUNT = 40, SPARSE = 29 };
    struct heap *h = new_heap();
    fill(h, COUNT);
    for (unsigned s = 0; s < COUNT; s++)
        give(h, s, s == SPARSE ? 31 : 8 + s % 7);
    for (unsigned s = 0, left = COUNT; left > 1; s++, left = listed_slabs(h, BIN)) {
        assert_int_equal(slab_at(slab_number(SPARSE))->free_count, 31);
        assert_true(s < COUNT);
        refill(h, slab_at(h->bins[BIN].list)->free_count);
    }
    assert_int_equal(h->bins[BIN].list, slab_number(SPARSE));
}

/* A thread whose blocks are freed by others goes round in what it has used already. */
static void test_what_others_freed_is_taken_before_what_nobody_had(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    assert_int_equal(take_blocks(h, BIN, blocks, 6), 6);
    deliver_block(blocks[2], BIN);
    deliver_block(blocks[4], BIN);
    void *out[4];
    assert_int_equal(heap_refill(h, BIN, &out[1], 2), 2);
    assert_ptr_equal(out[1], blocks[2]);
    assert_ptr_equal(out[0], blocks[4]);
    /* What is at hand will do: nothing is collected for it. */
    heap_flush(h, BIN, &blocks[3], 1);
    deliver_block(blocks[0], BIN);
    assert_int_equal(heap_refill(h, BIN, &out[0], 1), 1);
    assert_ptr_equal(out[0], blocks[3]);
    assert_int_not_equal(load_relaxed(&h->remote_stack), SLAB_NONE);
    /* Too few: the rest are blocks that nobody has had yet. */
    assert_int_equal(heap_refill(h, BIN, &out[2], 3), 3);
    assert_ptr_equal(out[2], blocks[0]);
    assert_ptr_equal(out[1], (char *)blocks[5] + bin_info(BIN)->block_bytes);
    assert_ptr_equal(out[0], (char *)out[1] + bin_info(BIN)->block_bytes);
    assert_int_equal(load_relaxed(&h->remote_stack), SLAB_NONE);
    assert_int_equal(h->slabs_attached, 1);
}

/* Few blocks that nobody has had in a batch, and none beside a fair number of used ones, while they have no pages. */
static void test_a_sparing_refill_does_not_mix(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    void *out[SLAB_BLOCKS];
    void **const last = out + SLAB_BLOCKS - 1;
    assert_int_equal(heap_refill(h, BIN, last, 6), 6);
    const uint32_t slab = h->bins[BIN].list;
    slab_at(slab)->untouched = 1; /* other tests may have left it to this one */
    assert_int_equal(slab_at(slab)->fresh, 6);
    heap_flush(h, BIN, last - 5, 6);
    assert_int_equal(heap_refill_sparing(h, BIN, last, 20, 8), 6); /* used ones alone: more than a quarter */
    assert_int_equal(slab_at(slab)->fresh, 6);
    heap_flush(h, BIN, last - 1, 2);
    assert_int_equal(heap_refill_sparing(h, BIN, last - 10, 20, 3), 2 + 3); /* too few: some others */
    assert_int_equal(slab_at(slab)->fresh, 9);
    assert_int_equal(heap_refill(h, BIN, out + 16, 8), 8); /* who does not say so gets what there is */
    slab_at(slab)->untouched = 0;
    assert_int_equal(heap_refill_sparing(h, BIN, out + 8, 9, 3), 9); /* there is nothing to be spared */
    slab_at(slab)->untouched = 1;
    assert_int_equal(heap_refill(h, BIN, out + 8, 6), 6);
    heap_flush(h, BIN, out + 3, 6);
    assert_int_equal(heap_refill_sparing(h, BIN, out + 8, 9, 3), 6); /* nor where all have been used */
}

/* A slab is known to have no pages if the arena says so. */
static void test_a_slab_is_untouched_once(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    bool zeroed;
    uint32_t claimed[64];
    unsigned count = 0;
    do
        claimed[count] = arena_alloc(1, 1, NULL, &zeroed);
    while (!zeroed && ++count < ARRAY_COUNT(claimed));
    assert_true(zeroed);
    arena_free_moved(claimed[count], 1); /* free, and without pages */
    void *block;
    assert_int_equal(heap_refill(h, BIN, &block, 1), 1);
    const uint32_t slab = slab_of(block, BIN);
    assert_int_equal(slab, claimed[count]);
    assert_int_equal(slab_at(slab)->untouched, 1);
    heap_flush(h, BIN, &block, 1);
    age(h, true);
    age(h, true); /* by way of the spare ones */
    assert_int_equal(heap_refill(h, BIN, &block, 1), 1);
    assert_int_equal(slab_of(block, BIN), slab);
    assert_int_equal(slab_at(slab)->untouched, 0);
    heap_flush(h, BIN, &block, 1);
    age(h, true);
    while (count-- > 0)
        arena_free(claimed[count], 1);
}

static void test_a_thief_finds_the_one_heap_of_many(void **state)
{
    (void)state;
    enum { MANY = 30 };
    struct heap *full[MANY];
    struct heap *thief = new_heap();
    for (unsigned i = 0; i < MANY; i++) {
        full[i] = new_heap();
        assert_int_equal(take_slabs(full[i], BIN, blocks + i * SLAB_BLOCKS, 1), SLAB_BLOCKS);
        set_parked(full[i], true);
    }
    /* 29 have nothing for a thief, one has. */
    store_relaxed(&full[17]->state, HEAP_ATTACHED);
    give(full[17], 17, 30);
    lock_acquire(&full[17]->lock);
    store_relaxed(&full[17]->state, HEAP_PARKED);
    heap_age(full[17], true); /* whoever ages a parked heap makes it known */
    lock_release(&full[17]->lock);
    for (unsigned i = 0; i < 30; i++)
        assert_int_equal(refill(thief, 1), 1);
    assert_int_equal(thief->slabs_stolen, 1);
    assert_int_equal(thief->slabs_attached, 0);
    assert_int_equal(thief->bins[BIN].list, SLAB_NONE);
    assert_int_equal(refill(thief, 1), 1);
    assert_int_equal(thief->slabs_attached, 1); /* nothing is left to be stolen */
    for (unsigned i = 0; i < MANY; i++)
        set_parked(full[i], false);
}

static void test_the_fullest_is_stolen(void **state)
{
    (void)state;
    struct heap *x = new_heap();
    struct heap *thief = new_heap();
    fill(x, 3);
    give(x, 1, 9);
    give(x, 2, 20);
    give(x, 0, 12);
    set_parked(x, true);
    assert_int_equal(refill(thief, 9), 9);
    assert_int_equal(slab_at(slab_number(1))->state, SLAB_FULL);
    assert_int_equal(remote_at(slab_number(1))->owner, thief->id);
    assert_int_equal(refill(thief, 12), 12);
    assert_int_equal(refill(thief, 20), 20);
    assert_int_equal(thief->slabs_stolen, 3);
    set_parked(x, false);
}

/* Where the bin is refilled in between; what is left empty at a burst's end does not stay. */
static void test_emptied_runs_stay_where_blocks_come_and_go(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    const struct heap_bin *b = &h->bins[BIN_32K];
    void *more;
    const unsigned count = take_slabs(h, BIN_32K, blocks, 4), run = count / 4;
    heap_flush(h, BIN_32K, blocks, count);
    assert_int_equal(b->slab_count, 1);
    take_slabs(h, BIN_32K, blocks, 4);
    heap_flush(h, BIN_32K, blocks, 1);
    heap_flush(h, BIN_32K, blocks + run, 1); /* stands in front of it now */
    heap_flush(h, BIN_32K, blocks + 1, run - 1);
    assert_int_equal(b->slab_count, 4);
    assert_int_equal(h->empty_count, 1);
    age(h, false);
    assert_int_equal(h->empty_count, 1);
    assert_int_equal(heap_refill(h, BIN_32K, &more, 1), 1); /* the bin is in use, but not the empty run */
    age(h, false);
    assert_int_equal(h->empty_count, 0);
    heap_flush(h, BIN_32K, &more, 1);
    heap_flush(h, BIN_32K, blocks + run + 1, 3 * run - 1);
    assert_int_equal(b->slab_count, 1);
    age(h, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_fullest_slab_is_next),
        cmocka_unit_test(test_of_equals_the_lowest),
        cmocka_unit_test(test_a_sparse_slab_waits_until_the_end),
        cmocka_unit_test(test_what_others_freed_is_taken_before_what_nobody_had),
        cmocka_unit_test(test_a_sparing_refill_does_not_mix),
        cmocka_unit_test(test_a_slab_is_untouched_once),
        cmocka_unit_test(test_a_thief_finds_the_one_heap_of_many),
        cmocka_unit_test(test_the_fullest_is_stolen),
        cmocka_unit_test(test_emptied_runs_stay_where_blocks_come_and_go),
    };
    return cmocka_run_group_tests_name("placement", tests, NULL, NULL);
}
