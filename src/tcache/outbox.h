/* Remote frees on their way: a small table that combines blocks of one bitmap word, so that one atomic operation
 * delivers up to 64 of them. Belongs to its thread alone. */
#ifndef HAKMEM_TCACHE_OUTBOX_H
#define HAKMEM_TCACHE_OUTBOX_H

#include "slab/remote.h"

#define OUTBOX_ENTRIES 64u
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

/* The block numbered `number` of `slab` was freed here. Aborts on a double free that is still in the table. */
void outbox_add(struct outbox *o, uint32_t slab, unsigned bin, uint32_t number);
void outbox_deliver_all(struct outbox *o);
void outbox_forget(struct outbox *o);

#endif
