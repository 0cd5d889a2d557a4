/* Periodic work driven by slow paths. The spine calls tick_run() now and then; layers above register what is due.
 * The table is filled once at start, before a second thread can exist, and never changes afterwards. */
#ifndef HAKMEM_BASE_TICK_H
#define HAKMEM_BASE_TICK_H

#include "base/attr.h"

#define TICK_PERIOD_MS 10u /* at most one run per period, over the whole process */

typedef void (*tick_fn)(uint64_t now_ms);

/* Not thread-safe: at start only. */
void tick_register(tick_fn fn);
/* Work that may take long or leave the library (writing a report): called after the lock is released, so it guards
 * itself against two threads at once. */
void tick_register_unlocked(tick_fn fn);
/* Runs every registered function if a period has passed and no other thread is at it. Takes no other lock; the
 * caller holds none. now_ms: the coarse monotonic clock in milliseconds. */
NEAR void tick_run(uint64_t now_ms);
/* Held across fork so that no half-finished periodic work is copied into the child. */
struct lock *tick_lock(void);

#endif
