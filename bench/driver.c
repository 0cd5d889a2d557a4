/* The driver: starts a workload's threads together, lets each work in batches between looks at the clock, and adds up
 * what they did. */
#define _GNU_SOURCE
#include "common.h"

#include <math.h>
#include <sched.h>

enum { SPINS_BEFORE_YIELD = 100 };

/* Written by its own thread alone until that is joined. */
struct runner {
    _Alignas(BENCH_CACHE_LINE_BYTES) struct bench_worker worker;
    const struct bench_workload *workload;
    pthread_barrier_t *start;
    pthread_t thread;
    uint64_t ops_wanted; /* UINT64_MAX: run for options->seconds */
    uint64_t ops_done;
    double begin; /* of the timed part */
    double end;
};

static void *work(void *argument)
{
    struct runner *runner = argument;
    struct bench_worker *worker = &runner->worker;
    const struct bench_workload *workload = runner->workload;
    if (workload->prepare != NULL) {
        workload->prepare(worker);
    }
    pthread_barrier_wait(runner->start);
    uint64_t done = 0;
    uint64_t batch = 1;
    runner->begin = runner->end = bench_now();
    double deadline = runner->ops_wanted == UINT64_MAX ? runner->begin + worker->options->seconds : INFINITY;
    while (done < runner->ops_wanted && runner->end < deadline && batch != 0) {
        uint64_t left = runner->ops_wanted - done;
        batch = workload->run(worker, left < workload->ops_per_batch ? left : workload->ops_per_batch);
        done += batch;
        runner->end = bench_now();
    }
    runner->ops_done = done;
    if (workload->finish != NULL) {
        workload->finish(worker);
    }
    return NULL;
}

static uint64_t equal_share(const struct bench_options *options, uint64_t index)
{
    return options->ops / options->threads + (index < options->ops % options->threads ? 1 : 0);
}

int bench_run(const struct bench_workload *workload, const struct bench_options *options)
{
    struct runner *runners = bench_map(options->threads * sizeof *runners);
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, (unsigned)options->threads);
    for (uint64_t i = 0; i < options->threads; i++) {
        struct runner *runner = &runners[i];
        uint64_t share = workload->share != NULL ? workload->share(options, i) : equal_share(options, i);
        runner->worker.index = i;
        runner->worker.random = bench_seed(options->seed, i);
        runner->worker.options = options;
        runner->worker.state = workload->state_bytes != 0 ? bench_map(workload->state_bytes) : NULL;
        runner->workload = workload;
        runner->start = &start;
        runner->ops_wanted = options->ops != 0 ? share : UINT64_MAX;
        if (i > 0) {
            bench_thread_start(&runner->thread, work, runner);
        }
    }
    work(&runners[0]);
    uint64_t ops = runners[0].ops_done;
    double begin = runners[0].begin;
    double end = runners[0].end;
    for (uint64_t i = 1; i < options->threads; i++) {
        pthread_join(runners[i].thread, NULL);
        ops += runners[i].ops_done;
        begin = runners[i].begin < begin ? runners[i].begin : begin;
        end = runners[i].end > end ? runners[i].end : end;
    }
    pthread_barrier_destroy(&start);
    struct bench_figure figures[BENCH_MAX_FIGURES];
    if (workload->figures != NULL) {
        workload->figures(figures);
    }
    bench_report_figures(workload->name, options, ops, end - begin, figures, workload->figure_count);
    return 0;
}

void bench_thread_start(pthread_t *thread, void *(*function)(void *), void *argument)
{
    if (pthread_create(thread, NULL, function, argument) != 0) {
        bench_fail("cannot start a thread");
    }
}

void bench_wait_turn(unsigned *spins)
{
    if (++*spins < SPINS_BEFORE_YIELD) {
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#endif
    } else {
        sched_yield();
    }
}
