#include "slab/put.h"
#include "tcache/tcache_internal.h"

/* The run has the bin of its first slab's map word as long as one of its blocks is here. */
static void deliver(struct outbox *o, struct outbox_entry *e)
{
    const uint32_t slab = (uint32_t)window_slab_index((void *)(uintptr_t)e->key);
    char *run = window_slab_address(slab);
    const uint32_t map_word = load_relaxed(window_word(slab)), word = (uint32_t)(e->key % SLAB_BYTES);
    CHECK(map_word >> MAP_OWNER_SHIFT != 0, "double free, in the slab at", run);
    const struct bin_info *info = bin_info_of_map_word(map_word);
    const uint32_t last = info->block_count - 1;
    CHECK(word < last / 64 || (word == last / 64 && e->mask >> (last % 64) <= 1),
          "free of a pointer into the middle of a block", run + (size_t)info->block_count * info->block_bytes);
    const unsigned count = count_bits(e->mask);
    const uint32_t bytes = count * info->block_bytes;
    CHECK(bytes <= o->held_bytes, "double free, in the slab at", run); /* it is another bin's by now */
    o->last_slab = slab;
    remote_deliver(slab, info, word, e->mask);
    o->delivered_bytes += bytes;
    store_relaxed(&o->held_bytes, o->held_bytes - bytes);
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
 * more than a delivery or two. If a whole round is not enough, blocks have left as smaller ones than they came as. */
static void make_room(struct outbox *o)
{
    for (unsigned left = OUTBOX_ENTRIES; o->held_bytes > o->max_bytes; left--) {
        CHECK(left != 0, "double free, in a slab that has other blocks by now", NULL);
        struct outbox_entry *e = &o->entries[o->next++ % OUTBOX_ENTRIES];
        if (e->key != 0)
            deliver(o, e);
    }
}

/* outbox_add, by who knows the key already. A number behind the run's last block is found when its word leaves. */
FAST void add(struct outbox *o, const struct bin_info *info, uint64_t key, uint64_t number)
{
    const uint64_t bit = (uint64_t)1 << (number % 64);
    uint64_t mask = bit;
    struct outbox_entry *e = outbox_slot(o, key);
    if (e->key == key) {
        if (UNLIKELY((e->mask & bit) != 0))
            slab_fail_double_free((uint32_t)window_slab_index((void *)(uintptr_t)key), info, (unsigned)(key % SLAB_BYTES), bit);
        mask |= e->mask;
    } else if (e->key != 0) {
        deliver(o, e);
    }
    e->key = key;
    e->mask = mask;
    store_relaxed(&o->held_bytes, o->held_bytes + info->block_bytes);
    if (UNLIKELY(info->block_bytes >= OUTBOX_DIRECT_BYTES))
        deliver(o, e);
    else if (UNLIKELY(o->held_bytes > o->max_bytes))
        make_room(o);
}

void outbox_add(struct outbox *o, uint32_t slab, unsigned bin, uint32_t number)
{
    add(o, bin_info(bin), outbox_key((uintptr_t)window_slab_address(slab), number / 64), number);
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

static NOINLINE void let_the_clock_tick(struct tcache *t)
{
    upcall_fork_recover();
    tcache_tick(t);
}

/* Writes back what is there, so that the first cache line of a block that goes home is this processor's alone. Who frees a
 * block has mostly read it, and a line that two have is dear to its next owner's write: the other must be asked to forget
 * it, and that thread's stores wait in order. From one that has it alone it comes fast (decision 0038). */
FAST void take_line(void *block)
{
    volatile char *const first = block;
    *first = *first;
}

/* What keeps a block from joining is mostly that it is the first of its word, or that the outbox is full. A checked thread has no
 * outbox, and what is in nobody's slab is an error or a large block. */
static NOINLINE void free_apart(void *block, const struct bin_info *info, uint64_t key, uint64_t number)
{
    struct tcache *t = (struct tcache *)hot_thread.self;
    const uint32_t map_word = load_relaxed(window_word((uint32_t)window_slab_index((void *)(uintptr_t)key)));
    if (UNLIKELY(t->checked || map_word >> MAP_OWNER_SHIFT == 0)) {
        tcache_free_slow(block);
        return;
    }
    take_line(block);
    tcache_note_slow(t);
    add(&t->outbox, info, key, number);
}

/* A thread that frees what others allocated comes here with every block, so the usual case is short: the block joins its
 * neighbours in the outbox. The thread has a cache, or free would have stopped at its limit of 0, and where that is checked
 * nothing lies in the outbox that a block could join. Neither can one of a slab without an owner: as long as a block of a slab
 * is in the outbox, the slab has one. Should that be this very heap, by a theft, the outbox is still right.
 *
 * Every so often the clock is read: what waits in the outbox must not wait for more frees than that. */
void tcache_free_foreign(void *block, size_t offset)
{
    const size_t bin_offset = offset % (1u << MAP_OWNER_SHIFT); /* the tag has no bits there */
    if (LIKELY(bin_offset < BIN_COUNT * BIN_STRIDE_BYTES)) {
        struct tcache *t = (struct tcache *)hot_thread.self;
        const struct bin_info *info = (const struct bin_info *)((const char *)bin_table + bin_offset);
        const struct slab_divisor by = slab_divisor(info);
        const uint64_t product = slab_product(by, (uintptr_t)block);
        const uint64_t key = outbox_key((uintptr_t)block & ~by.run_mask, product >> 38);
        if (LIKELY(slab_is_multiple(by, product))) {
            if (UNLIKELY(!outbox_join(&t->outbox, key, product >> 32, info->block_bytes))) {
                free_apart(block, info, key, product >> 32);
                return;
            }
            take_line(block);
            if (UNLIKELY(--t->slow_left == 0))
                let_the_clock_tick(t);
            return;
        }
    }
    tcache_free_slow(block);
}
