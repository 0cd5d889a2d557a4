/* Text without malloc: a bounded buffer that is filled with printf-like pieces and written with raw write(2).
 * Async-signal-safe. Supports %s %.*s %c %d %u %ld %lu %lld %llu %zu %x %lx %zx %p %% with an optional field width,
 * '-' and '0' flags; no floating point. */
#ifndef HAKMEM_BASE_FMT_H
#define HAKMEM_BASE_FMT_H

#include <stdarg.h>

#include "base/attr.h"

struct fmt {
    char *buf;       /* owned by the caller */
    size_t capacity; /* bytes, including the terminating NUL */
    size_t length;   /* bytes written so far, without the NUL; never reaches capacity */
    int fd;          /* >= 0: a full buffer is written here and filling goes on; -1: text past the end is cut */
};

void fmt_init(struct fmt *f, char *buf, size_t capacity, int fd);
void fmt_put(struct fmt *f, const char *format, ...) PRINTF_LIKE(2, 3);
void fmt_vput(struct fmt *f, const char *format, va_list ap);
/* Parts per thousand as "12.3": fixed-point decimals without floating point. */
void fmt_put_ratio(struct fmt *f, uint64_t numerator, uint64_t denominator, unsigned decimals);
/* Writes what is buffered to fd (retrying EINTR and short writes) and empties the buffer; keeps errno. */
void fmt_flush(struct fmt *f);

/* One whole line "hakmem: ..." to stderr in a single write, newline added; keeps errno. */
void fmt_message(const char *format, ...) PRINTF_LIKE(1, 2);

#endif
