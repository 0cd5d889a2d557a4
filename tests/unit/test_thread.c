#include "unit.h"

#include <errno.h>

#include "api/entry.h"
#include "arena/meta.h"
#include "lifecycle/lifecycle.h"
#include "stats/counters.h"
#include "tcache/tcache_internal.h"

static uint32_t fake_node; /* where every thread runs; only asked for where there are several */

uint32_t os_current_node(void)
{
    return load_relaxed(&fake_node);
}

static uint64_t heaps_attached(void)
{
    static struct snapshot s;
    snapshot_read(&s);
    return s.heaps_attached;
}

static bool is_parked(const struct heap *h)
{
    return load_relaxed(&h->state) == HEAP_PARKED;
}

struct visit {
    struct tcache *cache;
    void *block;
    uint32_t state;
    int error;
};

static void *use(void *argument)
{
    struct visit *v = argument;
    errno = EDOM;
    v->block = api_malloc(100);
    v->error = errno;
    v->cache = tcache_self();
    v->state = load_relaxed(&v->cache->heap.state);
    memset(v->block, 1, 100);
    return NULL;
}

static struct visit run_one(void *(*body)(void *))
{
    struct visit v = {0};
    run_threads(1, body, &v, sizeof v);
    return v;
}

static void test_first_thread_keeps_its_cache(void **state)
{
    (void)state;
    void *block = api_malloc(100);
    struct tcache *t = tcache_self();
    assert_non_null(t);
    assert_true(thread_is_first());
    assert_int_equal(load_relaxed(&t->heap.state), HEAP_ATTACHED);
    /* The loader may reset the thread-locals after early allocations: the same cache is found again. */
    hot_thread = (struct hot_thread){ 0 };
    api_free(block);
    assert_ptr_equal(tcache_self(), t);
    assert_int_equal(t->heap.bins[6].outstanding, magazine_count(t, 6));
}

static void test_thread_parks_and_the_next_one_adopts(void **state)
{
    (void)state;
    const uint64_t entitled_bytes = tcache_entitled_bytes();
    const struct visit one = run_one(use);
    assert_true(one.cache->entitled_bytes != 0); /* it keeps what it has earned, and counts no more */
    assert_int_equal(tcache_entitled_bytes(), entitled_bytes);
    assert_non_null(one.cache);
    assert_true(one.cache != tcache_self());
    assert_int_equal(one.state, HEAP_ATTACHED);
    assert_int_equal(one.error, EDOM);
    assert_true(is_parked(&one.cache->heap));
    assert_int_equal(load_relaxed(&heap_parked_count), 1);
    assert_int_equal(one.cache->heap.bins[6].outstanding, 1); /* what it cached is back, what it gave out is not */
    const uint32_t heaps = heap_count();
    const struct visit two = run_one(use);
    assert_ptr_equal(two.cache, one.cache);
    assert_int_equal(heap_count(), heaps);
    assert_int_equal(two.cache->heap.bins[6].outstanding, 2);
    assert_true(two.block != one.block);
    api_free(one.block); /* of a heap without a thread */
    api_free(two.block);
    tcache_trim_self();
    lock_acquire(&two.cache->heap.lock);
    heap_drain(&two.cache->heap);
    lock_release(&two.cache->heap.lock);
    assert_int_equal(two.cache->heap.bins[6].outstanding, 0);
}

static void test_a_thread_adopts_from_its_own_node(void **state)
{
    (void)state;
    const uint32_t nodes = os_node_count();
    store_relaxed(&os_nodes, 2);
    store_relaxed(&fake_node, 0);
    const struct visit zero = run_one(use);
    store_relaxed(&fake_node, 1);
    const struct visit one = run_one(use); /* a heap of its own, although one is parked */
    assert_true(one.cache != zero.cache);
    assert_int_equal(load_relaxed(&one.cache->heap.node), 1);
    assert_int_equal(load_relaxed(&zero.cache->heap.node), 0);
    const struct visit again = run_one(use);
    assert_ptr_equal(again.cache, one.cache);
    store_relaxed(&fake_node, 0);
    const struct visit back = run_one(use); /* not the one that was parked last */
    assert_ptr_equal(back.cache, zero.cache);
    /* So many wait that one of them is taken, wherever it is. */
    store_relaxed(&fake_node, 2);
    uint32_t parked = load_relaxed(&heap_parked_count);
    for (unsigned i = 0; parked < 16; i++, parked++) {
        store_relaxed(&fake_node, 3 + i);
        api_free(run_one(use).block);
        assert_int_equal(load_relaxed(&heap_parked_count), parked + 1);
    }
    store_relaxed(&fake_node, 2);
    const uint32_t heaps = heap_count();
    const struct visit far = run_one(use);
    assert_int_equal(heap_count(), heaps);
    assert_int_equal(load_relaxed(&far.cache->heap.node), 2);
    store_relaxed(&os_nodes, nodes);
    api_free(zero.block);
    api_free(one.block);
    api_free(again.block);
    api_free(back.block);
    api_free(far.block);
}

static void *pass_by(void *argument)
{
    (void)argument;
    return NULL;
}

static void test_thread_that_never_allocates_costs_nothing(void **state)
{
    (void)state;
    const uint32_t heaps = heap_count();
    const uint32_t parked = load_relaxed(&heap_parked_count);
    for (unsigned i = 0; i < 20; i++)
        run_threads(4, pass_by, NULL, 0);
    assert_int_equal(heap_count(), heaps);
    assert_int_equal(load_relaxed(&heap_parked_count), parked);
}

/* ---- churn ---- */

static uint32_t barrier_count;
static uint32_t damage;
static void *left_behind[64]; /* atomic */

static void *live_shortly(void *argument)
{
    const uintptr_t number = (uintptr_t)argument;
    void *blocks[20];
    for (unsigned i = 0; i < 20; i++) {
        const size_t bytes = 16 + (number * 20 + i) * 7 % 3000;
        blocks[i] = api_malloc(bytes);
        if (blocks[i] == NULL)
            fetch_add_relaxed(&damage, 1);
        memset(blocks[i], (int)i, bytes);
    }
    for (unsigned i = 0; i < 19; i++)
        api_free(blocks[i]);
    api_free(exchange_acq_rel(&left_behind[number % ARRAY_COUNT(left_behind)], blocks[19]));
    return NULL;
}

static void test_a_thousand_threads_share_few_heaps(void **state)
{
    (void)state;
    for (uintptr_t number = 0; number < 1000; number += 8) {
        pthread_t threads[8];
        for (unsigned i = 0; i < 8; i++)
            start_thread(&threads[i], live_shortly, (void *)(number + i));
        for (unsigned i = 0; i < 8; i++)
            pthread_join(threads[i], NULL);
    }
    assert_int_equal(damage, 0);
    assert_true(heap_count() <= 2 + 8); /* the stray one, the first thread's, and as many as ran at once */
    assert_int_equal(heaps_attached(), 1);
    for (unsigned i = 0; i < ARRAY_COUNT(left_behind); i++)
        api_free(left_behind[i]);
}

static void *hold_until_all_are_here(void *argument)
{
    struct visit *v = argument;
    use(v);
    fetch_add_relaxed(&barrier_count, 1);
    while (load_acquire(&barrier_count) < 12)
        sched_yield();
    return NULL;
}

static void test_threads_at_once_have_a_heap_each(void **state)
{
    (void)state;
    struct visit visits[12];
    barrier_count = 0;
    run_threads(12, hold_until_all_are_here, visits, sizeof visits[0]);
    for (unsigned i = 0; i < 12; i++) {
        for (unsigned k = 0; k < i; k++) {
            assert_true(visits[i].cache != visits[k].cache);
            assert_true(visits[i].block != visits[k].block);
        }
        assert_true(is_parked(&visits[i].cache->heap));
    }
    for (unsigned i = 0; i < 12; i++)
        api_free(visits[i].block);
}

/* ---- destructors that allocate ---- */

static pthread_key_t late_key;
/* Of the four that POSIX promises. */
#define ROUNDS_MAX (UNDER_THREAD_SANITIZER ? 3u : 4u)
static uint32_t last_round, rounds;
static char *late_block;
static uint32_t late_had_cache;

/* Comes back in every round that is promised; its key was made after the library's, so its turn is later. */
static void late_destructor(void *value)
{
    if (fetch_add_relaxed(&rounds, 1) + 1 < load_relaxed(&last_round)) {
        pthread_setspecific(late_key, value);
        return;
    }
    store_relaxed(&late_had_cache, tcache_self() != NULL);
    char *block = api_malloc(100);
    store_release(&late_block, block);
    api_free(api_malloc(100000));
    api_free(api_malloc(10));
}

static void *exit_with_late_work(void *argument)
{
    use(argument);
    pthread_setspecific(late_key, argument);
    return NULL;
}

static void test_detached_thread_uses_the_stray_heap(void **state)
{
    (void)state;
    assert_int_equal(pthread_key_create(&late_key, late_destructor), 0);
    const uint32_t heaps = heap_count();
    for (uint32_t last = 1; last <= ROUNDS_MAX; last++) {
        store_relaxed(&last_round, last);
        store_relaxed(&rounds, 0);
        store_relaxed(&late_block, NULL);
        const struct visit v = run_one(exit_with_late_work);
        assert_int_equal(load_relaxed(&rounds), last);
        char *block = load_acquire(&late_block);
        assert_non_null(block);
        assert_false(load_relaxed(&late_had_cache));
        assert_int_equal(*window_word((uint32_t)window_slab_index(block)) >> MAP_OWNER_SHIFT, stray_heap.id);
        assert_true(is_parked(&v.cache->heap));
        assert_int_equal(heaps_attached(), 1);
        api_free(block);
        api_free(v.block);
    }
    pthread_key_delete(late_key);
    assert_int_equal(heap_count(), heaps);
}

/* libc itself frees after the last destructor: threads must not come back to life for that. */
static void free_in_destructor(void *value)
{
    if (fetch_add_relaxed(&rounds, 1) + 1 < load_relaxed(&last_round))
        pthread_setspecific(late_key, value);
    else
        api_free(value);
}

static void *exit_with_late_free(void *argument)
{
    use(argument);
    pthread_setspecific(late_key, ((struct visit *)argument)->block);
    return NULL;
}

static void test_late_frees_leak_no_heaps(void **state)
{
    (void)state;
    assert_int_equal(pthread_key_create(&late_key, free_in_destructor), 0);
    const uint32_t heaps = heap_count();
    const uint32_t parked = load_relaxed(&heap_parked_count);
    for (unsigned i = 0; i < 40; i++) {
        store_relaxed(&rounds, 0);
        store_relaxed(&last_round, 1 + i % ROUNDS_MAX);
        const struct visit v = run_one(exit_with_late_free);
        assert_true(is_parked(&v.cache->heap));
    }
    pthread_key_delete(late_key);
    assert_int_equal(heap_count(), heaps);
    assert_int_equal(load_relaxed(&heap_parked_count), parked);
    assert_int_equal(heaps_attached(), 1);
}

/* ---- the first thread leaves before the others ---- */

static void *outlive_the_first(void *argument)
{
    pthread_t *first = argument;
    pthread_join(*first, NULL);
    const bool adopted = is_parked(heap_by_id(2)) || heap_count() == 2;
    void *block = api_malloc(100);
    memset(block, 1, 100);
    REQUIRE(adopted);
    REQUIRE(!thread_is_first());
    REQUIRE(tcache_self()->heap.id == 2); /* the first thread's, adopted like any other */
    api_free(block);
    _exit(0);
}

static void leave_first(void *argument)
{
    (void)argument;
    static pthread_t self;
    self = pthread_self();
    REQUIRE(thread_is_first());
    REQUIRE(tcache_self()->heap.id == 2);
    pthread_t thread;
    start_thread(&thread, outlive_the_first, &self);
    pthread_exit(NULL);
}

static void test_first_thread_may_leave(void **state)
{
    (void)state;
    if (UNDER_THREAD_SANITIZER)
        skip();
    assert_child_passes(leave_first, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_thread_keeps_its_cache),
        cmocka_unit_test(test_thread_parks_and_the_next_one_adopts),
        cmocka_unit_test(test_thread_that_never_allocates_costs_nothing),
        cmocka_unit_test(test_a_thousand_threads_share_few_heaps),
        cmocka_unit_test(test_threads_at_once_have_a_heap_each),
        cmocka_unit_test(test_detached_thread_uses_the_stray_heap),
        cmocka_unit_test(test_late_frees_leak_no_heaps),
        cmocka_unit_test(test_first_thread_may_leave),
        cmocka_unit_test(test_a_thread_adopts_from_its_own_node), /* leaves many heaps */
    };
    return cmocka_run_group_tests_name("thread", tests, NULL, NULL);
}
