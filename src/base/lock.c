#include "base/lock.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/check.h"

THREAD_LOCAL_DEFINE uint32_t lock_ranks_held;

/* The thread between lock_fork_begin and lock_fork_end, by the address of its lock_ranks_held; NULL: none.
 * Atomic relaxed: only its own thread compares equal, and that thread wrote it. */
static uint32_t *lock_forking_thread;
/* The thread that is about to abort, likewise. */
static uint32_t *lock_aborting_thread;
uint32_t lock_aborting;

/* The kernel's ABI (futex(2)); spelled out because musl's tool chain comes without the kernel's headers. */
enum { LOCK_FUTEX_WAIT_PRIVATE = 0 | 128, LOCK_FUTEX_WAKE_PRIVATE = 1 | 128 };

static void lock_futex(uint32_t *word, int operation, uint32_t value)
{
    int saved = errno;
    syscall(SYS_futex, word, operation, value, NULL, NULL, 0);
    errno = saved;
}

/* Three-state futex mutex after Ulrich Drepper, "Futexes Are Tricky" (mutex3), with a short spin: critical sections
 * are a few hundred nanoseconds unless they meet the kernel. */
SLOW void lock_acquire_contended(struct lock *l)
{
    for (int spin = 0; spin < 64; spin++) {
        uint32_t expected = 0;
        if (load_relaxed(&l->word) == 0 && cas_weak_acquire(&l->word, &expected, 1))
            return;
        cpu_relax();
    }
    while (exchange_acquire(&l->word, 2) != 0)
        lock_futex(&l->word, LOCK_FUTEX_WAIT_PRIVATE, 2);
}

SLOW void lock_release_contended(struct lock *l)
{
    lock_futex(&l->word, LOCK_FUTEX_WAKE_PRIVATE, 1);
}

bool lock_is_open(const struct lock *l)
{
    return load_relaxed(&lock_aborting_thread) == &lock_ranks_held ||
           (load_relaxed(&l->forking) != 0 && load_relaxed(&lock_forking_thread) == &lock_ranks_held);
}

void lock_open_all(void)
{
    store_relaxed(&lock_aborting_thread, &lock_ranks_held);
    store_relaxed(&lock_aborting, 1);
}

#ifdef HAKMEM_DEBUG_CHECKS
void lock_check_order(const struct lock *l)
{
    /* Between fork handlers the locks held are open; a thread that attaches there takes a new heap's. */
    if (load_relaxed(&lock_forking_thread) != &lock_ranks_held &&
        load_relaxed(&lock_aborting_thread) != &lock_ranks_held)
        CHECK((lock_ranks_held >> (l->rank * LOCK_RANK_BITS)) == 0, "internal error: locks taken out of order", l);
}
#endif

void lock_fork_take(struct lock *l)
{
    uint32_t expected = 0;
    lock_count_up(l->rank); /* no check of order: two of rank LOCK_HEAP are taken, the thread's own and the stray heap's */
    if (!cas_strong_acquire(&l->word, &expected, 1))
        lock_acquire_contended(l);
    store_relaxed(&l->forking, 1);
}

void lock_fork_begin(void)
{
    store_relaxed(&lock_forking_thread, &lock_ranks_held);
}

void lock_fork_end(void)
{
    store_relaxed(&lock_forking_thread, NULL);
}

void lock_fork_give(struct lock *l)
{
    store_relaxed(&l->forking, 0);
    lock_release(l);
}
