/* The numbers there are, as plain data: what api reports to the program and what the reports print. A leaf, so that api
 * may include it; the two functions are implemented above the spine (snapshot.c, report.c) and bound at link time, as
 * base/upcall.h is. */
#ifndef HAKMEM_STATS_COUNTERS_H
#define HAKMEM_STATS_COUNTERS_H

#include "base/attr.h"

#define COUNTERS_BIN_COUNT 42u /* slab/sizeclass.h's BIN_COUNT; snapshot.c checks it */

/* One bin, over all heaps. "Over the life" counts up from the start of the process and never falls. */
struct bin_counters {
    uint64_t block_bytes;
    uint64_t slab_bytes;    /* of slabs attached to the bin */
    uint64_t live_blocks;   /* held by the program; blocks on their way to another thread's heap still count */
    uint64_t cached_blocks; /* free, in magazines */
    uint64_t refill_count, refill_blocks; /* over the life: batches and blocks from slabs into magazines */
    uint64_t flush_count, flush_blocks;   /* over the life: back again */
    uint64_t collected_blocks;            /* over the life: freed by threads that did not own them */
};

/* Everything is exact while no other thread allocates or frees; else each heap is read at a moment of its own, and
 * what its thread is just moving between magazine and slab may be counted on neither side or on both. */
struct snapshot {
    /* What the program holds: usable bytes, as malloc_usable_size gives them. live = bins + large + huge. */
    uint64_t live_bytes, live_blocks;
    uint64_t bin_bytes;
    uint64_t large_bytes, large_blocks; /* runs of slabs */
    uint64_t huge_bytes, huge_blocks;   /* mappings of their own */

    /* What the allocator holds. mapped = live in SuperSlabs + cached + transit + free in slabs + free slabs + waste. */
    uint64_t mapped_bytes;   /* SuperSlabs, and spare mappings */
    uint64_t resident_bytes; /* of SuperSlabs and huge mappings, at most: what was never written is counted too */
    uint64_t metadata_bytes; /* addresses mapped for the allocator's own records; pages come as they are touched */
    uint64_t cached_bytes;   /* free blocks in magazines */
    uint64_t transit_bytes;  /* freed blocks that wait in their thread's outbox for delivery */
    uint64_t slab_free_bytes;   /* free blocks in slabs attached to a bin */
    uint64_t slab_purged_bytes; /* of that, no pages behind it */
    uint64_t free_dirty_bytes;  /* free slabs and spare mappings, pages still held: what malloc_trim would give back at once */
    uint64_t free_clean_bytes;  /* free slabs, no pages behind them */
    uint64_t purged_bytes;      /* over the life: given back to the system, pages_purged among them */
    uint64_t superslabs_mapped, superslabs_released; /* over the life */
    uint64_t background_steps, background_sleeps;    /* of the background thread, over the life */

    /* What it may hold. 0: no limit, or not asked for yet, because the process holds little. */
    uint64_t held_bytes;         /* what memory_limit_bytes is for: all that may have pages behind it, records included */
    uint64_t memory_limit_bytes; /* HAKMEM_MEMORY_LIMIT */
    uint64_t usable_bytes;       /* the least of that and of what control groups, resource limits and the machine allow */
    uint64_t cpu_count;          /* that may be used at once */
    uint64_t entitled_bytes, cache_bound_bytes; /* what all magazines may hold, and the bound of that */
    uint64_t retained_bound_bytes; /* the bound of free_dirty_bytes */

    uint64_t heaps, heaps_attached, heaps_parked; /* heaps: all; attached: to a living thread */
    uint64_t slabs_attached, slabs_retired, slabs_stolen; /* over the life */
    uint64_t pages_purged, pages_woken; /* over the life: of slabs in use, given back; taken into use again */
    uint64_t delivered_blocks, delivery_count; /* over the life: remote frees handed over, and in how many steps */
    uint64_t learn_windows, learn_decisions, learn_rollbacks; /* over the life: of allocation learning */
    uint64_t mem_learn_windows, mem_learn_rollbacks;           /* over the life: of memory learning */
    uint64_t superslabs_made_huge, superslabs_broken;          /* by it: given huge pages, and taken apart again */
    uint64_t collapse_us;                                      /* time that moving memory into huge pages has taken */
    uint64_t large_alloc_count, large_free_count; /* over the life: large and huge blocks */

    struct bin_counters bins[COUNTERS_BIN_COUNT];
};

/* Collects what remote frees are pending, then counts. Takes every heap's lock, one at a time: the caller holds none of
 * a rank above LOCK_TICK. Neither allocates nor touches errno. */
void snapshot_read(struct snapshot *out);
/* The text summary, to a file descriptor. `occasion` completes the heading: "at exit". As snapshot_read. */
void report_text(int fd, const char *occasion);

#endif
