/* How much of a SuperSlab its blocks really use. The arena knows which slabs are somebody's; how full those are is known
 * to their heaps only. */
#ifndef HAKMEM_SLAB_OCCUPANCY_H
#define HAKMEM_SLAB_OCCUPANCY_H

#include "base/attr.h"

/* Bytes of a mapped SuperSlab under blocks that are out (of bins; those in magazines and outboxes are) and under large
 * blocks. A slab whose heap is busy counts as full: who asks wants to be sure that memory is not used. Locks one heap at
 * a time, only trying; the caller holds no lock above LOCK_TICK. */
uint32_t occupancy_used_bytes(uint32_t superslab);

#endif
