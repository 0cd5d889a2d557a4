#include "slab/pages.h"

#include "arena/hugepage.h"
#include "os/os.h"

enum { BLOCK_ALIGNMENT = 16 }; /* all block sizes are multiples of it */

/* Blocks that lie on a page, at least in part: first .. last. Behind the last block they are the padding's numbers. */
struct block_range {
    uint32_t first, last;
};

static struct block_range blocks_on_page(const struct bin_info *info, unsigned page, unsigned page_shift)
{
    uint32_t start = (uint32_t)page << page_shift;
    uint32_t end = (uint32_t)(page + 1) << page_shift;
    return (struct block_range){ bin_block_index(info, start), bin_block_index(info, end - BLOCK_ALIGNMENT) };
}

static bool all_free(const struct slab *s, struct block_range blocks)
{
    for (uint32_t at = blocks.first, end = blocks.last + 1; at < end; at = (at / 64 + 1) * 64) {
        uint64_t mask = slab_range_mask(at, end - at);
        if ((s->words[at / 64] & mask) != mask)
            return false;
    }
    return true;
}

/* The unused tail of a run is left alone: nobody ever wrote there. */
static uint64_t free_pages(const struct slab *s, unsigned page_shift)
{
    const struct bin_info *info = bin_info(s->bin);
    uint64_t pages = 0;
    for (unsigned page = 0; page < slab_page_count(s, page_shift); page++) {
        struct block_range blocks = blocks_on_page(info, page, page_shift);
        if (blocks.first < s->block_count && all_free(s, blocks))
            pages |= (uint64_t)1 << page;
    }
    return pages;
}

/* How many blocks the purged pages make cold; which, as bits of `words` (NULL: not wanted). */
static uint32_t cold_blocks(const struct slab *s, uint64_t *words)
{
    const struct bin_info *info = bin_info(s->bin);
    uint32_t count = 0;
    uint32_t from = 0; /* a block may lie on two purged pages that are no neighbours */
    for (uint64_t pages = s->purged; pages != 0; pages &= pages - 1) {
        struct block_range blocks = blocks_on_page(info, lowest_bit(pages), s->page_shift);
        uint32_t end = blocks.last < s->block_count ? blocks.last + 1 : s->block_count;
        if (blocks.first > from)
            from = blocks.first;
        if (from >= end)
            continue;
        count += end - from;
        for (; words != NULL && from < end; from = (from / 64 + 1) * 64)
            words[from / 64] |= slab_range_mask(from, end - from);
        from = end;
    }
    return count;
}

unsigned slab_purge(uint32_t slab, unsigned page_shift, unsigned least)
{
    struct slab *s = slab_at(slab);
    if (slab_page_count(s, page_shift) <= 1)
        return 0;
    s->page_shift = page_shift;
    uint64_t pages = free_pages(s, page_shift);
    uint64_t before = s->purged;
    unsigned gain = count_bits(pages & ~before);
    if (gain < least)
        return 0;
    if (!arena_may_purge(slab / SUPERSLAB_SLABS, (size_t)gain << page_shift, least <= 1))
        return SLAB_PURGE_REFUSED;
    while (pages != 0) {
        /* Pages that are gone already may stand between: one call for all of the range is cheaper than two. */
        unsigned first = lowest_bit(pages);
        uint64_t above = pages + ((uint64_t)1 << first);
        unsigned count = (above == 0 ? 64 : lowest_bit(above)) - first;
        uint64_t range = slab_range_mask(first, count);
        char *start = (char *)window_slab_address(slab) + ((size_t)first << page_shift);
        if ((range & ~s->purged) != 0 && os_purge(start, (size_t)count << page_shift))
            s->purged |= range;
        pages &= ~range;
    }
    s->cold_count = cold_blocks(s, NULL);
    return count_bits(s->purged & ~before);
}

/* Makes the lowest cold block's pages resident. Only the books say so: the first write to the block faults them in. */
static unsigned wake(struct slab *s)
{
    const struct bin_info *info = bin_info(s->bin);
    uint32_t block = blocks_on_page(info, lowest_bit(s->purged), s->page_shift).first;
    unsigned first = (block * info->block_bytes) >> s->page_shift;
    unsigned last = ((block + 1) * info->block_bytes - 1) >> s->page_shift;
    uint64_t pages = s->purged & slab_range_mask(first, last - first + 1);
    s->purged &= ~pages;
    return count_bits(pages);
}

unsigned slab_take_resident(uint32_t slab, void **last, unsigned want, unsigned *woken)
{
    struct slab *s = slab_at(slab);
    uint32_t block_bytes = bin_info(s->bin)->block_bytes;
    char *base = window_slab_address(slab);
    uint64_t cold[SLAB_WORDS_MAX] = { 0 };
    *woken = slab_is_cold(s) ? wake(s) : 0;
    s->cold_count = cold_blocks(s, cold);
    uint32_t resident = s->free_count - s->cold_count;
    unsigned taken = want < resident ? want : resident;
    s->free_count -= taken;
    unsigned left = taken;
    for (unsigned w = s->first_word; left > 0; w++) {
        for (uint64_t bits = s->words[w] & ~cold[w]; bits != 0 && left > 0; bits &= bits - 1, left--) {
            *last-- = base + (w * 64 + lowest_bit(bits)) * block_bytes;
            s->words[w] ^= bits & -bits;
        }
    }
    if (s->free_count == 0)
        s->first_word = SLAB_NO_WORD;
    slab_note_taken(s, bin_info(s->bin), (uint32_t)((char *)last[1] - base));
    return taken;
}

bool slab_pages_are_valid(const struct slab *s)
{
    uint64_t cold[SLAB_WORDS_MAX] = { 0 };
    if (s->cold_count != cold_blocks(s, cold))
        return false;
    for (unsigned w = 0; w < bin_info(s->bin)->word_count; w++)
        if ((cold[w] & ~s->words[w]) != 0)
            return false;
    return true;
}
