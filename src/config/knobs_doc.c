/* Writes docs/knobs.md to stdout: the knob table for readers. Run when the documentation is built; not part of the
 * library. */
#include <stdio.h>

#include "config/dump.h"
#include "config/profiles.h"

#define TYPE_BOOL "switch"
#define TYPE_UINT "number"
#define TYPE_BYTES "size: number, optionally followed by K, M or G"
#define TYPE_RATIO "ratio: decimal fraction with up to six decimals"
#define TYPE_PROFILE "word"
#define TYPE_PRESET "word"
#define TYPE_THP "word"
#define TYPE_MODE "word"
#define TYPE_OVERRIDE "list"
#define TYPE_PATH "path"

static const struct {
    const char *type;
    const char *help;
} doc[KNOB_COUNT] = {
#define KNOB(id, field, type_name, unit, min, max, fallback, profiles, help_text) \
    [KNOB_##id] = {TYPE_##type_name, help_text},
#include "config/knobs.def"
};

/* One dumped piece as a string; valid until the next call. */
static struct fmt *scratch_start(void)
{
    static char text[256];
    static struct fmt scratch;
    fmt_init(&scratch, text, sizeof text, -1);
    return &scratch;
}

static int is_unset(const struct knob *knob, uint64_t value)
{
    return !knob_is_number(knob) || (knob->type == KNOB_TYPE_WORD && value < knob->min);
}

static const char *value_text(const struct knob *knob, uint64_t value)
{
    struct fmt *out = scratch_start();
    if (is_unset(knob, value))
        return "unset";
    dump_value(out, knob, value);
    return out->buf;
}

static const char *range_text(const struct knob *knob)
{
    struct fmt *out = scratch_start();
    dump_range(out, knob);
    return out->buf;
}

/* A knob outside the profiles has a default all the same. */
static const char *cell_text(const struct knob *knob, enum profile profile)
{
    if (knob->in_profiles)
        return value_text(knob, profile_value(profile, knob));
    if (profile == PROFILE_DEFAULT && !is_unset(knob, knob->fallback))
        return value_text(knob, knob->fallback);
    return "–";
}

static void print_overview(void)
{
    static const enum profile columns[] = {PROFILE_DEFAULT, PROFILE_BALANCED, PROFILE_ADAPTIVE, PROFILE_TIGHT};
    printf("| variable |");
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++)
        printf(" %s |", profile_words[columns[i]]);
    printf("\n|---|---|---|---|---|\n");
    for (size_t k = 0; k < KNOB_COUNT; k++) {
        const struct knob *knob = &knob_table[k];
        printf("| `%s` |", knob->name);
        for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++)
            printf(" %s |", cell_text(knob, columns[i]));
        printf("\n");
    }
}

static void print_knob(size_t index)
{
    const struct knob *knob = &knob_table[index];
    printf("\n### `%s`\n\n%s\n\n", knob->name, doc[index].help);
    printf("- Type: %s\n", doc[index].type);
    if (knob->unit[0] != '\0')
        printf("- Unit: %s\n", knob->unit);
    printf("- Accepted: %s\n", range_text(knob));
    printf("- Default: %s\n", value_text(knob, knob->fallback));
}

int main(void)
{
    printf("# Configuration variables\n\n"
           "<!-- Generated from src/config/knobs.def by src/config/knobs_doc.c; do not edit. -->\n\n"
           "HAKMEM reads these environment variables once, at start-up: changing one needs a restart. An empty value\n"
           "counts as unset. A process that runs with raised privileges (AT_SECURE) ignores all of them. A value that\n"
           "is refused, and a name with the prefix `%s` that is not listed here, is reported from\n"
           "`HAKMEM_DEBUG_LEVEL=1` on; `HAKMEM_STRICT=1` also stops the process with exit code %d.\n"
           "`HAKMEM_CONFIG_DUMP=1` shows what is in effect.\n",
           KNOB_PREFIX, CONFIG_EXIT_CODE);
    printf("\n## Values by profile\n\n"
           "A profile is one of the files in `profiles/`, or `HAKMEM_PROFILE` without a file. The column `default` is\n"
           "also what is in effect without any profile. No profile touches a variable with a dash.\n\n");
    print_overview();
    printf("\n## Each variable\n");
    for (size_t k = 0; k < KNOB_COUNT; k++)
        print_knob(k);
    return ferror(stdout) || fflush(stdout) != 0;
}
