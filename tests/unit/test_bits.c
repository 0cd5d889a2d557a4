#include "unit.h"

static void test_alignment(void **state)
{
    (void)state;
    for (unsigned shift = 0; shift < 64; shift++) {
        const uint64_t a = (uint64_t)1 << shift;
        assert_true(is_power_of_two(a));
        assert_int_equal(align_up(0, a), 0);
        assert_int_equal(align_up(1, a), a);
        assert_int_equal(align_up(a, a), a);
        assert_int_equal(align_down(a, a), a);
        assert_int_equal(align_down(a - 1, a), 0);
        assert_int_equal(lowest_bit(a), shift);
        assert_int_equal(highest_bit(a), shift);
        assert_int_equal(highest_bit(a | 1), shift);
        assert_int_equal(lowest_bit(a | (uint64_t)1 << 63), shift);
    }
    assert_false(is_power_of_two(0));
    assert_false(is_power_of_two(3));
    assert_false(is_power_of_two(UINT64_MAX));
    assert_int_equal(align_up(4097, 4096), 8192);
    assert_int_equal(align_down(UINT64_MAX, 4096), UINT64_MAX - 4095);
}

static void test_counts(void **state)
{
    (void)state;
    assert_int_equal(count_bits(0), 0);
    assert_int_equal(count_bits(UINT64_MAX), 64);
    assert_int_equal(count_bits(0x8000000000000001u), 2);
    for (unsigned count = 0; count <= 32; count++) {
        assert_int_equal(count_bits(mask32(count)), count);
        assert_int_equal((uint64_t)mask32(count) + 1, (uint64_t)1 << count);
    }
    assert_int_equal(mask32(1000), UINT32_MAX); /* "the rest of a run" may be more than a word */
}

static uint32_t runs_bit_by_bit(uint32_t mask, unsigned count)
{
    uint32_t runs = 0;
    for (unsigned i = 0; i + count <= 32; i++)
        if ((mask >> i & mask32(count)) == mask32(count))
            runs |= 1u << i;
    return runs;
}

static void test_runs_of_every_small_mask(void **state)
{
    (void)state;
    for (uint32_t mask = 0; mask < 1u << 13; mask++) {
        for (unsigned count = 1; count <= 14; count++) {
            assert_int_equal(runs_of(mask, count), runs_bit_by_bit(mask, count));
            assert_int_equal(runs_of(mask << 19, count), runs_bit_by_bit(mask << 19, count));
        }
    }
}

static void test_runs_of_wide_masks(void **state)
{
    (void)state;
    uint64_t seed = 1;
    for (unsigned i = 0; i < 20000; i++) {
        const uint64_t r = next_random(&seed);
        uint32_t mask = (uint32_t)r | (uint32_t)(r >> 32); /* mostly ones: long runs */
        if (i % 3 == 0)
            mask |= (uint32_t)(next_random(&seed) >> 20);
        for (unsigned count = 1; count <= 32; count++)
            assert_int_equal(runs_of(mask, count), runs_bit_by_bit(mask, count));
    }
    assert_int_equal(runs_of(UINT32_MAX, 32), 1);
    assert_int_equal(runs_of(UINT32_MAX, 31), 3);
    assert_int_equal(runs_of(UINT32_MAX - 1, 32), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alignment),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_runs_of_every_small_mask),
        cmocka_unit_test(test_runs_of_wide_masks),
    };
    return cmocka_run_group_tests_name("bits", tests, NULL, NULL);
}
