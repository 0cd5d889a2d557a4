/* A malloc that is none, for benchmarks in which one thread hands its blocks to another by a ring.h: compiled with malloc
 * and free defined as these functions, they show what the hand-over alone costs. Two threads are slower than one then,
 * because cache lines travel, the queue's and those of blocks that are written here and read there; no allocator can be
 * blamed for that.
 *
 * Each thread takes blocks from memory of its own, one behind the other and round and round, and free does nothing. That is
 * right as long as blocks are freed in the order in which they were allocated and no more of them are alive than a queue
 * holds, of which there is room for two. --check would find a block that was given out too soon. */
#include "ring.h"

enum {
    BLOCK_MAX_BYTES = 256, /* as the benchmarks have it, unless they are told otherwise */
    BLOCK_ALIGNMENT = 16,
    RING_BYTES = 2 * BENCH_RING_SLOTS * BLOCK_MAX_BYTES,
};

void *handover_malloc(size_t size);
void handover_free(void *block);

/* Of one thread; zero: it has no memory yet. */
static _Thread_local struct {
    char *bytes;
    size_t next;
} ring;

/* A call is part of every operation, as it is of malloc and free. */
__attribute__((noinline)) void *handover_malloc(size_t size)
{
    if (__builtin_expect(ring.bytes == NULL, 0)) {
        ring.bytes = bench_map(RING_BYTES);
    }
    if (__builtin_expect(size > BLOCK_MAX_BYTES, 0)) {
        bench_fail("the ring has no room for blocks of more than %d bytes", BLOCK_MAX_BYTES);
    }
    size_t at = ring.next + size <= RING_BYTES ? ring.next : 0;
    ring.next = (at + size + BLOCK_ALIGNMENT - 1) & -(size_t)BLOCK_ALIGNMENT;
    return ring.bytes + at;
}

__attribute__((noinline)) void handover_free(void *block)
{
    (void)block;
}
