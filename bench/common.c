/* The untimed half of every benchmark: option parsing, clock, resident memory, patterns, the result line. */
#define _GNU_SOURCE
#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { MAX_EXTRAS = 8, FIRST_EXTRA = 256 };

static const struct option common_options[] = {
    {"seconds", required_argument, NULL, 's'}, {"ops", required_argument, NULL, 'o'},
    {"threads", required_argument, NULL, 't'}, {"seed", required_argument, NULL, 'r'},
    {"json", no_argument, NULL, 'j'},          {"check", no_argument, NULL, 'c'},
    {"help", no_argument, NULL, 'h'},
};
enum { COMMON_COUNT = sizeof common_options / sizeof common_options[0] };

void bench_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s: ", program_invocation_short_name);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static void usage_error(const char *name, const char *text, uint64_t min, uint64_t max)
{
    fprintf(stderr, "%s: --%s: '%s' is not a whole number in %" PRIu64 "..%" PRIu64 "\n", program_invocation_short_name,
            name, text, min, max);
    exit(2);
}

static uint64_t parse_number(const char *name, const char *text, uint64_t min, uint64_t max)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 0);
    if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || value < min || value > max) {
        usage_error(name, text, min, max);
    }
    return value;
}

static double parse_seconds(const char *text)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(value) || value <= 0.0 || value > 86400.0) {
        fprintf(stderr, "%s: --seconds: '%s' is not a time in 0..86400\n", program_invocation_short_name, text);
        exit(2);
    }
    return value;
}

static void print_help(const char *about, const struct bench_options *defaults, const struct bench_extra *extras,
                       size_t extra_count)
{
    printf("%s\n\nusage: %s [option ...]\n", about, program_invocation_short_name);
    printf("  --seconds S        run for S seconds (default %g)\n", defaults->seconds);
    printf("  --ops N            run N operations in all instead; an operation is one malloc or one free\n");
    printf("  --threads N        threads (default %" PRIu64 ")\n", defaults->threads);
    printf("  --seed N           seed of the random numbers (default %" PRIu64 ")\n", defaults->seed);
    printf("  --check            fill every block with a pattern and verify it (slower; for correctness)\n");
    printf("  --json             print one line of JSON\n");
    for (size_t i = 0; i < extra_count; i++) {
        printf("  --%-16s %s (default %" PRIu64 ")\n", extras[i].name, extras[i].help, *extras[i].value);
    }
    printf("  --help             this text\n");
}

void bench_parse(int argc, char **argv, const char *about, struct bench_options *options,
                 const struct bench_extra *extras, size_t extra_count)
{
    struct option table[COMMON_COUNT + MAX_EXTRAS + 1];
    if (extra_count > MAX_EXTRAS) {
        bench_fail("too many options of its own");
    }
    memset(table, 0, sizeof table);
    memcpy(table, common_options, sizeof common_options);
    for (size_t i = 0; i < extra_count; i++) {
        table[COMMON_COUNT + i] = (struct option){extras[i].name, required_argument, NULL, FIRST_EXTRA + (int)i};
    }
    for (int choice; (choice = getopt_long(argc, argv, "", table, NULL)) != -1;) {
        switch (choice) {
        case 's': options->seconds = parse_seconds(optarg); break;
        case 'o': options->ops = parse_number("ops", optarg, 1, UINT64_MAX / 2); break;
        case 't': options->threads = parse_number("threads", optarg, 1, BENCH_MAX_THREADS); break;
        case 'r': options->seed = parse_number("seed", optarg, 0, UINT64_MAX); break;
        case 'j': options->json = true; break;
        case 'c': options->check = true; break;
        case 'h': print_help(about, options, extras, extra_count); exit(0);
        case '?': exit(2);
        default: {
            const struct bench_extra *extra = &extras[choice - FIRST_EXTRA];
            *extra->value = parse_number(extra->name, optarg, extra->min, extra->max);
        }
        }
    }
    if (optind < argc) {
        fprintf(stderr, "%s: unexpected argument '%s'\n", program_invocation_short_name, argv[optind]);
        exit(2);
    }
}

double bench_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

void bench_sleep(double seconds)
{
    struct timespec left = {.tv_sec = (time_t)seconds};
    left.tv_nsec = (long)((seconds - (double)left.tv_sec) * 1e9);
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
}

/* VmHWM first: ru_maxrss survives exec, so it would report the peak of a fatter program that started this one. */
uint64_t bench_rss_peak_kb(void)
{
    char text[4096];
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t length = read(fd, text, sizeof text - 1);
        close(fd);
        text[length > 0 ? length : 0] = '\0';
        const char *line = strstr(text, "VmHWM:");
        if (line != NULL) {
            return strtoull(line + strlen("VmHWM:"), NULL, 10);
        }
    }
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)usage.ru_maxrss;
}

double bench_huge_mib(void)
{
    char text[4096];
    int fd = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0.0;
    }
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    text[length > 0 ? length : 0] = '\0';
    const char *line = strstr(text, "AnonHugePages:");
    return line == NULL ? 0.0 : strtod(line + strlen("AnonHugePages:"), NULL) / 1024.0;
}

uint64_t bench_rss_bytes(void)
{
    char text[128];
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t length = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (length <= 0) {
        bench_fail("cannot read /proc/self/statm");
    }
    close(fd);
    text[length] = '\0';
    char *after_size;
    strtoull(text, &after_size, 10);
    return strtoull(after_size, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE);
}

void bench_report(const char *name, const struct bench_options *options, uint64_t ops, double seconds)
{
    bench_report_figures(name, options, ops, seconds, NULL, 0);
}

void bench_report_figures(const char *name, const struct bench_options *options, uint64_t ops, double seconds,
                          const struct bench_figure *figures, size_t figure_count)
{
    double ops_per_s = seconds > 0.0 ? (double)ops / seconds : 0.0;
    uint64_t rss_peak_kb = bench_rss_peak_kb();
    if (options->json) {
        printf("{\"bench\":\"%s\",\"name\":\"%s\",\"threads\":%" PRIu64 ",\"ops\":%" PRIu64 ",\"seconds\":%.6f,"
               "\"ops_per_s\":%.0f,\"rss_peak_kb\":%" PRIu64 ",\"seed\":%" PRIu64,
               name, name, options->threads, ops, seconds, ops_per_s, rss_peak_kb, options->seed);
        for (size_t i = 0; i < figure_count; i++) {
            printf(",\"%s\":%.10g", figures[i].name, figures[i].value);
        }
        if (bench_report_latency != NULL) {
            bench_report_latency(true);
        }
        printf("}\n");
    } else {
        printf("%s: %.2f M ops/s (%" PRIu64 " threads, %" PRIu64 " ops in %.3f s, RSS peak %" PRIu64 " KiB, "
               "seed %" PRIu64 "%s)\n",
               name, ops_per_s / 1e6, options->threads, ops, seconds, rss_peak_kb, options->seed,
               options->check ? ", contents checked" : "");
        for (size_t i = 0; i < figure_count; i++) {
            printf("  %-28s %.6g\n", figures[i].name, figures[i].value);
        }
        if (bench_report_latency != NULL) {
            bench_report_latency(false);
        }
    }
}

void *bench_map(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) {
        bench_fail("cannot map %zu bytes: %s", bytes, strerror(errno));
    }
    return memory;
}

/* Finaliser of MurmurHash3 (Austin Appleby, public domain). */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 33)) * UINT64_C(0xff51afd7ed558ccd);
    x = (x ^ (x >> 33)) * UINT64_C(0xc4ceb9fe1a85ec53);
    return x ^ (x >> 33);
}

uint64_t bench_seed(uint64_t seed, uint64_t stream)
{
    uint64_t state = mix(seed + (stream + 1) * UINT64_C(0x9e3779b97f4a7c15));
    return state != 0 ? state : 1;
}

static unsigned char pattern_byte(uint64_t key, size_t index)
{
    return (unsigned char)((key >> (index % 8 * 8)) + index / 8);
}

void bench_fill(void *block, size_t size, uint64_t salt)
{
    unsigned char *bytes = block;
    uint64_t key = mix((uintptr_t)block ^ mix(size + salt));
    for (size_t i = 0; i < size; i++) {
        bytes[i] = pattern_byte(key, i);
    }
}

void bench_verify(const void *block, size_t size, uint64_t salt)
{
    const unsigned char *bytes = block;
    uint64_t key = mix((uintptr_t)block ^ mix(size + salt));
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != pattern_byte(key, i)) {
            bench_fail("block %p of %zu bytes: byte %zu is 0x%02x, written was 0x%02x", block, size, i, bytes[i],
                       pattern_byte(key, i));
        }
    }
}
