#include "tools/input.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "config/dump.h"
#include "config/suggest.h"
#include "learn/profile.h"

struct line {
    const struct input *input;
    unsigned number;
};

static bool complain(const struct line *line, const char *what, const char *detail)
{
    fprintf(stderr, "%s:%u: %s%s\n", line->input->name, line->number, what, detail);
    return false;
}

static bool complain_value(const struct line *line, const struct knob *knob)
{
    char range[256];
    struct fmt f;
    fmt_init(&f, range, sizeof range, -1);
    dump_range(&f, knob);
    fprintf(stderr, "%s:%u: %s: accepted is %s\n", line->input->name, line->number, knob->name, range);
    return false;
}

static bool read_weight(struct input *out, const struct line *line, const char *text)
{
    unsigned class_index, bytes;
    unsigned long long weight;
    if (sscanf(text, PROFILE_WEIGHT "C%u.%u %llu", &class_index, &bytes, &weight) != 3 || weight == 0)
        return complain(line, "accepted is " PROFILE_WEIGHT "Ck.size count", "");
    for (uint32_t bin = 0; bin < TINY_BIN_COUNT; bin++) {
        if (tiny_bin_class(bin) == class_index && tiny_bin_bytes(bin) == bytes) {
            out->weights[bin] = weight;
            return true;
        }
    }
    return complain(line, "there is no such bin: ", text + strlen(PROFILE_WEIGHT));
}

static bool read_evidence(struct input *out, const struct line *line, const char *text)
{
    unsigned long long misses, windows;
    char rest;
    if (sscanf(text, PROFILE_EVIDENCE "%llu misses %llu window%c", &misses, &windows, &rest) != 3)
        return complain(line, "accepted is " PROFILE_EVIDENCE "count misses count windows", "");
    out->has_evidence = true;
    out->misses = misses;
    out->windows = windows;
    return true;
}

static bool read_setting(struct input *out, const struct line *line, const char *text)
{
    const char *value = strchr(text, '=');
    if (value == NULL)
        return complain(line, "neither NAME=VALUE nor a comment", "");
    const struct knob *knob = knob_find(text, (size_t)(value - text));
    if (knob == NULL)
        return complain(line, "unknown variable; the nearest known one is ",
                        suggest_knob(text, (size_t)(value - text))->name);
    if (!knob->in_profiles && knob->type != KNOB_TYPE_OVERRIDE)
        return complain(line, "not a variable of profiles: ", knob->name);
    const char *bad_item;
    value++;
    if (*value == '\0') /* counts as unset */
        return true;
    out->given[knob - knob_table] = true;
    if (knob->type == KNOB_TYPE_OVERRIDE) {
        if (!parse_override(value, (uint32_t)knob->min, (uint32_t)knob->max, &out->bins, &bad_item))
            return complain_value(line, knob);
        return true;
    }
    return parse_value(knob, value, &out->values[knob - knob_table]) || complain_value(line, knob);
}

static bool read_line(struct input *out, const struct line *line, const char *text)
{
    static const char keyword[] = "export ";
    if (strncmp(text, PROFILE_WEIGHT, strlen(PROFILE_WEIGHT)) == 0)
        return read_weight(out, line, text);
    if (strncmp(text, PROFILE_EVIDENCE, strlen(PROFILE_EVIDENCE)) == 0)
        return read_evidence(out, line, text);
    if (text[0] == '\0' || text[0] == '#')
        return true;
    if (strncmp(text, keyword, strlen(keyword)) == 0)
        text += strlen(keyword);
    return read_setting(out, line, text);
}

bool input_read(struct input *out, const char *name)
{
    *out = (struct input){.name = name};
    FILE *file = fopen(name, "r");
    if (file == NULL) {
        fprintf(stderr, "%s: %s\n", name, strerror(errno));
        return false;
    }
    struct line line = {.input = out};
    char *text = NULL;
    size_t capacity = 0;
    bool is_good = true;
    for (ssize_t length; (length = getline(&text, &capacity, file)) > 0;) {
        line.number++;
        if (text[length - 1] == '\n')
            text[length - 1] = '\0';
        is_good &= read_line(out, &line, text);
    }
    if (ferror(file)) {
        fprintf(stderr, "%s: %s\n", name, strerror(errno));
        is_good = false;
    }
    free(text);
    fclose(file);
    return is_good;
}
