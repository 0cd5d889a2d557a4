#include "arena/superslab.h"

#include "arena/arena.h"
#include "arena/usage.h"
#include "base/check.h"

struct superslab *superslab_table;
struct superslab_counts superslab_counts;
uint32_t superslab_decay_epoch = STAMP_FIRST_EPOCH;

void superslab_note_decayed(struct superslab *s, unsigned slabs)
{
    uint8_t stamp = (uint8_t)load_relaxed(&superslab_decay_epoch);
    store_relaxed(&s->decay_stamp, stamp < STAMP_FIRST_EPOCH ? STAMP_FIRST_EPOCH : stamp);
    fetch_add_relaxed(&superslab_counts.decayed, slabs);
}

/* The memory learner's delay is decay's alone: so what went as excess must not look like decay's doing. */
void superslab_note_given_back(struct superslab *s)
{
    if (load_relaxed(&s->decay_stamp) == STAMP_NEVER)
        store_relaxed(&s->decay_stamp, STAMP_EXCESS);
}

void superslab_note_clean_claim(const struct superslab *s, unsigned slabs)
{
    uint8_t stamp = load_relaxed(&s->decay_stamp);
    if (LIKELY(stamp == STAMP_NEVER)) {
        arena_earn(slabs * SLAB_BYTES);
        return;
    }
    arena_charge_refault(slabs * SLAB_BYTES);
    uint8_t age = (uint8_t)(load_relaxed(&superslab_decay_epoch) - stamp);
    if (stamp != STAMP_EXCESS && age <= SUPERSLAB_SOON_EPOCHS)
        fetch_add_relaxed(&superslab_counts.refaulted, slabs);
}

void superslab_note_moved(struct superslab *s, uint32_t slabs)
{
    fetch_and_relaxed(&s->dirty_mask, ~slabs);
    if (load_relaxed(&s->decay_stamp) != STAMP_NEVER)
        arena_refund_refault(count_bits(slabs) * SLAB_BYTES);
}

/* Mostly all of the slabs hold pages, or none of them. */
static uint64_t counted(uint32_t slabs, uint32_t resident)
{
    unsigned count = count_bits(slabs);
    resident &= slabs;
    return superslab_held(count, -(uint64_t)(resident == slabs ? count : resident == 0 ? 0 : count_bits(resident)));
}

uint64_t superslab_counted(const struct superslab *s, uint32_t slabs)
{
    return counted(slabs, superslab_resident(s));
}

/* The claimed slabs are the caller's alone now: their dirty bits change under nobody's feet. False: their pages would
 * exceed the memory limit, and they are free again. */
FAST bool note_claimed(struct superslab *s, uint32_t slabs, bool *clean, uint64_t *held)
{
    uint32_t resident = superslab_resident(s);
    uint32_t fresh = slabs & ~resident;
    if (fresh != 0 && UNLIKELY(!usage_take(count_bits(fresh) * SLAB_BYTES))) {
        superslab_release(s, slabs);
        return false;
    }
    *held += counted(slabs, resident);
    uint32_t dirty = load_relaxed(&s->dirty_mask);
    *clean = (dirty & slabs) == 0;
    if ((dirty & slabs) != slabs) {
        fetch_or_relaxed(&s->dirty_mask, slabs);
        superslab_note_clean_claim(s, count_bits(slabs & ~dirty));
    }
    if (load_relaxed(&s->idle_mask) & slabs)
        fetch_and_relaxed(&s->idle_mask, ~slabs);
    if (UNLIKELY(load_relaxed(&s->prewarmed) == PREWARMED)) {
        /* From its first use on it decays like any other: all of it has pages. In this order, so that superslab_resident
         * says so throughout; by one thread, because a second one's bits might come after slabs of it were purged. */
        uint8_t expected = PREWARMED;
        if (cas_strong_acquire(&s->prewarmed, &expected, PREWARMED_FIRST_USE)) {
            fetch_or_relaxed(&s->dirty_mask, UINT32_MAX);
            store_release(&s->prewarmed, 0);
            fetch_sub_relaxed(&superslab_counts.prewarmed, 1);
        }
    }
    return true;
}

int superslab_claim(struct superslab *s, uint32_t among, unsigned count, unsigned alignment, bool *clean)
{
    /* Bit i of the pattern: slab i is a multiple of the alignment. */
    static const uint32_t aligned_starts[6] = { 0xffffffffu, 0x55555555u, 0x11111111u, 0x01010101u, 0x00010001u, 1u };
    uint32_t starts = aligned_starts[lowest_bit(alignment)];
    uint32_t free_mask = load_relaxed(&s->free_mask);
    for (;;) {
        uint32_t candidates = runs_of(free_mask & among, count) & starts;
        if (candidates == 0)
            return CLAIM_NONE;
        unsigned first = lowest_bit(candidates);
        uint32_t slabs = mask32(count) << first;
        /* acquire: what the releasing thread did to these slabs is behind us */
        if (cas_weak_acquire(&s->free_mask, &free_mask, free_mask & ~slabs)) {
            uint64_t held = 0;
            if (UNLIKELY(!note_claimed(s, slabs, clean, &held)))
                return CLAIM_REFUSED;
            superslab_count(held);
            return (int)first;
        }
    }
}

bool superslab_claim_exact(struct superslab *s, uint32_t slabs, bool *clean, uint64_t *held)
{
    uint32_t free_mask = load_relaxed(&s->free_mask);
    do {
        if ((free_mask & slabs) != slabs)
            return false;
    } while (!cas_weak_acquire(&s->free_mask, &free_mask, free_mask & ~slabs));
    return note_claimed(s, slabs, clean, held);
}

uint32_t superslab_claim_free(struct superslab *s, uint32_t among)
{
    uint32_t free_mask = load_relaxed(&s->free_mask);
    uint32_t mine;
    do {
        mine = free_mask & among;
        if (mine == 0)
            return 0;
    } while (!cas_weak_acquire(&s->free_mask, &free_mask, free_mask & ~mine));
    superslab_count(superslab_counted(s, mine));
    return mine;
}

bool superslab_claim_empty(struct superslab *s)
{
    uint32_t expected = UINT32_MAX;
    if (!cas_strong_acquire(&s->free_mask, &expected, 0))
        return false;
    superslab_count(superslab_counted(s, UINT32_MAX));
    return true;
}

void superslab_note_clean(struct superslab *s, uint32_t slabs)
{
    uint32_t gone = slabs & superslab_resident(s);
    fetch_and_relaxed(&s->dirty_mask, ~slabs);
    usage_give(count_bits(gone) * SLAB_BYTES);
}

uint32_t superslab_release(struct superslab *s, uint32_t slabs)
{
    uint32_t before = fetch_or_release(&s->free_mask, slabs);
    CHECK((before & slabs) == 0, "internal error: slab released twice", s);
    return before;
}
