/* What giving back by and by may cost.
 *
 * There are two purses. One is a credit of bytes that grows with time (policy decay_rate_bytes): every way of giving back
 * may draw on it, and taking what was given back into use again does, at the price of its page faults. So a program which
 * frees and allocates the same memory over and over pays no more than the rate allows, and one whose memory stays away
 * gives back four times as fast (docs/decisions/0023-refaults-are-charged.md).
 *
 * The other is what was earned: memory that is used for the first time earns its own way back, once, because to give it
 * back costs a sixth of the page faults that brought it. What a burst leaves behind may draw on it as long as nothing is
 * owed to the first, that is, until what was given back comes back and for as long as the rate takes to pay for that. So a
 * process that has one burst gives back all of it at once, and one that has them again and again keeps what it has
 * (docs/decisions/0033-first-use-earns-its-way-back.md). */
#include "arena/arena_internal.h"
#include "config/policy.h"

enum {
    CREDIT_MAX_MS = 2000, /* credit not used for longer than that is lost, but for what pays for the return of what is away */
    ELAPSED_MAX_MS = 3600000, /* no more than this is counted at once: its product with the rate fits */
    REFAULT_COST = 3,     /* 16 page faults of 1 to 2 us, beside about 9 us for giving the same 64 KiB back */
    DEBT_MAX_MS = REFAULT_COST * CREDIT_MAX_MS, /* what a full credit gave back may all come back, and no more is owed */
};

struct arena_credit arena_credit;

static void add(uint64_t bytes, uint64_t rate)
{
    /* What stays away for long may come back, and go once more, without a debt. */
    uint64_t return_cost = (1 + REFAULT_COST) * arena_away_bytes();
    int64_t room = (int64_t)(rate * CREDIT_MAX_MS / 1000 + return_cost) - load_relaxed(&arena_credit.bytes);
    fetch_add_relaxed(&arena_credit.bytes, (int64_t)bytes < room ? (int64_t)bytes : room);
}

bool arena_has_credit(uint64_t now_ms)
{
    uint64_t rate = load_relaxed(&policy_live.decay_rate_bytes);
    if (rate == 0)
        return true;
    uint64_t last_ms = load_relaxed(&arena_credit.refilled_ms);
    if ((int64_t)(now_ms - last_ms) > 0 && cas_strong_acquire(&arena_credit.refilled_ms, &last_ms, now_ms)) {
        /* It begins with nothing: a short program is not to pay for the page faults. */
        uint64_t elapsed_ms = last_ms == 0 ? 0 : now_ms - last_ms;
        add(rate * (elapsed_ms < ELAPSED_MAX_MS ? elapsed_ms : ELAPSED_MAX_MS) / 1000, rate);
    }
    return load_relaxed(&arena_credit.bytes) > 0;
}

static void charge(size_t bytes)
{
    uint64_t rate = load_relaxed(&policy_live.decay_rate_bytes);
    /* The debt is bounded too: a single large step must not stop decay for minutes. */
    int64_t room = load_relaxed(&arena_credit.bytes) + (int64_t)(rate * DEBT_MAX_MS / 1000);
    if (rate != 0 && room > 0)
        fetch_sub_relaxed(&arena_credit.bytes, (int64_t)bytes < room ? (int64_t)bytes : room);
}

void arena_charge_credit(size_t bytes)
{
    fetch_add_relaxed(&arena_credit.away, bytes);
    charge(bytes);
}

void arena_note_held(size_t bytes)
{
    uint64_t away = load_relaxed(&arena_credit.away);
    while (!cas_weak_relaxed(&arena_credit.away, &away, away > bytes ? away - bytes : 0))
        ;
}

void arena_charge_refault(size_t bytes)
{
    arena_note_held(bytes);
    charge(REFAULT_COST * bytes);
}

void arena_refund_refault(size_t bytes)
{
    uint64_t rate = load_relaxed(&policy_live.decay_rate_bytes);
    fetch_add_relaxed(&arena_credit.away, bytes);
    if (rate != 0)
        add(REFAULT_COST * bytes, rate);
}

void arena_earn(size_t bytes)
{
    /* Memory that was asked back, or moved away, is used for the first time again and again. */
    if (load_relaxed(&arena_credit.earned) <= (int64_t)(arena_claimed_bytes() + arena_free_resident_bytes()))
        fetch_add_relaxed(&arena_credit.earned, (int64_t)bytes);
}

bool arena_has_earned(void)
{
    return load_relaxed(&arena_credit.bytes) >= 0 && load_relaxed(&arena_credit.earned) > 0;
}

void arena_charge_earned(size_t bytes)
{
    fetch_add_relaxed(&arena_credit.away, bytes);
    fetch_sub_relaxed(&arena_credit.earned, (int64_t)bytes);
}

uint64_t arena_away_bytes(void)
{
    return load_relaxed(&arena_credit.away);
}
