/* fork_stress: does a child of a process with many threads find an allocator that works?
 *
 * Threads churn: each fills a table of its own and takes blocks out of the tables of others to free them.
 * Meanwhile the process forks, or starts programs, in the way --mode says (fork_modes.c). A child allocates,
 * checks that calloc is zero, frees blocks inherited from every thread, starts a thread, calls setenv and exits
 * 0. The parent waits with a time limit: a hang is a failure with a message, and the child is killed.
 *
 * A block is taken out of its table before it is freed and is put in after it was filled. So whatever the child
 * finds in a table is live, at whatever instant the other threads were cut off. */
#define _GNU_SOURCE
#include "fork_stress.h"

#include "alloc.h"
#include "common.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SLOTS_PER_THREAD = 256 };

/* A block in a table; its size and serial number are the first words of its contents, a pattern is the rest. */
struct block {
    size_t size;
    uint64_t serial;
};

static _Atomic(struct block *) *tables; /* exchanged with acquire-release */
static size_t table_entries;
static pthread_t churners[STRESS_MAX_THREADS];
static uint64_t churner_count;
static uint64_t churn_seed;
static atomic_uint churners_up; /* release by each churner, acquire by main */
static atomic_bool churn_ends;  /* relaxed: only says when */

static size_t choose_size(uint64_t *random)
{
    unsigned kind = (unsigned)stress_between(random, 0, 999);
    size_t limit = kind < 850 ? 1024 : kind < 990 ? 16 * KIB : kind < 999 ? 128 * KIB : 2 * MIB;
    return stress_between(random, sizeof(struct block), limit);
}

static struct block *make_block(uint64_t *random)
{
    size_t size = choose_size(random);
    struct block *block;
    if (size % 4 == 0) {
        block = test_calloc(1, size);
        if (block != NULL) {
            stress_verify_zero(block, size, "calloc");
        }
    } else {
        block = test_malloc(size);
    }
    if (block == NULL) {
        stress_fail("allocation of %zu bytes failed: %s", size, strerror(errno));
    }
    block->size = size;
    block->serial = *random;
    stress_fill(block + 1, size - sizeof *block, stress_key(block, block->serial ^ size));
    return block;
}

static void drop_block(struct block *block, const char *what)
{
    if (block != NULL) {
        stress_verify(block + 1, block->size - sizeof *block, stress_key(block, block->serial ^ block->size), what);
        test_free(block);
    }
}

static void *churn(void *argument)
{
    size_t own = (size_t)(uintptr_t)argument * SLOTS_PER_THREAD;
    uint64_t random = stress_seed(churn_seed, (uintptr_t)argument);
    atomic_fetch_add_explicit(&churners_up, 1, memory_order_release);
    while (!atomic_load_explicit(&churn_ends, memory_order_relaxed)) {
        size_t slot = own + stress_between(&random, 0, SLOTS_PER_THREAD - 1);
        drop_block(atomic_exchange_explicit(&tables[slot], NULL, memory_order_acq_rel), "free of an own block");
        struct block *fresh = make_block(&random);
        drop_block(atomic_exchange_explicit(&tables[slot], fresh, memory_order_acq_rel), "free of an own block");
        size_t foreign = stress_between(&random, 0, table_entries - 1);
        if (random % 4 == 0) {
            struct block *block = atomic_exchange_explicit(&tables[foreign], NULL, memory_order_acq_rel);
            drop_block(block, "free of a foreign block");
        }
    }
    return NULL;
}

void churn_start(const struct fork_settings *settings)
{
    churner_count = settings->threads;
    churn_seed = settings->seed;
    table_entries = churner_count * SLOTS_PER_THREAD;
    tables = stress_map(table_entries * sizeof *tables);
    for (uint64_t i = 0; i < churner_count; i++) {
        if (pthread_create(&churners[i], NULL, churn, (void *)(uintptr_t)i) != 0) {
            stress_fail("cannot start a thread");
        }
    }
    /* A sanitizer's own malloc does not survive a fork in the middle of it: from here on, the prefixed flavour's
     * threads leave that malloc alone. */
    while (atomic_load_explicit(&churners_up, memory_order_acquire) < churner_count) {
        stress_sleep_ms(1);
    }
}

void churn_stop(void)
{
    atomic_store_explicit(&churn_ends, true, memory_order_relaxed);
    for (uint64_t i = 0; i < churner_count; i++) {
        pthread_join(churners[i], NULL);
    }
    for (size_t i = 0; i < table_entries; i++) {
        drop_block(atomic_exchange_explicit(&tables[i], NULL, memory_order_acq_rel), "last free");
    }
}

void churn_briefly(uint64_t *random)
{
    enum { COUNT = 32 };
    struct block *blocks[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        blocks[i] = make_block(random);
    }
    for (size_t i = 0; i < COUNT; i++) {
        drop_block(blocks[i], "free");
    }
}

static void drop_inherited(size_t from, size_t step)
{
    for (size_t i = from; i < table_entries; i += step) {
        drop_block(atomic_exchange_explicit(&tables[i], NULL, memory_order_acq_rel), "free of an inherited block");
    }
}

static void *child_thread(void *argument)
{
    uint64_t random = stress_seed((uintptr_t)argument, 1);
    churn_briefly(&random);
    drop_inherited(1, 4);
    churn_briefly(&random);
    return NULL;
}

void child_exit(int code)
{
#if STRESS_SANITIZED
    _exit(code); /* a leak report would count what the vanished threads held in registers */
#else
    exit(code);
#endif
}

void child_life(uint64_t seed)
{
    uint64_t random = stress_seed(seed, 0);
    pthread_t thread;
    churn_briefly(&random);
    drop_inherited(0, 2);
    churn_briefly(&random);
    if (STRESS_THREADS_AFTER_FORK) {
        if (pthread_create(&thread, NULL, child_thread, (void *)(uintptr_t)seed) != 0) {
            stress_fail("cannot start a thread in a child");
        }
        churn_briefly(&random);
        pthread_join(thread, NULL);
    } else {
        child_thread((void *)(uintptr_t)seed);
    }
    char name[32];
    snprintf(name, sizeof name, "STRESS_%" PRIu64, seed % 1000);
    if (setenv(name, "set by a child", 1) != 0) {
        stress_fail("setenv failed in a child: %s", strerror(errno));
    }
    child_exit(0);
}

void await_child(pid_t child, uint64_t timeout_s, const char *what, uint64_t index)
{
    double deadline = stress_now() + (double)timeout_s;
    struct timespec pause = {.tv_nsec = 100000};
    int status;
    for (;;) {
        pid_t done = waitpid(child, &status, WNOHANG);
        if (done == child) {
            break;
        }
        if (done < 0 && errno != EINTR) {
            stress_fail("%s %" PRIu64 ": waitpid: %s", what, index, strerror(errno));
        }
        if (stress_now() > deadline) {
            kill(child, SIGKILL);
            waitpid(child, &status, 0);
            stress_fail("%s %" PRIu64 ": the child hangs (not done after %" PRIu64 " s)", what, index, timeout_s);
        }
        nanosleep(&pause, NULL);
    }
    if (WIFSIGNALED(status)) {
        stress_fail("%s %" PRIu64 ": the child died of signal %d (%s)", what, index, WTERMSIG(status),
                    strsignal(WTERMSIG(status)));
    }
    if (WEXITSTATUS(status) != 0) {
        stress_fail("%s %" PRIu64 ": the child's exit code is %d", what, index, WEXITSTATUS(status));
    }
}

static const struct mode {
    const char *name;
    void (*run)(const struct fork_settings *settings);
    uint64_t default_count;
} modes[] = {
    {"fork", run_fork, 200},         {"double-fork", run_double_fork, 100}, {"posix_spawn", run_posix_spawn, 100},
    {"popen", run_popen, 50},        {"vfork", run_vfork, 100},             {"first-malloc", run_first_malloc, 1000},
};

int main(int argc, char **argv)
{
    struct fork_settings settings = {.threads = 8, .seed = 1, .timeout_s = 20};
    const char *mode_name = "fork";
    const struct stress_option options[] = {
        {"mode", "fork, double-fork, posix_spawn, popen, vfork or first-malloc", NULL, 0, 0, &mode_name},
        {"threads", "churning threads, or threads that start programs", &settings.threads, 1, STRESS_MAX_THREADS, NULL},
        {"count", "forks, or programs started per thread (0: the mode's own)", &settings.count, 0, 1000000, NULL},
        {"seed", "seed of the random choices", &settings.seed, 0, UINT64_MAX, NULL},
        {"timeout", "seconds after which a child hangs", &settings.timeout_s, 1, 3600, NULL},
    };
    stress_parse(argc, argv, "fork_stress: forks and program starts out of a process whose threads allocate", options,
                 sizeof options / sizeof options[0]);
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        if (strcmp(mode_name, modes[i].name) == 0) {
            settings.count = settings.count != 0 ? settings.count : modes[i].default_count;
            double begin = stress_now();
            modes[i].run(&settings);
            stress_watchdog(0, "");
            printf("fork_stress: ok, mode %s, seed %" PRIu64 ": %" PRIu64 " rounds, %" PRIu64 " threads, %.2f s\n",
                   mode_name, settings.seed, settings.count, settings.threads, stress_now() - begin);
            return 0;
        }
    }
    fprintf(stderr, "%s: no mode '%s'\n", program_invocation_short_name, mode_name);
    return 2;
}
