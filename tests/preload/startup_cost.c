/* What the library costs a program that does nothing: alternating runs of /bin/true with and without the preload.
 *
 *     startup_cost --lib FILE [--rounds 500] [--limit-us N] [--limit-kib N] [--program /bin/true]
 *
 * Time: from vfork to the end of the wait, medians of both kinds and their difference. Memory: the resident size at
 * exit, read while the process is held in ptrace's exit stop, so that exactly /bin/true is measured and no helper.
 * Exit code 1 above a limit, 77 where ptrace is not allowed (the time is judged all the same). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ENV_MAX 512
#define RSS_ROUNDS 11

static char *plain_env[ENV_MAX + 2], *loaded_env[ENV_MAX + 4];
static char *program_argv[] = {NULL, NULL};

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void die(const char *what)
{
    fprintf(stderr, "startup_cost: %s: %s\n", what, strerror(errno));
    exit(2);
}

/* vfork, so that the size of this process does not enter the measurement. */
static double run_us(char **env)
{
    int status = 0;
    double begin = now_us();
    pid_t pid = vfork();
    if (pid == 0) {
        execve(program_argv[0], program_argv, env);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        die("vfork");
    double end = now_us();
    if (status) {
        fprintf(stderr, "startup_cost: %s ended with status %#x\n", program_argv[0], (unsigned)status);
        exit(1);
    }
    return end - begin;
}

static long rss_in_smaps_kib(pid_t pid)
{
    char path[64], line[256];
    long kib = -1;
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "Rss: %ld kB", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib;
}

/* The resident size when the program exits, -1 where ptrace is not allowed. */
static long resident_kib(char **env)
{
    int status = 0;
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0) {
        if (ptrace(PTRACE_TRACEME, 0, 0, 0))
            _exit(126);
        execve(program_argv[0], program_argv, env);
        _exit(127);
    }
    if (waitpid(pid, &status, 0) != pid)
        die("waitpid");
    if (!WIFSTOPPED(status))
        return -1;
    long kib = -1;
    if (ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACEEXIT | PTRACE_O_EXITKILL))
        die("ptrace");
    ptrace(PTRACE_CONT, pid, 0, 0);
    while (waitpid(pid, &status, 0) == pid && WIFSTOPPED(status)) {
        if (status >> 8 == (SIGTRAP | PTRACE_EVENT_EXIT << 8))
            kib = rss_in_smaps_kib(pid);
        ptrace(PTRACE_CONT, pid, 0, 0);
    }
    return kib;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, by_value);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static void make_environments(const char *lib)
{
    static char preload[PATH_MAX + 16];
    int n = 0;
    for (char **e = environ; *e && n < ENV_MAX; e++)
        if (strncmp(*e, "LD_PRELOAD=", 11))
            plain_env[n++] = *e;
    memcpy(loaded_env, plain_env, (size_t)n * sizeof *plain_env);
    snprintf(preload, sizeof preload, "LD_PRELOAD=%s", lib);
    loaded_env[n] = preload;
}

int main(int argc, char **argv)
{
    const char *lib = NULL;
    int rounds = 500;
    double limit_us = 0;
    long limit_kib = 0;
    program_argv[0] = "/bin/true";
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--lib"))
            lib = argv[i + 1];
        else if (!strcmp(argv[i], "--rounds"))
            rounds = atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--limit-us"))
            limit_us = atof(argv[i + 1]);
        else if (!strcmp(argv[i], "--limit-kib"))
            limit_kib = atol(argv[i + 1]);
        else if (!strcmp(argv[i], "--program"))
            program_argv[0] = argv[i + 1];
    }
    if (!lib || access(lib, R_OK) || rounds < 1) {
        fprintf(stderr,
                "usage: startup_cost --lib FILE [--rounds N] [--limit-us N] [--limit-kib N] [--program FILE]\n");
        return 2;
    }
    make_environments(lib);

    double *plain = calloc((size_t)rounds, sizeof *plain), *loaded = calloc((size_t)rounds, sizeof *loaded);
    if (!plain || !loaded)
        die("calloc");
    for (int i = 0; i < 10; i++) /* page cache and clocks warm */
        run_us(i % 2 ? plain_env : loaded_env);
    for (int i = 0; i < rounds; i++) {
        plain[i] = run_us(plain_env);
        loaded[i] = run_us(loaded_env);
    }
    double plain_us = median(plain, rounds), loaded_us = median(loaded, rounds), added_us = loaded_us - plain_us;
    printf("%s, %d alternating runs: median %.0f us plain, %.0f us preloaded: %+.0f us\n", program_argv[0], rounds,
           plain_us, loaded_us, added_us);

    double rss_plain[RSS_ROUNDS], rss_loaded[RSS_ROUNDS];
    int refused = 0;
    for (int i = 0; i < RSS_ROUNDS; i++) {
        rss_plain[i] = (double)resident_kib(plain_env);
        rss_loaded[i] = (double)resident_kib(loaded_env);
        refused |= rss_plain[i] < 0 || rss_loaded[i] < 0;
    }
    double added_kib = median(rss_loaded, RSS_ROUNDS) - median(rss_plain, RSS_ROUNDS);
    if (refused)
        printf("SKIP resident size: ptrace or /proc is not to be had here\n");
    else
        printf("resident at exit: median %.0f KiB plain, %.0f KiB preloaded: %+.0f KiB\n",
               median(rss_plain, RSS_ROUNDS), median(rss_loaded, RSS_ROUNDS), added_kib);
    if (limit_us > 0 && added_us > limit_us)
        return printf("FAIL: more than %.0f us\n", limit_us), 1;
    if (limit_kib > 0 && !refused && added_kib > (double)limit_kib)
        return printf("FAIL: more than %ld KiB\n", limit_kib), 1;
    return refused ? 77 : 0;
}
