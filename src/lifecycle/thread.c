/* Threads: attach on the first slow path, park the heap at exit, adopt a parked heap whole.
 *
 * A thread is FRESH, then ATTACHED, then (its destructor has run) DETACHED. A detached thread may still allocate and
 * free, from destructors of other keys or from libc's own clean-up: it uses the stray heap, without a cache. */
#include <errno.h>
#include <pthread.h>

#include "arena/meta.h"
#include "base/upcall.h"
#include "lifecycle/background.h"
#include "lifecycle/lifecycle.h"
#include "os/os.h"

enum thread_phase { THREAD_FRESH, THREAD_ATTACHED, THREAD_DETACHED };

THREAD_LOCAL uint8_t thread_phase;

/* The first thread's cache is static, so that the loader may reset the thread-locals under it: it finds the same again. */
static struct tcache first_tcache;
/* The address of the first thread's thread_phase; NULL once its cache belongs to the parked list. Written by the first
 * thread, or by the only thread of a forked child; other threads compare it with an address of their own, which it
 * never equals. Atomic relaxed. */
static uint8_t *first_thread;

static pthread_key_t exit_key;
static bool exit_key_made; /* written by process_start */

static struct {
    struct lock lock;
    struct heap *list; /* through next_parked */
} parked = { .lock = LOCK_INIT(LOCK_PARKED) };

struct lock *parked_lock(void)
{
    return &parked.lock;
}

void thread_note_first(void)
{
    if (os_thread_id() == os_process_id())
        store_relaxed(&first_thread, &thread_phase);
}

void thread_forget_first(void)
{
    store_relaxed(&first_thread, NULL);
}

bool thread_is_first(void)
{
    return load_relaxed(&first_thread) == &thread_phase;
}

void thread_park(struct heap *h)
{
    tcache_give_share(tcache_of_heap(h));
    store_relaxed(&h->state, HEAP_PARKED);
    heap_offer(h);
    h->next_parked = parked.list;
    parked.list = h;
    store_relaxed(&heap_parked_count, heap_parked_count + 1);
}

void thread_forget_parked(void)
{
    parked.list = NULL;
    store_relaxed(&heap_parked_count, 0);
}

/* Of several memory nodes: how many parked heaps are looked at for one of the own node, and how many may wait before a
 * thread takes another node's sooner than have a new one. */
enum { ADOPT_LOOKS = 32, ADOPT_FAR_FROM = 16 };

/* LOCK_PARKED is held. Where the heap to be adopted hangs; NULL: none will do. */
static struct heap **choose_parked(bool anywhere)
{
    const uint32_t node = node_self();
    struct heap **at = &parked.list;
    if (LIKELY(node == NODE_ANY) || anywhere)
        return *at == NULL ? NULL : at;
    for (unsigned looks = 0; *at != NULL && looks < ADOPT_LOOKS; looks++, at = &(*at)->next_parked)
        if (load_relaxed(&(*at)->node) == node)
            return at;
    return heap_parked_count >= ADOPT_FAR_FROM ? &parked.list : NULL;
}

/* anywhere: of whatever memory node. */
NEAR static struct tcache *adopt(bool anywhere)
{
    if (load_relaxed(&heap_parked_count) == 0)
        return NULL;
    struct heap *h = NULL;
    lock_acquire(&parked.lock);
    struct heap **at = choose_parked(anywhere);
    if (at != NULL) {
        h = *at;
        *at = h->next_parked;
        h->next_parked = NULL;
        store_relaxed(&heap_parked_count, heap_parked_count - 1);
        /* Under the heap's lock: a thief that has it sees the heap parked to the end, and we see what it moved. */
        lock_acquire(&h->lock);
        store_relaxed(&h->state, HEAP_ATTACHED);
        lock_release(&h->lock);
    }
    lock_release(&parked.lock);
    if (h == NULL)
        return NULL;
    tcache_take_share(tcache_of_heap(h));
    return tcache_of_heap(h);
}

/* One that could not be finished when memory was out, for the next try: metadata is never freed. Atomic. */
static struct tcache *unfinished;

static struct tcache *create(void)
{
    struct tcache *t = exchange_acquire(&unfinished, NULL);
    if (t == NULL)
        t = meta_alloc(sizeof *t);
    if (t == NULL || tcache_init(t))
        return t;
    store_release(&unfinished, t); /* two at once: one is lost */
    return NULL;
}

static struct tcache *adopt_or_create(void)
{
    struct tcache *t = adopt(false);
    if (t == NULL)
        t = create();
    return t != NULL ? t : adopt(true);
}

static void thread_exit(void *value)
{
    struct tcache *t = tcache_self();
    (void)value;
    /* For good: libc itself frees after the last destructor, and nobody would park the heap that attached for that. */
    thread_phase = THREAD_DETACHED;
    background_thread_exits();
    if (t == NULL)
        return;
    upcall_fork_recover();
    tcache_flush_all(t);
    tcache_leave();
    if (thread_is_first())
        thread_forget_first();
    /* Not under the list's lock: it may purge pages, and other threads' starts and ends wait for that lock. */
    lock_acquire(&t->heap.lock);
    heap_age(&t->heap, true);
    lock_release(&t->heap.lock);
    lock_acquire(&parked.lock);
    lock_acquire(&t->heap.lock);
    thread_park(&t->heap);
    lock_release(&t->heap.lock);
    lock_release(&parked.lock);
    /* What others have freed was in no batch, whoever collected it, and there may be no later tick; nobody's free waits here. */
    arena_note_freed(arena_free_resident_bytes());
}

void thread_make_key(void)
{
    exit_key_made = pthread_key_create(&exit_key, thread_exit) == 0;
}

NEAR struct tcache *upcall_thread_attach(void)
{
    if (thread_phase == THREAD_DETACHED || !process_start())
        return NULL;
    /* A forked child holds this lock until it has said that it needs recovery. Where the library is linked statically another
     * library's fork handler may start a thread before that: it waits here. */
    lock_acquire(lifecycle_lock());
    lock_release(lifecycle_lock());
    upcall_fork_recover();
    struct tcache *t;
    if (thread_is_first())
        t = first_tcache.heap.id != 0 || tcache_init(&first_tcache) ? &first_tcache : NULL;
    else
        t = adopt_or_create();
    if (t == NULL)
        return NULL;
    heap_note_node(&t->heap, node_refresh());
    thread_phase = THREAD_ATTACHED;
    tcache_enter(t);
    int saved = errno;
    if (exit_key_made) /* may call malloc for keys from 32 on: it is served, we have entered */
        pthread_setspecific(exit_key, t);
    errno = saved;
    return t;
}
