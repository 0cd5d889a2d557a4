/* What most unit tests of the spine need: cmocka, a child that must abort with a line, threads, random numbers.
 * cmocka's assertions jump, so they belong to the thread that runs the test; other threads report through atomics. */
#ifndef HAKMEM_TESTS_UNIT_H
#define HAKMEM_TESTS_UNIT_H

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "base/bits.h"
#include "base/check.h"
#include "capture.h"

struct abort_case {
    void (*body)(void *argument);
    void *argument;
};

static inline void abort_case_run(const void *pointer)
{
    const struct abort_case *c = pointer;
    signal(SIGABRT, SIG_DFL); /* cmocka's and a sanitizer's handlers */
    check_detail = NULL;      /* whatever the library set at its start */
    c->body(c->argument);
}

/* body(argument), in a child, ends in SIGABRT after exactly this line about exactly this address. */
static inline void assert_aborts(void (*body)(void *), void *argument, const char *message, const void *address)
{
    const struct abort_case c = {body, argument};
    static struct captured result;
    char line[256];
    snprintf(line, sizeof line, "hakmem: %s: 0x%zx\n", message, (size_t)(uintptr_t)address);
    capture_child(&result, abort_case_run, &c);
    assert_string_equal(result.text, line);
    assert_true(WIFSIGNALED(result.status));
    assert_int_equal(WTERMSIG(result.status), SIGABRT);
}

/* body(argument), in a child, ends well. */
static inline void assert_child_passes(void (*body)(void *), void *argument)
{
    const struct abort_case c = {body, argument};
    static struct captured result;
    capture_child(&result, abort_case_run, &c);
    assert_string_equal(result.text, "");
    assert_true(WIFEXITED(result.status));
    assert_int_equal(WEXITSTATUS(result.status), 0);
}

/* A condition inside such a child, or in a thread: says where it broke and ends the process. */
#define REQUIRE(cond) CHECK(cond, __FILE__ ": " #cond, (const void *)(uintptr_t)__LINE__)

/* Where a test asks for UNDER_THREAD_SANITIZER: it allows no new threads in the child of a process that had several, and
 * sees a thread end before the last round of its destructors. */

#define THREADS_MAX 64

static inline void start_thread(pthread_t *thread, void *(*body)(void *), void *argument)
{
    if (pthread_create(thread, NULL, body, argument) != 0)
        abort();
}

/* One thread per element of an array of arguments, to their end; stride 0: the same argument for all. */
static inline void run_threads(unsigned count, void *(*body)(void *), void *arguments, size_t stride)
{
    pthread_t threads[THREADS_MAX];
    for (unsigned i = 0; i < count; i++)
        start_thread(&threads[i], body, stride == 0 ? arguments : (char *)arguments + i * stride);
    for (unsigned i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
}

/* xorshift64*, by Sebastiano Vigna; *state != 0. */
static inline uint64_t next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1du;
}

/* Waits for another thread to get somewhere; false after ten seconds. */
#define WAIT_UNTIL(cond)                                                  \
    ({                                                                    \
        unsigned waited_ms = 0;                                           \
        while (!(cond) && waited_ms++ < 10000)                            \
            nanosleep(&(const struct timespec){.tv_nsec = 1000000}, NULL); \
        (cond);                                                           \
    })

#endif
