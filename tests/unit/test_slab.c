#include "unit.h"

#include "fresh_arena.h"
#include "slab/put.h"
#include "slab/take.h"

/* A run for the bin, as the heap attaches it. */
static uint32_t new_run(unsigned bin)
{
    bool zeroed;
    const uint32_t slabs = 1u << bin_info(bin)->run_slabs_log2;
    const uint32_t slab = arena_alloc(slabs, slabs, NULL, &zeroed);
    CHECK(slab != SLAB_NONE, "memory for the test", NULL);
    slab_init(slab, bin);
    for (uint32_t i = 0; i < slabs; i++)
        store_relaxed(window_word(slab + i), 1u << MAP_OWNER_SHIFT | bin * BIN_STRIDE_BYTES);
    return slab;
}

static int fresh(void **state)
{
    (void)state;
    fresh_arena();
    return 0;
}

static char *block_of(uint32_t slab, const struct bin_info *info, uint32_t number)
{
    return (char *)window_slab_address(slab) + (size_t)number * info->block_bytes;
}

/* Returns the new number of free blocks. */
static uint32_t put_one(uint32_t slab, const struct bin_info *info, void *block)
{
    const struct slab *s = slab_at(slab);
    const uint32_t before = s->free_count;
    const bool turned = slab_put(slab_at(slab), slab_divisor(info), slab_product(slab_divisor(info), (uintptr_t)block), &block);
    assert_int_equal(s->free_count, before + 1);
    if (before == 0 || before + 1 == info->block_count)
        assert_true(turned);
    return s->free_count;
}

static unsigned take(uint32_t slab, void **last, unsigned want)
{
    const unsigned count = want < slab_at(slab)->free_count ? want : slab_at(slab)->free_count;
    if (count != 0)
        slab_take(slab, last, count);
    return count;
}

static void test_fresh_slab_gives_its_blocks_in_order(void **state)
{
    (void)state;
    for (unsigned bin = 0; bin < BIN_COUNT; bin++) {
        const struct bin_info *info = bin_info(bin);
        const uint32_t slab = new_run(bin);
        void *out[SLAB_BYTES / 16 + 1];
        assert_true(slab_is_valid(slab));
        assert_int_equal(slab_at(slab)->free_count, info->block_count);
        assert_int_equal(slab_at(slab)->run_slabs, 1u << info->run_slabs_log2);
        assert_int_equal(take(slab, &out[0], 1), 1); /* downwards from the last: a LIFO reader meets it first */
        assert_ptr_equal(out[0], block_of(slab, info, 0));
        const unsigned rest = info->block_count - 1u;
        assert_int_equal(take(slab, &out[rest], rest + 1), rest);
        for (unsigned i = 0; i < rest; i++)
            assert_ptr_equal(out[rest - i], block_of(slab, info, 1 + i));
        assert_int_equal(slab_at(slab)->free_count, 0);
        assert_true(slab_is_valid(slab));
        assert_int_equal(take(slab, &out[0], 1), 0);
        assert_true((char *)out[1] + info->block_bytes <=
                    (char *)window_slab_address(slab) + (SLAB_BYTES << info->run_slabs_log2));
    }
}

static void test_lowest_free_block_first(void **state)
{
    (void)state;
    const unsigned bins[] = {0, 3, 11, 23, 31, BIN_COUNT - 1};
    for (unsigned b = 0; b < ARRAY_COUNT(bins); b++) {
        const struct bin_info *info = bin_info(bins[b]);
        const uint32_t slab = new_run(bins[b]);
        const unsigned used = info->block_count - 2u;
        void *out[SLAB_BYTES / 16];
        assert_int_equal(take(slab, &out[used - 1], used), used);
        const uint32_t freed[] = {used - 1, 1, used / 2, 0};
        for (unsigned i = 0; i < ARRAY_COUNT(freed); i++)
            assert_int_equal(put_one(slab, info, block_of(slab, info, freed[i])), 3 + i);
        assert_true(slab_is_valid(slab));
        const uint32_t order[] = {0, 1, used / 2, used - 1, used, used + 1}; /* recycled ones, then fresh ones */
        assert_int_equal(take(slab, &out[5], 2), 2);
        assert_int_equal(take(slab, &out[3], 10), 4);
        for (unsigned i = 0; i < ARRAY_COUNT(order); i++)
            assert_ptr_equal(out[5 - i], block_of(slab, info, order[i]));
        assert_true(slab_is_valid(slab));
    }
}

/* The short way: one run at the front of the lowest word, as much of it as is wanted, or nothing. */
static void test_one_run_is_taken_alone(void **state)
{
    (void)state;
    for (unsigned bin = 0; bin < 4; bin++) {
        const struct bin_info *info = bin_info(bin);
        const uint32_t slab = new_run(bin);
        struct slab *s = slab_at(slab);
        static void *out[SLAB_BYTES / 16];
        assert_int_equal(slab_take_run(s, slab, info, out, WORD_BLOCKS + 1), 0);
        static const struct {
            unsigned want, count;
        } expect[] = {{1, 1}, {40, 40}, {64, 23}, {64, 64}, {SHORT_RUN, SHORT_RUN}, {64, 64 - SHORT_RUN}};
        for (unsigned i = 0, at = 0; i < ARRAY_COUNT(expect); at += expect[i++].count) {
            out[0] = out[expect[i].count + 1] = NULL;
            assert_int_equal(slab_take_run(s, slab, info, out, expect[i].want), expect[i].count);
            for (unsigned k = 0; k < expect[i].count; k++)
                assert_ptr_equal(out[expect[i].count - k], block_of(slab, info, at + k));
            assert_true(slab_is_valid(slab));
            assert_int_equal(s->fresh, at + expect[i].count);
            assert_null(out[0]);
            assert_null(out[expect[i].count + 1]);
        }
        put_one(slab, info, block_of(slab, info, 0));
        for (unsigned i = 2; i < 2 + SHORT_RUN; i++)
            put_one(slab, info, block_of(slab, info, i));
        assert_int_equal(slab_take_run(s, slab, info, out, 2), 0); /* a gap: not worth a batch */
        assert_int_equal(slab_take_run(s, slab, info, out, 1), 1);
        assert_int_equal(slab_take_run(s, slab, info, out, 20), SHORT_RUN);
        assert_int_equal(s->fresh, 192);
        assert_true(slab_is_valid(slab));
        s->first_word = 1; /* allowed: it says what lies below */
        assert_int_equal(slab_take_run(s, slab, info, out, 20), 0);
    }
}

/* As many as one call takes of neighbours in this direction. */
static unsigned put_run(uint32_t slab, const struct bin_info *info, void *const *run, unsigned count, bool is_up)
{
    const uint32_t before = slab_at(slab)->free_count;
    bool turned;
    const unsigned found = slab_put_neighbours(slab_at(slab), info, run, count, is_up, &turned);
    assert_int_equal(slab_at(slab)->free_count, before + found);
    assert_int_equal(turned, before == 0 || before + found == info->block_count);
    assert_true(slab_is_valid(slab));
    return found;
}

/* One call takes neighbours in one bitmap word, upwards or downwards, and no further. */
static void test_neighbours_go_back_together(void **state)
{
    (void)state;
    for (unsigned bin = 0; bin < BIN_COUNT; bin++) {
        const struct bin_info *info = bin_info(bin);
        const uint32_t slab = new_run(bin);
        static void *out[SLAB_BYTES / 16];
        static void *batch[SLAB_BYTES / 16 + 1];
        const unsigned count = info->block_count;
        for (unsigned is_up = 0; is_up < 2; is_up++) {
            assert_int_equal(take(slab, &out[count - 1], count), count);
            for (unsigned i = 0; i < count; i++)
                batch[i] = block_of(slab, info, is_up ? i : count - 1 - i);
            /* What stands behind the slab's end looks like one more neighbour where the run has no unused tail. */
            batch[count] = (char *)batch[count - 1] + (is_up ? (ptrdiff_t)info->block_bytes : -(ptrdiff_t)info->block_bytes);
            assert_true(slab_are_neighbours(info, batch[0], batch[1]));
            assert_false(slab_are_neighbours(info, batch[0], batch[2]));
            assert_int_equal(put_run(slab, info, batch, 1, is_up), 1);
            assert_int_equal(put_run(slab, info, batch + 1, 2, is_up), 2); /* never more than asked */
            for (unsigned i = 3; i < count;) {
                const unsigned number = is_up ? i : count - 1 - i;
                const unsigned in_word = is_up ? 64 - number % 64 : number % 64 + 1;
                const unsigned found = put_run(slab, info, batch + i, count + 1 - i, is_up);
                assert_int_equal(found, in_word < count - i ? in_word : count - i);
                i += found;
            }
            assert_int_equal(slab_at(slab)->free_count, count);
        }
        assert_int_equal(take(slab, &out[5], 6), 6);
        void *broken[] = {out[5], out[4], out[2], out[3], out[0]}; /* blocks 0 1 3 2 5 */
        assert_int_equal(put_run(slab, info, broken, 5, true), 2);
        assert_int_equal(put_run(slab, info, broken + 2, 3, false), 2);
        assert_int_equal(put_run(slab, info, broken + 4, 1, true), 1);
        assert_int_equal(slab_at(slab)->free_count, count - 1);
    }
}

/* Eight addresses are compared at a time: a run that ends at any place is seen to end there. */
static void test_steps_are_counted(void **state)
{
    (void)state;
    void *addresses[40];
    for (unsigned end = 1; end < ARRAY_COUNT(addresses); end++) {
        for (unsigned i = 0; i < ARRAY_COUNT(addresses); i++)
            addresses[i] = (void *)(uintptr_t)(0x10000 + i * 48 + (i == end ? 16 : 0));
        for (unsigned count = 1; count <= ARRAY_COUNT(addresses); count++)
            assert_int_equal(slab_count_steps(addresses, count, 48), count < end ? count : end);
        addresses[end] = (void *)((uintptr_t)addresses[end] - 16 + ((uintptr_t)1 << 32)); /* in the upper half */
        assert_int_equal(slab_count_steps(addresses, ARRAY_COUNT(addresses), 48), end);
    }
}

/* The bit behind the last block must exist wherever an address behind it does: slab_put has no test of its own for it. */
static void test_number_behind_the_last_block_is_padding(void **state)
{
    (void)state;
    for (unsigned bin = 0; bin < BIN_COUNT; bin++) {
        const struct bin_info *info = bin_info(bin);
        const size_t used = (size_t)info->block_count * info->block_bytes;
        assert_true(used == SLAB_BYTES << info->run_slabs_log2 || info->block_count % 64 != 0);
        assert_true((SLAB_BYTES << info->run_slabs_log2) - used < info->block_bytes);
    }
}

/* One product tells slab_put both a block's number and that its address is one's: for every offset into every run. */
static void test_what_slab_put_divides_by(void **state)
{
    (void)state;
    for (unsigned bin = 0; bin < BIN_COUNT; bin++) {
        const struct bin_info *info = bin_info(bin);
        const struct slab_divisor by = slab_divisor(info);
        uint32_t rest = 0;
        for (uint64_t offset = 0; offset <= by.run_mask; offset++) {
            const bool is_block = slab_is_multiple(by, offset * by.reciprocal);
            if (is_block != (rest == 0))
                fail_msg("bin %u, offset %u", bin, (unsigned)offset);
            rest = rest + 1 == info->block_bytes ? 0 : rest + 1;
        }
    }
}

static void test_words_of_remote_frees(void **state)
{
    (void)state;
    const struct bin_info *info = bin_info(0);
    const uint32_t slab = new_run(0);
    void *out[200];
    assert_int_equal(take(slab, &out[199], 200), 200);
    slab_put_word(slab_at(slab), slab, 1, 0xf0f0);
    slab_put_word(slab_at(slab), slab, 3, 0xff); /* blocks 192..199: up to the last one that was handed out */
    slab_put_word(slab_at(slab), slab, 0, (uint64_t)1 << 63);
    assert_int_equal(slab_at(slab)->free_count, info->block_count - 200 + 8 + 8 + 1);
    assert_true(slab_is_valid(slab));
    assert_int_equal(take(slab, &out[1], 2), 2);
    assert_ptr_equal(out[1], block_of(slab, info, 63));
    assert_ptr_equal(out[0], block_of(slab, info, 68));
}

static void test_block_numbers(void **state)
{
    (void)state;
    for (unsigned bin = 0; bin < BIN_COUNT; bin++) {
        const struct bin_info *info = bin_info(bin);
        const uint32_t slab = new_run(bin);
        for (uint32_t i = 0; i < info->block_count; i++)
            assert_int_equal(slab_block_number(info, block_of(slab, info, i)), i);
        for (uint32_t i = 0; i < 1u << info->run_slabs_log2; i++)
            assert_int_equal(slab_head(slab + i, info), slab);
    }
}

/* ---- misuse ---- */

struct misuse {
    uint32_t slab;
    const struct bin_info *info;
    void *block;
    unsigned word;
    uint64_t mask;
};

static void put(void *argument)
{
    const struct misuse *m = argument;
    put_one(m->slab, m->info, m->block);
}

static void put_neighbours(void *argument)
{
    const struct misuse *m = argument;
    void *blocks[] = {(char *)m->block - m->info->block_bytes, m->block};
    bool turned;
    slab_put_neighbours(slab_at(m->slab), m->info, blocks, 2, true, &turned);
}

static void put_word(void *argument)
{
    const struct misuse *m = argument;
    slab_put_word(slab_at(m->slab), m->slab, m->word, m->mask);
}

static void number(void *argument)
{
    const struct misuse *m = argument;
    slab_block_number(m->info, m->block);
}

static void test_misuse_is_fatal(void **state)
{
    (void)state;
    const unsigned bins[] = {0, 2, 23, 30, 36};
    for (unsigned b = 0; b < ARRAY_COUNT(bins); b++) {
        struct misuse m = {.info = bin_info(bins[b]), .slab = new_run(bins[b])};
        void *out[6];
        take(m.slab, &out[5], 6);
        m.block = out[2]; /* block 3 */
        put_one(m.slab, m.info, m.block);
        assert_aborts(put, &m, "double free", m.block);
        assert_aborts(put_neighbours, &m, "double free", m.block);
        m.mask = 0x19; /* blocks 0, 3 and 4 */
        assert_aborts(put_word, &m, "double free", m.block);
        m.block = block_of(m.slab, m.info, 6); /* never handed out */
        assert_aborts(put, &m, "double free", m.block);
        m.mask = 0x41;
        assert_aborts(put_word, &m, "double free", m.block);
        m.block = block_of(m.slab, m.info, 2) + 8;
        assert_aborts(put, &m, "free of a pointer into the middle of a block", m.block);
        assert_aborts(number, &m, "free of a pointer into the middle of a block", m.block);
        assert_true(slab_is_valid(m.slab));
    }
    /* Behind the last block, in the unused tail of the run. */
    struct misuse tail = {.info = bin_info(2), .slab = new_run(2)};
    assert_true((size_t)tail.info->block_count * tail.info->block_bytes < SLAB_BYTES);
    tail.block = block_of(tail.slab, tail.info, tail.info->block_count);
    assert_aborts(number, &tail, "free of a pointer into the middle of a block", tail.block);
    assert_aborts(put, &tail, "free of a pointer into the middle of a block", tail.block);
}

static void test_broken_state_shows(void **state)
{
    (void)state;
    const uint32_t slab = new_run(23);
    struct slab *s = slab_at(slab);
    const struct slab good = *s;
    s->free_count--;
    assert_false(slab_is_valid(slab));
    *s = good;
    s->inline_words[0] = 1;
    assert_false(slab_is_valid(slab));
    *s = good;
    s->inline_words[0] = 0; /* block 0 to 31 are out, and so is the padding */
    s->free_count = 0;
    assert_false(slab_is_valid(slab));
    *s = good;
    assert_true(slab_is_valid(slab));
}

/* ---- against a model ---- */

static void run_against_model(unsigned bin, uint64_t seed)
{
    enum { NEVER, OUT, FREE };
    static unsigned char model[SLAB_BYTES / 16];
    static void *out[SLAB_BYTES / 16];
    const struct bin_info *info = bin_info(bin);
    const uint32_t slab = new_run(bin);
    uint32_t out_count = 0;
    memset(model, NEVER, sizeof model);
    for (unsigned step = 0; step < 1500; step++) {
        const uint64_t r = next_random(&seed);
        const unsigned want = 1 + (unsigned)(r >> 8) % (r >> 32 & 1 ? 7 : 150);
        if (r % 2 == 0) {
            const unsigned got = take(slab, &out[want - 1], want);
            assert_int_equal(got, want < info->block_count - out_count ? want : info->block_count - out_count);
            uint32_t expect = 0;
            for (unsigned i = 0; i < got; i++, out_count++) {
                while (model[expect] == OUT)
                    expect++;
                assert_ptr_equal(out[want - 1 - i], block_of(slab, info, expect));
                model[expect] = OUT;
            }
        } else if (r % 4 == 1) {
            for (unsigned i = 0; i < want && out_count != 0; i++) {
                uint32_t n = (uint32_t)(next_random(&seed) % info->block_count);
                while (model[n] != OUT)
                    n = (n + 1) % info->block_count;
                model[n] = FREE;
                out_count--;
                assert_int_equal(put_one(slab, info, block_of(slab, info, n)), info->block_count - out_count);
            }
        } else {
            const unsigned word = (unsigned)(r >> 20) % info->word_count;
            const uint64_t wish = next_random(&seed);
            uint64_t mask = 0;
            for (uint32_t n = word * 64; n < word * 64 + 64 && n < info->block_count; n++) {
                if (model[n] != OUT || !(wish >> n % 64 & 1))
                    continue;
                mask |= (uint64_t)1 << n % 64;
                model[n] = FREE;
                out_count--;
            }
            slab_put_word(slab_at(slab), slab, word, mask);
        }
        assert_int_equal(slab_at(slab)->free_count, info->block_count - out_count);
        assert_true(slab_is_valid(slab));
    }
}

static void test_random_operations_follow_the_model(void **state)
{
    (void)state;
    for (unsigned bin = 0; bin < BIN_COUNT; bin += bin < 4 ? 1 : 5)
        run_against_model(bin, 1000 + bin);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_fresh_slab_gives_its_blocks_in_order, fresh),
        cmocka_unit_test_setup(test_lowest_free_block_first, fresh),
        cmocka_unit_test_setup(test_one_run_is_taken_alone, fresh),
        cmocka_unit_test_setup(test_neighbours_go_back_together, fresh),
        cmocka_unit_test(test_steps_are_counted),
        cmocka_unit_test(test_number_behind_the_last_block_is_padding),
        cmocka_unit_test(test_what_slab_put_divides_by),
        cmocka_unit_test_setup(test_words_of_remote_frees, fresh),
        cmocka_unit_test_setup(test_block_numbers, fresh),
        cmocka_unit_test_setup(test_misuse_is_fatal, fresh),
        cmocka_unit_test_setup(test_broken_state_shows, fresh),
        cmocka_unit_test_setup(test_random_operations_follow_the_model, fresh),
    };
    return cmocka_run_group_tests_name("slab", tests, NULL, NULL);
}
