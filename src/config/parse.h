/* Value parsers. They know no locale, no blanks, no signs: a value is accepted as a whole or not at all, and what they
 * point at is written only on success. */
#ifndef HAKMEM_CONFIG_PARSE_H
#define HAKMEM_CONFIG_PARSE_H

#include "config/classes.h"
#include "config/knobs.h"

/* Per bin what an override list says; 0: nothing. */
struct class_override {
    uint32_t cap[TINY_BIN_COUNT];
    uint32_t refill[TINY_BIN_COUNT]; /* 0 beside a cap: the user left it to us */
};

/* Decimal digits up to 2^64 - 1. */
bool parse_uint(const char *text, uint64_t *value);
/* The same, followed by at most one of K M G k m g. */
bool parse_bytes(const char *text, uint64_t *value);
/* A decimal fraction such as 1, 0.15 or .5, in parts per million; what does not fit into these exactly is refused. */
bool parse_ratio(const char *text, uint64_t *ppm);
/* One of words[first .. last], as its index. */
bool parse_word(const char *text, const knob_word *words, uint64_t first, uint64_t last, uint64_t *value);

/* A number or a word, within the knob's bounds. Precondition: knob_is_number. */
bool parse_value(const struct knob *knob, const char *text, uint64_t *value);

/* Whether text can be a path of min to max bytes. Control characters are refused: they make a mess of every message and
 * dump, and are a sign of a file with foreign line ends. */
bool parse_path(const char *text, uint64_t min, uint64_t max);

/* A comma-separated list of Ck:cap[:refill] and Ck.size:cap[:refill], with cap between the bounds and refill in
 * 1..cap; later items win. On failure *bad_item points at the item at fault within text. */
bool parse_override(const char *text, uint32_t min_cap, uint32_t max_cap, struct class_override *value,
                    const char **bad_item);

#endif
