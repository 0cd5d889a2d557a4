#include "arena/hugepage.h"

#include "arena/arena_internal.h"
#include "config/policy.h"
#include "os/os.h"

/* superslab.pages: enum superslab_pages in the low two bits, then the advice given to the kernel, then of a BROKEN
 * SuperSlab the second in which it became so, of a HUGE one whether it was born so and still has to fill up. */
enum advice { ADVICE_NONE, ADVICE_SMALL, ADVICE_HUGE };
enum { ADVICE_SHIFT = 2, ADVICE_MASK = 3, BROKEN_SHIFT = 4, UNPROVEN_BIT = 1 << 4 };

enum {
    STRETCH_MAX = 1 << 14,      /* SuperSlabs on each side that a break looks at for the end of their mapping */
    COLLAPSE_GUESS_US = 1000,   /* before the first one has been measured */
    IDLE_KIB_BITS = 16,
};

/* What the last collapse took, less the longer it was declined for that. Atomic relaxed: an estimate. */
static uint32_t collapse_cost_us = COLLAPSE_GUESS_US;

static uint32_t word_of(enum superslab_pages pages, enum advice advice)
{
    return (uint32_t)pages | (uint32_t)advice << ADVICE_SHIFT;
}

static enum superslab_pages pages_of(uint32_t word)
{
    return (enum superslab_pages)(word & SUPERSLAB_PAGES_MASK);
}

static enum advice advice_of(uint32_t word)
{
    return (enum advice)(word >> ADVICE_SHIFT & ADVICE_MASK);
}

static uint32_t with_advice(uint32_t word, enum advice advice)
{
    return (word & ~((uint32_t)ADVICE_MASK << ADVICE_SHIFT)) | (uint32_t)advice << ADVICE_SHIFT;
}

static bool is_unproven(uint32_t word)
{
    return pages_of(word) == SUPERSLAB_HUGE && (word & UNPROVEN_BIT) != 0;
}

/* Under the lock, and alone in writing the word. */
NEAR static void set_word(uint32_t superslab, uint32_t word)
{
    struct superslab *s = &superslab_table[superslab];
    arena.unproven += is_unproven(word);
    arena.unproven -= is_unproven(load_relaxed(&s->pages));
    store_relaxed(&s->pages, word);
}

/* x86-64, and elsewhere with pages of 4 KiB. With 16 or 64 KiB a huge page is 32 or 512 MiB. */
static bool is_huge_page_sized(void)
{
    return os_page_bytes() * (os_page_bytes() / sizeof(uint64_t)) == SUPERSLAB_BYTES;
}

/* ---- edges, all under the lock ---- */

static bool is_mapped(uint32_t superslab)
{
    return superslab >= window.first_superslab && superslab < arena.next &&
           load_relaxed(&superslab_table[superslab].state) == SUPERSLAB_MAPPED;
}

static uint32_t is_edge(uint32_t neighbour, enum advice advice)
{
    return is_mapped(neighbour) && advice_of(load_relaxed(&superslab_table[neighbour].pages)) != advice;
}

/* Edges around [from, to) if all of it has this advice. */
NEAR static uint32_t edges_around(uint32_t from, uint32_t to, enum advice advice)
{
    return is_edge(from - 1, advice) + is_edge(to, advice);
}

/* The number of edges if [from, to), all of which has one advice, gets another. */
static uint32_t edges_after(uint32_t from, uint32_t to, enum advice advice)
{
    enum advice before = advice_of(load_relaxed(&superslab_table[from].pages));
    return arena.advice_edges - edges_around(from, to, before) + edges_around(from, to, advice);
}

/* More than the maximum can come of births between two neighbours that differ: a gap has cost as much before. */
static bool is_few(uint32_t edges)
{
    return edges <= HUGEPAGE_EDGES_MAX || edges <= arena.advice_edges;
}

static bool advise(uint32_t from, uint32_t to, enum advice advice)
{
    if (advice == ADVICE_NONE)
        return true;
    char *address = window_slab_address(from * SUPERSLAB_SLABS);
    size_t bytes = (size_t)(to - from) << SUPERSLAB_SHIFT;
    return advice == ADVICE_HUGE ? os_advise_huge(address, bytes) : os_no_huge_pages(address, bytes);
}

/* ---- birth and death ---- */

static uint32_t birth_word(uint32_t count)
{
    uint32_t thp = load_relaxed(&policy_live.thp);
    uint64_t superslabs = load_relaxed(&arena.mapped) - load_relaxed(&arena.released);
    if (thp == THP_NEVER)
        return word_of(SUPERSLAB_SMALL, ADVICE_SMALL);
    if (thp == THP_ALWAYS) {
        /* Where the kernel gives none, keeping memory in one piece would be for nothing. */
        bool is_huge = is_huge_page_sized() && os_huge_page_mode() != OS_HUGE_NEVER;
        return word_of(is_huge ? SUPERSLAB_HUGE : SUPERSLAB_SMALL, ADVICE_HUGE);
    }
    /* A wide run may be touched here and there only: what it fills up of it, learning will see. */
    if (arena.unproven < load_relaxed(&policy_live.huge_birth) && count == 1 && is_huge_page_sized() &&
        (os_huge_page_mode() == OS_HUGE_MADVISE || os_huge_page_mode() == OS_HUGE_ALWAYS))
        return word_of(SUPERSLAB_HUGE, ADVICE_HUGE) | UNPROVEN_BIT;
    if (!is_huge_page_sized())
        return word_of(SUPERSLAB_SMALL, ADVICE_SMALL);
    enum os_huge_page_mode mode = os_huge_page_mode();
    if (mode == OS_HUGE_MADVISE || mode == OS_HUGE_NEVER)
        return word_of(SUPERSLAB_SMALL, ADVICE_NONE);
    if (superslabs < HUGEPAGE_BORN_AFTER)
        return word_of(SUPERSLAB_SMALL, ADVICE_SMALL);
    return word_of(SUPERSLAB_HUGE, ADVICE_NONE);
}

NEAR void hugepage_born(uint32_t from, uint32_t to)
{
    uint32_t word = birth_word(to - from);
    if (!is_few(arena.advice_edges + edges_around(from, to, advice_of(word)))) {
        uint32_t neighbour = load_relaxed(&superslab_table[is_mapped(from - 1) ? from - 1 : to].pages);
        bool is_huge = pages_of(neighbour) == SUPERSLAB_HUGE;
        bool is_predicted = is_huge && load_relaxed(&policy_live.huge_birth) != 0;
        word = word_of(is_huge ? SUPERSLAB_HUGE : SUPERSLAB_SMALL, advice_of(neighbour)) | is_predicted * UNPROVEN_BIT;
    }
    if (!advise(from, to, advice_of(word)))
        word = word_of(SUPERSLAB_SMALL, ADVICE_NONE);
    for (uint32_t i = from; i < to; i++) {
        set_word(i, word);
        store_relaxed(&superslab_table[i].idle, 0);
    }
    arena.advice_edges += edges_around(from, to, advice_of(word));
}

void hugepage_gone(uint32_t superslab)
{
    struct superslab *s = &superslab_table[superslab];
    arena.advice_edges -= edges_around(superslab, superslab + 1, advice_of(load_relaxed(&s->pages)));
    set_word(superslab, 0);
}

bool arena_superslab_is_unproven(uint32_t superslab)
{
    return is_unproven(load_relaxed(&superslab_table[superslab].pages));
}

void arena_superslab_prove(uint32_t superslab)
{
    lock_acquire(&arena.lock);
    uint32_t word = load_relaxed(&superslab_table[superslab].pages);
    if (is_unproven(word))
        set_word(superslab, word & ~(uint32_t)UNPROVEN_BIT);
    lock_release(&arena.lock);
}

/* ---- SMALL, BROKEN -> HUGE ---- */

static void collapse(uint32_t superslab, uint64_t *budget_us)
{
    uint32_t cost = load_relaxed(&collapse_cost_us);
    if (*budget_us < cost) {
        store_relaxed(&collapse_cost_us, cost - cost / 8);
        return;
    }
    uint64_t start = os_clock_us();
    bool done = os_collapse(window_slab_address(superslab * SUPERSLAB_SLABS), SUPERSLAB_BYTES);
    uint64_t took = os_clock_us() - start;
    store_relaxed(&collapse_cost_us, took < UINT32_MAX ? (uint32_t)took : UINT32_MAX);
    *budget_us -= done && took < *budget_us ? took : *budget_us;
}

bool arena_superslab_make_huge(uint32_t superslab, uint64_t *collapse_budget_us)
{
    if (load_relaxed(&policy_live.thp) == THP_NEVER || !is_huge_page_sized() || os_huge_page_mode() == OS_HUGE_NEVER)
        return false;
    struct superslab *s = &superslab_table[superslab];
    bool is_huge = false;
    lock_acquire(&arena.lock);
    if (is_mapped(superslab)) {
        uint32_t word = load_relaxed(&s->pages);
        uint32_t now_s = (uint32_t)(os_clock_ms() / 1000);
        /* The second in the word wraps every eight years. */
        bool is_resting = pages_of(word) == SUPERSLAB_BROKEN &&
                          (now_s - (word >> BROKEN_SHIFT)) << BROKEN_SHIFT >> BROKEN_SHIFT < HUGEPAGE_BROKEN_MS / 1000;
        is_huge = pages_of(word) == SUPERSLAB_HUGE;
        if (!is_huge && !is_resting) {
            uint32_t edges = edges_after(superslab, superslab + 1, ADVICE_HUGE);
            if (is_few(edges) && advise(superslab, superslab + 1, ADVICE_HUGE)) {
                set_word(superslab, word_of(SUPERSLAB_HUGE, ADVICE_HUGE));
                arena.advice_edges = edges;
                is_huge = true;
            }
        }
    }
    lock_release(&arena.lock);
    /* Outside the lock: copying takes long. Were the SuperSlab unmapped meanwhile, the kernel would say so. */
    if (is_huge && collapse_budget_us != NULL && load_relaxed(&s->dirty_mask) != 0)
        collapse(superslab, collapse_budget_us);
    return is_huge;
}

/* ---- HUGE -> BROKEN ---- */

/* The far end of the SuperSlabs that share this one's advice. */
static uint32_t stretch_end(uint32_t superslab, int step)
{
    enum advice advice = advice_of(load_relaxed(&superslab_table[superslab].pages));
    uint32_t at = superslab;
    for (unsigned i = 0; i < STRETCH_MAX; i++, at += (uint32_t)step) {
        uint32_t next = at + (uint32_t)step;
        if (!is_mapped(next) || is_edge(next, advice))
            break;
    }
    return at;
}

/* Picks the shortest stretch around this SuperSlab whose opting out leaves few enough edges. A whole mapping always does:
 * it has as many edges afterwards as before, or fewer. */
static bool choose_stretch(uint32_t superslab, uint32_t *from, uint32_t *to)
{
    *from = superslab;
    *to = superslab + 1;
    if (is_few(edges_after(*from, *to, ADVICE_SMALL)))
        return true;
    uint32_t low = stretch_end(superslab, -1);
    uint32_t high = stretch_end(superslab, 1) + 1;
    bool is_low_nearer = superslab - low < high - superslab;
    *from = is_low_nearer ? low : superslab;
    *to = is_low_nearer ? superslab + 1 : high;
    if (is_few(edges_after(*from, *to, ADVICE_SMALL)))
        return true;
    *from = low;
    *to = high;
    return is_few(edges_after(*from, *to, ADVICE_SMALL));
}

/* Under the lock. */
static bool break_here(uint32_t superslab)
{
    struct superslab *s = &superslab_table[superslab];
    if (advice_of(load_relaxed(&s->pages)) != ADVICE_SMALL) {
        uint32_t from, to;
        if (!choose_stretch(superslab, &from, &to))
            return false;
        uint32_t edges = edges_after(from, to, ADVICE_SMALL);
        if (!advise(from, to, ADVICE_SMALL))
            return false;
        /* The others stay what they are, unproven ones too, until they are broken as well: the kernel keeps huge pages
         * that are there. */
        for (uint32_t i = from; i < to; i++)
            set_word(i, with_advice(load_relaxed(&superslab_table[i].pages), ADVICE_SMALL));
        arena.advice_edges = edges;
    }
    uint32_t now_s = (uint32_t)(os_clock_ms() / 1000);
    set_word(superslab, word_of(SUPERSLAB_BROKEN, ADVICE_SMALL) | now_s << BROKEN_SHIFT);
    return true;
}

/* Free slabs that a huge page has brought with others: nobody counts them as resident, so nobody else would purge them. */
static void purge_unused(uint32_t superslab)
{
    struct superslab *s = &superslab_table[superslab];
    if (load_relaxed(&s->dirty_mask) == 0)
        return;
    uint32_t mine = superslab_claim_free(s, UINT32_MAX);
    if (mine == 0)
        return;
    arena_purge_claimed(superslab, mine & ~load_relaxed(&s->dirty_mask));
    arena_release_in(superslab, mine);
}

bool arena_superslab_break(uint32_t superslab)
{
    if (!superslab_is_huge(&superslab_table[superslab]))
        return true;
    if (load_relaxed(&policy_live.thp) == THP_ALWAYS)
        return false;
    lock_acquire(&arena.lock);
    bool is_huge = is_mapped(superslab) && superslab_is_huge(&superslab_table[superslab]);
    bool broken = is_huge && break_here(superslab);
    lock_release(&arena.lock);
    if (broken)
        purge_unused(superslab);
    return broken || !is_huge;
}

/* superslab.idle: the decay period in which it was written, then KiB. Who asks does so once per period. */
static uint32_t period_now(void)
{
    uint32_t decay_ms = load_relaxed(&policy_live.decay_ms);
    return (uint32_t)(os_clock_ms() / (decay_ms == 0 ? 1 : decay_ms)) << IDLE_KIB_BITS;
}

static uint32_t idle_kib(const struct superslab *s, uint32_t period)
{
    uint32_t idle = load_relaxed(&s->idle);
    return (idle ^ period) >> IDLE_KIB_BITS == 0 ? (uint16_t)idle : 0;
}

bool arena_may_purge(uint32_t superslab, size_t bytes, bool all)
{
    struct superslab *s = &superslab_table[superslab];
    if (LIKELY(!superslab_is_huge(s)))
        return true;
    if (!all) {
        uint32_t period = period_now();
        uint32_t kib = idle_kib(s, period) + (uint32_t)(bytes / 1024);
        if (kib < HUGEPAGE_IDLE_BYTES / 1024) {
            store_relaxed(&s->idle, period | kib); /* two threads at once may lose a share: it is broken later */
            return false;
        }
    }
    return arena_superslab_break(superslab);
}

uint32_t hugepage_to_purge(uint32_t superslab, uint32_t claimed, bool all)
{
    const struct superslab *s = &superslab_table[superslab];
    uint32_t dirty = load_relaxed(&s->dirty_mask);
    if (LIKELY(!superslab_is_huge(s)))
        return claimed & dirty;
    if (dirty == 0)
        return 0;
    if (claimed == UINT32_MAX)
        return claimed;
    /* These come again at every pass, so they do not add up: only what slabs in use have asked for does. */
    size_t idle_bytes = count_bits(claimed) * SLAB_BYTES + idle_kib(s, period_now()) * (size_t)1024;
    return (all || idle_bytes >= HUGEPAGE_IDLE_BYTES) && arena_superslab_break(superslab) ? claimed : 0;
}

/* ---- what is there ---- */

bool arena_superslab_usage(uint32_t superslab, struct superslab_usage *usage)
{
    const struct superslab *s = &superslab_table[superslab];
    if (load_acquire(&s->state) != SUPERSLAB_MAPPED)
        return false;
    usage->pages = pages_of(load_relaxed(&s->pages));
    usage->slabs_in_use = SUPERSLAB_SLABS - count_bits(load_relaxed(&s->free_mask));
    uint32_t resident = superslab_resident(s);
    usage->slabs_resident = resident != 0 && superslab_is_huge(s) ? SUPERSLAB_SLABS : count_bits(resident);
    usage->node = load_relaxed(&s->node);
    return true;
}

void arena_superslab_range(uint32_t *first, uint32_t *end)
{
    *first = window.first_superslab;
    *end = window.base == 0 ? *first : load_acquire(&arena.next);
}
