#include "base/tick.h"

#include "base/atomic.h"
#include "base/check.h"
#include "base/lock.h"

enum { TICK_MAX = 8 };

struct tick_table {
    tick_fn functions[TICK_MAX];
    unsigned count;
};

/* Filled at start, constant afterwards. */
static struct tick_table tick_locked, tick_unlocked;
static uint64_t tick_last_ms; /* atomic relaxed; written under tick_running */
static struct lock tick_running = LOCK_INIT(LOCK_TICK);

static void table_add(struct tick_table *table, tick_fn fn)
{
    CHECK(table->count < TICK_MAX, "internal error: tick table full", NULL);
    table->functions[table->count++] = fn;
}

static void table_run(const struct tick_table *table, uint64_t now_ms)
{
    for (unsigned i = 0; i < table->count; i++)
        table->functions[i](now_ms);
}

void tick_register(tick_fn fn)
{
    table_add(&tick_locked, fn);
}

void tick_register_unlocked(tick_fn fn)
{
    table_add(&tick_unlocked, fn);
}

NEAR void tick_run(uint64_t now_ms)
{
    /* Signed: a thread that was held up between reading the clock and coming here may be behind the last tick. */
    if ((int64_t)(now_ms - load_relaxed(&tick_last_ms)) < TICK_PERIOD_MS || !lock_try(&tick_running))
        return;
    bool due = (int64_t)(now_ms - tick_last_ms) >= TICK_PERIOD_MS;
    if (due) {
        store_relaxed(&tick_last_ms, now_ms);
        table_run(&tick_locked, now_ms);
    }
    lock_release(&tick_running);
    if (due)
        table_run(&tick_unlocked, now_ms);
}

struct lock *tick_lock(void)
{
    return &tick_running;
}
