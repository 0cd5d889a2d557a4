#include "base/tick.h"

#include "base/atomic.h"
#include "base/check.h"
#include "base/lock.h"

enum { TICK_MAX = 8 };

static tick_fn tick_table[TICK_MAX];
static unsigned tick_count;
static uint64_t tick_last_ms; /* atomic relaxed; written under tick_running */
static struct lock tick_running = LOCK_INIT(LOCK_TICK);

void tick_register(tick_fn fn)
{
    CHECK(tick_count < TICK_MAX, "internal error: tick table full", NULL);
    tick_table[tick_count++] = fn;
}

SLOW void tick_run(uint64_t now_ms)
{
    /* Signed: a thread that was held up between reading the clock and coming here may be behind the last tick. */
    if ((int64_t)(now_ms - load_relaxed(&tick_last_ms)) < TICK_PERIOD_MS || !lock_try(&tick_running))
        return;
    if ((int64_t)(now_ms - tick_last_ms) >= TICK_PERIOD_MS) {
        store_relaxed(&tick_last_ms, now_ms);
        for (unsigned i = 0; i < tick_count; i++)
            tick_table[i](now_ms);
    }
    lock_release(&tick_running);
}

struct lock *tick_lock(void)
{
    return &tick_running;
}
