/* What the process may use, and what follows from it. The limits are asked for once, while the process starts: later it may have given up
 * the right to open files, and would be killed for the question (docs/decisions/0022-asked-while-the-process-starts.md). From
 * then on the budgets of caches and of retained memory are parts of them, unless the user set them. Nothing is retained
 * near the limit. */
#include "arena/usage.h"
#include "config/policy.h"
#include "lifecycle/lifecycle.h"

enum {
    NEAR_SHARE = 8,       /* near: when less than this part of the limit is left */
    NEAR_PERIOD_MS = 100, /* what goes back at once may be wanted again at once: not at every tick */
    NEAR_HEAPS = 64,      /* visited in one tick: it runs inside somebody's malloc */
};

/* Under the tick lock. */
static uint64_t reclaimed_ms;
static uint32_t next_heap; /* where a round over the heaps goes on; 0: none is under way */
static uint32_t next_superslab; /* where one over what is free goes on */

void budgets_apply(const struct os_limits *limits)
{
    uint64_t limit_bytes = load_relaxed(&policy_live.memory_limit_bytes);
    if (limits->memory_bytes < limit_bytes)
        limit_bytes = limits->memory_bytes;
    store_relaxed(&policy_live.usable_bytes, limit_bytes);
    store_relaxed(&policy_live.cpu_count, limits->cpu_count);
    policy_derive(config_get(), limit_bytes);
}

void budgets_start(void)
{
    struct os_limits limits;
    os_limits_read("", &limits);
    budgets_apply(&limits);
}

static bool is_near_limit(uint64_t held)
{
    const uint64_t usable = load_relaxed(&policy_live.usable_bytes);
    return usable != 0 && held > usable - usable / NEAR_SHARE; /* 0: the constructor has not asked yet */
}

void budgets_tick(uint64_t now_ms)
{
    if (!is_near_limit(usage_bytes())) {
        next_heap = next_superslab = 0;
        return;
    }
    if (next_heap == 0 && next_superslab == 0) {
        if (now_ms - reclaimed_ms < NEAR_PERIOD_MS)
            return;
        reclaimed_ms = now_ms;
        next_heap = 1;
    }
    if (next_heap != 0)
        next_heap = heap_reclaim_some(next_heap, NEAR_HEAPS, NULL); /* and the own one: its lock is free here */
    /* What is free at once, too: a round over thousands of heaps takes many ticks. */
    next_superslab = arena_purge_some(next_superslab);
}
