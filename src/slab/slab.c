#include "slab/slab.h"

#include "base/check.h"
#include "slab/pages.h"
#include "slab/take.h"

/* The bits of the last word that stand for no block. */
static uint64_t padding(const struct bin_info *info)
{
    unsigned used = info->block_count % 64u;
    return used == 0 ? 0 : ~(uint64_t)0 << used;
}

void slab_init(uint32_t index, unsigned bin)
{
    struct slab *s = slab_at(index);
    const struct bin_info *info = bin_info(bin);
    s->next = s->prev = SLAB_NONE;
    s->fresh = 0;
    s->block_count = info->block_count;
    s->free_count = info->block_count;
    s->bin = (uint8_t)bin;
    s->first_word = 0;
    s->purged = 0;
    s->cold_count = 0;
    s->seen = 0;
    s->untouched = 0;
    s->run_slabs = (uint16_t)(1u << info->run_slabs_log2);
    s->life++;
    s->words = info->word_count <= SLAB_INLINE_WORDS
                   ? s->inline_words
                   : (uint64_t *)(window.free_bitmaps + (size_t)index * BITMAP_BYTES);
    for (unsigned w = 0; w < info->word_count; w++)
        s->words[w] = ~(uint64_t)0;
}

/* The blocks of a word with holes, or as many of them as there are slots from `last` down to `stop`. Not run by run: no branch
 * predictor knows how long the next one is. Returns the slot below the last. */
FAST void **take_single(uint64_t *word, uintptr_t word_base, uint32_t block_bytes, void **last, void **stop)
{
    uint64_t bits = *word;
    do {
        *last-- = (void *)(word_base + lowest_bit(bits) * block_bytes); /* below 2^21: a product of 32 bits */
        bits &= bits - 1;
    } while (bits != 0 && last != stop);
    *word = bits;
    return last;
}

void slab_take(uint32_t slab, void **last, unsigned count)
{
    struct slab *const s = slab_at(slab);
    const struct bin_info *const info = bin_info(s->bin);
    const uintptr_t block_bytes = info->block_bytes;
    const uintptr_t base = (uintptr_t)window_slab_address(slab);
    void **const stop = last - count;
    uint32_t w = s->first_word;
    for (;; w++) {
        uint64_t *const word = &s->words[w];
        if (*word == 0)
            continue;
        const uintptr_t word_base = base + w * (64 * block_bytes);
        const unsigned first = lowest_bit(*word);
        const uint64_t from_first = *word >> first;
        if ((from_first & (from_first + 1)) == 0) { /* one run */
            const size_t run = from_first == ~(uint64_t)0 ? 64 : lowest_bit(~from_first);
            const size_t most = (size_t)(last - stop);
            const unsigned take = (unsigned)(run < most ? run : most);
            *word &= ~slab_range_mask(first, take);
            last = write_run(last, word_base + first * block_bytes, block_bytes, take);
        } else {
            last = take_single(word, word_base, info->block_bytes, last, stop);
        }
        if (last == stop)
            break;
    }
    s->free_count -= count;
    s->first_word = s->free_count != 0 ? w : SLAB_NO_WORD;
    slab_note_taken(s, info, (uint32_t)((uintptr_t)last[1] - base));
}

SLOW NORETURN void slab_fail_double_free(uint32_t index, const struct bin_info *info, unsigned word, uint64_t wrong)
{
    size_t number = word * 64u + lowest_bit(wrong);
    check_fail("double free", (char *)window_slab_address(index) + number * info->block_bytes);
}

SLOW NORETURN void slab_fail_put(void *const *slot)
{
    /* An address that is no block's fails here ... */
    slab_block_number(bin_info_of_map_word(load_relaxed(window_word((uint32_t)window_slab_index(*slot)))), *slot);
    /* ... so it is a block that is free already, or was never handed out. */
    check_fail("double free", *slot);
}

SLOW NORETURN void slab_fail_gone(void *const *slot)
{
    check_fail("double free", *slot);
}

bool slab_is_valid(uint32_t index)
{
    const struct slab *s = slab_at(index);
    const struct bin_info *info = bin_info(s->bin);
    if (s->block_count != info->block_count || (s->words[info->word_count - 1] & padding(info)) != padding(info))
        return false;
    unsigned ones = 0;
    for (unsigned w = 0; w < info->word_count; w++) {
        uint64_t word = w + 1u == info->word_count ? s->words[w] & ~padding(info) : s->words[w];
        ones += count_bits(word);
        if (w < s->first_word && word != 0)
            return false;
    }
    return s->free_count == ones && slab_pages_are_valid(s);
}
