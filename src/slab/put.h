/* What goes back into a slab, block by block or by runs. The heap's lock is held.
 *
 * Inline: a flush is made of such, and what each costs is counted in instructions (decision 0010). */
#ifndef HAKMEM_SLAB_PUT_H
#define HAKMEM_SLAB_PUT_H

#include "slab/slab.h"

/* What slab_put needs of a bin, in the width it is used in. */
struct slab_divisor {
    uint64_t run_mask, reciprocal;
};

FAST struct slab_divisor slab_divisor(const struct bin_info *info)
{
    return (struct slab_divisor){ info->run_mask, info->reciprocal };
}

/* Its upper half is the block's number; its lower half is below the reciprocal for multiples of the block size only (Lemire,
 * Kaser, Kurz, "Faster remainder by direct computation", 2019; the unit test tries all). */
FAST uint64_t slab_product(struct slab_divisor by, uintptr_t block)
{
    return (block & by.run_mask) * by.reciprocal;
}

FAST bool slab_is_multiple(struct slab_divisor by, uint64_t product)
{
    return (uint32_t)product < (uint32_t)by.reciprocal;
}

/* Marks one block free, of which slab_product and the place of its address are given; aborts on a double free or an address
 * that is no block's. True: the slab may have been full, or all of it is free now. */
FAST bool slab_put(struct slab *s, struct slab_divisor by, uint64_t product, void *const *slot)
{
    const uint64_t word = product >> 38;
    uint64_t *words = s->words;
    uint64_t bits = words[word];
    if (UNLIKELY(!slab_is_multiple(by, product)) || UNLIKELY(bit_test_and_set(&bits, product >> 32)))
        slab_fail_put(slot);
    words[word] = bits;
    const uint32_t free_count = s->free_count + 1;
    s->free_count = free_count;
    if (UNLIKELY((uint32_t)word < s->first_word)) {
        s->first_word = (uint32_t)word;
        return true;
    }
    return UNLIKELY(free_count == s->block_count);
}

/* How many of the first `count` addresses are `step` apart, at least one. In pairs, as slab_take writes them. */
FAST unsigned slab_count_steps(void *const *blocks, unsigned count, uintptr_t step)
{
    uintptr_t address = (uintptr_t)blocks[0];
    const address_pair two = { 2 * step, 2 * step }, eight = { 8 * step, 8 * step };
    address_pair first = { address, address + step };
    address_pair second = first + two, third = second + two, fourth = third + two;
    void *const *at = blocks, *const *const end = blocks + count;
    for (void *const *const whole = blocks + (count & ~7u); at != whole; at += 8) {
        const address_pair *pairs = (const address_pair *)at;
        const address_pair differ = (pairs[0] ^ first) | (pairs[1] ^ second) | (pairs[2] ^ third) | (pairs[3] ^ fourth);
        if ((differ[0] | differ[1]) != 0)
            break;
        first += eight;
        second += eight;
        third += eight;
        fourth += eight;
    }
    for (address = first[0]; at != end && (uintptr_t)*at == address; address += step)
        at++;
    return (unsigned)(at - blocks);
}

/* Marks blocks free whose bits lie in one word and which follow one another in memory, up or down: as many of the first
 * `count` addresses as do so, at least one. Aborts on a double free or an address that is no block's. Returns how many;
 * *turned: the slab was full, or all of it is free now. */
FAST unsigned slab_put_neighbours(struct slab *s, const struct bin_info *info, void *const *blocks, unsigned count, bool is_up,
                                  bool *turned)
{
    const uint64_t product = slab_product(slab_divisor(info), (uintptr_t)blocks[0]);
    const uint32_t number = (uint32_t)(product >> 32), word = number / 64, bit = number % 64;
    if (UNLIKELY(!slab_is_multiple(slab_divisor(info), product) || number >= info->block_count))
        slab_fail_put(blocks);
    uint32_t most = is_up ? 64 - bit : bit + 1;
    if (is_up && most > info->block_count - number) /* behind the last may be a neighbour that is another slab's */
        most = info->block_count - number;
    const uintptr_t step = is_up ? info->block_bytes : (uintptr_t)0 - info->block_bytes;
    const unsigned found = slab_count_steps(blocks, count < most ? count : most, step);
    uint64_t *words = s->words;
    const uint64_t bits = words[word];
    const uint64_t mask = ~(uint64_t)0 >> (64 - found) << (is_up ? bit : bit + 1 - found);
    if (UNLIKELY((bits & mask) != 0)) /* before anything changes: the report is to find the fault still there */
        slab_fail_double_free(slab_head((uint32_t)window_slab_index(blocks[0]), info), info, word, bits & mask);
    words[word] = bits | mask;
    const uint32_t free_count = s->free_count + found;
    s->free_count = free_count;
    *turned = free_count == found || free_count == s->block_count;
    if (word < s->first_word)
        s->first_word = word;
    return found;
}

#endif
