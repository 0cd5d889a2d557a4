/* The exported text: what it says, and that every loader reads it. */
#include "unit.h"

#include "config/policy.h"
#include "learn/profile.h"
#include "resolved.h"

/* What a process that started so has learned before it did anything. */
static struct learned_profile unchanged(const struct config *config)
{
    struct learned_profile learned = {0};
    policy_start(config);
    learned.policy = policy_live;
    policy_start(config_get());
    return learned;
}

static const char *put(const struct config *config, const struct learned_profile *learned)
{
    static char text[32768];
    struct fmt out;
    fmt_init(&out, text, sizeof text, -1);
    profile_put_learned(&out, config, learned, "a\nprogram", 99);
    assert_true(out.length < sizeof text / 2);
    return text;
}

/* Reads a profile as a loader does: lines of comments and of KEY=VALUE in the plain alphabet, nothing else. */
static void load(struct resolved *result, const char *profile)
{
    static char text[32768];
    char *entries[KNOB_COUNT + 1] = {NULL};
    unsigned count = 0;
    strcpy(text, profile);
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        if (line[0] == '#')
            continue;
        const size_t name = strspn(line, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_");
        assert_int_equal(line[name], '=');
        const size_t value = strspn(line + name + 1, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                                     "0123456789.:,_/%-");
        assert_true(value > 0 && line[name + 1 + value] == '\0');
        assert_true(count < KNOB_COUNT);
        entries[count++] = line;
    }
    resolve_vector(result, entries, false);
    assert_string_equal(result->text, "");
    for (unsigned i = 0; i < KNOB_COUNT; i++)
        if (knob_table[i].in_profiles)
            assert_int_equal(result->config.origin[i], ORIGIN_ENVIRONMENT);
    assert_int_equal(result->config.origin[KNOB_PROFILE], ORIGIN_DEFAULT);
}

static void test_nothing_learned(void **state)
{
    (void)state;
    static char *const profiles[] = {"HAKMEM_PROFILE=default", "HAKMEM_PROFILE=balanced",
                                     "HAKMEM_PROFILE=adaptive", "HAKMEM_PROFILE=tight"};
    for (size_t p = 0; p < ARRAY_COUNT(profiles); p++) {
        struct resolved before, after;
        RESOLVE(&before, profiles[p]);
        const struct learned_profile learned = unchanged(&before.config);
        load(&after, put(&before.config, &learned));
        assert_false(after.config.alloc_learn || after.config.mem_learn || after.config.learn_advanced);
        for (unsigned i = 0; i < KNOB_COUNT; i++) {
            const bool is_learning = i == KNOB_ALLOC_LEARN || i == KNOB_MEM_LEARN || i == KNOB_LEARN_ADVANCED;
            if (knob_table[i].in_profiles && !is_learning)
                assert_int_equal(knob_load(&knob_table[i], &after.config), knob_load(&knob_table[i], &before.config));
        }
        assert_memory_equal(after.config.bin_cap, before.config.bin_cap, sizeof before.config.bin_cap);
        assert_memory_equal(after.config.bin_refill, before.config.bin_refill, sizeof before.config.bin_refill);
    }
}

static void test_learned_values(void **state)
{
    (void)state;
    struct resolved before, after;
    RESOLVE(&before, "HAKMEM_PROFILE=adaptive", "HAKMEM_TINY_TLS_CLASS_OVERRIDE=C0:100:10,C3:300:30",
            "HAKMEM_STATS_ENABLE=0");
    struct learned_profile learned = unchanged(&before.config);
    learned.policy.thread_cache_bytes = 1 << 20;
    learned.policy.decay_ms = 250;
    learned.policy.retained_superslabs = 1;
    learned.policy.prewarm_superslabs = 5;
    learned.windows = 77;
    learn_bin_add(&learned.bins[6], 200, 900, 900 * 16);
    learn_bin_add(&learned.bins[6], 300, 10, 10 * 16);
    learn_bin_add(&learned.bins[20], 40, 3, 30);
    const char *text = put(&before.config, &learned);
    load(&after, text);
    assert_int_equal(after.config.thread_cache_bytes, 1 << 20);
    assert_int_equal(after.config.decay_ms, 250);
    assert_int_equal(after.config.superslab_reuse, 0);
    assert_int_equal(after.config.superslab_prewarm_count, 5);
    assert_int_equal(after.config.bin_cap[6], 200);
    assert_int_equal(after.config.bin_refill[6], 16);
    assert_int_equal(after.config.bin_cap[20], 40);
    assert_int_equal(after.config.bin_refill[20], 10);
    assert_int_equal(after.config.bin_cap[0], 100); /* no traffic: the user's word stands */
    assert_int_equal(after.config.bin_cap[5], 300);
    assert_false(after.config.bin_cap_is_user[1]);

    assert_non_null(strstr(text, "learned by a?program (process 99), which started from the profile adaptive.\n"));
    assert_non_null(strstr(text, "\n# evidence 913 misses 77 windows\n"));
    assert_non_null(strstr(text, "\n# Learned: the program started with 1000.\nHAKMEM_DECAY_MS=250\n"));
    assert_non_null(strstr(text, "\n# Learned: the program started with 4194304.\nHAKMEM_THREAD_CACHE_BYTES="));
    assert_non_null(strstr(text, "\n# As the environment said; the profile has 1.\nHAKMEM_STATS_ENABLE=0\n"));
    assert_non_null(strstr(text, "\n# Off: what it learned stands in this file.\nHAKMEM_ALLOC_LEARN=0\n"));
    assert_non_null(strstr(text, "\n# weight C3.112 910 misses; thread caches: 2, caps 200 to 300; ceiling at start "
                                 "300:30\n"));
    assert_non_null(strstr(text, "\nHAKMEM_MEM_LEARN_THRESHOLD=0.8\n")); /* as it was: no comment of its own */
    assert_null(strstr(text, "HAKMEM_PROFILE="));
}

/* Every word of the policy that has a knob comes back by the file: what Tight begins with, learned by one that began with
 * Balanced, is what Balanced's export begins with. */
static void test_whole_policy_is_exported(void **state)
{
    (void)state;
    struct resolved balanced, tight, after;
    RESOLVE(&balanced, "HAKMEM_PROFILE=balanced", "HAKMEM_SUPERSLAB_PREWARM=3", "HAKMEM_TINY_PRESET=ultra_tight",
            "HAKMEM_STEER_BLOCKS=1");
    RESOLVE(&tight, "HAKMEM_PROFILE=tight");
    const struct learned_profile learned = unchanged(&tight.config);
    load(&after, put(&balanced.config, &learned));
    const struct learned_profile again = unchanged(&after.config);
    assert_memory_equal(&again.policy, &learned.policy, sizeof learned.policy);
}

/* The most there can be to say fits the buffer that exports have. */
static void test_longest(void **state)
{
    (void)state;
    struct resolved before, after;
    RESOLVE(&before, "HAKMEM_PROFILE=tight");
    struct learned_profile learned = unchanged(&before.config);
    for (unsigned bin = 0; bin < TINY_BIN_COUNT; bin++)
        for (unsigned i = 0; i < 100; i++)
            learn_bin_add(&learned.bins[bin], 65535 - 97 * i - bin, UINT64_MAX / 200, UINT64_MAX / 200);
    load(&after, put(&before.config, &learned));
    assert_true(after.config.bin_cap_is_user[23]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_learned),
        cmocka_unit_test(test_learned_values),
        cmocka_unit_test(test_whole_policy_is_exported),
        cmocka_unit_test(test_longest),
    };
    return cmocka_run_group_tests_name("profile", tests, NULL, NULL);
}
