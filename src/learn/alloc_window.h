/* The allocation learner's windows: what each thread's slow paths have counted, handed to alloc_decide when
 * HAKMEM_ALLOC_LEARN_WINDOW blocks have moved, and what it decides, carried out on the thread's own cache. Nothing here
 * is shared between threads but the totals, so nothing is locked but the thread's own heap. */
#ifndef HAKMEM_LEARN_ALLOC_WINDOW_H
#define HAKMEM_LEARN_ALLOC_WINDOW_H

#include "config/config.h"
#include "learn/alloc_learner.h"
#include "tcache/tcache.h"

/* Over the life of the process and over all threads. */
struct alloc_learn_totals {
    uint64_t windows, decisions, rollbacks;
};

/* Thread-safe. */
void alloc_learn_read_totals(struct alloc_learn_totals *out);

/* What the knobs say. */
void alloc_params_from_config(struct alloc_params *out, const struct config *config);

#endif
