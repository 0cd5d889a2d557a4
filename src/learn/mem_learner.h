/* The memory learner: decides which SuperSlabs are worth a huge page, how long freed pages should wait before they are
 * given back, and how many SuperSlabs may wait empty or are made ready in advance. A pure function from a snapshot to decisions: nothing here calls the
 * allocator or the kernel, and the tests run it over worlds of their own. docs/learning.md tells the law in prose.
 *
 * Everything is slower than allocation learning, which decides after two windows: here MEM_PATIENCE_WINDOWS pass first.
 * What allocation learning changes has settled by then, so the two do not chase each other. */
#ifndef HAKMEM_LEARN_MEM_LEARNER_H
#define HAKMEM_LEARN_MEM_LEARNER_H

#include "learn/decision.h"

#define MEM_SUPERSLAB_BYTES ((uint32_t)1 << 21)
#define MEM_PATIENCE_WINDOWS 8u /* four times the allocation learner's */
#define MEM_DENSE_MS 1000u      /* at least, before a huge page: moving 2 MiB takes about a millisecond */
#define MEM_TRIAL_WINDOWS 3u    /* in which a huge page must not prove wasted */
#define MEM_HYSTERESIS 4u       /* between the utilisation that earns a huge page and the one that costs it */
#define MEM_PLACES_MAX 16u      /* SuperSlabs in one snapshot: looking at one costs its slabs' records */
#define MEM_NUMBER_DECISIONS_MAX 5u
#define MEM_DECISIONS_MAX (MEM_PLACES_MAX + 1u + MEM_NUMBER_DECISIONS_MAX)
#define MEM_RETAIN_ALL UINT32_MAX

struct mem_params {
    uint32_t threshold_ppm;    /* of a SuperSlab in use, from which on it gets a huge page */
    uint32_t cooldown_windows; /* what was undone waits so long, then twice as long */
    uint32_t decay_ms;         /* as configured: the learned delay stays within a quarter and eight times of it */
    uint32_t retained;         /* as configured; MEM_RETAIN_ALL: there is nothing to learn. Else memory is held for nothing
                                  that is only predicted: no huge page before the first touch */
    uint32_t prewarm;          /* as configured, in SuperSlabs: no less is learned */
    bool advanced;             /* delays, retained and prewarmed SuperSlabs too */
    bool observe;              /* decisions are announced and not carried out */
};

enum mem_mood { MEM_NEITHER, MEM_DENSE, MEM_SPARSE };
enum mem_trial { MEM_AT_REST, MEM_ON_TRIAL, MEM_BORN };

/* What is remembered of one SuperSlab. All zero: nothing. */
struct mem_track {
    uint32_t since_window; /* when its mood began ... */
    uint32_t since_ms;     /* ... and by the clock */
    uint32_t trial_window; /* when it was given a huge page */
    uint32_t hold_until;   /* window before which it is left alone */
    uint16_t holdoff;      /* what the next reversal costs; 0: the first */
    uint16_t before_kib;   /* resident when the trial began */
    uint8_t mood;          /* enum mem_mood */
    uint8_t trial;         /* enum mem_trial; BORN: huge from birth, and has not filled up yet */
    bool is_known;         /* has been seen since it was mapped */
    bool wants_collapse;   /* what it holds has not been moved into the huge page yet */
    bool is_draining;      /* is counted in mem_learner.draining */
};

/* One SuperSlab in one window. */
struct mem_place {
    uint32_t superslab;
    bool is_mapped;
    bool is_huge;
    bool is_unproven;        /* born so on prediction, and nobody has seen it filled up */
    bool is_draining;        /* in: it is claimed from last. Out: it should be */
    uint32_t claimed_bytes;  /* slabs that are somebody's */
    uint32_t used_bytes;     /* under blocks; <= claimed */
    uint32_t resident_bytes; /* pages that it holds */
    struct mem_track *track;
};

struct mem_snapshot {
    uint64_t time_ms;
    uint64_t window; /* counted from 1; may jump, where a tick came late */
    uint32_t superslabs;   /* mapped now */
    uint64_t claimed_bytes; /* in all of them */
    uint64_t superslabs_mapped, superslabs_released; /* since the last snapshot */
    uint64_t decayed_bytes, refaulted_bytes;         /* likewise */
    uint32_t decay_ms, retained, prewarm;            /* in force */
    bool huge_birth;                                 /* in force */
    unsigned count;
    struct mem_place places[MEM_PLACES_MAX];
};

/* One number that has a cost where it is too low and another where it is too high. */
struct mem_number {
    uint64_t good, bad;      /* evidence gathered since the last decision: see mem_numbers.c */
    uint64_t since_ms;
    uint64_t trial_before;   /* bad per window, times 256, before the change on trial */
    uint32_t windows;
    uint32_t trial_from;
    int8_t trial;            /* -1: it was lowered, 1: raised, 0: at rest */
    uint8_t trial_steps;     /* in a row; judged together */
    bool is_warm;
    uint16_t hold_up, hold_down; /* windows */
    uint16_t holdoff;        /* what the next reversal upwards costs; 0: the first */
    uint64_t rest_rate;      /* bad per window, times 256, when a trial last ended */
};

struct mem_learner {
    uint64_t last_ms, last_window;
    /* births */
    uint32_t births, deaths; /* in this epoch */
    uint32_t birth_window;   /* when the epoch began */
    uint32_t birth_hold_until;
    uint16_t birth_holdoff;
    uint32_t density_ppm;    /* of claimed bytes that are used: moving average over places */
    /* collapsing */
    uint64_t collapse_us;    /* what it may take now */
    uint64_t collapse_pause_until_ms;
    uint32_t collapse_pause_ms;
    uint32_t draining;       /* SuperSlabs */
    struct mem_number delay, retained;
    uint32_t steady;         /* fewest SuperSlabs' worth of memory in use, in the last ... */
    uint32_t steady_windows;
    uint32_t steady_mapped;  /* SuperSlabs mapped meanwhile */
};

/* Fills `decisions` and returns how many there are. Subjects, and how they are carried out:
 *   LEARN_HUGE_PAGE  place 0: those that are mapped from now on. APPLIED: to 1 a huge page, to 0 break it. ROLLED_BACK: as it
 *                    was `from`. OBSERVED, CONFIRMED: nothing is to be done.
 *   LEARN_PURGE_DELAY, LEARN_RETAINED, LEARN_PREWARM  set `to`, or `from` where it was rolled back. */
unsigned mem_decide(struct mem_learner *learner, const struct mem_params *params, struct mem_snapshot *snapshot,
                    struct learn_decision decisions[MEM_DECISIONS_MAX]);

/* A SuperSlab has got a huge page and is on trial; mem_decide calls it, and a test that injects a decision of its own. */
void mem_note_huge(struct mem_track *track, uint64_t window, uint32_t resident_bytes);
/* The huge page was refused: it is not asked for again soon. */
void mem_note_refused(struct mem_track *track, const struct mem_params *params, uint64_t window);

/* How many SuperSlabs may have been born huge and not have been seen to fill up yet, in a heap of so many; `begun_bytes` is the
 * most that slabs can hold which their heaps have begun to use and not filled. */
uint32_t mem_open_births(uint32_t superslabs, uint64_t begun_bytes);

/* Microseconds that moving memory into huge pages may take now: a share of the time that passed. */
uint64_t mem_collapse_budget(const struct mem_learner *learner, uint64_t now_ms);
/* What it took; a refusal backs off. */
void mem_note_collapse(struct mem_learner *learner, uint64_t now_ms, uint64_t took_us, bool refused);

/* mem_numbers.c: the purge delay, the retained and the prewarmed SuperSlabs. Returns how many. */
unsigned mem_decide_numbers(struct mem_learner *learner, const struct mem_params *params,
                            const struct mem_snapshot *snapshot, uint32_t windows,
                            struct learn_decision out[MEM_NUMBER_DECISIONS_MAX]);

#endif
