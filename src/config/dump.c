#include "config/dump.h"

#include "config/profiles.h"

static void put_ppm(struct fmt *out, uint64_t ppm)
{
    unsigned decimals = RATIO_DECIMALS;
    uint64_t one = RATIO_ONE_PPM;
    for (; decimals > 0 && ppm % 10 == 0; decimals--) { /* without the zeros at its end */
        ppm /= 10;
        one /= 10;
    }
    fmt_put_ratio(out, ppm, one, decimals);
}

void dump_value(struct fmt *out, const struct knob *knob, uint64_t value)
{
    switch ((enum knob_type)knob->type) {
    case KNOB_TYPE_BOOL:
    case KNOB_TYPE_UINT:
    case KNOB_TYPE_BYTES:
        fmt_put(out, "%llu", (unsigned long long)value);
        return;
    case KNOB_TYPE_RATIO:
        put_ppm(out, value);
        return;
    case KNOB_TYPE_WORD:
        fmt_put(out, "%s", knob_words(knob)[value]);
        return;
    case KNOB_TYPE_OVERRIDE:
    case KNOB_TYPE_PATH:
        return;
    }
}

void dump_range(struct fmt *out, const struct knob *knob)
{
    switch ((enum knob_type)knob->type) {
    case KNOB_TYPE_BOOL:
        fmt_put(out, "0 or 1");
        return;
    case KNOB_TYPE_UINT:
    case KNOB_TYPE_BYTES:
    case KNOB_TYPE_RATIO:
        dump_value(out, knob, knob->min);
        fmt_put(out, "..");
        dump_value(out, knob, knob->max);
        fmt_put(out, "%s%s", knob->unit[0] != '\0' ? " " : "", knob->unit);
        return;
    case KNOB_TYPE_WORD:
        for (uint64_t i = knob->min; i <= knob->max; i++)
            fmt_put(out, "%s%s", i > knob->min ? ", " : "", knob_words(knob)[i]);
        return;
    case KNOB_TYPE_OVERRIDE:
        fmt_put(out, "Ck:cap[:refill] or Ck.size:cap[:refill], cap %llu..%llu, refill 1..cap",
                (unsigned long long)knob->min, (unsigned long long)knob->max);
        return;
    case KNOB_TYPE_PATH:
        fmt_put(out, "a path of at most %llu bytes, without control characters", (unsigned long long)knob->max);
        return;
    }
}

/* Whether one item Ck:cap:refill says everything that the user set in the class. */
static bool class_is_uniform(const struct config *config, uint32_t first, uint32_t bin_count)
{
    for (uint32_t bin = first; bin < first + bin_count; bin++) {
        if (!config->bin_cap_is_user[bin] || config->bin_cap[bin] != config->bin_cap[first] ||
            config->bin_refill[bin] != config->bin_refill[first])
            return false;
    }
    return true;
}

void dump_override(struct fmt *out, const struct config *config)
{
    const char *separator = "";
    for (uint32_t class_index = 0; class_index < TINY_CLASS_COUNT; class_index++) {
        const uint32_t first = tiny_class_first_bin(class_index);
        const uint32_t bin_count = tiny_class_bin_count(class_index);
        if (class_is_uniform(config, first, bin_count)) {
            fmt_put(out, "%sC%u:%u:%u", separator, class_index, config->bin_cap[first], config->bin_refill[first]);
            separator = ",";
            continue;
        }
        for (uint32_t bin = first; bin < first + bin_count; bin++) {
            if (!config->bin_cap_is_user[bin])
                continue;
            fmt_put(out, "%sC%u.%u:%u:%u", separator, class_index, tiny_bin_bytes(bin), config->bin_cap[bin],
                    config->bin_refill[bin]);
            separator = ",";
        }
    }
}

void dump_origin(struct fmt *out, const struct config *config, enum config_origin origin)
{
    switch (origin) {
    case ORIGIN_DEFAULT:
        fmt_put(out, "default");
        return;
    case ORIGIN_PROFILE:
        fmt_put(out, "profile %s", profile_words[config_base_profile(config)]);
        return;
    case ORIGIN_ENVIRONMENT:
        fmt_put(out, "environment");
        return;
    }
}

/* What `auto` took, and why. */
static void put_choice(struct fmt *out, const struct auto_choice *choice)
{
    static const char *const bounds[] = {
        [AUTO_BOUND_NONE] = "no limit is known",
        [AUTO_BOUND_CGROUP] = "bytes are the limit of the control group",
        [AUTO_BOUND_RLIMIT] = "bytes are the resource limit",
        [AUTO_BOUND_MACHINE] = "bytes are what the machine has",
        [AUTO_BOUND_USER] = "bytes are HAKMEM_MEMORY_LIMIT",
    };
    fmt_put(out, "; took %s because ", profile_words[choice->profile]);
    if (choice->bound != AUTO_BOUND_NONE)
        fmt_put(out, "%llu ", (unsigned long long)choice->memory_bytes);
    fmt_put(out, "%s", bounds[choice->bound]);
    if (choice->cpu_count != 0)
        fmt_put(out, ", for %u CPUs", choice->cpu_count);
}

static void put_budget(struct fmt *out, const struct config *config)
{
    if (config->thread_cache_bytes < profile_value(config_base_profile(config), &knob_table[KNOB_THREAD_CACHE_BYTES]))
        fmt_put(out, ", lowered: 1/%u of the memory over %u threads for each CPU", AUTO_CACHE_SHARE,
                AUTO_THREADS_PER_CPU);
}

void dump_config(struct fmt *out, const struct config *config)
{
    for (size_t i = 0; i < KNOB_COUNT; i++) {
        const struct knob *knob = &knob_table[i];
        fmt_put(out, "%s=", knob->name);
        if (knob->type == KNOB_TYPE_OVERRIDE)
            dump_override(out, config);
        else if (knob->type == KNOB_TYPE_PATH)
            fmt_put(out, "%s", knob_path(knob, config));
        else
            dump_value(out, knob, i == KNOB_THP ? config_thp(config) : knob_load(knob, config));
        fmt_put(out, "  # ");
        dump_origin(out, config, config->origin[i]);
        if (i == KNOB_PROFILE && config->profile == PROFILE_AUTO)
            put_choice(out, &config->auto_choice);
        if (i == KNOB_THREAD_CACHE_BYTES && config->profile == PROFILE_AUTO && config->origin[i] == ORIGIN_PROFILE)
            put_budget(out, config);
        if (i == KNOB_THP && config_thp(config) != config->thp)
            fmt_put(out, ", default is never under HAKMEM_MEMORY_LIMIT");
        fmt_put(out, "\n");
        fmt_flush(out);
    }
}
