#define _GNU_SOURCE
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>

#include "os/file.h"
#include "scratch.h"

static void put(const char *name, enum os_file_mode mode, const char *text)
{
    const int fd = os_file_open(scratch_path(name), mode);
    assert_true(fd >= 0);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(os_file_write(fd, text, strlen(text)), 0);
    os_file_close(fd);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
}

static void test_modes(void **state)
{
    (void)state;
    errno = EDOM;
    put("a", OS_FILE_APPEND, "one ");
    put("a", OS_FILE_APPEND, "two");
    assert_string_equal(scratch_text("a"), "one two");
    errno = EDOM;
    assert_int_equal(os_file_open(scratch_path("a"), OS_FILE_CREATE), -EEXIST);
    assert_int_equal(os_file_open(scratch_path("none"), OS_FILE_READ), -ENOENT);
    assert_int_equal(errno, EDOM);
    assert_int_equal(symlink("nowhere", scratch_path("dangling")), 0);
    assert_int_equal(os_file_open(scratch_path("dangling"), OS_FILE_CREATE), -EEXIST);

    char text[8];
    const int fd = os_file_open(scratch_path("a"), OS_FILE_READ);
    assert_int_equal(os_file_bytes(fd), 7);
    lseek(fd, 0, SEEK_SET);
    assert_int_equal(os_file_read(fd, text, 3), 3);
    assert_memory_equal(text, "one", 3);
    assert_int_equal(os_file_write(fd, "x", 1), EBADF);
    os_file_close(fd);
    assert_int_equal(os_file_read(fd, text, 3), -EBADF);
}

static void test_locking(void **state)
{
    (void)state;
    put("locked", OS_FILE_CREATE, "");
    const int fd = os_file_open(scratch_path("locked"), OS_FILE_READ);
    const int other = os_file_open(scratch_path("locked"), OS_FILE_READ);
    assert_int_equal(os_file_lock(fd), 0);
    assert_int_equal(os_file_lock(other), EWOULDBLOCK);
    assert_true(os_file_has_name(other, scratch_path("locked")));
    os_file_remove(scratch_path("locked"));
    assert_false(os_file_has_name(other, scratch_path("locked")));
    put("locked", OS_FILE_CREATE, "");
    assert_false(os_file_has_name(other, scratch_path("locked")));
    errno = EDOM;
    os_file_close(fd);
    assert_int_equal(os_file_lock(other), 0);
    assert_int_equal(errno, EDOM);
    os_file_close(other);
}

static void test_replacing(void **state)
{
    (void)state;
    put("new", OS_FILE_CREATE, "new");
    put("old", OS_FILE_CREATE, "old");
    assert_true(os_file_is_replaceable(scratch_path("old")));
    assert_true(os_file_is_replaceable(scratch_path("nothing")));
    assert_int_equal(symlink("old", scratch_path("link")), 0);
    assert_false(os_file_is_replaceable(scratch_path("link")));
    assert_false(os_file_is_replaceable(scratch_folder));
    assert_false(os_file_is_replaceable("/dev/null"));
    errno = EDOM;
    assert_int_equal(os_file_rename(scratch_path("new"), scratch_path("old")), 0);
    assert_string_equal(scratch_text("old"), "new");
    assert_int_equal(os_file_rename(scratch_path("new"), scratch_path("old")), ENOENT);
    put("new", OS_FILE_CREATE, "newer");
    errno = EDOM;
    assert_int_equal(os_file_rename_new(scratch_path("new"), scratch_path("old")), EEXIST);
    assert_string_equal(scratch_text("old"), "new");
    os_file_remove(scratch_path("old"));
    assert_int_equal(os_file_rename_new(scratch_path("new"), scratch_path("old")), 0);
    assert_string_equal(scratch_text("old"), "newer");
    assert_int_equal(os_file_rename_new(scratch_path("new"), scratch_path("old2")), ENOENT);
    os_file_remove(scratch_path("old"));
    os_file_remove(scratch_path("old"));
    assert_int_equal(errno, EDOM);
    assert_int_equal(access(scratch_path("old"), F_OK), -1);
}

/* Neither waits nor ends the process: a pipe that nobody reads, one whose reader goes away, a file at its limit. */
static void write_into_trouble(void *unused)
{
    (void)unused;
    static char bytes[1 << 17];
    int ends[2];
    REQUIRE(mkfifo(scratch_path("fifo"), 0600) == 0);
    REQUIRE(os_file_open(scratch_path("fifo"), OS_FILE_APPEND) == -ENXIO);
    REQUIRE(pipe2(ends, O_NONBLOCK) == 0);
    REQUIRE(os_file_write(ends[1], bytes, sizeof bytes) == EAGAIN); /* more than a pipe holds */
    close(ends[0]);
    REQUIRE(os_file_write(ends[1], bytes, 1) == EPIPE);

    const struct rlimit limit = {100, 100};
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    signal(SIGXFSZ, SIG_DFL);
    const int fd = os_file_open(scratch_path("limited"), OS_FILE_APPEND);
    REQUIRE(os_file_write(fd, bytes, 200) == EFBIG);
    os_file_close(fd);
    sigset_t pending, mask;
    sigpending(&pending);
    sigprocmask(SIG_BLOCK, NULL, &mask);
    REQUIRE(!sigismember(&pending, SIGPIPE) && !sigismember(&pending, SIGXFSZ));
    REQUIRE(!sigismember(&mask, SIGPIPE) && !sigismember(&mask, SIGXFSZ));
}

static void test_trouble(void **state)
{
    (void)state;
    assert_child_passes(write_into_trouble, NULL);
}

static void test_facts(void **state)
{
    (void)state;
    assert_true(os_process_exists(getpid()));
    assert_true(os_process_exists(1)); /* also where it may not be signalled */
    const pid_t gone = fork();
    if (gone == 0)
        _exit(0);
    assert_int_equal(waitpid(gone, NULL, 0), gone);
    assert_false(os_process_exists(gone));
    assert_true(os_process_start(gone) == 0);
    const uint64_t start = os_process_start(getpid());
    prctl(PR_SET_NAME, "a) S 1 (2 b"); /* the name stands before the field */
    assert_true(os_process_start(getpid()) == start);
    if (access("/proc/self/stat", R_OK) == 0)
        assert_true(start >= os_process_start(1) && start > 0);
    const uint64_t now_s = os_wall_clock_ms() / 1000;
    assert_in_range(now_s, (uint64_t)time(NULL) - 2, (uint64_t)time(NULL) + 2);
}

static bool has_stderr_with(int fd)
{
    const int kept = dup(STDERR_FILENO);
    if (fd >= 0)
        assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
    else
        close(STDERR_FILENO);
    const bool has = os_has_stderr();
    assert_int_equal(dup2(kept, STDERR_FILENO), STDERR_FILENO);
    close(kept);
    if (fd >= 0)
        close(fd);
    return has;
}

static void test_stderr_may_have_become_a_data_file(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_true(has_stderr_with(ends[1]));
    close(ends[0]);
    assert_false(has_stderr_with(-1));
    assert_false(has_stderr_with(open(scratch_path("data"), O_RDWR | O_CREAT, 0600)));
    assert_true(has_stderr_with(open(scratch_path("log"), O_WRONLY | O_CREAT | O_APPEND, 0600)));
    /* What it was at start may be any file. */
    const int kept = dup(STDERR_FILENO);
    const int fd = open(scratch_path("errors"), O_WRONLY | O_CREAT, 0600);
    assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
    os_note_stderr();
    const bool has = os_has_stderr();
    assert_int_equal(dup2(kept, STDERR_FILENO), STDERR_FILENO);
    os_note_stderr();
    close(fd);
    close(kept);
    assert_true(has);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_modes),
        cmocka_unit_test(test_locking),
        cmocka_unit_test(test_replacing),
        cmocka_unit_test(test_trouble),
        cmocka_unit_test(test_facts),
        cmocka_unit_test(test_stderr_may_have_become_a_data_file),
    };
    return cmocka_run_group_tests_name("file", tests, scratch_setup, scratch_teardown);
}
