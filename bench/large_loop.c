/* large_loop: what does it cost to allocate and free large blocks over and over?
 *
 * Workload: our own, after programs that take a big buffer for each picture, message or query and give it back at
 * once; in the C library such a loop is two system calls and a page fault per page each time, unless the allocator
 * keeps some memory. Each thread has a few slots. A step picks one at random, frees its block if it holds one, and
 * allocates another, of 256 KiB to 32 MiB, every doubling as likely as any other. It writes the first and the last
 * byte; with --touch-pages 1, the first byte of each page. An operation is one malloc or one free. */
#define _GNU_SOURCE
#include "blocks.h"

#define PAGE_BYTES ((size_t)4096)

static uint64_t slot_count = 4;
static uint64_t min_kib = 256;
static uint64_t max_kib = 32768;
static uint64_t touch_pages = 0;

static inline __attribute__((always_inline)) uint64_t run_batch(struct bench_worker *worker, uint64_t ops,
                                                                const bool check)
{
    struct bench_slot *slots = worker->state;
    uint32_t doublings = bench_doublings(min_kib, max_kib);
    bool touch = touch_pages != 0;
    uint64_t done = 0;
    while (done < ops) {
        uint64_t draw = bench_random(&worker->random);
        uint32_t index = bench_scale((uint32_t)draw, (uint32_t)slot_count);
        size_t size = bench_size_even((uint32_t)(draw >> 32), min_kib << 10, doublings);
        uint64_t salt = bench_slot_salt(worker, index);
        struct bench_slot *slot = &slots[index];
        done += bench_slot_free(slot, salt, check);
        slot->block = bench_malloc(size);
        slot->size_bytes = size;
        done++;
        if (check) {
            bench_fill(slot->block, size, salt);
        } else if (touch) {
            for (size_t i = 0; i < size; i += PAGE_BYTES) {
                slot->block[i] = (char)draw;
            }
        }
    }
    return done;
}

BENCH_DEFINE_RUN(run_batch, ops)

static void finish(struct bench_worker *worker)
{
    bench_slots_finish(worker, slot_count);
}

int main(int argc, char **argv)
{
    struct bench_options options = {.seconds = 1.0, .threads = 1, .seed = 42};
    const struct bench_extra extras[] = {
        {"slots", "blocks alive per thread", &slot_count, 1, 65536},
        {"min-kib", "smallest block", &min_kib, 1, 1 << 20},
        {"max-kib", "largest block, a doubling of the smallest", &max_kib, 2, 1 << 21},
        {"touch-pages", "1: write the first byte of each page", &touch_pages, 0, 1},
    };
    bench_parse(argc, argv, "large_loop: large blocks, allocated and freed in a loop", &options, extras,
                sizeof extras / sizeof extras[0]);
    bench_doublings(min_kib, max_kib);
    const struct bench_workload workload = {
        .name = "large_loop",
        .state_bytes = slot_count * sizeof(struct bench_slot),
        .ops_per_batch = 64,
        .run = run,
        .finish = finish,
    };
    return bench_run(&workload, &options);
}
