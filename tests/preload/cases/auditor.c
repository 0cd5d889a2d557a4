/* An LD_AUDIT library that does nothing: its mere presence gives the process a second C library and other TLS
 * offsets. */
#include <link.h>

unsigned int la_version(unsigned int version)
{
    return version;
}
