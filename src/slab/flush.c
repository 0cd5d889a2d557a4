/* Blocks of a heap's own on their way back into its slabs, a batch at a time.
 *
 * Somebody's free waits for a batch, so what it costs is counted in instructions (tests/lint/slowpath, decision 0010): each
 * function here does one thing in a loop and keeps what stays the same in registers. The compiler cannot do that by itself,
 * since it must assume that bitmaps overlap everything. */
#include "slab/heap_internal.h"
#include "slab/put.h"

enum {
    /* What one batch puts, beside its number of blocks, because some call has to wait for it: whole runs of neighbours, as far
     * as they share a bitmap word, of which each counts for two, or single blocks. See decision 0010. */
    FLUSH_PIECES = 10,
    LONG_RUN = 16,      /* blocks: no other piece follows them in the batch */
    CACHED_SLABS = 128, /* the records of so many slabs and their bitmaps, 24 KiB, are likely at hand */
};

/* Headers and bitmaps of a shuffled batch are scattered: ask for them all before the first is needed. */
static NOINLINE void prefetch_slabs(const struct bin_info *info, void *const *blocks, unsigned count)
{
    bool is_inline = info->word_count <= SLAB_INLINE_WORDS;
    for (unsigned i = 0; i < count; i++) {
        uint32_t slab = slab_head((uint32_t)window_slab_index(blocks[i]), info);
        char *words = is_inline ? (char *)slab_at(slab)->inline_words : window.free_bitmaps + (size_t)slab * BITMAP_BYTES;
        uint32_t number = bin_block_index(info, (uint32_t)(uintptr_t)blocks[i] & info->run_mask);
        __builtin_prefetch(slab_at(slab), 1);
        __builtin_prefetch(words + number / 8, 1);
    }
}

/* The slab had no free block and has some now, or all of its blocks are free. */
static NOINLINE void note_turning_point(struct heap *h, const struct slab *s)
{
    heap_note_returned(h, (uint32_t)((size_t)((const char *)s - window.slabs) / SLAB_RECORD_BYTES));
}

/* A block that is twice in the batch may have emptied its slab the first time; somebody else's it is now. Every slab of a run
 * has the run's word. */
FAST bool is_own(struct window_origin origin, uintptr_t block, uint32_t map_word)
{
    return load_relaxed((const uint32_t *)origin.words + (block >> SLAB_SHIFT)) == map_word;
}

FAST struct slab *slab_of(struct window_origin origin, uintptr_t block, unsigned run_slabs_log2)
{
    return (struct slab *)(origin.slabs + (block >> (SLAB_SHIFT + run_slabs_log2)) * (SLAB_RECORD_BYTES << run_slabs_log2));
}

FAST uint32_t map_word_of(const struct heap *h, unsigned bin)
{
    return h->id << MAP_OWNER_SHIFT | bin * BIN_STRIDE_BYTES;
}

/* Single blocks, one at least. run_slabs_log2 and the mask in `by` are constants mostly. */
FAST void put_singles(struct heap *h, unsigned bin, struct slab_divisor by, unsigned run_slabs_log2, void *const *block,
                      unsigned count)
{
    const struct window_origin origin = window.origin;
    const uint32_t map_word = map_word_of(h, bin);
    void *const *const end = block + count;
    do {
        const uintptr_t address = (uintptr_t)*block;
        const uint64_t product = slab_product(by, address);
        if (UNLIKELY(!is_own(origin, address, map_word)))
            slab_fail_gone(block);
        struct slab *s = slab_of(origin, address, run_slabs_log2);
        if (UNLIKELY(slab_put(s, by, product, block)))
            note_turning_point(h, s);
    } while (++block != end);
}

static NOINLINE void put_large(struct heap *h, unsigned bin, void *const *blocks, unsigned count)
{
    put_singles(h, bin, slab_divisor(bin_info(bin)), bin_info(bin)->run_slabs_log2, blocks, count);
}

static NOINLINE unsigned put_scattered(struct heap *h, unsigned bin, void *const *blocks, unsigned count)
{
    if (count > FLUSH_PIECES)
        count = FLUSH_PIECES;
    if (UNLIKELY(h->bins[bin].slab_count > CACHED_SLABS))
        prefetch_slabs(bin_info(bin), blocks, count);
    if (LIKELY(bin_info(bin)->run_slabs_log2 == 0))
        put_singles(h, bin, (struct slab_divisor){ SLAB_BYTES - 1, bin_info(bin)->reciprocal }, 0, blocks, count);
    else
        put_large(h, bin, blocks, count);
    return count;
}

/* A run, up or down. Returns how many blocks, negative if there is a turning point. */
FAST int put_run(uint32_t map_word, const struct bin_info *info, void *const *blocks, unsigned count, bool is_up,
                 unsigned run_slabs_log2)
{
    const struct window_origin origin = window.origin;
    const uintptr_t block = (uintptr_t)blocks[0];
    bool turned;
    if (UNLIKELY(!is_own(origin, block, map_word)))
        slab_fail_gone(blocks);
    struct slab *s = slab_of(origin, block, run_slabs_log2);
    int found = (int)slab_put_neighbours(s, info, blocks, count, is_up, &turned);
    return UNLIKELY(turned) ? -found : found;
}

/* How many of the first `most` of `count` blocks come before a run of three neighbours, in that they go back one by one: a run
 * costs as much as two of them. */
FAST unsigned count_singles(void *const *blocks, unsigned count, unsigned most, uintptr_t step)
{
    for (unsigned i = 0; i < most && i + 2 < count; i++) {
        const uintptr_t distance = (uintptr_t)blocks[i + 1] - (uintptr_t)blocks[i];
        if (UNLIKELY(distance == step || distance == (uintptr_t)0 - step) &&
            (uintptr_t)blocks[i + 2] - (uintptr_t)blocks[i + 1] == distance)
            return i;
    }
    return most < count ? most : count;
}

/* Runs of neighbours, and single blocks between them; of the first run `found` have been put, as put_run says. */
static NOINLINE unsigned put_runs(struct heap *h, unsigned bin, void *const *blocks, unsigned count, int found)
{
    const struct bin_info *info = bin_info(bin);
    const uint32_t map_word = map_word_of(h, bin);
    unsigned done = 0;
    for (int left = FLUSH_PIECES; left > 0 && done < count && done < LONG_RUN;) {
        void *const *block = blocks + done;
        const unsigned singles = found != 0 ? 0 : count_singles(block, count - done, (unsigned)left, info->block_bytes);
        if (singles != 0) {
            done += put_scattered(h, bin, block, singles);
            left -= (int)singles;
            continue;
        }
        if (found == 0)
            found = put_run(map_word, info, block, count - done, (uintptr_t)block[1] > (uintptr_t)block[0],
                            info->run_slabs_log2);
        if (UNLIKELY(found < 0)) {
            note_turning_point(h, slab_of(window.origin, (uintptr_t)*block, info->run_slabs_log2));
            found = -found;
        }
        done += (unsigned)found;
        found = 0;
        left -= 2;
    }
    return done;
}

/* A run that is long enough for a batch, in a bin with runs of one slab, is put without a call: a function that calls nothing
 * has more registers. All else is left to put_runs. */
FAST unsigned put_long_run(struct heap *h, unsigned bin, void *const *blocks, unsigned count, bool is_up)
{
    int found = put_run(map_word_of(h, bin), bin_info(bin), blocks, count, is_up, 0);
    if (UNLIKELY(found < LONG_RUN && found != (int)count))
        return put_runs(h, bin, blocks, count, found);
    return (unsigned)found;
}

static NOINLINE unsigned put_long_run_up(struct heap *h, unsigned bin, void *const *blocks, unsigned count)
{
    return put_long_run(h, bin, blocks, count, true);
}

static NOINLINE unsigned put_long_run_down(struct heap *h, unsigned bin, void *const *blocks, unsigned count)
{
    return put_long_run(h, bin, blocks, count, false);
}

/* Which way is a guess, from the first four blocks: to be wrong costs one short batch. */
unsigned heap_flush_batch(struct heap *h, unsigned bin, void *const *blocks, unsigned count)
{
    const struct bin_info *info = bin_info(bin);
    if (UNLIKELY(count < 4 || info->run_slabs_log2 != 0))
        return put_runs(h, bin, blocks, count, 0);
    const uintptr_t up = info->block_bytes, down = (uintptr_t)0 - up;
    const uintptr_t distance = (uintptr_t)blocks[1] - (uintptr_t)blocks[0];
    if (distance == up)
        return put_long_run_up(h, bin, blocks, count);
    if (distance == down)
        return put_long_run_down(h, bin, blocks, count);
    const uintptr_t next = (uintptr_t)blocks[3] - (uintptr_t)blocks[2];
    return next == up || next == down ? put_runs(h, bin, blocks, count, 0) : put_scattered(h, bin, blocks, count);
}

void heap_flush(struct heap *h, unsigned bin, void *const *blocks, unsigned count)
{
    while (count != 0) {
        heap_flush_begin(h);
        unsigned done = heap_flush_batch(h, bin, blocks, count);
        heap_flush_end(h, bin, done);
        blocks += done;
        count -= done;
    }
}
