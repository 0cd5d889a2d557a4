/* Start and end of the process. The first malloc may come before any constructor, out of the loader itself; so the
 * start is driven by need, and the constructor only makes sure that it happens and adds what libc must be up for. */
#include <pthread.h>

#include "base/tick.h"
#include "config/config.h"
#include "config/policy.h"
#include "learn/export.h"
#include "learn/memory.h"
#include "lifecycle/lifecycle.h"
#include "os/file.h"
#include "os/os.h"
#include "stats/report.h"
#include "tcache/tcache.h"

enum { START_NONE, START_RUNNING, START_DONE };

static uint32_t start_phase; /* atomic; written under start_lock, DONE with release, read with acquire */
static struct lock start_lock = LOCK_INIT(LOCK_LIFECYCLE);
THREAD_LOCAL bool start_is_mine; /* this thread is inside process_start */

struct lock *lifecycle_lock(void)
{
    return &start_lock;
}

static void decay_tick(uint64_t now_ms)
{
    arena_decay(now_ms, load_relaxed(&policy_live.decay_ms), load_relaxed(&policy_live.retained_superslabs));
}

static void heaps_tick(uint64_t now_ms)
{
    (void)now_ms;
    heap_age_next();
}

static void start_layers(void)
{
    os_start();
    config_start(os_environment(), os_is_secure());
    const struct config *config = config_get();
    policy_start(config);
    window_start();
    arena_start(load_relaxed(&policy_live.prewarm_superslabs));
    heap_register(&stray_heap);
    tick_register(decay_tick);
    tick_register(heaps_tick);
    tick_register(budgets_tick);
    if (config->mem_learn && window.base != 0) {
        memory_start(config);
        tick_register_unlocked(memory_tick);
    }
    if (config->stats_enable && config->stats_interval_sec != 0)
        tick_register_unlocked(stats_tick);
    thread_note_first();
    thread_make_key();
}

bool process_start(void)
{
    if (LIKELY(load_acquire(&start_phase) == START_DONE))
        return true;
    if (start_is_mine)
        return false;
    lock_acquire(&start_lock);
    if (start_phase == START_NONE) {
        start_is_mine = true;
        store_relaxed(&start_phase, START_RUNNING);
        start_layers();
        store_release(&start_phase, START_DONE);
        start_is_mine = false;
    }
    lock_release(&start_lock);
    return true;
}

/* Whatever is learned from files: a program may forbid itself to open any before it needs its second SuperSlab. */
static void ask_system(void)
{
    os_huge_page_mode();
    os_node_count();
    budgets_start();
}

__attribute__((constructor(101))) static void process_constructor(void)
{
    process_start();
    ask_system();
    os_note_stderr();
    fork_register_handlers();
    if (config_get()->stats_enable)
        stats_start();
    if (config_get()->learn_export[0] != '\0')
        export_start();
}

__attribute__((destructor(101))) static void process_destructor(void)
{
    if (config_get()->stats_enable)
        stats_at_exit();
    if (config_get()->learn_export[0] != '\0')
        export_at_exit();
    /* Last, because it may abort. Who calls exit from a handler that interrupted malloc may have a block halfway in. */
    if (lock_ranks_held == 0)
        tcache_check_at_exit();
}
