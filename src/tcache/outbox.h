/* Remote frees on their way: a small table that combines blocks of one bitmap word, so that one atomic operation
 * delivers up to 64 of them. Belongs to its thread alone. */
#ifndef HAKMEM_TCACHE_OUTBOX_H
#define HAKMEM_TCACHE_OUTBOX_H

#include "slab/remote.h"

#define OUTBOX_ENTRIES 128u
#define OUTBOX_MAX_BYTES 131072u /* blocks held back, over all entries, at most; ... */
#define OUTBOX_BUDGET_SHARE 32u  /* ... and this part of the thread's budget. More combine better: see decision 0015 */
#define OUTBOX_SLAB_STEP 79u      /* entries from a slab's first word to that of the next slab */
#define OUTBOX_DIRECT_BYTES 8192u /* blocks from this size on are delivered at once */

struct outbox_entry {
    uint64_t key; /* outbox_key; 0: vacant, since no slab lies at address 0 */
    uint64_t mask;
};

struct outbox {
    uint32_t held_bytes;  /* atomic relaxed; statistics read it */
    uint32_t max_bytes;   /* blocks held back, over all entries */
    uint32_t next;        /* the entry that leaves when there is no more room */
    uint64_t delivered_blocks; /* atomic relaxed; over the life of the tcache */
    uint64_t delivery_count;
    uint64_t delivered_bytes; /* over the life of the tcache, as far as its thread survives fork */
    uint64_t helped_blocks, helped_bytes; /* delivered_blocks and delivered_bytes at the last outbox_help_owner that had a reason */
    uint32_t last_slab; /* delivered to last */
    struct outbox_entry entries[OUTBOX_ENTRIES];
};

/* The run's address, and in the bits that are 0 there the bitmap word: what free has at hand, without a look at the map. */
FAST uint64_t outbox_key(uintptr_t run, uint64_t word)
{
    return run + word;
}

/* (word + OUTBOX_SLAB_STEP * slab) modulo the entries, as one product: the words of a slab stand side by side, and slabs, of
 * which a thread whose blocks others free uses the first few words, as far from one another as the golden ratio has them
 * (Knuth, TAOCP 3, 6.4). Two words that meet in an entry drive each other out, a delivery each time: decision 0015. */
FAST struct outbox_entry *outbox_slot(struct outbox *o, uint64_t key)
{
    _Static_assert(OUTBOX_ENTRIES == 128, "seven bits of the product; the step is 128 times the golden ratio");
    const uint64_t factor = (uint64_t)1 << 57 | (uint64_t)OUTBOX_SLAB_STEP << (57 - SLAB_SHIFT);
    return &o->entries[key * factor >> 57];
}

/* The common case of outbox_add: the block, of which this is the address in its bin's terms, joins others of its bitmap word,
 * and nothing needs to be delivered. False: nothing was done. A number behind the run's last block is found when its word
 * leaves. */
FAST bool outbox_join(struct outbox *o, uint64_t key, uint64_t number, uint32_t block_bytes)
{
    struct outbox_entry *e = outbox_slot(o, key);
    if (UNLIKELY(e->key != key))
        return false;
    uint64_t mask = e->mask;
    uint32_t held = o->held_bytes + block_bytes;
    if (UNLIKELY(bit_test_and_set(&mask, number)) || UNLIKELY(held > o->max_bytes))
        return false;
    e->mask = mask;
    store_relaxed(&o->held_bytes, held);
    return true;
}

/* Before the first use: how much it may hold, of a thread's budget. */
void outbox_init(struct outbox *o, uint64_t budget_bytes);
/* The block numbered `number` of `slab` was freed here. Aborts on a double free that is still in the table. */
void outbox_add(struct outbox *o, uint32_t slab, unsigned bin, uint32_t number);
void outbox_deliver_all(struct outbox *o);
/* Now and then, with no lock held: where the owner of the blocks sleeps, collects as much as was delivered since the last time,
 * so that what a burst leaves goes back although its own thread never comes by. Returns how many bytes of blocks that is, or 0. */
size_t outbox_help_owner(struct outbox *o);
void outbox_forget(struct outbox *o);

#endif
