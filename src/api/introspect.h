/* What the allocator says about itself through the C interfaces, and what it is told. Thread-safe. Nothing here is for
 * a hot path: each call visits every heap. */
#ifndef HAKMEM_API_INTROSPECT_H
#define HAKMEM_API_INTROSPECT_H

#include <stdio.h>

#include "hakmem/hakmem.h"

/* glibc's fields, with what stands for them here:
 *   arena     bytes of SuperSlabs                    uordblks  live bytes, without huge blocks
 *   fordblks  arena - uordblks                       keepcost  bytes that malloc_trim would give back at once
 *   hblks     huge blocks                            hblkhd    their bytes
 *   smblks    free blocks in magazines               fsmblks   their bytes
 *   ordblks   free blocks in slabs                   usmblks   0, as in glibc */
struct hakmem_mallinfo2 api_mallinfo2(void);
/* The same in ints: what does not fit is INT_MAX. */
struct hakmem_mallinfo api_mallinfo(void);
/* The summary that HAKMEM_STATS_ENABLE=1 prints at exit, to stderr, now. */
void api_malloc_stats(void);
/* glibc's XML, with the numbers of one heap. Returns 0, or EINVAL for any option. */
int api_malloc_info(int options, FILE *stream);

/* Returns 1 for the parameters of glibc that are hints about the shape of its heap (thresholds, arenas, fastbins): they
 * are accepted, because a program may take 0 for fatal, and there is nothing here that they could change; what they are
 * after is HAKMEM_DECAY_MS's and the profiles' business. 1 as well for bionic's M_PURGE, which is obeyed. 0 for what
 * asks for behaviour that is not provided (M_PERTURB, M_CHECK_ACTION) and for what is unknown. */
int api_mallopt(int parameter, int value);

/* Gives back what the calling thread caches and every free page. Returns bytes given back. */
size_t api_purge(void);
/* glibc's: 1 if anything was given back. pad_bytes of free memory, which glibc leaves at the top of its heap, stay with the
 * allocator wherever they are. */
int api_malloc_trim(size_t pad_bytes);
/* See hakmem_thread_idle. */
void api_thread_idle(void);

/* See hakmem_stats. */
int api_stats(struct hakmem_stats *out, size_t size);

#endif
