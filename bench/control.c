/* control: how does the machine itself scale, and how fast would random_mixed be without an allocator?
 *
 * Workload: random_mixed, step for step and with the same random numbers, except that blocks come from stacks of
 * pointers in the thread's own memory: no malloc is called, nothing is shared. If two threads of this are not twice as
 * fast as one, the machine is at fault (a shared core, a neighbour, frequency), and no allocator can be blamed for
 * that part of its loss. Preloading a library changes nothing here. An operation is one take or one put. */
#define _GNU_SOURCE
#include "common.h"

#define SIZE_MIN_BYTES 16
#define SIZE_MAX_BYTES 256
#define SLOT_COUNT 400
#define BIN_BYTES 16
#define BIN_COUNT (SIZE_MAX_BYTES / BIN_BYTES)

/* All slots may hold blocks of one bin, so each bin has enough for all. */
struct pool {
    char *slots[SLOT_COUNT];
    uint16_t sizes[SLOT_COUNT];
    uint32_t counts[BIN_COUNT];
    char *stacks[BIN_COUNT][SLOT_COUNT];
    char blocks[BIN_COUNT][SLOT_COUNT][SIZE_MAX_BYTES];
};

/* Not inlined, as malloc is not: a call is part of every operation. */
static __attribute__((noinline)) char *take(struct pool *pool, size_t size)
{
    size_t bin = (size - 1) / BIN_BYTES;
    return pool->counts[bin] != 0 ? pool->stacks[bin][--pool->counts[bin]] : NULL;
}

static __attribute__((noinline)) void put(struct pool *pool, char *block, size_t size)
{
    size_t bin = (size - 1) / BIN_BYTES;
    pool->stacks[bin][pool->counts[bin]++] = block;
}

static void prepare(struct bench_worker *worker)
{
    struct pool *pool = worker->state;
    for (size_t bin = 0; bin < BIN_COUNT; bin++) {
        for (size_t i = 0; i < SLOT_COUNT; i++) {
            put(pool, pool->blocks[bin][i], (bin + 1) * BIN_BYTES);
        }
    }
}

static inline __attribute__((always_inline)) uint64_t replace(struct bench_worker *worker, uint64_t steps,
                                                              const bool check)
{
    struct pool *pool = worker->state;
    uint64_t random = worker->random;
    uint64_t puts = 0;
    for (uint64_t i = 0; i < steps; i++) {
        uint64_t draw = bench_random(&random);
        uint32_t slot = bench_scale((uint32_t)draw, SLOT_COUNT);
        size_t size = SIZE_MIN_BYTES + bench_scale((uint32_t)(draw >> 32), SIZE_MAX_BYTES - SIZE_MIN_BYTES + 1);
        char *old = pool->slots[slot];
        if (old != NULL) {
            if (check) {
                bench_verify(old, pool->sizes[slot], slot);
            }
            put(pool, old, pool->sizes[slot]);
            puts++;
        }
        char *block = take(pool, size);
        if (__builtin_expect(block == NULL, 0)) {
            bench_fail("the pool is empty");
        }
        block[0] = (char)draw;
        block[size - 1] = (char)draw;
        if (check) {
            bench_fill(block, size, slot);
        }
        pool->sizes[slot] = (uint16_t)size;
        pool->slots[slot] = block;
    }
    worker->random = random;
    return steps + puts;
}

BENCH_DEFINE_RUN(replace, (ops + 1) / 2)

int main(int argc, char **argv)
{
    struct bench_options options = {.seconds = 1.0, .threads = 1, .seed = 42};
    bench_parse(argc, argv, "control: random_mixed without an allocator, to see how the machine itself scales",
                &options, NULL, 0);
    static const struct bench_workload workload = {
        .name = "control",
        .state_bytes = sizeof(struct pool),
        .ops_per_batch = 16384,
        .prepare = prepare,
        .run = run,
    };
    return bench_run(&workload, &options);
}
