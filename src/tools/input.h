/* A profile file as a tool reads it. Tools are ordinary programs: they use libc and malloc as they like. */
#ifndef HAKMEM_TOOLS_INPUT_H
#define HAKMEM_TOOLS_INPUT_H

#include "config/knobs.h"
#include "config/parse.h"

struct input {
    const char *name;             /* of the file, as given */
    bool given[KNOB_COUNT];       /* the file sets the knob */
    uint64_t values[KNOB_COUNT];  /* of numbers and words */
    struct class_override bins;
    uint64_t weights[TINY_BIN_COUNT]; /* from "# weight" lines; 0: none for this bin */
    bool has_evidence;                /* an "# evidence" line, which an export has and other profiles have not */
    uint64_t misses, windows;         /* what it says */
};

/* Reads a file: KEY=VALUE lines of variables that profiles have, an optional "export " before them, whole-line
 * comments, empty lines. As in every loader the last of two settings counts. False: it said "NAME:LINE: what is
 * wrong" on stderr, for every line that is. */
bool input_read(struct input *out, const char *name);

#endif
