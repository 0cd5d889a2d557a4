/* fork(): the child gets a working heap at any instant, and fork+exec pays nothing.
 *
 * prepare takes the global locks and the forking thread's own heap, so that what they guard is consistent in the
 * child. Other heaps are left alone; the child looks at them at its first slow path (fork_recover). */
#include <pthread.h>

#include "arena/meta.h"
#include "arena/spare.h"
#include "arena/usage.h"
#include "base/tick.h"
#include "base/upcall.h"
#include "large/large.h"
#include "large/sparse.h"
#include "learn/memory.h"
#include "lifecycle/background.h"
#include "lifecycle/lifecycle.h"

uint32_t upcall_fork_pending;

/* Whose heap lock fork_prepare took; NULL: none. Read by the handlers of the same thread; guarded by the locks that
 * prepare takes. */
static struct tcache *forking_tcache;
THREAD_LOCAL bool fork_without_locks; /* of the handlers of one fork, which run in one thread */
/* In a child: the cache of the thread that forked, NULL if it has none. Not the one above: another library's fork
 * handler may have given the thread its first cache after prepare, and the child may fork again before it recovers.
 * Written by fork_in_child while the child has one thread. */
static struct tcache *survivor;

/* glibc's lock of the list of stdio streams. Weak: other libcs lack it. */
extern void _IO_list_lock(void) __attribute__((weak));
extern void _IO_list_unlock(void) __attribute__((weak));
extern void _IO_list_resetlock(void) __attribute__((weak));

static void fork_prepare(void)
{
    /* A signal handler that interrupted malloc forks: what this thread holds, it holds in the child as well, and goes on
     * with when the handler returns. It cannot wait for itself; with one thread there is nobody else to wait for. */
    fork_without_locks = lock_ranks_held != 0;
    if (fork_without_locks)
        return;
    /* glibc takes it after this handler, and its holder may be waiting for us in a malloc of a stream's own write function;
     * so it comes first. It is recursive. */
    if (_IO_list_lock != NULL)
        _IO_list_lock();
    lock_fork_take(lifecycle_lock());
    lock_fork_take(tick_lock());
    lock_fork_take(parked_lock());
    forking_tcache = tcache_self();
    lock_fork_take(&stray_heap.lock);
    if (forking_tcache != NULL)
        lock_fork_take(&forking_tcache->heap.lock);
    lock_fork_take(huge_lock());
    lock_fork_take(spare_lock());
    lock_fork_take(arena_lock());
    lock_fork_take(heap_table_lock());
    lock_fork_take(meta_lock());
    lock_fork_begin();
}

static void give_back(void)
{
    if (fork_without_locks)
        return;
    lock_fork_end();
    lock_fork_give(meta_lock());
    lock_fork_give(heap_table_lock());
    lock_fork_give(arena_lock());
    lock_fork_give(spare_lock());
    lock_fork_give(huge_lock());
    if (forking_tcache != NULL)
        lock_fork_give(&forking_tcache->heap.lock);
    lock_fork_give(&stray_heap.lock);
    lock_fork_give(parked_lock());
    lock_fork_give(tick_lock());
    lock_fork_give(lifecycle_lock());
}

static void fork_in_parent(void)
{
    give_back();
    if (!fork_without_locks && _IO_list_unlock != NULL)
        _IO_list_unlock();
}

static void fork_in_child(void)
{
    if (!thread_is_first())
        thread_forget_first();
    survivor = tcache_self();
    background_forget();
    store_release(&upcall_fork_pending, 1);
    give_back();
    if (!fork_without_locks && _IO_list_resetlock != NULL) /* glibc has done so itself if there were threads */
        _IO_list_resetlock();
}

/* Rebuilds the parked list: every heap is parked but the survivor's, and but those whose lock was held by a thread that
 * is gone. Such a heap was in the middle of a change that nobody can finish. What it holds stays as it is: blocks in use
 * stay usable, frees are noted and never collected. Threads that the child has started wait for us at their first slow
 * path, so no other heap is in use. */
static void recover_heaps(struct heap *alive)
{
    lock_acquire(parked_lock());
    thread_forget_parked();
    for (uint32_t id = 1; id <= heap_count(); id++) {
        struct heap *h = heap_by_id(id);
        /* What dead producers pushed, or were about to push, is found by looking at every slab. */
        store_relaxed(&h->remote_stack, SLAB_NONE);
        store_relaxed(&h->remote_rest, SLAB_NONE);
        if (h == alive || h == &stray_heap || h->state == HEAP_RETIRED)
            continue;
        if (load_relaxed(&h->lock.word) != 0) {
            store_relaxed(&h->state, HEAP_RETIRED);
            continue;
        }
        if (h->state == HEAP_ATTACHED)
            tcache_forget(tcache_of_heap(h));
        thread_park(h);
    }
    tcache_recover_shares(alive == NULL ? NULL : tcache_of_heap(alive));
    lock_release(parked_lock());
}

static void recover_slabs(void)
{
    uint32_t limit = window.base == 0 ? 0 : (uint32_t)load_acquire(&window.limit);
    for (uint32_t slab = window.first_superslab * SUPERSLAB_SLABS; slab < limit; slab++) {
        uint32_t word = load_relaxed(window_word(slab));
        if (word >> MAP_OWNER_SHIFT == 0)
            continue;
        struct heap *h = heap_by_id(word >> MAP_OWNER_SHIFT);
        if (h->state == HEAP_RETIRED)
            continue;
        const struct bin_info *info = bin_info((word & ((1u << MAP_OWNER_SHIFT) - 1)) / BIN_STRIDE_BYTES);
        if (slab != slab_head(slab, info))
            continue;
        lock_acquire(&h->lock);
        heap_rearm_after_fork(h, slab);
        lock_release(&h->lock);
    }
}

static void recover_usage(void)
{
    struct large_totals large;
    large_read_totals(&large);
    usage_correct(arena_claimed_bytes() + arena_free_resident_bytes() + large.huge_bytes);
}

SLOW void upcall_fork_recover_now(void)
{
    lock_acquire(lifecycle_lock());
    if (load_relaxed(&upcall_fork_pending) != 0) {
        recover_heaps(survivor == NULL ? NULL : &survivor->heap);
        recover_slabs();
        arena_recover_after_fork();
        recover_usage();
        memory_forget_worker();
        sparse_stop_looking();
        store_release(&upcall_fork_pending, 0);
    }
    lock_release(lifecycle_lock());
}

NEAR void fork_register_handlers(void)
{
    pthread_atfork(fork_prepare, fork_in_parent, fork_in_child);
}
