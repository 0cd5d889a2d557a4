"""The suite exports: does a program that is given back what was learned of it behave as it did when it was learned?

Each program runs once under Adaptive and exports its profile (HAKMEM_LEARN_EXPORT). Then three runs make a round:
Adaptive, which learns from the beginning each time; the export with the learners at work still, which begins where that
ended; and the export alone. Neither of the first two is the steady state by itself: the one has still to learn, and to the other
what was learned is a ceiling. So the export is held against both. The statistics at exit tell how often the thread
caches were refilled and flushed."""

import os
import re
import statistics

from comparison import figures, programs, running
from comparison.libraries import Library
from comparison.suite import Row

LEARNING, LEARNED, EXPORTED = "adaptive", "learned", "exported"
SETTINGS = {
    LEARNING: {"HAKMEM_PROFILE": "adaptive"},
    LEARNED: {"HAKMEM_ALLOC_LEARN": "1", "HAKMEM_MEM_LEARN": "1", "HAKMEM_LEARN_ADVANCED": "1"},
    EXPORTED: {},
}
COUNTED = {"HAKMEM_STATS_ENABLE": "1", "HAKMEM_STATS_INTERVAL_SEC": "0"}
PROGRAMS = (programs.Redis, programs.Python, programs.Clang)
OVERRIDE = "HAKMEM_TINY_TLS_CLASS_OVERRIDE"

# How much more of it than either learned run the export may need. As to time, the interval of the ratio has to reach 1.
ALLOWED = {"moves": 1.10, "rss_kb": 1.05}


def moves(report):
    """Refills and flushes of all bins, in the last statistics that a process has printed; None if it printed none."""
    last = report.rpartition("hakmem: statistics of ")[2]
    columns = [line.split()[1:] for line in last.splitlines() if re.match(r"hakmem:\s+\d+(\s+\d+){8}$", line)]
    return sum(int(one[4]) + int(one[6]) for one in columns) if columns else None


class Counted:
    """A program that also says how much its caches moved."""

    def __init__(self, program):
        self.program = program
        self.name = program.name

    def prepare(self, folder):
        self.program.prepare(folder)

    def run(self, launcher, library):
        result = self.program.run(launcher, library)
        if "failed" in result:
            return result
        count = moves(result.get("errors", ""))
        return {"failed": "no statistics"} if count is None else dict(result, figures={"moves": count})


def rows():
    return [Row(program.name, program=Counted(program())) for program in PROGRAMS]


def libraries_of(path):
    """The export is the subject. Its settings are one program's, so they stand with that program's row."""
    chosen = []
    for name in (EXPORTED, LEARNED, LEARNING):
        library = Library(name, path, "subject" if name == EXPORTED else "variant")
        library.settings.update(SETTINGS[name])
        chosen.append(library)
    return chosen


def settings_of(path):
    """A profile file."""
    with open(path, encoding="utf-8") as f:
        lines = [line.strip() for line in f]
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def export(row, path, launcher, folder):
    """(settings, "") or (None, what went wrong)."""
    library = Library(LEARNING, path)
    written = os.path.join(folder, "learned.env")
    library.settings.update(SETTINGS[LEARNING], HAKMEM_LEARN_EXPORT=written, **COUNTED)
    result = row.program.run(launcher, library)
    if "failed" in result:
        return None, result["failed"]
    if not os.path.isfile(written):
        return None, "no export"
    settings = settings_of(written)
    os.unlink(written)
    return settings, ""


def with_settings(library, exported):
    chosen = Library(library.name, library.path, library.role)
    chosen.settings.update({} if library.name == LEARNING else exported)
    chosen.settings.update(SETTINGS[library.name], **COUNTED)
    return chosen


def measure(row, chosen, rounds, launcher, progress, folder):
    exported, trouble = export(row, chosen[0].path, launcher, folder)
    if trouble:
        failed = {library.name: [{"failed": trouble}] for library in chosen}
        return dict(row.described(), runs=failed, exported={})
    under = [with_settings(library, exported) for library in chosen]
    found = running.measure_group([row], under, None, rounds, launcher, progress)[0]
    return dict(found, exported=exported)


# ---- what follows from the runs -----------------------------------------------------------------------------------


def move_ratios(ours, theirs):
    values = [(a["figures"]["moves"], b["figures"]["moves"]) for a, b in zip(ours, theirs)
              if figures.ok(a) and figures.ok(b)]
    return [a / b for a, b in values if a > 0 and b > 0]


def as_good(ratio, figure):
    if ratio is None:
        return False
    return ratio["low"] <= 1.0 if figure == "time" else ratio["median"] <= ALLOWED[figure]


def judge(row):
    """Adds `to`: ratios of the export to each of the other two, and `met`: by question, whether it does as well as
    both."""
    runs = row["runs"]
    row["libraries"] = {name: figures.describe(some) for name, some in runs.items()}
    row["moves"] = {name: statistics.median(run["figures"]["moves"] for run in some if figures.ok(run))
                    for name, some in runs.items() if any(figures.ok(run) for run in some)}
    row["to"] = {}
    for name in (LEARNED, LEARNING):
        found = {figure: figures.ratio_of(figures.pairs(runs[EXPORTED], runs[name], figure))
                 for figure in ("time", "rss_kb")}
        found["moves"] = figures.ratio_of(move_ratios(runs[EXPORTED], runs[name]))
        row["to"][name] = found
    row["met"] = {figure: all(as_good(row["to"][name][figure], figure) for name in row["to"])
                  for figure in ("moves", "time", "rss_kb")}


def summarise(section):
    """Adds to the section as well which programs have the same export as another."""
    for row in section["rows"]:
        judge(row)
    overrides = [row["exported"].get(OVERRIDE, "") for row in section["rows"]]
    section["alike"] = [row["name"] for row, one in zip(section["rows"], overrides) if overrides.count(one) > 1]
