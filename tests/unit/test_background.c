/* Runs with HAKMEM_BACKGROUND=1 and a decay of a few milliseconds, which tests/CMakeLists.txt sets. The tests stand in an
 * order: once started the thread stays. */
#include "unit.h"

#include <dirent.h>

#include "api/entry.h"
#include "base/tick.h"
#include "base/upcall.h"
#include "config/config.h"
#include "lifecycle/background.h"
#include "lifecycle/lifecycle.h"
#include "os/os.h"
#include "stats/counters.h"

static uint32_t state_now(void)
{
    return load_acquire(&upcall_background);
}

static bool read_task(char *text, size_t bytes, const char *task, const char *file)
{
    char path[300];
    snprintf(path, sizeof path, "/proc/self/task/%s/%s", task, file);
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return false;
    text[fread(text, 1, bytes - 1, f)] = '\0';
    fclose(f);
    return true;
}

/* The threads with that name; of the last one what the kernel says. */
static unsigned background_threads(char *status, size_t bytes)
{
    unsigned count = 0;
    char name[32];
    DIR *tasks = opendir("/proc/self/task");
    for (const struct dirent *task; tasks != NULL && (task = readdir(tasks)) != NULL;)
        if (read_task(name, sizeof name, task->d_name, "comm") && strcmp(name, "hakmem\n") == 0 &&
            (status == NULL || read_task(status, bytes, task->d_name, "status")))
            count++;
    closedir(tasks);
    return count;
}

static struct background_totals totals_now(void)
{
    struct background_totals t;
    background_read_totals(&t);
    return t;
}

static void test_statistics_show_it(void **state)
{
    (void)state;
    static struct snapshot s;
    snapshot_read(&s);
    assert_true(s.background_steps > 0);
    assert_true(s.background_sleeps > 0);
    assert_true(s.background_sleeps < s.background_steps);
}

/* It has had nothing to do for so long that it will not wake up by itself any more. */
static bool sleeps_again(const struct background_totals *before)
{
    return state_now() == BACKGROUND_ASLEEP && totals_now().sleeps > before->sleeps;
}

/* ---- a thread that does something and then sleeps until the test is over with it ---- */

enum { BLOCK_COUNT = 20000, BLOCK_BYTES = 200 };

struct sleeper {
    pthread_t thread;
    uint32_t phase; /* atomic; 1: it sleeps; 2: it is to end */
    bool keeps;     /* its blocks */
    struct heap *heap;
    void *blocks[BLOCK_COUNT];
};

static void *sleeper_run(void *argument)
{
    struct sleeper *s = argument;
    for (unsigned i = 0; i < BLOCK_COUNT; i++) {
        s->blocks[i] = api_malloc(BLOCK_BYTES);
        memset(s->blocks[i], 1, BLOCK_BYTES);
    }
    for (unsigned i = 0; i < BLOCK_COUNT && !s->keeps; i++)
        api_free(s->blocks[i]);
    s->heap = &tcache_self()->heap;
    store_release(&s->phase, 1);
    while (load_acquire(&s->phase) != 2)
        nanosleep(&(const struct timespec){.tv_nsec = 1000000}, NULL);
    return NULL;
}

static void sleeper_start(struct sleeper *s, bool keeps)
{
    *s = (struct sleeper){.keeps = keeps};
    start_thread(&s->thread, sleeper_run, s);
    while (load_acquire(&s->phase) != 1)
        sched_yield();
}

static void sleeper_end(struct sleeper *s)
{
    store_release(&s->phase, 2);
    pthread_join(s->thread, NULL);
}

/* Slabs without a block out that the heap still has. */
static uint32_t idle_slabs(struct heap *h)
{
    lock_acquire(&h->lock);
    const uint32_t count = h->empty_count + h->spare_count;
    lock_release(&h->lock);
    return count;
}

static uint64_t slabs_attached(struct heap *h)
{
    lock_acquire(&h->lock);
    const uint64_t count = h->slabs_attached - h->slabs_retired;
    lock_release(&h->lock);
    return count;
}

/* ---- before it is started ---- */

static void *start_background(void *unused)
{
    upcall_background_start(pthread_create);
    return unused;
}

static void test_only_the_main_thread_starts_it(void **state)
{
    (void)state;
    pthread_t thread;
    assert_true(config_get()->background);
    assert_true(config_get()->decay_ms < 100);
    start_thread(&thread, start_background, NULL);
    pthread_join(thread, NULL);
    assert_int_equal(state_now(), BACKGROUND_NONE);
}

/* As from a signal handler that interrupted malloc. */
static void test_not_inside_malloc(void **state)
{
    (void)state;
    lock_acquire(arena_lock());
    upcall_background_start(pthread_create);
    lock_release(arena_lock());
    assert_int_equal(state_now(), BACKGROUND_NONE);
    upcall_background_wake(); /* there is nobody */
    assert_int_equal(state_now(), BACKGROUND_NONE);
    assert_int_equal(background_threads(NULL, 0), 0);
}

/* ---- with it ---- */

static void test_one_thread_named_and_deaf(void **state)
{
    (void)state;
    static char status[4096];
    sigset_t mask;
    upcall_background_start(pthread_create);
    upcall_background_start(pthread_create);
    assert_int_not_equal(state_now(), BACKGROUND_NONE);
    assert_true(WAIT_UNTIL(background_threads(NULL, 0) == 1));
    assert_int_equal(background_threads(status, sizeof status), 1);
    const char *blocked = strstr(status, "\nSigBlk:");
    assert_non_null(blocked);
    const uint64_t bits = strtoull(blocked + strlen("\nSigBlk:"), NULL, 16);
    static const int signals[] = {SIGHUP, SIGINT, SIGTERM, SIGCHLD, SIGALRM, SIGPROF, SIGUSR1, SIGSEGV, 64};
    for (unsigned i = 0; i < ARRAY_COUNT(signals); i++)
        assert_true(bits >> (signals[i] - 1) & 1);
    pthread_sigmask(SIG_BLOCK, NULL, &mask); /* the starter's is as it was */
    assert_int_equal(sigismember(&mask, SIGTERM), 0);
}

static void test_takes_empty_slabs_from_a_sleeping_thread(void **state)
{
    (void)state;
    static struct sleeper s;
    sleeper_start(&s, false);
    assert_true(WAIT_UNTIL(idle_slabs(s.heap) == 0));
    assert_true(WAIT_UNTIL(arena_free_resident_bytes() == 0));
    sleeper_end(&s);
}

static void test_sleeps_and_is_woken_once(void **state)
{
    (void)state;
    struct background_totals before = totals_now();
    api_free(api_malloc(MEDIUM_MAX_BYTES + 1));
    assert_true(WAIT_UNTIL(sleeps_again(&before)));
    before = totals_now();
    nanosleep(&(const struct timespec){.tv_nsec = 500000000}, NULL);
    assert_int_equal(totals_now().steps, before.steps);
    void *block = api_malloc(MEDIUM_MAX_BYTES + 1);
    assert_int_equal(state_now(), BACKGROUND_ASLEEP);
    memset(block, 1, MEDIUM_MAX_BYTES + 1);
    api_free(block);
    assert_int_equal(state_now(), BACKGROUND_AWAKE);
    assert_true(WAIT_UNTIL(arena_free_resident_bytes() == 0));
    assert_true(WAIT_UNTIL(sleeps_again(&before)));
}

/* The thread never comes by again; what others free of its blocks is collected all the same. */
static void test_remote_frees_to_a_sleeping_thread_wake_it(void **state)
{
    (void)state;
    static struct sleeper s;
    struct background_totals before = totals_now();
    sleeper_start(&s, true);
    api_free(api_malloc(MEDIUM_MAX_BYTES + 1));
    assert_true(WAIT_UNTIL(sleeps_again(&before)));
    const uint64_t slabs = slabs_attached(s.heap);
    for (unsigned i = 0; i < BLOCK_COUNT; i++)
        api_free(s.blocks[i]);
    tcache_trim_self(); /* delivers the last */
    assert_true(WAIT_UNTIL(slabs_attached(s.heap) < slabs / 2));
    assert_true(WAIT_UNTIL(arena_free_resident_bytes() == 0));
    sleeper_end(&s);
}

/* ---- fork, and the end ---- */

static void *end_at_once(void *unused)
{
    return unused;
}

static void child_life(void *depth)
{
    REQUIRE(state_now() == BACKGROUND_NONE);
    REQUIRE(background_threads(NULL, 0) == 0);
    REQUIRE(lock_try(tick_lock()));
    lock_release(tick_lock());
    for (uint32_t id = 1; id <= heap_count(); id++)
        REQUIRE(load_relaxed(&heap_by_id(id)->state) != HEAP_RETIRED); /* it held no heap's lock */
    api_free(api_malloc(100));
#ifndef UNDER_THREAD_SANITIZER
    pthread_t thread;
    start_thread(&thread, end_at_once, NULL);
    pthread_join(thread, NULL);
    upcall_background_start(pthread_create);
    REQUIRE(WAIT_UNTIL(background_threads(NULL, 0) == 1));
    if (depth != NULL)
        assert_child_passes(child_life, NULL);
#else
    (void)depth;
    (void)end_at_once;
#endif
}

static void test_a_child_starts_its_own(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        api_free(api_malloc(MEDIUM_MAX_BYTES + 1)); /* keeps it awake */
        assert_child_passes(child_life, &i);
    }
    assert_int_not_equal(state_now(), BACKGROUND_NONE);
}

static void test_it_ends_with_the_main_thread(void **state)
{
    (void)state;
    background_thread_exits();
    assert_int_equal(state_now(), BACKGROUND_STOPPED);
    assert_true(WAIT_UNTIL(background_threads(NULL, 0) == 0));
    upcall_background_start(pthread_create);
    assert_int_equal(state_now(), BACKGROUND_STOPPED);
    api_free(api_malloc(MEDIUM_MAX_BYTES + 1));
    assert_int_equal(state_now(), BACKGROUND_STOPPED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_the_main_thread_starts_it),
        cmocka_unit_test(test_not_inside_malloc),
        cmocka_unit_test(test_one_thread_named_and_deaf),
        cmocka_unit_test(test_takes_empty_slabs_from_a_sleeping_thread),
        cmocka_unit_test(test_sleeps_and_is_woken_once),
        cmocka_unit_test(test_remote_frees_to_a_sleeping_thread_wake_it),
        cmocka_unit_test(test_statistics_show_it),
        cmocka_unit_test(test_a_child_starts_its_own),
        cmocka_unit_test(test_it_ends_with_the_main_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
