/* From an environment vector to a configuration: a pure function, so that it can be tested and run twice. Only under
 * HAKMEM_PROFILE=auto does it ask the machine. */
#ifndef HAKMEM_CONFIG_RESOLVE_H
#define HAKMEM_CONFIG_RESOLVE_H

#include "base/fmt.h"
#include "config/config.h"

/* What was wrong with the environment. */
struct config_report {
    struct fmt *sink;       /* takes one line per problem, each flushed as a whole; NULL: they are only counted */
    uint32_t problem_count; /* unknown names and refused values */
    uint32_t notice_count;  /* good values that have no effect as things stand: nothing that HAKMEM_STRICT stops for */
};

/* Fills *out but for is_sealed. A built-in profile is applied first, then what the environment says; as with getenv,
 * the first of two entries of the same name counts. Empty values are unset; a refused value leaves the profile's or
 * the default. envp may be NULL. secure ignores the environment. */
void config_resolve(struct config *out, char *const *envp, bool secure, struct config_report *report);

#endif
