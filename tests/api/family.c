/* malloc, calloc, realloc, free; their relatives from the BSDs, macOS and C23; glibc's own names; C++'s operators. */
#define _GNU_SOURCE
#include "api.h"

#include <dlfcn.h>

static const size_t sizes[] = {1,    8,    16,    17,    24,    64,     65,     200,     1024,    2000,
                               2048, 2049, 10000, 32768, 65537, 300000, 1 << 20, 5000001, 33 << 20};
#define SIZE_COUNT (sizeof sizes / sizeof *sizes)

static void test_malloc_free(void)
{
    unsigned char *block[SIZE_COUNT];
    for (size_t i = 0; i < SIZE_COUNT; i++) {
        block[i] = api.malloc(sizes[i]);
        CHECK(block[i] && aligned_to(block[i], 16));
        CHECK(api.malloc_usable_size(block[i]) >= sizes[i]);
        memset(block[i], (int)i + 1, api.malloc_usable_size(block[i]));
    }
    for (size_t i = 0; i < SIZE_COUNT; i++) {
        CHECK(api_all_bytes(block[i], sizes[i], (unsigned char)(i + 1)));
        errno = 4711;
        i % 2 && api.cfree ? api.cfree(block[i]) : api.free(block[i]);
        CHECK(errno == 4711); /* free leaves errno alone, whatever system calls it made */
    }
    errno = 4711;
    api.free(NULL);
    CHECK(errno == 4711);
    CHECK(api.malloc_usable_size(NULL) == 0);
}

static void test_zero_size(void)
{
    void *a = api.malloc(0), *b = api.malloc(0), *c = api.calloc(0, 8), *d = api.realloc(NULL, 0);
    CHECK(a && b && c && d && a != b && c != d);
    api.free(a);
    api.free(b);
    api.free(c);
    api.free(d);
    CHECK(api.realloc(api.malloc(100), 0) == NULL); /* as glibc: freed */
}

/* Too large or wrapping: NULL and ENOMEM, and the old block lives. */
static void test_too_much(void)
{
    char *kept = api.malloc(100);
    memset(kept, 'k', 100);
    errno = 0;
    CHECK(api.malloc(api_too_much) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(api.malloc(SIZE_MAX - (api_too_much & 1)) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(api.calloc(api_half_of_all, 2) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(api.calloc(2, api_half_of_all) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(api.calloc(1, api_too_much) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(api.realloc(kept, api_too_much) == NULL && errno == ENOMEM);
    if (api.reallocarray) {
        errno = 0;
        CHECK(api.reallocarray(kept, api_half_of_all, 2) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(api.reallocarray(kept, api_too_much, 1) == NULL && errno == ENOMEM);
    }
    CHECK(api_all_bytes(kept, 100, 'k'));
    api.free(kept);
}

static void test_calloc(void)
{
    for (size_t i = 0; i < SIZE_COUNT; i++) {
        for (int round = 0; round < 3; round++) {
            unsigned char *p = api.calloc(1, sizes[i]);
            CHECK(p && api_all_bytes(p, sizes[i], 0));
            memset(p, 0xff, api.malloc_usable_size(p)); /* dirty for the next round */
            api.free(p);
        }
        unsigned char *q = api.calloc(sizes[i], 3);
        CHECK(q && api_all_bytes(q, sizes[i] * 3, 0));
        api.free(q);
    }
}

static void test_realloc(void)
{
    for (size_t i = 0; i < SIZE_COUNT; i++)
        for (size_t k = 0; k < SIZE_COUNT; k++) {
            size_t common = sizes[i] < sizes[k] ? sizes[i] : sizes[k];
            unsigned char *p = api.realloc(NULL, sizes[i]);
            memset(p, 0x3c, sizes[i]);
            p = api.realloc(p, sizes[k]);
            CHECK(p && aligned_to(p, 16) && api.malloc_usable_size(p) >= sizes[k]);
            CHECK(api_all_bytes(p, common, 0x3c));
            p[sizes[k] - 1] = 1;
            api.free(p);
        }
}

static void test_usable_size(void)
{
    for (size_t i = 0; i < SIZE_COUNT; i++) {
        unsigned char *p = api.malloc(sizes[i]);
        size_t usable = api.malloc_usable_size(p);
        memset(p, 0x77, usable); /* every usable byte may be written */
        CHECK(api.malloc_usable_size(p) == usable);
        if (api.malloc_size)
            CHECK(api.malloc_size(p) == usable);
        if (api.malloc_good_size) {
            CHECK(api.malloc_good_size(sizes[i]) >= sizes[i]);
            CHECK(api.malloc_good_size(api.malloc_good_size(sizes[i])) == api.malloc_good_size(sizes[i]));
            if (sizes[i] <= 2048)
                CHECK(api.malloc_good_size(sizes[i]) == usable);
        }
        p = api.realloc(p, usable + 1);
        CHECK(p && api_all_bytes(p, usable, 0x77)); /* ... and survives realloc */
        api.free(p);
    }
    if (api.malloc_size)
        CHECK(api.malloc_size(NULL) == 0 && api.malloc_size(sizes) == 0); /* none of the allocator's blocks */
    if (api.malloc_good_size)
        CHECK(api.malloc_good_size(0) >= 1);
}

/* OpenBSD: like calloc's arithmetic, like realloc's rest. */
static void test_reallocarray(void)
{
    NEED(reallocarray);
    int *p = api.reallocarray(NULL, 100, sizeof *p);
    CHECK(p);
    for (int i = 0; i < 100; i++)
        p[i] = i;
    p = api.reallocarray(p, 50000, sizeof *p);
    for (int i = 0; i < 100; i++)
        CHECK(p[i] == i);
    api.free(p);
}

/* NetBSD: the pointer is passed by address, the error is returned, errno stays. */
static void test_reallocarr(void)
{
    NEED(reallocarr);
    char *p = NULL;
    errno = 4711;
    CHECK(api.reallocarr(&p, 10, 10) == 0 && p && errno == 4711);
    memset(p, 'r', 100);
    CHECK(api.reallocarr(&p, 1000, 100) == 0 && api_all_bytes(p, 100, 'r'));
    char *before = p;
    CHECK(api.reallocarr(&p, api_half_of_all, 2) == EOVERFLOW && p == before && errno == 4711);
    CHECK(api.reallocarr(&p, api_too_much, 1) == ENOMEM && p == before && errno == 4711);
    CHECK(api_all_bytes(p, 100, 'r'));
    CHECK(api.reallocarr(&p, 0, 10) == 0 && p == NULL && errno == 4711); /* nothing wanted: freed */
}

/* FreeBSD: a failure frees the old block. Were it not freed, this loop would hold 4 GiB. */
static void test_reallocf(void)
{
    NEED(reallocf);
    char *p = api.reallocf(NULL, 50);
    memset(p, 'f', 50);
    p = api.reallocf(p, 5000);
    CHECK(p && api_all_bytes(p, 50, 'f'));
    api.free(p);
    size_t before = api_resident_bytes();
    for (int i = 0; i < 64; i++) {
        p = api.malloc(1 << 20);
        memset(p, 1, 1 << 20);
        errno = 0;
        CHECK(api.reallocf(p, api_too_much) == NULL && errno == ENOMEM);
    }
    if (api_resident_counts())
        CHECK(api_resident_bytes() < before + (16u << 20));
}

/* C23: the caller says what it asked for. */
static void test_free_sized(void)
{
    NEED(free_sized);
    for (size_t i = 0; i < SIZE_COUNT; i++) {
        api.free_sized(api.malloc(sizes[i]), sizes[i]);
        api.free_sized(api.calloc(1, sizes[i]), sizes[i]);
        api.free_sized(api.realloc(api.malloc(77), sizes[i]), sizes[i]);
    }
    api.free_sized(NULL, 100);
    api.free_sized(api.malloc(0), 0);
}

void test_family(void)
{
    test_malloc_free();
    test_zero_size();
    test_too_much();
    test_calloc();
    test_realloc();
    test_usable_size();
    test_reallocarray();
    test_reallocarr();
    test_reallocf();
    test_free_sized();
}

/* A name in the running process; missing names are findings. */
static void *must_find(const char *name)
{
    void *found = dlsym(RTLD_DEFAULT, name);
    if (!found) {
        printf("missing: %s\n", name);
        api_failures++;
    }
    return found;
}

/* Old programs and some sanitizers call these; they must reach the same heap. */
void test_glibc_names(void)
{
    static const char *const takers[] = {"__libc_malloc", "__libc_valloc", "__libc_pvalloc"};
    static const char *const givers[] = {"__libc_free", "__libc_cfree", "free"};
    for (size_t t = 0; t < 3; t++)
        for (size_t g = 0; g < 3; g++) {
            void *(*take)(size_t) = (void *(*)(size_t))must_find(takers[t]);
            void (*give)(void *) = (void (*)(void *))must_find(givers[g]);
            if (!take || !give)
                continue;
            char *p = take(1000);
            CHECK(p && api.malloc_usable_size(p) >= 1000);
            memset(p, 1, 1000);
            give(p);
            give = api.free;
            give(take(300000));
        }
    void *(*two[])(size_t, size_t) = {(void *(*)(size_t, size_t))must_find("__libc_calloc"),
                                      (void *(*)(size_t, size_t))must_find("__libc_memalign")};
    void *(*grow)(void *, size_t) = (void *(*)(void *, size_t))must_find("__libc_realloc");
    int (*posix)(void **, size_t, size_t) = (int (*)(void **, size_t, size_t))must_find("__posix_memalign");
    if (two[0]) {
        char *p = two[0](10, 30);
        CHECK(p && api_all_bytes(p, 300, 0));
        p = grow ? grow(p, 3000) : api.realloc(p, 3000);
        CHECK(p && api_all_bytes(p, 300, 0) && api.malloc_usable_size(p) >= 3000);
        api.free(p);
    }
    if (two[1]) {
        void *p = two[1](256, 100);
        CHECK(p && aligned_to(p, 256));
        api.free(p);
    }
    void *p = NULL;
    if (posix) {
        CHECK(posix(&p, 512, 100) == 0 && aligned_to(p, 512));
        api.free(p);
        CHECK(posix(&p, 24, 100) == EINVAL);
    }
}

/* The mangled names of C++'s operators, called as C functions: nothrow is passed by reference, align_val_t as a
 * size_t. Exceptions and new-handlers are tests/preload/cases/operators.cc's business. */
void test_cxx_names(void)
{
    static const char nothrow = 0;
    static const char *const plain_new[] = {"_Znwm", "_Znam"};
    static const char *const nothrow_new[] = {"_ZnwmRKSt9nothrow_t", "_ZnamRKSt9nothrow_t"};
    static const char *const aligned_new[] = {"_ZnwmSt11align_val_t", "_ZnamSt11align_val_t"};
    static const char *const aligned_nothrow_new[] = {
        "_ZnwmSt11align_val_tRKSt9nothrow_t", "_ZnamSt11align_val_tRKSt9nothrow_t"};
    static const char *const deletes[][2] = {
        {"_ZdlPv", "_ZdaPv"},
        {"_ZdlPvm", "_ZdaPvm"},
        {"_ZdlPvRKSt9nothrow_t", "_ZdaPvRKSt9nothrow_t"},
        {"_ZdlPvSt11align_val_t", "_ZdaPvSt11align_val_t"},
        {"_ZdlPvmSt11align_val_t", "_ZdaPvmSt11align_val_t"},
        {"_ZdlPvSt11align_val_tRKSt9nothrow_t", "_ZdaPvSt11align_val_tRKSt9nothrow_t"},
    };
    for (int array = 0; array < 2; array++) {
        void *(*n1)(size_t) = (void *(*)(size_t))must_find(plain_new[array]);
        void *(*n2)(size_t, const void *) = (void *(*)(size_t, const void *))must_find(nothrow_new[array]);
        void *(*n3)(size_t, size_t) = (void *(*)(size_t, size_t))must_find(aligned_new[array]);
        void *(*n4)(size_t, size_t, const void *) =
            (void *(*)(size_t, size_t, const void *))must_find(aligned_nothrow_new[array]);
        void (*d[6])(void *, uintptr_t, uintptr_t);
        bool whole = n1 && n2 && n3 && n4;
        for (int i = 0; i < 6; i++) {
            d[i] = (void (*)(void *, uintptr_t, uintptr_t))must_find(deletes[i][array]);
            whole = whole && d[i];
        }
        if (!whole)
            continue;
        for (size_t i = 0; i < SIZE_COUNT; i++) {
            size_t n = sizes[i];
            void *p[] = {n1(n), n2(n, &nothrow), n1(n), n3(n, 64), n4(n, 64, &nothrow), n3(n, 64)};
            for (int k = 0; k < 6; k++) {
                CHECK(p[k] && aligned_to(p[k], k < 3 ? 16 : 64));
                memset(p[k], k, n);
            }
            d[0](p[0], 0, 0);
            d[1](p[1], n, 0);
            d[2](p[2], (uintptr_t)&nothrow, 0);
            d[3](p[3], 64, 0);
            d[4](p[4], n, 64);
            d[5](p[5], 64, (uintptr_t)&nothrow);
        }
        CHECK(n2(api_too_much, &nothrow) == NULL);
        CHECK(n4(api_too_much, 64, &nothrow) == NULL);
        for (int i = 0; i < 6; i++)
            d[i](NULL, i == 1 || i == 4 ? 8 : 64, 64);
    }
}
