#include "slab/steer.h"

enum {
    DENSE_SHARE = 4, /* idle bytes are so small a part of those in use ... */
    DENSE_MIN = 2,   /* ... or of what is worth it */
    GAIN_SHARE = 4,  /* of the idle bytes must have gone after STEER_TURNS */
    GROWN_TIMES = 2, /* as much idle as when it was given up: something else has happened */
};

/* More than half is free. */
static bool is_sparse(const struct steer_look *look)
{
    return look->idle_bytes >= STEER_MIN_BYTES && look->idle_bytes > look->out_bytes;
}

static bool is_dense(const struct steer_look *look)
{
    return look->idle_bytes < STEER_MIN_BYTES / DENSE_MIN || look->idle_bytes <= look->out_bytes / DENSE_SHARE;
}

static bool have_passed(const struct steer *s, const struct steer_look *look, unsigned turns)
{
    return look->refilled_blocks - s->from_blocks > turns * look->out_blocks;
}

static void begin(struct steer *s, const struct steer_look *look, enum steer_state state)
{
    *s = (struct steer){ .from_blocks = look->refilled_blocks, .from_bytes = look->idle_bytes, .state = state };
}

bool steer_decide(struct steer *s, const struct steer_look *look)
{
    if (is_dense(look)) {
        s->state = STEER_OFF;
    } else if (s->state == STEER_ON && have_passed(s, look, STEER_TURNS)) {
        bool has_helped = look->idle_bytes <= s->from_bytes - s->from_bytes / GAIN_SHARE;
        begin(s, look, has_helped ? STEER_ON : STEER_RESTING);
    } else if (is_sparse(look)) {
        bool has_grown = look->idle_bytes / GROWN_TIMES >= s->from_bytes;
        if (s->state == STEER_OFF || (s->state == STEER_RESTING && (has_grown || have_passed(s, look, STEER_REST_TURNS))))
            begin(s, look, STEER_ON);
    }
    return s->state == STEER_ON;
}
