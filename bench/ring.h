/* A bounded queue of blocks from one thread that allocates them to one that frees them.
 *
 * One producer, one consumer, two counters that only rise (Lamport, "Specifying Concurrent Program Modules", TOPLAS
 * 1983). The benchmark shall measure the allocator's traffic between threads, not its own. So each side keeps what it
 * last saw of the other's counter, and who finds the queue full or empty waits for a quarter of it: otherwise the
 * faster side looks at the other's counter for every block, three cache lines move in place of the block's one, and
 * the faster an allocator's free, the slower the run. */
#ifndef HAKMEM_BENCH_RING_H
#define HAKMEM_BENCH_RING_H

#include "common.h"

#include <stdatomic.h>

#define BENCH_RING_SLOTS 1024 /* a power of two; bounds the blocks that are on their way */
#define BENCH_RING_STRIDE (BENCH_RING_SLOTS / 4) /* what is waited for: room, or blocks */

struct bench_item {
    char *block;
    size_t size;
};

struct bench_ring {
    _Alignas(BENCH_CACHE_LINE_BYTES) _Atomic uint64_t pushed; /* written by the producer; published with release */
    uint64_t popped_seen;                                     /* producer only */
    atomic_bool producer_ended;                               /* set once, after the last push, with release */
    _Alignas(BENCH_CACHE_LINE_BYTES) _Atomic uint64_t popped; /* written by the consumer; published with release */
    uint64_t pushed_seen;                                     /* consumer only */
    atomic_bool consumer_ended;                               /* set once; only the rest is popped from then on */
    _Alignas(BENCH_CACHE_LINE_BYTES) struct bench_item slots[BENCH_RING_SLOTS]; /* owned by the side of the counters */
};

/* What the blocks are like. */
struct bench_sizes {
    uint64_t min_bytes;
    uint64_t max_bytes;
};

static inline uint32_t bench_size(const struct bench_sizes *sizes, uint64_t *random)
{
    return (uint32_t)sizes->min_bytes +
           bench_scale((uint32_t)(bench_random(random) >> 32), (uint32_t)(sizes->max_bytes - sizes->min_bytes + 1));
}

/* Producer: waits until as many as `pushed` blocks in all and a stride more would fit. False if the consumer has ended and
 * there is no room. */
static inline bool bench_ring_wait_for_room(struct bench_ring *ring, uint64_t pushed)
{
    unsigned spins = 0;
    for (;;) {
        bool ended = atomic_load_explicit(&ring->consumer_ended, memory_order_relaxed);
        ring->popped_seen = atomic_load_explicit(&ring->popped, memory_order_acquire);
        uint64_t on_their_way = pushed - ring->popped_seen;
        if (on_their_way + BENCH_RING_STRIDE <= BENCH_RING_SLOTS || (ended && on_their_way <= BENCH_RING_SLOTS)) {
            return true;
        }
        if (ended) {
            return false;
        }
        bench_wait_turn(&spins);
    }
}

/* Producer: allocates `count` blocks and hands them over together. Waits for room; false if the consumer has ended
 * and there is none. */
static inline __attribute__((always_inline)) bool bench_ring_produce(struct bench_ring *ring, uint64_t count,
                                                                     const struct bench_sizes *sizes,
                                                                     uint64_t *random, const bool check)
{
    uint64_t pushed = atomic_load_explicit(&ring->pushed, memory_order_relaxed);
    if (pushed + count - ring->popped_seen > BENCH_RING_SLOTS && !bench_ring_wait_for_room(ring, pushed + count)) {
        return false;
    }
    for (uint64_t i = 0; i < count; i++) {
        uint32_t size = bench_size(sizes, random);
        char *block = bench_malloc(size);
        if (check) {
            bench_fill(block, size, pushed + i);
        }
        ring->slots[(pushed + i) % BENCH_RING_SLOTS] = (struct bench_item){block, size};
    }
    atomic_store_explicit(&ring->pushed, pushed + count, memory_order_release);
    return true;
}

/* Consumer: frees what has arrived, at most `limit` blocks, and returns how many; never waits. If it has seen all that was
 * pushed it takes no notice of less than `least` more, unless they are the last. It reads a byte of each block first, as
 * who is sent something looks at it. */
static inline __attribute__((always_inline)) uint64_t bench_ring_consume(struct bench_ring *ring, uint64_t least,
                                                                         uint64_t limit, const bool check)
{
    uint64_t popped = atomic_load_explicit(&ring->popped, memory_order_relaxed);
    if (ring->pushed_seen == popped) {
        bool ended = atomic_load_explicit(&ring->producer_ended, memory_order_acquire);
        uint64_t pushed = atomic_load_explicit(&ring->pushed, memory_order_acquire);
        if (pushed - popped < least && !ended) {
            return 0;
        }
        ring->pushed_seen = pushed;
    }
    uint64_t count = ring->pushed_seen - popped < limit ? ring->pushed_seen - popped : limit;
    for (uint64_t i = 0; i < count; i++) {
        struct bench_item item = ring->slots[(popped + i) % BENCH_RING_SLOTS];
        if (check) {
            bench_verify(item.block, item.size, popped + i);
        }
        (void)*(volatile char *)item.block;
        free(item.block);
    }
    if (count != 0) {
        atomic_store_explicit(&ring->popped, popped + count, memory_order_release);
    }
    return count;
}

/* Producer: no more will come. */
static inline void bench_ring_end_producing(struct bench_ring *ring)
{
    atomic_store_explicit(&ring->producer_ended, true, memory_order_release);
}

/* Consumer: true if no more will come and all that came has been taken. */
static inline bool bench_ring_is_dry(struct bench_ring *ring)
{
    bool ended = atomic_load_explicit(&ring->producer_ended, memory_order_acquire);
    return ended && atomic_load_explicit(&ring->pushed, memory_order_relaxed) ==
                        atomic_load_explicit(&ring->popped, memory_order_relaxed);
}

/* Consumer: lets the producer know, then frees what is still on its way. */
static inline void bench_ring_end_consuming(struct bench_ring *ring, bool check)
{
    unsigned spins = 0;
    atomic_store_explicit(&ring->consumer_ended, true, memory_order_relaxed);
    while (!bench_ring_is_dry(ring)) {
        if (bench_ring_consume(ring, 1, BENCH_RING_SLOTS, check) == 0) {
            bench_wait_turn(&spins);
        }
    }
}

#endif
