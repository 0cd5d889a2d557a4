/* Spare mappings: pages outside the window that a huge block has left behind, kept for the next one.
 *
 * A block that grows outside the window gets every page from the kernel, and its mapping goes back when it is freed: a program
 * that fills one array after another would pay for all those page faults each time. So freed mappings wait here, a
 * few of them, in the same terms as free slabs: they are free pages for arena_free_resident_bytes and all that asks it,
 * for the limit of memory (usage.h), the credit and decay.
 *
 * A spare stands alone, or it is the tail of a block: it begins where that ends. A block takes from its tail when it
 * grows, and leaves one when it shrinks, or took a spare larger than itself. So what a block does not use of its mapping
 * can be given back like any other spare, from its end, while the block is in use.
 *
 * Thread-safe; the list is guarded by LOCK_ARENA, and nothing is mapped or unmapped under it. Who takes a spare off the list
 * to unmap it holds LOCK_SPARE until that is done, and fork takes it: a child never has the pages of a spare that is
 * in nobody's list. fork waits no longer by it, as the kernel copies no mappings while some are being taken away. */
#ifndef HAKMEM_ARENA_SPARE_H
#define HAKMEM_ARENA_SPARE_H

#include "arena/window.h"

/* Less is not worth a place in the list. */
#define SPARE_MIN_BYTES ((size_t)8 * SLAB_BYTES)

enum { SPARES_MAX = 16 };

struct spare {
    uintptr_t address;
    size_t bytes; /* 0: the place is vacant */
    uintptr_t block; /* whose tail it is; 0: it stands alone */
    uint64_t since_ms;
};

/* Under LOCK_ARENA. `bytes`, their sum, is atomic relaxed: read without it. */
struct spare_state {
    struct spare slots[SPARES_MAX];
    uint64_t bytes;
    uint64_t lent; /* taken into use again, and not back since */
    uint64_t away; /* given back while others might have used it, and not mapped anew since; read without it, atomic relaxed */
    uint64_t again; /* mapped anew since, and no spare yet. All three are estimates */
};
extern struct spare_state spare_state;

uint64_t spare_bytes(void);
struct lock *spare_lock(void); /* LOCK_SPARE */

/* A block of `bytes` in the smallest spare that has so many, at such an address; for a block that is going to grow, in the
 * largest one, if that has room for twice as many: copying the block costs less than the page faults it saves. What is
 * more becomes its tail. The bytes are whatever they are. NULL: there is none. */
void *spare_take(size_t bytes, size_t alignment);
void *spare_take_roomy(size_t bytes);
/* The block, which ends at `end`, grows by what it returns: at most `bytes`, all its tail has if that is less. */
size_t spare_take_tail(const void *block, const void *end, size_t bytes);

/* So many bytes of a huge block have come from the kernel: what was given back before has come back. What was in use
 * meanwhile has not, when it is freed. */
void spare_note_mapped(size_t bytes);

/* The block is no longer in use; or only what is before `from`. What is too much is unmapped, and all of it, the tail as well,
 * where the program has left something that nobody could write to. */
void spare_put(void *block, size_t bytes);
void spare_put_tail(const void *block, void *from, size_t bytes);
/* Either of them, but nothing is kept, nor is the tail: the program may have done to its pages what cannot be seen. */
void spare_drop(const void *block, void *from, size_t bytes);

/* All of them are unmapped: the kernel has no addresses left. False: there was none. */
bool spare_give_all_back(void);

#endif
