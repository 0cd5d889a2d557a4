/* Bit and alignment arithmetic. Alignments are powers of two throughout. */
#ifndef HAKMEM_BASE_BITS_H
#define HAKMEM_BASE_BITS_H

#include "base/attr.h"

#define ARRAY_COUNT(a) (sizeof(a) / sizeof((a)[0]))

FAST uint64_t align_up(uint64_t value, uint64_t alignment)
{
    return (value + alignment - 1) & ~(alignment - 1);
}

FAST uint64_t align_down(uint64_t value, uint64_t alignment)
{
    return value & ~(alignment - 1);
}

FAST bool is_power_of_two(uint64_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

FAST unsigned lowest_bit(uint64_t word) /* word != 0 */
{
    return (unsigned)__builtin_ctzll(word);
}

FAST unsigned highest_bit(uint64_t word) /* word != 0 */
{
    return 63u - (unsigned)__builtin_clzll(word);
}

#if defined(__x86_64__) && !defined(__POPCNT__)
/* The compiler would call a function of its run-time library. Sums of neighbouring fields, doubling (Hacker's Delight,
 * 5-1). */
FAST unsigned count_bits(uint64_t word)
{
    word -= word >> 1 & 0x5555555555555555u;
    word = (word & 0x3333333333333333u) + (word >> 2 & 0x3333333333333333u);
    word = (word + (word >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return (unsigned)((word * 0x0101010101010101u) >> 56);
}
#else
FAST unsigned count_bits(uint64_t word)
{
    return (unsigned)__builtin_popcountll(word);
}
#endif

/* Sets a bit, counted modulo 64, and says whether it was set. x86-64 does it in one instruction, which the compiler does not
 * find: its carry is the answer. */
FAST bool bit_test_and_set(uint64_t *word, uint64_t bit)
{
#if defined(__x86_64__)
    bool was_set;
    __asm__("btsq %2, %0" : "+r"(*word), "=@ccc"(was_set) : "r"(bit));
    return was_set;
#else
    const uint64_t old = *word;
    *word = old | (uint64_t)1 << (bit % 64);
    return (old >> (bit % 64) & 1) != 0;
#endif
}

FAST uint32_t mask32(unsigned count) /* the lowest count bits, 0..32 */
{
    return count >= 32 ? UINT32_MAX : (1u << count) - 1u;
}

/* Where count consecutive ones begin: a set bit at i says that bits i..i+count-1 of mask are all set. Doubling steps. */
FAST uint32_t runs_of(uint32_t mask, unsigned count)
{
    unsigned have = 1;
    while (have < count && mask != 0) {
        unsigned step = have < count - have ? have : count - have;
        mask &= mask >> step;
        have += step;
    }
    return mask;
}

#endif
