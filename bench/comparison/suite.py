"""The rows of the tables: which benchmark, with which options, with how many threads, and in which suite."""

import os


class Row:
    """One line of a table. `group`: rows that run in the same rounds, one after the other. `bench` is the name of a
    program below build/bench; `program` a real program of programs.py. Exactly one of command and program is set."""

    def __init__(self, name, bench="", command=None, program=None, threads=1, group=None, floor=False):
        self.name, self.bench, self.command, self.program = name, bench, command, program
        self.threads, self.group, self.floor = threads, group or name, floor

    def described(self):
        """The part of a document that does not come from runs. A benchmark's folder is one machine's."""
        command = [self.bench] + self.command[1:] if self.bench else self.command or []
        return {"name": self.name, "bench": self.bench, "command": command, "threads": self.threads,
                "group": self.group, "unit": "ns per operation" if self.bench else "seconds"}


QUICK = "quick"
FLOOR = "floor"  # the stub allocator is a fair bound here: no blocks change threads, or few
SCALING = "scaling"

# name in the table, program, options, threads, marks
TABLE = (
    ("random_mixed", "random_mixed", "", 1, (QUICK, FLOOR, SCALING)),
    ("larson, 1 thread", "larson", "", 1, (QUICK, FLOOR, SCALING)),
    ("larson, 2 threads", "larson", "", 2, ()),
    ("larson, 8 threads", "larson", "", 8, (QUICK, FLOOR)),
    ("mid_large, 8 KiB", "mid_large", "", 1, (QUICK, FLOOR, SCALING)),
    ("mid_large, 2 to 32 KiB", "mid_large", "--min-size 2048 --max-size 32768", 1, (FLOOR,)),
    ("producer_consumer, one by one", "producer_consumer", "--batch 1", 2, (QUICK, SCALING)),
    ("producer_consumer, batches of 100", "producer_consumer", "--batch 100", 2, (SCALING,)),
    ("many_to_one", "many_to_one", "", 4, (SCALING,)),
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
    ("alloc_test", "alloc_test", "", 1, (SCALING,)),
    ("xmalloc", "xmalloc", "", 2, (QUICK, SCALING)),
    ("rss_1g", "rss_1g", "--seconds 6", 1, ()),  # a timeline: in less it cannot grow as it should
)
SCALING_THREADS = (1, 2, 64)


def bench_command(folder, program, options, threads, seconds):
    command = [os.path.join(folder, program)] + options.split() + ["--threads", str(threads), "--json"]
    return command if "--seconds" in options else command + ["--seconds", "%g" % seconds]


def bench_rows(build, seconds, quick=False, latency=False):
    folder = os.path.join(build, "bench", "latency") if latency else os.path.join(build, "bench")
    return [Row(name, program, bench_command(folder, program, options, threads, seconds), threads=threads,
                floor=FLOOR in marks)
            for name, program, options, threads, marks in TABLE if not quick or QUICK in marks]


def scaling_rows(build, seconds):
    """For each threaded benchmark a group: the control loop, which allocates nothing, and the benchmark, each with few,
    two and many threads."""
    folder = os.path.join(build, "bench")
    rows = []
    for name, program, options, _, marks in TABLE:
        if SCALING in marks:
            group = name.replace(", 1 thread", "")
            for bench, chosen in (("control", ""), (program, options)):
                rows += [Row("%s, %s %d" % (group, bench, threads), bench,
                             bench_command(folder, bench, chosen, threads, seconds), threads=threads, group=group)
                         for threads in SCALING_THREADS]
    return rows
