/* The operating system, behind one header. Every function preserves errno, uses raw system calls (the libc wrappers
 * may be interposed by a library that itself allocates), and allocates nothing. Addresses and lengths are multiples
 * of the page size unless said otherwise. Thread-safe. */
#ifndef HAKMEM_OS_OS_H
#define HAKMEM_OS_OS_H

#include "base/atomic.h"
#include "base/attr.h"

/* Marks what a unit test may define anew, to act as another machine. */
#define OS_REPLACEABLE __attribute__((weak))

/* ---- facts, valid after os_start() (idempotent, called once by lifecycle before a second thread exists) ---- */
void os_start(void);
size_t os_page_bytes(void);
unsigned os_address_bits(void); /* width of the addresses to use: 47, or less where the kernel gives less (39 or 42 on some aarch64) */

/* ---- address space ---- */
enum os_map_result { OS_MAP_OK, OS_MAP_OCCUPIED, OS_MAP_NO_MEMORY };
/* Zeroed read-write memory at exactly `want`. OCCUPIED: something else is there (it is left alone). */
enum os_map_result os_map_at(uintptr_t want, size_t bytes);
/* Zeroed read-write memory wherever the kernel likes, aligned to `alignment`; NULL when there is none. */
void *os_map(size_t bytes, size_t alignment);
/* False when the kernel refused (too many mappings): the range is then still mapped. */
bool os_unmap(void *address, size_t bytes);
/* Resizes a mapping of its own, moving it if it must; NULL leaves the old one as it was. */
void *os_remap(void *address, size_t old_bytes, size_t new_bytes);
/* Moves the pages of a part of a mapping to a mapping of their own, at `wish` if nothing is there. The part stays mapped
 * and reads as zero. NULL: all is as it was. There is no memory, the part lies in two mappings, its pages are locked (the
 * kernel would unlock the mapping they come from), or the kernel (before 5.7) cannot. */
void *os_remap_pages(void *address, size_t bytes, void *wish);
/* Whether another owner may have this part of a mapping, after a program that could do to it what it liked. False: there are
 * holes in it, or it cannot be written to everywhere, or the kernel does not tell. True: that it be kept from children
 * and core dumps has been undone; locked, or bound to a node, it may still be. One page may have been touched.
 * mprotect would do, but is not among the calls that a sandbox must allow. */
bool os_can_be_reused(void *address, size_t bytes);
/* Gives the pages back, keeps the addresses. True: they read as zero from now on; false (locked pages): they keep
 * their bytes. */
bool os_purge(void *address, size_t bytes);
/* Faults every page in, writable. Best effort. */
void os_populate(void *address, size_t bytes);

/* ---- huge pages: advice for whole ranges, best effort. Each call may split a mapping or join two ---- */
/* False where the kernel knows no huge pages, or has no room for one more mapping. */
bool os_advise_huge(void *address, size_t bytes);
bool os_no_huge_pages(void *address, size_t bytes);
/* Moves what is there into huge pages now. False: there is none to be had, or the kernel (before 6.1) cannot. */
bool os_collapse(void *address, size_t bytes);
/* What the administrator allows, read on the first call and kept. UNKNOWN: the kernel does not say. */
enum os_huge_page_mode { OS_HUGE_UNREAD, OS_HUGE_ALWAYS, OS_HUGE_MADVISE, OS_HUGE_NEVER, OS_HUGE_UNKNOWN };
enum os_huge_page_mode os_huge_page_mode(void);
enum os_huge_page_mode os_huge_page_mode_in(const char *path); /* reads that file, keeps nothing */

/* ---- memory nodes ---- */
#define OS_NODES_MAX 1024u /* as Linux has it */
/* One more than the highest number of a node, read on the first call and kept; 1 where the kernel does not say. */
uint32_t os_node_count(void);
uint32_t os_node_count_in(const char *path); /* reads that file, keeps nothing */
/* The node that the calling thread runs on at this moment. A system call only where libc has no vDSO for it. */
uint32_t os_current_node(void);
/* What os_node_count has found, 0 before. Atomic relaxed; threads that find it at once store the same. */
extern uint32_t os_nodes;

/* One predictable branch where there is one node, or nobody has asked yet. */
FAST bool os_has_nodes(void)
{
    return UNLIKELY(load_relaxed(&os_nodes) > 1);
}

/* ---- the rest ---- */
uint64_t os_clock_ms(void); /* coarse, monotonic */
uint64_t os_clock_us(void); /* fine, monotonic: for measuring what a system call took */
/* The beginning of a small file of the kernel's, NUL-terminated. False: there is none, or it is empty. */
bool os_read_text(const char *path, char *text, size_t capacity);
uint64_t os_random(void);   /* never blocks; for placement, not for secrets */
bool os_is_secure(void);    /* AT_SECURE: set-user-ID and the like */
char *const *os_environment(void); /* may be NULL very early */
int os_process_id(void);

/* ---- threads ---- */
int os_thread_id(void); /* the main thread's is the process's */
void os_name_thread(const char *name); /* the calling one; what ps and a debugger show. At most 15 characters */
#define OS_FOREVER UINT64_MAX
/* Sleeps while *word == value, until os_futex_wake or for timeout_ms. May return early: look again. */
void os_futex_wait(uint32_t *word, uint32_t value, uint64_t timeout_ms);
void os_futex_wake(uint32_t *word); /* one thread */

/* The kernel hands addresses out again only after they were given up; ThreadSanitizer does not see that in raw system
 * calls, and would hold an earlier owner's writes against the next one. For whoever makes such calls. */
#if UNDER_THREAD_SANITIZER
extern char os_addresses;
void __tsan_acquire(void *address);
void __tsan_release(void *address);
#define OS_GIVES_UP_ADDRESSES() __tsan_release(&os_addresses)
#define OS_HAS_ADDRESSES() __tsan_acquire(&os_addresses)
#else
#define OS_GIVES_UP_ADDRESSES() ((void)0)
#define OS_HAS_ADDRESSES() ((void)0)
#endif

#endif
