/* What every benchmark shares: options, a cheap generator of random numbers, the clock, the peak of resident memory,
 * block patterns for --check, and the one result line. Nothing here allocates while a benchmark is being timed. */
#ifndef HAKMEM_BENCH_COMMON_H
#define HAKMEM_BENCH_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BENCH_CACHE_LINE_BYTES 64
#define BENCH_MAX_THREADS 1024

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

/* Monotonic time in seconds. */
double bench_now(void);

/* Sleeps, resuming after signals. */
void bench_sleep(double seconds);

/* Highest resident set so far, in KiB. */
uint64_t bench_rss_peak_kb(void);

/* Prints the result: one line of JSON with --json, a readable line otherwise. */
void bench_report(const char *name, const struct bench_options *options, uint64_t ops, double seconds);

/* Prints the message and exits 1. */
void bench_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* Memory for the benchmark's own tables, straight from the kernel: the allocator under test must not see it. */
void *bench_map(size_t bytes);

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
