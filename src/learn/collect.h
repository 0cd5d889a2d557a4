/* What the process has learned up to now, over the caches of all its threads, living and gone. */
#ifndef HAKMEM_LEARN_COLLECT_H
#define HAKMEM_LEARN_COLLECT_H

#include "learn/profile.h"

/* Takes every heap's lock, one at a time: the caller holds none of a rank above LOCK_TICK. Neither allocates nor
 * touches errno. */
void learn_collect(struct learned_profile *out);

#endif
