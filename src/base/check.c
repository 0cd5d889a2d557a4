#include "base/check.h"

#include <stdlib.h>

#include "base/atomic.h"
#include "base/fmt.h"
#include "base/lock.h"

check_detail_fn check_detail;

void check_fail(const char *message, const void *address)
{
    fmt_message("%s: %p", message, address);
    lock_open_all();
    /* Taken out before the call: a detail that itself fails a check ends here instead of calling itself again. */
    const check_detail_fn detail = exchange_relaxed(&check_detail, NULL);
    if (detail)
        detail(address);
    abort();
}
