#include "unit.h"

#include "arena/arena_internal.h"
#include "heaps.h"

#define BIN_64 3u    /* 1024 blocks a slab, bitmap words out of line */
#define BIN_1024 19u /* 64 blocks a slab */
#define BIN_2048 23u /* 32 blocks a slab */
#define BIN_32K 41u  /* 8 blocks in a run of four slabs */

static void *blocks[8192];

static uint64_t free_slab_bytes(void)
{
    struct arena_totals t;
    arena_read_totals(&t);
    return t.free_clean_bytes + t.free_dirty_bytes;
}

static void flush(struct heap *h, unsigned bin, void *const *from, unsigned count)
{
    heap_flush(h, bin, from, count);
}

static void test_refill_attaches_slabs(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    void *batch[16];
    assert_int_equal(heap_refill(h, BIN_2048, &batch[15], 10), 10);
    const uint32_t slab = slab_of(batch[15], BIN_2048);
    assert_int_equal(*window_word(slab), h->id << MAP_OWNER_SHIFT | BIN_2048 * BIN_STRIDE_BYTES);
    assert_int_equal(remote_at(slab)->owner, h->id);
    assert_int_equal(remote_at(slab)->news, 0);
    for (unsigned i = 0; i < 10; i++)
        assert_ptr_equal(batch[15 - i], (char *)window_slab_address(slab) + i * 2048);
    assert_int_equal(h->bins[BIN_2048].slab_count, 1);
    assert_int_equal(h->bins[BIN_2048].outstanding, 10);
    assert_int_equal(h->bins[BIN_2048].refill_count, 1);
    assert_int_equal(h->bins[BIN_2048].refill_blocks, 10);
    assert_int_equal(h->slabs_attached, 1);
    assert_int_equal(h->empty_count, 0);
    assert_int_equal(listed_slabs(h, BIN_2048), 1);
    flush(h, BIN_2048, batch + 6, 10);
    age(h, true);
    assert_int_equal(h->bins[BIN_2048].slab_count, 0);
}

/* What is at hand is given; a new slab only for an empty hand. */
static void test_refill_takes_what_is_at_hand(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    void *batch[64];
    assert_int_equal(heap_refill(h, BIN_2048, &batch[63], 30), 30);
    assert_int_equal(heap_refill(h, BIN_2048, &batch[63 - 30], 30), 2);
    assert_int_equal(slab_at(slab_of(batch[63], BIN_2048))->state, SLAB_FULL);
    assert_int_equal(listed_slabs(h, BIN_2048), 0);
    assert_int_equal(heap_refill(h, BIN_2048, &batch[63 - 32], 30), 30);
    assert_int_equal(h->bins[BIN_2048].slab_count, 2);
    assert_int_equal(h->bins[BIN_2048].outstanding, 62);
    flush(h, BIN_2048, batch + 2, 62);
    assert_int_equal(h->bins[BIN_2048].outstanding, 0);
    assert_int_equal(h->bins[BIN_2048].flush_count, 2); /* a batch is one long run, and each slab has one */
    assert_int_equal(h->bins[BIN_2048].flush_blocks, 62);
    age(h, true);
}

static void test_runs_of_several_slabs(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    const unsigned count = take_slabs(h, BIN_32K, blocks, 1);
    assert_int_equal(count, 8);
    const uint32_t slab = slab_of(blocks[0], BIN_32K);
    assert_int_equal(slab % 4, 0);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(*window_word(slab + i), h->id << MAP_OWNER_SHIFT | BIN_32K * BIN_STRIDE_BYTES);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(slab_of(blocks[i], BIN_32K), slab);
    const uint64_t before = free_slab_bytes();
    flush(h, BIN_32K, blocks, count);
    age(h, true);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(*window_word(slab + i), 0);
    assert_int_equal(free_slab_bytes(), before + 4 * SLAB_BYTES);
    assert_int_equal(h->spare_count, 0);
}

static void test_emptied_slabs_retire_but_one(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    const unsigned count = take_slabs(h, BIN_2048, blocks, 3);
    flush(h, BIN_2048, blocks, count);
    assert_int_equal(h->bins[BIN_2048].slab_count, 1);
    assert_int_equal(h->slabs_retired, 2);
    assert_int_equal(h->spare_count, 2);
    assert_int_equal(h->empty_count, 1);
    assert_int_equal(listed_slabs(h, BIN_2048), 1);
    for (unsigned i = 0; i < count; i += 32) {
        const uint32_t slab = slab_of(blocks[i], BIN_2048);
        const bool kept = h->bins[BIN_2048].list == slab;
        assert_int_equal(slab_at(slab)->state, kept ? SLAB_LISTED : SLAB_UNUSED);
        assert_int_equal(*window_word(slab) != 0, kept);
        assert_int_equal(remote_at(slab)->news == 0, kept);
    }
    age(h, true);
}

static void test_spare_slabs_serve_any_bin(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    unsigned count = take_slabs(h, BIN_2048, blocks, 3);
    flush(h, BIN_2048, blocks, count);
    const uint32_t spare = h->spare[h->spare_count - 1];
    const uint64_t before = free_slab_bytes();
    count = take_blocks(h, BIN_64, blocks, 5);
    assert_int_equal(count, 5);
    assert_int_equal(slab_of(blocks[0], BIN_64), spare);
    assert_int_equal(h->spare_count, 1);
    assert_int_equal(free_slab_bytes(), before);
    assert_int_equal(*window_word(spare), h->id << MAP_OWNER_SHIFT | BIN_64 * BIN_STRIDE_BYTES);
    flush(h, BIN_64, blocks, 5);
    age(h, true);
    assert_int_equal(h->spare_count, 0);
}

static void test_what_is_kept_is_bounded(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    unsigned count = take_slabs(h, BIN_2048, blocks, 12);
    const uint64_t before = free_slab_bytes();
    flush(h, BIN_2048, blocks, count);
    assert_int_equal(h->spare_count, HEAP_SPARE_MAX);
    assert_int_equal(h->empty_count, 1);
    assert_int_equal(free_slab_bytes(), before + (12 - HEAP_SPARE_MAX - 1) * SLAB_BYTES);
    /* One empty slab each for many bins: HEAP_EMPTY_MAX over all of them. */
    for (unsigned bin = 0; bin < 20; bin++) {
        assert_int_equal(take_blocks(h, bin, blocks, 1), 1);
        flush(h, bin, blocks, 1);
        assert_true(h->empty_count <= HEAP_EMPTY_MAX);
    }
    assert_int_equal(h->empty_count, HEAP_EMPTY_MAX);
    age(h, true);
    assert_int_equal(h->empty_count, 0);
    for (unsigned bin = 0; bin < BIN_COUNT; bin++) {
        assert_int_equal(h->bins[bin].slab_count, 0);
        assert_int_equal(h->bins[bin].list, SLAB_NONE);
    }
    assert_int_equal(h->slabs_attached, h->slabs_retired);
}

/* What the learner asks for: more is kept, less is given back at once. */
static void test_spare_limit(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    assert_int_equal(h->spare_limit, HEAP_SPARE_MAX);
    heap_set_spare_limit(h, HEAP_SPARE_ROOM);
    unsigned count = take_slabs(h, BIN_2048, blocks, 12);
    const uint64_t before = free_slab_bytes();
    flush(h, BIN_2048, blocks, count);
    assert_int_equal(h->spare_count, 11); /* and one with its bin */
    assert_int_equal(free_slab_bytes(), before);
    heap_set_spare_limit(h, 2);
    assert_int_equal(h->spare_count, 2);
    assert_true(h->spare_low <= h->spare_count);
    assert_int_equal(free_slab_bytes(), before + 9 * SLAB_BYTES);
    heap_set_spare_limit(h, 0);
    count = take_slabs(h, BIN_2048, blocks, 3);
    flush(h, BIN_2048, blocks, count);
    assert_int_equal(h->spare_count, 0);
    age(h, true);
}

static void test_age_spares_what_is_in_use(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    take_blocks(h, BIN_2048, blocks, 1);
    flush(h, BIN_2048, blocks, 1);
    take_blocks(h, BIN_1024, blocks, 1);
    flush(h, BIN_1024, blocks, 1);
    assert_int_equal(h->empty_count, 2);
    age(h, false); /* both were used since the start */
    assert_int_equal(h->empty_count, 2);
    take_blocks(h, BIN_1024, blocks, 1);
    flush(h, BIN_1024, blocks, 1);
    age(h, false);
    assert_int_equal(h->bins[BIN_2048].slab_count, 0);
    assert_int_equal(h->bins[BIN_1024].slab_count, 1);
    age(h, false);
    assert_int_equal(h->empty_count, 0);
    /* Spares: the fewest there were since the last time. */
    const unsigned count = take_slabs(h, BIN_2048, blocks, 4);
    flush(h, BIN_2048, blocks, count);
    age(h, true);
    take_slabs(h, BIN_2048, blocks, 4);
    flush(h, BIN_2048, blocks, count);
    assert_int_equal(h->spare_count, 3);
    age(h, false);
    assert_int_equal(h->spare_count, 3);
    take_slabs(h, BIN_2048, blocks, 2); /* the empty one, and one spare */
    flush(h, BIN_2048, blocks, 64);
    assert_int_equal(h->spare_count, 3);
    age(h, false); /* two were not needed */
    assert_int_equal(h->spare_count, 1);
    age(h, true);
    assert_int_equal(h->spare_count, 0);
}

/* ---- remote frees ---- */

static void test_remote_frees_come_back_at_a_drain(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    take_slabs(h, BIN_2048, blocks, 1);
    const uint32_t slab = slab_of(blocks[0], BIN_2048);
    assert_int_equal(slab_at(slab)->state, SLAB_FULL);
    deliver_block(blocks[3], BIN_2048);
    assert_int_not_equal(remote_at(slab)->news, 0); /* the token is on the stack */
    assert_int_equal(h->remote_stack, slab);
    deliver_block(blocks[9], BIN_2048); /* pushes nothing */
    assert_int_equal(h->remote_stack, slab);
    assert_int_equal(remote_at(slab)->next, SLAB_NONE);
    drain(h);
    assert_int_equal(h->remote_stack, SLAB_NONE);
    assert_int_equal(remote_at(slab)->news, 0);
    assert_int_equal(slab_at(slab)->state, SLAB_LISTED);
    assert_int_equal(slab_at(slab)->free_count, 2);
    assert_int_equal(h->bins[BIN_2048].outstanding, 30);
    assert_int_equal(h->bins[BIN_2048].collected_blocks, 2);
    assert_int_equal(listed_slabs(h, BIN_2048), 1);
    /* A refill with nothing at hand collects by itself, before it asks for a new slab. */
    take_blocks(h, BIN_2048, blocks + 32, 2);
    deliver_block(blocks[20], BIN_2048);
    assert_int_equal(take_blocks(h, BIN_2048, blocks + 34, 1), 1);
    assert_ptr_equal(blocks[34], blocks[20]);
    assert_int_equal(h->bins[BIN_2048].slab_count, 1);
    flush(h, BIN_2048, blocks, 32);
    age(h, true);
    assert_int_equal(h->bins[BIN_2048].outstanding, 0);
}

static void test_wholly_freed_remotely(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    const unsigned bins[] = {0, BIN_64, BIN_2048, BIN_32K};
    for (unsigned b = 0; b < ARRAY_COUNT(bins); b++) {
        const unsigned bin = bins[b];
        const uint64_t attached = h->slabs_attached;
        const unsigned slabs = bin == 0 ? 1 : 3;
        const unsigned count = take_slabs(h, bin, blocks, slabs);
        for (unsigned i = 0; i < count; i++)
            deliver_block(blocks[i * 7 % count], bin); /* 7 divides none of the counts */
        drain(h);
        assert_int_equal(h->bins[bin].outstanding, 0);
        assert_int_equal(h->bins[bin].collected_blocks, count);
        assert_int_equal(h->bins[bin].slab_count, 1); /* one may stay */
        assert_int_equal(listed_slabs(h, bin), 1);
        assert_int_equal(h->slabs_attached, attached + slabs);
    }
    age(h, true);
    assert_int_equal(h->slabs_attached, h->slabs_retired);
}

/* A producer that was held up between taking the token and pushing: its bits have been collected, its slab is empty,
 * but must neither retire nor be stolen until the push has come. */
static void test_token_out_keeps_an_empty_slab(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    struct heap *thief = new_heap();
    const unsigned count = take_slabs(h, BIN_2048, blocks, 3);
    const uint32_t slab = slab_of(blocks[0], BIN_2048);
    assert_int_equal(fetch_or_acq_rel(&remote_at(slab)->news, news_of_word(0)), 0); /* R2 */
    flush(h, BIN_2048, blocks + 32, 1);                               /* another slab is listed */
    flush(h, BIN_2048, blocks, 32);
    assert_int_equal(slab_at(slab)->free_count, 32);
    assert_int_equal(h->slabs_retired, 0);
    age(h, true);
    assert_int_equal(h->slabs_retired, 0);
    assert_true(*window_word(slab) != 0);
    set_parked(h, true);
    void *stolen;
    for (unsigned i = 0; i < 33; i++) { /* takes the other slab, then a new one, but not this one */
        assert_int_equal(heap_refill(thief, BIN_2048, &stolen, 1), 1);
        assert_true(slab_of(stolen, BIN_2048) != slab);
        deliver_block(stolen, BIN_2048);
    }
    set_parked(h, false);
    flush(h, BIN_2048, blocks + 64, 1); /* the bin keeps this slab, and so need not keep the empty one */
    remote_push(&h->remote_stack, slab); /* R4 */
    drain(h);
    assert_int_equal(*window_word(slab), 0);
    assert_int_not_equal(remote_at(slab)->news, 0);
    drain(thief);
    for (unsigned i = 33; i < count; i++)
        if (i != 64)
            deliver_block(blocks[i], BIN_2048);
    age(h, true);
    age(thief, true);
    assert_int_equal(h->bins[BIN_2048].outstanding + thief->bins[BIN_2048].outstanding, 0);
    assert_int_equal(h->bins[BIN_2048].slab_count + thief->bins[BIN_2048].slab_count, 0);
}

/* ---- misuse ---- */

struct misuse {
    struct heap *heap;
    void *block[3];
    unsigned count;
    bool is_forgotten; /* its SuperSlab had been unmapped meanwhile: window_forget */
};

static void flush_all(void *argument)
{
    struct misuse *m = argument;
    heap_flush(m->heap, BIN_2048, m->block, m->count);
}

/* The whole slab, in the order in which it was taken, and then one of its blocks again: its slab is somebody else's by
 * then. The bin has another slab, so the emptied one retires. */
static void flush_a_slab_and_one(void *argument)
{
    struct misuse *m = argument;
    void *more[65];
    take_blocks(m->heap, BIN_2048, more, 64 - 4);
    memmove(more + 4, more, 60 * sizeof more[0]);
    memcpy(more, blocks, 4 * sizeof more[0]);
    heap_flush(m->heap, BIN_2048, more + 32, 1);
    more[32] = more[31];
    heap_flush(m->heap, BIN_2048, more, 33);
}

static void deliver_late(void *argument)
{
    struct misuse *m = argument;
    const uint32_t slab = slab_of(blocks[0], BIN_2048);
    heap_flush(m->heap, BIN_2048, blocks, 4);
    age(m->heap, true);
    memset(slab_at(slab), 0, m->is_forgotten ? SLAB_RECORD_BYTES : 0);
    remote_deliver(slab, bin_info(BIN_2048), 0, 1); /* by a thread that looked at the map before */
    take_blocks(m->heap, BIN_2048, blocks, 1);
}

static void deliver_twice(void *argument)
{
    struct misuse *m = argument;
    deliver_block(m->block[0], BIN_2048);
    deliver_block(m->block[0], BIN_2048);
}

static void deliver_then_flush(void *argument)
{
    struct misuse *m = argument;
    deliver_block(m->block[0], BIN_2048);
    heap_flush(m->heap, BIN_2048, m->block, 1);
    drain(m->heap);
}

static void test_misuse_is_fatal(void **state)
{
    (void)state;
    struct misuse m = {.heap = new_heap()};
    take_blocks(m.heap, BIN_2048, blocks, 4);
    m.block[0] = blocks[1];
    m.block[1] = blocks[2];
    m.block[2] = blocks[1];
    m.count = 3;
    assert_aborts(flush_all, &m, "double free", blocks[1]);
    m.block[2] = (char *)blocks[3] + 16;
    assert_aborts(flush_all, &m, "free of a pointer into the middle of a block", m.block[2]);
    const void *last = (char *)window_slab_address(slab_of(blocks[0], BIN_2048)) + 31 * 2048;
    assert_aborts(flush_a_slab_and_one, &m, "double free", last);
    for (int forgotten = 0; forgotten < 2; m.is_forgotten = ++forgotten != 0)
        assert_aborts(deliver_late, &m, "double free, in the slab at", window_slab_address(slab_of(blocks[0], BIN_2048)));
    assert_aborts(deliver_twice, &m, "double free", blocks[1]);
    assert_aborts(deliver_then_flush, &m, "double free", blocks[1]);
    flush(m.heap, BIN_2048, blocks, 4);
    age(m.heap, true);
}

/* ---- others' heaps ---- */

static void test_reclaim_others(void **state)
{
    (void)state;
    struct heap *self = new_heap();
    struct heap *other = new_heap();
    struct heap *busy = new_heap();
    struct heap *retired = new_heap();
    struct heap *all[] = {self, other, busy, retired};
    for (unsigned i = 0; i < ARRAY_COUNT(all); i++) {
        take_blocks(all[i], BIN_2048, blocks, 2);
        flush(all[i], BIN_2048, blocks, 1);
        deliver_block(blocks[1], BIN_2048);
    }
    store_relaxed(&retired->state, HEAP_RETIRED);
    struct lock_holder holder;
    lock_holder_start(&holder, &busy->lock);
    heap_reclaim_others(self);
    lock_holder_end(&holder);
    assert_int_equal(self->bins[BIN_2048].slab_count, 1);
    assert_int_equal(other->bins[BIN_2048].slab_count, 0); /* collected and trimmed */
    assert_int_equal(other->bins[BIN_2048].outstanding, 0);
    assert_int_equal(busy->bins[BIN_2048].slab_count, 1);
    assert_int_equal(retired->bins[BIN_2048].slab_count, 1);
    heap_reclaim_others(NULL);
    assert_int_equal(self->bins[BIN_2048].slab_count, 0);
    assert_int_equal(busy->bins[BIN_2048].slab_count, 0);
    store_relaxed(&retired->state, HEAP_ATTACHED);
    age(retired, true);
}

static void test_orphans_age(void **state)
{
    (void)state;
    struct heap *parked = new_heap();
    struct heap *attached = new_heap();
    struct heap *all[] = {&stray_heap, parked, attached};
    for (unsigned i = 0; i < ARRAY_COUNT(all); i++) {
        take_blocks(all[i], BIN_2048, blocks, 1);
        flush(all[i], BIN_2048, blocks, 1);
        assert_int_equal(all[i]->bins[BIN_2048].slab_count, 1);
    }
    set_parked(parked, true);
    for (uint32_t i = 0; i < heap_count(); i++) /* one heap per call */
        heap_age_next();
    assert_int_equal(stray_heap.bins[BIN_2048].slab_count, 0);
    assert_int_equal(parked->bins[BIN_2048].slab_count, 0);
    assert_int_equal(attached->bins[BIN_2048].slab_count, 1);
    set_parked(parked, false);
    age(attached, true);
}

static void refill_without_memory(void *argument)
{
    struct heap *h = argument;
    window.superslab_max = window.first_superslab; /* the window is full ... */
    uint32_t slab;
    bool zeroed;
    while ((slab = arena_alloc(1, 1, NULL, &zeroed)) != SLAB_NONE) /* ... and so are its SuperSlabs */
        ;
    void *batch[40];
    REQUIRE(heap_refill(h, BIN_2048, &batch[39], 40) == 30); /* what its slab still holds */
    REQUIRE(heap_refill(h, BIN_2048, &batch[39], 40) == 0);
    REQUIRE(heap_refill(h, BIN_64, &batch[39], 40) == 0);
    REQUIRE(h->bins[BIN_2048].outstanding == 32);
    heap_flush(h, BIN_2048, batch + 30, 1);
    REQUIRE(heap_refill(h, BIN_2048, &batch[39], 40) == 1);
}

static void test_memory_is_out(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    take_blocks(h, BIN_2048, blocks, 2);
    assert_child_passes(refill_without_memory, h);
    flush(h, BIN_2048, blocks, 2);
    age(h, true);
}

/* Nothing any test did is left over. */
static void test_all_slabs_are_back(void **state)
{
    (void)state;
    struct arena_totals t;
    arena_read_totals(&t);
    assert_int_equal(t.free_clean_bytes + t.free_dirty_bytes, t.mapped_bytes);
    assert_true(t.mapped_bytes > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refill_attaches_slabs),
        cmocka_unit_test(test_refill_takes_what_is_at_hand),
        cmocka_unit_test(test_runs_of_several_slabs),
        cmocka_unit_test(test_emptied_slabs_retire_but_one),
        cmocka_unit_test(test_spare_slabs_serve_any_bin),
        cmocka_unit_test(test_what_is_kept_is_bounded),
        cmocka_unit_test(test_spare_limit),
        cmocka_unit_test(test_age_spares_what_is_in_use),
        cmocka_unit_test(test_remote_frees_come_back_at_a_drain),
        cmocka_unit_test(test_wholly_freed_remotely),
        cmocka_unit_test(test_token_out_keeps_an_empty_slab),
        cmocka_unit_test(test_misuse_is_fatal),
        cmocka_unit_test(test_reclaim_others),
        cmocka_unit_test(test_orphans_age),
        cmocka_unit_test(test_memory_is_out),
        cmocka_unit_test(test_all_slabs_are_back),
    };
    return cmocka_run_group_tests_name("heap", tests, NULL, NULL);
}
