/* calloc_large: what do large zeroed blocks cost, and does the allocator know which memory is zero already?
 *
 * Workload: our own, after tables and frame buffers that are asked for with calloc and only partly used. Each thread
 * has a few slots. A step picks one at random, frees its block if it holds one, and callocs another, of 64 KiB to
 * 4 MiB, every doubling as likely as any other; then it writes one byte in every page. So reused memory is dirty in
 * each page and must be cleared, or given back and faulted in anew; fresh memory need not be. With --check a block is
 * made dirty in every byte before it is freed, and every byte of a new one must be zero. An operation is one calloc
 * or one free. */
#define _GNU_SOURCE
#include "blocks.h"

#define PAGE_BYTES ((size_t)4096)
#define ELEMENT_BYTES ((size_t)16)

static uint64_t slot_count = 8;
static uint64_t min_kib = 64;
static uint64_t max_kib = 4096;

struct slot {
    char *block;
    size_t size_bytes;
};

static void verify_zero(const char *block, size_t size)
{
    if (block[0] != 0 || memcmp(block, block + 1, size - 1) != 0) {
        bench_fail("calloc: block %p of %zu bytes is not zero", (const void *)block, size);
    }
}

static inline __attribute__((always_inline)) uint64_t run_batch(struct bench_worker *worker, uint64_t ops,
                                                                const bool check)
{
    struct slot *slots = worker->state;
    uint32_t doublings = bench_doublings(min_kib, max_kib);
    uint64_t done = 0;
    while (done < ops) {
        uint64_t draw = bench_random(&worker->random);
        struct slot *slot = &slots[bench_scale((uint32_t)draw, (uint32_t)slot_count)];
        size_t elements = bench_size_even((uint32_t)(draw >> 32), min_kib << 10, doublings) / ELEMENT_BYTES;
        size_t size = elements * ELEMENT_BYTES;
        if (slot->block != NULL) {
            if (check) {
                memset(slot->block, 0xff, slot->size_bytes);
            }
            free(slot->block);
            done++;
        }
        char *block = calloc(elements, ELEMENT_BYTES);
        if (block == NULL) {
            bench_fail("calloc of %zu bytes failed", size);
        }
        if (check) {
            verify_zero(block, size);
        }
        for (size_t i = 0; i < size; i += PAGE_BYTES) {
            block[i] = 1;
        }
        *slot = (struct slot){block, size};
        done++;
    }
    return done;
}

BENCH_DEFINE_RUN(run_batch, ops)

static void finish(struct bench_worker *worker)
{
    struct slot *slots = worker->state;
    for (uint64_t i = 0; i < slot_count; i++) {
        free(slots[i].block);
    }
}

int main(int argc, char **argv)
{
    struct bench_options options = {.seconds = 1.0, .threads = 1, .seed = 42};
    const struct bench_extra extras[] = {
        {"slots", "blocks alive per thread", &slot_count, 1, 65536},
        {"min-kib", "smallest block", &min_kib, 1, 1 << 20},
        {"max-kib", "largest block, a doubling of the smallest", &max_kib, 2, 1 << 21},
    };
    bench_parse(argc, argv, "calloc_large: large zeroed blocks, one byte per page written", &options, extras,
                sizeof extras / sizeof extras[0]);
    bench_doublings(min_kib, max_kib);
    const struct bench_workload workload = {
        .name = "calloc_large",
        .state_bytes = slot_count * sizeof(struct slot),
        .ops_per_batch = 16,
        .run = run,
        .finish = finish,
    };
    return bench_run(&workload, &options);
}
