"""What the lint scripts share: the repository's files, and how findings are reported."""

import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def all_files():
    """Every file that is or will be checked in, relative to the root."""
    said = subprocess.run(["git", "-c", "safe.directory=*", "-C", ROOT, "ls-files", "-co", "--exclude-standard", "-z"],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if said.returncode == 0 and said.stdout:
        names = said.stdout.decode().rstrip("\0").split("\0")
    else:  # an unpacked archive
        names = []
        for folder, folders, here in os.walk(ROOT):
            folders[:] = [f for f in folders if not f.startswith(".git") and not os.path.relpath(
                os.path.join(folder, f), ROOT).startswith("build")]
            names += [os.path.relpath(os.path.join(folder, f), ROOT) for f in here]
    return sorted(n for n in set(names) if os.path.isfile(os.path.join(ROOT, n)))


def output(*argv):
    """What a program prints; a failure of it ends the check."""
    return subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout.decode()


def read(name):
    with open(os.path.join(ROOT, name), encoding="utf-8", errors="replace") as f:
        return f.read()


def is_text(name):
    with open(os.path.join(ROOT, name), "rb") as f:
        return b"\0" not in f.read(8000)


def verdict(what, findings, checked):
    """Prints the findings and ends the program. Having checked nothing is a failure too."""
    for finding in findings:
        print(finding)
    print("%s: %d checked, %d findings" % (what, checked, len(findings)))
    sys.exit(1 if findings or not checked else 0)
