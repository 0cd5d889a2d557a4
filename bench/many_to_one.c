/* many_to_one: what does it cost when all threads allocate and a single one frees?
 *
 * Workload: a logger, a collector or a garbage-freeing thread: threads 1.. allocate blocks of 16..256 bytes, write
 * their first and last byte and queue them; thread 0 looks at each block and frees it. The freeing thread's cache
 * fills with blocks that others need, and all return paths of the allocator meet in one place (the many-producer case
 * of Lever & Boreham, "malloc() Performance in a Multithreaded Linux Environment", USENIX 2000). Every producer has a
 * queue of its own, so that the queues do not contend. One thread alone plays both parts. An operation is one malloc
 * or one free; of --ops, thread 0 does half. */
#define _GNU_SOURCE
#include "ring.h"

static struct bench_sizes sizes = {16, 256};
static uint64_t batch = 1;
static uint64_t producer_count;
static struct bench_ring *rings; /* one for each producer */

enum { FREED_PER_VISIT = 64 }; /* before thread 0 goes on to the next queue */

/* One round over all queues; returns how many blocks it freed. */
static inline __attribute__((always_inline)) uint64_t visit_all(const bool check)
{
    uint64_t freed = 0;
    for (uint64_t i = 0; i < producer_count; i++) {
        freed += bench_ring_consume(&rings[i], BENCH_RING_STRIDE, FREED_PER_VISIT, check);
    }
    return freed;
}

static bool all_dry(void)
{
    for (uint64_t i = 0; i < producer_count; i++) {
        if (!bench_ring_is_dry(&rings[i])) {
            return false;
        }
    }
    return true;
}

static inline __attribute__((always_inline)) uint64_t consume(uint64_t ops, const bool check)
{
    uint64_t done = 0;
    unsigned spins = 0;
    while (done < ops) {
        uint64_t freed = visit_all(check);
        done += freed;
        if (freed != 0) {
            spins = 0;
        } else if (all_dry()) {
            break;
        } else {
            bench_wait_turn(&spins);
        }
    }
    return done;
}

static inline __attribute__((always_inline)) uint64_t play(struct bench_worker *worker, uint64_t ops, const bool check)
{
    bool alone = worker->options->threads == 1;
    if (worker->index == 0 && !alone) {
        return consume(ops, check);
    }
    struct bench_ring *ring = alone ? rings : &rings[worker->index - 1];
    uint64_t done = 0;
    while (done < ops && bench_ring_produce(ring, batch, &sizes, &worker->random, check)) {
        done += batch;
        if (alone) {
            done += bench_ring_consume(ring, 1, batch, check);
        }
    }
    return done;
}

BENCH_DEFINE_RUN(play, ops)

static void finish(struct bench_worker *worker)
{
    if (worker->index != 0) {
        bench_ring_end_producing(&rings[worker->index - 1]);
        return;
    }
    /* All queues must learn of the end before one is waited for: a producer may be waiting for room in another. */
    for (uint64_t i = 0; i < producer_count; i++) {
        atomic_store_explicit(&rings[i].consumer_ended, true, memory_order_relaxed);
    }
    for (uint64_t i = 0; i < producer_count; i++) {
        if (worker->options->threads == 1) {
            bench_ring_end_producing(&rings[i]);
        }
        bench_ring_end_consuming(&rings[i], worker->options->check);
    }
}

static uint64_t share(const struct bench_options *options, uint64_t index)
{
    if (options->threads == 1) {
        return options->ops;
    }
    uint64_t mallocs = options->ops - options->ops / 2;
    return index == 0 ? options->ops / 2 : mallocs / producer_count + (index <= mallocs % producer_count ? 1 : 0);
}

int main(int argc, char **argv)
{
    struct bench_options options = {.seconds = 1.0, .threads = 4, .seed = 42};
    const struct bench_extra extras[] = {
        {"batch", "blocks queued together", &batch, 1, BENCH_RING_SLOTS / 2},
        {"min-size", "smallest block in bytes", &sizes.min_bytes, 1, UINT32_MAX / 2},
        {"max-size", "largest block in bytes", &sizes.max_bytes, 1, UINT32_MAX / 2},
    };
    bench_parse(argc, argv, "many_to_one: many threads allocate, one frees", &options, extras,
                sizeof extras / sizeof extras[0]);
    if (sizes.min_bytes > sizes.max_bytes) {
        bench_fail("--min-size is above --max-size");
    }
    producer_count = options.threads == 1 ? 1 : options.threads - 1;
    rings = bench_map(producer_count * sizeof *rings);
    static const struct bench_workload workload = {
        .name = "many_to_one", .ops_per_batch = 8192, .run = run, .finish = finish, .share = share};
    return bench_run(&workload, &options);
}
