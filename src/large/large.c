#include "large/large.h"

#include <string.h>

#include "arena/spare.h"
#include "arena/usage.h"
#include "base/bits.h"
#include "base/check.h"
#include "config/policy.h"
#include "large/huge.h"
#include "large/sparse.h"
#include "os/os.h"

/* In the record of a run's first slab; guarded by whoever holds the block. How many slabs it has stands in the map. */
struct large_record {
    uint64_t usable_bytes;
    uint32_t offset; /* bytes of the run before the block; whole pages */
    bool was_zero;   /* when it was handed out, or grew, all of it read as zero; and it may be read when it is freed */
    uint8_t lead;    /* so many slabs before the run are its own, too: nothing is in them */
};
_Static_assert(sizeof(struct large_record) <= SLAB_RECORD_LENT_BYTES, "it has that room in a slab's record");

enum {
    END_MIN_SLABS = 4,  /* blocks stand at the end of runs from this size on */
    MOVE_MIN_SLABS = 32, /* a run that cannot grow where it stands is moved by page tables from this size on */
    MOVED_MAX = 64,     /* blocks outside the window beyond which runs are copied: each is a mapping more */
};

/* No run of blocks that stand apart begins at less than a multiple of this. */
#define LANE_BYTES ((size_t)256 << 10)

/* A huge block stays one when it shrinks to no less than this. */
#define HUGE_STAYS_BYTES ((size_t)8 * SLAB_BYTES)

/* Atomic relaxed: added to by any thread, and few of them at each malloc and free. */
static struct {
    uint64_t run_bytes; /* live */
    uint64_t runs_taken, runs_freed, runs_moved, huge_taken, huge_freed; /* over the life */
} totals;

static uint32_t slabs_for(size_t bytes)
{
    return (uint32_t)((bytes + SLAB_BYTES - 1) >> SLAB_SHIFT);
}

static size_t usable_for(size_t bytes)
{
    return align_up(bytes, os_page_bytes());
}

static struct large_record *record_of(uint32_t slab)
{
    return window_slab_record(slab);
}

/* A block stands at the end of its run, and what is left over before it. A program that hardly touches its large blocks
 * touches their first and last pages, and blocks of other sizes others of them. A wide run begins with a SuperSlab, so
 * first pages are 16 of its 512 there and last pages 32; behind blocks at the beginning they would be any. */
static uint32_t offset_in_run(uint32_t slabs, size_t usable_bytes, size_t alignment)
{
    size_t spare_bytes = slabs * SLAB_BYTES - usable_bytes;
    return slabs < END_MIN_SLABS ? 0 : (uint32_t)align_down(spare_bytes, alignment);
}

struct run {
    uint32_t slab; /* SLAB_NONE: there is no such run */
    uint32_t slabs, offset, lead;
};

/* A run for a block that ends at a quarter of the power of two not below its size, or at every `step` slabs if that is less: it
 * begins with a track, or at a multiple of that power of two. */
static struct run run_apart(size_t usable_bytes, size_t alignment, uint32_t step, bool in_track, bool *zeroed)
{
    const size_t power = (size_t)2 << highest_bit(usable_bytes - 1);
    const size_t bytes = align_up(usable_bytes, power / 4 < step * SLAB_BYTES ? power / 4 : step * SLAB_BYTES);
    const size_t before = align_down(bytes - usable_bytes, alignment);
    const uint32_t lead = (uint32_t)(before / SLAB_BYTES), slabs = slabs_for(bytes);
    const uint32_t multiple = slabs_for(power > LANE_BYTES ? power : LANE_BYTES);
    const uint32_t slab = in_track ? arena_alloc_in_track(slabs, zeroed) : arena_alloc(slabs, multiple, NULL, zeroed);
    return (struct run){ slab == SLAB_NONE ? SLAB_NONE : slab + lead, slabs - lead, (uint32_t)(before % SLAB_BYTES), lead };
}

/* What is hardly written to takes up addresses and a few pages. So its runs begin at few places, where blocks of all sizes
 * have the same first and last pages. With first pages any of a, and last pages one in a, they touch a + P / a pages of P:
 * few, where P is a track, if a is that of eight slabs, and where blocks have but their own power of two, that of one.
 * Blocks that are filled stand as close as they can: what is between them holds pages, too. */
static struct run take_sparse_run(size_t usable_bytes, size_t alignment, bool *zeroed)
{
    struct run r = { .slab = SLAB_NONE };
    if (usable_bytes > LANE_BYTES) /* records of a track are a page more, too much beside smaller ones */
        r = run_apart(usable_bytes, alignment, 8, true, zeroed);
    return r.slab != SLAB_NONE ? r : run_apart(usable_bytes, alignment, 1, false, zeroed);
}

/* Under a limit every slab that was ever used counts, and so do records of addresses: blocks do not stand apart then. */
static bool stand_apart(size_t usable_bytes)
{
    return sparse_blocks(usable_bytes) && load_relaxed(&policy_live.memory_limit_bytes) == NO_MEMORY_LIMIT;
}

static struct run take_run(size_t usable_bytes, size_t alignment, bool *zeroed)
{
    if (alignment <= SLAB_BYTES && stand_apart(usable_bytes)) {
        const struct run r = take_sparse_run(usable_bytes, alignment, zeroed);
        if (r.slab != SLAB_NONE)
            return r;
    }
    const uint32_t slabs = slabs_for(usable_bytes);
    const uint32_t alignment_slabs = alignment <= SLAB_BYTES ? 1 : (uint32_t)(alignment >> SLAB_SHIFT);
    const uint32_t slab = arena_alloc(slabs, alignment_slabs, NULL, zeroed);
    return (struct run){ slab, slabs, offset_in_run(slabs, usable_bytes, alignment), 0 };
}

void *large_alloc(size_t bytes, size_t alignment, bool *zeroed)
{
    if (bytes == 0)
        bytes = 1;
    if (bytes <= LARGE_MAX_BYTES && alignment <= LARGE_MAX_BYTES) {
        const size_t usable_bytes = usable_for(bytes);
        const struct run run = take_run(usable_bytes, alignment, zeroed);
        if (run.slab != SLAB_NONE) {
            struct large_record *r = record_of(run.slab);
            r->usable_bytes = usable_bytes;
            r->offset = run.offset;
            /* Who asks for whole pages may have taken the right to read them away, or have kept them from a forked child. */
            r->was_zero = *zeroed && alignment < os_page_bytes();
            r->lead = (uint8_t)run.lead;
            store_release(window_word(run.slab), MAP_LARGE + run.slabs);
            fetch_add_relaxed(&totals.run_bytes, r->usable_bytes);
            fetch_add_relaxed(&totals.runs_taken, 1);
            return (char *)window_slab_address(run.slab) + run.offset;
        }
    }
    void *block = huge_alloc_spare(bytes, alignment);
    *zeroed = block == NULL;
    if (block == NULL)
        block = huge_alloc(bytes, alignment);
    if (block != NULL)
        fetch_add_relaxed(&totals.huge_taken, 1);
    return block;
}

/* The slab that `block` heads as a large block, and its map word; or SLAB_NONE. */
static uint32_t find_run(const void *block, uint32_t *word)
{
    uint64_t slab = window_slab_index(block);
    if (slab >= load_acquire(&window.limit))
        return SLAB_NONE;
    *word = load_acquire(window_word((uint32_t)slab));
    if (map_run_slabs(*word) == 0 || (char *)window_slab_address((uint32_t)slab) + record_of((uint32_t)slab)->offset != block)
        return SLAB_NONE;
    return (uint32_t)slab;
}

/* Says what is wrong with an address that is no live block. */
static NORETURN void fail(const void *block)
{
    uint64_t slab = window_slab_index(block);
    if (slab < load_acquire(&window.limit)) {
        uint32_t word = load_relaxed(window_word((uint32_t)slab));
        if (map_run_slabs(word) != 0 || (word == 0 && window_run_head((uint32_t)slab) != 0))
            check_fail("free of a pointer into the middle of a block", block);
        check_fail("double free, or free of a pointer that malloc did not return", block);
    }
    check_fail("free of a pointer that malloc did not return, or double free of a huge block", block);
}

/* It is no block any more, but its slabs are still the caller's. The exchange decides between two threads that free the same
 * block, or one that frees what another resizes. `r`: its record, as it was before. */
static void end_run(uint32_t slab, uint32_t slabs, const struct large_record *r, uint64_t *ended)
{
    uint32_t word = MAP_LARGE + slabs;
    if (!cas_strong_acq_rel(window_word(slab), &word, 0))
        fail((char *)window_slab_address(slab) + r->offset);
    fetch_sub_relaxed(&totals.run_bytes, r->usable_bytes);
    fetch_add_relaxed(ended, 1);
}

void large_free(void *block)
{
    uint32_t word;
    uint32_t slab = find_run(block, &word);
    if (slab == SLAB_NONE) {
        if (!huge_free(block))
            fail(block);
        fetch_add_relaxed(&totals.huge_freed, 1);
        return;
    }
    uint32_t slabs = map_run_slabs(word);
    const struct large_record r = *record_of(slab);
    end_run(slab, slabs, &r, &totals.runs_freed);
    if (r.was_zero)
        sparse_look(block, r.usable_bytes);
    arena_free(slab - r.lead, slabs + r.lead);
    arena_note_freed(slabs * SLAB_BYTES);
}

size_t large_usable_bytes(const void *block)
{
    uint32_t word;
    uint32_t slab = find_run(block, &word);
    if (slab == SLAB_NONE)
        return huge_bytes(block);
    return record_of(slab)->usable_bytes;
}

/* Copies and gives back what was copied in turn. So much is there twice meanwhile: no more than what was taken for the
 * pages that the block is to grow by, which nobody has touched yet. */
static size_t copy_step(size_t more)
{
    return more < SLAB_BYTES ? os_page_bytes() : SLAB_BYTES;
}

/* By copying, as the run is still mapped: remapping it a second time could fail half-way. So this cannot. */
static void bring_back(char *run, char *moved, size_t bytes, size_t step)
{
    for (size_t at = 0; at < bytes; at += step) {
        size_t here = step < bytes - at ? step : bytes - at;
        memcpy(run + at, moved + at, here);
        os_purge(moved + at, here);
    }
}

/* Where the pages cannot be moved: never are all of them there twice. */
static void *copy_out(char *run, size_t bytes, size_t new_bytes)
{
    const size_t step = copy_step(new_bytes - bytes);
    char *to = os_map(new_bytes, os_page_bytes());
    if (to == NULL)
        return NULL;
    os_no_huge_pages(to, new_bytes); /* until huge_enter: one would bring pages that are still in the run */
    for (size_t at = 0; at < bytes; at += step) {
        size_t here = step < bytes - at ? step : bytes - at;
        memcpy(to + at, run + at, here);
        if (!os_purge(run + at, here)) { /* locked, here or in the middle: what lies before that has gone */
            bring_back(run, to, at + here, step);
            os_unmap(to, new_bytes);
            return NULL;
        }
    }
    return to;
}

/* The mapping that the run's bytes are in now, which has new_bytes; the run is still mapped and reads as zero. NULL: the
 * run is as it was. Mapping that much first finds out, before anything moves, whether there is room, and where the
 * kernel will most likely let the pages grow without moving them once more. */
static void *out_of_window(char *run, size_t bytes, size_t new_bytes)
{
    void *room = os_map(new_bytes, os_page_bytes());
    if (room == NULL || !os_unmap(room, new_bytes))
        return NULL;
    char *moved = os_remap_pages(run, bytes, room);
    if (moved == NULL)
        return copy_out(run, bytes, new_bytes);
    void *grown = os_remap(moved, bytes, new_bytes);
    if (UNLIKELY(grown == NULL)) {
        bring_back(run, moved, bytes, copy_step(new_bytes - bytes));
        os_unmap(moved, bytes);
    }
    return grown;
}

/* The run's pages go to a mapping outside the window, which grows by mremap from then on: programs that grow one array
 * beside another would copy it at every step. NULL: not done. */
static void *move_out(uint32_t slab, uint32_t slabs, size_t bytes)
{
    uint64_t huge_total, huge_count;
    huge_read_totals(&huge_total, &huge_count);
    if (slabs < MOVE_MIN_SLABS || bytes > PTRDIFF_MAX - os_page_bytes() || huge_count >= MOVED_MAX || !huge_reserve())
        return NULL;
    char *run = window_slab_address(slab);
    const struct large_record r = *record_of(slab);
    size_t run_bytes = slabs * SLAB_BYTES;
    size_t new_bytes = usable_for(bytes);
    size_t more = new_bytes > run_bytes ? new_bytes - run_bytes : 0;
    bool granted = usage_take(more);
    void *moved = NULL;
    /* What lies before the block stays behind, and is to read as zero like the rest. */
    if (granted && (r.offset == 0 || os_purge(run, r.offset)))
        moved = out_of_window(run + r.offset, run_bytes - r.offset, new_bytes);
    if (moved == NULL) {
        if (granted)
            usage_give(more);
        huge_unreserve();
        return NULL;
    }
    if (new_bytes < run_bytes)
        usage_give(run_bytes - new_bytes);
    end_run(slab, slabs, &r, &totals.runs_moved);
    if (r.lead != 0)
        arena_free(slab - r.lead, r.lead); /* its pages were not moved: an earlier block may have left some */
    arena_free_moved(slab, slabs);
    huge_advise_moved(moved, new_bytes);
    spare_note_mapped(new_bytes);
    huge_enter(moved, new_bytes);
    return moved;
}

/* The same into a spare mapping, whose pages are there already. It has room for twice as many: copying the block, once in
 * its life, costs less than the page faults that growing would. NULL: not done. */
static void *move_to_spare(uint32_t slab, uint32_t slabs, size_t bytes)
{
    if (bytes < SUPERSLAB_BYTES || bytes > PTRDIFF_MAX - os_page_bytes())
        return NULL;
    const size_t new_bytes = usable_for(bytes);
    void *to = spare_take_roomy(new_bytes);
    if (to == NULL)
        return NULL;
    if (!huge_reserve()) {
        spare_put(to, new_bytes);
        return NULL;
    }
    const struct large_record r = *record_of(slab);
    memcpy(to, (char *)window_slab_address(slab) + r.offset, r.usable_bytes);
    end_run(slab, slabs, &r, &totals.runs_moved);
    arena_free(slab - r.lead, slabs + r.lead);
    huge_enter(to, new_bytes);
    arena_note_freed(slabs * SLAB_BYTES);
    return to;
}

static void *leave_window(uint32_t slab, uint32_t slabs, size_t bytes)
{
    void *moved = move_to_spare(slab, slabs, bytes);
    return moved != NULL ? moved : move_out(slab, slabs, bytes);
}

void *large_resize(void *block, size_t bytes)
{
    uint32_t word;
    uint32_t slab = find_run(block, &word);
    if (slab == SLAB_NONE)
        return bytes >= HUGE_STAYS_BYTES ? huge_resize(block, bytes) : NULL;
    struct large_record *r = record_of(slab);
    uint32_t have = map_run_slabs(word);
    if (bytes == 0)
        return NULL;
    if (bytes > LARGE_MAX_BYTES - r->offset)
        return leave_window(slab, have, bytes);
    uint32_t want = slabs_for(r->offset + bytes);
    if (want > have) {
        void *moved = move_to_spare(slab, have, bytes); /* sooner than take pages that it would have to fault in */
        if (moved != NULL)
            return moved;
        bool zeroed;
        if (!arena_extend(slab, have, want, &zeroed))
            return move_out(slab, have, bytes);
        r->was_zero &= zeroed;
        store_release(window_word(slab), MAP_LARGE + want);
    } else if (want < have) {
        store_release(window_word(slab), MAP_LARGE + want);
        arena_free(slab + want, have - want);
        arena_note_freed((have - want) * SLAB_BYTES);
    }
    fetch_add_relaxed(&totals.run_bytes, usable_for(bytes) - r->usable_bytes);
    r->usable_bytes = usable_for(bytes);
    return block;
}

void large_read_totals(struct large_totals *out)
{
    const uint64_t freed = load_relaxed(&totals.runs_freed);
    const uint64_t gone = freed + load_relaxed(&totals.runs_moved), taken = load_relaxed(&totals.runs_taken);
    out->run_bytes = load_relaxed(&totals.run_bytes);
    out->run_count = taken > gone ? taken - gone : 0; /* others are at it */
    out->alloc_count = taken + load_relaxed(&totals.huge_taken);
    out->free_count = freed + load_relaxed(&totals.huge_freed);
    huge_read_totals(&out->huge_bytes, &out->huge_count);
}
