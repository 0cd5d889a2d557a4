/* Magazines and slabs: refill on a miss, flush on overflow. */
#include "base/check.h"
#include "config/config.h"
#include "config/policy.h"
#include "large/large.h"
#include "slab/take.h"
#include "tcache/tcache_internal.h"

enum {
    STREAK_GROWS = 4,           /* refills in a row, without a flush, that earn a larger magazine ... */
    STREAK_MAX_BYTES = 16384,   /* ... up to this size and a batch: a program that only allocates has no use for a cache */
    /* A longer batch is hardly cheaper a block, and some call has to wait for all of it. */
    REFILL_MAX_BYTES = 65536,
    REFILL_MAX_BLOCKS = WORD_BLOCKS,
    FLUSH_MAX_BLOCKS = 64,
    /* Of a refill, in blocks that nobody has had, unless the first batch is more. They would be handed out while used ones come
     * back to the slabs, and each page of them is a page fault, which costs more than a shorter batch. */
    FRESH_MAX_BYTES = 4096,
};

static void flush_oldest(struct tcache *t, unsigned bin, uint32_t count)
{
    void **bottom = t->bins[bin].bottom;
    heap_flush(&t->heap, bin, bottom + 1, count);
    magazine_place(t, bin, bottom + count, t->hot.bins[bin].top);
}

/* The open bin that is entitled to most gives half of that up. */
static void halve_largest(struct tcache *t)
{
    unsigned largest = 0;
    uint64_t most = 0;
    for (unsigned bin = 0; bin < BIN_COUNT; bin++) {
        uint64_t bytes = t->bins[bin].opened ? (uint64_t)t->bins[bin].capacity * bin_info(bin)->block_bytes : 0;
        if (bytes > most) {
            most = bytes;
            largest = bin;
        }
    }
    if (most == 0)
        return;
    uint32_t capacity = t->bins[largest].capacity / 2;
    uint32_t have = magazine_count(t, largest);
    if (have > capacity)
        flush_oldest(t, largest, have - capacity);
    magazine_shrink(t, largest, capacity);
}

/* First come must not be first served for ever: a bin that finds the budget spent takes from the richest. */
static void open_bin(struct tcache *t, unsigned bin)
{
    const struct tcache_bin *b = &t->bins[bin];
    if (LIKELY(b->opened))
        return;
    uint64_t wanted = (uint64_t)b->capacity * bin_info(bin)->block_bytes;
    bool is_spent = t->entitled_bytes + wanted > load_relaxed(&policy_live.thread_cache_bytes);
    if (!t->checked && (is_spent || magazine_is_rich_in_need(t)))
        halve_largest(t);
    magazine_open(t, bin);
}

void tcache_close_idle(struct tcache *t)
{
    for (unsigned bin = 0; bin < BIN_COUNT; bin++) {
        struct tcache_bin *b = &t->bins[bin];
        const struct heap_bin *from = &t->heap.bins[bin];
        uint64_t traffic = from->refill_count + from->flush_count;
        if (b->opened && !t->checked && (traffic == b->aged_traffic || b->capacity == 0)) {
            tcache_flush_bin(t, bin);
            traffic = from->refill_count + from->flush_count;
            magazine_close(t, bin);
        }
        b->aged_traffic = traffic;
    }
    if (magazine_is_rich_in_need(t))
        halve_largest(t);
}

void tcache_close_all(struct tcache *t)
{
    for (unsigned bin = 0; bin < BIN_COUNT; bin++)
        if (t->bins[bin].opened && !t->checked)
            magazine_close(t, bin);
}

/* What this refill may bring, having learned from the last ones: consecutive refills double the batch. Where the next ones
 * may bring as much, it is noted for them (`settled`). */
static NOINLINE unsigned next_batch(struct tcache *t, unsigned bin)
{
    struct tcache_bin *b = &t->bins[bin];
    const uint32_t block_bytes = bin_info(bin)->block_bytes;
    open_bin(t, bin);
    if (UNLIKELY(b->capacity == 0))
        return 1; /* no room in the budget, or checked: block by block */
    const bool may_grow = b->capacity < magazine_ceiling(t, bin);
    const bool may_grow_alone = may_grow && b->capacity < REFILL_MAX_BLOCKS && b->capacity * block_bytes < STREAK_MAX_BYTES;
    if (b->turns % 2 != 0) {
        b->turns++;
        b->turned_blocks = t->heap.bins[bin].refill_blocks;
        if (may_grow)
            magazine_grow(t, bin);
    } else if (may_grow_alone && b->streak >= STREAK_GROWS) {
        magazine_grow(t, bin);
    }
    /* Half of a short magazine: a free that follows is to find room. */
    const uint32_t room = tcache_is_steered(t, bin) ? (b->capacity + 1) / 2 : b->capacity;
    uint32_t most = b->refill_most < room ? b->refill_most : room;
    uint32_t batch = b->streak == 0 ? b->refill : b->batch * 2u;
    batch = batch < most ? batch : most;
    b->batch = (uint16_t)batch;
    if (b->streak < UINT8_MAX)
        b->streak++;
    if (batch == most && !may_grow_alone)
        b->settled = (uint16_t)batch;
    return batch;
}

/* Others may be able to spare some. If not, because the window is blocked or full, or no 2 MiB are left, a mapping of its own
 * may still be had, aligned as every block of the bin is. */
void *tcache_block_in_need(struct heap *h, unsigned bin)
{
    bool zeroed;
    void *block;
    const uint32_t bytes = bin_info(bin)->block_bytes;
    if (window.base != 0) {
        tcache_reclaim(0);
        if (heap_refill(h, bin, &block, 1) != 0)
            return block;
    }
    return large_alloc(bytes, bytes & -bytes, &zeroed);
}

void *tcache_refill(struct tcache *t, unsigned bin)
{
    struct tcache_bin *b = &t->bins[bin];
    struct magazine *m = &t->hot.bins[bin];
    tcache_note_slow(t);
    void *block = hot_pop(m); /* ageing may have put something here, or the caller has not looked */
    if (UNLIKELY(block != NULL))
        return block;
    __asm__("" : "+r"(m), "+r"(b)); /* the compiler would compute them again and again */
    size_t want = b->settled;
    if (UNLIKELY(want == 0))
        want = next_batch(t, bin);
    void **const array = b->array;
    if (UNLIKELY(b->bottom != array))
        magazine_place(t, bin, array, array);
    const uint32_t got = heap_refill_slots(&t->heap, bin, array, want, b->fresh_most);
    if (UNLIKELY(got == 0))
        return tcache_block_in_need(&t->heap, bin);
    store_relaxed(&m->top, array + got - 1);
    return array[got];
}

/* The bin is closed, or has no room in the budget. */
static NOINLINE void free_into_closed(struct tcache *t, unsigned bin, void *block)
{
    open_bin(t, bin);
    const uint32_t capacity = t->bins[bin].capacity, have = magazine_count(t, bin);
    if (capacity == 0) {
        heap_flush(&t->heap, bin, &block, 1);
        return;
    }
    if (have >= capacity) /* what a refill brought that closed the bin, for want of memory */
        flush_oldest(t, bin, have - capacity / 2);
    hot_push(&t->hot.bins[bin], block);
}

/* One of the calls that somebody waits for: what it costs is counted in instructions (decision 0010). */
void tcache_overflow(struct tcache *t, unsigned bin, void *block)
{
    struct magazine *m = &t->hot.bins[bin];
    struct tcache_bin *b = &t->bins[bin];
    tcache_note_slow(t);
    __asm__("" : "+r"(m), "+r"(b)); /* the compiler would compute them again and again */
    if (UNLIKELY(m->end == b->bottom)) {
        free_into_closed(t, bin, block);
        return;
    }
    if (LIKELY(load_relaxed(&m->top) >= m->end)) { /* the tick may have made room */
        const uint32_t half = tcache_is_steered(t, bin) ? b->capacity : (b->capacity + 1) / 2;
        b->streak = 0;
        b->settled = 0;
        b->turns |= 1;
        heap_flush_begin(&t->heap);
        const unsigned count = heap_flush_batch(&t->heap, bin, b->bottom + 1, half < FLUSH_MAX_BLOCKS ? half : FLUSH_MAX_BLOCKS);
        void **const bottom = b->bottom + count, **const end = m->end + count;
        *bottom = NULL;
        store_relaxed(&b->bottom, bottom);
        m->end = end;
        if (UNLIKELY(end >= b->array + b->slots))
            magazine_slide_down(t, bin);
        heap_flush_end(&t->heap, bin, count);
    }
    CHECK(load_relaxed(&m->top) < m->end, "a magazine is longer than its array", block);
    hot_push(m, block);
}

void tcache_set_refill(struct tcache *t, unsigned bin, uint32_t blocks)
{
    struct tcache_bin *b = &t->bins[bin];
    const uint32_t room = REFILL_MAX_BYTES / bin_info(bin)->block_bytes;
    const uint32_t most = room < REFILL_MAX_BLOCKS ? room : REFILL_MAX_BLOCKS;
    const bool is_fixed = bin < TINY_BIN_COUNT && config_get()->bin_cap_is_user[bin]; /* an override's refill is a ceiling */
    const uint32_t refill = blocks < UINT16_MAX ? blocks : UINT16_MAX;
    store_relaxed(&b->refill, (uint16_t)refill);
    const uint32_t fresh = FRESH_MAX_BYTES / bin_info(bin)->block_bytes;
    b->fresh_most = (uint16_t)(fresh > refill ? fresh : refill);
    b->refill_most = (uint16_t)(is_fixed || refill > most ? refill : most);
    b->settled = 0;
}

/* What is more goes back, the oldest first. */
static void keep_within(struct tcache *t, unsigned bin, uint32_t ceiling)
{
    struct tcache_bin *b = &t->bins[bin];
    if (b->capacity <= ceiling)
        return;
    if (!b->opened) {
        b->capacity = ceiling;
        return;
    }
    for (uint32_t have = magazine_count(t, bin); have > ceiling; have = magazine_count(t, bin))
        flush_oldest(t, bin, have - ceiling < FLUSH_MAX_BLOCKS ? have - ceiling : FLUSH_MAX_BLOCKS);
    magazine_shrink(t, bin, ceiling);
}

void tcache_set_ceiling(struct tcache *t, unsigned bin, uint32_t ceiling)
{
    struct tcache_bin *b = &t->bins[bin];
    const bool stood_at_it = b->capacity == b->ceiling, fits = b->capacity <= ceiling;
    b->settled = 0;
    store_relaxed(&b->ceiling, ceiling);
    keep_within(t, bin, ceiling);
    if (b->opened && fits && stood_at_it)
        magazine_grow(t, bin);
}

void tcache_steer(struct tcache *t, uint64_t bins)
{
    const uint64_t changed = bins ^ t->steered;
    t->steered = bins;
    for (uint64_t left = changed; left != 0; left &= left - 1) {
        const unsigned bin = lowest_bit(left);
        struct tcache_bin *b = &t->bins[bin];
        b->settled = 0;
        if (!tcache_is_steered(t, bin))
            continue;
        if (b->opened && b->capacity > STEER_BLOCKS)
            tcache_flush_bin(t, bin);
        keep_within(t, bin, STEER_BLOCKS);
    }
}

void tcache_flush_bin(struct tcache *t, unsigned bin)
{
    uint32_t have = magazine_count(t, bin);
    if (have != 0)
        flush_oldest(t, bin, have);
}

void tcache_flush_all(struct tcache *t)
{
    tcache_empty_quarantine(t);
    outbox_deliver_all(&t->outbox);
    for (unsigned bin = 0; bin < BIN_COUNT; bin++)
        tcache_flush_bin(t, bin);
}
