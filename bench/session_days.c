/* session_days: does a server that runs for days grow, although its work does not?
 *
 * Workload: ours. Sessions come and go with the day: per thread a quarter of --sessions is open at night and all of them
 * at noon. Most are closed at random as the number falls; one in eight lives for long and is passed over seven times
 * out of eight, so that every morning's sessions are laid between the survivors of the days before. A session has four
 * blocks of 32 bytes to 2 KiB, and 1 KiB in blocks of the size that this day's work favours: 32 bytes on the first day,
 * twice as large on each one after, and after 1 KiB from the start again. Requests go on all day: each allocates 4..19
 * blocks of 16 bytes to 2 KiB, most of them small, and frees half at once and half when it ends; one in sixteen is
 * followed by the end of a session and the begin of another.
 *
 * The days are spread evenly over --seconds, so that time passes alike for every allocator; one too slow for that makes
 * the days longer. The main thread samples resident memory all along, without the benchmark's own tables. "live" is
 * what the sessions hold. The growth is the mean of resident memory beyond live in the last quarter of the days minus
 * that in the first. An operation is one malloc or one free; --ops sets how many the days have together. */
#define _GNU_SOURCE
#include "blocks.h"
#include "rss_watch.h"

#include <stdatomic.h>

enum { QUARTERS = 4, MIXED_BLOCKS = 4, FAVOURITE_SIZES = 6, FAVOURITE_BLOCKS_MAX = 32 };
#define MIXED_MIN_BYTES ((size_t)32) /* to 2 KiB */
#define MIXED_DOUBLINGS 6
#define FAVOURITE_MIN_BYTES 32
#define FAVOURITE_TOTAL_BYTES 1024
#define REQUEST_MIN_BYTES ((size_t)16) /* to 2 KiB */
#define REQUEST_DOUBLINGS 7
#define REQUEST_BLOCKS_MIN 4
#define REQUEST_BLOCKS_MAX 19
#define OPS_PER_REQUEST 24 /* about, with its share of the sessions: what --ops is divided by */
#define TURNOVER_ONE_OF 16 /* requests */
#define LONG_LIVED_ONE_OF 8 /* sessions */
#define PASSED_OVER 8 /* a long-lived session ends in one case out of so many */
#define NIGHT_PART 0.25 /* of the sessions are open */
#define PACE_REQUESTS 64 /* between two looks at the schedule */
#define AHEAD_SECONDS 0.004 /* of the schedule, until the work pauses: too short a sleep is mostly waking up */
#define SAMPLE_COUNT 1000 /* over the timeline */

static struct bench_options options = {.seconds = 8.0, .threads = 2, .seed = 42};
static uint64_t session_count = 8192;
static uint64_t day_count = 8;
static uint64_t requests_per_day = 40000;
static double begin; /* of the first day; written before the common start */
static pthread_barrier_t barrier;

struct session {
    bool long_lived;
    uint32_t block_count;
    struct bench_slot block[MIXED_BLOCKS + FAVOURITE_BLOCKS_MAX];
};

struct lane {
    _Alignas(BENCH_CACHE_LINE_BYTES) pthread_t thread;
    uint64_t index;
    uint64_t random;
    struct session *sessions; /* the first `open` are */
    uint64_t open;
    uint64_t ops;
    _Atomic uint64_t live_bytes; /* written by its thread, read by the main thread: relaxed, a moment late is fine */
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
static struct rss_watch at_quarter[QUARTERS];               /* copies, from when the quarter ended */

static uint32_t draw_below(struct lane *lane, uint64_t range)
{
    return bench_scale((uint32_t)(bench_random(&lane->random) >> 32), (uint32_t)range);
}

static struct bench_slot new_block(struct lane *lane, size_t size)
{
    struct bench_slot slot = {bench_malloc(size), size};
    if (options.check) {
        bench_fill(slot.block, size, lane->index);
    }
    lane->ops++;
    return slot;
}

static void free_block(struct lane *lane, const struct bench_slot *slot)
{
    lane->ops += bench_slot_free(slot, lane->index, options.check);
}

static void add_live(struct lane *lane, const struct session *session, bool opened)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < session->block_count; i++) {
        bytes += session->block[i].size_bytes;
    }
    uint64_t live = atomic_load_explicit(&lane->live_bytes, memory_order_relaxed);
    atomic_store_explicit(&lane->live_bytes, opened ? live + bytes : live - bytes, memory_order_relaxed);
}

static void open_session(struct lane *lane, uint64_t day)
{
    struct session *session = &lane->sessions[lane->open++];
    session->long_lived = draw_below(lane, LONG_LIVED_ONE_OF) == 0;
    session->block_count = 0;
    for (int i = 0; i < MIXED_BLOCKS; i++) {
        uint32_t draw = (uint32_t)(bench_random(&lane->random) >> 32);
        size_t size = bench_size_even(draw, MIXED_MIN_BYTES, MIXED_DOUBLINGS);
        session->block[session->block_count++] = new_block(lane, size);
    }
    size_t favourite = (size_t)FAVOURITE_MIN_BYTES << day % FAVOURITE_SIZES;
    for (size_t bytes = 0; bytes < FAVOURITE_TOTAL_BYTES; bytes += favourite) {
        session->block[session->block_count++] = new_block(lane, favourite);
    }
    add_live(lane, session, true);
}

static void close_session(struct lane *lane, uint64_t index)
{
    struct session *session = &lane->sessions[index];
    add_live(lane, session, false);
    for (uint32_t i = 0; i < session->block_count; i++) {
        free_block(lane, &session->block[i]);
    }
    *session = lane->sessions[--lane->open];
}

static void close_one(struct lane *lane)
{
    uint64_t index = draw_below(lane, lane->open);
    while (lane->sessions[index].long_lived && draw_below(lane, PASSED_OVER) != 0) {
        index = draw_below(lane, lane->open);
    }
    close_session(lane, index);
}

static void serve(struct lane *lane)
{
    struct bench_slot kept[REQUEST_BLOCKS_MAX];
    uint32_t kept_count = 0;
    uint32_t count = REQUEST_BLOCKS_MIN + draw_below(lane, REQUEST_BLOCKS_MAX - REQUEST_BLOCKS_MIN + 1);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t draw = bench_random(&lane->random);
        struct bench_slot slot =
            new_block(lane, bench_size_skewed((uint32_t)(draw >> 32), REQUEST_MIN_BYTES, REQUEST_DOUBLINGS));
        if ((draw & 1) != 0) {
            kept[kept_count++] = slot;
        } else {
            free_block(lane, &slot);
        }
    }
    for (uint32_t i = 0; i < kept_count; i++) {
        free_block(lane, &kept[i]);
    }
}

/* How many sessions are open at that part of a day: most in its middle, least at its ends. */
static uint64_t sessions_at(double part)
{
    double rise = part < 0.5 ? 2.0 * part : 2.0 - 2.0 * part;
    uint64_t wanted = (uint64_t)((double)session_count * (NIGHT_PART + (1.0 - NIGHT_PART) * rise));
    return wanted > 0 ? wanted : 1;
}

static void keep_pace(const struct lane *lane, double due)
{
    double left = due - bench_now();
    if (lane->index != 0) {
        if (left > AHEAD_SECONDS) {
            bench_sleep(left);
        }
    } else if (left > AHEAD_SECONDS) {
        rss_watch_sleep_until(&watch, due);
    } else {
        rss_watch_poll(&watch, bench_now());
    }
}

static void live_a_day(struct lane *lane, uint64_t day)
{
    double day_seconds = options.seconds / (double)day_count;
    for (uint64_t request = 0; request < requests_per_day; request++) {
        double part = (double)request / (double)requests_per_day;
        uint64_t wanted = sessions_at(part);
        serve(lane);
        if (lane->open > 1 && draw_below(lane, TURNOVER_ONE_OF) == 0) {
            close_one(lane);
        }
        while (lane->open < wanted) {
            open_session(lane, day);
        }
        while (lane->open > wanted) {
            close_one(lane);
        }
        if (request % PACE_REQUESTS == 0) {
            keep_pace(lane, begin + ((double)day + part) * day_seconds);
        }
    }
}

static void *live_through(void *argument)
{
    struct lane *lane = argument;
    pthread_barrier_wait(&barrier);
    for (uint64_t day = 0; day < day_count; day++) {
        live_a_day(lane, day);
        if (lane->index == 0 && (day + 1) % (day_count / QUARTERS) == 0) {
            rss_watch_take(&watch);
            at_quarter[(day + 1) / (day_count / QUARTERS) - 1] = watch;
        }
    }
    pthread_barrier_wait(&barrier);
    while (lane->open > 0) {
        close_session(lane, lane->open - 1);
    }
    return NULL;
}

static void prepare_lane(struct lane *lane, uint64_t index)
{
    lane->index = index;
    lane->random = bench_seed(options.seed, index);
    lane->sessions = bench_map((session_count + 1) * sizeof *lane->sessions);
    watch.own_bytes += (session_count + 1) * sizeof *lane->sessions;
}

/* The mean of resident memory beyond live from the end of one quarter to that of another. */
static double excess_mib(const struct rss_watch *from_end, const struct rss_watch *to_end)
{
    double seconds = to_end->last_time - from_end->last_time;
    return (to_end->excess_seconds - from_end->excess_seconds) / seconds / BENCH_MIB;
}

static int report(const struct rss_watch *start, uint64_t ops)
{
    enum { OWN_COUNT = 5 };
    const struct rss_watch *end = &at_quarter[QUARTERS - 1];
    double first = excess_mib(start, &at_quarter[0]);
    double last = excess_mib(&at_quarter[QUARTERS - 2], end);
    struct bench_figure figures[OWN_COUNT + RSS_WATCH_FIGURE_COUNT] = {
        {"timeline_s", end->last_time - end->begin},
        {"days", (double)day_count},
        {"excess_first_quarter_mib", first},
        {"excess_last_quarter_mib", last},
        {"growth_mib", last - first},
    };
    rss_watch_figures(end, figures + OWN_COUNT);
    bench_report_figures("session_days", &options, ops, end->last_time - end->begin, figures,
                         sizeof figures / sizeof figures[0]);
    return 0;
}

int main(int argc, char **argv)
{
    const struct bench_extra extras[] = {
        {"sessions", "open per thread at noon", &session_count, 1, 1 << 20},
        {"days", "how many; a multiple of four", &day_count, QUARTERS, 100000},
        {"requests", "per thread and day", &requests_per_day, 1, UINT32_MAX},
    };
    bench_parse(argc, argv, "session_days: resident memory of a server over days, played in --seconds", &options,
                extras, sizeof extras / sizeof extras[0]);
    if (day_count % QUARTERS != 0) {
        bench_fail("--days must be a multiple of %d", QUARTERS);
    }
    if (options.ops != 0) {
        uint64_t requests = options.ops / (OPS_PER_REQUEST * day_count * options.threads);
        requests_per_day = requests > 0 ? requests : 1;
    }
    lanes = bench_map(options.threads * sizeof *lanes);
    for (uint64_t i = 0; i < options.threads; i++) {
        prepare_lane(&lanes[i], i);
    }
    pthread_barrier_init(&barrier, NULL, (unsigned)options.threads);
    watch.interval_s = options.seconds / SAMPLE_COUNT;
    rss_watch_begin(&watch);
    const struct rss_watch start = watch;
    begin = watch.begin;
    for (uint64_t i = 1; i < options.threads; i++) {
        bench_thread_start(&lanes[i].thread, live_through, &lanes[i]);
    }
    live_through(&lanes[0]);
    uint64_t ops = lanes[0].ops;
    for (uint64_t i = 1; i < options.threads; i++) {
        pthread_join(lanes[i].thread, NULL);
        ops += lanes[i].ops;
    }
    return report(&start, ops);
}
