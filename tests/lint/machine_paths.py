#!/usr/bin/env python3
"""No file names a folder of the machine that it was written on."""

import re
import sys

sys.dont_write_bytecode = True
from files import all_files, is_text, read, verdict  # noqa: E402

# Written so that this file does not find itself.
FOLDERS = [r"/wor[k]/", r"/hom[e]/[a-z]", r"/roo[t]/", r"/User[s]/[A-Za-z]", r"/tm[p]/[\w-]+/\w", r"/workspac[e]s?/"]
PATTERN = re.compile(r"(?<![\w.~}$)-])(?:" + "|".join(FOLDERS) + ")")


def main():
    findings, checked = [], 0
    for name in all_files():
        if not is_text(name):
            continue
        checked += 1
        for number, line in enumerate(read(name).splitlines(), 1):
            if PATTERN.search(line):
                findings.append("%s:%d: %s" % (name, number, line.strip()[:100]))
    verdict("machine paths", findings, checked)


if __name__ == "__main__":
    main()
