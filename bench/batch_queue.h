/* A bounded queue of batches of blocks, from any number of threads that allocate them to any number that free them.
 *
 * Under one lock, with waiting on conditions, as server programs have it. That costs once per batch and not per block,
 * so it is the allocator that is measured. The queue never allocates: who puts a full batch in takes an empty one out,
 * and the other way round. */
#ifndef HAKMEM_BENCH_BATCH_QUEUE_H
#define HAKMEM_BENCH_BATCH_QUEUE_H

#include "common.h"

#define BENCH_BATCH_BLOCKS 512

/* Owned by one thread, or by the queue. */
struct bench_batch {
    uint64_t begin; /* blocks[begin..end - 1] are alive */
    uint64_t end;
    char *blocks[BENCH_BATCH_BLOCKS];
};

/* Everything else is under `lock`. */
struct bench_batch_queue {
    pthread_mutex_t lock;
    pthread_cond_t room;    /* there is room, or no consumer is left */
    pthread_cond_t arrival; /* there is a batch, or no producer is left */
    struct bench_batch **ring; /* full ones from `head` on, empty ones behind them */
    uint64_t capacity;
    uint64_t head;
    uint64_t count;
    uint64_t producers; /* that have not ended */
    uint64_t consumers; /* that have not ended */
};

static inline void bench_batch_queue_init(struct bench_batch_queue *queue, uint64_t capacity, uint64_t producers,
                                          uint64_t consumers)
{
    struct bench_batch *batches = bench_map(capacity * sizeof *batches);
    *queue = (struct bench_batch_queue){.capacity = capacity, .producers = producers, .consumers = consumers};
    pthread_mutex_init(&queue->lock, NULL);
    pthread_cond_init(&queue->room, NULL);
    pthread_cond_init(&queue->arrival, NULL);
    queue->ring = bench_map(capacity * sizeof *queue->ring);
    for (uint64_t i = 0; i < capacity; i++) {
        queue->ring[i] = &batches[i];
    }
}

static inline void bench_batch_swap(struct bench_batch **a, struct bench_batch **b)
{
    struct bench_batch *other = *a;
    *a = *b;
    *b = other;
}

/* Waits for room. False, and *batch as it was, if there is none and there will never be. */
static inline bool bench_batch_push(struct bench_batch_queue *queue, struct bench_batch **batch)
{
    pthread_mutex_lock(&queue->lock);
    while (queue->count == queue->capacity && queue->consumers > 0) {
        pthread_cond_wait(&queue->room, &queue->lock);
    }
    bool room = queue->count < queue->capacity;
    if (room) {
        bench_batch_swap(batch, &queue->ring[(queue->head + queue->count) % queue->capacity]);
        queue->count++;
        pthread_cond_signal(&queue->arrival);
    }
    pthread_mutex_unlock(&queue->lock);
    return room;
}

/* Waits for a batch. False, and *batch as it was, if there is none and there will never be. */
static inline bool bench_batch_pop(struct bench_batch_queue *queue, struct bench_batch **batch)
{
    pthread_mutex_lock(&queue->lock);
    while (queue->count == 0 && queue->producers > 0) {
        pthread_cond_wait(&queue->arrival, &queue->lock);
    }
    bool any = queue->count > 0;
    if (any) {
        bench_batch_swap(batch, &queue->ring[queue->head]);
        queue->head = (queue->head + 1) % queue->capacity;
        queue->count--;
        pthread_cond_signal(&queue->room);
    }
    pthread_mutex_unlock(&queue->lock);
    return any;
}

/* A producer or a consumer ends. True for the last one of all: what is still queued is its to free. */
static inline bool bench_batch_queue_leave(struct bench_batch_queue *queue, bool is_producer)
{
    pthread_mutex_lock(&queue->lock);
    if (is_producer) {
        queue->producers--;
    } else {
        queue->consumers--;
    }
    bool last = queue->producers + queue->consumers == 0;
    pthread_cond_broadcast(&queue->room);
    pthread_cond_broadcast(&queue->arrival);
    pthread_mutex_unlock(&queue->lock);
    return last;
}

#endif
