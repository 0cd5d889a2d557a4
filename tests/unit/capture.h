/* Runs a piece of a test in a child process and keeps what it says on stderr: for code that writes there, aborts or
 * exits. */
#ifndef HAKMEM_TESTS_CAPTURE_H
#define HAKMEM_TESTS_CAPTURE_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

struct captured {
    int status;      /* as waitpid gives it */
    size_t length;
    char text[8192]; /* stderr, cut at its size, NUL-terminated */
};

/* Runs body(argument) and then exits with 0, unless body has ended the process itself. */
static inline void capture_child(struct captured *result, void (*body)(const void *), const void *argument)
{
    int ends[2];
    if (pipe(ends) != 0)
        abort();
    const pid_t child = fork();
    if (child < 0)
        abort();
    if (child == 0) {
        const struct rlimit no_core = {0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        body(argument);
        _exit(0);
    }
    close(ends[1]);
    result->length = 0;
    for (;;) {
        const ssize_t got = read(ends[0], result->text + result->length, sizeof result->text - 1 - result->length);
        if (got > 0)
            result->length += (size_t)got;
        else if (got == 0 || errno != EINTR)
            break;
    }
    result->text[result->length] = '\0';
    /* qemu's user mode says of its own accord that a signal ended the program; nothing follows. */
    char *emulator = strstr(result->text, "qemu: uncaught target signal");
    if (emulator != NULL) {
        *emulator = '\0';
        result->length = (size_t)(emulator - result->text);
    }
    close(ends[0]);
    while (waitpid(child, &result->status, 0) < 0 && errno == EINTR)
        ;
}

#endif
