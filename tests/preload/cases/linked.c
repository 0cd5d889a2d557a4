/* Linked with libhakmem.a or libhakmem.o: malloc must be the one in this very executable, and it must be HAKMEM's. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *hakmem_version(void);
size_t hakmem_malloc_usable_size(void *);
void hakmem_free(void *);

extern char __executable_start, etext;

static int inside(void *function)
{
    return (char *)function >= &__executable_start && (char *)function < &etext;
}

int main(void)
{
    void *(*volatile m)(size_t) = malloc;
    void (*volatile f)(void *) = free;
    if (!inside((void *)m) || !inside((void *)f))
        return printf("malloc is not linked in\n"), 1;
    if (!strlen(hakmem_version()))
        return 2;
    void *p = m(100);
    if (hakmem_malloc_usable_size(p) < 100 || hakmem_malloc_usable_size(p) != malloc_usable_size(p))
        return 3;
    hakmem_free(p); /* one heap under both names */
    char *line = strdup("libc's own calls are served too");
    FILE *stream = tmpfile();
    if (!line || !stream || malloc_usable_size(line) < 32)
        return 4;
    fprintf(stream, "%s\n", line);
    fclose(stream);
    free(line);
    printf("linked ok\n");
    return 0;
}
