#include "slab/sizeclass.h"

#define WORDS(count) (uint8_t)(((count) + 63) / 64)
#define BIN(bytes, log2)                                                                              \
    { .block_bytes = (bytes),                                                                         \
      .reciprocal = (uint32_t)((((uint64_t)1 << 32) + (bytes) - 1) / (bytes)),                        \
      .run_mask = (SLAB_BYTES << (log2)) - 1,                                                         \
      .block_count = (uint16_t)((SLAB_BYTES << (log2)) / (bytes)),                                    \
      .run_slabs_log2 = (log2),                                                                       \
      .word_count = WORDS((SLAB_BYTES << (log2)) / (bytes)) }

const struct bin_info bin_table[BIN_COUNT] = {
    BIN(16, 0),    BIN(32, 0),    BIN(48, 0),    BIN(64, 0),    BIN(80, 0),    BIN(96, 0),    BIN(112, 0),
    BIN(128, 0),   BIN(160, 0),   BIN(192, 0),   BIN(224, 0),   BIN(256, 0),   BIN(320, 0),   BIN(384, 0),
    BIN(448, 0),   BIN(512, 0),   BIN(640, 0),   BIN(768, 0),   BIN(896, 0),   BIN(1024, 0),  BIN(1280, 0),
    BIN(1536, 0),  BIN(1792, 0),  BIN(2048, 0),  BIN(2560, 0),  BIN(3072, 0),  BIN(3584, 0),  BIN(4096, 0),
    BIN(4608, 0),  BIN(5120, 1),  BIN(6144, 1),  BIN(7168, 0),  BIN(8192, 1),  BIN(8256, 2),  BIN(10240, 2),
    BIN(12288, 2), BIN(14336, 2), BIN(16384, 2), BIN(20480, 2), BIN(24576, 2), BIN(28672, 2), BIN(32768, 2),
};

#define M(bin) ((TINY_BIN_COUNT + (bin)) * BIN_STRIDE_BYTES)
#define OFFSETS(of_8192)                                                                      \
    {                                                                                         \
        [0 ... 5] = M(0),      [6] = M(1),            [7] = M(2),          [8] = M(3),        \
        [9] = M(4),            [10] = M(5),           [11 ... 12] = M(6),  [13 ... 14] = M(7), \
        [15 ... 16] = of_8192, [17 ... 20] = M(10),   [21 ... 24] = M(11), [25 ... 28] = M(12), \
        [29 ... 32] = M(13),   [33 ... 40] = M(14),   [41 ... 48] = M(15), [49 ... 56] = M(16), \
        [57 ... 64] = M(17),                                                                  \
    }
const uint16_t bin_medium_offset[MEDIUM_TABLE_COUNT] = OFFSETS(M(9));
const uint16_t bin_aligned_offset[MEDIUM_TABLE_COUNT] = OFFSETS(M(8));
#undef OFFSETS
#undef M

unsigned bin_of_size(size_t bytes)
{
    if (bytes > TINY_MAX_BYTES)
        return bin_medium_offset[(bytes + 511) / 512] / BIN_STRIDE_BYTES;
    /* Four bins per doubling above 64 bytes; below, one per 16 bytes. */
    unsigned units = (unsigned)((bytes + 15) / 16);
    if (units <= 1)
        return 0;
    if (units <= 8)
        return units - 1;
    unsigned top = highest_bit(units - 1);
    return (top - 1) * 4 + ((units - 1) >> (top - 2) & 3u);
}

/* Sizes of blocks that are asked for with an alignment are 4, 4.5, 5, 6 or 7 times a power of two: whatever a multiple of the
 * alignment is rounded up to is one as well. */
unsigned bin_of_aligned(size_t bytes, size_t alignment)
{
    if (bytes > MEDIUM_MAX_BYTES)
        return BIN_COUNT;
    size_t whole = align_up(bytes == 0 ? 1 : bytes, alignment);
    if (whole <= TINY_MAX_BYTES)
        return bin_of_size(whole);
    return whole > MEDIUM_MAX_BYTES ? BIN_COUNT : bin_aligned_offset[(whole + 511) / 512] / BIN_STRIDE_BYTES;
}
