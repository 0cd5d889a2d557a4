#include "tcache/outbox.h"

#include "slab/heap.h"

static void deliver(struct outbox *o, struct outbox_entry *e)
{
    const struct bin_info *info = bin_info(e->bin);
    unsigned count = count_bits(e->mask);
    o->last_slab = e->key >> OUTBOX_WORDS_LOG2;
    remote_deliver(o->last_slab, info, e->key % (1u << OUTBOX_WORDS_LOG2), e->mask);
    o->delivered_bytes += (uint64_t)count * info->block_bytes;
    store_relaxed(&o->held_bytes, o->held_bytes - count * info->block_bytes);
    store_relaxed(&o->delivered_blocks, o->delivered_blocks + count);
    store_relaxed(&o->delivery_count, o->delivery_count + 1);
    e->key = 0;
}

void outbox_init(struct outbox *o, uint64_t budget_bytes)
{
    uint64_t share = budget_bytes / OUTBOX_BUDGET_SHARE;
    o->max_bytes = share < OUTBOX_MAX_BYTES ? (uint32_t)share : OUTBOX_MAX_BYTES;
}

/* One entry after the other, in turns: the next to leave has had the time of a whole round to fill, and no free waits for
 * more than a delivery or two. */
static void make_room(struct outbox *o)
{
    while (o->held_bytes > o->max_bytes) {
        struct outbox_entry *e = &o->entries[o->next++ % OUTBOX_ENTRIES];
        if (e->key != 0)
            deliver(o, e);
    }
}

void outbox_add(struct outbox *o, uint32_t slab, unsigned bin, uint32_t number)
{
    const struct bin_info *info = bin_info(bin);
    uint32_t word = number / 64;
    uint32_t key = outbox_key(slab, word);
    uint64_t bit = (uint64_t)1 << (number % 64);
    struct outbox_entry *e = outbox_slot(o, key);
    if (e->key != 0 && e->key != key)
        deliver(o, e);
    if (e->key == 0)
        *e = (struct outbox_entry){ .key = key, .bin = bin };
    if (UNLIKELY((e->mask & bit) != 0))
        slab_fail_double_free(slab, info, word, bit);
    e->mask |= bit;
    store_relaxed(&o->held_bytes, o->held_bytes + info->block_bytes);
    if (info->block_bytes >= OUTBOX_DIRECT_BYTES)
        deliver(o, e);
    else if (UNLIKELY(o->held_bytes > o->max_bytes))
        make_room(o);
}

void outbox_deliver_all(struct outbox *o)
{
    if (o->held_bytes == 0)
        return;
    for (unsigned i = 0; i < OUTBOX_ENTRIES; i++)
        if (o->entries[i].key != 0)
            deliver(o, &o->entries[i]);
}

/* A lively owner is asked seldom, since its lock is wanted for that: once in HELP_BYTES. HELP_WORDS_MAX bounds what one free
 * waits for, to some 30 us; what is delivered one block a word takes as many words as blocks. */
size_t outbox_help_owner(struct outbox *o)
{
    enum { HELP_BYTES = 256 * 1024, HELP_WORDS_MAX = 1024, HELP_WORDS_LEAST = 64 };
    const uint64_t bytes = o->delivered_bytes - o->helped_bytes;
    if (LIKELY(bytes < HELP_BYTES) || !arena_may_leave_burst())
        return 0;
    const uint64_t words = HELP_WORDS_LEAST + 2 * (o->delivered_blocks - o->helped_blocks);
    const uint32_t owner = load_relaxed(window_word(o->last_slab)) >> MAP_OWNER_SHIFT; /* a hint: it may have changed hands */
    if (!heap_help(owner, words < HELP_WORDS_MAX ? (unsigned)words : HELP_WORDS_MAX))
        return 0;
    o->helped_bytes = o->delivered_bytes;
    o->helped_blocks = o->delivered_blocks;
    return bytes;
}

void outbox_forget(struct outbox *o)
{
    for (unsigned i = 0; i < OUTBOX_ENTRIES; i++)
        o->entries[i].key = 0;
    store_relaxed(&o->held_bytes, 0);
}
