/* A thread that the allocation learner can be tried on without an allocator. In each cycle it takes `width` blocks of
 * every active bin and gives all back: what a magazine of `cap` objects cannot hold is refilled and flushed again, in
 * batches. A flow of blocks that others free keeps windows coming when everything fits. */
#ifndef HAKMEM_TESTS_ALLOC_MODEL_H
#define HAKMEM_TESTS_ALLOC_MODEL_H

#include <string.h>

#include "learn/alloc_learner.h"

enum { MODEL_BATCH = 128, MODEL_NS_PER_BLOCK = 20, MODEL_NS_PER_MOVE = 4 };


struct model_bin {
    uint32_t width;     /* 0: not in use */
    uint32_t deaf;      /* round trips a cycle that no cap avoids */
    uint32_t cap, refill, capacity;
    uint32_t ceiling;   /* the user's, or 65535 */
    uint64_t refilled, marked, turns, marked_turns; /* over the run; marked: at the last turn */
    bool flushed;
};

struct model {
    struct alloc_learner learner;
    struct alloc_params params;
    struct model_bin bins[TINY_BIN_COUNT];
    uint32_t think_ns;     /* what the program does with a block, beside allocating and freeing it */
    uint32_t flow;         /* blocks a cycle that are only ever refilled, in bin 0 */
    uint64_t budget_bytes;
    uint64_t window_ops;
    uint32_t keep_slabs, slabs_cycled; /* per window, less what is kept */
    uint64_t random;       /* != 0: noise of up to noise_percent */
    uint32_t noise_percent;
    unsigned at_bin;       /* where the cycle stands */
    uint32_t at_block;
    bool is_freeing;
    uint64_t window_count;
    struct learn_decision decisions[ALLOC_DECISIONS_MAX];
    unsigned decision_count;
};

static inline void model_init(struct model *m)
{
    memset(m, 0, sizeof *m);
    m->params = (struct alloc_params){
        .law = {.rate_ppm = 100000, .share_ppm = 20000, .hysteresis = 4, .cooldown_windows = 4},
        .cap_min = 8,
        .cap_max = 65535,
    };
    m->budget_bytes = 4 << 20;
    m->window_ops = 10000;
    m->flow = 100;
    m->keep_slabs = m->slabs_cycled = 4; /* all needed, none missing */
    for (unsigned bin = 0; bin < TINY_BIN_COUNT; bin++) {
        m->bins[bin].cap = m->bins[bin].capacity = 256;
        m->bins[bin].refill = 16;
        m->bins[bin].ceiling = 65535;
    }
}

static inline uint64_t model_random(struct model *m)
{
    m->random ^= m->random >> 12;
    m->random ^= m->random << 25;
    m->random ^= m->random >> 27;
    return m->random * 0x2545f4914f6cdd1du >> 33;
}

static inline uint32_t model_excess(const struct model_bin *b)
{
    return (b->width > b->capacity ? b->width - b->capacity : 0) + b->deaf;
}

/* One batch of the cycle, or the change to its next part. Returns the blocks moved. */
static inline uint32_t model_batch(struct model *m, struct alloc_snapshot *s)
{
    struct model_bin *b = &m->bins[m->at_bin];
    struct alloc_bin *to = &s->bins[m->at_bin];
    uint32_t rest = b->width == 0 && b->deaf == 0 ? 0 : model_excess(b);
    rest = rest > m->at_block ? rest - m->at_block : 0;
    if (rest == 0) {
        m->at_block = 0;
        s->passed_ns += (uint64_t)b->width * (MODEL_NS_PER_BLOCK + m->think_ns);
        if (++m->at_bin < TINY_BIN_COUNT)
            return 0;
        m->at_bin = 0;
        m->is_freeing = !m->is_freeing;
        s->bins[0].refill_blocks += m->is_freeing ? m->flow : 0;
        return m->is_freeing ? m->flow : 0;
    }
    uint32_t count = rest < MODEL_BATCH ? rest : MODEL_BATCH;
    m->at_block += count;
    s->passed_ns += count * MODEL_NS_PER_MOVE;
    if (m->is_freeing) {
        to->flush_blocks += count;
        b->flushed = true;
    } else {
        if (b->flushed) {
            b->flushed = false;
            to->turns++;
            b->turns++;
            if (b->marked_turns != 0)
                to->excess = (uint32_t)((b->refilled - b->marked) / (b->turns - b->marked_turns));
            b->marked = b->refilled;
            b->marked_turns = b->turns;
        }
        to->refill_count++;
        to->refill_blocks += count;
        b->refilled += count;
    }
    return count;
}

static inline void model_fill(struct model *m, struct alloc_snapshot *s)
{
    uint64_t held = 0;
    for (unsigned bin = 0; bin < TINY_BIN_COUNT; bin++) {
        struct model_bin *b = &m->bins[bin];
        if (b->capacity > b->cap || (b->width == 0 && b->deaf == 0))
            b->capacity = b->width == 0 && b->deaf == 0 ? 0 : b->cap;
        held += (uint64_t)b->capacity * tiny_bin_bytes(bin);
    }
    for (unsigned bin = 0; bin < TINY_BIN_COUNT; bin++) { /* magazines grow by themselves, up to cap and budget */
        struct model_bin *b = &m->bins[bin];
        uint64_t more = b->width == 0 && b->deaf == 0 ? 0 : b->cap - b->capacity;
        uint64_t fits = held < m->budget_bytes ? (m->budget_bytes - held) / tiny_bin_bytes(bin) : 0;
        more = more < fits ? more : fits;
        b->capacity += (uint32_t)more;
        held += more * tiny_bin_bytes(bin);
    }
    for (unsigned bin = 0; bin < TINY_BIN_COUNT; bin++) {
        const struct model_bin *b = &m->bins[bin];
        struct alloc_bin *to = &s->bins[bin];
        to->cap = b->cap;
        to->capacity = b->capacity;
        to->refill = b->refill;
        to->cap_ceiling = b->ceiling;
        to->refill_ceiling = b->ceiling;
        to->low_water = to->refill_blocks == 0 && b->capacity > b->width ? b->capacity - b->width : 0;
    }
    s->budget_left_bytes = held < m->budget_bytes ? m->budget_bytes - held : 0;
    s->keep_budget_bytes = m->budget_bytes / 4;
    s->keep_slabs = m->keep_slabs;
    s->slabs_attached = s->slabs_retired = m->slabs_cycled > m->keep_slabs ? m->slabs_cycled - m->keep_slabs : 0;
    s->slabs_idle = m->keep_slabs > m->slabs_cycled ? m->keep_slabs - m->slabs_cycled : 0;
    if (m->random != 0 && m->noise_percent != 0)
        s->passed_ns += s->passed_ns * (model_random(m) % m->noise_percent) / 100;
}

static inline void model_apply(struct model *m, const struct learn_decision *d)
{
    if (d->verdict != LEARN_APPLIED && d->verdict != LEARN_ROLLED_BACK)
        return;
    uint32_t value = (uint32_t)(d->verdict == LEARN_APPLIED ? d->to : d->from);
    if (d->subject == LEARN_BIN_CAP)
        m->bins[d->place].cap = value;
    else if (d->subject == LEARN_BIN_REFILL)
        m->bins[d->place].refill = value;
    else
        m->keep_slabs = value;
}

/* One window: traffic, decisions, and what they change. */
static inline void model_window(struct model *m, struct alloc_snapshot *s)
{
    memset(s, 0, sizeof *s);
    while (s->moved_blocks < m->window_ops)
        s->moved_blocks += model_batch(m, s);
    s->window = ++m->window_count;
    s->time_ms = s->window * 10;
    s->heap = 2;
    model_fill(m, s);
    m->decision_count = alloc_decide(&m->learner, &m->params, s, m->decisions);
    for (unsigned i = 0; i < m->decision_count; i++)
        model_apply(m, &m->decisions[i]);
}

#endif
