/* Taking blocks out of a slab, and a whole batch out of the slab that serves a bin: the usual refill in one piece, so that
 * it is compiled into its only caller (tcache/refill.c). What it waits for is a malloc, so the figure is the
 * instructions of one call: see decision 0010. Whatever is unusual is heap_take's. */
#ifndef HAKMEM_SLAB_TAKE_H
#define HAKMEM_SLAB_TAKE_H

#include "slab/heap.h"

/* `count` neighbours from `block` up, written downwards from `last`; many of them in pairs, so that each costs hardly more
 * than an instruction. Returns the slot below. */
FAST void **write_run(void **last, uintptr_t block, uintptr_t block_bytes, size_t count)
{
    address_pair pair = { block + block_bytes, block };
    const address_pair step = { 2 * block_bytes, 2 * block_bytes };
    for (size_t eights = count / 8; eights != 0; eights--) {
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
    for (size_t twos = count % 8 / 2; twos != 0; twos--) {
        *(address_pair *)(last - 1) = pair;
        pair += step;
        last -= 2;
    }
    if (count % 2 != 0)
        *last-- = (void *)pair[1];
    return last;
}

enum {
    WORD_BLOCKS = 64,
    SHORT_RUN = 8,
    /* A batch of up to a word is a run, or no more than so many blocks with gaps between, each of which costs ten
     * instructions and not one. */
    REFILL_SINGLES = 32,
};

FAST uint32_t refill_scattered(size_t want)
{
    return want > REFILL_SINGLES && want <= WORD_BLOCKS ? REFILL_SINGLES : (uint32_t)want;
}

/* The lowest `want` free blocks of a slab that has as many, as slab_take takes them, or fewer: up to where a run ends, so that
 * the next batch begins with a word. They are slots[1] .. slots[count], the lowest in the last. Returns the count; 0: the
 * lowest word has none, or less than SHORT_RUN in a row. */
FAST uint32_t slab_take_run(struct slab *s, uint32_t slab, const struct bin_info *info, void **slots, size_t want)
{
    const uint32_t w = s->first_word;
    uint64_t bits = s->words[w];
    if (UNLIKELY(bits == 0 || want > WORD_BLOCKS))
        return 0;
    const unsigned first = lowest_bit(bits);
    const uint64_t end = ~(bits >> first) | (uint64_t)2 << (want - 1);
    const uint32_t count = end == 0 ? WORD_BLOCKS : lowest_bit(end);
    if (count < SHORT_RUN && count < want)
        return 0;
    bits &= ~(~(uint64_t)0 >> (WORD_BLOCKS - count) << first);
    s->words[w] = bits;
    if (bits == 0)
        s->first_word = w + 1;
    s->free_count -= count;
    const uint32_t number = w * WORD_BLOCKS + first;
    if (UNLIKELY(number + count > s->fresh))
        s->fresh = number + count;
    const uintptr_t block = (uintptr_t)window_slab_address(slab) + number * info->block_bytes;
    write_run(slots + count, block, info->block_bytes, count);
    return count;
}

/* Blocks that nobody has had yet would be among the next `want`. Before them come those that other threads have freed:
 * otherwise a thread whose blocks are all freed elsewhere goes through the whole of each slab before it collects any. */
FAST bool heap_should_collect(const struct heap *h, const struct slab *s, size_t want)
{
    return slab_used_free_count(s) < want && UNLIKELY(heap_has_news(h));
}

/* The slab at the front of its list has given its last resident block: another one comes to the front. Lock held. */
void heap_pass_on(struct heap *h, uint32_t slab);

/* The same; or these blocks would have no pages, and only so many of them are to be taken. */
FAST bool heap_looks_further(const struct heap *h, const struct slab *s, size_t want)
{
    return slab_used_free_count(s) < want && (s->untouched != 0 || heap_has_news(h));
}

/* A batch, wherever it can be had: up to `want` blocks, written downwards from `last` as slab_take does. Returns how many; 0:
 * memory is out. Lock held. */
unsigned heap_take(struct heap *h, unsigned bin, void **last, unsigned want, unsigned fresh);
/* The same for heap_refill_slots, where the usual way does not do. */
uint32_t heap_take_slots(struct heap *h, unsigned bin, void **slots, size_t want, unsigned fresh);

FAST void heap_count_refill(struct heap *h, struct heap_bin *b, uint32_t blocks)
{
    b->outstanding += blocks;
    b->refill_count++;
    b->refill_blocks += blocks;
    h->moved_blocks += blocks;
}

/* As heap_refill_sparing, but up to slots[1] .. slots[count], the first to be used in the last. */
FAST uint32_t heap_refill_slots(struct heap *h, unsigned bin, void **slots, size_t want, unsigned fresh)
{
    struct heap_bin *const b = &h->bins[bin];
    uint32_t count;
    lock_acquire_as(&h->lock, LOCK_HEAP);
    const uint32_t slab = b->list;
    struct slab *const s = slab_at(slab);
    if (LIKELY(slab != SLAB_NONE && s->free_count >= want && s->purged == 0 && !heap_looks_further(h, s, want))) {
        if (UNLIKELY(s->free_count == s->block_count))
            h->empty_count--;
        s->seen = 0;
        count = slab_take_run(s, slab, bin_info(bin), slots, want);
        if (UNLIKELY(count == 0)) {
            count = refill_scattered(want);
            slab_take(slab, slots + count, count);
        }
        if (UNLIKELY(s->free_count == 0))
            heap_pass_on(h, slab);
        if (UNLIKELY(h->remote_rest != SLAB_NONE))
            heap_drain_rest(h);
    } else {
        count = heap_take_slots(h, bin, slots, want, fresh);
    }
    heap_count_refill(h, b, count);
    lock_release_as(&h->lock, LOCK_HEAP);
    return count;
}

#endif
