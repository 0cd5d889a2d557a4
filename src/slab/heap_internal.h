/* What heap.c, flush.c, drain.c and steal.c share. The heap's lock is held in all of these. */
#ifndef HAKMEM_SLAB_HEAP_INTERNAL_H
#define HAKMEM_SLAB_HEAP_INTERNAL_H

#include "slab/heap.h"

void heap_list_push(struct heap *h, uint32_t slab);
void heap_list_remove(struct heap *h, uint32_t slab);
void heap_set_map(uint32_t slab, uint32_t slabs, uint32_t word);
void heap_slab_emptied(struct heap *h, uint32_t slab);
/* Blocks have come back: a slab that had none free has some now, one whose blocks are all free is empty. */
FAST void heap_note_returned(struct heap *h, uint32_t slab)
{
    const struct slab *s = slab_at(slab);
    if (s->state == SLAB_FULL)
        heap_list_push(h, slab);
    if (s->free_count == s->block_count)
        heap_slab_emptied(h, slab);
}
/* RETIRE: the slab has no block out. False: a producer has the token, so the slab is about to appear on the remote stack, and
 * is looked at again when it is drained. */
bool heap_retire_slab(struct heap *h, uint32_t slab);
/* Collects the remote bits of the words that `news` names. */
void heap_collect(struct heap *h, uint32_t slab, uint64_t news);
/* As heap_drain, but when `words` have been looked at the others are left: h->remote_rest. */
void heap_drain_some(struct heap *h, unsigned words);
/* Brings the slab of the bin that should serve next to the front of its list. */
void heap_choose_slab(struct heap *h, unsigned bin);
/* STEAL: moves a slab with free blocks of `bin` from a parked heap to h. SLAB_NONE: found none. h's lock is held. */
uint32_t heap_steal(struct heap *h, unsigned bin);

#endif
