"""The rows of the tables: which benchmark, with which options, with how many threads, and in which suite."""

import os

from comparison import programs


class Row:
    """One line of a table. `group`: rows that run in the same rounds, one after the other. `bench` is the name of a
    program below build/bench; `program` a real program of programs.py. Exactly one of command and program is set.
    `at_once`: how many runs may go on side by side, if the machine has `room_mib` for each; `idles`: it says when it only
    idles from there on. `timed`: a row about memory that asks for time as well. `timeout`: in seconds, if not as for the
    others. `shares`: its threads hold no more blocks in all than two threads of the same group do."""

    def __init__(self, name, bench="", command=None, program=None, threads=1, group=None, floor=False, at_once=1,
                 room_mib=0, idles=False, timed=False, timeout=None, shares=False):
        self.name, self.bench, self.command, self.program = name, bench, command, program
        self.threads, self.group, self.floor = threads, group or name, floor
        self.at_once, self.room_mib, self.idles, self.timed, self.timeout = at_once, room_mib, idles, timed, timeout
        self.shares = shares

    def described(self):
        """The part of a document that does not come from runs. A benchmark's folder is one machine's."""
        command = [self.bench] + self.command[1:] if self.bench else self.command or []
        return {"name": self.name, "bench": self.bench, "command": command, "threads": self.threads,
                "group": self.group, "unit": "ns per operation" if self.bench else "seconds", "timed": self.timed,
                "shares": self.shares}


QUICK = "quick"
FLOOR = "floor"  # the stub allocator is a fair bound here: no blocks change threads, or few
SCALING = "scaling"
HANDOVER = "handover"  # blocks change threads, first in, first out: scaling is judged by handing them over alone

# name in the table, program, options, threads, marks
TABLE = (
    ("random_mixed", "random_mixed", "", 1, (QUICK, FLOOR, SCALING)),
    ("larson, 1 thread", "larson", "", 1, (QUICK, FLOOR, SCALING)),
    ("larson, 2 threads", "larson", "", 2, ()),
    ("larson, 8 threads", "larson", "", 8, (QUICK, FLOOR)),
    ("mid_large, 8 KiB", "mid_large", "", 1, (QUICK, FLOOR, SCALING)),
    ("mid_large, 2 to 32 KiB", "mid_large", "--min-size 2048 --max-size 32768", 1, (FLOOR,)),
    ("producer_consumer, one by one", "producer_consumer", "--batch 1", 2, (QUICK, SCALING, HANDOVER)),
    ("producer_consumer, batches of 100", "producer_consumer", "--batch 100", 2, (SCALING, HANDOVER)),
    ("many_to_one", "many_to_one", "", 4, (SCALING, HANDOVER)),
    ("burst of 25", "burst", "--width 25 --order 1", 1, ()),
    ("burst of 100", "burst", "--width 100 --order 1", 1, (SCALING,)),
    ("burst of 1000", "burst", "--width 1000 --order 1", 1, (QUICK,)),
    ("burst of 5000", "burst", "--width 5000 --order 1", 1, ()),
    ("burst of 1000, oldest first", "burst", "--width 1000 --order 0", 1, ()),
    ("burst of 1000, shuffled", "burst", "--width 1000 --order 2", 1, ()),
    ("burst of 5000, shuffled", "burst", "--width 5000 --order 2", 1, ()),
    ("thread_churn", "thread_churn", "", 2, (QUICK, SCALING)),
    ("false_sharing, active", "false_sharing", "--mode 0", 2, (SCALING,)),
    ("false_sharing, passive", "false_sharing", "--mode 1", 2, (SCALING,)),
    ("realloc_growth, arrays", "realloc_growth", "", 1, (QUICK,)),
    ("realloc_growth, vectors", "realloc_growth", "--vectors 1000", 1, ()),
    ("calloc_large", "calloc_large", "", 1, (QUICK,)),
    ("aligned", "aligned", "", 1, ()),
    ("size_sweep", "size_sweep", "", 1, (QUICK,)),
    ("interpreter", "interpreter", "", 1, (QUICK,)),
    ("large_loop", "large_loop", "", 1, (QUICK,)),
    ("large_loop, pages touched", "large_loop", "--touch-pages 1", 1, ()),
    ("server_sessions, 1 thread", "server_sessions", "", 1, (SCALING,)),
    ("server_sessions, 2 threads", "server_sessions", "", 2, ()),
    ("random_free", "random_free", "", 1, ()),
    ("mixed_lifetimes", "mixed_lifetimes", "", 2, (SCALING,)),
    ("alloc_test", "alloc_test", "", 1, (FLOOR, SCALING)),
    ("xmalloc", "xmalloc", "", 2, (QUICK, SCALING)),
    ("rss_1g", "rss_1g", "--seconds 6", 1, ()),  # a timeline: in less it cannot grow as it should
)
SCALING_THREADS = (1, 2, 64)
# Bursts wider than Default's ceiling, where learning has something to learn: what does it do to the longest calls?
BEYOND_CEILINGS = tuple(name for name, program, options, _, _ in TABLE
                        if program == "burst" and int(options.split()[1]) >= 1000)
# How many blocks each thread holds by itself, by option. Larson's threads live for so many rounds over theirs: they shall
# not become shorter-lived when they hold fewer.
POPULATIONS = {"larson": ("--blocks", 1000, ("--rounds", 100)), "mid_large": ("--slots", 256, None),
               "server_sessions": ("--sessions", 512, None), "mixed_lifetimes": ("--slots", 1024, None),
               "alloc_test": ("--slots", 65536, None)}

# How many runs of a row go on side by side. A process that sleeps does not disturb another, and has worked when its turn
# was (running.Turns); of those that work all the time there are no more than leave each its pace on two processors.
IDLING, WORKING, HARDLY_WORKING, STARTING = 48, 2, 12, 2
MIXED = "--min-size 16 --max-size 32768"
# name in the table, program, options, threads, runs at once, the MiB that one takes at most
MEMORY_TABLE = (
    ("burst of 610 MiB, then idle", "idle_burst", "", 4, IDLING, 700),
    ("burst of 610 MiB, 1 block in 20 survives", "idle_burst", "--survivors 20", 4, IDLING, 700),
    ("burst of 512 byte blocks", "idle_burst", "--min-size 512 --max-size 512", 4, IDLING, 800),
    ("burst of 512 byte blocks, 1 in 20 survives", "idle_burst", "--min-size 512 --max-size 512 --survivors 20", 4,
     IDLING, 800),
    ("1,000 threads, 64 KiB each", "idle_burst", "--thread-kib 64 " + MIXED, 1000, IDLING, 300),
    ("1,000 threads, 1 MiB each", "idle_burst", "--thread-kib 1024 " + MIXED, 1000, IDLING, 1400),
    ("64 threads, 4 MiB each", "idle_burst", "--thread-kib 4096 " + MIXED, 64, IDLING, 500),
    ("session_days", "session_days", "--seconds 24", 2, HARDLY_WORKING, 200),  # so that a day is longer than a decay
    ("rss_1g", "rss_1g", "--seconds 6", 1, WORKING, 1300),
    ("map_lines", "map_lines", "", 1, 1, 1000),
    ("realloc, 1 to 768 MiB", "realloc_growth", "--arrays 1 --step-kib 1024 --max-mib 768 --sparse 1 --ops 768", 1, 1,
     1600),
    ("500 tiny processes", "tiny_processes", "", 1, 1, 500),
)
TIMED = {"realloc, 1 to 768 MiB": 30.0}  # seconds after which it is too long; glibc needs 0.01


def bench_command(folder, program, options, threads, seconds):
    command = [os.path.join(folder, program)] + options.split() + ["--threads", str(threads), "--json"]
    return command if "--seconds" in options else command + ["--seconds", "%g" % seconds]


def bench_rows(build, seconds, quick=False, latency=False):
    folder = os.path.join(build, "bench", "latency") if latency else os.path.join(build, "bench")
    return [Row(name, program, bench_command(folder, program, options, threads, seconds), threads=threads,
                floor=FLOOR in marks)
            for name, program, options, threads, marks in TABLE if not quick or QUICK in marks]


def sharing(program, two, many):
    """Options with which `many` threads hold as many blocks in all as `two` do without. None: there are none."""
    if program not in POPULATIONS:
        return None
    option, count, inverse = POPULATIONS[program]
    options = "%s %d" % (option, max(1, count * two // many))
    return options if inverse is None else "%s %s %d" % (options, inverse[0], inverse[1] * many // two)


def scaling_rows(build, seconds):
    """For each threaded benchmark a group: a control that allocates nothing, and the benchmark, each with few, two and many
    threads; and with many that hold no more blocks in all than two."""
    folder = os.path.join(build, "bench")
    _, two, many = SCALING_THREADS
    rows = []
    for name, program, options, _, marks in TABLE:
        if SCALING not in marks:
            continue
        group = name.replace(", 1 thread", "")
        control = (os.path.join(folder, "handover"), program, options) if HANDOVER in marks else (folder, "control", "")
        for bench, (place, source, chosen) in (("control", control), (program, (folder, program, options))):
            rows += [Row("%s, %s %d" % (group, bench, threads), bench,
                         bench_command(place, source, chosen, threads, seconds), threads=threads, group=group,
                         floor=FLOOR in marks)
                     for threads in SCALING_THREADS]
        shared = sharing(program, two, many)
        if shared:
            rows.append(Row("%s, %s %d, same blocks" % (group, program, many), program,
                            bench_command(folder, program, "%s %s" % (options, shared), many, seconds), threads=many,
                            group=group, floor=FLOOR in marks, shares=True))
    return rows


def memory_rows(build, idle):
    folder = os.path.join(build, "bench")
    rows = []
    for name, program, options, threads, at_once, room_mib in MEMORY_TABLE:
        command = [os.path.join(folder, program)] + options.split() + ["--threads", str(threads), "--json"]
        command += ["--idle", "%d" % idle] if program == "idle_burst" else []
        rows.append(Row(name, program, command, threads=threads, at_once=at_once, room_mib=room_mib,
                        idles=program == "idle_burst", timed=name in TIMED, timeout=TIMED.get(name)))
    idling, starting = ([Row(program.name, program=program, at_once=IDLING if program.idles else STARTING,
                             room_mib=program.room_mib, idles=program.idles) for program in some]
                        for some in programs.memory_programs(idle))
    return [row for row in rows if row.idles] + idling + [row for row in rows if not row.idles] + starting
