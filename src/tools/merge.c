#include "tools/merge.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/dump.h"
#include "config/profiles.h"
#include "learn/profile.h"
#include "tools/input.h"

enum {
    EXIT_TROUBLE = 1,
    EXIT_USAGE = 2,
    NAME_LINE_BYTES = 128, /* in the heading, beside the name itself */
    OUTPUT_BYTES = 1 << 20, /* far more than every knob with two long file names and all bins need */
};

static const char help[] =
    "NAME\n"
    "    hakmem merge - make one profile of many\n"
    "\n"
    "SYNOPSIS\n"
    "    hakmem merge [--max] FILE... > merged.env\n"
    "\n"
    "DESCRIPTION\n"
    "    Reads profiles, such as the ones that HAKMEM_LEARN_EXPORT makes processes write, and prints one that suits\n"
    "    all of them. Comments in it say where the files differed and how it was decided:\n"
    "\n"
    "    ceilings of bins (HAKMEM_TINY_TLS_CLASS_OVERRIDE)\n"
    "        the 90th percentile over the files that name the bin, weighted by the misses that an export counts in\n"
    "        its `# weight` lines, and the weighted mean refill. A bin without such a line weighs like one miss.\n"
    "    amounts of bytes, and HAKMEM_SUPERSLAB_PREWARM\n"
    "        the largest: a budget is a ceiling, and what does not need it does not use it.\n"
    "    other numbers, ratios, switches\n"
    "        the weighted median; the lower one where two are in the middle, so a switch needs a majority to be 1.\n"
    "    words\n"
    "        the one with most weight; the first such file's where two have as much.\n"
    "\n"
    "    A file weighs as many misses as its `# evidence` line counts. Where some files have learned something, an export\n"
    "    that has not, such as that of a shell that only started the program, has no say in anything; the heading of\n"
    "    the result names it. A profile without such a line weighs like one miss.\n"
    "\n"
    "    A file that does not set a variable has no say in it. What no file sets gets its default. The result has\n"
    "    weights and evidence of its own, so it can be merged again.\n"
    "\n"
    "OPTIONS\n"
    "    --max   ceilings of bins: the largest of all files\n"
    "    --help  this text\n"
    "\n"
    "EXIT STATUS\n"
    "    0   the profile was written\n"
    "    1   a file cannot be read or has a line that is no profile's (each is named as FILE:LINE on standard error),\n"
    "        or standard output cannot be written. Nothing is printed unless all files are good.\n"
    "    2   wrong usage\n"
    "\n"
    "EXAMPLE\n"
    "    hakmem merge exports/*.env > fleet.env\n"
    "    kubectl create configmap hakmem --from-env-file=fleet.env\n";

struct merge {
    const struct input *inputs;
    size_t count;
    unsigned percent; /* of a bin's misses that its ceiling is to be enough for */
    bool has_learned; /* some file has windows of learning behind it */
    struct config result;
    struct learn_bin bins[TINY_BIN_COUNT];
    uint64_t weights[TINY_BIN_COUNT];
};

/* Amounts, not rates: a rate of 0 has no bound, so it is not the least. */
static bool takes_largest(const struct knob *knob)
{
    return (knob->type == KNOB_TYPE_BYTES && strcmp(knob->unit, "bytes") == 0) || knob == &knob_table[KNOB_SUPERSLAB_PREWARM];
}

/* Of one file; sums of any number of them fit. */
#define WEIGHT_MAX ((uint64_t)1 << 40)

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* 0: it has no say. An export without a window holds what its process was started with, however many there are of it. */
static uint64_t weight_of(const struct merge *merge, const struct input *input)
{
    if (!input->has_evidence)
        return 1;
    if (merge->has_learned && input->windows == 0)
        return 0;
    return input->misses == 0 ? 1 : smaller(input->misses, WEIGHT_MAX);
}

/* A value and the file that has it. */
struct vote {
    uint64_t value, weight;
    const char *name;
    size_t order;
};

static int by_value(const void *left, const void *right)
{
    const struct vote *a = left, *b = right;
    if (a->value != b->value)
        return a->value < b->value ? -1 : 1;
    return a->order < b->order ? -1 : a->order > b->order;
}

/* The votes on a knob by rising value; returns their number. `votes` has room for all inputs. */
static size_t collect(const struct merge *merge, const struct knob *knob, struct vote *votes)
{
    size_t count = 0;
    for (size_t i = 0; i < merge->count; i++) {
        const struct input *input = &merge->inputs[i];
        const uint64_t weight = weight_of(merge, input);
        if (input->given[knob - knob_table] && weight != 0)
            votes[count++] = (struct vote){input->values[knob - knob_table], weight, input->name, i};
    }
    qsort(votes, count, sizeof votes[0], by_value);
    return count;
}

static uint64_t heaviest(const struct vote *votes, size_t count)
{
    size_t best = 0;
    uint64_t best_weight = 0;
    for (size_t start = 0, end; start < count; start = end) {
        uint64_t weight = 0;
        for (end = start; end < count && votes[end].value == votes[start].value; end++)
            weight += votes[end].weight;
        if (weight > best_weight || (weight == best_weight && votes[start].order < votes[best].order)) {
            best = start;
            best_weight = weight;
        }
    }
    return votes[best].value;
}

/* The least value that half of the weight does not exceed. */
static uint64_t median(const struct vote *votes, size_t count)
{
    uint64_t total = 0, below;
    for (size_t i = 0; i < count; i++)
        total += votes[i].weight;
    size_t at = 0;
    for (below = votes[0].weight; below < total - below; below += votes[at].weight)
        at++;
    return votes[at].value;
}

static uint64_t decide(const struct knob *knob, const struct vote *votes, size_t count)
{
    if (count == 0)
        return knob->fallback;
    if (knob->type == KNOB_TYPE_WORD)
        return heaviest(votes, count);
    return takes_largest(knob) ? votes[count - 1].value : median(votes, count);
}

static void merge_bin(struct merge *merge, uint32_t bin)
{
    struct learn_choice choice;
    for (size_t i = 0; i < merge->count; i++) {
        const struct input *input = &merge->inputs[i];
        const uint32_t cap = input->bins.cap[bin];
        const uint32_t refill = input->bins.refill[bin] != 0 ? input->bins.refill[bin] : default_refill(cap);
        const uint64_t weight = input->weights[bin] != 0 ? input->weights[bin] : 1;
        if (cap != 0 && weight_of(merge, input) != 0)
            learn_bin_add(&merge->bins[bin], cap, weight, weight < UINT64_MAX / refill ? weight * refill : UINT64_MAX);
    }
    if (!learn_bin_choose(&merge->bins[bin], merge->percent, &choice))
        return;
    merge->result.bin_cap_is_user[bin] = true;
    merge->result.bin_cap[bin] = choice.cap;
    merge->result.bin_refill[bin] = choice.refill;
    merge->weights[bin] = choice.misses;
}

static void put_vote(struct fmt *out, const struct knob *knob, const struct vote *vote)
{
    dump_value(out, knob, vote->value);
    fmt_put(out, " (");
    profile_put_safely(out, vote->name);
    fmt_put(out, ")");
}

static void explain_bins(struct fmt *out, const struct merge *merge)
{
    if (merge->percent == 100)
        fmt_put(out, "# Ceilings of bins: the largest of all files.\n");
    else
        fmt_put(out, "# Ceilings of bins: enough for %u %% of the misses that the files counted.\n", merge->percent);
    for (uint32_t bin = 0; bin < TINY_BIN_COUNT; bin++) {
        const struct learn_bin *from = &merge->bins[bin];
        if (from->sample_count == 0)
            continue;
        profile_put_weight(out, bin, merge->weights[bin]);
        fmt_put(out, " misses; files: %u, caps %u to %u\n", from->cache_count, from->samples[0].cap,
                from->samples[from->sample_count - 1].cap);
    }
}

static void explain(struct fmt *out, const struct knob *knob, const void *context)
{
    const struct merge *merge = context;
    if (knob->type == KNOB_TYPE_OVERRIDE) {
        explain_bins(out, merge);
        return;
    }
    struct vote *votes = calloc(merge->count, sizeof *votes);
    if (votes == NULL)
        abort();
    const size_t count = collect(merge, knob, votes);
    if (count == 0) {
        fmt_put(out, "# No file sets it: the default.\n");
    } else if (votes[0].value != votes[count - 1].value) {
        const char *rule = knob->type == KNOB_TYPE_WORD ? "Heaviest" : takes_largest(knob) ? "Largest" : "Median";
        fmt_put(out, "# %s of %zu files: ", rule, count);
        put_vote(out, knob, &votes[0]);
        fmt_put(out, " to ");
        put_vote(out, knob, &votes[count - 1]);
        fmt_put(out, ".\n");
    }
    free(votes);
}

static void merge_all(struct merge *merge)
{
    for (size_t i = 0; i < merge->count; i++)
        merge->has_learned |= merge->inputs[i].windows != 0;
    struct vote *votes = calloc(merge->count, sizeof *votes);
    if (votes == NULL)
        abort();
    for (size_t i = 0; i < KNOB_COUNT; i++) {
        const struct knob *knob = &knob_table[i];
        if (knob->in_profiles)
            knob_store(knob, &merge->result, decide(knob, votes, collect(merge, knob, votes)));
    }
    free(votes);
    for (uint32_t bin = 0; bin < TINY_BIN_COUNT; bin++)
        merge_bin(merge, bin);
}

/* All that the files say, so that the result weighs in a further merge what they weigh together. */
static void put_evidence(struct fmt *out, const struct merge *merge)
{
    uint64_t misses = 0, windows = 0;
    bool is_known = false;
    for (size_t i = 0; i < merge->count; i++) {
        misses += weight_of(merge, &merge->inputs[i]);
        windows += smaller(merge->inputs[i].windows, WEIGHT_MAX);
        is_known |= merge->inputs[i].has_evidence;
    }
    if (is_known)
        profile_put_evidence(out, misses, windows);
}

/* Through memory and a stream: fmt does not tell what becomes of its writes. */
static int print(const struct merge *merge)
{
    size_t capacity = OUTPUT_BYTES;
    for (size_t i = 0; i < merge->count; i++)
        capacity += NAME_LINE_BYTES + strlen(merge->inputs[i].name);
    char *text = malloc(capacity);
    struct fmt out;
    if (text == NULL)
        abort();
    fmt_init(&out, text, capacity, -1);
    fmt_put(&out, "# HAKMEM profile, merged by `hakmem merge` from\n");
    for (size_t i = 0; i < merge->count; i++) {
        fmt_put(&out, "#   ");
        profile_put_safely(&out, merge->inputs[i].name);
        fmt_put(&out, weight_of(merge, &merge->inputs[i]) != 0 ? "\n" : " (no say: nothing was learned in it)\n");
    }
    put_evidence(&out, merge);
    fmt_put(&out, "\n");
    profile_put(&out, &merge->result, explain, merge);
    const bool is_written = fwrite(text, 1, out.length, stdout) == out.length && fflush(stdout) == 0;
    free(text);
    if (!is_written)
        fprintf(stderr, "hakmem merge: standard output: %s\n", strerror(errno));
    return is_written ? 0 : EXIT_TROUBLE;
}

static int usage(const char *what, const char *detail)
{
    fprintf(stderr, "hakmem merge: %s%s\nTry: hakmem merge --help\n", what, detail);
    return EXIT_USAGE;
}

int merge_main(int argc, char **argv)
{
    unsigned percent = LEARN_PERCENTILE;
    int first = 0;
    for (; first < argc && argv[first][0] == '-' && argv[first][1] != '\0'; first++) {
        if (strcmp(argv[first], "--help") == 0)
            return fputs(help, stdout) == EOF || fflush(stdout) != 0 ? EXIT_TROUBLE : 0;
        if (strcmp(argv[first], "--max") == 0)
            percent = 100;
        else if (strcmp(argv[first], "--") != 0)
            return usage("unknown option: ", argv[first]);
        else
            break;
    }
    if (first < argc && strcmp(argv[first], "--") == 0)
        first++;
    if (first == argc)
        return usage("no file is named", "");

    const size_t count = (size_t)(argc - first);
    struct input *inputs = calloc(count, sizeof *inputs);
    struct merge *merge = calloc(1, sizeof *merge);
    if (inputs == NULL || merge == NULL)
        abort();
    bool is_good = true;
    for (size_t i = 0; i < count; i++)
        is_good &= input_read(&inputs[i], argv[first + (int)i]);
    int exit_code = EXIT_TROUBLE;
    if (is_good) {
        merge->inputs = inputs;
        merge->count = count;
        merge->percent = percent;
        merge_all(merge);
        exit_code = print(merge);
    }
    free(merge);
    free(inputs);
    return exit_code;
}
