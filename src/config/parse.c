#include "config/parse.h"

#include <string.h>

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Reads the digits at *cursor and moves it behind them; false where there are none, or more than 64 bits of them. */
static bool take_uint(const char **cursor, uint64_t *value)
{
    const char *p = *cursor;
    if (!is_digit(*p))
        return false;
    uint64_t sum = 0;
    for (; is_digit(*p); p++) {
        const uint64_t digit = (uint64_t)(*p - '0');
        if (sum > (UINT64_MAX - digit) / 10)
            return false;
        sum = sum * 10 + digit;
    }
    *cursor = p;
    *value = sum;
    return true;
}

static bool take_char(const char **cursor, char wanted)
{
    if (**cursor != wanted)
        return false;
    ++*cursor;
    return true;
}

bool parse_uint(const char *text, uint64_t *value)
{
    uint64_t number;
    if (!take_uint(&text, &number) || *text != '\0')
        return false;
    *value = number;
    return true;
}

static unsigned unit_shift(char unit)
{
    switch (unit) {
    case 'k':
    case 'K':
        return 10;
    case 'm':
    case 'M':
        return 20;
    case 'g':
    case 'G':
        return 30;
    default:
        return 0;
    }
}

bool parse_bytes(const char *text, uint64_t *value)
{
    uint64_t number;
    if (!take_uint(&text, &number))
        return false;
    const unsigned shift = unit_shift(*text);
    if (shift > 0)
        text++;
    if (*text != '\0' || number > UINT64_MAX >> shift)
        return false;
    *value = number << shift;
    return true;
}

bool parse_ratio(const char *text, uint64_t *ppm)
{
    uint64_t whole = 0;
    if (*text != '.' && !take_uint(&text, &whole))
        return false;
    uint64_t fraction = 0;
    if (take_char(&text, '.')) {
        if (!is_digit(*text))
            return false;
        uint64_t place = RATIO_ONE_PPM;
        for (; is_digit(*text); text++) {
            place /= 10;
            if (place == 0 && *text != '0')
                return false;
            fraction += place * (uint64_t)(*text - '0');
        }
    }
    if (*text != '\0' || whole > (UINT64_MAX - fraction) / RATIO_ONE_PPM)
        return false;
    *ppm = whole * RATIO_ONE_PPM + fraction;
    return true;
}

bool parse_word(const char *text, const knob_word *words, uint64_t first, uint64_t last, uint64_t *value)
{
    for (uint64_t i = first; i <= last; i++) {
        if (strcmp(text, words[i]) == 0) {
            *value = i;
            return true;
        }
    }
    return false;
}

static bool parse_unbounded(const struct knob *knob, const char *text, uint64_t *value)
{
    switch ((enum knob_type)knob->type) {
    case KNOB_TYPE_BOOL: /* 0 or 1 and nothing else, so not 01 */
        return text[0] != '\0' && text[1] == '\0' && parse_uint(text, value);
    case KNOB_TYPE_UINT:
        return parse_uint(text, value);
    case KNOB_TYPE_BYTES:
        return parse_bytes(text, value);
    case KNOB_TYPE_RATIO:
        return parse_ratio(text, value);
    case KNOB_TYPE_WORD:
        return parse_word(text, knob_words(knob), knob->min, knob->max, value);
    case KNOB_TYPE_OVERRIDE:
    case KNOB_TYPE_PATH:
        break;
    }
    return false;
}

bool parse_value(const struct knob *knob, const char *text, uint64_t *value)
{
    uint64_t candidate;
    if (!parse_unbounded(knob, text, &candidate) || candidate < knob->min || candidate > knob->max)
        return false;
    *value = candidate;
    return true;
}

bool parse_path(const char *text, uint64_t min, uint64_t max)
{
    size_t length = 0;
    for (; text[length] != '\0'; length++) {
        const unsigned char c = (unsigned char)text[length];
        if (c < ' ' || c == 0x7f)
            return false;
    }
    return length >= min && length <= max;
}

/* Ck or Ck.size, as the bins first .. last. */
static bool take_bins(const char **cursor, uint32_t *first, uint32_t *last)
{
    if (!take_char(cursor, 'C'))
        return false;
    const uint32_t class_index = (uint32_t)(**cursor - '0');
    if (!is_digit(**cursor) || class_index >= TINY_CLASS_COUNT)
        return false;
    ++*cursor;
    *first = tiny_class_first_bin(class_index);
    *last = *first + tiny_class_bin_count(class_index) - 1;
    if (!take_char(cursor, '.'))
        return true;

    uint64_t bytes;
    if (!take_uint(cursor, &bytes))
        return false;
    for (uint32_t bin = *first; bin <= *last; bin++) {
        if (tiny_bin_bytes(bin) == bytes) {
            *first = bin;
            *last = bin;
            return true;
        }
    }
    return false;
}

static bool take_item(const char **cursor, uint32_t min_cap, uint32_t max_cap, struct class_override *into)
{
    uint32_t first, last;
    uint64_t cap;
    uint64_t refill = 0;
    if (!take_bins(cursor, &first, &last) || !take_char(cursor, ':') || !take_uint(cursor, &cap))
        return false;
    if (cap < min_cap || cap > max_cap)
        return false;
    if (take_char(cursor, ':') && (!take_uint(cursor, &refill) || refill < 1 || refill > cap))
        return false;
    for (uint32_t bin = first; bin <= last; bin++) {
        into->cap[bin] = (uint32_t)cap;
        into->refill[bin] = (uint32_t)refill;
    }
    return true;
}

bool parse_override(const char *text, uint32_t min_cap, uint32_t max_cap, struct class_override *value,
                    const char **bad_item)
{
    struct class_override collected = {0};
    const char *item = text;
    const char *cursor = text;
    while (take_item(&cursor, min_cap, max_cap, &collected)) {
        if (*cursor == '\0') {
            *value = collected;
            return true;
        }
        if (!take_char(&cursor, ','))
            break;
        item = cursor;
    }
    *bad_item = item;
    return false;
}
