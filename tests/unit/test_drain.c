#include "unit.h"

#include "heaps.h"
#include "slab/heap_internal.h"

static const unsigned BIN_16 = 0, BIN_64 = 3, BIN_2048 = 23;
static void *blocks[4 * SLAB_BYTES / 16];

static void drain_some(struct heap *h, unsigned words)
{
    lock_acquire(&h->lock);
    heap_drain_some(h, words);
    lock_release(&h->lock);
}

static void drain_rest(struct heap *h)
{
    lock_acquire(&h->lock);
    heap_drain_rest(h);
    lock_release(&h->lock);
}

static uint64_t news_of(uint32_t slab)
{
    return load_relaxed(&remote_at(slab)->news);
}

/* One slab with more news than a look takes: it is left to the next, its token with it, until all words have had their turn. */
static void test_a_slab_is_collected_by_and_by(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    const unsigned count = take_slabs(h, BIN_64, blocks, 1);
    const uint32_t slab = slab_of(blocks[0], BIN_64);
    for (unsigned i = 0; i < count; i += 16)
        deliver_block(blocks[i], BIN_64);
    assert_int_equal(news_of(slab), 0xffff);
    for (unsigned looks = 1; looks <= 5; looks++) {
        drain_some(h, 3);
        assert_int_equal(slab_at(slab)->free_count, looks * 3 * 4);
        assert_int_equal(news_of(slab), 0xffffu & 0xffffu << 3 * looks);
        assert_int_equal(h->remote_rest, slab);
        assert_int_equal(h->remote_stack, SLAB_NONE);
        assert_int_equal(listed_slabs(h, BIN_64), 1);
    }
    deliver_block(blocks[1], BIN_64); /* in a word that has had its turn: named again, and pushed no second time */
    assert_int_equal(news_of(slab), 0x8001);
    drain_some(h, 3);
    assert_int_equal(news_of(slab), 0);
    assert_false(heap_has_news(h));
    assert_int_equal(slab_at(slab)->free_count, 65);
    assert_int_equal(h->bins[BIN_64].collected_blocks, 65);
    assert_int_equal(h->bins[BIN_64].outstanding, count - 65);
}

/* Of several slabs those are left that no words are left for, in their order; what is pushed meanwhile comes after them. */
static void test_the_next_one_goes_on(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    enum { SLABS = 6, EACH = 32 };
    take_slabs(h, BIN_2048, blocks, SLABS);
    for (unsigned i = 0; i < SLABS - 1; i++)
        deliver_block(blocks[i * EACH], BIN_2048);
    drain_some(h, 2);
    assert_int_equal(h->bins[BIN_2048].collected_blocks, 2);
    assert_int_equal(h->remote_rest, slab_of(blocks[2 * EACH], BIN_2048));
    assert_int_equal(news_of(slab_of(blocks[3 * EACH], BIN_2048)), 0);
    deliver_block(blocks[5 * EACH], BIN_2048);
    deliver_block(blocks[3 * EACH + 1], BIN_2048);
    assert_int_equal(h->remote_stack, slab_of(blocks[3 * EACH], BIN_2048));
    drain_some(h, 2);
    assert_int_equal(h->bins[BIN_2048].collected_blocks, 4);
    assert_int_equal(h->remote_rest, slab_of(blocks[0], BIN_2048));
    drain_rest(h); /* no more than what was left */
    assert_int_equal(h->bins[BIN_2048].collected_blocks, 5);
    assert_int_equal(h->remote_rest, SLAB_NONE);
    assert_int_equal(h->remote_stack, slab_of(blocks[3 * EACH], BIN_2048));
    drain_some(h, 1);
    assert_int_equal(h->remote_rest, slab_of(blocks[5 * EACH], BIN_2048));
    deliver_block(blocks[1], BIN_2048);
    drain(h); /* what is left and what has come */
    assert_int_equal(h->bins[BIN_2048].collected_blocks, 8);
    assert_false(heap_has_news(h));
    assert_int_equal(listed_slabs(h, BIN_2048), SLABS);
}

/* All blocks of a slab come back in parts, from its ends to the shared bit of the last words: it goes when the last has come,
 * and not while its token is out. */
static void test_an_empty_slab_goes_when_its_token_is_back(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    const unsigned bins[] = {BIN_16, BIN_64};
    for (unsigned b = 0; b < ARRAY_COUNT(bins); b++) {
        const unsigned bin = bins[b];
        const unsigned count = take_slabs(h, bin, blocks, 2), half = count / 2;
        const uint32_t slab = slab_of(blocks[0], bin);
        heap_flush(h, bin, &blocks[half], 1); /* another slab is listed: the bin keeps that one */
        for (unsigned i = 0; i < half; i++)
            deliver_block(blocks[i], bin);
        while (slab_at(slab)->free_count + 128 < half) {
            drain_some(h, 1);
            assert_int_not_equal(*window_word(slab), 0);
        }
        drain_some(h, 1); /* of 16-byte blocks two words: they share the bit 62 */
        drain_some(h, 1);
        assert_int_equal(*window_word(slab), 0);
        assert_false(heap_has_news(h));
        assert_int_equal(h->bins[bin].slab_count, 1);
        heap_flush(h, bin, &blocks[half + 1], half - 1);
        age(h, true);
        assert_int_equal(h->bins[bin].outstanding, 0);
    }
}

/* What one malloc has to wait for: a refill looks at a few words, however many have news. */
static void test_a_refill_collects_a_little(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    const unsigned count = take_slabs(h, BIN_64, blocks, 4);
    for (unsigned i = 0; i < count; i += 2)
        deliver_block(blocks[i], BIN_64);
    uint64_t before = 0;
    unsigned refills = 0;
    for (unsigned got = 0; got < count / 2; refills++) {
        void *batch[32];
        const unsigned taken = heap_refill(h, BIN_64, batch + 31, 32);
        assert_true(taken != 0);
        got += taken;
        assert_true(h->bins[BIN_64].collected_blocks - before <= 8 * 32);
        before = h->bins[BIN_64].collected_blocks;
    }
    assert_true(refills > 8);
    assert_int_equal(before, count / 2); /* all of them, before a new slab */
    assert_int_equal(h->bins[BIN_64].slab_count, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_slab_is_collected_by_and_by),
        cmocka_unit_test(test_the_next_one_goes_on),
        cmocka_unit_test(test_an_empty_slab_goes_when_its_token_is_back),
        cmocka_unit_test(test_a_refill_collects_a_little),
    };
    return cmocka_run_group_tests_name("drain", tests, NULL, NULL);
}
