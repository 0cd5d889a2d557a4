/* The timed calls of latency.h: a cycle counter on either side of each, a histogram per thread and kind of call, merged
 * when the benchmark reports.
 *
 * The histogram is log-linear, as in Gil Tene's HdrHistogram: each power of two is cut into 32 equal buckets, so every
 * value keeps about 3 % of precision at a fixed, small size, and adding one costs a shift and an increment.
 *
 * A maximum on a machine with other work is mostly the time for which the scheduler ran something else. Therefore two
 * are kept: over all calls, and over those during which the thread was not switched out against its will
 * ("undisturbed"). The kernel counts such switches per thread; it is asked after a slow call or a slow gap between calls
 * only, and a slow call is undisturbed if the count has not moved since it was last asked. Two faults remain: a
 * sched_yield() inside the allocator looks like such a switch, and interrupts, or a hypervisor that runs another guest,
 * are not seen at all. */
#define _GNU_SOURCE
#define HAKMEM_BENCH_LATENCY_IMPLEMENTATION
#include "latency.h"

#include "common.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum {
    SUB_BITS = 5, /* 2^5 buckets per power of two */
    SUB_COUNT = 1 << SUB_BITS,
    TOP_BIT = 44, /* the last bucket begins below 2^45 ticks: hours */
    BUCKET_COUNT = (TOP_BIT - SUB_BITS + 2) * SUB_COUNT,
    CALIBRATION_COUNT = 2001,
};
enum kind { KIND_MALLOC, KIND_FREE, KIND_REALLOC, KIND_COUNT };
static const char *const kind_names[KIND_COUNT] = {"malloc", "free", "realloc"};

/* Written by one thread; a report may read while that one still runs, hence relaxed atomics. */
struct histogram {
    _Atomic uint64_t count[BUCKET_COUNT];
    _Atomic uint64_t max_ticks;
    _Atomic uint64_t max_undisturbed_ticks;
};

/* Of one thread at a time; when that ends the record goes to the next, with its counts: they are summed anyway. */
struct record {
    struct histogram kinds[KIND_COUNT];
    uint64_t last_end_ticks;
    long switches_seen;
    struct record *next;      /* in `all`; never changes once set */
    struct record *next_idle; /* in `idle`, under `idle_lock` */
};

static _Thread_local struct record *mine;
static _Atomic(struct record *) all;
static pthread_mutex_t idle_lock = PTHREAD_MUTEX_INITIALIZER;
static struct record *idle;
static pthread_key_t leave_key;
static uint64_t overhead_ticks;   /* of timing nothing; set before main */
static uint64_t resolution_ticks; /* smallest step that the counter was seen to make; set before main */
static uint64_t epoch_ticks;
static double epoch_seconds;

/* The fences keep the call between the two readings: the first reading waits for what came before it, and what is
 * measured for the reading; the second waits for what is measured, and what follows for the reading (Intel, "How to
 * Benchmark Code Execution Times", 2010, with lfence in the place of cpuid). */
#if defined(__x86_64__)
#define SLOW_TICKS UINT64_C(32768) /* about ten microseconds */
static inline uint64_t ticks_before(void)
{
    __builtin_ia32_lfence();
    uint64_t ticks = __builtin_ia32_rdtsc();
    __builtin_ia32_lfence();
    return ticks;
}

static inline uint64_t ticks_after(void)
{
    unsigned processor;
    uint64_t ticks = __builtin_ia32_rdtscp(&processor);
    __builtin_ia32_lfence();
    return ticks;
}
#elif defined(__aarch64__)
#define SLOW_TICKS UINT64_C(1024) /* the counter runs at 24 MHz to 1 GHz */
static inline uint64_t ticks_before(void)
{
    uint64_t ticks;
    __asm__ volatile("isb\n\tmrs %0, cntvct_el0\n\tisb" : "=r"(ticks) : : "memory");
    return ticks;
}

static inline uint64_t ticks_after(void)
{
    return ticks_before();
}
#else
#define SLOW_TICKS UINT64_C(10000) /* nanoseconds */
static inline uint64_t ticks_before(void)
{
    return (uint64_t)(bench_now() * 1e9);
}

static inline uint64_t ticks_after(void)
{
    return ticks_before();
}
#endif

static inline size_t bucket_of(uint64_t ticks)
{
    if (ticks < SUB_COUNT) {
        return (size_t)ticks;
    }
    unsigned shift = 63U - (unsigned)__builtin_clzll(ticks) - SUB_BITS;
    size_t bucket = (size_t)shift * SUB_COUNT + (size_t)(ticks >> shift);
    return bucket < BUCKET_COUNT ? bucket : BUCKET_COUNT - 1;
}

/* The largest value that falls into the bucket. */
static uint64_t bucket_last(size_t bucket)
{
    if (bucket < 2 * SUB_COUNT) {
        return bucket;
    }
    unsigned shift = (unsigned)(bucket / SUB_COUNT) - 1;
    return ((uint64_t)(bucket % SUB_COUNT + SUB_COUNT + 1) << shift) - 1;
}

static inline uint64_t load(_Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

static inline void store(_Atomic uint64_t *word, uint64_t value)
{
    atomic_store_explicit(word, value, memory_order_relaxed);
}

static void leave(void *record)
{
    struct record *left = record;
    mine = NULL;
    pthread_mutex_lock(&idle_lock);
    left->next_idle = idle;
    idle = left;
    pthread_mutex_unlock(&idle_lock);
}

/* Nothing here may call the allocator: the thread's first call is about to be timed. (glibc keeps the first 32 keys'
 * values in the thread itself.) */
static __attribute__((noinline)) struct record *enter(void)
{
    pthread_mutex_lock(&idle_lock);
    struct record *record = idle;
    if (record != NULL) {
        idle = record->next_idle;
    }
    pthread_mutex_unlock(&idle_lock);
    if (record == NULL) {
        record = bench_map(sizeof *record);
        record->next = atomic_load_explicit(&all, memory_order_relaxed);
        while (!atomic_compare_exchange_weak_explicit(&all, &record->next, record, memory_order_release,
                                                      memory_order_relaxed)) {
        }
    }
    record->last_end_ticks = 0; /* so that the first call asks for this thread's count of switches */
    record->switches_seen = 0;
    mine = record;
    pthread_setspecific(leave_key, record);
    return record;
}

static inline struct record *record_of_thread(void)
{
    struct record *record = mine;
    return __builtin_expect(record != NULL, 1) ? record : enter();
}

/* True if the thread was switched out against its will since this was last asked. */
static __attribute__((noinline)) bool switched_out(struct record *record)
{
    struct rusage usage;
    if (getrusage(RUSAGE_THREAD, &usage) != 0) {
        return false;
    }
    bool moved = usage.ru_nivcsw != record->switches_seen;
    record->switches_seen = usage.ru_nivcsw;
    return moved;
}

static inline void add(struct record *record, enum kind kind, uint64_t begin, uint64_t end)
{
    struct histogram *histogram = &record->kinds[kind];
    uint64_t ticks = end - begin;
    ticks = ticks > overhead_ticks ? ticks - overhead_ticks : 0;
    _Atomic uint64_t *count = &histogram->count[bucket_of(ticks)];
    store(count, load(count) + 1);
    bool slow = ticks > SLOW_TICKS || begin - record->last_end_ticks > SLOW_TICKS;
    bool disturbed = __builtin_expect(slow, 0) && switched_out(record) && ticks > SLOW_TICKS;
    if (ticks > load(&histogram->max_ticks)) {
        store(&histogram->max_ticks, ticks);
    }
    if (!disturbed && ticks > load(&histogram->max_undisturbed_ticks)) {
        store(&histogram->max_undisturbed_ticks, ticks);
    }
    record->last_end_ticks = end;
}

void *latency_malloc(size_t size)
{
    struct record *record = record_of_thread();
    uint64_t begin = ticks_before();
    void *block = malloc(size);
    add(record, KIND_MALLOC, begin, ticks_after());
    return block;
}

void *latency_calloc(size_t count, size_t size)
{
    struct record *record = record_of_thread();
    uint64_t begin = ticks_before();
    void *block = calloc(count, size);
    add(record, KIND_MALLOC, begin, ticks_after());
    return block;
}

void *latency_realloc(void *block, size_t size)
{
    struct record *record = record_of_thread();
    uint64_t begin = ticks_before();
    void *moved = realloc(block, size);
    add(record, KIND_REALLOC, begin, ticks_after());
    return moved;
}

void *latency_aligned_alloc(size_t alignment, size_t size)
{
    struct record *record = record_of_thread();
    uint64_t begin = ticks_before();
    void *block = aligned_alloc(alignment, size);
    add(record, KIND_MALLOC, begin, ticks_after());
    return block;
}

int latency_posix_memalign(void **block, size_t alignment, size_t size)
{
    struct record *record = record_of_thread();
    uint64_t begin = ticks_before();
    int error = posix_memalign(block, alignment, size);
    add(record, KIND_MALLOC, begin, ticks_after());
    return error;
}

void latency_free(void *block)
{
    struct record *record = record_of_thread();
    uint64_t begin = ticks_before();
    free(block);
    add(record, KIND_FREE, begin, ticks_after());
}

/* The smallest value that at least this share of the calls stayed within, rounded up to its bucket's end. */
static uint64_t percentile(const uint64_t *counts, uint64_t calls, uint64_t per_mille, uint64_t max)
{
    uint64_t wanted = (uint64_t)(((__uint128_t)calls * per_mille + 999) / 1000);
    uint64_t seen = 0;
    for (size_t i = 0; i < BUCKET_COUNT; i++) {
        seen += counts[i];
        if (seen >= wanted && seen != 0) {
            return bucket_last(i) < max ? bucket_last(i) : max;
        }
    }
    return max;
}

static __attribute__((constructor)) void calibrate(void)
{
    if (pthread_key_create(&leave_key, leave) != 0) {
        bench_fail("no thread-specific key left");
    }
    static uint64_t counts[BUCKET_COUNT];
    uint64_t last = 0;
    resolution_ticks = UINT64_MAX;
    for (int i = 0; i < CALIBRATION_COUNT; i++) {
        uint64_t begin = ticks_before();
        uint64_t ticks = ticks_after() - begin;
        counts[bucket_of(ticks)]++;
        /* No two readings are closer than a reading takes, but their differences vary by the counter's steps. */
        uint64_t step = ticks > last ? ticks - last : last - ticks;
        if (i > 0 && step != 0 && step < resolution_ticks) {
            resolution_ticks = step;
        }
        last = ticks;
    }
    if (resolution_ticks == UINT64_MAX) {
        resolution_ticks = 1;
    }
    overhead_ticks = percentile(counts, CALIBRATION_COUNT, 500, UINT64_MAX);
    epoch_seconds = bench_now();
    epoch_ticks = ticks_before();
}

static double ticks_per_ns(void)
{
    double elapsed;
    do { /* a run of a few microseconds would give a poor rate */
        elapsed = bench_now() - epoch_seconds;
    } while (elapsed < 0.01);
    return (double)(ticks_before() - epoch_ticks) / (elapsed * 1e9);
}

struct summary {
    uint64_t calls;
    uint64_t p50, p99, p999, max, max_undisturbed; /* ticks */
};

static struct summary summarise(enum kind kind)
{
    static uint64_t counts[BUCKET_COUNT];
    struct summary sum = {0};
    memset(counts, 0, sizeof counts);
    for (struct record *record = atomic_load_explicit(&all, memory_order_acquire); record != NULL;
         record = record->next) {
        struct histogram *histogram = &record->kinds[kind];
        for (size_t i = 0; i < BUCKET_COUNT; i++) {
            counts[i] += load(&histogram->count[i]);
            sum.calls += load(&histogram->count[i]);
        }
        uint64_t max = load(&histogram->max_ticks);
        uint64_t max_undisturbed = load(&histogram->max_undisturbed_ticks);
        sum.max = max > sum.max ? max : sum.max;
        sum.max_undisturbed = max_undisturbed > sum.max_undisturbed ? max_undisturbed : sum.max_undisturbed;
    }
    sum.p50 = percentile(counts, sum.calls, 500, sum.max);
    sum.p99 = percentile(counts, sum.calls, 990, sum.max);
    sum.p999 = percentile(counts, sum.calls, 999, sum.max);
    return sum;
}

void bench_report_latency(bool json)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double per_ns = ticks_per_ns();
    if (json) {
        printf(",\"timer_overhead_ns\":%.2f,\"timer_resolution_ns\":%.2f,\"involuntary_switches\":%ld",
               (double)overhead_ticks / per_ns, (double)resolution_ticks / per_ns, usage.ru_nivcsw);
    } else {
        printf("  timer: %.1f ns overhead (subtracted), %.1f ns resolution; %ld involuntary context switches\n",
               (double)overhead_ticks / per_ns, (double)resolution_ticks / per_ns, usage.ru_nivcsw);
    }
    for (enum kind kind = 0; kind < KIND_COUNT; kind++) {
        struct summary sum = summarise(kind);
        const char *name = kind_names[kind];
        double p50 = (double)sum.p50 / per_ns;
        double p99 = (double)sum.p99 / per_ns;
        double p999 = (double)sum.p999 / per_ns;
        double max = (double)sum.max / per_ns;
        double max_undisturbed = (double)sum.max_undisturbed / per_ns;
        if (json) {
            printf(",\"%s_calls\":%" PRIu64 ",\"%s_p50_ns\":%.2f,\"%s_p99_ns\":%.2f,\"%s_p999_ns\":%.2f,"
                   "\"%s_max_ns\":%.1f,\"%s_max_undisturbed_ns\":%.1f",
                   name, sum.calls, name, p50, name, p99, name, p999, name, max, name, max_undisturbed);
        } else if (sum.calls != 0) {
            printf("  %-8s %12" PRIu64 " calls: p50 %.1f ns, p99 %.1f ns, p99.9 %.1f ns, max %.1f us "
                   "(undisturbed %.1f us)\n",
                   name, sum.calls, p50, p99, p999, max / 1e3, max_undisturbed / 1e3);
        }
    }
}
