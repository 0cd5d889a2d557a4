/* What the process may use, and what follows from it. The limits are asked for once the process holds enough to make
 * them matter, so that a short command does not pay for the question; from then on the budgets of caches and of
 * retained memory are parts of them, unless the user set them. Nothing is retained near the limit, nor while tasks wait
 * for memory: a control group also holds other processes and the files that they read, of which no sum of ours knows. */
#include <string.h>

#include "arena/usage.h"
#include "config/policy.h"
#include "lifecycle/lifecycle.h"

/* No limit that a program could live under is near before that. */
#define ASK_FROM_BYTES MEMORY_LIMIT_MIN_BYTES

enum {
    NEAR_SHARE = 8,       /* near: when less than this part of the limit is left */
    NEAR_PERIOD_MS = 100, /* what goes back at once may be wanted again at once: not at every tick */
    STALL_PERIOD_MS = 1000,
    STALL_US = 10000, /* in a period: tasks waited for memory for 1 % of the time */
};

/* Under the tick lock. */
static bool asked;
static uint64_t reclaimed_ms;
static struct {
    char file[OS_PATH_BYTES]; /* "": there is none */
    uint64_t read_ms;
    uint64_t stall_us;
} pressure;

void budgets_apply(const struct os_limits *limits)
{
    uint64_t limit_bytes = load_relaxed(&policy_live.memory_limit_bytes);
    if (limits->memory_bytes < limit_bytes)
        limit_bytes = limits->memory_bytes;
    store_relaxed(&policy_live.usable_bytes, limit_bytes);
    store_relaxed(&policy_live.cpu_count, limits->cpu_count);
    policy_derive(config_get(), limit_bytes);
    memcpy(pressure.file, limits->pressure_file, sizeof pressure.file);
    pressure.stall_us = UINT64_MAX; /* what was before is not known */
}

static bool is_near_limit(uint64_t held)
{
    const uint64_t usable = load_relaxed(&policy_live.usable_bytes);
    return held > usable - usable / NEAR_SHARE;
}

static bool has_stalled(uint64_t now_ms)
{
    uint64_t stall_us;
    if (pressure.file[0] == '\0' || now_ms - pressure.read_ms < STALL_PERIOD_MS)
        return false;
    pressure.read_ms = now_ms;
    if (!os_memory_stall_us(pressure.file, &stall_us))
        return false;
    const bool stalled = stall_us > pressure.stall_us && stall_us - pressure.stall_us >= STALL_US;
    pressure.stall_us = stall_us;
    return stalled;
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
    if (!(is_near_limit(held) && now_ms - reclaimed_ms >= NEAR_PERIOD_MS) && !has_stalled(now_ms))
        return;
    reclaimed_ms = now_ms;
    heap_reclaim_others(NULL); /* and the own one: its lock is free here */
    arena_purge_all();
}
