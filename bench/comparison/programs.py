"""Real programs, with inputs made on the fly: the same on every machine, and nothing to be downloaded. What is not
installed is reported as not run."""

import os
import random
import re
import statistics
import subprocess
import tempfile
import time

from comparison.libraries import elf_kind, output_of
from comparison.running import LAUNCH_FAILED, Missing


def find_program(name):
    """The binary behind a name: a wrapper script would be preloaded together with its shell, so the next one on the
    path is tried."""
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(folder, name)
        if os.access(path, os.X_OK) and elf_kind(path):
            return path  # not its realpath: compilers look at the name they were called by
    raise Missing("%s is not installed" % name)


def c_library():
    """The path of this process' own libc.so.6, or ""."""
    with open("/proc/self/maps", encoding="utf-8") as f:
        match = re.search(r"(/\S*/libc\.so\.6|/\S*/libc-[\d.]+\.so)$", f.read(), re.M)
    return match.group(1) if match else ""


def brings_allocator(program):
    """True for a program linked to an allocator of its own, as Debian's Redis is to jemalloc."""
    return re.search(r"lib(jemalloc|tcmalloc|mimalloc)\w*\.so", output_of("ldd", program)) is not None


class Program:
    """Subclasses say what they need and write their input."""

    name = ""
    needs = ()
    environment = {}
    idle_seconds, room_mib = 0, 0  # of a run, where that counts
    idles = False  # run() takes what ends its turn to work

    def prepare(self, folder):
        """Finds the program and writes the input; raises Missing."""
        self.folder = folder
        self.paths = [find_program(name) for name in self.needs]
        self.own_allocator = brings_allocator(self.paths[0])
        self.write()

    def write(self):
        pass

    def file(self, name, text=None):
        path = os.path.join(self.folder, name)
        if text is not None:
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
        return path

    def arguments(self):
        return []

    def preload(self, library):
        """To get the C library's malloc in a program that brings another, the C library itself is preloaded."""
        return c_library() if not library.path and self.own_allocator else None

    def run(self, launcher, library):
        return launcher.run([self.paths[0]] + self.arguments(), library, cwd=self.folder, environment=self.environment,
                            preload=self.preload(library))


class Script(Program):
    """An interpreter and a text for it."""

    text, file_name = "", ""

    def write(self):
        self.file(self.file_name, self.text)

    def arguments(self):
        return [self.file_name]


class Python(Script):
    name, needs, file_name = "python3", ("python3",), "data.py"
    # Without this Python serves small blocks itself, out of arenas.
    environment = {"PYTHONMALLOC": "malloc", "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    text = """
import json
for turn in range(4):
    people = [{"id": i, "name": "name %d" % i, "tags": ["t%d" % (i * k % 97) for k in range(5)],
               "score": i * 1.5} for i in range(30000)]
    text = json.dumps(people)
    again = json.loads(text)
    by_tag = {}
    for person in again:
        for tag in person["tags"]:
            by_tag.setdefault(tag, []).append(person["name"].upper())
    words = " ".join(name for names in by_tag.values() for name in names[:500]).split()
    words.sort(key=lambda word: word[::-1])
print(len(text), len(words))
"""


class Lua(Script):
    name, needs, file_name = "lua", ("lua5.4",), "data.lua"
    text = """
local keep = {}
for turn = 1, 6 do
  local records = {}
  for i = 1, 150000 do records[i] = {id = i, name = "name " .. i, next = records[i - 1]} end
  local parts = {}
  for i = 1, #records, 3 do parts[#parts + 1] = records[i].name .. ":" .. turn end
  keep[turn % 3] = table.concat(parts, ",")
end
print(#keep[0] + #keep[1] + #keep[2])
"""


class Ruby(Script):
    name, needs, file_name = "ruby", ("ruby",), "data.rb"
    text = """
sum = 0
6.times do |turn|
  records = (0...60000).map { |i| {id: i, name: "name number #{i} of turn #{turn}", list: Array.new(6) { |k| k * i }} }
  groups = records.group_by { |r| r[:id] % 1009 }
  text = groups.values.map { |g| g.map { |r| r[:name] * 2 }.join(",") }.join("\\n")
  sum += text.split(/[,\\n]/).map(&:reverse).uniq.size
end
puts sum
"""


class Sqlite(Program):
    name, needs = "sqlite3", ("sqlite3",)

    def write(self):
        self.file("data.sql", """
CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, kind INTEGER, weight REAL);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 250000)
INSERT INTO item SELECT i, 'item ' || (i * 7919 % 250007), i % 113, i * 0.25 FROM n;
CREATE INDEX item_name ON item(name);
CREATE INDEX item_kind ON item(kind, weight);
SELECT count(*), sum(length(name)) FROM item WHERE name > 'item 5';
SELECT kind, count(*), group_concat(substr(name, 1, 8)) FROM item GROUP BY kind ORDER BY 2 DESC LIMIT 3;
UPDATE item SET name = name || ' changed' WHERE id % 3 = 0;
DELETE FROM item WHERE id % 5 = 0;
SELECT count(DISTINCT name) FROM item;
""")

    def arguments(self):
        return [":memory:", ".read data.sql"]


def c_source(functions):
    """C with enough loops, switches and structs to keep an optimiser busy."""
    draw = random.Random(7)
    lines = ["struct node { struct node *next; long key; int kind; double weight; char name[24]; };",
             "extern long table[1024]; extern void visit(struct node *, long);"]
    for i in range(functions):
        case = "        case %d: sum += (n->key ^ %d) * %d; table[(sum >> %d) & 1023] += n->kind; break;"
        cases = "\n".join(case % (k, draw.randrange(1 << 20), draw.randrange(3, 999), draw.randrange(8))
                          for k in range(draw.randrange(4, 10)))
        call = "sum += f%d(n, depth - 1);" % draw.randrange(i) if i else "visit(n, sum);"
        lines.append("""long f%d(struct node *n, int depth)
{
    long sum = %d;
    for (; n && depth > 0; n = n->next) {
        switch (n->kind & 15) {
%s
        default: for (int i = 0; i < 24; i++) sum = sum * 31 + n->name[i];
        }
        if (n->weight * sum > %d.5) { %s }
        for (int i = 0; i < depth; i++) table[i & 1023] = table[(i * %d) & 1023] + sum %% (i + 1);
    }
    return sum;
}""" % (i, draw.randrange(1000), cases, draw.randrange(10000), call, draw.randrange(3, 99)))
    return "\n".join(lines) + "\n"


class Gcc(Program):
    name, needs, functions = "gcc -O2", ("gcc",), 120

    def write(self):
        self.file("source_%d.c" % self.functions, c_source(self.functions))

    def arguments(self):
        return ["-O2", "-S", "-o", os.devnull, "source_%d.c" % self.functions]


class Clang(Gcc):
    name, needs, functions = "clang -O2", ("clang",), 150


class Ghostscript(Program):
    name, needs = "gs", ("gs",)

    def write(self):
        self.file("pages.ps", """%!PS
1 srand
/r { rand exch mod } def
/Times-Roman findfont 11 scalefont setfont
1 1 30 {
  pop
  400 { 600 r 800 r moveto 600 r 800 r 600 r 800 r 600 r 800 r curveto
        1000 r 1000 div 1000 r 1000 div 1000 r 1000 div setrgbcolor 5 r setlinewidth stroke } repeat
  60 { newpath 600 r 800 r moveto 20 { 600 r 800 r lineto } repeat closepath
       1000 r 1000 div setgray eofill } repeat
  0 setgray
  200 { 500 r 800 r moveto 100000 r 20 string cvs show } repeat
  [ 2000 { 100000 r 30 string cvs } repeat ] pop
  showpage
} for
""")

    def arguments(self):
        return ["-q", "-dNOPAUSE", "-dBATCH", "-dSAFER", "-sDEVICE=ppmraw", "-r100", "-sOutputFile=" + os.devnull,
                "pages.ps"]


class Rocksdb(Program):
    name, needs = "rocksdb's db_bench", ("db_bench",)

    def arguments(self):
        return ["--benchmarks=fillrandom,readrandom,overwrite,seekrandom", "--num=40000", "--reads=40000", "--seed=1",
                "--value_size=200", "--threads=2", "--disable_wal=1", "--compression_type=none",
                "--write_buffer_size=4194304", "--db=" + os.path.join(self.folder, "rocksdb")]


class Z3(Program):
    name, needs = "z3", ("z3",)

    def write(self):
        """A row of small problems, as symbolic execution gives a solver."""
        draw, count = random.Random(11), 60
        lines = ["(declare-const x%d Int)" % i for i in range(count)]
        for _ in range(8):
            lines += ["(push)"] + ["(assert (and (>= x%d 0) (<= x%d 50)))" % (i, i) for i in range(count)]
            for _ in range(50):
                a, b, c, d = draw.sample(range(count), 4)
                lines.append("(assert (or (> (+ x%d (* 2 x%d)) (+ x%d %d)) (< (- x%d x%d) (- x%d %d))))" % (
                    a, b, c, draw.randrange(60, 90), c, d, a, draw.randrange(20, 40)))
            lines += ["(assert (distinct %s))" % " ".join("x%d" % i for i in range(k, k + 20)) for k in (0, 20, 40)]
            lines += ["(check-sat)", "(pop)"]
        self.file("problem.smt2", "\n".join(lines + [""]))

    def arguments(self):
        return ["problem.smt2"]


class Server(Program):
    """A Redis server is measured while clients, which are never preloaded, make use of it in a subclass' serve()."""

    def run(self, launcher, library, end_turn=None):
        """`end_turn` is called where serve() only idles from there on, if it does."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:  # of this run alone: others may go on beside it
            socket = os.path.join(folder, "redis.sock")
            command = [self.paths[0], "--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no",
                       "--loglevel", "warning"]
            server = launcher.start(command, library, cwd=folder, preload=self.preload(library))
            trouble, found = "", {}
            try:
                found = self.use(server, socket, Clients(self.paths, socket, library.environment(), launcher.timeout),
                                 end_turn)
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                trouble = "client: %s" % error
            finally:
                if not found:  # also on Ctrl-C
                    server.end()
            result = server.finish()
        if "failed" in result:
            return result if not trouble or result["failed"] != LAUNCH_FAILED else {"failed": trouble}
        return {"failed": trouble} if trouble else dict(result, **found)

    def use(self, server, socket, clients, end_turn):
        """What serve() found. Ends the server in the ordinary way."""
        deadline = time.monotonic() + 20
        while not os.path.exists(socket) and server.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        found = self.serve(clients, end_turn)
        clients.cli("shutdown", "nosave", check=False)
        return found


class Clients:
    """redis-benchmark and redis-cli, at a socket."""

    def __init__(self, paths, socket, environment, timeout):
        self.paths, self.socket = paths, socket
        self.options = {"env": environment, "stderr": subprocess.DEVNULL, "timeout": timeout}

    def benchmark(self, *arguments):
        subprocess.run([self.paths[1], "-s", self.socket] + list(arguments), check=True, stdout=subprocess.DEVNULL,
                       **self.options)

    def cli(self, *arguments, check=True, stdin=subprocess.DEVNULL):
        said = subprocess.run([self.paths[2], "-s", self.socket] + list(arguments), check=check, stdin=stdin,
                              stdout=subprocess.PIPE, **self.options)
        return said.stdout.decode(errors="replace")

    def pipe(self, path):
        with open(path, "rb") as commands:
            self.cli("--pipe", stdin=commands)


class Redis(Server):
    """The time is that which the client needs for its requests."""

    name, needs = "redis", ("redis-server", "redis-benchmark", "redis-cli")
    requests = ("-n", "60000", "-r", "60000", "-d", "120", "-P", "16", "-q",
                "-t", "set,get,incr,lpush,rpush,lpop,sadd,hset,spop,zadd,lrange_100")

    def serve(self, clients, _):
        begin = time.monotonic()
        clients.benchmark(*self.requests)
        return {"time": time.monotonic() - begin}


PROGRAMS = (Redis, Python, Gcc, Clang, Lua, Ruby, Sqlite, Ghostscript, Rocksdb, Z3)


# ---- for questions about memory -----------------------------------------------------------------------------------


class RedisExpiry(Server):
    """A cache loses four fifths of its keys, half of them deleted, half of them expired, and idles."""

    name, needs = "redis, 4 of 5 keys expire", Redis.needs
    keys, least, doublings, room_mib = 200000, 16, 7, 400  # values of 16 bytes to 2 KiB, log-uniform
    idles, samples_per_second = True, 5

    def write(self):
        draw = random.Random(5)
        sizes = [int(self.least * 2 ** (self.doublings * draw.random())) for _ in range(self.keys)]
        lost = set(draw.sample(range(self.keys), self.keys // 5 * 4))
        self.kept, self.kept_bytes = self.keys - len(lost), sum(sizes[i] for i in range(self.keys) if i not in lost)
        letters = "0123456789abcdef" * (self.least << self.doublings >> 4)
        self.fill = self.file("fill.txt", "".join("SET key:%d %s\r\n" % (i, letters[:size])
                                                  for i, size in enumerate(sizes)))
        self.lose = self.file("lose.txt", "".join(("DEL key:%d\r\n" if i % 2 else "PEXPIRE key:%d 1\r\n") % i
                                                  for i in sorted(lost)))

    def serve(self, clients, end_turn):
        process = int(re.search(r"process_id:(\d+)", clients.cli("info", "server")).group(1))
        clients.pipe(self.fill)
        full = memory_of(process)
        clients.pipe(self.lose)
        deadline = time.monotonic() + 30  # the server finds what has expired little by little
        while int(clients.cli("dbsize")) != self.kept:
            if time.monotonic() > deadline:
                raise ValueError("%s keys instead of %d" % (clients.cli("dbsize").strip(), self.kept))
            time.sleep(0.1)
        end_turn()
        samples = [memory_of(process)["VmRSS"]]
        for _ in range(self.idle_seconds * self.samples_per_second):
            time.sleep(1.0 / self.samples_per_second)
            samples.append(memory_of(process)["VmRSS"])
        live = self.kept_bytes / 1048576.0
        return {"figures": {"rss_full_mib": full["VmRSS"], "rss_highest_mib": memory_of(process)["VmHWM"],
                            "rss_idle_end_mib": samples[-1], "live_idle_end_mib": live,
                            "excess_mean_mib": statistics.fmean(samples) - live}}


def memory_of(process):
    """MiB, by the names of /proc/PID/status."""
    with open("/proc/%d/status" % process, encoding="utf-8") as f:
        return {name: int(kib) / 1024.0 for name, kib in re.findall(r"^(Vm\w+):\s+(\d+) kB$", f.read(), re.M)}


class Nothing(Program):
    name, needs = "start of true", ("true",)


class PythonStart(Program):
    name, needs, environment = "start of python3", ("python3",), {"PYTHONDONTWRITEBYTECODE": "1"}

    def arguments(self):
        return ["-c", "1"]


class NodeStart(Program):
    name, needs = "start of node", ("node",)

    def arguments(self):
        return ["-e", "1"]


def memory_programs(idle):
    """Those that idle, and the others."""
    cache = RedisExpiry()
    cache.idle_seconds = idle
    return [cache], [Nothing(), PythonStart(), NodeStart()]
