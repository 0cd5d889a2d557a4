#define _GNU_SOURCE
#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/fmt.h"

enum { FILE_RIGHTS = 0666 }; /* the umask takes from them */

/* The result of a raw system call as the kernel gave it, errno as it was. */
static long keep_errno(long result, int saved)
{
    if (result == -1)
        result = -errno;
    errno = saved;
    return result;
}

#define OS_CALL(...) keep_errno(syscall(__VA_ARGS__), saved)

int os_file_open(const char *path, enum os_file_mode mode)
{
    static const int flags[] = {
        [OS_FILE_READ] = O_RDONLY,
        [OS_FILE_APPEND] = O_WRONLY | O_CREAT | O_APPEND,
        [OS_FILE_CREATE] = O_WRONLY | O_CREAT | O_EXCL,
    };
    int saved = errno;
    /* O_NONBLOCK: a named pipe without a reader is an error instead of a place to wait. */
    return (int)OS_CALL(SYS_openat, AT_FDCWD, path, flags[mode] | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, FILE_RIGHTS);
}

/* A pipe whose reader is gone (SIGPIPE) or a limit on file sizes (SIGXFSZ) must not end a program that never wrote
 * there itself. Both signals are sent to the writing thread, so they can be held back, and taken where the write
 * failed. The kernel's own set: libc's calls may be interposed, and sigtimedwait is a cancellation point. */
struct signal_guard {
    uint64_t mask; /* as it was */
    uint64_t pending;
};

enum { KERNEL_SIGSET_BYTES = sizeof(uint64_t) };

static const uint64_t write_signals = (uint64_t)1 << (SIGPIPE - 1) | (uint64_t)1 << (SIGXFSZ - 1);

static void signals_hold(struct signal_guard *guard)
{
    *guard = (struct signal_guard){ 0 };
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, &write_signals, &guard->mask, KERNEL_SIGSET_BYTES);
    syscall(SYS_rt_sigpending, &guard->pending, KERNEL_SIGSET_BYTES);
}

static void signals_release(const struct signal_guard *guard, int error)
{
    static const struct timespec at_once;
    const uint64_t ours = write_signals & ~guard->pending;
    if (error == EPIPE || error == EFBIG)
        syscall(SYS_rt_sigtimedwait, &ours, NULL, &at_once, KERNEL_SIGSET_BYTES);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &guard->mask, NULL, KERNEL_SIGSET_BYTES);
}

int os_file_write(int fd, const void *bytes, size_t count)
{
    const int saved = errno;
    const char *at = bytes;
    int error = 0;
    struct signal_guard guard;
    signals_hold(&guard);
    while (count > 0 && error == 0) {
        const long written = syscall(SYS_write, fd, at, count);
        if (written > 0) {
            at += written;
            count -= (size_t)written;
        } else if (written == 0 || errno != EINTR) {
            error = written == 0 ? EIO : errno;
        }
    }
    signals_release(&guard, error);
    errno = saved;
    return error;
}

long os_file_read(int fd, void *buffer, size_t capacity)
{
    int saved = errno;
    return OS_CALL(SYS_read, fd, buffer, capacity);
}

uint64_t os_file_bytes(int fd)
{
    int saved = errno;
    const long end = OS_CALL(SYS_lseek, fd, 0L, SEEK_END);
    return end > 0 ? (uint64_t)end : 0;
}

void os_file_close(int fd)
{
    int saved = errno;
    OS_CALL(SYS_close, fd);
}

bool os_file_is_replaceable(const char *path)
{
    struct stat status;
    int saved = errno;
    const long result = OS_CALL(SYS_newfstatat, AT_FDCWD, path, &status, AT_SYMLINK_NOFOLLOW);
    return result == -ENOENT || (result == 0 && S_ISREG(status.st_mode));
}

int os_file_lock(int fd)
{
    int saved = errno;
    return (int)-OS_CALL(SYS_flock, fd, LOCK_EX | LOCK_NB);
}

bool os_file_has_name(int fd, const char *path)
{
    struct stat file, named;
    int saved = errno;
    bool is_same = fstat(fd, &file) == 0 && lstat(path, &named) == 0 && file.st_dev == named.st_dev &&
                   file.st_ino == named.st_ino;
    errno = saved;
    return is_same;
}

int os_file_rename(const char *from, const char *to)
{
    int saved = errno;
    return (int)-OS_CALL(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int os_file_rename_new(const char *from, const char *to)
{
    enum { NO_REPLACE = 1 }; /* RENAME_NOREPLACE, which musl's headers lack */
    int saved = errno;
    int error = (int)-OS_CALL(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, NO_REPLACE);
    if (error != EINVAL && error != ENOSYS)
        return error;
    /* NFS cannot, nor kernels before 3.15. */
    error = (int)-OS_CALL(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
    if (error == 0)
        os_file_remove(from);
    return error;
}

void os_file_remove(const char *path)
{
    int saved = errno;
    OS_CALL(SYS_unlinkat, AT_FDCWD, path, 0);
}

/* Written at start. */
static struct {
    bool is_noted;
    dev_t device;
    ino_t inode;
} stderr_at_start;

static bool status_of_stderr(struct stat *status)
{
    int saved = errno;
    return OS_CALL(SYS_newfstatat, STDERR_FILENO, "", status, AT_EMPTY_PATH) == 0;
}

NEAR void os_note_stderr(void)
{
    struct stat status;
    stderr_at_start.is_noted = status_of_stderr(&status);
    if (stderr_at_start.is_noted) {
        stderr_at_start.device = status.st_dev;
        stderr_at_start.inode = status.st_ino;
    }
}

bool os_has_stderr(void)
{
    struct stat status;
    if (!status_of_stderr(&status))
        return false;
    if (!S_ISREG(status.st_mode) || (stderr_at_start.is_noted && status.st_dev == stderr_at_start.device &&
                                     status.st_ino == stderr_at_start.inode))
        return true;
    int saved = errno;
    return (OS_CALL(SYS_fcntl, STDERR_FILENO, F_GETFL) & O_APPEND) != 0;
}

bool os_process_exists(int process_id)
{
    int saved = errno;
    return OS_CALL(SYS_kill, process_id, 0) != -ESRCH;
}

uint64_t os_process_start(int process_id)
{
    enum { START_FIELD = 22, NAME_FIELD = 2 }; /* proc(5); the name may have spaces and parentheses in it */
    char path[64], text[512];
    struct fmt f;
    fmt_init(&f, path, sizeof path, -1);
    fmt_put(&f, "/proc/%d/stat", process_id);
    const int fd = os_file_open(path, OS_FILE_READ);
    if (fd < 0)
        return 0;
    const long length = os_file_read(fd, text, sizeof text - 1);
    os_file_close(fd);
    text[length > 0 ? length : 0] = '\0';
    const char *at = strrchr(text, ')');
    for (unsigned field = NAME_FIELD; at != NULL && field < START_FIELD; field++)
        at = strchr(at + 1, ' ');
    uint64_t ticks = 0;
    for (at = at == NULL ? "" : at + 1; *at >= '0' && *at <= '9'; at++)
        ticks = ticks * 10 + (uint64_t)(*at - '0');
    return ticks;
}

uint64_t os_wall_clock_ms(void)
{
    struct timespec now;
    const int saved = errno;
    if (clock_gettime(CLOCK_REALTIME_COARSE, &now) != 0)
        now = (struct timespec){ 0 };
    errno = saved;
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}
