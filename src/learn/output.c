#include "learn/output.h"

#include <string.h>

#include "base/atomic.h"
#include "base/fmt.h"
#include "os/file.h"
#include "os/os.h"

enum { APPENDED_BYTES = 64 }; /* ".claim", or an id, a number and ".tmp" */

bool output_is_per_process(const char *pattern)
{
    return strstr(pattern, "%p") != NULL;
}

bool output_expand(char path[OUTPUT_PATH_BYTES], const char *pattern)
{
    struct fmt out;
    fmt_init(&out, path, OUTPUT_PATH_BYTES, -1);
    for (const char *at = pattern; *at != '\0'; at++) {
        if (at[0] == '%' && at[1] == 'p') {
            fmt_put(&out, "%d", os_process_id());
            at++;
        } else {
            fmt_put(&out, "%c", *at);
        }
    }
    return out.length < OUTPUT_PATH_BYTES - APPENDED_BYTES;
}

void output_warn(uint32_t *warned, const char *variable, const char *path, int error)
{
    if (exchange_relaxed(warned, 1) == 0 && os_has_stderr())
        fmt_message("%s: %.*s cannot be written (error %d)", variable, CONFIG_PATH_MAX, path, error);
}
