/* The arrays behind the magazines. They start small, all packed into one piece, and each grows by doubling when its
 * traffic earns it: caps are ceilings. */
#include "arena/meta.h"
#include "config/policy.h"
#include "tcache/tcache_internal.h"

enum {
    FIRST_CAPACITY = 16,           /* entries */
    FIRST_BYTES = 16 * 1024,       /* ... unless that many bytes are fewer ... */
    FIRST_BUDGET_SHARE = 64,       /* ... or this part of the thread's budget is */
    MEDIUM_CEILING_BYTES = 524288, /* medium magazines are bounded in bytes */
    MEDIUM_CEILING = 64,
    ARRAY_SLACK = 1, /* array[0] */
};

uint32_t magazine_ceiling(unsigned bin)
{
    if (bin < TINY_BIN_COUNT)
        return load_relaxed(&policy_live.bin_cap[bin]);
    uint32_t blocks = MEDIUM_CEILING_BYTES / bin_info(bin)->block_bytes;
    return blocks < MEDIUM_CEILING ? blocks : MEDIUM_CEILING;
}

static uint32_t first_capacity(unsigned bin)
{
    uint64_t bytes = load_relaxed(&policy_live.thread_cache_bytes) / FIRST_BUDGET_SHARE;
    uint32_t capacity = (uint32_t)(bytes < FIRST_BYTES ? bytes : FIRST_BYTES) / bin_info(bin)->block_bytes;
    uint32_t ceiling = magazine_ceiling(bin);
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
    b->capacity = b->room = capacity;
    array[0] = NULL;
    store_relaxed(&t->hot.bins[bin].top, array + count);
    t->hot.bins[bin].end = array + capacity;
}

void magazine_set_capacity(struct tcache *t, unsigned bin, uint32_t capacity)
{
    struct tcache_bin *b = &t->bins[bin];
    t->entitled_bytes -= (uint64_t)b->capacity * bin_info(bin)->block_bytes;
    t->entitled_bytes += (uint64_t)capacity * bin_info(bin)->block_bytes;
    b->capacity = capacity;
    t->hot.bins[bin].end = b->array + capacity;
}

void magazine_close(struct tcache *t, unsigned bin)
{
    struct tcache_bin *b = &t->bins[bin];
    magazine_set_capacity(t, bin, 0);
    b->opened = false;
    uint32_t first = first_capacity(bin);
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
    b->capacity = 0;
    magazine_set_capacity(t, bin, capacity);
}

bool magazine_pack_all(struct tcache *t)
{
    uint32_t capacities[BIN_COUNT]; /* read once: policy words may change between two looks */
    size_t entries = 0;
    for (unsigned bin = 0; bin < BIN_COUNT; bin++)
        entries += (capacities[bin] = first_capacity(bin)) + ARRAY_SLACK;
    void **piece = meta_alloc(entries * sizeof(void *));
    if (piece == NULL)
        return false;
    for (unsigned bin = 0; bin < BIN_COUNT; bin++) {
        install(t, bin, piece, capacities[bin], 0);
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
    uint32_t ceiling = magazine_ceiling(bin);
    uint32_t capacity = b->capacity * 2 < ceiling ? b->capacity * 2 : ceiling;
    if (capacity <= b->capacity)
        return false;
    uint64_t more = (uint64_t)(capacity - b->capacity) * bin_info(bin)->block_bytes;
    if (t->entitled_bytes + more > load_relaxed(&policy_live.thread_cache_bytes))
        return false;
    if (capacity <= b->room) {
        magazine_set_capacity(t, bin, capacity);
        return true;
    }
    void **array = meta_array_alloc((capacity + ARRAY_SLACK) * sizeof(void *));
    if (array == NULL)
        return false;
    uint32_t count = magazine_count(t, bin);
    void **old = b->array;
    uint32_t old_room = b->room;
    for (uint32_t i = 1; i <= count; i++)
        array[i] = old[i];
    /* Statistics subtract array from top: both change under the heap's lock. */
    lock_acquire(&t->heap.lock);
    install(t, bin, array, capacity, count);
    lock_release(&t->heap.lock);
    if (!b->packed)
        meta_array_free(old, (old_room + ARRAY_SLACK) * sizeof(void *));
    b->packed = false;
    t->entitled_bytes += more;
    return true;
}
