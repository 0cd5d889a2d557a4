/* The knob table as data: one row per HAKMEM_ variable, in the order of knobs.def. */
#ifndef HAKMEM_CONFIG_KNOBS_H
#define HAKMEM_CONFIG_KNOBS_H

#include "base/attr.h"

struct config;

enum knob_id {
#define KNOB(id, ...) KNOB_##id,
#include "config/knobs.def"
    KNOB_COUNT
};

enum knob_type {
    KNOB_TYPE_BOOL,
    KNOB_TYPE_UINT,
    KNOB_TYPE_BYTES,
    KNOB_TYPE_RATIO, /* held in parts per million */
    KNOB_TYPE_WORD,  /* held as the index in `words` */
    KNOB_TYPE_OVERRIDE, /* this and what follows is no number: knob_load and knob_store are not for it */
    KNOB_TYPE_PATH,     /* held as text; min and max are those of its length */
};

enum { RATIO_ONE_PPM = 1000000, RATIO_DECIMALS = 6 };

enum profile { PROFILE_NONE, PROFILE_DEFAULT, PROFILE_BALANCED, PROFILE_ADAPTIVE, PROFILE_TIGHT, PROFILE_AUTO };

enum thp { THP_DEFAULT, THP_NEVER, THP_ALWAYS };

enum tiny_preset { TINY_PRESET_DEFAULT, TINY_PRESET_ULTRA_TIGHT };

enum learn_mode { LEARN_MODE_APPLY, LEARN_MODE_OBSERVE };

#define KNOB_PREFIX "HAKMEM_"

/* Text stands in the tables themselves and not behind pointers: the loader would have to write each of those. */
enum { KNOB_NAME_BYTES = 36, KNOB_UNIT_BYTES = 20, KNOB_WORD_BYTES = 12 };
typedef char knob_word[KNOB_WORD_BYTES];

struct knob {
    char name[KNOB_NAME_BYTES]; /* with the prefix */
    char unit[KNOB_UNIT_BYTES]; /* "" where there is none */
    uint64_t min;     /* inclusive */
    uint64_t max;
    uint64_t fallback; /* the default */
    uint64_t balanced; /* the three profiles that differ from the default; meaningless unless in_profiles */
    uint64_t adaptive;
    uint64_t tight;
    uint16_t offset;  /* of the field in struct config */
    uint8_t type;     /* enum knob_type */
    uint8_t words;    /* KNOB_TYPE_WORD only: which list, for knob_words */
    bool is_advanced; /* without HAKMEM_LEARN_ADVANCED=1 its default holds */
    bool in_profiles; /* every profile gives it a value; otherwise none does */
};

extern const struct knob knob_table[KNOB_COUNT];

/* The words of HAKMEM_PROFILE, by enum profile; that of PROFILE_NONE is empty. */
extern const knob_word profile_words[];

/* Precondition: KNOB_TYPE_WORD. The words of its values. */
const knob_word *knob_words(const struct knob *knob);

/* The row whose name is the first `length` bytes of `name`; NULL where there is none. */
const struct knob *knob_find(const char *name, size_t length);

static inline bool knob_is_number(const struct knob *knob)
{
    return knob->type < KNOB_TYPE_OVERRIDE;
}

/* A knob's value in a config. Precondition: knob_is_number. */
uint64_t knob_load(const struct knob *knob, const struct config *config);
void knob_store(const struct knob *knob, struct config *config, uint64_t value);
/* The same for KNOB_TYPE_PATH: "" where it is unset. What is stored has at most CONFIG_PATH_MAX bytes. */
const char *knob_path(const struct knob *knob, const struct config *config);
void knob_store_path(const struct knob *knob, struct config *config, const char *path);

#endif
