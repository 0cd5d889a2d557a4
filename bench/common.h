/* What every benchmark shares: options, the driver that runs and times its threads, a cheap generator of random
 * numbers, the clock, resident memory, block patterns for --check, and the one result line. Nothing here allocates
 * while a benchmark is being timed. */
#ifndef HAKMEM_BENCH_COMMON_H
#define HAKMEM_BENCH_COMMON_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define BENCH_CACHE_LINE_BYTES 64
#define BENCH_MAX_THREADS 1024
#define BENCH_MAX_FIGURES 16

/* Options every benchmark understands. A benchmark fills in its defaults before bench_parse(). */
struct bench_options {
    double seconds;   /* how long to run; used where ops is 0 */
    uint64_t ops;     /* operations in all, shared out among the threads; 0: run for `seconds` */
    uint64_t threads; /* 1..BENCH_MAX_THREADS */
    uint64_t seed;
    bool json;
    bool check;
};

/* A numeric option that only one benchmark has. */
struct bench_extra {
    const char *name;
    const char *help;
    uint64_t *value;
    uint64_t min;
    uint64_t max;
};

/* Parses argv. Prints help and exits 0 for --help; prints what is wrong and exits 2 for anything unusable. */
void bench_parse(int argc, char **argv, const char *about, struct bench_options *options,
                 const struct bench_extra *extras, size_t extra_count);

/* One thread of a benchmark. */
struct bench_worker {
    uint64_t index;  /* 0..threads-1 */
    uint64_t random; /* state for bench_random(), from bench_seed(options->seed, index) */
    const struct bench_options *options;
    void *state; /* workload->state_bytes zeroed bytes of its own, page-aligned, from bench_map() */
};

/* A number of a benchmark's own: a member of the JSON line, or a readable line of its own. */
struct bench_figure {
    const char *name; /* with its unit: "rss_mean_mib" */
    double value;
};

/* A benchmark as the driver sees it. The loop inside `run` should take "check" as a constant of an always_inline
 * body, so that the timed flavour carries no trace of the checking one: see BENCH_DEFINE_RUN. */
struct bench_workload {
    const char *name;
    size_t state_bytes;
    uint64_t ops_per_batch; /* operations asked for between two looks at the clock */
    /* Optional; in the thread, before the common start, not timed. */
    void (*prepare)(struct bench_worker *worker);
    /* Does about `ops` operations (one malloc or one free counts one) and returns how many it did, at least 1. A
     * thread that cannot go on, because its partner has ended, returns 0 and is asked no more. */
    uint64_t (*run)(struct bench_worker *worker, uint64_t ops);
    /* Optional; in the thread, right after its own timed part while others may still run: verifies and frees what is
     * left, tells partners that it has ended. */
    void (*finish)(struct bench_worker *worker);
    /* Optional: how many of options->ops the worker does. Without it all do alike. */
    uint64_t (*share)(const struct bench_options *options, uint64_t index);
    /* Optional: fills in figures of its own for the report, when all workers have ended. */
    void (*figures)(struct bench_figure *figures);
    size_t figure_count; /* at most BENCH_MAX_FIGURES */
};

/* Defines the `run` of a workload from the always_inline `body`(worker, amount, check): a function for each flavour, and
 * `run` itself, which chooses one. `amount` may be computed from `ops`, where the body counts in something else. */
#define BENCH_DEFINE_RUN(body, amount)                                                                   \
    static __attribute__((noinline)) uint64_t run_timed(struct bench_worker *worker, uint64_t ops)       \
    {                                                                                                    \
        return body(worker, amount, false);                                                              \
    }                                                                                                    \
    static __attribute__((noinline)) uint64_t run_checked(struct bench_worker *worker, uint64_t ops)     \
    {                                                                                                    \
        return body(worker, amount, true);                                                               \
    }                                                                                                    \
    static uint64_t run(struct bench_worker *worker, uint64_t ops)                                       \
    {                                                                                                    \
        return worker->options->check ? run_checked(worker, ops) : run_timed(worker, ops);               \
    }

/* Runs options->threads workers, the calling thread being worker 0 (a program of one thread must be measured as one),
 * until the operations or the seconds are reached, prints the report and returns the exit status. */
int bench_run(const struct bench_workload *workload, const struct bench_options *options);

/* pthread_create() that ends the program if there is no thread to be had. */
void bench_thread_start(pthread_t *thread, void *(*function)(void *), void *argument);

/* One turn of a waiting loop; `spins` counts the turns and begins at 0. Spins shortly, then gives the processor away:
 * the one waited for may need it. */
void bench_wait_turn(unsigned *spins);

/* Monotonic time in seconds. */
double bench_now(void);

/* Sleeps, resuming after signals. */
void bench_sleep(double seconds);

/* Highest resident set so far, in KiB. */
uint64_t bench_rss_peak_kb(void);

/* Resident set now, in bytes. */
uint64_t bench_rss_bytes(void);

/* Anonymous memory of this process that lies in huge pages, in MiB. */
double bench_huge_mib(void);

/* Prints the result: one line of JSON with --json, a readable line otherwise. */
void bench_report(const char *name, const struct bench_options *options, uint64_t ops, double seconds);

void bench_report_figures(const char *name, const struct bench_options *options, uint64_t ops, double seconds,
                          const struct bench_figure *figures, size_t figure_count);

/* Defined in the timed flavour of a benchmark only (latency.c): adds members to the JSON line, or readable lines. */
void bench_report_latency(bool json) __attribute__((weak));

/* Prints the message and exits 1. */
void bench_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* Memory for the benchmark's own tables, straight from the kernel: the allocator under test must not see it. */
void *bench_map(size_t bytes);

/* A block whose first and last byte are written, as the least that any program does to its memory; ends the program
 * if there is none. */
static inline char *bench_malloc(size_t size)
{
    char *block = malloc(size);
    if (__builtin_expect(block == NULL, 0)) {
        bench_fail("malloc(%zu) failed", size);
    }
    block[0] = (char)size;
    block[size - 1] = (char)size;
    return block;
}

/* --check: the pattern depends on address and size, so a block handed out twice or overlapping another is noticed
 * unless it is the very same block at the very same size. `salt` tells those apart. */
void bench_fill(void *block, size_t size, uint64_t salt);
void bench_verify(const void *block, size_t size, uint64_t salt);

/* Spreads a user's seed so that neighbouring seeds and threads give unrelated streams. Never returns 0. */
uint64_t bench_seed(uint64_t seed, uint64_t stream);

/* Marsaglia's xorshift64 (J. Stat. Software 8(14), 2003): six dependent cheap instructions, so that what is measured
 * is the allocator. Never reaches 0 from a non-zero state. */
static inline uint64_t bench_random(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    *state = x;
    return x;
}

/* Maps 32 random bits to 0..range-1 without a division. */
static inline uint32_t bench_scale(uint32_t random, uint32_t range)
{
    return (uint32_t)(((uint64_t)random * range) >> 32);
}

#endif
