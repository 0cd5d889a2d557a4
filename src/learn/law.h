/* The control law of the allocation learner, for one number: a ceiling that costs traffic where it is too low and memory
 * where it is too high. Pure: what comes out depends on the arguments alone. docs/learning.md tells it in prose.
 *
 *   traffic   blocks that went to and fro: refilled and flushed again. What flows one way only is nobody's ceiling's
 *             fault, so round trips = min(refilled, flushed), both averaged over about four windows.
 *   hot       round trips above a share of all the blocks that the thread moved, and worth the time they cost.
 *   cold      what goes in and out, one way or both, is below that share / hysteresis. (A cache through which blocks flow
 *             one way has no round trips, and yet its size decides how many a refill brings.)
 *   growth    after two hot windows, and if what is missing is within reach: a step each window. The steps are one trial,
 *             judged when the ceiling has grown by half of what it seemed to need, or after TRIAL_STEPS: if the round
 *             trips did not fall, all of it is undone.
 *   shrinking after two cold windows in which part of the cache was never needed; a step that brings the round trips
 *             back is undone with the one before it.
 *   rest      what was undone waits, twice as long each time. What has been left alone for REST_WINDOWS is frozen until
 *             its traffic changes. */
#ifndef HAKMEM_LEARN_LAW_H
#define HAKMEM_LEARN_LAW_H

#include "base/attr.h"

struct law_params {
    uint32_t rate_ppm;         /* largest relative change in one step, but at least one object */
    uint32_t share_ppm;        /* of the blocks moved: round trips from here on are hot */
    uint32_t hysteresis;       /* hot share / cold share */
    uint32_t cooldown_windows; /* the first hold-off */
    bool observe;              /* steps are proposed and not taken */
};

/* What all numbers of a thread share in one window. */
struct law_window {
    uint64_t moved_blocks; /* refilled and flushed, over all bins */
    uint64_t passed_ns;       /* time in the window, at least 1 */
};

/* What one number saw in the window. */
struct law_signal {
    uint64_t refilled, flushed; /* blocks, or as many as what happened costs */
    uint32_t turns;   /* refills that followed a flush: so often the traffic turned round */
    uint32_t excess;  /* blocks refilled per turn, over whole turns; 0: not known */
    uint32_t idle;    /* objects that were not needed */
    uint32_t value;   /* in force */
    uint32_t low, high; /* its bounds: low <= high. The value may lie outside and is then led back by steps inwards only */
    bool is_reached;  /* the cache is as large as the ceiling allows: a higher one would be used */
};

enum law_trial { LAW_SHRINKING = -1, LAW_AT_REST, LAW_GROWING };
enum law_verdict { LAW_NONE, LAW_CONFIRMED, LAW_UNDONE };

/* The memory of the law. All zero: nothing is known yet. */
struct law_track {
    uint64_t refilled_q8, flushed_q8; /* moving averages, blocks a window, times 256 */
    uint64_t passed_q8;
    uint64_t trips;  /* round trips a window */
    uint64_t use;    /* blocks a window, the mean of refilled and flushed: trips, and what flows one way */
    uint64_t rate;   /* round trips per second */
    uint32_t excess; /* at the last turns that were seen */
    uint32_t idle;   /* not needed in either of the last two windows */
    uint32_t idle_last;
    bool is_warm;    /* a window has been seen */
    uint8_t hot_windows, cold_windows; /* in a row, saturating */

    int8_t trial; /* enum law_trial */
    uint8_t trial_steps, trial_waited;
    uint32_t trial_turns;   /* since the last step */
    uint32_t trial_from;    /* what an undoing restores */
    uint32_t trial_last;    /* before the last step, of a shrinking trial */
    uint32_t trial_excess;  /* when the trial began, or became known in it ... */
    uint32_t trial_base;    /* ... of a growing trial: the value at that time */
    uint64_t trial_rate;    /* likewise, round trips per second */
    uint64_t since_moved, since_net, since_passed_ns; /* since the last step: blocks both ways, one way, and the time */
    uint64_t trial_predicted; /* the rate that growth should lead to */
    uint64_t trial_limit;     /* the rate that shrinking must not exceed */

    uint16_t hold_growth, hold_shrinking; /* windows */
    uint16_t holdoff;                     /* what the next reversal costs; 0: the first */
    uint8_t quiet_windows;
    bool frozen;
    bool has_shrunk;        /* the last step went down */
    bool has_just_helped;   /* a growth was confirmed in this window */
    uint64_t rest_rate;     /* the traffic at which it was put to rest */
    uint32_t rest_excess, rest_idle;
};

/* A window has ended. To be called first, once for each track. */
void law_observe(struct law_track *track, const struct law_params *params, const struct law_window *window,
                 const struct law_signal *signal);
/* What has come of the steps on trial. UNDONE: the value is to be track->trial_from again; CONFIRMED: it stays, and
 * trial_from is what it was. Both end the trial, with trial_from and trial_rate still readable. */
enum law_verdict law_judge(struct law_track *track, const struct law_params *params, const struct law_signal *signal);
/* The value that the law would like, one step from the value in force; the value itself: none. Bytes are not its
 * business. */
uint32_t law_propose(const struct law_track *track, const struct law_params *params, const struct law_signal *signal);
/* One step down, whatever the traffic: another number needs the bytes more. The value itself: it cannot give any. */
uint32_t law_concede(const struct law_track *track, const struct law_params *params, const struct law_signal *signal);
/* The rate since the last step, behind a verdict. */
uint64_t law_measured(const struct law_track *track);
/* The step to `to` is taken (in observe mode: announced). Returns the rate that it should at most lead to. */
uint64_t law_note_step(struct law_track *track, const struct law_params *params, const struct law_window *window,
                       const struct law_signal *signal, uint32_t to);
/* After the decisions of a window: counts the windows that were left alone. */
void law_rest(struct law_track *track, bool wanted_to_move);

/* Round trips as a share of what the thread moved, where hot begins and where cold ends. */
uint64_t law_hot_trips(const struct law_params *params, const struct law_window *window);
uint64_t law_cold_trips(const struct law_params *params, const struct law_window *window);

#endif
