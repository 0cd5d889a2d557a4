/* launch: runs one command and reports what it cost, for bench/compare.
 *
 *     launch DESCRIPTOR PRELOAD COMMAND [ARGUMENT...]
 *
 * Why a program of its own: the peak of resident memory that the kernel keeps for a child begins with that of the
 * process which started it, and a Python interpreter is larger than many of the programs to be measured. This one is
 * smaller than any. It also lets the library be preloaded into the command alone: PRELOAD ("" for none) becomes
 * LD_PRELOAD of the child and never of this program. The report is one line of JSON on the file descriptor, which the
 * command does not inherit. User and system time and the peak include children that the command has waited for. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static double now_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static double seconds_of(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec * 1e-6;
}

int main(int argc, char **argv)
{
    char *end;
    long report = argc >= 4 ? strtol(argv[1], &end, 10) : -1;
    if (report < 0 || *end != '\0' || fcntl((int)report, F_SETFD, FD_CLOEXEC) != 0) {
        fprintf(stderr, "usage: launch DESCRIPTOR PRELOAD COMMAND [ARGUMENT...]\n");
        return 2;
    }
    if (argv[2][0] != '\0') {
        setenv("LD_PRELOAD", argv[2], 1);
    } else {
        unsetenv("LD_PRELOAD");
    }
    pid_t child;
    double begin = now_seconds();
    int error = posix_spawnp(&child, argv[3], NULL, NULL, argv + 3, environ);
    if (error != 0) {
        fprintf(stderr, "launch: %s: %s\n", argv[3], strerror(error));
        return 127;
    }
    int status;
    struct rusage usage;
    while (wait4(child, &status, 0, &usage) < 0) {
        if (errno != EINTR) {
            perror("launch: wait4");
            return 1;
        }
    }
    double wall = now_seconds() - begin;
    dprintf((int)report,
            "{\"exit\":%d,\"signal\":%d,\"wall_s\":%.6f,\"user_s\":%.6f,\"system_s\":%.6f,\"rss_peak_kb\":%ld}\n",
            WIFEXITED(status) ? WEXITSTATUS(status) : -1, WIFSIGNALED(status) ? WTERMSIG(status) : 0, wall,
            seconds_of(usage.ru_utime), seconds_of(usage.ru_stime), usage.ru_maxrss);
    return 0;
}
