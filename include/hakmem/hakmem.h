/* HAKMEM's own names. Each function of the malloc family has a twin here that begins with hakmem_ and always reaches
 * HAKMEM, whoever serves the plain name; where libhakmem serves both, a block had under one name may be freed under the
 * other.
 *
 * All functions are thread-safe. None but hakmem_malloc_info, hakmem_malloc_stats and hakmem_learn_export does input or
 * output. Sizes are in bytes. Unless said otherwise a function that cannot get memory, or is asked for more than PTRDIFF_MAX bytes, returns
 * NULL and sets errno to ENOMEM; one that succeeds leaves errno alone. Blocks are aligned to 16 bytes at least. A
 * pointer that is not a live block's is an error of the program: where it is noticed, one line on stderr names it
 * and the process aborts. */
#ifndef HAKMEM_H
#define HAKMEM_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#if defined(__GNUC__)
#define HAKMEM_ATTR(...) __attribute__((__VA_ARGS__))
#else
#define HAKMEM_ATTR(...)
#endif

#if !defined(__cplusplus)
#define HAKMEM_NOTHROW
#elif __cplusplus >= 201103L
#define HAKMEM_NOTHROW noexcept
#else
#define HAKMEM_NOTHROW throw()
#endif

/* A fresh block that nothing else points to, of the size in the given argument (or the product of two). */
#define HAKMEM_FRESH(...) HAKMEM_ATTR(__malloc__, __warn_unused_result__, __alloc_size__(__VA_ARGS__))
#define HAKMEM_RESIZED(...) HAKMEM_ATTR(__warn_unused_result__, __alloc_size__(__VA_ARGS__))

#ifdef __cplusplus
extern "C" {
#endif

/* ---- C and POSIX ---- */

void *hakmem_malloc(size_t bytes) HAKMEM_NOTHROW HAKMEM_FRESH(1);
void *hakmem_calloc(size_t count, size_t size) HAKMEM_NOTHROW HAKMEM_FRESH(1, 2);
/* As in glibc: bytes 0 frees the block and returns NULL. On failure the old block lives on. */
void *hakmem_realloc(void *block, size_t bytes) HAKMEM_NOTHROW HAKMEM_RESIZED(2);
void hakmem_free(void *block) HAKMEM_NOTHROW;
/* C11, any size, as in glibc: it need not be a multiple of the alignment. */
void *hakmem_aligned_alloc(size_t alignment, size_t bytes) HAKMEM_NOTHROW HAKMEM_FRESH(2) HAKMEM_ATTR(__alloc_align__(1));
/* alignment: a power of two and a multiple of sizeof(void *). Returns 0, EINVAL or ENOMEM; errno is not touched, and
 * *block only by success. */
int hakmem_posix_memalign(void **block, size_t alignment, size_t bytes) HAKMEM_NOTHROW HAKMEM_ATTR(__warn_unused_result__);
/* C23. The size, and the alignment, are those the block was asked for with. */
void hakmem_free_sized(void *block, size_t bytes) HAKMEM_NOTHROW;
void hakmem_free_aligned_sized(void *block, size_t alignment, size_t bytes) HAKMEM_NOTHROW;

/* ---- glibc and older ---- */

/* An alignment that is no power of two is rounded up to one; EINVAL if there is none. */
void *hakmem_memalign(size_t alignment, size_t bytes) HAKMEM_NOTHROW HAKMEM_FRESH(2);
void *hakmem_valloc(size_t bytes) HAKMEM_NOTHROW HAKMEM_FRESH(1); /* aligned to a page */
void *hakmem_pvalloc(size_t bytes) HAKMEM_NOTHROW HAKMEM_FRESH(1); /* ... and rounded up to whole pages */
void hakmem_cfree(void *block) HAKMEM_NOTHROW;
/* Bytes that may be used, all of which realloc keeps; 0 for NULL. Stable as long as the block is. */
size_t hakmem_malloc_usable_size(void *block) HAKMEM_NOTHROW;

/* ---- the BSDs and macOS ---- */

/* OpenBSD: a product that overflows fails with ENOMEM. */
void *hakmem_reallocarray(void *block, size_t count, size_t size) HAKMEM_NOTHROW HAKMEM_RESIZED(2, 3);
/* NetBSD: block_address is the address of the pointer, which is replaced. Returns 0, ENOMEM, or EOVERFLOW for a product
 * that overflows; errno is not touched. A product of 0 frees the block and makes the pointer NULL. */
int hakmem_reallocarr(void *block_address, size_t count, size_t size) HAKMEM_NOTHROW HAKMEM_ATTR(__warn_unused_result__);
/* FreeBSD: realloc that frees the old block when it fails. */
void *hakmem_reallocf(void *block, size_t bytes) HAKMEM_NOTHROW HAKMEM_RESIZED(2);
/* macOS: as malloc_usable_size, but 0 for an address at which no block of HAKMEM's begins. */
size_t hakmem_malloc_size(const void *block) HAKMEM_NOTHROW;
/* macOS: the usable size that a block of `bytes` would have. */
size_t hakmem_malloc_good_size(size_t bytes) HAKMEM_NOTHROW;

/* ---- introspection ---- */

/* Gives memory back to the system: what the calling thread caches, and every free page. Returns 1 if any was, else 0.
 * pad_bytes of free pages stay for later use. Thread-safe. */
int hakmem_malloc_trim(size_t pad_bytes) HAKMEM_NOTHROW;
/* Returns 1 for glibc's hints about the shape of its heap, which are accepted and change nothing, and for bionic's
 * M_PURGE (-101), which purges; 0 for anything else. */
int hakmem_mallopt(int parameter, int value) HAKMEM_NOTHROW;

/* Laid out like glibc's struct mallinfo and struct mallinfo2. uordblks + hblkhd are the live bytes. */
struct hakmem_mallinfo {
    int arena;    /* bytes of SuperSlabs mapped */
    int ordblks;  /* free blocks in slabs */
    int smblks;   /* free blocks in the threads' magazines */
    int hblks;    /* live blocks with a mapping of their own */
    int hblkhd;   /* ... and their bytes */
    int usmblks;  /* 0 */
    int fsmblks;  /* bytes of the free blocks in magazines */
    int uordblks; /* live bytes, without hblkhd */
    int fordblks; /* arena - uordblks */
    int keepcost; /* bytes that malloc_trim would give back at once */
};
struct hakmem_mallinfo2 {
    size_t arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost;
};
/* A number that does not fit an int is INT_MAX. */
struct hakmem_mallinfo hakmem_mallinfo(void) HAKMEM_NOTHROW;
struct hakmem_mallinfo2 hakmem_mallinfo2(void) HAKMEM_NOTHROW;
/* A readable summary on stderr. */
void hakmem_malloc_stats(void) HAKMEM_NOTHROW;
/* XML in glibc's form. Returns 0, or EINVAL for any option. */
int hakmem_malloc_info(int options, FILE *stream);

/* ---- HAKMEM's own ---- */

/* "MAJOR.MINOR.PATCH". */
const char *hakmem_version(void) HAKMEM_NOTHROW;

/* Later versions append fields and never move one. Exact while no other thread allocates or frees; close, else. */
struct hakmem_stats {
    size_t size; /* bytes of this struct that were filled in */

    uint64_t live_bytes;  /* usable bytes of all blocks that the program holds */
    uint64_t live_blocks;
    uint64_t large_bytes; /* part of live: blocks above 32 KiB in SuperSlabs */
    uint64_t large_blocks;
    uint64_t huge_bytes; /* part of live: blocks with a mapping of their own */
    uint64_t huge_blocks;

    uint64_t mapped_bytes;     /* SuperSlabs mapped, and spare mappings */
    uint64_t resident_bytes;   /* pages behind SuperSlabs and huge blocks, at most */
    uint64_t metadata_bytes;   /* addresses mapped for HAKMEM's own records; pages come as they are touched */
    uint64_t cached_bytes;     /* free blocks in the threads' magazines */
    uint64_t transit_bytes;    /* freed blocks on their way to the heap of another thread */
    uint64_t slab_free_bytes;  /* free blocks in slabs of a bin */
    uint64_t free_dirty_bytes; /* free slabs and spare mappings that hold pages */
    uint64_t free_clean_bytes; /* free slabs without pages */
    uint64_t heaps_attached;   /* heaps of living threads */
    uint64_t heaps_parked;     /* heaps that wait for a thread */

    /* Over the life of the process. */
    uint64_t purged_bytes;        /* given back to the system */
    uint64_t superslabs_mapped;   /* of 2 MiB each */
    uint64_t superslabs_released;
    uint64_t refill_count;   /* batches of blocks from slabs into magazines */
    uint64_t refill_blocks;
    uint64_t flush_count;    /* and back */
    uint64_t flush_blocks;
    uint64_t remote_blocks;  /* blocks freed by another thread than their heap's, and collected by it */
    uint64_t slabs_stolen;   /* slabs that moved from a parked heap to another */
};

/* Fills in the first min(size, what this version knows) bytes of *out; size is sizeof *out as the caller knows it.
 * out->size says how many. Returns 0, or EINVAL if size does not even cover that field. */
int hakmem_stats(struct hakmem_stats *out, size_t size) HAKMEM_NOTHROW;

/* What malloc_trim(0) does; returns the bytes given back. Thread-safe. */
size_t hakmem_purge(void) HAKMEM_NOTHROW;

/* For a thread that is about to wait for long: what it caches serves other threads from now on, or goes back to the system as
 * all free memory does. The thread may go on to allocate at any time; its caches then grow anew. Thread-safe. The idea is
 * gperftools' MallocExtension::MarkThreadIdle. */
void hakmem_thread_idle(void) HAKMEM_NOTHROW;

/* Writes what this process has learned up to now as a profile, a file of KEY=VALUE lines that any later start can be given
 * (docs/tuning.md). %p in the path stands for the process id; NULL: the path of HAKMEM_LEARN_EXPORT. An existing
 * regular file is replaced in one step, so a reader never finds half of one; a link or a device is not touched. Returns
 * 0 or an error number and leaves errno alone: EINVAL for a path that names no regular file, or where NULL is given and
 * no path is set; ENAMETOOLONG; ENOMEM; and whatever open, write and rename may fail with. */
int hakmem_learn_export(const char *path) HAKMEM_NOTHROW;

#ifdef __cplusplus
}
#endif

#endif
