"""The suite profiles: what each of the four profiles promises against Default, and whether it keeps it.

The libraries are one file with different settings: Default is the subject, the other profiles are variants of it, and
each of them has a twin that does not learn. The C library stands beside them where memory is the question.

A ratio is a profile's figure against Default's of the same round. Speed is the inverse of time, so it is larger where
the profile is faster; memory and overhead are smaller where it is better."""

import os
import re
import statistics

from comparison import figures, programs, running, suite
from comparison.libraries import Library

SUBJECT, LEARNING = "default", ("balanced", "adaptive", "tight")
PROFILES = (SUBJECT,) + LEARNING
TWIN = {name: name + " without learning" for name in LEARNING}
BESIDE = "glibc"

SPEED, MEMORY, USER, INSTRUCTIONS, CONTROL = "speed", "memory", "processor time", "instructions", "control"
PAGE, WIDE, PROGRAM = "page", "wide", "program"  # kinds of rows about speed

# A promise is met or not where the whole interval says so. Where the interval contains what is asked, it is open: chance
# would decide on which side the median falls.
MET, NOT_MET, OPEN = "met", "not met", "open"

# What is asked for.
PROMISED = {
    "balanced": {SPEED: 0.97, MEMORY: 0.80, USER: 1.01, INSTRUCTIONS: 1.01},
    "adaptive": {SPEED: 1.00, MEMORY: 0.70, USER: 1.03, INSTRUCTIONS: 1.03},
    "tight": {SPEED: 0.85, MEMORY: 0.50, USER: 1.03, INSTRUCTIONS: 1.03},
}
LIVE_TOLERANCE = 0.10  # of the mean of what is live, between two runs of a timeline
# To be no slower at all can never be shown by an interval that lies above 1: it has to reach 1.
INTERVAL_SUFFICES = {("adaptive", SPEED)}
# Where learning has something to learn, Adaptive has to be faster; nothing is promised of the others there.
WIDE_PROMISED = {"adaptive": 1.10}

# What huge pages are worth in random accesses is the machine's doing: a loop that allocates nothing tells (bench/huge_pages.c).
# Where it gains less than would leave room for the promise, such a share of its gain is asked. By row: options of the loop.
CONTROLS = {"random_free, 768 MiB": "--mib 768"}
HUGE, SMALL = "control with huge pages", "control with small pages"
CONTROL_SHARE = 0.95

# name, program, options, threads, kind. Bursts are wider than the default ceiling of their bin (512 of 64 bytes, 256 of
# 256, 192 of 1 KiB); the untimed sweep is long enough for a ceiling that has to grow tenfold in steps of 15 %. The heap
# of random_free is several times what the second level of any TLB reaches in pages of 4 KiB.
SWEEP = "--order 1 --sweep 8000000"
TABLE = (
    ("random_mixed", "random_mixed", "", 1, PAGE),
    ("larson, 1 thread", "larson", "", 1, PAGE),
    ("larson, 8 threads", "larson", "", 8, PAGE),
    ("mid_large, 8 KiB", "mid_large", "", 1, PAGE),
    ("burst of 600", "burst", "--width 600 " + SWEEP, 1, WIDE),
    ("burst of 1000", "burst", "--width 1000 " + SWEEP, 1, WIDE),
    ("burst of 2000", "burst", "--width 2000 " + SWEEP, 1, WIDE),
    ("burst of 5000", "burst", "--width 5000 " + SWEEP, 1, WIDE),
    ("burst of 20,000", "burst", "--width 20000 " + SWEEP, 1, WIDE),
    ("burst of 1000, 256 bytes", "burst", "--width 1000 --min-size 256 --max-size 256 " + SWEEP, 1, WIDE),
    ("burst of 500, 1 KiB", "burst", "--width 500 --min-size 1024 --max-size 1024 " + SWEEP, 1, WIDE),
    ("random_free, 768 MiB", "random_free", "--mib 768", 1, WIDE),
)
# name, program, options, threads, runs at once, the MiB that one takes at most
MEMORY_TABLE = (
    ("rss_1g", "rss_1g", "--seconds 6", 1, suite.WORKING, 1300),
    ("64 threads burst and block", "idle_burst", "--thread-kib 4096 " + suite.MIXED, 64, suite.IDLING, 500),
    ("64 threads burst and block, small blocks", "idle_burst", "--thread-kib 1024 --min-size 16 --max-size 2048", 64,
     suite.IDLING, 300),
)
# The fixed work is done in so many parts, each a pair of runs of its own. What disturbs the machine lasts longer than two
# short runs and so hits both; six pairs of whole runs left an interval of 10 %, sixty of tenths leave 1.5 %.
PARTS = 10
# Likewise the time of a benchmark. That of random_free is not divided: filling its heap takes longer than the rest.
SLICES = 3
# How many times as many rounds a row has as the command line says: more where the figures scatter more, as those of programs
# and of random_free do, of which each run gets other pages; fewer where an interval of 2 % is known to come out.
TIMES = {"random_free, 768 MiB": 2, "redis": 1.5, "clang -O2": 1.5, "rocksdb's db_bench": 1.5, "rss_1g": 0.67,
         "server_sessions": 2}
LONGER = {"random_free": 2}
# name, program, options, threads, operations by the clock's measure and under callgrind. Fixed work, or what is counted
# would differ with the speed.
OVERHEAD_TABLE = (
    ("random_mixed", "random_mixed", "", 1, 40000000, 4000000),
    ("larson, 8 threads", "larson", "", 8, 40000000, 4000000),
    ("burst of 5000, shuffled", "burst", "--width 5000 --order 2", 1, 20000000, 4000000),
    ("server_sessions", "server_sessions", "", 1, 20000000, 2000000),
)
PROGRAMS = (programs.Redis, programs.Python, programs.Clang, programs.Rocksdb)


class Callgrind(programs.Program):
    """Counts the instructions of a benchmark."""

    needs = ("valgrind.bin",)  # what valgrind, which may be a shell script around it, comes to

    def __init__(self, command):
        self.command = command

    def prepare(self, folder):
        try:
            super().prepare(folder)
        except running.Missing:
            self.paths = [programs.find_program("valgrind")]

    def run(self, launcher, library):
        result = launcher.run([self.paths[0], "--tool=callgrind", "--callgrind-out-file=" + os.devnull, "--log-fd=1"] +
                              self.command, library)
        if "failed" in result:
            return result
        counted = re.search(r"Collected : (\d+)", result.pop("output"))
        return dict(result, figures={"instructions": int(counted.group(1))}) if counted else {"failed": "no count"}


def libraries_of(path):
    """Default first."""
    chosen = []
    for name in PROFILES:
        library = Library(name, path, "subject" if name == SUBJECT else "variant")
        library.settings["HAKMEM_PROFILE"] = name
        chosen.append(library)
    for name, twin in TWIN.items():
        library = Library(twin, path, "variant")
        library.settings.update({"HAKMEM_PROFILE": name, "HAKMEM_ALLOC_LEARN": "0", "HAKMEM_MEM_LEARN": "0"})
        chosen.append(library)
    return chosen + [Library(BESIDE, "")]


class Row(suite.Row):
    """`asks` is one of the four questions, `kind` one of PAGE, WIDE and PROGRAM where it is about speed; `under` names
    the libraries that run it; `times` as many rounds as usual. A row that asks CONTROL runs under none."""

    def __init__(self, name, asks, under, kind="", times=1, **more):
        super().__init__(name, **more)
        self.asks, self.under, self.kind, self.times = asks, under, kind, times

    def described(self):
        return dict(super().described(), asks=self.asks, kind=self.kind)


def speed_rows(folder, seconds):
    for name, program, options, threads, kind in TABLE:
        longer = LONGER.get(program, 1 / SLICES)
        times = TIMES.get(name, SLICES)
        yield Row(name, SPEED, PROFILES, kind, times, bench=program, threads=threads,
                  command=suite.bench_command(folder, program, options, threads, seconds * longer))
        for control, huge in ((HUGE, 1), (SMALL, 0)) if name in CONTROLS else ():
            yield Row("%s: %s" % (name, control), CONTROL, (), times=times, bench="control", group=name,
                      command=suite.bench_command(folder, "huge_pages", "%s --huge %d" % (CONTROLS[name], huge), threads,
                                                  seconds * longer))
    for program in PROGRAMS:
        yield Row(program.name, SPEED, PROFILES, PROGRAM, TIMES.get(program.name, 1), program=program())


def memory_rows(folder, idle):
    for name, program, options, threads, at_once, room_mib in MEMORY_TABLE:
        command = [os.path.join(folder, program)] + options.split() + ["--threads", str(threads), "--json"]
        idles = program == "idle_burst"
        yield Row("%s: held beyond live" % name, MEMORY, PROFILES + (BESIDE,), times=TIMES.get(name, 1), bench=program,
                  threads=threads, command=command + (["--idle", "%d" % idle] if idles else []), at_once=at_once,
                  room_mib=room_mib, idles=idles)


def overhead_rows(folder, scale):
    """A row for each learning profile: two libraries in turn make the rounds ABBA."""
    for name, program, options, threads, ops, counted_ops in OVERHEAD_TABLE:
        command = [os.path.join(folder, program)] + options.split() + ["--threads", str(threads), "--json", "--ops"]
        for profile in LEARNING:
            under = (profile, TWIN[profile])
            yield Row("%s, %s: %s" % (name, profile, USER), USER, under, times=PARTS * TIMES.get(name, 1), bench=program,
                      threads=threads, command=command + ["%d" % max(1, scale * ops / PARTS)])
            yield Row("%s, %s: %s" % (name, profile, INSTRUCTIONS), INSTRUCTIONS, under,
                      program=Callgrind(command + ["%d" % max(1, scale * counted_ops)]))


def rows(build, seconds, idle, scale=1.0):
    """`scale`: of the fixed work."""
    folder = os.path.join(build, "bench")
    return list(speed_rows(folder, seconds)) + list(memory_rows(folder, idle)) + list(overhead_rows(folder, scale))


def chosen_for(row, chosen):
    return [library for library in chosen if library.name in row.under]


def rounds_for(row, rounds):
    """The same instructions are counted each time, or nearly so."""
    return 1 if row.asks == INSTRUCTIONS else max(1, round(rounds * row.times))


def run_count(all_rows, chosen, rounds):
    return sum(rounds_for(row, rounds) * max(1, len(chosen_for(row, chosen))) for row in all_rows)


def measure(group, chosen, rounds, launcher, progress):
    """A row and its controls. Memory side by side, because it mostly sleeps; the rest in interleaved rounds."""
    row = group[0]
    under, rounds = chosen_for(row, chosen), rounds_for(row, rounds)
    if row.asks == MEMORY:
        return list(running.measure_memory([row], under, rounds, launcher, progress))
    return running.measure_group(group, under, Library("none", "", "control"), rounds, launcher, progress)


# ---- what follows from the runs -----------------------------------------------------------------------------------


def figure_of(run, asks):
    """None for a run that failed or has no such figure."""
    if not figures.ok(run):
        return None
    if asks == SPEED:
        return 1.0 / run["time"]
    if asks == USER:  # both: their sum is exact, but the kernel divides it by its ticks, of which a short run has few
        return run["user_s"] + run["system_s"]
    return run["figures"].get("excess_mean_mib" if asks == MEMORY else "instructions")


def lived_alike(a, b):
    """A run too slow for its timeline holds much for longer: means over different lives cannot be compared."""
    if not figures.ok(a) or not figures.ok(b):
        return False
    live = [run["figures"].get("live_mean_mib", 0) for run in (a, b)]
    return max(live) - min(live) <= LIVE_TOLERANCE * max(live)


def ratios(ours, theirs, asks):
    values = [(figure_of(a, asks), figure_of(b, asks)) for a, b in zip(ours, theirs)
              if asks != MEMORY or lived_alike(a, b)]
    return [a / b for a, b in values if a is not None and b is not None and a > 0 and b > 0]


def asked(row, profile):
    """The bound of the ratio, or None where nothing is promised."""
    if row["kind"] != WIDE:
        return PROMISED[profile][row["asks"]]
    bound, gain = WIDE_PROMISED.get(profile), row.get("gain")
    return min(bound, CONTROL_SHARE * max(1.0, gain["median"])) if bound and gain else bound


def verdict_of(ratio, bound, row, profile):
    if row["asks"] == SPEED:
        worst, best = ratio["low"] - bound, ratio["high"] - bound
    else:
        worst, best = bound - ratio["high"], bound - ratio["low"]
    if (profile, row["asks"]) in INTERVAL_SUFFICES and row["kind"] != WIDE:
        worst = best
    return MET if worst >= 0 else OPEN if best >= 0 else NOT_MET


def reaches(found, asks):
    """Whether the median is where it should be."""
    return found["ratio"]["median"] >= found["asked"] if asks == SPEED else found["ratio"]["median"] <= found["asked"]


def judge(row):
    """Adds `verdicts` to a row: by profile its ratio, the bound that was asked for, and the verdict, None where nothing is
    asked; what failed on either side is not met."""
    row["verdicts"] = {}
    runs = row["runs"]
    for profile in LEARNING:
        base = TWIN[profile] if row["asks"] in (USER, INSTRUCTIONS) else SUBJECT
        if profile not in runs or base not in runs:
            continue
        ratio, bound = figures.ratio_of(ratios(runs[profile], runs[base], row["asks"])), asked(row, profile)
        sound = ratio is not None and all(figures.ok(run) for run in runs[profile] + runs[base])
        verdict = None if bound is None else verdict_of(ratio, bound, row, profile) if sound else NOT_MET
        row["verdicts"][profile] = {"ratio": ratio, "asked": bound, "verdict": verdict}


def gain_of(row, by_name):
    """What huge pages bring the control of a row, by round; None for a row that has none."""
    runs = [by_name[name]["runs"]["none"] for name in ("%s: %s" % (row["name"], one) for one in (SMALL, HUGE))
            if name in by_name]
    return figures.ratio_of(figures.pairs(*runs, "time")) if len(runs) == 2 else None


def median_of(row, name, figure):
    """Of what a benchmark says; None where it says nothing."""
    values = [run["figures"][figure] for run in row["runs"].get(name, [])
              if figures.ok(run) and figure in run["figures"]]
    return statistics.median(values) if values else None


def summarise(section):
    by_name = {row["name"]: row for row in section["rows"]}
    for row in section["rows"]:
        row["gain"] = gain_of(row, by_name)
        row["libraries"] = {name: figures.describe(runs) for name, runs in row["runs"].items()}
        judge(row)
