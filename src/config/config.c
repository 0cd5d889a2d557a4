#include "config/config.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "config/dump.h"
#include "config/resolve.h"

enum { OUTPUT_BYTES = 1024 };

FAR struct config_page hakmem_config_page;

/* Rounded outwards to the largest page size: what is covered beyond the struct is its own slack. The system call
 * itself, because mprotect may be interposed and the page size need not be known to libc yet. */
static bool seal(struct config *config)
{
    const uintptr_t mask = CONFIG_PAGE_BYTES - 1;
    const uintptr_t start = (uintptr_t)config & ~mask;
    const uintptr_t end = ((uintptr_t)(config + 1) + mask) & ~mask;
    config->is_sealed = true;
    return syscall(SYS_mprotect, start, end - start, PROT_READ) == 0;
}

void config_start(char *const *envp, bool secure)
{
    struct config *config = &hakmem_config_page.config;
    if (config->is_sealed)
        return;
    const int saved_errno = errno;

    char buf[OUTPUT_BYTES];
    struct fmt err;
    fmt_init(&err, buf, sizeof buf, STDERR_FILENO);
    struct config_report report = {0};
    config_resolve(config, envp, secure, &report);
    if (report.problem_count + report.notice_count > 0 && (config->strict || config->debug_level >= 1)) {
        /* Whether the lines are wanted was not known before all was read: read it again, with a voice. */
        report = (struct config_report){.sink = &err};
        config_resolve(config, envp, secure, &report);
    }
    if (config->config_dump)
        dump_config(&err, config);
    if (report.problem_count > 0 && config->strict)
        syscall(SYS_exit_group, CONFIG_EXIT_CODE);

    if (!seal(config) && config->debug_level >= 1)
        fmt_message("the configuration could not be made read-only (error %d)", errno);
    errno = saved_errno;
}
