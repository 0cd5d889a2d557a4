/* To ask the kernel which pages of a run have been written to is dear, and ends a sandboxed process (mincore). But a run that
 * read as zero when it was handed out says so itself: a few of its pages are read when it is freed. Such runs there are as
 * long as the heap grows, and where pages were given back. So a program that fills its blocks is recognized by its first
 * ones, and nothing is ever given back only to find out. A page that was never written to costs a page fault to read: hence
 * so few of them, and of a program that is known to be sparse only those of one block in eight. */
#include "large/sparse.h"

#include "base/bits.h"
#include "os/os.h"

enum {
    LOOKS = 4,      /* pages read of a block; none of them may have been written to */
    SURE_FREES = 8, /* blocks to be looked at for one that is, once it is sure */
};

uint32_t sparse_in_row[SPARSE_GROUPS];
/* 1: a block of the upper group has been looked at. Until then what is known of the lower one goes for both: a program whose
 * sizes grow would have its first large blocks stand where they then never stand again. Atomic relaxed; written by who looks. */
static uint32_t upper_is_known;
static uint32_t looks_no_more; /* 1: in a forked child. Atomic relaxed; written by the thread that recovers it */

static bool reads_zero(const char *page, size_t bytes)
{
    const uint64_t *words = (const uint64_t *)page;
    for (size_t i = 0; i < bytes / sizeof *words; i += 4)
        if ((words[i] | words[i + 1] | words[i + 2] | words[i + 3]) != 0)
            return false;
    return true;
}

/* In the middle of quarters: neither the first page nor the last. */
static bool is_sparse(const char *block, size_t bytes)
{
    const size_t page = os_page_bytes();
    for (unsigned i = 0; i < LOOKS; i++)
        if (!reads_zero(block + align_down(bytes / (2 * LOOKS) * (2 * i + 1), page), page))
            return false;
    return true;
}

void sparse_look(const char *block, size_t bytes)
{
    if (load_relaxed(&looks_no_more) != 0 || bytes < 2 * LOOKS * os_page_bytes())
        return;
    uint32_t *const in_row = &sparse_in_row[sparse_group(bytes)];
    const uint32_t before = load_relaxed(in_row);
    const bool skips = before >= SPARSE_SURE && before < SPARSE_SURE + SURE_FREES - 1;
    if (!skips && !is_sparse(block, bytes))
        store_relaxed(in_row, 0);
    else
        store_relaxed(in_row, before < SPARSE_SURE + SURE_FREES - 1 ? before + 1 : SPARSE_SURE);
    if (sparse_group(bytes) != 0)
        store_relaxed(&upper_is_known, 1);
    else if (load_relaxed(&upper_is_known) == 0)
        store_relaxed(&sparse_in_row[1], load_relaxed(in_row));
}

void sparse_stop_looking(void)
{
    store_relaxed(&looks_no_more, 1);
}
