/* The hit paths, and the one block of a thread's state that they touch.
 *
 * Call tree: malloc -> tcache_malloc -> (pop) or one call of the slow function; free -> tcache_free -> (push) or one
 * call of the slow function. Nothing is counted, locked or divided here, and the block itself is not touched.
 *
 *   hot block   window_base | limit | tag | {top,end} of bin 0 | {top,end} of bin 1 | ...
 *   magazine    bottom[0] = NULL | bottom[1] .. bottom[count] | free room .. bottom[capacity]
 *                                                ^ top                            ^ end
 *
 * Invariants: *bottom is NULL, so an empty magazine's top points at NULL and a pop that reads NULL is a miss;
 * top <= end; top == end means full (or checked mode: end == bottom, every free takes the slow path).
 *
 * free proves that the block is this thread's with one compare: the slab map's word xor the thread's tag is the byte
 * offset of the bin's magazine exactly when the owner is this heap; every other word gives a larger number.
 *
 * A thread-local delta finds the hot block: its all-zero value means hot_static.empty, whose magazines are empty and
 * full at once and whose limit is 0, so that a thread without a cache takes the slow path without a test for it. */
#ifndef HAKMEM_TCACHE_HOT_H
#define HAKMEM_TCACHE_HOT_H

#include "slab/sizeclass.h"

struct magazine {
    void **top; /* newest entry. Atomic relaxed: written by its thread only; statistics read it */
    void **end; /* last usable entry; its thread's alone */
};
_Static_assert(sizeof(struct magazine) == BIN_STRIDE_BYTES, "map words hold magazine offsets");

struct hot {
    uintptr_t window_base;
    uint64_t limit; /* the window's limit when last looked up; may lag behind */
    uint64_t tag;   /* heap id << MAP_OWNER_SHIFT. As wide as the offset it leads to, which spares a conversion */
    struct magazine bins[BIN_COUNT];
};

struct hot_static {
    uint16_t tiny_offset[TINY_TABLE_COUNT + 3]; /* by (request + 15) / 16; padded to 8 bytes */
    struct hot empty;
};

/* Table and empty hot block in one object, so that one address serves both. Read-only after relocation. */
extern const struct hot_static hot_static;

/* This thread's hot block, as a distance from hot_static.empty. */
THREAD_LOCAL_EXTERN ptrdiff_t hot_delta;

/* The address of hot_static, of which the compiler is to know nothing more: a thread's hot block is reached from it by
 * arithmetic that leaves the object. It also keeps that address in one register for both table and magazine. */
FAST const struct hot_static *hot_anchor(void)
{
    const struct hot_static *anchor = &hot_static;
    __asm__("" : "+r"(anchor));
    return anchor;
}

/* The calling thread's hot block, or hot_static.empty; the distance to the anchor is folded into later accesses. */
FAST struct hot *hot_self(const struct hot_static *anchor)
{
    const char *self = (const char *)anchor + hot_delta;
    __asm__("" : "+r"(self));
    return (struct hot *)(uintptr_t)(self + offsetof(struct hot_static, empty));
}

FAST struct magazine *hot_magazine_at(const struct hot *hot, size_t offset)
{
    return (struct magazine *)((char *)hot->bins + offset);
}

FAST struct magazine *hot_magazine(const struct hot_static *anchor, size_t offset)
{
    return hot_magazine_at(hot_self(anchor), offset);
}

/* The compiler is to repeat an addressing mode rather than to spend an instruction on keeping the address. */
#define HOT_FORGET(offset) __asm__("" : "+r"(offset))

/* top becomes top + 1. Its thread alone writes it, so x86-64 may add in memory: an instruction less than a store of the
 * sum, and spelled out with its address because the compiler would spend that instruction on computing it. */
#if defined(__x86_64__) && defined(__LP64__) && !UNDER_THREAD_SANITIZER
FAST void hot_advance(const struct hot *hot, size_t offset, void **top)
{
    (void)top;
    const char *self = (const char *)hot - offsetof(struct hot_static, empty); /* what hot_self has in a register */
    __asm__ volatile("addq %2, %c3(%0,%1)"
                     :
                     : "r"(self), "r"(offset), "i"(sizeof(void *)), "i"(offsetof(struct hot_static, empty.bins))
                     : "memory", "cc");
}
#else
FAST void hot_advance(const struct hot *hot, size_t offset, void **top)
{
    store_relaxed(&hot_magazine_at(hot, offset)->top, top + 1);
}
#endif

FAST void *hot_pop(struct magazine *m)
{
    void **top = load_relaxed(&m->top);
    void *block = *top;
    if (LIKELY(block != NULL))
        store_relaxed(&m->top, top - 1);
    return block;
}

/* The magazine has room. */
FAST void hot_push(struct magazine *m, void *block)
{
    void **top = load_relaxed(&m->top);
    top[1] = block;
    store_relaxed(&m->top, top + 1);
}

/* What the hit path cannot serve: larger sizes, a miss, a thread without a cache. */
typedef void *(*hot_malloc_slow_fn)(size_t bytes);

FAST void *hot_malloc(size_t bytes, hot_malloc_slow_fn slow)
{
    if (LIKELY(bytes <= TINY_MAX_BYTES)) {
        const struct hot_static *anchor = hot_anchor();
        size_t offset = anchor->tiny_offset[(bytes + 15) / 16];
        /* Table first: the anchor's register is free for the hot block then (GCC 12: two instructions less). */
        __asm__("" : "+r"(offset), "+r"(anchor));
        const struct hot *hot = hot_self(anchor);
        void **top = load_relaxed(&hot_magazine_at(hot, offset)->top);
        void *block = *top;
        if (LIKELY(block != NULL)) {
            HOT_FORGET(offset);
            store_relaxed(&hot_magazine_at(hot, offset)->top, top - 1);
            return block;
        }
    }
    return slow(bytes);
}

/* TINY_MAX_BYTES < bytes <= MEDIUM_MAX_BYTES. NULL: a miss. */
FAST void *hot_pop_medium(size_t bytes)
{
    return hot_pop(hot_magazine(hot_anchor(), bin_medium_offset[(bytes + 511) / 512]));
}

/* slow: NULL, a full magazine, somebody else's block, large and huge ones, and everything that is wrong. */
typedef void (*hot_free_slow_fn)(void *block);

FAST void hot_free(void *block, hot_free_slow_fn slow)
{
    const struct hot *hot = hot_self(hot_anchor());
    uintptr_t base = hot->window_base;
    uint64_t slab = ((uintptr_t)block - base) >> SLAB_SHIFT;
    if (UNLIKELY(slab >= hot->limit))
        goto out;
    /* relaxed: for a block of ours the word was written by this thread, or before it adopted the heap */
    size_t offset = load_relaxed((uint32_t *)base + slab) ^ hot->tag;
    if (UNLIKELY(offset >= BIN_COUNT * BIN_STRIDE_BYTES))
        goto out;
    void **top = load_relaxed(&hot_magazine_at(hot, offset)->top);
    if (UNLIKELY(*top == block)) /* freed twice in a row */
        goto out;
    HOT_FORGET(offset);
    if (UNLIKELY(top >= hot_magazine_at(hot, offset)->end))
        goto out;
    HOT_FORGET(offset);
    top[1] = block;
    hot_advance(hot, offset, top);
    return;
out:
    slow(block);
}

#endif
