/* The modes of fork_stress and the churning threads they run beside. */
#ifndef HAKMEM_STRESS_FORK_STRESS_H
#define HAKMEM_STRESS_FORK_STRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct fork_settings {
    uint64_t threads;
    uint64_t count; /* forks, or programs started per thread; 0: the mode's own */
    uint64_t seed;
    uint64_t timeout_s; /* for one child; a child that takes longer hangs */
};

/* Starts threads that allocate and free, each also what others allocated, until churn_stop(). */
void churn_start(const struct fork_settings *settings);
void churn_stop(void);

/* One pass of ordinary allocation in the calling thread, for threads that start programs. */
void churn_briefly(uint64_t *random);

/* In a forked child: everything a child may do, among it freeing what the parent's threads had allocated. Does not
 * return; exit code 0 is success, and a message on stderr comes with any other. */
void child_life(uint64_t seed) __attribute__((noreturn));

/* Ends the child with that exit code. */
void child_exit(int code) __attribute__((noreturn));

/* Waits for the child; a hang, a signal or an exit code other than 0 is a failure with a message. */
void await_child(pid_t child, uint64_t timeout_s, const char *what, uint64_t index);

void run_fork(const struct fork_settings *settings);
void run_double_fork(const struct fork_settings *settings);
void run_posix_spawn(const struct fork_settings *settings);
void run_popen(const struct fork_settings *settings);
void run_vfork(const struct fork_settings *settings);
void run_first_malloc(const struct fork_settings *settings);

#endif
