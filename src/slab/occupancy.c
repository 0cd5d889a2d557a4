#include "slab/occupancy.h"

#include "slab/heap.h"

static struct heap *try_owner(uint32_t id)
{
    struct heap *h = heap_by_id(id);
    return h != NULL && lock_try(&h->lock) ? h : NULL;
}

uint32_t occupancy_used_bytes(uint32_t superslab)
{
    uint32_t at = superslab * SUPERSLAB_SLABS;
    uint32_t used_bytes = window_large_slabs(superslab) * (uint32_t)SLAB_BYTES;
    struct heap *held = NULL;
    for (uint32_t end = at + SUPERSLAB_SLABS; at < end;) {
        uint32_t word = load_relaxed(window_word(at));
        uint32_t owner = word >> MAP_OWNER_SHIFT;
        if (owner != 0 && (held == NULL || held->id != owner)) {
            if (held != NULL)
                lock_release(&held->lock);
            held = try_owner(owner);
        }
        if (owner == 0 || held == NULL) {
            used_bytes += owner == 0 ? 0 : (uint32_t)SLAB_BYTES;
            at++;
        } else if (load_relaxed(window_word(at)) != word) {
            continue; /* it was on its way to another heap, or to the arena: look again */
        } else {
            /* Under its owner's lock the slab stays what it is. Runs are aligned, so none reaches beyond the SuperSlab. */
            const struct slab *s = slab_at(slab_head(at, bin_info_of_map_word(word)));
            used_bytes += (s->block_count - s->free_count) * bin_info_of_map_word(word)->block_bytes;
            at += s->run_slabs;
        }
    }
    if (held != NULL)
        lock_release(&held->lock);
    return used_bytes;
}
