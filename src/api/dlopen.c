/* A plugin opened with RTLD_DEEPBIND looks into its own dependencies first and finds libc's malloc there, not the
 * preloaded one: memory that crosses between it and the program ends in the wrong allocator (PHP opens its extensions so).
 * So dlopen drops that flag, unless HAKMEM_KEEP_DEEPBIND=1.
 *
 * The real dlopen searches the RUNPATH of its caller, which it knows by its return address. Ours must therefore leave by
 * a jump; the test preload.start.deepbind opens a plugin that only its RUNPATH finds. */
#define _GNU_SOURCE
#include <dlfcn.h>

#include "base/atomic.h"
#include "base/attr.h"
#include "config/config.h"

#ifdef RTLD_DEEPBIND /* glibc; others do not have the flag */

typedef void *(*dlopen_fn)(const char *file, int mode);

/* Atomic relaxed: every writer writes the same. */
static dlopen_fn next_dlopen;

static SLOW dlopen_fn find_next(void)
{
    dlopen_fn next = (dlopen_fn)dlsym(RTLD_NEXT, "dlopen");
    store_relaxed(&next_dlopen, next);
    return next;
}

EXPORT void *dlopen(const char *file, int mode)
{
    dlopen_fn next = load_relaxed(&next_dlopen);
    if (UNLIKELY(next == NULL))
        next = find_next();
    if (!config_get()->keep_deepbind)
        mode &= ~RTLD_DEEPBIND;
    return LIKELY(next != NULL) ? next(file, mode) : NULL;
}

#endif
