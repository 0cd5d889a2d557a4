#include "learn/decision.h"

/* In the table itself, because the loader would have to write pointers. */
struct subject_words {
    char name[24];
    char effect[32];
    char evidence[LEARN_EVIDENCE_MAX][24]; /* "": there are no more */
};

static const struct subject_words subjects[LEARN_SUBJECT_COUNT] = {
    [LEARN_BIN_CAP] = {"bin_cap", "round_trips_per_second",
                       {"refill_blocks", "flush_blocks", "collected_blocks", "low_water", "excess_blocks"}},
    [LEARN_BIN_REFILL] = {"bin_refill", "refills_per_100_turns",
                          {"refill_count", "refill_blocks", "turns"}},
    [LEARN_KEEP_SLABS] = {"keep_slabs", "round_trips_per_second",
                          {"slabs_attached", "slabs_retired", "slabs_idle"}},
    [LEARN_PURGE_DELAY] = {"purge_delay_ms", "refaulted_bytes_per_window", {"purged_bytes", "refaulted_bytes"}},
    [LEARN_PREWARM] = {"prewarm_superslabs", "superslabs_mapped_per_window", {"superslabs_mapped"}},
    [LEARN_RETAINED] = {"retained_superslabs", "superslabs_mapped_per_window",
                        {"superslabs_mapped", "superslabs_released"}},
    [LEARN_HUGE_PAGE] = {"huge_page", "resident_percent_of_used", {"used_bytes", "resident_bytes"}},
};

static const char verdicts[LEARN_VERDICT_COUNT][12] = {
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
    return index < LEARN_EVIDENCE_MAX && subjects[subject].evidence[index][0] != '\0' ? subjects[subject].evidence[index]
                                                                                      : NULL;
}

const char *learn_effect_name(enum learn_subject subject)
{
    return subjects[subject].effect;
}
