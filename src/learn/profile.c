#include "learn/profile.h"

#include "config/dump.h"
#include "config/profiles.h"

static bool has_ceilings(const struct config *config)
{
    for (uint32_t bin = 0; bin < TINY_BIN_COUNT; bin++)
        if (config->bin_cap_is_user[bin])
            return true;
    return false;
}

void profile_put(struct fmt *out, const struct config *config, profile_why_fn why, const void *context)
{
    for (size_t i = 0; i < KNOB_COUNT; i++) {
        const struct knob *knob = &knob_table[i];
        const bool is_override = knob->type == KNOB_TYPE_OVERRIDE;
        if (is_override ? !has_ceilings(config) : !knob->in_profiles)
            continue;
        why(out, knob, context);
        fmt_put(out, "%s=", knob->name);
        if (is_override)
            dump_override(out, config);
        else
            dump_value(out, knob, knob_load(knob, config));
        fmt_put(out, "\n");
    }
}

void profile_put_weight(struct fmt *out, uint32_t bin, uint64_t misses)
{
    fmt_put(out, PROFILE_WEIGHT "C%u.%u %llu", tiny_bin_class(bin), tiny_bin_bytes(bin), (unsigned long long)misses);
}

void profile_put_evidence(struct fmt *out, uint64_t misses, uint64_t windows)
{
    fmt_put(out, PROFILE_EVIDENCE "%llu misses %llu windows\n", (unsigned long long)misses, (unsigned long long)windows);
}

void profile_put_safely(struct fmt *out, const char *text)
{
    for (; *text != '\0'; text++)
        fmt_put(out, "%c", *text >= ' ' && *text <= '~' ? *text : '?');
}

/* ---- what a process has learned ---- */

struct lesson {
    const struct config *started;
    const struct learned_profile *learned;
    struct config now; /* what is written */
    struct learn_choice choices[TINY_BIN_COUNT];
    bool is_learned[TINY_BIN_COUNT];
};

/* The live value behind a knob, where there is one. */
static uint64_t live_value(const struct knob *knob, const struct lesson *lesson)
{
    const struct policy *policy = &lesson->learned->policy;
    switch (knob - knob_table) {
    case KNOB_ALLOC_LEARN:
    case KNOB_MEM_LEARN:
    case KNOB_LEARN_ADVANCED:
        return 0;
    case KNOB_THREAD_CACHE_BYTES:
        return policy->thread_cache_bytes;
    case KNOB_DECAY_MS:
        return policy->decay_ms;
    case KNOB_DECAY_FLOOR:
        return policy->decay_floor_bytes;
    case KNOB_DECAY_RATE:
        return policy->decay_rate_bytes;
    case KNOB_RETAINED_RATIO:
        return policy->retained_ratio_ppm;
    case KNOB_SUPERSLAB_REUSE:
        return policy->retained_superslabs > 1;
    case KNOB_SUPERSLAB_PREWARM:
        return policy->prewarm_superslabs;
    default:
        return knob_load(knob, lesson->started);
    }
}

/* Returns the misses of all bins. */
static uint64_t learn_bins(struct lesson *lesson)
{
    struct config *now = &lesson->now;
    uint64_t misses = 0;
    for (uint32_t bin = 0; bin < TINY_BIN_COUNT; bin++) {
        struct learn_choice *choice = &lesson->choices[bin];
        if (!learn_bin_choose(&lesson->learned->bins[bin], LEARN_PERCENTILE, choice))
            continue; /* without traffic, what the user said about it holds on */
        lesson->is_learned[bin] = true;
        now->bin_cap_is_user[bin] = true;
        now->bin_cap[bin] = choice->cap;
        now->bin_refill[bin] = choice->refill;
        misses = choice->misses < UINT64_MAX - misses ? misses + choice->misses : UINT64_MAX;
    }
    return misses;
}

static const char *profile_name(const struct config *config)
{
    const enum profile profile = config_base_profile(config);
    return profile_words[profile == PROFILE_NONE ? PROFILE_DEFAULT : profile];
}

static void put_value_line(struct fmt *out, const char *text, const struct knob *knob, uint64_t value)
{
    fmt_put(out, "# %s ", text);
    dump_value(out, knob, value);
    fmt_put(out, ".\n");
}

static void explain_number(struct fmt *out, const struct knob *knob, const struct lesson *lesson)
{
    const uint64_t now = knob_load(knob, &lesson->now);
    const uint64_t started = knob_load(knob, lesson->started);
    const uint64_t profile = profile_value(config_base_profile(lesson->started), knob);
    switch (knob - knob_table) {
    case KNOB_ALLOC_LEARN:
    case KNOB_MEM_LEARN:
    case KNOB_LEARN_ADVANCED:
        if (now != started)
            fmt_put(out, "# Off: what it learned stands in this file.\n");
        return;
    default:
        if (now != started)
            put_value_line(out, "Learned: the program started with", knob, started);
        else if (now != profile)
            put_value_line(out, "As the environment said; the profile has", knob, profile);
        return;
    }
}

static void explain_bins(struct fmt *out, const struct lesson *lesson)
{
    fmt_put(out, "# Ceilings of the bins that had misses: the cap that was enough for %u %% of them, and the mean batch of a\n"
                 "# refill. The number after the bin counts its misses.\n",
            LEARN_PERCENTILE);
    for (uint32_t bin = 0; bin < TINY_BIN_COUNT; bin++) {
        if (!lesson->is_learned[bin])
            continue;
        const struct learn_bin *from = &lesson->learned->bins[bin];
        profile_put_weight(out, bin, lesson->choices[bin].misses);
        fmt_put(out, " misses; thread caches: %u, caps %u to %u; ceiling at start %u:%u\n", from->cache_count,
                from->samples[0].cap, from->samples[from->sample_count - 1].cap, lesson->started->bin_cap[bin],
                lesson->started->bin_refill[bin]);
    }
}

static void explain(struct fmt *out, const struct knob *knob, const void *context)
{
    if (knob->type == KNOB_TYPE_OVERRIDE)
        explain_bins(out, context);
    else
        explain_number(out, knob, context);
}

void profile_put_learned(struct fmt *out, const struct config *started, const struct learned_profile *learned,
                         const char *program, int process_id)
{
    struct lesson lesson = {.started = started, .learned = learned, .now = *started};
    for (size_t i = 0; i < KNOB_COUNT; i++)
        if (knob_table[i].in_profiles)
            knob_store(&knob_table[i], &lesson.now, live_value(&knob_table[i], &lesson));
    const uint64_t misses = learn_bins(&lesson);
    fmt_put(out, "# HAKMEM profile, learned by ");
    profile_put_safely(out, program);
    fmt_put(out, " (process %d), which started from the profile %s.\n", process_id, profile_name(started));
    fmt_put(out, "# It is loaded like any other, see docs/tuning.md; comments say where it differs, and why. What it rests upon,\n"
                 "# for `hakmem merge`:\n");
    profile_put_evidence(out, misses, learned->windows);
    fmt_put(out, "\n");
    profile_put(out, &lesson.now, explain, &lesson);
}
