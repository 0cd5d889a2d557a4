/* A plugin: hands out memory of its malloc, takes memory back into its free. */
#include <stdlib.h>
#include <string.h>

char *plugin_make(void);
void plugin_drop(char *text);

char *plugin_make(void)
{
    return strdup("from the plugin");
}

void plugin_drop(char *text)
{
    free(text);
}
