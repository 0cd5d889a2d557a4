/* latency: how long does each single call take?
 *
 * Every benchmark is built a second time, as build/bench/latency/NAME, with this header included before anything else:
 * each malloc and free of its source becomes a timed one (latency.c). It runs the same pattern with the same requests;
 * its report has more members. The cost of the timing makes its ops_per_s worthless: compare latencies only. */
#ifndef HAKMEM_BENCH_LATENCY_H
#define HAKMEM_BENCH_LATENCY_H

/* No header is included here: the benchmark's own _GNU_SOURCE must be seen by the first one that is. */
void *latency_malloc(__SIZE_TYPE__ size);
void *latency_calloc(__SIZE_TYPE__ count, __SIZE_TYPE__ size);
void *latency_realloc(void *block, __SIZE_TYPE__ size);
void *latency_aligned_alloc(__SIZE_TYPE__ alignment, __SIZE_TYPE__ size);
int latency_posix_memalign(void **block, __SIZE_TYPE__ alignment, __SIZE_TYPE__ size);
void latency_free(void *block);

#ifndef HAKMEM_BENCH_LATENCY_IMPLEMENTATION
#define malloc latency_malloc
#define calloc latency_calloc
#define realloc latency_realloc
#define aligned_alloc latency_aligned_alloc
#define posix_memalign latency_posix_memalign
#define free latency_free
#endif

#endif
