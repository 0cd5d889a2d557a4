#include "tcache/hot.h"

/* What every magazine of the empty hot block points at: a NULL to pop, no room to push. */
static void *const no_entry = NULL;

#define T(bin) ((bin) * HOT_TOP_STRIDE)
#define EMPTY { .top = (void **)&no_entry, .end = (void **)&no_entry }

const struct hot_static hot_static = {
    .empty = { .bins = { [0 ... BIN_COUNT - 1] = EMPTY } },
    .tiny_top = {
        [0 ... 16] = T(0),       [17 ... 32] = T(1),      [33 ... 48] = T(2),      [49 ... 64] = T(3),
        [65 ... 80] = T(4),      [81 ... 96] = T(5),      [97 ... 112] = T(6),     [113 ... 128] = T(7),
        [129 ... 160] = T(8),    [161 ... 192] = T(9),    [193 ... 224] = T(10),   [225 ... 256] = T(11),
        [257 ... 320] = T(12),   [321 ... 384] = T(13),   [385 ... 448] = T(14),   [449 ... 512] = T(15),
        [513 ... 640] = T(16),   [641 ... 768] = T(17),   [769 ... 896] = T(18),   [897 ... 1024] = T(19),
        [1025 ... 1280] = T(20), [1281 ... 1536] = T(21), [1537 ... 1792] = T(22), [1793 ... 2048] = T(23),
    },
};

THREAD_LOCAL_DEFINE struct hot_thread hot_thread;
