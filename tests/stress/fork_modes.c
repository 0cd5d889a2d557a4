/* The ways in which fork_stress forks and starts programs. The watchdog is wound up before each step that the parent
 * itself may hang in (fork handlers take locks); it ends the process with a message. */
#define _GNU_SOURCE
#include "fork_stress.h"

#include "alloc.h"
#include "common.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static pid_t checked_fork(const struct fork_settings *settings)
{
    stress_watchdog((unsigned)settings->timeout_s * 2, "fork() in the parent");
    pid_t child = fork();
    if (child < 0) {
        stress_fail("fork: %s", strerror(errno));
    }
    return child;
}

void run_fork(const struct fork_settings *settings)
{
    churn_start(settings);
    uint64_t random = stress_seed(settings->seed, STRESS_MAX_THREADS);
    for (uint64_t i = 0; i < settings->count; i++) {
        churn_briefly(&random); /* the forking thread too holds caches */
        pid_t child = checked_fork(settings);
        if (child == 0) {
            child_life(settings->seed + i);
        }
        await_child(child, settings->timeout_s, "fork", i);
    }
    churn_stop();
}

/* As a daemon starts: the grandchild's parent is gone; its end shows as a byte in the pipe, or as end of file if
 * it died. */
void run_double_fork(const struct fork_settings *settings)
{
    churn_start(settings);
    for (uint64_t i = 0; i < settings->count; i++) {
        int ends[2];
        if (pipe(ends) != 0) {
            stress_fail("pipe: %s", strerror(errno));
        }
        pid_t child = checked_fork(settings);
        if (child == 0) {
            setsid();
            pid_t grandchild = fork();
            if (grandchild != 0) {
                child_exit(grandchild > 0 ? 0 : 1);
            }
            stress_watchdog((unsigned)settings->timeout_s * 2, "a daemon");
            pid_t third = fork(); /* so that the daemon itself learns how its child fared */
            if (third == 0) {
                child_life(settings->seed + i);
            }
            await_child(third, settings->timeout_s, "fork by a daemon", i);
            child_exit(write(ends[1], "k", 1) == 1 ? 0 : 1);
        }
        close(ends[1]);
        await_child(child, settings->timeout_s, "first fork of a daemon", i);
        struct pollfd wait = {.fd = ends[0], .events = POLLIN};
        char byte = 0;
        if (poll(&wait, 1, (int)settings->timeout_s * 3000) != 1 || read(ends[0], &byte, 1) != 1) {
            stress_fail("double-fork %d: the daemon hangs or died", (int)i);
        }
        close(ends[0]);
    }
    churn_stop();
}

/* The random numbers of the next thread. */
static uint64_t next_stream(const struct fork_settings *settings)
{
    static atomic_uint_fast64_t streams;
    return stress_seed(settings->seed, atomic_fetch_add_explicit(&streams, 1, memory_order_relaxed));
}

/* Runs one function in several threads at once. */
static void run_in_threads(const struct fork_settings *settings, void *(*work)(void *), const char *what)
{
    static pthread_t threads[STRESS_MAX_THREADS];
    stress_watchdog((unsigned)(settings->timeout_s + settings->threads * settings->count / 20), what);
    for (uint64_t i = 0; i < settings->threads; i++) {
        if (pthread_create(&threads[i], NULL, work, (void *)(uintptr_t)settings) != 0) {
            stress_fail("cannot start a thread");
        }
    }
    for (uint64_t i = 0; i < settings->threads; i++) {
        pthread_join(threads[i], NULL);
    }
}

static void expect_success(pid_t child, const char *what)
{
    int status;
    while (waitpid(child, &status, 0) < 0) {
        if (errno != EINTR) {
            stress_fail("%s: waitpid: %s", what, strerror(errno));
        }
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        stress_fail("%s: the program's wait status is 0x%x", what, (unsigned)status);
    }
}

static void *spawn_many(void *argument)
{
    const struct fork_settings *settings = argument;
    uint64_t random = next_stream(settings);
    char name[] = "true";
    char *arguments[] = {name, NULL};
    for (uint64_t i = 0; i < settings->count; i++) {
        pid_t child;
        churn_briefly(&random);
        int error = posix_spawnp(&child, name, NULL, NULL, arguments, environ);
        if (error != 0) {
            stress_fail("posix_spawnp: %s", strerror(error));
        }
        expect_success(child, "posix_spawn");
    }
    return NULL;
}

void run_posix_spawn(const struct fork_settings *settings)
{
    run_in_threads(settings, spawn_many, "posix_spawn from several threads");
}

static void *popen_many(void *argument)
{
    const struct fork_settings *settings = argument;
    uint64_t random = next_stream(settings);
    for (uint64_t i = 0; i < settings->count; i++) {
        char line[32] = "";
        churn_briefly(&random);
        FILE *stream = popen("echo alive", "re");
        if (stream == NULL || fgets(line, sizeof line, stream) == NULL || strcmp(line, "alive\n") != 0) {
            stress_fail("popen: got '%s': %s", line, strerror(errno));
        }
        if (pclose(stream) != 0) {
            stress_fail("pclose: the command failed");
        }
    }
    return NULL;
}

void run_popen(const struct fork_settings *settings)
{
    run_in_threads(settings, popen_many, "popen from several threads");
}

/* The child of vfork borrows our memory: it does nothing but exec. */
static pid_t vfork_true(char *const *arguments)
{
    pid_t child = vfork();
    if (child == 0) {
        execvp(arguments[0], arguments);
        _exit(127);
    }
    return child;
}

static void *vfork_many(void *argument)
{
    const struct fork_settings *settings = argument;
    uint64_t random = next_stream(settings);
    char name[] = "true";
    char *arguments[] = {name, NULL};
    for (uint64_t i = 0; i < settings->count; i++) {
        churn_briefly(&random);
        pid_t child = vfork_true(arguments);
        if (child < 0) {
            stress_fail("vfork: %s", strerror(errno));
        }
        expect_success(child, "vfork");
    }
    return NULL;
}

void run_vfork(const struct fork_settings *settings)
{
    run_in_threads(settings, vfork_many, "vfork from several threads");
}

static atomic_bool race_ready; /* release by the thread, acquire by main */
static atomic_bool race_go;    /* release by main, acquire by the thread: both leave the line together */

/* Spins, so as to leave as soon as the flag is set, but not for long: the other side may be waiting for this CPU. */
static void await_flag(atomic_bool *flag)
{
    for (unsigned spins = 0; !atomic_load_explicit(flag, memory_order_acquire); spins++) {
        if (spins >= 1000) {
            sched_yield();
        }
    }
}

static void *malloc_first(void *argument)
{
    size_t size = (size_t)(uintptr_t)argument;
    atomic_store_explicit(&race_ready, true, memory_order_release);
    await_flag(&race_go);
    void *block = test_malloc(size);
    if (block == NULL) {
        stress_fail("a thread's first malloc failed");
    }
    uint64_t key = stress_key(block, size);
    stress_fill(block, size, key);
    stress_verify(block, size, key, "a thread's first block");
    test_free(block);
    return NULL;
}

/* Forks while another thread, just born, allocates for the first time and so sets up whatever a thread needs. */
void run_first_malloc(const struct fork_settings *settings)
{
    uint64_t random = stress_seed(settings->seed, 0);
    for (uint64_t i = 0; i < settings->count; i++) {
        pthread_t thread;
        size_t size = stress_between(&random, 1, i % 8 == 0 ? 64 * KIB : KIB);
        atomic_store_explicit(&race_ready, false, memory_order_relaxed);
        atomic_store_explicit(&race_go, false, memory_order_relaxed);
        if (pthread_create(&thread, NULL, malloc_first, (void *)(uintptr_t)size) != 0) {
            stress_fail("cannot start a thread");
        }
        await_flag(&race_ready);
        atomic_store_explicit(&race_go, true, memory_order_release);
        pid_t child = checked_fork(settings);
        if (child == 0) {
            churn_briefly(&random);
            child_exit(0);
        }
        pthread_join(thread, NULL);
        await_child(child, settings->timeout_s, "fork against a first malloc", i);
    }
}
