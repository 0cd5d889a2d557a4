#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "config/policy.h"
#include "resolved.h"

static void test_policy_follows_config(void **state)
{
    (void)state;
    struct resolved result;
    RESOLVE(&result, "HAKMEM_PROFILE=tight", "HAKMEM_SUPERSLAB_PREWARM=3", "HAKMEM_THP=never",
            "HAKMEM_TINY_TLS_CLASS_OVERRIDE=C2:48:24");
    policy_start(&result.config);
    assert_int_equal(load_relaxed(&policy_live.thread_cache_bytes), 262144);
    assert_int_equal(load_relaxed(&policy_live.decay_ms), 100);
    assert_int_equal(load_relaxed(&policy_live.page_decay_ms), 100);
    assert_int_equal(load_relaxed(&policy_live.retained_superslabs), 1);
    assert_int_equal(load_relaxed(&policy_live.prewarm_superslabs), 3);
    assert_int_equal(load_relaxed(&policy_live.thp), THP_NEVER);
    assert_true(load_relaxed(&policy_live.memory_limit_bytes) == NO_MEMORY_LIMIT);
    for (uint32_t bin = 0; bin < TINY_BIN_COUNT; bin++) {
        assert_int_equal(load_relaxed(&policy_live.bin_cap[bin]), tiny_bin_class(bin) == 2 ? 48 : 32);
        assert_int_equal(load_relaxed(&policy_live.bin_refill[bin]), tiny_bin_class(bin) == 2 ? 24 : 8);
    }
    policy_start(config_get());
    assert_int_equal(load_relaxed(&policy_live.bin_cap[0]), config_get()->bin_cap[0]);
    RESOLVE(&result, "HAKMEM_SUPERSLAB_REUSE=1", "HAKMEM_PAGE_PURGE=0");
    policy_start(&result.config);
    assert_int_equal(load_relaxed(&policy_live.page_decay_ms), PAGE_DECAY_NEVER);
    RESOLVE(&result, "HAKMEM_DECAY_MS=3600000", "HAKMEM_PAGE_DECAY_FACTOR=1000");
    policy_start(&result.config);
    assert_int_equal(load_relaxed(&policy_live.page_decay_ms), 3600000000u);
    RESOLVE(&result, "HAKMEM_SUPERSLAB_REUSE=1");
    policy_start(&result.config);
    assert_int_equal(load_relaxed(&policy_live.page_decay_ms), 4 * 1000);
    assert_int_equal(load_relaxed(&policy_live.retained_superslabs), RETAIN_ALL_SUPERSLABS);
    policy_start(config_get());
}

static void test_memory_limit(void **state)
{
    (void)state;
    struct resolved result;
    RESOLVE(&result, "HAKMEM_MEMORY_LIMIT=1G");
    policy_start(&result.config);
    assert_int_equal(load_relaxed(&policy_live.memory_limit_bytes), 1 << 30);
    assert_int_equal(load_relaxed(&policy_live.thp), THP_NEVER); /* they would be granted to nobody */
    RESOLVE(&result, "HAKMEM_MEMORY_LIMIT=1G", "HAKMEM_THP=always");
    policy_start(&result.config);
    assert_int_equal(load_relaxed(&policy_live.thp), THP_ALWAYS); /* as the user says */
    RESOLVE(&result, "HAKMEM_MEMORY_LIMIT=1"); /* less than a program can start in */
    policy_start(&result.config);
    assert_int_equal(load_relaxed(&policy_live.memory_limit_bytes), MEMORY_LIMIT_MIN_BYTES);
    policy_start(config_get());
}

/* Budgets are parts of the limit, unless the user has set them. */
static void test_derived_budgets(void **state)
{
    (void)state;
    struct resolved result;
    const uint64_t mib = 1 << 20;
    RESOLVE(&result, "HAKMEM_PROFILE=balanced");
    policy_start(&result.config);
    assert_int_equal(load_relaxed(&policy_live.cache_bytes), NO_CACHE_BOUND);
    assert_int_equal(load_relaxed(&policy_live.retained_bytes), 0);
    policy_derive(&result.config, 512 * mib);
    assert_int_equal(load_relaxed(&policy_live.cache_bytes), 32 * mib);
    assert_int_equal(load_relaxed(&policy_live.retained_bytes), 64 * mib);
    policy_derive(&result.config, 10);
    assert_int_equal(load_relaxed(&policy_live.cache_bytes), mib);
    assert_int_equal(load_relaxed(&policy_live.retained_bytes), 2 * mib);
    RESOLVE(&result, "HAKMEM_MEMORY_LIMIT=64M", "HAKMEM_RETAINED_BYTES=5000");
    policy_start(&result.config);
    assert_int_equal(load_relaxed(&policy_live.cache_bytes), 4 * mib);
    assert_int_equal(load_relaxed(&policy_live.retained_bytes), 5000);
    RESOLVE(&result, "HAKMEM_CACHE_BYTES=3M");
    policy_start(&result.config);
    policy_derive(&result.config, 512 * mib);
    assert_int_equal(load_relaxed(&policy_live.cache_bytes), 3 * mib);
    assert_int_equal(load_relaxed(&policy_live.retained_bytes), 64 * mib);
    policy_start(config_get());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_policy_follows_config),
        cmocka_unit_test(test_memory_limit),
        cmocka_unit_test(test_derived_budgets),
    };
    return cmocka_run_group_tests_name("policy", tests, NULL, NULL);
}
