#include "learn/alloc_window.h"

#include "arena/meta.h"
#include "base/upcall.h"
#include "config/policy.h"
#include "learn/journal.h"
#include "os/os.h"
#include "tcache/tcache_internal.h"

_Static_assert(ALLOC_KEEP_SLABS_MAX == HEAP_SPARE_ROOM, "what is learned must fit");
_Static_assert(ALLOC_SLAB_BYTES == SLAB_BYTES, "the learner knows slabs by their size alone");

enum {
    LARGEST_BATCH = 64,    /* blocks that a slow operation may move: refill.c's REFILL_MAX_BLOCKS and FLUSH_MAX_BLOCKS */
    KEEP_BUDGET_SHARE = 4, /* empty slabs may hold this part of the thread's budget */
    CAP_MEMORY_WINDOWS = 16, /* windows after which what a bin's ceiling was counts little */
    CAP_WEIGHT_SHIFT = 8,    /* of a miss, so that what a sixteenth of a small weight leaves over is not lost */
};

/* A bin's counters when the window began. */
struct bin_base {
    uint64_t refill_count, refill_blocks, flush_blocks, collected_blocks, turned_blocks;
    uint32_t turns; /* as in tcache_bin, but even */
    uint32_t low_water; /* fewest seen since */
};

/* A thread's share of the learning, made when its first window is full. It stays with the cache: who adopts a parked
 * heap goes on from what its last thread had learned. Touched by the owning thread alone. */
struct alloc_memory {
    struct alloc_learner learner;
    struct bin_base bases[TINY_BIN_COUNT];
    uint64_t moved_blocks, slabs_attached, slabs_retired, began_ns; /* when the window began */
    uint64_t looked_blocks; /* moved at the last look ... */
    uint32_t look_ops;      /* ... and the slow operations that there were to be until this one */
    uint64_t window_count;
    uint32_t slabs_low; /* fewest spare slabs seen in the window */
    const void *thread; /* who was at it then: the address of a thread-local */
};

static struct alloc_learn_totals totals; /* atomic relaxed; added to by any thread */

void alloc_learn_read_totals(struct alloc_learn_totals *out)
{
    out->windows = load_relaxed(&totals.windows);
    out->decisions = load_relaxed(&totals.decisions);
    out->rollbacks = load_relaxed(&totals.rollbacks);
}

void alloc_params_from_config(struct alloc_params *out, const struct config *config)
{
    *out = (struct alloc_params){
        .law = {.rate_ppm = config->alloc_learn_rate_ppm,
                .share_ppm = config->learn_threshold_ppm,
                .hysteresis = config->learn_hysteresis,
                .cooldown_windows = config->learn_cooldown_windows,
                .observe = config->learn_mode == LEARN_MODE_OBSERVE},
        .cap_min = config->learn_cap_min,
        .cap_max = config->learn_cap_max,
        .advanced = config->learn_advanced,
    };
}

/* Slow operations after which the rest of the window may be full, where each moves so many blocks at most. */
static uint32_t next_look(uint64_t left_blocks, uint64_t batch)
{
    uint64_t operations = left_blocks / batch;
    if (operations == 0)
        return 1;
    return operations < TICK_SLOW_OPERATIONS ? (uint32_t)operations : TICK_SLOW_OPERATIONS;
}

/* Twice what the last ones have moved. Where magazines are small, looks for the largest batch there is would be many towards
 * the window's end, and each costs some hundred instructions. */
static uint64_t likely_batch(struct alloc_memory *m, uint64_t total)
{
    uint64_t batch = m->look_ops == 0 ? LARGEST_BATCH : 2 * (total - m->looked_blocks) / m->look_ops + 1;
    m->looked_blocks = total;
    return batch < LARGEST_BATCH ? batch : LARGEST_BATCH;
}

static void note_low_water(struct alloc_memory *m, const struct tcache *t)
{
    for (unsigned bin = 0; bin < TINY_BIN_COUNT; bin++) {
        uint32_t count = magazine_count(t, bin);
        if (count < m->bases[bin].low_water)
            m->bases[bin].low_water = count;
    }
}

static void begin_window(struct alloc_memory *m, struct tcache *t, uint64_t now_ns)
{
    struct heap *h = &t->heap;
    lock_acquire(&h->lock); /* others may drain the heap, which collects blocks and retires slabs */
    for (unsigned bin = 0; bin < TINY_BIN_COUNT; bin++) {
        const struct heap_bin *from = &h->bins[bin];
        m->bases[bin] = (struct bin_base){
            .refill_count = from->refill_count,
            .refill_blocks = from->refill_blocks,
            .flush_blocks = from->flush_blocks,
            .collected_blocks = from->collected_blocks,
            .turned_blocks = t->bins[bin].turned_blocks,
            .turns = t->bins[bin].turns & ~1u,
            .low_water = magazine_count(t, bin),
        };
    }
    m->slabs_attached = h->slabs_attached;
    m->slabs_retired = h->slabs_retired;
    m->slabs_low = h->spare_count;
    lock_release(&h->lock);
    m->moved_blocks = h->moved_blocks;
    m->began_ns = now_ns;
    m->thread = &hot_thread;
}

/* Counters are wide, windows are not: what does not fit is more than any law asks for. */
static uint32_t narrow(uint64_t value)
{
    return value < UINT32_MAX ? (uint32_t)value : UINT32_MAX;
}

static void fill_bin(struct alloc_bin *to, const struct bin_base *base, const struct tcache *t, unsigned bin)
{
    const struct tcache_bin *b = &t->bins[bin];
    const struct heap_bin *from = &t->heap.bins[bin];
    const struct config *config = config_get();
    to->refill_count = narrow(from->refill_count - base->refill_count);
    to->refill_blocks = narrow(from->refill_blocks - base->refill_blocks);
    to->flush_blocks = narrow(from->flush_blocks - base->flush_blocks);
    to->collected_blocks = narrow(from->collected_blocks - base->collected_blocks);
    to->turns = ((b->turns & ~1u) - base->turns) / 2; /* halved last: the word wraps */
    if (to->turns != 0 && base->turns != 0) /* from one turn to another, so these are whole cycles */
        to->excess = narrow((b->turned_blocks - base->turned_blocks) / to->turns);
    to->low_water = to->refill_count != 0 ? 0 : base->low_water;
    to->capacity = b->opened ? b->capacity : 0;
    to->cap = b->ceiling;
    to->refill = b->refill;
    to->cap_ceiling = config->bin_cap_is_user[bin] ? config->bin_cap[bin] : config->learn_cap_max;
    to->refill_ceiling = config->bin_cap_is_user[bin] ? config->bin_refill[bin] : ALLOC_REFILL_MAX;
}

static void fill_snapshot(struct alloc_snapshot *s, struct alloc_memory *m, struct tcache *t, uint64_t moved,
                          uint64_t now_ns)
{
    struct heap *h = &t->heap;
    uint64_t budget = load_relaxed(&policy_live.thread_cache_bytes);
    uint64_t learned = config_get()->learn_budget_bytes;
    *s = (struct alloc_snapshot){
        .time_ms = os_clock_ms(),
        .window = ++m->window_count,
        .heap = h->id,
        .moved_blocks = moved - m->moved_blocks,
        .passed_ns = now_ns - m->began_ns,
    };
    budget = budget < learned ? budget : learned;
    s->budget_left_bytes = budget > t->entitled_bytes ? budget - t->entitled_bytes : 0;
    uint64_t process_budget = load_relaxed(&policy_live.cache_bytes), entitled = tcache_entitled_bytes();
    uint64_t process_left = process_budget > entitled ? process_budget - entitled : 0;
    if (s->budget_left_bytes > process_left)
        s->budget_left_bytes = process_left;
    s->keep_budget_bytes = budget / KEEP_BUDGET_SHARE;
    lock_acquire(&h->lock);
    s->slabs_attached = narrow(h->slabs_attached - m->slabs_attached);
    s->slabs_retired = narrow(h->slabs_retired - m->slabs_retired);
    s->slabs_idle = h->spare_count < m->slabs_low ? h->spare_count : m->slabs_low;
    s->keep_slabs = h->spare_limit;
    for (unsigned bin = 0; bin < TINY_BIN_COUNT; bin++)
        fill_bin(&s->bins[bin], &m->bases[bin], t, bin);
    lock_release(&h->lock);
}

static void carry_out(struct tcache *t, const struct learn_decision *d)
{
    uint32_t value = (uint32_t)(d->verdict == LEARN_APPLIED ? d->to : d->from);
    if (d->verdict == LEARN_ROLLED_BACK)
        fetch_add_relaxed(&totals.rollbacks, 1);
    else if (d->verdict != LEARN_CONFIRMED)
        fetch_add_relaxed(&totals.decisions, 1);
    if (d->verdict != LEARN_APPLIED && d->verdict != LEARN_ROLLED_BACK)
        return;
    if (d->subject == LEARN_BIN_CAP)
        tcache_set_ceiling(t, d->place, value);
    else if (d->subject == LEARN_BIN_REFILL)
        tcache_set_refill(t, d->place, value);
    else
        heap_set_spare_limit(&t->heap, value);
}

/* For exports, the mean ceiling under which the bin missed lately: what a program lowers while it takes its data apart is
 * not what it should start with. */
static void note_caps(struct tcache *t, const struct alloc_snapshot *s)
{
    for (unsigned bin = 0; bin < TINY_BIN_COUNT; bin++) {
        struct tcache_bin *b = &t->bins[bin];
        uint64_t weight = (uint64_t)s->bins[bin].refill_count << CAP_WEIGHT_SHIFT;
        if (weight == 0)
            continue;
        store_relaxed(&b->cap_weight, b->cap_weight - b->cap_weight / CAP_MEMORY_WINDOWS + weight);
        store_release(&b->cap_sum, b->cap_sum - b->cap_sum / CAP_MEMORY_WINDOWS + weight * b->ceiling);
    }
}

static void end_window(struct alloc_memory *m, struct tcache *t, uint64_t moved, uint64_t now_ns)
{
    struct alloc_params params;
    struct alloc_snapshot snapshot;
    struct learn_decision decisions[ALLOC_DECISIONS_MAX];
    alloc_params_from_config(&params, config_get());
    fill_snapshot(&snapshot, m, t, moved, now_ns);
    note_caps(t, &snapshot);
    unsigned count = alloc_decide(&m->learner, &params, &snapshot, decisions);
    fetch_add_relaxed(&totals.windows, 1);
    for (unsigned i = 0; i < count; i++) {
        carry_out(t, &decisions[i]);
        journal_write(&decisions[i]);
    }
}

static uint32_t await_look(struct alloc_memory *m, uint32_t operations)
{
    if (m != NULL)
        m->look_ops = operations;
    return operations;
}

SLOW uint32_t upcall_alloc_learn(struct tcache *t)
{
    struct alloc_memory *m = t->learning;
    uint64_t full = config_get()->alloc_learn_window_ops;
    uint64_t total = t->heap.moved_blocks;
    uint64_t moved = m == NULL ? total : total - m->moved_blocks;
    uint64_t batch = LARGEST_BATCH;
    if (m != NULL) {
        note_low_water(m, t);
        batch = likely_batch(m, total);
    }
    if (moved < full)
        return await_look(m, next_look(full - moved, batch));
    /* Not CPU time, which enters the kernel: a sandbox may forbid that. */
    uint64_t now_ns = os_clock_us() * 1000u;
    if (m == NULL)
        m = t->learning = meta_alloc(sizeof *m); /* the first blocks say how a thread starts, not how it goes on */
    else if (m->thread == &hot_thread && now_ns >= m->began_ns)
        end_window(m, t, total, now_ns);
    /* else: another thread's cache, adopted with what it knows; how long it lay parked is no part of a window. */
    if (m != NULL)
        begin_window(m, t, now_ns);
    return await_look(m, next_look(full, batch));
}
