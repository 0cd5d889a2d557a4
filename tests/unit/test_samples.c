#include "unit.h"

#include "learn/samples.h"

static struct learn_choice choose(const struct learn_bin *bin, unsigned percent)
{
    struct learn_choice choice;
    assert_true(learn_bin_choose(bin, percent, &choice));
    assert_in_range(choice.refill, 1, choice.cap);
    return choice;
}

static void test_nothing_learned(void **state)
{
    (void)state;
    struct learn_bin bin = {0};
    struct learn_choice choice;
    assert_false(learn_bin_choose(&bin, 90, &choice));
    learn_bin_add(&bin, 100, 0, 50); /* no miss, no say */
    assert_int_equal(bin.cache_count, 0);
    assert_false(learn_bin_choose(&bin, 90, &choice));
}

static void test_percentile(void **state)
{
    (void)state;
    struct learn_bin bin = {0};
    learn_bin_add(&bin, 64, 50, 50 * 8);
    learn_bin_add(&bin, 16, 40, 40 * 8);
    learn_bin_add(&bin, 512, 10, 10 * 8);
    assert_int_equal(choose(&bin, 90).cap, 64); /* 90 of 100 misses lie at or below */
    assert_int_equal(choose(&bin, 91).cap, 512);
    assert_int_equal(choose(&bin, 40).cap, 16);
    assert_int_equal(choose(&bin, 0).cap, 16);
    assert_int_equal(choose(&bin, 100).cap, 512);
    assert_int_equal(choose(&bin, 90).misses, 100);
    assert_int_equal(bin.cache_count, 3);
    assert_int_equal(bin.sample_count, 3);
    learn_bin_add(&bin, 64, 1000, 0);
    assert_int_equal(bin.sample_count, 3);
    assert_int_equal(choose(&bin, 95).cap, 64);
}

/* One thread among many that misses seldom does not decide, and one that misses most does. */
static void test_weight_decides_not_number(void **state)
{
    (void)state;
    struct learn_bin quiet = {0}, loud = {0};
    for (unsigned i = 0; i < 50; i++) {
        learn_bin_add(&quiet, 32, 100, 800);
        learn_bin_add(&loud, 32, 1, 8);
    }
    learn_bin_add(&quiet, 512, 10, 80);
    learn_bin_add(&loud, 512, 100000, 800000);
    assert_int_equal(choose(&quiet, 90).cap, 32);
    assert_int_equal(choose(&loud, 90).cap, 512);
}

static void test_refill(void **state)
{
    (void)state;
    struct learn_bin bin = {0};
    learn_bin_add(&bin, 100, 10, 160);
    learn_bin_add(&bin, 100, 30, 240);
    assert_int_equal(choose(&bin, 90).refill, 10); /* 400 / 40 */
    struct learn_bin wide = {0};
    learn_bin_add(&wide, 4, 10, 1000);
    assert_int_equal(choose(&wide, 90).refill, 4);
    struct learn_bin none = {0};
    learn_bin_add(&none, 0, 10, 0);
    assert_int_equal(choose(&none, 90).cap, 1);
}

static void test_more_caps_than_room(void **state)
{
    (void)state;
    struct learn_bin bin = {0};
    uint64_t random = 7;
    for (unsigned i = 0; i < 5000; i++)
        learn_bin_add(&bin, (uint32_t)(next_random(&random) % 10000 + 1), 1, 1);
    learn_bin_add(&bin, 65535, 1, 1);
    assert_int_equal(bin.sample_count, LEARN_SAMPLE_MAX);
    for (unsigned i = 1; i < bin.sample_count; i++)
        assert_true(bin.samples[i - 1].cap < bin.samples[i].cap);
    assert_int_equal(choose(&bin, 100).misses, 5001);
    assert_int_equal(choose(&bin, 100).cap, 65535);
    assert_true(choose(&bin, 50).cap >= 5000); /* never less than what half of them used */
}

static void test_large_numbers(void **state)
{
    (void)state;
    struct learn_bin bin = {0};
    learn_bin_add(&bin, 8, UINT64_MAX, UINT64_MAX);
    learn_bin_add(&bin, 9, UINT64_MAX, UINT64_MAX);
    assert_int_equal(choose(&bin, 90).cap, 8);
    assert_int_equal(choose(&bin, 90).misses, UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_learned),
        cmocka_unit_test(test_percentile),
        cmocka_unit_test(test_weight_decides_not_number),
        cmocka_unit_test(test_refill),
        cmocka_unit_test(test_more_caps_than_room),
        cmocka_unit_test(test_large_numbers),
    };
    return cmocka_run_group_tests_name("samples", tests, NULL, NULL);
}
