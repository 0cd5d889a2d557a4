/* A profile as text: plain KEY=VALUE lines and whole-line comments, which every loader reads alike (see profiles/). */
#ifndef HAKMEM_LEARN_PROFILE_H
#define HAKMEM_LEARN_PROFILE_H

#include "base/fmt.h"
#include "config/config.h"
#include "config/policy.h"
#include "learn/samples.h"

/* The line that carries a bin's weight from an export into a merge: "# weight C3.112 4711", and what follows is for
 * readers. */
#define PROFILE_WEIGHT "# weight "
/* The line that says what a profile's other values rest upon: "# evidence 4711 misses 12 windows". Without windows nothing
 * was decided: a shell that started the program, for example, writes what it was started with. */
#define PROFILE_EVIDENCE "# evidence "

/* Writes whole comment lines that belong before a knob's line; may write none. */
typedef void (*profile_why_fn)(struct fmt *out, const struct knob *knob, const void *context);
/* Every knob that profiles have, and the user's ceilings, with the values that `config` holds; each after what `why`
 * says about it. */
void profile_put(struct fmt *out, const struct config *config, profile_why_fn why, const void *context);
/* A weight line without its end: the caller may add to it. */
void profile_put_weight(struct fmt *out, uint32_t bin, uint64_t misses);
/* An evidence line, whole. */
void profile_put_evidence(struct fmt *out, uint64_t misses, uint64_t windows);

/* What a process has learned. */
struct learned_profile {
    struct policy policy;                  /* the live words that profiles have knobs for */
    struct learn_bin bins[TINY_BIN_COUNT]; /* the threads' caches */
    uint64_t windows;                      /* of all learners, at whose ends they could decide */
};

/* The profile under which a program that starts with `started` behaves as it does now, learning off, with a comment at
 * each value that differs from the profile it started from. program: any text, process_id: for the heading. */
void profile_put_learned(struct fmt *out, const struct config *started, const struct learned_profile *learned,
                         const char *program, int process_id);
/* Text from outside, safe inside a comment. */
void profile_put_safely(struct fmt *out, const char *text);

#endif
