/* The one place where the spine depends on what stands above it: bound at link time, because a thread's first malloc
 * can come before any constructor could have filled a table. Implemented in lifecycle/. */
#ifndef HAKMEM_BASE_UPCALL_H
#define HAKMEM_BASE_UPCALL_H

#include "base/atomic.h"
#include "base/attr.h"

struct tcache;

/* Starts the process's heap if need be and gives the calling thread a cache. NULL: this thread has none (its
 * destructor has run, or memory is out) and must use the stray heap. */
SLOW struct tcache *upcall_thread_attach(void);
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

#endif
