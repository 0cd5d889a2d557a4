/* `hakmem merge`: one profile of many. */
#ifndef HAKMEM_TOOLS_MERGE_H
#define HAKMEM_TOOLS_MERGE_H

/* Arguments without the program's name and "merge". Returns the exit code: 0, 1 for a file that cannot be read or
 * understood or an output that cannot be written, 2 for wrong usage. */
int merge_main(int argc, char **argv);

#endif
