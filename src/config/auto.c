#include "config/auto.h"

#include "config/knobs.h"
#include "config/profiles.h"

static enum auto_bound bound_of(const struct os_limits *limits, uint64_t bytes)
{
    if (bytes == OS_NO_LIMIT)
        return AUTO_BOUND_NONE;
    if (bytes < limits->memory_bytes)
        return AUTO_BOUND_USER;
    if (bytes == limits->cgroup_bytes)
        return AUTO_BOUND_CGROUP;
    return bytes == limits->rlimit_bytes ? AUTO_BOUND_RLIMIT : AUTO_BOUND_MACHINE;
}

/* Balanced is the profile to start with; Adaptive reports on stderr, which a program must ask for; Default is for
 * runs too short to bloat, of which nothing is known here. */
struct auto_choice auto_choose(const struct os_limits *limits, uint64_t user_bytes)
{
    const uint64_t bytes = user_bytes < limits->memory_bytes ? user_bytes : limits->memory_bytes;
    const struct knob *budget = &knob_table[KNOB_THREAD_CACHE_BYTES];
    const enum profile profile = bytes < AUTO_TIGHT_BELOW_BYTES ? PROFILE_TIGHT : PROFILE_BALANCED;
    struct auto_choice choice = {
        .memory_bytes = bytes,
        .thread_cache_bytes = profile_value(profile, budget),
        .cpu_count = limits->cpu_count,
        .bound = (uint8_t)bound_of(limits, bytes),
        .profile = (uint8_t)profile,
    };
    const uint64_t threads = (uint64_t)AUTO_THREADS_PER_CPU * (limits->cpu_count != 0 ? limits->cpu_count : 1);
    const uint64_t share = bytes / AUTO_CACHE_SHARE / threads;
    if (share < choice.thread_cache_bytes)
        choice.thread_cache_bytes = share > budget->min ? share : budget->min;
    return choice;
}
