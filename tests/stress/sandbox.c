/* sandbox: may a program give up nearly all system calls once it runs?
 *
 * After a few mallocs a seccomp filter kills the process at every system call but read, write, mmap, munmap, mremap, brk,
 * madvise, futex and exit. Then the first thread, and threads that were started before, allocate and free in small, medium,
 * large and huge sizes, for long enough that ticks and decay come by. The program itself makes none of the others: it reads the
 * clock through the vDSO, does not sleep, and ends at once. */
#define _GNU_SOURCE
#include "alloc.h"
#include "common.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { BLOCKS = 512, SKIP_CODE = 77, HOLD_MIB = 200, HUGE_MIB = 80 };

static uint64_t thread_count = 3;
static uint64_t milliseconds = 2000;
static pthread_barrier_t ready, sealed, done;

#define ALLOW(call) \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

/* For every thread. False: the kernel has no seccomp, or is not asked nicely enough. */
static bool seal(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(read),  ALLOW(write),   ALLOW(mmap),  ALLOW(munmap), ALLOW(mremap),
        ALLOW(brk),   ALLOW(madvise), ALLOW(futex), ALLOW(exit),   ALLOW(exit_group),
        /* The clocks that the vDSO answers: on machines whose vDSO has none of them, libc asks the kernel. Not CPU time. */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clock_gettime, 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])), /* little-endian: the low word */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CLOCK_MONOTONIC, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CLOCK_MONOTONIC_COARSE, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {.len = sizeof code / sizeof code[0], .filter = code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
}

static _Noreturn void end(int code, const char *message)
{
    ssize_t ignored = write(STDOUT_FILENO, message, strlen(message));
    (void)ignored;
    for (;;)
        syscall(SYS_exit_group, code);
}

static void *take(size_t size)
{
    char *block = test_malloc(size);
    if (block == NULL)
        end(1, "sandbox: allocation failed\n");
    memset(block, 1, size);
    return block;
}

/* HOLD_MIB in all threads together, a third of it in each kind of size, and a block that grows. */
static void churn(uint64_t stream)
{
    static const struct { size_t min, max; } kinds[] = {{16, 1024}, {2 * KIB, 32 * KIB}, {64 * KIB, 2 * MIB}};
    uint64_t seed = stress_seed(1, stream);
    const size_t share = HOLD_MIB * MIB / (thread_count + 1) / 3;
    const double stop = stress_now() + (double)milliseconds / 1000;
    do {
        for (size_t kind = 0; kind < sizeof kinds / sizeof kinds[0]; kind++) {
            void **list = NULL; /* through the blocks' first words */
            for (size_t bytes = 0; bytes < share;) {
                const size_t size = stress_between(&seed, kinds[kind].min, kinds[kind].max);
                void **block = take(size);
                *block = list;
                list = block;
                bytes += size;
            }
            while (list != NULL) {
                void **next = *list;
                test_free(list);
                list = next;
            }
        }
        char *grown = NULL;
        for (size_t size = 100; size < 16 * MIB; size += size / 2) {
            char *bigger = test_realloc(grown, size);
            if (bigger == NULL)
                end(1, "sandbox: realloc failed\n");
            grown = bigger;
            grown[size - 1] = 1;
        }
        test_free(grown);
        char *huge = test_malloc(HUGE_MIB * MIB); /* a mapping of its own, which may be kept for the next one */
        if (huge == NULL)
            end(1, "sandbox: allocation failed\n");
        huge[HUGE_MIB * MIB - 1] = 1;
        test_free(huge);
    } while (stress_now() < stop);
}

static void *thread_main(void *stream)
{
    test_free(take(100));
    pthread_barrier_wait(&ready);
    pthread_barrier_wait(&sealed);
    churn((uintptr_t)stream);
    pthread_barrier_wait(&done);
    for (;;) /* its end would take system calls of libc's */
        pthread_barrier_wait(&done);
    return NULL;
}

int main(int argc, char **argv)
{
    const struct stress_option options[] = {
        {"threads", "threads beside the first one", &thread_count, 0, STRESS_MAX_THREADS, NULL},
        {"ms", "how long each allocates", &milliseconds, 1, 1000000, NULL},
    };
    stress_parse(argc, argv, "Allocates where all other system calls are forbidden.", options,
                 sizeof options / sizeof options[0]);
    pthread_barrier_init(&ready, NULL, (unsigned)thread_count + 1);
    pthread_barrier_init(&sealed, NULL, (unsigned)thread_count + 1);
    pthread_barrier_init(&done, NULL, (unsigned)thread_count + 1);
    for (uintptr_t i = 1; i <= thread_count; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, thread_main, (void *)i) != 0)
            stress_fail("cannot start a thread");
    }
    test_free(take(1000));
    pthread_barrier_wait(&ready);
    stress_sleep_ms(50); /* libc's and the library's own threads have begun */
    if (!seal())
        end(SKIP_CODE, "SKIP: seccomp is not to be had here\n");
    pthread_barrier_wait(&sealed);
    churn(0);
    pthread_barrier_wait(&done);
    end(0, "sandbox: nothing else was called\n");
}
