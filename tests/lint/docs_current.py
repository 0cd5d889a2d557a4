#!/usr/bin/env python3
"""docs/knobs.md is what its generator prints.   docs_current.py GENERATOR docs/knobs.md"""

import sys

sys.dont_write_bytecode = True
from files import output, verdict  # noqa: E402


def main():
    generator, doc = sys.argv[1:]
    wanted = output(generator).splitlines()
    with open(doc, encoding="utf-8") as f:
        found = f.read().splitlines()
    findings = []
    for i in range(max(len(wanted), len(found))):
        a, b = wanted[i] if i < len(wanted) else None, found[i] if i < len(found) else None
        if a != b:
            findings.append("%s:%d: is      %r\n    should be %r" % (doc, i + 1, b, a))
            break
    if findings:
        findings.append("write it anew: %s > %s" % (generator, doc))
    verdict("generated docs", findings, len(wanted))


if __name__ == "__main__":
    main()
