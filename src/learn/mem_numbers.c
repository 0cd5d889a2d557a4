/* With HAKMEM_LEARN_ADVANCED: how long freed pages wait, how many empty SuperSlabs may, and how many are made ready in
 * advance. The first two are numbers of the same kind: too low, and what was given back is soon needed again; too high, and memory waits for nothing.
 *
 *   number              gone: given back       regretted: needed again soon
 *   purge delay         bytes of slabs         bytes claimed within a few delays
 *   retained SuperSlabs SuperSlabs unmapped    of these, mapped again in the same windows
 *
 * From a quarter of regret on the number doubles, below a sixteenth it halves: thresholds four times apart, so that what
 * one step does is not the reason for the next one back. Up to three steps up are one trial, for a program may want its
 * memory back after three times the delay, and twice as long helps it nothing; if the regret does not fall by a quarter
 * all of them are undone, and wait, twice as long each time, or until the regret changes by half. A step down is undone as
 * soon as there is a quarter of regret.
 *
 * Prewarming happens once, at the start of a process, so what is learned about it is for the next one, which an export
 * starts: as many SuperSlabs as this one never came down from. */
#include "learn/mem_learner.h"

enum {
    DECIDE_WINDOWS = 4,
    HOLDOFF_MAX = 256,
    HOLD_DOWN_MAX = 16, /* nothing but a try can tell that memory is no longer wanted back */
    TRIAL_STEPS = 3,
    EVIDENCE_BYTES = 1 << 20,
    HARM_BYTES = 256 << 10,
    EVIDENCE_SUPERSLABS = 2,
    REGRET_MANY = 4,  /* one in so many */
    REGRET_FEW = 16,
    RETAINED_LEARNED_MAX = 64,
    RETAINED_PATIENCE = 32, /* windows without regret */
    PREWARM_PATIENCE = 64,  /* windows in which that much was in use all the time */
    PREWARM_LEARNED_MAX = 16, /* faulting in 32 MiB takes some 10 ms */
};

/* What is fixed about a number. */
struct rule {
    uint8_t subject;
    uint32_t low, high;
    uint64_t evidence, harm; /* gone or regretted, from which on a decision, or an undoing, is founded */
    uint64_t wait_ms;        /* since the last decision: what was given back must have had time to be regretted */
    uint32_t patience;       /* windows before a step down */
};

static uint32_t clamp(uint64_t value, uint32_t low, uint32_t high)
{
    return (uint32_t)(value < low ? low : value > high ? high : value);
}

static uint64_t regret_per_window(const struct mem_number *n)
{
    return n->windows == 0 ? 0 : (n->bad << 8) / n->windows;
}

static struct learn_decision *record(struct learn_decision *d, const struct mem_number *n, const struct rule *rule,
                                     const struct mem_snapshot *s, uint32_t from, uint32_t to)
{
    *d = (struct learn_decision){
        .time_ms = s->time_ms,
        .window = s->window,
        .from = from,
        .to = to,
        .evidence = { n->good, n->bad },
        .before = regret_per_window(n) >> 8,
        .measured = LEARN_NOT_MEASURED,
        .subject = rule->subject,
    };
    return d;
}

static void start_over(struct mem_number *n, const struct mem_snapshot *s)
{
    n->good = n->bad = 0;
    n->windows = 0;
    n->since_ms = s->time_ms;
}

static uint16_t next_holdoff(struct mem_number *n, const struct mem_params *params)
{
    uint32_t now = n->holdoff == 0 ? 2 * params->cooldown_windows : n->holdoff;
    n->holdoff = (uint16_t)(2 * now < HOLDOFF_MAX ? 2 * now : HOLDOFF_MAX);
    return (uint16_t)(now < HOLDOFF_MAX ? now : HOLDOFF_MAX);
}

/* True: there is a verdict, in *d. */
static bool judge(struct mem_number *n, const struct mem_params *params, const struct rule *rule,
                  const struct mem_snapshot *s, uint32_t value, bool is_ready, struct learn_decision *d)
{
    uint64_t now = regret_per_window(n);
    bool is_down = n->trial < 0;
    bool harm_shows = is_down && n->bad >= rule->harm && n->bad * REGRET_MANY >= n->good;
    if (n->trial == 0 || (!is_ready && !harm_shows))
        return false;
    bool failed = is_down ? harm_shows : now > n->trial_before - n->trial_before / 4;
    if (failed && !is_down && n->trial_steps < TRIAL_STEPS && value < rule->high)
        return false;
    record(d, n, rule, s, n->trial_from, value);
    d->before = n->trial_before >> 8;
    d->predicted = is_down ? n->good / REGRET_MANY / (n->windows == 0 ? 1 : n->windows)
                           : (n->trial_before - n->trial_before / 4) >> 8;
    d->measured = now >> 8;
    d->verdict = failed ? LEARN_ROLLED_BACK : LEARN_CONFIRMED;
    if (failed && is_down)
        n->hold_down = HOLD_DOWN_MAX;
    else if (failed)
        n->hold_up = next_holdoff(n, params);
    else
        n->holdoff = 0;
    n->rest_rate = is_down ? 0 : now;
    n->trial = 0;
    return true;
}

/* What was true when a step was undone is no longer. */
static void wake(struct mem_number *n)
{
    uint64_t now = regret_per_window(n);
    if (now > n->rest_rate + n->rest_rate / 2 || now < n->rest_rate / 2)
        n->hold_up = 0;
}

static uint32_t propose(const struct mem_number *n, const struct rule *rule, uint32_t value)
{
    if (n->bad != 0 && n->bad * REGRET_MANY >= n->good && n->hold_up == 0)
        return clamp((uint64_t)value * 2, rule->low, rule->high);
    if (n->bad * REGRET_FEW <= n->good && n->hold_down == 0 && n->windows >= rule->patience)
        return clamp(value / 2, rule->low, rule->high);
    return value;
}

static void note_step(struct mem_number *n, uint32_t value, uint32_t to)
{
    if (n->trial <= 0 || to < value) {
        n->trial_steps = 0;
        n->trial_from = value;
        n->trial_before = regret_per_window(n);
    }
    n->trial = to > value ? 1 : -1;
    n->trial_steps++;
}

static void count_down(uint16_t *hold, uint32_t windows)
{
    *hold = (uint16_t)(*hold > windows ? *hold - windows : 0);
}

static unsigned decide(struct mem_number *n, const struct mem_params *params, const struct rule *rule,
                       const struct mem_snapshot *s, uint32_t value, uint32_t windows, struct learn_decision *out)
{
    if (!n->is_warm) {
        n->is_warm = true;
        start_over(n, s);
    }
    n->windows += windows;
    count_down(&n->hold_up, windows);
    count_down(&n->hold_down, windows);
    if (n->trial_from == value)
        n->trial = 0; /* nothing is left to be judged */
    bool is_ready = n->windows >= DECIDE_WINDOWS && n->good + n->bad >= rule->evidence &&
                    s->time_ms - n->since_ms >= rule->wait_ms;
    unsigned count = judge(n, params, rule, s, value, is_ready, out);
    if (count != 0 && out->verdict == LEARN_ROLLED_BACK) {
        start_over(n, s);
        return count;
    }
    if (!is_ready)
        return count;
    out += count;
    wake(n);
    uint32_t to = propose(n, rule, value);
    if (to == value) {
        if (n->windows >= rule->patience)
            start_over(n, s);
        return count;
    }
    record(out, n, rule, s, value, to);
    out->predicted = to > value ? (regret_per_window(n) - regret_per_window(n) / 4) >> 8
                                : n->good / REGRET_MANY / n->windows;
    out->verdict = params->observe ? LEARN_OBSERVED : LEARN_APPLIED;
    if (params->observe) { /* said once; said again after a while, if it is still true */
        n->hold_up = n->hold_down = HOLDOFF_MAX;
    } else {
        note_step(n, value, to);
    }
    start_over(n, s);
    return count + 1;
}

/* The first SuperSlab and the one whose need sets off the prewarming are there anyway. */
static uint32_t wanted_prewarm(const struct mem_params *params, uint32_t steady)
{
    uint32_t most = params->prewarm > PREWARM_LEARNED_MAX ? params->prewarm : PREWARM_LEARNED_MAX;
    return clamp(steady < 2 ? 0 : steady - 2, params->prewarm, most);
}

static unsigned decide_prewarm(struct mem_learner *l, const struct mem_params *params, const struct mem_snapshot *s,
                               uint32_t windows, struct learn_decision *out)
{
    uint32_t in_use = (uint32_t)(s->claimed_bytes / MEM_SUPERSLAB_BYTES);
    if (l->steady_windows == 0 || in_use < l->steady)
        l->steady = in_use;
    l->steady_windows += windows;
    l->steady_mapped += (uint32_t)s->superslabs_mapped;
    if (l->steady_windows < PREWARM_PATIENCE)
        return 0;
    uint32_t to = wanted_prewarm(params, l->steady);
    uint32_t mapped = l->steady_mapped;
    uint32_t apart = to > s->prewarm ? to - s->prewarm : s->prewarm - to;
    uint32_t over = l->steady_windows;
    l->steady_windows = l->steady_mapped = 0;
    if (apart * 4 <= s->prewarm) /* also where nothing is to change */
        return 0;
    *out = (struct learn_decision){
        .time_ms = s->time_ms,
        .window = s->window,
        .from = s->prewarm,
        .to = to,
        .evidence = { mapped },
        .before = mapped / over,
        .measured = LEARN_NOT_MEASURED,
        .subject = LEARN_PREWARM,
        .verdict = params->observe ? LEARN_OBSERVED : LEARN_APPLIED,
    };
    return 1;
}

unsigned mem_decide_numbers(struct mem_learner *l, const struct mem_params *params, const struct mem_snapshot *s,
                            uint32_t windows, struct learn_decision out[MEM_NUMBER_DECISIONS_MAX])
{
    unsigned count = decide_prewarm(l, params, s, windows, out);
    if (params->decay_ms != 0) {
        const struct rule rule = {
            .subject = LEARN_PURGE_DELAY,
            .low = params->decay_ms < 4 ? 1 : params->decay_ms / 4,
            .high = clamp((uint64_t)params->decay_ms * 8, 1, UINT32_MAX),
            .evidence = EVIDENCE_BYTES,
            .harm = HARM_BYTES,
            .wait_ms = (uint64_t)s->decay_ms * 2,
            .patience = DECIDE_WINDOWS,
        };
        l->delay.good += s->decayed_bytes;
        l->delay.bad += s->refaulted_bytes;
        count += decide(&l->delay, params, &rule, s, s->decay_ms, windows, out + count);
    }
    if (params->retained != MEM_RETAIN_ALL) {
        const struct rule rule = {
            .subject = LEARN_RETAINED,
            .low = params->retained,
            .high = params->retained > RETAINED_LEARNED_MAX ? params->retained : RETAINED_LEARNED_MAX,
            .evidence = s->retained > params->retained ? 0 : EVIDENCE_SUPERSLABS,
            .harm = EVIDENCE_SUPERSLABS,
            .patience = RETAINED_PATIENCE,
        };
        uint64_t again = s->superslabs_mapped < s->superslabs_released ? s->superslabs_mapped : s->superslabs_released;
        l->retained.good += s->superslabs_released;
        l->retained.bad += again;
        count += decide(&l->retained, params, &rule, s, s->retained, windows, out + count);
    }
    return count;
}
