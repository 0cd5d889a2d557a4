#include "unit.h"

#include "config/policy.h"
#include "large/huge.h"
#include "large/large.h"
#include "os/os.h"

/* What the kernel was told last about huge pages. */
static const char *advice;
static const void *advised;

bool os_advise_huge(void *address, size_t bytes)
{
    (void)bytes;
    advice = "huge";
    advised = address;
    return true;
}

bool os_no_huge_pages(void *address, size_t bytes)
{
    (void)bytes;
    advice = "small";
    advised = address;
    return true;
}

static uint64_t live_bytes(void)
{
    uint64_t bytes, count;
    huge_read_totals(&bytes, &count);
    return bytes;
}

static uint64_t live_count(void)
{
    uint64_t bytes, count;
    huge_read_totals(&bytes, &count);
    return count;
}

static bool all_bytes_are(const unsigned char *at, size_t bytes, unsigned char value)
{
    for (size_t i = 0; i < bytes; i++)
        if (at[i] != value)
            return false;
    return true;
}

static void test_alloc_and_free(void **state)
{
    (void)state;
    const size_t page = os_page_bytes();
    char *block = huge_alloc(3 * page + 1, 1);
    assert_non_null(block);
    assert_int_equal((uintptr_t)block % page, 0);
    assert_int_equal(huge_bytes(block), 4 * page);
    assert_int_equal(live_bytes(), 4 * page);
    assert_int_equal(live_count(), 1);
    assert_true(all_bytes_are((unsigned char *)block, 4 * page, 0));
    memset(block, 1, 4 * page);
    assert_int_equal(huge_bytes(block + page), 0);
    assert_false(huge_free(block + page));
    assert_true(huge_free(block));
    assert_false(huge_free(block));
    assert_int_equal(huge_bytes(block), 0);
    assert_int_equal(live_bytes(), 0);
    block = huge_alloc(0, 1);
    assert_int_equal(huge_bytes(block), page);
    assert_true(huge_free(block));
}

static void test_alignment(void **state)
{
    (void)state;
    for (size_t alignment = 4096; alignment <= (size_t)1 << 30; alignment *= 8) {
        char *block = huge_alloc(10000, alignment);
        assert_non_null(block);
        assert_int_equal((uintptr_t)block % alignment, 0);
        memset(block, 1, 10000);
        assert_true(huge_free(block));
    }
}

static void test_impossible_sizes(void **state)
{
    (void)state;
    assert_null(huge_alloc(SIZE_MAX, 1));
    assert_null(huge_alloc(PTRDIFF_MAX, 1));
    assert_null(huge_alloc((size_t)1 << 60, 1));
    assert_null(huge_alloc(4096, (size_t)1 << 62));
    char *block = huge_alloc(5000, 1);
    block[0] = 7;
    assert_null(huge_resize(block, SIZE_MAX));
    assert_null(huge_resize(block, (size_t)1 << 60));
    assert_int_equal(block[0], 7); /* as it was, and still known */
    assert_int_equal(huge_bytes(block), align_up(5000, os_page_bytes()));
    assert_int_equal(live_count(), 1);
    assert_true(huge_free(block));
    assert_null(huge_resize(block, 8192));
}

static void test_resize(void **state)
{
    (void)state;
    const size_t page = os_page_bytes();
    unsigned char *block = huge_alloc(2 * page, 1);
    memset(block, 3, 2 * page);
    unsigned char *grown = huge_resize(block, 500 * page - 5);
    assert_non_null(grown);
    assert_true(all_bytes_are(grown, 2 * page, 3));
    assert_true(all_bytes_are(grown + 2 * page, 498 * page, 0));
    assert_int_equal(huge_bytes(grown), 500 * page);
    assert_int_equal(live_bytes(), 500 * page);
    if (grown != block)
        assert_int_equal(huge_bytes(block), 0);
    unsigned char *shrunk = huge_resize(grown, page);
    assert_non_null(shrunk);
    assert_int_equal(huge_bytes(shrunk), page);
    assert_true(all_bytes_are(shrunk, page, 3));
    assert_true(huge_free(shrunk));
    assert_int_equal(live_count(), 0);
}

/* The table grows, and deletions in any order leave every other entry reachable. */
static void test_many_blocks(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    static void *blocks[COUNT];
    const size_t page = os_page_bytes();
    uint64_t seed = 5;
    for (unsigned i = 0; i < COUNT; i++) {
        blocks[i] = huge_alloc((1 + i % 3) * page, 1);
        assert_non_null(blocks[i]);
    }
    assert_int_equal(live_count(), COUNT);
    for (unsigned left = COUNT; left > 0; left--) {
        const unsigned at = (unsigned)(next_random(&seed) % left);
        assert_true(huge_free(blocks[at]));
        assert_int_equal(huge_bytes(blocks[at]), 0);
        blocks[at] = blocks[left - 1];
        if (left % 64 == 0)
            for (unsigned i = 0; i < left - 1; i++)
                assert_true(huge_bytes(blocks[i]) != 0);
    }
    assert_int_equal(live_count(), 0);
    assert_int_equal(live_bytes(), 0);
}

#define THREADS 4u

static uint32_t damage;

static void *churn(void *argument)
{
    uint64_t seed = *(uint64_t *)argument;
    const uint64_t mine = seed;
    const size_t page = os_page_bytes();
    uint64_t *held[8] = {NULL};
    for (unsigned i = 0; i < 600; i++) {
        const uint64_t r = next_random(&seed);
        uint64_t **at = &held[r % 8];
        const size_t bytes = (1 + (size_t)(r >> 8) % 30) * page;
        if (*at != NULL && (**at != mine || huge_bytes(*at) == 0))
            fetch_add_relaxed(&damage, 1);
        if (*at == NULL) {
            *at = huge_alloc(bytes, 1);
            **at = mine;
        } else if (r >> 40 & 1) {
            uint64_t *moved = huge_resize(*at, bytes);
            if (moved == NULL)
                fetch_add_relaxed(&damage, 1);
            else
                *at = moved;
        } else {
            if (!huge_free(*at))
                fetch_add_relaxed(&damage, 1);
            *at = NULL;
        }
    }
    for (unsigned i = 0; i < 8; i++)
        if (held[i] != NULL)
            huge_free(held[i]);
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    uint64_t seeds[THREADS] = {1, 22, 333, 4444};
    run_threads(THREADS, churn, seeds, sizeof seeds[0]);
    assert_int_equal(damage, 0);
    assert_int_equal(live_count(), 0);
    assert_int_equal(live_bytes(), 0);
}

/* NULL is no block, whatever stands in the table's vacant places. */
static void test_null(void **state)
{
    (void)state;
    char *blocks[3];
    for (unsigned i = 0; i < 3; i++)
        blocks[i] = huge_alloc(10000, 1);
    assert_true(huge_free(blocks[1]));
    const uint64_t bytes = live_bytes();
    assert_int_equal(huge_bytes(NULL), 0);
    assert_null(huge_resize(NULL, 10000));
    assert_false(huge_free(NULL));
    assert_int_equal(live_count(), 2);
    assert_int_equal(live_bytes(), bytes);
    assert_true(huge_free(blocks[0]));
    assert_true(huge_free(blocks[2]));
    assert_int_equal(live_count(), 0);
}

static void test_huge_pages_as_the_user_says(void **state)
{
    (void)state;
    const size_t small = 16 * os_page_bytes(), large = (size_t)4 << 20;
    const struct {
        uint32_t thp;
        size_t bytes;
        const char *advice;
    } cases[] = {
        {THP_DEFAULT, large, "none"}, {THP_NEVER, small, "small"}, {THP_NEVER, large, "small"},
        {THP_ALWAYS, large, "huge"},  {THP_ALWAYS, small, "none"}, /* none fits in */
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        store_relaxed(&policy_live.thp, cases[i].thp);
        advice = "none";
        void *block = huge_alloc(cases[i].bytes, 1);
        assert_string_equal(advice, cases[i].advice);
        if (strcmp(advice, "none") != 0)
            assert_ptr_equal(advised, block);
        assert_true(huge_free(block));
    }
    store_relaxed(&policy_live.thp, THP_DEFAULT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alloc_and_free),
        cmocka_unit_test(test_alignment),
        cmocka_unit_test(test_impossible_sizes),
        cmocka_unit_test(test_resize),
        cmocka_unit_test(test_many_blocks),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_null),
        cmocka_unit_test(test_huge_pages_as_the_user_says),
    };
    return cmocka_run_group_tests_name("huge", tests, NULL, NULL);
}
