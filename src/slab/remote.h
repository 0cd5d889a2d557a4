/* Frees of blocks that another thread's heap owns: the side of the protocol that takes no lock. The steps R1..R4 and
 * D1..D4 are those of docs/concurrency.md; tests/model/remote_free.pml checks them. */
#ifndef HAKMEM_SLAB_REMOTE_H
#define HAKMEM_SLAB_REMOTE_H

#include "slab/slab.h"

#define REMOTE_INLINE_WORDS 6u

/* Per slab, apart from the slab's header: producers write here. Valid when zero (armed 0: the arena holds the token). */
struct remote {
    uint32_t armed; /* atomic; 1: the next producer must push the slab; 0: the token is out. Exchange acq_rel */
    uint32_t owner; /* atomic relaxed; heap id. Written by the token's holder only */
    uint32_t next;  /* written by the token's holder only, before its release push; read after the acquire take */
    uint32_t reserved;
    uint64_t inline_words[REMOTE_INLINE_WORDS]; /* atomic; 1 = freed remotely. fetch_or release, exchange acquire */
};
_Static_assert(sizeof(struct remote) == REMOTE_RECORD_BYTES, "remote records have a fixed stride");

FAST struct remote *remote_at(uint32_t slab)
{
    return (struct remote *)(window.remotes + (size_t)slab * REMOTE_RECORD_BYTES);
}

FAST uint64_t *remote_words(uint32_t slab, const struct bin_info *info)
{
    if (info->word_count <= REMOTE_INLINE_WORDS)
        return remote_at(slab)->inline_words;
    return (uint64_t *)(window.remote_bitmaps + (size_t)slab * BITMAP_BYTES);
}

/* REMOTE: hands blocks back to whoever owns the slab. Any thread that holds the blocks; no lock, no errno. */
void remote_deliver(uint32_t slab, const struct bin_info *info, unsigned word, uint64_t mask);

/* The stack of slabs with news that a heap's owner will collect: many producers push, the holder of the heap's lock
 * takes all. head: atomic. No ABA, since nothing is ever popped singly. */
void remote_push(uint32_t *head, uint32_t slab);

#endif
