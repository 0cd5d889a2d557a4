/* What the process may use, and what follows from it. The limits are asked for once the process holds enough to make
 * them matter, so that a short command does not pay for the question; from then on the budgets of caches and of retained
 * memory are parts of them, unless the user set them, and near the limit nothing is retained at all. */
#include "arena/usage.h"
#include "config/policy.h"
#include "lifecycle/lifecycle.h"

/* No limit that a program could live under is near before that. */
#define ASK_FROM_BYTES MEMORY_LIMIT_MIN_BYTES

enum {
    NEAR_SHARE = 8,       /* near: when less than this part of the limit is left */
    NEAR_PERIOD_MS = 100, /* what comes back at once may be wanted again at once: not at every tick */
};

/* Under the tick lock. */
static bool asked;
static uint64_t reclaimed_ms;

void budgets_apply(const struct os_limits *limits)
{
    uint64_t limit_bytes = load_relaxed(&policy_live.memory_limit_bytes);
    if (limits->memory_bytes < limit_bytes)
        limit_bytes = limits->memory_bytes;
    store_relaxed(&policy_live.usable_bytes, limit_bytes);
    store_relaxed(&policy_live.cpu_count, limits->cpu_count);
    policy_derive(config_get(), limit_bytes);
}

void budgets_tick(uint64_t now_ms)
{
    const uint64_t held = usage_bytes();
    if (held < ASK_FROM_BYTES)
        return;
    if (!asked) {
        struct os_limits limits;
        os_limits_read("", &limits);
        budgets_apply(&limits);
        asked = true;
    }
    const uint64_t usable = load_relaxed(&policy_live.usable_bytes);
    if (held <= usable - usable / NEAR_SHARE || now_ms - reclaimed_ms < NEAR_PERIOD_MS)
        return;
    reclaimed_ms = now_ms;
    heap_reclaim_others(NULL); /* and the own one: its lock is free here */
    arena_purge_all();
}
