/* idle_burst: how much memory does a process keep that had a burst of work and now does nothing at all?
 *
 * Workload: what users report of servers that blow up once and stay large. Every thread allocates its share, all at the
 * same time, until --thread-kib are live in each; then all free it, and block. Nobody calls malloc any more, for --idle
 * seconds; the main thread samples resident memory, without the benchmark's own tables. By default four threads hold
 * 610 MiB in blocks of 40,000 bytes, as in a complaint about a server's buffers. With --survivors N one block in N, at
 * random, is not freed: all pages around it are free. Sizes between --min-size and --max-size are log-uniform. Every
 * page of a block is written.
 *
 * The options make other questions of it: of a pool of 1,000 threads that did a little each, for example, --threads 1000
 * --thread-kib 64 --min-size 16 --max-size 32768.
 *
 * An operation is one malloc or one free of the burst; with --seconds or --ops the burst is repeated for so long before
 * the process falls idle. The means are over the idling. "live" is what the program has asked for and not freed. */
#define _GNU_SOURCE
#include "blocks.h"
#include "rss_watch.h"

#include <unistd.h>

#define PAGE_BYTES ((size_t)4096)
#define SAMPLE_SECONDS 0.05
#define SPARE_SLOTS 256 /* for threads of so few blocks that chance matters */

static struct bench_options options = {.seconds = 0.0, .threads = 4, .seed = 42};
static uint64_t thread_kib = 156160;
static uint64_t min_bytes = 40000;
static uint64_t max_bytes = 40000;
static uint64_t survivor_one_of = 0;
static uint64_t idle_seconds = 20;

struct lane {
    _Alignas(BENCH_CACHE_LINE_BYTES) pthread_t thread;
    uint64_t index;
    uint64_t random;
    struct bench_slot *slots; /* the first `count` hold a block */
    uint64_t count;
    uint64_t capacity;
    uint64_t ops;
    uint64_t live_bytes; /* written by its thread between two barriers, read by the main thread between others */
};
static struct lane *lanes;
static pthread_barrier_t barrier;
static bool once_more; /* written by the main thread, read by all after the next barrier */

static double live_bytes(void)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < options.threads; i++) {
        sum += lanes[i].live_bytes;
    }
    return (double)sum;
}

static struct rss_watch watch = {.live_bytes = live_bytes, .interval_s = SAMPLE_SECONDS};
static struct {
    struct rss_sample start, burst, freed, idled;
    double burst_begin, burst_seconds;
    uint64_t burst_ops;
} seen; /* by the main thread */

static uint32_t doublings_of_sizes(void)
{
    return min_bytes == max_bytes ? 0 : bench_doublings(min_bytes, max_bytes);
}

static void allocate(struct lane *lane, uint32_t doublings)
{
    uint64_t target = thread_kib << 10;
    while (lane->live_bytes < target) {
        if (lane->count == lane->capacity) {
            bench_fail("the table is too small for this seed");
        }
        uint32_t draw = (uint32_t)(bench_random(&lane->random) >> 32);
        size_t size = doublings != 0 ? bench_size_even(draw, min_bytes, doublings) : min_bytes;
        char *block = bench_malloc(size);
        for (size_t i = PAGE_BYTES; i < size; i += PAGE_BYTES) {
            block[i] = (char)size;
        }
        if (options.check) {
            bench_fill(block, size, lane->index);
        }
        lane->slots[lane->count++] = (struct bench_slot){block, size};
        lane->live_bytes += size;
        lane->ops++;
    }
}

/* Frees all but every survivor; 0: all. */
static void release(struct lane *lane, uint64_t survivor)
{
    uint64_t kept = 0;
    for (uint64_t i = 0; i < lane->count; i++) {
        struct bench_slot slot = lane->slots[i];
        if (survivor != 0 && bench_scale((uint32_t)(bench_random(&lane->random) >> 32), (uint32_t)survivor) == 0) {
            lane->slots[kept++] = slot;
            continue;
        }
        lane->ops += bench_slot_free(&slot, lane->index, options.check);
        lane->live_bytes -= slot.size_bytes;
    }
    lane->count = kept;
}

/* All threads have come to the same point: the main one samples while the others wait. */
static void meet(const struct lane *lane, struct rss_sample *sample)
{
    pthread_barrier_wait(&barrier);
    if (lane->index == 0) {
        *sample = rss_watch_take(&watch);
    }
    pthread_barrier_wait(&barrier);
}

static uint64_t ops_done(void)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < options.threads; i++) {
        sum += lanes[i].ops;
    }
    return sum;
}

/* One burst; whether another is to follow. What survived an earlier one takes part in the next. */
static bool burst(struct lane *lane, uint32_t doublings)
{
    struct rss_sample high = {0};
    allocate(lane, doublings);
    meet(lane, &high);
    release(lane, survivor_one_of);
    pthread_barrier_wait(&barrier);
    if (lane->index == 0) {
        seen.burst = high.rss_bytes > seen.burst.rss_bytes ? high : seen.burst;
        seen.burst_seconds = bench_now() - seen.burst_begin;
        seen.burst_ops = ops_done();
        once_more = options.ops != 0 ? seen.burst_ops < options.ops : seen.burst_seconds < options.seconds;
    }
    pthread_barrier_wait(&barrier);
    return once_more;
}

static void idle(const struct lane *lane)
{
    pthread_barrier_wait(&barrier);
    if (lane->index == 0) {
        /* For bench/compare, which lets the next process work from here on. Not by stdio, which would allocate. */
        static const char said[] = "idling\n";
        if (write(STDOUT_FILENO, said, sizeof said - 1) < 0) {
            bench_fail("cannot write");
        }
        rss_watch_begin(&watch);
        seen.freed = rss_watch_take(&watch);
        rss_watch_sleep_until(&watch, watch.begin + (double)idle_seconds);
        seen.idled = rss_watch_take(&watch);
    }
    pthread_barrier_wait(&barrier); /* where the others block meanwhile */
}

static void *live_through(void *argument)
{
    struct lane *lane = argument;
    uint32_t doublings = doublings_of_sizes();
    meet(lane, &seen.start);
    if (lane->index == 0) {
        seen.burst_begin = bench_now();
    }
    while (burst(lane, doublings)) {
    }
    idle(lane);
    release(lane, 0);
    return NULL;
}

static void prepare_lane(struct lane *lane, uint64_t index)
{
    lane->index = index;
    lane->random = bench_seed(options.seed, index);
    /* Of log-uniform sizes those of the doubling above `base` are 1.5 * base on average. */
    uint32_t doublings = doublings_of_sizes();
    double mean_bytes = doublings != 0 ? 1.5 * (double)(max_bytes - min_bytes) / doublings : (double)min_bytes;
    lane->capacity = (uint64_t)(2.0 * (double)(thread_kib << 10) / mean_bytes) + SPARE_SLOTS;
    size_t bytes = (lane->capacity * sizeof *lane->slots + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1);
    lane->slots = bench_map(bytes);
    watch.own_bytes += bytes;
}

static int report(void)
{
    enum { OWN_COUNT = 7 };
    double live = seen.idled.live_bytes;
    struct bench_figure figures[OWN_COUNT + RSS_WATCH_FIGURE_COUNT] = {
        {"idle_s", (double)idle_seconds},
        {"rss_start_mib", seen.start.rss_bytes / BENCH_MIB}, /* with all threads, before the first block */
        {"live_burst_mib", seen.burst.live_bytes / BENCH_MIB},
        {"rss_freed_mib", seen.freed.rss_bytes / BENCH_MIB},
        {"rss_idle_end_mib", seen.idled.rss_bytes / BENCH_MIB},
        {"live_idle_end_mib", live / BENCH_MIB},
        {"rss_to_live_idle_end", live > 0.0 ? seen.idled.rss_bytes / live : 0.0}, /* 0: nothing is live */
    };
    watch.highest_bytes = seen.burst.rss_bytes > watch.highest_bytes ? seen.burst.rss_bytes : watch.highest_bytes;
    rss_watch_figures(&watch, figures + OWN_COUNT);
    bench_report_figures("idle_burst", &options, seen.burst_ops, seen.burst_seconds, figures,
                         sizeof figures / sizeof figures[0]);
    return 0;
}

int main(int argc, char **argv)
{
    const struct bench_extra extras[] = {
        {"thread-kib", "live in each thread at the height of the burst, in KiB", &thread_kib, 1, 1 << 24},
        {"min-size", "smallest block in bytes", &min_bytes, 16, 1 << 26},
        {"max-size", "largest block in bytes: the smallest, or 2, 4, 8, ... times that", &max_bytes, 16, 1 << 26},
        {"survivors", "one block in N is not freed; 0: all are", &survivor_one_of, 0, 1 << 20},
        {"idle", "seconds of doing nothing", &idle_seconds, 0, 86400},
    };
    bench_parse(argc, argv, "idle_burst: resident memory of a process that had a burst and falls idle; --seconds and "
                            "--ops repeat the burst, which is had once by default", &options, extras,
                sizeof extras / sizeof extras[0]);
    lanes = bench_map(options.threads * sizeof *lanes);
    for (uint64_t i = 0; i < options.threads; i++) {
        prepare_lane(&lanes[i], i);
    }
    pthread_barrier_init(&barrier, NULL, (unsigned)options.threads);
    for (uint64_t i = 1; i < options.threads; i++) {
        bench_thread_start(&lanes[i].thread, live_through, &lanes[i]);
    }
    live_through(&lanes[0]);
    for (uint64_t i = 1; i < options.threads; i++) {
        pthread_join(lanes[i].thread, NULL);
    }
    return report();
}
