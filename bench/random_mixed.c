/* random_mixed: how fast is the hit path when small sizes come in no order?
 *
 * Workload: the table of the HAKMEM configuration page (SPEC). Each thread has 400 slots. A step picks a slot at
 * random, frees its block if it holds one, then mallocs a block of 16..256 bytes, sizes uniform, and writes its
 * first and last byte. The seed is fixed, so every allocator sees the same requests. An operation is one malloc
 * or one free: a step counts two, except the first visit to a slot, which counts one. Blocks never change
 * threads. */
#define _GNU_SOURCE
#include "common.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#define SIZE_MIN_BYTES 16
#define SIZE_MAX_BYTES 256
#define SLOT_COUNT 400
#define STEPS_PER_BATCH 8192 /* between two looks at the clock: well under a millisecond */

struct worker {
    _Alignas(BENCH_CACHE_LINE_BYTES) pthread_t thread;
    const struct bench_options *options;
    pthread_barrier_t *start;
    uint64_t seed;
    uint64_t ops_wanted; /* UINT64_MAX: run for options->seconds */
    uint64_t ops_done;
    double begin; /* of the timed part */
    double end;
};

struct slots {
    char *block[SLOT_COUNT];
    uint16_t size[SLOT_COUNT]; /* maintained with --check only */
};

/* One body for both flavours; `check` is a constant at each call, so the timed loop carries no trace of it. */
static inline __attribute__((always_inline)) uint64_t run_batch(struct slots *slots, uint64_t *random, uint64_t steps,
                                                                uint64_t salt, const bool check)
{
    uint64_t state = *random;
    uint64_t frees = 0;
    for (uint64_t i = 0; i < steps; i++) {
        uint64_t draw = bench_random(&state);
        uint32_t slot = bench_scale((uint32_t)draw, SLOT_COUNT);
        size_t size = SIZE_MIN_BYTES + bench_scale((uint32_t)(draw >> 32), SIZE_MAX_BYTES - SIZE_MIN_BYTES + 1);
        char *old = slots->block[slot];
        if (old != NULL) {
            if (check) {
                bench_verify(old, slots->size[slot], salt + slot);
            }
            free(old);
            frees++;
        }
        char *block = malloc(size);
        if (__builtin_expect(block == NULL, 0)) {
            bench_fail("malloc(%zu) failed", size);
        }
        block[0] = (char)draw;
        block[size - 1] = (char)draw;
        if (check) {
            bench_fill(block, size, salt + slot);
            slots->size[slot] = (uint16_t)size;
        }
        slots->block[slot] = block;
    }
    *random = state;
    return steps + frees;
}

static __attribute__((noinline)) uint64_t run_timed(struct slots *slots, uint64_t *random, uint64_t steps)
{
    return run_batch(slots, random, steps, 0, false);
}

static __attribute__((noinline)) uint64_t run_checked(struct slots *slots, uint64_t *random, uint64_t steps,
                                                      uint64_t salt)
{
    return run_batch(slots, random, steps, salt, true);
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    struct slots slots = {{NULL}, {0}};
    uint64_t random = worker->seed;
    uint64_t done = 0;
    pthread_barrier_wait(worker->start);
    worker->begin = bench_now();
    double deadline = worker->ops_wanted == UINT64_MAX ? worker->begin + worker->options->seconds : INFINITY;
    do {
        uint64_t left = worker->ops_wanted - done;
        uint64_t steps = left / 2 < STEPS_PER_BATCH ? (left + 1) / 2 : STEPS_PER_BATCH;
        done += worker->options->check ? run_checked(&slots, &random, steps, worker->seed)
                                       : run_timed(&slots, &random, steps);
        worker->end = bench_now();
    } while (done < worker->ops_wanted && worker->end < deadline);
    worker->ops_done = done;
    for (size_t i = 0; i < SLOT_COUNT; i++) {
        if (worker->options->check && slots.block[i] != NULL) {
            bench_verify(slots.block[i], slots.size[i], worker->seed + i);
        }
        free(slots.block[i]);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    struct bench_options options = {.seconds = 1.0, .threads = 1, .seed = 42};
    bench_parse(argc, argv, "random_mixed: malloc and free of 16..256 bytes in 400 random slots", &options, NULL, 0);

    struct worker *workers = bench_map(options.threads * sizeof *workers);
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, (unsigned)options.threads);
    for (uint64_t i = 0; i < options.threads; i++) {
        uint64_t share = options.ops / options.threads + (i < options.ops % options.threads ? 1 : 0);
        workers[i].options = &options;
        workers[i].start = &start;
        workers[i].seed = bench_seed(options.seed, i);
        workers[i].ops_wanted = options.ops != 0 ? share : UINT64_MAX;
        /* The main thread is the first worker: a program of one thread must not be measured as one of two. */
        if (i > 0 && pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0) {
            bench_fail("cannot start thread %d", (int)i);
        }
    }
    work(&workers[0]);
    uint64_t ops = workers[0].ops_done;
    double begin = workers[0].begin;
    double end = workers[0].end;
    for (uint64_t i = 1; i < options.threads; i++) {
        pthread_join(workers[i].thread, NULL);
        ops += workers[i].ops_done;
        begin = workers[i].begin < begin ? workers[i].begin : begin;
        end = workers[i].end > end ? workers[i].end : end;
    }
    bench_report("random_mixed", &options, ops, end - begin);
    return 0;
}
