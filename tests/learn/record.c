/* The library with a witness: every window that a thread hands to its learner is also written to the file that
 * LEARN_RECORD names, as the lines of trace.h. Linked with -Wl,--wrap=alloc_decide, so that the library itself knows
 * nothing of it:
 *
 *   LEARN_RECORD=trace HAKMEM_ALLOC_LEARN=1 LD_PRELOAD=build/tests/learn/libhakmem_record.so program
 *
 * Called inside malloc: no libc function that allocates. */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fmt.h"
#include "learn/alloc_learner.h"
#include "trace.h"

unsigned __real_alloc_decide(struct alloc_learner *, const struct alloc_params *, const struct alloc_snapshot *,
                             struct learn_decision *);
unsigned __wrap_alloc_decide(struct alloc_learner *, const struct alloc_params *, const struct alloc_snapshot *,
                             struct learn_decision *);

#define PUT(value) fmt_put(&f, " %llu", (unsigned long long)(value));

/* A bin that was never used, as far as the learner remembers: it decides nothing from zeros either. */
static bool is_blank(const struct alloc_bin *b, const struct law_track *track)
{
    return b->capacity == 0 && b->refill_blocks == 0 && b->flush_blocks == 0 && track->trial == LAW_AT_REST &&
           track->rate == 0 && track->rest_rate == 0 && track->rest_idle == 0 && track->idle == 0;
}

unsigned __wrap_alloc_decide(struct alloc_learner *learner, const struct alloc_params *params,
                             const struct alloc_snapshot *snapshot, struct learn_decision *decisions)
{
    static int fd = -1; /* opened once; a race opens it twice, and both lines arrive */
    const unsigned count = __real_alloc_decide(learner, params, snapshot, decisions);
    const char *path = getenv("LEARN_RECORD");
    if (path == NULL)
        return count;
    char text[8192]; /* a window and its decisions in one write, so that threads do not mix */
    struct fmt f;
    fmt_init(&f, text, sizeof text, -1);
    if (fd < 0) {
        fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        fmt_put(&f, "p");
        TRACE_PARAMS(PUT, params)
        fmt_put(&f, "\n");
    }
    fmt_put(&f, "w");
    TRACE_WINDOW(PUT, snapshot)
    fmt_put(&f, "\n");
    for (unsigned bin = 0; bin < TINY_BIN_COUNT; bin++) {
        const struct alloc_bin *b = &snapshot->bins[bin];
        if (is_blank(b, &learner->bins[bin]))
            continue;
        fmt_put(&f, "b %u", bin);
        TRACE_BIN(PUT, b)
        fmt_put(&f, "\n");
    }
    for (unsigned i = 0; i < count; i++) {
        fmt_put(&f, "d");
        TRACE_DECISION(PUT, &decisions[i])
        fmt_put(&f, "\n");
    }
    if (write(fd, text, f.length) != (ssize_t)f.length)
        abort();
    return count;
}
