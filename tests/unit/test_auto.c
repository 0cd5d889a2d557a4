#include "unit.h"

#include "config/auto.h"
#include "config/dump.h"
#include "config/profiles.h"
#include "resolved.h"

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

static struct os_limits machine(uint64_t cgroup_bytes, uint64_t rlimit_bytes, uint64_t physical_bytes,
                                uint32_t cpu_count)
{
    uint64_t least = cgroup_bytes < rlimit_bytes ? cgroup_bytes : rlimit_bytes;
    least = least < physical_bytes ? least : physical_bytes;
    return (struct os_limits){cgroup_bytes, rlimit_bytes, physical_bytes, least, cpu_count};
}

static void test_rule(void **state)
{
    (void)state;
    static const struct {
        uint64_t cgroup_bytes, rlimit_bytes, physical_bytes;
        uint32_t cpu_count;
        enum profile profile;
        enum auto_bound bound;
        uint64_t thread_cache_bytes;
    } cases[] = {
        {OS_NO_LIMIT, OS_NO_LIMIT, 64 * GIB, 16, PROFILE_BALANCED, AUTO_BOUND_MACHINE, 4 * MIB},
        {2 * GIB, OS_NO_LIMIT, 64 * GIB, 2, PROFILE_BALANCED, AUTO_BOUND_CGROUP, 4 * MIB},
        {2 * GIB, OS_NO_LIMIT, 64 * GIB, 64, PROFILE_BALANCED, AUTO_BOUND_CGROUP, 512 << 10},
        {512 * MIB, OS_NO_LIMIT, 64 * GIB, 1, PROFILE_BALANCED, AUTO_BOUND_CGROUP, 4 * MIB},
        {512 * MIB - 1, OS_NO_LIMIT, 64 * GIB, 1, PROFILE_TIGHT, AUTO_BOUND_CGROUP, 256 << 10},
        {GIB, 256 * MIB, 64 * GIB, 8, PROFILE_TIGHT, AUTO_BOUND_RLIMIT, 256 << 10},
        {OS_NO_LIMIT, OS_NO_LIMIT, 64 * MIB, 4, PROFILE_TIGHT, AUTO_BOUND_MACHINE, 256 << 10},
        {64 * MIB, OS_NO_LIMIT, 64 * GIB, 32, PROFILE_TIGHT, AUTO_BOUND_CGROUP, 32 << 10},
        {16 * MIB, OS_NO_LIMIT, 64 * GIB, 128, PROFILE_TIGHT, AUTO_BOUND_CGROUP, 16 << 10}, /* the knob's least */
        {64 * MIB, OS_NO_LIMIT, 64 * GIB, 0, PROFILE_TIGHT, AUTO_BOUND_CGROUP, 256 << 10},
        {OS_NO_LIMIT, OS_NO_LIMIT, OS_NO_LIMIT, 0, PROFILE_BALANCED, AUTO_BOUND_NONE, 4 * MIB},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        const struct os_limits limits = machine(cases[i].cgroup_bytes, cases[i].rlimit_bytes, cases[i].physical_bytes,
                                                cases[i].cpu_count);
        const struct auto_choice choice = auto_choose(&limits, OS_NO_LIMIT);
        assert_int_equal(choice.profile, cases[i].profile);
        assert_int_equal(choice.bound, cases[i].bound);
        assert_int_equal(choice.thread_cache_bytes, cases[i].thread_cache_bytes);
        assert_int_equal(choice.memory_bytes, limits.memory_bytes);
        assert_int_equal(choice.cpu_count, cases[i].cpu_count);
    }
}

/* Budgets never exceed the profile's, never leave the knob's bounds, and fall with memory and with CPUs. */
static void test_budgets_are_monotonic(void **state)
{
    (void)state;
    const struct knob *budget = &knob_table[KNOB_THREAD_CACHE_BYTES];
    for (uint32_t cpus = 1; cpus <= 512; cpus *= 2) {
        uint64_t last = 0;
        for (uint64_t bytes = MIB; bytes <= 1024 * GIB; bytes *= 2) {
            const struct os_limits here = machine(bytes, OS_NO_LIMIT, OS_NO_LIMIT, cpus);
            const struct os_limits wider = machine(bytes, OS_NO_LIMIT, OS_NO_LIMIT, 2 * cpus);
            const struct auto_choice choice = auto_choose(&here, OS_NO_LIMIT);
            assert_in_range(choice.thread_cache_bytes, budget->min, profile_value(choice.profile, budget));
            assert_true(choice.thread_cache_bytes >= last);
            assert_true(auto_choose(&wider, OS_NO_LIMIT).thread_cache_bytes <= choice.thread_cache_bytes);
            last = choice.thread_cache_bytes;
        }
    }
}

static const char *dumped(const struct config *config)
{
    static char text[8192];
    struct fmt out;
    fmt_init(&out, text, sizeof text, -1);
    dump_config(&out, config);
    return text;
}

/* In a configuration: the chosen profile's values, but for the budget; explicit variables win. */
static void test_resolved(void **state)
{
    (void)state;
    struct resolved automatic, plain;
    char variable[64];
    struct os_limits limits;
    os_limits_read("", &limits);
    const struct auto_choice choice = auto_choose(&limits, OS_NO_LIMIT);
    RESOLVE(&automatic, "HAKMEM_PROFILE=auto", "HAKMEM_DECAY_MS=7");
    assert_int_equal(automatic.problem_count, 0);
    assert_int_equal(automatic.config.profile, PROFILE_AUTO);
    assert_int_equal(config_base_profile(&automatic.config), choice.profile);
    snprintf(variable, sizeof variable, "HAKMEM_PROFILE=%s", profile_words[choice.profile]);
    RESOLVE(&plain, variable, "HAKMEM_DECAY_MS=7");
    assert_int_equal(config_base_profile(&plain.config), choice.profile);
    for (unsigned i = 0; i < KNOB_COUNT; i++) {
        assert_int_equal(automatic.config.origin[i], plain.config.origin[i]);
        if (knob_is_number(&knob_table[i]) && i != KNOB_PROFILE && i != KNOB_THREAD_CACHE_BYTES)
            assert_int_equal(knob_load(&knob_table[i], &automatic.config), knob_load(&knob_table[i], &plain.config));
    }
    assert_int_equal(automatic.config.thread_cache_bytes, choice.thread_cache_bytes);
    RESOLVE(&automatic, "HAKMEM_PROFILE=auto", "HAKMEM_THREAD_CACHE_BYTES=1M");
    assert_int_equal(automatic.config.thread_cache_bytes, MIB);
}

/* A limit that the user sets is one like the others. */
static void test_user_limit(void **state)
{
    (void)state;
    struct resolved result;
    RESOLVE(&result, "HAKMEM_PROFILE=auto", "HAKMEM_MEMORY_LIMIT=20M");
    assert_int_equal(result.config.auto_choice.bound, AUTO_BOUND_USER);
    assert_int_equal(config_base_profile(&result.config), PROFILE_TIGHT);
    assert_non_null(strstr(dumped(&result.config), "; took tight because 20971520 bytes are HAKMEM_MEMORY_LIMIT"));
    struct resolved bad;
    RESOLVE(&result, "HAKMEM_PROFILE=auto", "HAKMEM_MEMORY_LIMIT=0");
    assert_true(result.config.auto_choice.bound != AUTO_BOUND_USER);
    RESOLVE(&bad, "HAKMEM_PROFILE=auto", "HAKMEM_MEMORY_LIMIT=some");
    assert_int_equal(bad.problem_count, 1);
    assert_int_equal(bad.config.auto_choice.memory_bytes, result.config.auto_choice.memory_bytes);
}

static void test_dump_says_why(void **state)
{
    (void)state;
    struct resolved result;
    RESOLVE(&result, "HAKMEM_PROFILE=auto");
    const struct os_limits small = machine(64 * MIB, OS_NO_LIMIT, GIB, 32);
    result.config.auto_choice = auto_choose(&small, OS_NO_LIMIT);
    result.config.thread_cache_bytes = result.config.auto_choice.thread_cache_bytes;
    const char *text = dumped(&result.config);
    const char first[] = "HAKMEM_PROFILE=auto  # environment; took tight because 67108864 bytes are the limit of the "
                         "control group, for 32 CPUs\n";
    assert_memory_equal(text, first, strlen(first));
    assert_non_null(strstr(text, "\nHAKMEM_ALLOC_LEARN=1  # profile tight\n"));
    assert_non_null(strstr(text, "\nHAKMEM_THREAD_CACHE_BYTES=32768  # profile tight, lowered: 1/16 of the memory over "
                                 "4 threads for each CPU\n"));

    const struct os_limits unknown = machine(OS_NO_LIMIT, OS_NO_LIMIT, OS_NO_LIMIT, 0);
    result.config.auto_choice = auto_choose(&unknown, OS_NO_LIMIT);
    result.config.thread_cache_bytes = result.config.auto_choice.thread_cache_bytes;
    text = dumped(&result.config);
    assert_memory_equal(text, "HAKMEM_PROFILE=auto  # environment; took balanced because no limit is known\n", 76);
    assert_non_null(strstr(text, "\nHAKMEM_THREAD_CACHE_BYTES=4194304  # profile balanced\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rule),
        cmocka_unit_test(test_budgets_are_monotonic),
        cmocka_unit_test(test_resolved),
        cmocka_unit_test(test_user_limit),
        cmocka_unit_test(test_dump_says_why),
    };
    return cmocka_run_group_tests_name("auto", tests, NULL, NULL);
}
