#include "slab/remote.h"

#include "base/upcall.h"
#include "slab/heap.h"

void remote_push(uint32_t *head, uint32_t slab)
{
    struct remote *r = remote_at(slab);
    uint32_t top = load_relaxed(head);
    do {
        r->next = top; /* ours to write: we hold the token */
    } while (!cas_weak_release(head, &top, slab)); /* release: next, and the bits of R1, before the slab is seen */
}

void remote_deliver(uint32_t slab, const struct bin_info *info, unsigned word, uint64_t mask)
{
    struct remote *r = remote_at(slab);
    /* R1: release, so that what the program did to the block is over before the owner hands it out again */
    uint64_t before = fetch_or_release(remote_word(slab, word), mask);
    if (UNLIKELY((before & mask) != 0))
        slab_fail_double_free(slab, info, word, before & mask);
    /* R2: never a plain load first: the read-modify-write puts us before or behind the owner's re-arming */
    if (fetch_or_acq_rel(&r->news, news_of_word(word)) != 0)
        return;
    /* R3, R4: we hold the token, so the owner cannot change under us; the push is our last touch */
    struct heap *owner = heap_by_id(load_relaxed(&r->owner));
    remote_push(&owner->remote_stack, slab);
    upcall_background_note_free(); /* the owner may sleep */
}
