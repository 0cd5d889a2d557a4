/* Runs that begin with a SuperSlab and go on over its neighbours, and runs whose alignment is more than a SuperSlab's. They
 * are rare and large: taken under the arena's lock, lowest address first. */
#include "arena/arena_internal.h"
#include "arena/usage.h"

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

/* Under the lock. Claims mapped SuperSlabs and maps absent ones, left to right. */
static enum os_map_result wide_claim(uint32_t start, uint32_t count, uint32_t slabs, uint32_t node, bool *zeroed)
{
    enum os_map_result result = OS_MAP_OK;
    uint64_t held = 0;
    uint32_t i = 0;
    *zeroed = true;
    while (i < count && result == OS_MAP_OK) {
        if (load_relaxed(&superslab_table[start + i].state) == SUPERSLAB_MAPPED) {
            bool clean;
            uint32_t mask = wide_mask(slabs, i);
            if (!arena_claim_exact(start + i, mask, &clean, &held)) {
                result = usage_has_room(count_bits(mask) * SLAB_BYTES) ? OS_MAP_OCCUPIED : OS_MAP_NO_MEMORY;
                break;
            }
            node_note_claimed(&superslab_table[start + i], node);
            *zeroed &= clean;
            i++;
            continue;
        }
        uint32_t end = i;
        while (end < count && load_relaxed(&superslab_table[start + end].state) == SUPERSLAB_ABSENT)
            end++;
        result = arena_map_superslabs(start + i, start + end, wide_mask(slabs, end - 1));
        if (result == OS_MAP_OK)
            i = end;
    }
    superslab_count(held);
    if (result != OS_MAP_OK) /* none of these is the last one, of which less would have been claimed */
        arena_unclaim(start * SUPERSLAB_SLABS, i * SUPERSLAB_SLABS);
    return result;
}

/* Under the lock: the next SuperSlab from `start` on in which the run may begin: it is absent, or these slabs are free. In
 * a large heap nearly all are mapped and full, and are passed over 64 at a time. */
static uint32_t next_for_wide(uint32_t start, uint32_t mask)
{
    if (start > arena.lowest_absent)
        return start;
    while (start < arena.lowest_absent) {
        uint32_t word_start = start & ~63u;
        uint64_t vacant = load_acquire(&arena_vacant[start / 64]) >> (start % 64) << (start % 64);
        for (; vacant != 0; vacant &= vacant - 1) {
            uint32_t next = word_start + lowest_bit(vacant);
            if (next >= arena.lowest_absent)
                return arena.lowest_absent;
            if ((load_relaxed(&superslab_table[next].free_mask) & mask) == mask)
                return next;
        }
        start = word_start + 64;
    }
    return arena.lowest_absent;
}

uint32_t arena_alloc_wide(uint32_t slabs, uint32_t alignment, uint32_t end, uint32_t node, bool *zeroed)
{
    uint32_t count = (slabs + SUPERSLAB_SLABS - 1) / SUPERSLAB_SLABS;
    uint32_t step = alignment > SUPERSLAB_SLABS ? alignment / SUPERSLAB_SLABS : 1;
    uint32_t found = SLAB_NONE;
    /* Alignment is of addresses: the window's base counts. */
    uint32_t base_number = (uint32_t)((window.base >> SUPERSLAB_SHIFT) & (step - 1));
    lock_acquire(&arena.lock);
    uint32_t start = window.first_superslab;
    for (;;) {
        start = (uint32_t)align_up(next_for_wide(start, wide_mask(slabs, 0)) + base_number, step) - base_number;
        if (start >= end || count > end - start)
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
