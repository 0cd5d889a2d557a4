/* What the process holds: bytes that the allocator has obtained and that may have pages behind them, against the limit
 * that the user set (policy_live.memory_limit_bytes). Counted are
 *
 *   64 KiB       for each slab that is claimed, or free and not yet purged (superslab_resident)
 *   whole pages  of huge mappings, and of spare ones (spare.h)
 *   whole pages  mapped for records: the window's arrays, meta_alloc, the table of huge mappings; touched or not
 *
 * so the sum is at least what is resident, but for the library's own static data. It changes where runs and mappings
 * come and go, on slow paths only. Who takes does so before the memory can be touched, and gives only after the pages
 * are gone: at no moment are there pages beyond the limit, however many threads race for it.
 *
 * Thread-safe, no locks. */
#ifndef HAKMEM_ARENA_USAGE_H
#define HAKMEM_ARENA_USAGE_H

#include "base/attr.h"

/* False: it would exceed the limit, and nothing was taken. */
bool usage_take(uint64_t bytes);
void usage_give(uint64_t bytes);
/* The same for records. They are counted once more by themselves. */
bool usage_take_records(uint64_t bytes);
void usage_give_records(uint64_t bytes);
/* Would usage_take succeed at this moment? A hint. */
bool usage_has_room(uint64_t bytes);

uint64_t usage_bytes(void);
uint64_t usage_record_bytes(void);

/* In a forked child, while nobody else runs: what slabs, huge mappings and spare ones hold there. A thread that is gone may have
 * taken and not have come to use it. */
void usage_correct(uint64_t bytes);

#endif
