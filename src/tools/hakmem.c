/* The command-line tool: one subcommand per job, each in a file of its own. */
#include <stdio.h>
#include <string.h>

#include "tools/merge.h"

enum { EXIT_TROUBLE = 1, EXIT_USAGE = 2 };

static const struct command {
    const char *name;
    const char *help;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"merge", "make one profile of many", merge_main},
};

enum { COMMAND_COUNT = sizeof commands / sizeof commands[0] };

static int print_help(FILE *to)
{
    fputs("NAME\n    hakmem - helpers for the HAKMEM allocator\n\n"
          "SYNOPSIS\n    hakmem COMMAND [ARGUMENT...]\n    hakmem COMMAND --help\n    hakmem --version\n\n"
          "COMMANDS\n", to);
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        fprintf(to, "    %-8s %s\n", commands[i].name, commands[i].help);
    return fflush(to) == 0 ? 0 : EXIT_TROUBLE;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0)
        return print_help(stdout);
    if (strcmp(argv[1], "--version") == 0)
        return puts("hakmem " HAKMEM_VERSION_STRING) == EOF || fflush(stdout) != 0 ? EXIT_TROUBLE : 0;
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 2, argv + 2);
    fprintf(stderr, "hakmem: no such command: %s\n", argv[1]);
    print_help(stderr);
    return EXIT_USAGE;
}
