/* C++'s operators new and delete, by their mangled names (Itanium C++ ABI, size_t = unsigned long).
 *
 * The standard lets a program replace some of them and says how the others follow: new[] calls new, sized and nothrow
 * delete call plain delete, and so on. A program that replaces new and delete only must get its own pair through every
 * other form, so a derived form is a jump through the name of the one it is derived from, which the loader binds to the
 * program's own if there is one. All are weak: so the compiler does not take that name for the function in this file,
 * and a program that is linked statically may have its own as well.
 *
 *   new(n)     <- new(n, nothrow), new[](n) <- new[](n, nothrow)
 *   delete(p)  <- delete(p, n), delete(p, nothrow), delete[](p) <- delete[](p, n), delete[](p, nothrow)
 *   and the same once more for the forms that take an alignment
 *
 * When memory is out, the C++ library's own operator takes over: it runs the new-handler, asks malloc again, and throws
 * std::bad_alloc through this file, which is compiled with -fexceptions. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>

#include "api/entry.h"
#include "base/fmt.h"

#define OPERATOR EXPORT __attribute__((weak))

OPERATOR void *_Znwm(size_t size);
OPERATOR void *_Znam(size_t size);
OPERATOR void *_ZnwmRKSt9nothrow_t(size_t size, const void *nothrow);
OPERATOR void *_ZnamRKSt9nothrow_t(size_t size, const void *nothrow);
OPERATOR void *_ZnwmSt11align_val_t(size_t size, size_t alignment);
OPERATOR void *_ZnamSt11align_val_t(size_t size, size_t alignment);
OPERATOR void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t size, size_t alignment, const void *nothrow);
OPERATOR void *_ZnamSt11align_val_tRKSt9nothrow_t(size_t size, size_t alignment, const void *nothrow);
OPERATOR CACHE_ALIGNED void _ZdlPv(void *block);
OPERATOR void _ZdaPv(void *block);
OPERATOR void _ZdlPvm(void *block, size_t size);
OPERATOR void _ZdaPvm(void *block, size_t size);
OPERATOR void _ZdlPvRKSt9nothrow_t(void *block, const void *nothrow);
OPERATOR void _ZdaPvRKSt9nothrow_t(void *block, const void *nothrow);
OPERATOR void _ZdlPvSt11align_val_t(void *block, size_t alignment);
OPERATOR void _ZdaPvSt11align_val_t(void *block, size_t alignment);
OPERATOR void _ZdlPvmSt11align_val_t(void *block, size_t size, size_t alignment);
OPERATOR void _ZdaPvmSt11align_val_t(void *block, size_t size, size_t alignment);
OPERATOR void _ZdlPvSt11align_val_tRKSt9nothrow_t(void *block, size_t alignment, const void *nothrow);
OPERATOR void _ZdaPvSt11align_val_tRKSt9nothrow_t(void *block, size_t alignment, const void *nothrow);

/* Absent where libc or the C++ library is linked statically and nothing else asked for them. */
extern __typeof__(dlsym) dlsym __attribute__((weak));
typedef void (*new_handler_fn)(void);
extern new_handler_fn new_handler_now(void) __asm__("_ZSt15get_new_handlerv") __attribute__((weak));
/* What it takes to throw a std::bad_alloc (Itanium C++ ABI). There if the program catches one. */
extern void *const bad_alloc_vtable[] __asm__("_ZTVSt9bad_alloc") __attribute__((weak));
extern const char bad_alloc_typeinfo[] __asm__("_ZTISt9bad_alloc") __attribute__((weak));
extern void bad_alloc_destroy(void *exception) __asm__("_ZNSt9bad_allocD1Ev") __attribute__((weak));
extern void *allocate_exception(size_t size) __asm__("__cxa_allocate_exception") __attribute__((weak));
extern NORETURN void throw_exception(void *exception, const void *type, void (*destroy)(void *)) __asm__("__cxa_throw")
    __attribute__((weak));

/* What is passed on as std::nothrow; nobody looks at it. */
static const char nothrow_tag;

typedef void *(*new_fn)(size_t size);
typedef void *(*new_nothrow_fn)(size_t size, const void *nothrow);
typedef void *(*new_aligned_fn)(size_t size, size_t alignment);
typedef void *(*new_aligned_nothrow_fn)(size_t size, size_t alignment, const void *nothrow);

/* NULL for an alignment that is none, too: the C++ library will say so. */
static void *aligned_or_null(size_t size, size_t alignment)
{
    return LIKELY(is_power_of_two(alignment)) ? api_aligned(alignment, size) : NULL;
}

/* ---- memory is out ---- */

/* The C++ library's own function of that name; NULL: there is none. One that a plugin has brought along stands in no
 * global scope, so it is asked for by its library's name as well. dlopen is looked up, because a reference to it makes
 * the static linker warn. */
static SLOW void *next_operator(const char *name)
{
    static const char *const libraries[] = { "libstdc++.so.6", "libc++abi.so.1", "libc++.so.1" };
    if (dlsym == NULL)
        return NULL;
    void *next = dlsym(RTLD_NEXT, name);
    __typeof__(dlopen) *open = next != NULL ? NULL : (__typeof__(dlopen) *)dlsym(RTLD_DEFAULT, "dlopen");
    for (size_t i = 0; next == NULL && open != NULL && i < ARRAY_COUNT(libraries); i++) {
        void *library = open(libraries[i], RTLD_LAZY | RTLD_NOLOAD);
        if (library != NULL)
            next = dlsym(library, name);
    }
    return next;
}

/* libstdc++ rounds the size of an aligned block up without a look at overflow. What cannot be had anyway is made small
 * enough for that. */
static size_t size_to_hand_over(size_t size)
{
    return size > PTRDIFF_MAX ? PTRDIFF_MAX : size;
}

/* The next three: there is nobody to hand over to, because everything is linked statically, and we do as the C++
 * library would. alignment 1: none wanted. NULL: the program has no new-handler, or no longer. */
static SLOW void *new_with_handler(size_t size, size_t alignment)
{
    new_handler_fn handler;
    while (new_handler_now != NULL && (handler = new_handler_now()) != NULL) {
        handler();
        void *block = aligned_or_null(size, alignment);
        if (block != NULL)
            return block;
    }
    return NULL;
}

static SLOW NORETURN void throw_bad_alloc(size_t size)
{
    const bool can_throw = throw_exception != NULL && allocate_exception != NULL && bad_alloc_destroy != NULL;
    if (can_throw && bad_alloc_vtable != NULL && bad_alloc_typeinfo != NULL) {
        void *const **exception = allocate_exception(sizeof *exception);
        *exception = bad_alloc_vtable + 2; /* behind offset and type; the object has nothing else */
        throw_exception(exception, bad_alloc_typeinfo, bad_alloc_destroy);
    }
    fmt_message("operator new: no memory for %zu bytes, and no C++ library to throw std::bad_alloc", size);
    abort();
}

static SLOW void *new_or_throw(size_t size, size_t alignment)
{
    void *block = new_with_handler(size, alignment);
    if (block == NULL)
        throw_bad_alloc(size);
    return block;
}

static SLOW void *new_fails(size_t size)
{
    const new_fn next = (new_fn)next_operator("_Znwm");
    return next != NULL ? next(size_to_hand_over(size)) : new_or_throw(size, 1);
}

static SLOW void *new_aligned_fails(size_t size, size_t alignment)
{
    const new_aligned_fn next = (new_aligned_fn)next_operator("_ZnwmSt11align_val_t");
    return next != NULL ? next(size_to_hand_over(size), alignment) : new_or_throw(size, alignment);
}

/* The forms that do not throw also go on here when the program has replaced what they are derived from (then
 * `replaced`, else NULL): that may throw, and only C++ can catch it. */
static SLOW void *new_nothrow_next(size_t size, const char *name, new_fn replaced)
{
    const new_nothrow_fn next = (new_nothrow_fn)next_operator(name);
    if (next != NULL)
        return next(size_to_hand_over(size), &nothrow_tag);
    return replaced != NULL ? replaced(size) : new_with_handler(size, 1);
}

static SLOW void *new_aligned_nothrow_next(size_t size, size_t alignment, const char *name, new_aligned_fn replaced)
{
    const new_aligned_nothrow_fn next = (new_aligned_nothrow_fn)next_operator(name);
    if (next != NULL)
        return next(size_to_hand_over(size), alignment, &nothrow_tag);
    return replaced != NULL ? replaced(size, alignment) : new_with_handler(size, alignment);
}

/* ---- new ---- */

static NOINLINE void *new_slow(size_t size)
{
    void *block = api_malloc_slow(size);
    return LIKELY(block != NULL) ? block : new_fails(size);
}

static NOINLINE void *new_nothrow_slow(size_t size)
{
    void *block = api_malloc_slow(size);
    return LIKELY(block != NULL) ? block : new_nothrow_next(size, "_ZnwmRKSt9nothrow_t", NULL);
}

static CACHE_ALIGNED void *new_plain(size_t size)
{
    return hot_malloc(size, new_slow);
}
void *_Znwm(size_t size) __attribute__((alias("new_plain")));

static void *new_array(size_t size)
{
    return _Znwm(size);
}
void *_Znam(size_t size) __attribute__((alias("new_array")));

void *_ZnwmRKSt9nothrow_t(size_t size, const void *nothrow)
{
    (void)nothrow;
    if (UNLIKELY(_Znwm != new_plain))
        return new_nothrow_next(size, "_ZnwmRKSt9nothrow_t", _Znwm);
    return hot_malloc(size, new_nothrow_slow);
}

void *_ZnamRKSt9nothrow_t(size_t size, const void *nothrow)
{
    (void)nothrow;
    if (UNLIKELY(_Znam != new_array || _Znwm != new_plain))
        return new_nothrow_next(size, "_ZnamRKSt9nothrow_t", _Znam);
    return hot_malloc(size, new_nothrow_slow);
}

static void *new_aligned(size_t size, size_t alignment)
{
    void *block = aligned_or_null(size, alignment);
    return LIKELY(block != NULL) ? block : new_aligned_fails(size, alignment);
}
void *_ZnwmSt11align_val_t(size_t size, size_t alignment) __attribute__((alias("new_aligned")));

static void *new_aligned_array(size_t size, size_t alignment)
{
    return _ZnwmSt11align_val_t(size, alignment);
}
void *_ZnamSt11align_val_t(size_t size, size_t alignment) __attribute__((alias("new_aligned_array")));

void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t size, size_t alignment, const void *nothrow)
{
    static const char name[] = "_ZnwmSt11align_val_tRKSt9nothrow_t";
    (void)nothrow;
    if (UNLIKELY(_ZnwmSt11align_val_t != new_aligned))
        return new_aligned_nothrow_next(size, alignment, name, _ZnwmSt11align_val_t);
    void *block = aligned_or_null(size, alignment);
    return LIKELY(block != NULL) ? block : new_aligned_nothrow_next(size, alignment, name, NULL);
}

void *_ZnamSt11align_val_tRKSt9nothrow_t(size_t size, size_t alignment, const void *nothrow)
{
    static const char name[] = "_ZnamSt11align_val_tRKSt9nothrow_t";
    (void)nothrow;
    if (UNLIKELY(_ZnamSt11align_val_t != new_aligned_array || _ZnwmSt11align_val_t != new_aligned))
        return new_aligned_nothrow_next(size, alignment, name, _ZnamSt11align_val_t);
    void *block = aligned_or_null(size, alignment);
    return LIKELY(block != NULL) ? block : new_aligned_nothrow_next(size, alignment, name, NULL);
}

/* ---- delete; the size is not needed: the slab map knows it ---- */

void _ZdlPv(void *block)
{
    api_free(block);
}

void _ZdaPv(void *block)
{
    _ZdlPv(block);
}

void _ZdlPvm(void *block, size_t size)
{
    (void)size;
    _ZdlPv(block);
}

void _ZdaPvm(void *block, size_t size)
{
    (void)size;
    _ZdaPv(block);
}

void _ZdlPvRKSt9nothrow_t(void *block, const void *nothrow)
{
    (void)nothrow;
    _ZdlPv(block);
}

void _ZdaPvRKSt9nothrow_t(void *block, const void *nothrow)
{
    (void)nothrow;
    _ZdaPv(block);
}

void _ZdlPvSt11align_val_t(void *block, size_t alignment)
{
    (void)alignment;
    api_free(block);
}

void _ZdaPvSt11align_val_t(void *block, size_t alignment)
{
    _ZdlPvSt11align_val_t(block, alignment);
}

void _ZdlPvmSt11align_val_t(void *block, size_t size, size_t alignment)
{
    (void)size;
    _ZdlPvSt11align_val_t(block, alignment);
}

void _ZdaPvmSt11align_val_t(void *block, size_t size, size_t alignment)
{
    (void)size;
    _ZdaPvSt11align_val_t(block, alignment);
}

void _ZdlPvSt11align_val_tRKSt9nothrow_t(void *block, size_t alignment, const void *nothrow)
{
    (void)nothrow;
    _ZdlPvSt11align_val_t(block, alignment);
}

void _ZdaPvSt11align_val_tRKSt9nothrow_t(void *block, size_t alignment, const void *nothrow)
{
    (void)nothrow;
    _ZdaPvSt11align_val_t(block, alignment);
}
