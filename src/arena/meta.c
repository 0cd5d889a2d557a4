#include "arena/meta.h"

#include "arena/usage.h"
#include "base/bits.h"
#include "os/os.h"

enum { CHUNK_BYTES = 256 * 1024, ORDER_COUNT = 40 };

struct free_array {
    struct free_array *next;
};

static struct {
    struct lock lock;
    char *at;  /* the rest of the current chunk */
    char *end;
    struct free_array *free_arrays[ORDER_COUNT]; /* by log2 of their bytes */
} meta = { .lock = LOCK_INIT(LOCK_META) };

struct lock *meta_lock(void)
{
    return &meta.lock;
}

static void *map_noted(size_t bytes)
{
    size_t mapped = align_up(bytes, os_page_bytes());
    if (!usage_take_records(mapped))
        return NULL;
    void *p = os_map(mapped, os_page_bytes());
    if (p == NULL) {
        usage_give_records(mapped);
        return NULL;
    }
    os_no_huge_pages(p, mapped);
    return p;
}

/* Under the lock. */
static void *carve(size_t bytes)
{
    if (bytes >= CHUNK_BYTES / 4)
        return map_noted(bytes);
    if (bytes > (size_t)(meta.end - meta.at)) {
        char *chunk = map_noted(CHUNK_BYTES);
        if (chunk == NULL)
            return NULL;
        /* The old chunk's rest is given up: never touched, it costs addresses only. */
        meta.at = chunk;
        meta.end = chunk + CHUNK_BYTES;
    }
    void *p = meta.at;
    meta.at += bytes;
    return p;
}

void *meta_alloc(size_t bytes)
{
    lock_acquire(&meta.lock);
    void *p = carve(align_up(bytes, CACHE_LINE_BYTES));
    lock_release(&meta.lock);
    return p;
}

static unsigned array_order(size_t bytes)
{
    return bytes <= META_ARRAY_MIN_BYTES ? highest_bit(META_ARRAY_MIN_BYTES) : highest_bit(bytes - 1) + 1;
}

size_t meta_array_bytes(size_t bytes)
{
    return (size_t)1 << array_order(bytes);
}

void *meta_array_alloc(size_t bytes)
{
    unsigned order = array_order(bytes);
    lock_acquire(&meta.lock);
    struct free_array *array = meta.free_arrays[order];
    if (array != NULL)
        meta.free_arrays[order] = array->next;
    else
        array = carve((size_t)1 << order);
    lock_release(&meta.lock);
    return array;
}

void meta_array_free(void *memory, size_t bytes)
{
    struct free_array *array = memory;
    unsigned order = array_order(bytes);
    lock_acquire(&meta.lock);
    array->next = meta.free_arrays[order];
    meta.free_arrays[order] = array;
    lock_release(&meta.lock);
}
