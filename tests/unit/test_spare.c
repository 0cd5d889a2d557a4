/* Spare mappings: who gets them, and that they go wherever free pages go. */
#include "unit.h"

#include <errno.h>
#include <sys/mman.h>

#include "api/entry.h"
#include "arena/usage.h"
#include "config/policy.h"
#include "fresh_arena.h"
#include "large/huge.h"
#include "large/large.h"

#define MIB ((size_t)1 << 20)

static uint64_t held_before;
static const void *slow_to_go; /* where os_unmap takes its time. Atomic; back to NULL when somebody is in there */
static uint32_t slow_ms;       /* so long at most. Atomic */

/* As in os.c, but that a thread may be caught between taking a spare off its list and unmapping it. */
bool os_unmap(void *address, size_t bytes)
{
    if (address == load_acquire(&slow_to_go)) {
        store_release(&slow_to_go, NULL);
        for (uint32_t ms = 0; ms < load_acquire(&slow_ms); ms++)
            nanosleep(&(const struct timespec){ .tv_nsec = 1000000 }, NULL);
    }
    OS_GIVES_UP_ADDRESSES();
    return munmap(address, bytes) == 0;
}

static int fresh(void **state)
{
    (void)state;
    set_decay_policy(0, 0, 0);
    store_relaxed(&policy_live.retained_ratio_ppm, RATIO_ONE_PPM);
    usage_correct(0);
    fresh_arena();
    held_before = usage_bytes();
    return 0;
}

/* A mapping as a huge block has it, all of it written to. */
static char *block_of(size_t bytes)
{
    assert_true(usage_take(bytes));
    char *block = os_map(bytes, os_page_bytes());
    assert_non_null(block);
    spare_note_mapped(bytes);
    memset(block, 7, bytes);
    return block;
}

static void assert_counted(uint64_t blocks, uint64_t spares)
{
    assert_int_equal(spare_bytes(), spares);
    assert_int_equal(arena_totals_now().free_dirty_bytes, spares);
    assert_int_equal(usage_bytes(), held_before + blocks + spares);
}

static void test_a_block_comes_back_with_its_pages(void **state)
{
    (void)state;
    char *block = block_of(4 * MIB);
    spare_put(block, 4 * MIB);
    assert_counted(0, 4 * MIB);
    assert_null(spare_take(5 * MIB, 1));
    assert_null(spare_take(MIB, (size_t)1 << 46));
    assert_ptr_equal(spare_take(3 * MIB, 1), block);
    assert_int_equal(block[3 * MIB - 1], 7);
    assert_counted(3 * MIB, MIB);
    assert_null(spare_take(MIB, 1)); /* a tail is its block's */
    assert_int_equal(spare_take_tail(block, block + 2 * MIB, MIB), 0);
    assert_int_equal(spare_take_tail(block + MIB, block + 3 * MIB, MIB), 0);
    assert_int_equal(spare_take_tail(block, block + 3 * MIB, MIB / 2), MIB / 2);
    assert_int_equal(spare_take_tail(block, block + 7 * MIB / 2, MIB), MIB / 2);
    assert_counted(4 * MIB, 0);
    spare_put_tail(block, block + 2 * MIB, 2 * MIB);
    spare_put_tail(block, block + MIB, MIB); /* the tail becomes longer */
    assert_counted(MIB, 3 * MIB);
    spare_put(block, MIB); /* and goes along */
    assert_ptr_equal(spare_take(4 * MIB, 1), block);
    spare_put(block, 4 * MIB);
    assert_int_equal(arena_purge_all(), 4 * MIB);
    assert_counted(0, 0);
}

static void test_which_spare(void **state)
{
    (void)state;
    char *small = block_of(4 * MIB), *large = block_of(12 * MIB), *middle = block_of(8 * MIB);
    spare_put(small, 4 * MIB);
    spare_put(large, 12 * MIB);
    spare_put(middle, 8 * MIB);
    assert_ptr_equal(spare_take(5 * MIB, 1), middle);
    assert_null(spare_take_roomy(6 * MIB + 1));
    assert_ptr_equal(spare_take_roomy(MIB), large);
    assert_ptr_equal(spare_take_roomy(MIB), small);
    assert_null(spare_take_roomy(MIB));
    assert_counted(7 * MIB, 17 * MIB);
}

static void test_little_is_not_kept(void **state)
{
    (void)state;
    char *block = block_of(SPARE_MIN_BYTES);
    spare_put_tail(block, block + SLAB_BYTES, SPARE_MIN_BYTES - SLAB_BYTES);
    assert_counted(SLAB_BYTES, 0);
    spare_put(block, SLAB_BYTES);
    assert_counted(0, 0);
}

/* The largest stay. */
static void test_the_list_is_full(void **state)
{
    (void)state;
    char *first = block_of(MIB), *last;
    spare_put(first, MIB);
    for (unsigned i = 1; i < SPARES_MAX; i++)
        spare_put(block_of(2 * MIB), 2 * MIB);
    spare_put(block_of(MIB), MIB);
    assert_counted(0, (2 * SPARES_MAX - 1) * MIB);
    spare_put(last = block_of(3 * MIB), 3 * MIB);
    assert_counted(0, (2 * SPARES_MAX + 1) * MIB);
    assert_ptr_equal(spare_take(3 * MIB, 1), last);
}

static void test_no_more_than_may_wait(void **state)
{
    (void)state;
    set_decay_policy(0, 0, 5 * MIB);
    spare_put(block_of(4 * MIB), 4 * MIB);
    char *block = block_of(4 * MIB);
    spare_put(block, 4 * MIB);
    assert_counted(0, 5 * MIB);
    assert_ptr_equal(spare_take(MIB, 1), block);
    block[MIB - 1] = 8;
    const uint64_t usable = usage_bytes();
    spare_put(block_of(MIB), MIB);
    assert_int_equal(usage_bytes(), usable + MIB);
}

/* The end of a block's mapping, while the block is in use. */
static void test_a_tail_can_be_given_back(void **state)
{
    (void)state;
    char *block = block_of(8 * MIB);
    spare_put_tail(block, block + MIB, 7 * MIB);
    assert_int_equal(spare_give_back(3 * MIB, UINT64_MAX, PURGE_ASKED_FOR), 3 * MIB);
    assert_int_equal(block[5 * MIB - 1], 7);
    assert_counted(MIB, 4 * MIB);
    assert_int_equal(spare_take_tail(block, block + MIB, 7 * MIB), 4 * MIB);
    assert_int_equal(block[0] + block[5 * MIB - 1], 14);
    spare_put(block, 5 * MIB);
    assert_int_equal(arena_purge_beyond(3 * MIB), 2 * MIB);
    assert_counted(0, 3 * MIB);
    arena_purge_some(0);
    assert_counted(0, 0);
}

static void test_decay_to_nothing(void **state)
{
    (void)state;
    const uint64_t now_ms = os_clock_ms();
    spare_put(block_of(20 * MIB), 20 * MIB);
    arena_decay(now_ms, 1000, UINT32_MAX); /* too young */
    assert_counted(0, 20 * MIB);
    unsigned ticks = 0;
    for (; spare_bytes() != 0; ticks++) {
        assert_true(ticks < 100);
        arena_decay(now_ms + 5000, 1000, UINT32_MAX);
    }
    assert_in_range(ticks, 2, 10); /* a bounded part at a time */
    assert_counted(0, 0);
    set_decay_policy(4 * MIB, 0, 0);
    spare_put(block_of(20 * MIB), 20 * MIB);
    superslab_counts.fallen = 0; /* no burst is over: all of the floor stays */
    for (unsigned i = 0; i < 20; i++)
        arena_decay(now_ms + 10000, 1000, UINT32_MAX);
    assert_counted(0, 4 * MIB); /* the floor */
}

/* What a burst leaves goes at once, once; what comes back is charged, and stays. */
static void test_a_burst_goes_and_comes_back(void **state)
{
    (void)state;
    set_decay_policy(0, MIB, 0);
    for (unsigned turn = 0; turn < 2; turn++) {
        char *block = block_of(48 * MIB);
        spare_put(block, 48 * MIB);
        for (unsigned i = 0; i < 8; i++)
            arena_note_freed(48 * MIB);
        if (turn == 0)
            assert_counted(0, 0);
    }
    assert_counted(0, 48 * MIB);
    assert_true(arena_credit.bytes < 0);
}

/* What was in use when others' pages went has not come back by being freed. */
static void test_a_burst_of_many_blocks_goes(void **state)
{
    (void)state;
    char *blocks[6];
    set_decay_policy(0, MIB, 0);
    for (unsigned i = 0; i < 6; i++)
        blocks[i] = block_of(48 * MIB);
    for (unsigned i = 0; i < 6; i++) {
        spare_put(blocks[i], 48 * MIB);
        arena_note_freed(48 * MIB);
    }
    assert_counted(0, 0);
    assert_true(arena_credit.bytes >= 0);
}

static bool all_are(const char *at, size_t bytes, char value)
{
    for (size_t i = 0; i < bytes; i++)
        if (at[i] != value)
            return false;
    return true;
}

static void test_a_large_block_takes_a_spare(void **state)
{
    (void)state;
    bool zeroed = true;
    arena_credit.bytes = -((int64_t)1 << 40); /* something is owed: no burst goes at once */
    char *spare = block_of(80 * MIB);
    spare_put(spare, 80 * MIB);
    char *block = large_alloc(3 * MIB, 1, &zeroed);
    assert_ptr_not_equal(block, spare);
    memset(block, 5, 3 * MIB);
    char *grown = large_resize(block, 4 * MIB);
    assert_ptr_equal(grown, spare);
    assert_true(all_are(grown, 3 * MIB, 5));
    assert_int_equal(large_usable_bytes(grown), 4 * MIB);
    assert_ptr_equal(large_resize(grown, 80 * MIB), grown); /* its tail */
    assert_int_equal(spare_bytes(), 0);
    assert_ptr_equal(large_resize(grown, 70 * MIB), grown);
    assert_int_equal(spare_bytes(), 10 * MIB);
    grown = large_resize(grown, 90 * MIB); /* what it lacks comes from the kernel */
    assert_non_null(grown);
    assert_true(all_are(grown, 3 * MIB, 5));
    assert_int_equal(grown[80 * MIB - 1], 7);
    assert_int_equal(large_usable_bytes(grown), 90 * MIB);
    large_free(grown);
    assert_int_equal(usage_bytes() - usage_record_bytes(), arena_free_resident_bytes());
    grown = large_alloc(66 * MIB, 1, &zeroed);
    assert_false(zeroed);
    large_free(grown);
    arena_purge_all();
    grown = large_alloc(66 * MIB, 1, &zeroed);
    assert_true(zeroed);
    assert_int_equal(grown[66 * MIB - 1], 0);
    large_free(grown);
}

static void test_whole_pages_are_not_kept(void **state)
{
    (void)state;
    arena_credit.bytes = -((int64_t)1 << 40); /* something is owed: no burst goes at once */
    const size_t page = os_page_bytes();
    huge_free(huge_alloc(MIB, page)); /* the table is there from now on */
    arena_purge_all();
    const uint64_t before = usage_bytes();
    for (unsigned from_spare = 0; from_spare < 2; from_spare++) {
        if (from_spare != 0)
            assert_true(huge_free(huge_alloc(80 * MIB, 1)));
        char *block = from_spare != 0 ? huge_alloc_spare(70 * MIB, page) : huge_alloc(70 * MIB, page);
        assert_int_equal(spare_bytes(), from_spare * 10 * MIB);
        assert_ptr_equal(huge_resize(block, 66 * MIB), block);
        assert_int_equal(spare_bytes(), 0);
        block = huge_resize(block, 68 * MIB);
        assert_int_equal(usage_bytes(), before + 68 * MIB);
        assert_int_equal(mprotect(block, 66 * MIB, PROT_NONE), 0);
        assert_true(huge_free(block));
        assert_int_equal(spare_bytes(), 0);
        assert_int_equal(usage_bytes(), before);
    }
}

/* The next owner would die of it. */
static void test_what_is_not_writable_is_not_kept(void **state)
{
    (void)state;
    char *block = block_of(8 * MIB);
    spare_put_tail(block, block + 6 * MIB, 2 * MIB);
    assert_int_equal(mprotect(block + MIB, MIB, PROT_NONE), 0);
    spare_put_tail(block, block + 4 * MIB, 2 * MIB);
    assert_counted(4 * MIB, 4 * MIB); /* that is behind it */
    spare_put(block, 4 * MIB);
    assert_counted(0, 0);
    block = block_of(2 * MIB);
    assert_int_equal(mprotect(block, 2 * MIB, PROT_READ), 0);
    spare_put(block, 2 * MIB);
    assert_counted(0, 0);
}

static void use_it_in_a_child(void *spare)
{
    struct large_totals large;
    char *zeros = api_calloc(66, MIB);
    CHECK(zeros == spare && all_are(zeros, 66 * MIB, 0), "zeros in the parent's spare mapping", zeros);
    api_free(zeros);
    large_read_totals(&large);
    CHECK(usage_bytes() == arena_claimed_bytes() + arena_free_resident_bytes() + large.huge_bytes + usage_record_bytes(),
          "a sum that is right", NULL);
}

/* First: with the arena that the process came up with. */
static void test_fork_and_calloc(void **state)
{
    (void)state;
    arena_credit.bytes = -((int64_t)1 << 40); /* something is owed: no burst goes at once */
    char *block = api_malloc(66 * MIB);
    memset(block, 7, 66 * MIB);
    api_free(block);
    assert_int_equal(spare_bytes(), 66 * MIB);
    assert_child_passes(use_it_in_a_child, block);
    assert_int_equal(spare_bytes(), 66 * MIB);
    char *zeros = api_calloc(66, MIB);
    assert_ptr_equal(zeros, block);
    assert_true(all_are(zeros, 66 * MIB, 0));
    api_free(zeros);
    arena_purge_all();
    assert_int_equal(spare_bytes(), 0);
}

static uint32_t may_end; /* atomic */

/* ThreadSanitizer takes a thread that has ended before the fork, and that its child cannot join, for forgotten. */
static void stay(void)
{
    WAIT_UNTIL(load_acquire(&may_end) != 0);
}

static void *give_all_back(void *unused)
{
    spare_give_all_back();
    stay();
    return unused;
}

static void *push_out(void *block)
{
    spare_put(block, 3 * MIB);
    stay();
    return NULL;
}

static void find_nothing(void *address)
{
    REQUIRE(mincore(address, MIB, (unsigned char[MIB / 4096]){ 0 }) == -1 && errno == ENOMEM);
}

/* As many spares as may wait. The one returned is the first to go, and takes its time. */
static char *fill_with_a_slow_one(uint64_t ms)
{
    char *spare = block_of(MIB);
    spare_put(spare, MIB);
    for (unsigned i = 1; i < SPARES_MAX; i++)
        spare_put(block_of(2 * MIB), 2 * MIB);
    store_release(&slow_ms, ms);
    store_release(&slow_to_go, spare);
    return spare;
}

/* Nor of one that is on its way: it is in no list any more, so the child would have its pages for ever. */
static void test_a_child_has_no_pages_of_spares_that_went(void **state)
{
    (void)state;
    for (unsigned turn = 0; turn < 2; turn++) {
        char *pushing = block_of(3 * MIB);
        pthread_t thread;
        store_release(&may_end, 0);
        char *spare = fill_with_a_slow_one(100);
        start_thread(&thread, turn == 0 ? give_all_back : push_out, pushing);
        assert_true(WAIT_UNTIL(load_acquire(&slow_to_go) == NULL));
        assert_child_passes(find_nothing, spare);
        store_release(&may_end, 1);
        pthread_join(thread, NULL);
        arena_purge_all();
    }
}

/* It is the new one that goes then, for nobody waits. */
static void test_nothing_is_pushed_out_while_others_unmap(void **state)
{
    (void)state;
    pthread_t thread;
    store_release(&may_end, 1);
    fill_with_a_slow_one(10000);
    start_thread(&thread, push_out, block_of(3 * MIB));
    assert_true(WAIT_UNTIL(load_acquire(&slow_to_go) == NULL));
    spare_put(block_of(4 * MIB), 4 * MIB);
    assert_int_equal(spare_bytes(), (2 * SPARES_MAX + 1) * MIB);
    store_release(&slow_ms, 0);
    pthread_join(thread, NULL);
    assert_counted(0, (2 * SPARES_MAX + 1) * MIB);
}

enum { THREADS = 4, ROUNDS = 3000 };

/* Blocks of the same few mappings, as others trim them. */
static void *churn(void *argument)
{
    uint64_t seed = *(uint64_t *)argument;
    const uint64_t mine = seed;
    for (unsigned i = 0; i < ROUNDS; i++) {
        const size_t bytes = (1 + next_random(&seed) % 3) * MIB, more = MIB / 2;
        uint64_t *block = spare_take(bytes, 1);
        if (block == NULL) {
            if (!usage_take(bytes) || (block = os_map(bytes, os_page_bytes())) == NULL)
                continue;
        }
        block[0] = block[MIB / 8 - 1] = mine;
        size_t have = bytes + spare_take_tail(block, (char *)block + bytes, more);
        block[have / 8 - 1] = mine;
        if (i % 8 == 0)
            spare_give_back(MIB, UINT64_MAX, PURGE_ASKED_FOR);
        CHECK(block[0] == mine && block[have / 8 - 1] == mine, "the contents of a block", block);
        if (have > MIB) {
            spare_put_tail(block, (char *)block + MIB, have - MIB);
            have = MIB;
        }
        CHECK(block[0] == mine && block[MIB / 8 - 1] == mine, "the contents of a block", block);
        spare_put(block, have);
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    uint64_t seeds[THREADS] = { 1, 22, 333, 4444 };
    run_threads(THREADS, churn, seeds, sizeof seeds[0]);
    arena_purge_all();
    assert_counted(0, 0);
    for (unsigned i = 0; i < SPARES_MAX; i++)
        assert_int_equal(spare_state.slots[i].bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fork_and_calloc),
        cmocka_unit_test_setup(test_a_block_comes_back_with_its_pages, fresh),
        cmocka_unit_test_setup(test_which_spare, fresh),
        cmocka_unit_test_setup(test_little_is_not_kept, fresh),
        cmocka_unit_test_setup(test_the_list_is_full, fresh),
        cmocka_unit_test_setup(test_no_more_than_may_wait, fresh),
        cmocka_unit_test_setup(test_a_tail_can_be_given_back, fresh),
        cmocka_unit_test_setup(test_decay_to_nothing, fresh),
        cmocka_unit_test_setup(test_a_burst_goes_and_comes_back, fresh),
        cmocka_unit_test_setup(test_a_burst_of_many_blocks_goes, fresh),
        cmocka_unit_test_setup(test_a_large_block_takes_a_spare, fresh),
        cmocka_unit_test_setup(test_whole_pages_are_not_kept, fresh),
        cmocka_unit_test_setup(test_what_is_not_writable_is_not_kept, fresh),
        cmocka_unit_test_setup(test_a_child_has_no_pages_of_spares_that_went, fresh),
        cmocka_unit_test_setup(test_nothing_is_pushed_out_while_others_unmap, fresh),
        cmocka_unit_test_setup(test_threads, fresh),
    };
    return cmocka_run_group_tests_name("spare", tests, NULL, NULL);
}
