/* What HAKMEM_DEBUG_LEVEL adds from 2 on. The contents of small blocks are checked: a seal behind what the program asked for
 * tells a write past the end, a fill over the whole of a freed block tells a write into it. From 3 on a freed block also
 * waits in its thread's quarantine before it can be handed out again.
 *
 *   handed out   what was asked for | tail bytes | seal: how much was asked for
 *   freed        fill | fill | ... | fill                            one 8-byte word, repeated
 *
 * Seal and fill are hashes of the block's address and of its run's life: how long the run is, and how often its head was
 * attached to a bin. So what an earlier life left behind is neither. Nothing here is on a hit path: at these levels no
 * magazine holds anything. The functions touch the block's own bytes only; whoever calls them has the block. */
#ifndef HAKMEM_TCACHE_GUARD_H
#define HAKMEM_TCACHE_GUARD_H

#include "config/config.h"

#define GUARD_SEAL_BYTES 8u

struct guarded {
    void *block;
    uint32_t block_bytes; /* all of it, the seal included */
    uint32_t life;        /* slab.life and the length of the run; the hash takes its low 24 bits */
};

FAST bool guard_is_on(void)
{
    return config_get()->debug_level >= 2;
}

/* The program asked for `bytes`; block_bytes - GUARD_SEAL_BYTES at most. */
void guard_seal(const struct guarded *g, size_t bytes);
/* False: seal or tail are not what guard_seal wrote. */
bool guard_read(const struct guarded *g, size_t *bytes);

void guard_fill(const struct guarded *g);
/* It was freed, as far as its last word tells. */
bool guard_is_freed(const struct guarded *g);
/* Every word is the fill's: nobody has had the block since, nor given back its pages. */
bool guard_is_filled(const struct guarded *g);
/* The same for a block whose pages may have gone back to the system meanwhile (they read as zeros), or that was never
 * freed in this life. False: part of a page has the fill and part has not. */
bool guard_may_be_reused(const struct guarded *g, size_t page_bytes);

/* A ring of freed blocks, filled, in the order of their frees. Its thread's alone. */
#define QUARANTINE_BLOCKS 256u
#define QUARANTINE_BYTES (256u * 1024)
struct quarantine {
    uint32_t oldest;
    uint32_t count;
    uint32_t looked; /* how many of them, from the oldest on, were looked at in this round */
    uint32_t bytes;
    struct guarded ring[QUARANTINE_BLOCKS];
};

void quarantine_add(struct quarantine *q, const struct guarded *g);
/* Takes out the oldest; NULL: none. all: or none that must leave, because there is room. Aborts if it was written to. */
void *quarantine_take(struct quarantine *q, bool all);
/* One block more is looked at, in turn. Aborts if it was written to. */
void quarantine_look(struct quarantine *q);
/* All of them are. */
void quarantine_look_at_all(const struct quarantine *q);

#endif
