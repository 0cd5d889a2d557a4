"""What the preload tests share: finding real binaries, running them with and without the library, proving it served."""

import os
import re
import shutil
import signal
import subprocess
import sys

PROFILES = ("default", "balanced", "adaptive", "tight")
SKIP = 77

# Rows of the summary that HAKMEM_STATS_ENABLE=1 prints at exit. A bin's row is: block size, live, cached, slab bytes,
# refills, blocks moved by them, ...
STATS_BIN = re.compile(rb"^hakmem:\s+\d+\s+\d+\s+\d+\s+\d+\s+\d+\s+(\d+)\s", re.M)
STATS_LARGE = re.compile(rb"^hakmem:\s+large_alloc_count\s+(\d+)\s", re.M)


class Missing(Exception):
    """A program this test needs is not installed."""


def is_elf(path):
    try:
        with open(path, "rb") as f:
            return f.read(4) == b"\x7fELF"
    except OSError:
        return False


def resolve(name):
    """The binary behind a command name. A wrapper script would be preloaded together with its shell, so for a script
    the next one on the path is tried; python is asked for its own executable."""
    if name == "python3":
        found = shutil.which("python3")
        if not found:
            raise Missing("python3")
        said = subprocess.run([found, "-c", "import sys; print(sys.executable)"], stdout=subprocess.PIPE, check=True)
        return os.path.realpath(said.stdout.decode().strip())
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(folder, name)
        if os.access(path, os.X_OK) and is_elf(path):
            return path  # not its realpath: programs such as clang look at the name they were called by
    raise Missing(name)


def base_env(home):
    """An environment in which the same command gives the same output twice."""
    env = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": home,
        "TMPDIR": home,
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "SOURCE_DATE_EPOCH": "1000000000",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PERL_HASH_SEED": "0",
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    return env


def preload_env(env, lib, profile, **more):
    out = dict(env)
    out.update(LD_PRELOAD=lib, HAKMEM_PROFILE=profile, HAKMEM_STATS_ENABLE="0")
    out.update(more)
    return out


class Result:
    def __init__(self, rc, out, err):
        self.rc, self.out, self.err = rc, out, err

    def key(self):
        return (self.rc, self.out, self.err)


def run(argv, env, cwd, stdin=b"", timeout=120, limits=None):
    """Runs one command in a session of its own, so that a hanging one is ended together with its children."""
    stdin_arg = subprocess.PIPE if stdin is not None else subprocess.DEVNULL
    p = subprocess.Popen(argv, env=env, cwd=cwd, stdin=stdin_arg, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         start_new_session=True, preexec_fn=limits)
    try:
        out, err = p.communicate(stdin, timeout=timeout)
        return Result(p.returncode, out, err)
    except subprocess.TimeoutExpired:
        try:
            os.killpg(p.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        try:
            out, err = p.communicate(timeout=5)
        except subprocess.TimeoutExpired:  # a grandchild in a session of its own holds the pipe
            out, err = b"", b""
        return Result("timeout after %d s" % timeout, out, err)


def show(what, a, b, limit=1500):
    """Says how two results differ."""
    for field in ("rc", "out", "err"):
        x, y = getattr(a, field), getattr(b, field)
        if x != y:
            name = {"rc": "exit code", "out": "stdout", "err": "stderr"}[field]
            sys.stdout.write("  %s: %s differs\n    plain:     %r\n    preloaded: %r\n" % (
                what, name, x if field == "rc" else x[:limit], y if field == "rc" else y[:limit]))


def bindings(argv, env, cwd, lib, stdin=b"", timeout=120):
    """Runs under LD_DEBUG=bindings and returns the set of (file, symbol) that were bound to the library."""
    prefix = os.path.join(cwd, "ld_debug")
    e = dict(env, LD_DEBUG="bindings", LD_DEBUG_OUTPUT=prefix)
    run(argv, e, cwd, stdin, timeout)
    return read_bindings(cwd, lib)


def read_bindings(cwd, lib):
    pattern = re.compile(rb"binding file (\S+) \[\d+\] to " + re.escape(lib.encode()) +
                         rb" \[\d+\]: normal symbol `(\w+)'")
    bound = set()
    for name in os.listdir(cwd):
        if name.startswith("ld_debug."):
            path = os.path.join(cwd, name)
            with open(path, "rb") as f:
                bound.update((m.group(1).decode(), m.group(2).decode()) for m in pattern.finditer(f.read()))
            os.unlink(path)
    return bound


def is_hakmem(lib):
    """False for the peers that stand in while the library is developed: they print no summary."""
    with open(lib, "rb") as f:
        return b"hakmem_version" in f.read()


def served_count(stderr):
    """From the statistics summary: blocks that went into threads' caches, and large blocks. 0 where there is none."""
    return sum(int(n) for pattern in (STATS_BIN, STATS_LARGE) for n in pattern.findall(stderr))
