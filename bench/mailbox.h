/* Mailboxes: lists of objects that one thread sends to another, many at a time, under a lock. They allocate nothing:
 * what is sent begins with a letter. */
#ifndef HAKMEM_BENCH_MAILBOX_H
#define HAKMEM_BENCH_MAILBOX_H

#include "common.h"

/* The first member of what is sent. */
struct bench_letter {
    struct bench_letter *next;
};

/* A list, owned by one thread. All zero: empty. */
struct bench_parcel {
    struct bench_letter *first;
    struct bench_letter *last;
    uint64_t count;
};

struct bench_mailbox {
    _Alignas(BENCH_CACHE_LINE_BYTES) pthread_mutex_t lock;
    struct bench_parcel parcel; /* under `lock` */
    bool closed;                /* under `lock`: the owner will not look again */
};

static inline void bench_parcel_add(struct bench_parcel *parcel, struct bench_letter *letter)
{
    letter->next = parcel->first;
    parcel->first = letter;
    if (parcel->last == NULL) {
        parcel->last = letter;
    }
    parcel->count++;
}

/* Empties *parcel into the mailbox; false, and leaves it alone, if that is closed or has `limit` letters already: a
 * thread that sleeps must not make the heap grow without bound. */
static inline bool bench_mailbox_send(struct bench_mailbox *mailbox, struct bench_parcel *parcel, uint64_t limit)
{
    pthread_mutex_lock(&mailbox->lock);
    bool accepted = !mailbox->closed && mailbox->parcel.count < limit;
    if (accepted) {
        parcel->last->next = mailbox->parcel.first;
        mailbox->parcel.first = parcel->first;
        if (mailbox->parcel.last == NULL) {
            mailbox->parcel.last = parcel->last;
        }
        mailbox->parcel.count += parcel->count;
    }
    pthread_mutex_unlock(&mailbox->lock);
    if (accepted) {
        *parcel = (struct bench_parcel){NULL, NULL, 0};
    }
    return accepted;
}

/* All that has come. The owner alone calls it; `close` for the last time. */
static inline struct bench_parcel bench_mailbox_take(struct bench_mailbox *mailbox, bool close)
{
    pthread_mutex_lock(&mailbox->lock);
    struct bench_parcel parcel = mailbox->parcel;
    mailbox->parcel = (struct bench_parcel){NULL, NULL, 0};
    mailbox->closed = close;
    pthread_mutex_unlock(&mailbox->lock);
    return parcel;
}

#endif
