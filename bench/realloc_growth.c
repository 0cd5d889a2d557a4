/* realloc_growth: what does an array cost that grows by realloc while the program fills it?
 *
 * Workload: our own. By default each thread has a few big arrays, as a loader has that does not know the length of its
 * input: an array begins at 1 MiB, grows in equal steps up to a limit and is freed. Which one grows next is random, so
 * that none can count on the room behind it. With --vectors each thread has many small vectors instead, as the
 * containers of C++ and Rust have: a random one grows by half, from 16 bytes to 1 MiB. The program writes a byte in
 * every page of the part that came new, no more: the copying that is left is the allocator's own. With --sparse 1 it
 * writes the last byte of the array alone, as one who reserves far more than he will use. malloc, realloc and free count
 * one operation each. */
#define _GNU_SOURCE
#include "common.h"

#define PAGE_BYTES ((size_t)4096)
#define MIB_BYTES ((size_t)1 << 20)
#define VECTOR_MIN_BYTES ((size_t)16)

struct array {
    char *block; /* NULL: to be begun anew */
    size_t size_bytes;
};

static uint64_t array_count = 2;
static uint64_t step_kib = 256;
static uint64_t max_mib = 64;
static uint64_t vector_count = 0;
static uint64_t sparse = 0;

static uint64_t count_of_arrays(void)
{
    return vector_count != 0 ? vector_count : array_count;
}

/* The contents of an array depend on the offset but not on the address: realloc may move it. */
static char pattern(size_t offset, uint64_t salt)
{
    return (char)((offset * UINT64_C(0x9e3779b97f4a7c15) >> 56) + salt);
}

static void fill(char *block, size_t from, size_t to, uint64_t salt)
{
    for (size_t i = from; i < to; i++) {
        block[i] = pattern(i, salt);
    }
}

static void verify(const struct array *array, uint64_t salt)
{
    for (size_t i = 0; i < array->size_bytes; i++) {
        if (array->block[i] != pattern(i, salt)) {
            bench_fail("array of %zu bytes: byte %zu has changed", array->size_bytes, i);
        }
    }
}

static inline __attribute__((always_inline)) void extend(struct array *array, size_t size, uint64_t salt,
                                                         const bool check)
{
    size_t from = array->block != NULL ? array->size_bytes : 0;
    char *block = array->block != NULL ? realloc(array->block, size) : malloc(size);
    if (block == NULL) {
        bench_fail("no array of %zu bytes to be had", size);
    }
    if (check) {
        fill(block, from, size, salt);
    } else {
        for (size_t i = sparse != 0 ? size : from; i < size; i += PAGE_BYTES) {
            block[i] = (char)i;
        }
        block[size - 1] = (char)size;
    }
    array->block = block;
    array->size_bytes = size;
}

static inline __attribute__((always_inline)) uint64_t run_batch(struct bench_worker *worker, uint64_t ops,
                                                                const bool check)
{
    struct array *arrays = worker->state;
    uint32_t count = (uint32_t)count_of_arrays();
    bool vectors = vector_count != 0;
    size_t min_bytes = vectors ? VECTOR_MIN_BYTES : MIB_BYTES;
    size_t max_bytes = vectors ? MIB_BYTES : max_mib * MIB_BYTES;
    size_t step_bytes = step_kib << 10;
    for (uint64_t i = 0; i < ops; i++) {
        struct array *array = &arrays[bench_scale((uint32_t)bench_random(&worker->random), count)];
        uint64_t salt = (uint64_t)(array - arrays) + worker->index;
        if (array->block == NULL) {
            extend(array, min_bytes, salt, check);
        } else if (array->size_bytes < max_bytes) {
            size_t size = array->size_bytes + (vectors ? array->size_bytes / 2 : step_bytes);
            extend(array, size < max_bytes ? size : max_bytes, salt, check);
        } else {
            if (check) {
                verify(array, salt);
            }
            free(array->block);
            array->block = NULL;
        }
    }
    return ops;
}

BENCH_DEFINE_RUN(run_batch, ops)

static void finish(struct bench_worker *worker)
{
    struct array *arrays = worker->state;
    for (uint64_t i = 0; i < count_of_arrays(); i++) {
        if (worker->options->check && arrays[i].block != NULL) {
            verify(&arrays[i], i + worker->index);
        }
        free(arrays[i].block);
    }
}

int main(int argc, char **argv)
{
    struct bench_options options = {.seconds = 1.0, .threads = 1, .seed = 42};
    const struct bench_extra extras[] = {
        {"arrays", "big arrays per thread", &array_count, 1, 1024},
        {"step-kib", "by how much a big array grows at a time", &step_kib, 1, 1 << 20},
        {"max-mib", "size at which a big array is freed", &max_mib, 1, 1 << 14},
        {"vectors", "so many vectors instead, growing by half from 16 bytes to 1 MiB", &vector_count, 0, 1 << 20},
        {"sparse", "1: write one byte per growth, not one per page", &sparse, 0, 1},
    };
    bench_parse(argc, argv, "realloc_growth: arrays that grow by realloc while they are filled", &options, extras,
                sizeof extras / sizeof extras[0]);
    const struct bench_workload workload = {
        .name = "realloc_growth",
        .state_bytes = count_of_arrays() * sizeof(struct array),
        .ops_per_batch = 8,
        .run = run,
        .finish = finish,
    };
    return bench_run(&workload, &options);
}
