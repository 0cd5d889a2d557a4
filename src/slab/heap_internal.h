/* What heap.c and steal.c share. The heap's lock is held in all of these. */
#ifndef HAKMEM_SLAB_HEAP_INTERNAL_H
#define HAKMEM_SLAB_HEAP_INTERNAL_H

#include "slab/heap.h"

void heap_list_push(struct heap *h, uint32_t slab);
void heap_list_remove(struct heap *h, uint32_t slab);
void heap_set_map(uint32_t slab, uint32_t slabs, uint32_t word);
void heap_slab_emptied(struct heap *h, uint32_t slab);
void heap_collect(struct heap *h, uint32_t slab, uint64_t news);
/* Brings the slab of the bin that should serve next to the front of its list. */
void heap_choose_slab(struct heap *h, unsigned bin);
/* STEAL: moves a slab with free blocks of `bin` from a parked heap to h. SLAB_NONE: found none. h's lock is held. */
uint32_t heap_steal(struct heap *h, unsigned bin);

#endif
