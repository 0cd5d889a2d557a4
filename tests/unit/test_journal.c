#include "unit.h"

#include "learn/journal.h"
#include "os/file.h"
#include "os/os.h"
#include "scratch.h"

static const struct learn_decision grown = {
    .time_ms = 0, .window = 7, .from = 128, .to = 140, .evidence = {900, 800, 3, 0, 4194304}, .before = 40,
    .predicted = 30, .measured = LEARN_NOT_MEASURED, .heap = 3, .place = 6, .subject = LEARN_BIN_CAP,
    .verdict = LEARN_APPLIED,
};

static void test_line(void **state)
{
    (void)state;
    char text[JOURNAL_LINE_BYTES];
    struct fmt out;
    fmt_init(&out, text, sizeof text, -1);
    journal_put(&out, &grown, 1700000000042, 99);
    /* What the numbers are called is the decision's business. */
    char wanted[JOURNAL_LINE_BYTES];
    int length = snprintf(wanted, sizeof wanted,
                          "{\"time\":1700000000.042,\"pid\":99,\"verdict\":\"applied\",\"subject\":\"bin_cap\","
                          "\"heap\":3,\"place\":6,\"block_bytes\":112,\"window\":7,\"from\":128,\"to\":140,"
                          "\"effect\":\"%s\",\"before\":40,\"predicted\":30,\"measured\":null,\"evidence\":{",
                          learn_effect_name(LEARN_BIN_CAP));
    for (unsigned i = 0; i < LEARN_EVIDENCE_MAX && learn_evidence_name(LEARN_BIN_CAP, i) != NULL; i++)
        length += snprintf(wanted + length, sizeof wanted - (size_t)length, "%s\"%s\":%llu", i > 0 ? "," : "",
                           learn_evidence_name(LEARN_BIN_CAP, i), (unsigned long long)grown.evidence[i]);
    assert_string_equal(text, strcat(wanted, "}}\n"));
    struct learn_decision back = grown;
    back.subject = LEARN_PURGE_DELAY;
    back.verdict = LEARN_ROLLED_BACK;
    back.measured = 41;
    fmt_init(&out, text, sizeof text, -1);
    journal_put(&out, &back, 1, 1);
    assert_non_null(strstr(text, "\"verdict\":\"rolled_back\""));
    assert_non_null(strstr(text, "\"measured\":41,"));
    assert_null(strstr(text, "block_bytes"));
}

/* Whatever the numbers, the line is whole. */
static void test_longest_line_fits(void **state)
{
    (void)state;
    char text[JOURNAL_LINE_BYTES];
    struct fmt out;
    for (unsigned subject = 0; subject < LEARN_SUBJECT_COUNT; subject++) {
        struct learn_decision d = {.subject = (uint8_t)subject, .verdict = LEARN_ROLLED_BACK, .heap = UINT32_MAX,
                                   .place = UINT32_MAX, .window = UINT64_MAX, .from = UINT64_MAX, .to = UINT64_MAX,
                                   .before = UINT64_MAX, .predicted = UINT64_MAX, .measured = UINT64_MAX - 1};
        memset(d.evidence, 0xff, sizeof d.evidence);
        fmt_init(&out, text, sizeof text, -1);
        journal_put(&out, &d, UINT64_MAX, INT32_MIN);
        assert_true(out.length < JOURNAL_LINE_BYTES - 128); /* the last line may follow */
        assert_string_equal(text + out.length - 3, "}}\n");
    }
}

static void test_time_is_the_decisions(void **state)
{
    (void)state;
    struct learn_decision old = grown;
    old.time_ms = os_clock_ms() - 5000;
    assert_int_equal(journal_append(scratch_path("time"), &old, JOURNAL_MAX_BYTES), 0);
    unsigned long long seconds;
    assert_int_equal(sscanf(scratch_text("time"), "{\"time\":%llu.", &seconds), 1);
    const uint64_t expected = os_wall_clock_ms() / 1000 - 5;
    assert_in_range(seconds, expected - 2, expected + 1);
}

enum { WRITERS = 4, LINES = 200 };

static void *write_lines(void *path)
{
    for (unsigned i = 0; i < LINES; i++)
        journal_append(path, &grown, JOURNAL_MAX_BYTES);
    return NULL;
}

/* Threads of two processes: every line is whole. */
static void test_lines_do_not_mix(void **state)
{
    (void)state;
    static char path[512];
    strcpy(path, scratch_path("many"));
    const pid_t child = fork();
    if (child == 0) {
        for (unsigned i = 0; i < WRITERS; i++)
            write_lines(path);
        _exit(0);
    }
    run_threads(WRITERS, write_lines, path, 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    FILE *file = fopen(path, "r");
    char line[JOURNAL_LINE_BYTES];
    unsigned count = 0;
    while (fgets(line, sizeof line, file) != NULL) {
        count++;
        assert_memory_equal(line, "{\"time\":", 8);
        assert_null(strstr(line + 1, "{\"time\":"));
        assert_string_equal(line + strlen(line) - 3, "}}\n");
    }
    fclose(file);
    assert_int_equal(count, 2 * WRITERS * LINES);
}

static void test_size_is_bounded(void **state)
{
    (void)state;
    enum { LIMIT = 2000 };
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(journal_append(scratch_path("full"), &grown, LIMIT), 0);
    const char *text = scratch_text("full");
    const char *last = strstr(text, ",\"verdict\":\"journal_full\"}\n");
    assert_non_null(last);
    assert_int_equal(last[strlen(",\"verdict\":\"journal_full\"}\n")], '\0');
    assert_in_range(strlen(text), LIMIT, LIMIT + JOURNAL_LINE_BYTES);
}

/* The configuration is read once, so it takes a process of its own to have another one. */
static void start_with(const void *variable)
{
    char *const arguments[] = {"test_journal", "decide", NULL};
    char *const environment[] = {(char *)(uintptr_t)variable, NULL};
    execve("/proc/self/exe", arguments, environment);
    abort();
}

static int decide_and_fork(void)
{
    journal_write(&grown);
    journal_write(&grown);
    if (fork() == 0) {
        journal_write(&grown);
        _exit(0);
    }
    wait(NULL);
    return 0;
}

static unsigned line_count(const char *text)
{
    unsigned count = 0;
    for (; *text != '\0'; text++)
        count += *text == '\n';
    return count;
}

static void test_processes(void **state)
{
    (void)state;
    struct captured said;
    char variable[600];
    const unsigned before = scratch_count();
    snprintf(variable, sizeof variable, "HAKMEM_LEARN_JOURNAL=%s", scratch_path("shared"));
    capture_child(&said, start_with, variable);
    assert_int_equal(said.status, 0);
    assert_string_equal(said.text, "");
    assert_int_equal(line_count(scratch_text("shared")), 3);
    assert_int_equal(scratch_count(), before + 1);

    snprintf(variable, sizeof variable, "HAKMEM_LEARN_JOURNAL=%s", scratch_path("own.%p"));
    capture_child(&said, start_with, variable);
    assert_int_equal(said.status, 0);
    assert_int_equal(scratch_count(), before + 3); /* the child has one of its own */

    capture_child(&said, start_with, "HAKMEM_LEARN_JOURNAL=/nowhere/at/all");
    assert_int_equal(said.status, 0);
    assert_string_equal(said.text, "hakmem: HAKMEM_LEARN_JOURNAL: /nowhere/at/all cannot be written (error 2)\n");
    capture_child(&said, start_with, "HAKMEM_LEARN_JOURNAL=");
    assert_int_equal(said.status, 0);
    assert_string_equal(said.text, "");
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "decide") == 0)
        return decide_and_fork();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_line),
        cmocka_unit_test(test_longest_line_fits),
        cmocka_unit_test(test_time_is_the_decisions),
        cmocka_unit_test(test_lines_do_not_mix),
        cmocka_unit_test(test_size_is_bounded),
        cmocka_unit_test(test_processes),
    };
    return cmocka_run_group_tests_name("journal", tests, scratch_setup, scratch_teardown);
}
