/* random_free: what does freeing cost when neither block nor metadata is in any cache?
 *
 * Workload: our own, after key-value stores that replace random entries. Before the clock starts the threads fill
 * --mib of memory with blocks of 16..256 bytes, more than the last-level cache holds and the TLB reaches. Then each
 * picks one of its blocks at random, frees it, allocates another of random size in its stead and writes all of it.
 * So every free goes to a place not seen for long, and an allocator that reads or writes the block, or looks up its
 * metadata far away, pays a cache miss and a page walk for each. huge_mib is how much of the memory lies in huge pages when
 * the clock has stopped; huge_pages.c tells what they are worth. An operation is one malloc or one free. */
#define _GNU_SOURCE
#include "common.h"

#include <string.h>

#define SIZE_MIN_BYTES 16
#define SIZE_MAX_BYTES 256
#define SIZE_MEAN_BYTES ((SIZE_MIN_BYTES + SIZE_MAX_BYTES) / 2)

static uint64_t total_mib = 256;
static uint32_t block_count; /* of each thread */
static double huge_mib; /* of the whole process; written by one thread */

struct heap {
    char **blocks;
    uint16_t *sizes; /* maintained with --check only */
};

static struct heap heap_of(const struct bench_worker *worker)
{
    char **blocks = worker->state;
    return (struct heap){blocks, (uint16_t *)(blocks + block_count)};
}

static inline __attribute__((always_inline)) void renew(const struct heap *heap, uint32_t index, uint32_t random,
                                                        uint64_t salt, const bool check)
{
    size_t size = SIZE_MIN_BYTES + bench_scale(random, SIZE_MAX_BYTES - SIZE_MIN_BYTES + 1);
    char *block = bench_malloc(size);
    if (check) {
        bench_fill(block, size, salt + index);
        heap->sizes[index] = (uint16_t)size;
    } else {
        memset(block, (int)size, size);
    }
    heap->blocks[index] = block;
}

static void prepare(struct bench_worker *worker)
{
    struct heap heap = heap_of(worker);
    for (uint32_t i = 0; i < block_count; i++) {
        uint32_t random = (uint32_t)(bench_random(&worker->random) >> 32);
        renew(&heap, i, random, worker->index << 32, worker->options->check);
    }
}

static inline __attribute__((always_inline)) uint64_t run_batch(struct bench_worker *worker, uint64_t ops,
                                                                const bool check)
{
    struct heap heap = heap_of(worker);
    uint32_t count = block_count;
    uint64_t salt = worker->index << 32;
    uint64_t random = worker->random;
    uint64_t done = 0;
    for (; done < ops; done += 2) {
        uint64_t draw = bench_random(&random);
        uint32_t index = bench_scale((uint32_t)draw, count);
        if (check) {
            bench_verify(heap.blocks[index], heap.sizes[index], salt + index);
        }
        free(heap.blocks[index]);
        renew(&heap, index, (uint32_t)(draw >> 32), salt, check);
    }
    worker->random = random;
    return done;
}

BENCH_DEFINE_RUN(run_batch, ops)

static void finish(struct bench_worker *worker)
{
    struct heap heap = heap_of(worker);
    if (worker->index == 0) {
        huge_mib = bench_huge_mib();
    }
    for (uint32_t i = 0; i < block_count; i++) {
        if (worker->options->check) {
            bench_verify(heap.blocks[i], heap.sizes[i], (worker->index << 32) + i);
        }
        free(heap.blocks[i]);
    }
}

static void tell_huge(struct bench_figure *figures)
{
    figures[0] = (struct bench_figure){"huge_mib", huge_mib};
}

int main(int argc, char **argv)
{
    struct bench_options options = {.seconds = 1.0, .threads = 1, .seed = 42};
    const struct bench_extra extras[] = {
        {"mib", "memory asked for before the clock starts, shared out among the threads", &total_mib, 1, 1 << 17},
    };
    bench_parse(argc, argv, "random_free: random replacements of small blocks in a heap larger than the caches",
                &options, extras, sizeof extras / sizeof extras[0]);
    block_count = (uint32_t)((total_mib << 20) / SIZE_MEAN_BYTES / options.threads) + 1;
    const struct bench_workload workload = {
        .name = "random_free",
        .state_bytes = block_count * (sizeof(char *) + sizeof(uint16_t)),
        .ops_per_batch = 4096,
        .prepare = prepare,
        .run = run,
        .finish = finish,
        .figures = tell_huge,
        .figure_count = 1,
    };
    return bench_run(&workload, &options);
}
