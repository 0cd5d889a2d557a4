#include "unit.h"

#include "slab/steer.h"

#define MIB ((uint64_t)1 << 20)
#define BLOCK_BYTES 64u

/* A bin of which so much is in use and so much idle, after so many refilled blocks. */
static struct steer_look look(uint64_t out_bytes, uint64_t idle_bytes, uint64_t refilled_blocks)
{
    return (struct steer_look){.idle_bytes = idle_bytes,
                               .out_blocks = out_bytes / BLOCK_BYTES,
                               .out_bytes = out_bytes,
                               .refilled_blocks = refilled_blocks};
}

static bool decide(struct steer *s, uint64_t out_bytes, uint64_t idle_bytes, uint64_t refilled_blocks)
{
    const struct steer_look seen = look(out_bytes, idle_bytes, refilled_blocks);
    return steer_decide(s, &seen);
}

static void test_only_sparse_bins(void **state)
{
    (void)state;
    struct steer s = {.state = STEER_OFF};
    assert_false(decide(&s, 0, 0, 0));
    assert_false(decide(&s, MIB, MIB, 0)); /* half */
    assert_false(decide(&s, 0, STEER_MIN_BYTES - 1, 0));
    assert_true(decide(&s, 0, STEER_MIN_BYTES, 0));
    s = (struct steer){.state = STEER_OFF};
    assert_true(decide(&s, MIB, MIB + BLOCK_BYTES, 0));
}

/* Between sparse and dense it stays as it is. */
static void test_it_ends_when_the_bin_is_dense(void **state)
{
    (void)state;
    struct steer s = {.state = STEER_OFF};
    assert_true(decide(&s, 4 * MIB, 16 * MIB, 0));
    assert_true(decide(&s, 4 * MIB, 3 * MIB, 1000));
    assert_true(decide(&s, 4 * MIB, MIB + 1, 1000));
    assert_false(decide(&s, 4 * MIB, MIB, 1000));
    assert_false(decide(&s, 4 * MIB, 3 * MIB, 1000));
    /* Little that is idle is not worth it, however little is in use. */
    assert_true(decide(&s, 0, STEER_MIN_BYTES, 1000));
    assert_true(decide(&s, 0, STEER_MIN_BYTES / 2, 1000));
    assert_false(decide(&s, 0, STEER_MIN_BYTES / 2 - 1, 1000));
}

/* While each block might have been replaced once more, a quarter of what lay idle must have gone. */
static void test_it_goes_on_as_long_as_it_helps(void **state)
{
    (void)state;
    struct steer s = {.state = STEER_OFF};
    const uint64_t turns = STEER_TURNS * (MIB / BLOCK_BYTES) + 1;
    uint64_t idle = 64 * MIB, refilled = 5000;
    assert_true(decide(&s, MIB, idle, refilled));
    for (unsigned i = 0; i < 4; i++) {
        refilled += turns;
        idle -= idle / 4;
        assert_true(decide(&s, MIB, idle, refilled));
    }
    refilled += turns;
    assert_false(decide(&s, MIB, idle - idle / 5, refilled));
    assert_int_equal(s.state, STEER_RESTING);
}

static void test_what_did_not_help_rests(void **state)
{
    (void)state;
    struct steer s = {.state = STEER_OFF};
    const uint64_t out = MIB / BLOCK_BYTES;
    uint64_t refilled = 0;
    assert_true(decide(&s, MIB, 8 * MIB, refilled));
    refilled += STEER_TURNS * out;
    assert_true(decide(&s, MIB, 8 * MIB, refilled)); /* not yet */
    refilled++;
    assert_false(decide(&s, MIB, 8 * MIB, refilled));
    /* Until so many blocks have moved that another trial costs little beside them ... */
    refilled += STEER_REST_TURNS * out;
    assert_false(decide(&s, MIB, 8 * MIB, refilled));
    refilled++;
    assert_true(decide(&s, MIB, 8 * MIB, refilled));
    refilled += STEER_TURNS * out + 1;
    assert_false(decide(&s, MIB, 8 * MIB, refilled));
    /* ... or twice as much lies idle, */
    assert_false(decide(&s, MIB, 16 * MIB - 2, refilled));
    assert_true(decide(&s, MIB, 16 * MIB, refilled));
    refilled += STEER_TURNS * out + 1;
    assert_false(decide(&s, MIB, 16 * MIB, refilled));
    /* or it has become dense meanwhile. */
    assert_false(decide(&s, 8 * MIB, 2 * MIB, refilled));
    assert_true(decide(&s, MIB, 3 * MIB, refilled));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_sparse_bins),
        cmocka_unit_test(test_it_ends_when_the_bin_is_dense),
        cmocka_unit_test(test_it_goes_on_as_long_as_it_helps),
        cmocka_unit_test(test_what_did_not_help_rests),
    };
    return cmocka_run_group_tests_name("steer", tests, NULL, NULL);
}
