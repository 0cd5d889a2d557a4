/* The table of heaps, and what one heap does to others: stealing from parked ones, reclaiming when memory is out,
 * putting slabs right after fork. */
#include "arena/meta.h"
#include "base/check.h"
#include "base/tick.h"
#include "os/os.h"
#include "slab/heap_internal.h"
#include "slab/pages.h"

enum {
    TABLE_CHUNK = 1024,
    FIRST_HEAPS = 64, /* ids below have an entry at hand: a small process touches no other part of the table */
    OFFER_BITS = 1024,
    OFFER_LOOKS = 64, /* heaps that a thief looks at because they offered something, */
    NEWS_LOOKS = 16,  /* and because others may have freed something there */
    HARVEST_STEPS = 16, /* of a purge pass: some milliseconds in which a fork may wait, and 256 MiB of slabs */
};

/* Two levels, so that the table costs what is used. Chunks and entries are written once: release store, acquire load. */
FAR static struct heap **heap_table[(MAP_OWNER_MAX + 1) / TABLE_CHUNK];
static struct heap *first_heaps[FIRST_HEAPS];
static uint32_t heap_ids; /* atomic; ids handed out. Written under register_lock */
static struct lock register_lock = LOCK_INIT(LOCK_HEAP_TABLE);
static uint32_t steal_cursor; /* atomic relaxed; spreads the thieves */
static uint32_t age_cursor;   /* atomic relaxed */

/* By bin: which parked heaps may have a slab with free blocks, as the bit id % OFFER_BITS. Atomic relaxed, a hint: set under
 * the heap's lock, cleared by a thief that found nothing behind it; what that loses, the next heap_age sets again. So a
 * thief for whom there is nothing reads two cache lines, however many heaps are parked. */
FAR static uint64_t offered[BIN_COUNT][OFFER_BITS / 64];

struct heap stray_heap = { .lock = LOCK_INIT(LOCK_HEAP) };

uint32_t heap_parked_count;

/* Under the lock. Where the heap with this id is entered; NULL: memory is out. */
static struct heap **entry_to_write(uint32_t id)
{
    if (id < FIRST_HEAPS)
        return &first_heaps[id];
    struct heap ***chunk = &heap_table[id / TABLE_CHUNK];
    if (*chunk == NULL)
        store_release(chunk, meta_alloc(TABLE_CHUNK * sizeof **chunk));
    return *chunk == NULL ? NULL : &(*chunk)[id % TABLE_CHUNK];
}

bool heap_register(struct heap *h)
{
    lock_acquire(&register_lock);
    uint32_t id = heap_ids + 1;
    struct heap **entry = id <= MAP_OWNER_MAX ? entry_to_write(id) : NULL;
    bool ok = entry != NULL;
    if (ok) {
        h->id = id;
        h->spare_limit = HEAP_SPARE_MAX;
        store_release(entry, h);
        store_release(&heap_ids, id);
    }
    lock_release(&register_lock);
    return ok;
}

struct lock *heap_table_lock(void)
{
    return &register_lock;
}

struct heap *heap_by_id(uint32_t id)
{
    if (LIKELY(id < FIRST_HEAPS))
        return load_acquire(&first_heaps[id]);
    struct heap **chunk = load_acquire(&heap_table[id / TABLE_CHUNK]);
    return chunk == NULL ? NULL : load_acquire(&chunk[id % TABLE_CHUNK]);
}

uint32_t heap_count(void)
{
    return load_acquire(&heap_ids);
}

/* Both locks are held. Takes one slab of the bin from x, or none if its token is out. */
static uint32_t steal_from(struct heap *h, struct heap *x, unsigned bin)
{
    heap_choose_slab(x, bin);
    uint32_t slab = x->bins[bin].list;
    if (slab == SLAB_NONE)
        return SLAB_NONE;
    struct remote *r = remote_at(slab);
    uint64_t news = 0;
    if (!cas_strong_acq_rel(&r->news, &news, NEWS_HELD))
        return SLAB_NONE;
    struct slab *s = slab_at(slab);
    heap_list_remove(x, slab);
    int64_t out = s->block_count - s->free_count;
    x->bins[bin].slab_count--;
    x->bins[bin].outstanding -= out;
    if (out == 0)
        x->empty_count--;
    h->bins[bin].slab_count++;
    h->bins[bin].outstanding += out;
    if (out == 0)
        h->empty_count++;
    h->slabs_stolen++;
    x->purged_pages -= count_bits(s->purged);
    h->purged_pages += count_bits(s->purged);
    store_relaxed(&r->owner, h->id);
    heap_set_map(slab, s->run_slabs, h->id << MAP_OWNER_SHIFT | bin * BIN_STRIDE_BYTES);
    heap_list_push(h, slab);
    /* Producers that came while we held the token pushed nothing: re-arm, then look. */
    news = exchange_acq_rel(&r->news, 0);
    heap_collect(h, slab, news);
    return h->bins[bin].list;
}

void heap_offer(const struct heap *h)
{
    uint64_t bit = (uint64_t)1 << (h->id % 64);
    for (unsigned bin = 0; bin < BIN_COUNT; bin++) {
        uint64_t *word = &offered[bin][h->id % OFFER_BITS / 64];
        if (h->bins[bin].list != SLAB_NONE && (load_relaxed(word) & bit) == 0)
            fetch_or_relaxed(word, bit);
    }
}

/* *left: the heap may still have a slab for the next thief. */
static uint32_t try_heap(struct heap *h, struct heap *x, unsigned bin, uint32_t node, bool *left)
{
    uint32_t found = SLAB_NONE;
    *left = false;
    if (x == NULL || x == h || load_relaxed(&x->state) != HEAP_PARKED)
        return SLAB_NONE;
    *left = true;
    if ((node != NODE_ANY && load_relaxed(&x->node) != node) || !lock_try(&x->lock))
        return SLAB_NONE;
    if (x->state == HEAP_PARKED) {
        found = steal_from(h, x, bin);
        if (found == SLAB_NONE && heap_has_news(x)) {
            heap_drain(x);
            heap_offer(x);
            found = steal_from(h, x, bin);
        }
        *left = x->bins[bin].list != SLAB_NONE;
    }
    lock_release(&x->lock);
    return found;
}

/* Lowest id first, so that one heap is emptied before the next. With a node: from heaps of that node only. */
static uint32_t steal_offered(struct heap *h, unsigned bin, uint32_t node)
{
    uint32_t count = heap_count();
    unsigned looks = OFFER_LOOKS;
    for (unsigned w = 0; w < OFFER_BITS / 64; w++) {
        for (uint64_t word = load_relaxed(&offered[bin][w]); word != 0; word &= word - 1) {
            bool any_left = false;
            uint32_t first = w * 64 + lowest_bit(word);
            for (uint32_t id = first == 0 ? OFFER_BITS : first; id <= count; id += OFFER_BITS) {
                bool left;
                if (looks-- == 0)
                    return SLAB_NONE;
                uint32_t found = try_heap(h, heap_by_id(id), bin, node, &left);
                if (found != SLAB_NONE)
                    return found;
                any_left |= left;
            }
            if (!any_left)
                fetch_and_relaxed(&offered[bin][w], ~(word & -word));
        }
    }
    return SLAB_NONE;
}

uint32_t heap_steal(struct heap *h, unsigned bin)
{
    uint32_t found = os_has_nodes() ? steal_offered(h, bin, load_relaxed(&h->node)) : SLAB_NONE;
    if (found == SLAB_NONE)
        found = steal_offered(h, bin, NODE_ANY);
    uint32_t count = heap_count();
    unsigned looks = count < NEWS_LOOKS ? count : NEWS_LOOKS;
    for (; looks > 0 && found == SLAB_NONE; looks--) {
        bool left;
        struct heap *x = heap_by_id(fetch_add_relaxed(&steal_cursor, 1) % count + 1);
        if (x != NULL && heap_has_news(x))
            found = try_heap(h, x, bin, NODE_ANY, &left);
    }
    return found;
}

uint32_t heap_reclaim_some(uint32_t from, uint32_t most, const struct heap *self)
{
    uint32_t count = heap_count();
    for (uint32_t id = from; id <= count; id++) {
        if (most-- == 0)
            return id;
        struct heap *x = heap_by_id(id);
        if (x == NULL || x == self || !lock_try(&x->lock))
            continue;
        if (x->state != HEAP_RETIRED)
            heap_age(x, true);
        lock_release(&x->lock);
    }
    return 0;
}

void heap_reclaim_others(const struct heap *self)
{
    heap_reclaim_some(1, UINT32_MAX, self);
}

size_t heap_purge_pages_everywhere(void)
{
    size_t bytes = 0;
    for (uint32_t id = 1, count = heap_count(); id <= count; id++) {
        struct heap *x = heap_by_id(id);
        /* Nobody gives a retired heap's lock back. */
        if (x == NULL || load_relaxed(&x->state) == HEAP_RETIRED)
            continue;
        lock_acquire(&x->lock);
        bytes += heap_purge_pages_now(x);
        lock_release(&x->lock);
    }
    return bytes;
}

void heap_age_next(void)
{
    uint32_t count = heap_count();
    uint32_t id = fetch_add_relaxed(&age_cursor, 1) % count + 1;
    struct heap *x = heap_by_id(id);
    if (x == NULL)
        return;
    bool has_thread = x != &stray_heap && load_relaxed(&x->state) == HEAP_ATTACHED;
    /* A thread that sleeps for ever still gets back what others free, and its empty slabs serve others. */
    if ((has_thread && !heap_has_news(x)) || !lock_try(&x->lock))
        return;
    if (x->state != HEAP_RETIRED)
        heap_age(x, x == &stray_heap || x->state == HEAP_PARKED);
    lock_release(&x->lock);
}

/* Under the tick lock, so that no fork catches the heap's lock in the hands of a thread that the child does not have. */
bool heap_help(uint32_t id, unsigned words)
{
    struct heap *x = heap_by_id(id);
    if (x == NULL || !heap_has_news(x))
        return true;
    if (!lock_try(tick_lock()))
        return false;
    if (lock_try(&x->lock)) {
        if (x->moved_blocks == x->helped_blocks && x->state != HEAP_RETIRED)
            heap_drain_some(x, words);
        x->helped_blocks = x->moved_blocks;
        lock_release(&x->lock);
    }
    lock_release(tick_lock());
    return true;
}

bool heap_harvest(uint32_t id)
{
    struct heap *x = heap_by_id(id);
    if (x == NULL || load_relaxed(&x->state) == HEAP_RETIRED)
        return false;
    if (!lock_try(&x->lock))
        return true;
    uint64_t batches = 0;
    for (unsigned bin = 0; bin < BIN_COUNT; bin++)
        batches += x->bins[bin].refill_count + x->bins[bin].flush_count;
    bool used = batches != x->harvest_batches;
    bool moved = used || heap_has_news(x);
    x->harvest_batches = batches;
    if (!used || x == &stray_heap || x->state == HEAP_PARKED) {
        bool pages_left = heap_age(x, true);
        for (unsigned i = 0; i < HARVEST_STEPS && x->purge_bins != 0; i++) /* a pass has begun: nobody waits for its end */
            pages_left = heap_purge_pages(x, os_clock_ms());
        moved |= pages_left;
    }
    lock_release(&x->lock);
    return moved;
}

void heap_rearm_after_fork(struct heap *h, uint32_t slab)
{
    struct remote *r = remote_at(slab);
    if (load_relaxed(&r->news) != 0) /* a plain look first: it spares the copy of an untouched page */
        exchange_acq_rel(&r->news, 0);
    heap_collect(h, slab, NEWS_ALL); /* a producer that is gone may have set its bit and not have come to say so */
}
