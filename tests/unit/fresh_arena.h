/* A window and an arena of a test's own: as after the start of the process, with nothing mapped for blocks yet. What
 * the last one had mapped goes. For tests in which no heap and no cache is in use. */
#ifndef HAKMEM_TESTS_FRESH_ARENA_H
#define HAKMEM_TESTS_FRESH_ARENA_H

#include "arena/arena_internal.h"
#include "base/check.h"
#include "config/policy.h"
#include "os/os.h"

/* What a test mapped would be foreign to the next window where that lies across it: ThreadSanitizer leaves little room to miss. */
static inline void unmap_window(void)
{
    if (window.base == 0)
        return;
    const uintptr_t end = align_up((uintptr_t)(superslab_table + window.superslab_max), SUPERSLAB_BYTES);
    CHECK(os_unmap((void *)window.base, end - window.base), "the last test's window goes", NULL);
}

static inline void fresh_arena(void)
{
    unmap_window();
    __builtin_memset(&arena, 0, sizeof arena);
    __builtin_memset(arena_vacant, 0, sizeof arena_vacant);
    superslab_counts = (struct superslab_counts){ 0 };
    arena_credit = (struct arena_credit){ 0 };
    spare_state = (struct spare_state){ 0 };
    lock_init(&arena.lock, LOCK_ARENA);
    window = (struct window){ 0 };
    CHECK(window_start(), "a window for the test", NULL);
    arena_start(0);
}

static inline size_t arena_purge_all(void)
{
    return arena_purge_beyond(0);
}

static inline uint32_t first_slab(void)
{
    return window.first_superslab * SUPERSLAB_SLABS;
}

static inline uint32_t take_slabs(uint32_t slabs)
{
    bool zeroed;
    return arena_alloc(slabs, 1, NULL, &zeroed);
}

/* What the arena says of itself; the counters that are kept agree with what the masks say. */
static inline struct arena_totals arena_totals_now(void)
{
    struct arena_totals t;
    arena_read_totals(&t);
    assert_int_equal(arena_free_resident_bytes(), t.free_dirty_bytes);
    assert_int_equal(arena_claimed_bytes(), t.mapped_bytes - t.free_dirty_bytes - t.free_clean_bytes);
    return t;
}

/* A run whose pages have all been written to. */
static inline uint32_t take_touched(uint32_t slabs)
{
    bool zeroed;
    const uint32_t slab = arena_alloc(slabs, 1, NULL, &zeroed);
    memset(window_slab_address(slab), 9, slabs * SLAB_BYTES);
    return slab;
}

static inline bool reads_zero(uint32_t slab)
{
    return *(volatile char *)window_slab_address(slab) == 0;
}

/* 0: no floor, no bound on the rate, nothing said about what may be retained. */
static inline void set_decay_policy(uint64_t floor_bytes, uint64_t rate_bytes, uint64_t retained_bytes)
{
    store_relaxed(&policy_live.decay_floor_bytes, floor_bytes);
    store_relaxed(&policy_live.decay_rate_bytes, rate_bytes);
    store_relaxed(&policy_live.retained_bytes, retained_bytes);
    store_relaxed(&policy_live.retained_ratio_ppm, 500000);
}

#endif
