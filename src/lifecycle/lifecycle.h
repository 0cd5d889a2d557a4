/* The life of the process, of its threads, and of its forked children. The only layer that knows all the others. */
#ifndef HAKMEM_LIFECYCLE_LIFECYCLE_H
#define HAKMEM_LIFECYCLE_LIFECYCLE_H

#include "base/lock.h"
#include "os/limits.h"
#include "tcache/tcache.h"

/* Brings the allocator up, in one fixed order, once. True when it is up; false while this very thread is at it. */
bool process_start(void);

/* Remembers that the calling thread is the process's first one. */
void thread_note_first(void);
/* The key whose destructor parks a thread's heap. Once, by process_start. */
void thread_make_key(void);
/* From now on the process's first thread is like any other: it is not this one that survived fork. */
void thread_forget_first(void);
bool thread_is_first(void);
/* Puts a heap that has no thread on the parked list. LOCK_PARKED is held, and the heap's lock but in a forked child that
 * recovers, where nobody else runs. */
void thread_park(struct heap *h);
/* Empties the parked list. LOCK_PARKED is held. */
void thread_forget_parked(void);
struct lock *parked_lock(void);

/* Asks what the system allows. Once, before there is a second thread. */
void budgets_start(void);
/* A tick: gives memory back near the limit. */
void budgets_tick(uint64_t now_ms);
/* Sets what follows from them. */
void budgets_apply(const struct os_limits *limits);

struct lock *lifecycle_lock(void);
void fork_register_handlers(void);

#endif
