#define _GNU_SOURCE
#include "unit.h"

#include <errno.h>

#include "api/entry.h"
#include "hakmem/hakmem.h"
#include "learn/export.h"
#include "os/file.h"
#include "scratch.h"

static bool is_profile(const char *text)
{
    return strncmp(text, "# HAKMEM profile, learned by ", 29) == 0 &&
           strstr(text, "\nHAKMEM_ALLOC_LEARN=0\n") != NULL && text[strlen(text) - 1] == '\n';
}

static void test_writes_in_one_step(void **state)
{
    (void)state;
    errno = EDOM;
    assert_int_equal(export_write(scratch_path("a.env")), 0);
    assert_true(is_profile(scratch_text("a.env")));
    assert_int_equal(hakmem_learn_export(scratch_path("b.%p.env")), 0);
    assert_int_equal(errno, EDOM);
    struct stat before, after;
    assert_int_equal(stat(scratch_path("a.env"), &before), 0);
    const int old = open(scratch_path("a.env"), O_RDONLY); /* so that its number is not given to the new one */
    assert_int_equal(export_write(scratch_path("a.env")), 0);
    assert_int_equal(stat(scratch_path("a.env"), &after), 0);
    assert_true(before.st_ino != after.st_ino);
    close(old);
    assert_int_equal(scratch_count(), 2); /* nothing temporary is left */
}

static void test_refusals(void **state)
{
    (void)state;
    const unsigned before = scratch_count();
    assert_int_equal(hakmem_learn_export(""), EINVAL);
    assert_int_equal(hakmem_learn_export(NULL), EINVAL); /* HAKMEM_LEARN_EXPORT is not set */
    assert_int_equal(hakmem_learn_export("/nowhere/at/all.env"), ENOENT);
    assert_int_equal(hakmem_learn_export(scratch_folder), EINVAL);
    assert_int_equal(hakmem_learn_export("/dev/null"), EINVAL);
    assert_int_equal(symlink("target", scratch_path("link.env")), 0);
    assert_int_equal(hakmem_learn_export(scratch_path("link.env")), EINVAL);
    static char deep[5000];
    memset(deep, 'x', sizeof deep - 1);
    assert_int_equal(hakmem_learn_export(deep), ENAMETOOLONG);
    assert_int_equal(scratch_count(), before + 1);
    unlink(scratch_path("link.env"));
}

/* What was left by a killed process of the same id is not in the way. */
static void test_old_temporaries(void **state)
{
    (void)state;
    char name[64];
    for (unsigned i = 0; i < 12; i++) {
        snprintf(name, sizeof name, "old.env.%d.%u.tmp", getpid(), i);
        fclose(fopen(scratch_path(name), "w"));
    }
    assert_int_equal(export_write(scratch_path("old.env")), 0);
    assert_true(is_profile(scratch_text("old.env")));
}

static void fail_to_write(void *unused)
{
    (void)unused;
    const struct rlimit limit = {100, 100};
    REQUIRE(export_write(scratch_path("kept.env")) == 0);
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    const unsigned before = scratch_count();
    REQUIRE(export_write(scratch_path("kept.env")) == EFBIG);
    REQUIRE(scratch_count() == before);
}

static void test_failure_keeps_the_old_file(void **state)
{
    (void)state;
    assert_child_passes(fail_to_write, NULL);
    assert_true(is_profile(scratch_text("kept.env")));
}

static bool claim(const char *name)
{
    int error = -1;
    const bool is_ours = export_claim(scratch_path(name), &error);
    assert_int_equal(error, 0);
    return is_ours;
}

static void write_claim(const char *name, const char *text)
{
    FILE *file = fopen(scratch_path(name), "w");
    fputs(text, file);
    fclose(file);
}

static void test_claims(void **state)
{
    (void)state;
    char text[64];
    int error;
    assert_true(claim("c"));
    const unsigned before = scratch_count();
    assert_true(claim("c")); /* as after exec */
    snprintf(text, sizeof text, "%d %llu", getpid(), (unsigned long long)os_process_start(getpid()));
    assert_string_equal(scratch_text("c.claim"), text);
    assert_int_equal(scratch_count(), before);
    export_unclaim(scratch_path("c"));
    assert_int_equal(access(scratch_path("c.claim"), F_OK), -1);
    assert_int_equal(scratch_count(), before - 1); /* nothing else was left behind */

    write_claim("d.claim", "1"); /* init lives */
    assert_false(claim("d"));
    const pid_t gone = fork();
    if (gone == 0)
        _exit(0);
    waitpid(gone, NULL, 0);
    snprintf(text, sizeof text, "%d", gone);
    const char *const stale[] = {text, "", "1 ", "x", "1 x", "0 0", "-1 5"};
    for (unsigned i = 0; i < ARRAY_COUNT(stale); i++) {
        write_claim("d.claim", stale[i]);
        assert_true(claim("d"));
        export_unclaim(scratch_path("d"));
    }
    assert_false(export_claim("/nowhere/at/all", &error));
    assert_int_equal(error, ENOENT);
}

/* Of many that find a stale claim together one holds the file then, and no other as long as that one lives. */
static void test_one_takes_a_stale_claim(void **state)
{
    (void)state;
    enum { ROUNDS = 60, CHILDREN = 6 };
    for (unsigned round = 0; round < ROUNDS; round++) {
        int start[2], said[2], end[2];
        assert_int_equal(pipe(start) | pipe(said) | pipe(end), 0);
        write_claim("f.claim", "");
        for (unsigned i = 0; i < CHILDREN; i++)
            if (fork() == 0) {
                int error;
                char byte;
                close(start[1]);
                close(end[1]);
                read(start[0], &byte, 1); /* ends when the parent closes its side */
                byte = export_claim(scratch_path("f"), &error) ? 'y' : 'n';
                _exit(write(said[1], &byte, 1) != 1 || read(end[0], &byte, 1) != 0);
            }
        close(start[1]);
        unsigned holders = 0;
        for (unsigned i = 0; i < CHILDREN; i++) {
            char byte = '?';
            assert_int_equal(read(said[0], &byte, 1), 1);
            holders += byte == 'y';
        }
        assert_int_equal(holders, 1);
        close(end[1]);
        for (unsigned i = 0; i < CHILDREN; i++) {
            int status;
            assert_true(wait(&status) > 0);
            assert_int_equal(status, 0);
        }
        close(start[0]);
        close(said[0]);
        close(said[1]);
        close(end[0]);
    }
}

/* The holder was killed, and another process has its id now. */
static void test_an_id_is_used_again(void **state)
{
    (void)state;
    char text[64];
    const uint64_t start = os_process_start(getppid());
    if (start == 0)
        skip(); /* no /proc */
    snprintf(text, sizeof text, "%d %llu", getppid(), (unsigned long long)start);
    write_claim("e.claim", text);
    assert_false(claim("e"));
    snprintf(text, sizeof text, "%d %llu", getppid(), (unsigned long long)start - 1);
    write_claim("e.claim", text);
    assert_true(claim("e"));
    snprintf(text, sizeof text, "%d 1", getpid()); /* our own id, of somebody before us */
    write_claim("e.claim", text);
    assert_true(claim("e"));
    assert_non_null(strstr(scratch_text("e.claim"), " "));
    assert_string_not_equal(scratch_text("e.claim"), text);
    export_unclaim(scratch_path("e"));
}

/* ---- whole processes: the configuration is read once ---- */

struct start {
    const char *file;
    char *mode;
};

static void start_with(const void *argument)
{
    const struct start *start = argument;
    char variable[600];
    snprintf(variable, sizeof variable, "HAKMEM_LEARN_EXPORT=%s", start->file);
    char *const arguments[] = {"test_export", start->mode, NULL};
    char *const environment[] = {variable, "HAKMEM_PROFILE=balanced", NULL};
    execve("/proc/self/exe", arguments, environment);
    abort();
}

static int live(const char *mode)
{
    enum { COUNT = 5000 };
    static void *blocks[COUNT];
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < COUNT; i++)
            blocks[i] = api_malloc(100);
        for (unsigned i = 0; i < COUNT; i++)
            api_free(blocks[i]);
    }
    if (strcmp(mode, "fork") == 0) {
        if (fork() == 0)
            exit(0);
        wait(NULL);
        return access(config_get()->learn_export, F_OK) == 0; /* the child must not have written it */
    }
    if (strcmp(mode, "exec") == 0) {
        char *const arguments[] = {"test_export", "once", NULL};
        execv("/proc/self/exe", arguments);
    }
    if (strcmp(mode, "ask") == 0)
        return hakmem_learn_export(NULL) != 0 || access(config_get()->learn_export, F_OK) != 0;
    return 0;
}

static void run(const char *file, char *mode, const char *said_text)
{
    struct captured said;
    const struct start start = {file, mode};
    capture_child(&said, start_with, &start);
    assert_int_equal(said.status, 0);
    assert_string_equal(said.text, said_text);
}

static void test_at_exit(void **state)
{
    (void)state;
    static char *const modes[] = {"once", "fork", "exec", "ask"};
    for (size_t i = 0; i < ARRAY_COUNT(modes); i++) {
        char name[32];
        snprintf(name, sizeof name, "%s.env", modes[i]);
        const unsigned before = scratch_count();
        run(scratch_path(name), modes[i], "");
        const char *text = scratch_text(name);
        assert_true(is_profile(text));
        assert_non_null(strstr(text, "# weight C3.112 "));
        assert_non_null(strstr(text, "\nHAKMEM_TINY_TLS_CLASS_OVERRIDE="));
        assert_non_null(strstr(text, "started from the profile balanced."));
        assert_int_equal(scratch_count(), before + 1); /* the claim is gone */
    }
}

static void test_per_process(void **state)
{
    (void)state;
    const unsigned before = scratch_count();
    run(scratch_path("each.%p.env"), "fork", "");
    assert_int_equal(scratch_count(), before + 2);
}

static void test_claimed_by_another(void **state)
{
    (void)state;
    write_claim("taken.env.claim", "1");
    run(scratch_path("taken.env"), "once", "");
    assert_int_equal(access(scratch_path("taken.env"), F_OK), -1);
    assert_string_equal(scratch_text("taken.env.claim"), "1");
}

static void test_unwritable_warns_once(void **state)
{
    (void)state;
    run("/nowhere/at/all.env", "fork",
        "hakmem: HAKMEM_LEARN_EXPORT: /nowhere/at/all.env cannot be written (error 2)\n");
    run("/nowhere/%p.env", "once", "hakmem: HAKMEM_LEARN_EXPORT: /nowhere/%p.env cannot be written (error 2)\n");
}

int main(int argc, char **argv)
{
    if (argc == 2)
        return live(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_writes_in_one_step),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_old_temporaries),
        cmocka_unit_test(test_failure_keeps_the_old_file),
        cmocka_unit_test(test_claims),
        cmocka_unit_test(test_an_id_is_used_again),
        cmocka_unit_test(test_one_takes_a_stale_claim),
        cmocka_unit_test(test_at_exit),
        cmocka_unit_test(test_per_process),
        cmocka_unit_test(test_claimed_by_another),
        cmocka_unit_test(test_unwritable_warns_once),
    };
    return cmocka_run_group_tests_name("export", tests, scratch_setup, scratch_teardown);
}
