#include "api/entry.h"

#include <errno.h>

#include "base/upcall.h"
#include "large/large.h"
#include "os/os.h"

static NOINLINE void *malloc_missed(size_t bytes)
{
    void *block = tcache_malloc_slow(bytes);
    if (UNLIKELY(block == NULL))
        errno = ENOMEM;
    return block;
}

FAST void *medium_hit(size_t bytes)
{
    return bytes > TINY_MAX_BYTES && bytes <= MEDIUM_MAX_BYTES ? hot_pop_medium(bytes, bin_medium_offset) : NULL;
}

/* A tail call on each way out, so that the hit of a medium size needs no stack frame. */
void *api_malloc_slow(size_t bytes)
{
    void *block = medium_hit(bytes);
    return LIKELY(block != NULL) ? block : malloc_missed(bytes);
}

void *api_calloc_slow(size_t bytes)
{
    bool zeroed = false;
    void *block;
    if (bytes <= MEDIUM_MAX_BYTES) {
        block = api_malloc_slow(bytes);
    } else {
        block = tcache_malloc_aligned(bytes, 1, &zeroed);
        if (UNLIKELY(block == NULL))
            errno = ENOMEM;
    }
    return block == NULL || zeroed ? block : memset(block, 0, bytes);
}

/* api_malloc_slow for whom NULL is no failure yet: errno stays. */
static NOINLINE void *malloc_or_null(size_t bytes)
{
    void *block = medium_hit(bytes);
    return LIKELY(block != NULL) ? block : tcache_malloc_slow(bytes);
}

/* The block has `have` bytes that may be used. */
static NOINLINE void *realloc_moves(void *block, size_t bytes, size_t have)
{
    void *copy = hot_malloc(bytes, malloc_or_null);
    if (UNLIKELY(copy == NULL)) {
        /* There is no memory to shrink into: the block is large enough as it is. Or there are no addresses for a copy; but all
         * that could be given back has been by now, and a block that only grows wants fewer. */
        void *same = bytes <= have ? block : tcache_resize_in_place(block, bytes);
        if (same == NULL)
            errno = ENOMEM;
        return same;
    }
    memcpy(copy, block, bytes < have ? bytes : have);
    api_free(block);
    return copy;
}

static NOINLINE void *realloc_uncommon(void *block, size_t bytes)
{
    if (bytes == 0) {
        api_free(block);
        return NULL;
    }
    void *same = tcache_resize_uncommon(block, bytes);
    return LIKELY(same != NULL) ? same : realloc_moves(block, bytes, tcache_usable_bytes(block));
}

/* A tail call on each way out, so that a block that may stay needs no register saved. */
void *api_resize(void *block, size_t bytes)
{
    const size_t have = tcache_small_bytes(block);
    if (UNLIKELY(have == 0) || UNLIKELY(bytes == 0))
        return realloc_uncommon(block, bytes);
    return tcache_is_worth_keeping(bytes, have) ? block : realloc_moves(block, bytes, have);
}

void *api_reallocarray(void *block, size_t count, size_t size)
{
    size_t bytes;
    if (UNLIKELY(__builtin_mul_overflow(count, size, &bytes))) {
        errno = ENOMEM;
        return NULL;
    }
    return api_realloc(block, bytes);
}

int api_reallocarr(void *block_address, size_t count, size_t size)
{
    const int saved_errno = errno;
    size_t bytes;
    void *block;
    /* The caller's pointer may be of any type: copied, not read as a void pointer. */
    memcpy(&block, block_address, sizeof block);
    if (__builtin_mul_overflow(count, size, &bytes))
        return EOVERFLOW;
    void *resized = NULL;
    if (bytes == 0) {
        api_free(block);
    } else if ((resized = api_realloc(block, bytes)) == NULL) {
        errno = saved_errno;
        return ENOMEM;
    }
    memcpy(block_address, &resized, sizeof resized);
    return 0;
}

void *api_reallocf(void *block, size_t bytes)
{
    void *resized = api_realloc(block, bytes);
    if (resized == NULL && bytes != 0)
        api_free(block);
    return resized;
}

/* As api_aligned, but leaves errno alone. */
static NOINLINE void *aligned_missed(size_t alignment, size_t bytes)
{
    bool zeroed;
    return tcache_malloc_aligned(bytes, alignment, &zeroed);
}

/* The hit: a block whose size is a multiple of the alignment is at one as well (bin_of_aligned). What is no power of two,
 * where nothing is wanted, or so much that the sum wraps around, is left to others: `whole` is 0 then, or the first
 * test fails. */
FAST void *aligned_hit(size_t alignment, size_t bytes)
{
    const size_t mask = alignment - 1;
    const size_t whole = (bytes + mask) & ~mask;
    if (UNLIKELY((alignment & mask) != 0 || whole - 1 >= MEDIUM_MAX_BYTES))
        return NULL;
    return whole <= TINY_MAX_BYTES ? hot_pop_tiny(whole) : hot_pop_medium(whole, bin_aligned_offset);
}

static NOINLINE void *aligned_or_enomem(size_t alignment, size_t bytes)
{
    void *block = aligned_missed(alignment, bytes);
    if (UNLIKELY(block == NULL))
        errno = ENOMEM;
    return block;
}

void *api_aligned(size_t alignment, size_t bytes)
{
    void *block = aligned_hit(alignment, bytes);
    return LIKELY(block != NULL) ? block : aligned_or_enomem(alignment, bytes);
}

static NOINLINE void *memalign_missed(size_t alignment, size_t bytes)
{
    const size_t highest = SIZE_MAX / 2 + 1;
    if (UNLIKELY(alignment > highest)) {
        errno = EINVAL;
        return NULL;
    }
    if (UNLIKELY(!is_power_of_two(alignment)))
        alignment = alignment == 0 ? 1 : (size_t)2 << highest_bit(alignment);
    return aligned_or_enomem(alignment, bytes);
}

void *api_memalign(size_t alignment, size_t bytes)
{
    void *block = aligned_hit(alignment, bytes);
    return LIKELY(block != NULL) ? block : memalign_missed(alignment, bytes);
}

static NOINLINE int posix_memalign_missed(void **block, size_t alignment, size_t bytes)
{
    if (UNLIKELY(!is_power_of_two(alignment) || alignment % sizeof(void *) != 0))
        return EINVAL;
    void *aligned = aligned_missed(alignment, bytes);
    if (UNLIKELY(aligned == NULL))
        return ENOMEM;
    *block = aligned;
    return 0;
}

int api_posix_memalign(void **block, size_t alignment, size_t bytes)
{
    void *aligned;
    if (UNLIKELY(alignment < sizeof(void *)) || (aligned = aligned_hit(alignment, bytes)) == NULL)
        return posix_memalign_missed(block, alignment, bytes);
    *block = aligned;
    return 0;
}

/* The page size is known once the process has started, and the very first allocation may be a valloc. */
static size_t page_bytes(void)
{
    if (tcache_self() == NULL)
        upcall_thread_attach();
    return os_page_bytes();
}

void *api_valloc(size_t bytes)
{
    return api_aligned(page_bytes(), bytes);
}

void *api_pvalloc(size_t bytes)
{
    const size_t page = page_bytes();
    size_t whole_pages;
    if (UNLIKELY(__builtin_add_overflow(bytes, page - 1, &whole_pages))) {
        errno = ENOMEM;
        return NULL;
    }
    return api_aligned(page, align_down(whole_pages, page));
}

size_t api_usable_bytes_uncommon(const void *block)
{
    return block == NULL ? 0 : tcache_usable_bytes_uncommon(block);
}

size_t api_size_if_ours(const void *block)
{
    const uint64_t index = window_slab_index(block);
    if (block == NULL)
        return 0;
    if (index >= load_acquire(&window.limit))
        return large_usable_bytes(block);
    const uint32_t word = load_relaxed(window_word((uint32_t)index));
    if (word >> MAP_OWNER_SHIFT == 0)
        return large_usable_bytes(block);
    const struct bin_info *info = bin_info((word & ((1u << MAP_OWNER_SHIFT) - 1)) / BIN_STRIDE_BYTES);
    const char *run = window_slab_address(slab_head((uint32_t)index, info));
    const uint32_t offset = (uint32_t)((const char *)block - run);
    const uint32_t number = bin_block_index(info, offset);
    const bool is_block = number < info->block_count && number * info->block_bytes == offset;
    return is_block ? tcache_block_bytes(block, info) : 0;
}

size_t api_good_bytes(size_t bytes)
{
    if (!guard_is_on()) {
        if (bytes <= MEDIUM_MAX_BYTES)
            return bin_info(bin_of_size(bytes))->block_bytes;
    } else if (bytes <= MEDIUM_MAX_BYTES - GUARD_SEAL_BYTES) {
        return bytes == 0 ? 1 : bytes;
    }
    const size_t page = page_bytes();
    return bytes > SIZE_MAX - page ? bytes : align_up(bytes, page);
}
