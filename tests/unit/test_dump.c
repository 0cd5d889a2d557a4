#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "config/dump.h"
#include "resolved.h"

static void dump_text(char *text, size_t capacity, const struct config *config)
{
    struct fmt f;
    fmt_init(&f, text, capacity, -1);
    dump_config(&f, config);
}

static void test_dump_lines(void **state)
{
    (void)state;
    char text[4096];
    struct resolved result;
    RESOLVE(&result, "HAKMEM_PROFILE=adaptive", "HAKMEM_THREAD_CACHE_BYTES=1M",
            "HAKMEM_TINY_TLS_CLASS_OVERRIDE=C3.112:200:16,C0:100", "HAKMEM_LEARN_JOURNAL=/var/log/a journal.%p");
    dump_text(text, sizeof text, &result.config);
    assert_string_equal(text, "HAKMEM_PROFILE=adaptive  # environment\n"
                              "HAKMEM_ALLOC_LEARN=1  # profile adaptive\n"
                              "HAKMEM_ALLOC_LEARN_WINDOW=5000  # profile adaptive\n"
                              "HAKMEM_ALLOC_LEARN_RATE=0.15  # profile adaptive\n"
                              "HAKMEM_MEM_LEARN=1  # profile adaptive\n"
                              "HAKMEM_MEM_LEARN_WINDOW=10000  # profile adaptive\n"
                              "HAKMEM_MEM_LEARN_THRESHOLD=0.8  # profile adaptive\n"
                              "HAKMEM_LEARN_ADVANCED=1  # profile adaptive\n"
                              "HAKMEM_LEARN_JOURNAL=/var/log/a journal.%p  # environment\n"
                              "HAKMEM_LEARN_EXPORT=  # default\n"
                              "HAKMEM_LEARN_MODE=apply  # default\n"
                              "HAKMEM_LEARN_THRESHOLD=0.02  # default\n"
                              "HAKMEM_LEARN_HYSTERESIS=4  # default\n"
                              "HAKMEM_LEARN_COOLDOWN=4  # default\n"
                              "HAKMEM_LEARN_CAP_MIN=8  # default\n"
                              "HAKMEM_LEARN_CAP_MAX=65535  # default\n"
                              "HAKMEM_LEARN_BUDGET=1073741824  # default\n"
                              "HAKMEM_SUPERSLAB_REUSE=1  # profile adaptive\n"
                              "HAKMEM_SUPERSLAB_PREWARM=2  # profile adaptive\n"
                              "HAKMEM_TINY_PRESET=default  # profile adaptive\n"
                              "HAKMEM_TINY_TLS_CLASS_OVERRIDE=C0:100:8,C3.112:200:16  # environment\n"
                              "HAKMEM_THREAD_CACHE_BYTES=1048576  # environment\n"
                              "HAKMEM_CACHE_BYTES=0  # default\n"
                              "HAKMEM_RETAINED_BYTES=0  # default\n"
                              "HAKMEM_MEMORY_LIMIT=0  # default\n"
                              "HAKMEM_DECAY_MS=1000  # profile adaptive\n"
                              "HAKMEM_DECAY_FLOOR=2097152  # profile adaptive\n"
                              "HAKMEM_DECAY_RATE=134217728  # profile adaptive\n"
                              "HAKMEM_RETAINED_RATIO=0.06  # profile adaptive\n"
                              "HAKMEM_THP=default  # default\n"
                              "HAKMEM_PAGE_PURGE=1  # profile adaptive\n"
                              "HAKMEM_PAGE_DECAY_FACTOR=1  # profile adaptive\n"
                              "HAKMEM_STEER_BLOCKS=0  # profile adaptive\n"
                              "HAKMEM_BACKGROUND=1  # profile adaptive\n"
                              "HAKMEM_STATS_ENABLE=1  # profile adaptive\n"
                              "HAKMEM_STATS_INTERVAL_SEC=60  # profile adaptive\n"
                              "HAKMEM_DEBUG_LEVEL=0  # profile adaptive\n"
                              "HAKMEM_KEEP_DEEPBIND=0  # default\n"
                              "HAKMEM_STRICT=0  # default\n"
                              "HAKMEM_CONFIG_DUMP=0  # default\n");
    RESOLVE(&result, "HAKMEM_DECAY_MS=bad");
    dump_text(text, sizeof text, &result.config);
    assert_memory_equal(text, "HAKMEM_PROFILE=  # default\n", 27);
    assert_non_null(strstr(text, "\nHAKMEM_TINY_TLS_CLASS_OVERRIDE=  # default\n"));
    assert_non_null(strstr(text, "\nHAKMEM_DECAY_MS=1000  # default\n"));
}

/* What is in force, where that is not what was set. */
static void test_dump_huge_pages_under_a_limit(void **state)
{
    (void)state;
    static char text[4096];
    struct resolved result;
    RESOLVE(&result, "HAKMEM_MEMORY_LIMIT=64M");
    dump_text(text, sizeof text, &result.config);
    assert_non_null(strstr(text, "\nHAKMEM_THP=never  # default, default is never under HAKMEM_MEMORY_LIMIT\n"));
    RESOLVE(&result, "HAKMEM_MEMORY_LIMIT=64M", "HAKMEM_THP=default");
    dump_text(text, sizeof text, &result.config);
    assert_non_null(strstr(text, "\nHAKMEM_THP=never  # environment, default is never under HAKMEM_MEMORY_LIMIT\n"));
    RESOLVE(&result, "HAKMEM_MEMORY_LIMIT=64M", "HAKMEM_THP=always");
    dump_text(text, sizeof text, &result.config);
    assert_non_null(strstr(text, "\nHAKMEM_THP=always  # environment\n"));
}

/* What is dumped, read again, is the same configuration. */
static void test_dump_reads_back(void **state)
{
    (void)state;
    static char text[4096];
    char *entries[KNOB_COUNT + 1] = {NULL};
    struct resolved before, after;
    RESOLVE(&before, "HAKMEM_PROFILE=tight", "HAKMEM_MEM_LEARN_THRESHOLD=0.000123", "HAKMEM_ALLOC_LEARN_RATE=1",
            "HAKMEM_TINY_TLS_CLASS_OVERRIDE=C4:9:3,C5:77,C5.384:78,C2.48:1,C2.64:1", "HAKMEM_DEBUG_LEVEL=2",
            "HAKMEM_LEARN_EXPORT=learned.%p.env");
    dump_text(text, sizeof text, &before.config);
    size_t count = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        assert_true(count < KNOB_COUNT);
        *strstr(line, "  # ") = '\0';
        entries[count++] = line;
    }
    assert_int_equal(count, KNOB_COUNT);
    resolve_vector(&after, entries, false);
    assert_int_equal(after.problem_count, 0);
    for (uint32_t i = 0; i < KNOB_COUNT; i++) {
        if (knob_is_number(&knob_table[i]))
            assert_int_equal(knob_load(&knob_table[i], &after.config), knob_load(&knob_table[i], &before.config));
    }
    assert_string_equal(after.config.learn_export, "learned.%p.env");
    assert_memory_equal(after.config.bin_cap, before.config.bin_cap, sizeof before.config.bin_cap);
    assert_memory_equal(after.config.bin_refill, before.config.bin_refill, sizeof before.config.bin_refill);
    assert_memory_equal(after.config.bin_cap_is_user, before.config.bin_cap_is_user,
                        sizeof before.config.bin_cap_is_user);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dump_huge_pages_under_a_limit),
        cmocka_unit_test(test_dump_lines),
        cmocka_unit_test(test_dump_reads_back),
    };
    return cmocka_run_group_tests_name("dump", tests, NULL, NULL);
}
