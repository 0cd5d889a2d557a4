#include "arena/node.h"

#include "arena/arena_internal.h"

enum { NODE_SPARE_SLABS = 8 * SUPERSLAB_SLABS }; /* free slabs beside which the heap may grow in any case: 16 MiB */

THREAD_LOCAL uint32_t own_node; /* and one; 0: not asked yet */

SLOW uint32_t node_self_slow(void)
{
    return own_node == 0 ? node_refresh() : own_node - 1;
}

uint32_t node_refresh(void)
{
    if (!os_has_nodes())
        return NODE_ANY;
    own_node = os_current_node() + 1;
    return own_node - 1;
}

SLOW bool node_suits_slow(const struct superslab *s, uint32_t node)
{
    return load_relaxed(&s->node) == node ||
           (load_relaxed(&s->free_mask) == UINT32_MAX && superslab_resident(s) == 0);
}

/* So much, and a quarter of what is in use: no node ever keeps more to itself. */
bool node_may_grow(void)
{
    uint64_t mapped = (load_relaxed(&arena.mapped) - load_relaxed(&arena.released)) * SUPERSLAB_SLABS;
    uint64_t claimed = superslab_claimed_count();
    return mapped <= claimed + claimed / 4 + NODE_SPARE_SLABS;
}

void node_born(uint32_t from, uint32_t to)
{
    /* The constructor asks how many nodes there are; who outgrows the first SuperSlab before that asks here. */
    bool is_first = load_relaxed(&arena.mapped) == 0;
    bool is_known = load_relaxed(&os_nodes) != 0;
    if (!is_first && !is_known && os_node_count() > 1)
        for (uint32_t i = window.first_superslab; i < from; i++)
            store_relaxed(&superslab_table[i].node, node_self()); /* what there was is its work, most likely */
    uint32_t node = node_self();
    for (uint32_t i = from; i < to; i++)
        store_relaxed(&superslab_table[i].node, node == NODE_ANY ? 0 : node);
}
