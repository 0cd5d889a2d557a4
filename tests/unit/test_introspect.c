/* mallinfo, malloc_info, mallopt, hakmem_stats: their numbers are compared with the snapshot's and with each other. */
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "api/entry.h"
#include "api/introspect.h"
#include "base/bits.h"
#include "capture.h"
#include "stats/counters.h"

enum { BLOCK_COUNT = 2000 };

static void *blocks[BLOCK_COUNT];

static size_t take_all(void)
{
    size_t sum = 0;
    for (size_t i = 0; i < BLOCK_COUNT; i++) {
        blocks[i] = api_malloc(i * 31 % 40000);
        assert_non_null(blocks[i]);
        sum += api_usable_bytes(blocks[i]);
    }
    return sum;
}

static void give_all_back(void)
{
    for (size_t i = 0; i < BLOCK_COUNT; i++)
        api_free(blocks[i]);
}

static void test_mallinfo2(void **state)
{
    (void)state;
    const struct hakmem_mallinfo2 before = api_mallinfo2();
    const size_t sum = take_all();
    void *huge = api_malloc((size_t)300 << 20);
    const struct hakmem_mallinfo2 full = api_mallinfo2();
    assert_int_equal(full.uordblks - before.uordblks, sum);
    assert_int_equal(full.hblks - before.hblks, 1);
    assert_int_equal(full.hblkhd - before.hblkhd, (size_t)300 << 20);
    assert_int_equal(full.fordblks, full.arena - full.uordblks);
    assert_true(full.fsmblks <= full.fordblks);
    assert_true(full.keepcost <= full.fordblks);
    api_free(huge);
    give_all_back();
    const struct hakmem_mallinfo2 after = api_mallinfo2();
    assert_int_equal(after.uordblks, before.uordblks);
    assert_int_equal(after.hblks, before.hblks);
    assert_true(after.ordblks > 0);
    assert_true(after.smblks > 0);
}

static void test_mallinfo_does_not_wrap(void **state)
{
    (void)state;
    void *huge = api_malloc((size_t)5 << 30); /* never touched */
    assert_non_null(huge);
    const struct hakmem_mallinfo narrow = api_mallinfo();
    const struct hakmem_mallinfo2 wide = api_mallinfo2();
    assert_int_equal(narrow.hblkhd, INT_MAX);
    assert_int_equal(narrow.hblks, wide.hblks);
    assert_int_equal(narrow.uordblks, wide.uordblks);
    assert_int_equal(narrow.arena, wide.arena);
    api_free(huge);
}

static void test_mallopt(void **state)
{
    (void)state;
    static const int hints[] = {1, 2, 3, 4, -1, -2, -3, -4, -7, -8};
    static const int refused[] = {-5 /* M_CHECK_ACTION */, -6 /* M_PERTURB */, 0, 5, -9, 1000, INT_MIN};
    for (size_t i = 0; i < ARRAY_COUNT(hints); i++)
        assert_int_equal(api_mallopt(hints[i], 1), 1);
    for (size_t i = 0; i < ARRAY_COUNT(refused); i++)
        assert_int_equal(api_mallopt(refused[i], 1), 0);

    take_all();
    for (size_t i = 0; i < BLOCK_COUNT; i++)
        memset(blocks[i], 1, api_usable_bytes(blocks[i]));
    give_all_back();
    struct snapshot before, after;
    snapshot_read(&before);
    assert_int_equal(api_mallopt(-101, 0), 1); /* M_PURGE */
    snapshot_read(&after);
    assert_true(after.purged_bytes > before.purged_bytes);
    assert_int_equal(after.free_dirty_bytes, 0);
}

static void test_trim_says_what_it_did(void **state)
{
    (void)state;
    take_all();
    for (size_t i = 0; i < BLOCK_COUNT; i++)
        memset(blocks[i], 1, api_usable_bytes(blocks[i]));
    give_all_back();
    assert_int_equal(api_malloc_trim(0), 1);
    assert_int_equal(api_malloc_trim(0), 0); /* nothing is left to give */
    take_all();
    give_all_back();
    assert_true(api_purge() > 0);
    assert_int_equal(api_purge(), 0);
}

static uint64_t attribute(const char *xml, const char *element)
{
    const char *at = strstr(xml, element);
    assert_non_null(at);
    return strtoull(at + strlen(element), NULL, 10);
}

static void test_malloc_info(void **state)
{
    (void)state;
    char *xml = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&xml, &length);
    assert_non_null(stream);
    assert_int_equal(api_malloc_info(1, stream), EINVAL);
    take_all();
    struct snapshot snapshot;
    snapshot_read(&snapshot);
    assert_int_equal(api_malloc_info(0, stream), 0);
    give_all_back();
    fclose(stream);
    assert_int_equal(strncmp(xml, "<malloc version=\"1\">\n", 21), 0);
    assert_non_null(strstr(xml, "</malloc>\n"));
    char live[64];
    const unsigned long long live_blocks = snapshot.live_blocks;
    snprintf(live, sizeof live, "<total type=\"live\" count=\"%llu\" size=\"", live_blocks);
    assert_int_equal(attribute(xml, live), snapshot.live_bytes);
    assert_int_equal(attribute(xml, "<system type=\"current\" size=\""), snapshot.mapped_bytes);
    assert_int_equal(attribute(xml, "<total type=\"mmap\" count=\""), snapshot.huge_blocks);
    free(xml);
}

static void test_stats_knows_its_size(void **state)
{
    (void)state;
    struct {
        struct hakmem_stats stats;
        char guard[32];
    } room;
    memset(&room, 0x5a, sizeof room);
    assert_int_equal(api_stats(&room.stats, 0), EINVAL);
    assert_int_equal(api_stats(&room.stats, sizeof(size_t) - 1), EINVAL);
    assert_int_equal(room.stats.live_bytes, 0x5a5a5a5a5a5a5a5a);

    /* A caller that knows less than we do. */
    assert_int_equal(api_stats(&room.stats, offsetof(struct hakmem_stats, live_blocks)), 0);
    assert_int_equal(room.stats.size, offsetof(struct hakmem_stats, live_blocks));
    assert_int_not_equal(room.stats.live_bytes, 0x5a5a5a5a5a5a5a5a);
    assert_int_equal(room.stats.live_blocks, 0x5a5a5a5a5a5a5a5a);

    /* One that knows more. */
    assert_int_equal(api_stats(&room.stats, sizeof room), 0);
    assert_int_equal(room.stats.size, sizeof room.stats);
    assert_int_equal(room.guard[0], 0x5a);

    struct snapshot snapshot;
    snapshot_read(&snapshot);
    assert_int_equal(room.stats.live_bytes, snapshot.live_bytes);
    assert_int_equal(room.stats.mapped_bytes, snapshot.mapped_bytes);
    assert_int_equal(room.stats.heaps_attached, snapshot.heaps_attached);
    assert_true(room.stats.refill_blocks >= room.stats.flush_blocks);
}

static void print_stats(const void *unused)
{
    (void)unused;
    api_malloc_stats();
}

static void test_malloc_stats(void **state)
{
    (void)state;
    struct captured said;
    capture_child(&said, print_stats, NULL);
    assert_int_equal(said.status, 0);
    assert_int_equal(strncmp(said.text, "hakmem: statistics of ", 22), 0);
    assert_non_null(strstr(said.text, "on request\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mallinfo2),           cmocka_unit_test(test_mallinfo_does_not_wrap),
        cmocka_unit_test(test_mallopt),             cmocka_unit_test(test_trim_says_what_it_did),
        cmocka_unit_test(test_malloc_info),         cmocka_unit_test(test_stats_knows_its_size),
        cmocka_unit_test(test_malloc_stats),
    };
    return cmocka_run_group_tests_name("introspect", tests, NULL, NULL);
}
