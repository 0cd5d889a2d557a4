#include "config/resolve.h"

#include <string.h>

#include "config/dump.h"
#include "config/parse.h"
#include "config/profiles.h"
#include "config/suggest.h"

enum { QUOTED_BYTES = 96 };

/* The value given for each knob: NULL where the name did not occur. */
struct given {
    const char *text[KNOB_COUNT];
};

/* Text from the environment, safe to print on one line. */
static void put_quoted(struct fmt *out, const char *text, size_t length)
{
    for (size_t i = 0; i < length && i < QUOTED_BYTES; i++)
        fmt_put(out, "%c", text[i] >= ' ' && text[i] <= '~' ? text[i] : '?');
    if (length > QUOTED_BYTES)
        fmt_put(out, "...");
}

static void report_unknown(struct config_report *report, const char *name, size_t length)
{
    report->problem_count++;
    struct fmt *out = report->sink;
    if (!out)
        return;
    fmt_put(out, "hakmem: ");
    put_quoted(out, name, length);
    fmt_put(out, ": unknown variable; the nearest known one is %s\n", suggest_knob(name, length)->name);
    fmt_flush(out);
}

static void put_refused(struct fmt *out, const struct knob *knob, const char *text)
{
    fmt_put(out, "hakmem: %s=", knob->name);
    put_quoted(out, text, strlen(text));
    fmt_put(out, ": accepted is ");
    dump_range(out, knob);
}

/* To be called while *config still holds what is used instead. */
static void report_refused(struct config_report *report, const struct config *config, const struct knob *knob,
                           const char *text)
{
    report->problem_count++;
    struct fmt *out = report->sink;
    if (!out)
        return;
    put_refused(out, knob, text);
    fmt_put(out, "; using ");
    if (!knob_is_number(knob) || (knob->type == KNOB_TYPE_WORD && knob_load(knob, config) < knob->min))
        fmt_put(out, "none");
    else
        dump_value(out, knob, knob_load(knob, config));
    fmt_put(out, " (");
    dump_origin(out, config, config->origin[knob - knob_table]);
    fmt_put(out, ")\n");
    fmt_flush(out);
}

static void report_refused_override(struct config_report *report, const struct knob *knob, const char *text,
                                    const char *item)
{
    report->problem_count++;
    struct fmt *out = report->sink;
    if (!out)
        return;
    size_t length = 0;
    while (item[length] != '\0' && item[length] != ',')
        length++;
    put_refused(out, knob, text);
    fmt_put(out, "; the whole value is ignored because of \"");
    put_quoted(out, item, length);
    fmt_put(out, "\"\n");
    fmt_flush(out);
}

/* To be called while *config holds the default again. */
static void report_locked(struct config_report *report, const struct config *config, const struct knob *knob)
{
    report->notice_count++;
    struct fmt *out = report->sink;
    if (!out)
        return;
    fmt_put(out, "hakmem: %s has no effect without %s=1; using ", knob->name, knob_table[KNOB_LEARN_ADVANCED].name);
    dump_value(out, knob, knob_load(knob, config));
    fmt_put(out, "\n");
    fmt_flush(out);
}

static void collect(struct given *given, char *const *envp, struct config_report *report)
{
    for (; *envp; envp++) {
        const char *entry = *envp;
        if (strncmp(entry, KNOB_PREFIX, strlen(KNOB_PREFIX)) != 0)
            continue;
        size_t length = 0;
        while (entry[length] != '\0' && entry[length] != '=')
            length++;
        if (entry[length] == '\0')
            continue;
        const char *text = entry + length + 1;
        const struct knob *knob = knob_find(entry, length);
        if (!knob) {
            if (*text != '\0')
                report_unknown(report, entry, length);
        } else if (!given->text[knob - knob_table]) {
            given->text[knob - knob_table] = text;
        }
    }
}

/* Before any other knob is resolved. The system calls that it takes are paid by those who ask for them. */
static void resolve_auto(struct config *out, const char *user_limit)
{
    struct os_limits limits;
    uint64_t user_bytes = 0;
    if (out->profile != PROFILE_AUTO)
        return;
    if (user_limit) /* where it is bad, its own row will say so */
        parse_value(&knob_table[KNOB_MEMORY_LIMIT], user_limit, &user_bytes);
    os_limits_read("", &limits);
    out->auto_choice = auto_choose(&limits, user_bytes != 0 ? user_bytes : OS_NO_LIMIT);
}

static uint64_t base_value(const struct config *config, const struct knob *knob)
{
    if (config->profile == PROFILE_AUTO && knob == &knob_table[KNOB_THREAD_CACHE_BYTES])
        return config->auto_choice.thread_cache_bytes;
    return profile_value(config_base_profile(config), knob);
}

/* Sets a knob from its profile or default, then from the text given for it, if any. */
static void resolve_knob(struct config *out, const struct knob *knob, const char *text, struct config_report *report)
{
    uint8_t *origin = &out->origin[knob - knob_table];
    *origin = out->profile != PROFILE_NONE && knob->in_profiles ? ORIGIN_PROFILE : ORIGIN_DEFAULT;
    knob_store(knob, out, base_value(out, knob));
    if (!text || *text == '\0')
        return;
    uint64_t value;
    if (parse_value(knob, text, &value)) {
        knob_store(knob, out, value);
        *origin = ORIGIN_ENVIRONMENT;
    } else {
        report_refused(report, out, knob, text);
    }
}

static void resolve_path(struct config *out, const struct knob *knob, const char *text, struct config_report *report)
{
    if (!text || *text == '\0')
        return;
    if (!parse_path(text, knob->min, knob->max)) {
        report_refused(report, out, knob, text);
        return;
    }
    knob_store_path(knob, out, text);
    out->origin[knob - knob_table] = ORIGIN_ENVIRONMENT;
}

static void resolve_bins(struct config *out, const struct knob *knob, const char *text, struct config_report *report)
{
    struct class_override override = {0};
    if (text && *text != '\0') {
        const char *bad_item;
        if (parse_override(text, (uint32_t)knob->min, (uint32_t)knob->max, &override, &bad_item))
            out->origin[knob - knob_table] = ORIGIN_ENVIRONMENT;
        else
            report_refused_override(report, knob, text, bad_item);
    }
    for (uint32_t bin = 0; bin < TINY_BIN_COUNT; bin++) {
        const bool is_user = override.cap[bin] > 0;
        const uint32_t cap = is_user ? override.cap[bin] : preset_cap(out->tiny_preset, tiny_bin_class(bin));
        out->bin_cap_is_user[bin] = is_user;
        out->bin_cap[bin] = cap;
        out->bin_refill[bin] = override.refill[bin] > 0 ? override.refill[bin] : default_refill(cap);
    }
}

static void lock_advanced(struct config *out, struct config_report *report)
{
    for (size_t i = 0; i < KNOB_COUNT && !out->learn_advanced; i++) {
        const struct knob *knob = &knob_table[i];
        if (!knob->is_advanced || out->origin[i] != ORIGIN_ENVIRONMENT)
            continue;
        knob_store(knob, out, knob->fallback);
        out->origin[i] = ORIGIN_DEFAULT;
        report_locked(report, out, knob);
    }
}

/* The profile is the base of every other knob and the preset that of the bins, so a row may only depend on earlier
 * ones. */
_Static_assert(KNOB_PROFILE == 0, "the profile comes first");
_Static_assert((int)KNOB_TINY_PRESET < (int)KNOB_TINY_TLS_CLASS_OVERRIDE, "the preset comes before the overrides");

void config_resolve(struct config *out, char *const *envp, bool secure, struct config_report *report)
{
    struct given given = {0};
    *out = (struct config){.profile = PROFILE_NONE};
    if (envp && !secure)
        collect(&given, envp, report);
    for (size_t i = 0; i < KNOB_COUNT; i++) {
        const struct knob *knob = &knob_table[i];
        if (knob->type == KNOB_TYPE_OVERRIDE)
            resolve_bins(out, knob, given.text[i], report);
        else if (knob->type == KNOB_TYPE_PATH)
            resolve_path(out, knob, given.text[i], report);
        else
            resolve_knob(out, knob, given.text[i], report);
        if (i == KNOB_PROFILE)
            resolve_auto(out, given.text[KNOB_MEMORY_LIMIT]);
    }
    lock_advanced(out, report);
}
