/* Slabs whose pages are asked for one by one, in the units of 4 KiB that `purged` counts in here. */
#ifndef HAKMEM_TESTS_PAGED_H
#define HAKMEM_TESTS_PAGED_H

#include <sys/mman.h>

#include "heaps.h"
#include "os/os.h"
#include "slab/pages.h"

#define BIN_16 0u    /* 4096 blocks a slab, bitmap words out of line */
#define BIN_512 15u  /* 128 blocks a slab, 8 on a page of 4 KiB */
#define BIN_3072 25u /* 21 blocks a slab, over the edges of pages */
#define BIN_4096 27u
#define BIN_20K 38u /* 12 blocks in a run of four slabs, five pages each */
#define BIN_32K 41u

#define SHIFT 12u

/* The tests are written for pages of that size; this machine's may be larger. */
static inline int needs_small_pages(void **state)
{
    (void)state;
    if (os_page_bytes() != 1u << SHIFT)
        skip();
    return 0;
}

/* Pages of the run that the kernel backs, as `purged` counts them. */
static inline uint64_t resident_pages(uint32_t slab)
{
    unsigned char in_core[64] = {0};
    const size_t bytes = slab_at(slab)->run_slabs * SLAB_BYTES;
    REQUIRE(mincore(window_slab_address(slab), bytes, in_core) == 0);
    uint64_t pages = 0;
    for (unsigned i = 0; i < bytes >> SHIFT; i++)
        pages |= (uint64_t)(in_core[i] & 1) << i;
    return pages;
}

/* The blocks of one slab, all written to. */
static inline uint32_t full_slab(struct heap *h, unsigned bin, void **out)
{
    const unsigned count = bin_info(bin)->block_count;
    assert_int_equal(take_blocks(h, bin, out, count), count);
    for (unsigned i = 0; i < count; i++)
        memset(out[i], (int)(i + 1), bin_info(bin)->block_bytes);
    return slab_of(out[0], bin);
}

static inline void put_back(struct heap *h, unsigned bin, void **from, unsigned first, unsigned count)
{
    heap_flush(h, bin, from + first, count);
}

static inline size_t purge_now(struct heap *h)
{
    lock_acquire(&h->lock);
    const size_t bytes = heap_purge_pages_now(h);
    lock_release(&h->lock);
    return bytes;
}

#endif
