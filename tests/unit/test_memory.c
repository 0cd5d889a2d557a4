/* Memory learning in a real arena, with a kernel of the test's own. Windows are a hundred blocks, and as many end at a
 * tick as have been moved. */
#include "heaps.h"

#include "arena/hugepage.h"
#include "config/policy.h"
#include "fake_kernel.h"
#include "learn/mem_learner.h"
#include "learn/memory.h"
#include "os/os.h"

#define WINDOW_BLOCKS 100u
#define WINDOW_MS 50u

static const unsigned bin = 20;
static void *blocks[1 << 18];
static unsigned held;
static struct heap *heap;

static void start(bool advanced, enum learn_mode learn_mode)
{
    static struct config config;
    config = (struct config){
        .mem_learn = true,
        .mem_learn_window_ops = WINDOW_BLOCKS,
        .mem_learn_threshold_ppm = 800000,
        .learn_advanced = advanced,
        .learn_mode = learn_mode,
        .learn_cooldown_windows = 4,
        .decay_ms = 1000,
    };
    memory_start(&config);
}

static struct memory_totals totals_now(void)
{
    struct memory_totals totals;
    memory_read_totals(&totals);
    return totals;
}

static enum superslab_pages pages_of(uint32_t superslab)
{
    struct superslab_usage usage;
    assert_true(arena_superslab_usage(superslab, &usage));
    return usage.pages;
}

/* Some windows pass in which the heap stays what it is. */
static void pass_windows(unsigned windows)
{
    void *few[WINDOW_BLOCKS / 2];
    while (windows-- != 0) {
        heap_flush(heap, bin, few, take_blocks(heap, bin, few, ARRAY_COUNT(few)));
        heap_report_moved(heap);
        clock_ms += WINDOW_MS;
        memory_tick(clock_ms);
    }
}

static void fill(unsigned superslabs)
{
    const unsigned more = take_slabs(heap, bin, blocks + held, superslabs * SUPERSLAB_SLABS);
    for (unsigned i = held; i < held + more; i++)
        memset(blocks[i], 1, bin_info(bin)->block_bytes);
    held += more;
    heap_report_moved(heap);
}

static void empty(void)
{
    while (held != 0) {
        const unsigned count = held < 64 ? held : 64;
        heap_flush(heap, bin, blocks + (held -= count), count);
    }
    for (unsigned i = 0; i < 4; i++) { /* the learner sees that it is over */
        pass_windows(1);
        age(heap, true);
        arena_purge_beyond(0);
    }
}

static uint32_t superslab_number(unsigned i)
{
    return window.first_superslab + i;
}

static void test_full_superslabs_become_huge(void **state)
{
    (void)state;
    start(false, LEARN_MODE_APPLY);
    fill(4);
    pass_windows(MEM_DENSE_MS / WINDOW_MS - 1); /* enough of them, but no second: it may be over soon */
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(pages_of(superslab_number(i)), SUPERSLAB_SMALL);
    pass_windows(20);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(pages_of(superslab_number(i)), os_page_bytes() == 4096 ? SUPERSLAB_HUGE : SUPERSLAB_SMALL);
    assert_true(totals_now().windows >= 40);
    /* Then most of it is freed, here and there. */
    unsigned kept = 0;
    for (unsigned i = 0; i < held; i++) {
        if (i % 16 == 0)
            blocks[kept++] = blocks[i];
        else
            heap_flush(heap, bin, &blocks[i], 1);
    }
    held = kept;
    pass_windows(200);
    for (unsigned i = 0; i < 4; i++)
        assert_int_not_equal(pages_of(superslab_number(i)), SUPERSLAB_HUGE);
    assert_int_equal(load_relaxed(&policy_live.huge_birth), 0);
}

/* Blocks are out, but the pages were never touched. */
static void test_untouched_memory_stays_small(void **state)
{
    (void)state;
    bool zeroed;
    const struct memory_totals before = totals_now();
    start(false, LEARN_MODE_APPLY);
    const uint32_t slab = arena_alloc(8 * SUPERSLAB_SLABS, 1, NULL, &zeroed);
    store_release(window_word(slab), MAP_LARGE + 8 * SUPERSLAB_SLABS);
    pass_windows(60);
    assert_int_equal(totals_now().made_huge, before.made_huge);
    store_release(window_word(slab), 0);
    arena_free(slab, 8 * SUPERSLAB_SLABS);
}

/* HAKMEM_SUPERSLAB_REUSE=0: memory is not to be held because it may be wanted. */
static void test_who_keeps_nothing_predicts_nothing(void **state)
{
    (void)state;
    const uint32_t usual = load_relaxed(&policy_live.retained_superslabs);
    store_relaxed(&policy_live.retained_superslabs, 1);
    start(false, LEARN_MODE_APPLY);
    for (unsigned i = 0; i < 24; i++) {
        fill(1);
        pass_windows(1);
        assert_int_equal(load_relaxed(&policy_live.huge_birth), 0);
    }
    store_relaxed(&policy_live.retained_superslabs, usual);
}

static void test_growth_is_met_in_advance(void **state)
{
    (void)state;
    if (os_page_bytes() != 4096)
        skip();
    start(false, LEARN_MODE_APPLY);
    for (unsigned i = 0; i < 24; i++) {
        fill(1);
        pass_windows(1);
    }
    assert_true(load_relaxed(&policy_live.huge_birth) != 0);
    fill(1);
    const uint32_t born = (uint32_t)window_slab_index(blocks[held - 1]) / SUPERSLAB_SLABS;
    assert_int_equal(pages_of(born), SUPERSLAB_HUGE);
    assert_true(arena_superslab_is_unproven(born));
    pass_windows(2);
    assert_false(arena_superslab_is_unproven(born)); /* it has been seen to be full */
}

/* Where half of the heap was born huge and has not filled up, no more of it is. */
static void test_predictions_are_bounded(void **state)
{
    (void)state;
    if (os_page_bytes() != 4096)
        skip();
    start(false, LEARN_MODE_APPLY);
    for (unsigned i = 0; i < 24; i++) {
        fill(1);
        pass_windows(1);
    }
    uint32_t slabs[16];
    unsigned huge = 0;
    const uint32_t open = load_relaxed(&policy_live.huge_birth); /* until somebody looks again */
    assert_in_range(open, 4, ARRAY_COUNT(slabs) - 1);
    for (unsigned i = 0; i < ARRAY_COUNT(slabs); i++) {
        bool zeroed;
        slabs[i] = arena_alloc(SUPERSLAB_SLABS, 1, NULL, &zeroed); /* claimed, and nobody's block in it */
        huge += pages_of(slabs[i] / SUPERSLAB_SLABS) == SUPERSLAB_HUGE;
    }
    assert_in_range(huge, 1, open);
    for (unsigned i = 0; i < ARRAY_COUNT(slabs); i++)
        arena_free(slabs[i], SUPERSLAB_SLABS);
}

/* What many threads have begun may never fill up; a few can leave no more unfilled than the heap may have in vain. */
static void test_who_has_begun_little_may_have_much_open(void **state)
{
    (void)state;
    const uint64_t begun_bytes = (uint64_t)100 * MEM_SUPERSLAB_BYTES;
    assert_int_equal(mem_open_births(16, begun_bytes), 4);
    assert_int_equal(mem_open_births(799, begun_bytes), 99);
    assert_int_equal(mem_open_births(800, begun_bytes), 400);
    assert_int_equal(mem_open_births(16, (uint64_t)3 * MEM_SUPERSLAB_BYTES), 8);
}

static void test_observe_changes_nothing(void **state)
{
    (void)state;
    const struct memory_totals before = totals_now();
    start(true, LEARN_MODE_OBSERVE);
    for (unsigned i = 0; i < 24; i++) {
        fill(1);
        pass_windows(3);
    }
    assert_true(totals_now().windows > before.windows);
    assert_int_equal(totals_now().made_huge, before.made_huge);
    assert_int_equal(load_relaxed(&policy_live.huge_birth), 0);
    assert_int_equal(load_relaxed(&policy_live.steer_to_full), 0);
    assert_int_equal(load_relaxed(&policy_live.decay_ms), 1000);
}

static void test_refused_by_the_kernel(void **state)
{
    (void)state;
    const struct memory_totals before = totals_now();
    start(false, LEARN_MODE_APPLY);
    kernel_refuses = true;
    fill(4);
    pass_windows(100);
    kernel_refuses = false;
    assert_int_equal(totals_now().made_huge, before.made_huge);
    pass_windows(400);
    if (os_page_bytes() == 4096)
        assert_true(totals_now().made_huge - before.made_huge >= 3); /* asked for again; a fourth may be shared with others */
}

/* Few slabs of a SuperSlab in use, for long: new ones are not looked for there. */
static void test_sparse_superslabs_are_passed_over(void **state)
{
    (void)state;
    start(false, LEARN_MODE_APPLY);
    fill(6);
    const uint32_t first = superslab_number(0);
    unsigned kept = 0;
    for (unsigned i = 0; i < held; i++) {
        const uint32_t slab = (uint32_t)window_slab_index(blocks[i]);
        if (slab / SUPERSLAB_SLABS > first + 2 || slab % SUPERSLAB_SLABS == 0)
            blocks[kept++] = blocks[i];
        else
            heap_flush(heap, bin, &blocks[i], 1);
    }
    held = kept;
    age(heap, true);
    pass_windows(30);
    unsigned draining = 0;
    for (unsigned i = 0; i < 6; i++)
        draining += superslab_table[first + i].draining;
    assert_in_range(draining, 1, 3);
    assert_int_equal(superslab_table[first + 4].draining, 0);
}

/* In the delay that was learned memory comes back, so it is lengthened. */
static void test_the_delay_follows_regret(void **state)
{
    (void)state;
    start(true, LEARN_MODE_APPLY);
    pass_windows(2);
    for (unsigned i = 0; i < 200 && load_relaxed(&policy_live.decay_ms) == 1000; i++) {
        superslab_note_decayed(&superslab_table[window.first_superslab], 32);
        superslab_note_clean_claim(&superslab_table[window.first_superslab], 32);
        clock_ms += 1000;
        pass_windows(1);
    }
    assert_int_equal(load_relaxed(&policy_live.decay_ms), 2000);
}

/* Whoever comes second goes on, and after a fork the first never comes back. */
static void test_one_at_a_time(void **state)
{
    (void)state;
    start(false, LEARN_MODE_APPLY);
    fill(1);
    pass_windows(1);
    const uint64_t windows = totals_now().windows;
    heap_report_moved(heap);
    pass_windows(1);
    assert_int_equal(totals_now().windows, windows + 1);
    memory_forget_worker();
    pass_windows(1);
    assert_int_equal(totals_now().windows, windows + 2);
}

static void *tick_on(void *argument)
{
    uint64_t now_ms = 1 << 30;
    struct heap *own = argument;
    void *few[WINDOW_BLOCKS];
    for (unsigned i = 0; i < 3000; i++) {
        heap_flush(own, bin, few, take_blocks(own, bin, few, ARRAY_COUNT(few)));
        heap_report_moved(own);
        memory_tick(now_ms += 10);
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    start(true, LEARN_MODE_APPLY);
    fill(20);
    pthread_t threads[3];
    const uint64_t windows = totals_now().windows;
    for (unsigned i = 0; i < 3; i++)
        start_thread(&threads[i], tick_on, new_heap());
    for (unsigned i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    assert_true(totals_now().windows > windows + 3000);
}

static int set_up(void **state)
{
    (void)state;
    mode = OS_HUGE_MADVISE;
    kernel_refuses = false;
    clock_ms += 10 * HUGEPAGE_BROKEN_MS;
    store_relaxed(&policy_live.thp, THP_DEFAULT);
    store_relaxed(&policy_live.decay_ms, 1000);
    store_relaxed(&policy_live.decay_floor_bytes, 0);
    store_relaxed(&policy_live.decay_rate_bytes, 0);
    store_relaxed(&policy_live.page_decay_ms, PAGE_DECAY_NEVER);
    store_relaxed(&policy_live.retained_superslabs, RETAIN_ALL_SUPERSLABS);
    store_relaxed(&policy_live.huge_birth, 0);
    heap = new_heap();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    empty();
    store_relaxed(&policy_live.huge_birth, 0);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_full_superslabs_become_huge, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_untouched_memory_stays_small, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_who_keeps_nothing_predicts_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_growth_is_met_in_advance, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_predictions_are_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_who_has_begun_little_may_have_much_open, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_observe_changes_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refused_by_the_kernel, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sparse_superslabs_are_passed_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_delay_follows_regret, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_one_at_a_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_threads, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
