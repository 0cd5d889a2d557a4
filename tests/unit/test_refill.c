#include "unit.h"

#include "caches.h"
#include "os/os.h"

static void *held[70000];

static void give_all(struct tcache *t, unsigned bin, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        cache_give(t, bin, held[i]);
}

static void give_back_and_check(struct tcache *t)
{
    assert_true(cache_is_valid(t));
    tcache_flush_all(t);
    for (unsigned bin = 0; bin < BIN_COUNT; bin++) {
        assert_int_equal(magazine_count(t, bin), 0);
        assert_int_equal(t->heap.bins[bin].outstanding, 0);
        assert_int_equal(t->heap.bins[bin].refill_blocks, t->heap.bins[bin].flush_blocks);
    }
    lock_acquire(&t->heap.lock);
    heap_age(&t->heap, true);
    lock_release(&t->heap.lock);
}

static void test_first_refill_is_the_configured_batch(void **state)
{
    (void)state;
    struct tcache *t = new_cache();
    set_bin_bounds(t, 4, 256, 11);
    held[0] = tcache_refill(t, 4);
    assert_int_equal(magazine_count(t, 4), 10);
    assert_int_equal(t->heap.bins[4].refill_blocks, 11);
    for (unsigned i = 1; i < 11; i++) {
        held[i] = hot_pop(&t->hot.bins[4]);
        assert_ptr_equal(held[i], (char *)held[0] + i * bin_info(4)->block_bytes); /* lowest first */
    }
    assert_null(hot_pop(&t->hot.bins[4]));
    give_all(t, 4, 11);
    give_back_and_check(t);
    set_bin_bounds(t, 5, 256, 200); /* more than the magazine has room for yet */
    held[0] = tcache_refill(t, 5);
    assert_int_equal(magazine_count(t, 5), t->bins[5].capacity - 1);
    give_all(t, 5, 1);
    give_back_and_check(t);
}

static void test_consecutive_refills_double(void **state)
{
    (void)state;
    struct tcache *t = new_cache();
    set_bin_bounds(t, 0, 512, 2);
    uint64_t before = 0;
    unsigned batches[6];
    for (unsigned i = 0, count = 0; i < ARRAY_COUNT(batches); i++) {
        held[count++] = tcache_refill(t, 0);
        while ((held[count] = hot_pop(&t->hot.bins[0])) != NULL)
            count++;
        batches[i] = (unsigned)(t->heap.bins[0].refill_blocks - before);
        before = t->heap.bins[0].refill_blocks;
        if (i == ARRAY_COUNT(batches) - 1)
            give_all(t, 0, count);
    }
    const unsigned expect[] = {2, 4, 8, 16}; /* 16: the array's room */
    for (unsigned i = 0; i < ARRAY_COUNT(expect); i++)
        assert_int_equal(batches[i], expect[i]);
    assert_true(batches[5] > 16); /* that a program only allocates earns some growth, too */
    give_back_and_check(t);
}

static void test_batches_are_bounded_in_bytes(void **state)
{
    (void)state;
    for (unsigned bin = 0; bin < BIN_COUNT; bin += 3) {
        struct tcache *t = new_cache();
        const uint32_t block_bytes = bin_info(bin)->block_bytes;
        unsigned count = 0;
        uint64_t before = 0;
        for (unsigned i = 0; i < 12; i++) {
            held[count++] = tcache_refill(t, bin);
            while ((held[count] = hot_pop(&t->hot.bins[bin])) != NULL)
                count++;
            const uint64_t batch = t->heap.bins[bin].refill_blocks - before;
            before = t->heap.bins[bin].refill_blocks;
            assert_true(batch <= t->bins[bin].capacity);
            assert_true(batch * block_bytes <= 131072);
            /* Without a single flush a magazine does not get large. */
            assert_true(t->bins[bin].capacity <= 16 || t->bins[bin].capacity * block_bytes <= 32768);
        }
        give_all(t, bin, count);
        give_back_and_check(t);
    }
}

static void test_flush_keeps_the_newest(void **state)
{
    (void)state;
    struct tcache *t = new_cache();
    const uint32_t capacity = t->bins[19].capacity;
    for (unsigned i = 0; i < capacity + 1; i++)
        held[i] = cache_take(t, 19);
    while (hot_pop(&t->hot.bins[19]) != NULL) /* what the last refill brought beyond is dropped: we know what is in */
        ;
    give_all(t, 19, capacity + 1);
    assert_int_equal(t->bins[19].capacity, capacity);
    assert_int_equal(magazine_count(t, 19), capacity / 2 + 1);
    for (unsigned i = 0; i < capacity / 2 + 1; i++) {
        void *block = hot_pop(&t->hot.bins[19]);
        assert_ptr_equal(block, held[capacity - i]);
    }
    assert_null(hot_pop(&t->hot.bins[19]));
    assert_int_equal(t->heap.bins[19].flush_blocks, capacity - capacity / 2);
}

/* Flush after flush the magazine moves up in its array, and back when there is no more room above. Nothing gets lost: the
 * newest blocks are still there, and all others are the slabs'. */
static void test_magazines_slide_in_their_arrays(void **state)
{
    (void)state;
    struct tcache *t = new_cache();
    const unsigned bin = 3;
    while (magazine_grow(t, bin))
        ;
    const uint32_t capacity = t->bins[bin].capacity;
    assert_int_equal(capacity, 512);
    assert_int_equal(t->bins[bin].slots, 1024); /* what was rounded up is room to slide in */
    t->aged_ms = os_clock_ms(); /* nothing else empties it */
    unsigned count = 8 * capacity, moved = 0, returned = 0;
    for (unsigned i = 0; i < count; i++)
        held[i] = cache_take(t, bin);
    for (unsigned i = 0; i < count; i++) {
        void **const before = t->bins[bin].bottom;
        cache_give(t, bin, held[i]);
        moved += t->bins[bin].bottom > before;
        returned += t->bins[bin].bottom < before;
        assert_ptr_equal(*t->hot.bins[bin].top, held[i]);
        assert_true(cache_is_valid(t));
    }
    assert_in_range(returned, 3, 8); /* each costs a copy, so once in about a capacity of blocks */
    assert_true(moved >= 3 * returned);
    unsigned left = count;
    while (magazine_count(t, bin) != 0)
        assert_ptr_equal(hot_pop(&t->hot.bins[bin]), held[--left]);
    assert_null(hot_pop(&t->hot.bins[bin]));
    assert_int_equal(t->heap.bins[bin].outstanding, count - left);
    while (left < count)
        cache_give(t, bin, held[left++]);
    give_back_and_check(t);
}

/* No single free waits for more than a few blocks that lie each in another place, nor a malloc for more than some. */
static void test_scattered_batches_are_short(void **state)
{
    (void)state;
    struct tcache *t = new_cache();
    const unsigned bin = 3;
    t->aged_ms = os_clock_ms();
    uint64_t seed = 11;
    for (unsigned round = 0; round < 4; round++) {
        uint64_t before = t->heap.bins[bin].refill_blocks;
        unsigned longest = 0, count = 0;
        while (count < 6000 || magazine_count(t, bin) != 0) { /* what is left in order would go back so */
            held[count++] = cache_take(t, bin);
            const uint64_t now = t->heap.bins[bin].refill_blocks;
            longest = now - before > longest ? (unsigned)(now - before) : longest;
            before = now;
        }
        assert_in_range(longest, 16, 128);
        for (unsigned i = count - 1; i > 0; i--) {
            const unsigned other = (unsigned)(next_random(&seed) % (i + 1));
            void *const block = held[i];
            held[i] = held[other];
            held[other] = block;
        }
        before = t->heap.bins[bin].flush_blocks;
        longest = 0;
        for (unsigned i = 0; i < count; i++) {
            cache_give(t, bin, held[i]);
            const uint64_t now = t->heap.bins[bin].flush_blocks;
            longest = now - before > longest ? (unsigned)(now - before) : longest;
            before = now;
        }
        assert_in_range(longest, 8, 48); /* 128 in order; a few may be neighbours by chance */
        assert_true(cache_is_valid(t));
    }
    give_back_and_check(t);
}

static void test_growth_is_earned_by_round_trips(void **state)
{
    (void)state;
    struct tcache *t = new_cache();
    const unsigned bin = 9;
    const uint32_t first = t->bins[bin].capacity;
    /* Frees alone: overflows, but nothing is ever asked for again. */
    unsigned count = 0;
    while (count < 100)
        held[count++] = cache_take(t, bin);
    uint32_t capacity = t->bins[bin].capacity;
    give_all(t, bin, count);
    assert_int_equal(t->bins[bin].capacity, capacity);
    assert_true(capacity <= 4 * first);
    /* Hits alone change nothing either. */
    for (unsigned i = 0; i < 1000; i++) {
        held[0] = cache_take(t, bin);
        cache_give(t, bin, held[0]);
    }
    assert_int_equal(t->bins[bin].capacity, capacity);
    /* One overflow, one refill: one doubling. */
    for (count = 0; magazine_count(t, bin) != 0; count++)
        held[count] = hot_pop(&t->hot.bins[bin]);
    held[count++] = tcache_refill(t, bin);
    assert_int_equal(t->bins[bin].capacity, 2 * capacity);
    held[count++] = cache_take(t, bin);
    assert_int_equal(t->bins[bin].capacity, 2 * capacity);
    give_all(t, bin, count);
    /* Enough of them: up to the ceiling, and not beyond. */
    for (unsigned i = 0; i < 12; i++) {
        for (count = 0; count < 2 * magazine_ceiling(t, bin); count++)
            held[count] = cache_take(t, bin);
        give_all(t, bin, count);
        assert_true(t->bins[bin].capacity <= magazine_ceiling(t, bin));
        assert_true(cache_is_valid(t));
    }
    assert_int_equal(t->bins[bin].capacity, magazine_ceiling(t, bin));
    give_back_and_check(t);
}

/* The learner's way: what lies above a lower ceiling goes back, the oldest first; a full magazine follows a higher one. */
static void test_a_ceiling_moves(void **state)
{
    (void)state;
    const unsigned bin = 3;
    struct tcache *t = new_cache();
    unsigned count;
    for (unsigned i = 0; i < 20; i++) {
        for (count = 0; count < 1500; count++)
            held[count] = cache_take(t, bin);
        give_all(t, bin, count);
    }
    assert_int_equal(t->bins[bin].capacity, 512);
    void *const newest = *t->hot.bins[bin].top;
    const uint32_t have = magazine_count(t, bin);
    assert_true(have > 100);
    tcache_set_ceiling(t, bin, 100);
    assert_int_equal(t->bins[bin].capacity, 100);
    assert_int_equal(magazine_count(t, bin), 100);
    assert_ptr_equal(*t->hot.bins[bin].top, newest);
    assert_true(cache_is_valid(t));
    tcache_set_ceiling(t, bin, 190);
    assert_int_equal(t->bins[bin].capacity, 190);
    tcache_set_ceiling(t, bin, 700);
    assert_int_equal(t->bins[bin].capacity, 380); /* doubling, as ever */
    tcache_set_ceiling(t, bin, 800);
    assert_int_equal(t->bins[bin].capacity, 380); /* it had not come up to its ceiling */
    assert_true(cache_is_valid(t));
    tcache_set_ceiling(t, bin + 1, 3); /* of a bin that is not open yet: what it will ask for */
    assert_int_equal(t->bins[bin + 1].capacity, 3);
    held[0] = cache_take(t, bin + 1);
    assert_int_equal(t->bins[bin + 1].capacity, 3);
    cache_give(t, bin + 1, held[0]);
    give_back_and_check(t);
}

/* Turns: refills that follow a flush, and how many blocks had been refilled by then. */
static void test_turns_are_counted(void **state)
{
    (void)state;
    struct tcache *t = new_cache();
    unsigned count;
    for (unsigned i = 0; i < 5; i++) {
        for (count = 0; count < 2000; count++)
            held[count] = cache_take(t, 3);
        assert_int_equal(t->bins[3].turns, 2 * i);
        give_all(t, 3, count);
        assert_int_equal(t->bins[3].turns, 2 * i + 1);
    }
    const uint64_t refilled = t->heap.bins[3].refill_blocks;
    for (count = 0; magazine_count(t, 3) != 0; count++)
        held[count] = hot_pop(&t->hot.bins[3]);
    held[count++] = tcache_refill(t, 3);
    assert_int_equal(t->bins[3].turned_blocks, refilled);
    give_all(t, 3, count);
    give_back_and_check(t);
}

/* Caps are ceilings whatever the traffic, from one object on. */
static void test_ceilings_are_obeyed(void **state)
{
    (void)state;
    const uint32_t caps[] = {1, 2, 3, 17};
    for (unsigned c = 0; c < ARRAY_COUNT(caps); c++) {
        set_bin_policy(7, caps[c], 1);
        struct tcache *t = new_cache();
        uint64_t seed = 3;
        unsigned count = 0;
        for (unsigned i = 0; i < 4000; i++) {
            const unsigned burst = (unsigned)(next_random(&seed) % 40);
            if (next_random(&seed) % 2 == 0 || count < burst) {
                for (unsigned k = 0; k < burst && count < 300; k++) {
                    held[count] = cache_take(t, 7);
                    assert_non_null(held[count++]);
                }
            } else {
                for (unsigned k = 0; k < burst; k++)
                    cache_give(t, 7, held[--count]);
            }
            assert_true(magazine_count(t, 7) <= caps[c]);
            assert_true(t->bins[7].capacity <= caps[c]);
        }
        give_all(t, 7, count);
        give_back_and_check(t);
    }
}

static void test_idle_bins_give_up_their_share(void **state)
{
    (void)state;
    struct tcache *t = new_cache();
    void *block = cache_take(t, 4), *other = cache_take(t, 9);
    cache_give(t, 4, block);
    const uint64_t entitled_before = t->entitled_bytes;
    tcache_close_idle(t); /* both have moved a batch since the beginning */
    assert_int_equal(t->entitled_bytes, entitled_before);
    cache_give(t, 9, other);
    for (unsigned i = 0; i < 40; i++)
        held[i] = cache_take(t, 9);
    tcache_close_idle(t);
    assert_false(t->bins[4].opened);
    assert_true(t->bins[9].opened);
    assert_int_equal(magazine_count(t, 4), 0);
    assert_int_equal(t->heap.bins[4].outstanding, 0);
    assert_true(t->entitled_bytes < entitled_before + 40 * 192);
    assert_true(cache_is_valid(t));
    assert_non_null(block = cache_take(t, 4)); /* asks anew */
    assert_true(t->bins[4].opened);
    cache_give(t, 4, block);
    for (unsigned i = 0; i < 40; i++)
        cache_give(t, 9, held[i]);
    assert_true(cache_is_valid(t));
    give_back_and_check(t);
}

static void test_the_richest_bin_makes_room(void **state)
{
    (void)state;
    struct tcache *t = new_cache();
    cache_give(t, 11, cache_take(t, 11));
    while (magazine_grow(t, 11))
        ;
    store_relaxed(&policy_live.thread_cache_bytes, t->entitled_bytes); /* spent, by one bin */
    const uint32_t rich = t->bins[11].capacity;
    cache_give(t, 15, cache_take(t, 15));
    assert_int_equal(t->bins[11].capacity, rich / 2);
    assert_int_equal(t->bins[15].capacity, 16);
    assert_true(t->entitled_bytes <= policy_live.thread_cache_bytes);
    assert_true(cache_is_valid(t));
    store_relaxed(&policy_live.thread_cache_bytes, 4 << 20);
    assert_true(magazine_grow(t, 11)); /* into the array that it still has */
    assert_int_equal(t->bins[11].capacity, rich);
    assert_true(cache_is_valid(t));
    give_back_and_check(t);
}

/* Checked: a refill brings the one block that is asked for, and nothing is cached. */
static void test_checked_mode(void **state)
{
    (void)state;
    static struct tcache checked;
    assert_true(tcache_init(&checked));
    checked.checked = true;
    for (unsigned i = 0; i < 50; i++) {
        held[i] = tcache_refill(&checked, 2);
        assert_non_null(held[i]);
        assert_int_equal(magazine_count(&checked, 2), 0);
        assert_int_equal(checked.heap.bins[2].outstanding, i + 1);
    }
    assert_int_equal(checked.bins[2].capacity, 0);
    heap_flush(&checked.heap, 2, held, 50);
    give_back_and_check(&checked);
}

static bool is_in_window(const void *block)
{
    return window_slab_index(block) < load_relaxed(&window.limit);
}

static void refill_without_memory(void *argument)
{
    struct tcache *t = argument;
    struct tcache *parked = new_cache();
    void *elsewhere[3];
    for (unsigned i = 0; i < 3; i++)
        elsewhere[i] = cache_take(parked, 23);
    for (unsigned i = 0; i < 3; i++)
        cache_give(parked, 23, elsewhere[i]);
    tcache_flush_all(parked);
    window.superslab_max = window.first_superslab;
    uint32_t slab;
    bool zeroed;
    while ((slab = arena_alloc(1, 1, NULL, &zeroed)) != SLAB_NONE)
        ;
    /* The other heap's empty slab is found before anything else. */
    unsigned count = 0;
    while (is_in_window(held[count] = cache_take(t, 22)))
        count++;
    REQUIRE(count == bin_info(22)->block_count);
    REQUIRE(held[count] != NULL); /* a mapping of its own */
    REQUIRE(cache_is_valid(t));
    cache_give(t, 22, held[0]);
    REQUIRE(cache_take(t, 22) == held[0]);
    tcache_flush_all(t);
}

static void test_memory_is_out(void **state)
{
    (void)state;
    assert_child_passes(refill_without_memory, new_cache());
}

/* A refill that finds no memory closes every bin, and may leave its blocks in the closed one. */
static void test_a_closed_bin_may_hold_blocks(void **state)
{
    (void)state;
    struct tcache *t = new_cache();
    void *block = cache_take(t, 6);
    for (uint32_t count = 1; count < 40; count++) {
        while (t->bins[6].capacity < 40)
            magazine_grow(t, 6);
        for (uint32_t i = 0; i < count; i++)
            held[i] = cache_take(t, 6);
        tcache_flush_bin(t, 6);
        for (uint32_t i = 0; i < count; i++)
            cache_give(t, 6, held[i]);
        assert_int_equal(magazine_count(t, 6), count);
        magazine_close(t, 6);
        cache_give(t, 6, block);
        assert_true(t->hot.bins[6].top <= t->hot.bins[6].end);
        assert_int_equal(t->hot.bins[6].end - t->bins[6].bottom, t->bins[6].capacity);
        assert_int_equal(t->heap.bins[6].outstanding, magazine_count(t, 6));
        block = cache_take(t, 6);
        tcache_flush_bin(t, 6);
    }
    cache_give(t, 6, block);
    tcache_flush_all(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_first_refill_is_the_configured_batch, reset_policy),
        cmocka_unit_test_setup(test_consecutive_refills_double, reset_policy),
        cmocka_unit_test_setup(test_batches_are_bounded_in_bytes, reset_policy),
        cmocka_unit_test_setup(test_flush_keeps_the_newest, reset_policy),
        cmocka_unit_test_setup(test_magazines_slide_in_their_arrays, reset_policy),
        cmocka_unit_test_setup(test_scattered_batches_are_short, reset_policy),
        cmocka_unit_test_setup(test_growth_is_earned_by_round_trips, reset_policy),
        cmocka_unit_test_setup(test_a_ceiling_moves, reset_policy),
        cmocka_unit_test_setup(test_turns_are_counted, reset_policy),
        cmocka_unit_test_setup(test_ceilings_are_obeyed, reset_policy),
        cmocka_unit_test_setup(test_idle_bins_give_up_their_share, reset_policy),
        cmocka_unit_test_setup(test_the_richest_bin_makes_room, reset_policy),
        cmocka_unit_test_setup(test_checked_mode, reset_policy),
        cmocka_unit_test_setup(test_memory_is_out, reset_policy),
        cmocka_unit_test_setup(test_a_closed_bin_may_hold_blocks, reset_policy),
    };
    return cmocka_run_group_tests_name("refill", tests, NULL, NULL);
}
