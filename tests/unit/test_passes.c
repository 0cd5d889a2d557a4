#include "paged.h"

#include "arena/arena_internal.h"
#include "config/policy.h"

#define DECAY_MS 1000u

static void *blocks[4096];

/* Passes count from the end of the last one, heap by heap: a clock that only runs on serves all tests. */
static uint64_t now_ms = (uint64_t)1 << 40;

static int decaying(void **state)
{
    needs_small_pages(state);
    store_relaxed(&policy_live.decay_rate_bytes, 0); /* no bound: the credit begins with nothing */
    store_relaxed(&policy_live.page_decay_ms, DECAY_MS);
    return 0;
}

static int as_configured(void **state)
{
    (void)state;
    policy_start(config_get());
    return 0;
}

static bool step(struct heap *h)
{
    lock_acquire(&h->lock);
    const bool more = heap_purge_pages(h, now_ms);
    lock_release(&h->lock);
    return more;
}

/* A decay period later. */
static bool decay(struct heap *h)
{
    now_ms += DECAY_MS;
    return step(h);
}

static void test_idle_slabs_are_purged_at_the_second_pass(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    const uint32_t slab = full_slab(h, BIN_4096, blocks);
    assert_false(decay(h));
    put_back(h, BIN_4096, blocks, 4, 8);
    assert_int_equal(slab_at(slab)->seen, 0);
    assert_true(decay(h)); /* seen */
    assert_int_equal(h->pages_purged, 0);
    now_ms += DECAY_MS - 1;
    assert_true(step(h));
    assert_int_equal(h->pages_purged, 0);
    now_ms++;
    assert_false(step(h));
    assert_int_equal(h->pages_purged, 8);
    assert_int_equal(h->purged_pages, 8);
    assert_int_equal(resident_pages(slab), 0xf00f);
    /* All is done for this slab: the following passes leave it alone. */
    assert_false(decay(h));
    assert_false(decay(h));
    assert_int_equal(h->pages_purged, 8);
    assert_int_equal(listed_slabs(h, BIN_4096), 1);
}

static void test_use_starts_the_time_anew(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    const uint32_t slab = full_slab(h, BIN_4096, blocks);
    put_back(h, BIN_4096, blocks, 0, 8);
    decay(h);
    for (unsigned i = 0; i < 3; i++) { /* the number of free blocks is the same at each pass */
        void *again;
        assert_int_equal(heap_refill(h, BIN_4096, &again, 1), 1);
        heap_flush(h, BIN_4096, &again, 1);
        assert_true(decay(h));
    }
    assert_int_equal(h->pages_purged, 0);
    assert_false(decay(h));
    assert_int_equal(h->pages_purged, 8);
    assert_int_equal(slab_at(slab)->purged, 0xff);
}

/* While a program frees a great deal here and there, what it frees goes back: nobody wants these slabs' blocks. */
static void test_frees_alone_are_no_use(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    const uint32_t slab = full_slab(h, BIN_4096, blocks);
    put_back(h, BIN_4096, blocks, 0, 8);
    assert_true(decay(h)); /* seen */
    put_back(h, BIN_4096, blocks, 8, 1);
    assert_false(decay(h));
    assert_int_equal(slab_at(slab)->purged, 0x1ff);
    put_back(h, BIN_4096, blocks, 9, 1); /* too little for a system call */
    assert_false(decay(h));
    assert_int_equal(h->pages_purged, 9);
    deliver_block(blocks[10], BIN_4096);
    drain(h);
    assert_false(decay(h));
    assert_int_equal(slab_at(slab)->purged, 0x7ff);
}

/* Who loses most of a heap and then falls silent would keep what a delay has not been waited for. */
static void test_a_great_loss_does_not_wait(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    const uint32_t slab = full_slab(h, BIN_4096, blocks);
    put_back(h, BIN_4096, blocks, 0, 8);
    assert_true(decay(h)); /* seen */
    now_ms++;
    put_back(h, BIN_4096, blocks, 8, 1);
    assert_true(step(h)); /* no more than may lie about */
    assert_int_equal(h->pages_purged, 0);
    store_relaxed(&policy_live.retained_ratio_ppm, 0);
    assert_false(step(h));
    assert_int_equal(slab_at(slab)->purged, 0x1ff);
    put_back(h, BIN_4096, blocks, 9, 3);
    void *again[3];
    assert_int_equal(heap_refill(h, BIN_4096, again + 2, 3), 3);
    step(h); /* what was lost is in use again */
    assert_int_equal(h->pages_purged, 9);
    heap_flush(h, BIN_4096, again, 3);
    step(h); /* seen */
    put_back(h, BIN_4096, blocks, 12, 1);
    step(h);
    assert_int_equal(h->pages_purged, 13);
}

/* Blocks on purged pages are taken last, and their pages then cost faults. */
static void test_what_comes_back_costs_credit(void **state)
{
    (void)state;
    enum { RATE = 1 << 20 };
    struct heap *h = new_heap();
    full_slab(h, BIN_4096, blocks);
    put_back(h, BIN_4096, blocks, 0, 8);
    decay(h);
    decay(h);
    assert_int_equal(h->pages_purged, 8);
    store_relaxed(&policy_live.decay_rate_bytes, RATE);
    store_relaxed(&arena_credit.away, 0); /* nothing saves for its return */
    arena_has_credit(now_ms);
    now_ms += 10 * DECAY_MS;
    assert_true(arena_has_credit(now_ms));
    arena_charge_credit(2 * RATE - 9 * 4096); /* nine pages' worth is left of a full credit, three times three */
    void *again;
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(heap_refill(h, BIN_4096, &again, 1), 1);
    assert_true(arena_has_credit(now_ms));
    assert_int_equal(heap_refill(h, BIN_4096, &again, 1), 1);
    assert_false(arena_has_credit(now_ms));
}

/* The arena takes an empty slab's pages for resident, and counts all of them when it gives them back. */
static void test_what_has_gone_of_an_empty_slab_is_not_away_twice(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    full_slab(h, BIN_4096, blocks);
    const uint64_t before = arena_away_bytes();
    put_back(h, BIN_4096, blocks, 0, 8);
    decay(h);
    decay(h);
    assert_int_equal(arena_away_bytes(), before + 8 * 4096);
    put_back(h, BIN_4096, blocks, 8, 8);
    lock_acquire(&h->lock);
    heap_age(h, true);
    lock_release(&h->lock);
    assert_int_equal(arena_away_bytes(), before);
}

static void test_small_gains_wait(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    full_slab(h, BIN_20K, blocks);
    put_back(h, BIN_20K, blocks, 0, 1); /* five pages of 64 */
    assert_false(decay(h));
    assert_false(decay(h));
    assert_int_equal(h->pages_purged, 0);
    assert_int_equal(purge_now(h), 5 << SHIFT); /* who asks for it gets all */
    assert_int_equal(h->pages_purged, 5);
    assert_int_equal(purge_now(h), 0);
}

static void test_a_pass_is_spread_over_steps(void **state)
{
    (void)state;
    enum { SLABS = 100 };
    struct heap *h = new_heap();
    static void *many[SLABS * 16];
    assert_int_equal(take_slabs(h, BIN_4096, many, SLABS), SLABS * 16);
    for (unsigned i = 0; i < SLABS; i++)
        put_back(h, BIN_4096, many, i * 16 + 1, 15);
    assert_true(decay(h));
    assert_true(decay(h));
    assert_in_range(h->pages_purged, 1, SLABS * 15 - 1);
    /* Slabs come and go between the steps, the one that is next among them. */
    for (uint64_t before = 0; before != h->pages_purged && h->pages_purged < SLABS * 15;) {
        before = h->pages_purged;
        const uint32_t next = h->purge_next;
        if (next != SLAB_NONE) {
            void *last = window_slab_address(next);
            heap_flush(h, BIN_4096, &last, 1); /* the survivor: the slab retires */
        }
        assert_true(next == SLAB_NONE || h->purge_next != next);
        step(h);
    }
    assert_in_range(h->pages_purged, (SLABS - 5) * 15, SLABS * 15);
    assert_int_equal(h->purge_bins, 0);
    assert_int_equal(h->pages_purged, h->purged_pages);
}

static void test_every_bin_has_its_turn(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    const unsigned bins[] = {BIN_16, BIN_512, BIN_3072, BIN_4096, BIN_20K, BIN_32K};
    uint32_t slabs[ARRAY_COUNT(bins)];
    for (unsigned i = 0; i < ARRAY_COUNT(bins); i++) {
        const unsigned count = bin_info(bins[i])->block_count;
        slabs[i] = full_slab(h, bins[i], blocks);
        put_back(h, bins[i], blocks, 0, count - 1);
    }
    assert_true(decay(h));
    assert_false(decay(h));
    for (unsigned i = 0; i < ARRAY_COUNT(bins); i++)
        assert_true(slab_at(slabs[i])->purged != 0 && slab_is_valid(slabs[i]));
}

static void test_policy_says_never(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    full_slab(h, BIN_4096, blocks);
    put_back(h, BIN_4096, blocks, 0, 8);
    store_relaxed(&policy_live.page_decay_ms, PAGE_DECAY_NEVER);
    for (unsigned i = 0; i < 4; i++)
        assert_false(decay(h));
    assert_int_equal(h->pages_purged, 0);
    assert_int_equal(purge_now(h), 8 << SHIFT);
}

/* heap_age does a step, for heaps of threads that do not come by. */
static void test_ageing_purges(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    full_slab(h, BIN_4096, blocks);
    put_back(h, BIN_4096, blocks, 0, 8);
    store_relaxed(&policy_live.page_decay_ms, 0);
    lock_acquire(&h->lock);
    assert_true(heap_age(h, true));
    assert_false(heap_age(h, true));
    lock_release(&h->lock);
    assert_int_equal(h->pages_purged, 8);
}

static void test_random_operations_keep_contents(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    const unsigned bins[] = {BIN_512, BIN_3072, BIN_20K};
    uint64_t seed = 77;
    for (unsigned b = 0; b < ARRAY_COUNT(bins); b++) {
        const unsigned bin = bins[b];
        const uint32_t bytes = bin_info(bin)->block_bytes;
        unsigned count = 0;
        for (unsigned round = 0; round < 3000; round++) {
            const uint64_t r = next_random(&seed);
            if (r % 8 < 4 && count < 600) {
                const unsigned got = heap_refill(h, bin, blocks + count + 7, 8);
                memmove(blocks + count, blocks + count + 8 - got, got * sizeof *blocks);
                for (unsigned i = 0; i < got; i++, count++) {
                    memset(blocks[count], 0, bytes);
                    memcpy(blocks[count], &blocks[count], 8);
                    memcpy((char *)blocks[count] + bytes - 8, &blocks[count], 8);
                }
            } else if (r % 8 < 7) {
                for (unsigned i = 0; i < 12 && count != 0; i++) {
                    const unsigned pick = (unsigned)(next_random(&seed) % count);
                    assert_memory_equal(blocks[pick], &blocks[pick], 8);
                    assert_memory_equal((char *)blocks[pick] + bytes - 8, &blocks[pick], 8);
                    heap_flush(h, bin, &blocks[pick], 1);
                    blocks[pick] = blocks[--count];
                }
            } else {
                decay(h);
            }
            for (uint32_t slab = h->bins[bin].list; slab != SLAB_NONE; slab = slab_at(slab)->next)
                assert_true(slab_is_valid(slab));
        }
        put_back(h, bin, blocks, 0, count);
    }
    assert_true(h->pages_purged > 1000);
    assert_true(h->pages_woken > 100);
    age(h, true);
    assert_int_equal(h->purged_pages, 0);
}

static void test_everywhere_means_every_heap(void **state)
{
    (void)state;
    struct heap *a = new_heap();
    struct heap *b = new_heap();
    full_slab(a, BIN_4096, blocks);
    full_slab(b, BIN_4096, blocks + 16);
    put_back(a, BIN_4096, blocks, 0, 3);
    put_back(b, BIN_4096, blocks + 16, 0, 4);
    assert_true(heap_purge_pages_everywhere() >= 7 << SHIFT);
    assert_int_equal(a->purged_pages, 3);
    assert_int_equal(b->purged_pages, 4);
}

/* Pages under a huge page that stays dense are asked for twice, then left alone until the slab changes. */
static void test_refused_pages_ask_once_more(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    const uint32_t slab = full_slab(h, BIN_4096, blocks);
    put_back(h, BIN_4096, blocks, 4, 8);
    store_relaxed(&superslab_of_slab(slab)->pages, SUPERSLAB_HUGE);
    assert_true(decay(h));  /* seen */
    assert_true(decay(h));  /* refused */
    assert_false(decay(h)); /* for good */
    assert_int_equal(h->pages_purged, 0);
    put_back(h, BIN_4096, blocks, 12, 1);
    assert_true(decay(h));
    store_relaxed(&superslab_of_slab(slab)->pages, SUPERSLAB_BROKEN); /* by others' pages */
    assert_false(decay(h));
    assert_int_equal(h->pages_purged, 9);
    assert_int_equal(resident_pages(slab), 0xe00f);
}

/* 16 slabs of 512 bytes each, of which seven blocks in eight come back: no page of them is free. */
static void test_sparse_bins_are_steered(void **state)
{
    (void)state;
    enum { SLABS = 16, COUNT = SLABS * 128 };
    const uint64_t bit = (uint64_t)1 << BIN_512;
    struct heap *h = new_heap();
    assert_int_equal(take_slabs(h, BIN_512, blocks, SLABS), COUNT);
    decay(h);
    assert_int_equal(h->steered, 0);
    for (unsigned i = 0; i < COUNT; i += 8)
        put_back(h, BIN_512, blocks, i + 1, 7);
    store_relaxed(&policy_live.steer_blocks, 0);
    decay(h);
    assert_int_equal(h->steered, 0);
    store_relaxed(&policy_live.steer_blocks, 1);
    decay(h);
    assert_int_equal(h->steered, bit);
    assert_int_equal(h->pass_idle_blocks, 0);
    /* What has no pages is not idle. */
    for (unsigned i = 0; i < COUNT; i += 16)
        put_back(h, BIN_512, blocks, i, 1);
    decay(h);
    assert_int_equal(h->steered, bit);
    decay(h);
    assert_int_equal(h->pages_purged, COUNT / 16);
    assert_int_equal(h->steered, bit); /* half the pages are left, with an eighth of their blocks */
    for (unsigned i = 8; i < COUNT; i += 16)
        if (i % 128 != 8)
            put_back(h, BIN_512, blocks, i, 1);
    decay(h);
    decay(h);
    assert_int_equal(h->steered, 0);
}

#define DECAYING(test) cmocka_unit_test_setup_teardown(test, decaying, as_configured)

int main(void)
{
    const struct CMUnitTest tests[] = {
        DECAYING(test_idle_slabs_are_purged_at_the_second_pass),
        DECAYING(test_use_starts_the_time_anew),
        DECAYING(test_frees_alone_are_no_use),
        DECAYING(test_a_great_loss_does_not_wait),
        DECAYING(test_what_comes_back_costs_credit),
        DECAYING(test_what_has_gone_of_an_empty_slab_is_not_away_twice),
        DECAYING(test_small_gains_wait),
        DECAYING(test_a_pass_is_spread_over_steps),
        DECAYING(test_every_bin_has_its_turn),
        DECAYING(test_policy_says_never),
        DECAYING(test_ageing_purges),
        DECAYING(test_random_operations_keep_contents),
        DECAYING(test_refused_pages_ask_once_more),
        DECAYING(test_sparse_bins_are_steered),
        DECAYING(test_everywhere_means_every_heap),
    };
    return cmocka_run_group_tests_name("passes", tests, NULL, NULL);
}
