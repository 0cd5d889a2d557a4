#include "unit.h"

#include "base/tick.h"
#include "heaps.h"

#define BIN 23u /* 2048 bytes, 32 blocks a slab */
#define SLAB_BLOCKS 32u
#define RUN_BIN 37u /* 16384 bytes, runs of four slabs */

static void *blocks[4096];

/* A parked heap that has a slab of the bin with `out` blocks in the program's hands: blocks[0..out-1]. */
static struct heap *parked_heap(unsigned bin, unsigned out)
{
    struct heap *x = new_heap();
    take_blocks(x, bin, blocks, out);
    set_parked(x, true);
    return x;
}

static void unpark(struct heap *x, struct heap *thief)
{
    set_parked(x, false);
    age(x, true);
    age(thief, true);
    for (unsigned bin = 0; bin < BIN_COUNT; bin++) {
        assert_int_equal(x->bins[bin].outstanding, 0);
        assert_int_equal(thief->bins[bin].outstanding, 0);
        assert_int_equal(x->bins[bin].slab_count, 0);
        assert_int_equal(thief->bins[bin].slab_count, 0);
    }
}

static void test_partial_slabs_are_taken_over(void **state)
{
    (void)state;
    struct heap *x = parked_heap(BIN, 5);
    struct heap *thief = new_heap();
    const uint32_t slab = slab_of(blocks[0], BIN);
    assert_int_equal(take_blocks(thief, BIN, blocks + 5, 3), 3);
    for (unsigned i = 5; i < 8; i++)
        assert_int_equal(slab_of(blocks[i], BIN), slab);
    assert_int_equal(*window_word(slab), thief->id << MAP_OWNER_SHIFT | BIN * BIN_STRIDE_BYTES);
    assert_int_equal(remote_at(slab)->owner, thief->id);
    assert_int_equal(remote_at(slab)->news, 0);
    assert_int_equal(x->bins[BIN].slab_count, 0);
    assert_int_equal(x->bins[BIN].outstanding, 0);
    assert_int_equal(thief->bins[BIN].slab_count, 1);
    assert_int_equal(thief->bins[BIN].outstanding, 8);
    assert_int_equal(thief->slabs_stolen, 1);
    assert_int_equal(thief->slabs_attached, 0);
    assert_int_equal(listed_slabs(thief, BIN), 1);
    /* Blocks that the first owner gave out come back to the new one. */
    for (unsigned i = 0; i < 8; i++)
        deliver_block(blocks[i], BIN);
    assert_int_equal(thief->remote_stack, slab);
    assert_int_equal(x->remote_stack, SLAB_NONE);
    unpark(x, thief);
}

static void test_runs_move_whole(void **state)
{
    (void)state;
    struct heap *x = parked_heap(RUN_BIN, 1);
    struct heap *thief = new_heap();
    assert_int_equal(take_blocks(thief, RUN_BIN, blocks + 1, 1), 1);
    const uint32_t slab = slab_of(blocks[0], RUN_BIN);
    assert_int_equal(slab_of(blocks[1], RUN_BIN), slab);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(*window_word(slab + i) >> MAP_OWNER_SHIFT, thief->id);
    heap_flush(thief, RUN_BIN, blocks, 2);
    unpark(x, thief);
}

static void test_empty_slab_is_counted_on_the_right_side(void **state)
{
    (void)state;
    struct heap *x = parked_heap(BIN, 1);
    struct heap *thief = new_heap();
    heap_flush(x, BIN, blocks, 1);
    assert_int_equal(x->empty_count, 1);
    assert_int_equal(take_blocks(thief, BIN, blocks, 1), 1);
    assert_int_equal(thief->slabs_stolen, 1);
    assert_int_equal(x->empty_count, 0);
    assert_int_equal(thief->empty_count, 0);
    heap_flush(thief, BIN, blocks, 1);
    assert_int_equal(thief->empty_count, 1);
    unpark(x, thief);
}

static void test_own_node_first(void **state)
{
    (void)state;
    struct heap *near = new_heap();
    take_blocks(near, BIN, blocks + 5, 5);
    struct heap *far = parked_heap(BIN, 5);
    struct heap *thief = new_heap();
    set_parked(near, true);
    store_relaxed(&os_nodes, 3);
    store_relaxed(&near->node, 2);
    store_relaxed(&thief->node, 2);
    assert_int_equal(take_blocks(thief, BIN, blocks + 10, 3), 3);
    assert_int_equal(slab_of(blocks[10], BIN), slab_of(blocks[5], BIN));
    assert_int_equal(far->bins[BIN].slab_count, 1);
    /* Then others', sooner than a new one. */
    take_blocks(thief, BIN, blocks + 13, SLAB_BLOCKS - 8);
    assert_int_equal(take_blocks(thief, BIN, blocks + 13 + SLAB_BLOCKS - 8, 1), 1);
    assert_int_equal(thief->slabs_stolen, 2);
    assert_int_equal(thief->slabs_attached, 0);
    assert_int_equal(far->bins[BIN].slab_count, 0);
    store_relaxed(&os_nodes, 1);
    heap_flush(thief, BIN, blocks, 13 + SLAB_BLOCKS - 8 + 1);
    unpark(far, thief);
    unpark(near, thief);
}

static void test_only_from_parked_heaps(void **state)
{
    (void)state;
    struct heap *x = parked_heap(BIN, 5);
    struct heap *thief = new_heap();
    set_parked(x, false);
    fetch_add_relaxed(&heap_parked_count, 1); /* somebody else is */
    assert_int_equal(take_blocks(thief, BIN, blocks + 5, 1), 1);
    assert_int_equal(thief->slabs_stolen, 0);
    fetch_sub_relaxed(&heap_parked_count, 1);
    store_relaxed(&x->state, HEAP_RETIRED);
    fetch_add_relaxed(&heap_parked_count, 1);
    take_blocks(thief, BIN, blocks + 6, SLAB_BLOCKS);
    assert_int_equal(thief->slabs_stolen, 0);
    set_parked(x, true);
    fetch_sub_relaxed(&heap_parked_count, 1);
    heap_flush(thief, BIN, blocks + 5, 1 + SLAB_BLOCKS);
    heap_flush(x, BIN, blocks, 5);
    unpark(x, thief);
}

static void test_busy_heaps_are_passed_over(void **state)
{
    (void)state;
    struct heap *x = parked_heap(BIN, 5);
    struct heap *thief = new_heap();
    struct lock_holder holder;
    lock_holder_start(&holder, &x->lock);
    assert_int_equal(take_blocks(thief, BIN, blocks + 5, 1), 1); /* without waiting */
    assert_int_equal(thief->slabs_stolen, 0);
    lock_holder_end(&holder);
    heap_flush(x, BIN, blocks, 5);
    heap_flush(thief, BIN, blocks + 5, 1);
    unpark(x, thief);
}

static void test_what_was_freed_remotely_can_be_stolen(void **state)
{
    (void)state;
    struct heap *x = parked_heap(BIN, SLAB_BLOCKS);
    struct heap *thief = new_heap();
    assert_int_equal(listed_slabs(x, BIN), 0); /* full */
    deliver_block(blocks[7], BIN);
    assert_int_equal(take_blocks(thief, BIN, blocks + SLAB_BLOCKS, 1), 1);
    assert_ptr_equal(blocks[SLAB_BLOCKS], blocks[7]);
    assert_int_equal(thief->slabs_stolen, 1);
    heap_flush(thief, BIN, blocks, SLAB_BLOCKS);
    unpark(x, thief);
}

/* A producer that is between R1 and R2 while its slab is stolen hands its blocks to the thief. */
static void test_bits_set_before_the_theft_come_with_their_news(void **state)
{
    (void)state;
    struct heap *x = parked_heap(BIN, 5);
    struct heap *thief = new_heap();
    const uint32_t slab = slab_of(blocks[0], BIN);
    fetch_or_release(remote_word(slab, 0), 0x3); /* R1 of blocks 0 and 1; R2 is still to come */
    assert_int_equal(take_blocks(thief, BIN, blocks + 5, 1), 1);
    assert_int_equal(thief->bins[BIN].outstanding, 6);
    assert_int_equal(thief->bins[BIN].collected_blocks, 0);
    assert_int_equal(fetch_or_acq_rel(&remote_at(slab)->news, news_of_word(0)), 0); /* R2: the token, for a spurious notice */
    remote_push(&heap_by_id(remote_at(slab)->owner)->remote_stack, slab);
    drain(thief);
    assert_int_equal(thief->bins[BIN].outstanding, 4);
    assert_int_equal(thief->bins[BIN].collected_blocks, 2);
    heap_flush(thief, BIN, blocks + 2, 3);
    heap_flush(thief, BIN, blocks + 5, 1);
    unpark(x, thief);
}

static void test_rearm_after_fork_finds_what_dead_producers_left(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    take_blocks(h, BIN, blocks, SLAB_BLOCKS);
    const uint32_t slab = slab_of(blocks[0], BIN);
    /* One producer died after R1, another after R2. */
    fetch_or_release(remote_word(slab, 0), 0x30);
    store_relaxed(&remote_at(slab)->news, NEWS_HELD);
    lock_acquire(&h->lock);
    heap_rearm_after_fork(h, slab);
    lock_release(&h->lock);
    assert_int_equal(remote_at(slab)->news, 0);
    assert_int_equal(slab_at(slab)->free_count, 2);
    assert_int_equal(h->bins[BIN].outstanding, SLAB_BLOCKS - 2);
    assert_int_equal(listed_slabs(h, BIN), 1);
    heap_flush(h, BIN, blocks, 4);
    heap_flush(h, BIN, blocks + 6, SLAB_BLOCKS - 6);
    age(h, true);
    assert_int_equal(h->bins[BIN].slab_count, 0);
}

/* What the background thread takes: nothing from a heap in use, all that is empty from one that is not. */
static void test_harvest(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    struct lock_holder holder;
    const unsigned count = take_slabs(h, BIN, blocks, 6);
    assert_true(heap_harvest(h->id));  /* it has moved batches since ... */
    assert_false(heap_harvest(h->id)); /* ... but none since that look */
    for (unsigned i = 0; i < count; i += SLAB_BLOCKS)
        heap_flush(h, BIN, blocks + i, SLAB_BLOCKS);
    const uint32_t idle = h->spare_count + h->empty_count;
    assert_true(idle > 1);
    assert_true(heap_harvest(h->id));
    assert_int_equal(h->spare_count + h->empty_count, idle); /* its thread may be about to need them */
    lock_holder_start(&holder, &h->lock);
    assert_true(heap_harvest(h->id));
    lock_holder_end(&holder);
    assert_false(heap_harvest(h->id));
    assert_int_equal(h->spare_count, 0);
    assert_int_equal(h->empty_count, 0);
    /* News from others is collected, and is a reason to come again. */
    take_blocks(h, BIN, blocks, 2);
    heap_harvest(h->id);
    deliver_block(blocks[0], BIN);
    deliver_block(blocks[1], BIN);
    assert_true(heap_harvest(h->id));
    assert_int_equal(h->bins[BIN].slab_count, 0);
    assert_false(heap_harvest(h->id));
    /* A parked heap's slabs serve nobody: they are taken at once. */
    take_blocks(h, BIN, blocks, 1);
    heap_flush(h, BIN, blocks, 1);
    assert_int_equal(h->empty_count, 1);
    set_parked(h, true);
    assert_true(heap_harvest(h->id));
    assert_int_equal(h->empty_count, 0);
    set_parked(h, false);
}

static void test_ids(void **state)
{
    (void)state;
    assert_ptr_equal(heap_by_id(stray_heap.id), &stray_heap);
    assert_null(heap_by_id(heap_count() + 1));
    assert_null(heap_by_id(MAP_OWNER_MAX));
    assert_null(heap_by_id(0));
    struct heap *h = new_heap();
    assert_int_equal(h->id, heap_count());
    assert_ptr_equal(heap_by_id(h->id), h);
    assert_true(h->id != 0);
}

static void *register_many(void *argument)
{
    struct heap *heaps = argument;
    for (unsigned i = 0; i < 300; i++)
        heap_register(&heaps[i]);
    return NULL;
}

static struct heap heaps[1200]; /* over the edge of the table's first piece */

static void test_many_ids(void **state)
{
    (void)state;
    const uint32_t before = heap_count();
    run_threads(4, register_many, heaps, 300 * sizeof heaps[0]);
    assert_int_equal(heap_count(), before + 1200);
    for (unsigned i = 0; i < 1200; i++) {
        assert_in_range(heaps[i].id, before + 1, before + 1200);
        assert_ptr_equal(heap_by_id(heaps[i].id), &heaps[i]);
    }
}

/* What parked heaps offer is noted by id modulo 1024. */
static void test_heaps_that_share_a_bit(void **state)
{
    (void)state;
    struct heap *low = NULL, *high = NULL;
    for (unsigned i = 0; i < ARRAY_COUNT(heaps); i++) {
        const uint32_t id = heaps[i].id;
        if (id == 1100 - 1024 || id == 1100)
            *(id == 1100 ? &high : &low) = &heaps[i];
    }
    assert_non_null(low);
    assert_non_null(high);
    lock_init(&low->lock, LOCK_HEAP);
    lock_init(&high->lock, LOCK_HEAP);
    struct heap *thief = new_heap();
    take_blocks(high, BIN, blocks, SLAB_BLOCKS - 1);
    set_parked(low, true);
    set_parked(high, true);
    assert_int_equal(take_blocks(thief, BIN, blocks + SLAB_BLOCKS - 1, 1), 1);
    assert_int_equal(thief->slabs_stolen, 1);
    /* The bit has outlived what was there; whoever comes for nothing takes it away, and the next offer brings it back. */
    assert_int_equal(take_blocks(thief, BIN, blocks + SLAB_BLOCKS, 1), 1);
    assert_int_equal(thief->slabs_stolen, 1);
    assert_int_equal(take_slabs(low, BIN, blocks + 2 * SLAB_BLOCKS, 1), SLAB_BLOCKS);
    heap_flush(low, BIN, blocks + 2 * SLAB_BLOCKS, 2);
    age(low, true);
    assert_int_equal(take_blocks(thief, BIN, blocks + SLAB_BLOCKS + 1, SLAB_BLOCKS + 1), SLAB_BLOCKS + 1);
    assert_int_equal(thief->slabs_stolen, 2);
    set_parked(low, false);
    set_parked(high, false);
}

/* Three slabs' worth of blocks, freed by others: a look, and then a slab's word for each further one, while the owner sleeps. */
static void test_a_sleeping_owner_is_helped(void **state)
{
    (void)state;
    struct heap *x = new_heap();
    void *one;
    assert_int_equal(take_slabs(x, BIN, blocks, 3), 3 * SLAB_BLOCKS);
    assert_true(heap_help(x->id, 1)); /* nothing to do is done */
    assert_int_equal(x->helped_blocks, 0);
    for (unsigned i = 0; i < 3 * SLAB_BLOCKS; i++)
        deliver_block(blocks[i], BIN);
    assert_true(heap_help(x->id, 1));
    assert_int_equal(x->bins[BIN].outstanding, 3 * SLAB_BLOCKS);
    assert_true(heap_help(x->id, 1));
    assert_int_equal(x->bins[BIN].outstanding, 2 * SLAB_BLOCKS);
    assert_int_equal(heap_refill(x, BIN, &one, 1), 1); /* it is awake */
    assert_true(heap_help(x->id, 64));
    assert_int_equal(x->bins[BIN].outstanding, 2 * SLAB_BLOCKS + 1);
    assert_true(heap_help(x->id, 64));
    assert_int_equal(x->bins[BIN].outstanding, 1);
    heap_flush(x, BIN, &one, 1);
    age(x, true);
    assert_int_equal(x->bins[BIN].slab_count, 0);
}

static void test_helping_waits_for_nobody(void **state)
{
    (void)state;
    struct heap *x = new_heap();
    struct lock_holder holder;
    take_blocks(x, BIN, blocks, 1);
    deliver_block(blocks[0], BIN);
    assert_true(heap_help(x->id, 64));
    lock_holder_start(&holder, tick_lock());
    assert_false(heap_help(x->id, 64)); /* a fork may be under way, and would copy the heap's lock as it is */
    lock_holder_end(&holder);
    lock_holder_start(&holder, &x->lock);
    assert_true(heap_help(x->id, 64));
    lock_holder_end(&holder);
    assert_int_equal(x->bins[BIN].outstanding, 1);
    assert_true(heap_help(x->id, 64));
    assert_int_equal(x->bins[BIN].outstanding, 0);
    assert_true(heap_help(0, 64)); /* nobody's, and never handed out */
    assert_true(heap_help(MAP_OWNER_MAX, 64));
    age(x, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_sleeping_owner_is_helped),
        cmocka_unit_test(test_helping_waits_for_nobody),
        cmocka_unit_test(test_partial_slabs_are_taken_over),
        cmocka_unit_test(test_runs_move_whole),
        cmocka_unit_test(test_empty_slab_is_counted_on_the_right_side),
        cmocka_unit_test(test_own_node_first),
        cmocka_unit_test(test_only_from_parked_heaps),
        cmocka_unit_test(test_busy_heaps_are_passed_over),
        cmocka_unit_test(test_what_was_freed_remotely_can_be_stolen),
        cmocka_unit_test(test_bits_set_before_the_theft_come_with_their_news),
        cmocka_unit_test(test_rearm_after_fork_finds_what_dead_producers_left),
        cmocka_unit_test(test_harvest),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_many_ids),
        cmocka_unit_test(test_heaps_that_share_a_bit),
    };
    return cmocka_run_group_tests_name("steal", tests, NULL, NULL);
}
