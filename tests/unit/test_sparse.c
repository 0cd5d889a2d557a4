#include "unit.h"

#include <sys/mman.h>

#include "large/sparse.h"
#include "os/os.h"

enum { BYTES = 1 << 20, SURE = SPARSE_SURE };

static _Alignas(65536) char block[BYTES];

static int clean(void **state)
{
    (void)state;
    memset(block, 1, BYTES);
    sparse_look(block, BYTES); /* nothing is known of the program */
    assert_false(sparse_blocks());
    memset(block, 0, BYTES);
    return 0;
}

static void look_often(unsigned times)
{
    for (unsigned i = 0; i < times; i++)
        sparse_look(block, BYTES);
}

static void test_several_in_a_row_tell(void **state)
{
    (void)state;
    block[0] = block[BYTES - 1] = 1;
    look_often(SURE - 1);
    assert_false(sparse_blocks());
    look_often(1);
    assert_true(sparse_blocks());
    look_often(100);
    assert_true(sparse_blocks());
}

static void test_a_page_in_between_may_be_written_to(void **state)
{
    (void)state;
    block[BYTES / 16] = 1;
    look_often(SURE);
    assert_true(sparse_blocks());
}

static void test_one_dense_block_is_enough(void **state)
{
    (void)state;
    look_often(SURE);
    assert_true(sparse_blocks());
    /* The last byte of each page: a page is read to its end. */
    for (size_t i = os_page_bytes() - 1; i < BYTES; i += os_page_bytes())
        block[i] = 1;
    look_often(1);
    assert_false(sparse_blocks());
    memset(block, 0, BYTES);
    look_often(SURE - 1);
    assert_false(sparse_blocks());
}

/* The last test: there is no way back. */
static void test_a_forked_child_does_not_look(void **state)
{
    (void)state;
    sparse_stop_looking();
    assert_int_equal(mprotect(block, BYTES, PROT_NONE), 0);
    look_often(SURE);
    assert_int_equal(mprotect(block, BYTES, PROT_READ | PROT_WRITE), 0);
    assert_false(sparse_blocks());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_several_in_a_row_tell, clean),
        cmocka_unit_test_setup(test_a_page_in_between_may_be_written_to, clean),
        cmocka_unit_test_setup(test_one_dense_block_is_enough, clean),
        cmocka_unit_test_setup(test_a_forked_child_does_not_look, clean),
    };
    return cmocka_run_group_tests_name("sparse", tests, NULL, NULL);
}
