/* The text summary: what it says, and when. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "api/entry.h"
#include "capture.h"
#include "stats/report.h"

static void report(const void *occasion)
{
    report_text(STDERR_FILENO, occasion);
    _exit(getpid() % 256);
}

/* The number behind a field's name. */
static unsigned long long number(const char *text, const char *name)
{
    char line[64];
    snprintf(line, sizeof line, "\nhakmem:   %s ", name);
    const char *at = strstr(text, line);
    assert_non_null(at);
    return strtoull(at + strlen(line), NULL, 10);
}

static unsigned occurrences(const char *text, const char *wanted)
{
    unsigned count = 0;
    for (const char *at = strstr(text, wanted); at != NULL; at = strstr(at + 1, wanted))
        count++;
    return count;
}

static void test_report_says_who_and_what(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    void *blocks[COUNT];
    for (size_t i = 0; i < COUNT; i++)
        blocks[i] = api_malloc(1000);
    struct snapshot snapshot;
    snapshot_read(&snapshot);
    struct captured said;
    capture_child(&said, report, "in a test");
    for (size_t i = 0; i < COUNT; i++)
        api_free(blocks[i]);

    char name[64];
    int pid;
    assert_int_equal(sscanf(said.text, "hakmem: statistics of %63s (pid %d) in a test\n", name, &pid), 2);
    assert_string_equal(name, "test_report");
    assert_int_equal(pid % 256, WEXITSTATUS(said.status));
    assert_int_equal(number(said.text, "live_bytes"), snapshot.live_bytes);
    assert_int_equal(number(said.text, "live_blocks"), snapshot.live_blocks);
    assert_int_equal(number(said.text, "mapped_bytes"), snapshot.mapped_bytes);
    number(said.text, "purged_bytes");
    /* Every line can be told from the program's own, and the last one is whole. */
    assert_int_equal(occurrences(said.text, "\n"), occurrences(said.text, "\nhakmem: ") + 1);
    assert_int_equal(said.text[said.length - 1], '\n');
    /* The bin of the blocks above has a row, one that was never used has none. */
    assert_non_null(strstr(said.text, "\nhakmem:          1024        1000 "));
    assert_null(strstr(said.text, "\nhakmem:         28672 "));
}

static void tick_without_interval(const void *unused)
{
    (void)unused;
    for (uint64_t now_ms = 1; now_ms < 100000000; now_ms *= 10)
        stats_tick(now_ms);
}

static void test_silent_unless_asked(void **state)
{
    (void)state;
    struct captured said;
    capture_child(&said, tick_without_interval, NULL);
    assert_int_equal(said.status, 0);
    assert_int_equal(said.length, 0);
}

/* The configuration is read once, so it takes a process of its own to have another one. */
static void run_ticking(const void *unused)
{
    (void)unused;
    char *const arguments[] = {"test_report", "tick", NULL};
    char *const environment[] = {"HAKMEM_STATS_ENABLE=1", "HAKMEM_STATS_INTERVAL_SEC=2", NULL};
    execve("/proc/self/exe", arguments, environment);
    abort();
}

static int tick_and_exit(void)
{
    static const uint64_t ticks_ms[] = {5000, 6000, 6999, 7000, 7010, 8999};
    for (size_t i = 0; i < ARRAY_COUNT(ticks_ms); i++)
        stats_tick(ticks_ms[i]);
    return 0;
}

static void test_interval(void **state)
{
    (void)state;
    struct captured said;
    capture_child(&said, run_ticking, NULL);
    assert_int_equal(said.status, 0);
    assert_int_equal(occurrences(said.text, ") while it runs\n"), 1); /* at 7000 */
    assert_int_equal(occurrences(said.text, ") at exit\n"), 1);
}

static void close_stderr_and_end(const void *started)
{
    if (started != NULL)
        stats_start();
    close(STDERR_FILENO);
    stats_at_exit();
}

/* What the GNU core utilities do. */
static void test_stderr_closed_early(void **state)
{
    (void)state;
    struct captured said;
    capture_child(&said, close_stderr_and_end, "started");
    assert_int_equal(occurrences(said.text, ") at exit\n"), 1);
    capture_child(&said, close_stderr_and_end, NULL);
    assert_int_equal(said.length, 0);
}

static void close_all_and_end(const void *unused)
{
    (void)unused;
    stats_start();
    const int last = dup(STDERR_FILENO);
    for (int fd = STDERR_FILENO; fd < 1024; fd++)
        if (fd != last)
            close(fd);
    int ends[2];
    while (pipe(ends) == 0 && ends[1] < 200) /* the spare's number means another file now */
        ;
    close(STDERR_FILENO);
    stats_at_exit();
}

static void daemon_and_end(const void *unused)
{
    (void)unused;
    stats_start();
    if (fork() != 0)
        return;
    /* The last ways to the pipes: the test below, and whoever waits for its output, goes on although this process stays. */
    close(STDERR_FILENO);
    close(STDOUT_FILENO);
    sleep(20);
    _exit(0);
}

static void test_spare_is_not_misused(void **state)
{
    (void)state;
    struct captured said;
    capture_child(&said, close_all_and_end, NULL);
    assert_int_equal(said.status, 0);
    assert_int_equal(said.length, 0);
    const time_t begin = time(NULL);
    capture_child(&said, daemon_and_end, NULL);
    assert_true(time(NULL) - begin < 10);
}

static void report_to_nobody(const void *unused)
{
    (void)unused;
    int ends[2];
    if (pipe(ends) != 0)
        abort();
    close(ends[0]);
    report_text(ends[1], "in a test");
    sigset_t pending;
    sigpending(&pending);
    _exit(sigismember(&pending, SIGPIPE) ? 2 : 3);
}

/* A program that never writes to stderr must not die of a summary that nobody reads. */
static void test_broken_pipe(void **state)
{
    (void)state;
    struct captured said;
    capture_child(&said, report_to_nobody, NULL);
    assert_true(WIFEXITED(said.status));
    assert_int_equal(WEXITSTATUS(said.status), 3);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "tick") == 0)
        return tick_and_exit();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_report_says_who_and_what),
        cmocka_unit_test(test_silent_unless_asked),
        cmocka_unit_test(test_interval),
        cmocka_unit_test(test_stderr_closed_early),
        cmocka_unit_test(test_broken_pipe),
        cmocka_unit_test(test_spare_is_not_misused),
    };
    return cmocka_run_group_tests_name("report", tests, NULL, NULL);
}
