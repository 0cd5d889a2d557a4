/* Giving memory back: pages of free slabs, and whole SuperSlabs. A slab's pages are purged when a pass finds it free
 * and dirty for the second time in a row, so after one to two decay periods; a pass visits every SuperSlab and is
 * spread over ticks. Work per tick is bounded, because a tick runs inside somebody's malloc.
 *
 * A process that frees a great deal and then falls silent has no more ticks. So who frees a run while far too many free
 * pages wait already gives some back itself, the highest addresses first: new runs come from the lowest.
 *
 * Both draw on one credit of bytes that grows with time, so that a program which frees and allocates the same memory
 * over and over pays for giving back no more than the rate allows. */
#include "arena/arena_internal.h"
#include "base/check.h"
#include "config/policy.h"
#include "os/os.h"

enum {
    WORK_PER_TICK = 16,
    VISITS_PER_TICK = 4096,
    CREDIT_MAX_MS = 2000, /* credit not used for longer than that is lost */
    EXCESS_VISITS = 64,   /* vacant SuperSlabs that one free looks at ... */
    EXCESS_WORK = 2,      /* ... and gives pages of back: more than the free of one adds */
    SPARSE_SLABS = 8,    /* runs from this size on may turn out hardly touched ... */
    SPARSE_TURN = 32,     /* ... and one in so many is looked at */
    SAMPLE_PAGES = 16,
};

/* Free pages that are no excess: so much, and half of what is in use. */
#define EXCESS_MIN_BYTES ((uint64_t)64 << 20)

/* Atomic relaxed: written by whoever gives back. */
static struct {
    uint64_t refilled_ms;
    int64_t bytes;
} credit;

/* Any thread. One at a time looks for excess: exchange acquire, store release. */
static uint32_t excess_busy;
static uint32_t excess_cursor; /* under excess_busy: the SuperSlab looked at last, going down */
static uint32_t wide_frees;    /* atomic relaxed: any thread */

static bool has_credit(uint64_t now_ms)
{
    uint64_t rate = load_relaxed(&policy_live.decay_rate_bytes);
    if (rate == 0)
        return true;
    uint64_t last_ms = load_relaxed(&credit.refilled_ms);
    if ((int64_t)(now_ms - last_ms) > 0 && cas_strong_acquire(&credit.refilled_ms, &last_ms, now_ms)) {
        uint64_t elapsed_ms = now_ms - last_ms < CREDIT_MAX_MS ? now_ms - last_ms : CREDIT_MAX_MS;
        int64_t gained = (int64_t)(rate * elapsed_ms / 1000);
        int64_t room = (int64_t)(rate * CREDIT_MAX_MS / 1000) - load_relaxed(&credit.bytes);
        fetch_add_relaxed(&credit.bytes, gained < room ? gained : room);
    }
    return load_relaxed(&credit.bytes) > 0;
}

/* What the kernel refused to take back (locked pages) counts against the credit too: it would be tried for ever. */
static void note_given_back(size_t bytes, size_t tried_bytes)
{
    fetch_add_relaxed(&arena.purged_bytes, bytes);
    if (load_relaxed(&policy_live.decay_rate_bytes) != 0)
        fetch_sub_relaxed(&credit.bytes, (int64_t)tried_bytes);
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

/* Purges those of `slabs` that can still be claimed; of a huge page only what hugepage_to_purge says. Returns bytes given
 * back. */
static size_t purge_slabs(uint32_t superslab, uint32_t slabs, bool all)
{
    struct superslab *s = &superslab_table[superslab];
    uint32_t mine = superslab_claim_free(s, slabs);
    if (mine == 0)
        return 0;
    uint32_t due = hugepage_to_purge(superslab, mine, all);
    size_t bytes = arena_purge_claimed(superslab, due);
    arena_release_in(superslab, mine);
    note_given_back(bytes, count_bits(due) * SLAB_BYTES);
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
            superslab_note_clean(s, UINT32_MAX);
            hugepage_gone(superslab);
            store_release(&s->state, SUPERSLAB_ABSENT);
            fetch_sub_relaxed(&superslab_counts.claimed, SUPERSLAB_SLABS);
            if (superslab < arena.lowest_absent)
                arena.lowest_absent = superslab;
            fetch_add_relaxed(&arena.released, 1);
            note_given_back(count_bits(dirty) * SLAB_BYTES, count_bits(dirty) * SLAB_BYTES);
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
    return arena_free_resident_bytes() > load_relaxed(&policy_live.decay_floor_bytes);
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
        bool aged = pass_pages && (idle | ~dirty) == UINT32_MAX && is_above_floor();
        if (pass_empty > 0 && (aged || pass_empty >= retain) && release_superslab(superslab)) {
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
        superslab_note_decayed(s, (unsigned)(purge_slabs(superslab, due, false) / SLAB_BYTES));
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
        if (visits >= VISITS_PER_TICK || work >= WORK_PER_TICK || !has_credit(now_ms))
            return;
        work += visit(pass_cursor++, retain);
    }
    pass_cursor = 0;
}

/* Bytes of free pages from which on a free gives some back. */
static uint64_t excess_bytes(void)
{
    uint64_t usual = EXCESS_MIN_BYTES + arena_claimed_bytes() / 2;
    uint64_t most = load_relaxed(&policy_live.retained_bytes);
    return most != 0 && most < usual ? most : usual;
}

bool arena_has_excess(void)
{
    return arena_free_resident_bytes() > excess_bytes();
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

SLOW void arena_give_back_excess(void)
{
    if (exchange_acquire(&excess_busy, 1) != 0)
        return;
    if (has_credit(os_clock_ms())) {
        unsigned work = 0;
        for (unsigned visits = 0; work < EXCESS_WORK && visits < EXCESS_VISITS; visits++) {
            uint32_t superslab = next_vacant_below();
            if (superslab == 0)
                break;
            const struct superslab *s = &superslab_table[superslab];
            uint32_t free_mask = load_relaxed(&s->free_mask);
            if (load_acquire(&s->state) != SUPERSLAB_MAPPED || load_relaxed(&s->prewarmed) != 0)
                continue;
            if (free_mask == UINT32_MAX && release_superslab(superslab)) {
                work++;
            } else if ((free_mask & load_relaxed(&s->dirty_mask)) != 0) {
                purge_slabs(superslab, free_mask, false);
                work++;
            }
        }
    }
    store_release(&excess_busy, 0);
}

void arena_forget_excess_worker(void)
{
    store_relaxed(&excess_busy, 0);
}

static bool is_sparse(uint32_t slab, uint32_t slabs)
{
    /* Not the first page, which nearly every program writes to. Two places, because a buffer is often filled to half. */
    char *middle = window_slab_address(slab + slabs / 2);
    char *early = (char *)window_slab_address(slab) + os_page_bytes();
    size_t sample = SAMPLE_PAGES * os_page_bytes();
    return os_resident_pages(early, sample) + os_resident_pages(middle, sample) <= 2 * SAMPLE_PAGES / 8;
}

void arena_purge_if_sparse(uint32_t slab, uint32_t slabs)
{
    if (slabs < SPARSE_SLABS || fetch_add_relaxed(&wide_frees, 1) % SPARSE_TURN != SPARSE_TURN - 1 || !is_sparse(slab, slabs))
        return;
    size_t page = os_page_bytes();
    /* The first page stays: the next block that begins here will want it. */
    if (!os_purge((char *)window_slab_address(slab) + page, slabs * SLAB_BYTES - page))
        return;
    for (uint32_t at = slab + 1, end = slab + slabs; at < end; at++)
        superslab_note_clean(superslab_of_slab(at), (uint32_t)1 << at % SUPERSLAB_SLABS);
}

size_t arena_purge_all(void)
{
    return arena_purge_beyond(0);
}

size_t arena_purge_beyond(size_t keep_bytes)
{
    if (window.base == 0)
        return 0;
    size_t bytes = 0;
    uint32_t end = load_acquire(&arena.next);
    for (uint32_t i = window.first_superslab; i < end; i++) {
        struct superslab *s = &superslab_table[i];
        if (keep_bytes != 0 && arena_free_resident_bytes() <= keep_bytes)
            break;
        if (load_acquire(&s->state) != SUPERSLAB_MAPPED)
            continue;
        uint32_t dirty = count_bits(superslab_resident(s));
        if (load_relaxed(&s->free_mask) == UINT32_MAX && release_superslab(i))
            bytes += dirty * SLAB_BYTES;
        else
            bytes += purge_slabs(i, load_relaxed(&s->free_mask), true);
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
