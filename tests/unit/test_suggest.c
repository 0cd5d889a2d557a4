#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "config/suggest.h"

static void test_suggestions(void **state)
{
    (void)state;
    static const struct {
        const char *wrong, *meant;
    } cases[] = {
        {"HAKMEM_ALOC_LEARN", "HAKMEM_ALLOC_LEARN"},
        {"HAKMEM_ALLOC_LEARN_WINDOWS", "HAKMEM_ALLOC_LEARN_WINDOW"},
        {"HAKMEM_alloc_learn_rate", "HAKMEM_ALLOC_LEARN_RATE"},
        {"HAKMEM_STATS", "HAKMEM_STATS_ENABLE"},
        {"HAKMEM_STATS_ENABLED", "HAKMEM_STATS_ENABLE"},
        {"HAKMEM_PROFIL", "HAKMEM_PROFILE"},
        {"HAKMEM_SUPERSLAB_PREWRAM", "HAKMEM_SUPERSLAB_PREWARM"},
        {"HAKMEM_TLS_CLASS_OVERRIDE", "HAKMEM_TINY_TLS_CLASS_OVERRIDE"},
        {"HAKMEM_DEBUG", "HAKMEM_DEBUG_LEVEL"},
        {"HAKMEM_PRESET", "HAKMEM_TINY_PRESET"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_string_equal(suggest_knob(cases[i].wrong, strlen(cases[i].wrong))->name, cases[i].meant);
    assert_non_null(suggest_knob("HAKMEM_", strlen("HAKMEM_")));
    for (size_t i = 0; i < KNOB_COUNT; i++)
        assert_ptr_equal(suggest_knob(knob_table[i].name, strlen(knob_table[i].name)), &knob_table[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_suggestions),
    };
    return cmocka_run_group_tests_name("suggest", tests, NULL, NULL);
}
