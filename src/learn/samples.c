#include "learn/samples.h"

static uint64_t add_saturating(uint64_t a, uint64_t b)
{
    return a < UINT64_MAX - b ? a + b : UINT64_MAX;
}

/* The place of the first sample that is not smaller. */
static uint32_t find(const struct learn_bin *bin, uint32_t cap)
{
    uint32_t at = 0;
    while (at < bin->sample_count && bin->samples[at].cap < cap)
        at++;
    return at;
}

void learn_bin_add(struct learn_bin *bin, uint32_t cap, uint64_t misses, uint64_t blocks)
{
    if (misses == 0)
        return;
    if (cap == 0)
        cap = 1;
    bin->cache_count++;
    uint32_t at = find(bin, cap);
    const bool known = at < bin->sample_count && bin->samples[at].cap == cap;
    if (!known && bin->sample_count < LEARN_SAMPLE_MAX) {
        for (uint32_t i = bin->sample_count++; i > at; i--)
            bin->samples[i] = bin->samples[i - 1];
        bin->samples[at] = (struct learn_sample){.cap = cap};
    } else if (!known && at == bin->sample_count) { /* full, and larger than all */
        bin->samples[--at].cap = cap;
    }
    struct learn_sample *sample = &bin->samples[at];
    sample->misses = add_saturating(sample->misses, misses);
    sample->blocks = add_saturating(sample->blocks, blocks);
}

/* total * percent / 100 rounded up, where the product need not fit. */
static uint64_t share_of(uint64_t total, unsigned percent)
{
    return total / 100 * percent + (total % 100 * percent + 99) / 100;
}

bool learn_bin_choose(const struct learn_bin *bin, unsigned percent, struct learn_choice *out)
{
    uint64_t blocks = 0;
    *out = (struct learn_choice){0};
    for (uint32_t i = 0; i < bin->sample_count; i++) {
        out->misses = add_saturating(out->misses, bin->samples[i].misses);
        blocks = add_saturating(blocks, bin->samples[i].blocks);
    }
    if (out->misses == 0)
        return false;
    const uint64_t wanted = share_of(out->misses, percent);
    uint64_t covered = 0;
    for (uint32_t i = 0; i < bin->sample_count && (covered < wanted || i == 0); i++) {
        covered = add_saturating(covered, bin->samples[i].misses);
        out->cap = bin->samples[i].cap;
    }
    const uint64_t mean = (add_saturating(blocks, out->misses / 2)) / out->misses;
    out->refill = mean < out->cap ? (uint32_t)mean : out->cap;
    if (out->refill == 0)
        out->refill = 1;
    return true;
}
