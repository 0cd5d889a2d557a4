/* The eight tiny classes, which are the names users configure, and the 24 bins they consist of. Class Ck covers sizes
 * up to 16 * 2^k bytes in up to four evenly spaced bins. A leaf: constants only, so that every layer may include it. */
#ifndef HAKMEM_CONFIG_CLASSES_H
#define HAKMEM_CONFIG_CLASSES_H

#include <assert.h>
#include <stdint.h>

#define TINY_CLASS_COUNT 8
#define TINY_BIN_COUNT 24
#define TINY_MAX_BYTES 2048

/* X(class, bin, size in bytes); bins stand in size order, and a class's bins stand together. */
#define TINY_BINS(X) \
    X(0, 0, 16)      \
    X(1, 1, 32)      \
    X(2, 2, 48)      \
    X(2, 3, 64)      \
    X(3, 4, 80)      \
    X(3, 5, 96)      \
    X(3, 6, 112)     \
    X(3, 7, 128)     \
    X(4, 8, 160)     \
    X(4, 9, 192)     \
    X(4, 10, 224)    \
    X(4, 11, 256)    \
    X(5, 12, 320)    \
    X(5, 13, 384)    \
    X(5, 14, 448)    \
    X(5, 15, 512)    \
    X(6, 16, 640)    \
    X(6, 17, 768)    \
    X(6, 18, 896)    \
    X(6, 19, 1024)   \
    X(7, 20, 1280)   \
    X(7, 21, 1536)   \
    X(7, 22, 1792)   \
    X(7, 23, 2048)

/* X(class, first bin, number of bins) */
#define TINY_CLASSES(X) \
    X(0, 0, 1)          \
    X(1, 1, 1)          \
    X(2, 2, 2)          \
    X(3, 4, 4)          \
    X(4, 8, 4)          \
    X(5, 12, 4)         \
    X(6, 16, 4)         \
    X(7, 20, 4)

#define TINY_BIN_IS_SOUND(class_index, bin, bytes)                                                           \
    static_assert((bin) < TINY_BIN_COUNT && (bytes) % 16 == 0 && (bytes) <= (16 << (class_index)), "tiny bin");
TINY_BINS(TINY_BIN_IS_SOUND)
#undef TINY_BIN_IS_SOUND

/* Block size of a bin, in bytes. Precondition: bin < TINY_BIN_COUNT. */
static inline uint32_t tiny_bin_bytes(uint32_t bin)
{
#define TINY_BIN_BYTES(class_index, bin_index, bytes) [bin_index] = (bytes),
    static const uint16_t table[TINY_BIN_COUNT] = {TINY_BINS(TINY_BIN_BYTES)};
#undef TINY_BIN_BYTES
    return table[bin];
}

/* The class a bin belongs to. Precondition: bin < TINY_BIN_COUNT. */
static inline uint32_t tiny_bin_class(uint32_t bin)
{
#define TINY_BIN_CLASS(class_index, bin_index, bytes) [bin_index] = (class_index),
    static const uint8_t table[TINY_BIN_COUNT] = {TINY_BINS(TINY_BIN_CLASS)};
#undef TINY_BIN_CLASS
    return table[bin];
}

/* A class's bins are first_bin .. first_bin + bin_count - 1. Precondition: class_index < TINY_CLASS_COUNT. */
static inline uint32_t tiny_class_first_bin(uint32_t class_index)
{
#define TINY_CLASS_FIRST(index, first_bin, bin_count) [index] = (first_bin),
    static const uint8_t table[TINY_CLASS_COUNT] = {TINY_CLASSES(TINY_CLASS_FIRST)};
#undef TINY_CLASS_FIRST
    return table[class_index];
}

static inline uint32_t tiny_class_bin_count(uint32_t class_index)
{
#define TINY_CLASS_BINS(index, first_bin, bin_count) [index] = (bin_count),
    static const uint8_t table[TINY_CLASS_COUNT] = {TINY_CLASSES(TINY_CLASS_BINS)};
#undef TINY_CLASS_BINS
    return table[class_index];
}

#endif
