/* The heap of interpreter.c: trees of nodes, and strings that they share by counting references. Building and dropping
 * keep a stack of their own instead of recursing, so that `check` can be a constant of an inlined body. */
#ifndef HAKMEM_BENCH_SCRIPT_HEAP_H
#define HAKMEM_BENCH_SCRIPT_HEAP_H

#include "blocks.h"

#define SCRIPT_DEPTH_MAX 24
#define SCRIPT_TEXT_MIN_BYTES 8
#define SCRIPT_TEXT_MAX_BYTES 200    /* of a new string */
#define SCRIPT_TEXT_LIMIT_BYTES 1024 /* of one that has grown */
#define SCRIPT_PAYLOAD_KINDS 6       /* 0, 8, ... 40 bytes behind a node: 24..64 bytes in all */
#define SCRIPT_SHARE_ONE_OF 8        /* children that share the string of their parent */
#define SCRIPT_LEAF_ONE_OF 8         /* places of a child that stay empty */

struct script_string {
    uint32_t references;
    uint32_t length;
    char text[]; /* counts up from its first byte, modulo 256 */
};

struct script_node {
    struct script_node *child[2];
    struct script_string *name;
};

struct script_heap {
    uint64_t random;
    uint64_t ops; /* done so far */
};

/* script_ramp[i] is i modulo 256: the text of any string is a part of it. */
static char script_ramp[256 + SCRIPT_TEXT_LIMIT_BYTES];

static inline void script_init(void)
{
    for (size_t i = 0; i < sizeof script_ramp; i++) {
        script_ramp[i] = (char)i;
    }
}

static inline uint32_t script_draw(struct script_heap *heap, uint32_t range)
{
    return bench_scale((uint32_t)(bench_random(&heap->random) >> 32), range);
}

/* Where in the ramp the text begins. */
static inline const char *script_text_source(const struct script_string *string)
{
    return script_ramp + (unsigned char)string->text[0];
}

/* Goes by the first character of the name, which a node keeps for life: so nothing has to record it. */
static inline size_t script_payload_bytes(const struct script_string *name)
{
    return (unsigned char)name->text[0] % SCRIPT_PAYLOAD_KINDS * sizeof(uint64_t);
}

static inline struct script_string *script_new_string(struct script_heap *heap, uint32_t length, const char *source)
{
    struct script_string *string = (struct script_string *)bench_malloc(sizeof *string + length);
    *string = (struct script_string){.references = 1, .length = length};
    memcpy(string->text, source, length);
    heap->ops++;
    return string;
}

static inline struct script_string *script_random_string(struct script_heap *heap)
{
    uint32_t length = SCRIPT_TEXT_MIN_BYTES + script_draw(heap, SCRIPT_TEXT_MAX_BYTES - SCRIPT_TEXT_MIN_BYTES + 1);
    return script_new_string(heap, length, script_ramp + script_draw(heap, 256));
}

static inline __attribute__((always_inline)) void script_drop_string(struct script_heap *heap,
                                                                     struct script_string *string, const bool check)
{
    if (--string->references == 0) {
        if (check && memcmp(string->text, script_text_source(string), string->length) != 0) {
            bench_fail("string %p of %u bytes has changed", (void *)string, string->length);
        }
        free(string);
        heap->ops++;
    }
}

/* A new tree of at most `depth` levels below its root. */
static inline __attribute__((always_inline)) struct script_node *script_build(struct script_heap *heap, uint64_t depth,
                                                                              const bool check)
{
    struct task {
        struct script_node **place;
        struct script_string *name; /* of the parent */
        uint64_t depth;
    } stack[SCRIPT_DEPTH_MAX + 2]; /* of each level on the way one sibling, at the deepest two */
    struct script_node *root = NULL;
    size_t top = 0;
    stack[top++] = (struct task){&root, NULL, depth};
    while (top > 0) {
        struct task task = stack[--top];
        struct script_string *name = task.name;
        if (name != NULL && script_draw(heap, SCRIPT_SHARE_ONE_OF) == 0) {
            name->references++;
        } else {
            name = script_random_string(heap);
        }
        size_t payload = script_payload_bytes(name);
        struct script_node *node = (struct script_node *)bench_malloc(sizeof *node + payload);
        heap->ops++;
        *node = (struct script_node){{NULL, NULL}, name};
        if (check) {
            bench_fill(node + 1, payload, 0);
        } else {
            memset(node + 1, 0, payload);
        }
        for (int i = 0; i < 2 && task.depth > 0; i++) {
            if (script_draw(heap, SCRIPT_LEAF_ONE_OF) != 0) {
                stack[top++] = (struct task){&node->child[i], name, task.depth - 1};
            }
        }
        *task.place = node;
    }
    return root;
}

/* Frees a tree, node by node; strings with their last reference. */
static inline __attribute__((always_inline)) void script_drop(struct script_heap *heap, struct script_node *root,
                                                              const bool check)
{
    struct script_node *stack[SCRIPT_DEPTH_MAX + 2];
    size_t top = 0;
    if (root != NULL) {
        stack[top++] = root;
    }
    while (top > 0) {
        struct script_node *node = stack[--top];
        if (check) {
            bench_verify(node + 1, script_payload_bytes(node->name), 0);
        }
        for (int i = 0; i < 2; i++) {
            if (node->child[i] != NULL) {
                stack[top++] = node->child[i];
            }
        }
        script_drop_string(heap, node->name, check);
        free(node);
        heap->ops++;
    }
}

#endif
