#!/usr/bin/env python3
"""Each layer of src/ includes only what stands to its right:

    api -> tcache -> slab | large -> arena -> os -> base

config/*.h and stats/counters.h are leaves that any layer above os may include. lifecycle, learn, stats (other than its
counters), diag and tools stand above the spine and are never included by it. No .c file is included anywhere.
"""

import os
import re
import sys

sys.dont_write_bytecode = True
from files import ROOT, all_files, read, verdict  # noqa: E402

SPINE = {"api": 6, "tcache": 5, "slab": 4, "large": 4, "arena": 3, "os": 1, "base": 0}
ABOVE = {"lifecycle", "learn", "stats", "diag", "tools"}
# The leaves themselves: config reads the environment through os; counters are plain data.
CONFIG_MAY = {"config", "os", "base"}
COUNTERS = {"stats/counters.h", "stats/counters.c"}
PUBLIC = "hakmem/hakmem.h"
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.M)
INCLUDE_ANY = re.compile(r'^\s*#\s*include\s*[<"]([^">]+)[">]', re.M)


def allowed(file, layer, target):
    """None where the include is right, else the rule that it breaks."""
    to = target.split("/")[0]
    if target == PUBLIC:
        known = layer == "api" or layer in ABOVE
        return None if known else "only api and what is above the spine know the public header"
    if to == layer:
        return None
    if file in COUNTERS:
        return None if to == "base" else "the counters include base only"
    if layer == "config":
        return None if to in CONFIG_MAY else "config may include os and base only"
    if to == "config" or target == "stats/counters.h":
        return None if layer in ABOVE or SPINE[layer] > SPINE["os"] else "a leaf may be included above os only"
    if layer in ABOVE:
        return None
    if to in ABOVE:
        return "%s stands above the spine" % to
    if SPINE[to] < SPINE[layer]:
        return None
    return "%s does not stand to the right of %s" % (to, layer)


def main():
    findings, checked = [], 0
    files = [f for f in all_files() if f.startswith("src/") and f.endswith((".c", ".h", ".def"))]
    for name in files:
        inner = name[len("src/"):]
        layer = inner.split("/")[0]
        if "/" not in inner or (layer not in SPINE and layer not in ABOVE and layer != "config"):
            findings.append("%s: not in a layer" % name)
            continue
        text = read(name)
        for included in INCLUDE_ANY.findall(text):
            if included.endswith(".c"):
                findings.append("%s: includes a source file, %s" % (name, included))
        for included in INCLUDE.findall(text):
            checked += 1
            if "/" not in included:
                findings.append('%s: "%s" should name its layer' % (name, included))
                continue
            to = included.split("/")[0]
            if included != PUBLIC and not os.path.exists(os.path.join(ROOT, "src", included)):
                findings.append('%s: "%s" is not in src/' % (name, included))
            elif included != PUBLIC and to not in SPINE and to not in ABOVE and to != "config":
                findings.append('%s: "%s" is not in a layer' % (name, included))
            else:
                broken = allowed(inner, layer, included)
                if broken:
                    findings.append('%s: "%s": %s' % (name, included, broken))
    verdict("include order", findings, checked)


if __name__ == "__main__":
    main()
