/* What HAKMEM_MEM_LEARN=1 does to a real program: a heap that is full gets huge pages, one that is nearly empty holds no
 * more than it does without learning, and the contents of its blocks survive both.
 *
 *     memory_learning --lib FILE
 *
 * Exit code 1 where it is not so, 77 where the system gives no huge pages on request. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SETTING "/sys/kernel/mm/transparent_hugepage/enabled"
#define HELD_BYTES ((size_t)96 << 20)
#define BLOCK_BYTES 240u
#define KEEP_ONE_IN 64
#define WORK_MS 2500 /* collapsing has a sixty-fourth of it, which is enough for a quarter of the heap on a slow machine */
#define SLACK_KIB 2048

static void die(const char *what)
{
    fprintf(stderr, "memory_learning: %s: %s\n", what, strerror(errno));
    exit(2);
}

/* ---- the program under test ---- */

static long read_kib(const char *field)
{
    char line[256];
    long kib = -1;
    FILE *f = fopen("/proc/self/smaps_rollup", "re");
    if (f == NULL)
        die("/proc/self/smaps_rollup");
    while (fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, field, strlen(field)) == 0)
            kib = strtol(line + strlen(field), NULL, 10);
    fclose(f);
    return kib;
}

static void fill(unsigned char *block, size_t index)
{
    memset(block, (int)(index * 37 % 251), BLOCK_BYTES);
}

static void verify(const unsigned char *block, size_t index)
{
    for (size_t i = 0; i < BLOCK_BYTES; i += 16)
        if (block[i] != index * 37 % 251) {
            errno = 0;
            die("damaged block");
        }
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Replaces blocks at random among those that are held; every batch is wide enough to be seen by slow paths. */
static void work(unsigned char **blocks, size_t count)
{
    static size_t batch[4096];
    uint64_t random = 88172645463325252u;
    for (uint64_t end = now_ms() + WORK_MS; now_ms() < end;) {
        for (size_t i = 0; i < 4096; i++) {
            random ^= random << 13, random ^= random >> 7, random ^= random << 17;
            batch[i] = random % count;
            if (blocks[batch[i]] == NULL) {
                batch[i] = count;
                continue;
            }
            verify(blocks[batch[i]], batch[i]);
            free(blocks[batch[i]]);
            blocks[batch[i]] = NULL;
        }
        for (size_t i = 0; i < 4096; i++) {
            if (batch[i] == count)
                continue;
            if ((blocks[batch[i]] = malloc(BLOCK_BYTES)) == NULL)
                die("malloc");
            fill(blocks[batch[i]], batch[i]);
        }
    }
}

/* Leaves the heap alone and keeps ticks and windows going. */
static void rest(void)
{
    for (uint64_t end = now_ms() + WORK_MS; now_ms() < end;) {
        char *volatile some[500];
        for (size_t i = 0; i < 500; i++)
            some[i] = malloc(2000);
        for (size_t i = 0; i < 500; i++)
            free(some[i]);
    }
}

static int hold(bool sparse)
{
    const size_t count = HELD_BYTES / BLOCK_BYTES;
    unsigned char **blocks = calloc(count, sizeof *blocks);
    if (blocks == NULL)
        die("calloc");
    for (size_t i = 0; i < count; i++) {
        if ((blocks[i] = malloc(BLOCK_BYTES)) == NULL)
            die("malloc");
        fill(blocks[i], i);
    }
    if (sparse) {
        work(blocks, count); /* so that there are huge pages to be given up */
        for (size_t i = 0; i < count; i++) {
            if (i % KEEP_ONE_IN != 0) {
                free(blocks[i]);
                blocks[i] = NULL;
            }
        }
        rest();
    } else {
        work(blocks, count);
    }
    for (size_t i = 0; i < count; i++)
        if (blocks[i] != NULL)
            verify(blocks[i], i);
    printf("%ld %ld\n", read_kib("Rss:"), read_kib("AnonHugePages:"));
    return 0;
}

/* ---- the test ---- */

static char journal[64]; /* of all the programs under test */

struct held {
    long rss_kib, huge_kib;
};

static struct held run(const char *self, const char *lib, const char *learn, const char *what)
{
    struct held held = {-1, -1};
    int ends[2], status = 0;
    if (pipe2(ends, O_CLOEXEC) != 0)
        die("pipe");
    const pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        setenv("LD_PRELOAD", lib, 1);
        setenv("HAKMEM_DECAY_MS", "100", 1);
        setenv("HAKMEM_PAGE_PURGE", "1", 1);
        setenv("HAKMEM_MEM_LEARN", learn, 1);
        setenv("HAKMEM_LEARN_JOURNAL", journal, 1);
        execl(self, self, what, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    FILE *said = fdopen(ends[0], "r");
    const bool understood = said != NULL && fscanf(said, "%ld %ld", &held.rss_kib, &held.huge_kib) == 2;
    if (said != NULL)
        fclose(said);
    if (waitpid(child, &status, 0) != child || status != 0 || !understood) {
        fprintf(stderr, "memory_learning: the program under test ended with status %#x\n", (unsigned)status);
        exit(1);
    }
    return held;
}

static bool journal_says(const char *text)
{
    char line[4096];
    bool found = false;
    FILE *f = fopen(journal, "re");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        found |= strstr(line, text) != NULL;
    if (f != NULL)
        fclose(f);
    printf("memory_learning: the journal says %s: %s\n", text, found ? "ok" : "FAILED");
    return found;
}

static bool is_on_request(void)
{
    char line[128] = "";
    FILE *f = fopen(SETTING, "re");
    if (f != NULL) {
        if (fgets(line, sizeof line, f) == NULL)
            line[0] = '\0';
        fclose(f);
    }
    return strstr(line, "[madvise]") != NULL && sysconf(_SC_PAGESIZE) == 4096;
}

static bool say(const char *what, long have_kib, const char *relation, long limit_kib, bool ok)
{
    printf("memory_learning: %s: %ld KiB, %s %ld: %s\n", what, have_kib, relation, limit_kib, ok ? "ok" : "FAILED");
    return ok;
}

int main(int argc, char **argv)
{
    char self[4096];
    if (argc == 2 && (strcmp(argv[1], "--dense") == 0 || strcmp(argv[1], "--sparse") == 0))
        return hold(strcmp(argv[1], "--sparse") == 0);
    if (argc != 3 || strcmp(argv[1], "--lib") != 0) {
        fprintf(stderr, "usage: memory_learning --lib FILE\n");
        return 2;
    }
    if (!is_on_request()) {
        printf("memory_learning: skipped, huge pages are not to be had by madvise here\n");
        return 77;
    }
    const ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length <= 0)
        die("/proc/self/exe");
    self[length] = '\0';
    snprintf(journal, sizeof journal, "/tmp/hakmem-memory-learning-XXXXXX");
    const int file = mkstemp(journal);
    if (file < 0)
        die("mkstemp");
    close(file);
    const struct held without = run(self, argv[2], "0", "--dense"), with = run(self, argv[2], "1", "--dense");
    const struct held sparse_without = run(self, argv[2], "0", "--sparse"), sparse_with = run(self, argv[2], "1", "--sparse");
    const long quarter_kib = (long)(HELD_BYTES / 1024 / 4);
    const long dense_limit_kib = without.rss_kib + without.rss_kib / 20 + SLACK_KIB;
    const long sparse_limit_kib = sparse_without.rss_kib + sparse_without.rss_kib / 20 + SLACK_KIB;
    bool ok = say("huge pages of a full heap without learning", without.huge_kib, "at most", SLACK_KIB,
                  without.huge_kib <= SLACK_KIB);
    ok &= say("huge pages of a full heap", with.huge_kib, "at least", quarter_kib, with.huge_kib >= quarter_kib);
    ok &= say("a full heap", with.rss_kib, "at most", dense_limit_kib, with.rss_kib <= dense_limit_kib);
    ok &= say("a sparse heap", sparse_with.rss_kib, "at most", sparse_limit_kib, sparse_with.rss_kib <= sparse_limit_kib);
    ok &= journal_says("\"huge_page\"");
    unlink(journal);
    return ok ? 0 : 1;
}
