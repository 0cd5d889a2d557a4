#include "unit.h"

#include "learn/output.h"

static void test_expansion(void **state)
{
    (void)state;
    char path[OUTPUT_PATH_BYTES], wanted[128], pattern[CONFIG_PATH_BYTES] = "";
    snprintf(wanted, sizeof wanted, "/x/%d-%d.env", getpid(), getpid());
    assert_true(output_expand(path, "/x/%p-%p.env"));
    assert_string_equal(path, wanted);
    assert_true(output_expand(path, "100%.%d%"));
    assert_string_equal(path, "100%.%d%");
    assert_true(output_is_per_process("a%p"));
    assert_false(output_is_per_process("a%P%"));

    memset(pattern, 'x', CONFIG_PATH_MAX);
    assert_true(output_expand(path, pattern));
    assert_string_equal(path, pattern);
    static char many[1024];
    for (unsigned i = 0; i < 500; i++)
        memcpy(many + 2 * i, "%p", 2);
    assert_false(output_expand(path, many));
}

static void warn_twice(const void *unused)
{
    (void)unused;
    uint32_t warned = 0;
    output_warn(&warned, "HAKMEM_LEARN_EXPORT", "/no/where", EACCES);
    if (fork() == 0) {
        output_warn(&warned, "HAKMEM_LEARN_EXPORT", "/no/where", EACCES);
        _exit(0);
    }
    wait(NULL);
}

static void test_warning_comes_once(void **state)
{
    (void)state;
    struct captured said;
    capture_child(&said, warn_twice, NULL);
    assert_string_equal(said.text, "hakmem: HAKMEM_LEARN_EXPORT: /no/where cannot be written (error 13)\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_expansion),
        cmocka_unit_test(test_warning_comes_once),
    };
    return cmocka_run_group_tests_name("output", tests, NULL, NULL);
}
