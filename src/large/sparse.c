/* To ask the kernel which pages of a run have been written to is dear, and ends a sandboxed process (mincore). But a run that
 * read as zero when it was handed out says so itself: a few of its pages are read when it is freed. Such runs there are as
 * long as the heap grows, and where pages were given back. So a program that fills its blocks is recognized by its first
 * ones, and nothing is ever given back only to find out. */
#include "large/sparse.h"

#include "base/bits.h"
#include "os/os.h"

enum {
    LOOKS = 8, /* pages read of a block */
    DENSE = 2, /* so many of them written to are more than a sparse block has */
};

uint32_t sparse_in_row;
static uint32_t looks_no_more; /* 1: in a forked child. Atomic relaxed; written by the thread that recovers it */

static bool reads_zero(const char *page, size_t bytes)
{
    const uint64_t *words = (const uint64_t *)page;
    for (size_t i = 0; i < bytes / sizeof *words; i++)
        if (words[i] != 0)
            return false;
    return true;
}

void sparse_look(const char *block, size_t bytes)
{
    const size_t page = os_page_bytes();
    unsigned written = 0;
    if (load_relaxed(&looks_no_more) != 0)
        return;
    /* In the middle of eighths: neither the first page nor the last. */
    for (unsigned i = 0; i < LOOKS && written < DENSE; i++)
        written += !reads_zero(block + align_down(bytes / (2 * LOOKS) * (2 * i + 1), page), page);
    const uint32_t before = load_relaxed(&sparse_in_row);
    if (written >= DENSE)
        store_relaxed(&sparse_in_row, 0);
    else if (before < SPARSE_SURE)
        store_relaxed(&sparse_in_row, before + 1);
}

void sparse_stop_looking(void)
{
    store_relaxed(&looks_no_more, 1);
}
