/* exhaust: what happens when there is no memory left?
 *
 * For each kind of size the program runs itself again under a limit of address space (RLIMIT_AS). That child
 * mallocs until NULL and checks: errno is ENOMEM, not only for malloc; a realloc that fails leaves its block
 * alone; nothing is printed on stderr; every block kept its contents; and once all is freed, malloc works again.
 * A sanitizer cannot start under such a limit, so there the child sets it itself, above the address space it
 * already has. */
#define _GNU_SOURCE
#include "alloc.h"
#include "common.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EXIT_SKIPPED = 77, CHILD_TIMEOUT_S = 60 };

static const struct kind {
    const char *name;
    size_t size;
} kinds[] = {
    {"small", 48}, {"tiny-top", 2048}, {"medium", 10000}, {"large", 200 * KIB}, {"huge", 8 * MIB},
};
enum { KIND_COUNT = sizeof kinds / sizeof kinds[0] };

static uint64_t limit_mib = 256;

/* The blocks are their own list: the program has no memory to keep one. */
struct node {
    struct node *next;
    uint64_t check;
};

static uint64_t node_check(const struct node *node)
{
    return stress_key(node, (uintptr_t)node->next);
}

/* Mallocs until NULL; returns how many there were. */
static size_t take_everything(struct node **list, size_t size)
{
    size_t count = 0;
    size_t most = limit_mib * MIB / size;
    for (;;) {
        errno = 0;
        struct node *node = test_malloc(size);
        if (node == NULL) {
            if (errno != ENOMEM) {
                stress_fail("malloc(%zu) gave NULL with errno %d, not ENOMEM", size, errno);
            }
            return count;
        }
        if (++count > most) {
            stress_fail("%zu blocks of %zu bytes are more than the limit of %" PRIu64 " MiB", count, size, limit_mib);
        }
        ((unsigned char *)node)[size - 1] = 0xa5;
        node->next = *list;
        node->check = node_check(node);
        *list = node;
    }
}

static void free_everything(struct node **list)
{
    while (*list != NULL) {
        struct node *node = *list;
        if (node->check != node_check(node)) {
            stress_fail("CORRUPTION: a block at %p lost its contents", (void *)node);
        }
        *list = node->next;
        test_free(node);
    }
}

static void expect_enomem(const void *result, const char *call)
{
    if (result != NULL || errno != ENOMEM) {
        stress_fail("%s without memory gave %p with errno %d, not NULL and ENOMEM", call, result, errno);
    }
}

/* Every other entry point, while nothing is left, asked for more than there could be. */
static void ask_in_vain(struct node *survivor)
{
    volatile size_t too_much = 2 * limit_mib * MIB;
    errno = 0;
    expect_enomem(test_calloc(1, too_much), "calloc");
    errno = 0;
    expect_enomem(test_aligned_alloc(4096, too_much), "aligned_alloc");
    void *untouched = &errno;
    if (test_posix_memalign(&untouched, 4096, too_much) != ENOMEM || untouched != &errno) {
        stress_fail("posix_memalign without memory did not give ENOMEM, or wrote its result");
    }
    errno = 0;
    expect_enomem(test_realloc(survivor, too_much), "realloc");
    if (survivor->check != node_check(survivor)) {
        stress_fail("CORRUPTION: a realloc that failed spoilt its block");
    }
}

static void limit_in_process(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_AS, &limit);
    limit.rlim_cur = stress_address_space_bytes() + limit_mib * MIB;
    if (setrlimit(RLIMIT_AS, &limit) != 0) {
        stress_fail("setrlimit: %s", strerror(errno));
    }
}

static void lift_limit(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_AS, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_AS, &limit);
}

static int run_child(const struct kind *kind)
{
    struct node *list = NULL;
    size_t counts[2];
    if (STRESS_SANITIZED) {
        limit_in_process();
    }
    for (int pass = 0; pass < 2; pass++) {
        counts[pass] = take_everything(&list, kind->size);
        if (counts[pass] == 0) {
            stress_fail("not one block of %zu bytes on pass %d", kind->size, pass + 1);
        }
        ask_in_vain(list);
        free_everything(&list);
        for (size_t i = 0; i < KIND_COUNT; i++) {
            void *block = test_malloc(kinds[i].size);
            if (block == NULL && kinds[i].size <= kind->size) {
                stress_fail("after everything was freed malloc(%zu) still fails", kinds[i].size);
            }
            test_free(block);
        }
    }
    if (counts[1] < counts[0] / 2) {
        stress_fail("%zu blocks of %zu bytes the first time, only %zu the second", counts[0], kind->size, counts[1]);
    }
    if (STRESS_SANITIZED) {
        lift_limit();
    }
    char text[128];
    int length = snprintf(text, sizeof text, "%zu blocks of %zu bytes (%zu MiB of %" PRIu64 "), then %zu", counts[0],
                          kind->size, counts[0] * kind->size / MIB, limit_mib, counts[1]);
    return write(STDOUT_FILENO, text, (size_t)length) == length ? 0 : 1;
}

static void exec_child(const struct kind *kind, int out, int err)
{
    char limit_text[32];
    snprintf(limit_text, sizeof limit_text, "%" PRIu64, limit_mib);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    alarm(CHILD_TIMEOUT_S);
    if (!STRESS_SANITIZED) {
        struct rlimit limit = {.rlim_cur = limit_mib * MIB, .rlim_max = limit_mib * MIB};
        if (setrlimit(RLIMIT_AS, &limit) != 0) {
            stress_fail("setrlimit: %s", strerror(errno));
        }
    }
    execl("/proc/self/exe", "exhaust-child", "--child", kind->name, "--limit-mib", limit_text, (char *)NULL);
    stress_fail("cannot run itself again: %s", strerror(errno));
}

/* What the child wrote to a file, as text. */
static void read_back(FILE *file, char *text, size_t capacity)
{
    rewind(file);
    size_t length = fread(text, 1, capacity - 1, file);
    text[length] = '\0';
    fclose(file);
}

static bool run_kind(const struct kind *kind)
{
    char out_text[512], err_text[512];
    FILE *out = tmpfile();
    FILE *err = tmpfile();
    if (out == NULL || err == NULL) {
        stress_fail("tmpfile: %s", strerror(errno));
    }
    pid_t child = fork();
    if (child < 0) {
        stress_fail("fork: %s", strerror(errno));
    }
    if (child == 0) {
        exec_child(kind, fileno(out), fileno(err));
    }
    int status;
    waitpid(child, &status, 0);
    read_back(out, out_text, sizeof out_text);
    read_back(err, err_text, sizeof err_text);
    bool good = WIFEXITED(status) && WEXITSTATUS(status) == 0 && err_text[0] == '\0';
    if (good) {
        printf("exhaust: %s: ok: %s\n", kind->name, out_text);
    } else if (WIFSIGNALED(status)) {
        printf("exhaust: %s: FAILED: signal %d%s: %s%s\n", kind->name, WTERMSIG(status),
               WTERMSIG(status) == SIGALRM ? " (too slow)" : "", out_text, err_text);
    } else {
        printf("exhaust: %s: FAILED: exit code %d: %s%s\n", kind->name, WEXITSTATUS(status), out_text, err_text);
    }
    fflush(stdout);
    return good;
}

int main(int argc, char **argv)
{
    const char *child_kind = "";
    const char *only = "all";
    const struct stress_option options[] = {
        {"kind", "small, tiny-top, medium, large, huge or all", NULL, 0, 0, &only},
        {"limit-mib", "address space in MiB", &limit_mib, 64, 65536, NULL},
        {"child", "(internal) the kind to run in this process", NULL, 0, 0, &child_kind},
    };
    stress_parse(argc, argv, "exhaust: running out of memory and back", options, sizeof options / sizeof options[0]);
#if STRESS_SANITIZED && !defined(HAKMEM_PREFIXED)
    printf("exhaust: skipped: a sanitizer's own malloc ends the process when memory runs out\n");
    return EXIT_SKIPPED;
#endif
    for (size_t i = 0; i < KIND_COUNT; i++) {
        if (strcmp(child_kind, kinds[i].name) == 0) {
            return run_child(&kinds[i]);
        }
    }
    bool good = true, found = false;
    for (size_t i = 0; i < KIND_COUNT; i++) {
        if (strcmp(only, "all") == 0 || strcmp(only, kinds[i].name) == 0) {
            found = true;
            good = run_kind(&kinds[i]) && good;
        }
    }
    if (!found) {
        fprintf(stderr, "exhaust: no kind '%s'\n", only);
        return 2;
    }
    return good ? 0 : 1;
}
