"""The libraries under comparison: finding the peers, their versions, the environment of their runs; the machine."""

import glob
import os
import re
import shutil
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# Name in the tables, and the library's file name with its version at the end. The debugging and the hardened flavours
# have other names and are no peers.
PEERS = (
    ("mimalloc", re.compile(r"libmimalloc\.so((?:\.\d+)*)$")),
    ("jemalloc", re.compile(r"libjemalloc\.so((?:\.\d+)*)$")),
    ("tcmalloc", re.compile(r"libtcmalloc_minimal\.so((?:\.\d+)*)$")),
)
FOLDERS = ("/usr/lib/*-linux-gnu*", "/lib/*-linux-gnu*", "/usr/lib64", "/usr/lib", "/usr/local/lib")

# Settings of an allocator count only where they stand on the command line: then that is all there is to repeat.
SETTINGS = ("LD_PRELOAD", "GLIBC_TUNABLES", "PYTHONMALLOC", "HAKMEM_", "MALLOC_", "MIMALLOC_", "TCMALLOC_", "JE_MALLOC")


class Library:
    """`role` is subject (the one that is judged), variant (the same file with other settings), peer, or floor (a bound,
    no peer). No path: the C library's own. `rows`: the names of those that it runs; None: all."""

    def __init__(self, name, path, role="peer"):
        self.name, self.path, self.role = name, path, role
        self.settings = {}
        self.rows = None
        self.version = ""  # as the user says; otherwise it is looked up

    def environment(self):
        environment = {key: value for key, value in os.environ.items() if not key.startswith(SETTINGS)}
        environment.update(self.settings)
        return environment

    def description(self):
        return {"file": shown_path(self.path) if self.path else "", "version": self.version or version_of(self.path),
                "role": self.role, "settings": self.settings}


def shown_path(path):
    """Without folders that say something about one machine only."""
    path = os.path.abspath(path)
    if path.startswith(ROOT + os.sep):
        return os.path.relpath(path, ROOT)
    everywhere = path.startswith(("/usr/", "/lib/", "/lib64/", "/opt/"))
    return path if everywhere else os.path.join("...", os.path.basename(path))


def elf_kind(path):
    """Class and machine: what must be the same for one file to be preloaded into another. None if it is no ELF file."""
    try:
        with open(path, "rb") as f:
            head = f.read(20)
    except OSError:
        return None
    return (head[4], head[18:20]) if head[:4] == b"\x7fELF" and len(head) == 20 else None


def installed_libraries():
    """Paths that the loader knows, then those in the usual folders."""
    ldconfig = shutil.which("ldconfig") or shutil.which("ldconfig", path="/sbin:/usr/sbin")
    if ldconfig:
        said = subprocess.run([ldconfig, "-p"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        for line in said.stdout.decode(errors="replace").splitlines():
            if " => " in line:
                yield line.split(" => ")[1].strip()
    for folder in FOLDERS:
        for path in sorted(glob.glob(os.path.join(folder, "lib*malloc*.so*"))):
            yield path


def find_peers(like):
    """The newest of each of PEERS that can be preloaded into the program `like`, and the C library."""
    kind = elf_kind(like)
    found = {}
    for path in installed_libraries():
        for name, pattern in PEERS:
            match = pattern.search(os.path.basename(path))
            if match and elf_kind(path) == kind:
                version = tuple(int(part) for part in match.group(1).split(".")[1:])
                if name not in found or version > found[name][0]:
                    found[name] = (version, path)
    return [Library(name, found[name][1]) for name, _ in PEERS if name in found] + [Library("glibc", "")]


def output_of(*command):
    """What a program prints, stripped; "" if there is no such program or it fails."""
    try:
        environment = dict(os.environ, GIT_OPTIONAL_LOCKS="0", LC_ALL="C")
        environment.pop("LD_PRELOAD", None)
        said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return said.stdout.decode(errors="replace").strip()


def package_of(path):
    """(package, version) of an installed file, or None. dpkg may know it by the name before /usr was merged."""
    real = os.path.realpath(path)
    for name in (real, re.sub(r"^/usr(?=/lib)", "", real), re.sub(r"^(?=/lib)", "/usr", real)):
        owner = output_of("dpkg", "-S", name).split(": ")[0].split(",")[0]
        if owner:
            return owner.split(":")[0], output_of("dpkg-query", "-W", "-f", "${Version}", owner)
    return None


def version_of(path):
    if not path:
        package = output_of("dpkg-query", "-W", "-f", "${Version}", "libc6")
        return os.confstr("CS_GNU_LIBC_VERSION") + (" (%s)" % package if package else "")
    package = package_of(path)
    if package:
        return "%s %s" % package
    if os.path.abspath(path).startswith(ROOT + os.sep) or os.path.basename(path) == "libhakmem.so":
        with open(os.path.join(ROOT, "CMakeLists.txt"), encoding="utf-8") as f:
            version = re.search(r"project\(hakmem VERSION ([\d.]+)", f.read()).group(1)
        commit = output_of("git", "-c", "safe.directory=*", "-C", ROOT, "describe", "--always", "--dirty=, modified")
        return "%s (commit %s)" % (version, commit) if commit else version
    return "unknown"


def machine():
    cpu = "unknown"
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as f:
        for line in f:
            if line.startswith(("model name", "CPU part")):
                cpu = line.split(":", 1)[1].strip()
                break
    with open("/proc/meminfo", encoding="utf-8") as f:
        memory_kb = int(f.readline().split()[1])
    system = "Linux"
    try:
        with open("/etc/os-release", encoding="utf-8") as f:
            system = re.search(r'^PRETTY_NAME="?([^"\n]*)', f.read(), re.M).group(1)
    except (OSError, AttributeError):
        pass
    return {"cpu": cpu, "processors": len(os.sched_getaffinity(0)), "memory_kb": memory_kb,
            "kernel": os.uname().release, "architecture": os.uname().machine, "system": system}


def huge_pages():
    """When the kernel backs memory with huge pages by itself: always, on request (madvise), or never."""
    try:
        with open("/sys/kernel/mm/transparent_hugepage/enabled", encoding="utf-8") as f:
            return re.search(r"\[(\w+)\]", f.read()).group(1)
    except (OSError, AttributeError):
        return "unknown"
