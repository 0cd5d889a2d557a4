/* Runs that move out of the window by page tables: what is left when the kernel refuses, and that the window stays whole
 * while others map, claim and unmap SuperSlabs. */
#define _GNU_SOURCE
#include "unit.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "arena/usage.h"
#include "config/policy.h"
#include "fresh_arena.h"
#include "large/huge.h"
#include "large/large.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

/* The kernel, as these tests want it. Atomic relaxed. */
static uint32_t refuse_pages, refuse_growth;
static uint32_t refused_growths;
static enum os_huge_page_mode mode;
static struct {
    void *address;
    size_t bytes;
    bool is_huge;
} advised; /* outside the window, while one thread is at it */
static uint32_t notes_advice;

void *os_remap_pages(void *address, size_t bytes, void *wish)
{
    if (load_relaxed(&refuse_pages) != 0)
        return NULL;
    void *moved = mremap(address, bytes, bytes, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, wish);
    OS_HAS_ADDRESSES();
    return moved == MAP_FAILED ? NULL : moved;
}

void *os_remap(void *address, size_t old_bytes, size_t new_bytes)
{
    if (load_relaxed(&refuse_growth) != 0 && fetch_add_relaxed(&refused_growths, 1) % load_relaxed(&refuse_growth) == 0)
        return NULL;
    OS_GIVES_UP_ADDRESSES();
    void *moved = mremap(address, old_bytes, new_bytes, MREMAP_MAYMOVE);
    OS_HAS_ADDRESSES();
    return moved == MAP_FAILED ? NULL : moved;
}

enum os_huge_page_mode os_huge_page_mode(void)
{
    return mode;
}

static bool note_advice(void *address, size_t bytes, bool is_huge)
{
    if (load_relaxed(&notes_advice) != 0 && window_slab_index(address) >= load_acquire(&window.limit)) {
        advised.address = address;
        advised.bytes = bytes;
        advised.is_huge = is_huge;
    }
    return true;
}

bool os_advise_huge(void *address, size_t bytes)
{
    return note_advice(address, bytes, true);
}

bool os_no_huge_pages(void *address, size_t bytes)
{
    return note_advice(address, bytes, false);
}

static int fresh(void **state)
{
    (void)state;
    refuse_pages = refuse_growth = 0;
    mode = OS_HUGE_UNKNOWN;
    policy_start(config_get());
    usage_correct(0);
    fresh_arena();
    huge_free(huge_alloc(1, 1)); /* the table is there from now on */
    return 0;
}

static void *alloc(size_t bytes)
{
    bool zeroed;
    return large_alloc(bytes, 1, &zeroed);
}

static bool is_outside(const void *block)
{
    return window_slab_index(block) >= load_acquire(&window.limit);
}

/* While nobody is at it: counters equal masks, and no slot is lost. */
static void assert_window_is_whole(void)
{
    uint32_t first, end;
    uint64_t claimed = 0, free_resident = 0;
    arena_superslab_range(&first, &end);
    for (uint32_t i = first; i < end; i++) {
        const struct superslab *s = &superslab_table[i];
        assert_int_not_equal(s->state, SUPERSLAB_FOREIGN);
        if (s->state != SUPERSLAB_MAPPED)
            continue;
        claimed += count_bits(~s->free_mask);
        free_resident += count_bits(s->free_mask & superslab_resident(s));
    }
    struct large_totals large;
    large_read_totals(&large);
    assert_int_equal(superslab_claimed_count(), claimed);
    assert_int_equal(superslab_free_resident_count(), free_resident);
    assert_int_equal(usage_bytes(), (claimed + free_resident) * SLAB_BYTES + spare_bytes() + large.huge_bytes +
                                        usage_record_bytes());
}

static bool all_words_are(const uint64_t *at, size_t bytes, uint64_t value)
{
    for (size_t i = 0; i < bytes / sizeof *at; i++)
        if (at[i] != value)
            return false;
    return true;
}

static void fill_words(uint64_t *at, size_t bytes, uint64_t value)
{
    for (size_t i = 0; i < bytes / sizeof *at; i++)
        at[i] = value;
}

static void check_refused(unsigned char *block, size_t bytes)
{
    const uint64_t held = usage_bytes();
    struct large_totals before, after;
    large_read_totals(&before);
    assert_null(large_resize(block, bytes));
    large_read_totals(&after);
    assert_memory_equal(&before, &after, sizeof before);
    assert_int_equal(usage_bytes(), held);
    assert_int_equal(large_usable_bytes(block), 5 * MIB);
    assert_true(all_words_are((uint64_t *)block, 5 * MIB, 77));
    assert_window_is_whole();
}

/* The block is then as it was, whatever has been done already. */
static void test_refusals(void **state)
{
    (void)state;
    unsigned char *block = alloc(5 * MIB), *behind = alloc(64 * KIB);
    assert_ptr_equal(behind, block + 5 * MIB);
    fill_words((uint64_t *)block, 5 * MIB, 77);
    refuse_growth = 1;
    check_refused(block, 7 * MIB);
    check_refused(block, 5 * MIB + 1); /* a page more: page by page */
    refuse_growth = 0;
    unsigned char *moved = large_resize(block, 7 * MIB); /* nothing keeps it from moving later */
    assert_non_null(moved);
    assert_true(is_outside(moved));
    assert_true(all_words_are((uint64_t *)moved, 5 * MIB, 77));
    assert_true(all_words_are((uint64_t *)(moved + 5 * MIB), 2 * MIB, 0));
    assert_window_is_whole();
    refuse_growth = 1;
    assert_null(large_resize(moved, 9 * MIB));
    assert_int_equal(large_usable_bytes(moved), 7 * MIB);
    large_free(moved);
    large_free(behind);
    assert_window_is_whole();
}

/* As on a kernel before 5.7, or where the run lies in two of the kernel's mappings. */
static void test_pages_that_cannot_move_are_copied(void **state)
{
    (void)state;
    const uint64_t held = usage_bytes();
    unsigned char *block = alloc(5 * MIB), *behind = alloc(64 * KIB);
    fill_words((uint64_t *)block, 5 * MIB, 77);
    refuse_pages = 1;
    /* The pages before it have gone by then, those of the same piece too: it is refused from its middle on. Sanitizers make
     * mlock do nothing. */
    unsigned char *locked = block + 4 * MIB + 32 * KIB;
    if (syscall(SYS_mlock, locked, 64 * KIB) == 0) {
        check_refused(block, 7 * MIB);
        check_refused(block, 5 * MIB + 1);
        assert_int_equal(syscall(SYS_munlock, locked, 64 * KIB), 0);
    }
    unsigned char *moved = large_resize(block, 7 * MIB);
    assert_non_null(moved);
    assert_true(is_outside(moved));
    assert_true(all_words_are((uint64_t *)moved, 5 * MIB, 77));
    assert_true(all_words_are((uint64_t *)(moved + 5 * MIB), 2 * MIB, 0));
    assert_int_equal(usage_bytes(), held + 7 * MIB + 64 * KIB);
    assert_window_is_whole();
    bool zeroed = false;
    assert_ptr_equal(large_alloc(5 * MIB, 1, &zeroed), block);
    assert_true(zeroed);
    unsigned char resident[64];
    assert_int_equal(mincore(block, sizeof resident * os_page_bytes(), resident), 0);
    for (unsigned i = 0; i < sizeof resident; i++)
        assert_int_equal(resident[i] & 1, 0);
    assert_true(all_words_are((uint64_t *)block, 5 * MIB, 0));
    large_free(block);
    large_free(moved);
    large_free(behind);
    assert_window_is_whole();
}

/* What lies in the run before the block stays in the window, and reads as zero there like the rest. */
static void check_moves_from_its_offset(size_t more, bool is_locked)
{
    const size_t page = os_page_bytes(), bytes = 5 * MIB + page, new_bytes = bytes + more;
    const uint64_t held = usage_bytes();
    unsigned char *all = alloc(6 * MIB);
    fill_words((uint64_t *)all, 6 * MIB, 66);
    large_free(all);
    unsigned char *block = alloc(bytes), *behind = alloc(64 * KIB);
    unsigned char *run = (unsigned char *)align_down((uintptr_t)block, SLAB_BYTES);
    assert_ptr_equal(block, run + SLAB_BYTES - page);
    assert_ptr_equal(behind, block + bytes);
    fill_words((uint64_t *)block, bytes, 77);
    if (is_locked && syscall(SYS_mlock, run, page) == 0) {
        assert_null(large_resize(block, new_bytes));
        assert_true(all_words_are((uint64_t *)block, bytes, 77));
        assert_int_equal(syscall(SYS_munlock, run, page), 0);
    }
    unsigned char *moved = large_resize(block, new_bytes);
    assert_non_null(moved);
    assert_true(is_outside(moved));
    assert_int_equal(large_usable_bytes(moved), new_bytes);
    assert_true(all_words_are((uint64_t *)moved, bytes, 77));
    assert_true(all_words_are((uint64_t *)(moved + bytes), more, 0));
    assert_window_is_whole();
    bool zeroed = false;
    assert_ptr_equal(large_alloc(5 * MIB + SLAB_BYTES, 1, &zeroed), run);
    assert_true(zeroed);
    assert_true(all_words_are((uint64_t *)run, 5 * MIB + SLAB_BYTES, 0));
    large_free(run);
    large_free(moved);
    large_free(behind);
    assert_window_is_whole();
    arena_purge_all();
    assert_int_equal(usage_bytes(), held);
}

static void test_moves_from_its_offset(void **state)
{
    (void)state;
    if (os_page_bytes() >= SLAB_BYTES)
        skip();
    for (unsigned i = 0; i < 4; i++) {
        refuse_pages = i % 2;
        check_moves_from_its_offset(2 * MIB, i >= 2);
        check_moves_from_its_offset(os_page_bytes(), i >= 2); /* less than what lies before it */
    }
}

/* What the window is told does not hold outside it. */
static void test_advice_is_what_a_huge_block_has(void **state)
{
    (void)state;
    const struct {
        enum os_huge_page_mode mode;
        enum thp thp;
        bool is_told, is_huge;
    } cases[] = {
        { OS_HUGE_ALWAYS, THP_DEFAULT, true, true },   { OS_HUGE_MADVISE, THP_DEFAULT, true, false },
        { OS_HUGE_UNKNOWN, THP_DEFAULT, false, false }, { OS_HUGE_ALWAYS, THP_NEVER, true, false },
        { OS_HUGE_MADVISE, THP_ALWAYS, true, true },
    };
    for (unsigned i = 0; i < ARRAY_COUNT(cases); i++) {
        unsigned char *block = alloc(5 * MIB), *behind = alloc(64 * KIB);
        mode = cases[i].mode;
        store_relaxed(&policy_live.thp, cases[i].thp);
        store_relaxed(&notes_advice, 1);
        advised.address = NULL;
        unsigned char *moved = large_resize(block, 7 * MIB);
        assert_non_null(moved);
        store_relaxed(&notes_advice, 0);
        assert_ptr_equal(advised.address, cases[i].is_told ? moved : NULL);
        if (cases[i].is_told) {
            assert_int_equal(advised.bytes, 7 * MIB);
            assert_int_equal(advised.is_huge, cases[i].is_huge);
        }
        large_free(moved);
        large_free(behind);
        arena_purge_all();
    }
}

enum { GROWERS = 2, MAPPERS = 2, ROUNDS = 400 };

static uint32_t moves;

/* Now and then its block is at the heap's end and becomes larger than any run: the kernel would let it grow where it is,
 * into slots that nothing is mapped in yet. */
static void *grow(void *argument)
{
    uint64_t seed = *(uint64_t *)argument;
    const uint64_t mine = seed;
    for (unsigned i = 0; i < ROUNDS; i++) {
        size_t have = 512 * KIB + (next_random(&seed) % 48) * 64 * KIB;
        uint64_t *block = alloc(have);
        block[0] = block[have / 8 - 1] = mine;
        for (unsigned step = 0; step < 4; step++) {
            size_t want = have + (1 + next_random(&seed) % 48) * 64 * KIB + (next_random(&seed) % 2 == 0 ? LARGE_MAX_BYTES : 0);
            uint64_t *grown = large_resize(block, want);
            if (grown == NULL)
                continue;
            if (grown != block && !is_outside(block))
                fetch_add_relaxed(&moves, 1);
            CHECK(grown[0] == mine && grown[have / 8 - 1] == mine, "the contents of a grown block", grown);
            block = grown;
            have = want;
            block[have / 8 - 1] = mine;
        }
        large_free(block);
    }
    return NULL;
}

/* Takes and gives back whole SuperSlabs, at the heap's end as well. */
static void *map_and_unmap(void *argument)
{
    uint64_t seed = *(uint64_t *)argument;
    const uint64_t mine = seed;
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t *held[4];
        for (unsigned k = 0; k < ARRAY_COUNT(held); k++) {
            held[k] = alloc((1 + next_random(&seed) % 96) * 64 * KIB);
            held[k][0] = mine + k;
        }
        for (unsigned k = 0; k < ARRAY_COUNT(held); k++) {
            CHECK(held[k][0] == mine + k, "the contents of a block", held[k]);
            large_free(held[k]);
        }
        if (i % 4 == 0)
            arena_purge_all();
    }
    return NULL;
}

static void *either(void *argument)
{
    return *(uint64_t *)argument % 2 == 0 ? grow(argument) : map_and_unmap(argument);
}

static void churn(uint32_t refuse_one_in)
{
    uint64_t seeds[GROWERS + MAPPERS] = { 10, 221, 3330, 44441 };
    moves = 0;
    refuse_growth = refuse_one_in;
    run_threads(GROWERS + MAPPERS, either, seeds, sizeof seeds[0]);
    refuse_growth = 0;
    assert_true(moves > ROUNDS / 8); /* else this has shown nothing */
    assert_window_is_whole();
    arena_purge_all();
    assert_int_equal(superslab_claimed_count(), 0);
    assert_window_is_whole();
}

static void test_others_map_meanwhile(void **state)
{
    (void)state;
    churn(0);
}

static void test_refusals_while_others_map(void **state)
{
    (void)state;
    churn(2);
}

/* A copy of the block would need more addresses than its growth. */
static void test_spares_make_room_for_growth(void **state)
{
    (void)state;
    arena_credit.bytes = -((int64_t)1 << 40); /* something is owed: no burst goes at once */
    char *block = huge_alloc(66 * MIB, 1), *other = huge_alloc(70 * MIB, 1);
    assert_true(huge_free(other));
    assert_int_equal(spare_bytes(), 70 * MIB);
    refuse_growth = 2; /* one call of two, beginning with the next */
    refused_growths = 0;
    block = huge_resize(block, 90 * MIB);
    assert_non_null(block);
    assert_int_equal(spare_bytes(), 0);
    refuse_growth = 1;
    assert_null(huge_resize(block, 100 * MIB));
    assert_int_equal(huge_bytes(block), 90 * MIB);
    refuse_growth = 0;
    huge_free(block);
    assert_window_is_whole();
    arena_purge_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_refusals, fresh),
        cmocka_unit_test_setup(test_pages_that_cannot_move_are_copied, fresh),
        cmocka_unit_test_setup(test_moves_from_its_offset, fresh),
        cmocka_unit_test_setup(test_advice_is_what_a_huge_block_has, fresh),
        cmocka_unit_test_setup(test_spares_make_room_for_growth, fresh),
        cmocka_unit_test_setup(test_others_map_meanwhile, fresh),
        cmocka_unit_test_setup(test_refusals_while_others_map, fresh),
    };
    return cmocka_run_group_tests_name("move_out", tests, NULL, NULL);
}
