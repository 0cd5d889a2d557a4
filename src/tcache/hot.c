#include "tcache/hot.h"

/* What every magazine of the empty hot block points at: a NULL to pop, no room to push. */
static void *const no_entry = NULL;

#define T(bin) ((bin) * BIN_STRIDE_BYTES)
#define EMPTY { .top = (void **)&no_entry, .end = (void **)&no_entry }

const struct hot_static hot_static = {
    .tiny_offset = {
        [0 ... 1] = T(0),    [2] = T(1),          [3] = T(2),          [4] = T(3),
        [5] = T(4),          [6] = T(5),          [7] = T(6),          [8] = T(7),
        [9 ... 10] = T(8),   [11 ... 12] = T(9),  [13 ... 14] = T(10), [15 ... 16] = T(11),
        [17 ... 20] = T(12), [21 ... 24] = T(13), [25 ... 28] = T(14), [29 ... 32] = T(15),
        [33 ... 40] = T(16), [41 ... 48] = T(17), [49 ... 56] = T(18), [57 ... 64] = T(19),
        [65 ... 80] = T(20), [81 ... 96] = T(21), [97 ... 112] = T(22), [113 ... 128] = T(23),
    },
    .empty = { .bins = { [0 ... BIN_COUNT - 1] = EMPTY } },
};

THREAD_LOCAL_DEFINE ptrdiff_t hot_delta;
