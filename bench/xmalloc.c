/* xmalloc: what does memory cost that one thread allocates and another frees, always?
 *
 * Workload: the malloc-test of Lever & Boreham, "malloc() Performance in a Multithreaded Linux Environment" (USENIX
 * 2000, FREENIX track), in the form later suites gave it, written anew. Half of the threads allocate blocks and collect
 * them in batches; the other half take the batches and free the blocks one by one. One queue of bounded length lies
 * between them, so that the slower side sets the pace. Sizes are 8 bytes to 2 KiB, every doubling as likely as any
 * other. No thread frees what it allocated: an allocator that lets memory pile up where it is freed grows without
 * bound, and one that brings it home pays for the way. One thread alone fills and empties batches in turn; of an odd
 * number, the odd one allocates. An operation is one malloc or one free. */
#define _GNU_SOURCE
#include "batch_queue.h"
#include "blocks.h"

#define SIZE_MIN_BYTES ((size_t)8)
#define SIZE_DOUBLINGS 8

static uint64_t queue_batches = 32;
static struct bench_batch_queue queue;

static bool is_producer(uint64_t index)
{
    return index % 2 == 0;
}

static inline __attribute__((always_inline)) uint64_t fill(struct bench_batch *batch, uint64_t ops,
                                                           struct bench_worker *worker, const bool check)
{
    uint64_t room = BENCH_BATCH_BLOCKS - batch->end;
    uint64_t count = ops < room ? ops : room;
    for (uint64_t i = 0; i < count; i++) {
        uint32_t draw = (uint32_t)(bench_random(&worker->random) >> 32);
        size_t size = bench_size_even(draw, SIZE_MIN_BYTES, SIZE_DOUBLINGS);
        batch->blocks[batch->end++] = bench_malloc_labelled(size, worker->options->seed, check);
    }
    return count;
}

static inline __attribute__((always_inline)) uint64_t drain(struct bench_batch *batch, uint64_t ops,
                                                            const struct bench_worker *worker, const bool check)
{
    uint64_t alive = batch->end - batch->begin;
    uint64_t count = ops < alive ? ops : alive;
    for (uint64_t i = 0; i < count; i++) {
        bench_free_labelled(batch->blocks[batch->begin++], worker->options->seed, check);
    }
    if (batch->begin == batch->end) {
        batch->begin = batch->end = 0;
    }
    return count;
}

static inline __attribute__((always_inline)) uint64_t run_batch(struct bench_worker *worker, uint64_t ops,
                                                                const bool check)
{
    struct bench_batch **batch = worker->state;
    uint64_t done = 0;
    if (worker->options->threads == 1) {
        while (done < ops) {
            done += fill(*batch, ops, worker, check);
            done += drain(*batch, ops, worker, check);
        }
    } else if (is_producer(worker->index)) {
        while (done < ops && ((*batch)->end < BENCH_BATCH_BLOCKS || bench_batch_push(&queue, batch))) {
            done += fill(*batch, ops - done, worker, check);
        }
    } else {
        while (done < ops && ((*batch)->end > 0 || bench_batch_pop(&queue, batch))) {
            done += drain(*batch, ops - done, worker, check);
        }
    }
    return done;
}

BENCH_DEFINE_RUN(run_batch, ops)

static void prepare(struct bench_worker *worker)
{
    struct bench_batch **batch = worker->state;
    *batch = bench_map(sizeof **batch);
}

static void finish(struct bench_worker *worker)
{
    struct bench_batch **batch = worker->state;
    bool check = worker->options->check;
    /* Consumers that count operations, not seconds, still wait for the last blocks. */
    if (is_producer(worker->index) && (*batch)->end > 0) {
        bench_batch_push(&queue, batch);
    }
    drain(*batch, BENCH_BATCH_BLOCKS, worker, check);
    if (bench_batch_queue_leave(&queue, is_producer(worker->index))) {
        while (bench_batch_pop(&queue, batch)) {
            drain(*batch, BENCH_BATCH_BLOCKS, worker, check);
        }
    }
}

/* Both sides together do the same. */
static uint64_t share(const struct bench_options *options, uint64_t index)
{
    uint64_t consumers = options->threads / 2;
    uint64_t half = (options->ops + 1) / 2;
    uint64_t mates = is_producer(index) ? options->threads - consumers : consumers;
    return options->threads == 1 ? options->ops : half / mates + (index / 2 < half % mates ? 1 : 0);
}

int main(int argc, char **argv)
{
    struct bench_options options = {.seconds = 1.0, .threads = 2, .seed = 42};
    const struct bench_extra extras[] = {
        {"queue", "batches of 512 blocks that may wait between the two sides", &queue_batches, 1, 65536},
    };
    bench_parse(argc, argv, "xmalloc: half of the threads allocate, the other half free", &options, extras,
                sizeof extras / sizeof extras[0]);
    bench_batch_queue_init(&queue, queue_batches, (options.threads + 1) / 2, options.threads / 2);
    const struct bench_workload workload = {
        .name = "xmalloc",
        .state_bytes = sizeof(struct bench_batch *),
        .ops_per_batch = 4096,
        .prepare = prepare,
        .run = run,
        .finish = finish,
        .share = share,
    };
    return bench_run(&workload, &options);
}
