/* What the system lets this process have: memory and CPUs. Control groups of both versions are asked, resource limits,
 * and the machine itself. Nothing is allocated, errno is kept, and whatever cannot be read (no /proc, no /sys, a file
 * with something unexpected in it) is passed over in silence. Thread-safe. It takes some thirty system calls and
 * opens files, so it is asked once, while the process starts. */
#ifndef HAKMEM_OS_LIMITS_H
#define HAKMEM_OS_LIMITS_H

#include "base/attr.h"

#define OS_NO_LIMIT UINT64_MAX
#define OS_PATH_BYTES 512

struct os_limits {
    /* The least of memory.max and memory.high (cgroup v2) or memory.limit_in_bytes (v1), over the own control group and
     * every one above it that can be seen. OS_NO_LIMIT: none. */
    uint64_t cgroup_bytes;
    uint64_t rlimit_bytes;   /* the least of RLIMIT_AS and RLIMIT_DATA. OS_NO_LIMIT: none */
    uint64_t physical_bytes; /* of the machine. OS_NO_LIMIT: unknown */
    uint64_t memory_bytes;   /* the least of these three */
    /* CPUs that may be used at once: those of the affinity mask, and no more than the quotas of the control groups
     * (cpu.max, or cpu.cfs_quota_us) pay for, rounded up. 0: unknown. */
    uint32_t cpu_count;
};

/* `root` stands before every path: "" but in tests. */
void os_limits_read(const char *root, struct os_limits *out);

#endif
