#include "unit.h"

#include <errno.h>
#include <sys/mman.h>

#include "kernel_file.h"
#include "os/os.h"

#define HUGE_BYTES ((size_t)2 << 20)

static void test_mode_from_a_file(void **state)
{
    (void)state;
    const struct {
        const char *text;
        enum os_huge_page_mode mode;
    } cases[] = {
        {"[always] madvise never\n", OS_HUGE_ALWAYS},
        {"always [madvise] never\n", OS_HUGE_MADVISE},
        {"always madvise [never]\n", OS_HUGE_NEVER},
        {"[always] never", OS_HUGE_ALWAYS},
        {"always madvise never\n", OS_HUGE_UNKNOWN},
        {"[inherit]\n", OS_HUGE_UNKNOWN},
        {"", OS_HUGE_UNKNOWN},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        errno = EDOM;
        assert_int_equal(os_huge_page_mode_in(kernel_file(cases[i].text)), cases[i].mode);
        assert_int_equal(errno, EDOM);
    }
    unlink(kernel_file(""));
    assert_int_equal(os_huge_page_mode_in(kernel_file("")), OS_HUGE_UNKNOWN); /* no such file any more */
    assert_int_equal(errno, EDOM);
}

static void test_mode_of_this_machine(void **state)
{
    (void)state;
    const enum os_huge_page_mode mode = os_huge_page_mode();
    assert_in_range(mode, OS_HUGE_ALWAYS, OS_HUGE_UNKNOWN);
    assert_int_equal(os_huge_page_mode(), mode);
}

/* The kernel's flags of the mapping at this address: "hg" advised, "nh" opted out. */
static bool has_flag(const void *address, const char *flag)
{
    FILE *smaps = fopen("/proc/self/smaps", "r");
    if (smaps == NULL)
        return false;
    char line[512];
    bool here = false, found = false;
    while (fgets(line, sizeof line, smaps) != NULL) {
        uintptr_t from, to;
        char *flags;
        if (sscanf(line, "%zx-%zx ", &from, &to) == 2)
            here = (uintptr_t)address >= from && (uintptr_t)address < to;
        else if (here && (flags = strstr(line, "VmFlags:")) != NULL)
            found = strstr(flags, flag) != NULL;
    }
    fclose(smaps);
    return found;
}

static void test_advice(void **state)
{
    (void)state;
    char *p = os_map(2 * HUGE_BYTES, HUGE_BYTES);
    assert_non_null(p);
    errno = EDOM;
    if (!os_advise_huge(p, HUGE_BYTES)) { /* a kernel without them, or an emulator */
        assert_int_equal(errno, EDOM);
        os_unmap(p, 2 * HUGE_BYTES);
        skip();
    }
    if (has_flag(p, "mr")) { /* the kernel tells */
        assert_true(has_flag(p, "hg"));
        assert_false(has_flag(p + HUGE_BYTES, "hg"));
        assert_true(os_no_huge_pages(p, 2 * HUGE_BYTES));
        assert_false(has_flag(p, "hg"));
        assert_true(has_flag(p, "nh"));
        assert_true(has_flag(p + HUGE_BYTES, "nh"));
        assert_true(os_advise_huge(p, HUGE_BYTES));
    }
    memset(p, 5, HUGE_BYTES);
    if (os_collapse(p, HUGE_BYTES)) /* there may be none to be had at the moment */
        for (size_t i = 0; i < HUGE_BYTES; i += 512)
            assert_int_equal(p[i], 5);
    assert_false(os_collapse((void *)((uintptr_t)1 << 62), HUGE_BYTES));
    assert_false(os_advise_huge((void *)((uintptr_t)1 << 62), HUGE_BYTES));
    assert_int_equal(errno, EDOM);
    os_unmap(p, 2 * HUGE_BYTES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mode_from_a_file),
        cmocka_unit_test(test_mode_of_this_machine),
        cmocka_unit_test(test_advice),
    };
    os_start();
    return cmocka_run_group_tests_name("thp", tests, NULL, NULL);
}
