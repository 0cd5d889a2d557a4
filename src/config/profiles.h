/* The built-in profiles and the presets of the tiny classes. */
#ifndef HAKMEM_CONFIG_PROFILES_H
#define HAKMEM_CONFIG_PROFILES_H

#include "config/knobs.h"

/* What a knob is worth before the environment speaks: the profile's value where it gives one, else the default.
 * Precondition: profile is not PROFILE_AUTO, which is none itself (config_base_profile). */
uint64_t profile_value(enum profile profile, const struct knob *knob);

/* Objects per bin that a thread may cache in a class's bins. Precondition: class_index < TINY_CLASS_COUNT. */
uint32_t preset_cap(enum tiny_preset preset, uint32_t class_index);
/* The blocks that a refill moves under a cap where nothing else is said. */
uint32_t default_refill(uint32_t cap);

#endif
