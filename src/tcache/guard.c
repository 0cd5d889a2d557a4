#include "tcache/guard.h"

#include <string.h>

#include "base/check.h"

/* Not zero, which is what most writes past the end write. */
enum { TAIL_BYTE = 0xa5 };

#define SEALED UINT64_C(0x8d1f4c2b6a95e307)
#define FREED UINT64_C(0x2be9670fd43c18a5)
/* No address of x86-64 or AArch64 in user space: a pointer read out of a freed block leads nowhere. */
#define FREED_TOP UINT64_C(0xdead000000000000)

/* The last steps of MurmurHash3 (Austin Appleby, public domain): every bit of the address changes half of the word. */
static uint64_t hash(const struct guarded *g, uint64_t purpose)
{
    uint64_t x = (uintptr_t)g->block ^ (uint64_t)g->life << 40 ^ purpose;
    x = (x ^ x >> 33) * UINT64_C(0xff51afd7ed558ccd);
    x = (x ^ x >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
    return x ^ x >> 33;
}

static uint64_t fill_word(const struct guarded *g)
{
    return hash(g, FREED) >> 16 | FREED_TOP;
}

/* The size is there twice, so that no change of a few bytes leads to another seal; not in the lowest bits, so that the
 * first byte is never zero. */
static uint64_t seal_word(const struct guarded *g, size_t bytes)
{
    return (hash(g, SEALED) | 1) ^ ((uint64_t)bytes << 48 | (uint64_t)bytes << 16);
}

static char *seal_address(const struct guarded *g)
{
    return (char *)g->block + g->block_bytes - GUARD_SEAL_BYTES;
}

static uint64_t word_at(const void *address)
{
    uint64_t word;
    memcpy(&word, address, sizeof word);
    return word;
}

void guard_seal(const struct guarded *g, size_t bytes)
{
    char *seal = seal_address(g);
    const uint64_t word = seal_word(g, bytes);
    memset((char *)g->block + bytes, TAIL_BYTE, (size_t)(seal - (char *)g->block) - bytes);
    memcpy(seal, &word, sizeof word);
}

bool guard_read(const struct guarded *g, size_t *bytes)
{
    const char *seal = seal_address(g);
    const uint64_t word = word_at(seal);
    const size_t asked = (uint16_t)((word ^ seal_word(g, 0)) >> 16);
    if (word != seal_word(g, asked) || asked > g->block_bytes - GUARD_SEAL_BYTES)
        return false;
    for (const char *at = (char *)g->block + asked; at < seal; at++)
        if ((unsigned char)*at != TAIL_BYTE)
            return false;
    *bytes = asked;
    return true;
}

void guard_fill(const struct guarded *g)
{
    const uint64_t word = fill_word(g);
    for (size_t at = 0; at < g->block_bytes; at += sizeof word)
        memcpy((char *)g->block + at, &word, sizeof word);
}

bool guard_is_freed(const struct guarded *g)
{
    return word_at(seal_address(g)) == fill_word(g);
}

/* Of the words from `start` to `end`. */
static size_t count_fill(const char *start, const char *end, uint64_t word)
{
    size_t count = 0;
    for (; start < end; start += sizeof word)
        count += word_at(start) == word;
    return count;
}

bool guard_is_filled(const struct guarded *g)
{
    const char *start = g->block;
    return count_fill(start, start + g->block_bytes, fill_word(g)) == g->block_bytes / sizeof(uint64_t);
}

bool guard_may_be_reused(const struct guarded *g, size_t page_bytes)
{
    const uint64_t word = fill_word(g);
    const char *end = (char *)g->block + g->block_bytes;
    for (const char *at = g->block, *next; at < end; at = next) {
        const size_t rest = page_bytes - ((uintptr_t)at & (page_bytes - 1));
        next = rest < (size_t)(end - at) ? at + rest : end;
        const size_t count = count_fill(at, next, word);
        if (count != 0 && count != (size_t)(next - at) / sizeof word)
            return false;
    }
    return true;
}

static const struct guarded *entry(const struct quarantine *q, uint32_t number)
{
    return &q->ring[(q->oldest + number) % QUARANTINE_BLOCKS];
}

static void check(const struct guarded *g)
{
    CHECK(guard_is_filled(g), "write into a freed block", g->block);
}

void quarantine_add(struct quarantine *q, const struct guarded *g)
{
    q->ring[(q->oldest + q->count) % QUARANTINE_BLOCKS] = *g;
    q->count++;
    q->bytes += g->block_bytes;
}

void *quarantine_take(struct quarantine *q, bool all)
{
    if (q->count == 0 || (!all && q->count < QUARANTINE_BLOCKS && q->bytes <= QUARANTINE_BYTES))
        return NULL;
    const struct guarded *g = entry(q, 0);
    check(g);
    q->oldest = (q->oldest + 1) % QUARANTINE_BLOCKS;
    q->count--;
    q->looked -= q->looked != 0;
    q->bytes -= g->block_bytes;
    return g->block;
}

void quarantine_look(struct quarantine *q)
{
    if (q->looked >= q->count)
        q->looked = 0;
    if (q->count != 0)
        check(entry(q, q->looked++));
}

void quarantine_look_at_all(const struct quarantine *q)
{
    for (uint32_t i = 0; i < q->count; i++)
        check(entry(q, i));
}
