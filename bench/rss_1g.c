/* rss_1g: how much memory does a large program hold on to over its life, and how fast is it at the end?
 *
 * Workload: the user's own timeline of a 1 GiB program (--mib for another size). Of --seconds it spends 25 % growing to
 * that size, 10 % losing 80 % of its blocks, picked at random, 30 % idle, and 35 % working on with what is left: a step
 * picks a block at random, frees it and mallocs another. Sizes: 97.9 % of the blocks have 16..512 bytes, 2 % up to
 * 32 KiB, 0.1 % up to 1 MiB, larger ones being rarer; by bytes the three hold about 2 : 1 : 2. One byte of each page is
 * written, so that live bytes are resident bytes.
 *
 * Growing and losing are paced by the clock: the work is the same for every allocator and so is the time it is spread
 * over, so that averages over the timeline compare. An allocator too slow for the pace makes the phase longer; it is
 * always finished. Idling is sleeping. Working goes at full speed until its time is over, or its share of --ops done.
 * With --threads all share the size and keep the same schedule.
 *
 * The result line is the working part: an operation is one malloc or one free. Memory is sampled by the main thread all
 * along, without the benchmark's own tables. "live" is what the program has asked for and not freed. */
#define _GNU_SOURCE
#include "blocks.h"
#include "rss_watch.h"

#include <math.h>
#include <stdatomic.h>

#define SAMPLE_COUNT 1000   /* over the timeline */
#define PACE_BLOCKS 256     /* between two looks at the schedule */
#define WORK_STEPS 2048     /* between two looks at the clock */
#define AHEAD_SECONDS 0.004 /* of the schedule, until the work pauses: too short a sleep is mostly waking up */

enum { GROWN, LOST, IDLED, WORKED, PHASE_COUNT };
static const double phase_end[PHASE_COUNT] = {0.25, 0.35, 0.65, 1.0}; /* as parts of --seconds */
static const char *const phase_name[PHASE_COUNT][2] = {{"rss_grown_mib", "live_grown_mib"},
                                                       {"rss_lost_mib", "live_lost_mib"},
                                                       {"rss_idle_end_mib", "live_idle_end_mib"},
                                                       {"rss_end_mib", "live_end_mib"}};
static struct bench_options options = {.seconds = 10.0, .threads = 1, .seed = 42};
static uint64_t total_mib = 1024;
static double begin; /* of the timeline; written before the common start */
static pthread_barrier_t barrier;

struct lane {
    _Alignas(BENCH_CACHE_LINE_BYTES) pthread_t thread;
    uint64_t index;
    uint64_t random;
    char **blocks;
    uint32_t *sizes;
    uint64_t count;
    uint64_t capacity;
    _Atomic uint64_t live_bytes; /* written by its thread, read by the sampler: relaxed, a moment late is fine */
    uint64_t work_ops;
    uint64_t build_ops;   /* of growing and losing */
    double build_seconds; /* spent on them, without the waiting for the schedule */
    double work_begin;
    double work_end;
};
static struct lane *lanes;

static double live_bytes(void)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < options.threads; i++) {
        sum += atomic_load_explicit(&lanes[i].live_bytes, memory_order_relaxed);
    }
    return (double)sum;
}

static struct rss_watch watch = {.live_bytes = live_bytes}; /* of the main thread alone, whose lane is the first */
static struct rss_sample at_end[PHASE_COUNT];

static void poll_watch(const struct lane *lane, double now)
{
    if (lane->index == 0) {
        rss_watch_poll(&watch, now);
    }
}

static void note_end(const struct lane *lane, int phase)
{
    if (lane->index == 0) {
        at_end[phase] = rss_watch_take(&watch);
    }
}

static uint32_t random_size(uint64_t *random)
{
    uint64_t draw = bench_random(random);
    uint32_t kind = bench_scale((uint32_t)draw, 1000);
    uint32_t part = (uint32_t)(draw >> 32);
    if (kind < 979) {
        return 16 + bench_scale(part, 497);
    }
    return (uint32_t)(kind < 999 ? bench_size_even(part, 512, 6) : bench_size_even(part, 32768, 5));
}

static void add_block(struct lane *lane, uint64_t position)
{
    uint32_t size = random_size(&lane->random);
    char *block = bench_malloc(size);
    for (uint32_t i = 4096; i < size; i += 4096) {
        block[i] = (char)size;
    }
    if (options.check) {
        bench_fill(block, size, lane->index);
    }
    lane->blocks[position] = block;
    lane->sizes[position] = size;
    uint64_t live = atomic_load_explicit(&lane->live_bytes, memory_order_relaxed);
    atomic_store_explicit(&lane->live_bytes, live + size, memory_order_relaxed);
}

static void remove_block(struct lane *lane, uint64_t position)
{
    if (options.check) {
        bench_verify(lane->blocks[position], lane->sizes[position], lane->index);
    }
    free(lane->blocks[position]);
    uint64_t live = atomic_load_explicit(&lane->live_bytes, memory_order_relaxed);
    atomic_store_explicit(&lane->live_bytes, live - lane->sizes[position], memory_order_relaxed);
}

static void idle_until(const struct lane *lane, double time)
{
    double left = time - bench_now();
    if (lane->index == 0) {
        rss_watch_sleep_until(&watch, time);
    } else if (left > 0.0) {
        bench_sleep(left);
    }
}

/* Waits until all threads have ended the phase, and its time is over; main notes what there is. */
static void end_phase(const struct lane *lane, int phase)
{
    idle_until(lane, begin + phase_end[phase] * options.seconds);
    pthread_barrier_wait(&barrier);
    note_end(lane, phase);
    pthread_barrier_wait(&barrier);
}

/* One stretch of paced work has ended: `part` of the phase is done, or more: the last block may be a large one. Returns
 * the time at which the next stretch begins. */
static double keep_pace(struct lane *lane, double since, double from, double to, double part)
{
    double now = bench_now();
    lane->build_seconds += now - since;
    poll_watch(lane, now);
    double due = begin + (from + (to - from) * (part < 1.0 ? part : 1.0)) * options.seconds;
    if (due - now > AHEAD_SECONDS) {
        idle_until(lane, due);
    }
    return bench_now();
}

static void grow(struct lane *lane)
{
    double target = (double)total_mib * BENCH_MIB / (double)options.threads;
    double since = bench_now();
    uint64_t live = 0;
    while ((double)live < target) {
        for (uint64_t i = 0; i < PACE_BLOCKS && (double)live < target; i++) {
            if (lane->count == lane->capacity) {
                bench_fail("the table is too small for this seed");
            }
            add_block(lane, lane->count++);
            live = atomic_load_explicit(&lane->live_bytes, memory_order_relaxed);
        }
        since = keep_pace(lane, since, 0.0, phase_end[GROWN], (double)live / target);
    }
    lane->build_ops += lane->count;
}

static void lose(struct lane *lane)
{
    uint64_t lost = lane->count / 5 * 4;
    double since = bench_now();
    for (uint64_t i = 0; i < lost; i++) {
        uint64_t victim = bench_scale((uint32_t)(bench_random(&lane->random) >> 32), (uint32_t)lane->count);
        remove_block(lane, victim);
        lane->count--;
        lane->blocks[victim] = lane->blocks[lane->count];
        lane->sizes[victim] = lane->sizes[lane->count];
        if (i % PACE_BLOCKS == PACE_BLOCKS - 1 || i == lost - 1) {
            since = keep_pace(lane, since, phase_end[GROWN], phase_end[LOST], (double)(i + 1) / (double)lost);
        }
    }
    lane->build_ops += lost;
}

static void work_on(struct lane *lane)
{
    uint64_t share = options.ops / options.threads + (lane->index < options.ops % options.threads ? 1 : 0);
    lane->work_begin = lane->work_end = bench_now();
    double deadline = lane->work_begin + (phase_end[WORKED] - phase_end[IDLED]) * options.seconds;
    while (options.ops != 0 ? lane->work_ops < share : lane->work_end < deadline) {
        for (uint64_t i = 0; i < WORK_STEPS; i++) {
            uint64_t victim = bench_scale((uint32_t)(bench_random(&lane->random) >> 32), (uint32_t)lane->count);
            remove_block(lane, victim);
            add_block(lane, victim);
        }
        lane->work_ops += (uint64_t)2 * WORK_STEPS;
        lane->work_end = bench_now();
        poll_watch(lane, lane->work_end);
    }
}

static void *live_through(void *argument)
{
    struct lane *lane = argument;
    pthread_barrier_wait(&barrier);
    grow(lane);
    end_phase(lane, GROWN);
    lose(lane);
    end_phase(lane, LOST);
    end_phase(lane, IDLED);
    work_on(lane);
    pthread_barrier_wait(&barrier);
    note_end(lane, WORKED);
    pthread_barrier_wait(&barrier);
    for (uint64_t i = 0; i < lane->count; i++) {
        remove_block(lane, i);
    }
    return NULL;
}

static void prepare_lane(struct lane *lane, uint64_t index)
{
    lane->index = index;
    lane->random = bench_seed(options.seed, index);
    /* The mean block has about 690 bytes; the constant is for lanes of so few blocks that chance matters. */
    lane->capacity = (uint64_t)((double)total_mib * BENCH_MIB / (double)options.threads / 400.0) + 4096;
    lane->blocks = bench_map(lane->capacity * sizeof *lane->blocks);
    lane->sizes = bench_map(lane->capacity * sizeof *lane->sizes);
    watch.own_bytes += lane->capacity * (sizeof *lane->blocks + sizeof *lane->sizes);
}

static int report(void)
{
    uint64_t work_ops = 0, build_ops = 0;
    double work_begin = INFINITY, work_end = 0.0, build_seconds = 0.0;
    for (uint64_t i = 0; i < options.threads; i++) {
        work_ops += lanes[i].work_ops;
        build_ops += lanes[i].build_ops;
        build_seconds += lanes[i].build_seconds;
        work_begin = lanes[i].work_begin < work_begin ? lanes[i].work_begin : work_begin;
        work_end = lanes[i].work_end > work_end ? lanes[i].work_end : work_end;
    }
    enum { OWN_COUNT = 2, HEAD_COUNT = OWN_COUNT + RSS_WATCH_FIGURE_COUNT };
    struct bench_figure figures[HEAD_COUNT + 2 * PHASE_COUNT] = {
        {"timeline_s", watch.last_time - watch.begin},
        {"build_ns_per_op", build_seconds / (double)build_ops * 1e9}, /* growing and losing, a thread's time */
    };
    rss_watch_figures(&watch, figures + OWN_COUNT);
    for (size_t i = 0; i < PHASE_COUNT; i++) {
        figures[HEAD_COUNT + 2 * i] = (struct bench_figure){phase_name[i][0], at_end[i].rss_bytes / BENCH_MIB};
        figures[HEAD_COUNT + 2 * i + 1] = (struct bench_figure){phase_name[i][1], at_end[i].live_bytes / BENCH_MIB};
    }
    bench_report_figures("rss_1g", &options, work_ops, work_end - work_begin, figures,
                         sizeof figures / sizeof figures[0]);
    return 0;
}

int main(int argc, char **argv)
{
    const struct bench_extra extras[] = {{"mib", "size of the full-grown program in MiB", &total_mib, 1, 65536}};
    bench_parse(argc, argv, "rss_1g: resident memory of a program that grows, loses most, idles and works on; --ops "
                            "bounds its last part", &options, extras, sizeof extras / sizeof extras[0]);
    lanes = bench_map(options.threads * sizeof *lanes);
    for (uint64_t i = 0; i < options.threads; i++) {
        prepare_lane(&lanes[i], i);
    }
    pthread_barrier_init(&barrier, NULL, (unsigned)options.threads);
    watch.interval_s = options.seconds / SAMPLE_COUNT;
    rss_watch_begin(&watch);
    begin = watch.begin;
    for (uint64_t i = 1; i < options.threads; i++) {
        bench_thread_start(&lanes[i].thread, live_through, &lanes[i]);
    }
    live_through(&lanes[0]);
    for (uint64_t i = 1; i < options.threads; i++) {
        pthread_join(lanes[i].thread, NULL);
    }
    return report();
}
