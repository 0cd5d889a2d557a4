/* The decision journal: every decision of the learners, and later what came of it, as one line of JSON each.
 *
 * A line is composed on the stack and appended with one write, so lines of threads and processes do not mix. The file
 * is opened anew for every line: decisions are rare, no descriptor of ours can be closed or reused by the program, a
 * forked child with %p in the name has its own file without being told, and the journal may be moved away while it is
 * written. */
#ifndef HAKMEM_LEARN_JOURNAL_H
#define HAKMEM_LEARN_JOURNAL_H

#include "base/fmt.h"
#include "learn/decision.h"

/* The journal is not continued beyond this size: nobody watches it, and it must not fill a disk. */
#define JOURNAL_MAX_BYTES ((uint64_t)64 << 20)
/* A line and its newline are always shorter. */
#define JOURNAL_LINE_BYTES 1536

/* Appends to HAKMEM_LEARN_JOURNAL; does nothing where that is unset. Thread-safe; to be called without a lock,
 * because it waits for the disk. What cannot be written is said once and then dropped. */
void journal_write(const struct learn_decision *decision);

/* The line, with its newline. wall_ms: when the decision was made, in milliseconds since 1970. */
void journal_put(struct fmt *out, const struct learn_decision *decision, uint64_t wall_ms, int process_id);
/* Appends a line to a file that is smaller than max_bytes; the one that makes it reach that size is followed by a last
 * one that says so. 0 or an errno. */
int journal_append(const char *path, const struct learn_decision *decision, uint64_t max_bytes);

#endif
