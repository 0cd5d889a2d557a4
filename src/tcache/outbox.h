/* Remote frees on their way: a small table that combines blocks of one bitmap word, so that one atomic operation
 * delivers up to 64 of them. Belongs to its thread alone. */
#ifndef HAKMEM_TCACHE_OUTBOX_H
#define HAKMEM_TCACHE_OUTBOX_H

#include "slab/remote.h"

#define OUTBOX_ENTRIES 128u
#define OUTBOX_MAX_BYTES 32768u  /* blocks held back, over all entries */
#define OUTBOX_DIRECT_BYTES 8192u /* blocks from this size on are delivered at once */

struct outbox_entry {
    uint32_t slab; /* SLAB_NONE: vacant */
    uint16_t word;
    uint16_t bin;
    uint64_t mask;
};

struct outbox {
    uint32_t held_bytes;  /* atomic relaxed; statistics read it */
    uint64_t delivered_blocks; /* atomic relaxed; over the life of the tcache */
    uint64_t delivery_count;
    struct outbox_entry entries[OUTBOX_ENTRIES];
};

FAST struct outbox_entry *outbox_slot(struct outbox *o, uint32_t slab, uint32_t word)
{
    /* Fibonacci hashing of (slab, word): neighbours spread over the table. */
    _Static_assert(OUTBOX_ENTRIES == 128, "seven bits of hash");
    return &o->entries[((slab * 64u + word) * 2654435769u) >> 25];
}

/* The common case of outbox_add: the block joins others of its bitmap word, and nothing needs to be delivered. False:
 * nothing was done. */
FAST bool outbox_join(struct outbox *o, uint32_t slab, const struct bin_info *info, uint32_t number)
{
    struct outbox_entry *e = outbox_slot(o, slab, number / 64);
    uint64_t bit = (uint64_t)1 << (number % 64);
    uint32_t held = o->held_bytes + info->block_bytes;
    if (e->slab != slab || e->word != number / 64 || (e->mask & bit) != 0 || held > OUTBOX_MAX_BYTES)
        return false;
    e->mask |= bit;
    store_relaxed(&o->held_bytes, held);
    return true;
}

/* The block numbered `number` of `slab` was freed here. Aborts on a double free that is still in the table. */
void outbox_add(struct outbox *o, uint32_t slab, unsigned bin, uint32_t number);
void outbox_deliver_all(struct outbox *o);
void outbox_forget(struct outbox *o);

#endif
