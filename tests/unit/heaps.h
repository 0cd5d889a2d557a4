/* Heaps without threads: a test drives them by hand, out of the process's own window. Their ids are never given back,
 * so each is used once. None of them lies in a tcache: no statistics, no recovery after fork. */
#ifndef HAKMEM_TESTS_HEAPS_H
#define HAKMEM_TESTS_HEAPS_H

#include "arena/arena.h"
#include "base/check.h"
#include "slab/heap.h"
#include "unit.h"

static inline struct heap *new_heap(void)
{
    static struct heap pool[48];
    static unsigned used;
    CHECK(used < ARRAY_COUNT(pool), "a heap for the test", NULL);
    struct heap *h = &pool[used++];
    lock_init(&h->lock, LOCK_HEAP);
    CHECK(heap_register(h), "an id for the test", NULL);
    return h;
}

/* The blocks come in the order in which the slabs give them: lowest first. */
static inline unsigned take_blocks(struct heap *h, unsigned bin, void **blocks, unsigned want)
{
    unsigned got = 0;
    while (got < want) {
        void *batch[64];
        const unsigned ask = want - got < 64 ? want - got : 64;
        const unsigned more = heap_refill(h, bin, &batch[ask - 1], ask);
        for (unsigned i = 0; i < more; i++)
            blocks[got + i] = batch[ask - 1 - i];
        got += more;
        if (more == 0)
            break;
    }
    return got;
}

/* As many blocks as `slabs` fresh slabs of the bin hold. */
static inline unsigned take_slabs(struct heap *h, unsigned bin, void **blocks, unsigned slabs)
{
    return take_blocks(h, bin, blocks, slabs * bin_info(bin)->block_count);
}

static inline uint32_t slab_of(const void *block, unsigned bin)
{
    return slab_head((uint32_t)window_slab_index(block), bin_info(bin));
}

/* As a thread does that does not own the slab. */
static inline void deliver_block(void *block, unsigned bin)
{
    const uint32_t slab = slab_of(block, bin);
    const uint32_t number = slab_block_number(bin_info(bin), block);
    remote_deliver(slab, bin_info(bin), number / 64, (uint64_t)1 << number % 64);
}

static inline void drain(struct heap *h)
{
    lock_acquire(&h->lock);
    heap_drain(h);
    lock_release(&h->lock);
}

static inline void age(struct heap *h, bool all)
{
    lock_acquire(&h->lock);
    heap_age(h, all);
    lock_release(&h->lock);
}

/* Sets the state as the layer above does. */
static inline void set_parked(struct heap *h, bool is_parked)
{
    lock_acquire(&h->lock);
    store_relaxed(&h->state, is_parked ? HEAP_PARKED : HEAP_ATTACHED);
    if (is_parked)
        heap_offer(h);
    lock_release(&h->lock);
    if (is_parked)
        fetch_add_relaxed(&heap_parked_count, 1);
    else
        fetch_sub_relaxed(&heap_parked_count, 1);
}

/* Keeps a lock in the hands of another thread. */
struct lock_holder {
    pthread_t thread;
    struct lock *lock;
    uint32_t phase; /* atomic; 1: held; 2: to be let go */
};

static inline void *lock_holder_run(void *argument)
{
    struct lock_holder *holder = argument;
    lock_acquire(holder->lock);
    store_release(&holder->phase, 1);
    while (load_acquire(&holder->phase) != 2)
        sched_yield();
    lock_release(holder->lock);
    return NULL;
}

static inline void lock_holder_start(struct lock_holder *holder, struct lock *l)
{
    *holder = (struct lock_holder){.lock = l};
    start_thread(&holder->thread, lock_holder_run, holder);
    while (load_acquire(&holder->phase) != 1)
        sched_yield();
}

static inline void lock_holder_end(struct lock_holder *holder)
{
    store_release(&holder->phase, 2);
    pthread_join(holder->thread, NULL);
}

/* Slabs the bin's list holds, each of them in a valid state. */
static inline unsigned listed_slabs(const struct heap *h, unsigned bin)
{
    unsigned count = 0;
    for (uint32_t slab = h->bins[bin].list; slab != SLAB_NONE; slab = slab_at(slab)->next, count++)
        CHECK(slab_is_valid(slab) && slab_at(slab)->state == SLAB_LISTED && slab_at(slab)->free_count != 0 &&
                  slab_at(slab)->bin == bin && load_relaxed(&remote_at(slab)->owner) == h->id &&
                  (slab_at(slab)->prev == SLAB_NONE || slab_at(slab_at(slab)->prev)->next == slab),
              "a sound list", window_slab_address(slab));
    return count;
}

#endif
