/* interpreter: how fast is the heap of a scripting language that counts references?
 *
 * Workload: our own, after the interpreters of Python, Perl and PHP, which allocate little else than nodes and strings,
 * and after cfrac of Zorn's and Grunwald's collection ("Empirical Measurements of Six Allocation-Intensive C Programs",
 * SIGPLAN Notices 27(12), 1992), which makes and drops tiny numbers. Each thread has some binary trees of nodes of
 * 24..64 bytes, each with a string of 8..200 bytes that it may share with its parent. A step builds a subtree, puts it
 * in the place of a random one and drops that, node by node; 16 times computes with numbers of 16..48 bytes, each
 * result a new block and each operand freed at once; and 8 times appends pieces to the string of some node, which
 * grows by realloc. An operation is one malloc, realloc or free. */
#define _GNU_SOURCE
#include "script_heap.h"

#define SUMS_PER_STEP 16
#define TERMS_PER_SUM 8
#define NUMBER_MIN_BYTES 16
#define NUMBER_MAX_BYTES 48
#define CONCATENATIONS_PER_STEP 8
#define PIECES 6
#define PIECE_MAX_BYTES 40

struct program {
    struct script_heap heap;
    struct script_node *root[];
};

static uint64_t tree_count = 64;
static uint64_t tree_depth = 8;

/* A random place in a random tree, and how deep the subtree there may be. Never NULL; may hold NULL. */
static struct script_node **find_place(struct program *program, uint64_t *depth)
{
    struct script_heap *heap = &program->heap;
    struct script_node **place = &program->root[script_draw(heap, (uint32_t)tree_count)];
    for (*depth = tree_depth; *depth > 0 && *place != NULL && script_draw(heap, 4) != 0; (*depth)--) {
        place = &(*place)->child[script_draw(heap, 2)];
    }
    return place;
}

/* The new one first: an interpreter evaluates before it assigns. */
static inline __attribute__((always_inline)) void replace_subtree(struct program *program, const bool check)
{
    uint64_t depth;
    struct script_node **place = find_place(program, &depth);
    struct script_node *old = *place;
    *place = script_build(&program->heap, depth, check);
    script_drop(&program->heap, old, check);
}

static inline __attribute__((always_inline)) char *new_number(struct script_heap *heap, const bool check)
{
    size_t size = NUMBER_MIN_BYTES + script_draw(heap, NUMBER_MAX_BYTES - NUMBER_MIN_BYTES + 1);
    return bench_malloc_labelled(size, 0, check);
}

static inline __attribute__((always_inline)) void add_up(struct script_heap *heap, const bool check)
{
    char *sum = new_number(heap, check);
    for (int i = 0; i < TERMS_PER_SUM; i++) {
        char *term = new_number(heap, check);
        char *next = new_number(heap, check);
        bench_free_labelled(sum, 0, check);
        bench_free_labelled(term, 0, check);
        sum = next;
    }
    bench_free_labelled(sum, 0, check);
    heap->ops += 4 * TERMS_PER_SUM + 2;
}

/* The string of a random node gets a longer copy, as an immutable string would; the copy grows piece by piece. */
static inline __attribute__((always_inline)) void concatenate(struct program *program, const bool check)
{
    struct script_heap *heap = &program->heap;
    uint64_t depth;
    struct script_node *node = *find_place(program, &depth);
    if (node == NULL) {
        return;
    }
    struct script_string *old = node->name;
    const char *source = script_text_source(old);
    uint32_t length = old->length;
    if (length + PIECES * PIECE_MAX_BYTES > SCRIPT_TEXT_LIMIT_BYTES) {
        length = SCRIPT_TEXT_MIN_BYTES;
    }
    struct script_string *string = script_new_string(heap, length, old->text);
    for (int i = 0; i < PIECES; i++) {
        uint32_t longer = string->length + 1 + script_draw(heap, PIECE_MAX_BYTES);
        string = realloc(string, sizeof *string + longer);
        if (string == NULL) {
            bench_fail("realloc to %u bytes failed", longer);
        }
        heap->ops++;
        memcpy(string->text + string->length, source + string->length, longer - string->length);
        string->length = longer;
    }
    node->name = string;
    script_drop_string(heap, old, check);
}

static inline __attribute__((always_inline)) uint64_t run_batch(struct bench_worker *worker, uint64_t ops,
                                                                const bool check)
{
    struct program *program = worker->state;
    uint64_t begin = program->heap.ops;
    while (program->heap.ops - begin < ops) {
        replace_subtree(program, check);
        for (int i = 0; i < SUMS_PER_STEP; i++) {
            add_up(&program->heap, check);
        }
        for (int i = 0; i < CONCATENATIONS_PER_STEP; i++) {
            concatenate(program, check);
        }
    }
    return program->heap.ops - begin;
}

BENCH_DEFINE_RUN(run_batch, ops)

static void prepare(struct bench_worker *worker)
{
    struct program *program = worker->state;
    program->heap.random = worker->random;
    for (uint64_t i = 0; i < tree_count; i++) {
        program->root[i] = script_build(&program->heap, tree_depth, worker->options->check);
    }
}

static void finish(struct bench_worker *worker)
{
    struct program *program = worker->state;
    for (uint64_t i = 0; i < tree_count; i++) {
        script_drop(&program->heap, program->root[i], worker->options->check);
    }
}

int main(int argc, char **argv)
{
    struct bench_options options = {.seconds = 1.0, .threads = 1, .seed = 42};
    const struct bench_extra extras[] = {
        {"trees", "trees per thread", &tree_count, 1, 1 << 20},
        {"depth", "levels of a tree below its root", &tree_depth, 1, SCRIPT_DEPTH_MAX},
    };
    bench_parse(argc, argv, "interpreter: trees, strings and temporary numbers, as a script makes them", &options,
                extras, sizeof extras / sizeof extras[0]);
    script_init();
    const struct bench_workload workload = {
        .name = "interpreter",
        .state_bytes = sizeof(struct program) + tree_count * sizeof(struct script_node *),
        .ops_per_batch = 8192,
        .prepare = prepare,
        .run = run,
        .finish = finish,
    };
    return bench_run(&workload, &options);
}
