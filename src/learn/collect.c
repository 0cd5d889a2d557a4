#include "learn/collect.h"

#include "base/upcall.h"
#include "config/policy.h"
#include "learn/alloc_window.h"
#include "learn/memory.h"
#include "tcache/tcache.h"

/* What the bin will live under again. Of what a learner has set that is the ceiling in force, because where it has become
 * wide enough there are no misses any more that could speak for it; or, if that is more, the mean ceiling under which the
 * bin missed, because it may since have been lowered while the program took its data apart. Without a learner it is what
 * the thread's traffic has earned: how far the array had to grow. A magazine that gives entries up for a while, because
 * its bin lies idle or another needs the bytes, keeps it. The heap's lock is held, so it stays. */
static uint32_t learned_cap(const struct tcache_bin *bin)
{
    if (!config_get()->alloc_learn)
        return bin->room;
    const uint32_t ceiling = load_relaxed(&bin->ceiling);
    /* The thread may be at it, weight first: a sum is never read with a weight older than itself, which would make the
     * mean as large as one likes. The other way round it is too small, and the ceiling holds. */
    const uint64_t sum = load_acquire(&bin->cap_sum), weight = load_relaxed(&bin->cap_weight);
    const uint32_t missed = weight == 0 ? 0 : (uint32_t)((sum + weight / 2) / weight);
    return missed > ceiling ? missed : ceiling;
}

/* The heap's lock is held. */
static void add_heap(struct learned_profile *out, const struct heap *h, const struct tcache *t)
{
    if (t->checked) /* its magazines hold nothing, on purpose */
        return;
    for (unsigned bin = 0; bin < TINY_BIN_COUNT; bin++) {
        const struct heap_bin *from = &h->bins[bin];
        learn_bin_add(&out->bins[bin], learned_cap(&t->bins[bin]), from->refill_count, from->refill_blocks);
    }
}

/* The words that profiles have knobs for. */
static void read_policy(struct policy *out)
{
    out->thread_cache_bytes = load_relaxed(&policy_live.thread_cache_bytes);
    out->decay_ms = load_relaxed(&policy_live.decay_ms);
    out->decay_floor_bytes = load_relaxed(&policy_live.decay_floor_bytes);
    out->decay_rate_bytes = load_relaxed(&policy_live.decay_rate_bytes);
    out->retained_ratio_ppm = load_relaxed(&policy_live.retained_ratio_ppm);
    out->retained_superslabs = load_relaxed(&policy_live.retained_superslabs);
    out->prewarm_superslabs = load_relaxed(&policy_live.prewarm_superslabs);
}

static uint64_t count_windows(void)
{
    struct alloc_learn_totals caches;
    struct memory_totals memory;
    alloc_learn_read_totals(&caches);
    memory_read_totals(&memory);
    return caches.windows + memory.windows;
}

void learn_collect(struct learned_profile *out)
{
    *out = (struct learned_profile){.windows = count_windows()};
    read_policy(&out->policy);
    upcall_fork_recover();
    const uint32_t count = heap_count();
    for (uint32_t id = 1; id <= count; id++) {
        struct heap *h = heap_by_id(id);
        /* The stray heap has no cache; nobody gives a retired heap's lock back. */
        if (h == NULL || h == &stray_heap || load_relaxed(&h->state) == HEAP_RETIRED)
            continue;
        lock_acquire(&h->lock);
        add_heap(out, h, tcache_of_heap(h));
        lock_release(&h->lock);
    }
}
