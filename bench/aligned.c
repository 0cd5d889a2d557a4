/* aligned: what do aligned blocks cost, and do they waste memory?
 *
 * Workload: our own, after vector code (32 and 64 bytes), caches of disk blocks (512 and 4096 bytes) and the rare page
 * table or ring buffer (64 KiB). Each thread has some slots. A step picks one at random, frees its block if it holds
 * one, and asks for another of 16 bytes to 8 KiB, every doubling as likely as any other, aligned to 32..4096 bytes,
 * every power of two as likely as any other, and to 64 KiB in one of 64 requests. Every second request goes
 * through posix_memalign, the others through aligned_alloc, which wants the size rounded up to the alignment. The
 * first and the last byte are written. An operation is one allocation or one free; the peak of resident memory tells
 * what the alignment wastes. */
#define _GNU_SOURCE
#include "blocks.h"

#include <errno.h>

#define SIZE_MIN_BYTES ((size_t)16)
#define SIZE_MAX_BYTES ((size_t)8192)
#define ALIGNMENT_MIN_BYTES ((size_t)32)
#define ALIGNMENT_KINDS 8 /* 32..4096 */
#define ALIGNMENT_RARE_BYTES ((size_t)65536)
#define RARE_ONE_OF 64

static uint64_t slot_count = 1024;

static inline __attribute__((always_inline)) struct bench_slot allocate(uint64_t draw, size_t alignment, const bool check)
{
    size_t size = bench_size_even((uint32_t)(draw >> 32), SIZE_MIN_BYTES,
                                  (uint32_t)__builtin_ctzl(SIZE_MAX_BYTES / SIZE_MIN_BYTES));
    void *block = NULL;
    if ((draw & 1) != 0) {
        errno = posix_memalign(&block, alignment, size);
    } else {
        size = (size + alignment - 1) & ~(alignment - 1);
        block = aligned_alloc(alignment, size);
    }
    if (block == NULL) {
        bench_fail("no %zu bytes at a multiple of %zu: error %d", size, alignment, errno);
    }
    if (check && (uintptr_t)block % alignment != 0) {
        bench_fail("block %p is not at a multiple of %zu", block, alignment);
    }
    struct bench_slot slot = {block, size};
    slot.block[0] = (char)draw;
    slot.block[size - 1] = (char)draw;
    return slot;
}

static inline __attribute__((always_inline)) uint64_t run_batch(struct bench_worker *worker, uint64_t ops,
                                                                const bool check)
{
    struct bench_slot *slots = worker->state;
    uint64_t random = worker->random;
    uint64_t done = 0;
    while (done < ops) {
        uint64_t draw = bench_random(&random);
        uint64_t kind = bench_random(&random);
        uint32_t index = bench_scale((uint32_t)draw, (uint32_t)slot_count);
        size_t alignment = ALIGNMENT_MIN_BYTES << bench_scale((uint32_t)(kind >> 32), ALIGNMENT_KINDS);
        if (kind % RARE_ONE_OF == 0) {
            alignment = ALIGNMENT_RARE_BYTES;
        }
        uint64_t salt = bench_slot_salt(worker, index);
        struct bench_slot *slot = &slots[index];
        done += bench_slot_free(slot, salt, check);
        *slot = allocate(draw, alignment, check);
        done++;
        if (check) {
            bench_fill(slot->block, slot->size_bytes, salt);
        }
    }
    worker->random = random;
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
        {"slots", "blocks alive per thread", &slot_count, 1, 1 << 24},
    };
    bench_parse(argc, argv, "aligned: blocks of 16 bytes to 8 KiB at multiples of 32..4096 bytes, in random slots",
                &options, extras, sizeof extras / sizeof extras[0]);
    const struct bench_workload workload = {
        .name = "aligned",
        .state_bytes = slot_count * sizeof(struct bench_slot),
        .ops_per_batch = 4096,
        .run = run,
        .finish = finish,
    };
    return bench_run(&workload, &options);
}
