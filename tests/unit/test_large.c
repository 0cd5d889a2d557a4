#include "unit.h"

#include <sys/mman.h>

#include "fresh_arena.h"
#include "large/huge.h"
#include "large/large.h"
#include "os/os.h"
#include "slab/slab.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static int fresh(void **state)
{
    (void)state;
    fresh_arena();
    return 0;
}

static struct large_totals totals_now(void)
{
    struct large_totals t;
    large_read_totals(&t);
    return t;
}

static void *alloc(size_t bytes)
{
    bool zeroed;
    return large_alloc(bytes, 1, &zeroed);
}

static bool all_bytes_are(const unsigned char *at, size_t bytes, unsigned char value)
{
    for (size_t i = 0; i < bytes; i++)
        if (at[i] != value)
            return false;
    return true;
}

static uint32_t word_of(const void *address)
{
    return *window_word((uint32_t)window_slab_index(address));
}

static void test_runs(void **state)
{
    (void)state;
    const struct large_totals before = totals_now();
    char *block = alloc(200 * KIB + 1);
    assert_int_equal(window_slab_index(block), first_slab());
    assert_int_equal(map_run_slabs(word_of(block)), 4);
    for (unsigned i = 1; i < 5; i++)
        assert_int_equal(word_of(block + i * SLAB_BYTES), 0);
    const size_t usable = align_up(200 * KIB + 1, os_page_bytes());
    assert_int_equal(large_usable_bytes(block), usable);
    assert_int_equal(large_usable_bytes(block + SLAB_BYTES), 0);
    assert_int_equal(large_usable_bytes(block + 16), 0);
    memset(block, 1, usable);
    assert_int_equal(totals_now().run_bytes, before.run_bytes + usable);
    assert_int_equal(totals_now().run_count, before.run_count + 1);
    assert_int_equal(totals_now().alloc_count, before.alloc_count + 1);
    large_free(block);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(word_of(block + i * SLAB_BYTES), 0);
    assert_int_equal(large_usable_bytes(block), 0);
    assert_int_equal(totals_now().run_bytes, before.run_bytes);
    assert_int_equal(totals_now().free_count, before.free_count + 1);
}

static void test_every_size_is_usable(void **state)
{
    (void)state;
    for (size_t bytes = 0; bytes <= 80 * MIB; bytes = bytes * 2 + 33333) {
        const struct large_totals before = totals_now();
        char *block = alloc(bytes);
        assert_non_null(block);
        const size_t usable = large_usable_bytes(block);
        assert_true(usable >= bytes && usable > 0);
        block[0] = block[usable - 1] = 1;
        const bool is_run = bytes <= LARGE_MAX_BYTES;
        assert_int_equal(totals_now().run_count, before.run_count + is_run);
        assert_int_equal(totals_now().huge_count, before.huge_count + !is_run);
        assert_int_equal(window_slab_index(block) < window.limit, is_run);
        large_free(block);
        assert_int_equal(totals_now().run_count + totals_now().huge_count, before.run_count + before.huge_count);
        assert_int_equal(totals_now().alloc_count - totals_now().free_count, before.alloc_count - before.free_count);
    }
    const struct large_totals before = totals_now();
    assert_null(alloc(SIZE_MAX));
    assert_null(alloc((size_t)1 << 60));
    assert_int_equal(totals_now().alloc_count, before.alloc_count); /* what failed was not allocated */
}

static void test_alignment(void **state)
{
    (void)state;
    for (size_t alignment = 1; alignment <= 1024 * MIB; alignment *= 4) {
        const size_t sizes[] = {1, 40 * KIB, 3 * MIB};
        for (unsigned i = 0; i < ARRAY_COUNT(sizes); i++) {
            bool zeroed = false;
            char *block = large_alloc(sizes[i], alignment, &zeroed);
            assert_non_null(block);
            assert_int_equal((uintptr_t)block % alignment, 0);
            assert_true(large_usable_bytes(block) >= sizes[i]);
            block[0] = block[sizes[i] - 1] = 1;
            large_free(block);
        }
    }
}

static size_t page(void)
{
    return os_page_bytes();
}

/* From 256 KiB on, so that blocks of many sizes end with the same pages. */
static void test_stands_at_the_end_of_its_run(void **state)
{
    (void)state;
    if (page() >= SLAB_BYTES)
        skip();
    const size_t sizes[] = {3 * SLAB_BYTES + 1, 4 * SLAB_BYTES, 300 * KIB, 3 * MIB - SLAB_BYTES + page(), LARGE_MAX_BYTES - page()};
    for (unsigned i = 0; i < ARRAY_COUNT(sizes); i++) {
        char *block = alloc(sizes[i]);
        const size_t usable = large_usable_bytes(block);
        assert_int_equal(usable, align_up(sizes[i], page()));
        assert_int_equal((uintptr_t)(block + usable) % SLAB_BYTES, 0);
        assert_int_equal(window_slab_index(block), first_slab());
        assert_int_equal(map_run_slabs(word_of(block)), align_up(usable, SLAB_BYTES) / SLAB_BYTES);
        if ((uintptr_t)block % SLAB_BYTES != 0) {
            assert_int_equal(large_usable_bytes(window_slab_address(first_slab())), 0);
            assert_int_equal(large_usable_bytes(block - page()), 0);
        }
        memset(block, 1, usable);
        large_free(block);
    }
    arena_purge_all(); /* what a burst leaves is anywhere, and is taken first */
    char *small = alloc(3 * SLAB_BYTES - page());
    assert_int_equal((uintptr_t)small % SLAB_BYTES, 0);
    large_free(small);
    bool zeroed;
    char *aligned = large_alloc(4 * SLAB_BYTES - 3 * page(), 2 * page(), &zeroed);
    assert_ptr_equal(aligned, (char *)window_slab_address(first_slab()) + 2 * page());
    assert_int_equal(large_usable_bytes(aligned), 4 * SLAB_BYTES - 3 * page());
    large_free(aligned);
}

static void test_grows_behind_its_offset(void **state)
{
    (void)state;
    if (page() >= SLAB_BYTES)
        skip();
    unsigned char *block = alloc(5 * SLAB_BYTES + page());
    assert_int_equal((uintptr_t)block % SLAB_BYTES, SLAB_BYTES - page());
    memset(block, 7, 5 * SLAB_BYTES + page());
    assert_ptr_equal(large_resize(block, 5 * SLAB_BYTES + 2 * page()), block);
    assert_int_equal(map_run_slabs(word_of(block)), 7);
    assert_ptr_equal(large_resize(block, 6 * SLAB_BYTES + page()), block);
    assert_int_equal(map_run_slabs(word_of(block)), 7);
    assert_ptr_equal(large_resize(block, 4 * SLAB_BYTES + page() + 1), block);
    assert_int_equal(map_run_slabs(word_of(block)), 6);
    assert_true(all_bytes_are(block, 4 * SLAB_BYTES + page(), 7));
    /* As many slabs as a run may have begin before the block. */
    unsigned char *grown = large_resize(block, LARGE_MAX_BYTES - SLAB_BYTES + page());
    assert_ptr_equal(grown, block);
    assert_int_equal(map_run_slabs(word_of(block)), MAP_RUN_SLABS_MAX);
    grown = large_resize(block, LARGE_MAX_BYTES - SLAB_BYTES + page() + 1);
    assert_non_null(grown);
    assert_true(window_slab_index(grown) >= load_acquire(&window.limit));
    assert_true(all_bytes_are(grown, 4 * SLAB_BYTES + page(), 7));
    large_free(grown);
}

static void test_knows_what_reads_zero(void **state)
{
    (void)state;
    bool zeroed = false;
    unsigned char *block = large_alloc(300 * KIB, 1, &zeroed);
    assert_true(zeroed);
    assert_true(all_bytes_are(block, 300 * KIB, 0));
    memset(block, 1, 300 * KIB);
    large_free(block);
    unsigned char *again = large_alloc(300 * KIB, 1, &zeroed);
    assert_ptr_equal(again, block);
    assert_false(zeroed);
    large_free(again);
    arena_purge_all();
    again = large_alloc(300 * KIB, 1, &zeroed);
    assert_true(zeroed);
    assert_true(all_bytes_are(again, 300 * KIB, 0));
    /* Partly used before is not zero, even if most of it is. */
    memset(again, 1, 300 * KIB);
    large_free(again);
    again = large_alloc(900 * KIB, 1, &zeroed);
    assert_int_equal(window_slab_index(again), window_slab_index(block));
    assert_false(zeroed);
    large_free(again);
    unsigned char *huge = large_alloc(LARGE_MAX_BYTES + 1, 1, &zeroed);
    assert_true(zeroed);
    assert_int_equal(huge[0], 0);
    large_free(huge);
}

/* A program may take the right to read its own pages away, and free them so. */
static void test_pages_that_may_not_be_read_are_freed(void **state)
{
    (void)state;
    bool zeroed;
    char *block = large_alloc(1 * MIB, page(), &zeroed);
    assert_true(zeroed);
    REQUIRE(mprotect(block, 1 * MIB, PROT_NONE) == 0);
    large_free(block);
    REQUIRE(mprotect(block, 1 * MIB, PROT_READ | PROT_WRITE) == 0);
}

static void test_resize_in_place(void **state)
{
    (void)state;
    const uint64_t bytes_before = totals_now().run_bytes;
    unsigned char *block = alloc(100 * KIB);
    memset(block, 5, 100 * KIB);
    assert_ptr_equal(large_resize(block, 120 * KIB), block); /* the same two slabs */
    assert_int_equal(large_usable_bytes(block), 120 * KIB);
    assert_ptr_equal(large_resize(block, 1 * MIB), block);
    assert_int_equal(map_run_slabs(word_of(block)), 16);
    assert_int_equal(totals_now().run_bytes, bytes_before + MIB);
    assert_ptr_equal(large_resize(block, 9 * MIB), block); /* over SuperSlabs */
    assert_true(all_bytes_are(block, 100 * KIB, 5));
    memset(block, 6, 9 * MIB);
    assert_ptr_equal(large_resize(block, 70 * KIB), block);
    assert_int_equal(large_usable_bytes(block), align_up(70 * KIB, os_page_bytes()));
    assert_int_equal(word_of(block + 2 * SLAB_BYTES), 0);
    assert_true(all_bytes_are(block, 70 * KIB, 6));
    /* What shrinking gave up is there for others, and then stands in the way. */
    unsigned char *neighbour = alloc(64 * KIB);
    assert_ptr_equal(neighbour, block + 2 * SLAB_BYTES);
    assert_null(large_resize(block, 130 * KIB));
    assert_int_equal(large_usable_bytes(block), align_up(70 * KIB, os_page_bytes()));
    assert_int_equal(map_run_slabs(word_of(neighbour)), 1);
    assert_ptr_equal(large_resize(block, 128 * KIB), block);
    assert_null(large_resize(block, LARGE_MAX_BYTES + 1)); /* another kind of block */
    assert_null(large_resize(block, SIZE_MAX));
    large_free(neighbour);
    large_free(block);
    assert_int_equal(totals_now().run_bytes, bytes_before);
}

static void test_resize_huge(void **state)
{
    (void)state;
    char *block = alloc(65 * MIB);
    block[0] = 1;
    block[65 * MIB - 1] = 2;
    char *grown = large_resize(block, 300 * MIB);
    assert_non_null(grown);
    assert_int_equal(grown[0], 1);
    assert_int_equal(grown[65 * MIB - 1], 2);
    assert_int_equal(large_usable_bytes(grown), 300 * MIB);
    grown[300 * MIB - 1] = 3;
    char *shrunk = large_resize(grown, 40 * MIB);
    assert_non_null(shrunk);
    assert_int_equal(large_usable_bytes(shrunk), 40 * MIB);
    shrunk = large_resize(shrunk, 1 * MIB);
    assert_non_null(shrunk);
    assert_null(large_resize(shrunk, 400 * KIB)); /* worth a copy: it then becomes a run */
    assert_int_equal(shrunk[0], 1);
    large_free(shrunk);
}

static void test_pages_move_where_there_is_no_room(void **state)
{
    (void)state;
    const uint64_t before = totals_now().run_bytes;
    unsigned char *block = alloc(2 * MIB);
    unsigned char *neighbour = alloc(64 * KIB);
    assert_ptr_equal(neighbour, block + 2 * MIB);
    memset(block, 5, 2 * MIB);
    neighbour[0] = 6;
    unsigned char *moved = large_resize(block, 4 * MIB + 5);
    assert_non_null(moved);
    assert_true(window_slab_index(moved) >= load_acquire(&window.limit));
    assert_true(all_bytes_are(moved, 2 * MIB, 5));
    assert_true(all_bytes_are(moved + 2 * MIB, 2 * MIB, 0));
    assert_int_equal(large_usable_bytes(moved), align_up(4 * MIB + 5, os_page_bytes()));
    assert_int_equal(word_of(block), 0);
    assert_int_equal(word_of(block + 2 * MIB - 1), 0);
    assert_int_equal(totals_now().run_bytes, before + 64 * KIB);
    assert_int_equal(totals_now().huge_count, 1);
    /* The addresses serve again, and hold nothing of what was there. */
    bool zeroed = false;
    assert_ptr_equal(large_alloc(2 * MIB, 1, &zeroed), block);
    assert_true(zeroed);
    assert_true(all_bytes_are(block, 2 * MIB, 0));
    assert_int_equal(neighbour[0], 6);
    unsigned char *grown = large_resize(moved, 100 * MIB);
    assert_non_null(grown);
    assert_true(all_bytes_are(grown, 2 * MIB, 5));
    assert_null(large_resize(block, SIZE_MAX));
    assert_null(large_resize(block, (size_t)1 << 60)); /* the block is as it was */
    assert_int_equal(map_run_slabs(word_of(block)), 32);
    large_free(grown);
    large_free(block);
    large_free(neighbour);
    assert_int_equal(totals_now().run_bytes, before);
    assert_int_equal(totals_now().huge_count, 0);
}

/* The kernel would rather let a mapping grow where it stands, into slots that nothing is mapped in yet. They are the
 * arena's: a block there would keep its old slabs from ever coming back. */
static void test_no_mapping_grows_into_the_window(void **state)
{
    (void)state;
    unsigned char *block = alloc(4 * MIB); /* the last thing in the window */
    memset(block, 5, 4 * MIB);
    unsigned char *grown = large_resize(block, 100 * MIB);
    assert_non_null(grown);
    assert_true(window_slab_index(grown) >= load_acquire(&window.limit));
    assert_true(all_bytes_are(grown, 4 * MIB, 5));
    assert_true(all_bytes_are(grown + 4 * MIB, MIB, 0));
    assert_ptr_equal(alloc(6 * MIB), block);
    large_free(block);
    large_free(grown);
    struct arena_totals t;
    arena_read_totals(&t);
    assert_int_equal(t.free_clean_bytes + t.free_dirty_bytes, t.mapped_bytes);
}

static void test_small_runs_and_too_many_are_copied(void **state)
{
    (void)state;
    enum { PLENTY = 80 };
    unsigned char *blocks[PLENTY];
    unsigned moved = 0;
    unsigned char *small = alloc(128 * KIB), *behind = alloc(64 * KIB);
    for (unsigned i = 0; i < PLENTY; i++)
        blocks[i] = alloc(2 * MIB);
    assert_null(large_resize(small, 1 * MIB));
    for (unsigned i = 0; i + 1 < PLENTY; i++) {
        unsigned char *at = large_resize(blocks[i], 2 * MIB + 100 * KIB);
        moved += at != NULL && at != blocks[i];
        if (at != NULL)
            blocks[i] = at;
    }
    assert_in_range(moved, 30, 64); /* what is left beside a moved one may grow in place */
    for (unsigned i = 0; i < PLENTY; i++)
        large_free(blocks[i]);
    large_free(small);
    large_free(behind);
}

static void test_window_full_takes_the_huge_path(void **state)
{
    (void)state;
    window.superslab_max = window.first_superslab + 1;
    char *one = alloc(2 * MIB);
    assert_int_equal(window_slab_index(one), first_slab());
    char *two = alloc(64 * KIB);
    assert_non_null(two);
    assert_true(huge_bytes(two) != 0);
    assert_int_equal(large_usable_bytes(two), 64 * KIB);
    large_free(one);
    large_free(two);
    window = (struct window){0};
    char *three = alloc(64 * KIB);
    assert_true(huge_bytes(three) != 0);
    large_free(three);
}

static void free_it(void *block)
{
    large_free(block);
}

static void test_misuse_is_fatal(void **state)
{
    (void)state;
    static int not_ours;
    char *block = alloc(200 * KIB);
    char *huge = alloc(65 * MIB);
    assert_aborts(free_it, block + 16, "free of a pointer into the middle of a block", block + 16);
    assert_aborts(free_it, block + SLAB_BYTES, "free of a pointer into the middle of a block", block + SLAB_BYTES);
    assert_aborts(free_it, block + 3 * SLAB_BYTES, "free of a pointer into the middle of a block", block + 3 * SLAB_BYTES);
    assert_aborts(free_it, block + MIB, "double free, or free of a pointer that malloc did not return", block + MIB);
    const char *outside = "free of a pointer that malloc did not return, or double free of a huge block";
    assert_aborts(free_it, huge + 4096, outside, huge + 4096);
    assert_aborts(free_it, &not_ours, outside, &not_ours);
    large_free(block);
    assert_aborts(free_it, block, "double free, or free of a pointer that malloc did not return", block);
    large_free(huge);
    assert_aborts(free_it, huge, outside, huge);
}

#define THREADS 4u
#define HELD 8u

static uint32_t damage;

static void check(const uint64_t *block, uint64_t mine)
{
    if (block[0] != mine || block[large_usable_bytes(block) / 8 - 1] != mine)
        fetch_add_relaxed(&damage, 1);
}

static void mark(uint64_t *block, uint64_t mine)
{
    block[0] = block[large_usable_bytes(block) / 8 - 1] = mine;
}

static void *churn(void *argument)
{
    uint64_t seed = *(uint64_t *)argument;
    const uint64_t mine = seed;
    uint64_t *held[HELD] = {NULL};
    for (unsigned i = 0; i < 1500; i++) {
        const uint64_t r = next_random(&seed);
        uint64_t **at = &held[r % HELD];
        const size_t bytes = 33 * KIB + (size_t)(r >> 8) % (r >> 50 & 7 ? 500 * KIB : 6 * MIB);
        if (*at == NULL) {
            *at = alloc(bytes);
            mark(*at, mine);
            continue;
        }
        check(*at, mine);
        if (r >> 54 & 1) {
            uint64_t *resized = large_resize(*at, bytes);
            if (resized != NULL)
                mark(*at = resized, mine);
        } else {
            large_free(*at);
            *at = NULL;
        }
        if (i % 400 == mine % 400)
            arena_purge_all();
    }
    for (unsigned i = 0; i < HELD; i++) {
        if (held[i] != NULL) {
            check(held[i], mine);
            large_free(held[i]);
        }
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    uint64_t seeds[THREADS] = {10, 220, 3330, 44440};
    const struct large_totals before = totals_now();
    run_threads(THREADS, churn, seeds, sizeof seeds[0]);
    assert_int_equal(damage, 0);
    const struct large_totals after = totals_now();
    assert_int_equal(after.run_count, before.run_count);
    assert_int_equal(after.run_bytes, before.run_bytes);
    assert_int_equal(after.alloc_count - after.free_count, before.alloc_count - before.free_count);
    struct arena_totals t;
    arena_read_totals(&t);
    assert_int_equal(t.free_clean_bytes + t.free_dirty_bytes, t.mapped_bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_runs, fresh),
        cmocka_unit_test_setup(test_every_size_is_usable, fresh),
        cmocka_unit_test_setup(test_alignment, fresh),
        cmocka_unit_test_setup(test_stands_at_the_end_of_its_run, fresh),
        cmocka_unit_test_setup(test_grows_behind_its_offset, fresh),
        cmocka_unit_test_setup(test_knows_what_reads_zero, fresh),
        cmocka_unit_test_setup(test_pages_that_may_not_be_read_are_freed, fresh),
        cmocka_unit_test_setup(test_resize_in_place, fresh),
        cmocka_unit_test_setup(test_resize_huge, fresh),
        cmocka_unit_test_setup(test_pages_move_where_there_is_no_room, fresh),
        cmocka_unit_test_setup(test_no_mapping_grows_into_the_window, fresh),
        cmocka_unit_test_setup(test_small_runs_and_too_many_are_copied, fresh),
        cmocka_unit_test_setup(test_window_full_takes_the_huge_path, fresh),
        cmocka_unit_test_setup(test_misuse_is_fatal, fresh),
        cmocka_unit_test_setup(test_threads, fresh),
    };
    return cmocka_run_group_tests_name("large", tests, NULL, NULL);
}
