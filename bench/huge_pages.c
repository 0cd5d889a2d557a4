/* huge_pages: what are huge pages worth on this machine, whoever asks the kernel for them?
 *
 * Workload: random_free, step for step and with the same random numbers, except that no malloc is called: each thread
 * carves blocks of 16 sizes out of one mapping of its own and keeps what it puts back in stacks. The mapping asks for
 * huge pages (--huge 1) or refuses them (--huge 0); the tables lie in ordinary pages, as those of random_free do. How much
 * faster the one is than the other is the most that an allocator can win by huge pages there, and it is the machine's
 * doing: where the TLB reaches far, or a host backs a virtual machine with small pages whatever its kernel does, it is
 * little. huge_mib tells how much of the memory is huge. Preloading a library changes nothing here. An operation is one
 * take or one put. */
#define _GNU_SOURCE
#include "common.h"

#include <string.h>
#include <sys/mman.h>

#define SIZE_MIN_BYTES 16
#define SIZE_MAX_BYTES 256
#define SIZE_MEAN_BYTES ((SIZE_MIN_BYTES + SIZE_MAX_BYTES) / 2)
#define BIN_BYTES 16
#define BIN_COUNT (SIZE_MAX_BYTES / BIN_BYTES)
#define SLAB_BYTES ((size_t)65536)
#define HUGE_BYTES ((size_t)2 << 20)

static uint64_t total_mib = 256;
static uint64_t huge = 1;
static double huge_mib; /* of the whole process when the clock has stopped; written by one thread */
static uint32_t block_count;    /* of each thread */
static uint32_t stack_capacity; /* sizes are random, so that of a bin's blocks few are not in use at any time */

struct stack {
    uint32_t count;
    char *fresh; /* the rest of the slab that it carves from */
    char *fresh_end;
    char **blocks;
};

struct pool {
    struct stack stacks[BIN_COUNT];
    char *slabs; /* not handed out yet */
    char *slabs_end;
    char **blocks;   /* in use */
    uint16_t *sizes; /* theirs */
};

static size_t bin_of(size_t size)
{
    return (size - 1) / BIN_BYTES;
}

static __attribute__((noinline)) char *carve(struct pool *pool, size_t bin)
{
    struct stack *stack = &pool->stacks[bin];
    size_t bytes = (bin + 1) * BIN_BYTES;
    if ((size_t)(stack->fresh_end - stack->fresh) < bytes) {
        if (pool->slabs == pool->slabs_end) {
            bench_fail("the mapping is full");
        }
        stack->fresh = pool->slabs;
        stack->fresh_end = pool->slabs += SLAB_BYTES;
    }
    char *block = stack->fresh;
    stack->fresh += bytes;
    return block;
}

/* Not inlined, as malloc is not: a call is part of every operation. */
static __attribute__((noinline)) char *take(struct pool *pool, size_t size)
{
    struct stack *stack = &pool->stacks[bin_of(size)];
    return __builtin_expect(stack->count != 0, 1) ? stack->blocks[--stack->count] : carve(pool, bin_of(size));
}

static __attribute__((noinline)) void put(struct pool *pool, char *block, size_t size)
{
    struct stack *stack = &pool->stacks[bin_of(size)];
    if (__builtin_expect(stack->count == stack_capacity, 0)) {
        bench_fail("a stack is full");
    }
    stack->blocks[stack->count++] = block;
}

static inline __attribute__((always_inline)) void renew(struct pool *pool, uint32_t index, uint32_t random,
                                                        uint64_t salt, const bool check)
{
    size_t size = SIZE_MIN_BYTES + bench_scale(random, SIZE_MAX_BYTES - SIZE_MIN_BYTES + 1);
    char *block = take(pool, size);
    if (check) {
        bench_fill(block, size, salt + index);
    } else {
        memset(block, (int)size, size);
    }
    pool->sizes[index] = (uint16_t)size;
    pool->blocks[index] = block;
}

/* A quarter more than the blocks of mean size need, for what rounding to bins adds; what is not needed is not touched. The
 * kernel may have no huge page to give, and the figure says so. */
static void map_slabs(struct pool *pool)
{
    size_t bytes = (size_t)block_count * SIZE_MEAN_BYTES * 5 / 4 + BIN_COUNT * SLAB_BYTES;
    bytes = (bytes + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES;
    char *raw = mmap(NULL, bytes + HUGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (raw == MAP_FAILED) {
        bench_fail("cannot map %zu bytes", bytes);
    }
    pool->slabs = raw + (HUGE_BYTES - (uintptr_t)raw % HUGE_BYTES) % HUGE_BYTES;
    pool->slabs_end = pool->slabs + bytes;
    (void)madvise(pool->slabs, bytes, huge != 0 ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

static void prepare(struct bench_worker *worker)
{
    struct pool *pool = worker->state;
    map_slabs(pool);
    pool->blocks = bench_map(block_count * (sizeof(char *) + sizeof(uint16_t)));
    pool->sizes = (uint16_t *)(pool->blocks + block_count);
    for (size_t bin = 0; bin < BIN_COUNT; bin++) {
        pool->stacks[bin].blocks = bench_map(stack_capacity * sizeof(char *));
    }
    for (uint32_t i = 0; i < block_count; i++) {
        uint32_t random = (uint32_t)(bench_random(&worker->random) >> 32);
        renew(pool, i, random, worker->index << 32, worker->options->check);
    }
}

static inline __attribute__((always_inline)) uint64_t run_batch(struct bench_worker *worker, uint64_t ops,
                                                                const bool check)
{
    struct pool *pool = worker->state;
    uint64_t salt = worker->index << 32;
    uint64_t random = worker->random;
    uint64_t done = 0;
    for (; done < ops; done += 2) {
        uint64_t draw = bench_random(&random);
        uint32_t index = bench_scale((uint32_t)draw, block_count);
        if (check) {
            bench_verify(pool->blocks[index], pool->sizes[index], salt + index);
        }
        put(pool, pool->blocks[index], pool->sizes[index]);
        renew(pool, index, (uint32_t)(draw >> 32), salt, check);
    }
    worker->random = random;
    return done;
}

BENCH_DEFINE_RUN(run_batch, ops)

static void finish(struct bench_worker *worker)
{
    if (worker->index == 0) {
        huge_mib = bench_huge_mib();
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
        {"mib", "memory in use, shared out among the threads", &total_mib, 1, 1 << 17},
        {"huge", "whether the mapping asks for huge pages (1) or refuses them (0)", &huge, 0, 1},
    };
    bench_parse(argc, argv, "huge_pages: random_free without an allocator, to see what huge pages are worth here",
                &options, extras, sizeof extras / sizeof extras[0]);
    block_count = (uint32_t)((total_mib << 20) / SIZE_MEAN_BYTES / options.threads) + 1;
    stack_capacity = 4096 + block_count / 64;
    const struct bench_workload workload = {
        .name = "huge_pages",
        .state_bytes = sizeof(struct pool),
        .ops_per_batch = 4096,
        .prepare = prepare,
        .run = run,
        .finish = finish,
        .figures = tell_huge,
        .figure_count = 1,
    };
    return bench_run(&workload, &options);
}
