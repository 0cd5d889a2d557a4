/* Drives the learner over a recorded trace: replay TRACE [--print]. The decisions must be those that the trace has, and
 * whatever the trace, the bounds must hold. After a deliberate change of the law --print writes the trace with the new
 * decisions; but its windows are then those of a program under the old ones, so record it anew. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "learn/alloc_learner.h"
#include "trace.h"

enum { HEAPS_MAX = 64, LINE_BYTES = 512, FIELDS_MAX = 16 };

static struct alloc_learner learners[HEAPS_MAX];
static struct alloc_params params;
static struct alloc_snapshot snapshot;
static struct learn_decision decisions[ALLOC_DECISIONS_MAX];
static unsigned decided, matched;
static unsigned window_count, decision_count;
static bool print;
static unsigned line_number;

static void fail(const char *what)
{
    fprintf(stderr, "replay: line %u: %s\n", line_number, what);
    exit(1);
}

static void require(bool holds, const char *what)
{
    if (!holds)
        fail(what);
}

/* The numbers behind a line's first letter. */
static unsigned parse(char *text, uint64_t fields[FIELDS_MAX])
{
    unsigned count = 0;
    for (char *at = strtok(text, " \n"); at != NULL && count < FIELDS_MAX; at = strtok(NULL, " \n"))
        fields[count++] = strtoull(at, NULL, 10);
    return count;
}

static void check_cap(const struct learn_decision *d)
{
    const struct alloc_bin *b = &snapshot.bins[d->place];
    const uint64_t step = d->from > d->to ? d->from - d->to : d->to - d->from;
    const uint64_t widest = b->cap * (uint64_t)params.law.rate_ppm / 1000000;
    const uint32_t high = b->cap_ceiling < params.cap_max ? b->cap_ceiling : params.cap_max;
    const uint32_t low = params.cap_min < high ? params.cap_min : high;
    require(d->place < TINY_BIN_COUNT, "a bin that there is");
    if (d->verdict != LEARN_APPLIED && d->verdict != LEARN_OBSERVED)
        return;
    require(d->from == b->cap, "a step from the cap in force");
    require(step >= 1 && step <= (widest > 1 ? widest : 1), "a step within the rate");
    require(d->to < d->from ? d->to >= low : d->to <= high, "a step within the bounds");
}

static void decide(void)
{
    require(snapshot.heap < HEAPS_MAX, "a heap that there is room for");
    decided = alloc_decide(&learners[snapshot.heap], &params, &snapshot, decisions);
    matched = 0;
    window_count++;
    for (unsigned i = 0; i < decided; i++) {
        const struct learn_decision *d = &decisions[i];
        if (d->subject == LEARN_BIN_CAP)
            check_cap(d);
        require(d->subject != LEARN_BIN_REFILL || params.advanced, "refills are advanced");
        require(d->from != d->to, "a change");
    }
}

#define PUT(value) printf(" %llu", (unsigned long long)(value));

/* The window is complete: its decisions follow, or the next window. */
static void finish_window(bool *is_open)
{
    if (!*is_open)
        return;
    *is_open = false;
    decide();
    for (unsigned i = 0; print && i < decided; i++) {
        printf("d");
        TRACE_DECISION(PUT, &decisions[i])
        printf("\n");
    }
}

static void match(const uint64_t *field)
{
    require(matched < decided, "a decision that the learner does not take");
    const struct learn_decision *d = &decisions[matched++];
    decision_count++;
#define SAME(value) require((uint64_t)(value) == *field++, "another decision");
    TRACE_DECISION(SAME, d)
}

#define TAKE(value) (value) = (__typeof__(value))*field++;

static void take(char *line, bool *is_open)
{
    char copy[LINE_BYTES];
    uint64_t fields[FIELDS_MAX] = {0};
    const uint64_t *field = fields;
    memcpy(copy, line, LINE_BYTES);
    parse(copy + 1, fields);
    if (line[0] == 'w' || line[0] == 'd')
        finish_window(is_open);
    if (print && line[0] != 'd')
        fputs(line, stdout);
    switch (line[0]) {
    case 'p':
        TRACE_PARAMS(TAKE, &params)
        return;
    case 'w':
        require(print || matched == decided, "a decision more than the trace has");
        memset(&snapshot, 0, sizeof snapshot);
        TRACE_WINDOW(TAKE, &snapshot)
        *is_open = true;
        return;
    case 'b':
        require(*field < TINY_BIN_COUNT, "a bin that there is");
        struct alloc_bin *bin = &snapshot.bins[*field++];
        TRACE_BIN(TAKE, bin)
        return;
    case 'd':
        if (!print)
            match(fields);
        return;
    case '#':
        return;
    default:
        fail("a line that is none of p, w, b, d, #");
    }
}

int main(int argc, char **argv)
{
    char line[LINE_BYTES];
    bool is_open = false;
    FILE *trace = argc > 1 ? fopen(argv[1], "r") : NULL;
    print = argc > 2 && strcmp(argv[2], "--print") == 0;
    require(trace != NULL, "no trace");
    while (fgets(line, sizeof line, trace) != NULL) {
        line_number++;
        take(line, &is_open);
    }
    finish_window(&is_open);
    require(print || matched == decided, "a decision more than the trace has");
    require(window_count != 0 && (print || decision_count != 0), "an empty trace");
    if (!print)
        printf("replay: %u windows, %u decisions, as recorded\n", window_count, decision_count);
    return 0;
}
