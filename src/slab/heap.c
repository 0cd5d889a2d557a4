#include "slab/heap.h"

#include "arena/meta.h"
#include "base/check.h"
#include "base/upcall.h"
#include "os/os.h"
#include "slab/heap_internal.h"
#include "slab/pages.h"
#include "slab/take.h"

/* Slabs that the first of a list is compared with when the next one is chosen: one, for each slab that is used up, so that
 * the sparsest met so far waits behind all others; more, where a page fault or another heap's lock is paid for. */
enum { LOOKS_USUALLY = 1, LOOKS_RARELY = 8 };

enum {
    /* Some call has to wait for all of a batch: see decision 0010. Slabs that one takes from, and none more when it is half
     * full. */
    REFILL_SLABS = 4,
    REFILL_DRAINS = 4, /* words of blocks freed elsewhere that it looks at; again, where these hold none of its bin ... */
    REFILL_LOOKS = 8,  /* ... or the heap grows while they wait */
};

void heap_list_push(struct heap *h, uint32_t slab)
{
    struct slab *s = slab_at(slab);
    struct heap_bin *b = &h->bins[s->bin];
    s->prev = SLAB_NONE;
    s->next = b->list;
    if (b->list != SLAB_NONE)
        slab_at(b->list)->prev = slab;
    b->list = slab;
    s->state = SLAB_LISTED;
}

FAST void list_remove(struct heap *h, uint32_t slab)
{
    struct slab *s = slab_at(slab);
    if (UNLIKELY(h->purge_next == slab))
        h->purge_next = s->next;
    if (s->prev != SLAB_NONE)
        slab_at(s->prev)->next = s->next;
    else
        h->bins[s->bin].list = s->next;
    if (s->next != SLAB_NONE)
        slab_at(s->next)->prev = s->prev;
    s->next = s->prev = SLAB_NONE;
}

void heap_list_remove(struct heap *h, uint32_t slab)
{
    list_remove(h, slab);
}

void heap_set_map(uint32_t slab, uint32_t slabs, uint32_t word)
{
    for (uint32_t i = 0; i < slabs; i++)
        store_release(window_word(slab + i), word);
}

/* A remote free that came after the block's slab had been given back would free somebody else's block one day. */
static void check_no_remote_bits(uint32_t slab)
{
    const struct bin_info *info = bin_info(slab_at(slab)->bin);
    for (unsigned w = 0; w < info->word_count; w++)
        CHECK(load_relaxed(remote_word(slab, w)) == 0, "double free, in the slab at", window_slab_address(slab));
}

/* ATTACH. We hold the slab's token, it has no map words and no remote bits. */
static void slab_attach(struct heap *h, uint32_t slab, unsigned bin)
{
    struct remote *r = remote_at(slab);
    slab_init(slab, bin);
    /* Nobody has freed into a slab that had no owner yet, and to look would only fault its page in. The slab's record does not
     * tell: window_forget. An exchange, because a load would be a page fault of its own. */
    if (exchange_relaxed(&r->owner, h->id) != 0)
        check_no_remote_bits(slab);
    heap_set_map(slab, slab_at(slab)->run_slabs, h->id << MAP_OWNER_SHIFT | bin * BIN_STRIDE_BYTES);
    exchange_acq_rel(&r->news, 0);
    h->bins[bin].slab_count++;
    h->empty_count++;
    h->slabs_attached++;
    heap_list_push(h, slab);
}

bool heap_retire_slab(struct heap *h, uint32_t slab)
{
    struct slab *s = slab_at(slab);
    uint64_t news = 0;
    if (!cas_strong_acq_rel(&remote_at(slab)->news, &news, NEWS_HELD))
        return false;
    heap_list_remove(h, slab);
    h->bins[s->bin].slab_count--;
    h->empty_count--;
    h->slabs_retired++;
    h->has_retired = true;
    if (UNLIKELY(s->purged != 0)) {
        h->purged_pages -= count_bits(s->purged);
        arena_note_held((size_t)count_bits(s->purged) << s->page_shift); /* the arena takes all of it for resident */
    }
    s->state = SLAB_UNUSED;
    heap_set_map(slab, s->run_slabs, 0);
    if (s->run_slabs == 1 && h->spare_count < h->spare_limit)
        h->spare[h->spare_count++] = slab;
    else
        arena_free(slab, s->run_slabs);
    return true;
}

/* The slab's last block has come back. It may stay with its bin, against flapping, if it is the only one; or if it is a run of
 * several slabs, and the bin has left one empty before and been refilled since: then blocks come and go, while the end of a
 * burst is one empty slab after the other. The next bin would cut the run into blocks of another size, and touch other pages
 * of it (decision 0037). */
void heap_slab_emptied(struct heap *h, uint32_t slab)
{
    const struct slab *s = slab_at(slab);
    struct heap_bin *b = &h->bins[s->bin];
    const uint32_t refills = (uint32_t)b->refill_count;
    const bool is_alone = b->list == slab && s->next == SLAB_NONE;
    const bool is_wanted = s->run_slabs > 1 && b->emptied_refills != 0 && refills != b->emptied_refills;
    b->emptied_refills = refills;
    h->empty_count++;
    if ((!is_alone && !is_wanted) || h->empty_count > HEAP_EMPTY_MAX)
        heap_retire_slab(h, slab);
}

/* A slab for `bin`, attached and listed; SLAB_NONE: memory is out. */
static uint32_t new_slab(struct heap *h, unsigned bin)
{
    uint32_t slabs = 1u << bin_info(bin)->run_slabs_log2;
    uint32_t slab;
    bool zeroed = false;
    if (load_relaxed(&heap_parked_count) != 0 && (slab = heap_steal(h, bin)) != SLAB_NONE)
        return slab;
    if (slabs == 1 && h->spare_count != 0) {
        slab = h->spare[--h->spare_count];
        if (h->spare_count < h->spare_low)
            h->spare_low = h->spare_count;
    } else {
        slab = arena_alloc(slabs, slabs, &h->superslab, &zeroed);
    }
    if (slab == SLAB_NONE)
        return SLAB_NONE;
    slab_attach(h, slab, bin);
    slab_at(slab)->untouched = zeroed;
    return slab;
}

/* Which slab of a list should serve next: the one with the fewest free blocks on resident pages, but not with none, and of
 * equals the lowest, so that sparse slabs and the top of the heap drain. Less is better. */
FAST uint64_t rank(uint32_t slab, const struct slab *s)
{
    return (uint64_t)(s->free_count - s->cold_count - 1) << 32 | slab;
}

FAST void choose(struct heap *h, unsigned bin, unsigned looks)
{
    uint32_t head = h->bins[bin].list;
    if (head == SLAB_NONE)
        return;
    const struct window_view view = window_view();
    const struct slab *s = slab_in(view, head);
    uint64_t best = rank(head, s);
    /* A look must pay: what is nearly full is taken as it comes. */
    if (best >> 32 < looks)
        return;
    for (uint32_t at = s->next; looks-- != 0 && at != SLAB_NONE; at = s->next) {
        s = slab_in(view, at);
        uint64_t at_rank = rank(at, s);
        best = at_rank < best ? at_rank : best;
    }
    uint32_t chosen = (uint32_t)best;
    if (chosen != head) {
        heap_list_remove(h, chosen);
        heap_list_push(h, chosen);
    }
}

void heap_choose_slab(struct heap *h, unsigned bin)
{
    choose(h, bin, LOOKS_RARELY);
}

/* The bin's list is empty, or only cold blocks stand in front. SLAB_NONE: memory is out. */
static uint32_t find_slab(struct heap *h, unsigned bin)
{
    const struct heap_bin *b = &h->bins[bin];
    if (b->list != SLAB_NONE)
        heap_choose_slab(h, bin); /* behind the cold one there may be another */
    if (heap_has_news(h) && (b->list == SLAB_NONE || slab_is_cold(slab_at(b->list)))) {
        for (unsigned looks = 0; looks < REFILL_LOOKS && heap_has_news(h) && (looks == 0 || b->list == SLAB_NONE); looks++)
            heap_drain_some(h, REFILL_DRAINS); /* it was other bins' */
        heap_choose_slab(h, bin);
    }
    return b->list != SLAB_NONE ? b->list : new_slab(h, bin);
}

static NOINLINE unsigned take_resident(struct heap *h, uint32_t slab, void **last, unsigned want)
{
    unsigned woken;
    unsigned taken = slab_take_resident(slab, last, want, &woken);
    h->purged_pages -= woken;
    h->pages_woken += woken;
    arena_charge_refault((size_t)woken << slab_at(slab)->page_shift);
    return taken;
}

void heap_pass_on(struct heap *h, uint32_t slab)
{
    struct slab *s = slab_at(slab);
    unsigned bin = s->bin;
    if (s->free_count == 0) {
        list_remove(h, slab);
        s->first_word = SLAB_NO_WORD;
        s->state = SLAB_FULL;
    }
    choose(h, bin, LOOKS_USUALLY);
}

uint64_t heap_moved_blocks;

void heap_report_moved(struct heap *h)
{
    fetch_add_relaxed(&heap_moved_blocks, h->moved_blocks - h->reported_blocks);
    h->reported_blocks = h->moved_blocks;
}

/* How many a batch takes. Of a slab that had no pages: its used blocks alone, if they are a quarter of the batch or more;
 * otherwise `fresh` of the others at most. */
FAST unsigned batch_of(const struct heap *h, unsigned bin, unsigned want, unsigned fresh)
{
    uint32_t slab = h->bins[bin].list;
    if (slab == SLAB_NONE || slab_at(slab)->untouched == 0 || fresh == HEAP_FRESH_ANY)
        return want;
    const struct slab *s = slab_at(slab);
    uint32_t used = slab_used_free_count(s);
    if (used >= want || used == s->free_count)
        return want;
    if (used > want / 4)
        return used;
    return used + fresh < want ? used + fresh : want;
}

unsigned heap_take(struct heap *h, unsigned bin, void **last, unsigned want, unsigned fresh)
{
    const struct heap_bin *b = &h->bins[bin];
    unsigned taken = 0;
    if (b->list != SLAB_NONE && heap_should_collect(h, slab_at(b->list), want)) {
        uint32_t used = 0;
        for (unsigned looks = 0; looks < REFILL_LOOKS && used == 0 && heap_has_news(h); looks++) {
            heap_drain_some(h, REFILL_DRAINS);
            heap_choose_slab(h, bin);
            used = b->list == SLAB_NONE ? 0 : slab_used_free_count(slab_at(b->list));
        }
        if (used != 0 && used < want && heap_has_news(h))
            want = used; /* the next batch may have more of them */
    }
    want = batch_of(h, bin, want, fresh);
    for (unsigned slabs = 0; slabs < REFILL_SLABS && taken < want - want / 2; slabs++) {
        uint32_t slab = b->list;
        if (slab == SLAB_NONE || UNLIKELY(slab_is_cold(slab_at(slab)))) {
            /* What is at hand will do; a page fault or a new slab only for an empty hand. */
            if (taken != 0 || (slab = find_slab(h, bin)) == SLAB_NONE)
                break;
        }
        struct slab *s = slab_at(slab);
        unsigned count = want - taken;
        if (s->free_count == s->block_count)
            h->empty_count--;
        s->seen = 0;
        if (LIKELY(s->purged == 0)) {
            count = count < s->free_count ? count : s->free_count;
            slab_take(slab, last - taken, count);
        } else {
            count = take_resident(h, slab, last - taken, count);
        }
        taken += count;
        if (slab_is_cold(s))
            heap_pass_on(h, slab);
    }
    return taken;
}

uint32_t heap_take_slots(struct heap *h, unsigned bin, void **slots, size_t want, unsigned fresh)
{
    const unsigned most = refill_scattered(want);
    const unsigned taken = heap_take(h, bin, slots + most, most, fresh);
    if (UNLIKELY(taken < most))
        __builtin_memmove(slots + 1, slots + 1 + most - taken, taken * sizeof *slots);
    return taken;
}

unsigned heap_refill_sparing(struct heap *h, unsigned bin, void **last, unsigned want, unsigned fresh)
{
    lock_acquire(&h->lock);
    const unsigned taken = heap_take(h, bin, last, want, fresh);
    heap_count_refill(h, &h->bins[bin], taken);
    lock_release(&h->lock);
    return taken;
}

unsigned heap_refill(struct heap *h, unsigned bin, void **last, unsigned want)
{
    return heap_refill_sparing(h, bin, last, want, HEAP_FRESH_ANY);
}

bool heap_age(struct heap *h, bool all)
{
    if (heap_has_news(h))
        heap_drain(h);
    for (unsigned bin = 0; bin < BIN_COUNT && h->empty_count != 0; bin++) {
        struct heap_bin *b = &h->bins[bin];
        if (all || (int32_t)(b->emptied_refills - b->aged_refills) <= 0) { /* none has been left empty and taken up again */
            for (uint32_t slab = b->list, next; slab != SLAB_NONE; slab = next) {
                const struct slab *s = slab_at(slab);
                next = s->next;
                if (s->free_count == s->block_count)
                    heap_retire_slab(h, slab);
            }
        }
    }
    for (unsigned bin = 0; bin < BIN_COUNT; bin++)
        h->bins[bin].aged_refills = (uint32_t)h->bins[bin].refill_count;
    uint32_t unused = all ? h->spare_count : h->spare_low;
    while (unused-- > 0 && h->spare_count > 0)
        arena_free(h->spare[--h->spare_count], 1);
    h->spare_low = h->spare_count;
    if (load_relaxed(&h->state) == HEAP_PARKED)
        heap_offer(h);
    return heap_purge_pages(h, os_clock_ms());
}

void heap_set_spare_limit(struct heap *h, uint32_t limit)
{
    lock_acquire(&h->lock);
    h->spare_limit = limit;
    while (h->spare_count > limit)
        arena_free(h->spare[--h->spare_count], 1);
    if (h->spare_low > h->spare_count)
        h->spare_low = h->spare_count;
    lock_release(&h->lock);
}
