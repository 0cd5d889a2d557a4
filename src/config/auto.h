/* HAKMEM_PROFILE=auto: the profile and the budget that suit what the system lets the process have. */
#ifndef HAKMEM_CONFIG_AUTO_H
#define HAKMEM_CONFIG_AUTO_H

#include "base/attr.h"
#include "os/limits.h"

/* Below this the process runs in a small container or device, where memory is the problem and not speed. */
#define AUTO_TIGHT_BELOW_BYTES ((uint64_t)512 << 20)
/* A thread's caches may hold this part of the memory, were there so many busy threads for each CPU. */
#define AUTO_CACHE_SHARE 16u
#define AUTO_THREADS_PER_CPU 4u

/* What sets the bound on memory. */
enum auto_bound { AUTO_BOUND_NONE, AUTO_BOUND_CGROUP, AUTO_BOUND_RLIMIT, AUTO_BOUND_MACHINE, AUTO_BOUND_USER };

struct auto_choice {
    uint64_t memory_bytes;       /* OS_NO_LIMIT: nothing is known */
    uint64_t thread_cache_bytes; /* instead of the profile's, never more than that */
    uint32_t cpu_count;          /* 0: unknown */
    uint8_t bound;               /* enum auto_bound */
    uint8_t profile;             /* enum profile: tight or balanced */
};

/* A pure function. user_bytes: HAKMEM_MEMORY_LIMIT, or OS_NO_LIMIT. The time that the process is going to live is no
 * argument of it: nobody knows that at the start. What would cost a short process something (prewarming, a background
 * thread) waits by itself until one has lived. */
struct auto_choice auto_choose(const struct os_limits *limits, uint64_t user_bytes);

#endif
