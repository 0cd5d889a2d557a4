/* Frees of blocks that another thread's heap owns: the side of the protocol that takes no lock. The steps R1..R4 and
 * D1..D4 are those of docs/concurrency.md; tests/model/remote_free.pml checks them. */
#ifndef HAKMEM_SLAB_REMOTE_H
#define HAKMEM_SLAB_REMOTE_H

#include "slab/slab.h"

#define REMOTE_INLINE_WORDS 6u

/* Per slab, apart from the slab's header: producers write here. Valid when zero, for a slab that never had a block. */
struct remote {
    uint64_t news;  /* atomic; 0: armed, the next producer must push the slab. Else the token is out: bits of the words to
                       look at, and NEWS_HELD. Read-modify-write only: fetch_or, exchange and CAS, acq_rel */
    uint32_t owner; /* atomic relaxed; heap id. Written by the token's holder only */
    uint32_t next;  /* written by the token's holder only, before its release push; read after the acquire take */
    uint64_t inline_words[REMOTE_INLINE_WORDS]; /* atomic; 1 = freed remotely. fetch_or release, exchange acquire */
};
_Static_assert(sizeof(struct remote) == REMOTE_RECORD_BYTES, "remote records have a fixed stride");

#define NEWS_HELD ((uint64_t)1 << 63) /* the arena, or who attaches, retires or steals the slab, has the token */
#define NEWS_ALL (NEWS_HELD - 1)      /* look everywhere */
#define NEWS_LAST 62u                 /* this bit stands for its word and all that follow */

FAST uint64_t news_of_word(unsigned word)
{
    return (uint64_t)1 << (word < NEWS_LAST ? word : NEWS_LAST);
}

FAST struct remote *remote_at(uint32_t slab)
{
    return (struct remote *)(window.remotes + (size_t)slab * REMOTE_RECORD_BYTES);
}

/* The first words lie beside `news`, whatever the bin: a slab of small blocks that is used at its beginning only, as those of
 * threads whose blocks others free are, costs producer and drainer one cache line, and no page of the bitmaps. */
FAST uint64_t *remote_word(uint32_t slab, unsigned word)
{
    if (LIKELY(word < REMOTE_INLINE_WORDS))
        return &remote_at(slab)->inline_words[word];
    return (uint64_t *)(window.remote_bitmaps + (size_t)slab * BITMAP_BYTES) + word;
}

/* REMOTE: hands blocks back to whoever owns the slab. Any thread that holds the blocks; no lock, no errno. */
void remote_deliver(uint32_t slab, const struct bin_info *info, unsigned word, uint64_t mask);

/* The stack of slabs with news that a heap's owner will collect: many producers push, the holder of the heap's lock
 * takes all. head: atomic. No ABA, since nothing is ever popped singly. */
void remote_push(uint32_t *head, uint32_t slab);

#endif
