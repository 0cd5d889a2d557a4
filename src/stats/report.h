/* When the summary is printed: what lifecycle calls. */
#ifndef HAKMEM_STATS_REPORT_H
#define HAKMEM_STATS_REPORT_H

#include "stats/counters.h"

/* HAKMEM_STATS_ENABLE=1: keeps a way to stderr open. Once, from a constructor: it calls pthread_atfork. */
void stats_start(void);
/* HAKMEM_STATS_ENABLE=1: the summary, to stderr, when the process ends. */
void stats_at_exit(void);
/* HAKMEM_STATS_INTERVAL_SEC: the summary, to stderr, when so much time has passed since the last one, or since the
 * first tick. Registered with base/tick.h as unlocked work. now_ms: the coarse monotonic clock. */
void stats_tick(uint64_t now_ms);

#endif
