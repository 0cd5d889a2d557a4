/* Giving back what can be spared, at once: for when memory is out, and for who asks. */
#include "base/upcall.h"
#include "tcache/tcache_internal.h"

void tcache_trim_self(void)
{
    struct tcache *t = tcache_self();
    upcall_fork_recover();
    if (t == NULL)
        return;
    tcache_flush_all(t);
    tcache_close_all(t);
    lock_acquire(&t->heap.lock);
    heap_age(&t->heap, true);
    lock_release(&t->heap.lock);
}

size_t tcache_reclaim(size_t keep_bytes)
{
    const struct tcache *self = tcache_self();
    tcache_trim_self();
    heap_reclaim_others(self == NULL ? NULL : &self->heap);
    return arena_purge_beyond(keep_bytes);
}
