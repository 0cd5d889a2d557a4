#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "learn/decision.h"

static void assert_is_word(const char *text)
{
    assert_non_null(text);
    assert_true(text[0] != '\0' && strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_") == strlen(text));
}

/* A reader of the journal tells subjects and verdicts apart by these words alone. */
static void test_every_word_is_there_and_its_own(void **state)
{
    (void)state;
    for (unsigned i = 0; i < LEARN_SUBJECT_COUNT; i++) {
        assert_is_word(learn_subject_name(i));
        assert_is_word(learn_effect_name(i));
        assert_is_word(learn_evidence_name(i, 0));
        for (unsigned j = 0; j < i; j++)
            assert_string_not_equal(learn_subject_name(i), learn_subject_name(j));
    }
    for (unsigned i = 0; i < LEARN_VERDICT_COUNT; i++) {
        assert_is_word(learn_verdict_name(i));
        for (unsigned j = 0; j < i; j++)
            assert_string_not_equal(learn_verdict_name(i), learn_verdict_name(j));
    }
}

static void test_evidence_ends_with_null(void **state)
{
    (void)state;
    for (unsigned i = 0; i < LEARN_SUBJECT_COUNT; i++) {
        unsigned count = 0;
        while (learn_evidence_name(i, count) != NULL)
            assert_is_word(learn_evidence_name(i, count++));
        for (; count <= LEARN_EVIDENCE_MAX; count++)
            assert_null(learn_evidence_name(i, count));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_word_is_there_and_its_own),
        cmocka_unit_test(test_evidence_ends_with_null),
    };
    return cmocka_run_group_tests_name("decision", tests, NULL, NULL);
}
