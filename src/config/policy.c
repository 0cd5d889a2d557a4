#include "config/policy.h"

#include "base/atomic.h"

struct policy policy_live;

enum {
    CACHE_SHARE = 16,   /* this part of the memory may be in magazines ... */
    RETAINED_SHARE = 8, /* ... and this one in free pages */
};

#define CACHE_MIN_BYTES ((uint64_t)1 << 20)
#define RETAINED_MIN_BYTES ((uint64_t)2 << 20)

static uint64_t share_of(uint64_t bytes, unsigned share, uint64_t least)
{
    return bytes / share > least ? bytes / share : least;
}

void policy_derive(const struct config *config, uint64_t limit_bytes)
{
    uint64_t cache = config->cache_bytes;
    if (cache == 0)
        cache = limit_bytes == NO_MEMORY_LIMIT ? NO_CACHE_BOUND : share_of(limit_bytes, CACHE_SHARE, CACHE_MIN_BYTES);
    store_relaxed(&policy_live.cache_bytes, cache);
    uint64_t retained = config->retained_bytes;
    if (retained == 0 && limit_bytes != NO_MEMORY_LIMIT)
        retained = share_of(limit_bytes, RETAINED_SHARE, RETAINED_MIN_BYTES);
    store_relaxed(&policy_live.retained_bytes, retained);
    store_relaxed(&policy_live.retained_ratio_ppm, config->retained_ratio_ppm);
}

static uint64_t memory_limit(uint64_t bytes)
{
    if (bytes == 0)
        return NO_MEMORY_LIMIT;
    return bytes > MEMORY_LIMIT_MIN_BYTES ? bytes : MEMORY_LIMIT_MIN_BYTES;
}

void policy_start(const struct config *config)
{
    const uint64_t limit_bytes = memory_limit(config->memory_limit_bytes);
    store_relaxed(&policy_live.memory_limit_bytes, limit_bytes);
    policy_derive(config, limit_bytes);
    store_relaxed(&policy_live.thread_cache_bytes, config->thread_cache_bytes);
    store_relaxed(&policy_live.decay_ms, config->decay_ms);
    store_relaxed(&policy_live.decay_floor_bytes, config->decay_floor_bytes);
    store_relaxed(&policy_live.decay_rate_bytes, config->decay_rate_bytes);
    store_relaxed(&policy_live.page_decay_ms,
                  config->page_purge ? config->decay_ms * config->page_decay_factor : PAGE_DECAY_NEVER);
    store_relaxed(&policy_live.retained_superslabs, config->superslab_reuse ? RETAIN_ALL_SUPERSLABS : 1);
    store_relaxed(&policy_live.prewarm_superslabs, config->superslab_prewarm_count);
    store_relaxed(&policy_live.steer_blocks, config->steer_blocks);
    store_relaxed(&policy_live.thp, config_thp(config));
    for (uint32_t bin = 0; bin < TINY_BIN_COUNT; bin++) {
        store_relaxed(&policy_live.bin_cap[bin], config->bin_cap[bin]);
        store_relaxed(&policy_live.bin_refill[bin], config->bin_refill[bin]);
    }
}
