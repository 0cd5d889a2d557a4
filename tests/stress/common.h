/* What every stress program shares: options, random numbers, block patterns, resident memory, and ways to fail
 * loudly. Nothing here allocates through the allocator under test. */
#ifndef HAKMEM_STRESS_COMMON_H
#define HAKMEM_STRESS_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define STRESS_CACHE_LINE_BYTES 64
#define STRESS_MAX_THREADS 256

/* Under a sanitizer RSS and address space are the sanitizer's, so bounds on them are printed but not enforced. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define STRESS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define STRESS_SANITIZED 1
#endif
#endif
#ifndef STRESS_SANITIZED
#define STRESS_SANITIZED 0
#endif

/* ThreadSanitizer's runtime stops a child of a threaded process that starts a thread: it still knows the threads that
 * the fork left behind, and takes the new one, at the same address, for one of them. */
#if defined(__SANITIZE_THREAD__)
#define STRESS_THREADS_AFTER_FORK 0
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define STRESS_THREADS_AFTER_FORK 0
#endif
#endif
#ifndef STRESS_THREADS_AFTER_FORK
#define STRESS_THREADS_AFTER_FORK 1
#endif

/* One command-line option: a number in min..max, or, where `text` is set, a word. */
struct stress_option {
    const char *name;
    const char *help;
    uint64_t *number;
    uint64_t min;
    uint64_t max;
    const char **text;
};

/* Parses argv into the options' variables, whose present values are the defaults. --help prints them and exits 0;
 * anything unusable exits 2. */
void stress_parse(int argc, char **argv, const char *about, const struct stress_option *options, size_t count);

/* Prints "PROGRAM: message" on stderr in one write and exits 1 at once: after corruption nothing else can be
 * trusted. */
void stress_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* Ends the process with a message if it is still here after so many seconds; each call sets the clock anew, 0 stops it.
 * Forked children do not inherit it. */
void stress_watchdog(unsigned seconds, const char *what);

double stress_now(void);
void stress_sleep_ms(unsigned milliseconds);

/* Resident set of the process now, in bytes, exact where the kernel has smaps_rollup. */
size_t stress_rss_bytes(void);

/* Address space in use, in bytes. */
size_t stress_address_space_bytes(void);

/* Zeroed memory for the program's own tables, straight from the kernel. */
void *stress_map(size_t bytes);
void stress_unmap(void *memory, size_t bytes);

/* Murmur3's finaliser: a bijection in which every input bit reaches every output bit. */
uint64_t stress_mix(uint64_t x);

/* A generator's start for a user's seed and the number of a thread or the like; never 0. */
uint64_t stress_seed(uint64_t seed, uint64_t stream);

/* xorshift64. */
static inline uint64_t stress_random(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    *state = x;
    return x;
}

/* Uniform in min..max. */
static inline size_t stress_between(uint64_t *state, size_t min, size_t max)
{
    return min + (size_t)((stress_random(state) >> 11) % (max - min + 1));
}

/* Patterns. The key belongs to one block's life: it mixes the address with a serial number, so that a block handed out
 * twice, a neighbour that overlaps, and contents left from an earlier life all show. */
uint64_t stress_key(const void *block, uint64_t serial);
void stress_fill(void *block, size_t size, uint64_t key);

/* Fails, naming `what`, the block and the first wrong byte, unless the first `size` bytes carry the key's pattern. */
void stress_verify(const void *block, size_t size, uint64_t key, const char *what);

/* Fails unless the bytes are zero. */
void stress_verify_zero(const void *block, size_t size, const char *what);

#endif
