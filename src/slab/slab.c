#include "slab/slab.h"

#include "base/check.h"
#include "slab/pages.h"

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

/* Two addresses of neighbours, side by side in a magazine. */
typedef uintptr_t address_pair __attribute__((vector_size(16), aligned(8), may_alias));

/* `count` neighbours from `block` up, written downwards from `last`; many of them in pairs, so that each costs hardly more
 * than an instruction. Returns the slot below. */
FAST void **write_run(void **last, uintptr_t block, uintptr_t block_bytes, unsigned count)
{
    address_pair pair = { block + block_bytes, block };
    const address_pair step = { 2 * block_bytes, 2 * block_bytes };
    void **stop = last - count;
    while (last - stop >= 8) {
        address_pair *pairs = (address_pair *)(last - 7);
        pairs[3] = pair;
        pair += step;
        pairs[2] = pair;
        pair += step;
        pairs[1] = pair;
        pair += step;
        pairs[0] = pair;
        pair += step;
        last -= 8;
    }
    for (; last - stop >= 2; last -= 2) {
        *(address_pair *)(last - 1) = pair;
        pair += step;
    }
    if (last > stop)
        *last-- = (void *)pair[1];
    return last;
}

unsigned slab_take(uint32_t index, void **last, unsigned want, unsigned *pieces)
{
    struct slab *s = slab_at(index);
    const uintptr_t block_bytes = bin_info(s->bin)->block_bytes;
    const uintptr_t base = (uintptr_t)window_slab_address(index);
    uint64_t *const words = s->words;
    void **const first_slot = last;
    void **const stop = last - (want < s->free_count ? want : s->free_count);
    unsigned left = *pieces;
    unsigned w = s->first_word;
    while (last > stop && left != 0) {
        uint64_t bits = words[w];
        if (bits == 0) {
            w++;
            continue;
        }
        uintptr_t word_base = base + w * 64 * block_bytes;
        unsigned first = lowest_bit(bits);
        uint64_t above = bits + ((uint64_t)1 << first); /* 0 or without a bit of `bits`: they are one run */
        if ((above & bits) == 0) {
            unsigned count = (above == 0 ? 64 : lowest_bit(above)) - first;
            if (count > (size_t)(last - stop))
                count = (unsigned)(last - stop);
            bits &= ~slab_range_mask(first, count);
            last = write_run(last, word_base + first * block_bytes, block_bytes, count);
            left--;
        } else {
            /* Not run by run: no branch predictor knows how long the next one is. */
            void **const from = last;
            void **const end = left < (size_t)(last - stop) ? last - left : stop;
            do
                *last-- = (void *)(word_base + lowest_bit(bits) * block_bytes);
            while ((bits &= bits - 1) != 0 && last > end);
            left -= (unsigned)(from - last);
        }
        words[w] = bits;
    }
    unsigned taken = (unsigned)(first_slot - last);
    *pieces = left;
    s->free_count -= taken;
    s->first_word = s->free_count != 0 ? w : SLAB_NO_WORD;
    return taken;
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

void slab_put_word(uint32_t index, unsigned word, uint64_t mask)
{
    struct slab *s = slab_at(index);
    uint64_t wrong = mask & s->words[word];
    if (UNLIKELY(wrong != 0))
        slab_fail_double_free(index, bin_info(s->bin), word, wrong);
    s->words[word] |= mask;
    if (word < s->first_word)
        s->first_word = word;
    s->free_count += count_bits(mask);
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
