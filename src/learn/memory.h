/* Memory learning at work: looks at the process's SuperSlabs on ticks, asks learn/mem_learner.h what to do, and does it. */
#ifndef HAKMEM_LEARN_MEMORY_H
#define HAKMEM_LEARN_MEMORY_H

#include "config/config.h"

/* At start, before a second thread exists; where HAKMEM_MEM_LEARN=1. */
void memory_start(const struct config *config);
/* An unlocked tick: one thread at a time, whoever comes second goes on. Bounded work, but for what the kernel takes. */
void memory_tick(uint64_t now_ms);
/* In a forked child: the thread that was at it is gone. */
void memory_forget_worker(void);

/* Over the life of the process. */
struct memory_totals {
    uint64_t windows;
    uint64_t made_huge, broken; /* SuperSlabs */
    uint64_t rolled_back;       /* decisions */
    uint64_t collapse_us;
};
void memory_read_totals(struct memory_totals *totals);

#endif
