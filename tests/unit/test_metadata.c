/* The allocator's own records are mapped for whole stretches of the window, but pages come as they are touched: what a
 * program's sizes do not need must never be. */
#include "unit.h"

#include <sys/mman.h>

#include "arena/arena_internal.h"
#include "heaps.h"
#include "os/os.h"

#define BIN_64 3u   /* 1024 blocks a slab */
#define BIN_192 9u  /* the smallest whose bitmaps fit the records */
#define BIN_32K 41u

static void *blocks[4096];

static unsigned resident_pages(const char *start, size_t bytes)
{
    const size_t page = os_page_bytes();
    const uintptr_t from = align_down((uintptr_t)start, page);
    const size_t count = (align_up((uintptr_t)start + bytes, page) - from) / page;
    static unsigned char in_core[65536];
    REQUIRE(count <= sizeof in_core && mincore((void *)from, count * page, in_core) == 0);
    unsigned resident = 0;
    for (size_t i = 0; i < count; i++)
        resident += in_core[i] & 1;
    return resident;
}

/* Of an array with so many bytes a slab. */
static unsigned pages_of(const char *array, size_t stride)
{
    const size_t first = (size_t)window.first_superslab * SUPERSLAB_SLABS;
    return resident_pages(array + first * stride, (load_acquire(&window.limit) - first) * stride);
}

static unsigned bitmap_pages(void)
{
    return pages_of(window.free_bitmaps, BITMAP_BYTES) + pages_of(window.remote_bitmaps, BITMAP_BYTES);
}

static unsigned remote_bitmap_pages(void)
{
    return pages_of(window.remote_bitmaps, BITMAP_BYTES);
}

/* Before any slab has had another owner. */
static void test_nobody_looks_for_remote_frees_in_a_new_slab(void **state)
{
    (void)state;
    struct heap *h = new_heap();
    const unsigned count = take_slabs(h, BIN_64, blocks, 3);
    assert_int_equal(remote_bitmap_pages(), 0);
    deliver_block(blocks[0], BIN_64);
    deliver_block(blocks[64 * REMOTE_INLINE_WORDS - 1], BIN_64); /* up to here there is room beside the news */
    assert_int_equal(remote_bitmap_pages(), 0);
    deliver_block(blocks[64 * REMOTE_INLINE_WORDS], BIN_64);
    assert_int_equal(remote_bitmap_pages(), 1);
    drain(h);
    for (unsigned i = 1; i < count; i++)
        if (i != 64 * REMOTE_INLINE_WORDS - 1 && i != 64 * REMOTE_INLINE_WORDS)
            heap_flush(h, BIN_64, &blocks[i], 1);
    age(h, true);
    assert_int_equal(h->bins[BIN_64].slab_count, 0);
}

/* Everything that a slab goes through. */
static void live(unsigned bin, unsigned slabs)
{
    struct heap *h = new_heap();
    struct heap *thief = new_heap();
    const unsigned count = take_slabs(h, bin, blocks, slabs);
    heap_flush(h, bin, blocks, count / 2);
    for (unsigned i = count / 2; i < count - 1; i++)
        deliver_block(blocks[i], bin);
    drain(h);
    set_parked(h, true);
    void *stolen;
    assert_int_equal(heap_refill(thief, bin, &stolen, 1), 1);
    set_parked(h, false);
    heap_purge_pages_everywhere();
    deliver_block(stolen, bin);
    deliver_block(blocks[count - 1], bin);
    age(h, true);
    age(thief, true);
    assert_int_equal(h->bins[bin].slab_count + thief->bins[bin].slab_count, 0);
}

static void test_bitmaps_beside_the_records(void **state)
{
    (void)state;
    const unsigned before = bitmap_pages();
    for (unsigned bin = BIN_192; bin <= BIN_32K; bin += 3)
        live(bin, 6);
    assert_int_equal(bitmap_pages(), before);
    live(BIN_64, 2);
    assert_in_range(bitmap_pages(), 1, 8);
}

static void test_records_of_slabs_that_were_never_used(void **state)
{
    (void)state;
    const size_t slabs = load_acquire(&window.limit) - (size_t)window.first_superslab * SUPERSLAB_SLABS;
    const unsigned records = pages_of(window.slabs, SLAB_RECORD_BYTES);
    const unsigned remotes = pages_of(window.remotes, REMOTE_RECORD_BYTES);
    const size_t used = (load_acquire(&arena.next) - window.first_superslab) * SUPERSLAB_SLABS;
    const size_t page = os_page_bytes();
    assert_in_range(records, 1, used * SLAB_RECORD_BYTES / page + 2);
    assert_in_range(remotes, 1, used * REMOTE_RECORD_BYTES / page + 2);
    assert_true(slabs * SLAB_RECORD_BYTES / page > records); /* there are some */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nobody_looks_for_remote_frees_in_a_new_slab),
        cmocka_unit_test(test_bitmaps_beside_the_records),
        cmocka_unit_test(test_records_of_slabs_that_were_never_used),
    };
    return cmocka_run_group_tests_name("metadata", tests, NULL, NULL);
}
