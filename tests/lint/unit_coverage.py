#!/usr/bin/env python3
"""Every src/<layer>/<name>.c has tests/unit/test_<name>.c (or test_<layer>_<name>.c), or a line with the reason in
untested_units.txt; and every line there is still true."""

import os
import sys

sys.dont_write_bytecode = True
from files import ROOT, all_files, verdict  # noqa: E402


def main():
    excused, findings = {}, []
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "untested_units.txt"), encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            line = line.split("#")[0].strip()
            if line:
                name, _, reason = line.partition(":")
                excused[name.strip()] = reason.strip()
                if len(reason.split()) < 3:
                    findings.append("untested_units.txt:%d: no reason is given" % number)
    files = set(all_files())
    sources = [f for f in sorted(files) if f.startswith("src/") and f.endswith(".c") and f.count("/") == 2]
    for source in sources:
        layer, name = source[:-2].split("/")[1:]
        tests = ["tests/unit/test_%s.c" % name, "tests/unit/test_%s_%s.c" % (layer, name)]
        tested = any(t in files for t in tests)
        if not tested and source not in excused:
            findings.append("%s: neither %s nor a reason in tests/lint/untested_units.txt" % (source, tests[0]))
        if tested and source in excused:
            findings.append("%s: tested, so its line in untested_units.txt is out of date" % source)
    findings += ["untested_units.txt: no such file: " + e for e in excused if not os.path.exists(os.path.join(ROOT, e))]
    verdict("units with tests", findings, len(sources))


if __name__ == "__main__":
    main()
