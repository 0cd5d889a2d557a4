/* Where the numbers stand is told by proc(5), cgroups(7), and the kernel's Documentation/admin-guide/cgroup-v2.rst and
 * cgroup-v1/. /proc/self/cgroup names the process's group in each hierarchy, /proc/self/mountinfo where a hierarchy is
 * mounted and which of its groups is the mount's top: in a container the groups above are often out of sight. */
#define _GNU_SOURCE
#include "os/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/bits.h"

enum {
    /* All of it lies on the stack of whichever thread comes by, which may be a small one. */
    LINE_BYTES = 1024, /* a longer line is passed over: those of control groups are shorter */
    READ_BYTES = 1024,
    VALUE_BYTES = 128, /* a file with a few numbers in it */
    CPU_MASK_WORDS = 128, /* 8192 CPUs, the most that Linux can be built for */
};

/* "No limit" in v1 is LONG_MAX rounded down to pages, whose size the reader need not know. */
#define V1_NO_LIMIT ((uint64_t)1 << 62)

/* ---- text ---- */

/* Appends; false: no room. */
static bool path_add(char *path, const char *text, size_t length)
{
    size_t at = strlen(path);
    if (at + length >= OS_PATH_BYTES)
        return false;
    memcpy(path + at, text, length);
    path[at + length] = '\0';
    return true;
}

/* A decimal number at *text, which is moved behind it. False: there is none, or it is too large. */
static bool take_number(const char **text, uint64_t *value)
{
    const char *at = *text;
    uint64_t sum = 0;
    for (; *at >= '0' && *at <= '9'; at++)
        if (__builtin_mul_overflow(sum, 10, &sum) || __builtin_add_overflow(sum, (uint64_t)(*at - '0'), &sum))
            return false;
    if (at == *text)
        return false;
    *text = at;
    *value = sum;
    return true;
}

static bool at_end(const char *text)
{
    return *text == '\0' || *text == '\n';
}

/* ---- files ---- */

struct reader {
    int fd;
    size_t at, end;
    char buffer[READ_BYTES];
};

static int open_file(const char *path)
{
    return (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
}

static bool reader_open(struct reader *r, const char *root, const char *name)
{
    char path[OS_PATH_BYTES] = "";
    r->at = r->end = 0;
    r->fd = path_add(path, root, strlen(root)) && path_add(path, name, strlen(name)) ? open_file(path) : -1;
    return r->fd >= 0;
}

/* The next line that fits, without its end. False: there is none left, and the file is closed. */
static bool reader_line(struct reader *r, char line[static LINE_BYTES])
{
    size_t length = 0;
    for (;;) {
        if (r->at == r->end) {
            long got = syscall(SYS_read, r->fd, r->buffer, sizeof r->buffer);
            if (got <= 0) {
                syscall(SYS_close, r->fd);
                return false;
            }
            r->at = 0;
            r->end = (size_t)got;
        }
        char c = r->buffer[r->at++];
        if (c == '\n') {
            if (length < LINE_BYTES) {
                line[length] = '\0';
                return true;
            }
            length = 0;
        } else if (length < LINE_BYTES) {
            line[length++] = c;
        }
    }
}

/* The start of a small file, as text. */
static bool read_value(const char *folder, const char *name, char text[static VALUE_BYTES])
{
    char path[OS_PATH_BYTES] = "";
    if (!path_add(path, folder, strlen(folder)) || !path_add(path, name, strlen(name)))
        return false;
    int fd = open_file(path);
    if (fd < 0)
        return false;
    long got = syscall(SYS_read, fd, text, VALUE_BYTES - 1);
    syscall(SYS_close, fd);
    text[got > 0 ? got : 0] = '\0';
    return got > 0;
}

/* One number, alone in its file. "max" is no number, and a limit of 0 would be none that a process could live under. */
static bool read_number(const char *folder, const char *name, uint64_t *value)
{
    char text[VALUE_BYTES];
    const char *at = text;
    return read_value(folder, name, text) && take_number(&at, value) && at_end(at) && *value != 0;
}

static void lower_to(uint64_t *least, uint64_t value)
{
    if (value < *least)
        *least = value;
}

/* ---- control groups ---- */

enum hierarchy { UNIFIED, V1_MEMORY, V1_CPU, HIERARCHY_COUNT };

struct found {
    uint64_t memory_bytes;
    uint64_t cpu_thousandths; /* of one CPU */
};

static void lower_to_file(const char *folder, const char *name, uint64_t *least)
{
    uint64_t value;
    if (read_number(folder, name, &value))
        lower_to(least, value);
}

static void lower_to_quota(uint64_t quota, uint64_t period, uint64_t *thousandths)
{
    if (quota != 0 && period != 0 && quota < UINT64_MAX / 1000)
        lower_to(thousandths, (quota * 1000 + period - 1) / period);
}

/* cpu.max: "QUOTA PERIOD", both in microseconds, QUOTA may be "max". */
static void read_cpu_max(const char *folder, uint64_t *thousandths)
{
    char text[VALUE_BYTES];
    const char *at = text;
    uint64_t quota, period;
    if (read_value(folder, "/cpu.max", text) && take_number(&at, &quota) && *at++ == ' ' && take_number(&at, &period) &&
        at_end(at))
        lower_to_quota(quota, period, thousandths);
}

static void read_group(const char *folder, enum hierarchy hierarchy, struct found *found)
{
    uint64_t quota, period;
    switch (hierarchy) {
    case UNIFIED:
        lower_to_file(folder, "/memory.max", &found->memory_bytes);
        lower_to_file(folder, "/memory.high", &found->memory_bytes);
        read_cpu_max(folder, &found->cpu_thousandths);
        return;
    case V1_MEMORY: {
        uint64_t bytes;
        if (read_number(folder, "/memory.limit_in_bytes", &bytes) && bytes < V1_NO_LIMIT)
            lower_to(&found->memory_bytes, bytes);
        return;
    }
    case V1_CPU: /* a quota of -1 is no number: none */
        if (read_number(folder, "/cpu.cfs_quota_us", &quota) && read_number(folder, "/cpu.cfs_period_us", &period))
            lower_to_quota(quota, period, &found->cpu_thousandths);
        return;
    case HIERARCHY_COUNT:
        return;
    }
}

/* From the group up to the hierarchy's mount point, whose path has `top` bytes. */
static void read_groups(char *path, size_t top, enum hierarchy hierarchy, struct found *found)
{
    for (size_t length = strlen(path); length >= top; length--) {
        if (length > top && (path[length] != '\0' && path[length] != '/'))
            continue;
        path[length] = '\0';
        if (length == top || path[length - 1] != '/')
            read_group(path, hierarchy, found);
        if (length == 0)
            return;
    }
}

/* Is `word` one of the list's, which are separated by commas? */
static bool lists(const char *list, size_t length, const char *word)
{
    const size_t word_length = strlen(word);
    for (size_t at = 0; at + word_length <= length; at++)
        if (memcmp(list + at, word, word_length) == 0 && (at == 0 || list[at - 1] == ',') &&
            (at + word_length == length || list[at + word_length] == ','))
            return true;
    return false;
}

static const char *const v1_controllers[HIERARCHY_COUNT] = { [V1_MEMORY] = "memory", [V1_CPU] = "cpu" };
/* Where they are mounted as a rule: for when mountinfo cannot be read. */
static const char *const usual_mounts[HIERARCHY_COUNT] = {
    [UNIFIED] = "/sys/fs/cgroup", [V1_MEMORY] = "/sys/fs/cgroup/memory", [V1_CPU] = "/sys/fs/cgroup/cpu"
};

/* A line of /proc/self/cgroup: "number:controllers:/group"; the unified hierarchy's is "0::/group". */
static void note_group(const char *line, char groups[HIERARCHY_COUNT][OS_PATH_BYTES])
{
    const char *controllers = strchr(line, ':');
    const char *group = controllers == NULL ? NULL : strchr(controllers + 1, ':');
    if (group == NULL || group[1] != '/' || strlen(group + 1) >= OS_PATH_BYTES)
        return;
    const size_t length = (size_t)(group - ++controllers);
    for (enum hierarchy h = UNIFIED; h < HIERARCHY_COUNT; h++)
        if (h == UNIFIED ? length == 0 : lists(controllers, length, v1_controllers[h]))
            strcpy(groups[h], group + 1);
}

static void read_own_groups(const char *root, char groups[HIERARCHY_COUNT][OS_PATH_BYTES])
{
    struct reader r;
    char line[LINE_BYTES];
    for (unsigned h = 0; h < HIERARCHY_COUNT; h++)
        strcpy(groups[h], "/");
    if (!reader_open(&r, root, "/proc/self/cgroup"))
        return;
    while (reader_line(&r, line))
        note_group(line, groups);
}

/* The part of `group` below the mount's own top. A group that does not lie there (the process was moved, or sees its
 * group through another's namespace) leaves the top itself. */
static const char *below_top(const char *group, const char *top)
{
    const size_t length = strlen(top);
    if (strcmp(top, "/") == 0)
        return strstr(group, "/..") == group ? "" : group;
    return strncmp(group, top, length) == 0 && (group[length] == '/' || group[length] == '\0') ? group + length : "";
}

static void read_mount(const char *root, const char *mount, const char *below, enum hierarchy h, struct found *found)
{
    char path[OS_PATH_BYTES] = "";
    if (!path_add(path, root, strlen(root)) || !path_add(path, mount, strlen(mount)))
        return;
    const size_t top = strlen(path);
    if (strcmp(below, "/") != 0 && !path_add(path, below, strlen(below)))
        return;
    read_groups(path, top, h, found);
}

/* mountinfo writes blanks and backslashes as \ and three octal digits. In place. */
static void unescape(char *text)
{
    char *to = text;
    for (; *text != '\0'; text++) {
        if (text[0] == '\\' && text[1] >= '0' && text[1] <= '3' && text[2] >= '0' && text[2] <= '7' &&
            text[3] >= '0' && text[3] <= '7') {
            *to++ = (char)((text[1] - '0') << 6 | (text[2] - '0') << 3 | (text[3] - '0'));
            text += 3;
        } else {
            *to++ = *text;
        }
    }
    *to = '\0';
}

/* Ends the word at *rest and returns it; *rest goes on behind the blank. "": none left. */
static char *take_word(char **rest)
{
    char *word = *rest;
    char *end = strchrnul(word, ' '); /* not strcspn: nothing else in a small process touches its tables (decision 0031) */
    *rest = *end == '\0' ? end : end + 1;
    *end = '\0';
    return word;
}

/* "36 35 98:0 /top /mount/point rw,noatime [optional fields] - type source superoptions" */
static void use_mount(const char *root, char *line, char groups[HIERARCHY_COUNT][OS_PATH_BYTES],
                      bool seen[HIERARCHY_COUNT], struct found *found)
{
    char *rest = strstr(line, " - ");
    if (rest == NULL)
        return;
    *rest = '\0';
    rest += 3;
    const char *type = take_word(&rest);
    const bool unified = strcmp(type, "cgroup2") == 0;
    if (!unified && strcmp(type, "cgroup") != 0)
        return;
    take_word(&rest);
    const char *options = take_word(&rest);
    rest = line;
    for (unsigned i = 0; i < 3; i++)
        take_word(&rest);
    char *top = take_word(&rest);
    char *mount = take_word(&rest);
    unescape(top);
    unescape(mount);
    for (enum hierarchy h = UNIFIED; h < HIERARCHY_COUNT; h++) {
        if (h == UNIFIED ? !unified : unified || !lists(options, strlen(options), v1_controllers[h]))
            continue;
        seen[h] = true;
        read_mount(root, mount, below_top(groups[h], top), h, found);
    }
}

static void read_cgroups(const char *root, struct found *found)
{
    char groups[HIERARCHY_COUNT][OS_PATH_BYTES];
    bool seen[HIERARCHY_COUNT] = { false };
    struct reader r;
    char line[LINE_BYTES];
    read_own_groups(root, groups);
    if (reader_open(&r, root, "/proc/self/mountinfo"))
        while (reader_line(&r, line))
            use_mount(root, line, groups, seen, found);
    for (enum hierarchy h = UNIFIED; h < HIERARCHY_COUNT; h++)
        if (!seen[h])
            read_mount(root, usual_mounts[h], below_top(groups[h], "/"), h, found);
}

/* ---- the rest ---- */

static uint64_t rlimit_bytes(int resource)
{
    struct { uint64_t soft, hard; } limit; /* the kernel's, the same everywhere; libc's may be another */
    if (syscall(SYS_prlimit64, 0, resource, NULL, &limit) != 0 || limit.soft == 0)
        return OS_NO_LIMIT;
    return limit.soft; /* RLIM64_INFINITY is OS_NO_LIMIT */
}

static uint64_t physical_bytes(void)
{
    struct sysinfo info;
    if (syscall(SYS_sysinfo, &info) != 0 || info.totalram == 0)
        return OS_NO_LIMIT;
    return (uint64_t)info.totalram * (info.mem_unit == 0 ? 1 : info.mem_unit);
}

static uint32_t affinity_count(void)
{
    uint64_t mask[CPU_MASK_WORDS];
    long bytes = syscall(SYS_sched_getaffinity, 0, sizeof mask, mask);
    uint32_t count = 0;
    for (long i = 0; i < bytes / 8; i++)
        count += count_bits(mask[i]);
    return count;
}

void os_limits_read(const char *root, struct os_limits *out)
{
    const int saved = errno;
    struct found found = { .memory_bytes = OS_NO_LIMIT, .cpu_thousandths = UINT64_MAX };
    read_cgroups(root, &found);
    out->cgroup_bytes = found.memory_bytes;
    out->rlimit_bytes = rlimit_bytes(RLIMIT_AS);
    lower_to(&out->rlimit_bytes, rlimit_bytes(RLIMIT_DATA));
    out->physical_bytes = physical_bytes();
    out->memory_bytes = out->cgroup_bytes;
    lower_to(&out->memory_bytes, out->rlimit_bytes);
    lower_to(&out->memory_bytes, out->physical_bytes);
    out->cpu_count = affinity_count();
    if (found.cpu_thousandths != UINT64_MAX) {
        uint64_t whole = (found.cpu_thousandths + 999) / 1000;
        if (out->cpu_count == 0 || whole < out->cpu_count)
            out->cpu_count = (uint32_t)(whole < UINT32_MAX ? whole : UINT32_MAX);
    }
    errno = saved;
}
