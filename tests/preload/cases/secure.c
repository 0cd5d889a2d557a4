/* Tells whether the kernel started this program as a secure one (setuid), and allocates. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

int main(void)
{
    char *p = malloc(1000);
    memset(p, 1, 1000);
    free(p);
    printf("secure %lu\n", getauxval(AT_SECURE));
    return 0;
}
