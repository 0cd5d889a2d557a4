#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/fmt.h"
#include "capture.h"

static void forget_handlers(void)
{
    signal(SIGABRT, SIG_DFL); /* cmocka's and a sanitizer's */
    check_detail = NULL;      /* whatever the library set at its start */
}

static void fail_plainly(const void *address)
{
    forget_handlers();
    check_fail("double free", address);
}

static void say_detail(const void *address)
{
    fmt_message("detail of %p", address);
}

static void fail_with_detail(const void *address)
{
    forget_handlers();
    check_detail = say_detail;
    check_fail("double free", address);
}

static void fail_in_detail(const void *address)
{
    check_fail("broken detail", address);
}

static void fail_twice(const void *address)
{
    forget_handlers();
    check_detail = fail_in_detail;
    check_fail("double free", address);
}

static void check_both_ways(const void *address)
{
    forget_handlers();
    CHECK(address != NULL, "must not be said", address);
    CHECK(address == NULL, "not null", address);
}

static void assert_aborts(void (*body)(const void *), const char *text)
{
    struct captured result;
    capture_child(&result, body, (const void *)0x1234);
    assert_string_equal(result.text, text);
    assert_true(WIFSIGNALED(result.status));
    assert_int_equal(WTERMSIG(result.status), SIGABRT);
}

static void test_message_and_abort(void **state)
{
    (void)state;
    assert_aborts(fail_plainly, "hakmem: double free: 0x1234\n");
}

static void test_detail_follows(void **state)
{
    (void)state;
    assert_aborts(fail_with_detail, "hakmem: double free: 0x1234\nhakmem: detail of 0x1234\n");
}

static void test_failing_detail_ends(void **state)
{
    (void)state;
    assert_aborts(fail_twice, "hakmem: double free: 0x1234\nhakmem: broken detail: 0x1234\n");
}

static void test_check_macro(void **state)
{
    (void)state;
    assert_aborts(check_both_ways, "hakmem: not null: 0x1234\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_message_and_abort),
        cmocka_unit_test(test_detail_follows),
        cmocka_unit_test(test_failing_detail_ends),
        cmocka_unit_test(test_check_macro),
    };
    return cmocka_run_group_tests_name("check", tests, NULL, NULL);
}
