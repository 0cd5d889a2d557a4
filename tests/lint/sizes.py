#!/usr/bin/env python3
"""A source file has at most 500 lines, or this fails; a function of more than 80 is only pointed out."""

import re
import sys

sys.dont_write_bytecode = True
from files import all_files, read, verdict  # noqa: E402

FILE_LINES_MAX = 500
FUNCTION_LINES_ADVICE = 80


def functions(lines):
    """(name, line, length) of every function that is laid out with its braces in column 0."""
    start = None
    for number, line in enumerate(lines, 1):
        if line.startswith("{"):
            start = number
        elif line.startswith("}") and start:
            head = " ".join(lines[max(0, start - 4):start - 1])
            names = re.findall(r"(\w+)\s*\(", head)
            yield names[-1] if names else "?", start, number - start + 1
            start = None


def main():
    findings, checked = [], 0
    for name in all_files():
        if not name.startswith(("src/", "include/", "bench/", "tests/")) or not name.endswith((".c", ".h", ".cc")):
            continue
        checked += 1
        lines = read(name).splitlines()
        if len(lines) > FILE_LINES_MAX:
            findings.append("%s: %d lines, more than %d" % (name, len(lines), FILE_LINES_MAX))
        for function, start, length in functions(lines):
            if length > FUNCTION_LINES_ADVICE:
                print("advice: %s:%d: %s has %d lines" % (name, start, function, length))
    verdict("file sizes", findings, checked)


if __name__ == "__main__":
    main()
