/* The sessions of server_sessions.c: how they are opened, serve a request and are closed. What returns a number returns
 * the operations it took. */
#ifndef HAKMEM_BENCH_SESSION_H
#define HAKMEM_BENCH_SESSION_H

#include "blocks.h"
#include "mailbox.h"

#define SESSION_PART_COUNT 8
#define SESSION_BLOCKS (1 + SESSION_PART_COUNT)
#define SESSION_PART_MIN_BYTES ((size_t)32) /* to 2 KiB */
#define SESSION_PART_DOUBLINGS 6
#define SESSION_CHANGE_ONE_OF 8 /* requests */
#define SESSION_REQUEST_MIN_BYTES ((size_t)16) /* to 2 KiB */
#define SESSION_REQUEST_DOUBLINGS 7
#define SESSION_REQUEST_BLOCKS_MIN 4
#define SESSION_REQUEST_BLOCKS_MAX 19

struct session {
    struct bench_letter letter;
    char *part[SESSION_PART_COUNT];
};

static inline __attribute__((always_inline)) char *session_new_part(uint64_t *random, uint64_t salt, const bool check)
{
    uint32_t draw = (uint32_t)(bench_random(random) >> 32);
    return bench_malloc_labelled(bench_size_even(draw, SESSION_PART_MIN_BYTES, SESSION_PART_DOUBLINGS), salt, check);
}

static inline __attribute__((always_inline)) struct session *session_open(uint64_t *random, uint64_t salt,
                                                                          const bool check)
{
    struct session *session = (struct session *)bench_malloc(sizeof *session);
    for (int i = 0; i < SESSION_PART_COUNT; i++) {
        session->part[i] = session_new_part(random, salt, check);
    }
    return session;
}

static inline __attribute__((always_inline)) uint64_t session_close(struct session *session, uint64_t salt,
                                                                    const bool check)
{
    for (int i = 0; i < SESSION_PART_COUNT; i++) {
        bench_free_labelled(session->part[i], salt, check);
    }
    free(session);
    return SESSION_BLOCKS;
}

/* Empties *parcel. */
static inline __attribute__((always_inline)) uint64_t session_close_all(struct bench_parcel *parcel, uint64_t salt,
                                                                        const bool check)
{
    uint64_t ops = 0;
    for (struct bench_letter *letter = parcel->first, *next; letter != NULL; letter = next) {
        next = letter->next;
        ops += session_close((struct session *)letter, salt, check);
    }
    *parcel = (struct bench_parcel){NULL, NULL, 0};
    return ops;
}

/* One request. */
static inline __attribute__((always_inline)) uint64_t session_serve(struct session *session, uint64_t *random,
                                                                    uint64_t salt, const bool check)
{
    char *kept[SESSION_REQUEST_BLOCKS_MAX];
    uint32_t kept_count = 0;
    uint64_t draw = bench_random(random);
    uint32_t range = SESSION_REQUEST_BLOCKS_MAX - SESSION_REQUEST_BLOCKS_MIN + 1;
    uint32_t count = SESSION_REQUEST_BLOCKS_MIN + bench_scale((uint32_t)draw, range);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t each = bench_random(random);
        size_t size = bench_size_skewed((uint32_t)(each >> 32), SESSION_REQUEST_MIN_BYTES, SESSION_REQUEST_DOUBLINGS);
        char *block = bench_malloc_labelled(size, salt, check);
        if ((each & 1) != 0) {
            kept[kept_count++] = block;
        } else {
            bench_free_labelled(block, salt, check);
        }
    }
    if ((draw >> 32) % SESSION_CHANGE_ONE_OF == 0) {
        char **part = &session->part[(draw >> 40) % SESSION_PART_COUNT];
        bench_free_labelled(*part, salt, check);
        *part = session_new_part(random, salt, check);
        count++;
    }
    for (uint32_t i = 0; i < kept_count; i++) {
        bench_free_labelled(kept[i], salt, check);
    }
    return 2 * (uint64_t)count;
}

#endif
