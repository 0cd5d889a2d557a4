/* What the journal and the export share: file names that the user gave, and what is said where they do not work. */
#ifndef HAKMEM_LEARN_OUTPUT_H
#define HAKMEM_LEARN_OUTPUT_H

#include "base/attr.h"
#include "config/config.h"

/* A user's path with every %p replaced, and room for what the export appends to make names beside it. */
#define OUTPUT_PATH_BYTES 1024

/* The pattern names a file of each process's own. */
bool output_is_per_process(const char *pattern);
/* The pattern with the calling process's id for each %p; other percent signs stand for themselves. False: it does not
 * fit. */
bool output_expand(char path[OUTPUT_PATH_BYTES], const char *pattern);
/* Says once per process and flag that a file the user named does not work; allocation goes on as ever. error: an errno.
 * *warned is atomic relaxed: set by any thread, never cleared, so that a forked child does not repeat it. */
void output_warn(uint32_t *warned, const char *variable, const char *path, int error);

#endif
