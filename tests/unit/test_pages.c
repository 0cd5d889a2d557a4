#include "paged.h"

#include <sys/syscall.h>
#include <unistd.h>

static void *blocks[256];

/* ---- one slab ---- */

static void test_pages_without_a_live_block_go(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    const uint32_t slab = full_slab(h, BIN_512, blocks);
    assert_int_equal(slab_purge(slab, SHIFT, 1), 0);
    assert_int_equal(resident_pages(slab), 0xffff);
    put_back(h, BIN_512, blocks, 8, 16);  /* pages 1 and 2 */
    put_back(h, BIN_512, blocks, 33, 14); /* most of page 4 and of page 5 */
    put_back(h, BIN_512, blocks, 120, 8); /* page 15 */
    assert_int_equal(slab_purge(slab, SHIFT, 4), 0); /* not worth it */
    assert_int_equal(slab_purge(slab, SHIFT, 3), 3);
    assert_int_equal(slab_at(slab)->purged, 0x8006);
    assert_int_equal(slab_at(slab)->cold_count, 24);
    assert_int_equal(resident_pages(slab), 0xffff & ~0x8006);
    assert_true(slab_is_valid(slab));
    for (unsigned i = 24; i < 33; i++) /* neighbours keep what the program wrote */
        assert_int_equal(*(unsigned char *)blocks[i], (unsigned char)(i + 1));
    assert_int_equal(slab_purge(slab, SHIFT, 1), 0); /* nothing new */
    put_back(h, BIN_512, blocks, 32, 1);
    put_back(h, BIN_512, blocks, 47, 1);
    assert_int_equal(slab_purge(slab, SHIFT, 1), 2);
    assert_int_equal(slab_at(slab)->purged, 0x8036);
    assert_true(slab_is_valid(slab));
}

/* A page is in use as long as one of the blocks that reach into it is. */
static void test_blocks_over_the_edges_of_pages(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    const uint32_t slab = full_slab(h, BIN_3072, blocks);
    put_back(h, BIN_3072, blocks, 5, 2);  /* 15360 .. 21503: all of page 4, parts of 3 and 5 */
    put_back(h, BIN_3072, blocks, 12, 1); /* three quarters of page 9 */
    assert_int_equal(slab_purge(slab, SHIFT, 1), 1);
    assert_int_equal(slab_at(slab)->purged, 1 << 4);
    assert_int_equal(slab_at(slab)->cold_count, 2);
    assert_true(slab_is_valid(slab));
    put_back(h, BIN_3072, blocks, 19, 1); /* page 14, but for what block 18 has of it */
    assert_int_equal(slab_purge(slab, SHIFT, 1), 0);
    put_back(h, BIN_3072, blocks, 20, 1); /* it ends at 64512: the rest of the page is nobody's */
    assert_int_equal(slab_purge(slab, SHIFT, 1), 1);
    assert_int_equal(slab_at(slab)->purged, 1 << 4 | 1 << 15);
    assert_int_equal(slab_at(slab)->cold_count, 3);
    assert_true(slab_is_valid(slab));
}

/* What lies behind the last block of a run was never touched: it is no gain. */
static void test_the_tail_is_no_gain(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    const uint32_t slab = full_slab(h, BIN_20K, blocks);
    assert_int_equal(slab_purge(slab, SHIFT, 1), 0);
    put_back(h, BIN_20K, blocks, 11, 1);
    assert_int_equal(slab_purge(slab, SHIFT, 1), 5);
    assert_int_equal(slab_at(slab)->purged, (uint64_t)0x1f << 55);
    assert_int_equal(resident_pages(slab), ((uint64_t)1 << 55) - 1);
    put_back(h, BIN_20K, blocks, 0, 2);
    assert_int_equal(slab_purge(slab, SHIFT, 1), 10);
    assert_true(slab_is_valid(slab));
}

static void test_larger_pages(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    const uint32_t slab = full_slab(h, BIN_512, blocks);
    put_back(h, BIN_512, blocks, 0, 64);
    assert_int_equal(slab_purge(slab, 16, 1), 0); /* a page as large as the slab */
    assert_int_equal(slab_purge(slab, 17, 1), 0);
    assert_int_equal(slab_purge(slab, 14, 1), 2);
    assert_int_equal(slab_at(slab)->purged, 3);
    assert_int_equal(resident_pages(slab), 0xff00);
    unsigned woken;
    void *out[64];
    put_back(h, BIN_512, blocks, 64, 1);
    assert_int_equal(slab_take_resident(slab, out + 63, 64, &woken), 1);
    assert_ptr_equal(out[63], blocks[64]);
    assert_int_equal(woken, 0);
    assert_int_equal(slab_take_resident(slab, out + 63, 64, &woken), 32); /* a page's worth, of 16 KiB */
    assert_int_equal(woken, 1);
    assert_true(slab_is_valid(slab));

    const uint32_t run = full_slab(h, BIN_32K, blocks + 128); /* four pages of 64 KiB, two blocks on each */
    put_back(h, BIN_32K, blocks + 128, 2, 3);
    assert_int_equal(slab_purge(run, 18, 1), 0);
    assert_int_equal(slab_purge(run, 16, 1), 1);
    assert_int_equal(slab_at(run)->purged, 2);
    assert_int_equal(slab_at(run)->cold_count, 2);
    assert_true(slab_is_valid(run));
}

static void test_resident_blocks_are_taken_first(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    const uint32_t slab = full_slab(h, BIN_3072, blocks);
    put_back(h, BIN_3072, blocks, 0, 3);   /* pages 0 and 1 go; block 2 is on page 1 in part */
    put_back(h, BIN_3072, blocks, 7, 1);   /* in the middle of pages 5 and 6: stays */
    put_back(h, BIN_3072, blocks, 10, 4);  /* pages 8 and 9 go; all four reach into them */
    assert_int_equal(slab_purge(slab, SHIFT, 1), 4);
    assert_int_equal(slab_at(slab)->purged, 0x303);
    assert_int_equal(slab_at(slab)->cold_count, 7);
    unsigned woken;
    void *out[8];
    assert_int_equal(slab_take_resident(slab, out + 7, 8, &woken), 1);
    assert_ptr_equal(out[7], blocks[7]);
    assert_int_equal(woken, 0);
    assert_true(slab_is_cold(slab_at(slab)));
    assert_true(slab_is_valid(slab));
    /* Then the lowest cold block, with what else its page makes whole. */
    assert_int_equal(slab_take_resident(slab, out + 7, 8, &woken), 1);
    assert_ptr_equal(out[7], blocks[0]);
    assert_int_equal(woken, 1);
    assert_int_equal(slab_at(slab)->purged, 0x302);
    assert_true(slab_is_valid(slab));
    assert_int_equal(slab_take_resident(slab, out + 7, 8, &woken), 2);
    assert_ptr_equal(out[7], blocks[1]);
    assert_ptr_equal(out[6], blocks[2]);
    assert_int_equal(slab_at(slab)->purged, 0x300);
    assert_int_equal(slab_take_resident(slab, out + 7, 1, &woken), 1);
    assert_ptr_equal(out[7], blocks[10]);
    assert_int_equal(slab_at(slab)->purged, 0x200);
    assert_int_equal(slab_take_resident(slab, out + 7, 8, &woken), 1); /* its neighbour is resident now */
    assert_int_equal(woken, 0);
    assert_int_equal(slab_take_resident(slab, out + 7, 8, &woken), 2);
    assert_int_equal(slab_at(slab)->purged, 0);
    assert_int_equal(slab_at(slab)->free_count, 0);
    assert_true(slab_is_valid(slab));
}

/* A block that lies on several pages needs them all. */
static void test_a_block_wakes_all_its_pages(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    const uint32_t slab = full_slab(h, BIN_20K, blocks);
    put_back(h, BIN_20K, blocks, 3, 2);
    assert_int_equal(slab_purge(slab, SHIFT, 1), 10);
    unsigned woken;
    void *out[2];
    assert_int_equal(slab_take_resident(slab, out + 1, 2, &woken), 1);
    assert_ptr_equal(out[1], blocks[3]);
    assert_int_equal(woken, 5);
    assert_int_equal(slab_at(slab)->purged, (uint64_t)0x1f << 20);
    memset(out[1], 7, 20480);
    assert_true(slab_is_valid(slab));
}

static void test_locked_pages_stay(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    const uint32_t slab = full_slab(h, BIN_512, blocks);
    char *page = (char *)window_slab_address(slab) + (2u << SHIFT);
    /* The system call itself: a sanitizer's mlock does nothing. */
    if (syscall(SYS_mlock, page, 1u << SHIFT) != 0)
        skip();
    put_back(h, BIN_512, blocks, 8, 24); /* pages 1, 2 and 3, in one call */
    put_back(h, BIN_512, blocks, 64, 8); /* page 8 */
    assert_true(slab_purge(slab, SHIFT, 1) <= 2);
    assert_int_equal(slab_at(slab)->purged & 4, 0);
    assert_int_equal(slab_at(slab)->purged & 256, 256);
    assert_true(slab_is_valid(slab));
    assert_int_equal(*(unsigned char *)blocks[16], 17);
    syscall(SYS_munlock, page, 1u << SHIFT);
}

/* ---- refills ---- */

static void test_refill_prefers_resident_pages(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    const uint32_t a = full_slab(h, BIN_4096, blocks);
    const uint32_t b = full_slab(h, BIN_4096, blocks + 16);
    put_back(h, BIN_4096, blocks + 16, 0, 6);
    put_back(h, BIN_4096, blocks, 0, 12);
    assert_int_equal(purge_now(h), 18 << SHIFT);
    put_back(h, BIN_4096, blocks + 16, 6, 2); /* the only resident ones, in the higher slab */
    void *out[32];
    assert_int_equal(heap_refill(h, BIN_4096, out + 31, 32), 2);
    assert_ptr_equal(out[31], blocks[16 + 6]);
    assert_ptr_equal(out[30], blocks[16 + 7]);
    assert_int_equal(h->pages_woken, 0);
    /* With an empty hand cold blocks are better than a new slab, but no more of them than one page brings. */
    assert_int_equal(heap_refill(h, BIN_4096, out + 31, 32), 1);
    assert_int_equal(h->bins[BIN_4096].slab_count, 2);
    assert_int_equal(h->pages_woken, 1);
    assert_int_equal(h->purged_pages, 17);
    /* What others have freed meanwhile is resident, and goes first. */
    deliver_block(blocks[15], BIN_4096);
    assert_int_equal(heap_refill(h, BIN_4096, out + 31, 32), 1);
    assert_ptr_equal(out[31], blocks[15]);
    assert_int_equal(h->pages_woken, 1);
    for (unsigned i = 0; i < 17; i++)
        assert_int_equal(heap_refill(h, BIN_4096, out + 31, 32), 1);
    assert_int_equal(h->pages_woken, 18);
    assert_int_equal(h->purged_pages, 0);
    assert_int_equal(slab_at(a)->free_count + slab_at(b)->free_count, 0);
    assert_int_equal(listed_slabs(h, BIN_4096), 0);
}

static void test_counts_follow_a_slab_that_goes(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    struct heap *thief = new_heap();
    const uint32_t slab = full_slab(h, BIN_4096, blocks);
    full_slab(h, BIN_512, blocks + 16);
    put_back(h, BIN_4096, blocks, 0, 15);
    put_back(h, BIN_512, blocks + 16, 0, 64);
    assert_int_equal(purge_now(h), (15 + 8) << SHIFT);
    set_parked(h, true);
    void *out;
    assert_int_equal(heap_refill(thief, BIN_4096, &out, 1), 1);
    set_parked(h, false);
    assert_int_equal(slab_of(out, BIN_4096), slab);
    assert_int_equal(thief->purged_pages, 14);
    assert_int_equal(thief->pages_woken, 1);
    assert_int_equal(h->purged_pages, 8);
    assert_true(slab_is_valid(slab));
    heap_flush(thief, BIN_4096, &out, 1);
    heap_flush(thief, BIN_4096, blocks + 15, 1);
    age(thief, true); /* to the arena; the next owner finds it as new */
    assert_int_equal(thief->purged_pages, 0);
    age(h, true);
    assert_int_equal(h->purged_pages, 8);
    uint32_t other = SLAB_NONE;
    for (unsigned i = 0; i < 64 && other != slab; i++)
        other = full_slab(thief, BIN_4096, blocks);
    assert_int_equal(other, slab);
    assert_int_equal(slab_at(slab)->purged, 0);
    assert_true(slab_is_valid(slab));
}

/* A dense huge page is not split for a few of its pages. */
static void test_under_a_huge_page(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    const uint32_t slab = full_slab(h, BIN_4096, blocks);
    struct superslab *s = superslab_of_slab(slab);
    put_back(h, BIN_4096, blocks, 4, 8);
    store_relaxed(&s->pages, SUPERSLAB_HUGE);
    assert_int_equal(slab_purge(slab, SHIFT, 2), SLAB_PURGE_REFUSED);
    assert_true(superslab_is_huge(s));
    assert_int_equal(resident_pages(slab), 0xffff);
    assert_int_equal(slab_purge(slab, SHIFT, 1), 8); /* all of them are to go */
    assert_false(superslab_is_huge(s));
    assert_int_equal(resident_pages(slab), 0xf00f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_pages_without_a_live_block_go, needs_small_pages),
        cmocka_unit_test_setup(test_blocks_over_the_edges_of_pages, needs_small_pages),
        cmocka_unit_test_setup(test_the_tail_is_no_gain, needs_small_pages),
        cmocka_unit_test_setup(test_larger_pages, needs_small_pages),
        cmocka_unit_test_setup(test_resident_blocks_are_taken_first, needs_small_pages),
        cmocka_unit_test_setup(test_a_block_wakes_all_its_pages, needs_small_pages),
        cmocka_unit_test_setup(test_locked_pages_stay, needs_small_pages),
        cmocka_unit_test_setup(test_under_a_huge_page, needs_small_pages),
        cmocka_unit_test_setup(test_refill_prefers_resident_pages, needs_small_pages),
        cmocka_unit_test_setup(test_counts_follow_a_slab_that_goes, needs_small_pages),
    };
    return cmocka_run_group_tests_name("pages", tests, NULL, NULL);
}
