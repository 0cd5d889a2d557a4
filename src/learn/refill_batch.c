/* Refill batches, with HAKMEM_LEARN_ADVANCED: how many blocks the first refill after a flush brings. Later ones double by
 * themselves, so what is learned is where to begin: where three refills follow each other the first was too small; where
 * one is always enough a smaller one may do, and a lone miss pays for fewer blocks. */
#include "learn/alloc_learner.h"

enum {
    MANY_PER_100_TURNS = 300,
    FEW_PER_100_TURNS = 110,
    PATIENCE_WINDOWS = 4, /* four times slower than caps: the number of refills depends on the cap */
    TRIAL_WINDOWS = 3,
    HOLDOFF_MAX = 256,
};

static void average(uint32_t *q8, uint32_t now)
{
    uint32_t bounded = now < 1u << 20 ? now : 1u << 20;
    *q8 += (uint32_t)(((int32_t)(bounded << 8) - (int32_t)*q8) / 4);
}

/* 0: the traffic does not turn round. */
static uint32_t per_100_turns(const struct alloc_refill_track *t)
{
    return t->turns_q8 < 128 ? 0 : (uint32_t)((uint64_t)t->refills_q8 * 100 / t->turns_q8);
}

static void put_evidence(struct learn_decision *d, const struct alloc_bin *b, unsigned bin)
{
    d->subject = LEARN_BIN_REFILL;
    d->place = bin;
    d->evidence[0] = b->refill_count;
    d->evidence[1] = b->refill_blocks;
    d->evidence[2] = b->turns;
}

static uint32_t most_for(const struct alloc_bin *b)
{
    uint32_t most = b->refill_ceiling < ALLOC_REFILL_MAX ? b->refill_ceiling : ALLOC_REFILL_MAX;
    return most < b->cap ? most : b->cap;
}

static void hold(struct alloc_refill_track *t, const struct alloc_params *params)
{
    if (t->holdoff == 0)
        t->holdoff = (uint16_t)params->law.cooldown_windows;
    t->hold = t->holdoff;
    t->holdoff = t->holdoff < HOLDOFF_MAX / 2 ? 2 * t->holdoff : HOLDOFF_MAX;
}

/* A larger first batch should spare at least a sixteenth of the refills. */
static uint32_t less_by_a_little(uint32_t per_100)
{
    return per_100 - per_100 / 16;
}

static bool trial_failed(const struct alloc_refill_track *t, uint32_t now)
{
    if (t->trial == LAW_GROWING)
        return now > less_by_a_little(t->trial_before);
    return now > 2 * FEW_PER_100_TURNS;
}

/* True: there was a verdict, or one is still to come. */
static bool judge(struct alloc_refill_track *t, const struct alloc_params *params, const struct alloc_snapshot *s,
                  unsigned bin, struct alloc_output *out)
{
    if (t->trial_from == s->bins[bin].refill) /* nothing is left to be judged */
        t->trial = LAW_AT_REST;
    if (t->trial == LAW_AT_REST)
        return false;
    uint32_t now = per_100_turns(t);
    if (++t->trial_waited < TRIAL_WINDOWS || now == 0)
        return true;
    struct learn_decision *d = alloc_output_next(out, s);
    if (d == NULL)
        return true;
    put_evidence(d, &s->bins[bin], bin);
    d->from = t->trial_from;
    d->to = s->bins[bin].refill;
    d->before = t->trial_before;
    d->predicted = t->trial == LAW_GROWING ? less_by_a_little(t->trial_before) : 2 * FEW_PER_100_TURNS;
    d->measured = now;
    d->verdict = trial_failed(t, now) ? LEARN_ROLLED_BACK : LEARN_CONFIRMED;
    if (d->verdict == LEARN_ROLLED_BACK)
        hold(t, params);
    t->trial = LAW_AT_REST;
    return true;
}

static uint32_t propose(const struct alloc_refill_track *t, const struct alloc_params *params,
                        const struct alloc_bin *b)
{
    uint32_t step = (uint32_t)((uint64_t)b->refill * params->law.rate_ppm / 1000000u);
    step = step == 0 ? 1 : step;
    if (t->many_windows >= PATIENCE_WINDOWS && b->refill < most_for(b))
        return b->refill + step < most_for(b) ? b->refill + step : most_for(b);
    if (t->few_windows >= PATIENCE_WINDOWS && b->refill > 1)
        return b->refill > step ? b->refill - step : 1;
    return b->refill;
}

static void decide(struct alloc_refill_track *t, const struct alloc_params *params, const struct alloc_snapshot *s,
                   unsigned bin, struct alloc_output *out)
{
    const struct alloc_bin *b = &s->bins[bin];
    average(&t->refills_q8, b->refill_count);
    average(&t->turns_q8, b->turns);
    uint32_t now = per_100_turns(t);
    t->many_windows = now >= MANY_PER_100_TURNS ? t->many_windows + (t->many_windows < UINT8_MAX) : 0;
    t->few_windows = now != 0 && now <= FEW_PER_100_TURNS ? t->few_windows + (t->few_windows < UINT8_MAX) : 0;
    t->hold -= t->hold != 0;
    if (judge(t, params, s, bin, out) || t->hold != 0 || b->capacity == 0)
        return;
    uint32_t to = propose(t, params, b);
    struct learn_decision *d = to == b->refill ? NULL : alloc_output_next(out, s);
    if (d == NULL)
        return;
    put_evidence(d, b, bin);
    d->from = b->refill;
    d->to = to;
    d->before = now;
    d->predicted = to > b->refill ? less_by_a_little(now) : 2 * FEW_PER_100_TURNS;
    d->verdict = params->law.observe ? LEARN_OBSERVED : LEARN_APPLIED;
    if (params->law.observe) {
        hold(t, params);
        return;
    }
    t->trial = to > b->refill ? LAW_GROWING : LAW_SHRINKING;
    t->trial_from = b->refill;
    t->trial_before = now;
    t->trial_waited = 0;
}

void alloc_decide_refills(struct alloc_learner *learner, const struct alloc_params *params,
                          const struct alloc_snapshot *snapshot, struct alloc_output *out)
{
    for (unsigned i = 0; i < TINY_BIN_COUNT; i++) {
        unsigned bin = (unsigned)((snapshot->window + i) % TINY_BIN_COUNT);
        decide(&learner->refills[bin], params, snapshot, bin, out);
    }
}
