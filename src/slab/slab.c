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
    s->run_slabs = 1u << info->run_slabs_log2;
    s->words = info->word_count <= SLAB_INLINE_WORDS
                   ? s->inline_words
                   : (uint64_t *)(window.free_bitmaps + (size_t)index * BITMAP_BYTES);
    for (unsigned w = 0; w < info->word_count; w++)
        s->words[w] = ~(uint64_t)0;
}

unsigned slab_take(uint32_t index, void **last, unsigned want)
{
    struct slab *s = slab_at(index);
    uint32_t block_bytes = bin_info(s->bin)->block_bytes;
    char *base = window_slab_address(index);
    unsigned taken = want < s->free_count ? want : s->free_count;
    void **stop = last - taken;
    unsigned w = s->first_word;
    s->free_count -= taken;
    while (last > stop) {
        uint64_t bits = s->words[w];
        if (bits == 0) {
            w++;
            continue;
        }
        unsigned first = lowest_bit(bits);
        char *word_base = base + w * 64 * block_bytes;
        uint64_t above = bits + ((uint64_t)1 << first); /* 0 or without a bit of `bits`: they are one run */
        if ((above & bits) == 0) {
            unsigned count = (above == 0 ? 64 : lowest_bit(above)) - first;
            if (count > (size_t)(last - stop))
                count = (unsigned)(last - stop);
            bits = count == 64 ? 0 : bits & ~((((uint64_t)1 << count) - 1) << first);
            char *block = word_base + first * block_bytes;
            for (void **end = last - count; last > end; block += block_bytes)
                *last-- = block;
        } else {
            do
                *last-- = word_base + lowest_bit(bits) * block_bytes;
            while ((bits &= bits - 1) != 0 && last > stop);
        }
        s->words[w] = bits;
    }
    s->first_word = (uint16_t)w;
    return taken;
}

SLOW NORETURN void slab_fail_double_free(uint32_t index, const struct bin_info *info, unsigned word, uint64_t wrong)
{
    size_t number = word * 64u + lowest_bit(wrong);
    check_fail("double free", (char *)window_slab_address(index) + number * info->block_bytes);
}

static void check_all_out(uint32_t index, uint32_t first, uint32_t count)
{
    const struct slab *s = slab_at(index);
    for (uint32_t end = first + count; first < end; first = (first / 64 + 1) * 64) {
        uint64_t wrong = s->words[first / 64] & slab_range_mask(first, end - first);
        if (UNLIKELY(wrong != 0))
            slab_fail_double_free(index, bin_info(s->bin), first / 64, wrong);
    }
}

unsigned slab_put_neighbours(uint32_t index, const struct bin_info *info, void *const *blocks, unsigned count)
{
    struct slab *s = slab_at(index);
    uintptr_t address = (uintptr_t)blocks[0];
    uint32_t offset = (uint32_t)(address - (uintptr_t)window_slab_address(index));
    uint32_t number = bin_block_index(info, offset);
    if (UNLIKELY(number * info->block_bytes != offset || number >= s->block_count))
        slab_fail_put(index, blocks[0]);
    uintptr_t step = count > 1 ? (uintptr_t)blocks[1] - address : 0;
    bool down = step != info->block_bytes;
    uint32_t most = down ? number + 1 : s->block_count - number; /* the neighbour may be another slab's */
    if (count > most)
        count = most;
    unsigned found = 1;
    while (found < count && (uintptr_t)blocks[found] == (address += step))
        found++;
    uint32_t lowest = down ? number + 1 - found : number;
    check_all_out(index, lowest, found); /* before anything changes: the report is to find the fault still there */
    for (uint32_t at = lowest, end = lowest + found; at < end; at = (at / 64 + 1) * 64)
        s->words[at / 64] |= slab_range_mask(at, end - at);
    if (lowest / 64 < s->first_word)
        s->first_word = (uint16_t)(lowest / 64);
    s->free_count += found;
    return found;
}

SLOW NORETURN void slab_fail_put(uint32_t index, const void *block)
{
    /* An address that is no block's fails here ... */
    slab_block_number(bin_info(slab_at(index)->bin), block);
    /* ... so it is a block that is free already, or was never handed out. */
    check_fail("double free", block);
}

void slab_put_word(uint32_t index, unsigned word, uint64_t mask)
{
    struct slab *s = slab_at(index);
    uint64_t wrong = mask & s->words[word];
    if (UNLIKELY(wrong != 0))
        slab_fail_double_free(index, bin_info(s->bin), word, wrong);
    s->words[word] |= mask;
    if (word < s->first_word)
        s->first_word = (uint16_t)word;
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
