/* The arrays behind the magazines. They start small, all packed into one piece, and each grows by doubling when its
 * traffic earns it: caps are ceilings.
 *
 * Memory for arrays comes in powers of two, and what is rounded up lets the magazine slide: a flush takes the oldest blocks
 * from its bottom, and the others stay where they are until there is no room for a full magazine above them. So a flush
 * may be short without paying for a copy of all that stays.
 *
 *   array    | NULL | slots left behind | bottom: NULL | oldest .. newest | free .. | slots to slide into |
 *                                                                 ^ top          ^ end
 *
 * What a bin may hold counts in two budgets. The thread's is its own affair; the process's is a sum over all caches that
 * have a thread, which each of them adds to on its slow paths:
 *
 *   entitled_total == sum of entitled_bytes over those caches       while none of them is between the two
 *   entitled_total <= cache_bytes + LEAST_BYTES (or a block) per open bin,       unless cache_bytes was lowered */
#include "arena/meta.h"
#include "config/policy.h"
#include "tcache/tcache_internal.h"

enum {
    FIRST_CAPACITY = 16,           /* entries */
    FIRST_BYTES = 16 * 1024,       /* ... unless that many bytes are fewer ... */
    FIRST_BUDGET_SHARE = 64,       /* ... or this part of the thread's budget is */
    MEDIUM_CEILING_BYTES = 524288, /* medium magazines are bounded in bytes */
    MEDIUM_CEILING = 64,
    MEDIUM_REFILL = 4,
    ARRAY_SLACK = 1, /* array[0] */
    LEAST_BYTES = 1024,            /* what a bin gets where the process's budget is spent, or one block */
    POOR_BYTES = 64 * 1024,        /* a thread that is entitled to no more gives nothing up for others */
    NEED_SHARE = 8,                /* the process's budget is nearly spent when this part of it is left */
};

/* Atomic relaxed. Signed: a child that forked out of a signal handler corrects it while its thread is between the
 * two. */
static int64_t entitled_total;

uint64_t tcache_entitled_bytes(void)
{
    const int64_t total = load_relaxed(&entitled_total);
    return total < 0 ? 0 : (uint64_t)total;
}

/* False: the process's budget has no room for it. */
static bool take(struct tcache *t, uint64_t bytes)
{
    const int64_t most = (int64_t)load_relaxed(&policy_live.cache_bytes) - (int64_t)bytes;
    int64_t total = load_relaxed(&entitled_total);
    do {
        if (total > most)
            return false;
    } while (!cas_weak_relaxed(&entitled_total, &total, total + (int64_t)bytes));
    t->entitled_bytes += bytes;
    return true;
}

static void give(struct tcache *t, uint64_t bytes)
{
    t->entitled_bytes -= bytes;
    fetch_sub_relaxed(&entitled_total, (int64_t)bytes);
}

bool magazine_is_rich_in_need(const struct tcache *t)
{
    const uint64_t budget = load_relaxed(&policy_live.cache_bytes);
    return t->entitled_bytes > POOR_BYTES && tcache_entitled_bytes() > budget - budget / NEED_SHARE;
}

void tcache_give_share(struct tcache *t)
{
    fetch_sub_relaxed(&entitled_total, (int64_t)t->entitled_bytes);
}

void tcache_take_share(struct tcache *t)
{
    fetch_add_relaxed(&entitled_total, (int64_t)t->entitled_bytes);
    if (tcache_entitled_bytes() <= load_relaxed(&policy_live.cache_bytes))
        return;
    for (unsigned bin = 0; bin < BIN_COUNT; bin++)
        if (t->bins[bin].opened)
            magazine_close(t, bin);
}

void magazine_recount(struct tcache *t)
{
    t->entitled_bytes = 0;
    for (unsigned bin = 0; bin < BIN_COUNT; bin++) {
        struct tcache_bin *b = &t->bins[bin];
        if (b->capacity > b->room)
            b->capacity = b->room;
        b->settled = 0;
        if (b->opened)
            t->entitled_bytes += (uint64_t)b->capacity * bin_info(bin)->block_bytes;
        t->hot.bins[bin].end = b->opened ? b->bottom + b->capacity : b->bottom;
    }
}

void tcache_recover_shares(const struct tcache *only)
{
    store_relaxed(&entitled_total, only == NULL ? 0 : (int64_t)only->entitled_bytes);
}

static uint32_t medium_ceiling(unsigned bin)
{
    uint32_t blocks = MEDIUM_CEILING_BYTES / bin_info(bin)->block_bytes;
    return blocks < MEDIUM_CEILING ? blocks : MEDIUM_CEILING;
}

void magazine_take_policy(struct tcache *t)
{
    for (unsigned bin = 0; bin < BIN_COUNT; bin++) {
        bool is_tiny = bin < TINY_BIN_COUNT;
        store_relaxed(&t->bins[bin].ceiling, is_tiny ? load_relaxed(&policy_live.bin_cap[bin]) : medium_ceiling(bin));
        tcache_set_refill(t, bin, is_tiny ? load_relaxed(&policy_live.bin_refill[bin]) : MEDIUM_REFILL);
    }
}

static uint32_t first_capacity(const struct tcache *t, unsigned bin)
{
    uint64_t bytes = load_relaxed(&policy_live.thread_cache_bytes) / FIRST_BUDGET_SHARE;
    uint32_t capacity = (uint32_t)(bytes < FIRST_BYTES ? bytes : FIRST_BYTES) / bin_info(bin)->block_bytes;
    uint32_t ceiling = magazine_ceiling(t, bin);
    if (capacity > FIRST_CAPACITY)
        capacity = FIRST_CAPACITY;
    if (capacity < 2)
        capacity = 2;
    return capacity < ceiling ? capacity : ceiling;
}

/* Points the magazine at an array that holds `count` entries already. */
static void install(struct tcache *t, unsigned bin, void **array, uint32_t capacity, uint32_t count)
{
    struct tcache_bin *b = &t->bins[bin];
    b->array = array;
    store_relaxed(&b->bottom, array);
    b->capacity = b->room = capacity;
    b->settled = 0;
    array[0] = NULL;
    store_relaxed(&t->hot.bins[bin].top, array + count);
    t->hot.bins[bin].end = array + capacity;
}

/* A closed bin holds nothing: its capacity is what it will ask for. A refill that had to close all bins, for want of
 * memory, comes here with one. */
FAST uint32_t usable_slots(const struct tcache_bin *b)
{
    return b->opened ? b->capacity : 0;
}

NOINLINE void magazine_slide_down(struct tcache *t, unsigned bin)
{
    struct tcache_bin *b = &t->bins[bin];
    uint32_t count = magazine_count(t, bin);
    __builtin_memmove(b->array + 1, b->bottom + 1, count * sizeof(void *));
    store_relaxed(&b->bottom, b->array);
    store_relaxed(&t->hot.bins[bin].top, b->array + count);
    t->hot.bins[bin].end = b->array + usable_slots(b);
}

FAST void set_end(struct tcache *t, unsigned bin)
{
    const struct tcache_bin *b = &t->bins[bin];
    void **end = b->bottom + usable_slots(b);
    if (UNLIKELY(end >= b->array + b->slots)) {
        lock_acquire(&t->heap.lock);
        magazine_slide_down(t, bin);
        lock_release(&t->heap.lock);
    } else {
        t->hot.bins[bin].end = end;
    }
}

static void set_capacity(struct tcache *t, unsigned bin, uint32_t capacity)
{
    t->bins[bin].capacity = capacity;
    t->bins[bin].settled = 0;
    set_end(t, bin);
}

void magazine_place(struct tcache *t, unsigned bin, void **bottom, void **top)
{
    struct tcache_bin *b = &t->bins[bin];
    if (bottom == top)
        bottom = top = b->array;
    *bottom = NULL;
    store_relaxed(&b->bottom, bottom);
    store_relaxed(&t->hot.bins[bin].top, top);
    set_end(t, bin);
}

void magazine_shrink(struct tcache *t, unsigned bin, uint32_t capacity)
{
    give(t, (uint64_t)(t->bins[bin].capacity - capacity) * bin_info(bin)->block_bytes);
    set_capacity(t, bin, capacity);
}

void magazine_close(struct tcache *t, unsigned bin)
{
    struct tcache_bin *b = &t->bins[bin];
    magazine_shrink(t, bin, 0);
    b->opened = false;
    uint32_t first = first_capacity(t, bin);
    b->capacity = first < b->room ? first : b->room;
}

void magazine_open(struct tcache *t, unsigned bin)
{
    struct tcache_bin *b = &t->bins[bin];
    if (LIKELY(b->opened))
        return;
    b->opened = true;
    uint32_t block_bytes = bin_info(bin)->block_bytes;
    uint64_t budget = load_relaxed(&policy_live.thread_cache_bytes);
    uint64_t room = t->checked || budget < t->entitled_bytes ? 0 : (budget - t->entitled_bytes) / block_bytes;
    uint32_t capacity = b->capacity < room ? b->capacity : (uint32_t)room;
    if (!take(t, (uint64_t)capacity * block_bytes)) {
        uint32_t least = block_bytes < LEAST_BYTES ? LEAST_BYTES / block_bytes : 1;
        capacity = capacity < least ? capacity : least;
        fetch_add_relaxed(&entitled_total, (int64_t)capacity * block_bytes);
        t->entitled_bytes += (uint64_t)capacity * block_bytes;
    }
    set_capacity(t, bin, capacity);
}

bool magazine_pack_all(struct tcache *t)
{
    uint32_t capacities[BIN_COUNT]; /* read once: policy words may change between two looks */
    size_t entries = 0;
    for (unsigned bin = 0; bin < BIN_COUNT; bin++)
        entries += (capacities[bin] = first_capacity(t, bin)) + ARRAY_SLACK;
    void **piece = meta_alloc(entries * sizeof(void *));
    if (piece == NULL)
        return false;
    for (unsigned bin = 0; bin < BIN_COUNT; bin++) {
        install(t, bin, piece, capacities[bin], 0);
        t->bins[bin].slots = capacities[bin] + ARRAY_SLACK;
        t->hot.bins[bin].end = piece; /* closed: the first free comes by magazine_open */
        t->bins[bin].packed = true;
        piece += capacities[bin] + ARRAY_SLACK;
    }
    return true;
}

bool magazine_grow(struct tcache *t, unsigned bin)
{
    struct tcache_bin *b = &t->bins[bin];
    magazine_open(t, bin);
    uint32_t ceiling = magazine_ceiling(t, bin);
    uint32_t capacity = b->capacity * 2 < ceiling ? b->capacity * 2 : ceiling;
    if (capacity <= b->capacity)
        return false;
    uint64_t more = (uint64_t)(capacity - b->capacity) * bin_info(bin)->block_bytes;
    if (t->entitled_bytes + more > load_relaxed(&policy_live.thread_cache_bytes) || !take(t, more))
        return false;
    if (capacity <= b->room) {
        set_capacity(t, bin, capacity);
        return true;
    }
    void **array = meta_array_alloc((capacity + ARRAY_SLACK) * sizeof(void *));
    if (array == NULL) {
        give(t, more);
        return false;
    }
    uint32_t count = magazine_count(t, bin);
    void **old = b->array;
    size_t old_bytes = b->slots * sizeof(void *);
    __builtin_memcpy(array + 1, b->bottom + 1, count * sizeof(void *));
    /* Statistics subtract array from top: both change under the heap's lock. */
    lock_acquire(&t->heap.lock);
    install(t, bin, array, capacity, count);
    b->slots = (uint32_t)(meta_array_bytes((capacity + ARRAY_SLACK) * sizeof(void *)) / sizeof(void *));
    lock_release(&t->heap.lock);
    if (!b->packed)
        meta_array_free(old, old_bytes);
    b->packed = false;
    return true;
}
