#include "unit.h"

#include "tcache/guard.h"

enum { PAGE_BYTES = 4096 };

static _Alignas(PAGE_BYTES) char memory[4 * PAGE_BYTES];

static struct guarded guarded(size_t at, uint32_t block_bytes)
{
    return (struct guarded){.block = memory + at, .block_bytes = block_bytes, .life = 7};
}

static void test_seal(void **state)
{
    (void)state;
    for (uint32_t block_bytes = 16; block_bytes <= 32768 / 4; block_bytes *= 2) {
        const struct guarded g = guarded(16, block_bytes);
        for (size_t bytes = 0; bytes <= block_bytes - GUARD_SEAL_BYTES; bytes += bytes < 40 ? 1 : 97) {
            size_t read = 1;
            guard_seal(&g, bytes);
            memset(g.block, 0, bytes);
            assert_true(guard_read(&g, &read));
            assert_int_equal(read, bytes);
            assert_false(guard_is_freed(&g));
            assert_int_not_equal(memory[16 + bytes], 0); /* which is what is mostly written there */
            for (size_t at = bytes; at < block_bytes; at += at + 1 < block_bytes - 20 ? 61 : 1) {
                memory[16 + at] ^= 1; /* any byte */
                assert_false(guard_read(&g, &read));
                memory[16 + at] ^= 1;
            }
        }
    }
}

static void test_another_life(void **state)
{
    (void)state;
    struct guarded g = guarded(64, 64);
    size_t bytes;
    guard_seal(&g, 10);
    g.life++;
    assert_false(guard_read(&g, &bytes));
    g.life--;
    guard_fill(&g);
    assert_true(guard_is_freed(&g));
    g.life++;
    assert_false(guard_is_freed(&g));
    assert_true(guard_may_be_reused(&g, PAGE_BYTES));
    memory[64] = 1;
    assert_true(guard_may_be_reused(&g, PAGE_BYTES)); /* what lies there is nobody's fill */
}

static void test_fill(void **state)
{
    (void)state;
    const struct guarded g = guarded(128, 112);
    guard_fill(&g);
    assert_true(guard_is_freed(&g) && guard_is_filled(&g) && guard_may_be_reused(&g, PAGE_BYTES));
    for (unsigned at = 0; at < 112; at++) {
        memory[128 + at] ^= 1;
        assert_false(guard_is_filled(&g));
        assert_false(guard_may_be_reused(&g, PAGE_BYTES));
        memory[128 + at] ^= 1;
    }
    memset(g.block, 0, 100); /* all that the program had */
    assert_false(guard_may_be_reused(&g, PAGE_BYTES));
}

static void test_pages_that_went(void **state)
{
    (void)state;
    const struct guarded g = guarded(2048, 2 * PAGE_BYTES);
    guard_fill(&g);
    memset(memory + PAGE_BYTES, 0, PAGE_BYTES);
    assert_false(guard_is_filled(&g));
    assert_true(guard_may_be_reused(&g, PAGE_BYTES));
    memory[2048]++; /* on a page that is still there */
    assert_false(guard_may_be_reused(&g, PAGE_BYTES));
}

static void *take_written(struct quarantine *q)
{
    *(char *)q->ring[q->oldest].block ^= 1;
    return quarantine_take(q, true);
}

static void take_written_in_child(void *q)
{
    take_written(q);
}

static void look_at_all(void *argument)
{
    struct quarantine *q = argument;
    memory[16 * 3 + 5]++;
    for (uint32_t i = 0; i < q->count; i++)
        quarantine_look(q);
}

static void test_quarantine(void **state)
{
    (void)state;
    static struct quarantine q;
    quarantine_look(&q);
    assert_null(quarantine_take(&q, true));
    for (uint32_t i = 0; i < 3 * QUARANTINE_BLOCKS; i++) {
        const struct guarded g = guarded(i % 1000 * 16, 16);
        guard_fill(&g);
        quarantine_add(&q, &g);
        quarantine_look(&q);
        /* First in, first out; it stays full. */
        assert_ptr_equal(quarantine_take(&q, false),
                         i + 1 < QUARANTINE_BLOCKS ? NULL : memory + (i + 1 - QUARANTINE_BLOCKS) % 1000 * 16);
    }
    assert_int_equal(q.count, QUARANTINE_BLOCKS - 1);
    while (quarantine_take(&q, true) != NULL)
        ;
    assert_int_equal(q.count, 0);
    assert_int_equal(q.bytes, 0);
    for (unsigned i = 0; i < 10; i++) {
        const struct guarded g = guarded(16 * i, 16);
        guard_fill(&g);
        quarantine_add(&q, &g);
    }
    assert_aborts(take_written_in_child, &q, "write into a freed block", memory);
    assert_aborts(look_at_all, &q, "write into a freed block", memory + 16 * 3);
    while (quarantine_take(&q, true) != NULL)
        ;
    /* Large ones leave sooner. */
    for (unsigned i = 0; i < 1000 && q.bytes <= QUARANTINE_BYTES; i++) {
        const struct guarded g = guarded(0, PAGE_BYTES);
        guard_fill(&g);
        quarantine_add(&q, &g);
        assert_int_equal(q.count, i + 1);
    }
    assert_non_null(quarantine_take(&q, false));
    assert_null(quarantine_take(&q, false));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seal),            cmocka_unit_test(test_another_life), cmocka_unit_test(test_fill),
        cmocka_unit_test(test_pages_that_went), cmocka_unit_test(test_quarantine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
