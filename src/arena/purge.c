/* Giving memory back: pages of free slabs, and whole SuperSlabs. A slab's pages are purged when a pass finds it free
 * and dirty for the second time in a row, so after one to two decay periods; a pass visits every SuperSlab and is
 * spread over ticks. Work per tick is bounded, because a tick runs inside somebody's malloc. What it costs is bounded
 * by credit.c. */
#include "arena/arena_internal.h"
#include "base/check.h"
#include "config/policy.h"
#include "os/os.h"

enum {
    WORK_PER_TICK = 16,
    VISITS_PER_TICK = 4096,
    SPARES_PER_TICK = 4, /* SuperSlabs' worth of spare mappings */
};

/* What the kernel refused to take back (locked pages) counts against the credit too: it would be tried for ever. */
static void note_given_back(struct superslab *s, size_t bytes, size_t tried_bytes, size_t gone_bytes,
                            enum purge_reason reason)
{
    fetch_add_relaxed(&arena.purged_bytes, bytes);
    if (reason == PURGE_ASKED_FOR || tried_bytes == 0)
        return;
    superslab_note_given_back(s);
    if (reason == PURGE_DUE)
        arena_charge_credit(tried_bytes);
    else
        arena_charge_earned(tried_bytes);
    if (UNLIKELY(gone_bytes != tried_bytes)) /* locked; or slabs of a huge page that were not in use anyway */
        arena_note_held(tried_bytes - gone_bytes);
}

/* All under the tick lock. */
static uint32_t pass_cursor; /* next SuperSlab to visit; 0: between passes */
static uint32_t pass_empty;  /* empty SuperSlabs met (and kept) in this pass */
static bool pass_pages;      /* a decay period has passed: this pass ages and purges pages, not only empty SuperSlabs */
static uint64_t pages_aged_ms;

size_t arena_purge_claimed(uint32_t superslab, uint32_t slabs)
{
    struct superslab *s = &superslab_table[superslab];
    size_t bytes = 0;
    while (slabs != 0) {
        unsigned first = lowest_bit(slabs);
        unsigned count = lowest_bit(~((uint64_t)slabs >> first));
        uint32_t run = mask32(count) << first;
        if (os_purge(window_slab_address(superslab * SUPERSLAB_SLABS + first), count * SLAB_BYTES)) {
            superslab_note_clean(s, run);
            bytes += count * SLAB_BYTES;
        }
        slabs &= ~run;
    }
    return bytes;
}

size_t arena_purge_free(uint32_t superslab, uint32_t slabs, enum purge_reason reason)
{
    struct superslab *s = &superslab_table[superslab];
    uint32_t mine = superslab_claim_free(s, slabs);
    if (mine == 0)
        return 0;
    uint32_t due = hugepage_to_purge(superslab, mine, reason == PURGE_ASKED_FOR);
    uint32_t before = load_relaxed(&s->dirty_mask) & due;
    size_t bytes = arena_purge_claimed(superslab, due);
    uint32_t gone = before & ~load_relaxed(&s->dirty_mask);
    arena_release_in(superslab, mine);
    note_given_back(s, bytes, count_bits(due) * SLAB_BYTES, count_bits(gone) * SLAB_BYTES, reason);
    return bytes;
}

/* Under the lock. A burst leaves a page of slab records for each SuperSlab that it had; more, where blocks are small. */
static void forget_records(uint32_t superslab)
{
    const uint32_t group = window_record_group();
    const uint32_t first = superslab / group * group;
    for (uint32_t i = first; i < first + group && i < arena.next; i++)
        if (load_relaxed(&superslab_table[i].state) == SUPERSLAB_MAPPED)
            return;
    window_forget(superslab);
}

bool arena_release_superslab(uint32_t superslab, enum purge_reason reason)
{
    struct superslab *s = &superslab_table[superslab];
    bool released = false;
    lock_acquire(&arena.lock);
    if (load_relaxed(&s->state) == SUPERSLAB_MAPPED && superslab_claim_empty(s)) {
        uint32_t dirty = superslab_resident(s);
        if (os_unmap(window_slab_address(superslab * SUPERSLAB_SLABS), SUPERSLAB_BYTES)) {
            superslab_note_clean(s, UINT32_MAX);
            if (load_relaxed(&s->prewarmed) != 0) /* asked for; none of it has ever been claimed */
                fetch_sub_relaxed(&superslab_counts.prewarmed, 1);
            hugepage_gone(superslab);
            store_release(&s->state, SUPERSLAB_ABSENT);
            arena_clear_vacant(superslab);
            forget_records(superslab);
            superslab_count(-superslab_held(SUPERSLAB_SLABS, 0));
            if (superslab < arena.lowest_absent)
                arena.lowest_absent = superslab;
            fetch_add_relaxed(&arena.released, 1);
            size_t bytes = count_bits(dirty) * SLAB_BYTES;
            note_given_back(s, bytes, bytes, bytes, reason);
            released = true;
        } else {
            arena_release_in(superslab, UINT32_MAX);
        }
    }
    lock_release(&arena.lock);
    return released;
}

static bool is_above_floor(void)
{
    return arena_free_resident_bytes() > arena_floor_bytes();
}

/* Returns true if it made system calls. */
static bool visit(uint32_t superslab, uint32_t retain)
{
    struct superslab *s = &superslab_table[superslab];
    if (load_acquire(&s->state) != SUPERSLAB_MAPPED)
        return false;
    uint32_t free_mask = load_relaxed(&s->free_mask);
    uint32_t dirty = load_relaxed(&s->dirty_mask);
    uint32_t idle = load_relaxed(&s->idle_mask);
    if (free_mask == UINT32_MAX && load_relaxed(&s->prewarmed) == 0) {
        /* One empty SuperSlab stays mapped, against flapping; its pages decay like any others. */
        bool aged = pass_pages && (idle | ~dirty) == UINT32_MAX && (dirty == 0 || is_above_floor());
        if (pass_empty > 0 && (aged || pass_empty >= retain) &&
            arena_release_superslab(superslab, PURGE_DUE)) {
            if (aged)
                superslab_note_decayed(s, count_bits(dirty));
            return true;
        }
        pass_empty++;
    }
    if (!pass_pages)
        return false;
    uint32_t due = free_mask & dirty & idle;
    if (free_mask == UINT32_MAX && due == dirty && due != 0)
        due = UINT32_MAX; /* so that a huge page goes as a whole */
    bool worked = due != 0 && is_above_floor();
    if (worked)
        superslab_note_decayed(s, (unsigned)(arena_purge_free(superslab, due, PURGE_DUE) / SLAB_BYTES));
    uint32_t now_idle = load_relaxed(&s->free_mask) & load_relaxed(&s->dirty_mask);
    if (now_idle != load_relaxed(&s->idle_mask))
        store_relaxed(&s->idle_mask, now_idle);
    return worked;
}

static void decay_spares(uint64_t now_ms, uint32_t decay_ms)
{
    for (unsigned work = 0; work < SPARES_PER_TICK && now_ms >= decay_ms && is_above_floor() && arena_has_credit(now_ms); work++)
        if (spare_give_back(SUPERSLAB_BYTES, now_ms - decay_ms, PURGE_DUE) == 0)
            return;
}

void arena_decay(uint64_t now_ms, uint32_t decay_ms, uint32_t retain)
{
    if (window.base == 0)
        return;
    arena_has_credit(now_ms); /* time pays debts, whether there is a pass or not */
    decay_spares(now_ms, decay_ms);
    if (pass_cursor == 0) {
        pass_pages = now_ms - pages_aged_ms >= decay_ms;
        if (pass_pages) {
            pages_aged_ms = now_ms;
            store_relaxed(&superslab_decay_epoch, superslab_decay_epoch + 1);
        } else if (retain == UINT32_MAX) {
            return;
        }
        pass_cursor = window.first_superslab;
        pass_empty = 0;
    }
    uint32_t end = load_acquire(&arena.next);
    unsigned work = 0;
    for (unsigned visits = 0; pass_cursor < end; visits++) {
        if (visits >= VISITS_PER_TICK || work >= WORK_PER_TICK || !arena_has_credit(now_ms))
            return;
        work += visit(pass_cursor++, retain);
    }
    pass_cursor = 0;
}

/* Gives back what is free of it. Returns bytes given back. */
static size_t purge_one(uint32_t superslab)
{
    struct superslab *s = &superslab_table[superslab];
    if (load_acquire(&s->state) != SUPERSLAB_MAPPED)
        return 0;
    uint32_t dirty = count_bits(superslab_resident(s));
    if (load_relaxed(&s->free_mask) == UINT32_MAX && arena_release_superslab(superslab, PURGE_ASKED_FOR))
        return dirty * SLAB_BYTES;
    return arena_purge_free(superslab, load_relaxed(&s->free_mask), PURGE_ASKED_FOR);
}

size_t arena_purge_beyond(size_t keep_bytes)
{
    if (window.base == 0)
        return 0;
    size_t bytes = 0, spare;
    while (arena_free_resident_bytes() > keep_bytes &&
           (spare = spare_give_back(SUPERSLAB_BYTES, UINT64_MAX, PURGE_ASKED_FOR)) != 0)
        bytes += spare;
    uint32_t end = load_acquire(&arena.next);
    for (uint32_t i = window.first_superslab; i < end; i++) {
        if (keep_bytes != 0 && arena_free_resident_bytes() <= keep_bytes)
            break;
        bytes += purge_one(i);
    }
    return bytes;
}

uint32_t arena_purge_some(uint32_t from)
{
    if (window.base == 0)
        return 0;
    uint32_t end = load_acquire(&arena.next);
    unsigned work = 0;
    while (work < WORK_PER_TICK && spare_give_back(SUPERSLAB_BYTES, UINT64_MAX, PURGE_ASKED_FOR) != 0)
        work++;
    if (from < window.first_superslab)
        from = window.first_superslab;
    for (unsigned visits = 0; from < end; visits++) {
        if (visits >= VISITS_PER_TICK || work >= WORK_PER_TICK)
            return from;
        const struct superslab *s = &superslab_table[from];
        uint32_t free_mask = load_relaxed(&s->free_mask);
        work += free_mask == UINT32_MAX || (free_mask & superslab_resident(s)) != 0; /* locked pages are work, too */
        purge_one(from++);
    }
    return 0;
}

uint64_t arena_claimed_bytes(void)
{
    return superslab_claimed_count() * SLAB_BYTES;
}

uint64_t arena_free_resident_bytes(void)
{
    return superslab_free_resident_count() * SLAB_BYTES + spare_bytes();
}

void arena_read_flow(struct arena_flow *flow)
{
    flow->superslabs_mapped = load_relaxed(&arena.mapped);
    flow->superslabs_released = load_relaxed(&arena.released);
    flow->decayed_bytes = load_relaxed(&superslab_counts.decayed) * SLAB_BYTES;
    flow->refaulted_bytes = load_relaxed(&superslab_counts.refaulted) * SLAB_BYTES;
}

void arena_read_totals(struct arena_totals *totals)
{
    *totals = (struct arena_totals){ 0 };
    totals->superslabs_mapped = load_relaxed(&arena.mapped);
    totals->superslabs_released = load_relaxed(&arena.released);
    totals->purged_bytes = load_relaxed(&arena.purged_bytes);
    totals->mapped_bytes = totals->free_dirty_bytes = spare_bytes();
    uint32_t end = window.base == 0 ? 0 : load_acquire(&arena.next);
    for (uint32_t i = window.first_superslab; i < end; i++) {
        const struct superslab *s = &superslab_table[i];
        if (load_acquire(&s->state) != SUPERSLAB_MAPPED)
            continue;
        uint32_t free_mask = load_relaxed(&s->free_mask);
        uint32_t dirty = superslab_resident(s);
        totals->mapped_bytes += SUPERSLAB_BYTES;
        totals->free_dirty_bytes += count_bits(free_mask & dirty) * SLAB_BYTES;
        totals->free_clean_bytes += count_bits(free_mask & ~dirty) * SLAB_BYTES;
    }
}
