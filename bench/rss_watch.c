/* Samples of resident memory and their integrals over time. */
#include "rss_watch.h"

void rss_watch_begin(struct rss_watch *watch)
{
    *watch = (struct rss_watch){
        .live_bytes = watch->live_bytes, .own_bytes = watch->own_bytes, .interval_s = watch->interval_s};
    watch->begin = watch->last_time = bench_now();
}

struct rss_sample rss_watch_take(struct rss_watch *watch)
{
    double now = bench_now();
    double passed = now - watch->last_time;
    struct rss_sample sample = {(double)bench_rss_bytes() - (double)watch->own_bytes, watch->live_bytes()};
    watch->rss_seconds += sample.rss_bytes * passed;
    watch->live_seconds += sample.live_bytes * passed;
    watch->excess_seconds += (sample.rss_bytes - sample.live_bytes) * passed;
    watch->highest_bytes = sample.rss_bytes > watch->highest_bytes ? sample.rss_bytes : watch->highest_bytes;
    watch->last_time = now;
    return sample;
}

void rss_watch_poll(struct rss_watch *watch, double now)
{
    if (now - watch->last_time >= watch->interval_s) {
        rss_watch_take(watch);
    }
}

void rss_watch_sleep_until(struct rss_watch *watch, double time)
{
    for (double now; (now = bench_now()) < time;) {
        bench_sleep(time - now < watch->interval_s ? time - now : watch->interval_s);
        rss_watch_poll(watch, bench_now());
    }
}

void rss_watch_figures(const struct rss_watch *watch, struct bench_figure figures[RSS_WATCH_FIGURE_COUNT])
{
    double seconds = watch->last_time - watch->begin;
    double scale = seconds > 0.0 ? 1.0 / (seconds * BENCH_MIB) : 0.0;
    figures[0] = (struct bench_figure){"rss_mean_mib", watch->rss_seconds * scale};
    figures[1] = (struct bench_figure){"live_mean_mib", watch->live_seconds * scale};
    figures[2] = (struct bench_figure){"excess_mean_mib", watch->excess_seconds * scale};
    figures[3] = (struct bench_figure){"rss_highest_mib", watch->highest_bytes / BENCH_MIB};
}
