/* Opens a plugin with RTLD_DEEPBIND, by a name that only this program's RUNPATH leads to, and lets memory cross in both
 * directions. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void)
{
    void *plugin = dlopen("libdeepbind_plugin.so", RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
    if (plugin == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    char *(*make)(void) = (char *(*)(void))dlsym(plugin, "plugin_make");
    void (*drop)(char *) = (void (*)(char *))dlsym(plugin, "plugin_drop");
    for (int i = 0; i < 10000; i++) {
        char *text = make();
        text = realloc(text, 100 + (size_t)i % 3000);
        if (strcmp(text, "from the plugin") != 0)
            return 1;
        free(text);
        drop(strdup("from the program"));
        drop(malloc(300000));
    }
    puts("deepbind ok");
    return 0;
}
