/* alloc_test: how fast is a heap of many blocks, most of them small, that fills and empties at random?
 *
 * Workload: the idea of alloc-test (OLogN Technologies, published with an article on ithare.com in 2018), written anew.
 * Each thread has an array of 2^16 slots. A step picks one at random: a slot that holds a block has it freed, an
 * empty one gets one. So about half of the slots are full, and how long a block lives varies without bound. Sizes
 * are 8 bytes to 4 KiB, each doubling half as likely as the one below; all of a block is written once and one byte
 * is read before it is freed. An operation is one malloc or one free. The clock starts when the array is about as full as
 * it will be: otherwise many threads would be timed filling theirs, and few threads using them. */
#define _GNU_SOURCE
#include "blocks.h"

#define SIZE_MIN_BYTES ((size_t)8)
#define SIZE_DOUBLINGS 9

static uint64_t slot_count = 65536;

struct slots {
    char **blocks;
    uint16_t *sizes; /* maintained with --check only */
};

static struct slots slots_of(const struct bench_worker *worker)
{
    char **blocks = worker->state;
    return (struct slots){blocks, (uint16_t *)(blocks + slot_count)};
}

static inline __attribute__((always_inline)) uint64_t run_batch(struct bench_worker *worker, uint64_t ops,
                                                                const bool check)
{
    struct slots slots = slots_of(worker);
    uint32_t count = (uint32_t)slot_count;
    uint64_t salt = worker->index << 32;
    uint64_t random = worker->random;
    for (uint64_t i = 0; i < ops; i++) {
        uint64_t draw = bench_random(&random);
        uint32_t index = bench_scale((uint32_t)draw, count);
        char *block = slots.blocks[index];
        if (block != NULL) {
            if (check) {
                bench_verify(block, slots.sizes[index], salt + index);
            }
            *(volatile char *)block;
            free(block);
            slots.blocks[index] = NULL;
            continue;
        }
        size_t size = bench_size_skewed((uint32_t)(draw >> 32), SIZE_MIN_BYTES, SIZE_DOUBLINGS);
        block = bench_malloc(size);
        if (check) {
            bench_fill(block, size, salt + index);
            slots.sizes[index] = (uint16_t)size;
        } else {
            memset(block, (int)size, size);
        }
        slots.blocks[index] = block;
    }
    worker->random = random;
    return ops;
}

BENCH_DEFINE_RUN(run_batch, ops)

static void prepare(struct bench_worker *worker)
{
    run(worker, slot_count);
}

static void finish(struct bench_worker *worker)
{
    struct slots slots = slots_of(worker);
    for (uint64_t i = 0; i < slot_count; i++) {
        if (worker->options->check && slots.blocks[i] != NULL) {
            bench_verify(slots.blocks[i], slots.sizes[i], (worker->index << 32) + i);
        }
        free(slots.blocks[i]);
    }
}

int main(int argc, char **argv)
{
    struct bench_options options = {.seconds = 1.0, .threads = 1, .seed = 42};
    const struct bench_extra extras[] = {
        {"slots", "slots per thread, half of them full on average", &slot_count, 1, 1 << 28},
    };
    bench_parse(argc, argv, "alloc_test: skewed sizes of 8 bytes to 4 KiB in many random slots", &options, extras,
                sizeof extras / sizeof extras[0]);
    const struct bench_workload workload = {
        .name = "alloc_test",
        .state_bytes = slot_count * (sizeof(char *) + sizeof(uint16_t)),
        .ops_per_batch = 8192,
        .prepare = prepare,
        .run = run,
        .finish = finish,
    };
    return bench_run(&workload, &options);
}
