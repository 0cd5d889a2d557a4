#include "config/suggest.h"

#include <string.h>

/* Longer than every name of the table. What stands behind it in an unknown name is ignored: it would move the
 * distance to every known name by the same amount. */
enum { COMPARED_BYTES = 64 };

/* Names are shortened more often than lengthened: what the user left out counts less than what no name contains, so
 * that HAKMEM_STATS means HAKMEM_STATS_ENABLE rather than HAKMEM_STRICT. */
enum { COST_OF_MISSING = 1, COST_OF_EXTRA = 2 };

#define KNOB(id, ...) _Static_assert(sizeof(KNOB_PREFIX #id) <= COMPARED_BYTES, "a name is too long to be compared");
#include "config/knobs.def"

static char upper(char c)
{
    return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
}

/* Edit distance by insertions and deletions, with one row of the matrix: row[j] is the distance of the part of `known`
 * seen so far to the first j bytes of `name`. */
static unsigned edit_distance(const char *known, const char *name, size_t length)
{
    unsigned row[COMPARED_BYTES + 1];
    for (size_t j = 0; j <= length; j++)
        row[j] = (unsigned)j * COST_OF_EXTRA;
    for (; *known != '\0'; known++) {
        unsigned diagonal = row[0];
        row[0] += COST_OF_MISSING;
        for (size_t j = 1; j <= length; j++) {
            const unsigned if_missing = row[j] + COST_OF_MISSING;
            const unsigned if_extra = row[j - 1] + COST_OF_EXTRA;
            const unsigned above = row[j];
            row[j] = if_missing < if_extra ? if_missing : if_extra;
            if (*known == upper(name[j - 1]) && diagonal < row[j])
                row[j] = diagonal;
            diagonal = above;
        }
    }
    return row[length];
}

const struct knob *suggest_knob(const char *name, size_t length)
{
    if (length > COMPARED_BYTES)
        length = COMPARED_BYTES;
    const struct knob *nearest = &knob_table[0];
    unsigned least = edit_distance(nearest->name, name, length);
    for (size_t i = 1; i < KNOB_COUNT; i++) {
        const unsigned distance = edit_distance(knob_table[i].name, name, length);
        if (distance < least) {
            least = distance;
            nearest = &knob_table[i];
        }
    }
    return nearest;
}
