#include "learn/journal.h"

#include <errno.h>

#include "learn/output.h"
#include "os/file.h"
#include "os/os.h"
#include "slab/sizeclass.h"

static void put_number(struct fmt *out, const char *name, uint64_t value)
{
    fmt_put(out, ",\"%s\":%llu", name, (unsigned long long)value);
}

static void put_head(struct fmt *out, uint64_t wall_ms, int process_id)
{
    fmt_put(out, "{\"time\":%llu.%03u,\"pid\":%d", (unsigned long long)(wall_ms / 1000), (unsigned)(wall_ms % 1000),
            process_id);
}

void journal_put(struct fmt *out, const struct learn_decision *decision, uint64_t wall_ms, int process_id)
{
    const enum learn_subject subject = decision->subject;
    put_head(out, wall_ms, process_id);
    fmt_put(out, ",\"verdict\":\"%s\",\"subject\":\"%s\"", learn_verdict_name(decision->verdict),
            learn_subject_name(subject));
    put_number(out, "heap", decision->heap);
    put_number(out, "place", decision->place);
    if ((subject == LEARN_BIN_CAP || subject == LEARN_BIN_REFILL) && decision->place < BIN_COUNT)
        put_number(out, "block_bytes", bin_info(decision->place)->block_bytes);
    put_number(out, "window", decision->window);
    put_number(out, "from", decision->from);
    put_number(out, "to", decision->to);
    fmt_put(out, ",\"effect\":\"%s\"", learn_effect_name(subject));
    put_number(out, "before", decision->before);
    put_number(out, "predicted", decision->predicted);
    if (decision->measured == LEARN_NOT_MEASURED)
        fmt_put(out, ",\"measured\":null");
    else
        put_number(out, "measured", decision->measured);
    fmt_put(out, ",\"evidence\":{");
    const char *separator = "";
    for (unsigned i = 0; i < LEARN_EVIDENCE_MAX; i++) {
        const char *name = learn_evidence_name(subject, i);
        if (name == NULL)
            continue;
        fmt_put(out, "%s\"%s\":%llu", separator, name, (unsigned long long)decision->evidence[i]);
        separator = ",";
    }
    fmt_put(out, "}}\n");
}

/* The decision's own time is on the monotonic clock, which says nothing to other processes. */
static uint64_t wall_time_of(const struct learn_decision *decision)
{
    const uint64_t age_ms = os_clock_ms() - decision->time_ms;
    const uint64_t now_ms = os_wall_clock_ms();
    return age_ms < now_ms ? now_ms - age_ms : now_ms;
}

int journal_append(const char *path, const struct learn_decision *decision, uint64_t max_bytes)
{
    const int fd = os_file_open(path, OS_FILE_APPEND);
    if (fd < 0)
        return -fd;
    int error = 0;
    const uint64_t size = os_file_bytes(fd);
    if (size < max_bytes) {
        char line[JOURNAL_LINE_BYTES];
        struct fmt out;
        fmt_init(&out, line, sizeof line, -1);
        journal_put(&out, decision, wall_time_of(decision), os_process_id());
        if (size + out.length >= max_bytes) {
            put_head(&out, os_wall_clock_ms(), os_process_id());
            fmt_put(&out, ",\"verdict\":\"journal_full\"}\n");
        }
        error = os_file_write(fd, line, out.length);
    }
    os_file_close(fd);
    return error;
}

static uint32_t warned; /* see output_warn */

void journal_write(const struct learn_decision *decision)
{
    const char *pattern = config_get()->learn_journal;
    char path[OUTPUT_PATH_BYTES];
    if (pattern[0] == '\0')
        return;
    const int error = output_expand(path, pattern) ? journal_append(path, decision, JOURNAL_MAX_BYTES) : ENAMETOOLONG;
    if (error != 0)
        output_warn(&warned, "HAKMEM_LEARN_JOURNAL", pattern, error);
}
