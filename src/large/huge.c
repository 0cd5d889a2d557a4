#include "large/huge.h"

#include "arena/arena.h"
#include "arena/spare.h"
#include "arena/usage.h"
#include "base/bits.h"
#include "base/lock.h"
#include "config/policy.h"
#include "large/large.h"
#include "os/os.h"

struct huge {
    uintptr_t address; /* 0: vacant */
    size_t bytes : 63;
    /* They were asked for as such: the program may have protected, locked or advised them, and nobody else is to get them so. */
    size_t is_whole_pages : 1;
};
_Static_assert(sizeof(struct huge) == 16, "a page has a power of two of them");

/* Open addressing with linear probing, at most half full; deletion closes the gap, so there are no tombstones. */
static struct {
    struct lock lock;
    struct huge *slots;
    size_t capacity; /* a power of two, or 0 */
    size_t count;
    size_t moving; /* entries that huge_resize has taken out and will put back, or that are reserved: their room is theirs */
    uint64_t bytes;
} table = { .lock = LOCK_INIT(LOCK_LARGE) };

struct lock *huge_lock(void)
{
    return &table.lock;
}

static size_t home_slot(uintptr_t address)
{
    return (size_t)((address >> 12) * 0x9e3779b97f4a7c15u >> 20) & (table.capacity - 1);
}

/* Under the lock. The block's slot, or capacity. */
static size_t find(uintptr_t address)
{
    if (table.count == 0 || address == 0)
        return table.capacity;
    size_t at = home_slot(address);
    while (table.slots[at].address != address) {
        if (table.slots[at].address == 0)
            return table.capacity;
        at = (at + 1) & (table.capacity - 1);
    }
    return at;
}

/* Under the lock; there is room. */
static void insert(struct huge entry)
{
    size_t at = home_slot(entry.address);
    while (table.slots[at].address != 0)
        at = (at + 1) & (table.capacity - 1);
    table.slots[at] = entry;
    table.count++;
    table.bytes += entry.bytes;
}

static struct huge remove_at(size_t hole)
{
    struct huge removed = table.slots[hole];
    size_t mask = table.capacity - 1;
    for (size_t at = (hole + 1) & mask; table.slots[at].address != 0; at = (at + 1) & mask) {
        size_t home = home_slot(table.slots[at].address);
        if (((at - home) & mask) >= ((at - hole) & mask)) { /* it may stand in the hole: its home is not behind it */
            table.slots[hole] = table.slots[at];
            hole = at;
        }
    }
    table.slots[hole].address = 0;
    table.count--;
    table.bytes -= removed.bytes;
    return removed;
}

/* Under the lock. */
static bool make_room(void)
{
    if ((table.count + table.moving + 1) * 2 <= table.capacity)
        return true;
    size_t old_capacity = table.capacity;
    struct huge *old = table.slots;
    size_t page_slots = os_page_bytes() / sizeof(struct huge);
    size_t capacity = old_capacity == 0 ? page_slots : old_capacity * 2;
    size_t bytes = capacity * sizeof(struct huge);
    if (!usage_take_records(bytes))
        return false;
    struct huge *slots = os_map(bytes, os_page_bytes());
    if (slots == NULL) {
        usage_give_records(bytes);
        return false;
    }
    os_no_huge_pages(slots, bytes);
    table.slots = slots;
    table.capacity = capacity;
    table.count = 0;
    table.bytes = 0;
    for (size_t i = 0; i < old_capacity; i++)
        if (old[i].address != 0)
            insert(old[i]);
    if (old != NULL && os_unmap(old, old_capacity * sizeof *old))
        usage_give_records(old_capacity * sizeof *old);
    return true;
}

/* Before its first touch. It is one mapping: the kernel finds what is aligned in it, and a resized block keeps the
 * advice. */
static void advise_block(void *block, size_t bytes)
{
    uint32_t thp = load_relaxed(&policy_live.thp);
    if (thp == THP_NEVER)
        os_no_huge_pages(block, bytes);
    else if (thp == THP_ALWAYS && bytes >= SUPERSLAB_BYTES)
        os_advise_huge(block, bytes);
}

/* Its pages are counted. NULL: there is no room in the table. */
static void *enter(void *block, size_t bytes, size_t alignment)
{
    lock_acquire(&table.lock);
    bool ok = make_room();
    if (ok)
        insert((struct huge){ (uintptr_t)block, bytes, alignment >= os_page_bytes() });
    lock_release(&table.lock);
    if (ok)
        return block;
    spare_put(block, bytes);
    return NULL;
}

/* 0: there are not so many. */
static size_t mapping_bytes(size_t bytes)
{
    size_t page = os_page_bytes();
    return bytes > (size_t)PTRDIFF_MAX - page ? 0 : align_up(bytes == 0 ? 1 : bytes, page);
}

void *huge_alloc(size_t bytes, size_t alignment)
{
    size_t page = os_page_bytes();
    bytes = mapping_bytes(bytes);
    if (bytes == 0 || !usage_take(bytes))
        return NULL;
    void *block = os_map(bytes, alignment > page ? alignment : page);
    if (block == NULL) {
        usage_give(bytes);
        return NULL;
    }
    advise_block(block, bytes);
    spare_note_mapped(bytes);
    return enter(block, bytes, alignment);
}

void *huge_alloc_spare(size_t bytes, size_t alignment)
{
    bytes = mapping_bytes(bytes);
    void *block = bytes == 0 ? NULL : spare_take(bytes, alignment);
    return block == NULL ? NULL : enter(block, bytes, alignment);
}

static void give_up(const struct huge *entry, size_t from)
{
    char *block = (char *)entry->address;
    const size_t bytes = entry->bytes - from;
    if (entry->is_whole_pages)
        spare_drop(block, block + from, bytes);
    else if (from == 0)
        spare_put(block, bytes);
    else
        spare_put_tail(block, block + from, bytes);
}

bool huge_free(void *block)
{
    struct huge entry = { 0 };
    lock_acquire(&table.lock);
    size_t at = find((uintptr_t)block);
    if (at < table.capacity)
        entry = remove_at(at);
    lock_release(&table.lock);
    if (entry.address == 0)
        return false;
    give_up(&entry, 0);
    arena_note_freed(entry.bytes);
    return true;
}

size_t huge_bytes(const void *block)
{
    lock_acquire(&table.lock);
    size_t at = find((uintptr_t)block);
    size_t bytes = at < table.capacity ? table.slots[at].bytes : 0;
    lock_release(&table.lock);
    return bytes;
}

static void *remap_counted(void *address, size_t old_bytes, size_t new_bytes)
{
    size_t more = new_bytes - old_bytes;
    if (!usage_take(more))
        return NULL;
    void *moved = os_remap(address, old_bytes, new_bytes);
    if (UNLIKELY(moved == NULL) && spare_give_all_back()) /* out of addresses? A copy would need still more */
        moved = os_remap(address, old_bytes, new_bytes);
    if (moved == NULL)
        usage_give(more);
    else
        spare_note_mapped(more);
    return moved;
}

/* Returns the block; NULL: it is as it was. */
static void *grow(char *block, size_t bytes, size_t new_bytes)
{
    const size_t more = spare_take_tail(block, block + bytes, new_bytes - bytes);
    if (bytes + more == new_bytes)
        return block;
    void *moved = remap_counted(block, bytes + more, new_bytes);
    if (moved == NULL && more != 0)
        spare_put_tail(block, block + bytes, more);
    return moved;
}

void *huge_resize(void *block, size_t bytes)
{
    size_t page = os_page_bytes();
    if (bytes > (size_t)PTRDIFF_MAX - page)
        return NULL;
    struct huge entry = { 0 };
    lock_acquire(&table.lock);
    size_t at = find((uintptr_t)block);
    if (at < table.capacity) {
        entry = remove_at(at);
        table.moving++;
    }
    lock_release(&table.lock);
    if (entry.address == 0)
        return NULL;
    /* Out of the table while it moves: once moved, the old address may be mapped and entered by another thread. The
     * block is the caller's, so nobody looks for it meanwhile. */
    const size_t old_bytes = entry.bytes, new_bytes = align_up(bytes, page);
    void *moved = block;
    if (new_bytes > old_bytes)
        moved = grow(block, old_bytes, new_bytes);
    else if (new_bytes < old_bytes)
        give_up(&entry, new_bytes);
    if (moved != NULL)
        entry = (struct huge){ (uintptr_t)moved, new_bytes, entry.is_whole_pages };
    lock_acquire(&table.lock);
    table.moving--;
    insert(entry);
    lock_release(&table.lock);
    if (new_bytes < old_bytes)
        arena_note_freed(old_bytes - new_bytes);
    return moved;
}

bool huge_reserve(void)
{
    lock_acquire(&table.lock);
    bool ok = make_room();
    table.moving += ok;
    lock_release(&table.lock);
    return ok;
}

/* What the window was told about huge pages came along with the pages, and the kernel cannot be told nothing any more:
 * so it is told what it does on its own. */
void huge_advise_moved(void *block, size_t bytes)
{
    if (load_relaxed(&policy_live.thp) != THP_DEFAULT) {
        advise_block(block, bytes);
        return;
    }
    enum os_huge_page_mode mode = os_huge_page_mode();
    if (mode == OS_HUGE_ALWAYS)
        os_advise_huge(block, bytes);
    else if (mode != OS_HUGE_UNKNOWN)
        os_no_huge_pages(block, bytes);
}

void huge_enter(void *block, size_t bytes)
{
    lock_acquire(&table.lock);
    table.moving--;
    insert((struct huge){ (uintptr_t)block, bytes, false });
    lock_release(&table.lock);
}

void huge_unreserve(void)
{
    lock_acquire(&table.lock);
    table.moving--;
    lock_release(&table.lock);
}

void huge_read_totals(uint64_t *bytes, uint64_t *count)
{
    lock_acquire(&table.lock);
    *bytes = table.bytes;
    *count = table.count;
    lock_release(&table.lock);
}
