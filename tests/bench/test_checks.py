#!/usr/bin/env python3
"""Every benchmark, plain and timed, runs briefly under the library with --check: blocks keep what was written to them.

    test_checks.py --build BUILD_FOLDER
"""

import argparse
import json
import os
import subprocess
import sys

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "bench"))
from comparison import profiles, suite  # noqa: E402

# Less memory than in a measurement, where filling it would take longer than all the rest.
SMALLER = {"random_free": "--mib 8", "rss_1g": "--mib 16 --seconds 0.1", "large_loop": "--max-kib 1024",
           "burst": "--sweep 10000",
           "realloc_growth": "--max-mib 4", "calloc_large": "--max-kib 512", "idle_burst": "--idle 0 --thread-kib 64",
           "session_days": "--seconds 0.1 --sessions 256 --requests 256", "map_lines": "--max-kib 16",
           "tiny_processes": "--processes 8 --idle 0"}


def commands():
    """(program, options, folders of its flavours)"""
    plain, both = ("bench",), ("bench", os.path.join("bench", "latency"))
    yield "control", ["--threads", "2"], plain
    for huge in ("0", "1"):
        yield "huge_pages", ["--mib", "8", "--threads", "2", "--huge", huge], plain
    for program, options in {tuple(row[1:3]) for row in suite.TABLE if suite.HANDOVER in row[4]}:
        yield program, options.split() + ["--threads", "4"], (os.path.join("bench", "handover"),)
    rows = [(row[1:4], both) for row in suite.TABLE]
    rows += [(row[1:4], plain) for row in suite.MEMORY_TABLE + profiles.TABLE + profiles.MEMORY_TABLE
             if row[1:3] not in [other[1:3] for other in suite.TABLE]]
    for (program, options, threads), folders in rows:
        for threads_here in sorted({threads, 4}):
            yield (program, options.split() + SMALLER.get(program, "").split() + ["--threads", str(threads_here)],
                   folders)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True)
    build = parser.parse_args().build
    environment = dict(os.environ, LD_PRELOAD=os.path.join(build, "libhakmem.so"), HAKMEM_STATS_ENABLE="0")
    failures = checked = 0
    for program, options, folders in commands():
        for folder in folders:
            command = [os.path.join(build, folder, program), "--seconds", "0.03"] + options + ["--check", "--json"]
            checked += 1
            try:
                said = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                      timeout=30, check=False)
                good = said.returncode == 0 and json.loads(said.stdout.decode().splitlines()[-1])["ops"] > 0
                output = (said.stdout + said.stderr).decode(errors="replace")
            except (OSError, ValueError, KeyError, IndexError, subprocess.TimeoutExpired) as error:
                good, output = False, str(error)
            if not good:
                failures += 1
                print("FAIL: %s\n%s" % (" ".join(command), output))
    print("benchmarks with --check: %d run, %d failed" % (checked, failures))
    return 1 if failures or not checked else 0


if __name__ == "__main__":
    sys.exit(main())
