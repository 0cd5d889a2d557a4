/* Slabs of one bin: which blocks are free, out of band. A run of 1, 2 or 4 slabs is named by its first slab's index;
 * "slab" below means such a run.
 *
 *   blocks       0 .................. block_count - 1
 *   free words   1 = free, 0 = out    | padding: 1
 *
 * Invariant (slab_is_valid): free_count == ones in the free words - padding. The padding fills the last word and is never
 * taken, because blocks are taken lowest first and never more than free_count of them. It makes a number past the last
 * block look free, so that freeing it fails as a double free does, without a test of its own.
 * A free block holds no link, so nothing a program writes into it can reach this state. */
#ifndef HAKMEM_SLAB_SLAB_H
#define HAKMEM_SLAB_SLAB_H

#include "arena/arena.h"
#include "arena/superslab.h"
#include "base/check.h"
#include "slab/sizeclass.h"

#define SLAB_INLINE_WORDS 8u
#define SLAB_WORDS_MAX (SLAB_BYTES / 16 / 64)
#define SLAB_NO_WORD UINT32_MAX

/* All records that a slab has, whether they are ever touched or not: map word, slab and remote record, both bitmaps, and
 * its share of the SuperSlab's record. */
#define SLAB_METADATA_BYTES                                                                \
    (sizeof(uint32_t) + SLAB_RECORD_BYTES + REMOTE_RECORD_BYTES + 2 * (size_t)BITMAP_BYTES + \
     sizeof(struct superslab) / SUPERSLAB_SLABS)
_Static_assert(SLAB_METADATA_BYTES * 50 <= SLAB_BYTES, "metadata: at most 1/50 of the slabs it describes");
_Static_assert((SLAB_METADATA_BYTES - 2 * BITMAP_BYTES) * 300 <= SLAB_BYTES, "1/300 where the bitmaps fit the records");

enum slab_state {
    SLAB_UNUSED, /* the arena's, or in transit */
    SLAB_LISTED, /* on its heap's list of slabs with free blocks */
    SLAB_FULL,   /* no free block known to the owner */
};

/* First line: the header; second line: the first bitmap words. Everything is guarded by the owning heap's lock. While the
 * slab is not attached the record means nothing, and may be zero again; large/large.c keeps its own in the same place. */
struct slab {
    uint32_t next; /* heap's list, slab indexes, SLAB_NONE ends it */
    uint32_t prev;
    uint32_t free_count;
    uint32_t block_count;
    uint8_t bin;
    uint8_t state; /* enum slab_state */
    uint16_t run_slabs;  /* slabs in this run */
    uint32_t first_word; /* no free bit in the words below; of a full slab more than any word's number */
    uint64_t *words; /* the free words: inline_words, or the slab's piece of window.free_bitmaps */
    /* slab/pages.h */
    uint64_t purged;     /* pages of the run, the lowest first, that were given back. A hint: never a promise of zeroes */
    uint32_t cold_count; /* free blocks that lie on them, at least in part */
    uint32_t seen;       /* what the last purge pass saw; 0: blocks were taken since */
    uint32_t page_shift; /* log2 of the page size that `purged` counts in */
    uint32_t fresh;      /* blocks with this number and above nobody has had since the slab was attached. heap.c */
    uint32_t life;       /* how often it has been attached; kept while it is not, unless the pages go with it (tcache/guard.h) */
    uint32_t untouched;  /* 1: all of it read as zero when it was attached, so those blocks have no pages either. heap.c */
    uint64_t inline_words[SLAB_INLINE_WORDS];
};
_Static_assert(sizeof(struct slab) == SLAB_RECORD_BYTES, "slab records have a fixed stride");
_Static_assert(offsetof(struct slab, inline_words) == 64, "header and bitmap in a cache line each");

FAST struct slab *slab_at(uint32_t index)
{
    return window_slab_record(index);
}

/* As slab_at, for loops. */
FAST struct slab *slab_in(struct window_view view, uint64_t index)
{
    return (struct slab *)(view.slabs + index * SLAB_RECORD_BYTES);
}

FAST uint32_t slab_head(uint32_t index, const struct bin_info *info)
{
    return index & ~((1u << info->run_slabs_log2) - 1u);
}

/* Free blocks that somebody has had: their lines and pages have been touched. All others come after them, since the lowest
 * free block is taken first. */
FAST uint32_t slab_used_free_count(const struct slab *s)
{
    return s->free_count - (s->block_count - s->fresh);
}

/* The block at this offset into the run was taken, and no higher one with it. */
FAST void slab_note_taken(struct slab *s, const struct bin_info *info, uint32_t offset)
{
    const uint32_t end = bin_block_index(info, offset) + 1;
    if (end > s->fresh)
        s->fresh = end;
}

/* Fresh state: every block is free. */
void slab_init(uint32_t index, unsigned bin);
/* Takes the lowest `count` free blocks, 1 .. free_count, and writes them downwards from `last` (last[0], last[-1], ...), so
 * that a LIFO reader meets the lowest first. No page of the slab is purged (slab/pages.h). */
void slab_take(uint32_t slab, void **last, unsigned count);
/* Says that the lowest of the blocks `wrong` of a bitmap word was freed twice. Touches nothing that can change while the
 * slab is attached. */
SLOW NORETURN void slab_fail_double_free(uint32_t index, const struct bin_info *info, unsigned word, uint64_t wrong);
/* Say what is wrong with freeing the block whose address is in `slot`: slab_put refused it; its slab is not the heap's any more.
 * By the slot, so that who might have to call them need not keep the address. */
SLOW NORETURN void slab_fail_put(void *const *slot);
SLOW NORETURN void slab_fail_gone(void *const *slot);
/* Marks the blocks of one word free (collected remote frees); aborts if one is free already. */
FAST void slab_put_word(struct slab *s, uint32_t index, unsigned word, uint64_t mask)
{
    uint64_t *const words = s->words;
    const uint64_t free_now = words[word];
    if (UNLIKELY((mask & free_now) != 0))
        slab_fail_double_free(index, bin_info(s->bin), word, mask & free_now);
    words[word] = free_now | mask;
    if (word < s->first_word)
        s->first_word = word;
    s->free_count += count_bits(mask);
}
/* Aborts if `block`, an address in a slab of this bin, is no block. Returns its number. Touches only what is fixed while the slab is attached,
 * so that any thread that was given the block may call it. */
FAST uint32_t slab_block_number(const struct bin_info *info, const void *block)
{
    uint32_t offset = (uint32_t)(uintptr_t)block & info->run_mask;
    uint32_t number = bin_block_index(info, offset);
    if (UNLIKELY(number * info->block_bytes != offset || number >= info->block_count))
        check_fail("free of a pointer into the middle of a block", block);
    return number;
}
bool slab_is_valid(uint32_t index);

/* The bits of `count` blocks from the one numbered `first` on, as far as they lie in that one's word. */
FAST uint64_t slab_range_mask(uint32_t first, uint32_t count)
{
    uint64_t ones = count >= 64 ? ~(uint64_t)0 : ((uint64_t)1 << count) - 1;
    return ones << (first % 64);
}

/* Do two addresses of one bin look like neighbours? They may still lie in two slabs. */
FAST bool slab_are_neighbours(const struct bin_info *info, const void *a, const void *b)
{
    uintptr_t distance = (uintptr_t)b - (uintptr_t)a;
    return distance == info->block_bytes || distance == (uintptr_t)0 - info->block_bytes;
}

/* Two addresses of neighbours, side by side in a magazine. */
typedef uintptr_t address_pair __attribute__((vector_size(16), aligned(8), may_alias));

#endif
