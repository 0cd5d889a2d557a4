"""Runs rows under libraries in interleaved rounds, and collects what was measured in a document:

    {"format": 1, "command": the command line, "date", "machine": {...},
     "libraries": {NAME: {"file", "version", "role", "settings"}},
     "suites": {SUITE: {"rounds", "seconds", "threads", "load": [before, after],
                        "not_run": [{"name", "reason"}], "rows": [
        {"name", "bench", "command", "threads", "group", "unit",
         "asks", "kind": of the suite profiles; "exported": of the suite exports,
         "runs": {NAME: [one per round:
            {"time", "user", "rss_kb", "wall_s", "user_s", "system_s", "figures": {the benchmark's own JSON}}
            or {"failed": reason}]}}]}}}

`time` is nanoseconds per operation for a benchmark, seconds for a program; `user` is the user time in the same unit.
These runs are all that is measured; figures.py adds the rest."""

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent import futures


PATIENCE_SECONDS = 5.0  # a library that needs longer for a row that sleeps nowhere is not run there again
MEMORY_PART = 0.6  # of what is available is the most that runs side by side may take together
THREADS_TOGETHER = 16000  # of such runs: half of what kernel.pid_max mostly allows
LAUNCH_FAILED = "ended without a report"


class Missing(Exception):
    """A program that a row needs is not there."""


class Launcher:
    """Runs a command under a library, by way of build/bench/launch, which says why."""

    def __init__(self, build, timeout):
        self.path = os.path.join(build, "bench", "launch")
        self.timeout = timeout
        self.closed = False
        self.runs = set()  # that have begun and not ended
        if not os.access(self.path, os.X_OK):
            raise Missing("%s is not built: cmake -S . -B build && cmake --build build" % self.path)

    def start(self, command, library, cwd=None, environment=None, preload=None):
        """The run that has begun; finish() waits for its end. It has a session of its own, so that it can be ended with
        all of its children. Its output goes to files: a pipe would be kept open by a grandchild that lives on."""
        return Run(self, command, library, cwd, environment, preload)

    def close(self):
        """Ends all runs and begins no more: those who wait for them, in threads of their own, get a failure."""
        self.closed = True
        for run in list(self.runs):
            run.end()

    def run_and_idle(self, command, library, end_turn):
        """As run(), for a program that works and then says that it idles: its turn to work ends there."""
        run = self.start(command, library)
        run.await_output()
        end_turn()
        return run.finish()

    def run(self, command, library, cwd=None, environment=None, preload=None, timeout=None):
        run = self.start(command, library, cwd, environment, preload)
        run.timeout = timeout or run.timeout
        return run.finish()


class Run:
    def __init__(self, launcher, command, library, cwd, environment, preload):
        self.launcher, self.timeout = launcher, launcher.timeout
        self.out, self.err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        self.report, child_report = os.pipe()
        chosen = library.environment()
        chosen.update(environment or {})
        path = preload if preload is not None else (os.path.abspath(library.path) if library.path else "")
        try:
            self.process = subprocess.Popen([launcher.path, str(child_report), path] + list(command), env=chosen,
                                            cwd=cwd, stdin=subprocess.DEVNULL, stdout=self.out, stderr=self.err,
                                            pass_fds=(child_report,), start_new_session=True)
        finally:
            os.close(child_report)
        launcher.runs.add(self)
        if launcher.closed:
            self.end()

    def end(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.launcher.runs.discard(self)

    def await_output(self):
        """Until the command has written something or ended. Its offset in the file is not touched."""
        deadline = time.monotonic() + self.timeout
        while not os.pread(self.out.fileno(), 1, 0) and self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)

    def finish(self):
        """{"failed": reason}, or {"wall_s", "user_s", "system_s", "rss_kb", "output", "errors"}."""
        try:
            self.process.wait(timeout=self.timeout)
        except subprocess.TimeoutExpired:
            return {"failed": "no end within %g s" % self.timeout}
        finally:
            self.end()  # also on Ctrl-C, and whatever the command left running
            with os.fdopen(self.report, "rb") as report:
                said = report.read().decode()
            output, errors = self.texts()
        if not said:
            return {"failed": last_line(errors) or LAUNCH_FAILED}
        cost = json.loads(said)
        reason = failure(cost, errors)
        if reason:
            return {"failed": reason}
        return {"wall_s": cost["wall_s"], "user_s": cost["user_s"], "system_s": cost["system_s"],
                "rss_kb": cost["rss_peak_kb"], "output": output, "errors": errors}

    def texts(self):
        result = []
        for stream in (self.out, self.err):
            stream.seek(0)
            result.append(stream.read().decode(errors="replace"))
            stream.close()
        return result


def last_line(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""


def failure(cost, errors):
    """Why a run does not count; "" if it does."""
    if cost["signal"]:
        return "ended by " + signal.Signals(cost["signal"]).name
    if cost["exit"]:
        return ("exit code %d: %s" % (cost["exit"], last_line(errors))).rstrip(": ")
    # The loader only warns about what it cannot load, and the run would measure the wrong allocator.
    if "cannot be preloaded" in errors:
        return "cannot be preloaded"
    return ""


def json_line(output):
    """The line that a benchmark prints with --json, or None."""
    for line in output.splitlines():
        if line.startswith("{") and "ops_per_s" in line:
            try:
                return json.loads(line)
            except ValueError:
                return None
    return None


def run_row(row, library, launcher, end_turn=None):
    """One run of one row: what the document holds of it. `end_turn` is for a row that idles (Turns)."""
    if row.program:
        result = row.program.run(launcher, library, *([end_turn] if row.idles else []))
    elif row.idles:
        result = launcher.run_and_idle(row.command, library, end_turn)
    else:
        result = launcher.run(row.command, library, **({"timeout": row.timeout} if row.timeout else {}))
    if "failed" in result:
        return result
    result.pop("errors", None)
    figures = json_line(result.pop("output", ""))
    if row.bench and figures is None:
        return {"failed": "no JSON line with ops_per_s"}
    if figures is not None:
        if not figures["ops_per_s"] > 0 or not figures.get("ops", 0) > 0:
            return {"failed": "no operations"}
        result["time"] = 1e9 / figures["ops_per_s"]
        result["user"] = result["user_s"] * 1e9 / figures["ops"]
        result["figures"] = figures
    else:
        result.setdefault("time", result["wall_s"])
        result["user"] = result["user_s"]
        result.setdefault("figures", {})  # a program may have some of its own
    return result


class Progress:
    """One line on stderr: rewritten in place on a terminal, otherwise a new one at most every ten seconds."""

    def __init__(self, total, quiet):
        self.total, self.quiet, self.done = total, quiet, 0
        self.begin, self.said = time.monotonic(), -1e9
        self.terminal = sys.stderr.isatty()

    def step(self, text, count=1):
        now = time.monotonic()
        left = (now - self.begin) / self.done * (self.total - self.done) if self.done else 0.0
        if not self.quiet and (self.terminal or now - self.said >= 10.0):
            self.said = now
            line = "[%d/%d] %s%s" % (self.done + 1, self.total, text, ", %s left" % spoken(left) if self.done else "")
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write("\r\x1b[K" + line[:width] if self.terminal else line + "\n")
            sys.stderr.flush()
        self.done += count

    def note(self, text):
        if not self.quiet:
            sys.stderr.write(("\r\x1b[K" if self.terminal else "") + text + "\n")

    def finish(self):
        if self.terminal and not self.quiet:
            sys.stderr.write("\r\x1b[K")


def spoken(seconds):
    minutes = int(seconds + 0.5) // 60
    return "%d h %d min" % divmod(minutes, 60) if minutes >= 60 else "%d min %d s" % divmod(int(seconds + 0.5), 60)


def libraries_of(row, libraries):
    """The floor runs only where it is a bound, and who names rows only there."""
    return [library for library in libraries if (library.role != "floor" or row.floor) and
            (library.rows is None or row.name in library.rows)]


def run_count(rows, libraries, rounds):
    return rounds * sum(1 if row.bench == "control" else len(libraries_of(row, libraries)) for row in rows)


def groups_of(rows):
    groups = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    return list(groups.values())


def measure_group(rows, libraries, control, rounds, launcher, progress):
    """Runs the rows of one group: A B C, B C A, C A B ... so that no library is always the first, and what disturbs the
    machine for a while disturbs all. A library that did not end in time is not given the chance again."""
    results = {row.name: {} for row in rows}
    hung = set()
    for round_number in range(rounds):
        turn = round_number % len(libraries)
        order = [(control, row) for row in rows if row.bench == "control"]
        order += [(library, row) for library in libraries[turn:] + libraries[:turn] for row in rows
                  if row.bench != "control" and library in libraries_of(row, libraries)]
        for library, row in order:
            progress.step("%s, round %d of %d, %s" % (row.name, round_number + 1, rounds, library.name))
            if (library.name, row.name) in hung:
                result = {"failed": "not run again"}
            else:
                result = run_row(row, library, launcher)
            if "failed" in result and (library.name, row.name) not in hung:
                progress.note("%s, %s: FAILED: %s" % (row.name, library.name, result["failed"]))
                if result["failed"].startswith("no end"):
                    hung.add((library.name, row.name))
            results[row.name].setdefault(library.name, []).append(result)
    return [dict(row.described(), runs=results[row.name]) for row in rows]


def available_mib():
    with open("/proc/meminfo", encoding="utf-8") as f:
        return int(re.search(r"MemAvailable:\s+(\d+) kB", f.read()).group(1)) / 1024.0


def runs_at_once(row, memory_mib):
    """So many that others on the machine keep their memory, and nothing is squeezed."""
    return max(1, min(row.at_once, int(MEMORY_PART * memory_mib / row.room_mib) if row.room_mib else row.at_once))


class Turns:
    """Who of several runs may work while the others idle: one at a time, for slowed down by others an allocator that
    gives back by the clock would do so in the middle of the work; and none before the machine has room for it beside
    those that idle and hold what they hold."""

    def __init__(self, keep_mib):
        self.keep_mib = keep_mib  # of the machine's memory is for others
        self.working = threading.Lock()
        self.changed = threading.Condition()
        self.threads = self.runs = 0  # of the runs that have begun and not ended

    def has_room(self, row):
        return not self.runs or (available_mib() - row.room_mib > self.keep_mib and
                                 self.threads + row.threads <= THREADS_TOGETHER)

    @contextlib.contextmanager
    def of(self, row):
        """A run, from the wait for its turn to its end. It gives what ends its turn."""
        with contextlib.ExitStack() as turn:
            turn.enter_context(self.working)
            with self.changed:
                while not self.has_room(row):
                    self.changed.wait(1.0)
                self.threads, self.runs = self.threads + row.threads, self.runs + 1
            try:
                yield turn.close
            finally:
                with self.changed:
                    self.threads, self.runs = self.threads - row.threads, self.runs - 1
                    self.changed.notify()


def run_with_patience(row, library, launcher, turns, given_up):
    """A run; None for a library that has needed too long before: some need a minute where others need 10 ms."""
    if (row.name, library.name) in given_up:
        return None
    if row.idles:
        with turns.of(row) as end_turn:
            return run_row(row, library, launcher, end_turn)
    result = run_row(row, library, launcher)
    if row.at_once == 1 and (result.get("wall_s", 0) > PATIENCE_SECONDS or result.get("failed", "").startswith("no end")):
        given_up.add((row.name, library.name))
    return result


def measure_memory(rows, libraries, rounds, launcher, progress):
    """Yields the rows, which ask about memory, in their order. Each is run by all libraries in all rounds, in the order
    of measure_group(), with several runs at once; rows that idle and follow one another are one queue, so that the next
    works while those before it sleep."""
    for idles, together in itertools.groupby(rows, lambda row: row.idles):
        batches = [list(together)] if idles else [[row] for row in together]
        for batch in batches:
            at_once = max(row.at_once for row in batch) if idles else runs_at_once(batch[0], available_mib())
            yield from measure_side_by_side(batch, libraries, rounds, launcher, progress, at_once)


def measure_side_by_side(rows, libraries, rounds, launcher, progress, at_once):
    turns, given_up = Turns((1.0 - MEMORY_PART) * available_mib()), set()
    pool = futures.ThreadPoolExecutor(at_once)
    begun = []
    try:
        for row in rows:
            chosen = libraries_of(row, libraries)
            begun += [(row, library, pool.submit(run_with_patience, row, library, launcher, turns, given_up))
                      for number in range(rounds)
                      for library in chosen[number % len(chosen):] + chosen[:number % len(chosen)]]
        for row, some in itertools.groupby(begun, lambda one: one[0]):
            results = {library.name: [] for library in libraries_of(row, libraries)}
            for _, library, future in some:
                progress.step("%s, %s" % (row.name, library.name))
                result = future.result()
                results[library.name] += [result] if result else []
                if result and "failed" in result:
                    progress.note("%s, %s: FAILED: %s" % (row.name, library.name, result["failed"]))
            yield dict(row.described(), runs=results)
    except BaseException:  # Ctrl-C above all
        for _, _, future in begun:
            future.cancel()
        launcher.close()
        raise
    finally:
        pool.shutdown()
