/* Sizes and bins. A bin is one block size. Bins 0..23 are the tiny bins of config/classes.h, 24..40 the medium ones,
 * four per doubling up to 32 KiB, and one more just above 4 KiB, for pages that a program prefixes with a header of its own
 * (decision 0018). There are two for 8 KiB: where pages are not asked for, neighbours share one (decision 0037). A bin's
 * blocks are cut from runs of 1, 2 or 4 slabs, aligned to their size, so that the run's first slab
 * is found by masking and the unused tail stays below 7 %.
 *
 *   request n --(n+15)/16--> tiny table       n <= 2048
 *             --(n+511)/512-> medium table    n <= 32768, and another where an alignment is asked for
 *
 * All tables hold byte offsets (bin * BIN_STRIDE_BYTES): the same number the slab map holds, and the offset of the
 * bin's magazine in the thread's hot block. */
#ifndef HAKMEM_SLAB_SIZECLASS_H
#define HAKMEM_SLAB_SIZECLASS_H

#include "arena/window.h"
#include "base/attr.h"
#include "base/bits.h"
#include "config/classes.h"


#define MEDIUM_BIN_COUNT 18u
#define BIN_COUNT (TINY_BIN_COUNT + MEDIUM_BIN_COUNT)
#define MEDIUM_MAX_BYTES 32768u
#define BIN_STRIDE_BYTES 16u /* sizeof(struct magazine) in the hot block */

#define TINY_TABLE_COUNT (TINY_MAX_BYTES / 16 + 1)
#define MEDIUM_TABLE_COUNT (MEDIUM_MAX_BYTES / 512 + 1)

#define BIN_RUN_LOG2_BITS 2

struct bin_info {
    uint32_t block_bytes;
    uint32_t reciprocal;   /* ceil(2^32 / block_bytes): offset -> block index by multiplication */
    uint32_t run_mask;     /* bytes of a run - 1; runs are aligned to their size */
    uint16_t block_count;  /* blocks in a run */
    uint8_t run_slabs_log2; /* slabs in a run: 1, 2 or 4; below 1 << BIN_RUN_LOG2_BITS */
    uint8_t word_count;    /* 64-bit bitmap words that cover block_count */
};
_Static_assert(sizeof(struct bin_info) == BIN_STRIDE_BYTES, "map words hold offsets into the table of bins");

extern const struct bin_info bin_table[BIN_COUNT];
extern const uint16_t bin_medium_offset[MEDIUM_TABLE_COUNT];
extern const uint16_t bin_aligned_offset[MEDIUM_TABLE_COUNT]; /* the same of a size that is a multiple of its alignment */

FAST const struct bin_info *bin_info(unsigned bin)
{
    return &bin_table[bin];
}

FAST unsigned bin_of_info(const struct bin_info *info)
{
    return (unsigned)(info - bin_table);
}

/* The bin that the word of the slab map names. */
FAST const struct bin_info *bin_info_of_map_word(uint32_t word)
{
    return (const struct bin_info *)((const char *)bin_table + (word & ((1u << MAP_OWNER_SHIFT) - 1)));
}

/* The block index of an offset into a run. Exact for every multiple of the block size below 256 KiB; for any other
 * offset the product of index and size differs from the offset, which is how an interior pointer shows. */
FAST uint32_t bin_block_index(const struct bin_info *info, uint32_t offset)
{
    return (uint32_t)(((uint64_t)offset * info->reciprocal) >> 32);
}

/* The bin for `bytes` (<= MEDIUM_MAX_BYTES): the smallest, but not that of whole pairs of pages; and 8,193 to 8,256 bytes,
 * which share their place in the table with larger ones, get 10,240. */
unsigned bin_of_size(size_t bytes);
/* The smallest bin for `bytes` whose blocks are all aligned to `alignment` (<= MEDIUM_MAX_BYTES), or BIN_COUNT. */
unsigned bin_of_aligned(size_t bytes, size_t alignment);

#endif
