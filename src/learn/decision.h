/* What a learner decided, on what evidence, what it expects, and later what came of it: the one record that learners
 * produce and the journal writes down. Plain data: a learner is a pure function from a snapshot to decisions.
 *
 * A decision appears once when it is made (APPLIED, or OBSERVED where HAKMEM_LEARN_MODE=observe) and once more when its
 * effect has been measured: CONFIRMED, or ROLLED_BACK, which also says that `from` holds again. Steps in a row are judged together:
 * the second record's `from` and `to` may then span several of the first ones; its evidence is what was seen since. */
#ifndef HAKMEM_LEARN_DECISION_H
#define HAKMEM_LEARN_DECISION_H

#include "base/attr.h"

enum learn_subject {
    LEARN_BIN_CAP,     /* place: bin; objects a magazine may hold */
    LEARN_BIN_REFILL,  /* place: bin; blocks of a refill that follows a flush */
    LEARN_KEEP_SLABS,  /* place: 0; empty slabs a thread's heap may keep */
    LEARN_PURGE_DELAY, /* place: 0; milliseconds */
    LEARN_PREWARM,     /* place: 0; SuperSlabs */
    LEARN_RETAINED,    /* place: 0; empty SuperSlabs that may wait for their decay */
    LEARN_HUGE_PAGE,   /* place: index of the SuperSlab in the window, or 0: those yet to come; 0 small, 1 huge pages */
    LEARN_SUBJECT_COUNT,
};

enum learn_verdict {
    LEARN_APPLIED,
    LEARN_OBSERVED,    /* predicted only: nothing was changed */
    LEARN_ROLLED_BACK, /* worse than predicted: undone */
    LEARN_CONFIRMED,
    LEARN_VERDICT_COUNT,
};

#define LEARN_EVIDENCE_MAX 5u
#define LEARN_NOT_MEASURED UINT64_MAX

struct learn_decision {
    uint64_t time_ms;  /* coarse monotonic clock */
    uint64_t window;   /* the learner's window at whose end it was made, counted from 1 */
    uint64_t from, to; /* in the subject's unit */
    uint64_t evidence[LEARN_EVIDENCE_MAX]; /* learn_evidence_name says what each is */
    uint64_t before;    /* the effect's quantity as it was when the decision was made; learn_effect_name names it */
    uint64_t predicted; /* what it should at most be afterwards */
    uint64_t measured;  /* what it was afterwards; LEARN_NOT_MEASURED in a decision's first record */
    uint32_t heap;      /* id of the heap whose thread it concerns; 0: the process */
    uint32_t place;     /* bin or SuperSlab, by subject */
    uint8_t subject;    /* enum learn_subject */
    uint8_t verdict;    /* enum learn_verdict */
};

/* Words in lower case with underscores, for journals and reports. */
const char *learn_subject_name(enum learn_subject subject);
const char *learn_verdict_name(enum learn_verdict verdict);
/* What evidence[index] is; NULL: this subject has no such number. */
const char *learn_evidence_name(enum learn_subject subject, unsigned index);
/* What before, predicted and measured count, with its unit. */
const char *learn_effect_name(enum learn_subject subject);

#endif
