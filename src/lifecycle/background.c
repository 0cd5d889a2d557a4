/* Ticks need a thread that calls malloc, and what a sleeping thread has freed needs somebody who gives it back. This
 * thread is that somebody. It does the periodic work when nobody else does, and harvests heaps that nobody uses: their
 * remote frees, empty and spare slabs, never a magazine or an outbox, which are their thread's alone.
 *
 * When nothing has moved for a while it sleeps until a slow path makes something free. How it makes sure that no such
 * event is lost, and what its states mean, is in docs/concurrency.md, "The background thread". It has no cache and
 * allocates nothing. */
#define _GNU_SOURCE
#include "lifecycle/background.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>

#include "base/tick.h"
#include "base/upcall.h"
#include "config/config.h"
#include "config/policy.h"
#include "lifecycle/lifecycle.h"
#include "os/os.h"

enum {
    STACK_BYTES = 128 * 1024, /* no libc asks for more at least; what is not touched costs nothing */
    LOOK_MIN_MS = 100,        /* however short the decay: a step costs some microseconds */
    STEPS_PER_LOOK = 4,
    STEP_MAX_MS = 10000,    /* the decay may be an hour, and may be changed to less meanwhile */
    BUSY_STEPS_PER_LOOK = 64, /* while pages go back: a tick gives back a bounded part of what is due */
    BUSY_STEP_MAX_MS = 100,
    QUIET_LOOKS = 4,          /* decay takes up to two periods, and is given two more to begin ... */
    STUCK_LOOKS = 64,         /* ... but longer while pages above the floor are left: its rate may be low */
    HEAPS_PER_HOLD = 64,      /* harvested at a stretch: fork waits meanwhile, ticks are skipped */
};

uint32_t upcall_background;

/* The thread that started ours, by the address of its lock_ranks_held: the main thread. Atomic relaxed: it writes the
 * word itself, and others never find themselves. */
static uint32_t *background_starter;

/* Atomic relaxed; written by the background thread. */
static struct background_totals totals;

/* Its own; nobody else sees it. */
struct background {
    uint64_t looked_ms;  /* when it last looked at the heaps */
    uint64_t free_bytes; /* the arena's free pages at the last step */
    uint64_t pause_ms;   /* before the next step */
    bool moved;          /* something has, since the last look */
    bool announced;      /* that it will sleep; since then ... */
    unsigned quiet;      /* ... so many looks in which nothing had moved, and nobody woke it */
};

static uint64_t clamp(uint64_t value, uint64_t min, uint64_t max)
{
    return value < min ? min : value > max ? max : value;
}

/* With the tick lock, for which fork waits: the child would have to write off a heap whose lock is in the hands of a
 * thread that it does not have. Returns true if a heap is in use. */
static bool harvest_heaps(void)
{
    bool moved = false;
    uint32_t count = heap_count();
    for (uint32_t id = 1; id <= count;) {
        lock_acquire(tick_lock());
        for (unsigned i = 0; i < HEAPS_PER_HOLD && id <= count; i++)
            moved |= heap_harvest(id++);
        lock_release(tick_lock());
    }
    return moved;
}

/* At the end of a look. It is announced that the thread will sleep long before it does: see docs/concurrency.md. */
static void consider_sleep(struct background *b)
{
    uint32_t awake = BACKGROUND_AWAKE, asleep = BACKGROUND_ASLEEP;
    if (b->moved) {
        cas_strong_acq_rel(&upcall_background, &asleep, BACKGROUND_AWAKE); /* fails: it is already, or STOPPED */
        b->announced = false;
    } else if (!b->announced) {
        b->announced = cas_strong_acq_rel(&upcall_background, &awake, BACKGROUND_ASLEEP);
        b->quiet = 0;
    } else if (b->quiet < STUCK_LOOKS) {
        b->quiet++;
    }
    b->moved = false;
}

/* Where pages cannot be given back (locked ones, those prewarmed) it does not try for ever. */
static bool nothing_left(const struct background *b)
{
    bool above_floor = b->free_bytes > arena_floor_bytes();
    return b->announced && b->quiet >= (above_floor ? STUCK_LOOKS : QUIET_LOOKS);
}

static void step(struct background *b)
{
    uint64_t now_ms = os_clock_ms();
    uint64_t look_ms = clamp(load_relaxed(&policy_live.decay_ms), LOOK_MIN_MS, UINT32_MAX);
    upcall_fork_recover();
    tick_run(now_ms);
    uint64_t free_bytes = arena_free_resident_bytes();
    bool giving_back = free_bytes < b->free_bytes;
    b->moved |= free_bytes != b->free_bytes;
    b->free_bytes = free_bytes;
    if (now_ms - b->looked_ms >= look_ms) {
        b->looked_ms = now_ms;
        b->moved |= harvest_heaps();
        consider_sleep(b);
    }
    if (nothing_left(b))
        b->pause_ms = OS_FOREVER;
    else if (giving_back)
        b->pause_ms = clamp(look_ms / BUSY_STEPS_PER_LOOK, TICK_PERIOD_MS, BUSY_STEP_MAX_MS);
    else
        b->pause_ms = clamp(look_ms / STEPS_PER_LOOK, TICK_PERIOD_MS, STEP_MAX_MS);
    store_relaxed(&totals.steps, totals.steps + 1);
    store_relaxed(&totals.sleeps, totals.sleeps + (b->pause_ms == OS_FOREVER));
}

/* Until the next step is due. False: the thread is to end. */
static bool wait_for_step(struct background *b)
{
    if (b->announced) {
        os_futex_wait(&upcall_background, BACKGROUND_ASLEEP, b->pause_ms);
        if (load_acquire(&upcall_background) == BACKGROUND_ASLEEP)
            return true;
        /* Woken, or it was while it made its step. Whoever did so is at work; so a burst costs one wake-up. */
        b->announced = false;
        b->moved = true;
        b->pause_ms = LOOK_MIN_MS;
    }
    os_futex_wait(&upcall_background, BACKGROUND_AWAKE, b->pause_ms);
    return load_acquire(&upcall_background) != BACKGROUND_STOPPED;
}

static void *background_main(void *unused)
{
    struct background b = { .looked_ms = os_clock_ms(), .pause_ms = LOOK_MIN_MS };
    (void)unused;
    os_name_thread("hakmem");
    while (wait_for_step(&b))
        step(&b);
    return NULL;
}

/* A program's signals are its own threads' business: ours has them all blocked from its first instruction on. libc keeps
 * those out of the set that it needs itself, for setuid and the like. */
static bool create_thread(upcall_create_thread *create)
{
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    size_t usual_bytes;
    if (pthread_attr_init(&attributes) != 0)
        return false;
    pthread_attr_getstacksize(&attributes, &usual_bytes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = create(&thread, &attributes, background_main, NULL);
    if (error == EINVAL && pthread_attr_setstacksize(&attributes, usual_bytes) == 0)
        /* libc puts a thread's thread-local data into its stack, and this program's is large. */
        error = create(&thread, &attributes, background_main, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return error == 0;
}

/* Only the main thread starts it, and only while its own end will be noticed: that of a thread with a cache is. */
static bool may_start(void)
{
    return process_start() && config_get()->background && !os_is_secure() && lock_ranks_held == 0 &&
           os_thread_id() == os_process_id() &&
           (tcache_self() != NULL || upcall_thread_attach() != NULL);
}

NEAR void upcall_background_start(upcall_create_thread *create)
{
    int saved = errno;
    uint32_t none = BACKGROUND_NONE;
    if (may_start() && cas_strong_acquire(&upcall_background, &none, BACKGROUND_AWAKE)) {
        store_relaxed(&background_starter, &lock_ranks_held);
        if (!create_thread(create))
            store_relaxed(&upcall_background, BACKGROUND_NONE); /* refused: with the next thread it is tried again */
    }
    errno = saved;
}

SLOW void upcall_background_wake(void)
{
    uint32_t asleep = BACKGROUND_ASLEEP;
    if (cas_strong_acq_rel(&upcall_background, &asleep, BACKGROUND_AWAKE))
        os_futex_wake(&upcall_background);
}

NEAR void background_thread_exits(void)
{
    if (load_relaxed(&upcall_background) == BACKGROUND_NONE || load_relaxed(&background_starter) != &lock_ranks_held)
        return;
    exchange_acq_rel(&upcall_background, BACKGROUND_STOPPED);
    os_futex_wake(&upcall_background);
}

void background_forget(void)
{
    store_relaxed(&upcall_background, BACKGROUND_NONE);
}

void background_read_totals(struct background_totals *out)
{
    out->steps = load_relaxed(&totals.steps);
    out->sleeps = load_relaxed(&totals.sleeps);
}
