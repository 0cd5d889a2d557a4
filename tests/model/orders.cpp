/* The memory orders of the remote free, run under Relacy (Debian: relacy-dev), which executes a small program in many
 * interleavings (here: all with at most four forced switches of thread) and lets each relaxed or acquire load return
 * any older value that C11 permits. remote_free.pml checks more of the protocol, but on a sequentially consistent
 * machine; the labels are the same. run_orders.sh runs it.
 *
 * One slab with two blocks, in different words of its bitmaps. The words share their bit of the news, as the last words of
 * the largest bitmap do; so one producer's notice may bring the other's block home before its own R2. With a bit each
 * (OWN_BITS) that cannot happen, and fewer orders matter. Each block is held by a producer (threads 2 and 3) that writes
 * into it and frees it. Thread 0 has the heap that the slab belongs to, drains and retires it; thread 1 claims it from
 * the arena, attaches it to a second heap, and drains that. So a late producer of the slab's first life may meet the
 * second.
 *
 * Plain data are the detectors: Relacy reports a data race on them unless the protocol's orders make each access happen
 * before the next.
 *   rnext          written by the token's holder
 *   owner_proof    a plain copy of `owner`: read and written by the token's holder only
 *   contents[b]    the user's bytes: written by the producer before the free, and by who has collected the block
 *   map_word       the slab's map word: a plain stand-in, written by the token's holder
 *
 * Blind spot: Relacy performs the operations of one thread in the program's order, and a read-modify-write always reads
 * the newest value. A bug that needs two read-modify-writes of one thread to be seen in the other order (R1 and R2 if R2
 * lacks release) is therefore not found here; remote_free.pml has such swaps as mutants. */

#include <relacy/relacy.hpp>

#include <cstdio>
#include <iostream>

enum bug {
    BUG_NONE,
    OWN_BITS, /* no bug */
    BUG_R1_RELAXED,
    BUG_R2_PLAIN_LOAD,
    BUG_R2_NO_ACQUIRE,
    BUG_R4_RELAXED,
    BUG_D1_RELAXED,
    BUG_D2_NO_RELEASE,
    BUG_D2_NO_ACQUIRE,
    BUG_D3_RELAXED,
    BUG_ARM_NO_RELEASE,
    BUG_ARENA_RELEASE_RELAXED,
    BUG_ARENA_CLAIM_RELAXED,
    BUG_COUNT
};

static const char *const bug_names[BUG_COUNT] = {
    "as designed", "as designed, a bit per word", "R1 relaxed", "R2 looks first", "R2 without acquire", "R4 relaxed",
    "D1 relaxed", "D2 without release", "D2 without acquire", "D3 relaxed", "ATTACH arms without release",
    "arena release relaxed", "arena claim relaxed"
};

static const unsigned all_blocks = 3;
static const unsigned news_held = 4;

template<int BUG> static rl::memory_order weak_if(int bug, rl::memory_order designed, rl::memory_order weak)
{
    return BUG == bug ? weak : designed;
}

template<int BUG> struct slab_life : rl::test_suite<slab_life<BUG>, 4> {
    rl::atomic<unsigned> news, owner, rem[2], rstack[2], arena_free;
    rl::var<unsigned> rnext, owner_proof, map_word, contents[2];
    /* Guarded by the heap's lock in C; here one thread acts for each heap. Handed over with the slab. */
    rl::var<unsigned> free_blocks;
    unsigned holder; /* heap that has the slab in its lists, 2: the arena; for after() only, Relacy does not look */

    void before()
    {
        free_blocks($) = 0;
        rnext($) = 0;
        map_word($) = 1;
        owner_proof($) = 0;
        contents[0]($) = 0;
        contents[1]($) = 0;
        owner($).store(0, rl::mo_relaxed);
        rem[0]($).store(0, rl::mo_relaxed);
        rem[1]($).store(0, rl::mo_relaxed);
        rstack[0]($).store(0, rl::mo_relaxed);
        rstack[1]($).store(0, rl::mo_relaxed);
        arena_free($).store(0, rl::mo_relaxed);
        news($).store(0, rl::mo_release);
        holder = 0;
    }

    static unsigned news_of_word(unsigned word)
    {
        return BUG == OWN_BITS ? 1u << word : 1;
    }

    void remote_deliver(unsigned block)
    {
        contents[block]($) = 100 + block; /* the user's last write */
        rem[block]($).fetch_or(1u << block, weak_if<BUG>(BUG_R1_RELAXED, rl::mo_release, rl::mo_relaxed)); /* R1 */
        if (BUG == BUG_R2_PLAIN_LOAD && (news($).load(rl::mo_relaxed) & news_of_word(block)) != 0)
            return;
        rl::memory_order r2 = weak_if<BUG>(BUG_R2_NO_ACQUIRE, rl::mo_acq_rel, rl::mo_release);
        if (news($).fetch_or(news_of_word(block), r2) != 0) /* R2 */
            return;
        unsigned h = owner($).load(rl::mo_relaxed); /* R3 */
        RL_ASSERT(h == owner_proof($));
        RL_ASSERT(map_word($) == h + 1);
        unsigned head = rstack[h]($).load(rl::mo_relaxed);
        do
            rnext($) = head;
        while (!rstack[h]($).compare_exchange_weak( /* R4 */
            head, 1, weak_if<BUG>(BUG_R4_RELAXED, rl::mo_release, rl::mo_relaxed), rl::mo_relaxed));
    }

    void collect(unsigned got)
    {
        unsigned have = free_blocks($);
        RL_ASSERT((have & got) == 0);
        for (unsigned b = 0; b < 2; b++)
            if (got & (1u << b))
                contents[b]($) = 0; /* handed out again: the new user writes */
        free_blocks($) = have | got;
    }

    /* Returns true if the slab went back to the arena. */
    bool drain(unsigned h)
    {
        unsigned s = rstack[h]($).exchange(0, weak_if<BUG>(BUG_D1_RELAXED, rl::mo_acquire, rl::mo_relaxed)); /* D1 */
        if (s == 0)
            return false;
        unsigned next = rnext($);
        RL_ASSERT(next == 0);
        RL_ASSERT(owner_proof($) == h);
        rl::memory_order d2 = weak_if<BUG>(BUG_D2_NO_RELEASE, rl::mo_acq_rel, rl::mo_acquire);
        unsigned named = news($).exchange(0, weak_if<BUG>(BUG_D2_NO_ACQUIRE, d2, rl::mo_release)); /* D2 */
        RL_ASSERT(named != 0 && (named & news_held) == 0);
        for (unsigned w = 0; w < 2; w++)
            /* heap_collect looks before it exchanges */
            if ((named & news_of_word(w)) != 0 && rem[w]($).load(rl::mo_relaxed) != 0)
                collect(rem[w]($).exchange(0, weak_if<BUG>(BUG_D3_RELAXED, rl::mo_acquire, rl::mo_relaxed))); /* D3 */
        if (free_blocks($) != all_blocks)
            return false;
        unsigned expected = 0; /* RETIRE */
        if (!news($).compare_exchange_strong(expected, news_held, rl::mo_acq_rel, rl::mo_relaxed))
            return false;
        map_word($) = 0;
        holder = 2;
        arena_free($).fetch_or(1, weak_if<BUG>(BUG_ARENA_RELEASE_RELAXED, rl::mo_release, rl::mo_relaxed));
        return true;
    }

    bool attach(unsigned h)
    {
        unsigned mask = arena_free($).load(rl::mo_relaxed);
        if (mask == 0
            || !arena_free($).compare_exchange_strong(
                mask, 0, weak_if<BUG>(BUG_ARENA_CLAIM_RELAXED, rl::mo_acquire, rl::mo_relaxed), rl::mo_relaxed))
            return false;
        RL_ASSERT((rem[0]($).load(rl::mo_relaxed) | rem[1]($).load(rl::mo_relaxed)) == 0);
        RL_ASSERT(free_blocks($) == all_blocks);
        free_blocks($) = 0; /* both blocks go to a user who keeps them */
        owner_proof($) = h;
        map_word($) = h + 1;
        owner($).store(h, rl::mo_relaxed);
        holder = h;
        unsigned stray = news($).exchange(0, weak_if<BUG>(BUG_ARM_NO_RELEASE, rl::mo_acq_rel, rl::mo_acquire));
        RL_ASSERT((stray & news_held) != 0);
        return true;
    }

    void thread(unsigned id)
    {
        if (id == 0) {
            for (int i = 0; i < 3 && !drain(0); i++)
                ;
        } else if (id == 1) {
            for (int i = 0; i < 2; i++)
                if (attach(1)) {
                    drain(1);
                    break;
                }
        } else {
            remote_deliver(id - 2);
        }
    }

    void after()
    {
        if (holder == 0)
            drain(0);
        else if (holder == 1)
            drain(1);
        RL_ASSERT((rem[0]($).load(rl::mo_relaxed) | rem[1]($).load(rl::mo_relaxed)) == 0); /* nothing is stranded */
        RL_ASSERT(rstack[0]($).load(rl::mo_relaxed) == 0);
        if (holder == 0)
            RL_ASSERT(free_blocks($) == all_blocks);
    }
};

static unsigned surprises;

template<int BUG> static void check()
{
    const rl::iteration_t limit = 100000000;
    /* No buffer behind it: Relacy takes operator delete over while it runs and a growing buffer would meet that. */
    std::ostream quiet(NULL);
    rl::test_params params;
    params.search_type = rl::fair_context_bound_scheduler_type; /* a late producer needs few switches, but long waits */
    params.context_bound = 4;
    params.iteration_count = limit;
    params.output_stream = &quiet;
    params.progress_stream = &quiet;
    bool held = rl::simulate<slab_life<BUG> >(params);
    bool complete = params.stop_iteration < limit;
    bool as_expected = held == (BUG <= OWN_BITS) && complete;
    surprises += !as_expected;
    std::printf("%-30s %9lu executions  %s%s%s\n", bug_names[BUG], (unsigned long)params.stop_iteration,
        as_expected ? "" : "SURPRISE: ", held ? "holds" : "fails as it must: ",
        held ? "" : rl::test_result_str(params.test_result));
    std::fflush(stdout);
    if (BUG <= OWN_BITS && !held) { /* once more, with the history of the failing execution */
        params.output_stream = &std::cout;
        rl::simulate<slab_life<BUG> >(params);
    }
}

int main()
{
    check<BUG_NONE>();
    check<OWN_BITS>();
    check<BUG_R1_RELAXED>();
    check<BUG_R2_PLAIN_LOAD>();
    check<BUG_R2_NO_ACQUIRE>();
    check<BUG_R4_RELAXED>();
    check<BUG_D1_RELAXED>();
    check<BUG_D2_NO_RELEASE>();
    check<BUG_D2_NO_ACQUIRE>();
    check<BUG_D3_RELAXED>();
    check<BUG_ARM_NO_RELEASE>();
    check<BUG_ARENA_RELEASE_RELAXED>();
    check<BUG_ARENA_CLAIM_RELAXED>();
    std::printf("%u passed, %u failed\n", (unsigned)BUG_COUNT - surprises, surprises);
    return surprises != 0;
}
