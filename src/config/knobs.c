#include "config/knobs.h"

#include <string.h>

#include "config/config.h"

const knob_word profile_words[] = {
    [PROFILE_NONE] = "",
    [PROFILE_DEFAULT] = "default",
    [PROFILE_BALANCED] = "balanced",
    [PROFILE_ADAPTIVE] = "adaptive",
    [PROFILE_TIGHT] = "tight",
    [PROFILE_AUTO] = "auto",
};

static const knob_word preset_words[] = {
    [TINY_PRESET_DEFAULT] = "default",
    [TINY_PRESET_ULTRA_TIGHT] = "ultra_tight",
};

static const knob_word thp_words[] = {
    [THP_DEFAULT] = "default",
    [THP_NEVER] = "never",
    [THP_ALWAYS] = "always",
};

static const knob_word mode_words[] = {
    [LEARN_MODE_APPLY] = "apply",
    [LEARN_MODE_OBSERVE] = "observe",
};

enum word_list { PROFILE_WORDS, PRESET_WORDS, THP_WORDS, MODE_WORDS };

#define TYPE_BOOL .type = KNOB_TYPE_BOOL
#define TYPE_UINT .type = KNOB_TYPE_UINT
#define TYPE_BYTES .type = KNOB_TYPE_BYTES
#define TYPE_RATIO .type = KNOB_TYPE_RATIO
#define TYPE_PROFILE .type = KNOB_TYPE_WORD, .words = PROFILE_WORDS
#define TYPE_PRESET .type = KNOB_TYPE_WORD, .words = PRESET_WORDS
#define TYPE_THP .type = KNOB_TYPE_WORD, .words = THP_WORDS
#define TYPE_MODE .type = KNOB_TYPE_WORD, .words = MODE_WORDS
#define TYPE_OVERRIDE .type = KNOB_TYPE_OVERRIDE
#define TYPE_PATH .type = KNOB_TYPE_PATH
#define BY_PROFILE(b, a, t) .in_profiles = true, .balanced = (b), .adaptive = (a), .tight = (t)
#define NO_PROFILE .in_profiles = false
#define ADVANCED_ONLY .is_advanced = true

const struct knob knob_table[KNOB_COUNT] = {
#define KNOB(id, field, type_name, unit_text, min_value, max_value, fallback_value, profiles, help) \
    [KNOB_##id] = {.name = KNOB_PREFIX #id,                                                                  \
                   .unit = (unit_text),                                                                      \
                   .min = (min_value),                                                                       \
                   .max = (max_value),                                                                       \
                   .fallback = (fallback_value),                                                             \
                   .offset = offsetof(struct config, field),                                                 \
                   TYPE_##type_name,                                                                         \
                   profiles},
#include "config/knobs.def"
};

const struct knob *knob_find(const char *name, size_t length)
{
    for (size_t i = 0; i < KNOB_COUNT; i++) {
        const char *known = knob_table[i].name;
        if (strlen(known) == length && memcmp(known, name, length) == 0)
            return &knob_table[i];
    }
    return NULL;
}

const knob_word *knob_words(const struct knob *knob)
{
    switch (knob->words) {
    case PROFILE_WORDS:
        return profile_words;
    case PRESET_WORDS:
        return preset_words;
    case THP_WORDS:
        return thp_words;
    default:
        return mode_words;
    }
}

uint64_t knob_load(const struct knob *knob, const struct config *config)
{
    const void *field = (const char *)config + knob->offset;
    switch (knob->type) {
    case KNOB_TYPE_BOOL:
        return *(const bool *)field;
    case KNOB_TYPE_BYTES:
        return *(const uint64_t *)field;
    default:
        return *(const uint32_t *)field;
    }
}

void knob_store(const struct knob *knob, struct config *config, uint64_t value)
{
    void *field = (char *)config + knob->offset;
    switch (knob->type) {
    case KNOB_TYPE_BOOL:
        *(bool *)field = value != 0;
        return;
    case KNOB_TYPE_BYTES:
        *(uint64_t *)field = value;
        return;
    default:
        *(uint32_t *)field = (uint32_t)value;
        return;
    }
}

const char *knob_path(const struct knob *knob, const struct config *config)
{
    return (const char *)config + knob->offset;
}

void knob_store_path(const struct knob *knob, struct config *config, const char *path)
{
    strcpy((char *)config + knob->offset, path);
}
