#define _GNU_SOURCE
#include "unit.h"

#include <errno.h>

#include "kernel_file.h"
#include "os/os.h"

static void test_count_from_a_file(void **state)
{
    (void)state;
    const struct {
        const char *text;
        uint32_t count;
    } cases[] = {
        {"0\n", 1},    {"0-1\n", 2},  {"0,2-3\n", 4}, {"0-7,16\n", 17}, {"1\n", 2},
        {"0-1023", 1024}, {"0-1024", 1}, {"99999999999999999999", 1}, {"", 1}, {"none\n", 1},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        errno = EDOM;
        assert_int_equal(os_node_count_in(kernel_file(cases[i].text)), cases[i].count);
        assert_int_equal(errno, EDOM);
    }
    unlink(kernel_file(""));
    assert_int_equal(os_node_count_in(kernel_file("")), 1);
}

static void test_this_machine(void **state)
{
    (void)state;
    assert_false(os_has_nodes()); /* nobody has asked yet */
    const uint32_t count = os_node_count();
    assert_in_range(count, 1, OS_NODES_MAX);
    assert_int_equal(os_node_count(), count);
    assert_int_equal(os_has_nodes(), count > 1);
    errno = EDOM;
    assert_in_range(os_current_node(), 0, count - 1);
    assert_int_equal(errno, EDOM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_count_from_a_file),
        cmocka_unit_test(test_this_machine),
    };
    return cmocka_run_group_tests_name("topology", tests, NULL, NULL);
}
