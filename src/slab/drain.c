/* Collecting what other threads have freed: the owner's side of the protocol in docs/concurrency.md, whose steps D1..D4 are
 * named here. Somebody's malloc waits for it, so a refill looks at a few words and leaves the rest on the stack. */
#include "slab/heap_internal.h"

enum {
    ALL_WORDS = 64, /* that the news of a slab can name */
    REST_WORDS = 4, /* that a refill looks at which could do without */
};

/* D3 for one word. The relaxed look is sound because D2 acquired: bits of producers that came before it are seen, and a bit
 * that is set later comes with news of its own. */
FAST void collect_word(struct slab *s, uint32_t slab, unsigned w)
{
    uint64_t *word = remote_word(slab, w);
    if (LIKELY(load_relaxed(word) != 0))
        slab_put_word(s, slab, w, exchange_acquire(word, 0));
}

/* D3, D4 for one slab: collects the remote bits of the words that `news` names, which is what D2 took out of it. */
void heap_collect(struct heap *h, uint32_t slab, uint64_t news)
{
    struct slab *s = slab_at(slab);
    const unsigned word_count = bin_info(s->bin)->word_count;
    const uint32_t before = s->free_count;
    for (uint64_t named = news & (news_of_word(NEWS_LAST) - 1); named != 0; named &= named - 1)
        if (LIKELY(lowest_bit(named) < word_count))
            collect_word(s, slab, lowest_bit(named));
    if (UNLIKELY((news & news_of_word(NEWS_LAST)) != 0))
        for (unsigned w = NEWS_LAST; w < word_count; w++)
            collect_word(s, slab, w);
    uint32_t collected = s->free_count - before;
    if (collected == 0)
        return;
    h->bins[s->bin].outstanding -= collected;
    h->bins[s->bin].collected_blocks += collected;
    heap_note_returned(h, slab);
}

/* D2: re-arms the slab, before anybody looks, so that who comes later pushes again. Or, where the news names more than `most`
 * words, takes the lowest out of it, and the token stays: *kept. Returns the words to look at. */
FAST uint64_t take_news(struct remote *r, unsigned most, bool *kept)
{
    uint64_t rest = 0;
    if (most < ALL_WORDS)
        rest = load_relaxed(&r->news); /* a hint: others only add to it */
    const uint64_t seen = rest;
    for (unsigned i = 0; i < most && rest != 0; i++)
        rest &= rest - 1;
    *kept = rest != 0;
    if (rest == 0)
        return exchange_acq_rel(&r->news, 0);
    fetch_and_acq_rel(&r->news, ~(seen ^ rest));
    return seen ^ rest;
}

/* Looks at `words` words of the slabs that hang together from this one on, whose tokens are ours. What is left then, tokens
 * and all, is remote_rest. Returns how many words are left to look at. */
static unsigned drain_list(struct heap *h, uint32_t slab, unsigned words)
{
    while (slab != SLAB_NONE && words != 0) {
        struct remote *r = remote_at(slab);
        uint32_t next = r->next; /* before re-arming: after it the next producer may write it */
        if (next != SLAB_NONE)
            __builtin_prefetch(remote_at(next), 1);
        bool kept;
        uint64_t news = take_news(r, words, &kept);
        /* A slab that was left empty because its token was out is retired now. */
        struct slab *s = slab_at(slab);
        bool was_empty = s->free_count == s->block_count;
        heap_collect(h, slab, news);
        unsigned looked = count_bits(news);
        words = looked < words && !kept ? words - looked : 0;
        if (kept)
            continue;
        if (was_empty && (h->bins[s->bin].list != slab || s->next != SLAB_NONE))
            heap_retire_slab(h, slab);
        slab = next;
    }
    store_relaxed(&h->remote_rest, slab);
    return words;
}

void heap_drain_some(struct heap *h, unsigned words)
{
    words = drain_list(h, h->remote_rest, words);
    if (words != 0 && load_relaxed(&h->remote_stack) != SLAB_NONE)
        drain_list(h, exchange_acquire(&h->remote_stack, SLAB_NONE), words); /* D1 */
}

void heap_drain_rest(struct heap *h)
{
    drain_list(h, h->remote_rest, REST_WORDS);
}

void heap_drain(struct heap *h)
{
    heap_drain_some(h, UINT32_MAX);
}
