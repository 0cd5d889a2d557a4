#include "arena/arena.h"

#include <limits.h>

#include "arena/arena_internal.h"
#include "arena/usage.h"
#include "base/check.h"
#include "base/upcall.h"
#include "config/policy.h"
#include "os/os.h"

enum {
    RESIDENT_LOOKS = 512, /* SuperSlabs with free slabs that are looked at for one that holds pages, before any will do: 2 us at
                             most, beside 16 page faults */
    TRACK_SUPERSLABS = 16,
    TRACK_SLABS = TRACK_SUPERSLABS * SUPERSLAB_SLABS,
    TRACKS_MAX = 32, /* each is a mapping more, and records for 32 MiB */
};

struct arena_state arena = { .lock = LOCK_INIT(LOCK_ARENA) };
FAR uint64_t arena_vacant[SUPERSLAB_LIMIT / 64];

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

static void release_counted(uint32_t superslab, uint32_t slabs)
{
    if (superslab_release(&superslab_table[superslab], slabs) == 0)
        arena_note_vacant(superslab);
}

void arena_release_in(uint32_t superslab, uint32_t slabs)
{
    superslab_count(-superslab_counted(&superslab_table[superslab], slabs));
    release_counted(superslab, slabs);
    upcall_background_note_free();
}

/* The next piece of a run that lies in one SuperSlab. */
struct piece {
    uint32_t superslab, mask;
};

static struct piece take_piece(uint32_t *slab, uint32_t *slabs)
{
    uint32_t first = *slab % SUPERSLAB_SLABS;
    uint32_t here = SUPERSLAB_SLABS - first < *slabs ? SUPERSLAB_SLABS - first : *slabs;
    struct piece piece = { *slab / SUPERSLAB_SLABS, mask32(here) << first };
    *slab += here;
    *slabs -= here;
    return piece;
}

void arena_unclaim(uint32_t slab, uint32_t slabs)
{
    const uint32_t first = slab % SUPERSLAB_SLABS;
    if (LIKELY(slabs - 1 < SUPERSLAB_SLABS - first)) { /* nearly all runs; of no slabs at all below */
        arena_release_in(slab / SUPERSLAB_SLABS, mask32(slabs) << first);
        return;
    }
    uint64_t held = 0;
    for (uint32_t at = slab, left = slabs; left > 0;) {
        struct piece piece = take_piece(&at, &left);
        held += superslab_counted(&superslab_table[piece.superslab], piece.mask);
    }
    superslab_count(-held);
    while (slabs > 0) {
        struct piece piece = take_piece(&slab, &slabs);
        release_counted(piece.superslab, piece.mask);
    }
    upcall_background_note_free();
}

void arena_free(uint32_t slab, uint32_t slabs)
{
    superslab_note_fall(slabs);
    arena_unclaim(slab, slabs);
}

void arena_recover_after_fork(void)
{
    uint32_t end = window.base == 0 ? 0 : load_acquire(&arena.next);
    uint64_t held = 0, prewarmed = 0;
    for (uint32_t i = window.first_superslab; i < end; i++) {
        const struct superslab *s = &superslab_table[i];
        if (load_relaxed(&s->state) != SUPERSLAB_MAPPED)
            continue;
        prewarmed += load_relaxed(&s->prewarmed) == PREWARMED;
        uint32_t free_mask = load_relaxed(&s->free_mask);
        held += superslab_held(count_bits(~free_mask), count_bits(free_mask & superslab_resident(s)));
        if (free_mask != 0)
            arena_note_vacant(i);
    }
    store_relaxed(&superslab_counts.held, held);
    store_relaxed(&superslab_counts.prewarmed, prewarmed);
}

/* Which free slabs will do. */
enum pages {
    RESIDENT, /* those that hold pages already: a page fault costs more than all else an allocation does */
    ANY,
    DRAINING, /* and even of a SuperSlab that is to become empty: rather than map another one */
};

NEAR static uint32_t claim_in(uint32_t superslab, enum pages pages, uint32_t node, uint32_t slabs,
                              uint32_t alignment, bool *zeroed)
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

bool arena_claim_exact(uint32_t superslab, uint32_t slabs, bool *zeroed, uint64_t *held)
{
    if (LIKELY(superslab_claim_exact(&superslab_table[superslab], slabs, zeroed, held)))
        return true;
    if (load_relaxed(&superslab_table[superslab].free_mask) != 0) /* if it was refused */
        arena_note_vacant(superslab);
    return false;
}

void arena_clear_vacant(uint32_t superslab)
{
    uint64_t bit = (uint64_t)1 << (superslab % 64);
    fetch_and_acq_rel(&arena_vacant[superslab / 64], ~bit);
    if (load_relaxed(&superslab_table[superslab].free_mask) != 0)
        arena_note_vacant(superslab);
}

/* Lowest address first, so that the top of the heap drains. */
NEAR static uint32_t claim_anywhere(enum pages pages, uint32_t node, uint32_t slabs, uint32_t alignment, uint32_t *used,
                                    bool *zeroed)
{
    if (pages == RESIDENT && superslab_free_resident_count() < slabs)
        return SLAB_NONE;
    unsigned looks = pages != RESIDENT ? UINT_MAX : RESIDENT_LOOKS;
    uint32_t end = load_acquire(&arena.next);
    for (uint32_t w = window.first_superslab / 64; w * 64 < end; w++) {
        uint64_t word = load_acquire(&arena_vacant[w]);
        while (word != 0) {
            uint32_t superslab = w * 64 + lowest_bit(word);
            word &= word - 1;
            if (looks-- == 0)
                return SLAB_NONE;
            const struct superslab *s = &superslab_table[superslab];
            uint32_t free_mask = load_relaxed(&s->free_mask);
            uint32_t among = pages == RESIDENT ? free_mask & superslab_resident(s) : free_mask;
            if (runs_of(among, slabs) == 0) {
                if (free_mask == 0)
                    arena_clear_vacant(superslab);
                continue;
            }
            uint32_t slab = claim_in(superslab, pages, node, slabs, alignment, zeroed);
            if (slab != SLAB_NONE) {
                *used = superslab;
                return slab;
            }
            /* Refused here is refused elsewhere; what free slabs with pages could add to it comes back by a purge. */
            if (pages == ANY && UNLIKELY(!usage_has_room(slabs * SLAB_BYTES)))
                return SLAB_NONE;
        }
    }
    return SLAB_NONE;
}

enum os_map_result arena_map_superslabs(uint32_t from, uint32_t to, uint32_t claimed_last)
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
        superslab_count(superslab_held(count_bits(claimed), 0));
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
        enum os_map_result result = arena_map_superslabs(superslab, superslab + 1, claimed_mask);
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
        fetch_add_relaxed(&superslab_counts.prewarmed, 1);
        store_release(&s->prewarmed, PREWARMED); /* first: superslab_resident says so throughout */
        store_relaxed(&s->dirty_mask, 0);
        arena_release_in(superslab, UINT32_MAX);
    }
}

NEAR static uint32_t alloc_narrow(uint32_t slabs, uint32_t alignment, uint32_t *hint, bool *zeroed)
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

static uint32_t alloc_wide(uint32_t slabs, uint32_t alignment, uint32_t end, bool *zeroed)
{
    const uint32_t node = node_may_grow() ? node_self() : NODE_ANY;
    uint32_t slab = arena_alloc_wide(slabs, alignment, end, node, zeroed);
    if (slab == SLAB_NONE && node != NODE_ANY)
        slab = arena_alloc_wide(slabs, alignment, end, NODE_ANY, zeroed);
    if (slab != SLAB_NONE)
        superslab_note_rise(slabs);
    return slab;
}

uint32_t arena_alloc(uint32_t slabs, uint32_t alignment_slabs, uint32_t *hint, bool *zeroed)
{
    if (UNLIKELY(window.base == 0))
        return SLAB_NONE;
    if (slabs > SUPERSLAB_SLABS || alignment_slabs > SUPERSLAB_SLABS)
        return alloc_wide(slabs, alignment_slabs, window.superslab_max, zeroed);
    const uint32_t slab = alloc_narrow(slabs, alignment_slabs, hint, zeroed);
    if (slab != SLAB_NONE)
        superslab_note_rise(slabs);
    return slab;
}

/* The SuperSlab that the first track begins with: tracks are of addresses, as alignments are. */
static uint32_t first_track(void)
{
    const uint32_t base_number = (uint32_t)(window.base >> SUPERSLAB_SHIFT) % TRACK_SUPERSLABS;
    return (uint32_t)align_up(window.first_superslab + base_number, TRACK_SUPERSLABS) - base_number;
}

/* The lowest first; but one that would have to be mapped after the others, if the run lies in one SuperSlab. */
uint32_t arena_alloc_in_track(uint32_t slabs, bool *zeroed)
{
    if (UNLIKELY(window.base == 0) || slabs > TRACK_SLABS)
        return SLAB_NONE;
    const uint32_t next = load_acquire(&arena.next), node = node_self(), mask = mask32(slabs);
    uint32_t superslab = first_track(), end = superslab + TRACKS_MAX * TRACK_SUPERSLABS;
    end = end < window.superslab_max ? end : window.superslab_max;
    bool may_have = false; /* alloc_wide looks under the lock, and not where it often would in vain */
    for (; superslab < end; superslab += TRACK_SUPERSLABS) {
        const struct superslab *s = &superslab_table[superslab];
        if (superslab >= next || load_relaxed(&s->state) == SUPERSLAB_ABSENT) {
            may_have = true;
            if (superslab >= next || slabs > SUPERSLAB_SLABS)
                break;
            continue;
        }
        if ((load_relaxed(&s->free_mask) & mask) != mask)
            continue;
        may_have = true;
        if (slabs > SUPERSLAB_SLABS)
            break;
        const uint32_t slab = claim_in(superslab, ANY, node, slabs, SUPERSLAB_SLABS, zeroed);
        if (slab != SLAB_NONE) {
            superslab_note_rise(slabs);
            return slab;
        }
    }
    return may_have ? alloc_wide(slabs, TRACK_SLABS, end, zeroed) : SLAB_NONE;
}

void arena_free_moved(uint32_t slab, uint32_t slabs)
{
    for (uint32_t at = slab, left = slabs; left > 0;) {
        struct piece piece = take_piece(&at, &left);
        superslab_note_moved(&superslab_table[piece.superslab], piece.mask);
    }
    arena_free(slab, slabs);
}

bool arena_extend(uint32_t slab, uint32_t have, uint32_t want, bool *zeroed)
{
    uint32_t at = slab + have;
    uint32_t left = want - have;
    uint64_t held = 0;
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
            ok = arena_claim_exact(superslab, mask, &clean, &held);
        } else if (first == 0) {
            lock_acquire(&arena.lock);
            if (superslab < window.superslab_max && superslab <= arena.next && window_grow(superslab) &&
                load_relaxed(&superslab_table[superslab].state) == SUPERSLAB_ABSENT) {
                if (superslab == arena.next)
                    store_release(&arena.next, superslab + 1);
                ok = arena_map_superslabs(superslab, superslab + 1, mask) == OS_MAP_OK;
            }
            lock_release(&arena.lock);
        }
        if (!ok) {
            superslab_count(held);
            arena_unclaim(slab + have, at - slab - have);
            return false;
        }
        *zeroed &= clean;
        at += here;
        left -= here;
    }
    superslab_count(held);
    superslab_note_rise(want - have);
    return true;
}
