/* What each HAKMEM_DEBUG_LEVEL catches that the level below does not. Without arguments the program runs itself once for
 * every mistake and level, and compares what came of it with the table; with the name of a mistake it makes that one. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../stress/alloc.h"
#include "../unit/capture.h"

enum { LEVELS = 4, NEVER = LEVELS };

static char *volatile blocks[600];

/* So that the compiler does not see what is wrong. */
__attribute__((noinline)) static void poke(char *block, size_t at)
{
    __asm__("" : "+r"(block));
    block[at] = 0;
}

/* A byte of a fill may be zero by chance. */
__attribute__((noinline)) static void change(char *block, size_t at)
{
    __asm__("" : "+r"(block));
    block[at] = (char)~block[at];
}

/* The thread goes on with something else. */
static void churn(void)
{
    for (unsigned i = 0; i < 600; i++)
        blocks[i] = test_malloc(1000);
    for (unsigned i = 0; i < 600; i++)
        test_free(blocks[i]);
}

/* The same addresses under runs of other lengths, and other heads: what a free left there is no sign of harm. */
static void nothing_wrong_in_phases(void)
{
    static const size_t sizes[] = {5100, 7100, 100, 9000, 24000, 6100, 7100, 12000, 2000, 9000, 100};
    enum { COUNT = 400 };
    static char *blocks_of[COUNT];
    for (unsigned phase = 0; phase < sizeof sizes / sizeof sizes[0]; phase++) {
        for (unsigned i = 0; i < COUNT; i++)
            memset(blocks_of[i] = test_malloc(sizes[phase]), 1, sizes[phase]);
        for (unsigned i = 0; i < COUNT; i++)
            test_free(blocks_of[i]);
    }
}

static void nothing_wrong(void)
{
    for (size_t bytes = 0; bytes < 70000; bytes += bytes / 16 + 1) {
        char *block = test_malloc(bytes), *grown, *aligned;
        const size_t usable = test_usable_size(block);
        if (usable < bytes)
            _exit(1);
        memset(block, 1, usable);
        grown = test_realloc(block, usable + 3);
        for (size_t i = 0; i < usable; i++)
            if (grown[i] != 1)
                _exit(2);
        memset(grown, 2, usable + 3);
        grown = test_realloc(grown, bytes / 2 + 1);
        memset(grown, 3, bytes / 2 + 1);
        aligned = test_aligned_alloc(64, bytes);
        if ((uintptr_t)aligned % 64 != 0)
            _exit(3);
        memset(aligned, 4, bytes);
        test_free(grown);
        grown = test_calloc(1, bytes);
        for (size_t i = 0; i < bytes; i++)
            if (grown[i] != 0)
                _exit(4);
        test_free(aligned);
        test_free(grown);
    }
    for (unsigned round = 0; round < 4; round++) {
        churn();
        test_malloc_trim(); /* pages that hold the fill go, and come back as zeros */
    }
}

static void free_again_later(void)
{
    char *a = test_malloc(100), *b = test_malloc(100);
    test_free(a);
    test_free(b);
    test_free(a);
}

static void write_past_the_end(void)
{
    char *block = test_malloc(100);
    poke(block, 100);
    test_free(block);
}

static void write_past_a_full_block(void)
{
    char *block = test_malloc(112);
    poke(block, 112);
    test_free(block);
}

static void write_past_the_end_then_realloc(void)
{
    char *block = test_malloc(100);
    poke(block, 100);
    test_free(test_realloc(block, 5000));
}

static void *free_in_thread(void *block)
{
    test_free(block);
    return NULL;
}

static void write_past_the_end_freed_elsewhere(void)
{
    pthread_t thread;
    char *block = test_malloc(100);
    poke(block, 100);
    pthread_create(&thread, NULL, free_in_thread, block);
    pthread_join(thread, NULL);
}

static void size_of_freed(void)
{
    char *block = test_malloc(100);
    test_free(block);
    if (test_usable_size(block) == 0)
        _exit(1);
}

static void write_after_free_until_reuse(void)
{
    char *block = test_malloc(100);
    test_free(block);
    change(block, 10);
    for (unsigned i = 0; i < 600; i++)
        blocks[i] = test_malloc(100);
}

static void write_after_free_of_what_rests(void)
{
    char *block = test_malloc(100);
    test_free(block);
    change(block, 10);
    churn();
}

static void write_after_free_until_exit(void)
{
    char *block = test_malloc(100);
    test_free(block);
    change(block, 10);
    exit(0);
}

/* Below level 3 the block has been handed out again, so the write goes into a live one. */
static void write_after_free_into_the_next(void)
{
    char *block = test_malloc(100), *next;
    test_free(block);
    next = test_malloc(100);
    change(block, 10);
    churn();
    test_free(next);
}

static const struct mistake {
    const char *name;
    void (*make)(void);
    unsigned caught_from;
    const char *message;
} mistakes[] = {
    {"nothing_wrong", nothing_wrong, NEVER, ""},
    {"nothing_wrong_in_phases", nothing_wrong_in_phases, NEVER, ""},
    {"free_again_later", free_again_later, 1, "double free"},
    {"write_past_the_end", write_past_the_end, 2, "write past the end of a block"},
    {"write_past_a_full_block", write_past_a_full_block, 2, "write past the end of a block"},
    {"write_past_the_end_then_realloc", write_past_the_end_then_realloc, 2, "write past the end of a block"},
    {"write_past_the_end_freed_elsewhere", write_past_the_end_freed_elsewhere, 2, "write past the end of a block"},
    {"size_of_freed", size_of_freed, 2, "use of a freed block"},
    {"write_after_free_until_reuse", write_after_free_until_reuse, 2, "write into a freed block"},
    {"write_after_free_until_exit", write_after_free_until_exit, 3, "write into a freed block"},
    {"write_after_free_of_what_rests", write_after_free_of_what_rests, 3, "write into a freed block"},
    {"write_after_free_into_the_next", write_after_free_into_the_next, 3, "write into a freed block"},
};
enum { MISTAKES = sizeof mistakes / sizeof mistakes[0] };

struct run {
    const char *program, *name;
    unsigned level;
};

/* By exec, because the level is read when a process starts. */
static void run_self(const void *argument)
{
    const struct run *run = argument;
    char level[2] = {(char)('0' + run->level), '\0'};
    setenv("HAKMEM_DEBUG_LEVEL", level, 1);
    unsetenv("HAKMEM_REQUIRE_ALL"); /* the test run's own; the library would warn that it does not know it */
    execl("/proc/self/exe", run->program, run->name, (char *)NULL);
    _exit(127);
}

static int compare(const char *program, const struct mistake *m, unsigned level)
{
    static struct captured result;
    const struct run run = {program, m->name, level};
    capture_child(&result, run_self, &run);
    const int caught = WIFSIGNALED(result.status) && WTERMSIG(result.status) == SIGABRT;
    const int passed = WIFEXITED(result.status) && WEXITSTATUS(result.status) == 0;
    const int is_right = level >= m->caught_from ? caught && strstr(result.text, m->message) != NULL
                                                 : passed && result.length == 0;
    if (!is_right)
        printf("%s at level %u: status 0x%x, \"%s\"\n", m->name, level, (unsigned)result.status, result.text);
    return is_right;
}

int main(int argc, char **argv)
{
    int failures = 0;
    for (unsigned i = 0; i < MISTAKES; i++) {
        if (argc > 1 && strcmp(argv[1], mistakes[i].name) == 0) {
            mistakes[i].make();
            fflush(NULL);
            _exit(0); /* what is freed at exit is another question */
        }
        for (unsigned level = 0; argc == 1 && level < LEVELS; level++)
            failures += !compare(argv[0], &mistakes[i], level);
    }
    if (argc > 1)
        return 2;
    printf("%d of %d runs went otherwise than the table says\n", failures, MISTAKES * LEVELS);
    return failures != 0;
}
