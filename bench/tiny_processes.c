/* tiny_processes: what does it cost to have an allocator in hundreds of processes that hardly use it?
 *
 * Workload: the shells, daemons and workers of a machine on which everything is preloaded. 500 processes are started
 * from this very program, which the preload reaches as well. Each allocates --kib of blocks of 16 bytes to 2 KiB, most
 * of them small, frees every second one and blocks; with --seconds or --ops (for all of them together) it first goes on
 * replacing blocks for so long. With --threads each has that many threads, which all do that. When all have blocked and
 * --idle seconds have passed, their memory is added up from /proc/PID/smaps_rollup: Pss, which shares a page of a
 * library out among those that map it, and private dirty memory, which is nobody else's.
 *
 * An operation is one malloc or one free of the children; the time is that until the last of them is ready. */
#define _GNU_SOURCE
#include "blocks.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILD_NAME "tiny_process" /* as argv[0] */
#define MIN_BYTES ((size_t)16)
#define DOUBLINGS 7 /* to 2 KiB */
#define MEAN_BYTES_LEAST 48 /* the mean block is larger: bounds the number of slots */
#define SPARE_SLOTS 64
#define OPS_BETWEEN_LOOKS 256
#define POLL_MS 1000

static uint64_t process_count = 500;
static uint64_t live_kib = 64;
static uint64_t idle_seconds = 1;
static pthread_barrier_t barrier; /* of a child's threads */

/* One thread of a child. */
struct lane {
    pthread_t thread;
    uint64_t index;
    uint64_t random;
    struct bench_slot *slots;
    uint64_t count;
    uint64_t ops;
    const struct bench_options *options; /* `ops` being this thread's own share */
};

static void fill_slot(struct lane *lane, struct bench_slot *slot)
{
    uint32_t draw = (uint32_t)(bench_random(&lane->random) >> 32);
    slot->size_bytes = bench_size_skewed(draw, MIN_BYTES, DOUBLINGS);
    slot->block = bench_malloc(slot->size_bytes);
    lane->ops++;
    if (lane->options->check) {
        bench_fill(slot->block, slot->size_bytes, lane->index);
    }
}

static void empty_slot(struct lane *lane, struct bench_slot *slot)
{
    lane->ops += bench_slot_free(slot, lane->index, lane->options->check);
    slot->block = NULL;
}

static uint64_t slot_capacity(void)
{
    return (live_kib << 10) / MEAN_BYTES_LEAST + SPARE_SLOTS;
}

/* Of the slots' table, which is resident and no concern of the allocator. */
static uint64_t table_bytes(void)
{
    uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    return (slot_capacity() * sizeof(struct bench_slot) + page_bytes - 1) / page_bytes * page_bytes;
}

static void work(struct lane *lane)
{
    const struct bench_options *options = lane->options;
    double deadline = bench_now() + options->seconds;
    lane->slots = bench_map(table_bytes());
    for (uint64_t live = 0; live < live_kib << 10 && lane->count < slot_capacity(); lane->count++) {
        fill_slot(lane, &lane->slots[lane->count]);
        live += lane->slots[lane->count].size_bytes;
    }
    for (uint64_t i = 0; i < lane->count; i += 2) {
        empty_slot(lane, &lane->slots[i]);
    }
    while (options->ops != 0 ? lane->ops < options->ops : bench_now() < deadline) {
        for (uint64_t i = 0; i < OPS_BETWEEN_LOOKS; i += 2) {
            uint32_t draw = (uint32_t)(bench_random(&lane->random) >> 32);
            struct bench_slot *slot = &lane->slots[bench_scale(draw, (uint32_t)lane->count)];
            empty_slot(lane, slot);
            fill_slot(lane, slot);
        }
    }
}

static void finish(struct lane *lane)
{
    for (uint64_t i = 0; i < lane->count; i++) {
        empty_slot(lane, &lane->slots[i]);
    }
}

static void *live_through(void *argument)
{
    work(argument);
    pthread_barrier_wait(&barrier); /* all have done their work */
    pthread_barrier_wait(&barrier); /* the process is to end */
    finish(argument);
    return NULL;
}

/* Says on its standard output how many operations it did, and ends when its standard input does. */
static int child(char **argv)
{
    struct bench_options options = {.threads = strtoull(argv[1], NULL, 10), .ops = strtoull(argv[2], NULL, 10),
                                    .seconds = strtod(argv[3], NULL), .seed = strtoull(argv[4], NULL, 10),
                                    .check = argv[5][0] == '1'};
    live_kib = strtoull(argv[6], NULL, 10);
    struct lane *lanes = bench_map(options.threads * sizeof *lanes);
    pthread_barrier_init(&barrier, NULL, (unsigned)options.threads);
    for (uint64_t i = 0; i < options.threads; i++) {
        lanes[i] = (struct lane){.index = i, .random = bench_seed(options.seed, i), .options = &options};
        if (i > 0) {
            bench_thread_start(&lanes[i].thread, live_through, &lanes[i]);
        }
    }
    work(&lanes[0]);
    pthread_barrier_wait(&barrier);
    uint64_t ops = 0;
    for (uint64_t i = 0; i < options.threads; i++) {
        ops += lanes[i].ops;
    }
    char byte;
    bool told = write(STDOUT_FILENO, &ops, sizeof ops) == sizeof ops;
    while (told && read(STDIN_FILENO, &byte, 1) < 0 && errno == EINTR) {
    }
    pthread_barrier_wait(&barrier);
    finish(&lanes[0]);
    for (uint64_t i = 1; i < options.threads; i++) {
        pthread_join(lanes[i].thread, NULL);
    }
    return told ? 0 : 1;
}

/* ---- the parent ------------------------------------------------------------------------------------------------- */

static void start_children(const struct bench_options *options, pid_t *children, int input, int output)
{
    enum { NUMBER = 5, LENGTH = 32 }; /* of the arguments, and of each */
    char text[NUMBER][LENGTH];
    snprintf(text[0], LENGTH, "%" PRIu64, options->threads);
    snprintf(text[1], LENGTH, "%" PRIu64, options->ops / process_count / options->threads);
    snprintf(text[2], LENGTH, "%g", options->seconds);
    snprintf(text[4], LENGTH, "%d", options->check);
    char kib[LENGTH];
    snprintf(kib, LENGTH, "%" PRIu64, live_kib);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    for (uint64_t i = 0; i < process_count; i++) {
        snprintf(text[3], LENGTH, "%" PRIu64, options->seed + i);
        char *argv[] = {CHILD_NAME, text[0], text[1], text[2], text[3], text[4], kib, NULL};
        int error = posix_spawn(&children[i], "/proc/self/exe", &actions, NULL, argv, environ);
        if (error != 0) {
            bench_fail("process %" PRIu64 ": %s", i, strerror(error));
        }
    }
    posix_spawn_file_actions_destroy(&actions);
}

/* Waits until every child has said that it is ready; returns the operations they did. */
static uint64_t await_children(int said)
{
    uint64_t ops = 0;
    for (uint64_t ready = 0; ready < process_count;) {
        struct pollfd waiting = {.fd = said, .events = POLLIN};
        uint64_t some;
        if (poll(&waiting, 1, POLL_MS) > 0 && read(said, &some, sizeof some) == sizeof some) {
            ops += some;
            ready++;
        } else if (waitpid(-1, NULL, WNOHANG) != 0) {
            bench_fail("a process has ended before it was ready");
        }
    }
    return ops;
}

/* The value of a line of /proc/PID/smaps_rollup. */
static double kib_of(const char *text, const char *label)
{
    const char *line = strstr(text, label);
    return line != NULL ? (double)strtoull(line + strlen(label), NULL, 10) : 0.0;
}

struct sums {
    double pss_kib, rss_kib, private_dirty_kib;
};

static void add_process(struct sums *sums, pid_t process)
{
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)process);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (length <= 0) {
        bench_fail("cannot read %s", path);
    }
    close(fd);
    text[length] = '\0';
    double own_kib = (double)table_bytes() / 1024.0;
    sums->pss_kib += kib_of(text, "\nPss:") - own_kib;
    sums->rss_kib += kib_of(text, "\nRss:") - own_kib;
    sums->private_dirty_kib += kib_of(text, "\nPrivate_Dirty:") - own_kib;
}

static void end_children(const pid_t *children)
{
    for (uint64_t i = 0; i < process_count; i++) {
        int status;
        if (waitpid(children[i], &status, 0) < 0 || status != 0) {
            bench_fail("process %" PRIu64 " has failed", i);
        }
    }
}

static int parent(const struct bench_options *options)
{
    int hold[2], ready[2]; /* the children end when `hold` is closed here, and write to `ready` */
    pid_t *children = bench_map(process_count * sizeof *children);
    if (pipe2(hold, O_CLOEXEC) != 0 || pipe2(ready, O_CLOEXEC) != 0) {
        bench_fail("no pipe: %s", strerror(errno));
    }
    double begin = bench_now();
    start_children(options, children, hold[0], ready[1]);
    uint64_t ops = await_children(ready[0]);
    double seconds = bench_now() - begin;
    if (idle_seconds != 0) {
        bench_sleep((double)idle_seconds);
    }
    struct sums sums = {0};
    for (uint64_t i = 0; i < process_count; i++) {
        add_process(&sums, children[i]);
    }
    close(hold[1]);
    end_children(children);
    double each = 1.0 / (double)process_count;
    const struct bench_figure figures[] = {
        {"processes", (double)process_count},
        {"pss_total_mib", sums.pss_kib / 1024.0},
        {"pss_each_kib", sums.pss_kib * each},
        {"rss_each_kib", sums.rss_kib * each},
        {"private_dirty_each_kib", sums.private_dirty_kib * each},
    };
    bench_report_figures("tiny_processes", options, ops, seconds, figures, sizeof figures / sizeof figures[0]);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 0 && strcmp(argv[0], CHILD_NAME) == 0) {
        return child(argv);
    }
    struct bench_options options = {.threads = 1, .seed = 42};
    const struct bench_extra extras[] = {
        {"processes", "how many there are at once", &process_count, 1, 10000},
        {"kib", "what each of their threads allocates, in KiB", &live_kib, 1, 1 << 20},
        {"idle", "seconds until their memory is looked at", &idle_seconds, 0, 86400},
    };
    bench_parse(argc, argv, "tiny_processes: memory of many processes that hardly use it; --threads is of each of them",
                &options, extras, sizeof extras / sizeof extras[0]);
    return parent(&options);
}
