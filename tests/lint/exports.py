#!/usr/bin/env python3
"""The shared library exports the names in exports.txt and nothing else.   exports.py libhakmem.so"""

import os
import sys

sys.dont_write_bytecode = True
from files import output, verdict  # noqa: E402


def main():
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "exports.txt")) as f:
        wanted = [line.split("#")[0].strip() for line in f]
    wanted = {name for name in wanted if name}
    out = output("nm", "-D", "--defined-only", sys.argv[1])
    found, findings = set(), []
    for line in out.splitlines():
        kind, name = line.split()[-2:]
        if kind == "A":  # the name of a symbol version, not a symbol
            continue
        found.add(name.split("@")[0])
        if kind.upper() not in ("T", "W"):
            findings.append("exported, but not a function: %s (%s)" % (name, kind))
    findings += ["not exported: " + n for n in sorted(wanted - found)]
    findings += ["exported, but not in tests/lint/exports.txt: " + n for n in sorted(found - wanted)]
    verdict("exports", findings, len(found))


if __name__ == "__main__":
    main()
