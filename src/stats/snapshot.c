/* One walk over heaps, arena, large blocks and metadata. */
#include "arena/arena.h"
#include "arena/usage.h"
#include "base/upcall.h"
#include "config/policy.h"
#include "large/large.h"
#include "learn/alloc_window.h"
#include "learn/memory.h"
#include "lifecycle/background.h"
#include "os/os.h"
#include "stats/counters.h"
#include "tcache/tcache.h"

_Static_assert(COUNTERS_BIN_COUNT == BIN_COUNT, "the leaf repeats the number of bins");

/* Sums that may go below zero for a moment, while another thread moves blocks between its magazine and its slabs. */
struct sums {
    int64_t live[BIN_COUNT];
    int64_t cached[BIN_COUNT];
};

static uint64_t at_least_zero(int64_t value)
{
    return value < 0 ? 0 : (uint64_t)value;
}

/* The heap's lock is held. */
static void add_bins(struct snapshot *out, struct sums *sums, const struct heap *h)
{
    for (unsigned bin = 0; bin < BIN_COUNT; bin++) {
        const struct heap_bin *from = &h->bins[bin];
        struct bin_counters *to = &out->bins[bin];
        sums->live[bin] += from->outstanding;
        to->slab_bytes += (uint64_t)from->slab_count * (SLAB_BYTES << bin_info(bin)->run_slabs_log2);
        to->refill_count += from->refill_count;
        to->refill_blocks += from->refill_blocks;
        to->flush_count += from->flush_count;
        to->flush_blocks += from->flush_blocks;
        to->collected_blocks += from->collected_blocks;
    }
    out->slabs_attached += h->slabs_attached;
    out->slabs_retired += h->slabs_retired;
    out->slabs_stolen += h->slabs_stolen;
    out->pages_purged += h->pages_purged;
    out->pages_woken += h->pages_woken;
    out->slab_purged_bytes += h->purged_pages * os_page_bytes();
}

/* The heap's lock is held, so the arrays stay; `top` moves under us and is read once. So may `bottom`, now and then, and
 * the two be of different moments: then the count is wrong, but not absurd. */
static void add_cache(struct snapshot *out, struct sums *sums, const struct tcache *t)
{
    for (unsigned bin = 0; bin < BIN_COUNT; bin++) {
        const int64_t apart = load_relaxed(&t->hot.bins[bin].top) - load_relaxed(&t->bins[bin].bottom);
        const int64_t count = apart < 0 ? 0 : apart;
        sums->cached[bin] += count;
        sums->live[bin] -= count;
    }
    out->transit_bytes += load_relaxed(&t->outbox.held_bytes);
    out->delivered_blocks += load_relaxed(&t->outbox.delivered_blocks);
    out->delivery_count += load_relaxed(&t->outbox.delivery_count);
}

static void add_heap(struct snapshot *out, struct sums *sums, struct heap *h)
{
    /* Nobody gives a retired heap's lock back: its thread was not copied by fork. */
    if (h == NULL || load_relaxed(&h->state) == HEAP_RETIRED)
        return;
    lock_acquire(&h->lock);
    heap_drain(h);
    add_bins(out, sums, h);
    if (h != &stray_heap) {
        add_cache(out, sums, tcache_of_heap(h));
        const bool parked = load_relaxed(&h->state) == HEAP_PARKED;
        out->heaps_parked += parked;
        out->heaps_attached += !parked;
    }
    lock_release(&h->lock);
}

static void finish_bins(struct snapshot *out, const struct sums *sums)
{
    for (unsigned bin = 0; bin < BIN_COUNT; bin++) {
        struct bin_counters *b = &out->bins[bin];
        b->block_bytes = bin_info(bin)->block_bytes;
        b->live_blocks = at_least_zero(sums->live[bin]);
        b->cached_blocks = at_least_zero(sums->cached[bin]);
        const uint64_t used_bytes = (b->live_blocks + b->cached_blocks) * b->block_bytes;
        out->live_blocks += b->live_blocks;
        out->bin_bytes += b->live_blocks * b->block_bytes;
        out->cached_bytes += b->cached_blocks * b->block_bytes;
        out->slab_free_bytes += at_least_zero((int64_t)(b->slab_bytes - used_bytes));
    }
    out->bin_bytes = at_least_zero((int64_t)(out->bin_bytes - out->transit_bytes));
}

static void add_arena(struct snapshot *out)
{
    struct arena_totals totals;
    arena_read_totals(&totals);
    out->mapped_bytes = totals.mapped_bytes;
    out->free_dirty_bytes = totals.free_dirty_bytes;
    out->free_clean_bytes = totals.free_clean_bytes;
    out->purged_bytes = totals.purged_bytes + out->pages_purged * os_page_bytes();
    out->superslabs_mapped = totals.superslabs_mapped;
    out->superslabs_released = totals.superslabs_released;
    out->metadata_bytes = usage_record_bytes();
}

static uint64_t zero_for(uint64_t value, uint64_t none)
{
    return value == none ? 0 : value;
}

static void add_limits(struct snapshot *out)
{
    out->held_bytes = usage_bytes();
    out->memory_limit_bytes = zero_for(load_relaxed(&policy_live.memory_limit_bytes), NO_MEMORY_LIMIT);
    out->usable_bytes = zero_for(load_relaxed(&policy_live.usable_bytes), NO_MEMORY_LIMIT);
    out->cpu_count = load_relaxed(&policy_live.cpu_count);
    out->entitled_bytes = tcache_entitled_bytes();
    out->cache_bound_bytes = zero_for(load_relaxed(&policy_live.cache_bytes), NO_CACHE_BOUND);
    out->retained_bound_bytes = load_relaxed(&policy_live.retained_bytes);
}

static void add_background(struct snapshot *out)
{
    struct background_totals totals;
    background_read_totals(&totals);
    out->background_steps = totals.steps;
    out->background_sleeps = totals.sleeps;
}

static void add_large(struct snapshot *out)
{
    struct large_totals totals;
    large_read_totals(&totals);
    out->large_bytes = totals.run_bytes;
    out->large_blocks = totals.run_count;
    out->huge_bytes = totals.huge_bytes;
    out->huge_blocks = totals.huge_count;
    out->large_alloc_count = totals.alloc_count;
    out->large_free_count = totals.free_count;
}

static void add_learning(struct snapshot *out)
{
    struct alloc_learn_totals learned;
    alloc_learn_read_totals(&learned);
    out->learn_windows = learned.windows;
    out->learn_decisions = learned.decisions;
    out->learn_rollbacks = learned.rollbacks;
    struct memory_totals memory;
    memory_read_totals(&memory);
    out->mem_learn_windows = memory.windows;
    out->mem_learn_rollbacks = memory.rolled_back;
    out->superslabs_made_huge = memory.made_huge;
    out->superslabs_broken = memory.broken;
    out->collapse_us = memory.collapse_us;
}

void snapshot_read(struct snapshot *out)
{
    struct sums sums = { 0 };
    *out = (struct snapshot){ 0 };
    upcall_fork_recover();
    struct tcache *self = tcache_self();
    if (self != NULL)
        outbox_deliver_all(&self->outbox); /* ours need not stay in transit */
    out->heaps = heap_count();
    for (uint32_t id = 1; id <= out->heaps; id++)
        add_heap(out, &sums, heap_by_id(id));
    finish_bins(out, &sums);
    add_arena(out);
    add_large(out);
    add_limits(out);
    add_background(out);
    add_learning(out);
    out->live_bytes = out->bin_bytes + out->large_bytes + out->huge_bytes;
    out->live_blocks += out->large_blocks + out->huge_blocks;
    out->resident_bytes =
        at_least_zero((int64_t)(out->mapped_bytes - out->free_clean_bytes - out->slab_purged_bytes)) + out->huge_bytes;
}
