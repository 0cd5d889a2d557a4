/* Giving back what is too much, without waiting for its time.
 *
 * A process that frees a great deal and then falls silent has no more ticks. So while far too many free pages wait, slow
 * paths give some back themselves: some after each free of a large block, some with every tick's look at the clock; the
 * highest addresses first, because new runs come from the lowest. No lock is held then, and the work of one call is
 * bounded by what it frees. */
#include "arena/arena_internal.h"
#include "config/policy.h"
#include "os/os.h"

enum {
    EXCESS_VISITS = 64, /* vacant SuperSlabs that one call looks at */
};

/* Counts as in use, when it is asked how many free pages are too many. */
#define EXCESS_BASE_BYTES ((uint64_t)128 << 20)

/* One thread at a time looks for excess: exchange acquire, store release. */
static uint32_t excess_busy;
static uint32_t excess_cursor; /* under excess_busy: the SuperSlab looked at last, going down */

uint64_t arena_excess_bytes(void)
{
    uint64_t base = arena_claimed_bytes() + EXCESS_BASE_BYTES;
    uint64_t usual = base / RATIO_ONE_PPM * load_relaxed(&policy_live.retained_ratio_ppm);
    uint64_t most = load_relaxed(&policy_live.retained_bytes);
    return most != 0 && most < usual ? most : usual;
}

bool arena_has_excess(void)
{
    return arena_free_resident_bytes() > arena_excess_bytes();
}

/* The next SuperSlab below excess_cursor that may have free slabs; 0: none within reach. */
static uint32_t next_vacant_below(void)
{
    uint32_t end = load_acquire(&arena.next);
    if (excess_cursor == 0 || excess_cursor > end)
        excess_cursor = end;
    while (excess_cursor > window.first_superslab) {
        uint32_t w = (excess_cursor - 1) / 64;
        uint64_t below = load_acquire(&arena_vacant[w]);
        if (excess_cursor % 64 != 0)
            below &= ((uint64_t)1 << (excess_cursor % 64)) - 1;
        if (below != 0)
            return excess_cursor = w * 64 + highest_bit(below);
        excess_cursor = w * 64;
    }
    return excess_cursor = 0;
}

SLOW void arena_give_back_excess(unsigned superslabs)
{
    if (exchange_acquire(&excess_busy, 1) != 0)
        return;
    if (arena_has_credit(os_clock_ms())) {
        unsigned work = 0;
        for (unsigned visits = 0; work < superslabs && visits < EXCESS_VISITS && arena_has_excess(); visits++) {
            uint32_t superslab = next_vacant_below();
            if (superslab == 0)
                break;
            const struct superslab *s = &superslab_table[superslab];
            uint32_t free_mask = load_relaxed(&s->free_mask);
            if (load_acquire(&s->state) != SUPERSLAB_MAPPED || load_relaxed(&s->prewarmed) != 0)
                continue;
            if (free_mask == UINT32_MAX && arena_release_superslab(superslab, PURGE_DUE)) {
                work++;
            } else if ((free_mask & load_relaxed(&s->dirty_mask)) != 0) {
                arena_purge_free(superslab, free_mask, PURGE_DUE);
                work++; /* or tried: a huge page may refuse */
            }
        }
    }
    store_release(&excess_busy, 0);
}

void arena_forget_excess_worker(void)
{
    store_relaxed(&excess_busy, 0);
}
