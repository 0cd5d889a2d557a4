/* What the administrator allows in the way of transparent huge pages. */
#include <string.h>

#include "base/atomic.h"
#include "os/os.h"

/* enum os_huge_page_mode. Atomic relaxed; threads that read it at once store the same. */
static uint32_t known_mode;

/* The kernel lists all words, with the one in force in brackets: "always [madvise] never". */
enum os_huge_page_mode os_huge_page_mode_in(const char *path)
{
    char text[64];
    if (!os_read_text(path, text, sizeof text))
        return OS_HUGE_UNKNOWN;
    if (strstr(text, "[always]") != NULL)
        return OS_HUGE_ALWAYS;
    if (strstr(text, "[madvise]") != NULL)
        return OS_HUGE_MADVISE;
    return strstr(text, "[never]") != NULL ? OS_HUGE_NEVER : OS_HUGE_UNKNOWN;
}

OS_REPLACEABLE enum os_huge_page_mode os_huge_page_mode(void)
{
    uint32_t mode = load_relaxed(&known_mode);
    if (mode == OS_HUGE_UNREAD) {
        mode = os_huge_page_mode_in("/sys/kernel/mm/transparent_hugepage/enabled");
        store_relaxed(&known_mode, mode);
    }
    return (enum os_huge_page_mode)mode;
}
