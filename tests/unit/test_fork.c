#include "unit.h"

#include "api/entry.h"
#include "arena/meta.h"
#include "base/upcall.h"
#include "large/large.h"
#include "lifecycle/lifecycle.h"
#include "tcache/tcache_internal.h"

#define BIN_2048 23u
#define SLAB_BLOCKS 32u

/* Something like a program: blocks of all kinds, written and checked. */
static void work(uint64_t seed, unsigned steps)
{
    uint64_t *held[32] = {NULL};
    for (unsigned i = 0; i < steps; i++) {
        const uint64_t r = next_random(&seed);
        uint64_t **at = &held[r % 32];
        if (*at != NULL) {
            REQUIRE(**at == (uintptr_t)*at);
            api_free(*at);
        }
        *at = api_malloc(8 + (size_t)(r >> 16) % (r >> 8 & 31 ? 2500 : 90000));
        REQUIRE(*at != NULL);
        **at = (uintptr_t)*at;
    }
    for (unsigned i = 0; i < 32; i++) {
        REQUIRE(held[i] == NULL || *held[i] == (uintptr_t)held[i]);
        api_free(held[i]);
    }
}

static void take_slow_path(void)
{
    api_free(api_malloc(MEDIUM_MAX_BYTES + 1));
}

/* ---- another thread, standing still where the test wants it ---- */

struct bystander {
    pthread_t thread;
    uint32_t step;   /* atomic; 1: blocks taken; 2: its heap's lock held */
    uint32_t wanted; /* atomic; 1: to end; 2: to take its heap's lock, as if it were in a slow path */
    struct tcache *cache;
    void *blocks[2 * SLAB_BLOCKS];
};

static void *stand_by(void *argument)
{
    struct bystander *b = argument;
    for (unsigned i = 0; i < ARRAY_COUNT(b->blocks); i++) {
        b->blocks[i] = api_malloc(2048);
        memset(b->blocks[i], 77, 2048);
    }
    b->cache = tcache_self();
    store_release(&b->step, 1);
    bool holds = false;
    while (load_acquire(&b->wanted) != 1) {
        if (load_acquire(&b->wanted) == 2 && !holds) {
            lock_acquire(&b->cache->heap.lock);
            holds = true;
            store_release(&b->step, 2);
        }
        nanosleep(&(const struct timespec){.tv_nsec = 1000000}, NULL);
    }
    if (holds)
        lock_release(&b->cache->heap.lock);
    for (unsigned i = 0; i < ARRAY_COUNT(b->blocks); i++)
        api_free(b->blocks[i]);
    return NULL;
}

static void bystander_start(struct bystander *b)
{
    memset(b, 0, sizeof *b);
    start_thread(&b->thread, stand_by, b);
    assert_true(WAIT_UNTIL(load_acquire(&b->step) == 1));
}

static void bystander_end(struct bystander *b)
{
    store_release(&b->wanted, 1);
    pthread_join(b->thread, NULL);
}

static uint32_t first_slab_of(const struct bystander *b)
{
    return slab_head((uint32_t)window_slab_index(b->blocks[0]), bin_info(BIN_2048));
}

/* ---- plain ---- */

static void child_of_one_thread(void *argument)
{
    REQUIRE(load_relaxed(&upcall_fork_pending) == 1); /* fork itself pays nothing */
    struct tcache *t = tcache_self();
    REQUIRE(*(char *)argument == 5);
    take_slow_path();
    REQUIRE(load_relaxed(&upcall_fork_pending) == 0);
    REQUIRE(tcache_self() == t);
    REQUIRE(load_relaxed(&t->heap.state) == HEAP_ATTACHED);
    REQUIRE(thread_is_first());
    api_free(argument);
    work(1, 3000);
}

static void test_child_of_one_thread(void **state)
{
    (void)state;
    char *block = api_malloc(100);
    *block = 5;
    assert_child_passes(child_of_one_thread, block);
    assert_int_equal(*block, 5);
    api_free(block);
    assert_int_equal(load_relaxed(&upcall_fork_pending), 0);
    work(2, 3000);
}

static void fork_again(void *argument)
{
    const unsigned depth = (unsigned)(uintptr_t)argument;
    if (depth % 2 == 0)
        work(depth + 1, 200);
    if (depth != 0) {
        const pid_t child = fork();
        if (child == 0) {
            fork_again((void *)(uintptr_t)(depth - 1));
            _exit(0);
        }
        int status;
        REQUIRE(waitpid(child, &status, 0) == child);
        REQUIRE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    work(depth + 2, 200);
}

static void test_children_of_children(void **state)
{
    (void)state;
    assert_child_passes(fork_again, (void *)5);
}

/* ---- the heaps of threads that were not copied ---- */

static void child_with_parked_heap(void *argument)
{
    const struct bystander *b = argument;
    struct heap *h = &b->cache->heap;
    take_slow_path();
    REQUIRE(load_relaxed(&h->state) == HEAP_PARKED);
    REQUIRE(load_relaxed(&heap_parked_count) >= 1);
    REQUIRE(tcache_entitled_bytes() == tcache_self()->entitled_bytes);
    for (unsigned bin = 0; bin < BIN_COUNT; bin++)
        REQUIRE(magazine_count(b->cache, bin) == 0);
    for (unsigned i = 0; i < ARRAY_COUNT(b->blocks); i++) {
        REQUIRE(*(char *)b->blocks[i] == 77);
        api_free(b->blocks[i]);
    }
    tcache_trim_self();
    lock_acquire(&h->lock);
    const int64_t before = h->bins[BIN_2048].outstanding;
    heap_drain(h);
    REQUIRE(h->bins[BIN_2048].outstanding == before - (int64_t)ARRAY_COUNT(b->blocks));
    lock_release(&h->lock);
    work(3, 3000);
}

static void test_other_heaps_are_parked(void **state)
{
    (void)state;
    static struct bystander b;
    bystander_start(&b);
    assert_child_passes(child_with_parked_heap, &b);
    assert_int_equal(load_relaxed(&b.cache->heap.state), HEAP_ATTACHED);
    bystander_end(&b);
    work(4, 1000);
}

static void child_collects(void *argument)
{
    const struct bystander *b = argument;
    struct heap *h = &b->cache->heap;
    const uint32_t slab = first_slab_of(b);
    const int64_t before = h->bins[BIN_2048].outstanding;
    take_slow_path();
    REQUIRE(load_relaxed(&remote_at(slab)->news) == 0);
    REQUIRE(!heap_has_news(h));
    REQUIRE(h->bins[BIN_2048].outstanding == before - 3);
    REQUIRE(slab_is_valid(slab));
    /* The protocol goes on from there. */
    api_free(b->blocks[5]);
    tcache_trim_self();
    lock_acquire(&h->lock);
    heap_drain(h);
    lock_release(&h->lock);
    REQUIRE(h->bins[BIN_2048].outstanding == before - 4);
}

/* Producers that died between R1 and R2, between R2 and R4, and after R4 into a stack, or what was left of one, that is thrown
 * away. */
static void test_what_dead_producers_left_is_collected(void **state)
{
    (void)state;
    static struct bystander b;
    bystander_start(&b);
    const struct bin_info *info = bin_info(BIN_2048);
    const uint32_t slab = first_slab_of(&b);
    for (unsigned i = 0; i < SLAB_BLOCKS; i++)
        assert_int_equal(slab_head((uint32_t)window_slab_index(b.blocks[i]), info), slab);
    const uint64_t bits = 1u << slab_block_number(info, b.blocks[0]) |
                          1u << slab_block_number(info, b.blocks[1]) |
                          1u << slab_block_number(info, b.blocks[2]);
    fetch_or_release(remote_word(slab, 0), bits);
    store_relaxed(&remote_at(slab)->news, news_of_word(0));
    assert_child_passes(child_collects, &b);
    /* Here nobody died: the delivery is completed, some drain leaves the slab, and the owner frees the other blocks. */
    remote_at(slab)->next = SLAB_NONE;
    store_relaxed(&b.cache->heap.remote_rest, slab);
    assert_child_passes(child_collects, &b);
    b.blocks[0] = b.blocks[1] = b.blocks[2] = NULL;
    bystander_end(&b);
    lock_acquire(&b.cache->heap.lock);
    heap_drain(&b.cache->heap);
    assert_int_equal(b.cache->heap.bins[BIN_2048].outstanding, 0);
    lock_release(&b.cache->heap.lock);
}

static void child_with_lost_heap(void *argument)
{
    const struct bystander *b = argument;
    struct heap *h = &b->cache->heap;
    const uint32_t parked = load_relaxed(&heap_parked_count);
    take_slow_path();
    REQUIRE(load_relaxed(&h->state) == HEAP_RETIRED);
    REQUIRE(load_relaxed(&heap_parked_count) == parked);
    for (unsigned i = 0; i < ARRAY_COUNT(b->blocks); i++) { /* usable, and free takes them */
        REQUIRE(*(char *)b->blocks[i] == 77);
        REQUIRE(api_usable_bytes(b->blocks[i]) == 2048);
        api_free(b->blocks[i]);
    }
    tcache_trim_self();
    heap_reclaim_others(&tcache_self()->heap);
    for (uint32_t i = 0; i < heap_count(); i++)
        heap_age_next();
    work(5, 3000);
    if (!UNDER_THREAD_SANITIZER) { /* new threads do not get it */
        pthread_t threads[4];
        static struct bystander others[4];
        for (unsigned i = 0; i < 4; i++)
            start_thread(&threads[i], stand_by, &others[i]);
        for (unsigned i = 0; i < 4; i++) {
            REQUIRE(WAIT_UNTIL(load_acquire(&others[i].step) == 1));
            REQUIRE(others[i].cache != b->cache);
        }
        for (unsigned i = 0; i < 4; i++) {
            store_release(&others[i].wanted, 1);
            pthread_join(threads[i], NULL);
        }
    }
    /* And it stays lost in the child's child. */
    const pid_t child = fork();
    if (child == 0) {
        take_slow_path();
        REQUIRE(load_relaxed(&h->state) == HEAP_RETIRED);
        work(6, 500);
        _exit(0);
    }
    int status;
    REQUIRE(waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_heap_with_a_held_lock_is_written_off(void **state)
{
    (void)state;
    static struct bystander b;
    bystander_start(&b);
    store_release(&b.wanted, 2);
    assert_true(WAIT_UNTIL(load_acquire(&b.step) == 2));
    assert_child_passes(child_with_lost_heap, &b);
    bystander_end(&b);
    assert_true(lock_try(&b.cache->heap.lock));
    lock_release(&b.cache->heap.lock);
}

/* ---- who survives ---- */

static bool handlers_allocate;
static void *handler_blocks[3];

static void allocate_before(void)
{
    if (handlers_allocate)
        handler_blocks[0] = api_malloc(3000);
}

static void allocate_in_parent(void)
{
    if (handlers_allocate)
        handler_blocks[1] = api_malloc(100000);
}

static void allocate_in_child(void)
{
    if (handlers_allocate)
        handler_blocks[2] = api_malloc(3000);
}

/* Like a library that was there before: linked before the library's own constructor, it registers first, so its
 * handlers run inside the library's, while the locks are held. */
__attribute__((constructor(101))) static void register_before(void)
{
    pthread_atfork(allocate_before, allocate_in_parent, allocate_in_child);
}

/* And like one that comes later. */
static void register_after(void)
{
    pthread_atfork(allocate_before, allocate_in_parent, allocate_in_child);
}

static void survive(void *argument)
{
    (void)argument;
    struct tcache *t = tcache_self();
    take_slow_path();
    REQUIRE(tcache_self() != NULL);
    REQUIRE(t == NULL || tcache_self() == t);
    REQUIRE(load_relaxed(&tcache_self()->heap.state) == HEAP_ATTACHED);
    work(7, 3000);
    if (UNDER_THREAD_SANITIZER)
        return;
    static struct bystander others[6]; /* more than there are parked heaps: none of them gets ours */
    for (unsigned i = 0; i < ARRAY_COUNT(others); i++)
        start_thread(&others[i].thread, stand_by, &others[i]);
    for (unsigned i = 0; i < ARRAY_COUNT(others); i++) {
        REQUIRE(WAIT_UNTIL(load_acquire(&others[i].step) == 1));
        REQUIRE(others[i].cache != tcache_self());
    }
    work(8, 1000);
    for (unsigned i = 0; i < ARRAY_COUNT(others); i++) {
        store_release(&others[i].wanted, 1);
        pthread_join(others[i].thread, NULL);
    }
    work(9, 1000);
}

static void *fork_from_here(void *argument)
{
    int *status = argument;
    const pid_t child = fork();
    if (child == 0) {
        survive(NULL);
        _exit(0);
    }
    if (waitpid(child, status, 0) != child)
        *status = -1;
    return NULL;
}

static void *fork_with_a_cache(void *argument)
{
    work(10, 300);
    return fork_from_here(argument);
}

static void assert_survives(void *(*body)(void *))
{
    int status = -1;
    run_threads(1, body, &status, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    work(11, 1000);
}

static void test_any_thread_may_fork(void **state)
{
    (void)state;
    handlers_allocate = false;
    assert_survives(fork_from_here); /* without a cache */
    assert_survives(fork_with_a_cache);
    assert_child_passes(survive, NULL);
}

static void test_handlers_may_allocate(void **state)
{
    (void)state;
    register_after();
    handlers_allocate = true;
    assert_survives(fork_from_here); /* gets its first cache between the handlers */
    assert_survives(fork_with_a_cache);
    assert_child_passes(survive, NULL);
    handlers_allocate = false;
    assert_true(lock_try(arena_lock()) && lock_try(meta_lock()) && lock_try(lifecycle_lock()));
    lock_release(lifecycle_lock());
    lock_release(meta_lock());
    lock_release(arena_lock());
}

/* The child has not recovered yet when a thread of its own, which has no cache, forks. */
static void child_thread_forks(void *argument)
{
    (void)argument;
    struct tcache *t = tcache_self();
    int status = -1;
    REQUIRE(load_relaxed(&upcall_fork_pending) == 1);
    run_threads(1, fork_from_here, &status, 0);
    REQUIRE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    REQUIRE(load_relaxed(&upcall_fork_pending) == 1);
    take_slow_path();
    REQUIRE(tcache_self() == t);
    REQUIRE(load_relaxed(&t->heap.state) == HEAP_ATTACHED);
    survive(NULL);
}

static void test_fork_before_recovery(void **state)
{
    (void)state;
    if (UNDER_THREAD_SANITIZER)
        skip();
    take_slow_path();
    assert_child_passes(child_thread_forks, NULL);
}

/* ---- at any instant ---- */

#define CHURNERS 3u
#define FORKS 12u

static uint32_t churners_stop;
static void *wandering[32]; /* atomic */

static void *churn(void *argument)
{
    uint64_t seed = *(uint64_t *)argument;
    while (load_relaxed(&churners_stop) == 0) {
        const uint64_t r = next_random(&seed);
        char *block = api_malloc((size_t)(r >> 16) % (r % 50 == 0 ? 100000 : 1000) + 1);
        *block = 1;
        char *old = exchange_acq_rel(&wandering[(r >> 8) % ARRAY_COUNT(wandering)], block);
        api_free(old);
    }
    return NULL;
}

static void child_of_many(void *argument)
{
    work((uintptr_t)argument + 1, 300);
    for (unsigned i = 0; i < ARRAY_COUNT(wandering); i++)
        api_free(exchange_acq_rel(&wandering[i], NULL));
    tcache_trim_self();
    for (uint32_t i = 0; i < heap_count(); i++)
        heap_age_next();
    work((uintptr_t)argument + 2, 300);
    for (uint32_t id = 1; id <= heap_count(); id++) {
        struct heap *h = heap_by_id(id);
        REQUIRE(h == &tcache_self()->heap || h == &stray_heap || h->state != HEAP_ATTACHED);
        REQUIRE(h->state == HEAP_RETIRED || lock_try(&h->lock));
        for (unsigned bin = 0; h->state != HEAP_RETIRED && bin < BIN_COUNT; bin++)
            for (uint32_t slab = h->bins[bin].list; slab != SLAB_NONE; slab = slab_at(slab)->next)
                REQUIRE(slab_is_valid(slab) && load_relaxed(&remote_at(slab)->owner) == id);
        if (h->state != HEAP_RETIRED)
            lock_release(&h->lock);
    }
}

static void test_fork_while_threads_churn(void **state)
{
    (void)state;
    uint64_t seeds[CHURNERS] = {1, 20, 300};
    pthread_t threads[CHURNERS];
    for (unsigned i = 0; i < CHURNERS; i++)
        start_thread(&threads[i], churn, &seeds[i]);
    for (uintptr_t i = 0; i < FORKS; i++) {
        assert_child_passes(child_of_many, (void *)(i * 1000));
        work(i + 1, 100);
    }
    store_relaxed(&churners_stop, 1);
    for (unsigned i = 0; i < CHURNERS; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < ARRAY_COUNT(wandering); i++)
        api_free(wandering[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_child_of_one_thread),
        cmocka_unit_test(test_children_of_children),
        cmocka_unit_test(test_other_heaps_are_parked),
        cmocka_unit_test(test_what_dead_producers_left_is_collected),
        cmocka_unit_test(test_heap_with_a_held_lock_is_written_off),
        cmocka_unit_test(test_any_thread_may_fork),
        cmocka_unit_test(test_fork_before_recovery),
        cmocka_unit_test(test_handlers_may_allocate),
        cmocka_unit_test(test_fork_while_threads_churn),
    };
    return cmocka_run_group_tests_name("fork", tests, NULL, NULL);
}
