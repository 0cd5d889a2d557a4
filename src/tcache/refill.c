/* Magazines and slabs: refill on a miss, flush on overflow. */
#include "base/check.h"
#include "config/config.h"
#include "config/policy.h"
#include "tcache/tcache_internal.h"

enum {
    STREAK_GROWS = 4,           /* refills in a row, without a flush, that earn a larger magazine ... */
    STREAK_MAX_BYTES = 16384,   /* ... up to this size and a batch: a program that only allocates has no use for a cache */
    BATCH_MAX_BYTES = 65536,
    FRESH_MAX_BYTES = 4096, /* of a batch, in blocks that nobody has had, unless the first batch is more */
    REFILL_MAX_BLOCKS = 128, /* a longer batch is hardly cheaper a block, and some call has to wait for all of it */
    FLUSH_MAX_BLOCKS = 64,
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

/* What this refill may bring, having learned from the last ones: consecutive refills double the batch. */
static unsigned next_batch(struct tcache *t, unsigned bin)
{
    struct tcache_bin *b = &t->bins[bin];
    uint32_t block_bytes = bin_info(bin)->block_bytes;
    open_bin(t, bin);
    if (UNLIKELY(b->capacity == 0))
        return 1; /* no room in the budget, or checked: block by block */
    if (b->turns % 2 != 0) {
        b->turns++;
        b->turned_blocks = t->heap.bins[bin].refill_blocks;
        magazine_grow(t, bin);
    } else if (b->streak >= STREAK_GROWS && b->capacity < REFILL_MAX_BLOCKS && b->capacity * block_bytes < STREAK_MAX_BYTES) {
        magazine_grow(t, bin);
    }
    uint32_t base = b->refill;
    bool is_fixed = bin < TINY_BIN_COUNT && config_get()->bin_cap_is_user[bin]; /* an override's refill is a ceiling */
    uint32_t batch = b->streak == 0 || is_fixed ? base : b->batch * 2u;
    uint32_t most = BATCH_MAX_BYTES / block_bytes;
    most = most < REFILL_MAX_BLOCKS ? most : REFILL_MAX_BLOCKS;
    if (batch > most && batch > base)
        batch = most > base ? most : base;
    if (batch > b->capacity)
        batch = b->capacity;
    b->batch = (uint16_t)(batch < UINT16_MAX ? batch : UINT16_MAX);
    if (b->streak < UINT8_MAX)
        b->streak++;
    return b->batch;
}

/* How many blocks of a batch may be such as nobody has had. They would be handed out while used ones come back to the slabs,
 * and each page of them is a page fault, which costs more than a shorter batch. */
static unsigned most_fresh(const struct tcache *t, unsigned bin)
{
    unsigned most = FRESH_MAX_BYTES / bin_info(bin)->block_bytes;
    return most > t->bins[bin].refill ? most : t->bins[bin].refill;
}

void *tcache_refill(struct tcache *t, unsigned bin)
{
    tcache_note_slow(t);
    struct tcache_bin *b = &t->bins[bin];
    void *block = hot_pop(&t->hot.bins[bin]); /* ageing may have put nothing here, but costs nothing to ask */
    if (block != NULL)
        return block;
    unsigned want = next_batch(t, bin);
    magazine_place(t, bin, b->array, b->array);
    void **last = b->array + want;
    unsigned got = heap_refill_sparing(&t->heap, bin, last, want, most_fresh(t, bin));
    if (UNLIKELY(got == 0)) {
        if (window.base == 0)
            return NULL;
        tcache_reclaim(0);
        got = heap_refill(&t->heap, bin, last = b->array + 1, 1);
        if (got == 0)
            return NULL;
    }
    block = *last;
    magazine_place(t, bin, last - got, last - 1);
    return block;
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
        const uint32_t half = (b->capacity + 1) / 2;
        b->streak = 0;
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
    store_relaxed(&t->bins[bin].refill, (uint16_t)(blocks < UINT16_MAX ? blocks : UINT16_MAX));
}

void tcache_set_ceiling(struct tcache *t, unsigned bin, uint32_t ceiling)
{
    struct tcache_bin *b = &t->bins[bin];
    bool stood_at_it = b->capacity == b->ceiling;
    store_relaxed(&b->ceiling, ceiling);
    if (!b->opened) {
        b->capacity = b->capacity < ceiling ? b->capacity : ceiling;
    } else if (b->capacity > ceiling) {
        for (uint32_t have = magazine_count(t, bin); have > ceiling; have = magazine_count(t, bin))
            flush_oldest(t, bin, have - ceiling < FLUSH_MAX_BLOCKS ? have - ceiling : FLUSH_MAX_BLOCKS);
        magazine_shrink(t, bin, ceiling);
    } else if (stood_at_it) {
        magazine_grow(t, bin);
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
