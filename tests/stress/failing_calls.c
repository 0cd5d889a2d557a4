/* failing_calls: what if any one system call fails?
 *
 * The library reaches the kernel through libc's syscall() and clock_gettime(), and a program's own functions of these names
 * come first. So the program runs itself again and again: in the first run the first call that may fail does, in the second
 * run the second, and so on, from the library's start on, until there are no more. The clock moves by a millisecond each
 * time it is read, so that decay comes by in a short run, and every run makes the same calls.
 *
 * In each run, whatever fails: blocks keep what was written, calloc is zero, errno is ENOMEM with NULL and untouched
 * otherwise, what was refused can be had at the next try, a forked child has a working heap, and in the end nothing is
 * held. */
#define _GNU_SOURCE
#include "alloc.h"
#include "common.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SLOTS = 64, STEPS = 200, PAUSE_MS = 400, EXIT_NONE_LEFT = 3, ERRNO_KEPT = 77 };

#define FAIL_AT "FAILING_CALLS_AT" /* the environment: the library makes calls before main has its arguments */

static uint64_t every = 1;
static uint64_t user_seed = 1;

/* One thread at a time makes calls that may fail; atomic for the library's own thread. Relaxed: numbers, no more. */
static atomic_long calls_left = -1; /* until the one that fails; < 0: none does */
static atomic_bool has_failed;
static atomic_long clock_ms = 1000;

/* ---- what the library calls ---- */

static bool may_fail(long number)
{
    switch (number) {
    case SYS_mmap:
    case SYS_munmap:
    case SYS_mremap:
    case SYS_madvise:
    case SYS_openat:
    case SYS_read:
    case SYS_newfstatat:
    case SYS_getrandom:
    case SYS_prlimit64:
    case SYS_sysinfo:
    case SYS_sched_getaffinity:
        return true;
    default:
        return false;
    }
}

/* Before libc is up there is no environment, and nothing fails. */
static void read_environment(void)
{
    static atomic_bool was_read;
    if (environ == NULL || atomic_exchange(&was_read, true))
        return;
    const char *text = getenv(FAIL_AT);
    if (text != NULL)
        calls_left = strtol(text, NULL, 10);
}

static long kernel(long number, const long a[6])
{
    long result;
    register long r10 __asm__("r10") = a[3];
    register long r8 __asm__("r8") = a[4];
    register long r9 __asm__("r9") = a[5];
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

long syscall(long number, ...)
{
    long a[6]; /* more than there are, mostly: the kernel does not look at the rest */
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    read_environment();
    if (may_fail(number) && calls_left >= 0 && calls_left-- == 0) {
        has_failed = true;
        errno = ENOMEM;
        return -1;
    }
    const long result = kernel(number, a);
    if (result >= 0 || result < -4095)
        return result;
    errno = (int)-result;
    return -1;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    const long ms = ++clock_ms;
    (void)clock;
    *now = (struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    return 0;
}

/* ---- one run ---- */

struct slot {
    unsigned char *block;
    size_t size;
};

static unsigned char pattern(const struct slot *slot, size_t at)
{
    return (unsigned char)(slot->size + at * 7);
}

/* The last byte, and so many others in a large block that a run takes milliseconds. */
static size_t next_at(size_t size, size_t at)
{
    const size_t step = size / 64 > 61 ? size / 64 : 61;
    return at + 1 < size && at + step >= size ? size - 1 : at + step;
}

static void write_pattern(const struct slot *slot)
{
    for (size_t at = 0; at < slot->size; at = next_at(slot->size, at))
        slot->block[at] = pattern(slot, at);
}

static void check_pattern(const struct slot *slot, const unsigned char *block, size_t size)
{
    for (size_t at = 0; at < size; at = next_at(slot->size, at))
        if (block[at] != pattern(slot, at))
            stress_fail("CORRUPTION: byte %zu of a block of %zu bytes", at, slot->size);
}

static size_t choose_size(uint64_t *random)
{
    static const size_t tops[] = {64, 2 * KIB, 32 * KIB, 300 * KIB, MIB, 6 * MIB, 70 * MIB};
    static const uint8_t kinds[16] = {0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 4, 4, 5, 6, 6, 6};
    return 1 + stress_random(random) % tops[kinds[stress_random(random) % 16]];
}

static void check_errno(const void *block, const char *call)
{
    if (errno != (block == NULL ? ENOMEM : ERRNO_KEPT))
        stress_fail("%s gave %p with errno %d", call, (const void *)block, errno);
    errno = ERRNO_KEPT;
}

/* One call fails, so the second try cannot. */
static unsigned char *take(size_t size, bool zeroed, size_t alignment)
{
    unsigned char *block = NULL;
    for (int tries = 0; tries < 2 && block == NULL; tries++) {
        block = zeroed ? test_calloc(1, size) : alignment > 1 ? test_aligned_alloc(alignment, size) : test_malloc(size);
        check_errno(block, "an allocation");
    }
    if (block == NULL)
        stress_fail("%zu bytes were refused twice", size);
    for (size_t at = 0; zeroed && at < size; at = next_at(size, at))
        if (block[at] != 0)
            stress_fail("calloc(1, %zu): byte %zu is not zero", size, at);
    return block;
}

static void resize(struct slot *slot, size_t size)
{
    unsigned char *block = test_realloc(slot->block, size);
    check_errno(block, "realloc");
    if (block == NULL || size > slot->size)
        check_pattern(slot, block == NULL ? slot->block : block, slot->size);
    else
        check_pattern(slot, block, size);
    if (block != NULL)
        *slot = (struct slot){block, size};
    write_pattern(slot);
}

static void step(struct slot *slot, uint64_t *random)
{
    const unsigned choice = (unsigned)(stress_random(random) % 8);
    const size_t size = choose_size(random);
    if (slot->block == NULL) {
        *slot = (struct slot){take(size, choice < 3, choice == 7 ? 8192 : 1), size};
        write_pattern(slot);
    } else if (choice < 3) {
        resize(slot, choice == 0 ? size : choice == 1 ? slot->size + slot->size / 4 + 1 : slot->size / 2 + 1);
    } else {
        check_pattern(slot, slot->block, slot->size);
        test_free(slot->block);
        check_errno(slot, "free");
        *slot = (struct slot){NULL, 0};
    }
    if (stress_random(random) % 32 == 0)
        clock_ms += PAUSE_MS;
    if (stress_random(random) % 128 == 0)
        test_malloc_trim();
}

static void *work(void *stream)
{
    struct slot slots[SLOTS] = {{NULL, 0}};
    uint64_t random = stress_seed(user_seed, (uintptr_t)stream);
    errno = ERRNO_KEPT;
    for (unsigned i = 0; i < STEPS; i++)
        step(&slots[stress_random(&random) % SLOTS], &random);
    for (unsigned i = 0; i < SLOTS; i++) {
        if (slots[i].block != NULL)
            check_pattern(&slots[i], slots[i].block, slots[i].size);
        test_free(slots[i].block);
    }
    return NULL;
}

static int wait_for(pid_t child)
{
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child)
        stress_fail("cannot start a process: %s", strerror(errno));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* What large and huge blocks hold: of small ones libc has some, too. */
static size_t large_bytes(void)
{
    const struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static int run_once(void)
{
    pthread_t thread;
    work((void *)1);
    if (pthread_create(&thread, NULL, work, (void *)2) != 0 || pthread_join(thread, NULL) != 0)
        stress_fail("cannot start a thread");
    const pid_t child = fork();
    if (child == 0) {
        work((void *)3);
        _exit(0);
    }
    const int code = wait_for(child);
    if (code != 0)
        stress_fail("a forked child ends with %d", code);
    if (!has_failed)
        return EXIT_NONE_LEFT;
    if (large_bytes() > MIB)
        stress_fail("%zu bytes are held though all is freed", large_bytes());
    return 0;
}

/* ---- all runs ---- */

static int run_failing(char *const *argv, uint64_t at)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRIu64, at);
    const pid_t child = fork();
    if (child == 0) {
        setenv(FAIL_AT, text, 1);
        execv("/proc/self/exe", argv);
        _exit(127);
    }
    return wait_for(child);
}

int main(int argc, char **argv)
{
    const struct stress_option options[] = {
        {"every", "one call in so many fails in a run of its own", &every, 1, 1000000, NULL},
        {"seed", "seed of the random choices", &user_seed, 0, UINT64_MAX, NULL},
    };
    stress_parse(argc, argv, "failing_calls: each system call of the library fails once", options,
                 sizeof options / sizeof options[0]);
    if (getenv(FAIL_AT) != NULL)
        return run_once();
    uint64_t runs = 0;
    int code = 0;
    for (uint64_t at = user_seed % every; (code = run_failing(argv, at)) == 0; at += every)
        runs++;
    if (code != EXIT_NONE_LEFT)
        stress_fail("when call %" PRIu64 " fails, the run ends with %d", user_seed % every + runs * every, code);
    if (runs == 0)
        stress_fail("no call of an allocator's came by: none is preloaded that goes by syscall()");
    printf("failing_calls: %" PRIu64 " calls failed, one in each run\n", runs);
    return 0;
}
