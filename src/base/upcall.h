/* The one place where the spine depends on what stands above it: bound at link time, because a thread's first malloc
 * can come before any constructor could have filled a table. Implemented in lifecycle/. */
#ifndef HAKMEM_BASE_UPCALL_H
#define HAKMEM_BASE_UPCALL_H

#include "base/attr.h"

struct tcache;

/* Starts the process's heap if need be and gives the calling thread a cache. NULL: this thread has none (its
 * destructor has run, or memory is out) and must use the stray heap. */
SLOW struct tcache *upcall_thread_attach(void);
/* In a forked child, before the first slow path touches slab state. */
SLOW void upcall_fork_recover(void);

#endif
