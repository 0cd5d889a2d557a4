#include "base/fmt.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    MESSAGE_BYTES = 512, /* a message may be written on a small signal stack */
    MAX_DECIMALS = 9,
    DIGITS_CAPACITY = 20, /* 2^64 - 1 in decimal */
};

/* One conversion: %[-0][width][.*][l|ll|z]c */
struct spec {
    unsigned width;
    int precision; /* < 0: none */
    bool left;
    bool zero;
    char size; /* 'i' int, 'l' long, 'q' long long, 'z' size_t */
    char conversion;
};

/* The system call itself: write(2) may be interposed by another library, and that one may allocate. */
static void write_all(int fd, const char *bytes, size_t count)
{
    const int saved_errno = errno;
    while (count > 0) {
        const long written = syscall(SYS_write, fd, bytes, count);
        if (written > 0) {
            bytes += written;
            count -= (size_t)written;
        } else if (written == 0 || errno != EINTR) {
            break; /* nobody is left to tell */
        }
    }
    errno = saved_errno;
}

NEAR void fmt_init(struct fmt *f, char *buf, size_t capacity, int fd)
{
    *f = (struct fmt){.buf = buf, .capacity = capacity, .length = 0, .fd = fd};
    if (capacity > 0)
        buf[0] = '\0';
}

void fmt_flush(struct fmt *f)
{
    if (f->fd < 0 || f->length == 0)
        return;
    write_all(f->fd, f->buf, f->length);
    f->length = 0;
    f->buf[0] = '\0';
}

static size_t room_left(const struct fmt *f)
{
    return f->capacity > f->length + 1 ? f->capacity - 1 - f->length : 0;
}

static void put_bytes(struct fmt *f, const char *bytes, size_t count)
{
    while (count > 0) {
        if (room_left(f) == 0)
            fmt_flush(f);
        size_t piece = room_left(f);
        if (piece == 0)
            return;
        if (piece > count)
            piece = count;
        memcpy(f->buf + f->length, bytes, piece);
        f->length += piece;
        f->buf[f->length] = '\0';
        bytes += piece;
        count -= piece;
    }
}

static void put_repeated(struct fmt *f, char c, size_t count)
{
    for (size_t i = 0; i < count; i++)
        put_bytes(f, &c, 1);
}

static void put_padded(struct fmt *f, const struct spec *spec, const char *bytes, size_t count)
{
    const size_t pad = spec->width > count ? spec->width - count : 0;
    if (!spec->left)
        put_repeated(f, ' ', pad);
    put_bytes(f, bytes, count);
    if (spec->left)
        put_repeated(f, ' ', pad);
}

/* The prefix is a sign or "0x": it stands after padding spaces, but before padding zeros. */
static void put_number(struct fmt *f, const struct spec *spec, const char *prefix, uint64_t value, unsigned base)
{
    char digits[DIGITS_CAPACITY];
    size_t first = sizeof digits;
    do {
        digits[--first] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value > 0);

    const size_t prefix_length = strlen(prefix);
    const size_t length = prefix_length + (sizeof digits - first);
    const size_t pad = spec->width > length ? spec->width - length : 0;
    const bool zeros = spec->zero && !spec->left;
    if (!spec->left && !zeros)
        put_repeated(f, ' ', pad);
    put_bytes(f, prefix, prefix_length);
    if (zeros)
        put_repeated(f, '0', pad);
    put_bytes(f, digits + first, sizeof digits - first);
    if (spec->left)
        put_repeated(f, ' ', pad);
}

static void put_text(struct fmt *f, const struct spec *spec, const char *text)
{
    if (!text)
        text = "(null)";
    const size_t limit = spec->precision < 0 ? SIZE_MAX : (size_t)spec->precision;
    size_t length = 0;
    while (length < limit && text[length] != '\0') /* text cut by a precision need not end in NUL */
        length++;
    put_padded(f, spec, text, length);
}

/* Reads the conversion after '%' and returns the position behind it; the precision, an argument, is taken from ap. */
static const char *read_spec(struct spec *spec, const char *p, va_list *ap)
{
    *spec = (struct spec){.precision = -1, .size = 'i'};
    for (; *p == '-' || *p == '0'; p++) {
        if (*p == '-')
            spec->left = true;
        else
            spec->zero = true;
    }
    for (; *p >= '0' && *p <= '9'; p++)
        spec->width = spec->width * 10 + (unsigned)(*p - '0');
    if (p[0] == '.' && p[1] == '*') {
        spec->precision = va_arg(*ap, int);
        p += 2;
    }
    if (*p == 'z') {
        spec->size = 'z';
        p++;
    } else if (*p == 'l') {
        spec->size = p[1] == 'l' ? 'q' : 'l';
        p += p[1] == 'l' ? 2 : 1;
    }
    spec->conversion = *p;
    return *p == '\0' ? p : p + 1;
}

static uint64_t take_unsigned(const struct spec *spec, va_list *ap)
{
    switch (spec->size) {
    case 'l':
        return va_arg(*ap, unsigned long);
    case 'q':
        return va_arg(*ap, unsigned long long);
    case 'z':
        return va_arg(*ap, size_t);
    default:
        return va_arg(*ap, unsigned);
    }
}

static int64_t take_signed(const struct spec *spec, va_list *ap)
{
    switch (spec->size) {
    case 'l':
        return va_arg(*ap, long);
    case 'q':
        return va_arg(*ap, long long);
    case 'z':
        return va_arg(*ap, ssize_t);
    default:
        return va_arg(*ap, int);
    }
}

static void put_conversion(struct fmt *f, const struct spec *spec, va_list *ap)
{
    switch (spec->conversion) {
    case 's':
        put_text(f, spec, va_arg(*ap, const char *));
        return;
    case 'c': {
        const char c = (char)va_arg(*ap, int);
        put_padded(f, spec, &c, 1);
        return;
    }
    case 'd': {
        const int64_t value = take_signed(spec, ap);
        put_number(f, spec, value < 0 ? "-" : "", value < 0 ? 0 - (uint64_t)value : (uint64_t)value, 10);
        return;
    }
    case 'u':
        put_number(f, spec, "", take_unsigned(spec, ap), 10);
        return;
    case 'x':
        put_number(f, spec, "", take_unsigned(spec, ap), 16);
        return;
    case 'p':
        put_number(f, spec, "0x", (uintptr_t)va_arg(*ap, void *), 16);
        return;
    case '\0':
        return;
    default: /* %% and whatever is not supported: the character itself */
        put_bytes(f, &spec->conversion, 1);
        return;
    }
}

void fmt_vput(struct fmt *f, const char *format, va_list ap)
{
    va_list args; /* a parameter of type va_list cannot be passed on by address: it may have decayed to a pointer */
    va_copy(args, ap);
    while (*format != '\0') {
        const char *percent = format;
        while (*percent != '\0' && *percent != '%')
            percent++;
        put_bytes(f, format, (size_t)(percent - format));
        if (*percent == '\0')
            break;
        struct spec spec;
        format = read_spec(&spec, percent + 1, &args);
        put_conversion(f, &spec, &args);
    }
    va_end(args);
}

void fmt_put(struct fmt *f, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    fmt_vput(f, format, ap);
    va_end(ap);
}

void fmt_put_ratio(struct fmt *f, uint64_t numerator, uint64_t denominator, unsigned decimals)
{
    if (decimals > MAX_DECIMALS)
        decimals = MAX_DECIMALS;
    if (denominator == 0) { /* nothing out of nothing counts as 0: what reads the output always finds a number */
        numerator = 0;
        denominator = 1;
    }
    while (denominator > UINT64_MAX / 10) { /* remainder * 10 must fit */
        numerator >>= 1;
        denominator >>= 1;
    }

    uint64_t whole = numerator / denominator;
    uint64_t remainder = numerator % denominator;
    uint64_t fraction = 0;
    uint64_t scale = 1;
    for (unsigned i = 0; i < decimals; i++) {
        remainder *= 10;
        fraction = fraction * 10 + remainder / denominator;
        remainder %= denominator;
        scale *= 10;
    }
    if (remainder * 2 >= denominator)
        fraction++;
    if (fraction == scale) {
        whole++;
        fraction = 0;
    }

    const struct spec plain = {.precision = -1};
    put_number(f, &plain, "", whole, 10);
    if (decimals > 0) {
        const struct spec padded = {.width = decimals, .zero = true, .precision = -1};
        put_bytes(f, ".", 1);
        put_number(f, &padded, "", fraction, 10);
    }
}

void fmt_message(const char *format, ...)
{
    char line[MESSAGE_BYTES];
    struct fmt f;
    fmt_init(&f, line, sizeof line - 1, -1); /* a long message is cut, but its newline has its place */
    fmt_put(&f, "hakmem: ");
    va_list ap;
    va_start(ap, format);
    fmt_vput(&f, format, ap);
    va_end(ap);
    line[f.length] = '\n';
    write_all(STDERR_FILENO, line, f.length + 1);
}
