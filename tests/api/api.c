/* The whole symbol surface, one call at a time: what each returns, and what it does to errno. */
#define _GNU_SOURCE
#include "api.h"

#include <dlfcn.h>
#include <unistd.h>

struct api api;
int api_failures;
volatile size_t api_too_much = (size_t)PTRDIFF_MAX + 1;
volatile size_t api_half_of_all = SIZE_MAX / 2 + 2;

bool api_all_bytes(const void *block, size_t size, unsigned char value)
{
    const unsigned char *bytes = block;
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != value)
            return false;
    return true;
}

size_t api_resident_bytes(void)
{
    char text[256] = {0};
    unsigned long total = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f)
        return 0;
    if (fgets(text, sizeof text, f) && sscanf(text, "%lu %lu", &total, &resident) != 2)
        resident = 0;
    fclose(f);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

bool api_resident_counts(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return false;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    return false;
#else
    return api_resident_bytes() != 0;
#endif
#else
    return api_resident_bytes() != 0;
#endif
}

static void fill_table(void)
{
#ifdef HAKMEM_PREFIXED
#define API_TAKE(type, name, arguments) api.name = hakmem_##name;
#else
#define API_TAKE(type, name, arguments)                   \
    *(void **)&api.name = dlsym(RTLD_DEFAULT, #name);     \
    if (!api.name) {                                      \
        printf("missing: %s\n", #name);                   \
        api_failures++;                                   \
    }
#endif
    API_LIST(API_TAKE)
#undef API_TAKE
}

int main(void)
{
    fill_table();
    test_family();
    test_aligned();
#ifndef HAKMEM_PREFIXED
    test_glibc_names();
    test_cxx_names();
#endif
    test_introspection();
    printf("%d failures\n", api_failures);
    return api_failures != 0;
}
