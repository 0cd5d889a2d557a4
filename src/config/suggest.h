/* The known variable that a misspelt one most likely means. */
#ifndef HAKMEM_CONFIG_SUGGEST_H
#define HAKMEM_CONFIG_SUGGEST_H

#include "config/knobs.h"

/* The row whose name has the smallest edit distance to the first `length` bytes of `name`, upper and lower case being
 * the same, and letters left out counting less than letters too many; the earlier row where two are as near. There
 * always is one. */
const struct knob *suggest_knob(const char *name, size_t length);

#endif
