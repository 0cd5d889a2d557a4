/* Recorded windows of real programs, as text. One line each:
 *
 *   p   the parameters, once at the top
 *   w   a window of one heap: everything in struct alloc_snapshot but the bins
 *   b   one of its bins that are or were in use
 *   d   a decision that followed: subject place verdict from to
 *
 * Fields are decimal numbers in the order of the lists below, so that writer and reader cannot disagree. */
#ifndef HAKMEM_TESTS_LEARN_TRACE_H
#define HAKMEM_TESTS_LEARN_TRACE_H

#define TRACE_PARAMS(X, p)                                                                              \
    X((p)->law.rate_ppm) X((p)->law.share_ppm) X((p)->law.hysteresis) X((p)->law.cooldown_windows)      \
    X((p)->law.observe) X((p)->cap_min) X((p)->cap_max) X((p)->advanced)

#define TRACE_WINDOW(X, s)                                                                                \
    X((s)->heap) X((s)->window) X((s)->time_ms) X((s)->moved_blocks) X((s)->passed_ns) X((s)->budget_left_bytes) \
    X((s)->keep_budget_bytes) X((s)->slabs_attached) X((s)->slabs_retired) X((s)->slabs_idle) X((s)->keep_slabs)

#define TRACE_BIN(X, b)                                                                                \
    X((b)->refill_count) X((b)->refill_blocks) X((b)->flush_blocks) X((b)->collected_blocks)           \
    X((b)->turns) X((b)->excess) X((b)->low_water) X((b)->capacity) X((b)->cap) X((b)->refill)         \
    X((b)->cap_ceiling) X((b)->refill_ceiling)

#define TRACE_DECISION(X, d) X((d)->subject) X((d)->place) X((d)->verdict) X((d)->from) X((d)->to)

#endif
