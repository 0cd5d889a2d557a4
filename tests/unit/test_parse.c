#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "config/parse.h"

static const uint64_t untouched = 0x5a5a5a5a5a5a5a5a;

typedef bool (*number_parser)(const char *text, uint64_t *value);

static void assert_parses(number_parser parse, const char *text, uint64_t expected)
{
    uint64_t value = untouched;
    if (!parse(text, &value) || value != expected)
        fail_msg("\"%s\" gave %llu", text, (unsigned long long)value);
}

static void assert_refuses(number_parser parse, const char *text)
{
    uint64_t value = untouched;
    if (parse(text, &value) || value != untouched)
        fail_msg("\"%s\" gave %llu", text, (unsigned long long)value);
}

static void test_uint(void **state)
{
    (void)state;
    assert_parses(parse_uint, "0", 0);
    assert_parses(parse_uint, "42", 42);
    assert_parses(parse_uint, "007", 7);
    assert_parses(parse_uint, "18446744073709551615", UINT64_MAX);
    static const char *const bad[] = {"",    " 1", "1 ", "+1", "-1", "0x10", "1e3", "1.0",
                                      "1,0", "a",  "1a", "18446744073709551616", "99999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_refuses(parse_uint, bad[i]);
}

static void test_bytes(void **state)
{
    (void)state;
    assert_parses(parse_bytes, "0", 0);
    assert_parses(parse_bytes, "4096", 4096);
    assert_parses(parse_bytes, "64K", 65536);
    assert_parses(parse_bytes, "64k", 65536);
    assert_parses(parse_bytes, "3M", 3 << 20);
    assert_parses(parse_bytes, "3m", 3 << 20);
    assert_parses(parse_bytes, "1G", 1 << 30);
    assert_parses(parse_bytes, "1g", 1 << 30);
    assert_parses(parse_bytes, "17179869183G", 17179869183ULL << 30);
    static const char *const bad[] = {"", "K", "1KB", "1KK", "1 K", "1T", "-1K", "17179869184G", "1.5M"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_refuses(parse_bytes, bad[i]);
}

static void test_ratio(void **state)
{
    (void)state;
    assert_parses(parse_ratio, "0", 0);
    assert_parses(parse_ratio, "1", 1000000);
    assert_parses(parse_ratio, "1.0", 1000000);
    assert_parses(parse_ratio, "0.15", 150000);
    assert_parses(parse_ratio, ".5", 500000);
    assert_parses(parse_ratio, "0.000001", 1);
    assert_parses(parse_ratio, "0.1000000000", 100000);
    assert_parses(parse_ratio, "2.000001", 2000001);
    static const char *const bad[] = {"",     ".",    "1.",    "-0.1", "+0.1", "0,1", "0.1.1", "1e-1", " 0.1", "0.1 ",
                                      "0.1%", "nan",  "inf",   "0x1",  "0.0000001", "18446744073710"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_refuses(parse_ratio, bad[i]);
}

static void test_word(void **state)
{
    (void)state;
    static const knob_word words[] = {"", "one", "two", "three"};
    uint64_t value = untouched;
    assert_true(parse_word("two", words, 1, 3, &value));
    assert_int_equal(value, 2);
    assert_true(parse_word("three", words, 1, 3, &value));
    assert_int_equal(value, 3);
    value = untouched;
    assert_false(parse_word("", words, 1, 3, &value));
    assert_false(parse_word("tw", words, 1, 3, &value));
    assert_false(parse_word("twoo", words, 1, 3, &value));
    assert_false(parse_word("Two", words, 1, 3, &value));
    assert_false(parse_word("three", words, 1, 2, &value));
    assert_int_equal(value, untouched);
}

static void test_value_respects_bounds(void **state)
{
    (void)state;
    const struct knob knob = {.type = KNOB_TYPE_UINT, .min = 10, .max = 20};
    uint64_t value = untouched;
    assert_false(parse_value(&knob, "9", &value));
    assert_false(parse_value(&knob, "21", &value));
    assert_int_equal(value, untouched);
    assert_true(parse_value(&knob, "10", &value));
    assert_int_equal(value, 10);
    assert_true(parse_value(&knob, "20", &value));
    assert_int_equal(value, 20);

    const struct knob boolean = {.type = KNOB_TYPE_BOOL, .min = 0, .max = 1};
    assert_true(parse_value(&boolean, "1", &value));
    assert_false(parse_value(&boolean, "01", &value));
    assert_false(parse_value(&boolean, "2", &value));
    assert_false(parse_value(&boolean, "yes", &value));
}

static bool parse_list(const char *text, struct class_override *value, const char **bad_item)
{
    return parse_override(text, 1, 65535, value, bad_item);
}

static void test_override_of_classes(void **state)
{
    (void)state;
    struct class_override value;
    const char *bad_item;
    assert_true(parse_list("C0:256:16,C1:128,C3:192:12,C7:1:1", &value, &bad_item));
    for (uint32_t bin = 0; bin < TINY_BIN_COUNT; bin++) {
        static const uint32_t caps[TINY_CLASS_COUNT] = {256, 128, 0, 192, 0, 0, 0, 1};
        static const uint32_t refills[TINY_CLASS_COUNT] = {16, 0, 0, 12, 0, 0, 0, 1};
        assert_int_equal(value.cap[bin], caps[tiny_bin_class(bin)]);
        assert_int_equal(value.refill[bin], refills[tiny_bin_class(bin)]);
    }
}

static void test_override_of_every_bin(void **state)
{
    (void)state;
    for (uint32_t bin = 0; bin < TINY_BIN_COUNT; bin++) {
        char text[32];
        struct class_override value;
        const char *bad_item;
        snprintf(text, sizeof text, "C%u.%u:65535:65535", tiny_bin_class(bin), tiny_bin_bytes(bin));
        assert_true(parse_list(text, &value, &bad_item));
        for (uint32_t other = 0; other < TINY_BIN_COUNT; other++) {
            assert_int_equal(value.cap[other], other == bin ? 65535 : 0);
            assert_int_equal(value.refill[other], other == bin ? 65535 : 0);
        }
    }
}

static void test_override_last_wins(void **state)
{
    (void)state;
    struct class_override value;
    const char *bad_item;
    assert_true(parse_list("C3:100:10,C3.112:200:16,C0:1,C0:2", &value, &bad_item));
    assert_int_equal(value.cap[0], 2);
    assert_int_equal(value.cap[5], 100);
    assert_int_equal(value.cap[6], 200);
    assert_int_equal(value.refill[6], 16);
    assert_true(parse_list("C3.112:200:16,C3:100", &value, &bad_item));
    assert_int_equal(value.cap[6], 100);
    assert_int_equal(value.refill[6], 0); /* the later item is taken as a whole */
}

static void test_override_errors(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t bad_at;
    } bad[] = {
        {"", 0},           {",", 0},           {"C0:1,", 5},         {",C0:1", 0},        {"C0:1,,C1:1", 5},
        {"C8:1", 0},       {"C-1:1", 0},       {"C10:1", 0},         {"c0:1", 0},         {"0:1", 0},
        {"C0", 0},         {"C0:", 0},         {"C0:0", 0},          {"C0:65536", 0},     {"C0:1:", 0},
        {"C0:1:0", 0},     {"C0:8:9", 0},      {"C0:8:8:8", 0},      {"C0:8;C1:8", 0},    {"C0:8 ,C1:8", 0},
        {"C0: 8", 0},      {"C0:8,C1:x", 5},   {"C3.113:8", 0},      {"C3.160:8", 0},     {"C3.:8", 0},
        {"C3.112.1:8", 0}, {"C0:8,C1:8,Z", 10}, {"C0:18446744073709551617", 0},
        {"C0:1:18446744073709551617", 0},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct class_override value = {.cap = {77}};
        const char *bad_item = NULL;
        if (parse_list(bad[i].text, &value, &bad_item) || value.cap[0] != 77)
            fail_msg("\"%s\" was accepted", bad[i].text);
        assert_int_equal(bad_item - bad[i].text, bad[i].bad_at);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_uint),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_ratio),
        cmocka_unit_test(test_word),
        cmocka_unit_test(test_value_respects_bounds),
        cmocka_unit_test(test_override_of_classes),
        cmocka_unit_test(test_override_of_every_bin),
        cmocka_unit_test(test_override_last_wins),
        cmocka_unit_test(test_override_errors),
    };
    return cmocka_run_group_tests_name("parse", tests, NULL, NULL);
}
