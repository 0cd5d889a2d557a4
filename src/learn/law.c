#include "learn/law.h"

enum {
    AVERAGE_SHIFT = 2,      /* moving averages over about four windows */
    PATIENCE_WINDOWS = 2,   /* hot or cold so often in a row before anything moves */
    TRIAL_STEPS = 8,        /* growth is judged after so many steps at the latest */
    TRIAL_WAIT = 3,         /* windows in which a growth may still show its effect ... */
    TRIAL_WAIT_MAX = 8,     /* ... and so many while there are fewer turns than ... */
    TRIAL_TURNS = 8,        /* ... these, because parts of a cycle say little about its rate */
    SHRINK_WAIT = 2,        /* windows in which a shrinking may show its harm */
    REST_WINDOWS = 6,       /* less than the second hold-off */
    HOLDOFF_MAX = 256,      /* windows */
    EXCESS_REACH = 64,      /* what is missing may be so many times what is there; else a step saves next to nothing */
    RATE_FLOOR = 50000,     /* round trips a second. A block costs a few ns each way: less than 1/1000 of the time */
};

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static uint64_t per_second(uint64_t count, uint64_t ns)
{
    return ns == 0 ? 0 : (uint64_t)((unsigned __int128)count * 1000000000u / ns);
}

uint64_t law_hot_trips(const struct law_params *params, const struct law_window *window)
{
    return window->moved_blocks * params->share_ppm / 1000000u + 1;
}

uint64_t law_cold_trips(const struct law_params *params, const struct law_window *window)
{
    return law_hot_trips(params, window) / params->hysteresis + 1;
}

/* The first window is taken as it is: an average that starts from nothing would call it quiet. */
static void average(uint64_t *q8, uint64_t now, bool first)
{
    if (first)
        *q8 = now << 8;
    else
        *q8 += (uint64_t)(((int64_t)(now << 8) - (int64_t)*q8) / (1 << AVERAGE_SHIFT));
}

/* More than twice as much, or less than half; differences below `least` are noise. */
static bool has_changed(uint64_t before, uint64_t now, uint64_t least)
{
    uint64_t low = before < now ? before : now;
    uint64_t high = before < now ? now : before;
    return high > 2 * low + least;
}

static void put_to_rest(struct law_track *t)
{
    t->rest_rate = t->rate;
    t->rest_excess = t->excess;
    t->rest_idle = t->idle;
}

static void wake_if_changed(struct law_track *t, const struct law_window *w, const struct law_params *p,
                            const struct law_signal *x)
{
    if (!t->frozen && t->hold_growth == 0 && t->hold_shrinking == 0)
        return;
    uint64_t least = per_second(law_cold_trips(p, w), w->passed_ns);
    if (!has_changed(t->rest_rate, t->rate, least) && !has_changed(t->rest_excess, t->excess, 8) &&
        !has_changed(t->rest_idle, t->idle, x->value / 8 + 1))
        return;
    t->frozen = false;
    t->quiet_windows = 0;
    t->hold_growth = t->hold_shrinking = 0;
}

static uint8_t count_up(uint8_t windows, bool so)
{
    return so ? windows + (windows < UINT8_MAX) : 0;
}

/* Windows are short beside some cycles, so what flows one way is taken from the averages. */
static void follow_trial(struct law_track *t, const struct law_window *w, const struct law_signal *x)
{
    uint64_t one = t->refilled_q8 >> 8, other = t->flushed_q8 >> 8;
    t->trial_waited += t->trial_waited < UINT8_MAX;
    t->trial_turns += x->turns;
    t->since_moved += x->refilled + x->flushed;
    t->since_net += one > other ? one - other : other - one;
    t->since_passed_ns += w->passed_ns;
    /* Windows shorter than a turn: growth began before a whole one had been seen. */
    if (t->trial == LAW_GROWING && t->trial_excess == 0) {
        t->trial_excess = x->excess;
        t->trial_base = x->value;
    }
}

/* Round trips per second since the last step. */
static uint64_t rate_since(const struct law_track *t)
{
    uint64_t trips = t->since_moved > t->since_net ? (t->since_moved - t->since_net) / 2 : 0;
    return per_second(trips, t->since_passed_ns);
}

void law_observe(struct law_track *t, const struct law_params *p, const struct law_window *w,
                 const struct law_signal *x)
{
    bool first = !t->is_warm;
    average(&t->refilled_q8, x->refilled, first);
    average(&t->flushed_q8, x->flushed, first);
    average(&t->passed_q8, w->passed_ns, first);
    t->trips = (t->refilled_q8 < t->flushed_q8 ? t->refilled_q8 : t->flushed_q8) >> 8;
    t->use = (t->refilled_q8 + t->flushed_q8) >> 9;
    t->rate = per_second(t->trips, t->passed_q8 >> 8);
    if (x->excess != 0)
        t->excess = x->excess;
    t->idle = first ? 0 : smaller(x->idle, t->idle_last);
    t->idle_last = x->idle;
    t->is_warm = true;
    t->has_just_helped = false;
    /* The averages need a while to see that the blocks fit by now: this window must be hot by itself. */
    bool hot = t->trips >= law_hot_trips(p, w) && t->rate >= RATE_FLOOR && x->refilled + x->flushed >= law_hot_trips(p, w);
    bool cold = t->use < law_cold_trips(p, w);
    t->hot_windows = count_up(t->hot_windows, hot);
    t->cold_windows = count_up(t->cold_windows, cold);
    if (t->trial != LAW_AT_REST)
        follow_trial(t, w, x);
    t->hold_growth -= t->hold_growth != 0;
    t->hold_shrinking -= t->hold_shrinking != 0;
    wake_if_changed(t, w, p, x);
}

/* What the next attempt in the same direction waits; doubles with each. */
static uint16_t next_holdoff(struct law_track *t, const struct law_params *p)
{
    if (t->holdoff == 0)
        t->holdoff = (uint16_t)smaller(p->cooldown_windows, HOLDOFF_MAX);
    uint16_t now = t->holdoff;
    t->holdoff = (uint16_t)smaller(2u * now, HOLDOFF_MAX);
    return now;
}

/* Bursts: each object that the cache gained saves one block a turn. Steady traffic to and fro: turns become rarer, so
 * that a cache larger by a half should save a third. Half of what is predicted, or a quarter, suffices. */
static bool growth_has_helped(const struct law_track *t, const struct law_signal *x)
{
    uint32_t gain = x->value - t->trial_from, gain_since_known = x->value - t->trial_base;
    if (t->trial_turns != 0 && t->excess < t->trial_excess && t->trial_excess - t->excess >= gain_since_known / 4 + 1)
        return true;
    if (t->trial_turns < TRIAL_TURNS && t->trial_waited < TRIAL_WAIT_MAX && t->since_moved != 0)
        return false;
    uint64_t now = rate_since(t);
    uint64_t fall = t->trial_rate > now ? t->trial_rate - now : 0;
    uint64_t predicted_fall = (uint64_t)((unsigned __int128)t->trial_rate * gain / (t->trial_from + gain));
    uint64_t enough = predicted_fall / 2 < t->trial_rate / 4 ? predicted_fall / 2 : t->trial_rate / 4;
    return fall > enough;
}

/* Large enough to be judged: half of what was there, or of what was missing. */
static bool growth_is_complete(const struct law_track *t, const struct law_signal *x)
{
    return t->trial_steps >= TRIAL_STEPS || x->value >= x->high ||
           x->value - t->trial_from >= larger(t->trial_from, t->trial_excess) / 2;
}

static enum law_verdict judge_growth(struct law_track *t, const struct law_params *p, const struct law_signal *x)
{
    bool is_hot = t->hot_windows != 0;
    if (!growth_is_complete(t, x) && is_hot && t->trial_waited < TRIAL_WAIT)
        return LAW_NONE;
    if (growth_has_helped(t, x)) {
        t->trial = LAW_AT_REST;
        t->has_just_helped = true;
        return LAW_CONFIRMED;
    }
    if (t->trial_waited < TRIAL_WAIT || (t->trial_turns < TRIAL_TURNS && t->trial_waited < TRIAL_WAIT_MAX))
        return LAW_NONE;
    t->trial = LAW_AT_REST;
    t->hold_growth = next_holdoff(t, p);
    put_to_rest(t);
    return LAW_UNDONE;
}

static enum law_verdict judge_shrinking(struct law_track *t, const struct law_params *p)
{
    if (t->rate > t->trial_limit + t->trial_limit / 4) {
        t->trial = LAW_AT_REST;
        t->hold_shrinking = next_holdoff(t, p);
        put_to_rest(t);
        return LAW_UNDONE;
    }
    if (t->trial_waited < SHRINK_WAIT && t->trial_steps < TRIAL_STEPS)
        return LAW_NONE;
    t->trial = LAW_AT_REST;
    return LAW_CONFIRMED;
}

enum law_verdict law_judge(struct law_track *t, const struct law_params *p, const struct law_signal *x)
{
    if (x->value == t->trial_from) /* nothing is left to be judged */
        t->trial = LAW_AT_REST;
    if (t->trial == LAW_GROWING)
        return judge_growth(t, p, x);
    if (t->trial == LAW_SHRINKING)
        return judge_shrinking(t, p);
    return LAW_NONE;
}

static uint32_t rate_step(const struct law_params *p, uint32_t value)
{
    return larger((uint32_t)((uint64_t)value * p->rate_ppm / 1000000u), 1);
}

static uint32_t step_up(const struct law_track *t, const struct law_params *p, const struct law_signal *x)
{
    /* No larger than what is missing: then a narrow miss is not answered by a wide step. */
    uint32_t step = rate_step(p, x->value);
    if (t->excess != 0 && step > t->excess)
        step = t->excess;
    return smaller(x->value + smaller(step, UINT32_MAX - x->value), x->high);
}

uint32_t law_concede(const struct law_track *t, const struct law_params *p, const struct law_signal *x)
{
    if (t->trial == LAW_GROWING || t->hold_shrinking != 0 || x->value <= x->low)
        return x->value;
    return larger(x->value - rate_step(p, x->value), x->low);
}

uint32_t law_propose(const struct law_track *t, const struct law_params *p, const struct law_signal *x)
{
    if (t->frozen)
        return x->value;
    bool is_in_reach = t->excess / EXCESS_REACH <= x->value;
    bool may_grow = is_in_reach && t->hold_growth == 0 && t->trial != LAW_SHRINKING && x->is_reached && x->value < x->high &&
                    (t->trial == LAW_AT_REST || !growth_is_complete(t, x));
    if (t->hot_windows >= PATIENCE_WINDOWS && may_grow)
        return step_up(t, p, x);
    bool may_shrink = t->hold_shrinking == 0 && t->trial != LAW_GROWING && x->value > x->low;
    if (t->cold_windows >= PATIENCE_WINDOWS && t->idle != 0 && may_shrink)
        return larger(x->value - smaller(rate_step(p, x->value), t->idle), x->low);
    return x->value;
}

static uint64_t note_growth(struct law_track *t, const struct law_params *p, const struct law_signal *x, uint32_t to)
{
    if (t->trial != LAW_GROWING) {
        t->trial = LAW_GROWING;
        t->trial_steps = 0;
        t->trial_from = t->trial_base = x->value;
        t->trial_excess = t->excess;
        /* The average still remembers what the last growth has cured; the next is not to be praised for it. */
        t->trial_rate = t->has_just_helped && rate_since(t) < t->rate ? rate_since(t) : t->rate;
        if (t->has_shrunk) { /* a reversal: the next shrinking waits */
            t->hold_shrinking = next_holdoff(t, p);
            put_to_rest(t);
        }
    }
    t->has_shrunk = false;
    uint32_t scale = larger(t->trial_from, t->trial_excess) + (to - t->trial_from);
    t->trial_predicted = t->trial_rate - (uint64_t)((unsigned __int128)t->trial_rate * (to - t->trial_from) / scale);
    return t->trial_predicted;
}

static uint64_t note_shrinking(struct law_track *t, const struct law_params *p, const struct law_window *w,
                               const struct law_signal *x, uint32_t to)
{
    uint64_t still_cold = per_second(law_cold_trips(p, w), t->passed_q8 >> 8);
    if (t->trial != LAW_SHRINKING) {
        t->trial = LAW_SHRINKING;
        t->trial_steps = 0;
        t->trial_rate = t->rate;
        t->trial_last = x->value;
        t->trial_limit = t->rate > still_cold ? t->rate : still_cold;
    }
    /* Harm shows within two windows, so the last two steps may have done it. */
    t->trial_from = t->trial_last;
    t->trial_last = x->value;
    t->has_shrunk = true;
    uint32_t given_up = x->value - to;
    t->idle_last -= smaller(given_up, t->idle_last);
    return t->trial_limit;
}

uint64_t law_note_step(struct law_track *t, const struct law_params *p, const struct law_window *w,
                       const struct law_signal *x, uint32_t to)
{
    struct law_track as_if = *t;
    struct law_track *noted = p->observe ? &as_if : t;
    uint64_t predicted = to > x->value ? note_growth(noted, p, x, to) : note_shrinking(noted, p, w, x, to);
    if (p->observe) { /* said once; said again after a while, if it is still true */
        t->hold_growth = t->hold_shrinking = (uint16_t)smaller(4 * p->cooldown_windows, HOLDOFF_MAX);
        put_to_rest(t);
        return predicted;
    }
    t->trial_steps += t->trial_steps < UINT8_MAX;
    t->trial_waited = 0;
    t->since_moved = t->since_net = t->since_passed_ns = 0;
    t->trial_turns = 0;
    t->quiet_windows = 0;
    return predicted;
}

uint64_t law_measured(const struct law_track *t)
{
    return t->since_passed_ns != 0 ? rate_since(t) : t->rate;
}

void law_rest(struct law_track *t, bool wanted_to_move)
{
    /* What is idle will be given up once the averages have become cold. */
    bool is_waiting = t->idle != 0 && t->hold_shrinking == 0;
    if (t->frozen || wanted_to_move || is_waiting || t->trial != LAW_AT_REST) {
        t->quiet_windows = 0;
        return;
    }
    if (++t->quiet_windows < REST_WINDOWS)
        return;
    t->frozen = true;
    put_to_rest(t);
}
