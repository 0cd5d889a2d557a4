/* A thread's cache: magazines, the outbox of remote frees, and the heap behind them. Belongs to its thread alone; only
 * `heap` is met by others, under its lock. A tcache is never unmapped: its thread gone, it waits with its heap for
 * the next thread. */
#ifndef HAKMEM_TCACHE_TCACHE_H
#define HAKMEM_TCACHE_TCACHE_H

#include "slab/heap.h"
#include "slab/put.h"
#include "tcache/guard.h"
#include "tcache/hot.h"
#include "tcache/outbox.h"

struct tcache_bin {
    void **array;      /* array[0] is NULL; under the heap's lock while it is replaced */
    void **bottom;     /* where the magazine begins: *bottom is NULL, bottom[1] the oldest entry. Atomic relaxed: written by
                        * the thread only, statistics read it */
    uint32_t capacity; /* entries that may be used, beside array[0]; before the bin is opened: what it will ask for */
    uint32_t room;     /* entries it may grow to in this array; capacity <= room */
    uint32_t slots;    /* of the array; what it has beyond 1 + room, the magazine slides in */
    uint64_t aged_traffic; /* batches moved up to the last ageing */
    uint64_t cap_weight; /* refills of late windows, older ones counting less, and these times the ceiling they were made ... */
    uint64_t cap_sum;    /* ... under: what the bin's ceiling was when it mattered. Its thread writes them, the sum last, with
                          * release; exports read, the sum first, with acquire */
    uint64_t turned_blocks; /* blocks refilled up to the last turn; see turns */
    uint32_t ceiling;  /* of capacity; learned. Atomic relaxed: written by the thread only, exports read it */
    uint32_t turns;    /* twice the refills that followed a flush, each of which completes a round trip; plus one while a
                        * flush waits for its refill */
    uint16_t refill;   /* blocks of the first refill after a flush; learned. Atomic as ceiling */
    uint16_t batch;    /* blocks the last one of next_batch asked for */
    uint16_t refill_most; /* ... and most that any may */
    uint16_t fresh_most;  /* ... of them blocks that nobody has had */
    uint16_t settled;  /* what refills ask for until something changes; 0: next_batch is to say */
    uint8_t streak;    /* refills since the last flush, saturating */
    bool packed;       /* the array lies in the first, shared piece */
    bool opened;       /* its capacity counts in entitled_bytes */
};

struct tcache {
    struct hot hot;
    uint32_t slow_left;      /* slow operations until the clock is read: TICK_SLOW_OPERATIONS at most, at least 1 */
    uint64_t delivered_ms;   /* when the outbox was last emptied by the clock */
    uint64_t aged_ms;        /* when the heap was last aged */
    /* Sum of capacity * block size over opened bins; growth stops at policy thread_cache_bytes. While the cache has a
     * thread it is part of the process's sum (magazine.c), which is bounded by cache_bytes. */
    uint64_t entitled_bytes;
    uint64_t steered; /* heap.steered as the last tick saw it: bits of the bins that are kept short */
    bool checked; /* HAKMEM_DEBUG_LEVEL >= 1: magazines hold nothing, every free is checked against the slab at once */
    struct quarantine *quarantine; /* HAKMEM_DEBUG_LEVEL >= 3, else NULL */
    struct alloc_memory *learning; /* what the learner knows of this thread, kept above the spine; NULL: nothing yet */
    struct tcache_bin bins[BIN_COUNT];
    struct outbox outbox;
    struct heap heap;
};

#define TICK_SLOW_OPERATIONS 64u

/* Gives a zeroed tcache its arrays and its heap. False: memory is out. */
bool tcache_init(struct tcache *t);
/* Makes t the calling thread's cache; tcache_leave takes it away again (its contents stay). */
void tcache_enter(struct tcache *t);
void tcache_leave(void);
/* The calling thread's cache, or NULL. */
struct tcache *tcache_self(void);
/* Empties magazines, outbox and quarantine into the slabs. By the owning thread. */
void tcache_flush_all(struct tcache *t);
/* At exit, by the thread that calls it: what waits in its quarantine is looked at once more. Aborts if it was written to. */
void tcache_check_at_exit(void);
/* What the learner decides about a bin. A magazine that holds more is flushed down to its new ceiling; one that stood at
 * its ceiling grows with it, as far as the budget allows. By the owning thread, which holds no lock. */
void tcache_set_ceiling(struct tcache *t, unsigned bin, uint32_t ceiling);
void tcache_set_refill(struct tcache *t, unsigned bin, uint32_t blocks);
/* Forgets what magazines and outbox hold: their thread did not survive fork. */
void tcache_forget(struct tcache *t);
FAST struct tcache *tcache_of_heap(struct heap *h)
{
    return (struct tcache *)((char *)h - offsetof(struct tcache, heap));
}

/* The slow ends of the hit paths; NULL when memory is out. Neither sets errno. */
NOINLINE void *tcache_malloc_slow(size_t bytes);
NOINLINE void tcache_free_slow(void *block);
/* The slab map says that the block is not of the thread's own heap: the map's word xor its tag is `offset`. */
NOINLINE void tcache_free_foreign(void *block, size_t offset);
/* The block is of the thread's own heap, and its magazine is full or closed. */
NOINLINE void tcache_free_full(void *block, struct magazine *m);

/* A block of at least `bytes`, aligned to a power of two of any size. *zeroed: it reads as zero already. */
void *tcache_malloc_aligned(size_t bytes, size_t alignment, bool *zeroed);
/* Bytes of the small block, of whichever heap, that begins at this address. 0: whatever else stands there, NULL and addresses
 * in the middle of a block among it; and at HAKMEM_DEBUG_LEVEL >= 2, where less than the whole block may be used.
 *
 * Inline, and with no way out but its result: realloc asks each time, and some programs ask for the usable size of every block
 * that they have got or are about to free (Ruby). */
FAST size_t tcache_small_bytes(const void *block)
{
    const uintptr_t base = window.base;
    const uint64_t slab = ((uintptr_t)block - base) >> SLAB_SHIFT;
    if (UNLIKELY(slab >= load_acquire(&window.limit)))
        return 0;
    const uint32_t word = load_relaxed((const uint32_t *)base + slab);
    if (UNLIKELY(word >> MAP_OWNER_SHIFT == 0)) /* a large block's number of slabs names no bin */
        return 0;
    const struct bin_info *info = bin_info_of_map_word(word);
    const uint64_t product = slab_product(slab_divisor(info), (uintptr_t)block);
    if (UNLIKELY(!slab_is_multiple(slab_divisor(info), product)) || UNLIKELY(product >> 32 >= info->block_count) ||
        UNLIKELY(guard_is_on()))
        return 0;
    if (info->block_bytes == 0) /* spares the callers a test */
        __builtin_unreachable();
    return info->block_bytes;
}

/* The same where tcache_small_bytes is 0. Aborts for an address that is no block. */
size_t tcache_usable_bytes_uncommon(const void *block);
/* Bytes of a live block that the program may use. Aborts for an address that is no block. */
FAST size_t tcache_usable_bytes(const void *block)
{
    const size_t bytes = tcache_small_bytes(block);
    return LIKELY(bytes != 0) ? bytes : tcache_usable_bytes_uncommon(block);
}
/* The same of an address in a slab of this bin that begins a block, or 0 if it is seen not to be handed out. */
size_t tcache_block_bytes(const void *block, const struct bin_info *info);
/* Who shrinks a block wants the rest back: a quarter is worth a copy, a few bytes are not (decision 0019). */
FAST bool tcache_is_worth_keeping(size_t bytes, size_t have)
{
    return bytes <= have && (bytes > have - have / 4 || have <= 64);
}

/* Resizes a block of which tcache_small_bytes is 0, without moving it, if it can. Returns the block, or NULL. */
void *tcache_resize_uncommon(void *block, size_t bytes);
/* The same for any block. */
FAST void *tcache_resize_in_place(void *block, size_t bytes)
{
    const size_t have = tcache_small_bytes(block);
    if (UNLIKELY(have == 0))
        return tcache_resize_uncommon(block, bytes);
    return tcache_is_worth_keeping(bytes, have) ? block : NULL;
}
/* The process's budget. The cache has lost its thread, and its magazines are empty: its share is for others. It has a
 * thread again: it takes its share back, or starts small where that is gone. In a forked child: `only` (NULL: none) is
 * the one cache that still has a thread. */
void tcache_give_share(struct tcache *t);
void tcache_take_share(struct tcache *t);
void tcache_recover_shares(const struct tcache *only);
/* What all caches with a thread are entitled to. */
uint64_t tcache_entitled_bytes(void);
/* Collects, flushes and trims what the calling thread holds. */
void tcache_trim_self(void);
/* Gives back whatever can be spared, at once: the same, the empty slabs of every heap whose lock is free, and free
 * pages until no more than `keep_bytes` of them are left. Returns bytes given back. For when memory is out, and for who
 * asks. */
size_t tcache_reclaim(size_t keep_bytes);

#endif
