#include "arena/window.h"

#include "arena/superslab.h"
#include "arena/usage.h"
#include "base/check.h"
#include "os/os.h"

enum {
    GROW_SUPERSLABS = 32, /* metadata comes in steps of 64 MiB of heap: 1.2 MiB of addresses, touched as used */
    BASE_TRIES = 16,
    RECORD_GROUP_MIN = 4, /* 8 MiB of heap, 16 KiB of slab records */
};

struct window window;

/* Bytes of metadata at the window's end, per slab and per SuperSlab. */
static size_t metadata_bytes(uint64_t slab_count)
{
    return slab_count * (SLAB_RECORD_BYTES + REMOTE_RECORD_BYTES + 2 * BITMAP_BYTES) +
           slab_count / SUPERSLAB_SLABS * sizeof(struct superslab);
}

/* An array that grows with the window: `stride` bytes per slab index, mapped from index `first` on. */
struct growing_array {
    char *start;
    size_t stride;
    uint64_t first;
};

/* The pages that come with slab indexes [from, to): those that an earlier part has mapped already are not among them. */
struct page_range {
    uintptr_t start;
    size_t bytes; /* 0: none */
};

static struct page_range array_pages(const struct growing_array *array, uint64_t from, uint64_t to)
{
    size_t page = os_page_bytes();
    uintptr_t start = from <= array->first ? align_down((uintptr_t)array->start + array->first * array->stride, page)
                                           : align_up((uintptr_t)array->start + from * array->stride, page);
    uintptr_t end = align_up((uintptr_t)array->start + to * array->stride, page);
    return (struct page_range){ start, end - start };
}

static bool grow_array(const struct growing_array *array, uint64_t from, uint64_t to)
{
    struct page_range pages = array_pages(array, from, to);
    if (pages.bytes == 0)
        return true;
    if (!usage_take_records(pages.bytes))
        return false;
    if (os_map_at(pages.start, pages.bytes) != OS_MAP_OK) {
        usage_give_records(pages.bytes);
        return false;
    }
    os_no_huge_pages((void *)pages.start, pages.bytes);
    return true;
}

bool window_grow(uint32_t superslab)
{
    if (superslab >= window.superslab_max)
        return false;
    uint64_t from = load_relaxed(&window.limit);
    uint64_t to = align_up((uint64_t)superslab + 1, GROW_SUPERSLABS);
    if (to > window.superslab_max)
        to = window.superslab_max;
    to *= SUPERSLAB_SLABS;
    if (to <= from)
        return true;
    /* The map's own indexes are looked up, but name no slabs: were their records mapped, every process would promise itself
     * 1.2 MiB for nothing. */
    const uint64_t first = (uint64_t)window.first_superslab * SUPERSLAB_SLABS;
    /* superslabs: a stride per slab, so that all arrays are counted alike */
    const struct growing_array arrays[] = {
        { (char *)window.base, sizeof(uint32_t), 0 },
        { window.slabs, SLAB_RECORD_BYTES, first },
        { window.remotes, REMOTE_RECORD_BYTES, first },
        { window.free_bitmaps, BITMAP_BYTES, first },
        { window.remote_bitmaps, BITMAP_BYTES, first },
        { (char *)superslab_table, sizeof(struct superslab) / SUPERSLAB_SLABS, first },
    };
    for (size_t i = 0; i < ARRAY_COUNT(arrays); i++) {
        if (grow_array(&arrays[i], from, to))
            continue;
        while (i-- > 0) { /* give back what this step mapped, so that the next try finds it vacant */
            struct page_range pages = array_pages(&arrays[i], from, to);
            if (pages.bytes != 0 && os_unmap((void *)pages.start, pages.bytes))
                usage_give_records(pages.bytes);
        }
        return false;
    }
    store_release(&window.limit, to);
    return true;
}

uint32_t window_record_group(void)
{
    const uint32_t in_page = (uint32_t)(os_page_bytes() / (SUPERSLAB_SLABS * SLAB_RECORD_BYTES));
    return in_page > RECORD_GROUP_MIN ? in_page : RECORD_GROUP_MIN;
}

void window_forget(uint32_t superslab)
{
    const uint32_t group = window_record_group();
    const uint64_t from = (uint64_t)superslab / group * group * SUPERSLAB_SLABS;
    const uint64_t to = from + group * SUPERSLAB_SLABS;
    const uint64_t first = (uint64_t)window.first_superslab * SUPERSLAB_SLABS; /* in a narrow window within a group */
    const struct growing_array arrays[] = {
        { window.slabs, SLAB_RECORD_BYTES, first },
        { window.free_bitmaps, BITMAP_BYTES, first },
        { window.remote_bitmaps, BITMAP_BYTES, first },
    };
    if (to > load_relaxed(&window.limit)) /* the window's last SuperSlabs */
        return;
    for (size_t i = 0; i < ARRAY_COUNT(arrays); i++) { /* locked pages stay as they are, which is valid, too */
        const struct page_range pages = array_pages(&arrays[i], from, to);
        os_purge((void *)pages.start, pages.bytes);
    }
}

static bool window_try(uintptr_t base, size_t bytes)
{
    uint64_t slab_count = bytes >> SLAB_SHIFT;
    size_t metadata = align_up(metadata_bytes(slab_count), SUPERSLAB_BYTES);
    char *at = (char *)base + bytes - metadata;
    window.slabs = at;
    at += slab_count * SLAB_RECORD_BYTES;
    window.remotes = at;
    at += slab_count * REMOTE_RECORD_BYTES;
    window.free_bitmaps = at;
    at += slab_count * BITMAP_BYTES;
    window.remote_bitmaps = at;
    at += slab_count * BITMAP_BYTES;
    superslab_table = (struct superslab *)at;

    window.base = base;
    window.origin.words = base - (base >> SLAB_SHIFT) * sizeof(uint32_t);
    window.origin.slabs = (uintptr_t)window.slabs - (base >> SLAB_SHIFT) * SLAB_RECORD_BYTES;
    window.first_superslab = (uint32_t)(align_up(slab_count * sizeof(uint32_t), SUPERSLAB_BYTES) >> SUPERSLAB_SHIFT);
    window.superslab_max = (uint32_t)((bytes - metadata) >> SUPERSLAB_SHIFT);
    if (window_grow(window.first_superslab))
        return true;
    window.base = 0;
    return false;
}

uint32_t window_run_head(uint32_t slab)
{
    for (uint32_t back = 1; back < MAP_RUN_SLABS_MAX && back < slab; back++) {
        uint32_t word = load_relaxed(window_word(slab - back));
        if (word != 0)
            return map_run_slabs(word) > back ? slab - back : 0;
    }
    return 0;
}

uint32_t window_large_slabs(uint32_t superslab)
{
    uint32_t at = superslab * SUPERSLAB_SLABS, end = at + SUPERSLAB_SLABS;
    uint32_t head = load_relaxed(window_word(at)) == 0 ? window_run_head(at) : 0;
    uint32_t run_end = head != 0 ? head + map_run_slabs(load_relaxed(window_word(head))) : 0;
    uint32_t count = 0;
    for (; at < end; at++) {
        uint32_t slabs = map_run_slabs(load_relaxed(window_word(at)));
        if (slabs != 0)
            run_end = at + slabs;
        count += at < run_end;
    }
    return count;
}

bool window_start(void)
{
    /* ThreadSanitizer watches a few address ranges only; on x86-64 the lowest 512 GiB are one of them. */
    unsigned bits = UNDER_THREAD_SANITIZER ? 39 : os_address_bits();
    /* 1 TiB of 128; an eighth of the space where addresses are narrow; less where a try fails. */
    size_t bytes = (size_t)1 << (bits >= 45 ? 40 : bits - 3);
    for (unsigned attempt = 0; attempt < BASE_TRIES; attempt++) {
        uintptr_t space = (uintptr_t)1 << bits;
        /* From a quarter to five eighths of the address space: below position-independent programs and their break (two
         * thirds) and the kernel's own choices (the top), above everything that asks for low addresses. */
        uintptr_t slots = (space / 8 * 3 - bytes) / SUPERSLAB_BYTES;
        uintptr_t base = space / 4 + (uintptr_t)(os_random() % slots) * SUPERSLAB_BYTES;
        if (window_try(base, bytes))
            return true;
        if (attempt % 4 == 3)
            bytes /= 4;
    }
    return false;
}
