/* An environment written down in a test, and what it resolves to. */
#ifndef HAKMEM_TESTS_RESOLVED_H
#define HAKMEM_TESTS_RESOLVED_H

#include "config/resolve.h"

struct resolved {
    struct config config;
    uint32_t problem_count;
    uint32_t notice_count;
    char text[4096]; /* the lines of the report */
};

static inline void resolve_vector(struct resolved *result, char *const *envp, bool secure)
{
    struct fmt sink;
    struct config_report report = {.sink = &sink};
    fmt_init(&sink, result->text, sizeof result->text, -1);
    config_resolve(&result->config, envp, secure, &report);
    result->problem_count = report.problem_count;
    result->notice_count = report.notice_count;
}

#define ENV(...) ((char *const[]){__VA_ARGS__, NULL})
#define RESOLVE(result, ...) resolve_vector((result), ENV(__VA_ARGS__), false)

#endif
