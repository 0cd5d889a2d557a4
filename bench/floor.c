/* floor: how fast could a malloc with magazines be? build/bench/libfloor.so, to be preloaded like any other library.
 *
 * It does what a magazine design cannot leave out, and nothing else: malloc turns the size into a bin and pops a
 * pointer from the thread's array of that bin; free turns the address into a bin and pushes. No owner is looked up,
 * nothing is locked, checked, counted or ever returned to the system, and a block belongs to whoever freed it. So this
 * is no allocator to use but a bound: the distance to it is what all else costs. It is a bound for malloc and free
 * only: realloc copies, calloc clears, without the tricks that make these fast.
 *
 * All blocks lie in one window of addresses that is cut into spans of 64 KiB; a byte for each says its bin. What a
 * full array pushes out goes, a batch at a time, to a lock-free list that any thread with an empty array takes over
 * whole; so blocks that always change threads do not use up the machine. The arrays of a thread that ends go to the
 * next one. */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define EXPORT __attribute__((visibility("default")))
#define SLOW __attribute__((noinline))

#define WINDOW_BYTES ((size_t)1 << 38) /* of addresses; aligned to itself */
#define SPAN_SHIFT 16
#define SPAN_BYTES ((size_t)1 << SPAN_SHIFT)
#define SPAN_COUNT (WINDOW_BYTES >> SPAN_SHIFT)
#define FINE_MAX_BYTES ((size_t)1024) /* bins 16 bytes apart up to here, four for every doubling above */
#define FINE_SHIFT 10
#define BLOCK_MAX_SHIFT 36
enum {
    FINE_COUNT = 64,
    BIN_COUNT = FINE_COUNT + (BLOCK_MAX_SHIFT - FINE_SHIFT) * 4 + 1,
    STACK_COUNT = 8192, /* more than the widest burst of the suite */
    BATCH_COUNT = 1024,
    CARVE_COUNT = 64,
};

/* What a block holds while it is in a batch on its way between threads. */
struct link {
    struct link *next;       /* in the batch */
    struct link *next_batch; /* of the first block only */
};

/* 32 bytes, so that a shift finds it. */
struct bin {
    void **top; /* one above the last pointer; top == bottom: empty; top == limit: full */
    void **bottom;
    void **limit;
    struct link *batches; /* taken from `sent`, not yet put into the array */
};

/* Blocks of a bin that nobody has had yet. */
struct fresh {
    char *next;
    char *end;
};

/* Of one thread. */
struct cache {
    struct bin bins[BIN_COUNT];
    struct fresh fresh[BIN_COUNT];
    struct cache *next_idle; /* under `lock` */
    void *stacks[BIN_COUNT][STACK_COUNT];
};

static struct cache nobody; /* of threads that have none yet: arrays both empty and full, so both paths are slow */
static _Thread_local struct cache *mine __attribute__((tls_model("initial-exec"))) = &nobody;
static _Thread_local bool left __attribute__((tls_model("initial-exec")));
static unsigned char bin_of_span[SPAN_COUNT];
static char *window;                              /* written once, under `lock` */
static _Atomic size_t window_used;                /* relaxed: only divides addresses up */
static _Atomic(struct link *) sent[BIN_COUNT];    /* batches: pushed with release, taken all at once with acquire */
static struct cache *idle;                        /* under `lock` */
static pthread_key_t leave_key;                   /* written once, under `lock` */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* taken when a thread comes or goes */

static inline size_t bin_of_size(size_t size)
{
    if (__builtin_expect(size <= FINE_MAX_BYTES, 1)) {
        return (size + 15) / 16; /* bin 0 is malloc(0), served like 16 bytes */
    }
    unsigned shift = 63U - (unsigned)__builtin_clzll(size - 1);
    return FINE_COUNT + (shift - FINE_SHIFT) * 4 + ((size - 1) >> (shift - 2)) - 3;
}

static inline size_t size_of_bin(size_t bin)
{
    if (bin <= FINE_COUNT) {
        return bin == 0 ? 16 : (size_t)bin * 16;
    }
    size_t step = bin - FINE_COUNT - 1;
    return (size_t)(step % 4 + 5) << (step / 4 + FINE_SHIFT - 2);
}

/* The window is aligned to its size, so its address drops out. */
static inline size_t bin_of_block(const void *block)
{
    return bin_of_span[(uintptr_t)block >> SPAN_SHIFT & (SPAN_COUNT - 1)];
}

static void leave(void *cache)
{
    pthread_mutex_lock(&lock);
    mine = &nobody;
    left = true;
    ((struct cache *)cache)->next_idle = idle;
    idle = cache;
    pthread_mutex_unlock(&lock);
}

static void *map(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        abort();
    }
    return memory;
}

/* Gives the thread its arrays. */
static SLOW struct cache *enter(void)
{
    pthread_mutex_lock(&lock);
    if (window == NULL) {
        char *twice = map(2 * WINDOW_BYTES);
        window = (char *)(((uintptr_t)twice + WINDOW_BYTES - 1) & ~(WINDOW_BYTES - 1));
        if (pthread_key_create(&leave_key, leave) != 0) {
            abort();
        }
    }
    struct cache *cache = idle;
    if (cache != NULL) {
        idle = cache->next_idle;
    }
    pthread_mutex_unlock(&lock);
    if (cache == NULL) {
        cache = map(sizeof *cache);
        for (unsigned bin = 0; bin < BIN_COUNT; bin++) {
            cache->bins[bin].top = cache->bins[bin].bottom = cache->stacks[bin];
            cache->bins[bin].limit = cache->stacks[bin] + STACK_COUNT;
        }
    }
    mine = cache;
    pthread_setspecific(leave_key, cache);
    return cache;
}

/* Moves a batch that another thread sent into the empty array; false if there is none. */
static bool receive(struct bin *bin, size_t number)
{
    if (bin->batches == NULL && atomic_load_explicit(&sent[number], memory_order_relaxed) != NULL) {
        bin->batches = atomic_exchange_explicit(&sent[number], NULL, memory_order_acquire);
    }
    struct link *block = bin->batches;
    if (block == NULL) {
        return false;
    }
    bin->batches = block->next_batch;
    for (; block != NULL; block = block->next) {
        *bin->top++ = block;
    }
    return true;
}

/* Makes room in the full array. Taking all and pushing one are the only operations on the list, so a block that comes
 * back in between does no harm. */
static void send(struct bin *bin, size_t number)
{
    struct link *first = NULL;
    for (unsigned i = 0; i < BATCH_COUNT; i++) {
        struct link *block = *--bin->top;
        block->next = first;
        first = block;
    }
    first->next_batch = atomic_load_explicit(&sent[number], memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&sent[number], &first->next_batch, first, memory_order_release,
                                                  memory_order_relaxed)) {
    }
}

/* Room for blocks of `size` bytes nobody has had. Blocks of a power of two lie at multiples of it, which is all that
 * aligned_alloc needs. False if the window is used up. */
static bool open_spans(struct fresh *fresh, size_t number, size_t size)
{
    size_t bytes = (size < SPAN_BYTES ? 8 * size : size) + SPAN_BYTES - 1; /* at least eight blocks, if small */
    bytes &= -SPAN_BYTES;
    size_t alignment = (size & (size - 1)) == 0 && size > SPAN_BYTES ? size : SPAN_BYTES;
    size_t used = atomic_load_explicit(&window_used, memory_order_relaxed);
    size_t begin;
    do {
        begin = (used + alignment - 1) & -alignment;
        if (begin + bytes > WINDOW_BYTES) {
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(&window_used, &used, begin + bytes, memory_order_relaxed,
                                                    memory_order_relaxed));
    memset(bin_of_span + (begin >> SPAN_SHIFT), (int)number, bytes >> SPAN_SHIFT);
    *fresh = (struct fresh){window + begin, window + begin + bytes};
    return true;
}

static SLOW void *malloc_slow(size_t number)
{
    struct cache *cache = mine == &nobody ? enter() : mine;
    struct bin *bin = &cache->bins[number];
    if (bin->top == bin->bottom && !receive(bin, number)) {
        size_t size = size_of_bin(number);
        struct fresh *fresh = &cache->fresh[number];
        if ((size_t)(fresh->end - fresh->next) < size && !open_spans(fresh, number, size)) {
            errno = ENOMEM;
            return NULL;
        }
        size_t count = (size_t)(fresh->end - fresh->next) / size;
        count = count < CARVE_COUNT ? count : CARVE_COUNT;
        for (size_t i = count; i-- > 0;) { /* the lowest address on top */
            *bin->top++ = fresh->next + i * size;
        }
        fresh->next += count * size;
    }
    return *--bin->top;
}

static SLOW void free_slow(void *block, size_t number)
{
    if (mine == &nobody && left) {
        return; /* the C library's last frees of a thread: lost, or its arrays would be */
    }
    struct bin *bin = &(mine == &nobody ? enter() : mine)->bins[number];
    if (bin->top == bin->limit) {
        send(bin, number);
    }
    *bin->top++ = block;
}

EXPORT void *malloc(size_t size)
{
    size_t number = bin_of_size(size);
    if (__builtin_expect(number >= BIN_COUNT, 0)) {
        errno = ENOMEM;
        return NULL;
    }
    struct bin *bin = &mine->bins[number];
    void **top = bin->top;
    if (__builtin_expect(top == bin->bottom, 0)) {
        return malloc_slow(number);
    }
    bin->top = top - 1;
    return top[-1];
}

EXPORT void free(void *block)
{
    if (__builtin_expect(block == NULL, 0)) {
        return;
    }
    size_t number = bin_of_block(block);
    struct bin *bin = &mine->bins[number];
    void **top = bin->top;
    if (__builtin_expect(top == bin->limit, 0)) {
        free_slow(block, number);
        return;
    }
    *top = block;
    bin->top = top + 1;
}

EXPORT void *calloc(size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    void *block = malloc(bytes);
    return block != NULL ? memset(block, 0, bytes) : NULL;
}

EXPORT size_t malloc_usable_size(void *block)
{
    return block != NULL ? size_of_bin(bin_of_block(block)) : 0;
}

EXPORT void *realloc(void *block, size_t size)
{
    size_t had = malloc_usable_size(block);
    if (block != NULL && size <= had && size >= had / 2) {
        return block;
    }
    void *moved = malloc(size);
    if (block != NULL && moved != NULL) {
        memcpy(moved, block, size < had ? size : had);
        free(block);
    }
    return moved;
}

EXPORT void *memalign(size_t alignment, size_t size)
{
    if (alignment <= 16) {
        return malloc(size);
    }
    size_t wanted = size > alignment ? size : alignment;
    return malloc(wanted > WINDOW_BYTES / 2 ? WINDOW_BYTES : (size_t)1 << (64 - __builtin_clzll(wanted - 1)));
}

EXPORT void *aligned_alloc(size_t alignment, size_t size)
{
    return memalign(alignment, size);
}

EXPORT int posix_memalign(void **block, size_t alignment, size_t size)
{
    *block = memalign(alignment, size);
    return *block != NULL ? 0 : ENOMEM;
}
