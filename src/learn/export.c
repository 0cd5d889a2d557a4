#define _GNU_SOURCE
#include "learn/export.h"

#include <errno.h>

#include "base/lock.h"
#include "config/parse.h"
#include "hakmem/hakmem.h"
#include "learn/collect.h"
#include "learn/output.h"
#include "os/file.h"
#include "os/os.h"

enum {
    TEXT_BYTES = 32768,
    TEMPORARY_TRIES = 16, /* names that a killed process of the same id may have left */
    CLAIM_TRIES = 2,
    ID_BYTES = 24,
};

static const char variable[] = "HAKMEM_LEARN_EXPORT";

static uint32_t warned; /* see output_warn */
/* The process that has claimed the file; 0: none. A forked child sees its parent's id. Written by export_start,
 * before a second thread exists. */
static int claimed_by;

static void name_beside(char out[OUTPUT_PATH_BYTES], const char *path, const char *suffix)
{
    struct fmt f;
    fmt_init(&f, out, OUTPUT_PATH_BYTES, -1);
    fmt_put(&f, "%s%s", path, suffix);
}

/* A new file in the same folder, so that it can be renamed. The number keeps two threads apart. */
static int open_temporary(char name[OUTPUT_PATH_BYTES], const char *path)
{
    static uint32_t serial; /* atomic relaxed; counted up by any thread */
    int fd = -EEXIST;
    for (unsigned i = 0; i < TEMPORARY_TRIES && fd == -EEXIST; i++) {
        char suffix[ID_BYTES + 16];
        struct fmt f;
        fmt_init(&f, suffix, sizeof suffix, -1);
        fmt_put(&f, ".%d.%u.tmp", os_process_id(), fetch_add_relaxed(&serial, 1));
        name_beside(name, path, suffix);
        fd = os_file_open(name, OS_FILE_CREATE);
    }
    return fd;
}

static int replace_file(const char *path, const char *text, size_t length)
{
    char temporary[OUTPUT_PATH_BYTES];
    if (!os_file_is_replaceable(path))
        return EINVAL;
    const int fd = open_temporary(temporary, path);
    if (fd < 0)
        return -fd;
    int error = os_file_write(fd, text, length);
    os_file_close(fd);
    if (error == 0)
        error = os_file_rename(temporary, path);
    if (error != 0)
        os_file_remove(temporary);
    return error;
}

/* Too much for a stack that may be a small thread's. */
struct scratch {
    struct learned_profile learned;
    char text[TEXT_BYTES];
};

int export_write(const char *path)
{
    const size_t bytes = (sizeof(struct scratch) + os_page_bytes() - 1) / os_page_bytes() * os_page_bytes();
    struct scratch *scratch = os_map(bytes, os_page_bytes());
    if (scratch == NULL)
        return ENOMEM;
    struct fmt out;
    const char *program = program_invocation_short_name;
    learn_collect(&scratch->learned);
    fmt_init(&out, scratch->text, sizeof scratch->text, -1);
    profile_put_learned(&out, config_get(), &scratch->learned, program == NULL ? "?" : program, os_process_id());
    const int error = replace_file(path, scratch->text, out.length);
    os_unmap(scratch, bytes);
    return error;
}

/* ---- who writes ---- */

static int claim_holder(const char *claim)
{
    char text[ID_BYTES];
    uint64_t id = 0;
    const int fd = os_file_open(claim, OS_FILE_READ);
    if (fd < 0)
        return 0;
    const long length = os_file_read(fd, text, sizeof text - 1);
    os_file_close(fd);
    text[length > 0 ? length : 0] = '\0';
    return parse_uint(text, &id) && id <= INT32_MAX ? (int)id : 0; /* 0 too while its maker has not written yet */
}

bool export_claim(const char *path, int *error)
{
    char claim[OUTPUT_PATH_BYTES], text[ID_BYTES];
    const int self = os_process_id();
    name_beside(claim, path, ".claim");
    *error = 0;
    for (unsigned i = 0; i < CLAIM_TRIES; i++) {
        const int fd = os_file_open(claim, OS_FILE_CREATE);
        if (fd >= 0) {
            struct fmt f;
            fmt_init(&f, text, sizeof text, -1);
            fmt_put(&f, "%d", self);
            *error = os_file_write(fd, text, f.length);
            os_file_close(fd);
            if (*error != 0)
                os_file_remove(claim); /* without an id it would stand in everybody's way for ever */
            return *error == 0;
        }
        if (fd != -EEXIST) {
            *error = -fd;
            return false;
        }
        const int holder = claim_holder(claim);
        if (holder == self)
            return true;
        if (holder == 0 || os_process_exists(holder))
            return false;
        os_file_remove(claim);
    }
    return false;
}

void export_unclaim(const char *path)
{
    char claim[OUTPUT_PATH_BYTES];
    name_beside(claim, path, ".claim");
    os_file_remove(claim);
}

void export_start(void)
{
    const char *path = config_get()->learn_export;
    int error;
    if (path[0] == '\0' || output_is_per_process(path))
        return;
    if (export_claim(path, &error))
        claimed_by = os_process_id();
    else if (error != 0)
        output_warn(&warned, variable, path, error);
}

void export_at_exit(void)
{
    const char *pattern = config_get()->learn_export;
    char path[OUTPUT_PATH_BYTES];
    const bool is_own = output_is_per_process(pattern);
    if (pattern[0] == '\0' || (!is_own && claimed_by != os_process_id()))
        return;
    int error = ENAMETOOLONG;
    if (lock_ranks_held != 0) /* a signal handler that interrupted malloc has called exit: heaps cannot be looked at */
        error = EDEADLK;
    else if (output_expand(path, pattern))
        error = export_write(path);
    if (error != 0)
        output_warn(&warned, variable, pattern, error);
    if (!is_own)
        export_unclaim(pattern);
}

EXPORT int hakmem_learn_export(const char *path)
{
    char expanded[OUTPUT_PATH_BYTES];
    const char *pattern = path != NULL ? path : config_get()->learn_export;
    if (pattern[0] == '\0')
        return EINVAL;
    return output_expand(expanded, pattern) ? export_write(expanded) : ENAMETOOLONG;
}
