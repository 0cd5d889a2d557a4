/* A window and an arena of a test's own: as after the start of the process, with nothing mapped for blocks yet. What
 * the last ones had mapped stays behind. For tests in which no heap and no cache is in use. */
#ifndef HAKMEM_TESTS_FRESH_ARENA_H
#define HAKMEM_TESTS_FRESH_ARENA_H

#include "arena/arena_internal.h"
#include "base/check.h"
#include "os/os.h"

static inline void fresh_arena(void)
{
    __builtin_memset(&arena, 0, sizeof arena);
    __builtin_memset(arena_vacant, 0, sizeof arena_vacant);
    superslab_counts = (struct superslab_counts){ 0 };
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

static inline uint32_t first_slab(void)
{
    return window.first_superslab * SUPERSLAB_SLABS;
}

#endif
