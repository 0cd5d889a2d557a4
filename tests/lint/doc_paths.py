#!/usr/bin/env python3
"""Every path of this repository that docs/ and README.md name exists. Braces and stars are expanded; what is below
build/ is made by the build and not looked for."""

import glob
import os
import re
import sys

sys.dont_write_bytecode = True
from files import ROOT, all_files, read, verdict  # noqa: E402

TOP = r"(?:src|include|tests|bench|profiles|docs|\.ci)"
PATH = re.compile(r"(?<![\w./$-])(" + TOP + r"/[\w.*{},/-]*)")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def expand(path):
    """a/{b,c}.d -> a/b.d, a/c.d"""
    m = re.search(r"\{([^{}]*)\}", path)
    if not m:
        return [path]
    return [p for word in m.group(1).split(",") for p in expand(path[:m.start()] + word + path[m.end():])]


def main():
    findings, checked = [], 0
    for name in [f for f in all_files() if f == "README.md" or (f.startswith("docs/") and f.endswith(".md"))]:
        for number, line in enumerate(read(name).splitlines(), 1):
            wanted = [(p.rstrip(".,"), ROOT) for p in PATH.findall(line)]
            wanted += [(p, os.path.join(ROOT, os.path.dirname(name))) for p in LINK.findall(line) if ":" not in p]
            for path, base in wanted:
                for one in expand(path):
                    checked += 1
                    if "{" in one or "}" in one or not glob.glob(os.path.join(base, one)):
                        findings.append("%s:%d: no such file: %s" % (name, number, one))
    verdict("paths in docs", findings, checked)


if __name__ == "__main__":
    main()
