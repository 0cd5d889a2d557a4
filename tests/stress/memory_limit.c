/* Does HAKMEM_MEMORY_LIMIT hold, whatever is asked for, and is everything as before once memory has been freed?
 *
 * The program runs itself again with the limit in the environment, once per question. Every page of every block is
 * written, so that what the allocator hands out is resident. Checked are: NULL comes with ENOMEM and not too early;
 * resident memory stays within the limit and a constant; free works at the limit; and after everything is freed, as
 * much can be had again, in another size. */
#define _GNU_SOURCE
#include "alloc.h"
#include "common.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CHILD_TIMEOUT_S = 100, MAX_THREADS = 16, RACE_ROUNDS = 3 };

/* What is not the allocator's: stacks, libraries, stdio. */
#define RSS_SLACK_BYTES (4 * MIB)

static uint64_t limit_mib = 64;
static uint64_t thread_count = 4;
static size_t rss_at_start;

/* The blocks are their own list: the program has no memory to keep one. */
struct node {
    struct node *next;
    size_t size;
    uint64_t check;
};

static uint64_t node_check(const struct node *node)
{
    return stress_key(node, (uintptr_t)node->next ^ node->size);
}

static void expect_rss(const char *when)
{
    size_t rss = stress_rss_bytes();
    if (!STRESS_SANITIZED && rss > rss_at_start + limit_mib * MIB + RSS_SLACK_BYTES)
        stress_fail("%s %zu KiB are resident; the limit is %" PRIu64 " MiB, at the start it was %zu KiB", when,
                    rss / KIB, limit_mib, rss_at_start / KIB);
}

/* NULL at the limit. */
static struct node *take(struct node **list, size_t size)
{
    errno = 0;
    struct node *node = test_malloc(size);
    if (node == NULL) {
        if (errno != ENOMEM)
            stress_fail("malloc(%zu) gave NULL with errno %d, not ENOMEM", size, errno);
        return NULL;
    }
    memset(node, 0xa5, size);
    node->next = *list;
    node->size = size;
    node->check = node_check(node);
    *list = node;
    return node;
}

static size_t take_everything(struct node **list, size_t size)
{
    size_t bytes = 0;
    while (take(list, size) != NULL) {
        bytes += size;
        if (bytes > limit_mib * MIB)
            stress_fail("%zu bytes in blocks of %zu are more than the limit", bytes, size);
    }
    return bytes;
}

static void free_everything(struct node **list)
{
    while (*list != NULL) {
        struct node *node = *list;
        if (node->check != node_check(node))
            stress_fail("CORRUPTION: a block of %zu bytes at %p lost its contents", node->size, (void *)node);
        *list = node->next;
        test_free(node);
    }
}

/* Each size on its own, one after the other, so that each has to get what the one before has given back. */
static void run_sizes(void)
{
    static const size_t sizes[] = {48, 2048, 10000, 250 * KIB, 3 * MIB, 48, 7 * MIB, 100, 10000};
    struct node *list = NULL;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t bytes = take_everything(&list, sizes[i]);
        expect_rss("with all memory taken");
        if (bytes < limit_mib * MIB / 4 * 3)
            stress_fail("pass %zu: only %zu KiB could be had in blocks of %zu bytes", i, bytes / KIB, sizes[i]);
        free_everything(&list);
        expect_rss("with all memory freed");
    }
}

static void refuse(const void *result, const char *call)
{
    if (result != NULL || errno != ENOMEM)
        stress_fail("%s at the limit gave %p with errno %d, not NULL and ENOMEM", call, result, errno);
}

/* Every entry point at the limit, and one block that grows and shrinks. */
static void run_entry_points(void)
{
    struct node *list = NULL;
    volatile size_t too_much = limit_mib * MIB;
    take_everything(&list, 64 * KIB);
    errno = 0;
    refuse(test_calloc(1, too_much), "calloc");
    errno = 0;
    refuse(test_aligned_alloc(4096, too_much), "aligned_alloc");
    errno = 0;
    refuse(test_realloc(list, too_much), "realloc");
    if (list->check != node_check(list))
        stress_fail("CORRUPTION: a realloc that failed spoilt its block");
    free_everything(&list);

    /* In the size of a huge block growth is in place: it may take nearly all. */
    size_t most = 0;
    for (unsigned pass = 0; pass < 2; pass++) {
        unsigned char *block = NULL;
        for (size_t size = MIB;; size += MIB) {
            errno = 0;
            unsigned char *grown = test_realloc(block, size);
            if (grown == NULL) {
                if (errno != ENOMEM)
                    stress_fail("realloc to %zu gave NULL with errno %d, not ENOMEM", size, errno);
                break;
            }
            block = grown;
            block[size - MIB] = (unsigned char)(size / MIB);
            memset(block + size - MIB + 1, 1, MIB - 1);
            most = size;
            expect_rss("while a block grows");
        }
        for (size_t at = 0; at < most; at += MIB)
            if (block[at] != (unsigned char)(at / MIB + 1))
                stress_fail("CORRUPTION: realloc lost byte %zu", at);
        test_free(block);
        if (most < limit_mib * MIB / 4)
            stress_fail("pass %u: a block could grow to %zu MiB only", pass, most / MIB);
    }
}

static pthread_barrier_t barrier;
static uint64_t held_bytes; /* by all threads; atomic relaxed */

static void *race(void *argument)
{
    uint64_t seed = stress_seed(7, (uintptr_t)argument);
    for (unsigned round = 0; round < RACE_ROUNDS; round++) {
        struct node *list = NULL;
        size_t bytes = 0;
        pthread_barrier_wait(&barrier);
        for (unsigned refusals = 0; refusals < 20;) {
            size_t size = stress_random(&seed) % 8 == 0 ? stress_between(&seed, 32 * KIB, 2 * MIB)
                                                        : stress_between(&seed, sizeof(struct node), 8 * KIB);
            if (take(&list, size) == NULL) {
                refusals++;
            } else {
                bytes += size;
                uint64_t all = __atomic_add_fetch(&held_bytes, size, __ATOMIC_RELAXED);
                if (all > limit_mib * MIB)
                    stress_fail("%" PRIu64 " bytes are held: more than the limit", all);
            }
            if (list != NULL && stress_random(&seed) % 4 == 0) {
                struct node *node = list;
                list = node->next;
                bytes -= node->size;
                __atomic_sub_fetch(&held_bytes, node->size, __ATOMIC_RELAXED);
                test_free(node);
            }
        }
        expect_rss("while threads race");
        __atomic_sub_fetch(&held_bytes, bytes, __ATOMIC_RELAXED);
        pthread_barrier_wait(&barrier);
        free_everything(&list);
    }
    return NULL;
}

static void run_race(void)
{
    pthread_t threads[MAX_THREADS];
    pthread_barrier_init(&barrier, NULL, (unsigned)thread_count);
    for (uintptr_t i = 0; i < thread_count; i++)
        if (pthread_create(&threads[i], NULL, race, (void *)(i + 1)) != 0)
            stress_fail("pthread_create failed");
    for (size_t i = 0; i < thread_count; i++)
        pthread_join(threads[i], NULL);
    struct node *list = NULL; /* nothing was lost */
    size_t bytes = take_everything(&list, 250 * KIB);
    if (bytes < limit_mib * MIB / 4 * 3)
        stress_fail("after the race only %zu KiB could be had", bytes / KIB);
    free_everything(&list);
}

/* A refill that finds nothing takes back what magazines hold, and closes them, its own too; with all of the process's
 * cache budget spent they stay small. What is freed then must not go where the next bin's blocks come from. */
static void run_refill(void)
{
    enum { WARM = 256, BACK = 40, PROBES = 3 };
    void *warm[WARM];
    for (unsigned i = 0; i < WARM; i++)
        warm[i] = test_malloc(512);
    struct node *list = NULL, *next;
    take_everything(&list, 1024);
    for (unsigned i = 0; i < WARM; i++)
        test_free(warm[i]);
    take(&list, 1024);
    for (unsigned i = 0; i < BACK && list != NULL; i++) {
        next = list->next;
        test_free(list);
        list = next;
    }
    for (unsigned i = 0; i < PROBES; i++) {
        void *probe = test_malloc(1280);
        for (next = list; next != NULL; next = next->next)
            if (probe == next)
                stress_fail("CORRUPTION: a block in use was handed out again");
        if (probe != NULL && test_usable_size(probe) < 1280)
            stress_fail("CORRUPTION: malloc(1280) gave a block of %zu bytes", test_usable_size(probe));
    }
    free_everything(&list);
}

static const struct question {
    const char *name;
    void (*run)(void);
    const char *cache_bytes; /* HAKMEM_CACHE_BYTES; NULL: as it is */
} questions[] = {{"sizes", run_sizes, NULL},
                 {"entry-points", run_entry_points, NULL},
                 {"race", run_race, NULL},
                 {"refill", run_refill, "1K"}};
enum { QUESTION_COUNT = sizeof questions / sizeof questions[0] };

static bool ask(const struct question *question)
{
    pid_t child = fork();
    if (child < 0)
        stress_fail("fork: %s", strerror(errno));
    if (child == 0) {
        char limit[32], text[32], threads[32];
        snprintf(limit, sizeof limit, "%" PRIu64 "M", limit_mib);
        snprintf(text, sizeof text, "%" PRIu64, limit_mib);
        snprintf(threads, sizeof threads, "%" PRIu64, thread_count);
        setenv("HAKMEM_MEMORY_LIMIT", limit, 1);
        if (question->cache_bytes != NULL)
            setenv("HAKMEM_CACHE_BYTES", question->cache_bytes, 1);
        alarm(CHILD_TIMEOUT_S);
        execl("/proc/self/exe", "memory-limit-child", "--child", question->name, "--limit-mib", text, "--threads",
              threads, (char *)NULL);
        stress_fail("cannot run itself again: %s", strerror(errno));
    }
    int status;
    waitpid(child, &status, 0);
    bool good = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (good)
        printf("memory_limit: %s: ok\n", question->name);
    else if (WIFSIGNALED(status))
        printf("memory_limit: %s: FAILED: signal %d\n", question->name, WTERMSIG(status));
    else
        printf("memory_limit: %s: FAILED: exit code %d\n", question->name, WEXITSTATUS(status));
    fflush(stdout);
    return good;
}

int main(int argc, char **argv)
{
    const char *child = "";
    const struct stress_option options[] = {
        {"limit-mib", "HAKMEM_MEMORY_LIMIT in MiB", &limit_mib, 64, 65536, NULL},
        {"threads", "threads that race", &thread_count, 1, MAX_THREADS, NULL},
        {"child", "(internal) the question to run in this process", NULL, 0, 0, &child},
    };
    stress_parse(argc, argv, "memory_limit: at HAKMEM_MEMORY_LIMIT and back", options, sizeof options / sizeof options[0]);
    for (size_t i = 0; i < QUESTION_COUNT; i++) {
        if (strcmp(child, questions[i].name) == 0) {
            rss_at_start = stress_rss_bytes();
            questions[i].run();
            return 0;
        }
    }
    bool good = true;
    for (size_t i = 0; i < QUESTION_COUNT; i++)
        good = ask(&questions[i]) && good;
    return good ? 0 : 1;
}
