#include "tcache/tcache.h"

#include "arena/meta.h"
#include "arena/usage.h"
#include "base/check.h"
#include "base/tick.h"
#include "base/upcall.h"
#include "config/config.h"
#include "config/policy.h"
#include "large/large.h"
#include "os/os.h"
#include "slab/pages.h"
#include "tcache/tcache_internal.h"

struct tcache *tcache_self(void)
{
    return (struct tcache *)hot_thread.self; /* its first member */
}

struct tcache *tcache_self_or_attach(void)
{
    struct tcache *t = tcache_self();
    return LIKELY(t != NULL) ? t : upcall_thread_attach();
}

bool tcache_init(struct tcache *t)
{
    lock_init(&t->heap.lock, LOCK_HEAP);
    t->checked = config_get()->debug_level >= 1;
    outbox_init(&t->outbox, load_relaxed(&policy_live.thread_cache_bytes));
    t->slow_left = TICK_SLOW_OPERATIONS;
    magazine_take_policy(t);
    if (t->bins[0].array == NULL && !magazine_pack_all(t))
        return false;
    if (config_get()->debug_level >= 3 && t->quarantine == NULL &&
        (t->quarantine = meta_alloc(sizeof *t->quarantine)) == NULL)
        return false;
    if (t->heap.id == 0 && !heap_register(&t->heap))
        return false;
    return true;
}

void tcache_enter(struct tcache *t)
{
    t->slow_left = TICK_SLOW_OPERATIONS; /* a thread that fork left behind may have been about to set it */
    hot_thread.self = &t->hot;
    hot_thread.tag = t->heap.id << MAP_OWNER_SHIFT;
    hot_thread.window_base = window.base;
    __asm__ volatile("" ::: "memory"); /* a signal handler that frees goes by the limit, one that allocates by the delta */
    hot_thread.delta = (char *)&t->hot - (char *)&hot_static.empty;
    hot_thread.limit = load_acquire(&window.limit);
}

void tcache_leave(void)
{
    hot_thread.limit = 0;
    hot_thread.delta = 0;
    __asm__ volatile("" ::: "memory"); /* as above */
    hot_thread = (struct hot_thread){ 0 };
}

void tcache_forget(struct tcache *t)
{
    for (unsigned bin = 0; bin < BIN_COUNT; bin++)
        magazine_place(t, bin, t->bins[bin].array, t->bins[bin].array);
    if (t->quarantine != NULL)
        *t->quarantine = (struct quarantine){ 0 };
    magazine_recount(t);
    outbox_forget(&t->outbox);
}

/* Trims what the thread itself can: the outbox every period, the heap once per decay period. */
static void age(struct tcache *t, uint64_t now_ms)
{
    t->delivered_ms = now_ms;
    heap_note_node(&t->heap, node_refresh());
    outbox_deliver_all(&t->outbox);
    if (load_relaxed(&policy_live.page_decay_ms) != PAGE_DECAY_NEVER) {
        lock_acquire(&t->heap.lock);
        heap_purge_pages(&t->heap, now_ms);
        const uint64_t steered = t->heap.steered;
        lock_release(&t->heap.lock);
        if (UNLIKELY(steered != t->steered))
            tcache_steer(t, steered);
    }
    if (now_ms - t->aged_ms < load_relaxed(&policy_live.decay_ms))
        return;
    t->aged_ms = now_ms;
    tcache_close_idle(t);
    lock_acquire(&t->heap.lock);
    heap_age(&t->heap, false);
    lock_release(&t->heap.lock);
}

/* A pass over a large heap has many steps. One every TICK_PERIOD_MS would be slower than the program frees. */
static void go_on_purging(struct heap *h, uint64_t now_ms)
{
    lock_acquire(&h->lock);
    if (h->purge_bins != 0)
        heap_purge_pages(h, now_ms);
    lock_release(&h->lock);
}

NEAR void tcache_tick(struct tcache *t)
{
    t->slow_left = TICK_SLOW_OPERATIONS; /* first: a fork may end this thread anywhere below */
    if (config_get()->alloc_learn && !t->checked)
        t->slow_left = upcall_alloc_learn(t);
    uint64_t now_ms = os_clock_ms();
    if (config_get()->mem_learn)
        heap_report_moved(&t->heap);
    if (now_ms - t->delivered_ms >= TICK_PERIOD_MS)
        age(t, now_ms);
    else if (load_relaxed(&policy_live.page_decay_ms) != PAGE_DECAY_NEVER)
        go_on_purging(&t->heap, now_ms);
    tick_run(now_ms);
    arena_note_freed(outbox_help_owner(&t->outbox)); /* and blocks that others have collected, too */
}

void *stray_malloc(unsigned bin)
{
    void *block;
    upcall_fork_recover();
    return LIKELY(heap_refill(&stray_heap, bin, &block, 1) != 0) ? block : tcache_block_in_need(&stray_heap, bin);
}

static void *large(struct tcache *t, size_t bytes, size_t alignment, bool *zeroed)
{
    if (t != NULL)
        tcache_note_slow(t);
    void *block = large_alloc(bytes, alignment, zeroed);
    if (LIKELY(block != NULL) || bytes > PTRDIFF_MAX)
        return block;
    tcache_reclaim(0);
    return large_alloc(bytes, alignment, zeroed);
}

static void *small(struct tcache *t, unsigned bin)
{
    return LIKELY(t != NULL) ? tcache_refill(t, bin) : stray_malloc(bin);
}

/* The block's bin, run and owner, or false when no heap owns its slab. */
struct place {
    uint32_t slab; /* the run's first */
    uint32_t owner;
    const struct bin_info *info;
};

FAST bool find_place(const void *block, struct place *place)
{
    uint64_t slab = window_slab_index(block);
    if (slab >= load_acquire(&window.limit))
        return false;
    uint32_t word = load_relaxed(window_word((uint32_t)slab));
    place->owner = word >> MAP_OWNER_SHIFT;
    if (place->owner == 0)
        return false;
    place->info = bin_info_of_map_word(word);
    place->slab = slab_head((uint32_t)slab, place->info);
    return true;
}

static struct guarded guarded_at(void *block, uint32_t slab, const struct bin_info *info)
{
    /* One address may have several heads, whose counts are nothing to one another: one for each length of run. */
    const uint32_t life = slab_at(slab)->life << BIN_RUN_LOG2_BITS | info->run_slabs_log2;
    return (struct guarded){ .block = block, .block_bytes = info->block_bytes, .life = life };
}

/* HAKMEM_DEBUG_LEVEL >= 2. */
SLOW static void *guarded_malloc(struct tcache *t, size_t bytes, size_t alignment, bool *zeroed)
{
    struct place place;
    unsigned bin = bytes > MEDIUM_MAX_BYTES ? BIN_COUNT : bin_of_aligned(bytes + GUARD_SEAL_BYTES, alignment);
    if (t != NULL && t->quarantine != NULL)
        quarantine_look(t->quarantine);
    if (bin == BIN_COUNT)
        return large(t, bytes, alignment, zeroed);
    void *block = small(t, bin);
    if (block == NULL || !find_place(block, &place)) /* none, or a large block for want of slabs */
        return block;
    const struct guarded g = guarded_at(block, place.slab, place.info);
    CHECK(guard_may_be_reused(&g, os_page_bytes()), "write into a freed block", block);
    guard_seal(&g, bytes);
    return block;
}

NOINLINE static void *malloc_uncommon(size_t bytes)
{
    struct tcache *t = tcache_self_or_attach();
    bool zeroed;
    if (UNLIKELY(guard_is_on()))
        return guarded_malloc(t, bytes, 1, &zeroed);
    if (bytes > MEDIUM_MAX_BYTES)
        return large(t, bytes, 1, &zeroed);
    return small(t, bin_of_size(bytes));
}

/* A tiny or medium size of a thread that has a cache has missed: straight to the refill. */
void *tcache_malloc_slow(size_t bytes)
{
    struct tcache *t = tcache_self();
    if (UNLIKELY(t == NULL || bytes > MEDIUM_MAX_BYTES || guard_is_on()))
        return malloc_uncommon(bytes);
    const size_t bin = bytes <= TINY_MAX_BYTES ? hot_anchor()->tiny_top[bytes] / HOT_TOP_STRIDE
                                               : bin_medium_offset[(bytes + 511) / 512] / BIN_STRIDE_BYTES;
    return tcache_refill(t, (unsigned)bin);
}

void *tcache_malloc_aligned(size_t bytes, size_t alignment, bool *zeroed)
{
    *zeroed = false;
    unsigned bin = bin_of_aligned(bytes, alignment);
    if (LIKELY(bin != BIN_COUNT)) {
        void *block = hot_pop(hot_magazine(hot_anchor(), bin * BIN_STRIDE_BYTES));
        if (LIKELY(block != NULL))
            return block;
    }
    struct tcache *t = tcache_self_or_attach();
    if (UNLIKELY(guard_is_on()))
        return guarded_malloc(t, bytes, alignment, zeroed);
    return bin != BIN_COUNT ? small(t, bin) : large(t, bytes, alignment, zeroed);
}

static void check_is_block(const struct place *place, const void *block, const char *message)
{
    const struct bin_info *info = place->info;
    uint32_t offset = (uint32_t)(uintptr_t)block & info->run_mask;
    uint32_t number = bin_block_index(info, offset);
    CHECK(number * info->block_bytes == offset && number < info->block_count, message, block);
}

/* The block is ours and the hit path would not take it. */
static void free_own(struct tcache *t, unsigned bin, void *block)
{
    struct magazine *m = &t->hot.bins[bin];
    hot_thread.limit = load_acquire(&window.limit);
    if (UNLIKELY(*load_relaxed(&m->top) == block))
        check_fail("double free", block);
    if (UNLIKELY(load_relaxed(&m->top) >= m->end))
        tcache_overflow(t, bin, block);
    else
        hot_push(m, block);
}

static void free_small(struct tcache *t, const struct place *place, void *block)
{
    if (t != NULL && place->owner == t->heap.id) {
        free_own(t, bin_of_info(place->info), block);
        return;
    }
    uint32_t number = slab_block_number(place->info, block);
    if (t == NULL)
        upcall_fork_recover();
    else
        tcache_note_slow(t);
    remote_deliver(place->slab, place->info, number / 64, (uint64_t)1 << (number % 64));
}

/* Its seal is broken: by a write past its end, unless it is free already and the fill has gone with its page. */
SLOW NORETURN static void fail_unsealed(const struct place *place, const struct guarded *g)
{
    struct heap *owner = heap_by_id(place->owner);
    uint32_t number = slab_block_number(place->info, g->block);
    bool is_free = guard_is_freed(g);
    if (!is_free && lock_try(&owner->lock)) {
        is_free = (slab_at(place->slab)->words[number / 64] >> number % 64 & 1) != 0;
        lock_release(&owner->lock);
    }
    check_fail(is_free ? "double free, or use of a freed block" : "write past the end of a block", g->block);
}

/* What the program asked for. Aborts if the block is not as it was handed out. */
static size_t guarded_bytes(const struct place *place, const struct guarded *g)
{
    size_t bytes;
    if (UNLIKELY(!guard_read(g, &bytes)))
        fail_unsealed(place, g);
    return bytes;
}

static void leave_quarantine(struct tcache *t, bool all)
{
    struct place place;
    for (void *block; (block = quarantine_take(t->quarantine, all)) != NULL;) {
        CHECK(find_place(block, &place), "double free", block); /* its slab is gone, though the block was out */
        free_small(t, &place, block);
    }
}

void tcache_empty_quarantine(struct tcache *t)
{
    if (t->quarantine != NULL)
        leave_quarantine(t, true);
}

void tcache_check_at_exit(void)
{
    const struct tcache *t = tcache_self();
    if (t != NULL && t->quarantine != NULL)
        quarantine_look_at_all(t->quarantine);
}

/* HAKMEM_DEBUG_LEVEL >= 2. */
SLOW static void guarded_free(struct tcache *t, const struct place *place, void *block)
{
    const struct guarded g = guarded_at(block, place->slab, place->info);
    slab_block_number(place->info, block);
    guarded_bytes(place, &g);
    guard_fill(&g);
    if (t == NULL || t->quarantine == NULL) {
        free_small(t, place, block);
        return;
    }
    quarantine_look(t->quarantine);
    quarantine_add(t->quarantine, &g);
    leave_quarantine(t, false);
}

NEAR static void free_uncommon(void *block)
{
    struct tcache *t = tcache_self_or_attach();
    struct place place;
    if (!find_place(block, &place)) {
        if (t != NULL)
            tcache_note_slow(t);
        large_free(block);
    } else if (UNLIKELY(guard_is_on())) {
        guarded_free(t, &place, block);
    } else {
        free_small(t, &place, block);
    }
}

NOINLINE static void free_remote(struct tcache *t, uint32_t slab, unsigned bin, uint32_t number)
{
    tcache_note_slow(t);
    outbox_add(&t->outbox, slab, bin, number);
}

/* A thread without a cache and a checked one have no use for an outbox. */
void tcache_free_slow(void *block)
{
    if (block == NULL)
        return;
    struct tcache *t = tcache_self();
    struct place place;
    if (LIKELY(t != NULL && !t->checked) && find_place(block, &place)) {
        if (place.owner == t->heap.id) {
            free_own(t, bin_of_info(place.info), block);
            return;
        }
        free_remote(t, place.slab, bin_of_info(place.info), slab_block_number(place.info, block));
        return;
    }
    free_uncommon(block);
}

void tcache_free_full(void *block, struct magazine *m)
{
    struct tcache *t = tcache_self();
    if (UNLIKELY(t->checked))
        tcache_free_slow(block);
    else
        tcache_overflow(t, (unsigned)(m - t->hot.bins), block);
}

size_t tcache_usable_bytes_uncommon(const void *block)
{
    struct place place;
    if (find_place(block, &place)) {
        check_is_block(&place, block, "size of a pointer into the middle of a block");
        const struct guarded g = guarded_at((void *)(uintptr_t)block, place.slab, place.info);
        return guarded_bytes(&place, &g);
    }
    size_t bytes = large_usable_bytes(block);
    CHECK(bytes != 0, "size of a pointer that malloc did not return", block);
    return bytes;
}

size_t tcache_block_bytes(const void *block, const struct bin_info *info)
{
    size_t bytes;
    if (LIKELY(!guard_is_on()))
        return info->block_bytes;
    const uint32_t slab = slab_head((uint32_t)window_slab_index(block), info);
    const struct guarded g = guarded_at((void *)(uintptr_t)block, slab, info);
    return guard_read(&g, &bytes) ? bytes : 0;
}

SLOW static void *guarded_resize(const struct place *place, void *block, size_t bytes)
{
    const struct guarded g = guarded_at(block, place->slab, place->info);
    guarded_bytes(place, &g);
    if (bytes > MEDIUM_MAX_BYTES || !tcache_is_worth_keeping(bytes + GUARD_SEAL_BYTES, g.block_bytes))
        return NULL;
    guard_seal(&g, bytes);
    return block;
}

static NOINLINE void *resize_large(void *block, size_t bytes)
{
    size_t have = large_usable_bytes(block);
    CHECK(have != 0, "realloc of a pointer that malloc did not return", block);
    if (tcache_is_worth_keeping(bytes, have))
        return block;
    if (bytes <= MEDIUM_MAX_BYTES)
        return NULL;
    upcall_fork_recover(); /* it may claim slabs, and recovery counts them */
    void *same = large_resize(block, bytes);
    if (same != NULL || bytes <= have || bytes > PTRDIFF_MAX || usage_has_room(bytes - have))
        return same;
    /* At the memory limit: a copy would need still more. */
    tcache_reclaim(0);
    return large_resize(block, bytes);
}

void *tcache_resize_uncommon(void *block, size_t bytes)
{
    struct place place;
    if (LIKELY(!find_place(block, &place)))
        return resize_large(block, bytes);
    check_is_block(&place, block, "realloc of a pointer into the middle of a block");
    return guarded_resize(&place, block, bytes);
}
