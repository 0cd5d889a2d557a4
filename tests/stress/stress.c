/* stress: does every block stay whole when many threads do everything at once?
 *
 * Each lane is a table of slots worked on by one thread at a time. The thread picks a slot and allocates into it
 * by any entry point, or checks and frees, reallocates, or swaps it with a mailbox shared by all threads, so that
 * blocks are freed by strangers. Threads exit after a while and a fresh one takes the table over with its live
 * blocks. Every block carries a pattern of its own over all its bytes and is verified when it is freed, moved or
 * resized; a block handed out twice or overlapping another cannot keep it. A seed fixes each lane's sequence of
 * choices (not how threads interleave). */
#define _GNU_SOURCE
#include "alloc.h"
#include "common.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum {
    SLOTS_PER_LANE = 2048,
    MAILBOXES = 256,
    LARGE_MAILBOXES = 8, /* the only ones that take large blocks, so that what lies in mailboxes stays bounded */
    STEPS_MIN = 2000, /* in the life of a thread */
    STEPS_MAX = 40000,
};
#define LIVE_LIMIT_BYTES (256 * MIB) /* beside what lies in mailboxes */
#define LARGE_BYTES (64 * KIB)

/* A live block, or an empty place (address NULL). Owned by the lane or the mailbox that points to it. */
struct block {
    unsigned char *address;
    size_t size;
    uint64_t key;
};

struct lane {
    _Alignas(STRESS_CACHE_LINE_BYTES) pthread_t thread;
    struct block *slots[SLOTS_PER_LANE];
    uint64_t index;
    uint64_t random;
    uint64_t serial;
    size_t live_bytes;
    size_t live_limit_bytes;
    uint64_t allocations, reallocations, frees, swaps, generations;
    atomic_bool done; /* written by the worker with release, read by main with acquire; then main joins it */
};

/* Exchanged with acquire-release, so that a block's contents travel with the pointer. */
static _Atomic(struct block *) mailboxes[MAILBOXES];
static atomic_bool stop; /* relaxed: only says when */

static uint64_t thread_count = 4;
static uint64_t run_seconds = 5;
static uint64_t user_seed = 1;
static uint64_t max_size_bytes = 8 * MIB;

/* Mostly tiny, some medium, few large, rarely as large as allowed; within a kind the logarithm is about uniform. */
static size_t choose_size(uint64_t *random)
{
    unsigned kind = (unsigned)stress_between(random, 0, 9999);
    size_t limit = kind < 8000 ? KIB : kind < 9800 ? 32 * KIB : kind < 9992 ? 512 * KIB : max_size_bytes;
    size_t low = kind < 8000 ? 0 : kind < 9800 ? KIB : kind < 9992 ? 32 * KIB : 512 * KIB;
    if (limit > max_size_bytes) {
        limit = max_size_bytes;
    }
    if (low >= limit) {
        return stress_between(random, 0, limit);
    }
    size_t bound = low + ((limit - low) >> stress_between(random, 0, 5));
    return stress_between(random, low, bound);
}

static void *allocate_somehow(uint64_t *random, size_t size)
{
    void *address = NULL;
    /* C lets a block that is too small for any wider type be aligned to less. */
    size_t alignment = size < _Alignof(max_align_t) ? sizeof(void *) : _Alignof(max_align_t);
    switch (stress_between(random, 0, 9)) {
    case 0:
    case 1:
        address = test_calloc(1, size);
        if (address != NULL) {
            stress_verify_zero(address, size, "calloc");
        }
        return address;
    case 2:
        alignment = (size_t)1 << stress_between(random, 0, 13);
        address = test_aligned_alloc(alignment, size);
        break;
    case 3:
        alignment = sizeof(void *) << stress_between(random, 0, 10);
        if (test_posix_memalign(&address, alignment, size) != 0) {
            address = NULL;
        }
        break;
    case 4:
        address = test_realloc(NULL, size);
        break;
    default:
        address = test_malloc(size);
    }
    if (((uintptr_t)address & (alignment - 1)) != 0) {
        stress_fail("block %p of %zu bytes is not aligned to %zu", address, size, alignment);
    }
    return address;
}

static void set_block(struct lane *lane, struct block *block, void *address, size_t size)
{
    if (address == NULL) {
        stress_fail("allocation of %zu bytes failed: %s", size, strerror(errno));
    }
    block->address = address;
    block->size = size;
    block->key = stress_key(address, ++lane->serial ^ lane->index << 48);
    stress_fill(address, size, block->key);
    lane->live_bytes += size;
}

static void release_block(struct lane *lane, struct block *block)
{
    stress_verify(block->address, block->size, block->key, "free");
    test_free(block->address);
    lane->live_bytes -= block->size;
    block->address = NULL;
    lane->frees++;
}

static void resize_block(struct lane *lane, struct block *block)
{
    size_t old_size = block->size;
    size_t size = choose_size(&lane->random);
    if ((lane->random >> 40) % 2 == 0) {
        size = old_size + size % 64; /* near by: the in-place paths */
    }
    size = size == 0 ? 1 : size > max_size_bytes ? max_size_bytes : size;
    void *address = test_realloc(block->address, size);
    if (address == NULL) {
        stress_fail("realloc from %zu to %zu bytes failed: %s", old_size, size, strerror(errno));
    }
    stress_verify(address, old_size < size ? old_size : size, block->key, "realloc");
    lane->live_bytes -= old_size;
    set_block(lane, block, address, size);
    lane->reallocations++;
}

/* Every usable byte belongs to the block from here on. */
static void grow_to_usable(struct lane *lane, struct block *block)
{
    size_t usable = test_usable_size(block->address);
    if (usable < block->size || usable != test_usable_size(block->address)) {
        stress_fail("malloc_usable_size(%p) is %zu for %zu bytes", (void *)block->address, usable, block->size);
    }
    stress_verify(block->address, block->size, block->key, "usable_size");
    lane->live_bytes -= block->size;
    set_block(lane, block, block->address, usable);
}

static void swap_with_mailbox(struct lane *lane, struct block **slot)
{
    struct block *mine = *slot;
    bool large = mine->address != NULL && mine->size > LARGE_BYTES;
    size_t box = stress_between(&lane->random, 0, (large ? LARGE_MAILBOXES : MAILBOXES) - 1);
    lane->live_bytes -= mine->address != NULL ? mine->size : 0;
    *slot = atomic_exchange_explicit(&mailboxes[box], mine, memory_order_acq_rel);
    lane->live_bytes += (*slot)->address != NULL ? (*slot)->size : 0;
    lane->swaps++;
}

static void step(struct lane *lane)
{
    struct block **slot = &lane->slots[stress_between(&lane->random, 0, SLOTS_PER_LANE - 1)];
    unsigned choice = (unsigned)stress_between(&lane->random, 0, 99);
    if (choice < 15) {
        swap_with_mailbox(lane, slot);
        return;
    }
    struct block *block = *slot;
    bool full = lane->live_bytes > lane->live_limit_bytes;
    if (block->address == NULL) {
        if (!full) {
            size_t size = choose_size(&lane->random);
            set_block(lane, block, allocate_somehow(&lane->random, size), size);
            lane->allocations++;
        }
    } else if (full || choice < 70) {
        release_block(lane, block);
    } else if (choice < 92) {
        resize_block(lane, block);
    } else {
        grow_to_usable(lane, block);
    }
}

static void *work(void *argument)
{
    struct lane *lane = argument;
    size_t steps = stress_between(&lane->random, STEPS_MIN, STEPS_MAX);
    for (size_t i = 0; i < steps && !atomic_load_explicit(&stop, memory_order_relaxed); i++) {
        step(lane);
    }
    atomic_store_explicit(&lane->done, true, memory_order_release);
    return NULL;
}

static void start_generation(struct lane *lane)
{
    atomic_store_explicit(&lane->done, false, memory_order_relaxed);
    lane->generations++;
    if (pthread_create(&lane->thread, NULL, work, lane) != 0) {
        stress_fail("cannot start a thread");
    }
}

/* Replaces threads that have ended until the time is up; the fresh thread takes over the table and what lives in
 * it. */
static void supervise(struct lane *lanes)
{
    double deadline = stress_now() + (double)run_seconds;
    while (stress_now() < deadline) {
        for (uint64_t i = 0; i < thread_count; i++) {
            if (atomic_load_explicit(&lanes[i].done, memory_order_acquire)) {
                pthread_join(lanes[i].thread, NULL);
                start_generation(&lanes[i]);
            }
        }
        stress_sleep_ms(1);
    }
    atomic_store_explicit(&stop, true, memory_order_relaxed);
    for (uint64_t i = 0; i < thread_count; i++) {
        pthread_join(lanes[i].thread, NULL);
    }
}

static void release_everything(struct lane *lanes)
{
    for (size_t i = 0; i < MAILBOXES; i++) {
        struct block *block = atomic_load_explicit(&mailboxes[i], memory_order_acquire);
        if (block->address != NULL) {
            stress_verify(block->address, block->size, block->key, "last free");
            test_free(block->address);
        }
    }
    for (uint64_t i = 0; i < thread_count; i++) {
        for (size_t j = 0; j < SLOTS_PER_LANE; j++) {
            if (lanes[i].slots[j]->address != NULL) {
                release_block(&lanes[i], lanes[i].slots[j]);
            }
        }
    }
}

int main(int argc, char **argv)
{
    const struct stress_option options[] = {
        {"threads", "threads at a time", &thread_count, 1, STRESS_MAX_THREADS, NULL},
        {"seconds", "how long", &run_seconds, 1, 86400, NULL},
        {"seed", "seed of the random choices", &user_seed, 0, UINT64_MAX, NULL},
        {"max-size", "largest block in bytes", &max_size_bytes, 1, 64 * MIB, NULL},
    };
    stress_parse(argc, argv, "stress: random allocation by many threads, contents checked", options,
                 sizeof options / sizeof options[0]);
    printf("stress: seed %" PRIu64 ", %" PRIu64 " threads, %" PRIu64 " s, blocks to %" PRIu64 " bytes\n", user_seed,
           thread_count, run_seconds, max_size_bytes);
    fflush(stdout);
    stress_watchdog((unsigned)run_seconds + 60, "stress (a thread never came back)");

    struct lane *lanes = stress_map(thread_count * sizeof *lanes);
    struct block *blocks = stress_map((MAILBOXES + thread_count * SLOTS_PER_LANE) * sizeof *blocks);
    for (size_t i = 0; i < MAILBOXES; i++) {
        atomic_store_explicit(&mailboxes[i], blocks++, memory_order_relaxed);
    }
    for (uint64_t i = 0; i < thread_count; i++) {
        lanes[i].index = i;
        lanes[i].random = stress_seed(user_seed, i);
        lanes[i].live_limit_bytes = LIVE_LIMIT_BYTES / thread_count;
        for (size_t j = 0; j < SLOTS_PER_LANE; j++) {
            lanes[i].slots[j] = blocks++;
        }
        start_generation(&lanes[i]);
    }
    supervise(lanes);
    release_everything(lanes);
    uint64_t allocations = 0, reallocations = 0, frees = 0, swaps = 0, generations = 0;
    for (uint64_t i = 0; i < thread_count; i++) {
        allocations += lanes[i].allocations;
        reallocations += lanes[i].reallocations;
        frees += lanes[i].frees;
        swaps += lanes[i].swaps;
        generations += lanes[i].generations;
    }
    printf("stress: ok, seed %" PRIu64 ": %" PRIu64 " allocations, %" PRIu64 " reallocations, %" PRIu64 " frees, "
           "%" PRIu64 " hand-overs, %" PRIu64 " threads\n",
           user_seed, allocations, reallocations, frees, swaps, generations);
    return 0;
}
