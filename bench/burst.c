/* burst: what happens when a program takes more blocks at once than the thread cache holds, and gives all back?
 *
 * Workload: a request, a frame or a query that allocates --width blocks of one size (64 bytes; or a mixture by
 * --min-size and --max-size), then frees them all: oldest first (--order 0), newest first (1), or in an order that was
 * shuffled once at the start (2; shuffling anew would be measured too, and addresses change places from round to round
 * anyway). Widths of interest run from 25, which a magazine swallows, to 5000, which empties and floods it each time:
 * the weakness of any bounded cache (Bonwick & Adams, "Magazines and Vmem", USENIX 2001, size theirs against it).
 * An operation is one malloc or one free; each thread has its own bursts. With --sweep so many operations come before
 * the clock starts: an allocator that adapts has then adapted. */
#define _GNU_SOURCE
#include "common.h"

enum { OLDEST_FIRST, NEWEST_FIRST, SHUFFLED };

static uint64_t width = 1000;
static uint64_t order = OLDEST_FIRST;
static uint64_t size_min_bytes = 64;
static uint64_t size_max_bytes = 64;
static uint64_t sweep_ops = 0;

struct entry {
    char *block;
    uint32_t size;         /* maintained with --check only */
    uint32_t freed_in_turn; /* of entry i: the index of the block that is freed as the i-th */
};

/* Takes a burst. One size is not drawn: that would cost as much as a malloc. */
static inline __attribute__((always_inline)) void take_all(struct entry *entries, uint64_t count, uint64_t *random,
                                                           const bool one_size, const bool check)
{
    uint32_t size = (uint32_t)size_min_bytes;
    uint32_t sizes = (uint32_t)(size_max_bytes - size_min_bytes + 1);
    uint64_t state = *random;
    for (uint64_t i = 0; i < count; i++) {
        if (!one_size) {
            size = (uint32_t)size_min_bytes + bench_scale((uint32_t)(bench_random(&state) >> 32), sizes);
        }
        char *block = bench_malloc(size);
        if (check) {
            bench_fill(block, size, i);
            entries[i].size = size;
        }
        entries[i].block = block;
    }
    *random = state;
}

static inline __attribute__((always_inline)) uint64_t burst(struct bench_worker *worker, uint64_t ops,
                                                            const bool check)
{
    struct entry *entries = worker->state;
    uint64_t count = width;
    uint64_t done = 0;
    for (; done < ops; done += 2 * count) {
        if (size_min_bytes == size_max_bytes) {
            take_all(entries, count, &worker->random, true, check);
        } else {
            take_all(entries, count, &worker->random, false, check);
        }
        for (uint64_t i = 0; i < count; i++) {
            uint32_t turn = entries[i].freed_in_turn;
            if (check) {
                bench_verify(entries[turn].block, entries[turn].size, turn);
            }
            free(entries[turn].block);
        }
    }
    return done;
}

BENCH_DEFINE_RUN(burst, ops)

static void prepare(struct bench_worker *worker)
{
    struct entry *entries = worker->state;
    for (uint32_t i = 0; i < width; i++) {
        entries[i].freed_in_turn = order == NEWEST_FIRST ? (uint32_t)width - 1 - i : i;
    }
    for (uint32_t i = (uint32_t)width - 1; order == SHUFFLED && i > 0; i--) {
        uint32_t other = bench_scale((uint32_t)(bench_random(&worker->random) >> 32), i + 1);
        uint32_t turn = entries[i].freed_in_turn;
        entries[i].freed_in_turn = entries[other].freed_in_turn;
        entries[other].freed_in_turn = turn;
    }
    for (uint64_t done = 0; done < sweep_ops;) {
        done += run(worker, sweep_ops - done);
    }
}

int main(int argc, char **argv)
{
    struct bench_options options = {.seconds = 1.0, .threads = 1, .seed = 42};
    const struct bench_extra extras[] = {
        {"width", "blocks in a burst", &width, 1, 10000000},
        {"order", "of the frees: 0 oldest first, 1 newest first, 2 shuffled", &order, OLDEST_FIRST, SHUFFLED},
        {"min-size", "smallest block in bytes", &size_min_bytes, 1, UINT32_MAX / 2},
        {"max-size", "largest block in bytes", &size_max_bytes, 1, UINT32_MAX / 2},
        {"sweep", "operations of each thread before the clock starts", &sweep_ops, 0, UINT64_MAX / 2},
    };
    bench_parse(argc, argv, "burst: many mallocs, then as many frees", &options, extras,
                sizeof extras / sizeof extras[0]);
    if (size_min_bytes > size_max_bytes) {
        bench_fail("--min-size is above --max-size");
    }
    const struct bench_workload workload = {
        .name = "burst",
        .state_bytes = width * sizeof(struct entry),
        .ops_per_batch = 16384,
        .prepare = prepare,
        .run = run,
    };
    return bench_run(&workload, &options);
}
