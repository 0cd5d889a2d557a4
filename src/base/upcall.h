/* The one place where the spine depends on what stands above it: bound at link time, because a thread's first malloc
 * can come before any constructor could have filled a table. Implemented in lifecycle/. */
#ifndef HAKMEM_BASE_UPCALL_H
#define HAKMEM_BASE_UPCALL_H

#include <pthread.h>

#include "base/atomic.h"
#include "base/attr.h"

struct tcache;

/* Starts the process's heap if need be and gives the calling thread a cache. NULL: this thread has none (its
 * destructor has run, or memory is out) and must use the stray heap. */
NEAR struct tcache *upcall_thread_attach(void);
/* Lets the allocation learner look at its thread's cache, and decide if a window is full. By the owning thread, out of a
 * slow path, with no lock held; magazines may shrink and grow. Returns after how many slow operations it wants to look
 * again, from 1 to TICK_SLOW_OPERATIONS. Implemented in learn/. */
SLOW uint32_t upcall_alloc_learn(struct tcache *t);
/* Set in a forked child until its heaps have been put right. Atomic: set by the fork handler while the child has one
 * thread, cleared (release) under LOCK_LIFECYCLE. */
extern uint32_t upcall_fork_pending;
SLOW void upcall_fork_recover_now(void);

/* Every slow path calls this before it touches slab state, holding no lock. */
FAST void upcall_fork_recover(void)
{
    if (UNLIKELY(load_acquire(&upcall_fork_pending) != 0))
        upcall_fork_recover_now();
}

/* The background thread, as everybody else sees it. */
enum background_state {
    BACKGROUND_NONE,    /* there is none (yet) */
    BACKGROUND_AWAKE,   /* it will look by itself */
    BACKGROUND_ASLEEP,  /* it is about to sleep, or does: who makes something free wakes it */
    BACKGROUND_STOPPED, /* it ends, and no other is started */
};
/* enum background_state, and the futex on which it waits. Atomic: NONE and AWAKE change places in the main thread alone;
 * AWAKE becomes ASLEEP in the background thread, and back in anybody, by CAS acq_rel; STOPPED by exchange acq_rel. */
extern uint32_t upcall_background;
typedef int upcall_create_thread(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
NEAR void upcall_background_start(upcall_create_thread *create);
SLOW void upcall_background_wake(void);

/* A second thread exists. The caller holds no lock and is not inside malloc. create: pthread_create, or what stands for
 * it. */
FAST void upcall_background_note_thread(upcall_create_thread *create)
{
    if (UNLIKELY(load_relaxed(&upcall_background) == BACKGROUND_NONE))
        upcall_background_start(create);
}

/* Something has become free that an idle process should give back. Any lock may be held. */
FAST void upcall_background_note_free(void)
{
    if (UNLIKELY(load_relaxed(&upcall_background) == BACKGROUND_ASLEEP))
        upcall_background_wake();
}

#endif
