/* The configuration: read once from the environment, then immutable for real, because its page is read-only. What
 * learning changes lives in config/policy.h. */
#ifndef HAKMEM_CONFIG_CONFIG_H
#define HAKMEM_CONFIG_CONFIG_H

#include "base/attr.h"
#include "config/auto.h"
#include "config/classes.h"
#include "config/knobs.h"

/* Where a value comes from. */
enum config_origin { ORIGIN_DEFAULT, ORIGIN_PROFILE, ORIGIN_ENVIRONMENT };

/* Exit code under HAKMEM_STRICT=1; sysexits.h calls it EX_CONFIG. */
#define CONFIG_EXIT_CODE 78

/* A refill moves cap/16 blocks, at least 8 and never more than the cap, where the user says nothing else. */
#define REFILL_CAP_SHARE 16
#define REFILL_MIN 8

/* A path and its NUL. */
#define CONFIG_PATH_MAX 255
#define CONFIG_PATH_BYTES (CONFIG_PATH_MAX + 1)

/* The members that are knobs come from the table; `word` fields hold an enum profile, tiny_preset or thp. */
/* The members that are knobs come from the table; `word` fields hold an enum profile, tiny_preset, thp or
 * learn_mode. */
#define KNOB_FIELD_BOOL(field) bool field;
#define KNOB_FIELD_UINT(field) uint32_t field;
#define KNOB_FIELD_BYTES(field) uint64_t field;
#define KNOB_FIELD_RATIO(field) uint32_t field;
#define KNOB_FIELD_PROFILE(field) uint32_t field;
#define KNOB_FIELD_PRESET(field) uint32_t field;
#define KNOB_FIELD_THP(field) uint32_t field;
#define KNOB_FIELD_PATH(field) char field[CONFIG_PATH_BYTES];
#define KNOB_FIELD_MODE(field) uint32_t field;
#define KNOB_FIELD_OVERRIDE(field) uint32_t field[TINY_BIN_COUNT];

struct config {
#define KNOB(id, field, type, ...) KNOB_FIELD_##type(field)
#include "config/knobs.def"
    /* Resolved per bin, like bin_cap above: preset, then overrides. 1 <= bin_refill <= bin_cap <= 65535, in objects. */
    uint32_t bin_refill[TINY_BIN_COUNT];
    bool bin_cap_is_user[TINY_BIN_COUNT]; /* the cap was named by an override, so it is a ceiling for learning too */
    uint8_t origin[KNOB_COUNT];           /* enum config_origin */
    struct auto_choice auto_choice;       /* under PROFILE_AUTO */
    bool is_sealed;                       /* config_start is done */
};

/* The largest page size that is provided for. The slack on both sides lets the pages that hold the struct be made
 * read-only without touching a neighbour, wherever the loader puts it: loaders before glibc 2.35 honour no alignment
 * above a page, so alignment alone would not do. Never-touched zero pages cost no memory. */
#define CONFIG_PAGE_BYTES 65536
#define CONFIG_ALIGNMENT 1024 /* so that it lies in one page, whatever the page size */
_Static_assert(sizeof(struct config) <= CONFIG_ALIGNMENT, "else it may reach into a second page");

struct config_page {
    unsigned char slack_before[CONFIG_PAGE_BYTES];
    struct config config __attribute__((aligned(CONFIG_ALIGNMENT)));
    unsigned char slack_after[CONFIG_PAGE_BYTES];
};

/* Written by config_start only; read by everyone, without synchronisation, after that. */
extern struct config_page hakmem_config_page __attribute__((visibility("hidden")));

FAST const struct config *config_get(void)
{
    return &hakmem_config_page.config;
}

/* The profile that values come from: under `auto` the one that it chose. */
static inline enum profile config_base_profile(const struct config *config)
{
    return (enum profile)(config->profile == PROFILE_AUTO ? config->auto_choice.profile : config->profile);
}

/* A huge page may bring pages behind 31 slabs that nobody was granted: under a limit there are none unless asked for. */
static inline enum thp config_thp(const struct config *config)
{
    return (enum thp)(config->thp == THP_DEFAULT && config->memory_limit_bytes != 0 ? THP_NEVER : config->thp);
}

/* Reads `envp` (NULL: all defaults; secure: likewise, for AT_SECURE processes), fills the struct and makes it
 * read-only. Prints warnings and the dump as the variables ask; under HAKMEM_STRICT=1 a problem ends the process with
 * CONFIG_EXIT_CODE. Neither allocates nor needs an initialised libc; keeps errno. To be called by one thread, before
 * any other reads the configuration; a second call does nothing. */
void config_start(char *const *envp, bool secure);

#endif
