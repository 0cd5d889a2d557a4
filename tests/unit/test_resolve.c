#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "config/dump.h"
#include "config/profiles.h"
#include "resolved.h"

/* The text of a value, also of one that is out of bounds. */
static void value_text(char *text, size_t capacity, const struct knob *knob, uint64_t value)
{
    struct fmt f;
    fmt_init(&f, text, capacity, -1);
    dump_value(&f, knob, value);
}

static void assert_knob(const struct resolved *result, enum knob_id id, uint64_t value, enum config_origin origin)
{
    const struct knob *knob = &knob_table[id];
    if (knob_load(knob, &result->config) != value || result->config.origin[id] != origin)
        fail_msg("%s is %llu, origin %u", knob->name, (unsigned long long)knob_load(knob, &result->config),
                 result->config.origin[id]);
}

static void assert_all_defaults(const struct resolved *result)
{
    assert_int_equal(result->problem_count, 0);
    assert_string_equal(result->text, "");
    for (uint32_t i = 0; i < KNOB_COUNT; i++) {
        assert_int_equal(result->config.origin[i], ORIGIN_DEFAULT);
        if (knob_is_number(&knob_table[i]))
            assert_knob(result, i, knob_table[i].fallback, ORIGIN_DEFAULT);
    }
    for (uint32_t bin = 0; bin < TINY_BIN_COUNT; bin++) {
        assert_int_equal(result->config.bin_cap[bin], preset_cap(TINY_PRESET_DEFAULT, tiny_bin_class(bin)));
        assert_false(result->config.bin_cap_is_user[bin]);
    }
}

static void test_defaults(void **state)
{
    (void)state;
    struct resolved result;
    resolve_vector(&result, NULL, false);
    assert_all_defaults(&result);
    resolve_vector(&result, (char *const[]){NULL}, false);
    assert_all_defaults(&result);
    RESOLVE(&result, "PATH=/bin", "HAKMEM=1", "XHAKMEM_STRICT=1", "hakmem_strict=1", "HAKMEM_STRICT", "");
    assert_all_defaults(&result);
}

static void test_secure_ignores_everything(void **state)
{
    (void)state;
    struct resolved result;
    resolve_vector(&result,
                   ENV("HAKMEM_PROFILE=tight", "HAKMEM_DEBUG_LEVEL=3", "HAKMEM_NONSENSE=1", "HAKMEM_STRICT=9",
                       "HAKMEM_TINY_TLS_CLASS_OVERRIDE=C0:1"),
                   true);
    assert_all_defaults(&result);
}

static void test_rows_are_sound(void **state)
{
    (void)state;
    for (size_t i = 0; i < KNOB_COUNT; i++) {
        const struct knob *knob = &knob_table[i];
        assert_ptr_equal(knob_find(knob->name, strlen(knob->name)), knob);
            assert_true(knob->min < knob->max);
        if (!knob->in_profiles)
            continue;
        for (enum profile profile = PROFILE_DEFAULT; profile <= PROFILE_TIGHT; profile++) {
            assert_true(profile_value(profile, knob) >= knob->min);
            assert_true(profile_value(profile, knob) <= knob->max);
        }
    }
}

static void resolve_one(struct resolved *result, const struct knob *knob, const char *text)
{
    char entry[256];
    snprintf(entry, sizeof entry, "%s=%s", knob->name, text);
    if (knob->is_advanced)
        RESOLVE(result, "HAKMEM_LEARN_ADVANCED=1", entry);
    else
        RESOLVE(result, entry);
}

static void test_every_knob_accepts_its_bounds(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < KNOB_COUNT; i++) {
        const struct knob *knob = &knob_table[i];
        const uint64_t values[] = {knob->min, knob->max, knob->fallback};
        for (size_t v = 0; v < 3 && knob_is_number(knob); v++) {
            char text[64];
            struct resolved result;
            value_text(text, sizeof text, knob, values[v]);
            resolve_one(&result, knob, text);
            assert_int_equal(result.problem_count, 0);
            assert_knob(&result, i, values[v], text[0] == '\0' ? ORIGIN_DEFAULT : ORIGIN_ENVIRONMENT);
        }
    }
}

/* Advanced parameters have no effect without their key, and it is said; nothing that would stop a process. */
static void test_advanced_knobs_are_locked(void **state)
{
    (void)state;
    struct resolved result;
    RESOLVE(&result, "HAKMEM_LEARN_CAP_MIN=99", "HAKMEM_LEARN_MODE=observe");
    assert_knob(&result, KNOB_LEARN_CAP_MIN, 8, ORIGIN_DEFAULT);
    assert_knob(&result, KNOB_LEARN_MODE, LEARN_MODE_OBSERVE, ORIGIN_ENVIRONMENT); /* not one of them */
    assert_int_equal(result.problem_count, 0);
    assert_int_equal(result.notice_count, 1);
    assert_string_equal(result.text,
                        "hakmem: HAKMEM_LEARN_CAP_MIN has no effect without HAKMEM_LEARN_ADVANCED=1; using 8\n");
    RESOLVE(&result, "HAKMEM_PROFILE=adaptive", "HAKMEM_LEARN_CAP_MIN=99"); /* a profile may turn the key */
    assert_knob(&result, KNOB_LEARN_CAP_MIN, 99, ORIGIN_ENVIRONMENT);
    assert_int_equal(result.notice_count, 0);
    RESOLVE(&result, "HAKMEM_PROFILE=adaptive", "HAKMEM_LEARN_ADVANCED=0", "HAKMEM_LEARN_CAP_MIN=99");
    assert_knob(&result, KNOB_LEARN_CAP_MIN, 8, ORIGIN_DEFAULT);
    assert_int_equal(result.notice_count, 1);
}

static void assert_refused(uint32_t id, const char *text)
{
    const struct knob *knob = &knob_table[id];
    struct resolved result;
    char start[512], range[256];
    struct fmt f;
    resolve_one(&result, knob, text);
    if (result.problem_count != 1)
        fail_msg("%s=%s gave %u problems", knob->name, text, result.problem_count);
    fmt_init(&f, range, sizeof range, -1);
    dump_range(&f, knob);
    snprintf(start, sizeof start, "hakmem: %s=%s: accepted is %s; ", knob->name, text, range);
    assert_memory_equal(result.text, start, strlen(start));
    assert_ptr_equal(strchr(result.text, '\n'), result.text + strlen(result.text) - 1);
    assert_int_equal(result.config.origin[id], ORIGIN_DEFAULT);
    if (knob_is_number(knob))
        assert_knob(&result, id, knob->fallback, ORIGIN_DEFAULT);
}

static void test_every_knob_refuses_what_it_must(void **state)
{
    (void)state;
    static const char *const garbage[] = {"x", "-1", "+1", " 1", "1 ", "0x1", "1,", "yes", "none", "=", "1=1",
                                          "99999999999999999999999"};
    for (uint32_t i = 0; i < KNOB_COUNT; i++) {
        const struct knob *knob = &knob_table[i];
        char text[64];
        if (knob->type == KNOB_TYPE_PATH) /* nearly anything is a path: test_paths */
            continue;
        for (size_t g = 0; g < sizeof garbage / sizeof garbage[0]; g++)
            assert_refused(i, garbage[g]);
        if (!knob_is_number(knob))
            continue;
        value_text(text, sizeof text - 2, knob, knob->max);
        strcat(text, "x");
        assert_refused(i, text);
        if (knob->type == KNOB_TYPE_WORD)
            continue;
        value_text(text, sizeof text, knob, knob->max + 1);
        assert_refused(i, text);
        if (knob->min > 0) {
            value_text(text, sizeof text, knob, knob->min - 1);
            assert_refused(i, text);
        }
    }
}

static void test_paths(void **state)
{
    (void)state;
    struct resolved result;
    static char entry[400] = "HAKMEM_LEARN_EXPORT=";
    const size_t name_length = strlen(entry);
    RESOLVE(&result, "HAKMEM_LEARN_EXPORT=/srv/a b=\xc3\xa4-%p.env", "HAKMEM_LEARN_JOURNAL=x");
    assert_int_equal(result.problem_count, 0);
    assert_string_equal(result.config.learn_export, "/srv/a b=\xc3\xa4-%p.env");
    assert_string_equal(result.config.learn_journal, "x");
    assert_int_equal(result.config.origin[KNOB_LEARN_EXPORT], ORIGIN_ENVIRONMENT);

    memset(entry + name_length, 'x', CONFIG_PATH_MAX);
    RESOLVE(&result, entry);
    assert_int_equal(result.problem_count, 0);
    assert_int_equal(strlen(result.config.learn_export), CONFIG_PATH_MAX);
    entry[name_length + CONFIG_PATH_MAX] = 'x';
    RESOLVE(&result, entry);
    assert_int_equal(result.problem_count, 1);
    assert_string_equal(result.config.learn_export, "");
    assert_int_equal(result.config.origin[KNOB_LEARN_EXPORT], ORIGIN_DEFAULT);

    RESOLVE(&result, "HAKMEM_LEARN_JOURNAL=journal\r");
    assert_string_equal(result.text, "hakmem: HAKMEM_LEARN_JOURNAL=journal?: accepted is a path of at most 255 bytes, "
                                     "without control characters; using none (default)\n");
}

static void test_empty_is_unset(void **state)
{
    (void)state;
    struct resolved result;
    for (size_t i = 0; i < KNOB_COUNT; i++) {
        char entry[256];
        snprintf(entry, sizeof entry, "%.*s=", KNOB_NAME_BYTES, knob_table[i].name);
        RESOLVE(&result, entry);
        assert_all_defaults(&result);
    }
    RESOLVE(&result, "HAKMEM_NONSENSE=");
    assert_all_defaults(&result);
}

static void test_first_of_two_entries_counts(void **state)
{
    (void)state;
    struct resolved result;
    RESOLVE(&result, "HAKMEM_DECAY_MS=5", "HAKMEM_DECAY_MS=6", "HAKMEM_DECAY_MS=bad");
    assert_int_equal(result.problem_count, 0);
    assert_knob(&result, KNOB_DECAY_MS, 5, ORIGIN_ENVIRONMENT);
    RESOLVE(&result, "HAKMEM_DECAY_MS=", "HAKMEM_DECAY_MS=6");
    assert_knob(&result, KNOB_DECAY_MS, 1000, ORIGIN_DEFAULT);
}

static void test_profiles_apply(void **state)
{
    (void)state;
    for (enum profile profile = PROFILE_DEFAULT; profile <= PROFILE_TIGHT; profile++) {
        struct resolved result;
        resolve_one(&result, &knob_table[KNOB_PROFILE], profile_words[profile]);
        assert_int_equal(result.problem_count, 0);
        assert_knob(&result, KNOB_PROFILE, profile, ORIGIN_ENVIRONMENT);
        for (uint32_t i = 0; i < KNOB_COUNT; i++) {
            if (knob_table[i].in_profiles)
                assert_knob(&result, i, profile_value(profile, &knob_table[i]), ORIGIN_PROFILE);
            else if (i != KNOB_PROFILE)
                assert_int_equal(result.config.origin[i], ORIGIN_DEFAULT);
        }
    }
}

static void test_explicit_wins_over_profile(void **state)
{
    (void)state;
    struct resolved result;
    RESOLVE(&result, "HAKMEM_STATS_ENABLE=0", "HAKMEM_PROFILE=adaptive", "HAKMEM_TINY_PRESET=ultra_tight");
    assert_knob(&result, KNOB_STATS_ENABLE, 0, ORIGIN_ENVIRONMENT);
    assert_knob(&result, KNOB_STATS_INTERVAL_SEC, 60, ORIGIN_PROFILE);
    assert_knob(&result, KNOB_TINY_PRESET, TINY_PRESET_ULTRA_TIGHT, ORIGIN_ENVIRONMENT);
    assert_int_equal(result.config.bin_cap[0], 32);
}

static void test_lines_name_what_is_used(void **state)
{
    (void)state;
    struct resolved result;
    RESOLVE(&result, "HAKMEM_DEBUG_LEVEL=4");
    assert_string_equal(result.text, "hakmem: HAKMEM_DEBUG_LEVEL=4: accepted is 0..3; using 0 (default)\n");
    RESOLVE(&result, "HAKMEM_PROFILE=tight", "HAKMEM_ALLOC_LEARN_RATE=1.5");
    assert_string_equal(result.text,
                        "hakmem: HAKMEM_ALLOC_LEARN_RATE=1.5: accepted is 0.000001..1; using 0.05 (profile tight)\n");
    assert_knob(&result, KNOB_ALLOC_LEARN_RATE, 50000, ORIGIN_PROFILE);
    RESOLVE(&result, "HAKMEM_PROFILE=fast");
    assert_string_equal(result.text, "hakmem: HAKMEM_PROFILE=fast: accepted is default, balanced, adaptive, tight, auto; "
                                     "using none (default)\n");
    RESOLVE(&result, "HAKMEM_STATS_INTERVAL_SEC=1\n2\x7f\xc3");
    assert_string_equal(result.text,
                        "hakmem: HAKMEM_STATS_INTERVAL_SEC=1?2??: accepted is 0..86400 s; using 0 (default)\n");
    RESOLVE(&result, "HAKMEM_TINY_TLS_CLASS_OVERRIDE=C0:8,C1:0,C2:8");
    assert_string_equal(result.text,
                        "hakmem: HAKMEM_TINY_TLS_CLASS_OVERRIDE=C0:8,C1:0,C2:8: accepted is Ck:cap[:refill] or "
                        "Ck.size:cap[:refill], cap 1..65535, refill 1..cap; the whole value is ignored because of "
                        "\"C1:0\"\n");
    RESOLVE(&result, "HAKMEM_NONSENSE=1", "HAKMEM_STRICT=2", "HAKMEM_DECAY_MS=x");
    assert_int_equal(result.problem_count, 3);
}

static void test_problems_count_without_sink(void **state)
{
    (void)state;
    struct config config;
    struct config_report report = {0};
    config_resolve(&config, ENV("HAKMEM_A=1", "HAKMEM_STRICT=2", "HAKMEM_TINY_TLS_CLASS_OVERRIDE=C9:1"), false,
                   &report);
    assert_int_equal(report.problem_count, 3);
}

static void test_long_values_are_cut(void **state)
{
    (void)state;
    static char entry[3000] = "HAKMEM_DECAY_MS=", name[3000] = "HAKMEM_DECAY_MS";
    struct resolved result;
    memset(entry + strlen(entry), '1', sizeof entry - 1 - strlen(entry));
    memset(name + strlen(name), 'X', 1500);
    strcat(name, "=1");
    RESOLVE(&result, entry, name);
    assert_int_equal(result.problem_count, 2);
    assert_non_null(strstr(result.text, "111...: accepted is"));
    assert_non_null(strstr(result.text, "XXX...: unknown variable; the nearest known one is HAKMEM_"));
    assert_true(strlen(result.text) < 600);
}

static void test_unknown_name_gets_a_suggestion(void **state)
{
    (void)state;
    struct resolved result;
    RESOLVE(&result, "HAKMEM_ALOC_LEARN=1");
    assert_string_equal(result.text, "hakmem: HAKMEM_ALOC_LEARN: unknown variable; the nearest known one is "
                                     "HAKMEM_ALLOC_LEARN\n");
}

static void test_presets(void **state)
{
    (void)state;
    static const uint32_t caps[TINY_CLASS_COUNT] = {512, 512, 512, 384, 256, 384, 192, 96};
    static const uint32_t refills[TINY_CLASS_COUNT] = {32, 32, 32, 24, 16, 24, 12, 8};
    struct resolved normal, tight;
    RESOLVE(&normal, "HAKMEM_TINY_PRESET=default");
    RESOLVE(&tight, "HAKMEM_TINY_PRESET=ultra_tight");
    for (uint32_t bin = 0; bin < TINY_BIN_COUNT; bin++) {
        assert_int_equal(normal.config.bin_cap[bin], caps[tiny_bin_class(bin)]);
        assert_int_equal(normal.config.bin_refill[bin], refills[tiny_bin_class(bin)]);
        assert_int_equal(tight.config.bin_cap[bin], 32);
        assert_int_equal(tight.config.bin_refill[bin], 8);
    }
}

static void test_override_resolves(void **state)
{
    (void)state;
    struct resolved result;
    RESOLVE(&result, "HAKMEM_PROFILE=tight",
            "HAKMEM_TINY_TLS_CLASS_OVERRIDE=C0:256:16,C1:4,C3:192:12,C3.112:200:16,C7:65535");
    assert_int_equal(result.problem_count, 0);
    assert_int_equal(result.config.origin[KNOB_TINY_TLS_CLASS_OVERRIDE], ORIGIN_ENVIRONMENT);
    static const struct {
        uint32_t bin, cap, refill;
        bool is_user;
    } expected[] = {
        {0, 256, 16, true},  {1, 4, 4, true},     {2, 32, 8, false},      {4, 192, 12, true},
        {6, 200, 16, true},  {7, 192, 12, true},  {8, 32, 8, false},      {23, 65535, 4095, true},
    };
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        assert_int_equal(result.config.bin_cap[expected[i].bin], expected[i].cap);
        assert_int_equal(result.config.bin_refill[expected[i].bin], expected[i].refill);
        assert_int_equal(result.config.bin_cap_is_user[expected[i].bin], expected[i].is_user);
    }
}

static void test_bad_override_is_ignored_as_a_whole(void **state)
{
    (void)state;
    struct resolved result;
    RESOLVE(&result, "HAKMEM_TINY_TLS_CLASS_OVERRIDE=C0:256:16,C1:256:16,C8:1:1");
    assert_int_equal(result.problem_count, 1);
    assert_int_equal(result.config.bin_cap[0], 512);
    assert_int_equal(result.config.bin_refill[0], 32);
    assert_false(result.config.bin_cap_is_user[0]);
    assert_int_equal(result.config.origin[KNOB_TINY_TLS_CLASS_OVERRIDE], ORIGIN_DEFAULT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_secure_ignores_everything),
        cmocka_unit_test(test_rows_are_sound),
        cmocka_unit_test(test_every_knob_accepts_its_bounds),
        cmocka_unit_test(test_every_knob_refuses_what_it_must),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_advanced_knobs_are_locked),
        cmocka_unit_test(test_empty_is_unset),
        cmocka_unit_test(test_first_of_two_entries_counts),
        cmocka_unit_test(test_profiles_apply),
        cmocka_unit_test(test_explicit_wins_over_profile),
        cmocka_unit_test(test_lines_name_what_is_used),
        cmocka_unit_test(test_problems_count_without_sink),
        cmocka_unit_test(test_long_values_are_cut),
        cmocka_unit_test(test_unknown_name_gets_a_suggestion),
        cmocka_unit_test(test_presets),
        cmocka_unit_test(test_override_resolves),
        cmocka_unit_test(test_bad_override_is_ignored_as_a_whole),
    };
    return cmocka_run_group_tests_name("resolve", tests, NULL, NULL);
}
