#include "api/introspect.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "stats/counters.h"
#include "tcache/tcache.h"

/* malloc.h's numbers, which not every C library has; M_PURGE is bionic's. */
enum parameter {
    PARAMETER_MXFAST = 1,
    PARAMETER_NLBLKS = 2,
    PARAMETER_GRAIN = 3,
    PARAMETER_KEEP = 4,
    PARAMETER_TRIM_THRESHOLD = -1,
    PARAMETER_TOP_PAD = -2,
    PARAMETER_MMAP_THRESHOLD = -3,
    PARAMETER_MMAP_MAX = -4,
    PARAMETER_ARENA_TEST = -7,
    PARAMETER_ARENA_MAX = -8,
    PARAMETER_PURGE = -101,
};

static uint64_t less(uint64_t whole, uint64_t part)
{
    return whole > part ? whole - part : 0;
}

static uint64_t cached_blocks(const struct snapshot *snapshot)
{
    uint64_t count = 0;
    for (size_t bin = 0; bin < COUNTERS_BIN_COUNT; bin++)
        count += snapshot->bins[bin].cached_blocks;
    return count;
}

/* In the slabs that are attached to it; what is left over at a run's end is no block. */
static uint64_t free_blocks(const struct bin_counters *bin)
{
    return less(bin->slab_bytes / bin->block_bytes, bin->live_blocks + bin->cached_blocks);
}

struct hakmem_mallinfo2 api_mallinfo2(void)
{
    struct snapshot snapshot;
    snapshot_read(&snapshot);
    struct hakmem_mallinfo2 info = {
        .arena = snapshot.mapped_bytes,
        .smblks = cached_blocks(&snapshot),
        .hblks = snapshot.huge_blocks,
        .hblkhd = snapshot.huge_bytes,
        .fsmblks = snapshot.cached_bytes,
        .uordblks = snapshot.bin_bytes + snapshot.large_bytes,
        .keepcost = snapshot.free_dirty_bytes,
    };
    info.fordblks = less(info.arena, info.uordblks);
    for (size_t bin = 0; bin < COUNTERS_BIN_COUNT; bin++)
        info.ordblks += free_blocks(&snapshot.bins[bin]);
    return info;
}

static int to_int(size_t value)
{
    return value > INT_MAX ? INT_MAX : (int)value;
}

struct hakmem_mallinfo api_mallinfo(void)
{
    const struct hakmem_mallinfo2 wide = api_mallinfo2();
    return (struct hakmem_mallinfo){
        .arena = to_int(wide.arena),
        .ordblks = to_int(wide.ordblks),
        .smblks = to_int(wide.smblks),
        .hblks = to_int(wide.hblks),
        .hblkhd = to_int(wide.hblkhd),
        .usmblks = to_int(wide.usmblks),
        .fsmblks = to_int(wide.fsmblks),
        .uordblks = to_int(wide.uordblks),
        .fordblks = to_int(wide.fordblks),
        .keepcost = to_int(wide.keepcost),
    };
}

void api_malloc_stats(void)
{
    report_text(STDERR_FILENO, "on request");
}

static void put_sizes(FILE *stream, const struct snapshot *snapshot)
{
    uint64_t from = 1;
    fputs("<sizes>\n", stream);
    for (size_t bin = 0; bin < COUNTERS_BIN_COUNT; bin++) {
        const struct bin_counters *b = &snapshot->bins[bin];
        const uint64_t count = free_blocks(b);
        if (count != 0) {
            fprintf(stream, "  <size from=\"%" PRIu64 "\" to=\"%" PRIu64 "\" ", from, b->block_bytes);
            fprintf(stream, "total=\"%" PRIu64 "\" count=\"%" PRIu64 "\"/>\n", count * b->block_bytes, count);
        }
        from = b->block_bytes + 1;
    }
    fputs("</sizes>\n", stream);
}

static void put_count(FILE *stream, const char *type, uint64_t count, uint64_t bytes)
{
    fprintf(stream, "<total type=\"%s\" count=\"%" PRIu64 "\" size=\"%" PRIu64 "\"/>\n", type, count, bytes);
}

/* What glibc prints for each heap and again for all of them: free memory by kind, and what the system gave. */
static void put_totals(FILE *stream, const struct snapshot *snapshot)
{
    uint64_t rest_count = 0;
    uint64_t rest_bytes = 0;
    for (size_t bin = 0; bin < COUNTERS_BIN_COUNT; bin++) {
        const uint64_t count = free_blocks(&snapshot->bins[bin]);
        rest_count += count;
        rest_bytes += count * snapshot->bins[bin].block_bytes;
    }
    put_count(stream, "fast", cached_blocks(snapshot), snapshot->cached_bytes);
    put_count(stream, "rest", rest_count, rest_bytes);
}

int api_malloc_info(int options, FILE *stream)
{
    if (options != 0)
        return EINVAL;
    struct snapshot snapshot;
    snapshot_read(&snapshot); /* before the stream allocates its buffer; no lock is held while it is written to */
    fputs("<malloc version=\"1\">\n<heap nr=\"0\">\n", stream);
    put_sizes(stream, &snapshot);
    put_totals(stream, &snapshot);
    fprintf(stream, "<system type=\"current\" size=\"%" PRIu64 "\"/>\n</heap>\n", snapshot.mapped_bytes);
    put_totals(stream, &snapshot);
    put_count(stream, "mmap", snapshot.huge_blocks, snapshot.huge_bytes);
    put_count(stream, "live", snapshot.live_blocks, snapshot.live_bytes);
    fprintf(stream, "<system type=\"current\" size=\"%" PRIu64 "\"/>\n", snapshot.mapped_bytes);
    fprintf(stream, "<aspace type=\"total\" size=\"%" PRIu64 "\"/>\n", snapshot.mapped_bytes + snapshot.metadata_bytes);
    fputs("</malloc>\n", stream);
    return 0;
}

int api_mallopt(int parameter, int value)
{
    (void)value;
    switch (parameter) {
    case PARAMETER_MXFAST:
    case PARAMETER_NLBLKS:
    case PARAMETER_GRAIN:
    case PARAMETER_KEEP:
    case PARAMETER_TRIM_THRESHOLD:
    case PARAMETER_TOP_PAD:
    case PARAMETER_MMAP_THRESHOLD:
    case PARAMETER_MMAP_MAX:
    case PARAMETER_ARENA_TEST:
    case PARAMETER_ARENA_MAX:
        return 1;
    case PARAMETER_PURGE:
        api_purge();
        return 1;
    default:
        return 0;
    }
}

size_t api_purge(void)
{
    size_t bytes = tcache_reclaim(0);
    return bytes + heap_purge_pages_everywhere();
}

int api_malloc_trim(size_t pad_bytes)
{
    return (pad_bytes == 0 ? api_purge() : tcache_reclaim(pad_bytes)) != 0;
}

void api_thread_idle(void)
{
    tcache_trim_self();
}

int api_stats(struct hakmem_stats *out, size_t size)
{
    if (size < sizeof out->size)
        return EINVAL;
    struct snapshot snapshot;
    snapshot_read(&snapshot);
    struct hakmem_stats stats = {
        .size = size < sizeof stats ? size : sizeof stats,
        .live_bytes = snapshot.live_bytes,
        .live_blocks = snapshot.live_blocks,
        .large_bytes = snapshot.large_bytes,
        .large_blocks = snapshot.large_blocks,
        .huge_bytes = snapshot.huge_bytes,
        .huge_blocks = snapshot.huge_blocks,
        .mapped_bytes = snapshot.mapped_bytes,
        .resident_bytes = snapshot.resident_bytes,
        .metadata_bytes = snapshot.metadata_bytes,
        .cached_bytes = snapshot.cached_bytes,
        .transit_bytes = snapshot.transit_bytes,
        .slab_free_bytes = snapshot.slab_free_bytes,
        .free_dirty_bytes = snapshot.free_dirty_bytes,
        .free_clean_bytes = snapshot.free_clean_bytes,
        .heaps_attached = snapshot.heaps_attached,
        .heaps_parked = snapshot.heaps_parked,
        .purged_bytes = snapshot.purged_bytes,
        .superslabs_mapped = snapshot.superslabs_mapped,
        .superslabs_released = snapshot.superslabs_released,
        .slabs_stolen = snapshot.slabs_stolen,
    };
    for (size_t bin = 0; bin < COUNTERS_BIN_COUNT; bin++) {
        stats.refill_count += snapshot.bins[bin].refill_count;
        stats.refill_blocks += snapshot.bins[bin].refill_blocks;
        stats.flush_count += snapshot.bins[bin].flush_count;
        stats.flush_blocks += snapshot.bins[bin].flush_blocks;
        stats.remote_blocks += snapshot.bins[bin].collected_blocks;
    }
    memcpy(out, &stats, stats.size);
    return 0;
}
