#define _GNU_SOURCE
#include "unit.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "os/os.h"

static size_t page;

static int start(void **state)
{
    (void)state;
    os_start();
    page = os_page_bytes();
    return 0;
}

static bool all_bytes_are(const volatile unsigned char *at, size_t bytes, unsigned char value)
{
    for (size_t i = 0; i < bytes; i++)
        if (at[i] != value)
            return false;
    return true;
}

/* Addresses that nothing is mapped at, in a range that the kernel just gave out. */
static uintptr_t vacant(size_t bytes)
{
    void *p = os_map(bytes, page);
    assert_non_null(p);
    assert_true(os_unmap(p, bytes));
    return (uintptr_t)p;
}

static void test_facts(void **state)
{
    (void)state;
    assert_int_equal(page, sysconf(_SC_PAGESIZE));
    assert_in_range(os_address_bits(), 32, 47);
    int here;
    if ((uintptr_t)&here >> 47 == 0)
        assert_true((uintptr_t)&here >> os_address_bits() == 0);
    assert_int_equal(os_process_id(), getpid());
    assert_false(os_is_secure());
    setenv("HAKMEM_TEST_OS", "here", 1);
    bool found = false;
    for (char *const *e = os_environment(); *e != NULL; e++)
        found |= strcmp(*e, "HAKMEM_TEST_OS=here") == 0;
    unsetenv("HAKMEM_TEST_OS");
    assert_true(found);
}

static void test_clock_and_random(void **state)
{
    (void)state;
    const uint64_t before = os_clock_ms();
    nanosleep(&(const struct timespec){.tv_nsec = 20000000}, NULL);
    const uint64_t after = os_clock_ms();
    assert_in_range(after - before, 8, 5000); /* the coarse clock steps by up to 10 ms */
    uint64_t any = 0;
    const uint64_t one = os_random();
    for (unsigned i = 0; i < 8; i++)
        any |= os_random() ^ one;
    assert_true(any != 0);
}

static void test_map_at_vacant(void **state)
{
    (void)state;
    const uintptr_t want = vacant(4 * page);
    errno = EDOM;
    assert_int_equal(os_map_at(want, 4 * page), OS_MAP_OK);
    assert_int_equal(errno, EDOM);
    assert_true(all_bytes_are((unsigned char *)want, 4 * page, 0));
    memset((void *)want, 7, 4 * page);
    assert_true(os_unmap((void *)want, 4 * page));
}

static void test_map_at_occupied_leaves_alone(void **state)
{
    (void)state;
    unsigned char *mine = os_map(4 * page, page);
    memset(mine, 7, 4 * page);
    errno = EDOM;
    assert_int_equal(os_map_at((uintptr_t)mine, 4 * page), OS_MAP_OCCUPIED);
    assert_int_equal(os_map_at((uintptr_t)mine + page, page), OS_MAP_OCCUPIED);
    assert_true(os_unmap(mine, page));
    assert_int_equal(os_map_at((uintptr_t)mine, 2 * page), OS_MAP_OCCUPIED); /* its second page is */
    assert_int_equal(errno, EDOM);
    assert_true(all_bytes_are(mine + page, 3 * page, 7));
    assert_int_equal(os_map_at((uintptr_t)mine, page), OS_MAP_OK); /* and nothing of the failed try stayed */
    assert_true(all_bytes_are(mine, page, 0));
    assert_true(os_unmap(mine, 4 * page));
}

static void test_map_at_impossible(void **state)
{
    (void)state;
    errno = EDOM;
    assert_int_equal(os_map_at((uintptr_t)1 << 62, page), OS_MAP_NO_MEMORY);
    assert_null(os_map((size_t)1 << 62, page));
    assert_null(os_map((size_t)1 << 62, (size_t)1 << 62));
    assert_null(os_map(SIZE_MAX & ~(page - 1), 2 * page));
    assert_int_equal(errno, EDOM);
}

static void test_map_aligned(void **state)
{
    (void)state;
    for (unsigned shift = 0; shift <= 30; shift += 3) {
        const size_t alignment = (size_t)1 << shift;
        unsigned char *one = os_map(3 * page, alignment);
        unsigned char *two = os_map(3 * page, alignment);
        assert_non_null(one);
        assert_non_null(two);
        assert_int_equal((uintptr_t)one & (alignment - 1), 0);
        assert_int_equal((uintptr_t)two & (alignment - 1), 0);
        assert_true(all_bytes_are(one, 3 * page, 0));
        memset(one, 1, 3 * page);
        memset(two, 2, 3 * page);
        assert_true(all_bytes_are(one, 3 * page, 1));
        /* What was mapped for alignment's sake is gone again: the neighbours are vacant, or were so before. */
        assert_true(os_unmap(one, 3 * page));
        assert_true(os_unmap(two, 3 * page));
        assert_int_equal(os_map_at((uintptr_t)one, 3 * page), OS_MAP_OK);
        assert_true(os_unmap(one, 3 * page));
    }
}

static void test_purge_reads_zero(void **state)
{
    (void)state;
    unsigned char *p = os_map(4 * page, page);
    memset(p, 9, 4 * page);
    errno = EDOM;
    assert_true(os_purge(p + page, 2 * page));
    assert_true(all_bytes_are(p, page, 9));
    assert_true(all_bytes_are(p + page, 2 * page, 0));
    assert_true(all_bytes_are(p + 3 * page, page, 9));
    /* The system call itself: a sanitizer's mlock does nothing. */
    if (syscall(SYS_mlock, p + 3 * page, page) == 0) {
        errno = EDOM;
        assert_false(os_purge(p + 3 * page, page));
        assert_true(all_bytes_are(p + 3 * page, page, 9));
    }
    assert_int_equal(errno, EDOM);
    assert_true(os_unmap(p, 4 * page));
}

static void test_remap(void **state)
{
    (void)state;
    unsigned char *p = os_map(2 * page, page);
    memset(p, 5, 2 * page);
    p = os_remap(p, 2 * page, 64 * page);
    assert_non_null(p);
    assert_true(all_bytes_are(p, 2 * page, 5));
    assert_true(all_bytes_are(p + 2 * page, 62 * page, 0));
    memset(p, 6, 64 * page);
    unsigned char *less = os_remap(p, 64 * page, page);
    assert_ptr_equal(less, p); /* shrinking never moves */
    assert_int_equal(os_map_at((uintptr_t)p + page, page), OS_MAP_OK); /* the rest is given back */
    assert_true(os_unmap(p + page, page));
    errno = EDOM;
    assert_null(os_remap(p, page, (size_t)1 << 62));
    assert_int_equal(errno, EDOM);
    assert_true(all_bytes_are(p, page, 6));
    assert_true(os_unmap(p, page));
}

static void test_read_text(void **state)
{
    (void)state;
    char text[8] = "dirty";
    errno = EDOM;
    assert_false(os_read_text("/no/such/file", text, sizeof text));
    assert_string_equal(text, "");
    assert_true(os_read_text(HAKMEM_SOURCE_DIR "/LICENSE", text, sizeof text)); /* longer than there is room for */
    assert_int_equal(strlen(text), sizeof text - 1);
    assert_int_equal(errno, EDOM);
}

static void test_remap_pages(void **state)
{
    (void)state;
    unsigned char *p = os_map(8 * page, page);
    unsigned char *wish = os_map(5 * page, page);
    memset(p, 5, 8 * page);
    assert_true(os_unmap(wish, 5 * page));
    errno = EDOM;
    unsigned char *moved = os_remap_pages(p + 2 * page, 3 * page, wish);
    if (moved == NULL)
        skip(); /* a kernel before 5.7, or an emulator */
    assert_ptr_equal(moved, wish);
    assert_true(all_bytes_are(moved, 3 * page, 5));
    assert_true(all_bytes_are(p, 2 * page, 5));
    assert_true(all_bytes_are(p + 2 * page, 3 * page, 0));
    assert_true(all_bytes_are(p + 5 * page, 3 * page, 5));
    assert_int_equal(os_map_at((uintptr_t)p + 2 * page, 3 * page), OS_MAP_OCCUPIED);
    memset(p, 6, 8 * page); /* two mappings share nothing */
    assert_true(all_bytes_are(moved, 3 * page, 5));
    assert_ptr_equal(os_remap(moved, 3 * page, 5 * page), moved); /* it grows where it is, as there was room at `wish` */
    unsigned char *elsewhere = os_remap_pages(p, 8 * page, moved); /* what is there is left alone */
    assert_ptr_not_equal(elsewhere, moved);
    assert_true(all_bytes_are(moved, 3 * page, 5));
    /* The first move may have left more than one mapping, which the kernel does not move at once. */
    assert_true(all_bytes_are(elsewhere != NULL ? elsewhere : p, 8 * page, 6));
    assert_null(os_remap_pages(p, (size_t)1 << 62, NULL));
    assert_int_equal(errno, EDOM);
    assert_true(os_unmap(p, 8 * page));
    assert_true(os_unmap(moved, 5 * page));
    if (elsewhere != NULL)
        assert_true(os_unmap(elsewhere, 8 * page));
}

/* The kernel would unlock the whole mapping that they come from. */
static void test_locked_pages_stay(void **state)
{
    (void)state;
    unsigned char *p = os_map(4 * page, page);
    memset(p, 5, 4 * page);
    if (syscall(SYS_mlock, p, 4 * page) != 0) /* sanitizers make mlock do nothing */
        skip();
    assert_null(os_remap_pages(p + page, 2 * page, NULL));
    assert_true(all_bytes_are(p, 4 * page, 5));
    assert_false(os_purge(p, 4 * page)); /* still locked */
    assert_true(os_unmap(p, 4 * page));
}

static void cut_out(char *range, size_t bytes)
{
    munmap(range + bytes / 2, page);
}

static void protect_middle(char *range, size_t bytes)
{
    mprotect(range + bytes / 2, page, PROT_NONE);
}

static void protect_all(char *range, size_t bytes)
{
    mprotect(range, bytes, PROT_READ);
}

static void hide_from_children(char *range, size_t bytes)
{
    madvise(range, bytes, MADV_DONTFORK);
    madvise(range, bytes, MADV_DONTDUMP);
}

static void wipe_in_children(char *range, size_t bytes)
{
    madvise(range, bytes, MADV_WIPEONFORK);
}

static void leave_alone(char *range, size_t bytes)
{
    (void)range;
    (void)bytes;
}

static void find_it(void *range)
{
    REQUIRE(*(char *)range == 7);
}

static void test_what_can_be_reused(void **state)
{
    (void)state;
    enum { PAGES = 64 };
    static const struct {
        void (*before)(char *range, size_t bytes);
        bool can_be_reused;
    } cases[] = {
        { leave_alone, true },     { cut_out, false },         { protect_middle, false },
        { protect_all, false },    { hide_from_children, true }, { wipe_in_children, true },
    };
    const size_t bytes = PAGES * page;
    for (unsigned i = 0; i < ARRAY_COUNT(cases); i++) {
        for (unsigned has_room = 0; has_room < 2; has_room++) {
            char *mapping = os_map(bytes + 2 * page, page), *range = mapping + page;
            *range = 7;
            if (has_room)
                munmap(range + bytes, page);
            cases[i].before(range, bytes);
            errno = EDOM;
            assert_int_equal(os_can_be_reused(range, bytes), cases[i].can_be_reused);
            assert_int_equal(errno, EDOM);
            assert_int_equal(*range, 7);
            if (cases[i].can_be_reused) {
                memset(range + 1, 7, bytes - 1);
                assert_child_passes(find_it, range);
            }
            /* It is no longer than it was. */
            assert_int_equal(madvise(range + bytes, page, MADV_NORMAL), has_room ? -1 : 0);
            munmap(mapping, bytes + 2 * page);
        }
    }
}

static void test_populate(void **state)
{
    (void)state;
    unsigned char resident[16];
    unsigned char *p = os_map(16 * page, page);
    os_no_huge_pages(p, 16 * page);
    assert_int_equal(mincore(p, 16 * page, resident), 0);
    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(resident[i] & 1, 0);
    errno = EDOM;
    os_populate(p, 16 * page);
    assert_int_equal(errno, EDOM);
    assert_int_equal(mincore(p, 16 * page, resident), 0);
    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(resident[i] & 1, 1);
    assert_true(all_bytes_are(p, 16 * page, 0));
    assert_true(os_unmap(p, 16 * page));
}

static void *wait_for_word(void *argument)
{
    uint32_t *word = argument;
    char name[16];
    os_name_thread("a test's thread");
    if (pthread_getname_np(pthread_self(), name, sizeof name) != 0 || strcmp(name, "a test's thread") != 0 ||
        os_thread_id() == os_process_id())
        return NULL;
    errno = EDOM;
    while (load_acquire(word) == 1)
        os_futex_wait(word, 1, OS_FOREVER);
    return errno == EDOM ? argument : NULL;
}

static void test_futex(void **state)
{
    (void)state;
    uint32_t word = 1;
    pthread_t thread;
    void *result;
    assert_int_equal(os_thread_id(), os_process_id());
    errno = EDOM;
    os_futex_wait(&word, 2, OS_FOREVER); /* another value: at once */
    const uint64_t before = os_clock_ms();
    os_futex_wait(&word, 1, 50); /* nobody wakes us: 50 ms, as far as the coarse clock tells */
    assert_true(os_clock_ms() - before >= 40);
    assert_int_equal(errno, EDOM);
    start_thread(&thread, wait_for_word, &word);
    nanosleep(&(const struct timespec){.tv_nsec = 20000000}, NULL);
    store_release(&word, 2);
    os_futex_wake(&word);
    assert_int_equal(errno, EDOM);
    pthread_join(thread, &result);
    assert_ptr_equal(result, &word);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_facts),
        cmocka_unit_test(test_clock_and_random),
        cmocka_unit_test(test_map_at_vacant),
        cmocka_unit_test(test_map_at_occupied_leaves_alone),
        cmocka_unit_test(test_map_at_impossible),
        cmocka_unit_test(test_map_aligned),
        cmocka_unit_test(test_purge_reads_zero),
        cmocka_unit_test(test_remap),
        cmocka_unit_test(test_read_text),
        cmocka_unit_test(test_remap_pages),
        cmocka_unit_test(test_locked_pages_stay),
        cmocka_unit_test(test_what_can_be_reused),
        cmocka_unit_test(test_populate),
        cmocka_unit_test(test_futex),
    };
    return cmocka_run_group_tests_name("os", tests, start, NULL);
}
