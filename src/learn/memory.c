#include "learn/memory.h"

#include "arena/arena.h"
#include "arena/hugepage.h"
#include "arena/meta.h"
#include "config/policy.h"
#include "learn/journal.h"
#include "learn/mem_learner.h"
#include "os/os.h"
#include "slab/heap.h"
#include "slab/occupancy.h"

enum {
    CHUNK_TRACKS = 1024, /* SuperSlabs that one piece of memory serves: 2 GiB of heap */
    CHUNKS = (1 << 24) / SUPERSLAB_SLABS / CHUNK_TRACKS,
    VISITS_PER_TICK = 1024, /* places where nothing is mapped cost a look, too */
    COOLDOWNS = 4, /* of the allocation learner's: each learner has its own time constant */
};

/* All that memory learning knows. Under `busy`: one thread at a time takes it (exchange acquire) and gives it back (store
 * release); nobody waits for it. Not a lock, because it is kept over calls into the kernel that may take milliseconds,
 * and fork would have to wait for them. */
FAR static struct {
    uint32_t busy;
    struct mem_params params;
    uint32_t window_ops;
    struct mem_learner learner;
    uint64_t window;       /* the last one that has ended */
    uint64_t window_blocks; /* heap_moved_blocks at its end */
    struct arena_flow flow; /* likewise */
    uint32_t superslabs;    /* mapped then */
    uint32_t cursor, unproven_cursor; /* SuperSlabs to be looked at next */
    struct mem_track *tracks[CHUNKS];
} memory;

/* Atomic relaxed; written under `busy`. */
static struct memory_totals memory_counts;

static void count(uint64_t *total, uint64_t more)
{
    store_relaxed(total, load_relaxed(total) + more);
}

void memory_start(const struct config *config)
{
    memory.window_ops = (uint32_t)config->mem_learn_window_ops;
    memory.params = (struct mem_params){
        .threshold_ppm = config->mem_learn_threshold_ppm,
        .cooldown_windows = COOLDOWNS * config->learn_cooldown_windows,
        .decay_ms = config->decay_ms,
        .retained = load_relaxed(&policy_live.retained_superslabs),
        .prewarm = (uint32_t)config->superslab_prewarm_count,
        .advanced = config->learn_advanced,
        .observe = config->learn_mode == LEARN_MODE_OBSERVE,
    };
    memory.learner = (struct mem_learner){ .draining = 0 };
    arena_read_flow(&memory.flow);
    store_relaxed(&policy_live.steer_to_full, !memory.params.observe);
}

void memory_forget_worker(void)
{
    /* What a dead thread left half done is forgotten with the rest; tracks are sound in any state. */
    if (load_relaxed(&memory.busy) != 0)
        memory.learner = (struct mem_learner){ .draining = 0 };
    store_relaxed(&memory.busy, 0);
}

/* NULL: memory is out. */
static struct mem_track *track_of(uint32_t superslab)
{
    struct mem_track **chunk = &memory.tracks[superslab / CHUNK_TRACKS];
    if (*chunk == NULL)
        *chunk = meta_alloc(CHUNK_TRACKS * sizeof **chunk);
    return *chunk == NULL ? NULL : *chunk + superslab % CHUNK_TRACKS;
}

/* Blocks that are out have been written to, as good as always; of a large block the program may have used little. mincore
 * would say it exactly, and get a sandboxed process killed. */
static uint32_t surely_resident(uint32_t superslab, uint32_t used_bytes)
{
    uint32_t large_bytes = window_large_slabs(superslab) * (uint32_t)SLAB_BYTES;
    return used_bytes > large_bytes ? used_bytes - large_bytes : 0;
}

static void look_at(struct mem_snapshot *s, uint32_t superslab)
{
    struct superslab_usage usage;
    struct mem_track *track = track_of(superslab);
    bool is_mapped = arena_superslab_usage(superslab, &usage);
    if (track == NULL || (!is_mapped && !track->is_known))
        return;
    struct mem_place *p = &s->places[s->count++];
    *p = (struct mem_place){ .superslab = superslab, .is_mapped = is_mapped, .track = track };
    if (!is_mapped)
        return;
    p->is_huge = usage.pages == SUPERSLAB_HUGE;
    p->is_unproven = arena_superslab_is_unproven(superslab);
    p->is_draining = load_relaxed(&superslab_table[superslab].draining) != 0;
    p->claimed_bytes = usage.slabs_in_use * (uint32_t)SLAB_BYTES;
    uint32_t used_bytes = occupancy_used_bytes(superslab);
    p->used_bytes = used_bytes < p->claimed_bytes ? used_bytes : p->claimed_bytes;
    p->resident_bytes = usage.slabs_resident * (uint32_t)SLAB_BYTES;
    if (!p->is_huge && track->mood == MEM_DENSE)
        p->resident_bytes = surely_resident(superslab, p->used_bytes);
}

/* Fills the snapshot up to `most` places. Those that were born huge have a cursor of their own: others may be born so only
 * when these are seen to have filled up. */
static void look_along(struct mem_snapshot *s, uint32_t *cursor, bool unproven, unsigned most)
{
    uint32_t first, end;
    arena_superslab_range(&first, &end);
    uint32_t visits = end - first < VISITS_PER_TICK ? end - first : VISITS_PER_TICK;
    for (; visits != 0 && s->count < most; visits--, (*cursor)++) {
        if (*cursor < first || *cursor >= end)
            *cursor = first;
        if (arena_superslab_is_unproven(*cursor) == unproven)
            look_at(s, *cursor);
    }
}

static void look_around(struct mem_snapshot *s)
{
    look_along(s, &memory.unproven_cursor, true, MEM_PLACES_MAX / 2);
    look_along(s, &memory.cursor, false, MEM_PLACES_MAX);
}

static void read_flow(struct mem_snapshot *s)
{
    struct arena_flow now;
    arena_read_flow(&now);
    s->superslabs = (uint32_t)(now.superslabs_mapped - now.superslabs_released);
    s->superslabs_mapped = now.superslabs_mapped - memory.flow.superslabs_mapped;
    s->superslabs_released = now.superslabs_released - memory.flow.superslabs_released;
    s->decayed_bytes = now.decayed_bytes - memory.flow.decayed_bytes;
    s->refaulted_bytes = now.refaulted_bytes - memory.flow.refaulted_bytes;
    memory.flow = now;
    memory.superslabs = s->superslabs;
}

/* A heap that only grows has at most one slab of each bin that it has begun and not filled. */
static uint32_t open_births(uint32_t superslabs)
{
    return mem_open_births(superslabs, (uint64_t)heap_count() * BIN_COUNT * SLAB_BYTES);
}

/* As the heap grows, and what was born huge fills up. */
static void follow_births(const struct mem_snapshot *s)
{
    for (unsigned i = 0; i < s->count; i++)
        if (s->places[i].track->trial != MEM_BORN && arena_superslab_is_unproven(s->places[i].superslab))
            arena_superslab_prove(s->places[i].superslab);
    if (load_relaxed(&policy_live.huge_birth) != 0)
        store_relaxed(&policy_live.huge_birth, open_births(s->superslabs));
}

/* The kernel's advice changes at once; what is there already moves when there is time for it. False: it was refused. */
static bool set_huge(const struct learn_decision *d, bool to)
{
    if (d->place == 0) {
        store_relaxed(&policy_live.huge_birth, to ? open_births(memory.superslabs) : 0);
    } else if (!to) {
        count(&memory_counts.broken, arena_superslab_break(d->place));
    } else if (arena_superslab_make_huge(d->place, NULL)) {
        count(&memory_counts.made_huge, 1);
    } else {
        mem_note_refused(track_of(d->place), &memory.params, memory.window);
        return false;
    }
    return true;
}

/* False: nothing came of it. */
static bool carry_out(const struct learn_decision *d)
{
    if (d->verdict != LEARN_APPLIED && d->verdict != LEARN_ROLLED_BACK)
        return true;
    uint32_t to = (uint32_t)(d->verdict == LEARN_APPLIED ? d->to : d->from);
    count(&memory_counts.rolled_back, d->verdict == LEARN_ROLLED_BACK);
    if (d->subject == LEARN_HUGE_PAGE)
        return set_huge(d, to != 0);
    if (d->subject == LEARN_PURGE_DELAY)
        store_relaxed(&policy_live.decay_ms, to);
    else if (d->subject == LEARN_RETAINED)
        store_relaxed(&policy_live.retained_superslabs, to);
    else
        store_relaxed(&policy_live.prewarm_superslabs, to);
    return true;
}

static void collapse(const struct mem_snapshot *s, uint64_t now_ms)
{
    for (unsigned i = 0; i < s->count; i++) {
        struct mem_track *track = s->places[i].track;
        uint64_t had_us = mem_collapse_budget(&memory.learner, now_ms);
        uint64_t left_us = had_us;
        if (!track->wants_collapse || had_us == 0)
            continue;
        if (!arena_superslab_make_huge(s->places[i].superslab, &left_us)) {
            track->wants_collapse = false;
        } else if (left_us != had_us) {
            track->wants_collapse = left_us == 0;
            mem_note_collapse(&memory.learner, now_ms, had_us - left_us, left_us == 0);
            count(&memory_counts.collapse_us, had_us - left_us);
        }
    }
}

static void end_window(uint64_t now_ms)
{
    struct learn_decision decisions[MEM_DECISIONS_MAX];
    struct mem_snapshot s = {
        .time_ms = now_ms,
        .window = memory.window,
        .claimed_bytes = arena_claimed_bytes(),
        .decay_ms = load_relaxed(&policy_live.decay_ms),
        .retained = load_relaxed(&policy_live.retained_superslabs),
        .prewarm = load_relaxed(&policy_live.prewarm_superslabs),
        .huge_birth = load_relaxed(&policy_live.huge_birth) != 0,
    };
    read_flow(&s);
    look_around(&s);
    unsigned decided = mem_decide(&memory.learner, &memory.params, &s, decisions);
    follow_births(&s);
    for (unsigned i = 0; i < decided; i++)
        if (carry_out(&decisions[i]))
            journal_write(&decisions[i]);
    for (unsigned i = 0; i < s.count; i++)
        if (s.places[i].is_mapped)
            store_relaxed(&superslab_table[s.places[i].superslab].draining, s.places[i].is_draining);
    collapse(&s, now_ms);
}

void memory_tick(uint64_t now_ms)
{
    if (exchange_acquire(&memory.busy, 1) != 0)
        return;
    uint64_t windows = (load_relaxed(&heap_moved_blocks) - memory.window_blocks) / memory.window_ops;
    if (windows != 0) {
        memory.window += windows;
        memory.window_blocks += windows * memory.window_ops;
        store_relaxed(&memory_counts.windows, memory.window);
        end_window(now_ms);
    }
    store_release(&memory.busy, 0);
}

void memory_read_totals(struct memory_totals *out)
{
    out->windows = load_relaxed(&memory_counts.windows);
    out->made_huge = load_relaxed(&memory_counts.made_huge);
    out->broken = load_relaxed(&memory_counts.broken);
    out->rolled_back = load_relaxed(&memory_counts.rolled_back);
    out->collapse_us = load_relaxed(&memory_counts.collapse_us);
}
