/* What the allocator says about itself must be true: numbers are compared with what was allocated. */
#define _GNU_SOURCE
#include "api.h"

#include <fcntl.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)
#define BLOCK_COUNT 20000
/* More than any run of slabs: such a block has a mapping of its own. */
#define HUGE_BYTES (100 * MIB)

static void *block[BLOCK_COUNT];

/* Sizes of all kinds, the sum of what may be used. */
static size_t allocate_all(size_t scale)
{
    size_t sum = 0;
    for (size_t i = 0; i < BLOCK_COUNT; i++) {
        size_t size = i % 1000 == 999 ? 100000 : i % scale + 1;
        block[i] = api.malloc(size);
        CHECK(block[i]);
        memset(block[i], 1, size);
        sum += api.malloc_usable_size(block[i]);
    }
    return sum;
}

static void free_all(void)
{
    for (size_t i = 0; i < BLOCK_COUNT; i++) {
        api.free(block[i]);
        block[i] = NULL;
    }
}

static size_t live_bytes(void)
{
    api_mallinfo2 m = api.mallinfo2();
    return m.uordblks + m.hblkhd;
}

/* Within half a percent and 64 KiB: stdio's buffers come and go as well. */
static bool close_to(size_t found, size_t wanted)
{
    size_t slack = wanted / 200 + 65536;
    if (found + slack >= wanted && found <= wanted + slack)
        return true;
    printf("found %zu, wanted %zu\n", found, wanted);
    return false;
}

static void test_mallinfo2(void)
{
    NEED(mallinfo2);
    size_t before = live_bytes();
    size_t sum = allocate_all(3000);
    CHECK(close_to(live_bytes() - before, sum));
    api_mallinfo2 full = api.mallinfo2();
    CHECK(full.arena >= full.uordblks);
    CHECK(full.uordblks + full.fordblks == full.arena);

    /* A block too large for any run of slabs is counted apart, in hblks and hblkhd, and not in uordblks. */
    void *huge = api.malloc(HUGE_BYTES);
    api_mallinfo2 with = api.mallinfo2();
    CHECK(with.hblks == full.hblks + 1);
    CHECK(with.hblkhd >= full.hblkhd + HUGE_BYTES && with.hblkhd <= full.hblkhd + HUGE_BYTES + 2 * MIB);
    CHECK(close_to(with.uordblks, full.uordblks));
    api.free(huge);
    CHECK(api.mallinfo2().hblks == full.hblks);

    free_all();
    CHECK(close_to(live_bytes(), before)); /* blocks in caches are not live */
    if (api.mallinfo) {
        api_mallinfo m = api.mallinfo();
        CHECK(close_to((size_t)(unsigned)m.uordblks + (size_t)(unsigned)m.hblkhd, live_bytes()));
    }
}

static void test_trim(void)
{
    NEED(malloc_trim);
    api.malloc_trim(0); /* what the tests before left behind */
    size_t before = api_resident_bytes();
    allocate_all(4000);
    free_all();
    size_t freed = api_resident_bytes();
    int said = api.malloc_trim(0);
    size_t trimmed = api_resident_bytes();
    CHECK(said == 0 || said == 1);
    if (api_resident_counts()) {
        if (freed > trimmed + MIB)
            CHECK(said == 1); /* 1: memory was given back */
        if (trimmed > before + 4 * MIB)
            printf("resident: %zu KiB before, %zu freed, %zu trimmed\n", before >> 10, freed >> 10, trimmed >> 10);
        CHECK(trimmed <= before + 4 * MIB);
    }
    allocate_all(500); /* the heap serves on */
    free_all();
}

static void test_mallopt(void)
{
    NEED(mallopt);
    CHECK(api.mallopt(M_TRIM_THRESHOLD, 128 * 1024) == 1);
    CHECK(api.mallopt(M_MMAP_THRESHOLD, 1 << 20) == 1);
    CHECK(api.mallopt(M_ARENA_MAX, 2) == 1);
    CHECK(api.mallopt(-4711, 0) == 0); /* nothing is known by this number */
}

/* malloc_stats writes to stderr, here led into a file. */
static void test_stats(void)
{
    NEED(malloc_stats);
    FILE *into = tmpfile();
    CHECK(into);
    if (!into)
        return;
    fflush(stderr);
    int saved = dup(2);
    dup2(fileno(into), 2);
    api.malloc_stats();
    fflush(stderr);
    dup2(saved, 2);
    close(saved);
    CHECK(lseek(fileno(into), 0, SEEK_END) > 20);
    fclose(into);
}

/* Every opened element is closed, in order. */
static bool well_formed(const char *xml)
{
    enum { DEPTH_MAX = 16 };
    char open[DEPTH_MAX][32];
    int depth = 0;
    bool any = false;
    for (const char *p = strchr(xml, '<'); p; p = strchr(p + 1, '<')) {
        const char *end = strchr(p, '>');
        char name[32] = {0};
        if (!end)
            return false;
        if (p[1] == '?' || p[1] == '!')
            continue;
        bool closes = p[1] == '/';
        if (sscanf(p + 1 + closes, "%31[A-Za-z0-9_]", name) != 1)
            return false;
        if (closes) {
            if (depth == 0 || strcmp(open[--depth], name))
                return false;
        } else if (end[-1] != '/') {
            if (depth == DEPTH_MAX)
                return false;
            memcpy(open[depth++], name, sizeof name);
        }
        any = true;
    }
    return any && depth == 0;
}

/* The number of the last element that starts like this: in malloc_info the totals follow the parts. */
static size_t last_number(const char *xml, const char *start)
{
    size_t found = 0;
    for (const char *p = strstr(xml, start); p; p = strstr(p + 1, start))
        found = strtoull(p + strlen(start), NULL, 10);
    return found;
}

static void test_info(void)
{
    NEED(malloc_info);
    static char xml[1 << 20];
    FILE *into = tmpfile();
    CHECK(into);
    if (!into)
        return;
    CHECK(api.malloc_info(1, into) == EINVAL); /* options are for the future: none is known */
    size_t sum = allocate_all(3000);
    rewind(into);
    CHECK(api.malloc_info(0, into) == 0);
    fflush(into);
    rewind(into);
    size_t n = fread(xml, 1, sizeof xml - 1, into);
    fclose(into);
    CHECK(n > 50 && !strncmp(xml, "<malloc version=\"", 17));
    CHECK(well_formed(xml));
    /* What readers of glibc's report look for: memory obtained from the system covers what is allocated. */
    size_t system_bytes = last_number(xml, "<system type=\"current\" size=\"");
    size_t mmap_count = last_number(xml, "<total type=\"mmap\" count=\"");
    CHECK(system_bytes + mmap_count >= sum);
    free_all();
}

#ifdef HAKMEM_PREFIXED
static void test_own_functions(void)
{
    int major, minor, patch;
    CHECK(sscanf(hakmem_version(), "%d.%d.%d", &major, &minor, &patch) == 3);

    struct hakmem_stats before, full, stats;
    CHECK(hakmem_stats(&before, sizeof before) == 0 && before.size == sizeof before);
    size_t sum = allocate_all(3000);
    void *huge = api.malloc(HUGE_BYTES);
    CHECK(hakmem_stats(&full, sizeof full) == 0);
    CHECK(close_to(full.live_bytes - before.live_bytes, sum + api.malloc_usable_size(huge)));
    CHECK(full.live_blocks - before.live_blocks == BLOCK_COUNT + 1);
    CHECK(full.huge_blocks == before.huge_blocks + 1 && full.huge_bytes >= before.huge_bytes + HUGE_BYTES);
    CHECK(full.mapped_bytes + full.huge_bytes >= full.live_bytes);
    api.free(huge);
    free_all();
    CHECK(hakmem_stats(&stats, sizeof stats) == 0);
    CHECK(stats.live_blocks == before.live_blocks && close_to(stats.live_bytes, before.live_bytes));
    hakmem_purge();
    CHECK(hakmem_stats(&stats, sizeof stats) == 0);
    CHECK(stats.cached_bytes == 0 && stats.free_dirty_bytes <= before.free_dirty_bytes + MIB);

    /* A caller compiled against an older, shorter struct: not one byte more than it knows is written. */
    size_t known = offsetof(struct hakmem_stats, live_blocks);
    memset(&stats, 0xa5, sizeof stats);
    CHECK(hakmem_stats(&stats, known) == 0 && stats.size == known);
    CHECK(api_all_bytes((char *)&stats + known, sizeof stats - known, 0xa5));
    CHECK(hakmem_stats(&stats, sizeof(size_t) - 1) == EINVAL);
    /* A newer, longer one: what is not known here is left alone, and size says so. */
    struct {
        struct hakmem_stats known;
        uint64_t later;
    } longer = {.later = 4711};
    CHECK(hakmem_stats(&longer.known, sizeof longer) == 0 && longer.known.size == sizeof stats && longer.later == 4711);
}
#endif

void test_introspection(void)
{
    test_mallinfo2();
    test_trim();
    test_mallopt();
    test_stats();
    test_info();
#ifdef HAKMEM_PREFIXED
    test_own_functions();
#endif
}
