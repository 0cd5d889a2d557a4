/* Pages inside slabs: those that hold no block in use go back to the system, although the slab as a whole stays.
 *
 *   blocks  | A | b   b | b   b | b | C | b |     capital: out; a block in a magazine is out
 *   pages   |    0    |    1    |    2    |    3    |
 *   purged        0        1         0         0         page 1 holds free blocks only, one of them in part
 *
 * A block is cold if it lies on a purged page, at least in part. Invariant (slab_pages_are_valid): cold blocks are free,
 * and cold_count is their number. So who frees a block need not know of any of this; only who takes one must look.
 *
 * When: a purge pass walks the slabs that have free blocks and notes how many. A slab of which the next pass, a decay
 * period later, finds as many, with none taken since, was not used in between: what is put raises the number, and what is
 * taken clears the note. Giving back what programs stopped using, slowly and in bounded steps, is the idea of Scudo's
 * release interval (LLVM); the bitmaps here say at once what it has to find out by walking free lists.
 *
 * Where a page is as large as the run there is nothing to do. All of it is guarded by the heap's lock. */
#ifndef HAKMEM_SLAB_PAGES_H
#define HAKMEM_SLAB_PAGES_H

#include "slab/heap.h"

/* Only blocks that would fault a page in are left in a slab that has free ones. */
FAST bool slab_is_cold(const struct slab *s)
{
    return s->free_count == s->cold_count;
}

FAST unsigned slab_page_count(const struct slab *s, unsigned page_shift)
{
    return (unsigned)(s->run_slabs * SLAB_BYTES >> page_shift);
}

#define SLAB_PURGE_REFUSED UINT32_MAX
/* Gives back the pages that hold free blocks only, if they are `least` or more; page_shift: log2 of the system's page size.
 * What cannot be given back (locked pages) counts as kept. Returns how many went; REFUSED: they lie under a huge page that
 * is dense but for them; with `least` 1 it is broken all the same, unless the user said `always`. */
unsigned slab_purge(uint32_t slab, unsigned page_shift, unsigned least);
/* As slab_take, of a slab with purged pages: blocks on resident pages only, so maybe less than there are free ones. If all
 * are cold, the pages under the lowest become resident again first; *woken: how many. */
unsigned slab_take_resident(uint32_t slab, void **last, unsigned want, unsigned *woken);
bool slab_pages_are_valid(const struct slab *s);

/* One step of a purge pass over the heap's slabs, bounded in work because it runs inside somebody's malloc; passes begin
 * policy page_decay_ms after the end of the last one. True: there may be more to give back, now or after that time. */
bool heap_purge_pages(struct heap *h, uint64_t now_ms);
/* Gives back at once what can be, whatever the policy says. Returns bytes. */
size_t heap_purge_pages_now(struct heap *h);

#endif
