/* Thread caches that a test drives by hand. They belong to no thread unless tcache_enter says so. */
#ifndef HAKMEM_TESTS_CACHES_H
#define HAKMEM_TESTS_CACHES_H

#include "base/check.h"
#include "config/policy.h"
#include "tcache/tcache_internal.h"

static inline struct tcache *new_cache(void)
{
    static struct tcache pool[32];
    static unsigned used;
    CHECK(used < ARRAY_COUNT(pool), "a cache for the test", NULL);
    struct tcache *t = &pool[used++];
    CHECK(tcache_init(t), "memory for the test", NULL);
    return t;
}

/* The live policy as the configuration has it, but for one bin. */
static inline void set_bin_policy(unsigned bin, uint32_t cap, uint32_t refill)
{
    store_relaxed(&policy_live.bin_cap[bin], cap);
    store_relaxed(&policy_live.bin_refill[bin], refill);
}

/* The same for one cache that is there already. */
static inline void set_bin_bounds(struct tcache *t, unsigned bin, uint32_t cap, uint32_t refill)
{
    store_relaxed(&t->bins[bin].ceiling, cap);
    tcache_set_refill(t, bin, refill);
}

static inline int reset_policy(void **state)
{
    (void)state;
    policy_start(config_get());
    return 0;
}

/* What malloc does on its hit path, and after a miss. */
static inline void *cache_take(struct tcache *t, unsigned bin)
{
    void *block = hot_pop(&t->hot.bins[bin]);
    return block != NULL ? block : tcache_refill(t, bin);
}

/* What free does with a block of the cache's own heap. */
static inline void cache_give(struct tcache *t, unsigned bin, void *block)
{
    struct magazine *m = &t->hot.bins[bin];
    if (m->top >= m->end) {
        tcache_overflow(t, bin, block);
        return;
    }
    m->top[1] = block;
    store_relaxed(&m->top, m->top + 1);
}

static inline uint64_t entitled(const struct tcache *t)
{
    uint64_t bytes = 0;
    for (unsigned bin = 0; bin < BIN_COUNT; bin++)
        if (t->bins[bin].opened)
            bytes += (uint64_t)t->bins[bin].capacity * bin_info(bin)->block_bytes;
    return bytes;
}

/* Magazine invariants of every bin. */
static inline bool cache_is_valid(const struct tcache *t)
{
    for (unsigned bin = 0; bin < BIN_COUNT; bin++) {
        const struct tcache_bin *b = &t->bins[bin];
        const struct magazine *m = &t->hot.bins[bin];
        /* Until it is opened a magazine is full, so that its first free is seen. */
        if (*b->bottom != NULL || m->end != b->bottom + (b->opened ? b->capacity : 0) || m->top < b->bottom || m->top > m->end)
            return false;
        if (b->bottom < b->array || m->end >= b->array + b->slots)
            return false;
        for (unsigned i = 1; i <= magazine_count(t, bin); i++)
            if (b->bottom[i] == NULL)
                return false;
    }
    return entitled(t) == t->entitled_bytes;
}

#endif
