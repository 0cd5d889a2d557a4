/* Giving back what is too much, without waiting for its time.
 *
 * A process that frees a great deal and then falls silent has no more ticks. So slow paths look, after each free of a large
 * block, after each batch that has emptied a slab, and with every tick's look at the clock, and give some back themselves;
 * a thread that ends, all of it
 *
 *   of far too many free pages       what is beyond policy retained_ratio of what is in use and EXCESS_BASE_BYTES; as
 *                                    the credit allows
 *   of what a burst leaves           what is beyond an eighth of that ratio of what is in use, and decay's floor; as far
 *                                    as first use has paid for it (credit.c)
 *
 * and the highest addresses first, because new runs come from the lowest. It is a burst if BURST_BYTES more than may stay
 * are free or have been given back: small programs do not pay for the system calls. And if as many were freed while few
 * were taken: a loop takes what it has freed, and who goes on taking has ticks, and decay. The work of one call is bounded by what
 * it frees; no lock is held then. */
#include "arena/arena_internal.h"
#include "config/policy.h"
#include "os/os.h"

enum {
    EXCESS_VISITS = 64, /* vacant SuperSlabs that one call looks at, beside those it has work for */
    BURST_SHARE = 8,    /* a burst may leave this part of what may stay otherwise */
};

/* Counts as in use, when it is asked how many free pages are too many. */
#define EXCESS_BASE_BYTES ((uint64_t)128 << 20)
#define BURST_BYTES (BURST_SLABS * (uint64_t)SLAB_BYTES)

/* The SuperSlab looked at last, going down. Atomic relaxed: a hint, several threads may be at it. Were there only one at a
 * time, and held up, the others would free all they have meanwhile and fall silent. */
static uint32_t excess_cursor;

static uint64_t retained_part(uint64_t bytes)
{
    return bytes / RATIO_ONE_PPM * load_relaxed(&policy_live.retained_ratio_ppm);
}

uint64_t arena_excess_bytes(void)
{
    uint64_t usual = retained_part(arena_claimed_bytes() + EXCESS_BASE_BYTES);
    uint64_t most = load_relaxed(&policy_live.retained_bytes);
    return most != 0 && most < usual ? most : usual;
}

/* What was prewarmed is not to go before its first use: who counted it would look for it in vain at every slow path. */
static uint64_t free_bytes_to_give(void)
{
    const uint64_t bytes = arena_free_resident_bytes();
    const uint64_t waiting = load_relaxed(&superslab_counts.prewarmed) * SUPERSLAB_BYTES;
    return bytes > waiting ? bytes - waiting : 0;
}

/* A floor that somebody chose to be higher than the profiles' is meant for bursts as well. */
uint64_t arena_floor_bytes(void)
{
    const uint64_t floor = load_relaxed(&policy_live.decay_floor_bytes);
    const uint64_t claimed = arena_claimed_bytes();
    if (claimed >= floor || load_relaxed(&superslab_counts.fallen) <= BURST_SLABS)
        return floor;
    const uint64_t chosen = floor > SUPERSLAB_BYTES ? floor - SUPERSLAB_BYTES : 0;
    return claimed > chosen ? claimed : chosen;
}

static bool is_left_by_burst(uint64_t free_bytes)
{
    if (LIKELY(load_relaxed(&superslab_counts.fallen) <= BURST_SLABS)) /* asked at every free of a large block */
        return false;
    uint64_t stays = retained_part(arena_claimed_bytes()) / BURST_SHARE;
    return free_bytes > stays + arena_floor_bytes() &&
           free_bytes + arena_away_bytes() > stays + BURST_BYTES && arena_has_earned();
}

/* Once it is known to be over, down to the last of it. */
bool arena_may_leave_burst(void)
{
    return arena_claimed_bytes() > BURST_BYTES || load_relaxed(&superslab_counts.fallen) > BURST_SLABS;
}

bool arena_has_excess(void)
{
    uint64_t free_bytes = free_bytes_to_give();
    return free_bytes > arena_excess_bytes() || is_left_by_burst(free_bytes);
}

/* What pays for the next step; PURGE_ASKED_FOR: nothing does, or there is no reason to. */
static enum purge_reason reason_now(uint64_t now_ms)
{
    bool has_credit = arena_has_credit(now_ms);
    uint64_t free_bytes = free_bytes_to_give();
    if (is_left_by_burst(free_bytes))
        return PURGE_EARNED;
    return has_credit && free_bytes > arena_excess_bytes() ? PURGE_DUE : PURGE_ASKED_FOR;
}

/* The next SuperSlab below `cursor`, or from the top, that may have free slabs; 0: none within reach. */
static uint32_t next_vacant_below(uint32_t cursor)
{
    uint32_t end = load_acquire(&arena.next);
    if (cursor == 0 || cursor > end)
        cursor = end;
    while (cursor > window.first_superslab) {
        uint32_t w = (cursor - 1) / 64;
        uint64_t below = load_acquire(&arena_vacant[w]);
        if (cursor % 64 != 0)
            below &= ((uint64_t)1 << (cursor % 64)) - 1;
        if (below != 0)
            return w * 64 + highest_bit(below);
        cursor = w * 64;
    }
    return 0;
}

/* The highest `most` of the bits. */
static uint32_t highest_bits(uint32_t mask, unsigned most)
{
    for (unsigned count = count_bits(mask); count > most; count--)
        mask &= mask - 1;
    return mask;
}

/* Returns slabs' worth of work; 0: there was none to do here. An empty SuperSlab is unmapped with its last pages. */
static unsigned give_back_in(uint32_t superslab, unsigned most, enum purge_reason reason)
{
    const struct superslab *s = &superslab_table[superslab];
    uint32_t free_mask = load_relaxed(&s->free_mask);
    uint32_t dirty = free_mask & load_relaxed(&s->dirty_mask);
    if (load_acquire(&s->state) != SUPERSLAB_MAPPED || load_relaxed(&s->prewarmed) != 0)
        return 0;
    if (dirty == 0) /* several threads may have purged it piece by piece: it goes, and its records with it */
        return free_mask == UINT32_MAX && arena_release_superslab(superslab, reason);
    unsigned count = count_bits(dirty);
    if (!superslab_is_huge(s) && count > most) {
        arena_purge_free(superslab, highest_bits(dirty, most), reason);
        return most;
    }
    if (free_mask != UINT32_MAX || !arena_release_superslab(superslab, reason))
        arena_purge_free(superslab, free_mask, reason);
    return count; /* or tried: a huge page may refuse */
}

SLOW void arena_give_back_excess(size_t bytes)
{
    const uint64_t now_ms = os_clock_ms();
    unsigned left = (unsigned)(bytes / SLAB_BYTES);
    uint32_t superslab = load_relaxed(&excess_cursor);
    for (unsigned visits = EXCESS_VISITS + left / SUPERSLAB_SLABS; left != 0 && visits != 0; visits--) {
        enum purge_reason reason = reason_now(now_ms);
        if (reason == PURGE_ASKED_FOR)
            break;
        size_t step = left < SUPERSLAB_SLABS ? left * SLAB_BYTES : SUPERSLAB_BYTES;
        if (spare_give_back(step, UINT64_MAX, reason) != 0) { /* they serve huge blocks alone, free slabs serve all */
            left -= (unsigned)(step / SLAB_BYTES);
            continue;
        }
        superslab = next_vacant_below(superslab);
        if (superslab == 0) /* from the top once more: frees may have come behind the cursor */
            continue;
        unsigned done = give_back_in(superslab, left, reason);
        left -= done < left ? done : left;
    }
    store_relaxed(&excess_cursor, superslab == 0 ? 0 : superslab + 1); /* there may be more where the work ran out */
}
