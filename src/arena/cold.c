/* Large blocks that are hardly written to, and where they stand.
 *
 * A program that takes large buffers and writes their first and last page touches every page of the range by and by, though
 * it needs a few at a time. To give back each run when it is freed would be a system call and two page faults. It is enough
 * to keep few pages in use and give back the others: runs begin with a SuperSlab where one is free, so their first
 * pages are 16 of its 512; and SuperSlabs in which no such block has been for COLD_FREES frees lose their free pages, one
 * for every FREES_PER_STEP frees at most. As new runs come from the lowest addresses, these are the highest, and seldom
 * wanted: bench/large_loop.c has one page fault in five mallocs.
 *
 * Nothing of this is done before half of what would be excess waits: blocks that come and go at the same few places need
 * nobody's help. It draws on no credit: what a few pages cost is far less than what that would charge for whole slabs, and
 * who calls knows that they are few (large/sparse.h). */
#include "arena/arena_internal.h"
#include "config/policy.h"
#include "os/os.h"

enum {
    FREES_PER_STEP = 8,
    VISITS_PER_STEP = 64,
    FREES_PER_STAMP = 8,
    COLD_STAMPS = 4,
};
#define COLD_FREES (COLD_STAMPS * FREES_PER_STAMP)

/* Atomic relaxed: any thread that frees such a block. */
static uint32_t frees; /* a lost update delays a step */
static uint32_t minded; /* 1: half of what would be excess has waited once */
static uint32_t cursor; /* SuperSlabs looked at so far */

/* 0 is for where no such block has ever been. */
static uint8_t stamp_now(void)
{
    const uint8_t stamp = (uint8_t)(load_relaxed(&frees) / FREES_PER_STAMP);
    return stamp == 0 ? 1 : stamp;
}

bool arena_minds_sparse(void)
{
    return load_relaxed(&minded) != 0;
}

void arena_note_sparse(uint32_t slab, uint32_t slabs)
{
    const uint8_t stamp = stamp_now();
    for (uint32_t i = slab / SUPERSLAB_SLABS; i <= (slab + slabs - 1) / SUPERSLAB_SLABS; i++)
        store_relaxed(&superslab_table[i].sparse_stamp, stamp);
}

/* A huge page comes back as a whole at one touch. */
static bool may_be_huge(const struct superslab *s)
{
    const uint32_t pages = load_relaxed(&s->pages) & SUPERSLAB_PAGES_MASK;
    return pages == SUPERSLAB_HUGE || (pages == SUPERSLAB_SMALL && load_relaxed(&policy_live.thp) != THP_NEVER &&
                                       os_huge_page_mode() == OS_HUGE_ALWAYS);
}

static bool is_cold(const struct superslab *s)
{
    const uint8_t stamp = load_relaxed(&s->sparse_stamp);
    return stamp != 0 && (uint8_t)(stamp_now() - stamp) >= COLD_STAMPS && load_acquire(&s->state) == SUPERSLAB_MAPPED &&
           load_relaxed(&s->prewarmed) == 0 && (load_relaxed(&s->free_mask) & load_relaxed(&s->dirty_mask)) != 0 &&
           !may_be_huge(s);
}

SLOW static void give_back_one(void)
{
    const uint32_t span = load_acquire(&arena.next) - window.first_superslab;
    for (unsigned visits = 0; visits < VISITS_PER_STEP && visits < span; visits++) {
        const uint32_t superslab = window.first_superslab + fetch_add_relaxed(&cursor, 1) % span;
        struct superslab *s = &superslab_table[superslab];
        if (is_cold(s)) {
            arena_purge_free(superslab, load_relaxed(&s->free_mask), PURGE_COLD);
            return;
        }
    }
}

void arena_sparse_freed(void)
{
    const uint32_t now = load_relaxed(&frees) + 1;
    store_relaxed(&frees, now);
    if (now % FREES_PER_STEP == 0 && arena_nears_excess()) {
        store_relaxed(&minded, 1);
        give_back_one();
    }
}
