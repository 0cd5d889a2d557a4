/* Ranked futex locks. A thread takes locks in rising rank only; another thread's heap lock is only ever tried.
 * Debug builds check the order. No lock is held across a call out of the library.
 *
 * Around fork() the forking thread holds the locks that must be consistent in the child (lock_fork_take). Other
 * libraries' fork handlers run in that thread meanwhile and may call malloc: for that thread alone those locks are
 * open (acquire and release do nothing), for every other thread they are held. */
#ifndef HAKMEM_BASE_LOCK_H
#define HAKMEM_BASE_LOCK_H

#include "base/atomic.h"
#include "base/attr.h"

enum lock_rank {
    LOCK_LIFECYCLE, /* process start, thread registration */
    LOCK_TICK,      /* one thread at a time runs the periodic work; only ever tried */
    LOCK_PARKED,    /* the list of heaps without a thread */
    LOCK_HEAP,      /* one heap's slab state; a second one only by try (fork: the stray heap's as well) */
    LOCK_LARGE,     /* the table of huge mappings */
    LOCK_SPARE,     /* spare mappings on their way back to the kernel */
    LOCK_ARENA,     /* SuperSlab slots coming and going, growth of the window */
    LOCK_HEAP_TABLE, /* heap ids */
    LOCK_META,      /* metadata memory */
    LOCK_RANK_COUNT
};

struct lock {
    uint32_t word;    /* atomic; 0 free, 1 held, 2 held and somebody may be waiting. CAS acquire, exchange release */
    uint32_t forking; /* atomic relaxed; 1 while a forking thread holds it across fork(); written by that thread */
    enum lock_rank rank;
};

#define LOCK_INIT(r) { .word = 0, .forking = 0, .rank = (r) }

SLOW void lock_acquire_contended(struct lock *l);
SLOW void lock_release_contended(struct lock *l);
/* The calling thread holds l across a fork in progress, or is about to abort. */
bool lock_is_open(const struct lock *l);
/* A thread is about to abort. Atomic relaxed: written by it, and it alone must see it. */
extern uint32_t lock_aborting;
/* The process is about to abort, maybe out of a critical section. A SIGABRT handler may call malloc: from now on every
 * lock is open for this thread, and it unlocks none. */
void lock_open_all(void);

/* The locks this thread holds, counted by rank, LOCK_RANK_BITS a rank. Its address names the thread, and is the same in a
 * forked child. */
THREAD_LOCAL_EXTERN uint32_t lock_ranks_held;
enum { LOCK_RANK_BITS = 3 };
_Static_assert(LOCK_RANK_BITS * LOCK_RANK_COUNT <= 32, "a count for every rank");

#ifdef HAKMEM_DEBUG_CHECKS
void lock_check_order(const struct lock *l);
#else
#define lock_check_order(l) ((void)0)
#endif

/* Counted before the lock is taken and after it is given back: a signal handler in between must see that this thread may
 * hold it (lifecycle/fork.c). The barrier is the compiler's: the handler runs on the same core. */
FAST void lock_count_up(enum lock_rank rank)
{
    lock_ranks_held += 1u << (rank * LOCK_RANK_BITS);
    __asm__ volatile("" ::: "memory");
}

FAST void lock_count_down(enum lock_rank rank)
{
    __asm__ volatile("" ::: "memory");
    lock_ranks_held -= 1u << (rank * LOCK_RANK_BITS);
}

FAST void lock_init(struct lock *l, enum lock_rank rank)
{
    store_relaxed(&l->word, 0);
    store_relaxed(&l->forking, 0);
    l->rank = rank;
}

/* `rank` is the lock's: where it is a constant, it need not be looked up. */
FAST void lock_acquire_as(struct lock *l, enum lock_rank rank)
{
    uint32_t expected = 0;
    lock_check_order(l);
    lock_count_up(rank);
    if (UNLIKELY(!cas_strong_acquire(&l->word, &expected, 1))) {
        if (lock_is_open(l))
            lock_count_down(rank);
        else
            lock_acquire_contended(l);
    }
}

FAST void lock_acquire(struct lock *l)
{
    lock_acquire_as(l, l->rank);
}

FAST bool lock_try(struct lock *l)
{
    uint32_t expected = 0;
    lock_count_up(l->rank);
    if (LIKELY(cas_strong_acquire(&l->word, &expected, 1)))
        return true;
    lock_count_down(l->rank);
    return lock_is_open(l);
}

FAST void lock_release_as(struct lock *l, enum lock_rank rank)
{
    if (UNLIKELY(load_relaxed(&l->forking) | load_relaxed(&lock_aborting)) && lock_is_open(l))
        return;
    if (UNLIKELY(exchange_release(&l->word, 0) == 2))
        lock_release_contended(l);
    lock_count_down(rank);
}

FAST void lock_release(struct lock *l)
{
    lock_release_as(l, l->rank);
}

/* fork: take before (in rank order, then lock_fork_begin), give back after in both processes (lock_fork_end first). */
void lock_fork_take(struct lock *l);
void lock_fork_begin(void);
void lock_fork_end(void);
void lock_fork_give(struct lock *l);

#endif
