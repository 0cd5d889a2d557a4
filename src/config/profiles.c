#include "config/profiles.h"

#include "config/classes.h"
#include "config/config.h"

uint64_t profile_value(enum profile profile, const struct knob *knob)
{
    if (!knob->in_profiles)
        return knob->fallback;
    switch (profile) {
    case PROFILE_BALANCED:
        return knob->balanced;
    case PROFILE_ADAPTIVE:
        return knob->adaptive;
    case PROFILE_TIGHT:
        return knob->tight;
    case PROFILE_NONE:
    case PROFILE_DEFAULT:
    case PROFILE_AUTO:
        break;
    }
    return knob->fallback;
}

uint32_t preset_cap(enum tiny_preset preset, uint32_t class_index)
{
    static const uint16_t caps[][TINY_CLASS_COUNT] = {
        [TINY_PRESET_DEFAULT] = {512, 512, 512, 384, 256, 384, 192, 96},
        [TINY_PRESET_ULTRA_TIGHT] = {32, 32, 32, 32, 32, 32, 32, 32},
    };
    return caps[preset][class_index];
}

uint32_t default_refill(uint32_t cap)
{
    uint32_t refill = cap / REFILL_CAP_SHARE;
    if (refill < REFILL_MIN)
        refill = REFILL_MIN;
    return refill < cap ? refill : cap;
}
