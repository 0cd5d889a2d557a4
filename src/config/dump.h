/* Values, ranges and whole configurations as text that the parsers accept again. */
#ifndef HAKMEM_CONFIG_DUMP_H
#define HAKMEM_CONFIG_DUMP_H

#include "base/fmt.h"
#include "config/config.h"

/* A number or a word; empty where it means unset, and for what is neither. */
void dump_value(struct fmt *out, const struct knob *knob, uint64_t value);
/* What a knob accepts, with its unit. */
void dump_range(struct fmt *out, const struct knob *knob);
/* The caps and refill batches that the user set, as one item per class where its bins agree, else one per bin. */
void dump_override(struct fmt *out, const struct config *config);
/* "default", "profile NAME" or "environment". */
void dump_origin(struct fmt *out, const struct config *config, enum config_origin origin);

/* NAME=value  # origin, with the values that are in force, and why where that is not what was set. One line per knob, each flushed as a whole. */
void dump_config(struct fmt *out, const struct config *config);

#endif
