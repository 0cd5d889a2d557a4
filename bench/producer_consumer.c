/* producer_consumer: what does it cost when one thread allocates and another frees?
 *
 * Workload: pipelines and message queues, in which no block is ever freed by the thread that allocated it. Threads
 * work in pairs: the even one allocates blocks of 16..256 bytes and writes their first and last byte, a bounded queue
 * carries them over, the odd one looks at them and frees them. With --batch 1 blocks go over one by one, otherwise
 * that many are allocated, handed over and freed in a row. The asymmetry is what allocators with thread caches are
 * known to lose on (Berger et al., "Hoard", ASPLOS 2000; xmalloc by Lever & Boreham, USENIX 2000). One thread alone
 * plays both parts: the same work without the second thread. An operation is one malloc or one free. */
#define _GNU_SOURCE
#include "ring.h"

static struct bench_sizes sizes = {16, 256};
static uint64_t batch = 1;
static struct bench_ring *rings; /* one for each pair */

static inline __attribute__((always_inline)) uint64_t produce(struct bench_worker *worker, uint64_t ops,
                                                              const bool check)
{
    struct bench_ring *ring = &rings[worker->index / 2];
    uint64_t done = 0;
    while (done < ops && bench_ring_produce(ring, batch, &sizes, &worker->random, check)) {
        done += batch;
    }
    return done;
}

static inline __attribute__((always_inline)) uint64_t consume(struct bench_worker *worker, uint64_t ops,
                                                              const bool check)
{
    struct bench_ring *ring = &rings[worker->index / 2];
    uint64_t done = 0;
    unsigned spins = 0;
    while (done < ops) {
        uint64_t count = bench_ring_consume(ring, BENCH_RING_STRIDE, batch, check);
        done += count;
        if (count != 0) {
            spins = 0;
        } else if (bench_ring_is_dry(ring)) {
            break;
        } else {
            bench_wait_turn(&spins);
        }
    }
    return done;
}

static inline __attribute__((always_inline)) uint64_t do_both(struct bench_worker *worker, uint64_t ops,
                                                              const bool check)
{
    uint64_t done = 0;
    while (done < ops) {
        bench_ring_produce(rings, batch, &sizes, &worker->random, check);
        done += batch + bench_ring_consume(rings, 1, batch, check);
    }
    return done;
}

static inline __attribute__((always_inline)) uint64_t play(struct bench_worker *worker, uint64_t ops, const bool check)
{
    if (worker->options->threads == 1) {
        return do_both(worker, ops, check);
    }
    return worker->index % 2 == 0 ? produce(worker, ops, check) : consume(worker, ops, check);
}

BENCH_DEFINE_RUN(play, ops)

static void finish(struct bench_worker *worker)
{
    struct bench_ring *ring = &rings[worker->index / 2];
    if (worker->index % 2 == 0) {
        bench_ring_end_producing(ring);
    }
    if (worker->index % 2 == 1 || worker->options->threads == 1) {
        bench_ring_end_consuming(ring, worker->options->check);
    }
}

int main(int argc, char **argv)
{
    struct bench_options options = {.seconds = 1.0, .threads = 2, .seed = 42};
    const struct bench_extra extras[] = {
        {"batch", "blocks handed over together", &batch, 1, BENCH_RING_SLOTS / 2},
        {"min-size", "smallest block in bytes", &sizes.min_bytes, 1, UINT32_MAX / 2},
        {"max-size", "largest block in bytes", &sizes.max_bytes, 1, UINT32_MAX / 2},
    };
    bench_parse(argc, argv, "producer_consumer: one thread allocates, another frees", &options, extras,
                sizeof extras / sizeof extras[0]);
    if (options.threads != 1 && options.threads % 2 != 0) {
        bench_fail("--threads must be 1 or even: threads work in pairs");
    }
    if (sizes.min_bytes > sizes.max_bytes) {
        bench_fail("--min-size is above --max-size");
    }
    rings = bench_map((options.threads + 1) / 2 * sizeof *rings);
    static const struct bench_workload workload = {
        .name = "producer_consumer", .ops_per_batch = 8192, .run = run, .finish = finish};
    return bench_run(&workload, &options);
}
