#include "unit.h"

#include "base/fmt.h"
#include "caches.h"
#include "large/huge.h"
#include "large/large.h"
#include "lifecycle/lifecycle.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static void *take(size_t bytes)
{
    return bytes <= TINY_MAX_BYTES ? hot_malloc(bytes, tcache_malloc_slow) : tcache_malloc_slow(bytes);
}

static void give(void *block)
{
    hot_free(block, tcache_free_slow, tcache_free_foreign, tcache_free_full);
}

static void *zero_based(size_t bytes)
{
    return memset(take(bytes), 0, bytes);
}

static void test_every_size(void **state)
{
    (void)state;
    for (size_t bytes = 0; bytes <= 70000; bytes += bytes < 3000 ? 1 : 97) {
        char *block = take(bytes);
        assert_non_null(block);
        assert_int_equal((uintptr_t)block % 16, 0);
        const size_t usable = tcache_usable_bytes(block);
        if (bytes <= MEDIUM_MAX_BYTES)
            assert_int_equal(usable, bin_info(bin_of_size(bytes))->block_bytes);
        else
            assert_true(usable >= bytes);
        memset(block, 1, usable);
        give(block);
    }
    assert_null(take(SIZE_MAX));
    assert_null(take(PTRDIFF_MAX));
    give(NULL);
}

static void test_hot_blocks_come_back_first(void **state)
{
    (void)state;
    void *a = take(200);
    give(a);
    assert_ptr_equal(take(200), a);
    give(a);
    a = tcache_malloc_slow(9000);
    give(a);
    assert_ptr_equal(hot_pop_medium(9000, bin_medium_offset), a);
    assert_int_equal(tcache_usable_bytes(a), 10240);
    give(a);
}

static void test_aligned(void **state)
{
    (void)state;
    for (size_t alignment = 1; alignment <= 1024 * MIB; alignment *= 2) {
        const size_t sizes[] = {0, 1, 24, 700, 5000, 33000};
        for (unsigned i = 0; i < ARRAY_COUNT(sizes); i++) {
            bool zeroed;
            char *a = tcache_malloc_aligned(sizes[i], alignment, &zeroed);
            char *b = tcache_malloc_aligned(sizes[i], alignment, &zeroed);
            assert_non_null(a);
            assert_non_null(b);
            assert_int_equal((uintptr_t)a % alignment, 0);
            assert_int_equal((uintptr_t)b % alignment, 0);
            assert_true(tcache_usable_bytes(a) >= sizes[i]);
            if (zeroed)
                for (size_t k = 0; k < sizes[i]; k++)
                    assert_int_equal(b[k], 0);
            memset(a, 1, sizes[i]);
            memset(b, 1, sizes[i]);
            give(a);
            give(b);
        }
    }
    bool zeroed;
    assert_null(tcache_malloc_aligned(SIZE_MAX, 4096, &zeroed));
    assert_null(tcache_malloc_aligned((size_t)1 << 62, 16, &zeroed));
}

static void test_resize_in_place(void **state)
{
    (void)state;
    void *a = take(300); /* a block of 320 */
    assert_ptr_equal(tcache_resize_in_place(a, 320), a);
    assert_ptr_equal(tcache_resize_in_place(a, 241), a);
    assert_null(tcache_resize_in_place(a, 321));
    assert_null(tcache_resize_in_place(a, 240)); /* a quarter less: worth a copy */
    give(a);
    a = take(64);
    assert_ptr_equal(tcache_resize_in_place(a, 1), a); /* a few bytes are not */
    give(a);
    a = take(100 * KIB);
    assert_ptr_equal(tcache_resize_in_place(a, 3 * MIB), a);
    assert_true(tcache_usable_bytes(a) >= 3 * MIB);
    assert_ptr_equal(tcache_resize_in_place(a, 2 * MIB), a);
    assert_ptr_equal(tcache_resize_in_place(a, 100 * KIB), a);
    assert_true(tcache_usable_bytes(a) < 2 * MIB);
    assert_null(tcache_resize_in_place(a, 1000));
    assert_null(tcache_resize_in_place(a, LARGE_MAX_BYTES + 1));
    give(a);
    char *huge = take(100 * MIB);
    huge[100 * MIB - 1] = 4;
    huge = tcache_resize_in_place(huge, 250 * MIB);
    assert_non_null(huge);
    assert_int_equal(huge[100 * MIB - 1], 4);
    assert_true(tcache_usable_bytes(huge) >= 250 * MIB);
    give(huge);
}

/* ---- blocks of another heap ---- */

static struct tcache *other_cache;

static void *take_elsewhere(void *argument)
{
    void **blocks = argument;
    other_cache = tcache_self_or_attach();
    for (unsigned i = 0; i < 40; i++)
        blocks[i] = take(100);
    blocks[40] = take(9000);
    return NULL;
}

static void test_remote_blocks_go_to_the_outbox(void **state)
{
    (void)state;
    void *blocks[41];
    pthread_t thread;
    start_thread(&thread, take_elsewhere, blocks);
    pthread_join(thread, NULL);
    struct tcache *t = tcache_self_or_attach();
    assert_true(other_cache != t);
    tcache_flush_all(t);
    t->slow_left = TICK_SLOW_OPERATIONS; /* no tick comes in between, however slow this machine is */
    const uint64_t delivered = t->outbox.delivered_blocks;
    for (unsigned i = 0; i < 40; i++) {
        assert_int_equal(tcache_usable_bytes(blocks[i]), 112);
        give(blocks[i]);
    }
    assert_int_equal(t->outbox.held_bytes, 40 * 112);
    assert_int_equal(t->outbox.delivered_blocks, delivered);
    give(blocks[40]);
    assert_int_equal(t->outbox.delivered_blocks, delivered + 1); /* 8 KiB and more: at once */
    tcache_trim_self();
    assert_int_equal(t->outbox.held_bytes, 0);
    struct heap *h = &other_cache->heap;
    lock_acquire(&h->lock);
    heap_drain(h);
    assert_int_equal(h->bins[6].outstanding, 0);
    assert_int_equal(h->bins[32].outstanding, 0);
    lock_release(&h->lock);
}

static void test_slow_operations_are_counted(void **state)
{
    (void)state;
    struct tcache *t = tcache_self_or_attach();
    t->slow_left = TICK_SLOW_OPERATIONS;
    void *blocks[4 * TICK_SLOW_OPERATIONS];
    const unsigned bin = bin_of_size(30000);
    blocks[0] = take(30000);
    assert_true(t->slow_left < TICK_SLOW_OPERATIONS);
    for (unsigned i = 1; i < ARRAY_COUNT(blocks); i++)
        blocks[i] = take(30000);
    assert_in_range(t->slow_left, 1, TICK_SLOW_OPERATIONS);
    for (unsigned i = 0; i < ARRAY_COUNT(blocks); i++)
        give(blocks[i]);
    assert_true(cache_is_valid(t));
    assert_true(magazine_count(t, bin) <= magazine_ceiling(t, bin));
    tcache_trim_self();
    assert_int_equal(t->heap.bins[bin].outstanding, 0);
}

static void test_trim_gives_everything_back(void **state)
{
    (void)state;
    struct tcache *t = tcache_self_or_attach();
    for (size_t bytes = 1; bytes < 300000; bytes += 1 + bytes / 3)
        give(zero_based(bytes));
    tcache_trim_self();
    for (unsigned bin = 0; bin < BIN_COUNT; bin++) {
        assert_int_equal(magazine_count(t, bin), 0);
        assert_int_equal(t->heap.bins[bin].outstanding, 0);
        assert_int_equal(t->heap.bins[bin].slab_count, 0);
    }
    assert_int_equal(t->heap.spare_count, 0);
}

/* ---- the stray heap ---- */

static void test_without_a_cache(void **state)
{
    (void)state;
    const int64_t before = stray_heap.bins[6].outstanding;
    char *block = stray_malloc(6);
    assert_non_null(block);
    memset(block, 1, 112);
    assert_int_equal(*window_word((uint32_t)window_slab_index(block)) >> MAP_OWNER_SHIFT, stray_heap.id);
    assert_int_equal(stray_heap.bins[6].outstanding, before + 1);
    assert_int_equal(tcache_usable_bytes(block), 112);
    give(block);
    tcache_trim_self();
    lock_acquire(&stray_heap.lock);
    heap_drain(&stray_heap);
    lock_release(&stray_heap.lock);
    assert_int_equal(stray_heap.bins[6].outstanding, before);
}

/* ---- memory is out ---- */

static void fall_back(void *argument)
{
    (void)argument;
    window.superslab_max = window.first_superslab;
    uint32_t slab;
    bool zeroed;
    while ((slab = arena_alloc(1, 1, NULL, &zeroed)) != SLAB_NONE)
        ;
    const size_t sizes[] = {1, 24, 1000, 3000, 20000, 32768, 40000, 1 << 20};
    for (unsigned i = 0; i < ARRAY_COUNT(sizes); i++) {
        static char *blocks[5000];
        unsigned count = 0;
        do { /* until the heap's own slabs are used up and a mapping of its own answers */
            REQUIRE(count < ARRAY_COUNT(blocks));
            blocks[count] = take(sizes[i]);
            REQUIRE(blocks[count] != NULL);
            REQUIRE(tcache_usable_bytes(blocks[count]) >= sizes[i]);
            memset(blocks[count], 1, sizes[i]);
        } while (huge_bytes(blocks[count++]) == 0);
        char *aligned = tcache_malloc_aligned(sizes[i], 4096, &zeroed);
        REQUIRE(aligned != NULL && (uintptr_t)aligned % 4096 == 0);
        give(aligned);
        while (count > 0)
            give(blocks[--count]);
    }
}

static void test_window_full(void **state)
{
    (void)state;
    assert_child_passes(fall_back, NULL);
}

static void run_out(void *argument)
{
    (void)argument;
    struct rlimit limit;
    REQUIRE(getrlimit(RLIMIT_AS, &limit) == 0);
    const struct rlimit none = {1 << 20, limit.rlim_max};
    void *kept = take(5000);
    struct arena_totals totals;
    arena_read_totals(&totals);
    REQUIRE(setrlimit(RLIMIT_AS, &none) == 0);
    unsigned count = 0;
    while (take(5000) != NULL) /* what is mapped may still be given out */
        count++;
    REQUIRE(count <= totals.mapped_bytes / 5000);
    REQUIRE(take(100 * MIB) == NULL);
    give(kept);
    REQUIRE(take(5000) == kept);
    REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0);
    REQUIRE(take(5000) != NULL);
    REQUIRE(take(100 * MIB) != NULL);
}

static void test_memory_is_out(void **state)
{
    (void)state;
    assert_child_passes(run_out, NULL);
}

/* ---- misuse ---- */

static void free_again(void *block)
{
    give(block);
    give(block);
}

static void free_it(void *block)
{
    give(block);
}

static void size_it(void *block)
{
    tcache_usable_bytes(block);
}

static void resize_it(void *block)
{
    tcache_resize_in_place(block, 10);
}

static void free_later(void *block)
{
    void *between = take(100);
    give(block);
    give(between);
    give(block);
    tcache_trim_self();
}

static void free_interior(void *block)
{
    give(block);
    tcache_trim_self();
}

static void test_misuse_is_fatal(void **state)
{
    (void)state;
    static int not_ours;
    char *block = take(100);
    assert_aborts(free_again, block, "double free", block);
    assert_aborts(free_later, block, "double free", block);
    assert_aborts(free_interior, block + 16, "free of a pointer into the middle of a block", block + 16);
    assert_aborts(size_it, block + 16, "size of a pointer into the middle of a block", block + 16);
    assert_aborts(resize_it, block + 16, "realloc of a pointer into the middle of a block", block + 16);
    assert_aborts(size_it, &not_ours, "size of a pointer that malloc did not return", &not_ours);
    assert_aborts(resize_it, &not_ours, "realloc of a pointer that malloc did not return", &not_ours);
    assert_aborts(free_it, &not_ours, "free of a pointer that malloc did not return, or double free of a huge block",
                  &not_ours);
    give(block);
}

static void *free_interior_in_thread(void *argument)
{
    give(argument);
    return NULL;
}

static void free_interior_elsewhere(void *block)
{
    pthread_t thread;
    start_thread(&thread, free_interior_in_thread, block);
    pthread_join(thread, NULL);
}

static void test_remote_misuse_is_fatal(void **state)
{
    (void)state;
    char *block = take(100);
    assert_aborts(free_interior_elsewhere, block + 16, "free of a pointer into the middle of a block", block + 16);
    give(block);
}

/* ---- HAKMEM_DEBUG_LEVEL=1 ---- */

static void free_far_apart(void *unused)
{
    (void)unused;
    char *block = take(100);
    void *between = take(100);
    give(block);
    give(between);
    REQUIRE(tcache_self()->heap.bins[6].outstanding == 0); /* at once: nothing waits in a magazine */
    between = take(2000);
    fmt_message("now %p", (void *)block);
    give(block);
}

static void free_interior_checked(void *unused)
{
    (void)unused;
    char *block = take(100);
    fmt_message("now %p", (void *)(block + 16));
    give(block + 16);
}

/* In a child, as if the variable were set: the thread starts anew with a checked cache. */
static void in_checked_cache(void *body)
{
    static struct tcache checked;
    tcache_leave();
    REQUIRE(tcache_init(&checked));
    checked.checked = true;
    for (unsigned bin = 0; bin < BIN_COUNT; bin++)
        checked.hot.bins[bin].end = checked.bins[bin].array;
    tcache_enter(&checked);
    void *blocks[300];
    for (unsigned i = 0; i < 300; i++)
        memset(blocks[i] = take(i * 20 + 1), 1, i * 20 + 1);
    for (unsigned i = 0; i < 300; i++)
        give(blocks[i]);
    for (unsigned bin = 0; bin < BIN_COUNT; bin++)
        REQUIRE(checked.heap.bins[bin].outstanding == 0 && magazine_count(&checked, bin) == 0);
    if (body != NULL)
        ((void (*)(void *))body)(NULL);
}

static void assert_checked_abort(void (*body)(void *), const char *message)
{
    const struct abort_case c = {in_checked_cache, (void *)body};
    static struct captured result;
    capture_child(&result, abort_case_run, &c);
    unsigned long expected = 0, found = 1;
    char format[128];
    snprintf(format, sizeof format, "hakmem: now 0x%%lx\nhakmem: %s: 0x%%lx\n", message);
    assert_int_equal(sscanf(result.text, format, &expected, &found), 2);
    assert_int_equal(found, expected);
    assert_true(WIFSIGNALED(result.status));
    assert_int_equal(WTERMSIG(result.status), SIGABRT);
}

static void test_checked(void **state)
{
    (void)state;
    assert_child_passes(in_checked_cache, NULL);
    assert_checked_abort(free_far_apart, "double free");
    assert_checked_abort(free_interior_checked, "free of a pointer into the middle of a block");
}

/* ---- many sizes, several threads, contents checked ---- */

#define THREADS 4u
#define HELD 64u

static uint32_t damage;
static uint64_t *exchange_box[HELD]; /* atomic: blocks that wander from thread to thread */

static void *churn(void *argument)
{
    uint64_t seed = *(uint64_t *)argument;
    for (unsigned i = 0; i < 6000; i++) {
        const uint64_t r = next_random(&seed);
        const size_t bytes = 16 + (size_t)(r >> 16) % (r % 64 == 0 ? 100000 : r % 8 == 0 ? 9000 : 600);
        uint64_t *block = take(bytes);
        if (block == NULL || tcache_usable_bytes(block) < bytes) {
            fetch_add_relaxed(&damage, 1);
            return NULL;
        }
        block[0] = (uintptr_t)block;
        block[1] = bytes;
        *((char *)block + bytes - 1) = (char)(bytes <= 16 ? block[1] >> 56 : 1);
        uint64_t *old = exchange_acq_rel(&exchange_box[(r >> 8) % HELD], block);
        if (old == NULL)
            continue;
        if (old[0] != (uintptr_t)old || tcache_usable_bytes(old) < old[1])
            fetch_add_relaxed(&damage, 1);
        give(old);
    }
    return NULL;
}

static void test_blocks_wander(void **state)
{
    (void)state;
    uint64_t seeds[THREADS] = {1, 20, 300, 4000};
    run_threads(THREADS, churn, seeds, sizeof seeds[0]);
    assert_int_equal(damage, 0);
    for (unsigned i = 0; i < HELD; i++)
        give(exchange_box[i]);
}

static int start(void **state)
{
    (void)state;
    return process_start() ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_size),
        cmocka_unit_test(test_hot_blocks_come_back_first),
        cmocka_unit_test(test_aligned),
        cmocka_unit_test(test_resize_in_place),
        cmocka_unit_test(test_remote_blocks_go_to_the_outbox),
        cmocka_unit_test(test_slow_operations_are_counted),
        cmocka_unit_test(test_trim_gives_everything_back),
        cmocka_unit_test(test_without_a_cache),
        cmocka_unit_test(test_window_full),
        cmocka_unit_test(test_memory_is_out),
        cmocka_unit_test(test_misuse_is_fatal),
        cmocka_unit_test(test_remote_misuse_is_fatal),
        cmocka_unit_test(test_checked),
        cmocka_unit_test(test_blocks_wander),
    };
    return cmocka_run_group_tests_name("tcache", tests, start, NULL);
}
