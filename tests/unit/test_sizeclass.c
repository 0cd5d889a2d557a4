#include "unit.h"

#include "slab/sizeclass.h"
#include "tcache/hot.h"

enum { WHOLE_PAGES_BYTES = 8192, SHARED_PAGES_BYTES = 8256 }; /* two bins for the same sizes: decision 0037 */

static unsigned smallest_but(size_t but, size_t bytes)
{
    unsigned bin = 0;
    while (bin_table[bin].block_bytes < bytes || bin_table[bin].block_bytes == but)
        bin++;
    return bin;
}

/* A bin of its own for sizes of 8,193 to 8,256 would do good to nobody. */
static unsigned for_malloc(size_t bytes)
{
    return smallest_but(bytes > WHOLE_PAGES_BYTES ? SHARED_PAGES_BYTES : WHOLE_PAGES_BYTES, bytes);
}

static void test_every_size_gets_the_smallest_bin(void **state)
{
    (void)state;
    for (size_t bytes = 0; bytes <= MEDIUM_MAX_BYTES; bytes++)
        assert_int_equal(bin_of_size(bytes), for_malloc(bytes));
    assert_int_equal(bin_table[BIN_COUNT - 1].block_bytes, MEDIUM_MAX_BYTES);
    assert_int_equal(bin_table[TINY_BIN_COUNT - 1].block_bytes, TINY_MAX_BYTES);
}

static void test_bins_are_those_that_users_configure(void **state)
{
    (void)state;
    for (unsigned bin = 0; bin < TINY_BIN_COUNT; bin++)
        assert_int_equal(bin_table[bin].block_bytes, tiny_bin_bytes(bin));
}

static void test_hit_path_tables_agree(void **state)
{
    (void)state;
    for (size_t bytes = 0; bytes <= TINY_MAX_BYTES; bytes++)
        assert_int_equal(hot_static.tiny_top[bytes], bin_of_size(bytes) * HOT_TOP_STRIDE);
    for (size_t bytes = TINY_MAX_BYTES + 1; bytes <= MEDIUM_MAX_BYTES; bytes++)
        assert_int_equal(bin_medium_offset[(bytes + 511) / 512], for_malloc(bytes) * BIN_STRIDE_BYTES);
}

static void test_waste_is_bounded(void **state)
{
    (void)state;
    for (size_t bytes = 1; bytes <= MEDIUM_MAX_BYTES; bytes++) {
        const size_t block = bin_table[bin_of_size(bytes)].block_bytes;
        if (bytes <= 64)
            assert_true(block - bytes < 16);
        else
            assert_true((block - bytes) * 5 <= block); /* a fifth */
    }
}

static void test_neighbours_of_8_kib_share_a_page(void **state)
{
    (void)state;
    const size_t block = bin_table[bin_of_size(WHOLE_PAGES_BYTES)].block_bytes, page = 4096;
    const unsigned count = bin_table[bin_of_size(WHOLE_PAGES_BYTES)].block_count;
    for (unsigned i = 1; i + 1 < count; i++) /* the last byte of one, the first of the next */
        assert_int_equal((i * block + WHOLE_PAGES_BYTES - 1) / page, (i + 1) * block / page);
    assert_int_equal(block % 64, 0); /* whole cache lines */
}

static void test_bins_are_sound(void **state)
{
    (void)state;
    for (unsigned bin = 0; bin < BIN_COUNT; bin++) {
        const struct bin_info *info = bin_info(bin);
        const size_t run_bytes = SLAB_BYTES << info->run_slabs_log2;
        assert_int_equal(info->block_bytes % 16, 0);
        assert_true(bin == 0 || info->block_bytes > bin_table[bin - 1].block_bytes);
        assert_true(info->run_slabs_log2 <= 2);
        assert_int_equal(info->block_count, run_bytes / info->block_bytes);
        assert_true(info->block_count >= 8);
        assert_int_equal(info->word_count, (info->block_count + 63) / 64);
        assert_true(info->word_count * sizeof(uint64_t) <= BITMAP_BYTES);
        assert_true((run_bytes - (size_t)info->block_count * info->block_bytes) * 100 < run_bytes * 7);
    }
    assert_true(BIN_COUNT * BIN_STRIDE_BYTES < 1u << MAP_OWNER_SHIFT);
}

static void test_reciprocals_tell_multiples_from_others(void **state)
{
    (void)state;
    unsigned wrong = 0;
    for (unsigned bin = 0; bin < BIN_COUNT; bin++) {
        const struct bin_info *info = bin_info(bin);
        const uint32_t run_bytes = (uint32_t)SLAB_BYTES << info->run_slabs_log2;
        for (uint32_t offset = 0, number = 0, rest = 0; offset < run_bytes; offset++) {
            const uint32_t index = bin_block_index(info, offset);
            if (rest == 0)
                wrong += index != number;
            else
                wrong += index * info->block_bytes == offset; /* an interior pointer would pass for a block */
            if (++rest == info->block_bytes) {
                rest = 0;
                number++;
            }
        }
    }
    assert_int_equal(wrong, 0);
}

static void test_aligned(void **state)
{
    (void)state;
    for (size_t alignment = 1; alignment <= 65536; alignment *= 2) {
        for (size_t bytes = 0; bytes <= MEDIUM_MAX_BYTES + 2; bytes += bytes < 300 ? 1 : 37) {
            unsigned want = BIN_COUNT;
            for (unsigned bin = BIN_COUNT; bin-- > 0;)
                if (bin_table[bin].block_bytes >= bytes && bin_table[bin].block_bytes % alignment == 0 &&
                    bin_table[bin].block_bytes != SHARED_PAGES_BYTES)
                    want = bin;
            assert_int_equal(bin_of_aligned(bytes, alignment), want);
        }
    }
    assert_int_equal(bin_of_aligned(SIZE_MAX, 16), BIN_COUNT);
    assert_int_equal(bin_of_aligned(1, (size_t)1 << 40), BIN_COUNT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_size_gets_the_smallest_bin),
        cmocka_unit_test(test_bins_are_those_that_users_configure),
        cmocka_unit_test(test_hit_path_tables_agree),
        cmocka_unit_test(test_waste_is_bounded),
        cmocka_unit_test(test_neighbours_of_8_kib_share_a_page),
        cmocka_unit_test(test_bins_are_sound),
        cmocka_unit_test(test_reciprocals_tell_multiples_from_others),
        cmocka_unit_test(test_aligned),
    };
    return cmocka_run_group_tests_name("sizeclass", tests, NULL, NULL);
}
