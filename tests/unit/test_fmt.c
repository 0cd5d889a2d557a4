#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/fmt.h"
#include "capture.h"

/* What fmt_put makes of its arguments is what snprintf makes of them. */
#define ASSERT_LIKE_LIBC(...)                                \
    do {                                                     \
        char ours[256], theirs[256];                         \
        struct fmt f;                                        \
        fmt_init(&f, ours, sizeof ours, -1);                 \
        fmt_put(&f, __VA_ARGS__);                            \
        const int length = snprintf(theirs, sizeof theirs, __VA_ARGS__); \
        assert_string_equal(ours, theirs);                   \
        assert_int_equal(f.length, length);                  \
    } while (0)

static void test_strings(void **state)
{
    (void)state;
    const char unterminated[3] = {'a', 'b', 'c'};
    ASSERT_LIKE_LIBC("plain");
    ASSERT_LIKE_LIBC("%s", "");
    ASSERT_LIKE_LIBC("<%s|%8s|%-8s|%2s>", "one", "two", "three", "four");
    ASSERT_LIKE_LIBC("%.*s", 3, unterminated);
    ASSERT_LIKE_LIBC("%.*s|%.*s|%6.*s", 0, "none", -1, "all", 2, "two");
    ASSERT_LIKE_LIBC("%c%c|%3c|%-3c|", 'a', 'b', 'c', 'd');
    ASSERT_LIKE_LIBC("100%% of %s", "it");
}

static void test_null_string(void **state)
{
    (void)state;
    char text[32];
    struct fmt f;
    const char *volatile nothing = NULL;
    fmt_init(&f, text, sizeof text, -1);
    fmt_put(&f, "%s", nothing);
    assert_string_equal(text, "(null)");
}

static void test_numbers(void **state)
{
    (void)state;
    ASSERT_LIKE_LIBC("%d %d %d %d", 0, -1, INT_MAX, INT_MIN);
    ASSERT_LIKE_LIBC("%u %u", 0U, UINT_MAX);
    ASSERT_LIKE_LIBC("%ld %ld %lu", LONG_MAX, LONG_MIN, ULONG_MAX);
    ASSERT_LIKE_LIBC("%lld %lld %llu", LLONG_MAX, LLONG_MIN, ULLONG_MAX);
    ASSERT_LIKE_LIBC("%zu %zx %zu", SIZE_MAX, SIZE_MAX, (size_t)0);
    ASSERT_LIKE_LIBC("%x %x %lx", 0U, 0xdeadbeefU, ULONG_MAX);
    ASSERT_LIKE_LIBC("%p", (void *)0x1234abcd);
}

static void test_widths(void **state)
{
    (void)state;
    ASSERT_LIKE_LIBC("|%5d|%-5d|%05d|%1d|", 42, 42, 42, 42);
    ASSERT_LIKE_LIBC("|%5d|%-5d|%05d|", -42, -42, -42);
    ASSERT_LIKE_LIBC("|%016lx|%-16lx|%16lx|", 0xabcUL, 0xabcUL, 0xabcUL);
    ASSERT_LIKE_LIBC("|%20p|%-20p|", (void *)0x10, (void *)0x10);
    ASSERT_LIKE_LIBC("|%12zu|%-12zu|%012zu|", (size_t)7, (size_t)7, (size_t)7);
}

static void test_cut_at_capacity(void **state)
{
    (void)state;
    char text[8 + 1];
    struct fmt f;
    text[8] = 'x';
    fmt_init(&f, text, 8, -1);
    fmt_put(&f, "%s%d", "12345", 678901);
    assert_string_equal(text, "1234567");
    assert_int_equal(f.length, 7);
    fmt_put(&f, "more");
    assert_string_equal(text, "1234567");
    assert_int_equal(text[8], 'x');

    fmt_flush(&f); /* there is nowhere to write to: the text stays */
    assert_string_equal(text, "1234567");
}

static void test_no_capacity(void **state)
{
    (void)state;
    char text[1] = {'x'};
    struct fmt f;
    fmt_init(&f, text, 0, -1);
    fmt_put(&f, "%s", "text");
    assert_int_equal(text[0], 'x');
    fmt_init(&f, text, 1, STDERR_FILENO);
    fmt_put(&f, "%s", "text");
    assert_int_equal(text[0], '\0');
    assert_int_equal(f.length, 0);
}

static void test_full_buffer_is_written(void **state)
{
    (void)state;
    int ends[2];
    char text[8], got[64];
    struct fmt f;
    assert_int_equal(pipe(ends), 0);
    fmt_init(&f, text, sizeof text, ends[1]);
    fmt_put(&f, "%s %d", "the quick brown fox", 12345);
    assert_true(f.length < sizeof text);
    fmt_flush(&f);
    assert_int_equal(f.length, 0);
    assert_string_equal(text, "");
    close(ends[1]);
    const ssize_t length = read(ends[0], got, sizeof got);
    close(ends[0]);
    assert_int_equal(length, 25);
    assert_memory_equal(got, "the quick brown fox 12345", 25);
}

static void test_failed_write_keeps_errno(void **state)
{
    (void)state;
    char text[8];
    struct fmt f;
    fmt_init(&f, text, sizeof text, INT_MAX); /* not an open descriptor */
    errno = ENOENT;
    fmt_put(&f, "longer than the buffer");
    fmt_flush(&f);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(f.length, 0);
}

static const char *ratio(uint64_t numerator, uint64_t denominator, unsigned decimals)
{
    static char text[64];
    struct fmt f;
    fmt_init(&f, text, sizeof text, -1);
    fmt_put_ratio(&f, numerator, denominator, decimals);
    return text;
}

static void test_ratio(void **state)
{
    (void)state;
    assert_string_equal(ratio(123, 10, 1), "12.3");
    assert_string_equal(ratio(1, 3, 3), "0.333");
    assert_string_equal(ratio(2, 3, 3), "0.667");
    assert_string_equal(ratio(5, 1000, 3), "0.005");
    assert_string_equal(ratio(7, 2, 0), "4");
    assert_string_equal(ratio(7, 1, 2), "7.00");
    assert_string_equal(ratio(0, 5, 2), "0.00");
    assert_string_equal(ratio(9996, 100, 1), "100.0"); /* the carry reaches the whole part */
    assert_string_equal(ratio(1, 0, 1), "0.0");
    assert_string_equal(ratio(1, 7, 9), "0.142857143");
    assert_string_equal(ratio(1, 7, 40), "0.142857143");
    assert_string_equal(ratio(UINT64_MAX, UINT64_MAX, 2), "1.00");
    assert_string_equal(ratio(UINT64_MAX / 2, UINT64_MAX, 2), "0.50");
    assert_string_equal(ratio(UINT64_MAX, 1, 1), "18446744073709551615.0");
}

static void say_one_line(const void *argument)
{
    errno = ENOENT;
    fmt_message("%d blocks of %s", 3, (const char *)argument);
    if (errno != ENOENT)
        _exit(1);
}

static void test_message(void **state)
{
    (void)state;
    struct captured result;
    capture_child(&result, say_one_line, "16 bytes");
    assert_int_equal(result.status, 0);
    assert_string_equal(result.text, "hakmem: 3 blocks of 16 bytes\n");
}

static void test_long_message_ends_in_newline(void **state)
{
    (void)state;
    static char text[4096];
    struct captured result;
    memset(text, 'a', sizeof text - 1);
    capture_child(&result, say_one_line, text);
    assert_true(result.length > 100 && result.length < sizeof text);
    assert_int_equal(result.text[result.length - 1], '\n');
    assert_ptr_equal(strchr(result.text, '\n'), result.text + result.length - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_null_string),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_widths),
        cmocka_unit_test(test_cut_at_capacity),
        cmocka_unit_test(test_no_capacity),
        cmocka_unit_test(test_full_buffer_is_written),
        cmocka_unit_test(test_failed_write_keeps_errno),
        cmocka_unit_test(test_ratio),
        cmocka_unit_test(test_message),
        cmocka_unit_test(test_long_message_ends_in_newline),
    };
    return cmocka_run_group_tests_name("fmt", tests, NULL, NULL);
}
