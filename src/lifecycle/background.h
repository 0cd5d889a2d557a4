/* The background thread: memory comes back although no thread calls malloc again. Off where config->background is. It
 * is started through upcall_background_start and woken through upcall_background_wake (base/upcall.h). */
#ifndef HAKMEM_LIFECYCLE_BACKGROUND_H
#define HAKMEM_LIFECYCLE_BACKGROUND_H

#include "base/attr.h"

/* In a forked child, which has no such thread. Another one starts when the child itself creates a thread. */
void background_forget(void);
/* The calling thread ends. Without the main thread the process lives until its last thread ends; it must not wait for
 * one that never does. */
void background_thread_exits(void);

struct background_totals {
    uint64_t steps;  /* times that it woke up to do something */
    uint64_t sleeps; /* times that it had nothing left to do */
};
void background_read_totals(struct background_totals *out);

#endif
