/* Memory nodes. On a machine with several, a SuperSlab belongs to the node whose thread mapped it: that thread touches
 * it first, so there the kernel puts its pages. Claims prefer the own node's SuperSlabs, map a new one sooner than take
 * slabs of another node (within bounds: locality must not double the heap), and take those before they fail. A SuperSlab
 * that is empty and holds no pages belongs to whoever comes.
 *
 * With one node, or before anybody has asked (os_node_count), every node is NODE_ANY, and that is one branch. */
#ifndef HAKMEM_ARENA_NODE_H
#define HAKMEM_ARENA_NODE_H

#include "arena/superslab.h"
#include "os/os.h"

#define NODE_ANY UINT32_MAX

SLOW uint32_t node_self_slow(void);
SLOW bool node_suits_slow(const struct superslab *s, uint32_t node);

/* The calling thread's node, as it was when it last asked. */
FAST uint32_t node_self(void)
{
    return os_has_nodes() ? node_self_slow() : NODE_ANY;
}
/* Asks anew, for a thread moves: every slow tick. Returns node_self(). */
uint32_t node_refresh(void);

/* May a thread of this node have slabs of that SuperSlab? */
FAST bool node_suits(const struct superslab *s, uint32_t node)
{
    return LIKELY(node == NODE_ANY) || node_suits_slow(s, node);
}

/* A thread of this node has claimed slabs that suit it. */
FAST void node_note_claimed(struct superslab *s, uint32_t node)
{
    if (UNLIKELY(node != NODE_ANY) && load_relaxed(&s->node) != node)
        store_relaxed(&s->node, node);
}

/* May the heap grow although there may be room on other nodes? */
bool node_may_grow(void);
/* SuperSlabs [from, to) have just been mapped, by the calling thread. Under LOCK_ARENA. */
void node_born(uint32_t from, uint32_t to);

#endif
