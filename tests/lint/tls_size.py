#!/usr/bin/env python3
"""The thread-local segment is at most 64 bytes: the loader's surplus for late libraries is small and shared.
    tls_size.py libhakmem.so"""

import sys

sys.dont_write_bytecode = True
from files import output  # noqa: E402

LIMIT_BYTES = 64


def main():
    out = output("readelf", "-lW", sys.argv[1])
    sizes = [int(line.split()[5], 16) for line in out.splitlines() if line.split()[:1] == ["TLS"]]
    print("thread-local segment: %d bytes, limit %d" % (sum(sizes), LIMIT_BYTES))
    flags = output("readelf", "-dW", sys.argv[1])
    if "NODELETE" not in flags:
        print("the library is not marked -z nodelete: dlclose would take it away from under its blocks")
        return 1
    return sum(sizes) > LIMIT_BYTES


if __name__ == "__main__":
    sys.exit(main())
