/* Fatal misuse and internal checks: one line on stderr that names the fault, then abort. */
#ifndef HAKMEM_BASE_CHECK_H
#define HAKMEM_BASE_CHECK_H

#include "base/attr.h"

/* Called after the line is written and before abort, with the address at fault; set once at start by a layer above. */
typedef void (*check_detail_fn)(const void *address);
extern check_detail_fn check_detail;

/* Writes "hakmem: <message>: 0x<address>" and aborts. Never returns, never allocates, takes no lock. */
SLOW NORETURN void check_fail(const char *message, const void *address);

/* An internal invariant. Always on: the slow paths can afford it, and a broken heap must not go on. */
#define CHECK(cond, message, address)        \
    do {                                     \
        if (UNLIKELY(!(cond)))               \
            check_fail((message), (address)); \
    } while (0)

#endif
