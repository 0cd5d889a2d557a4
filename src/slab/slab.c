#include "slab/slab.h"

#include "base/check.h"

void slab_init(uint32_t index, unsigned bin)
{
    struct slab *s = slab_at(index);
    const struct bin_info *info = bin_info(bin);
    s->next = s->prev = SLAB_NONE;
    s->block_count = info->block_count;
    s->free_count = info->block_count;
    s->bump = 0;
    s->bin = (uint8_t)bin;
    s->first_word = 0;
    s->run_slabs = 1u << info->run_slabs_log2;
    s->words = info->word_count <= SLAB_INLINE_WORDS
                   ? s->inline_words
                   : (uint64_t *)(window.free_bitmaps + (size_t)index * BITMAP_BYTES);
    for (unsigned w = 0; w < info->word_count; w++)
        s->words[w] = 0;
}

/* Removes and returns the lowest `count` bits of *word. */
static uint64_t split_lowest(uint64_t *word, unsigned count)
{
    uint64_t rest = *word;
    for (unsigned i = 0; i < count; i++)
        rest &= rest - 1;
    uint64_t taken = *word & ~rest;
    *word = rest;
    return taken;
}

unsigned slab_take(uint32_t index, void **last, unsigned want)
{
    struct slab *s = slab_at(index);
    const struct bin_info *info = bin_info(s->bin);
    char *base = window_slab_address(index);
    size_t block_bytes = info->block_bytes;
    unsigned taken = 0;
    unsigned recycled = s->free_count - (unsigned)(s->block_count - s->bump);
    if (recycled > want)
        recycled = want;
    for (unsigned w = s->first_word; taken < recycled; w++) {
        uint64_t word = s->words[w];
        s->first_word = (uint16_t)w;
        if (word == 0)
            continue;
        uint64_t bits = word;
        if (count_bits(word) <= recycled - taken)
            word = 0;
        else
            bits = split_lowest(&word, recycled - taken);
        s->words[w] = word;
        char *word_base = base + (size_t)w * 64 * block_bytes;
        for (; bits != 0; bits &= bits - 1)
            last[-(ptrdiff_t)taken++] = word_base + lowest_bit(bits) * block_bytes;
    }
    unsigned fresh = (unsigned)(s->block_count - s->bump);
    if (fresh > want - taken)
        fresh = want - taken;
    char *block = base + s->bump * block_bytes;
    for (unsigned i = 0; i < fresh; i++, block += block_bytes)
        last[-(ptrdiff_t)taken++] = block;
    s->bump = (uint16_t)(s->bump + fresh);
    s->free_count -= taken;
    return taken;
}

uint32_t slab_block_number(uint32_t index, const struct bin_info *info, const void *block)
{
    uint32_t offset = (uint32_t)((uintptr_t)block - (uintptr_t)window_slab_address(index));
    uint32_t number = bin_block_index(info, offset);
    if (UNLIKELY(number * info->block_bytes != offset || number >= info->block_count))
        check_fail("free of a pointer into the middle of a block", block);
    return number;
}

SLOW NORETURN void slab_fail_put(uint32_t index, const void *block)
{
    const struct slab *s = slab_at(index);
    /* An address that is no block's fails here ... */
    slab_block_number(index, bin_info(s->bin), block);
    /* ... so it is a block that is free already, or was never handed out. */
    check_fail("double free", block);
}

void slab_put_word(uint32_t index, unsigned word, uint64_t mask)
{
    struct slab *s = slab_at(index);
    uint64_t never_handed_out = word * 64u >= s->bump ? ~(uint64_t)0
                                : s->bump - word * 64u >= 64 ? 0
                                                              : ~(uint64_t)0 << (s->bump - word * 64u);
    uint64_t wrong = mask & (s->words[word] | never_handed_out);
    if (UNLIKELY(wrong != 0))
        check_fail("double free", (char *)window_slab_address(index) +
                                      (word * 64u + lowest_bit(wrong)) * (size_t)bin_info(s->bin)->block_bytes);
    s->words[word] |= mask;
    if (word < s->first_word)
        s->first_word = (uint16_t)word;
    s->free_count += count_bits(mask);
}

bool slab_is_valid(uint32_t index)
{
    const struct slab *s = slab_at(index);
    const struct bin_info *info = bin_info(s->bin);
    if (s->bump > s->block_count || s->block_count != info->block_count)
        return false;
    unsigned ones = 0;
    for (unsigned w = 0; w < info->word_count; w++) {
        ones += count_bits(s->words[w]);
        if (w < s->first_word && s->words[w] != 0)
            return false;
    }
    return s->free_count == ones + (unsigned)(s->block_count - s->bump);
}
