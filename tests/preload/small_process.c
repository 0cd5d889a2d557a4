/* What a small process touches of the library: not its rare code (src/layout.ld), and not much else.
 *
 *     LD_PRELOAD=libhakmem.so small_process
 *
 * It allocates and frees blocks of every tiny bin, in batches, so that magazines overflow and are refilled, and in a second
 * thread; then it reads from /proc/self/smaps what is resident of the library's mappings, and of its zeroed data, which is
 * the mapping without a name right behind them. Exit code 1 where that is too much, 77 where the file cannot be read, or the linker (lld) has put all code into one mapping. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SIZE_MAX_BYTES 2048
#define SIZE_STEP_BYTES 64
#define BATCH 100
#define FILE_KIB_MAX 120 /* 88 where this was written; without the layout 190 */
#define ZEROED_KIB_MAX 12 /* 16 where the start of the first sparse array has a page for itself */

static void *work(void *unused)
{
    void *blocks[BATCH];
    (void)unused;
    for (unsigned round = 0; round < 20; round++) {
        for (size_t bytes = 8; bytes <= SIZE_MAX_BYTES; bytes += SIZE_STEP_BYTES) {
            for (unsigned i = 0; i < BATCH; i++)
                blocks[i] = malloc(bytes);
            for (unsigned i = 0; i < BATCH; i++)
                free(blocks[i]);
        }
    }
    return NULL;
}

int main(void)
{
    static char line[4096];
    static char buffer[65536];
    unsigned kib, total_kib = 0, rare_kib = 0, zeroed_kib = 0;
    unsigned long start, end, library_end = 0;
    int is_library = 0, is_zeroed = 0, is_code = 0, code_mappings = 0;
    char permissions[5];
    pthread_t thread;

    work(NULL);
    if (pthread_create(&thread, NULL, work, NULL) == 0)
        pthread_join(thread, NULL);

    FILE *f = fopen("/proc/self/smaps", "r");
    if (f == NULL)
        return 77;
    setvbuf(f, buffer, _IOFBF, sizeof buffer);
    while (fgets(line, sizeof line, f) != NULL) {
        if (sscanf(line, "%lx-%lx %4s ", &start, &end, permissions) == 3) {
            is_library = strstr(line, "/libhakmem.so") != NULL;
            is_zeroed = start == library_end && strchr(line, '/') == NULL;
            if (is_library)
                library_end = end;
            is_code = strcmp(permissions, "r-xp") == 0;
            code_mappings += is_library && is_code;
        } else if (is_library && sscanf(line, "Rss: %u", &kib) == 1) {
            total_kib += kib;
            if (is_code && code_mappings == 2) /* the second of them is the rare one */
                rare_kib = kib;
        } else if (is_zeroed && sscanf(line, "Rss: %u", &kib) == 1) {
            zeroed_kib += kib;
        }
    }
    fclose(f);
    printf("resident of the library's file: %u KiB, of these %u KiB of rare code; of its zeroed data %u KiB\n", total_kib,
           rare_kib, zeroed_kib);
    if (code_mappings != 2) {
        fprintf(stderr, "small_process: the library has %d mappings of code, not 2\n", code_mappings);
        return 77;
    }
    if (sysconf(_SC_PAGESIZE) == 4096 && (zeroed_kib == 0 || zeroed_kib > ZEROED_KIB_MAX))
        return 1;
    return rare_kib != 0 || total_kib > FILE_KIB_MAX;
}
