#include "arena/arena.h"

#include <limits.h>

#include "arena/arena_internal.h"
#include "arena/usage.h"
#include "base/check.h"
#include "base/upcall.h"
#include "config/policy.h"
#include "os/os.h"

/* SuperSlabs with free slabs that are looked at for one that holds pages, before any will do. */
enum { RESIDENT_LOOKS = 64 };

/* Heaps' runs are smaller. */
enum { LARGE_RUN_SLABS = 5 };

struct arena_state arena = { .lock = LOCK_INIT(LOCK_ARENA) };
uint64_t arena_vacant[SUPERSLAB_LIMIT / 64];

struct lock *arena_lock(void)
{
    return &arena.lock;
}

void arena_start(uint32_t prewarm_superslabs)
{
    arena.next = arena.lowest_absent = window.first_superslab;
    arena.prewarm = prewarm_superslabs;
}

void arena_note_vacant(uint32_t superslab)
{
    fetch_or_release(&arena_vacant[superslab / 64], (uint64_t)1 << (superslab % 64));
}

void arena_release_in(uint32_t superslab, uint32_t slabs)
{
    if (superslab_release(&superslab_table[superslab], slabs) == 0)
        arena_note_vacant(superslab);
    upcall_background_note_free();
}

void arena_recover_after_fork(void)
{
    uint32_t end = window.base == 0 ? 0 : load_acquire(&arena.next);
    struct superslab_counts counts = { 0 };
    for (uint32_t i = window.first_superslab; i < end; i++) {
        const struct superslab *s = &superslab_table[i];
        if (load_relaxed(&s->state) != SUPERSLAB_MAPPED)
            continue;
        uint32_t free_mask = load_relaxed(&s->free_mask);
        counts.claimed += count_bits(~free_mask);
        counts.free_resident += count_bits(free_mask & superslab_resident(s));
        if (free_mask != 0)
            arena_note_vacant(i);
    }
    arena_forget_excess_worker();
    store_relaxed(&superslab_counts.claimed, counts.claimed);
    store_relaxed(&superslab_counts.free_resident, counts.free_resident);
}

/* Which free slabs will do. */
enum pages {
    RESIDENT, /* those that hold pages already: a page fault costs more than all else an allocation does */
    ANY,
    DRAINING, /* and even of a SuperSlab that is to become empty: rather than map another one */
};

static uint32_t claim_in(uint32_t superslab, enum pages pages, uint32_t node, uint32_t slabs, uint32_t alignment,
                         bool *zeroed)
{
    struct superslab *s = &superslab_table[superslab];
    if (!node_suits(s, node) || (pages != DRAINING && load_relaxed(&s->draining) != 0))
        return SLAB_NONE;
    int first = superslab_claim(s, pages == RESIDENT ? superslab_resident(s) : UINT32_MAX, slabs, alignment, zeroed);
    if (UNLIKELY(first == CLAIM_REFUSED))
        arena_note_vacant(superslab);
    if (first < 0)
        return SLAB_NONE;
    node_note_claimed(s, node);
    return superslab * SUPERSLAB_SLABS + (uint32_t)first;
}

static bool claim_exact(uint32_t superslab, uint32_t slabs, bool *zeroed)
{
    if (LIKELY(superslab_claim_exact(&superslab_table[superslab], slabs, zeroed)))
        return true;
    if (load_relaxed(&superslab_table[superslab].free_mask) != 0) /* if it was refused */
        arena_note_vacant(superslab);
    return false;
}

/* The vacant bit said yes and the mask said no. */
static void clear_vacant(uint32_t superslab)
{
    uint64_t bit = (uint64_t)1 << (superslab % 64);
    fetch_and_acq_rel(&arena_vacant[superslab / 64], ~bit);
    if (load_relaxed(&superslab_table[superslab].free_mask) != 0)
        arena_note_vacant(superslab);
}

/* Lowest address first, so that the top of the heap drains. */
static uint32_t claim_anywhere(enum pages pages, uint32_t node, uint32_t slabs, uint32_t alignment, uint32_t *used,
                               bool *zeroed)
{
    unsigned looks = pages == RESIDENT ? RESIDENT_LOOKS : UINT_MAX;
    uint32_t end = load_acquire(&arena.next);
    for (uint32_t w = window.first_superslab / 64; w * 64 < end; w++) {
        uint64_t word = load_acquire(&arena_vacant[w]);
        while (word != 0) {
            uint32_t superslab = w * 64 + lowest_bit(word);
            word &= word - 1;
            if (looks-- == 0)
                return SLAB_NONE;
            uint32_t slab = claim_in(superslab, pages, node, slabs, alignment, zeroed);
            if (slab != SLAB_NONE) {
                *used = superslab;
                return slab;
            }
            if (load_relaxed(&superslab_table[superslab].free_mask) == 0)
                clear_vacant(superslab);
            /* Refused here is refused elsewhere; what free slabs with pages could add to it comes back by a purge. */
            if (pages == ANY && UNLIKELY(!usage_has_room(slabs * SLAB_BYTES)))
                return SLAB_NONE;
        }
    }
    return SLAB_NONE;
}

/* Under the lock. Maps the absent SuperSlabs [from, to) as one piece; their slabs in `claimed_last` (of the last one)
 * and all of the others become the caller's. On OCCUPIED the slot that is in the way is marked foreign. NO_MEMORY may
 * also be our own limit. */
static enum os_map_result map_superslabs(uint32_t from, uint32_t to, uint32_t claimed_last)
{
    size_t bytes = (size_t)(to - from) << SUPERSLAB_SHIFT;
    size_t claimed_bytes = bytes - (SUPERSLAB_SLABS - count_bits(claimed_last)) * SLAB_BYTES;
    uintptr_t address = window.base + ((uintptr_t)from << SUPERSLAB_SHIFT);
    if (!usage_take(claimed_bytes))
        return OS_MAP_NO_MEMORY;
    enum os_map_result result = os_map_at(address, bytes);
    if (result != OS_MAP_OK)
        usage_give(claimed_bytes);
    if (result == OS_MAP_OCCUPIED) {
        for (uint32_t i = from; i < to; i++, address += SUPERSLAB_BYTES) {
            enum os_map_result slot = os_map_at(address, SUPERSLAB_BYTES);
            if (slot == OS_MAP_OK)
                os_unmap((void *)address, SUPERSLAB_BYTES);
            else if (slot == OS_MAP_OCCUPIED)
                store_release(&superslab_table[i].state, SUPERSLAB_FOREIGN);
        }
        return result;
    }
    if (result != OS_MAP_OK)
        return result;
    hugepage_born(from, to);
    node_born(from, to);
    for (uint32_t i = from; i < to; i++) {
        struct superslab *s = &superslab_table[i];
        uint32_t claimed = i + 1 == to ? claimed_last : UINT32_MAX;
        store_relaxed(&s->dirty_mask, claimed);
        store_relaxed(&s->idle_mask, 0);
        store_relaxed(&s->prewarmed, 0);
        store_relaxed(&s->draining, 0);
        superslab_note_clean_claim(s, count_bits(claimed));
        fetch_add_relaxed(&superslab_counts.claimed, count_bits(claimed));
        store_release(&s->state, SUPERSLAB_MAPPED);
        store_release(&s->free_mask, ~claimed);
        if (claimed != UINT32_MAX)
            arena_note_vacant(i);
    }
    fetch_add_relaxed(&arena.mapped, to - from);
    return OS_MAP_OK;
}

/* Under the lock: the lowest slot that nothing is mapped in, its metadata ready. superslab_max: none. */
static uint32_t find_absent(void)
{
    uint32_t i = arena.lowest_absent;
    for (; i < arena.next; i++)
        if (load_relaxed(&superslab_table[i].state) == SUPERSLAB_ABSENT)
            return arena.lowest_absent = i;
    arena.lowest_absent = i;
    if (!window_grow(arena.next))
        return window.superslab_max;
    uint32_t fresh = arena.next;
    store_release(&arena.next, fresh + 1);
    return fresh;
}

/* Under the lock. Claims the lowest `claimed` slabs of a fresh SuperSlab. */
static uint32_t map_one(uint32_t claimed_mask)
{
    for (;;) {
        uint32_t superslab = find_absent();
        if (superslab >= window.superslab_max)
            return window.superslab_max;
        enum os_map_result result = map_superslabs(superslab, superslab + 1, claimed_mask);
        if (result == OS_MAP_OK)
            return superslab;
        if (result == OS_MAP_NO_MEMORY)
            return window.superslab_max;
    }
}

/* The process has outgrown its first SuperSlab: it allocates. Fault in what was asked for ahead of need. Pages are
 * touched outside the lock, while the slabs are this thread's. */
static void prewarm(uint32_t count)
{
    while (count-- > 0) {
        lock_acquire(&arena.lock);
        uint32_t superslab = map_one(UINT32_MAX);
        lock_release(&arena.lock);
        if (superslab >= window.superslab_max)
            return;
        struct superslab *s = &superslab_table[superslab];
        os_populate(window_slab_address(superslab * SUPERSLAB_SLABS), SUPERSLAB_BYTES);
        store_release(&s->prewarmed, PREWARMED); /* first: superslab_resident says so throughout */
        store_relaxed(&s->dirty_mask, 0);
        arena_release_in(superslab, UINT32_MAX);
    }
}

static uint32_t alloc_narrow(uint32_t slabs, uint32_t alignment, uint32_t *hint, bool *zeroed)
{
    uint32_t used = 0;
    uint32_t slab = SLAB_NONE;
    const uint32_t node = node_self();
    const enum pages last = load_relaxed(&policy_live.steer_to_full) ? DRAINING : ANY;
    for (enum pages pages = RESIDENT; slab == SLAB_NONE && pages <= last; pages++) {
        if (hint != NULL && *hint != 0)
            slab = claim_in(used = *hint, pages, node, slabs, alignment, zeroed);
        if (slab == SLAB_NONE)
            slab = claim_anywhere(pages, node, slabs, alignment, &used, zeroed);
    }
    if (slab == SLAB_NONE) {
        lock_acquire(&arena.lock);
        /* Another thread may have mapped one while this one waited. */
        slab = claim_anywhere(last, node_may_grow() ? node : NODE_ANY, slabs, alignment, &used, zeroed);
        uint32_t to_prewarm = 0;
        if (slab == SLAB_NONE) {
            if (arena.prewarm != 0 && arena.next > window.first_superslab) {
                to_prewarm = arena.prewarm;
                arena.prewarm = 0;
            }
            used = map_one(mask32(slabs));
            if (used < window.superslab_max) {
                slab = used * SUPERSLAB_SLABS;
                *zeroed = true;
            } else if (node != NODE_ANY) {
                slab = claim_anywhere(last, NODE_ANY, slabs, alignment, &used, zeroed);
            }
        }
        lock_release(&arena.lock);
        if (UNLIKELY(to_prewarm != 0))
            prewarm(to_prewarm);
    }
    if (slab != SLAB_NONE && hint != NULL)
        *hint = used;
    return slab;
}

/* The slabs of SuperSlab number i (0-based) of a wide run. */
static uint32_t wide_mask(uint32_t slabs, uint32_t i)
{
    return mask32(slabs - i * SUPERSLAB_SLABS);
}

/* Could SuperSlab i of the run lie here? A hint only: nothing is claimed yet. */
static bool wide_fits(uint32_t superslab, uint32_t mask, uint32_t node)
{
    const struct superslab *s = &superslab_table[superslab];
    switch (load_relaxed(&s->state)) {
    case SUPERSLAB_ABSENT:
        return true;
    case SUPERSLAB_MAPPED:
        return (load_relaxed(&s->free_mask) & mask) == mask && node_suits(s, node);
    default:
        return false;
    }
}

static void wide_release(uint32_t start, uint32_t count, uint32_t slabs)
{
    for (uint32_t i = 0; i < count; i++)
        arena_release_in(start + i, wide_mask(slabs, i));
}

/* Under the lock. Claims mapped SuperSlabs and maps absent ones, left to right. */
static enum os_map_result wide_claim(uint32_t start, uint32_t count, uint32_t slabs, uint32_t node, bool *zeroed)
{
    *zeroed = true;
    for (uint32_t i = 0; i < count;) {
        if (load_relaxed(&superslab_table[start + i].state) == SUPERSLAB_MAPPED) {
            bool clean;
            uint32_t mask = wide_mask(slabs, i);
            if (!claim_exact(start + i, mask, &clean)) {
                wide_release(start, i, slabs);
                return usage_has_room(count_bits(mask) * SLAB_BYTES) ? OS_MAP_OCCUPIED : OS_MAP_NO_MEMORY;
            }
            node_note_claimed(&superslab_table[start + i], node);
            *zeroed &= clean;
            i++;
            continue;
        }
        uint32_t end = i;
        while (end < count && load_relaxed(&superslab_table[start + end].state) == SUPERSLAB_ABSENT)
            end++;
        enum os_map_result result = map_superslabs(start + i, start + end, wide_mask(slabs, end - 1));
        if (result != OS_MAP_OK) {
            wide_release(start, i, slabs);
            return result;
        }
        i = end;
    }
    return OS_MAP_OK;
}

/* Under the lock: the next SuperSlab from `start` on that may have free slabs or is absent. In a large heap nearly all are
 * mapped and full, and are passed over 64 at a time. */
static uint32_t next_for_wide(uint32_t start)
{
    while (start < arena.lowest_absent) {
        uint64_t vacant = load_acquire(&arena_vacant[start / 64]) >> (start % 64);
        uint32_t next = vacant != 0 ? start + lowest_bit(vacant) : (uint32_t)align_up(start + 1, 64);
        if (vacant != 0 || next >= arena.lowest_absent)
            return next < arena.lowest_absent ? next : arena.lowest_absent;
        start = next;
    }
    return start;
}

static uint32_t alloc_wide(uint32_t slabs, uint32_t alignment, uint32_t node, bool *zeroed)
{
    uint32_t count = (slabs + SUPERSLAB_SLABS - 1) / SUPERSLAB_SLABS;
    uint32_t step = alignment > SUPERSLAB_SLABS ? alignment / SUPERSLAB_SLABS : 1;
    uint32_t found = SLAB_NONE;
    /* Alignment is of addresses: the window's base counts. */
    uint32_t base_number = (uint32_t)((window.base >> SUPERSLAB_SHIFT) & (step - 1));
    lock_acquire(&arena.lock);
    uint32_t start = window.first_superslab;
    for (;;) {
        start = (uint32_t)align_up(next_for_wide(start) + base_number, step) - base_number;
        if (start >= window.superslab_max || count > window.superslab_max - start)
            break;
        if (start + count > arena.next && !window_grow(start + count - 1))
            break;
        uint32_t good = 0;
        while (good < count && wide_fits(start + good, wide_mask(slabs, good), node))
            good++;
        if (good < count) {
            start += good + 1;
            continue;
        }
        if (start + count > arena.next)
            store_release(&arena.next, start + count);
        enum os_map_result result = wide_claim(start, count, slabs, node, zeroed);
        if (result == OS_MAP_OK) {
            found = start * SUPERSLAB_SLABS;
            break;
        }
        if (result == OS_MAP_NO_MEMORY)
            break;
        start++;
    }
    lock_release(&arena.lock);
    return found;
}

uint32_t arena_alloc(uint32_t slabs, uint32_t alignment_slabs, uint32_t *hint, bool *zeroed)
{
    if (UNLIKELY(window.base == 0))
        return SLAB_NONE;
    uint32_t slab;
    if (slabs <= SUPERSLAB_SLABS && alignment_slabs <= SUPERSLAB_SLABS) {
        slab = alloc_narrow(slabs, alignment_slabs, hint, zeroed);
    } else {
        const uint32_t node = node_may_grow() ? node_self() : NODE_ANY;
        slab = alloc_wide(slabs, alignment_slabs, node, zeroed);
        if (slab == SLAB_NONE && node != NODE_ANY)
            slab = alloc_wide(slabs, alignment_slabs, NODE_ANY, zeroed);
    }
    return slab;
}

static void release_run(uint32_t slab, uint32_t slabs)
{
    while (slabs > 0) {
        uint32_t first = slab % SUPERSLAB_SLABS;
        uint32_t here = SUPERSLAB_SLABS - first < slabs ? SUPERSLAB_SLABS - first : slabs;
        arena_release_in(slab / SUPERSLAB_SLABS, mask32(here) << first);
        slab += here;
        slabs -= here;
    }
}

void arena_free(uint32_t slab, uint32_t slabs)
{
    release_run(slab, slabs);
    /* Not after small runs: those come from heaps, many at a time and under their locks. */
    if (slabs >= LARGE_RUN_SLABS && UNLIKELY(arena_has_excess()))
        arena_give_back_excess(2 + slabs / SUPERSLAB_SLABS);
}

void arena_free_moved(uint32_t slab, uint32_t slabs)
{
    for (uint32_t at = slab, end = slab + slabs; at < end; at++)
        fetch_and_relaxed(&superslab_of_slab(at)->dirty_mask, ~((uint32_t)1 << at % SUPERSLAB_SLABS));
    release_run(slab, slabs);
}

bool arena_extend(uint32_t slab, uint32_t have, uint32_t want, bool *zeroed)
{
    uint32_t at = slab + have;
    uint32_t left = want - have;
    *zeroed = true;
    while (left > 0) {
        uint32_t superslab = at / SUPERSLAB_SLABS;
        uint32_t first = at % SUPERSLAB_SLABS;
        uint32_t here = SUPERSLAB_SLABS - first < left ? SUPERSLAB_SLABS - first : left;
        uint32_t mask = mask32(here) << first;
        bool clean = true;
        bool ok = false;
        if (superslab < load_acquire(&arena.next) &&
            load_acquire(&superslab_table[superslab].state) == SUPERSLAB_MAPPED) {
            ok = claim_exact(superslab, mask, &clean);
        } else if (first == 0) {
            lock_acquire(&arena.lock);
            if (superslab < window.superslab_max && superslab <= arena.next && window_grow(superslab) &&
                load_relaxed(&superslab_table[superslab].state) == SUPERSLAB_ABSENT) {
                if (superslab == arena.next)
                    store_release(&arena.next, superslab + 1);
                ok = map_superslabs(superslab, superslab + 1, mask) == OS_MAP_OK;
            }
            lock_release(&arena.lock);
        }
        if (!ok) {
            release_run(slab + have, at - slab - have);
            return false;
        }
        *zeroed &= clean;
        at += here;
        left -= here;
    }
    return true;
}
