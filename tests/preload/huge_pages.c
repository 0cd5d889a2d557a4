/* Huge pages must not bloat: a program frees 31 of 32 blocks and waits, with the system's transparent huge pages set to
 * `never` and to `always`. What it then holds must be about the same.
 *
 *     huge_pages --lib FILE
 *
 * Exit code 1 where it is not, 77 where the setting cannot be changed. The setting is the whole machine's, so a second
 * process stands by that restores it however this one ends. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SETTING "/sys/kernel/mm/transparent_hugepage/enabled"
#define HELD_BYTES ((size_t)64 << 20)
#define KEEP_ONE_IN 32
#define WAIT_MS 1500 /* several times HAKMEM_DECAY_MS below, and longer than the usual rate needs for it all */
#define SLACK_KIB 3072 /* one huge page may stay, against flapping */
#define MAPPINGS_MAX 200

static void die(const char *what)
{
    fprintf(stderr, "huge_pages: %s: %s\n", what, strerror(errno));
    exit(2);
}

/* ---- the program under test ---- */

static long count_in(const char *path, bool lines)
{
    FILE *f = fopen(path, "r");
    if (f == NULL)
        die(path);
    long count = 0;
    if (lines) {
        for (int c; (c = fgetc(f)) != EOF;)
            count += c == '\n';
    } else if (fscanf(f, "%*s %ld", &count) != 1) {
        die(path);
    }
    fclose(f);
    return count;
}

static int hold(size_t block_bytes)
{
    const size_t count = HELD_BYTES / block_bytes;
    char **blocks = malloc(count * sizeof *blocks);
    if (blocks == NULL)
        die("malloc");
    for (size_t i = 0; i < count; i++) {
        if ((blocks[i] = malloc(block_bytes)) == NULL)
            die("malloc");
        memset(blocks[i], 1, block_bytes);
    }
    for (size_t i = 0; i < count; i++)
        if (i % KEEP_ONE_IN != 0)
            free(blocks[i]);
    /* Memory comes back at slow paths, and a large block always takes one. */
    for (unsigned ms = 0; ms < WAIT_MS; ms += 5) {
        for (unsigned i = 0; i < 200; i++) {
            char *volatile some = malloc(100000);
            free(some);
        }
        nanosleep(&(const struct timespec){.tv_nsec = 5000000}, NULL);
    }
    for (size_t i = 0; i < count; i += KEEP_ONE_IN)
        if (blocks[i][block_bytes / 2] != 1)
            die("damaged block");
    printf("%ld %ld\n", count_in("/proc/self/statm", false) * (sysconf(_SC_PAGESIZE) / 1024),
           count_in("/proc/self/maps", true));
    return 0;
}

/* ---- the test ---- */

static bool set_mode(const char *mode)
{
    const int file = open(SETTING, O_WRONLY | O_CLOEXEC);
    if (file < 0)
        return false;
    const bool done = write(file, mode, strlen(mode)) == (ssize_t)strlen(mode);
    close(file);
    return done;
}

static void read_mode(char *mode, size_t capacity)
{
    char line[128];
    FILE *f = fopen(SETTING, "r");
    const char *from = NULL;
    if (f != NULL && fgets(line, sizeof line, f) != NULL)
        from = strchr(line, '[');
    if (f != NULL)
        fclose(f);
    const char *to = from == NULL ? NULL : strchr(from, ']');
    if (to == NULL || (size_t)(to - from) > capacity) {
        printf("huge_pages: skipped, the kernel does not say how it uses huge pages\n");
        exit(77);
    }
    memcpy(mode, from + 1, (size_t)(to - from - 1));
    mode[to - from - 1] = '\0';
}

/* Waits for the end of this process, then restores the mode. */
static pid_t start_guardian(const char *mode, int *leash)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        die("pipe");
    const pid_t guardian = fork();
    if (guardian < 0)
        die("fork");
    if (guardian == 0) {
        char byte;
        setsid(); /* what is sent to the test's process group does not reach it */
        close(ends[1]);
        while (read(ends[0], &byte, 1) < 0 && errno == EINTR)
            ;
        _exit(set_mode(mode) ? 0 : 1);
    }
    close(ends[0]);
    *leash = ends[1];
    return guardian;
}

struct held {
    long rss_kib, mappings;
};

static struct held run(const char *self, const char *lib, const char *thp, size_t block_bytes)
{
    char command[64];
    struct held held = {0};
    int ends[2], status = 0;
    snprintf(command, sizeof command, "%zu", block_bytes);
    if (pipe2(ends, O_CLOEXEC) != 0)
        die("pipe");
    const pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        setenv("LD_PRELOAD", lib, 1);
        setenv("HAKMEM_PROFILE", "balanced", 1); /* gives single pages back, too */
        setenv("HAKMEM_DECAY_MS", "100", 1);
        setenv("HAKMEM_THP", thp, 1);
        execl(self, self, "--hold", command, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    FILE *said = fdopen(ends[0], "r");
    if (said == NULL || fscanf(said, "%ld %ld", &held.rss_kib, &held.mappings) != 2)
        held.rss_kib = -1;
    if (said != NULL)
        fclose(said);
    if (waitpid(child, &status, 0) != child || status != 0 || held.rss_kib < 0) {
        fprintf(stderr, "huge_pages: the program under test ended with status %#x\n", (unsigned)status);
        exit(1);
    }
    return held;
}

static bool compare(const char *self, const char *lib, size_t block_bytes)
{
    if (!set_mode("never"))
        die(SETTING);
    const struct held never = run(self, lib, "default", block_bytes);
    if (!set_mode("always"))
        die(SETTING);
    const struct held always = run(self, lib, "default", block_bytes);
    const struct held opted_out = run(self, lib, "never", block_bytes);
    const long limit_kib = never.rss_kib + never.rss_kib / 5 + SLACK_KIB;
    const bool ok = always.rss_kib <= limit_kib && opted_out.rss_kib <= limit_kib && always.mappings <= MAPPINGS_MAX;
    printf("huge_pages: blocks of %zu: %ld KiB under never; under always %ld KiB, %ld KiB with HAKMEM_THP=never "
           "(limit %ld), %ld mappings (limit %d): %s\n",
           block_bytes, never.rss_kib, always.rss_kib, opted_out.rss_kib, limit_kib, always.mappings, MAPPINGS_MAX,
           ok ? "ok" : "FAILED");
    return ok;
}

int main(int argc, char **argv)
{
    char mode[16], self[4096];
    if (argc == 3 && strcmp(argv[1], "--hold") == 0)
        return hold(strtoul(argv[2], NULL, 10));
    if (argc != 3 || strcmp(argv[1], "--lib") != 0) {
        fprintf(stderr, "usage: huge_pages --lib FILE\n");
        return 2;
    }
    const ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length <= 0)
        die("/proc/self/exe");
    self[length] = '\0';
    read_mode(mode, sizeof mode);
    if (!set_mode(mode)) {
        printf("huge_pages: skipped, %s cannot be written to\n", SETTING);
        return 77;
    }
    int leash;
    const pid_t guardian = start_guardian(mode, &leash);
    bool ok = compare(self, argv[2], 65536); /* whole slabs */
    ok &= compare(self, argv[2], 4096);      /* pages within slabs */
    close(leash);
    int status = 0;
    waitpid(guardian, &status, 0);
    if (status != 0) {
        fprintf(stderr, "huge_pages: the mode could not be restored to %s\n", mode);
        return 1;
    }
    return ok ? 0 : 1;
}
