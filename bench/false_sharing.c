/* false_sharing: does the allocator put blocks of several threads on one cache line?
 *
 * Workload: the two cases told apart by Berger et al., "Hoard: A Scalable Memory Allocator for Multithreaded
 * Applications" (ASPLOS 2000), whose programs for them are known as cache-thrash and cache-scratch; written anew.
 * --mode 0, active: each thread allocates its own small objects, writes them, frees and allocates again: the allocator
 * must not deal out one line to two threads at once. --mode 1, passive: the main thread has allocated neighbours and
 * dealt them out in turn; each thread writes its share, frees it and allocates again: the allocator should not keep
 * giving it pieces of lines that others write. Each write reads and changes one byte. An operation is one malloc, one
 * free or one write: compare --threads 2 with --threads 1; without false sharing the speed doubles. */
#define _GNU_SOURCE
#include "common.h"

enum { OBJECTS_MAX = 1024, ACTIVE = 0, PASSIVE = 1 };

static uint64_t mode = ACTIVE;
static uint64_t object_count = 8; /* of each thread */
static uint64_t size_bytes = 8;
static uint64_t write_count = 100; /* to each object between malloc and free */
static char **dealt;               /* passive: object i of thread t is entry i * threads + t */

static void prepare(struct bench_worker *worker)
{
    char **objects = worker->state;
    for (uint64_t i = 0; i < object_count; i++) {
        objects[i] = mode == PASSIVE ? dealt[i * worker->options->threads + worker->index] : bench_malloc(size_bytes);
    }
}

/* --check: the first byte has been counted up `write_count` times, the others are as filled. */
static void verify(char *object, char first_byte, uint64_t salt)
{
    if (*object != (char)(first_byte + (char)write_count)) {
        bench_fail("object %p was written by somebody else", (void *)object);
    }
    *object = first_byte;
    bench_verify(object, size_bytes, salt);
}

static inline __attribute__((always_inline)) uint64_t work(struct bench_worker *worker, uint64_t ops, const bool check)
{
    char **objects = worker->state;
    char first_bytes[OBJECTS_MAX];
    uint64_t done = 0;
    for (; done < ops; done += object_count * (write_count + 2)) {
        for (uint64_t i = 0; check && i < object_count; i++) {
            bench_fill(objects[i], size_bytes, worker->index);
            first_bytes[i] = *objects[i];
        }
        for (uint64_t k = 0; k < write_count; k++) {
            for (uint64_t i = 0; i < object_count; i++) {
                ++*(volatile char *)objects[i];
            }
        }
        for (uint64_t i = 0; i < object_count; i++) {
            if (check) {
                verify(objects[i], first_bytes[i], worker->index);
            }
            free(objects[i]);
        }
        for (uint64_t i = 0; i < object_count; i++) {
            objects[i] = bench_malloc(size_bytes);
        }
    }
    return done;
}

BENCH_DEFINE_RUN(work, ops)

static void finish(struct bench_worker *worker)
{
    char **objects = worker->state;
    for (uint64_t i = 0; i < object_count; i++) {
        free(objects[i]);
    }
}

int main(int argc, char **argv)
{
    struct bench_options options = {.seconds = 1.0, .threads = 2, .seed = 42};
    const struct bench_extra extras[] = {
        {"mode", "0 active: threads begin with objects of their own; 1 passive: with neighbours dealt out", &mode,
         ACTIVE, PASSIVE},
        {"objects", "objects of each thread", &object_count, 1, OBJECTS_MAX},
        {"size", "of an object in bytes", &size_bytes, 1, 1000000},
        {"writes", "to each object between malloc and free", &write_count, 1, 1000000},
    };
    bench_parse(argc, argv, "false_sharing: threads write small objects that may share cache lines", &options, extras,
                sizeof extras / sizeof extras[0]);
    uint64_t dealt_count = mode == PASSIVE ? object_count * options.threads : 0;
    dealt = dealt_count != 0 ? bench_map(dealt_count * sizeof *dealt) : NULL;
    for (uint64_t i = 0; i < dealt_count; i++) {
        dealt[i] = bench_malloc(size_bytes);
    }
    const struct bench_workload workload = {
        .name = mode == PASSIVE ? "false_sharing_passive" : "false_sharing_active",
        .state_bytes = object_count * sizeof(char *),
        .ops_per_batch = 65536,
        .prepare = prepare,
        .run = run,
        .finish = finish,
    };
    return bench_run(&workload, &options);
}
