/* The parts of the stress programs that are the same in each; see common.h. */
#define _GNU_SOURCE
#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { MAX_OPTIONS = 16 };

static const char *volatile watchdog_subject = "the program";

static void write_all(const char *text, size_t length)
{
    while (length > 0) {
        ssize_t written = write(STDERR_FILENO, text, length);
        if (written < 0 && errno != EINTR) {
            return;
        }
        if (written > 0) {
            text += written;
            length -= (size_t)written;
        }
    }
}

void stress_fail(const char *format, ...)
{
    char text[1024];
    int length = snprintf(text, sizeof text, "%s: ", program_invocation_short_name);
    va_list arguments;
    va_start(arguments, format);
    length += vsnprintf(text + length, sizeof text - (size_t)length, format, arguments);
    va_end(arguments);
    if ((size_t)length > sizeof text - 2) {
        length = sizeof text - 2;
    }
    text[length] = '\n';
    write_all(text, (size_t)length + 1);
    _exit(1);
}

static void show_usage(const char *about, const struct stress_option *options, size_t count)
{
    printf("%s\n\nusage: %s [option ...]\n", about, program_invocation_short_name);
    for (size_t i = 0; i < count; i++) {
        printf("  --%-12s %s (default ", options[i].name, options[i].help);
        if (options[i].text != NULL) {
            printf("%s)\n", *options[i].text);
        } else {
            printf("%" PRIu64 ")\n", *options[i].number);
        }
    }
}

static void set_option(const struct stress_option *option, const char *value)
{
    if (option->text != NULL) {
        *option->text = value;
        return;
    }
    char *end;
    errno = 0;
    unsigned long long number = strtoull(value, &end, 0);
    if (errno != 0 || end == value || *end != '\0' || value[0] == '-' || number < option->min || number > option->max) {
        fprintf(stderr, "%s: --%s: '%s' is not a whole number in %" PRIu64 "..%" PRIu64 "\n",
                program_invocation_short_name, option->name, value, option->min, option->max);
        exit(2);
    }
    *option->number = number;
}

void stress_parse(int argc, char **argv, const char *about, const struct stress_option *options, size_t count)
{
    struct option table[MAX_OPTIONS + 2];
    if (count > MAX_OPTIONS) {
        stress_fail("too many options");
    }
    memset(table, 0, sizeof table);
    for (size_t i = 0; i < count; i++) {
        table[i] = (struct option){options[i].name, required_argument, NULL, (int)i};
    }
    table[count] = (struct option){"help", no_argument, NULL, MAX_OPTIONS};
    for (int choice; (choice = getopt_long(argc, argv, "", table, NULL)) != -1;) {
        if (choice == '?') {
            exit(2);
        }
        if (choice == MAX_OPTIONS) {
            show_usage(about, options, count);
            exit(0);
        }
        set_option(&options[choice], optarg);
    }
    if (optind < argc) {
        fprintf(stderr, "%s: unexpected argument '%s'\n", program_invocation_short_name, argv[optind]);
        exit(2);
    }
}

static void on_alarm(int signal_number)
{
    (void)signal_number;
    static const char text[] = "watchdog: hangs: ";
    const char *subject = watchdog_subject;
    write_all(program_invocation_short_name, strlen(program_invocation_short_name));
    write_all(": ", 2);
    write_all(text, sizeof text - 1);
    write_all(subject, strlen(subject));
    write_all("\n", 1);
    _exit(1);
}

void stress_watchdog(unsigned seconds, const char *what)
{
    struct sigaction action = {.sa_handler = on_alarm};
    watchdog_subject = what;
    sigaction(SIGALRM, &action, NULL);
    alarm(seconds);
}

double stress_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

void stress_sleep_ms(unsigned milliseconds)
{
    struct timespec left = {.tv_sec = milliseconds / 1000, .tv_nsec = (long)(milliseconds % 1000) * 1000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
}

/* Reads a small file of /proc without stdio, which would allocate. */
static bool read_file(const char *path, char *text, size_t capacity)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    ssize_t length = read(fd, text, capacity - 1);
    close(fd);
    text[length > 0 ? length : 0] = '\0';
    return length > 0;
}

/* statm's figure lags by per-CPU batches and is off by megabytes with many CPUs: hence smaps_rollup first. */
size_t stress_rss_bytes(void)
{
    char text[4096];
    if (read_file("/proc/self/smaps_rollup", text, sizeof text)) {
        const char *line = strstr(text, "\nRss:");
        if (line != NULL) {
            return (size_t)strtoull(line + strlen("\nRss:"), NULL, 10) * KIB;
        }
    }
    if (!read_file("/proc/self/statm", text, sizeof text)) {
        stress_fail("cannot read /proc/self/statm");
    }
    const char *resident = strchr(text, ' ');
    return resident == NULL ? 0 : (size_t)strtoull(resident, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE);
}

size_t stress_address_space_bytes(void)
{
    char text[4096];
    if (!read_file("/proc/self/statm", text, sizeof text)) {
        stress_fail("cannot read /proc/self/statm");
    }
    return (size_t)strtoull(text, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE);
}

void *stress_map(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        stress_fail("cannot map %zu bytes for tables: %s", bytes, strerror(errno));
    }
    return memory;
}

void stress_unmap(void *memory, size_t bytes)
{
    munmap(memory, bytes);
}

uint64_t stress_mix(uint64_t x)
{
    x = (x ^ (x >> 33)) * UINT64_C(0xff51afd7ed558ccd);
    x = (x ^ (x >> 33)) * UINT64_C(0xc4ceb9fe1a85ec53);
    return x ^ (x >> 33);
}

uint64_t stress_seed(uint64_t seed, uint64_t stream)
{
    uint64_t state = stress_mix(seed + (stream + 1) * UINT64_C(0x9e3779b97f4a7c15));
    return state != 0 ? state : 1;
}

uint64_t stress_key(const void *block, uint64_t serial)
{
    return stress_mix((uintptr_t)block ^ stress_mix(serial));
}

/* The pattern is a sequence of words, each the key plus a multiple of an odd constant: cheap enough for 8 MiB
 * blocks. */
static uint64_t pattern_word(uint64_t key, size_t index)
{
    return key + index * UINT64_C(0x9e3779b97f4a7c15);
}

void stress_fill(void *block, size_t size, uint64_t key)
{
    unsigned char *bytes = block;
    size_t words = size / sizeof(uint64_t);
    for (size_t i = 0; i < words; i++) {
        uint64_t word = pattern_word(key, i);
        memcpy(bytes + i * sizeof word, &word, sizeof word);
    }
    uint64_t tail = pattern_word(key, words);
    memcpy(bytes + words * sizeof tail, &tail, size % sizeof tail);
}

static void report_mismatch(const unsigned char *bytes, size_t size, size_t from, uint64_t key, const char *what)
{
    for (size_t i = from; i < size; i++) {
        uint64_t word = pattern_word(key, i / sizeof word);
        unsigned char want = ((const unsigned char *)&word)[i % sizeof word];
        if (bytes[i] != want) {
            stress_fail("CORRUPTION: %s: block %p of %zu bytes: byte %zu is 0x%02x, written was 0x%02x", what,
                        (const void *)bytes, size, i, bytes[i], want);
        }
    }
}

void stress_verify(const void *block, size_t size, uint64_t key, const char *what)
{
    const unsigned char *bytes = block;
    size_t words = size / sizeof(uint64_t);
    for (size_t i = 0; i < words; i++) {
        uint64_t word;
        memcpy(&word, bytes + i * sizeof word, sizeof word);
        if (__builtin_expect(word != pattern_word(key, i), 0)) {
            report_mismatch(bytes, size, i * sizeof word, key, what);
        }
    }
    uint64_t tail = pattern_word(key, words);
    if (memcmp(bytes + words * sizeof tail, &tail, size % sizeof tail) != 0) {
        report_mismatch(bytes, size, words * sizeof tail, key, what);
    }
}

void stress_verify_zero(const void *block, size_t size, const char *what)
{
    const unsigned char *bytes = block;
    /* A range is all zero iff its first byte is and it equals itself shifted by one. */
    if (size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0)) {
        return;
    }
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != 0) {
            stress_fail("CORRUPTION: %s: block %p of %zu bytes: byte %zu is 0x%02x, not zero", what, block, size, i,
                        bytes[i]);
        }
    }
}
