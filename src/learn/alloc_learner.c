#include "learn/alloc_learner.h"

enum {
    FLOOR_OBJECTS = 32,
    FLOOR_BYTES = 8192,
    /* Beyond so many bytes a magazine must be worth it: more round trips a second than this, some per cent of the time.
     * What does not stay in the processor's cache comes from memory block by block, in the order in which it was freed;
     * slabs hand blocks out by address, which processors fetch ahead
     * (docs/decisions/0025-large-magazines-must-be-worth-it.md). */
    CHEAP_BYTES = 256 * 1024,
    DEAR_RATE = 10000000,
};

/* What one window's decisions share. */
struct pass {
    struct alloc_learner *learner;
    const struct alloc_params *params;
    const struct alloc_snapshot *snapshot;
    struct law_window window;
    struct alloc_output out;
    uint64_t left_bytes;
    uint32_t wanted[TINY_BIN_COUNT]; /* what the law proposes, where it is a growth; else 0 */
    bool moved[TINY_BIN_COUNT];      /* has had its decision */
};

struct learn_decision *alloc_output_next(struct alloc_output *out, const struct alloc_snapshot *snapshot)
{
    if (out->count == ALLOC_DECISIONS_MAX)
        return NULL;
    struct learn_decision *d = &out->list[out->count++];
    *d = (struct learn_decision){
        .time_ms = snapshot->time_ms,
        .window = snapshot->window,
        .heap = snapshot->heap,
        .measured = LEARN_NOT_MEASURED,
    };
    return d;
}

static bool has_room(const struct pass *p)
{
    return p->out.count < ALLOC_DECISIONS_MAX;
}

/* Less than this is not worth taking away: batches would shrink with the cap, and each block would cost more. */
static uint32_t floor_of(const struct pass *p, unsigned bin)
{
    uint32_t objects = FLOOR_BYTES / tiny_bin_bytes(bin);
    objects = objects < FLOOR_OBJECTS ? objects : FLOOR_OBJECTS;
    return objects > p->params->cap_min ? objects : p->params->cap_min;
}

/* A growth is judged as a whole: while it goes on, and helps, the rate falls. */
static uint32_t largest_useful(const struct pass *p, unsigned bin)
{
    const struct law_track *t = &p->learner->bins[bin];
    uint64_t rate = t->trial == LAW_GROWING ? t->trial_rate : t->rate;
    return rate >= DEAR_RATE ? UINT32_MAX : CHEAP_BYTES / tiny_bin_bytes(bin);
}

/* The bounds are the user's ceiling first: a floor above it gives way. */
static struct law_signal bin_signal(const struct pass *p, unsigned bin)
{
    const struct alloc_bin *b = &p->snapshot->bins[bin];
    uint32_t high = b->cap_ceiling < p->params->cap_max ? b->cap_ceiling : p->params->cap_max;
    uint32_t useful = largest_useful(p, bin);
    high = high < useful ? high : useful;
    uint32_t low = floor_of(p, bin);
    return (struct law_signal){
        .refilled = b->refill_blocks,
        .flushed = b->flush_blocks,
        .turns = b->turns,
        .excess = b->excess,
        .idle = b->low_water,
        .value = b->cap,
        .low = low < high ? low : high,
        .high = high,
        .is_reached = b->capacity >= b->cap,
    };
}

static void put_bin_evidence(const struct pass *p, struct learn_decision *d, unsigned bin)
{
    const struct alloc_bin *b = &p->snapshot->bins[bin];
    d->place = bin;
    d->subject = LEARN_BIN_CAP;
    d->evidence[0] = b->refill_blocks;
    d->evidence[1] = b->flush_blocks;
    d->evidence[2] = b->collected_blocks;
    d->evidence[3] = b->low_water;
    d->evidence[4] = p->learner->bins[bin].excess;
}

static void put_keep_evidence(const struct pass *p, struct learn_decision *d)
{
    d->subject = LEARN_KEEP_SLABS;
    d->evidence[0] = p->snapshot->slabs_attached;
    d->evidence[1] = p->snapshot->slabs_retired;
    d->evidence[2] = p->snapshot->slabs_idle;
}

/* Bytes that a magazine loses or gains when its cap becomes `to`. */
static uint64_t bytes_between(const struct pass *p, unsigned bin, uint32_t to)
{
    uint32_t capacity = p->snapshot->bins[bin].capacity;
    uint32_t objects = to > capacity ? to - capacity : capacity - to;
    return (uint64_t)objects * tiny_bin_bytes(bin);
}

/* NULL: there is no room for a verdict, so nothing is judged in this window. */
static struct learn_decision *judge(struct pass *p, struct law_track *track, const struct law_signal *x)
{
    if (!has_room(p))
        return NULL;
    enum law_verdict verdict = law_judge(track, &p->params->law, x);
    if (verdict == LAW_NONE)
        return NULL;
    struct learn_decision *d = alloc_output_next(&p->out, p->snapshot);
    bool grew = x->value > track->trial_from;
    d->verdict = verdict == LAW_UNDONE ? LEARN_ROLLED_BACK : LEARN_CONFIRMED;
    d->from = track->trial_from;
    d->to = x->value;
    d->before = track->trial_rate;
    d->predicted = grew ? track->trial_predicted : track->trial_limit;
    d->measured = grew ? law_measured(track) : track->rate;
    return d;
}

static struct learn_decision *take_step(struct pass *p, struct law_track *track, const struct law_signal *x,
                                        uint32_t to)
{
    struct learn_decision *d = alloc_output_next(&p->out, p->snapshot);
    d->verdict = p->params->law.observe ? LEARN_OBSERVED : LEARN_APPLIED;
    d->from = x->value;
    d->to = to;
    d->before = track->rate;
    d->predicted = law_note_step(track, &p->params->law, &p->window, x, to);
    return d;
}

/* The thread has never used it: most programs use few of the bins, and each costs some hundred instructions a window. */
static bool is_unused(const struct pass *p, unsigned bin)
{
    const struct alloc_bin *b = &p->snapshot->bins[bin];
    return b->capacity == 0 && b->refill_blocks == 0 && b->flush_blocks == 0 && !p->learner->bins[bin].is_warm;
}

static void judge_bins(struct pass *p)
{
    for (unsigned bin = 0; bin < TINY_BIN_COUNT; bin++) {
        if (is_unused(p, bin))
            continue;
        struct law_track *track = &p->learner->bins[bin];
        struct law_signal x = bin_signal(p, bin);
        law_observe(track, &p->params->law, &p->window, &x);
        struct learn_decision *d = judge(p, track, &x);
        if (d == NULL)
            continue;
        put_bin_evidence(p, d, bin);
        if (d->verdict != LEARN_ROLLED_BACK)
            continue;
        p->moved[bin] = true;
        if (d->from < p->snapshot->bins[bin].capacity)
            p->left_bytes += bytes_between(p, bin, (uint32_t)d->from);
    }
}

static void shrink_bin(struct pass *p, unsigned bin, const struct law_signal *x, uint32_t to)
{
    struct learn_decision *d = take_step(p, &p->learner->bins[bin], x, to);
    put_bin_evidence(p, d, bin);
    p->moved[bin] = true;
    if (to < p->snapshot->bins[bin].capacity && !p->params->law.observe)
        p->left_bytes += bytes_between(p, bin, to);
}

/* Shrinks at once what has idle objects; notes what would like to grow. */
static void shrink_bins(struct pass *p)
{
    /* Where decisions are many, each bin has its turn to be the first. */
    unsigned first = (unsigned)(p->snapshot->window % TINY_BIN_COUNT);
    for (unsigned i = 0; i < TINY_BIN_COUNT; i++) {
        unsigned bin = (first + i) % TINY_BIN_COUNT;
        if (p->moved[bin] || p->snapshot->bins[bin].capacity == 0)
            continue;
        struct law_signal x = bin_signal(p, bin);
        uint32_t to = law_propose(&p->learner->bins[bin], &p->params->law, &x);
        if (to > x.value)
            p->wanted[bin] = to;
        else if (to < x.value && has_room(p))
            shrink_bin(p, bin, &x, to);
    }
}

/* Per KiB of the magazine, so that small numbers compare. */
static uint64_t per_kib(const struct pass *p, unsigned bin, uint64_t blocks)
{
    uint64_t bytes = (uint64_t)p->snapshot->bins[bin].capacity * tiny_bin_bytes(bin);
    return blocks * 1024 / (bytes + 1);
}

/* What a bin's bytes fail to save. */
static uint64_t trips_per_kib(const struct pass *p, unsigned bin)
{
    return per_kib(p, bin, p->learner->bins[bin].trips);
}

/* What a bin's bytes are good for, at least. */
static uint64_t use_per_kib(const struct pass *p, unsigned bin)
{
    return per_kib(p, bin, p->learner->bins[bin].use);
}

/* The open bin with the least use per byte that can give a step; TINY_BIN_COUNT: none is a hysteresis below. */
static unsigned find_donor(const struct pass *p, unsigned taker)
{
    uint64_t fewest = trips_per_kib(p, taker) / p->params->law.hysteresis;
    unsigned donor = TINY_BIN_COUNT;
    for (unsigned bin = 0; bin < TINY_BIN_COUNT; bin++) {
        struct law_signal x = bin_signal(p, bin);
        if (bin == taker || p->moved[bin] || p->wanted[bin] != 0 || p->snapshot->bins[bin].capacity < x.value)
            continue;
        if (law_concede(&p->learner->bins[bin], &p->params->law, &x) >= x.value || use_per_kib(p, bin) >= fewest)
            continue;
        fewest = use_per_kib(p, bin);
        donor = bin;
    }
    return donor;
}

/* As many objects of the step as there are bytes for; 0: not one. */
static uint32_t affordable(const struct pass *p, unsigned bin, uint32_t to)
{
    uint64_t objects = p->left_bytes / tiny_bin_bytes(bin);
    uint32_t from = p->snapshot->bins[bin].cap;
    return objects >= to - from ? to : objects == 0 ? 0 : from + (uint32_t)objects;
}

static void grow_bin(struct pass *p, unsigned bin)
{
    struct law_signal x = bin_signal(p, bin);
    uint32_t to = p->wanted[bin];
    p->wanted[bin] = 0;
    while (affordable(p, bin, to) != to && p->out.count + 1 < ALLOC_DECISIONS_MAX) {
        unsigned donor = find_donor(p, bin);
        if (donor == TINY_BIN_COUNT)
            break;
        struct law_signal y = bin_signal(p, donor);
        shrink_bin(p, donor, &y, law_concede(&p->learner->bins[donor], &p->params->law, &y));
    }
    to = affordable(p, bin, to);
    if (to == 0 || !has_room(p))
        return;
    struct learn_decision *d = take_step(p, &p->learner->bins[bin], &x, to);
    put_bin_evidence(p, d, bin);
    p->moved[bin] = true;
    p->left_bytes -= (uint64_t)(to - x.value) * tiny_bin_bytes(bin);
}

static void grow_bins(struct pass *p)
{
    bool wants[TINY_BIN_COUNT];
    for (unsigned bin = 0; bin < TINY_BIN_COUNT; bin++)
        wants[bin] = p->wanted[bin] != 0;
    for (;;) {
        unsigned best = TINY_BIN_COUNT;
        for (unsigned bin = 0; bin < TINY_BIN_COUNT; bin++)
            if (p->wanted[bin] != 0 && (best == TINY_BIN_COUNT || trips_per_kib(p, bin) > trips_per_kib(p, best)))
                best = bin;
        if (best == TINY_BIN_COUNT)
            break;
        grow_bin(p, best);
    }
    for (unsigned bin = 0; bin < TINY_BIN_COUNT; bin++)
        if (!is_unused(p, bin))
            law_rest(&p->learner->bins[bin], wants[bin] || p->moved[bin]);
}

static void decide_keep_slabs(struct pass *p)
{
    const struct alloc_snapshot *s = p->snapshot;
    struct law_track *track = &p->learner->keep_slabs;
    uint64_t most = s->keep_budget_bytes / ALLOC_SLAB_BYTES;
    struct law_signal x = {
        .refilled = (uint64_t)s->slabs_attached * ALLOC_SLAB_WORTH_BLOCKS,
        .flushed = (uint64_t)s->slabs_retired * ALLOC_SLAB_WORTH_BLOCKS,
        .turns = s->slabs_attached != 0 && s->slabs_retired != 0,
        .idle = s->slabs_idle,
        .value = s->keep_slabs,
        .high = most < ALLOC_KEEP_SLABS_MAX ? (uint32_t)most : ALLOC_KEEP_SLABS_MAX,
        .is_reached = true,
    };
    law_observe(track, &p->params->law, &p->window, &x);
    struct learn_decision *d = judge(p, track, &x);
    if (d != NULL)
        put_keep_evidence(p, d);
    bool undone = d != NULL && d->verdict == LEARN_ROLLED_BACK;
    uint32_t to = undone ? x.value : law_propose(track, &p->params->law, &x);
    if (to != x.value && has_room(p))
        put_keep_evidence(p, take_step(p, track, &x, to));
    law_rest(track, to != x.value || undone);
}

unsigned alloc_decide(struct alloc_learner *learner, const struct alloc_params *params,
                      const struct alloc_snapshot *snapshot, struct learn_decision decisions[ALLOC_DECISIONS_MAX])
{
    struct pass p = {
        .learner = learner,
        .params = params,
        .snapshot = snapshot,
        .window = {.moved_blocks = snapshot->moved_blocks, .passed_ns = snapshot->passed_ns != 0 ? snapshot->passed_ns : 1},
        .out = {.list = decisions},
        .left_bytes = snapshot->budget_left_bytes,
    };
    judge_bins(&p);
    shrink_bins(&p);
    decide_keep_slabs(&p);
    if (params->advanced)
        alloc_decide_refills(learner, params, snapshot, &p.out);
    grow_bins(&p);
    return p.out.count;
}
