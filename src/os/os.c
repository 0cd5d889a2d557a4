#define _GNU_SOURCE
#include "os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/bits.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef MADV_KEEPONFORK
#define MADV_KEEPONFORK 19
#endif
#ifndef MADV_COLD
#define MADV_COLD 20
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef GRND_NONBLOCK
#define GRND_NONBLOCK 1
#endif

extern char **environ;
/* glibc's loader: the stack as the kernel left it, argc first. Weak: other libcs lack it and do not need it. */
extern void *__libc_stack_end __attribute__((weak));

/* Written once by os_start before a second thread exists. */
static size_t page_bytes = 4096;
static unsigned address_bits = 47;

/* Whether the kernel can move pages and leave the mapping. Atomic relaxed; threads that try it at once store the same. */
enum remaps_pages { REMAPS_UNTRIED, REMAPS_NOT, REMAPS };
static uint32_t remaps_pages;

#if UNDER_THREAD_SANITIZER
char os_addresses;
#endif

static void *map_raw(void *want, size_t bytes, int flags)
{
    int saved = errno;
    long address = syscall(SYS_mmap, want, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0L);
    errno = saved;
    OS_HAS_ADDRESSES();
    return address == -1 ? NULL : (void *)address;
}

void os_start(void)
{
    unsigned long reported = getauxval(AT_PAGESZ);
    if (reported != 0)
        page_bytes = reported;
    /* The stack and the vDSO stand near the top of the address space: the highest bit seen is its width. */
    int here;
    uintptr_t top = (uintptr_t)&here | (uintptr_t)getauxval(AT_SYSINFO_EHDR) | (uintptr_t)getauxval(AT_RANDOM);
    unsigned bits = highest_bit(top) + 1;
    address_bits = bits > 47 ? 47 : bits; /* never hint above 47 bits: programs tag pointers there */
}

size_t os_page_bytes(void)
{
    return page_bytes;
}

unsigned os_address_bits(void)
{
    return address_bits;
}

enum os_map_result os_map_at(uintptr_t want, size_t bytes)
{
    int saved = errno;
    long address = syscall(SYS_mmap, want, bytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0L);
    int error = errno;
    errno = saved;
    OS_HAS_ADDRESSES();
    if (address == -1)
        return error == EEXIST ? OS_MAP_OCCUPIED : OS_MAP_NO_MEMORY;
    if ((uintptr_t)address == want)
        return OS_MAP_OK;
    /* A kernel before 4.17 takes the flag for a plain hint. */
    os_unmap((void *)address, bytes);
    return OS_MAP_OCCUPIED;
}

void *os_map(size_t bytes, size_t alignment)
{
    if (alignment <= page_bytes)
        return map_raw(NULL, bytes, 0);
    char *plain = map_raw(NULL, bytes, 0);
    if (plain == NULL || ((uintptr_t)plain & (alignment - 1)) == 0)
        return plain;
    os_unmap(plain, bytes);
    size_t padded;
    if (__builtin_add_overflow(bytes, alignment - page_bytes, &padded))
        return NULL;
    char *start = map_raw(NULL, padded, 0);
    if (start == NULL)
        return NULL;
    char *aligned = (char *)align_up((uintptr_t)start, alignment);
    size_t before = (size_t)(aligned - start);
    size_t after = padded - before - bytes;
    if (before != 0)
        os_unmap(start, before);
    if (after != 0)
        os_unmap(aligned + bytes, after);
    return aligned;
}

OS_REPLACEABLE bool os_unmap(void *address, size_t bytes)
{
    int saved = errno;
    OS_GIVES_UP_ADDRESSES();
    bool ok = syscall(SYS_munmap, address, bytes) == 0;
    errno = saved;
    return ok;
}

OS_REPLACEABLE void *os_remap(void *address, size_t old_bytes, size_t new_bytes)
{
    int saved = errno;
    OS_GIVES_UP_ADDRESSES();
    long moved = syscall(SYS_mremap, address, old_bytes, new_bytes, MREMAP_MAYMOVE);
    errno = saved;
    OS_HAS_ADDRESSES();
    return moved == -1 ? NULL : (void *)moved;
}

static bool advise(void *address, size_t bytes, int advice)
{
    int saved = errno;
    bool ok = syscall(SYS_madvise, address, bytes, advice) == 0;
    errno = saved;
    return ok;
}

/* The kernel's ABI (futex(2)); spelled out because musl's tool chain comes without the kernel's headers. */
enum { FUTEX_WAIT_PRIVATE = 0 | 128, FUTEX_WAKE_PRIVATE = 1 | 128, FUTEX_WAKE_OP_PRIVATE = 5 | 128, FUTEX_ADD_ZERO = 1 << 28 };

/* A mapping may grow where it stands, or there is no room; but never does the kernel let a range grow that is in two. */
static bool is_one_mapping(char *address, size_t bytes)
{
    int saved = errno;
    bool has_grown = syscall(SYS_mremap, address, bytes, bytes + page_bytes, 0) != -1;
    bool is_one = has_grown || errno == ENOMEM || errno == EAGAIN; /* EAGAIN: locked, and so much must not be */
    errno = saved;
    if (has_grown)
        os_unmap(address + bytes, page_bytes);
    return is_one;
}

/* The kernel writes the first word as it is. Of all calls that write this is one that sandboxes allow: mutexes need it. */
static bool is_writable(void *address)
{
    int saved = errno;
    bool ok = syscall(SYS_futex, address, FUTEX_WAKE_OP_PRIVATE, 0, NULL, address, FUTEX_ADD_ZERO) != -1;
    errno = saved;
    return ok;
}

bool os_can_be_reused(void *address, size_t bytes)
{
    static const int as_new[] = { MADV_DOFORK, MADV_KEEPONFORK, MADV_DODUMP };
    if (!is_one_mapping(address, bytes) || !is_writable(address))
        return false;
    for (unsigned i = 0; i < sizeof as_new / sizeof as_new[0]; i++)
        advise(address, bytes, as_new[i]);
    return true;
}

static void *remap_pages(void *address, size_t bytes, void *wish)
{
    int saved = errno;
    long moved = syscall(SYS_mremap, address, bytes, bytes, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, wish);
    errno = saved;
    OS_HAS_ADDRESSES();
    return moved == -1 ? NULL : (void *)moved;
}

/* qemu's user mode passes the flag on, but takes the old addresses for vacant: system calls refuse them from then on. So
 * it is tried out on a page of no worth. */
static enum remaps_pages try_remap_pages(void)
{
    char *page = map_raw(NULL, page_bytes, 0);
    if (page == NULL)
        return REMAPS_UNTRIED;
    char *moved = remap_pages(page, page_bytes, NULL);
    int saved = errno;
    bool stays = moved != NULL && syscall(SYS_clock_gettime, CLOCK_MONOTONIC, page) == 0;
    errno = saved;
    os_unmap(page, page_bytes);
    if (moved != NULL)
        os_unmap(moved, page_bytes);
    return stays ? REMAPS : REMAPS_NOT;
}

OS_REPLACEABLE void *os_remap_pages(void *address, size_t bytes, void *wish)
{
    uint32_t known = load_relaxed(&remaps_pages);
    if (known == REMAPS_UNTRIED) {
        known = try_remap_pages();
        store_relaxed(&remaps_pages, known);
    }
    /* Of all advice this is the one that harms nothing and is refused for locked pages. The last page is the one that is
     * most likely not there. */
    if (known != REMAPS || !advise((char *)address + bytes - page_bytes, page_bytes, MADV_COLD))
        return NULL;
    return remap_pages(address, bytes, wish);
}

bool os_purge(void *address, size_t bytes)
{
    return advise(address, bytes, MADV_DONTNEED);
}

void os_populate(void *address, size_t bytes)
{
    if (advise(address, bytes, MADV_POPULATE_WRITE))
        return;
    /* Before 5.14: touch each page. The range is fresh, so writing a zero changes nothing. */
    for (size_t at = 0; at < bytes; at += page_bytes)
        ((volatile char *)address)[at] = 0;
}

OS_REPLACEABLE bool os_advise_huge(void *address, size_t bytes)
{
    return advise(address, bytes, MADV_HUGEPAGE);
}

OS_REPLACEABLE bool os_no_huge_pages(void *address, size_t bytes)
{
    return advise(address, bytes, MADV_NOHUGEPAGE);
}

bool os_collapse(void *address, size_t bytes)
{
    return advise(address, bytes, MADV_COLLAPSE);
}

static struct timespec clock_now(clockid_t clock)
{
    struct timespec now;
    int saved = errno;
    if (clock_gettime(clock, &now) != 0)
        now = (struct timespec){ 0 };
    errno = saved;
    return now;
}

OS_REPLACEABLE uint64_t os_clock_ms(void)
{
    struct timespec now = clock_now(CLOCK_MONOTONIC_COARSE);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

uint64_t os_clock_us(void)
{
    struct timespec now = clock_now(CLOCK_MONOTONIC);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

bool os_read_text(const char *path, char *text, size_t capacity)
{
    int saved = errno;
    long got = 0;
    long file = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (file >= 0) {
        got = syscall(SYS_read, file, text, capacity - 1);
        syscall(SYS_close, file);
    }
    errno = saved;
    text[got > 0 ? got : 0] = '\0';
    return got > 0;
}

uint64_t os_random(void)
{
    uint64_t value = 0;
    int saved = errno;
    if (syscall(SYS_getrandom, &value, sizeof value, GRND_NONBLOCK) != (long)sizeof value) {
        const uint64_t *seed = (const uint64_t *)getauxval(AT_RANDOM); /* 16 bytes from the kernel, aligned or not */
        if (seed != NULL)
            __builtin_memcpy(&value, seed, sizeof value);
        value ^= (os_clock_ms() + (uint64_t)os_process_id()) * 0x9e3779b97f4a7c15u;
    }
    errno = saved;
    return value;
}

bool os_is_secure(void)
{
    return getauxval(AT_SECURE) != 0;
}

char *const *os_environment(void)
{
    /* glibc's loader calls malloc before libc has set environ. */
    if (environ == NULL && &__libc_stack_end != NULL && __libc_stack_end != NULL) {
        long argument_count = *(long *)__libc_stack_end;
        return (char *const *)__libc_stack_end + 1 + argument_count + 1;
    }
    return environ;
}

int os_process_id(void)
{
    return (int)syscall(SYS_getpid);
}

int os_thread_id(void)
{
    return (int)syscall(SYS_gettid);
}

void os_name_thread(const char *name)
{
    int saved = errno;
    syscall(SYS_prctl, PR_SET_NAME, name, 0L, 0L, 0L);
    errno = saved;
}

void os_futex_wait(uint32_t *word, uint32_t value, uint64_t timeout_ms)
{
    int saved = errno;
    struct timespec timeout = { .tv_sec = (time_t)(timeout_ms / 1000u), .tv_nsec = (long)(timeout_ms % 1000u) * 1000000 };
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, timeout_ms == OS_FOREVER ? NULL : &timeout, NULL, 0);
    errno = saved;
}

void os_futex_wake(uint32_t *word)
{
    int saved = errno;
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    errno = saved;
}
