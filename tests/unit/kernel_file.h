/* A file that looks like one of the kernel's: what the os layer reads there can be anything. */
#ifndef HAKMEM_TESTS_KERNEL_FILE_H
#define HAKMEM_TESTS_KERNEL_FILE_H

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Its path, for the life of the process; each call replaces the content. */
static inline const char *kernel_file(const char *content)
{
    static char path[] = "hakmem_kernel_file_XXXXXX";
    static int file = -1;
    if (file < 0 && (file = mkstemp(path)) < 0)
        abort();
    if (ftruncate(file, 0) != 0 || pwrite(file, content, strlen(content), 0) != (ssize_t)strlen(content))
        abort();
    return path;
}

#endif
