/* committed: how much memory does the program promise itself, beside libc's own malloc, and in how many mappings?
 *
 * Where the kernel does not overcommit (vm.overcommit_memory=2), every private page that may be written to counts when it is
 * mapped, touched or not. The test need not switch that for the whole machine: VmData is the sum of such pages. The same
 * random operations are done by libc in a process of their own; with small blocks this one may have a tenth and 4 MiB more,
 * at its start and at any time later. With --large 500 every 500th block has up to 4 MiB: what such blocks leave waits for
 * its decay, as free pages do, so there only the number of mappings is bounded. */
#define _GNU_SOURCE
#include "alloc.h"
#include "common.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SLOTS = 200000, LOOKS = 300, SMALL_BITS = 6, LARGE_BITS = 12 };
#define SMALL_MIN_BYTES ((size_t)16) /* ... to 1 KiB */
#define LARGE_MIN_BYTES ((size_t)1024) /* ... to 4 MiB */
#define ALLOWED_MORE_BYTES (4 * MIB)

static uint64_t operations = 3000000;
static uint64_t map_lines_max = 200;
static uint64_t user_seed = 1;
static uint64_t large_every;
static uint64_t alone; /* this process is the one of libc's */

struct figures {
    size_t start_bytes, most_bytes; /* committed */
    size_t map_lines;
};

static size_t committed_bytes(void)
{
    char text[4096];
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    close(fd);
    text[length > 0 ? length : 0] = '\0';
    const char *line = strstr(text, "\nVmData:");
    if (line == NULL)
        stress_fail("/proc/self/status does not tell VmData");
    return (size_t)strtoull(line + strlen("\nVmData:"), NULL, 10) * KIB;
}

static size_t count_map_lines(void)
{
    char text[4096];
    size_t lines = 0;
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    for (ssize_t length; fd >= 0 && (length = read(fd, text, sizeof text)) > 0;)
        for (ssize_t i = 0; i < length; i++)
            lines += text[i] == '\n';
    close(fd);
    return lines;
}

static size_t random_size(uint64_t *seed)
{
    const bool is_large = large_every != 0 && stress_random(seed) % large_every == 0;
    const size_t least = is_large ? LARGE_MIN_BYTES : SMALL_MIN_BYTES;
    const unsigned bits = (unsigned)(stress_random(seed) % (is_large ? LARGE_BITS : SMALL_BITS));
    return stress_between(seed, least << bits, least << (bits + 1));
}

static void look(struct figures *f)
{
    const size_t bytes = committed_bytes(), lines = count_map_lines();
    f->most_bytes = bytes > f->most_bytes ? bytes : f->most_bytes;
    f->map_lines = lines > f->map_lines ? lines : f->map_lines;
}

static struct figures work(void)
{
    struct figures f = {0};
    char **slots = stress_map(SLOTS * sizeof *slots);
    uint64_t seed = stress_seed(user_seed, 0);
    test_free(test_malloc(1));
    f.start_bytes = committed_bytes();
    for (uint64_t i = 0; i < operations; i++) {
        char **slot = &slots[stress_random(&seed) % SLOTS];
        const size_t size = random_size(&seed); /* one as well for a free: the same sequence wherever it is */
        if (*slot != NULL) {
            test_free(*slot);
            *slot = NULL;
        } else {
            *slot = test_malloc(size);
            if (*slot == NULL)
                stress_fail("no %zu bytes", size);
            **slot = 1;
        }
        if (i % (operations / LOOKS + 1) == 0)
            look(&f);
    }
    look(&f);
    for (size_t i = 0; i < SLOTS; i++)
        test_free(slots[i]);
    stress_unmap(slots, SLOTS * sizeof *slots);
    return f;
}

/* What this program, started once more without a preloaded library, finds. */
static struct figures ask_libc(char **argv)
{
    struct figures f;
    int ends[2];
    char *arguments[64] = {argv[0], "--alone", "1"};
    for (size_t i = 1; argv[i] != NULL && i + 3 < sizeof arguments / sizeof arguments[0]; i++)
        arguments[i + 2] = argv[i];
    if (pipe(ends) != 0)
        stress_fail("no pipe");
    const pid_t child = fork();
    if (child == 0) {
        unsetenv("LD_PRELOAD");
        dup2(ends[1], STDOUT_FILENO);
        execv("/proc/self/exe", arguments);
        _exit(127);
    }
    close(ends[1]);
    if (child < 0 || read(ends[0], &f, sizeof f) != (ssize_t)sizeof f || waitpid(child, NULL, 0) != child)
        stress_fail("libc's figures are not to be had");
    close(ends[0]);
    return f;
}

static void compare(const char *when, size_t bytes, size_t libc_bytes)
{
    const size_t most = libc_bytes + libc_bytes / 10 + ALLOWED_MORE_BYTES;
    printf("committed: %zu KiB %s, %zu KiB with libc's malloc\n", bytes / KIB, when, libc_bytes / KIB);
    if (bytes > most)
        stress_fail("%zu KiB are committed %s; at most %zu are allowed", bytes / KIB, when, most / KIB);
}

int main(int argc, char **argv)
{
    const struct stress_option options[] = {
        {"ops", "random operations", &operations, 1, UINT64_MAX, NULL},
        {"lines", "lines that /proc/self/maps may have", &map_lines_max, 1, 100000, NULL},
        {"seed", "of the operations", &user_seed, 0, UINT64_MAX, NULL},
        {"large", "every how manieth block is large; 0: none, and what is committed is bounded", &large_every, 0, UINT64_MAX,
         NULL},
        {"alone", "1: only find the figures, and write them to stdout as they are in memory", &alone, 0, 1, NULL},
    };
    stress_parse(argc, argv, "Committed memory beside libc's malloc, and the number of mappings.", options,
                 sizeof options / sizeof options[0]);
    const struct figures f = work();
    if (alone != 0)
        return write(STDOUT_FILENO, &f, sizeof f) == (ssize_t)sizeof f ? 0 : 1;
    if (large_every == 0) {
        const struct figures libc = ask_libc(argv);
        compare("at the start", f.start_bytes, libc.start_bytes);
        compare("at most", f.most_bytes, libc.most_bytes);
    }
    printf("committed: %zu lines of /proc/self/maps\n", f.map_lines);
    if (f.map_lines > map_lines_max)
        stress_fail("/proc/self/maps has %zu lines; at most %zu are allowed", f.map_lines, (size_t)map_lines_max);
    return 0;
}
