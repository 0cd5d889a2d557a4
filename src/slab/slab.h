/* Slabs of one bin: which blocks are free, out of band. A run of 1, 2 or 4 slabs is named by its first slab's index;
 * "slab" below means such a run.
 *
 *   blocks     [ 0 ........ bump )[ bump ........ block_count )
 *              handed out or free   never handed out since attach
 *   free words 1 = free            0
 *
 * Invariant (slab_is_valid): free_count == ones in the free words + (block_count - bump).
 * A free block holds no link, so nothing a program writes into it can reach this state. */
#ifndef HAKMEM_SLAB_SLAB_H
#define HAKMEM_SLAB_SLAB_H

#include "arena/arena.h"
#include "slab/sizeclass.h"

#define SLAB_INLINE_WORDS 8u

enum slab_state {
    SLAB_UNUSED, /* the arena's, or in transit */
    SLAB_LISTED, /* on its heap's list of slabs with free blocks */
    SLAB_FULL,   /* no free block known to the owner */
};

/* First line: the header; second line: the first bitmap words. Everything is guarded by the owning heap's lock. While the
 * slab is not attached the record means nothing; large/large.c keeps its own in the same place. */
struct slab {
    uint32_t next; /* heap's list, slab indexes, SLAB_NONE ends it */
    uint32_t prev;
    uint32_t free_count;
    uint16_t block_count;
    uint16_t bump;
    uint8_t bin;
    uint8_t state; /* enum slab_state */
    uint16_t first_word; /* no free bit in the words below */
    uint32_t run_slabs;  /* slabs in this run */
    uint64_t *words; /* the free words: inline_words, or the slab's piece of window.free_bitmaps */
    uint64_t reserved[4];
    uint64_t inline_words[SLAB_INLINE_WORDS];
};
_Static_assert(sizeof(struct slab) == SLAB_RECORD_BYTES, "slab records have a fixed stride");
_Static_assert(offsetof(struct slab, inline_words) == 64, "header and bitmap in a cache line each");

FAST struct slab *slab_at(uint32_t index)
{
    return window_slab_record(index);
}

FAST uint32_t slab_head(uint32_t index, const struct bin_info *info)
{
    return index & ~((1u << info->run_slabs_log2) - 1u);
}

/* Fresh state: every block never handed out. */
void slab_init(uint32_t index, unsigned bin);
/* Takes up to `want` free blocks, lowest address first, and writes them downwards from `last` (last[0], last[-1], ...),
 * so that a LIFO reader meets the lowest first. Returns how many. */
unsigned slab_take(uint32_t index, void **last, unsigned want);
/* Says what is wrong with freeing `block`, which slab_put refused. */
SLOW NORETURN void slab_fail_put(uint32_t index, const void *block);
/* Marks the blocks of one word free (collected remote frees); aborts if one is free already. */
void slab_put_word(uint32_t index, unsigned word, uint64_t mask);
/* Aborts if `block` is no block of the slab. Returns its number. Touches only what is fixed while the slab is attached,
 * so that any thread that was given the block may call it. */
uint32_t slab_block_number(uint32_t index, const struct bin_info *info, const void *block);
bool slab_is_valid(uint32_t index);

/* Marks blocks free: as many of the first `count` as follow one another in this slab, at least the first, which must be
 * in it. Aborts on a double free or an address that is no block's. Returns how many. Inline: in a shuffled batch each
 * call puts one block. */
FAST unsigned slab_put(uint32_t index, const struct bin_info *info, void *const *blocks, unsigned count)
{
    struct slab *s = slab_at(index);
    uintptr_t base = (uintptr_t)window_slab_address(index);
    uint64_t *words = s->words;
    uint32_t bump = s->bump;
    unsigned done = 0;
    uintptr_t offset = (uintptr_t)blocks[0] - base;
    do {
        uint32_t number = bin_block_index(info, (uint32_t)offset);
        unsigned w = number / 64;
        uint64_t bit = (uint64_t)1 << (number % 64);
        uint64_t word = words[w];
        if (UNLIKELY(number >= bump || number * info->block_bytes != (uint32_t)offset || (word & bit) != 0))
            slab_fail_put(index, blocks[done]);
        words[w] = word | bit;
        if (w < s->first_word)
            s->first_word = (uint16_t)w;
        if (++done == count)
            break;
        offset = (uintptr_t)blocks[done] - base;
    } while (offset < SLAB_BYTES << info->run_slabs_log2);
    s->free_count += done;
    return done;
}

#endif
