/* The background thread is wanted as soon as a program has a second thread, and must not be started inside malloc. So
 * the functions that create threads are ours: each calls the next library's and then, if that went well, sees to it that
 * ours is there. What they return, and errno, are the next one's. See docs/decisions/0012-thread-creation.md. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <threads.h>

#include "base/upcall.h"

typedef int thrd_create_fn(thrd_t *, thrd_start_t, void *);

/* Atomic relaxed: every writer writes the same. */
static upcall_create_thread *next_pthread_create;
static thrd_create_fn *next_thrd_create;

/* The background thread is created by this one too, and not by the name: who stands before us in the chain may hold a lock
 * while it calls us. NULL: there is none. */
static upcall_create_thread *find_pthread_create(void)
{
    upcall_create_thread *next = load_relaxed(&next_pthread_create);
    if (UNLIKELY(next == NULL)) {
        next = (upcall_create_thread *)dlsym(RTLD_NEXT, "pthread_create");
        store_relaxed(&next_pthread_create, next);
    }
    return next;
}

EXPORT int pthread_create(pthread_t *restrict thread, const pthread_attr_t *restrict attributes,
                          void *(*start)(void *), void *restrict argument)
{
    upcall_create_thread *next = find_pthread_create();
    int error = LIKELY(next != NULL) ? next(thread, attributes, start, argument) : EAGAIN;
    if (LIKELY(error == 0))
        upcall_background_note_thread(next);
    return error;
}

/* libc's own does not come through the name above. */
EXPORT int thrd_create(thrd_t *thread, thrd_start_t start, void *argument)
{
    thrd_create_fn *next = load_relaxed(&next_thrd_create);
    if (UNLIKELY(next == NULL)) {
        next = (thrd_create_fn *)dlsym(RTLD_NEXT, "thrd_create");
        store_relaxed(&next_thrd_create, next);
    }
    int result = LIKELY(next != NULL) ? next(thread, start, argument) : thrd_error;
    upcall_create_thread *create = result == thrd_success ? find_pthread_create() : NULL;
    if (LIKELY(create != NULL))
        upcall_background_note_thread(create);
    return result;
}
