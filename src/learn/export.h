/* HAKMEM_LEARN_EXPORT: what was learned, written as a profile.
 *
 * Without %p in the name the file belongs to the first process that claims it, by making FILE.claim with its process
 * id and start time inside; the claim outlives exec, which keeps the id, and goes away when the file is written. Other processes
 * find the claim and leave the file alone, and a forked child knows that the claim is its parent's. A claim whose
 * process is gone (killed, so that it could not write), though another may have its id, or that names none is taken over. Two that find such a claim in the same moment
 * may both write: each replaces the file as a whole, so the last one stays. */
#ifndef HAKMEM_LEARN_EXPORT_H
#define HAKMEM_LEARN_EXPORT_H

#include "config/config.h"

/* From a constructor: claims the file. */
void export_start(void);
/* From a destructor: writes it. */
void export_at_exit(void);

/* Writes the profile to a path without patterns, in one step: a reader finds the old file or the new one, whole. 0 or
 * an errno; EINVAL where the path names something other than a regular file, which would be replaced. Thread-safe. */
int export_write(const char *path);
/* True: FILE.claim is this process's now. *error: 0, or the errno that kept the claim from being made. */
bool export_claim(const char *path, int *error);
void export_unclaim(const char *path);

#endif
