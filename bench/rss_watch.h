/* Resident memory over time: what the benchmarks that ask about memory share. One thread watches. A sample stands for
 * the time since the one before it, so that the means are integrals over the time watched. */
#ifndef HAKMEM_BENCH_RSS_WATCH_H
#define HAKMEM_BENCH_RSS_WATCH_H

#include "common.h"

#define BENCH_MIB 1048576.0

struct rss_watch {
    double (*live_bytes)(void); /* asked for by the program and not freed; called by the watching thread */
    uint64_t own_bytes;         /* of the benchmark's own tables (bench_map() makes them resident): left out */
    double interval_s;          /* between the samples of rss_watch_poll() and rss_watch_sleep_until() */
    double begin, last_time;
    double rss_seconds, live_seconds, excess_seconds; /* integrals, in byte-seconds; excess is RSS minus live */
    double highest_bytes;
};

struct rss_sample {
    double rss_bytes;
    double live_bytes;
};

/* The time watched begins now. Keeps what the caller has set of the first three members and clears the others. */
void rss_watch_begin(struct rss_watch *watch);

struct rss_sample rss_watch_take(struct rss_watch *watch);

/* Takes a sample if the last one is older than the interval. */
void rss_watch_poll(struct rss_watch *watch, double now);

/* Sleeps until `time` and takes samples meanwhile. */
void rss_watch_sleep_until(struct rss_watch *watch, double time);

/* The means over the time watched, and the highest sample: rss_mean_mib, live_mean_mib, excess_mean_mib and
 * rss_highest_mib. */
#define RSS_WATCH_FIGURE_COUNT 4
void rss_watch_figures(const struct rss_watch *watch, struct bench_figure figures[RSS_WATCH_FIGURE_COUNT]);

#endif
