#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/fmt.h"
#include "config/profiles.h"
#include "config/resolve.h"

enum { FILE_BYTES = 16384 };

/* Reads profiles/<name>.env and cuts it into lines; `text` owns them. Returns their number. */
static size_t read_profile(const char *name, char text[FILE_BYTES], char *lines[], size_t capacity)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/profiles/%s.env", HAKMEM_SOURCE_DIR, name);
    FILE *file = fopen(path, "r");
    if (!file)
        fail_msg("%s cannot be read", path);
    const size_t length = fread(text, 1, FILE_BYTES - 1, file);
    fclose(file);
    assert_in_range(length, 1, FILE_BYTES - 2);
    text[length] = '\0';
    assert_int_equal(text[length - 1], '\n');

    size_t count = 0;
    char *line = text;
    for (char *p = text; *p != '\0'; p++) {
        if (*p != '\n')
            continue;
        *p = '\0';
        assert_true(count < capacity);
        lines[count++] = line;
        line = p + 1;
    }
    return count;
}

static bool is_setting(const char *line)
{
    return line[0] != '\0' && line[0] != '#';
}

/* Every loader reads the file alike: whole-line comments, and KEY=VALUE without quotes or blanks. */
static void test_lines_are_plain(void **state)
{
    static char text[FILE_BYTES];
    char *lines[256];
    const size_t count = read_profile(*state, text, lines, 256);
    for (size_t i = 0; i < count; i++) {
        const char *line = lines[i];
        for (const char *p = line; *p != '\0'; p++)
            assert_in_range(*p, ' ', '~');
        if (!is_setting(line))
            continue;
        const size_t name_length = strspn(line, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_");
        assert_int_equal(line[name_length], '=');
        const char *value = line + name_length + 1;
        const size_t value_length = strspn(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                                  "0123456789.:,_/%-");
        if (value_length == 0 || value[value_length] != '\0')
            fail_msg("%s.env: %s", (const char *)*state, line);
    }
}

/* Each knob that profiles know is set exactly once, and nothing else is. */
static void test_sets_each_profile_knob(void **state)
{
    static char text[FILE_BYTES];
    char *lines[256];
    unsigned settings[KNOB_COUNT] = {0};
    const size_t count = read_profile(*state, text, lines, 256);
    for (size_t i = 0; i < count; i++) {
        if (!is_setting(lines[i]))
            continue;
        const struct knob *knob = knob_find(lines[i], strcspn(lines[i], "="));
        if (!knob)
            fail_msg("%s.env: %s", (const char *)*state, lines[i]);
        else
            settings[knob - knob_table]++;
    }
    for (size_t i = 0; i < KNOB_COUNT; i++) {
        if (settings[i] != (knob_table[i].in_profiles ? 1U : 0U))
            fail_msg("%s.env sets %s %u times", (const char *)*state, knob_table[i].name, settings[i]);
    }
}

/* The file and the built-in profile of the same name are the same configuration. */
static void test_equals_built_in(void **state)
{
    static char text[FILE_BYTES];
    char *lines[256];
    char *settings[256];
    char selection[64], problems[1024];
    size_t setting_count = 0;
    const size_t count = read_profile(*state, text, lines, 255);
    for (size_t i = 0; i < count; i++) {
        if (is_setting(lines[i]))
            settings[setting_count++] = lines[i];
    }
    settings[setting_count] = NULL;
    snprintf(selection, sizeof selection, "HAKMEM_PROFILE=%s", (const char *)*state);
    char *const built_in[] = {selection, NULL};

    struct config from_file, from_name;
    struct fmt sink;
    struct config_report report = {.sink = &sink};
    fmt_init(&sink, problems, sizeof problems, -1);
    config_resolve(&from_file, settings, false, &report);
    config_resolve(&from_name, built_in, false, &report);
    assert_string_equal(problems, "");
    assert_int_equal(report.problem_count, 0);

    for (size_t i = 0; i < KNOB_COUNT; i++) {
        const struct knob *knob = &knob_table[i];
        if (!knob->in_profiles)
            continue;
        if (knob_load(knob, &from_file) != knob_load(knob, &from_name))
            fail_msg("%s.env and the built-in profile differ in %s", (const char *)*state, knob->name);
        assert_int_equal(from_file.origin[i], ORIGIN_ENVIRONMENT);
        assert_int_equal(from_name.origin[i], ORIGIN_PROFILE);
    }
    assert_memory_equal(from_file.bin_cap, from_name.bin_cap, sizeof from_file.bin_cap);
    assert_memory_equal(from_file.bin_refill, from_name.bin_refill, sizeof from_file.bin_refill);
}

/* The page's two customisations: a profile file plus a class override, and one without its statistics. */
static void test_customised(void **state)
{
    (void)state;
    struct config config;
    struct config_report report = {0};
    char *const balanced[] = {"HAKMEM_PROFILE=balanced",
                              "HAKMEM_TINY_TLS_CLASS_OVERRIDE=C0:256:16,C1:256:16,C2:256:16,C3:192:12", NULL};
    config_resolve(&config, balanced, false, &report);
    assert_int_equal(config.bin_cap[3], 256);
    assert_int_equal(config.bin_refill[3], 16);
    assert_int_equal(config.bin_cap[7], 192);
    assert_int_equal(config.bin_refill[7], 12);
    assert_int_equal(config.bin_cap[8], 256);
    assert_int_equal(config.alloc_learn, true);

    char *const adaptive[] = {"HAKMEM_PROFILE=adaptive", "HAKMEM_STATS_ENABLE=0", NULL};
    config_resolve(&config, adaptive, false, &report);
    assert_false(config.stats_enable);
    assert_true(config.mem_learn);
    assert_int_equal(config.superslab_prewarm_count, 2);
    assert_int_equal(report.problem_count, 0);
}

#define TESTS_OF(name)                                              \
    cmocka_unit_test_prestate(test_lines_are_plain, (name)),        \
    cmocka_unit_test_prestate(test_sets_each_profile_knob, (name)), \
    cmocka_unit_test_prestate(test_equals_built_in, (name))

int main(void)
{
    const struct CMUnitTest tests[] = {
        TESTS_OF("default"),  TESTS_OF("balanced"), TESTS_OF("adaptive"),
        TESTS_OF("tight"),    cmocka_unit_test(test_customised),
    };
    return cmocka_run_group_tests_name("profiles", tests, NULL, NULL);
}
