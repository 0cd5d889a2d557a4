#include "unit.h"

#include <errno.h>
#include <sys/syscall.h>

#include "base/lock.h"

#define THREADS 4u
#define ROUNDS 20000u

static struct lock shared = LOCK_INIT(LOCK_HEAP);
static uint64_t guarded; /* plain on purpose: the lock must order it */
static uint64_t tries_won;

static void *count_under_lock(void *argument)
{
    (void)argument;
    for (unsigned i = 0; i < ROUNDS; i++) {
        lock_acquire(&shared);
        guarded++;
        lock_release(&shared);
    }
    return NULL;
}

static void test_mutual_exclusion(void **state)
{
    (void)state;
    guarded = 0;
    run_threads(THREADS, count_under_lock, NULL, 0);
    assert_int_equal(guarded, THREADS * ROUNDS);
    assert_int_equal(shared.word, 0);
}

static void *count_by_trying(void *argument)
{
    (void)argument;
    uint64_t won = 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        if (!lock_try(&shared))
            continue;
        guarded++;
        won++;
        lock_release(&shared);
    }
    fetch_add_relaxed(&tries_won, won);
    return NULL;
}

static void test_try_excludes_too(void **state)
{
    (void)state;
    guarded = 0;
    tries_won = 0;
    run_threads(THREADS, count_by_trying, NULL, 0);
    assert_int_equal(guarded, tries_won);
    assert_true(tries_won > 0);
}

static void test_try_of_a_held_lock(void **state)
{
    (void)state;
    struct lock l = LOCK_INIT(LOCK_META);
    lock_acquire(&l);
    assert_false(lock_try(&l));
    lock_release(&l);
    assert_true(lock_try(&l));
    assert_int_equal(l.word, 1);
    lock_release(&l);
    assert_int_equal(l.word, 0);
    lock_init(&l, LOCK_ARENA);
    assert_int_equal(l.rank, LOCK_ARENA);
    assert_true(lock_try(&l));
    lock_release(&l);
}

static void *wait_for_lock(void *argument)
{
    uint32_t *done = argument;
    errno = EDOM;
    lock_acquire(&shared);
    guarded++;
    lock_release(&shared);
    if (errno == EDOM)
        fetch_add_relaxed(done, 1);
    return NULL;
}

/* Waiters sleep in the kernel (word 2) until the release, and all of them come through; errno survives the sleep. */
static void test_sleepers_are_woken(void **state)
{
    (void)state;
    uint32_t done = 0;
    pthread_t threads[THREADS];
    guarded = 0;
    lock_acquire(&shared);
    for (unsigned i = 0; i < THREADS; i++)
        start_thread(&threads[i], wait_for_lock, &done);
    assert_true(WAIT_UNTIL(load_relaxed(&shared.word) == 2));
    assert_int_equal(load_relaxed(&done), 0);
    lock_release(&shared);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(done, THREADS);
    assert_int_equal(guarded, THREADS);
    assert_int_equal(shared.word, 0);
}

struct view {
    struct lock *lock;
    bool open, tried;
};

static void *look_from_outside(void *argument)
{
    struct view *v = argument;
    v->open = lock_is_open(v->lock);
    v->tried = lock_try(v->lock);
    if (v->tried)
        lock_release(v->lock);
    return NULL;
}

static struct view seen_from_outside(struct lock *l)
{
    struct view v = {.lock = l};
    run_threads(1, look_from_outside, &v, sizeof v);
    return v;
}

static void test_fork_opens_for_one_thread_only(void **state)
{
    (void)state;
    struct lock taken = LOCK_INIT(LOCK_ARENA);
    struct lock other = LOCK_INIT(LOCK_META);
    lock_fork_take(&taken);
    assert_false(lock_is_open(&taken)); /* not begun */
    assert_false(lock_try(&taken));
    lock_fork_begin();

    assert_true(lock_is_open(&taken));
    lock_acquire(&taken); /* would hang if it were not open */
    lock_acquire(&taken);
    lock_release(&taken);
    assert_true(lock_try(&taken));
    lock_release(&taken);
    lock_release(&taken);
    assert_int_equal(taken.word, 1); /* held throughout */
    const struct view v = seen_from_outside(&taken);
    assert_false(v.open);
    assert_false(v.tried);

    /* A lock that was not taken for the fork stays an ordinary one. */
    assert_false(lock_is_open(&other));
    assert_true(lock_try(&other));
    assert_false(lock_try(&other));
    lock_release(&other);
    assert_int_equal(other.word, 0);

    lock_fork_end();
    assert_false(lock_is_open(&taken));
    assert_false(lock_try(&taken));
    lock_fork_give(&taken);
    assert_int_equal(taken.word, 0);
    assert_int_equal(taken.forking, 0);
    assert_true(seen_from_outside(&taken).tried);
}

static void *take_and_give(void *argument)
{
    struct lock *l = argument;
    lock_acquire(l);
    guarded++;
    lock_release(l);
    return NULL;
}

/* Other threads wait for a forking thread as for any holder. */
static void test_fork_holds_others_back(void **state)
{
    (void)state;
    struct lock l = LOCK_INIT(LOCK_HEAP);
    pthread_t thread;
    guarded = 0;
    lock_fork_take(&l);
    lock_fork_begin();
    start_thread(&thread, take_and_give, &l);
    assert_true(WAIT_UNTIL(load_relaxed(&l.word) == 2));
    lock_release(&l); /* open: must not let the waiter in */
    assert_int_equal(load_relaxed(&l.word), 2);
    guarded = 41; /* TSan: the waiter must come after this */
    lock_fork_end();
    lock_fork_give(&l);
    pthread_join(thread, NULL);
    assert_int_equal(guarded, 42);
}

/* What the child of a fork finds and does; the number of the step that failed. */
static int child_steps(struct lock *l)
{
    if (!lock_is_open(l)) /* the thread keeps its identity across fork */
        return 1;
    lock_fork_end();
    lock_fork_give(l);
    if (l->word != 0)
        return 2;
    if (!lock_try(l) || lock_try(l))
        return 3;
    lock_release(l);
    return 0;
}

static void test_fork_child_gives_back(void **state)
{
    (void)state;
    struct lock l = LOCK_INIT(LOCK_META);
    lock_fork_take(&l);
    lock_fork_begin();
    /* The system call itself: libc's fork runs the library's own handlers, which begin and end as well. */
    const pid_t child = (pid_t)syscall(SYS_clone, (long)SIGCHLD, 0L, 0L, 0L, 0L);
    if (child == 0)
        _exit(child_steps(&l));
    lock_fork_end();
    lock_fork_give(&l);
    assert_int_equal(l.word, 0);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

#ifdef HAKMEM_DEBUG_CHECKS
static void take_out_of_order(void *argument)
{
    struct lock outer = LOCK_INIT(LOCK_ARENA);
    lock_acquire(&outer);
    lock_acquire(argument);
}

static void test_ranks(void **state)
{
    (void)state;
    static struct lock low = LOCK_INIT(LOCK_HEAP);
    static struct lock same = LOCK_INIT(LOCK_ARENA);
    assert_aborts(take_out_of_order, &low, "internal error: locks taken out of order", &low);
    assert_aborts(take_out_of_order, &same, "internal error: locks taken out of order", &same);
    struct lock one = LOCK_INIT(LOCK_HEAP);
    struct lock two = LOCK_INIT(LOCK_ARENA);
    lock_acquire(&one);
    assert_true(lock_try(&low)); /* a second one of the rank, by try */
    lock_release(&low);
    lock_release(&one);
    lock_acquire(&one);
    lock_acquire(&two);
    lock_release(&one);
    lock_release(&two);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mutual_exclusion),
        cmocka_unit_test(test_try_excludes_too),
        cmocka_unit_test(test_try_of_a_held_lock),
        cmocka_unit_test(test_sleepers_are_woken),
        cmocka_unit_test(test_fork_opens_for_one_thread_only),
        cmocka_unit_test(test_fork_holds_others_back),
        cmocka_unit_test(test_fork_child_gives_back),
#ifdef HAKMEM_DEBUG_CHECKS
        cmocka_unit_test(test_ranks),
#endif
    };
    return cmocka_run_group_tests_name("lock", tests, NULL, NULL);
}
