/* Purge passes over a heap's slabs: which of them have been idle long enough. */
#include "arena/meta.h"
#include "config/policy.h"
#include "os/os.h"
#include "slab/pages.h"

enum {
    STEP_SLABS = 256, /* looked at in one step of a pass ... */
    STEP_PAGES = 512, /* ... and pages given back: 2 MiB, some tenth of a millisecond */
    GAIN_SHARE = 8,   /* a slab is worth system calls for this part of its pages ... */
    GAIN_MIN = 2,     /* ... and for so many */
};

/* In slab.seen, beside the number: this state has been dealt with; or its pages lie under a huge page that was not to be
 * broken for them, and are asked for once more, when other slabs' may have added to them. */
#define SEEN_DONE 0x80000000u
#define SEEN_REFUSED 0x40000000u

static unsigned system_page_shift(void)
{
    return lowest_bit(os_page_bytes());
}

static unsigned purge(struct heap *h, uint32_t slab, unsigned page_shift, unsigned least)
{
    unsigned pages = slab_purge(slab, page_shift, least);
    if (pages == SLAB_PURGE_REFUSED)
        return pages;
    h->purged_pages += pages;
    h->pages_purged += pages;
    return pages;
}

/* Returns pages given back. */
static unsigned visit(struct heap *h, uint32_t slab, unsigned page_shift)
{
    struct slab *s = slab_at(slab);
    unsigned pages = slab_page_count(s, page_shift);
    unsigned least = pages / GAIN_SHARE < GAIN_MIN ? GAIN_MIN : pages / GAIN_SHARE;
    size_t free_bytes = (size_t)(s->free_count - s->cold_count) * bin_info(s->bin)->block_bytes;
    if (s->seen == (s->free_count | SEEN_DONE) || pages <= 1 || free_bytes >> page_shift < least)
        return 0;
    bool was_refused = s->seen == (s->free_count | SEEN_REFUSED);
    /* A refill clears the number. A slab that has only gained free blocks since was not used either: while a program frees
     * a great deal here and there no slab would ever look idle. */
    bool was_unused = s->seen != 0 && (s->seen & ~(SEEN_DONE | SEEN_REFUSED)) <= s->free_count;
    if (!was_unused && !was_refused) {
        s->seen = s->free_count;
        h->purge_again = true;
        return 0;
    }
    unsigned purged = purge(h, slab, page_shift, least);
    if (purged != SLAB_PURGE_REFUSED)
        arena_charge_credit((size_t)purged << page_shift);
    if (purged != SLAB_PURGE_REFUSED || was_refused) {
        s->seen = s->free_count | SEEN_DONE;
    } else {
        s->seen = s->free_count | SEEN_REFUSED;
        h->purge_again = true;
    }
    return purged == SLAB_PURGE_REFUSED ? 0 : purged;
}

static int64_t out_bytes(const struct heap *h)
{
    int64_t bytes = 0;
    for (unsigned bin = 0; bin < BIN_COUNT; bin++)
        bytes += h->bins[bin].outstanding * bin_info(bin)->block_bytes;
    return bytes;
}

/* A delay after the last one; or at once where more has come back since then than may lie about: who loses most of a heap
 * and then falls silent has no further tick. */
static bool pass_is_due(struct heap *h, uint64_t now_ms, uint32_t delay_ms)
{
    int64_t out = out_bytes(h);
    if (out > h->purge_out_bytes)
        h->purge_out_bytes = out;
    /* Signed: the heap may have been visited by a thread whose clock reading is newer. */
    if ((int64_t)(now_ms - h->purge_end_ms) < (int64_t)delay_ms &&
        (uint64_t)(h->purge_out_bytes - out) <= arena_excess_bytes())
        return false;
    h->purge_out_bytes = out;
    return true;
}

static bool may_steer(struct heap *h)
{
    if (load_relaxed(&policy_live.steer_blocks) == 0)
        return false;
    if (h->steers == NULL)
        h->steers = meta_alloc(BIN_COUNT * sizeof *h->steers);
    return h->steers != NULL;
}

/* The pass has been over the bin's slabs. */
static void steer(struct heap *h, unsigned bin)
{
    const struct heap_bin *b = &h->bins[bin];
    const uint64_t block_bytes = bin_info(bin)->block_bytes;
    const uint64_t out_blocks = b->outstanding < 0 ? 0 : (uint64_t)b->outstanding;
    const struct steer_look look = {
        .idle_bytes = h->pass_idle_blocks * block_bytes,
        .out_blocks = out_blocks,
        .out_bytes = out_blocks * block_bytes,
        .refilled_blocks = b->refill_blocks,
    };
    const uint64_t bit = (uint64_t)1 << bin;
    h->pass_idle_blocks = 0;
    if (may_steer(h) && steer_decide(&h->steers[bin], &look))
        h->steered |= bit;
    else
        h->steered &= ~bit;
}

bool heap_purge_pages(struct heap *h, uint64_t now_ms)
{
    uint32_t delay_ms = load_relaxed(&policy_live.page_decay_ms);
    unsigned page_shift = system_page_shift();
    if (delay_ms == PAGE_DECAY_NEVER)
        return false;
    if (h->purge_bins == 0) {
        if (!pass_is_due(h, now_ms, delay_ms))
            return h->purge_again;
        h->purge_bins = BIN_COUNT;
        h->purge_next = h->bins[BIN_COUNT - 1].list;
        h->purge_again = false;
    }
    unsigned slabs = 0, pages = 0;
    while (h->purge_bins != 0) {
        while (h->purge_next != SLAB_NONE) {
            if (slabs++ >= STEP_SLABS || pages >= STEP_PAGES || !arena_has_credit(now_ms))
                return true;
            uint32_t slab = h->purge_next;
            h->purge_next = slab_at(slab)->next;
            pages += visit(h, slab, page_shift);
            h->pass_idle_blocks += slab_at(slab)->free_count - slab_at(slab)->cold_count;
        }
        steer(h, h->purge_bins - 1);
        if (--h->purge_bins != 0)
            h->purge_next = h->bins[h->purge_bins - 1].list;
    }
    h->purge_end_ms = now_ms;
    return h->purge_again;
}

size_t heap_purge_pages_now(struct heap *h)
{
    unsigned page_shift = system_page_shift();
    size_t pages = 0;
    for (unsigned bin = 0; bin < BIN_COUNT; bin++) {
        for (uint32_t slab = h->bins[bin].list; slab != SLAB_NONE; slab = slab_at(slab)->next) {
            unsigned purged = purge(h, slab, page_shift, 1);
            pages += purged == SLAB_PURGE_REFUSED ? 0 : purged;
            slab_at(slab)->seen = slab_at(slab)->free_count | SEEN_DONE;
        }
    }
    return pages << page_shift;
}
