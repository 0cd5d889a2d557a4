/* A window and an arena of a test's own: as after the start of the process, with nothing mapped for blocks yet. What
 * the last ones had mapped stays behind. For tests in which no heap and no cache is in use. */
#ifndef HAKMEM_TESTS_FRESH_ARENA_H
#define HAKMEM_TESTS_FRESH_ARENA_H

#include "arena/arena_internal.h"
#include "base/check.h"
#include "config/policy.h"
#include "os/os.h"

static inline void fresh_arena(void)
{
    __builtin_memset(&arena, 0, sizeof arena);
    __builtin_memset(arena_vacant, 0, sizeof arena_vacant);
    superslab_counts = (struct superslab_counts){ 0 };
    arena_credit = (struct arena_credit){ 0 };
    lock_init(&arena.lock, LOCK_ARENA);
    /* Another test's leavings in the first SuperSlabs would be foreign here; ThreadSanitizer leaves little room to miss. */
    enum { PROBE_BYTES = 256 << 20 };
    uintptr_t probe;
    do {
        window = (struct window){0};
        CHECK(window_start(), "a window for the test", NULL);
        probe = window.base + ((uintptr_t)window.first_superslab << SUPERSLAB_SHIFT);
    } while (os_map_at(probe, PROBE_BYTES) != OS_MAP_OK);
    os_unmap((void *)probe, PROBE_BYTES);
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
