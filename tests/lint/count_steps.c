/* Single-steps a child (fastpath_driver) through the calls that it announces, and prints the instructions executed:
 *
 *     count_steps LIBRARY DRIVER        ->   one line a call: name size address address ...
 *
 * Addresses are relative to the library, as objdump prints them; one outside it is printed as "outside". 77 where
 * ptrace is not allowed or the machine is not x86-64. */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#if !defined(__x86_64__)
int main(void)
{
    printf("SKIP: instructions are counted on x86-64 only\n");
    return 77;
}
#else

#define STEPS_MAX 20000 /* a call that takes more is no hit path */

static char library[PATH_MAX];

static void die(const char *what)
{
    fprintf(stderr, "count_steps: %s: %s\n", what, strerror(errno));
    exit(2);
}

/* Where the library lies in the child. */
static void find_library(pid_t pid, uint64_t *low, uint64_t *high)
{
    char path[64], line[PATH_MAX + 128];
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    FILE *f = fopen(path, "r");
    if (!f)
        die(path);
    *low = *high = 0;
    while (fgets(line, sizeof line, f)) {
        uint64_t from, to;
        char *name = strchr(line, '/');
        if (!name || sscanf(line, "%lx-%lx", &from, &to) != 2)
            continue;
        name[strcspn(name, "\n")] = 0;
        if (strcmp(name, library))
            continue;
        if (!*low)
            *low = from;
        *high = to;
    }
    fclose(f);
    if (!*low) {
        fprintf(stderr, "count_steps: %s is not loaded in the driver\n", library);
        exit(2);
    }
}

static void read_string(pid_t pid, uint64_t address, char *out, size_t room)
{
    struct iovec here = {out, room}, there = {(void *)(uintptr_t)address, room};
    ssize_t n = process_vm_readv(pid, &here, 1, &there, 1, 0);
    if (n <= 0)
        die("process_vm_readv");
    out[room - 1] = 0;
}

static int step(pid_t pid, struct user_regs_struct *regs)
{
    int status = 0;
    if (ptrace(PTRACE_SINGLESTEP, pid, 0, 0) || waitpid(pid, &status, 0) != pid)
        die("single step");
    if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP)
        return 0;
    if (ptrace(PTRACE_GETREGS, pid, 0, regs))
        die("PTRACE_GETREGS");
    return 1;
}

/* The child stands behind an announcement: steps to the function's first instruction, then prints all until it has
 * returned, that is until the stack pointer is above where it was on entry. */
static int trace_call(pid_t pid, uint64_t low, uint64_t high)
{
    struct user_regs_struct regs;
    char name[64];
    if (ptrace(PTRACE_GETREGS, pid, 0, &regs))
        die("PTRACE_GETREGS");
    uint64_t function = regs.rdi;
    read_string(pid, regs.rsi, name, sizeof name);
    printf("%s %llu", name, regs.rdx);
    for (int i = 0; regs.rip != function; i++)
        if (i == STEPS_MAX || !step(pid, &regs)) {
            fprintf(stderr, "count_steps: %s was announced but not called\n", name);
            return 0;
        }
    uint64_t entry_stack = regs.rsp;
    for (int i = 0; regs.rsp <= entry_stack; i++) {
        if (regs.rip >= low && regs.rip < high)
            printf(" %llx", regs.rip - low);
        else
            printf(" outside");
        if (i == STEPS_MAX || !step(pid, &regs)) {
            fprintf(stderr, "count_steps: %s does not return\n", name);
            return 0;
        }
    }
    printf("\n");
    return 1;
}

int main(int argc, char **argv)
{
    int status = 0;
    if (argc != 3 || !realpath(argv[1], library)) {
        fprintf(stderr, "usage: count_steps LIBRARY DRIVER\n");
        return 2;
    }
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0) {
        if (ptrace(PTRACE_TRACEME, 0, 0, 0))
            _exit(77);
        setenv("LD_PRELOAD", library, 1);
        setenv("LD_BIND_NOW", "1", 1); /* the dynamic linker's first-call work is not the library's */
        execl(argv[2], argv[2], (char *)NULL);
        _exit(127);
    }
    if (waitpid(pid, &status, 0) != pid)
        die("waitpid");
    if (WIFEXITED(status)) {
        printf("SKIP: ptrace is not allowed here\n");
        return WEXITSTATUS(status);
    }
    uint64_t low = 0, high = 0;
    int calls = 0;
    ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_EXITKILL);
    for (int sig = 0;; sig = 0) {
        if (ptrace(PTRACE_CONT, pid, 0, sig) || waitpid(pid, &status, 0) != pid)
            die("PTRACE_CONT");
        if (!WIFSTOPPED(status))
            break;
        if (WSTOPSIG(status) != SIGTRAP) {
            fprintf(stderr, "count_steps: the driver got signal %d\n", WSTOPSIG(status));
            return 2;
        }
        if (!low)
            find_library(pid, &low, &high);
        if (!trace_call(pid, low, high))
            return 2;
        calls++;
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status)) {
        fprintf(stderr, "count_steps: the driver ended with status %#x\n", (unsigned)status);
        return 2;
    }
    return calls ? 0 : 2;
}
#endif
