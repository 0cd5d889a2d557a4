/* A folder for a test's files, which goes away with them. */
#ifndef HAKMEM_TESTS_SCRATCH_H
#define HAKMEM_TESTS_SCRATCH_H

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char scratch_folder[256];

static inline int scratch_setup(void **state)
{
    (void)state;
    const char *parent = getenv("TMPDIR");
    snprintf(scratch_folder, sizeof scratch_folder, "%s/hakmem-test-XXXXXX", parent != NULL ? parent : "/tmp");
    return mkdtemp(scratch_folder) != NULL ? 0 : -1;
}

/* The path of a file in it; valid until the eighth call after this one. */
static inline const char *scratch_path(const char *name)
{
    static char paths[8][512];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", scratch_folder, name);
    return path;
}

static inline int scratch_teardown(void **state)
{
    (void)state;
    DIR *folder = opendir(scratch_folder);
    for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;)
        if (entry->d_name[0] != '.')
            unlink(scratch_path(entry->d_name));
    if (folder != NULL)
        closedir(folder);
    return rmdir(scratch_folder);
}

/* How many files are in it. */
static inline unsigned scratch_count(void)
{
    unsigned count = 0;
    DIR *folder = opendir(scratch_folder);
    for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;)
        count += entry->d_name[0] != '.';
    if (folder != NULL)
        closedir(folder);
    return count;
}

/* A whole file as text; "" where there is none. Valid until the next call. */
static inline const char *scratch_text(const char *name)
{
    static char text[1 << 17];
    FILE *file = fopen(scratch_path(name), "r");
    size_t length = file != NULL ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file != NULL)
        fclose(file);
    text[length] = '\0';
    return text;
}

#endif
