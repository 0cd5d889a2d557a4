/* One emitter: tables say which numbers there are and what they mean, and a format walks them. */
#define _GNU_SOURCE
#include "stats/report.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/fmt.h"
#include "base/lock.h"
#include "config/config.h"
#include "os/os.h"

enum {
    OUTPUT_BYTES = 2048,
    SPARE_FD_MIN = 100, /* out of the way of programs that count on low numbers */
    KERNEL_SIGSET_BYTES = 8, /* the kernel's set, not libc's */
};

enum unit { UNIT_BYTES, UNIT_COUNT };

struct field {
    char name[24]; /* also what other formats call it. In here, because the loader would have to write a pointer */
    char help[56];
    uint16_t offset; /* of the uint64_t in the struct */
    uint8_t unit;    /* enum unit */
};

#define TOTAL(field, unit, help) { #field, help, offsetof(struct snapshot, field), unit }
static const struct field totals[] = {
    TOTAL(live_bytes, UNIT_BYTES, "held by the program"),
    TOTAL(live_blocks, UNIT_COUNT, "blocks held by the program"),
    TOTAL(large_bytes, UNIT_BYTES, "of these in runs of slabs"),
    TOTAL(large_blocks, UNIT_COUNT, "as so many blocks"),
    TOTAL(huge_bytes, UNIT_BYTES, "of these in mappings of their own"),
    TOTAL(huge_blocks, UNIT_COUNT, "as so many blocks"),
    TOTAL(mapped_bytes, UNIT_BYTES, "SuperSlabs and spare mappings"),
    TOTAL(resident_bytes, UNIT_BYTES, "pages behind SuperSlabs and huge blocks, at most"),
    TOTAL(metadata_bytes, UNIT_BYTES, "addresses for records, touched as used"),
    TOTAL(cached_bytes, UNIT_BYTES, "free blocks in magazines"),
    TOTAL(transit_bytes, UNIT_BYTES, "freed blocks on their way to another heap"),
    TOTAL(slab_free_bytes, UNIT_BYTES, "free blocks in slabs"),
    TOTAL(slab_purged_bytes, UNIT_BYTES, "of these without pages"),
    TOTAL(free_dirty_bytes, UNIT_BYTES, "free slabs and spare mappings that hold pages"),
    TOTAL(free_clean_bytes, UNIT_BYTES, "free slabs without pages"),
    TOTAL(purged_bytes, UNIT_BYTES, "given back so far"),
    TOTAL(superslabs_mapped, UNIT_COUNT, "SuperSlabs mapped so far"),
    TOTAL(superslabs_released, UNIT_COUNT, "SuperSlabs given back so far"),
    TOTAL(held_bytes, UNIT_BYTES, "may have pages, records included"),
    TOTAL(memory_limit_bytes, UNIT_BYTES, "HAKMEM_MEMORY_LIMIT, 0: none"),
    TOTAL(usable_bytes, UNIT_BYTES, "limit by whatever sets one, 0: not asked yet"),
    TOTAL(cpu_count, UNIT_COUNT, "CPUs to be used at once, 0: not asked yet"),
    TOTAL(entitled_bytes, UNIT_BYTES, "magazines may hold"),
    TOTAL(cache_bound_bytes, UNIT_BYTES, "bound of that, 0: none"),
    TOTAL(retained_bound_bytes, UNIT_BYTES, "bound of free_dirty_bytes, 0: the arena's own"),
    TOTAL(background_steps, UNIT_COUNT, "steps of the background thread so far"),
    TOTAL(background_sleeps, UNIT_COUNT, "times that it had nothing left to give back"),
    TOTAL(heaps, UNIT_COUNT, "heaps made so far"),
    TOTAL(heaps_attached, UNIT_COUNT, "heaps of living threads"),
    TOTAL(heaps_parked, UNIT_COUNT, "heaps that wait for a thread"),
    TOTAL(slabs_attached, UNIT_COUNT, "slabs given to a bin so far"),
    TOTAL(slabs_retired, UNIT_COUNT, "slabs taken from a bin so far"),
    TOTAL(slabs_stolen, UNIT_COUNT, "slabs moved between heaps so far"),
    TOTAL(pages_purged, UNIT_COUNT, "pages of slabs in use given back so far"),
    TOTAL(pages_woken, UNIT_COUNT, "of these taken into use again"),
    TOTAL(delivered_blocks, UNIT_COUNT, "remote frees handed over so far"),
    TOTAL(delivery_count, UNIT_COUNT, "in so many steps"),
    TOTAL(learn_windows, UNIT_COUNT, "windows of allocation learning so far"),
    TOTAL(learn_decisions, UNIT_COUNT, "decisions in them"),
    TOTAL(learn_rollbacks, UNIT_COUNT, "of these undone, because they did not help"),
    TOTAL(mem_learn_windows, UNIT_COUNT, "windows of memory learning so far"),
    TOTAL(mem_learn_rollbacks, UNIT_COUNT, "decisions in them that were undone"),
    TOTAL(superslabs_made_huge, UNIT_COUNT, "SuperSlabs that it gave huge pages"),
    TOTAL(superslabs_broken, UNIT_COUNT, "SuperSlabs that it took huge pages from"),
    TOTAL(collapse_us, UNIT_COUNT, "us spent on moving memory into huge pages"),
    TOTAL(large_alloc_count, UNIT_COUNT, "large and huge blocks asked for so far"),
    TOTAL(large_free_count, UNIT_COUNT, "large and huge blocks freed so far"),
};
#undef TOTAL

#define COLUMN(field, heading) { #field, heading, offsetof(struct bin_counters, field), UNIT_COUNT }
static const struct field columns[] = {
    COLUMN(block_bytes, "block"),         COLUMN(live_blocks, "live"),
    COLUMN(cached_blocks, "cached"),      COLUMN(slab_bytes, "slab bytes"),
    COLUMN(refill_count, "refills"),      COLUMN(refill_blocks, "blocks"),
    COLUMN(flush_count, "flushes"),       COLUMN(flush_blocks, "blocks"),
    COLUMN(collected_blocks, "remote"),
};
#undef COLUMN

static uint64_t value_of(const void *record, const struct field *field)
{
    return *(const uint64_t *)((const char *)record + field->offset);
}

static void put_scaled(struct fmt *f, uint64_t bytes)
{
    static const char *const names[] = { "KiB", "MiB", "GiB", "TiB" };
    uint64_t scale = 1024;
    unsigned at = 0;
    while (bytes / scale >= 1024 && at + 1 < ARRAY_COUNT(names)) {
        scale *= 1024;
        at++;
    }
    fmt_put_ratio(f, bytes, scale, 1);
    fmt_put(f, " %s ", names[at]);
}

static void put_total(struct fmt *f, const struct snapshot *snapshot, const struct field *field)
{
    const uint64_t value = value_of(snapshot, field);
    fmt_put(f, "hakmem:   %-20s %14llu  ", field->name, (unsigned long long)value);
    if (field->unit == UNIT_BYTES && value >= 1024)
        put_scaled(f, value);
    fmt_put(f, "%s\n", field->help);
}

static bool had_traffic(const struct bin_counters *bin)
{
    return bin->refill_count != 0 || bin->flush_count != 0 || bin->collected_blocks != 0;
}

static void put_bins(struct fmt *f, const struct snapshot *snapshot)
{
    fmt_put(f, "hakmem:  ");
    for (size_t i = 0; i < ARRAY_COUNT(columns); i++)
        fmt_put(f, " %11s", columns[i].help);
    fmt_put(f, "\n");
    for (size_t bin = 0; bin < COUNTERS_BIN_COUNT; bin++) {
        if (!had_traffic(&snapshot->bins[bin]))
            continue;
        fmt_put(f, "hakmem:  ");
        for (size_t i = 0; i < ARRAY_COUNT(columns); i++)
            fmt_put(f, " %11llu", (unsigned long long)value_of(&snapshot->bins[bin], &columns[i]));
        fmt_put(f, "\n");
    }
}

/* A reader that is gone must not end the program: it may never write there itself, or have its own way with SIGPIPE.
 * The signal of a write is sent to the writing thread, so it can be held back and taken here. */
struct sigpipe_guard {
    sigset_t mask; /* as it was */
    bool was_pending;
};

static void sigpipe_hold(struct sigpipe_guard *guard)
{
    sigset_t pipe_only, pending;
    sigemptyset(&pending);
    sigpending(&pending);
    guard->was_pending = sigismember(&pending, SIGPIPE) == 1;
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_only, &guard->mask);
}

static void sigpipe_release(const struct sigpipe_guard *guard)
{
    static const struct timespec at_once;
    const int saved_errno = errno;
    sigset_t pipe_only;
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    if (!guard->was_pending)
        syscall(SYS_rt_sigtimedwait, &pipe_only, NULL, &at_once, KERNEL_SIGSET_BYTES); /* libc's is a cancellation point */
    pthread_sigmask(SIG_SETMASK, &guard->mask, NULL);
    errno = saved_errno;
}

void report_text(int fd, const char *occasion)
{
    struct snapshot snapshot;
    struct sigpipe_guard guard;
    char buf[OUTPUT_BYTES];
    struct fmt f;
    snapshot_read(&snapshot);
    sigpipe_hold(&guard);
    fmt_init(&f, buf, sizeof buf, fd);
    const char *program = program_invocation_short_name;
    fmt_put(&f, "hakmem: statistics of %s (pid %d) %s\n", program == NULL ? "?" : program, os_process_id(), occasion);
    for (size_t i = 0; i < ARRAY_COUNT(totals); i++)
        put_total(&f, &snapshot, &totals[i]);
    put_bins(&f, &snapshot);
    fmt_flush(&f);
    sigpipe_release(&guard);
}

/* Many programs (the GNU ones: ls, grep, tar) close stderr in an exit handler of theirs, which runs before the
 * library's destructors. For them there is a duplicate, made at start; whether the number still means that file is
 * asked before it is written to. A forked child gives it up, so that a daemon that closes its stderr does not keep a
 * pipe open whose reader waits for the end. Written by stats_start, and by the child's only thread. */
static struct {
    int fd; /* < 0: none */
    dev_t device;
    ino_t inode;
} spare = { .fd = -1 };

static bool spare_is_ours(void)
{
    struct stat now;
    return spare.fd >= 0 && fstat(spare.fd, &now) == 0 && now.st_dev == spare.device && now.st_ino == spare.inode;
}

static void spare_give_up(void)
{
    if (spare_is_ours())
        syscall(SYS_close, spare.fd); /* libc's is a cancellation point */
    spare.fd = -1;
}

void stats_start(void)
{
    const int saved_errno = errno;
    struct stat at_start;
    if (fstat(STDERR_FILENO, &at_start) == 0 && pthread_atfork(NULL, NULL, spare_give_up) == 0) {
        spare.device = at_start.st_dev;
        spare.inode = at_start.st_ino;
        spare.fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, SPARE_FD_MIN);
    }
    errno = saved_errno;
}

void stats_at_exit(void)
{
    if (lock_ranks_held != 0) {
        fmt_message("no statistics: exit was called by a signal handler that interrupted malloc");
        return;
    }
    if (fcntl(STDERR_FILENO, F_GETFD) >= 0)
        report_text(STDERR_FILENO, "at exit");
    else if (spare_is_ours())
        report_text(spare.fd, "at exit");
}

void stats_tick(uint64_t now_ms)
{
    /* Atomic: no lock is held here, because writing may take as long as the reader of stderr likes. 0: not yet begun. */
    static uint64_t due_ms;
    const uint64_t interval_ms = (uint64_t)config_get()->stats_interval_sec * 1000u;
    uint64_t due = load_relaxed(&due_ms);
    if (interval_ms == 0 || (due != 0 && (int64_t)(now_ms - due) < 0))
        return;
    /* Far away while one thread prints, so that no second one waits behind it for a slow reader. */
    const uint64_t printing = now_ms + INT64_MAX;
    if (!cas_strong_acquire(&due_ms, &due, due == 0 ? now_ms + interval_ms : printing) || due == 0)
        return;
    report_text(STDERR_FILENO, "while it runs");
    store_relaxed(&due_ms, now_ms + interval_ms);
}
