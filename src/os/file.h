/* Files that the user named: journals and exported profiles. Raw system calls throughout, no stream and no memory, so
 * that they may be used at exit and from any slow path that holds no lock. errno is preserved; errors are returned.
 * No call waits for another process, and none raises a signal. Thread-safe. */
#ifndef HAKMEM_OS_FILE_H
#define HAKMEM_OS_FILE_H

#include "base/attr.h"

enum os_file_mode {
    OS_FILE_READ,
    OS_FILE_APPEND, /* made where it does not exist; every write goes to its end, as one piece */
    OS_FILE_CREATE, /* EEXIST where it does, be it a dangling link */
};

/* A descriptor, closed by exec; or -errno. */
int os_file_open(const char *path, enum os_file_mode mode);
/* All of it, or the errno. */
int os_file_write(int fd, const void *bytes, size_t count);
/* Bytes read, at most `capacity`; -errno. */
long os_file_read(int fd, void *buffer, size_t capacity);
/* Its size; 0 for what has none, such as a pipe. */
uint64_t os_file_bytes(int fd);
void os_file_close(int fd);
/* Locks the file itself, whatever its names, until the descriptor is closed. 0 or the errno: EWOULDBLOCK where another
 * descriptor has the lock. */
int os_file_lock(int fd);
/* Whether the path names this very file still. */
bool os_file_has_name(int fd, const char *path);

/* Whether the path names nothing yet, or a regular file: what may be replaced by another file. Links are not
 * followed. */
bool os_file_is_replaceable(const char *path);
/* Puts `from` in the place of `to` in one step. 0 or the errno. */
int os_file_rename(const char *from, const char *to);
/* Gives `from` the name `to` in one step, unless that is taken. 0 or the errno: EEXIST. */
int os_file_rename_new(const char *from, const char *to);
void os_file_remove(const char *path);

/* At start: which file stderr is. */
void os_note_stderr(void);
/* Whether descriptor 2 may still be taken for stderr: a program that closed it may have a file of its own there by now. So
 * a regular file must be the one from the start, or be opened for appending, as logs are. */
bool os_has_stderr(void);

/* False: no such process is there. */
bool os_process_exists(int process_id);
/* When the process began, in the kernel's clock ticks since the machine did: with the id it names one process for ever.
 * 0: not known. */
uint64_t os_process_start(int process_id);
/* Milliseconds since 1970 by the system's wall clock, coarse. */
uint64_t os_wall_clock_ms(void);

#endif
