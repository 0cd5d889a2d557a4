#include "learn/mem_learner.h"

enum {
    HOLDOFF_MAX = 1 << 14,      /* windows */
    BIRTH_MIN_SUPERSLABS = 16,  /* the next one adds at most a sixteenth in vain */
    BIRTH_MIN_GROWTH = 4,       /* SuperSlabs mapped within about ... */
    BIRTH_EPOCH = 8 * MEM_PATIENCE_WINDOWS,
    BIRTH_OPEN_SHARE = 8,  /* of the heap may be huge on prediction alone and not fill up ... */
    BIRTH_OPEN_MIN = 4,    /* ... or so many */
    BORN_PATIENCE = 4 * MEM_PATIENCE_WINDOWS, /* it takes a while to fill one */
    DRAIN_MIN_SUPERSLABS = 4,
    COLLAPSE_SHARE = 64,        /* of the time that passes */
    COLLAPSE_MAX_US = 5000,     /* saved up at most, so that no tick takes longer */
    COLLAPSE_PAUSE_MIN_MS = 100,
    COLLAPSE_PAUSE_MAX_MS = 60000,
    PERCENT_MAX = 100000,
    PPM = 1000000,
};

struct output {
    struct learn_decision *list;
    unsigned count;
};

/* A share of a SuperSlab, in bytes. */
static uint32_t share(uint64_t ppm)
{
    return (uint32_t)(ppm * MEM_SUPERSLAB_BYTES / PPM);
}

/* What the memory costs: the effect that huge pages are judged by. Speed cannot be had for nothing, bytes can. */
static uint64_t percent_of_used(uint64_t resident_bytes, uint64_t used_bytes)
{
    if (resident_bytes <= used_bytes)
        return 100;
    uint64_t percent = used_bytes == 0 ? PERCENT_MAX : resident_bytes * 100 / used_bytes;
    return percent < PERCENT_MAX ? percent : PERCENT_MAX;
}

/* A full huge page over no more blocks than earn it. */
static uint64_t predicted_percent(const struct mem_params *params)
{
    return (uint64_t)100 * PPM / params->threshold_ppm;
}

static void hold(uint32_t *until, uint16_t *holdoff, const struct mem_params *params, uint64_t window)
{
    uint32_t windows = *holdoff == 0 ? params->cooldown_windows : *holdoff;
    windows = windows < HOLDOFF_MAX ? windows : HOLDOFF_MAX;
    *until = (uint32_t)window + windows;
    *holdoff = (uint16_t)(2 * windows < HOLDOFF_MAX ? 2 * windows : HOLDOFF_MAX);
}

static bool is_held(uint32_t until, uint64_t window)
{
    return (int32_t)(until - (uint32_t)window) > 0;
}

static struct learn_decision *announce(struct output *out, const struct mem_params *params,
                                       const struct mem_snapshot *s, uint32_t place, bool to)
{
    struct learn_decision *d = &out->list[out->count++];
    *d = (struct learn_decision){
        .time_ms = s->time_ms,
        .window = s->window,
        .from = !to,
        .to = to,
        .predicted = predicted_percent(params),
        .measured = LEARN_NOT_MEASURED,
        .place = place,
        .subject = LEARN_HUGE_PAGE,
        .verdict = params->observe ? LEARN_OBSERVED : LEARN_APPLIED,
    };
    return d;
}

static struct learn_decision *announce_place(struct output *out, const struct mem_params *params,
                                             const struct mem_snapshot *s, const struct mem_place *p, bool to)
{
    struct learn_decision *d = announce(out, params, s, p->superslab, to);
    d->evidence[0] = p->used_bytes;
    d->evidence[1] = p->resident_bytes;
    d->before = percent_of_used(p->resident_bytes, p->used_bytes);
    return d;
}

/* ---- one SuperSlab ---- */

void mem_note_huge(struct mem_track *track, uint64_t window, uint32_t resident_bytes)
{
    track->trial = MEM_ON_TRIAL;
    track->trial_window = (uint32_t)window;
    track->before_kib = (uint16_t)(resident_bytes / 1024);
    track->wants_collapse = true;
}

void mem_note_refused(struct mem_track *track, const struct mem_params *params, uint64_t window)
{
    track->trial = MEM_AT_REST;
    track->wants_collapse = false;
    hold(&track->hold_until, &track->holdoff, params, window);
}

static uint32_t windows_since(uint32_t then, uint64_t window)
{
    return (uint32_t)window - then;
}

static void follow(struct mem_track *track, const struct mem_params *params, const struct mem_snapshot *s,
                   const struct mem_place *p)
{
    if (!track->is_known || (p->is_unproven && track->trial == MEM_AT_REST)) { /* or it was mapped anew between two looks */
        track->is_known = true;
        track->trial = p->is_huge ? MEM_BORN : MEM_AT_REST;
        track->trial_window = (uint32_t)s->window;
    }
    enum mem_mood mood = MEM_NEITHER;
    if (p->used_bytes >= share(params->threshold_ppm))
        mood = MEM_DENSE;
    else if (p->used_bytes < share(params->threshold_ppm / MEM_HYSTERESIS))
        mood = MEM_SPARSE;
    if (mood != track->mood) {
        track->mood = (uint8_t)mood;
        track->since_window = (uint32_t)s->window;
        track->since_ms = (uint32_t)s->time_ms;
    }
}

static bool has_been(const struct mem_track *track, enum mem_mood mood, const struct mem_snapshot *s)
{
    return track->mood == mood && windows_since(track->since_window, s->window) >= MEM_PATIENCE_WINDOWS;
}

/* Blocks may move so fast that a phase of some tenths of a second has windows enough; its memory is gone before a huge page
 * has saved what it cost. What has lived will live. */
static bool is_lastingly_dense(const struct mem_track *track, const struct mem_snapshot *s)
{
    return has_been(track, MEM_DENSE, s) && (uint32_t)s->time_ms - track->since_ms >= MEM_DENSE_MS;
}

/* What has come of the huge page. Broken by the arena meanwhile, because much of it lay idle: as bad. */
static void judge(struct mem_track *track, const struct mem_params *params, const struct mem_snapshot *s,
                  const struct mem_place *p, struct output *out)
{
    uint64_t measured = percent_of_used(p->resident_bytes, p->used_bytes);
    bool is_harm = !p->is_huge || measured > 2 * predicted_percent(params);
    if (!is_harm && windows_since(track->trial_window, s->window) < MEM_TRIAL_WINDOWS)
        return;
    struct learn_decision *d = announce_place(out, params, s, p, true);
    d->before = percent_of_used((uint64_t)track->before_kib * 1024, p->used_bytes);
    d->measured = measured;
    d->verdict = is_harm ? LEARN_ROLLED_BACK : LEARN_CONFIRMED;
    track->trial = MEM_AT_REST;
    if (is_harm)
        hold(&track->hold_until, &track->holdoff, params, s->window);
}

/* True: it was predicted to fill up and did not. */
static bool judge_birth(struct mem_track *track, const struct mem_snapshot *s)
{
    if (track->mood == MEM_DENSE || track->trial != MEM_BORN) {
        track->trial = MEM_AT_REST;
        return false;
    }
    return track->mood == MEM_SPARSE && windows_since(track->trial_window, s->window) >= BORN_PATIENCE &&
           has_been(track, MEM_SPARSE, s);
}

/* True: a prediction about births was wrong. */
static bool decide_place(const struct mem_params *params, const struct mem_snapshot *s, struct mem_place *p,
                         struct output *out)
{
    struct mem_track *track = p->track;
    if (track->trial == MEM_ON_TRIAL) {
        judge(track, params, s, p, out);
        return false;
    }
    if (!p->is_huge) {
        track->trial = MEM_AT_REST;
        if (is_lastingly_dense(track, s) && p->resident_bytes >= share(params->threshold_ppm) &&
            !is_held(track->hold_until, s->window)) {
            announce_place(out, params, s, p, true);
            if (params->observe)
                hold(&track->hold_until, &track->holdoff, params, s->window);
            else
                mem_note_huge(track, s->window, p->resident_bytes);
        }
        return false;
    }
    bool was_wrong = track->trial == MEM_BORN && judge_birth(track, s);
    if ((track->trial == MEM_BORN ? was_wrong : has_been(track, MEM_SPARSE, s)) && !is_held(track->hold_until, s->window)) {
        announce_place(out, params, s, p, false)->predicted = 100;
        track->trial = MEM_AT_REST;
        hold(&track->hold_until, &track->holdoff, params, s->window);
        return was_wrong;
    }
    return false;
}

/* Few slabs in use, for long, and room elsewhere: what is claimed anew should go there. */
static void decide_draining(struct mem_learner *l, const struct mem_params *params, const struct mem_snapshot *s,
                            struct mem_place *p)
{
    bool was = p->is_draining;
    uint64_t free_bytes = (uint64_t)s->superslabs * MEM_SUPERSLAB_BYTES - s->claimed_bytes;
    if (p->claimed_bytes >= share(params->threshold_ppm / 2))
        p->is_draining = false;
    else if (p->claimed_bytes < share(params->threshold_ppm / MEM_HYSTERESIS) && has_been(p->track, MEM_SPARSE, s))
        p->is_draining = was || (s->superslabs >= DRAIN_MIN_SUPERSLABS && free_bytes >= 2 * MEM_SUPERSLAB_BYTES &&
                                 l->draining < s->superslabs / 2);
    if (params->observe)
        p->is_draining = was;
    else if (p->is_draining != p->track->is_draining)
        l->draining += p->is_draining ? 1u : UINT32_MAX;
    p->track->is_draining = p->is_draining;
}

static void forget(struct mem_learner *l, struct mem_track *track)
{
    l->draining -= track->is_draining;
    *track = (struct mem_track){ 0 };
}

/* ---- SuperSlabs to come ---- */

static void average_density(struct mem_learner *l, const struct mem_place *p)
{
    if (p->claimed_bytes == 0 || p->track->trial == MEM_BORN)
        return;
    uint32_t now = (uint32_t)((uint64_t)p->used_bytes * PPM / p->claimed_bytes);
    l->density_ppm = l->density_ppm == 0 ? now : l->density_ppm - l->density_ppm / 16 + now / 16;
}

static bool heap_is_dense(const struct mem_learner *l, const struct mem_params *params, const struct mem_snapshot *s)
{
    return s->claimed_bytes >= (uint64_t)s->superslabs * share(params->threshold_ppm) &&
           l->density_ppm >= params->threshold_ppm;
}

static void announce_births(struct mem_learner *l, const struct mem_params *params, const struct mem_snapshot *s,
                            bool is_wrong, struct output *out)
{
    struct learn_decision *d = announce(out, params, s, 0, is_wrong || !s->huge_birth);
    uint64_t used_bytes = (uint64_t)(s->claimed_bytes / 1024 * ((uint64_t)l->density_ppm) / PPM) * 1024;
    d->evidence[0] = used_bytes;
    d->evidence[1] = s->claimed_bytes;
    d->before = percent_of_used(s->claimed_bytes, used_bytes);
    if (is_wrong) {
        d->measured = percent_of_used(MEM_SUPERSLAB_BYTES, share(params->threshold_ppm / MEM_HYSTERESIS));
        d->verdict = LEARN_ROLLED_BACK;
        hold(&l->birth_hold_until, &l->birth_holdoff, params, s->window);
    } else if (params->observe) {
        hold(&l->birth_hold_until, &l->birth_holdoff, params, s->window);
    }
}

/* Many threads fill many SuperSlabs at a time, each with slabs of its own that it has only begun to use: the heap is dense as
 * far as it is old, and what comes would be huge and half empty. A few threads fill one SuperSlab after the other: what is
 * open there is full and has not been looked at, for looks are 10 ms apart and memory is filled at a GiB/s. */
uint32_t mem_open_births(uint32_t superslabs, uint64_t begun_bytes)
{
    uint32_t open = superslabs / BIRTH_OPEN_SHARE > BIRTH_OPEN_MIN ? superslabs / BIRTH_OPEN_SHARE : BIRTH_OPEN_MIN;
    return begun_bytes <= (uint64_t)open * MEM_SUPERSLAB_BYTES ? superslabs / 2 : open;
}

/* A heap that grows and fills what it maps will fill the next one too. */
static void decide_births(struct mem_learner *l, const struct mem_params *params, const struct mem_snapshot *s,
                          bool is_wrong, struct output *out)
{
    l->births += (uint32_t)s->superslabs_mapped;
    l->deaths += (uint32_t)s->superslabs_released;
    if (s->huge_birth) {
        bool is_over = l->deaths >= BIRTH_MIN_GROWTH && l->deaths > l->births;
        if (is_wrong || is_over || l->density_ppm < params->threshold_ppm / MEM_HYSTERESIS)
            announce_births(l, params, s, is_wrong, out);
    } else if (params->retained == MEM_RETAIN_ALL && !is_held(l->birth_hold_until, s->window) &&
               s->superslabs >= BIRTH_MIN_SUPERSLABS &&
               l->births >= BIRTH_MIN_GROWTH && l->deaths <= l->births / MEM_HYSTERESIS && heap_is_dense(l, params, s)) {
        announce_births(l, params, s, false, out);
    }
    if (windows_since(l->birth_window, s->window) >= BIRTH_EPOCH) {
        l->birth_window = (uint32_t)s->window;
        l->births /= 2;
        l->deaths /= 2;
    }
}

/* ---- collapsing ---- */

uint64_t mem_collapse_budget(const struct mem_learner *l, uint64_t now_ms)
{
    return (int64_t)(l->collapse_pause_until_ms - now_ms) > 0 ? 0 : l->collapse_us;
}

void mem_note_collapse(struct mem_learner *l, uint64_t now_ms, uint64_t took_us, bool refused)
{
    l->collapse_us -= took_us < l->collapse_us ? took_us : l->collapse_us;
    if (!refused) {
        l->collapse_pause_ms = 0;
        return;
    }
    uint32_t pause_ms = l->collapse_pause_ms == 0 ? COLLAPSE_PAUSE_MIN_MS : 2 * l->collapse_pause_ms;
    l->collapse_pause_ms = pause_ms < COLLAPSE_PAUSE_MAX_MS ? pause_ms : COLLAPSE_PAUSE_MAX_MS;
    l->collapse_pause_until_ms = now_ms + l->collapse_pause_ms;
}

/* ---- a window ---- */

unsigned mem_decide(struct mem_learner *l, const struct mem_params *params, struct mem_snapshot *s,
                    struct learn_decision decisions[MEM_DECISIONS_MAX])
{
    struct output out = { decisions, 0 };
    bool is_first = l->last_window == 0;
    uint32_t windows = is_first ? 1 : (uint32_t)(s->window - l->last_window);
    uint64_t elapsed_ms = is_first ? 0 : s->time_ms - l->last_ms;
    l->last_window = s->window;
    l->last_ms = s->time_ms;
    l->collapse_us += elapsed_ms * 1000 / COLLAPSE_SHARE;
    l->collapse_us = l->collapse_us < COLLAPSE_MAX_US ? l->collapse_us : COLLAPSE_MAX_US;
    bool was_wrong = false;
    for (unsigned i = 0; i < s->count; i++) {
        struct mem_place *p = &s->places[i];
        if (!p->is_mapped) {
            forget(l, p->track);
            continue;
        }
        follow(p->track, params, s, p);
        was_wrong |= decide_place(params, s, p, &out);
        decide_draining(l, params, s, p);
        average_density(l, p);
    }
    decide_births(l, params, s, was_wrong, &out);
    if (params->advanced)
        out.count += mem_decide_numbers(l, params, s, windows, decisions + out.count);
    return out.count;
}
