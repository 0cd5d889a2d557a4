#define _GNU_SOURCE
#include "learn/export.h"

#include <errno.h>
#include <string.h>

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

/* Writes a temporary file beside `path`, which then becomes `target` by `give_name`: whole, or not at all. 0 or an errno. */
static int write_whole(const char *path, const char *target, int (*give_name)(const char *from, const char *to),
                       const char *text, size_t length)
{
    char temporary[OUTPUT_PATH_BYTES];
    const int fd = open_temporary(temporary, path);
    if (fd < 0)
        return -fd;
    int error = os_file_write(fd, text, length);
    os_file_close(fd);
    if (error == 0)
        error = give_name(temporary, target);
    if (error != 0)
        os_file_remove(temporary);
    return error;
}

static int replace_file(const char *path, const char *text, size_t length)
{
    return os_file_is_replaceable(path) ? write_whole(path, path, os_file_rename, text, length) : EINVAL;
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

/* "ID START": a process by its id and when it began, because ids are used again. Exec keeps both. */
struct holder {
    uint64_t id;
    uint64_t start; /* 0: not known, /proc being out of sight */
};

enum claim_state { CLAIM_FREE, CLAIM_HELD, CLAIM_STALE };

static bool is_alive(const struct holder *holder)
{
    if (!os_process_exists((int)holder->id))
        return false;
    const uint64_t start = os_process_start((int)holder->id);
    return start == 0 || holder->start == 0 || start == holder->start;
}

/* One that names nobody is stale: whoever makes a claim makes it whole. */
static enum claim_state read_claim(int fd, struct holder *holder)
{
    char text[2 * ID_BYTES];
    const long length = os_file_read(fd, text, sizeof text - 1);
    text[length > 0 ? length : 0] = '\0';
    char *space = strchr(text, ' ');
    if (space != NULL)
        *space = '\0';
    const bool is_whole = parse_uint(text, &holder->id) && holder->id != 0 && holder->id <= INT32_MAX &&
                          parse_uint(space == NULL ? "0" : space + 1, &holder->start);
    return is_whole && is_alive(holder) ? CLAIM_HELD : CLAIM_STALE;
}

static enum claim_state look_at_claim(const char *claim, struct holder *holder)
{
    *holder = (struct holder){ 0 };
    const int fd = os_file_open(claim, OS_FILE_READ);
    if (fd < 0)
        return fd == -ENOENT ? CLAIM_FREE : CLAIM_HELD; /* by another user, say */
    const enum claim_state state = read_claim(fd, holder);
    os_file_close(fd);
    return state;
}

/* Two may find the same claim stale. Were each to remove what has its name, the slower would remove the claim that the
 * faster has made meanwhile. So who removes it has it locked: a name that still leads to the locked file stays, because only
 * its remover could free it. */
static void remove_stale(const char *claim)
{
    struct holder holder;
    const int fd = os_file_open(claim, OS_FILE_READ);
    if (fd < 0)
        return;
    if (os_file_lock(fd) != EWOULDBLOCK && read_claim(fd, &holder) == CLAIM_STALE && os_file_has_name(fd, claim))
        os_file_remove(claim);
    os_file_close(fd);
}

/* Makes the claim with its text in it, or not at all: who finds one knows whose it is, wherever its maker was killed.
 * 0 or an errno, EEXIST. */
static int make_claim(const char *path, const char *claim)
{
    char text[2 * ID_BYTES];
    struct fmt f;
    fmt_init(&f, text, sizeof text, -1);
    fmt_put(&f, "%d %llu", os_process_id(), (unsigned long long)os_process_start(os_process_id()));
    return write_whole(path, claim, os_file_rename_new, text, f.length);
}

bool export_claim(const char *path, int *error)
{
    char claim[OUTPUT_PATH_BYTES];
    name_beside(claim, path, ".claim");
    *error = 0;
    for (unsigned i = 0; i < CLAIM_TRIES && *error == 0; i++) {
        struct holder holder;
        const enum claim_state state = look_at_claim(claim, &holder);
        if (state == CLAIM_HELD)
            return holder.id == (uint64_t)os_process_id();
        if (state == CLAIM_STALE)
            remove_stale(claim);
        *error = make_claim(path, claim);
        if (*error == 0)
            return true;
        if (*error == EEXIST) /* another was faster: whose is it? */
            *error = 0;
    }
    return false;
}

void export_unclaim(const char *path)
{
    char claim[OUTPUT_PATH_BYTES];
    struct holder holder;
    name_beside(claim, path, ".claim");
    /* Another may have taken it for stale, from behind a wall between process ids, and hold it now. */
    if (look_at_claim(claim, &holder) == CLAIM_HELD && holder.id == (uint64_t)os_process_id())
        os_file_remove(claim);
}

void export_start(void)
{
    const char *path = config_get()->learn_export;
    int error;
    if (output_is_per_process(path))
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
    if (!is_own && claimed_by != os_process_id())
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
