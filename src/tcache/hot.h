/* The hit paths, and the state of a thread that they touch.
 *
 * Call tree: malloc -> tcache_malloc -> (pop) or one call of the slow function; free -> tcache_free -> (push) or one
 * call of the slow function. Nothing is counted, locked or divided here, and the block itself is not touched.
 *
 *   hot_thread  delta | window_base | limit | tag | self           thread-local
 *   hot block   {top,end} of bin 0 | {top,end} of bin 1 | ...      in the thread's tcache
 *   magazine    bottom[0] = NULL | bottom[1] .. bottom[count] | free room .. bottom[capacity]
 *                                                ^ top                            ^ end
 *
 * Invariants: *bottom is NULL, so an empty magazine's top points at NULL and a pop that reads NULL is a miss;
 * top <= end; top == end means full (or checked mode: end == bottom, every free takes the slow path).
 *
 * free proves that the block is this thread's with one compare: the slab map's word xor the thread's tag is the byte
 * offset of the bin's magazine exactly when the owner is this heap; every other word gives a larger number.
 *
 * A thread without a cache needs no test for it, because all-zero thread-locals are right for it: malloc goes by the
 * delta, which then leads to hot_static.empty, whose magazines are empty; free is stopped by the limit of 0. So nothing
 * happens either if the loader sets thread-locals back to zero. */
#ifndef HAKMEM_TCACHE_HOT_H
#define HAKMEM_TCACHE_HOT_H

#include "slab/sizeclass.h"

struct magazine {
    void **top; /* newest entry. Atomic relaxed: written by its thread only; statistics read it */
    void **end; /* last usable entry; its thread's alone */
};
_Static_assert(sizeof(struct magazine) == BIN_STRIDE_BYTES, "map words hold magazine offsets");

struct hot {
    struct magazine bins[BIN_COUNT];
};

/* The calling thread's alone. What free needs of it stands here and not in the hot block, so that no
 * address has to be computed before it is read (decision 0028). */
struct hot_thread {
    ptrdiff_t delta; /* of the hot block from hot_static.empty */
    uintptr_t window_base;
    uint64_t limit; /* the window's limit when last looked up; may lag behind */
    uint64_t tag;   /* heap id << MAP_OWNER_SHIFT. As wide as the offset it leads to, which spares a conversion */
    struct hot *self; /* NULL: no cache */
};
THREAD_LOCAL_EXTERN struct hot_thread hot_thread;

/* Empty hot block and table in one object, so that one address serves both. Read-only after relocation. Declared hidden:
 * otherwise the compiler looks the address up in the linker's table. */
struct hot_static {
    struct hot empty;
    /* By request: where the bin's top stands in a hot block, counted in pointers. An entry for each size and not for each
     * 16 spares malloc two instructions. */
    uint8_t tiny_top[TINY_MAX_BYTES + 8];
};
extern const struct hot_static hot_static __attribute__((visibility("hidden")));

#define HOT_TOP_STRIDE (BIN_STRIDE_BYTES / sizeof(void *))

/* Registers for what outlives the load of the block. GCC would take the one that a function's result is returned in, and
 * spend an instruction at the end on moving the block there. */
#if defined(__x86_64__)
#define IN_HOT_REGISTER "+S"
#define IN_INDEX_REGISTER "+d"
#define IN_TOP_REGISTER "+c"
#else
#define IN_HOT_REGISTER "+r"
#define IN_INDEX_REGISTER "+r"
#define IN_TOP_REGISTER "+r"
#endif

/* The address of hot_static, of which the compiler is to know nothing more: a thread's hot block is reached from it by
 * arithmetic that leaves the object. It also keeps that address in one register for both table and magazine. */
FAST const struct hot_static *hot_anchor(void)
{
    const struct hot_static *anchor = &hot_static;
    __asm__("" : "+r"(anchor));
    return anchor;
}

/* The calling thread's hot block, or hot_static.empty. */
FAST struct hot *hot_self(const struct hot_static *anchor)
{
    return (struct hot *)((uintptr_t)anchor + (uintptr_t)hot_thread.delta);
}

FAST struct magazine *hot_magazine_at(const struct hot *hot, size_t offset)
{
    return (struct magazine *)((char *)hot->bins + offset);
}

FAST struct magazine *hot_magazine(const struct hot_static *anchor, size_t offset)
{
    return hot_magazine_at(hot_self(anchor), offset);
}

/* top becomes top + 1. Its thread alone writes it, so x86-64 may add in memory, an instruction less than a store of the
 * sum. (malloc's subtraction is slower that way: decision 0028.) */
#if defined(__x86_64__) && defined(__LP64__) && !UNDER_THREAD_SANITIZER
FAST void hot_advance(struct magazine *m, void **top)
{
    (void)top;
    __asm__ volatile("addq %1, %0" : "+m"(m->top) : "i"(sizeof(void *)) : "cc");
}
#else
FAST void hot_advance(struct magazine *m, void **top)
{
    store_relaxed(&m->top, top + 1);
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

/* bytes <= TINY_MAX_BYTES. NULL: a miss. */
FAST void *hot_pop_tiny(size_t bytes)
{
    const struct hot_static *anchor = hot_anchor();
    size_t index = anchor->tiny_top[bytes];
    void ***tops = (void ***)hot_self(anchor)->bins;
    __asm__("" : IN_INDEX_REGISTER(index), IN_HOT_REGISTER(tops));
    void **top = load_relaxed(&tops[index]);
    __asm__("" : IN_TOP_REGISTER(top));
    void *block = *top;
    if (LIKELY(block != NULL)) {
        __asm__("" : "+r"(index)); /* spells the address out again rather than spend an instruction on keeping it */
        store_relaxed(&tops[index], top - 1);
    }
    return block;
}

FAST void *hot_malloc(size_t bytes, hot_malloc_slow_fn slow)
{
    if (LIKELY(bytes <= TINY_MAX_BYTES)) {
        void *block = hot_pop_tiny(bytes);
        if (LIKELY(block != NULL))
            return block;
    }
    return slow(bytes);
}

/* TINY_MAX_BYTES < bytes <= MEDIUM_MAX_BYTES; offsets: bin_medium_offset or bin_aligned_offset. NULL: a miss. */
FAST void *hot_pop_medium(size_t bytes, const uint16_t *offsets)
{
    return hot_pop(hot_magazine(hot_anchor(), offsets[(bytes + 511) / 512]));
}

/* slow: NULL, huge blocks, and everything that is wrong. foreign: the map says that the block is not this thread's, but some
 * other's or a large one; offset is the map's word xor the tag. full: the block is this thread's, and its magazine has no
 * room. */
typedef void (*hot_free_slow_fn)(void *block);
typedef void (*hot_free_foreign_fn)(void *block, size_t offset);
typedef void (*hot_free_full_fn)(void *block, struct magazine *m);

FAST void hot_free(void *block, hot_free_slow_fn slow, hot_free_foreign_fn foreign, hot_free_full_fn full)
{
    uintptr_t base = hot_thread.window_base;
    uint64_t slab = ((uintptr_t)block - base) >> SLAB_SHIFT;
    if (UNLIKELY(slab >= hot_thread.limit))
        goto out;
    /* relaxed: for a block of ours the word was written by this thread, or before it adopted the heap */
    size_t offset = load_relaxed((uint32_t *)base + slab) ^ hot_thread.tag;
    if (UNLIKELY(offset >= BIN_COUNT * BIN_STRIDE_BYTES)) {
        foreign(block, offset);
        return;
    }
    struct magazine *m = hot_magazine_at(hot_thread.self, offset);
    void **top = load_relaxed(&m->top);
    if (UNLIKELY(*top == block)) /* freed twice in a row */
        goto out;
    if (UNLIKELY(top >= m->end)) {
        full(block, m);
        return;
    }
    top[1] = block;
    hot_advance(m, top);
    return;
out:
    slow(block);
}

#endif
