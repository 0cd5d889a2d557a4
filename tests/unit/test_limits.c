/* os_limits_read under a root directory of a test's own: the files of kernels, containers and accidents. */
#define _GNU_SOURCE
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>

#include "base/bits.h"
#include "os/limits.h"

#define MIB ((uint64_t)1 << 20)

/* A fresh root for each test; what a test wrote is removed with it. */
static char root[64];

static int make_root(void **state)
{
    (void)state;
    strcpy(root, "/tmp/hakmem_limits_XXXXXX");
    return mkdtemp(root) == NULL;
}

static int remove_root(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

/* Writes a file below the root, with the folders on the way. */
static void put(const char *path, const char *text)
{
    char full[512];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *at = full + strlen(root) + 1; (at = strchr(at, '/')) != NULL; at++) {
        *at = '\0';
        mkdir(full, 0700);
        *at = '/';
    }
    FILE *file = fopen(full, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static struct os_limits look(void)
{
    struct os_limits limits;
    errno = EDOM;
    os_limits_read(root, &limits);
    assert_int_equal(errno, EDOM);
    return limits;
}

static uint64_t cgroup_bytes(void)
{
    return look().cgroup_bytes;
}

static uint32_t own_cpus(void)
{
    cpu_set_t mask;
    assert_int_equal(sched_getaffinity(0, sizeof mask, &mask), 0);
    return (uint32_t)CPU_COUNT(&mask);
}

/* A chroot without /proc and /sys. */
static void test_nothing_there(void **state)
{
    (void)state;
    const struct os_limits limits = look();
    struct sysinfo info;
    assert_int_equal(sysinfo(&info), 0);
    assert_true(limits.cgroup_bytes == OS_NO_LIMIT);
    assert_int_equal(limits.physical_bytes, (uint64_t)info.totalram * info.mem_unit);
    assert_true(limits.memory_bytes <= limits.physical_bytes);
    assert_int_equal(limits.cpu_count, own_cpus());
}

#define V2_MOUNT "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"

static void test_unified_nested(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "0::/user.slice/app.scope/inner\n");
    put("/proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n" V2_MOUNT "31 1 0:5 / /x rw - tmpfs tmpfs rw\n");
    put("/sys/fs/cgroup/user.slice/app.scope/inner/memory.max", "max\n");
    assert_true(cgroup_bytes() == OS_NO_LIMIT);
    put("/sys/fs/cgroup/user.slice/memory.max", "1073741824\n");
    assert_int_equal(cgroup_bytes(), 1024 * MIB);
    put("/sys/fs/cgroup/user.slice/app.scope/memory.high", "536870912\n");
    assert_int_equal(cgroup_bytes(), 512 * MIB);
    put("/sys/fs/cgroup/user.slice/app.scope/inner/memory.max", "268435456\n");
    assert_int_equal(cgroup_bytes(), 256 * MIB);
    put("/sys/fs/cgroup/user.slice/other.scope/memory.max", "4096\n"); /* not ours */
    assert_int_equal(cgroup_bytes(), 256 * MIB);
    assert_int_equal(look().memory_bytes, 256 * MIB);
    put("/sys/fs/cgroup/memory.max", "67108864\n"); /* the top of a container shows its limit */
    assert_int_equal(cgroup_bytes(), 64 * MIB);
}

/* The group as the host names it, the mount as the container sees it. */
static void test_mount_of_a_subtree(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "0::/docker/abc/deep\n");
    put("/proc/self/mountinfo", "30 23 0:26 /docker/abc /cg\\040roup ro - cgroup2 cgroup rw\n");
    put("/cg roup/memory.max", "209715200\n");
    assert_int_equal(cgroup_bytes(), 200 * MIB);
    put("/cg roup/deep/memory.max", "104857600\n");
    assert_int_equal(cgroup_bytes(), 100 * MIB);
    put("/cg roup/docker/abc/deep/memory.max", "4096\n"); /* no group of ours */
    assert_int_equal(cgroup_bytes(), 100 * MIB);
    put("/proc/self/cgroup", "0::/docker/abcdef\n"); /* not below the mount's top, though its name begins so */
    assert_int_equal(cgroup_bytes(), 200 * MIB);
}

static void test_group_outside_of_the_namespace(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "0::/../../elsewhere\n");
    put("/proc/self/mountinfo", V2_MOUNT);
    put("/sys/fs/cgroup/memory.max", "100000000\n");
    assert_int_equal(cgroup_bytes(), 100000000);
}

static void test_without_proc(void **state)
{
    (void)state;
    put("/sys/fs/cgroup/memory.max", "123456789\n");
    put("/sys/fs/cgroup/cpu.max", "100000 100000\n");
    assert_int_equal(cgroup_bytes(), 123456789);
    assert_int_equal(look().cpu_count, 1);
}

#define V1_MOUNTS                                                              \
    "33 23 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"        \
    "34 23 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n" \
    "35 23 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"

static void test_version_1(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "12:cpuset:/set\n8:memory:/a/b\n4:cpu,cpuacct:/c\n1:name=systemd:/memory\n0::/unified\n");
    put("/proc/self/mountinfo", V1_MOUNTS);
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"); /* none, with pages of 4 KiB */
    put("/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "9223372036854710272\n"); /* of 64 KiB */
    assert_true(cgroup_bytes() == OS_NO_LIMIT);
    put("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "33554432\n");
    assert_int_equal(cgroup_bytes(), 32 * MIB);
    put("/sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_quota_us", "-1\n");
    put("/sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_period_us", "100000\n");
    assert_int_equal(look().cpu_count, own_cpus());
    put("/sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_quota_us", "50000\n");
    assert_int_equal(look().cpu_count, 1);
}

static void test_version_1_at_its_usual_place(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "8:memory:/a\n");
    put("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "33554432\n");
    assert_int_equal(cgroup_bytes(), 32 * MIB);
}

/* Half of v1's hierarchies, and the unified one beside them. */
static void test_both_versions(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "8:memory:/a\n0::/b\n");
    put("/proc/self/mountinfo", V1_MOUNTS "36 23 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
    put("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "67108864\n");
    put("/sys/fs/cgroup/unified/b/memory.high", "33554432\n");
    assert_int_equal(cgroup_bytes(), 32 * MIB);
}

static void test_cpu_quota(void **state)
{
    (void)state;
    const uint32_t most = own_cpus();
    put("/proc/self/cgroup", "0::/a/b\n");
    put("/proc/self/mountinfo", V2_MOUNT);
    put("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    assert_int_equal(look().cpu_count, most);
    put("/sys/fs/cgroup/a/b/cpu.max", "6400000000 100000\n"); /* more than there are */
    assert_int_equal(look().cpu_count, most);
    put("/sys/fs/cgroup/a/cpu.max", "110000 100000\n"); /* a second one is needed for the tenth */
    assert_int_equal(look().cpu_count, most < 2 ? most : 2);
    put("/sys/fs/cgroup/a/b/cpu.max", "1000 100000\n");
    assert_int_equal(look().cpu_count, 1);
}

static void test_affinity(void **state)
{
    (void)state;
    cpu_set_t before, one;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; cpu++)
        if (CPU_ISSET(cpu, &before))
            CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(look().cpu_count, 1);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
}

static void test_resource_limits(void **state)
{
    (void)state;
    struct rlimit before, lower;
    assert_int_equal(getrlimit(RLIMIT_DATA, &before), 0);
    lower = before;
    lower.rlim_cur = 777 * MIB;
    if (before.rlim_cur <= lower.rlim_cur || setrlimit(RLIMIT_DATA, &lower) != 0)
        skip();
    assert_true(look().rlimit_bytes <= 777 * MIB);
    assert_true(look().memory_bytes <= 777 * MIB);
    assert_int_equal(setrlimit(RLIMIT_DATA, &before), 0);
    put("/sys/fs/cgroup/memory.max", "1048576\n");
    assert_int_equal(look().memory_bytes, MIB); /* the least of all counts */
}

static void test_malformed_numbers(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "", "\n", "0\n", "-5\n", " 1048576\n", "1048576 2\n", "0x100000\n", "1048576k\n", "99999999999999999999999\n",
        "max\n", "maximum", "\x80\xff\xff", "1e6\n",
        "111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111\n",
    };
    put("/proc/self/cgroup", "0::/a\n");
    put("/proc/self/mountinfo", V2_MOUNT);
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
        put("/sys/fs/cgroup/a/memory.max", texts[i]);
        put("/sys/fs/cgroup/a/cpu.max", texts[i]);
        assert_true(cgroup_bytes() == OS_NO_LIMIT);
        assert_int_equal(look().cpu_count, own_cpus());
    }
    static const char *const quotas[] = { "100000 0\n", "0 100000\n", "100000\n", "100000 max\n", "100000\t100000\n" };
    for (size_t i = 0; i < ARRAY_COUNT(quotas); i++) {
        put("/sys/fs/cgroup/a/cpu.max", quotas[i]);
        assert_int_equal(look().cpu_count, own_cpus());
    }
    put("/sys/fs/cgroup/a/memory.max", "1048576"); /* but a missing line end is none of these */
    assert_int_equal(cgroup_bytes(), MIB);
}

static void put_repeated(FILE *file, char c, unsigned count)
{
    while (count-- > 0)
        fputc(c, file);
}

/* Lines that nothing can be made of, and such as fit no buffer; the good one is found among them. */
static void test_malformed_lines(void **state)
{
    (void)state;
    char path[128];
    put("/proc/self/cgroup", "\n:\n::\n0:\n0::\n0::relative\nnonsense\n0::/a\n0::");
    put("/proc/self/mountinfo", "");
    snprintf(path, sizeof path, "%s/proc/self/mountinfo", root);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("\n - \n - cgroup2\n1 2 - cgroup2\n1 2 3 4 - cgroup2 cgroup2 rw\n - cgroup cgroup rw,memory\n", file);
    for (unsigned length = 1000; length < 1050; length++) { /* around the length of a buffer */
        fputs("1 1 0:1 / /", file);
        put_repeated(file, 'x', length);
        fputs(" rw - cgroup2 cgroup2 rw\n", file);
    }
    put_repeated(file, 'y', 100000);
    fputs("\n" V2_MOUNT, file);
    put_repeated(file, 'z', 5000); /* and no end */
    fclose(file);
    put("/sys/fs/cgroup/a/memory.max", "1048576\n");
    assert_int_equal(cgroup_bytes(), MIB);
}

/* A group whose path fits no buffer is passed over. */
static void test_long_group(void **state)
{
    (void)state;
    char path[128];
    put("/proc/self/cgroup", "");
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("0::", file);
    for (unsigned i = 0; i < 60; i++)
        fputs("/folder_abc", file);
    fputs("\n", file);
    fclose(file);
    put("/proc/self/mountinfo", V2_MOUNT);
    put("/sys/fs/cgroup/memory.max", "1048576\n");
    assert_int_equal(cgroup_bytes(), MIB);
}

/* Folders in place of files cannot be read, and do no harm. */
static void test_folders_in_place_of_files(void **state)
{
    (void)state;
    put("/proc/self/cgroup/x", "");
    put("/proc/self/mountinfo/x", "");
    put("/sys/fs/cgroup/memory.max/x", "");
    assert_true(cgroup_bytes() == OS_NO_LIMIT);
}

static void test_this_machine(void **state)
{
    (void)state;
    struct os_limits limits;
    errno = EDOM;
    os_limits_read("", &limits);
    assert_int_equal(errno, EDOM);
    assert_true(limits.memory_bytes >= 16 * MIB);
    assert_true(limits.memory_bytes <= limits.physical_bytes && limits.memory_bytes <= limits.cgroup_bytes &&
                limits.memory_bytes <= limits.rlimit_bytes);
    assert_in_range(limits.cpu_count, 1, own_cpus());
    const int next = open("/dev/null", O_RDONLY); /* every file was closed again */
    os_limits_read("", &limits);
    const int again = open("/dev/null", O_RDONLY);
    assert_int_equal(again, next + 1);
    close(again);
    close(next);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_root, remove_root)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_nothing_there),
        TEST(test_unified_nested),
        TEST(test_mount_of_a_subtree),
        TEST(test_group_outside_of_the_namespace),
        TEST(test_without_proc),
        TEST(test_version_1),
        TEST(test_version_1_at_its_usual_place),
        TEST(test_both_versions),
        TEST(test_cpu_quota),
        TEST(test_affinity),
        TEST(test_resource_limits),
        TEST(test_malformed_numbers),
        TEST(test_malformed_lines),
        TEST(test_long_group),
        TEST(test_folders_in_place_of_files),
        TEST(test_this_machine),
    };
    return cmocka_run_group_tests_name("limits", tests, NULL, NULL);
}
