/* random_mixed: how fast is the hit path when small sizes come in no order?
 *
 * Workload: the table of the HAKMEM configuration page (SPEC). Each thread has 400 slots. A step picks a slot at
 * random, frees its block if it holds one, then mallocs a block of 16..256 bytes, sizes uniform, and writes its
 * first and last byte. The seed is fixed, so every allocator sees the same requests. An operation is one malloc
 * or one free: a step counts two, except the first visit to a slot, which counts one. Blocks never change
 * threads. */
#define _GNU_SOURCE
#include "common.h"

#define SIZE_MIN_BYTES 16
#define SIZE_MAX_BYTES 256
#define SLOT_COUNT 400

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

static uint64_t run(struct bench_worker *worker, uint64_t ops)
{
    uint64_t steps = (ops + 1) / 2;
    return worker->options->check ? run_checked(worker->state, &worker->random, steps, worker->index << 32)
                                  : run_timed(worker->state, &worker->random, steps);
}

static void finish(struct bench_worker *worker)
{
    struct slots *slots = worker->state;
    for (size_t i = 0; i < SLOT_COUNT; i++) {
        if (worker->options->check && slots->block[i] != NULL) {
            bench_verify(slots->block[i], slots->size[i], (worker->index << 32) + i);
        }
        free(slots->block[i]);
    }
}

int main(int argc, char **argv)
{
    struct bench_options options = {.seconds = 1.0, .threads = 1, .seed = 42};
    bench_parse(argc, argv, "random_mixed: malloc and free of 16..256 bytes in 400 random slots", &options, NULL, 0);
    static const struct bench_workload workload = {
        .name = "random_mixed",
        .state_bytes = sizeof(struct slots),
        .ops_per_batch = 16384, /* well under a millisecond */
        .run = run,
        .finish = finish,
    };
    return bench_run(&workload, &options);
}
