#include "unit.h"

#include "arena/superslab.h"

static int claim_by_hand(uint32_t free_mask, unsigned count, unsigned alignment)
{
    for (unsigned first = 0; first + count <= SUPERSLAB_SLABS; first += alignment)
        if ((free_mask >> first & mask32(count)) == mask32(count))
            return (int)first;
    return -1;
}

static void test_claims_the_lowest_that_fits(void **state)
{
    (void)state;
    uint64_t seed = 7;
    for (unsigned i = 0; i < 3000; i++) {
        const uint64_t r = next_random(&seed);
        const uint32_t free_mask = i % 2 == 0 ? (uint32_t)r : (uint32_t)r | (uint32_t)(r >> 32);
        for (unsigned count = 1; count <= SUPERSLAB_SLABS; count++) {
            const unsigned alignment = 1u << (r >> 40) % 6;
            struct superslab s = {.free_mask = free_mask};
            bool clean = false;
            const int first = superslab_claim(&s, UINT32_MAX, count, alignment, &clean);
            assert_int_equal(first, claim_by_hand(free_mask, count, alignment));
            const uint32_t claimed = first < 0 ? 0 : mask32(count) << first;
            assert_int_equal(s.free_mask, free_mask & ~claimed);
            assert_int_equal(s.dirty_mask, claimed);
            assert_int_equal(clean, first >= 0);
        }
    }
}

static void test_every_pattern_of_a_few_slabs(void **state)
{
    (void)state;
    for (uint32_t free_mask = 0; free_mask < 1u << 10; free_mask++) {
        for (unsigned count = 1; count <= 10; count++) {
            for (unsigned alignment = 1; alignment <= 8; alignment *= 2) {
                struct superslab s = {.free_mask = free_mask};
                bool clean;
                assert_int_equal(superslab_claim(&s, UINT32_MAX, count, alignment, &clean),
                                 claim_by_hand(free_mask, count, alignment));
            }
        }
    }
}

static void test_whole_and_empty(void **state)
{
    (void)state;
    bool clean;
    struct superslab s = {.free_mask = UINT32_MAX};
    assert_int_equal(superslab_claim(&s, UINT32_MAX, 32, 32, &clean), 0);
    assert_int_equal(s.free_mask, 0);
    assert_int_equal(superslab_claim(&s, UINT32_MAX, 1, 1, &clean), -1);
    assert_int_equal(superslab_release(&s, UINT32_MAX), 0);
    assert_int_equal(s.free_mask, UINT32_MAX);
}

static void test_clean_means_all_of_it(void **state)
{
    (void)state;
    bool clean;
    struct superslab s = {.free_mask = 0xff, .dirty_mask = 0x04, .idle_mask = 0x0f};
    assert_int_equal(superslab_claim(&s, UINT32_MAX, 2, 1, &clean), 0);
    assert_true(clean);
    assert_int_equal(s.dirty_mask, 0x07);
    assert_int_equal(s.idle_mask, 0x0c); /* the claimed ones are idle no longer */
    assert_int_equal(superslab_claim(&s, UINT32_MAX, 2, 1, &clean), 2);
    assert_false(clean); /* one of the two */
    assert_int_equal(superslab_release(&s, 0x03), 0xf0);
    assert_int_equal(superslab_claim(&s, UINT32_MAX, 1, 1, &clean), 0);
    assert_false(clean);
}

/* From its first use on it is like any other: all of it holds pages, which are to decay. */
static void test_prewarmed_until_used(void **state)
{
    (void)state;
    bool clean = false;
    struct superslab s = {.free_mask = UINT32_MAX, .prewarmed = 1};
    assert_int_equal(superslab_claim(&s, UINT32_MAX, 2, 1, &clean), 0);
    assert_true(clean);
    assert_int_equal(s.prewarmed, 0);
    assert_int_equal(s.dirty_mask, UINT32_MAX);
}

static void test_claim_exact(void **state)
{
    (void)state;
    bool clean;
    uint64_t held = 0;
    struct superslab s = {.free_mask = 0xf0f0, .dirty_mask = 0x1000};
    assert_false(superslab_claim_exact(&s, 0x01f0, &clean, &held));
    assert_int_equal(held, 0);
    assert_int_equal(s.free_mask, 0xf0f0);
    assert_int_equal(s.dirty_mask, 0x1000);
    assert_true(superslab_claim_exact(&s, 0x0030, &clean, &held));
    assert_true(clean);
    assert_int_equal(held, superslab_held(2, 0));
    assert_true(superslab_claim_exact(&s, 0x3000, &clean, &held));
    assert_false(clean);
    assert_int_equal(held, superslab_held(4, -(uint64_t)1)); /* one of them held pages */
    assert_int_equal(s.free_mask, 0xc0c0);
    assert_int_equal(s.dirty_mask, 0x3030);
}

/* Two counts in one word: neither runs over into the other, whichever way they change. */
static void test_counts(void **state)
{
    (void)state;
    bool clean;
    superslab_counts = (struct superslab_counts){0};
    struct superslab s = {.free_mask = UINT32_MAX, .dirty_mask = 0x0000000f};
    superslab_count(superslab_held(0, 4));
    assert_int_equal(superslab_claim(&s, UINT32_MAX, 6, 1, &clean), 0);
    assert_int_equal(superslab_claimed_count(), 6);
    assert_int_equal(superslab_free_resident_count(), 0);
    superslab_count(-superslab_counted(&s, 0x3f));
    superslab_release(&s, 0x3f);
    assert_int_equal(superslab_claimed_count(), 0);
    assert_int_equal(superslab_free_resident_count(), 6);
    assert_int_equal(superslab_claim_free(&s, 0x1ff), 0x1ff);
    assert_int_equal(superslab_claimed_count(), 9);
    assert_int_equal(superslab_free_resident_count(), 0);
    superslab_note_clean(&s, 0x3);
    superslab_count(-superslab_counted(&s, 0x1ff));
    superslab_release(&s, 0x1ff);
    assert_int_equal(superslab_claimed_count(), 0);
    assert_int_equal(superslab_free_resident_count(), 4);
    assert_true(superslab_claim_empty(&s));
    assert_int_equal(superslab_claimed_count(), 32);
    assert_int_equal(superslab_free_resident_count(), 0);
}

static void release_twice(void *argument)
{
    struct superslab *s = argument;
    superslab_release(s, 0x6);
    superslab_release(s, 0x4);
}

static void test_released_twice_is_fatal(void **state)
{
    (void)state;
    struct superslab s = {.free_mask = 0x1};
    assert_aborts(release_twice, &s, "internal error: slab released twice", &s);
}

#define THREADS 4u
#define ROUNDS 20000u

static struct superslab contended;
static uint32_t users[SUPERSLAB_SLABS]; /* plain on purpose: whoever has claimed the slab is alone with it */
static uint32_t overlaps;

static void *claim_and_release(void *argument)
{
    uint64_t seed = *(uint64_t *)argument;
    for (unsigned i = 0; i < ROUNDS; i++) {
        const uint64_t r = next_random(&seed);
        const unsigned count = 1 + (unsigned)(r >> 8) % 9;
        bool clean;
        uint32_t claimed;
        if (r % 4 == 0) {
            claimed = mask32(count) << (r >> 20) % (SUPERSLAB_SLABS - count + 1);
            uint64_t held = 0;
            if (!superslab_claim_exact(&contended, claimed, &clean, &held))
                continue;
            superslab_count(held);
        } else {
            const int first = superslab_claim(&contended, UINT32_MAX, count, 1u << (r >> 16) % 4, &clean);
            if (first < 0)
                continue;
            claimed = mask32(count) << first;
        }
        for (uint32_t left = claimed; left != 0; left &= left - 1)
            if (users[lowest_bit(left)]++ != 0)
                fetch_add_relaxed(&overlaps, 1);
        for (uint32_t left = claimed; left != 0; left &= left - 1)
            users[lowest_bit(left)]--;
        superslab_count(-superslab_counted(&contended, claimed));
        superslab_release(&contended, claimed);
    }
    return NULL;
}

static void test_concurrent_claims_never_overlap(void **state)
{
    (void)state;
    uint64_t seeds[THREADS] = {11, 22, 33, 44};
    contended = (struct superslab){.free_mask = UINT32_MAX};
    superslab_counts = (struct superslab_counts){0};
    run_threads(THREADS, claim_and_release, seeds, sizeof seeds[0]);
    assert_int_equal(overlaps, 0);
    assert_int_equal(contended.free_mask, UINT32_MAX);
    assert_int_equal(superslab_claimed_count(), 0);
    assert_int_equal(superslab_free_resident_count(), count_bits(contended.dirty_mask));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_claims_the_lowest_that_fits),
        cmocka_unit_test(test_every_pattern_of_a_few_slabs),
        cmocka_unit_test(test_whole_and_empty),
        cmocka_unit_test(test_clean_means_all_of_it),
        cmocka_unit_test(test_prewarmed_until_used),
        cmocka_unit_test(test_claim_exact),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_released_twice_is_fatal),
        cmocka_unit_test(test_concurrent_claims_never_overlap),
    };
    return cmocka_run_group_tests_name("superslab", tests, NULL, NULL);
}
