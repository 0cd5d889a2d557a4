#include "arena/usage.h"

#include "base/atomic.h"
#include "config/policy.h"

/* Atomic relaxed: the numbers guard no other memory. Raised by compare-and-swap, so that it never shows what will be
 * undone: a large request that is refused must not make a small one fail. Signed: when a forked child corrects it out
 * of a signal handler that interrupted a free, what is given afterwards may take it below zero. */
static int64_t held_bytes;
static uint64_t record_bytes; /* of these; atomic relaxed, and the mappings' locks are held across fork: always right */

bool usage_take(uint64_t bytes)
{
    const uint64_t limit = load_relaxed(&policy_live.memory_limit_bytes);
    int64_t held = load_relaxed(&held_bytes);
    do {
        if (UNLIKELY(bytes > limit || (held > 0 && (uint64_t)held > limit - bytes)))
            return false;
    } while (!cas_weak_relaxed(&held_bytes, &held, held + (int64_t)bytes));
    return true;
}

void usage_give(uint64_t bytes)
{
    fetch_sub_relaxed(&held_bytes, (int64_t)bytes);
}

bool usage_take_records(uint64_t bytes)
{
    if (!usage_take(bytes))
        return false;
    fetch_add_relaxed(&record_bytes, bytes);
    return true;
}

void usage_give_records(uint64_t bytes)
{
    fetch_sub_relaxed(&record_bytes, bytes);
    usage_give(bytes);
}

bool usage_has_room(uint64_t bytes)
{
    const uint64_t limit = load_relaxed(&policy_live.memory_limit_bytes);
    return bytes <= limit && usage_bytes() <= limit - bytes;
}

uint64_t usage_bytes(void)
{
    const int64_t held = load_relaxed(&held_bytes);
    return held < 0 ? 0 : (uint64_t)held;
}

uint64_t usage_record_bytes(void)
{
    return load_relaxed(&record_bytes);
}

void usage_correct(uint64_t bytes)
{
    store_relaxed(&held_bytes, (int64_t)(bytes + usage_record_bytes()));
}
