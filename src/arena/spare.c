#include "arena/spare.h"

#include "arena/arena_internal.h"
#include "arena/usage.h"
#include "base/bits.h"
#include "base/upcall.h"

struct spare_state spare_state;
static struct lock unmapping = LOCK_INIT(LOCK_SPARE);

struct lock *spare_lock(void)
{
    return &unmapping;
}

uint64_t spare_bytes(void)
{
    return load_relaxed(&spare_state.bytes);
}

/* Under LOCK_ARENA, like all that are static but unmap_counted. */
static void count(uint64_t more)
{
    store_relaxed(&spare_state.bytes, spare_state.bytes + more);
}

static struct spare *find_tail(const void *block)
{
    for (struct spare *s = spare_state.slots; s < spare_state.slots + SPARES_MAX; s++)
        if (s->bytes != 0 && s->block == (uintptr_t)block)
            return s;
    return NULL;
}

/* From its beginning. */
static void take_from(struct spare *s, size_t bytes)
{
    s->address += bytes;
    s->bytes -= bytes;
    s->since_ms = os_clock_ms(); /* the block may go on growing */
    spare_state.lent += bytes;
    superslab_note_rise((uint32_t)(bytes / SLAB_BYTES));
    count(-(uint64_t)bytes);
}

/* The whole of a block comes out of one that stands alone, has `least` bytes and such an address: the smallest, or the
 * largest. NULL: there is none. */
static void *take_block(size_t bytes, size_t least, size_t alignment, bool largest)
{
    struct spare *best = NULL;
    void *block = NULL;
    if (spare_bytes() < least)
        return NULL;
    lock_acquire(&arena.lock);
    for (struct spare *s = spare_state.slots; s < spare_state.slots + SPARES_MAX; s++)
        if (s->block == 0 && s->bytes >= least && (s->address & (alignment - 1)) == 0 &&
            (best == NULL || (largest ? s->bytes > best->bytes : s->bytes < best->bytes)))
            best = s;
    if (best != NULL) {
        block = (void *)best->address;
        take_from(best, bytes);
        best->block = (uintptr_t)block;
    }
    lock_release(&arena.lock);
    return block;
}

void *spare_take(size_t bytes, size_t alignment)
{
    return take_block(bytes, bytes, alignment, false);
}

void *spare_take_roomy(size_t bytes)
{
    return take_block(bytes, 2 * bytes, 1, true);
}

size_t spare_take_tail(const void *block, const void *end, size_t bytes)
{
    size_t taken = 0;
    if (spare_bytes() == 0)
        return 0;
    lock_acquire(&arena.lock);
    struct spare *tail = find_tail(block);
    if (tail != NULL && tail->address == (uintptr_t)end) {
        taken = tail->bytes < bytes ? tail->bytes : bytes;
        take_from(tail, taken);
    }
    lock_release(&arena.lock);
    return taken;
}

void spare_note_mapped(size_t bytes)
{
    if (load_relaxed(&spare_state.away) == 0)
        return;
    lock_acquire(&arena.lock);
    uint64_t again = bytes < spare_state.away ? bytes : spare_state.away;
    spare_state.again += again;
    store_relaxed(&spare_state.away, spare_state.away - again);
    lock_release(&arena.lock);
}

/* A vacant place, or, with LOCK_SPARE, that of a smaller spare, which is unmapped instead: *out. NULL: all are larger. */
static struct spare *find_place(size_t bytes, bool may_push_out, struct spare *out)
{
    struct spare *least = spare_state.slots;
    for (struct spare *s = spare_state.slots; s < spare_state.slots + SPARES_MAX; s++)
        if (s->bytes < least->bytes)
            least = s;
    if (least->bytes >= bytes || (least->bytes != 0 && !may_push_out))
        return NULL;
    *out = *least;
    count(-(uint64_t)least->bytes);
    *least = (struct spare){ 0 };
    return least;
}

/* So many new free pages may wait, in bytes. */
static size_t room(void)
{
    uint64_t most = window.base == 0 ? 0 : arena_excess_bytes(); /* without a window nothing decays */
    uint64_t free_bytes = arena_free_resident_bytes();
    return most > free_bytes ? align_down((size_t)(most - free_bytes), SLAB_BYTES) : 0;
}

/* Out of mappings the kernel may refuse to split one: the addresses are lost then, the memory is not. */
static void unmap_counted(uintptr_t address, size_t bytes)
{
    if (bytes != 0 && (os_unmap((void *)address, bytes) || os_purge((void *)address, bytes)))
        usage_give(bytes);
}

/* What has come for the first time earns, and what has come once more is charged, as when slabs are claimed: but only now,
 * as it is only now that anybody might give it back. */
static void note_used(size_t bytes, size_t kept)
{
    uint64_t lent = spare_state.lent < bytes ? spare_state.lent : bytes;
    uint64_t fresh = kept > lent ? kept - lent : 0;
    uint64_t again = fresh < spare_state.again ? fresh : spare_state.again;
    spare_state.lent -= lent;
    spare_state.again -= again;
    arena_charge_refault(again);
    arena_earn(fresh - again);
}

enum kind { ALONE, TAIL, DROPPED };

/* [from, from + bytes), and behind it the tail that the block has already. Its end is what may have to go. Nobody waits
 * for LOCK_SPARE here: a free should not last as long as another thread's munmap. What is unmapped without it has been this
 * thread's block, with its tail: were the fork an instant earlier, the child would have that for ever as well. */
static void put(const void *block, uintptr_t from, size_t bytes, enum kind kind)
{
    struct spare pushed_out = { 0 };
    if (kind != DROPPED && !os_can_be_reused((void *)from, bytes))
        kind = DROPPED;
    const bool may_push_out = lock_try(&unmapping);
    lock_acquire(&arena.lock);
    struct spare *place = find_tail(block);
    size_t had = place == NULL ? 0 : place->bytes, keep = room();
    keep = had + (keep < bytes ? keep : bytes);
    if (keep < SPARE_MIN_BYTES || kind == DROPPED)
        keep = 0;
    else if (place == NULL && (place = find_place(keep, may_push_out, &pushed_out)) == NULL)
        keep = 0;
    if (place != NULL)
        *place = (struct spare){ from, keep, kind == TAIL ? (uintptr_t)block : 0, os_clock_ms() };
    count(keep - had);
    if (keep > had)
        superslab_note_fall((uint32_t)((keep - had) / SLAB_BYTES));
    note_used(bytes, keep > had ? keep - had : 0);
    lock_release(&arena.lock);
    unmap_counted(pushed_out.address, pushed_out.bytes);
    if (may_push_out)
        lock_release(&unmapping);
    unmap_counted(from + keep, had + bytes - keep);
    upcall_background_note_free();
}

void spare_put(void *block, size_t bytes)
{
    put(block, (uintptr_t)block, bytes, ALONE);
}

void spare_put_tail(const void *block, void *from, size_t bytes)
{
    put(block, (uintptr_t)from, bytes, TAIL);
}

void spare_drop(const void *block, void *from, size_t bytes)
{
    put(block, (uintptr_t)from, bytes, DROPPED);
}

size_t spare_give_back(size_t bytes, uint64_t before_ms, enum purge_reason reason)
{
    struct spare *oldest = NULL;
    uintptr_t from = 0;
    if (spare_bytes() == 0)
        return 0;
    lock_acquire(&unmapping);
    lock_acquire(&arena.lock);
    for (struct spare *s = spare_state.slots; s < spare_state.slots + SPARES_MAX; s++)
        if (s->bytes != 0 && s->since_ms <= before_ms && (oldest == NULL || s->since_ms < oldest->since_ms))
            oldest = s;
    if (oldest == NULL || oldest->bytes < bytes)
        bytes = oldest == NULL ? 0 : oldest->bytes;
    if (bytes != 0) {
        oldest->bytes -= bytes;
        from = oldest->address + oldest->bytes;
        count(-(uint64_t)bytes);
        if (reason != PURGE_ASKED_FOR)
            store_relaxed(&spare_state.away, spare_state.away + bytes);
    }
    lock_release(&arena.lock);
    unmap_counted(from, bytes);
    lock_release(&unmapping);
    fetch_add_relaxed(&arena.purged_bytes, bytes);
    if (reason == PURGE_DUE)
        arena_charge_credit(bytes);
    else if (reason == PURGE_EARNED)
        arena_charge_earned(bytes);
    return bytes;
}

bool spare_give_all_back(void)
{
    bool any = false;
    while (spare_give_back(SIZE_MAX, UINT64_MAX, PURGE_ASKED_FOR) != 0)
        any = true;
    return any;
}
