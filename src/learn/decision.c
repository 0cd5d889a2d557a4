#include "learn/decision.h"

struct subject_words {
    const char *name;
    const char *effect;
    const char *evidence[LEARN_EVIDENCE_MAX];
};

static const struct subject_words subjects[LEARN_SUBJECT_COUNT] = {
    [LEARN_BIN_CAP] = {"bin_cap", "round_trips_per_second",
                       {"refill_blocks", "flush_blocks", "collected_blocks", "low_water", "excess_blocks"}},
    [LEARN_BIN_REFILL] = {"bin_refill", "refills_per_100_turns",
                          {"refill_count", "refill_blocks", "turns", NULL}},
    [LEARN_KEEP_SLABS] = {"keep_slabs", "round_trips_per_second",
                          {"slabs_attached", "slabs_retired", "slabs_idle", NULL}},
    [LEARN_PURGE_DELAY] = {"purge_delay_ms", "refaulted_bytes_per_window", {"purged_bytes", "refaulted_bytes", NULL}},
    [LEARN_PREWARM] = {"prewarm_superslabs", "superslabs_mapped_per_window", {"superslabs_mapped", NULL}},
    [LEARN_RETAINED] = {"retained_superslabs", "superslabs_mapped_per_window",
                        {"superslabs_mapped", "superslabs_released", NULL}},
    [LEARN_HUGE_PAGE] = {"huge_page", "resident_percent_of_used", {"used_bytes", "resident_bytes", NULL}},
};

static const char *const verdicts[LEARN_VERDICT_COUNT] = {
    [LEARN_APPLIED] = "applied",
    [LEARN_OBSERVED] = "observed",
    [LEARN_ROLLED_BACK] = "rolled_back",
    [LEARN_CONFIRMED] = "confirmed",
};

const char *learn_subject_name(enum learn_subject subject)
{
    return subjects[subject].name;
}

const char *learn_verdict_name(enum learn_verdict verdict)
{
    return verdicts[verdict];
}

const char *learn_evidence_name(enum learn_subject subject, unsigned index)
{
    return index < LEARN_EVIDENCE_MAX ? subjects[subject].evidence[index] : NULL;
}

const char *learn_effect_name(enum learn_subject subject)
{
    return subjects[subject].effect;
}
