/* Giving memory back: pages of free slabs, and whole SuperSlabs. A slab's pages are purged when a pass finds it free
 * and dirty for the second time in a row, so after one to two decay periods; a pass visits every SuperSlab and is
 * spread over ticks. Work per tick is bounded, because a tick runs inside somebody's malloc. */
#include "arena/arena_internal.h"
#include "base/check.h"
#include "os/os.h"

enum { WORK_PER_TICK = 16, VISITS_PER_TICK = 4096 };

/* All under the tick lock. */
static uint32_t pass_cursor; /* next SuperSlab to visit; 0: between passes */
static uint32_t pass_empty;  /* empty SuperSlabs met (and kept) in this pass */
static bool pass_pages;      /* a decay period has passed: this pass ages and purges pages, not only empty SuperSlabs */
static uint64_t pages_aged_ms;

/* Purges those of `slabs` that can still be claimed. Returns bytes given back. */
static size_t purge_slabs(uint32_t superslab, uint32_t slabs)
{
    struct superslab *s = &superslab_table[superslab];
    uint32_t mine = superslab_claim_free(s, slabs);
    if (mine == 0)
        return 0;
    size_t bytes = 0;
    uint32_t left = mine & load_relaxed(&s->dirty_mask);
    while (left != 0) {
        unsigned first = lowest_bit(left);
        unsigned count = lowest_bit(~((uint64_t)left >> first));
        uint32_t run = mask32(count) << first;
        if (os_purge(window_slab_address(superslab * SUPERSLAB_SLABS + first), count * SLAB_BYTES)) {
            fetch_and_relaxed(&s->dirty_mask, ~run);
            bytes += count * SLAB_BYTES;
        }
        left &= ~run;
    }
    arena_release_in(superslab, mine);
    fetch_add_relaxed(&arena.purged_bytes, bytes);
    return bytes;
}

/* Unmaps an empty SuperSlab. False: it is no longer empty, or the kernel refused (then its pages are purged). */
static bool release_superslab(uint32_t superslab)
{
    struct superslab *s = &superslab_table[superslab];
    bool released = false;
    lock_acquire(&arena.lock);
    if (load_relaxed(&s->state) == SUPERSLAB_MAPPED && superslab_claim_empty(s)) {
        uint32_t dirty = superslab_resident(s);
        if (os_unmap(window_slab_address(superslab * SUPERSLAB_SLABS), SUPERSLAB_BYTES)) {
            store_relaxed(&s->dirty_mask, 0);
            store_release(&s->state, SUPERSLAB_ABSENT);
            fetch_sub_relaxed(&superslab_counts.claimed, SUPERSLAB_SLABS);
            if (superslab < arena.lowest_absent)
                arena.lowest_absent = superslab;
            fetch_add_relaxed(&arena.released, 1);
            fetch_add_relaxed(&arena.purged_bytes, (uint64_t)count_bits(dirty) * SLAB_BYTES);
            released = true;
        } else {
            arena_release_in(superslab, UINT32_MAX);
        }
    }
    lock_release(&arena.lock);
    return released;
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
        bool aged = pass_pages && (idle | ~dirty) == UINT32_MAX;
        if (pass_empty > 0 && (aged || pass_empty >= retain) && release_superslab(superslab))
            return true;
        pass_empty++;
    }
    if (!pass_pages)
        return false;
    uint32_t due = free_mask & dirty & idle;
    bool worked = due != 0;
    if (worked)
        purge_slabs(superslab, due);
    uint32_t now_idle = load_relaxed(&s->free_mask) & load_relaxed(&s->dirty_mask);
    if (now_idle != load_relaxed(&s->idle_mask))
        store_relaxed(&s->idle_mask, now_idle);
    return worked;
}

void arena_decay(uint64_t now_ms, uint32_t decay_ms, uint32_t retain)
{
    if (window.base == 0)
        return;
    if (pass_cursor == 0) {
        pass_pages = now_ms - pages_aged_ms >= decay_ms;
        if (pass_pages)
            pages_aged_ms = now_ms;
        else if (retain == UINT32_MAX)
            return;
        pass_cursor = window.first_superslab;
        pass_empty = 0;
    }
    uint32_t end = load_acquire(&arena.next);
    unsigned work = 0;
    for (unsigned visits = 0; pass_cursor < end; visits++) {
        if (visits >= VISITS_PER_TICK || work >= WORK_PER_TICK)
            return;
        work += visit(pass_cursor++, retain);
    }
    pass_cursor = 0;
}

size_t arena_purge_all(void)
{
    if (window.base == 0)
        return 0;
    size_t bytes = 0;
    uint32_t end = load_acquire(&arena.next);
    for (uint32_t i = window.first_superslab; i < end; i++) {
        struct superslab *s = &superslab_table[i];
        if (load_acquire(&s->state) != SUPERSLAB_MAPPED)
            continue;
        uint32_t dirty = count_bits(superslab_resident(s));
        if (load_relaxed(&s->free_mask) == UINT32_MAX && release_superslab(i))
            bytes += dirty * SLAB_BYTES;
        else
            bytes += purge_slabs(i, load_relaxed(&s->free_mask));
    }
    return bytes;
}

uint64_t arena_claimed_bytes(void)
{
    return load_relaxed(&superslab_counts.claimed) * SLAB_BYTES;
}

uint64_t arena_free_resident_bytes(void)
{
    return load_relaxed(&superslab_counts.free_resident) * SLAB_BYTES;
}

void arena_read_totals(struct arena_totals *totals)
{
    *totals = (struct arena_totals){ 0 };
    totals->superslabs_mapped = load_relaxed(&arena.mapped);
    totals->superslabs_released = load_relaxed(&arena.released);
    totals->purged_bytes = load_relaxed(&arena.purged_bytes);
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
