/* config_start acts once per process and may end it, so most of this happens in child processes. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "capture.h"
#include "config/config.h"
#include "config/dump.h"
#include "resolved.h"

static void write_to_config(const void *argument)
{
    (void)argument;
    signal(SIGSEGV, SIG_DFL); /* cmocka's and a sanitizer's */
    ((volatile struct config *)&hakmem_config_page.config)->debug_level = 3;
}

static void write_to_last_member(const void *argument)
{
    (void)argument;
    signal(SIGSEGV, SIG_DFL);
    ((volatile struct config *)&hakmem_config_page.config)->is_sealed = false;
}

static void test_page_is_read_only(void **state)
{
    (void)state;
    assert_true(config_get()->is_sealed);
    struct captured result;
    capture_child(&result, write_to_config, NULL);
    assert_true(WIFSIGNALED(result.status) && WTERMSIG(result.status) == SIGSEGV);
    capture_child(&result, write_to_last_member, NULL);
    assert_true(WIFSIGNALED(result.status) && WTERMSIG(result.status) == SIGSEGV);
}

static void test_second_start_does_nothing(void **state)
{
    (void)state;
    const struct config before = *config_get();
    config_start(ENV("HAKMEM_PROFILE=tight", "HAKMEM_STRICT=1", "HAKMEM_X=1"), false);
    assert_memory_equal(&before, config_get(), sizeof before);
}

/* Undoes the start that this process has had, then starts as if it were the first time. */
static void start_anew(char *const *envp, bool secure)
{
    const uintptr_t mask = (uintptr_t)sysconf(_SC_PAGESIZE) - 1;
    struct config *config = &hakmem_config_page.config;
    const uintptr_t start = (uintptr_t)config & ~mask;
    const uintptr_t end = ((uintptr_t)(config + 1) + mask) & ~mask;
    if (mprotect((void *)start, end - start, PROT_READ | PROT_WRITE) != 0)
        abort();
    config->is_sealed = false;
    config_start(envp, secure);
}

static void start_in_child(const void *envp)
{
    errno = ENOENT;
    start_anew((char *const *)envp, false);
    if (errno != ENOENT || !config_get()->is_sealed)
        _exit(1);
}

static void start_secure_in_child(const void *envp)
{
    start_anew((char *const *)envp, true);
}

static void assert_start(void (*body)(const void *), char *const *envp, int exit_code, const char *text)
{
    struct captured result;
    capture_child(&result, body, envp);
    assert_true(WIFEXITED(result.status));
    assert_int_equal(WEXITSTATUS(result.status), exit_code);
    assert_string_equal(result.text, text);
}

static void test_start_is_silent(void **state)
{
    (void)state;
    assert_start(start_in_child, NULL, 0, "");
    assert_start(start_in_child, ENV("HAKMEM_NONSENSE=1", "HAKMEM_DECAY_MS=x", "HAKMEM_STRICT=yes"), 0, "");
    assert_start(start_in_child, ENV("HAKMEM_STRICT=1", "HAKMEM_DEBUG_LEVEL=3", "HAKMEM_PROFILE=tight"), 0, "");
    assert_start(start_secure_in_child,
                 ENV("HAKMEM_STRICT=1", "HAKMEM_NONSENSE=1", "HAKMEM_CONFIG_DUMP=1", "HAKMEM_DEBUG_LEVEL=3"), 0, "");
}

#define BAD_DECAY "hakmem: HAKMEM_DECAY_MS=x: accepted is 0..3600000 ms; using 1000 (default)\n"
#define BAD_NAME "hakmem: HAKMEM_STRCT: unknown variable; the nearest known one is HAKMEM_STRICT\n"

static void test_start_warns(void **state)
{
    (void)state;
    assert_start(start_in_child, ENV("HAKMEM_DECAY_MS=x", "HAKMEM_STRCT=1", "HAKMEM_DEBUG_LEVEL=1"), 0,
                 BAD_NAME BAD_DECAY);
}

static void test_strict_stops(void **state)
{
    (void)state;
    assert_start(start_in_child, ENV("HAKMEM_DECAY_MS=x", "HAKMEM_STRCT=1", "HAKMEM_STRICT=1"), CONFIG_EXIT_CODE,
                 BAD_NAME BAD_DECAY);
    assert_start(start_in_child, ENV("HAKMEM_STRICT=1", "HAKMEM_DECAY_MS=x"), CONFIG_EXIT_CODE, BAD_DECAY);
}

static void test_start_dumps(void **state)
{
    (void)state;
    char text[4096];
    struct resolved result;
    struct fmt f;
    char *const envp[] = {"HAKMEM_CONFIG_DUMP=1", "HAKMEM_PROFILE=balanced", "HAKMEM_DECAY_MS=x", NULL};
    resolve_vector(&result, envp, false);
    fmt_init(&f, text, sizeof text, -1);
    dump_config(&f, &result.config);
    assert_start(start_in_child, envp, 0, text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_page_is_read_only),
        cmocka_unit_test(test_second_start_does_nothing),
        cmocka_unit_test(test_start_is_silent),
        cmocka_unit_test(test_start_warns),
        cmocka_unit_test(test_strict_stops),
        cmocka_unit_test(test_start_dumps),
    };
    config_start(NULL, false); /* for a build in which the library's own start-up has not done it */
    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
