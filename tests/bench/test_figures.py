#!/usr/bin/env python3
"""The statistics of bench/compare on runs whose result is known."""

import os
import sys
import threading
import time
import unittest

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "bench"))
from comparison import (exports, figures, libraries, markdown, memory_page, profiles, profiles_page,  # noqa: E402
                        running, suite)


MET, NOT_MET = profiles.MET, profiles.NOT_MET


def runs(*times, **more):
    return [dict({"time": time, "user": time, "user_s": 0.75 * time, "system_s": 0.25 * time, "rss_kb": 1000,
                  "figures": {}}, **more) for time in times]


def failed(reason="ended by SIGSEGV"):
    return {"failed": reason}


def row(name, **by_library):
    return {"name": name, "runs": by_library}


class Ratios(unittest.TestCase):
    def test_below_one_means_the_subject_is_faster(self):
        one = row("a", ours=runs(1.0, 1.0), fast=runs(2.0, 2.0), slow=runs(4.0, 4.0))
        figures.summarise_row(one, "ours", ["fast", "slow"])
        self.assertEqual(one["ratios"]["fast"]["time"]["median"], 0.5)
        self.assertEqual(one["ratios"]["slow"]["time"]["median"], 0.25)
        self.assertEqual(one["best"]["time"], "fast")
        self.assertEqual(figures.best_ratio(one)["median"], 0.5)

    def test_operations_per_second_become_time(self):
        """More operations per second are less time."""
        class Stub:
            def run(self, command, library):
                return {"wall_s": 1.0, "user_s": 0.5, "system_s": 0.0, "rss_kb": 1,
                        "output": '{"ops_per_s": 500000000, "ops": 1000000}\n'}
        result = running.run_row(suite.Row("a", "a", ["a"]), None, Stub())
        self.assertEqual((result["time"], result["user"]), (2.0, 500.0))

    def test_pairs_are_by_round_and_leave_out_failures(self):
        ours = runs(1.0, 10.0) + [failed()] + runs(3.0)
        theirs = runs(2.0, 20.0, 5.0) + [failed()]
        self.assertEqual(figures.pairs(ours, theirs, "time"), [0.5, 0.5])

    def test_no_figure_no_ratio(self):
        self.assertEqual(figures.pairs(runs(1.0, user=0.0), runs(1.0, user=0.0), "user"), [])
        self.assertIsNone(figures.ratio_of([]))
        one = row("a", ours=runs(1.0), x=runs(1.0, user=0.0), y=runs(2.0))
        figures.summarise_row(one, "ours", ["x", "y"])
        self.assertEqual((one["best"]["time"], one["best"]["user"]), ("x", "y"))

    def test_a_peer_that_failed_is_not_the_best(self):
        one = row("a", ours=runs(1.0, 1.0), broken=runs(0.1) + [failed()], sound=runs(2.0, 2.0))
        figures.summarise_row(one, "ours", ["broken", "sound"])
        self.assertEqual(one["best"]["time"], "sound")
        self.assertEqual(one["libraries"]["broken"]["failures"], ["ended by SIGSEGV"])

    def test_the_floor_is_no_peer(self):
        one = row("a", ours=runs(2.0), peer=runs(4.0), floor=runs(1.0))
        figures.summarise_row(one, "ours", ["peer"], ["floor"])
        self.assertEqual(one["best"]["time"], "peer")
        self.assertEqual(one["ratios"]["floor"]["time"]["median"], 2.0)

    def test_spread(self):
        self.assertAlmostEqual(figures.describe(runs(9.0, 10.0, 12.0))["time"]["spread"], 0.3)


class Intervals(unittest.TestCase):
    def test_same_data_same_interval(self):
        values = [1.0, 1.1, 0.9, 1.2, 0.8, 1.05]
        self.assertEqual(figures.median_interval(values), figures.median_interval(list(values)))

    def test_contains_the_median_and_stays_within_the_values(self):
        low, high = figures.median_interval([0.8, 0.9, 1.0, 1.1, 5.0])
        self.assertTrue(0.8 <= low <= 1.0 <= high <= 5.0)

    def test_of_one_value(self):
        self.assertEqual(figures.median_interval([0.7]), (0.7, 0.7))

    def test_tightens_with_more_rounds(self):
        few, many = figures.median_interval([0.9, 1.0, 1.1]), figures.median_interval([0.9, 1.0, 1.1] * 20)
        self.assertLess(many[1] - many[0], few[1] - few[0])


class Means(unittest.TestCase):
    def test_geometric_mean(self):
        self.assertAlmostEqual(figures.geometric_mean([0.5, 2.0]), 1.0)
        self.assertAlmostEqual(figures.geometric_mean([1.0, 2.0, 4.0]), 2.0)

    def test_against_each_peer_and_against_the_best_of_each_row(self):
        rows = [row("a", ours=runs(1.0, 1.0), x=runs(1.0, 1.0), y=runs(4.0, 4.0)),
                row("b", ours=runs(1.0, 1.0), x=runs(4.0, 4.0), y=runs(1.0, 1.0)),
                row("c", ours=runs(3.0, 3.0), x=runs(3.0, 3.0), y=runs(2.0, 2.0))]
        whole = {"rows": rows}
        figures.summarise_timings(whole, "ours", ["x", "y"])
        means = whole["geometric_means"]
        self.assertAlmostEqual(means["x"]["time"]["median"], 0.25 ** (1 / 3))
        self.assertAlmostEqual(means["y"]["time"]["median"], (0.25 * 1.5) ** (1 / 3))
        self.assertAlmostEqual(means["best of all"]["time"]["median"], 1.5 ** (1 / 3))
        self.assertEqual(means["x"]["time"]["rows"], 3)
        self.assertEqual([(one["name"], one["best"]) for one in whole["slow"]], [("c", "y")])

    def test_a_row_in_which_a_peer_never_ran_well_does_not_count_for_it(self):
        rows = [row("a", ours=runs(1.0), x=runs(2.0)), row("b", ours=runs(1.0), x=[failed()])]
        whole = {"rows": rows}
        figures.summarise_timings(whole, "ours", ["x"])
        self.assertEqual(whole["geometric_means"]["x"]["time"]["rows"], 1)
        self.assertIsNone(figures.best_ratio(rows[1]))


class Scaling(unittest.TestCase):
    def test_against_the_control_loop_of_the_same_round(self):
        rows = []
        for bench, library, times in (("control", "none", (10.0, 5.0, 5.0)), ("b", "ours", (10.0, 8.0, 10.0))):
            rows += [dict(row("%s %d" % (bench, n), **{library: runs(time, time)}), bench=bench, threads=n, group="b")
                     for n, time in zip((1, 2, 64), times)]
        rows.append(dict(row("b 64, same blocks", ours=runs(6.0, 6.0)), bench="b", threads=64, group="b", shares=True))
        whole = {"rows": rows, "threads": [1, 2, 64]}
        figures.summarise_scaling(whole, "ours", [])
        entry = whole["scaling"][0]
        self.assertEqual(entry["control"]["two"]["median"], 2.0)
        self.assertEqual(entry["libraries"]["ours"]["two"]["median"], 1.25)
        self.assertEqual(entry["libraries"]["ours"]["two_to_control"]["median"], 0.625)
        self.assertEqual(entry["libraries"]["ours"]["many"]["median"], 0.8)
        self.assertAlmostEqual(entry["libraries"]["ours"]["shares"]["median"], 8.0 / 6.0)

    def test_many_threads_share_what_two_hold(self):
        self.assertEqual(suite.sharing("alloc_test", 2, 64), "--slots 2048")
        self.assertEqual(suite.sharing("larson", 2, 64), "--blocks 31 --rounds 3200")  # as many replacements in a life
        self.assertIsNone(suite.sharing("burst", 2, 64))
        folders = {tuple(r.command[0].split("/")[1:-1]) for r in suite.scaling_rows("b", 1) if r.bench == "control"}
        self.assertEqual(folders, {("bench",), ("bench", "handover")})


class Latency(unittest.TestCase):
    def run_of(self, p999, calls=20000):
        values = {"timer_resolution_ns": 10.0, "malloc_calls": calls, "free_calls": 0, "realloc_calls": 0}
        values.update(("malloc_%s_ns" % point, p999) for point in figures.LATENCY_POINTS)
        return runs(1.0, figures=values)[0]

    def test_ratio_to_the_best_peer_of_that_percentile(self):
        whole = {"rows": [row("a", ours=[self.run_of(300.0)], x=[self.run_of(100.0)], y=[self.run_of(200.0)])]}
        figures.summarise_latency(whole, "ours", ["x", "y"])
        tail = whole["rows"][0]["latency"]["malloc"]["p999"]
        self.assertEqual((tail["median"], tail["best"]), (3.0, "x"))
        self.assertNotIn("free", whole["rows"][0]["latency"])
        self.assertEqual([one["call"] for one in whole["slow"]], ["malloc"])
        self.assertAlmostEqual(whole["geometric_mean_p999"], 3.0)

    def test_a_variant_is_held_against_the_subject_where_it_ran(self):
        whole = {"rows": [row("a", ours=[self.run_of(300.0)], x=[self.run_of(100.0)], wider=[self.run_of(600.0)]),
                          row("b", ours=[self.run_of(300.0)], x=[self.run_of(100.0)]),
                          row("c", ours=[self.run_of(300.0)], x=[self.run_of(100.0)], wider=[failed()])]}
        figures.summarise_latency(whole, "ours", ["x"], ["wider"])
        self.assertEqual(whole["rows"][0]["tails"]["wider"]["malloc"]["p999"]["median"], 2.0)
        self.assertEqual([one["tails"] for one in whole["rows"][1:]], [{}, {"wider": {}}])
        text = "\n".join(markdown.tails(whole, "ours", ["wider"]))
        self.assertIn("| a | malloc | 2.00, 2.00, 2.00 (2.00–2.00) |", text)
        self.assertIn("| c | wider FAILED 1 of 1 | – |", text)
        self.assertNotIn("| b |", text)
        self.assertEqual(markdown.tails(whole, "ours", []), [])

    def test_a_step_of_the_counter_is_no_difference(self):
        self.assertEqual(figures.latency_ratio(20.0, 10.0, 10.0), 1.0)
        self.assertEqual(figures.latency_ratio(0.0, 10.0, 10.0), 1.0)
        self.assertEqual(figures.latency_ratio(30.0, 0.0, 10.0), 3.0)

    def test_few_calls_have_no_p999(self):
        whole = {"rows": [row("a", ours=[self.run_of(300.0, 9999)], x=[self.run_of(100.0, 9999)])]}
        figures.summarise_latency(whole, "ours", ["x"])
        self.assertNotIn("p999", whole["rows"][0]["latency"]["malloc"])
        self.assertIn("p99", whole["rows"][0]["latency"]["malloc"])
        self.assertIsNone(whole["geometric_mean_p999"])


class Memory(unittest.TestCase):
    def run_of(self, *idle, **more):
        return [dict(runs(1.0)[0], rss_kb=20480, figures=dict({"rss_idle_end_mib": value}, **more)) for value in idle]

    def summarised(self, variants=(), timed=False, **by_library):
        whole = {"rows": [dict(row("a", **by_library), timed=timed)]}
        figures.summarise_memory(whole, "ours", [name for name in by_library if name not in ("ours",) + variants],
                                 list(variants))
        return whole, {measure["figure"]: measure for measure in whole["rows"][0]["measures"]}

    def test_against_the_best_peer_of_each_figure(self):
        whole, found = self.summarised(ours=self.run_of(6.0, excess_mean_mib=3.0),
                                       x=self.run_of(2.0, excess_mean_mib=4.0), y=self.run_of(3.0, excess_mean_mib=1.0))
        self.assertEqual((found[figures.IDLE]["best"], found[figures.EXCESS]["best"]), ("x", "y"))
        self.assertEqual(found[figures.IDLE]["to_best"]["ours"]["median"], 3.0)
        self.assertEqual(found[figures.IDLE]["ratios"]["y"]["median"], 2.0)
        self.assertAlmostEqual(whole["means"]["ours"]["x"][figures.EXCESS]["median"], 0.75)
        self.assertAlmostEqual(whole["means"]["ours"]["best of all"][figures.EXCESS]["median"], 3.0)

    def test_a_variant_is_judged_but_never_the_best_peer(self):
        whole, found = self.summarised(("tight",), ours=self.run_of(8.0), x=self.run_of(4.0), tight=self.run_of(1.0))
        self.assertEqual(found[figures.IDLE]["best"], "x")
        self.assertEqual(found[figures.IDLE]["to_best"]["tight"]["median"], 0.25)
        self.assertAlmostEqual(whole["means"]["tight"]["x"][figures.IDLE]["median"], 0.25)
        self.assertNotIn("tight", whole["means"]["ours"])

    def test_the_peak_is_sampled_where_the_benchmark_samples(self):
        _, found = self.summarised(ours=self.run_of(1.0, rss_highest_mib=5.0), x=self.run_of(1.0))
        self.assertEqual(found[figures.PEAK]["values"], {"ours": 5.0, "x": 20.0})

    def test_time_is_shown_where_it_is_asked_for(self):
        _, found = self.summarised(ours=self.run_of(1.0), x=self.run_of(1.0))
        self.assertNotIn("time", found)
        _, found = self.summarised(timed=True, ours=self.run_of(1.0), x=self.run_of(1.0))
        self.assertEqual(found["time"]["to_best"]["ours"]["median"], 1.0)

    def test_what_failed_or_is_nothing_has_no_ratio(self):
        _, found = self.summarised(ours=self.run_of(1.0, growth_mib=-2.0), x=[failed()],
                                   y=self.run_of(2.0, growth_mib=1.0))
        self.assertIsNone(found[figures.IDLE]["ratios"]["x"])
        self.assertEqual(found[figures.IDLE]["best"], "y")
        self.assertIsNone(found["growth_mib"]["to_best"]["ours"])
        self.assertEqual(found["growth_mib"]["values"], {"ours": -2.0, "y": 1.0})


class MemoryPage(unittest.TestCase):
    """What is said of runs whose result is known."""

    def document(self, name, rows, roles):
        libraries_said = {one: {"role": role, "file": "", "version": "1", "settings": {}} for one, role in roles.items()}
        machine = {"cpu": "x", "processors": 2, "memory_kb": 1048576, "architecture": "x", "kernel": "1", "system": "L"}
        found = {"suites": {name: {"rounds": 1, "seconds": 0.1, "idle": 20, "load": [0, 0], "huge_pages": "madvise",
                                   "not_run": [], "rows": rows}},
                 "libraries": libraries_said, "machine": machine, "date": "today", "command": "bench/compare"}
        figures.summarise(found)
        return found

    def memory(self, name, figure, timed=False, **values):
        roles = {one: "peer" for one in values}
        roles.update({one: "variant" for one in ("tight", "adaptive", "balanced") if one in values}, hakmem="subject")
        some = {one: [failed()] if value is None else runs(value, figures={figure: value}) for one, value in values.items()}
        return self.document("memory", [dict(row(name, **some), timed=timed)], roles)

    def judged(self, *given, **values):
        said = self.memory(*given, **values)
        return [(text, met) for text, met in memory_page.promises(said["suites"]["memory"], "hakmem")
                if "peak" not in text]

    def test_promises_are_of_rows_that_there_are(self):
        names = [one.name for one in suite.memory_rows("build", 1)]
        for name, figure, _, _ in memory_page.PROMISES:
            self.assertIn(name, names)
            self.assertIn(figure, memory_page.UNITS)

    def test_a_bound_in_mib_and_the_leanest_peer(self):
        found = self.judged(memory_page.BURST, figures.IDLE, hakmem=9.0, balanced=29.0, adaptive=31.0, tight=None,
                            glibc=8.0, x=10.0)
        self.assertEqual([met for _, met in found], [False, True, False, False])
        self.assertIn("RSS after idling under hakmem: 9.00 MiB, asked at most 8.00 MiB (the leanest peer's, glibc)",
                      found[0][0])
        self.assertIn("FAILED 1 of 1", found[3][0])

    def test_a_bound_by_one_peer(self):
        one = "realloc, 1 to 768 MiB"
        self.assertEqual([met for _, met in self.judged(one, "rss", True, hakmem=1.9, glibc=1.0, x=0.1)], [True])
        self.assertEqual([met for _, met in self.judged(one, "rss", True, hakmem=2.1, glibc=1.0, x=0.1)], [False])
        self.assertEqual(self.judged(one, "rss", True, hakmem=2.1, x=0.1), [])  # glibc was not there
        for peak, met in ((1.9, True), (2.1, False)):
            said = self.memory("start of true", "rss_highest_mib", hakmem=peak, glibc=1.0)["suites"]["memory"]
            self.assertEqual([is_met for _, is_met in memory_page.promises(said, "hakmem")], [met])

    def test_the_peak_over_benchmarks_and_programs(self):
        """Against the one peer that is leanest over all rows, and of each program against its own leanest."""
        def one(name, ours, x, y):
            return row(name, **{library: runs(1.0, rss_kb=kb) for library, kb in (("ours", ours), ("x", x), ("y", y))})
        roles = {"ours": "subject", "x": "peer", "y": "peer"}
        full = self.document("full", [one("a", 100, 200, 150)], roles)
        programs_too = self.document("programs", [one("p", 100, 80, 150), one("q", 100, 90, 150)], roles)
        self.assertEqual(list(memory_page.peak_promises([full])), [])
        found = list(memory_page.peak_promises([full, programs_too]))
        self.assertEqual([met for _, met in found], [True, False, True])
        self.assertIn("of 3 benchmarks and programs: 0.89", found[0][0])  # the cube root of 1/2 * 5/4 * 10/9
        self.assertIn("of p: 1.25", found[1][0])

    def test_the_section(self):
        said = self.memory(memory_page.BURST, figures.IDLE, hakmem=9.0, balanced=29.0, glibc=8.0)
        text = memory_page.section([said])
        self.assertIn("1 of 2 promises are met", text)
        self.assertIn("| burst of 610 MiB, then idle | 9.00 | 29.0 | **8.00** | 1.12 (1.12–1.12) |", text)

    def test_the_section_takes_its_own_place(self):
        page = memory_page.put_into("# Head\n", "one\n")
        self.assertIn("# Head\n\n%s\n\none\n\n%s\n" % (memory_page.BEGIN, memory_page.END), page)
        self.assertEqual(memory_page.put_into(page, "one\n"), page)
        self.assertEqual(memory_page.put_into(page + "Tail\n", "two\n"), page.replace("one", "two") + "Tail\n")


class Profiles(unittest.TestCase):
    """What the suite profiles makes of runs whose result is known."""

    def judged(self, asks=profiles.SPEED, kind=profiles.PAGE, **by_library):
        names = {name + "_alone": twin for name, twin in profiles.TWIN.items()}
        one = row("a", **{names.get(name, name): some for name, some in by_library.items()})
        one.update(asks=asks, kind=kind, bench="")
        profiles.summarise({"rows": [one]})
        return one

    def verdicts(self, **more):
        return {name: found["verdict"] for name, found in self.judged(**more)["verdicts"].items()}

    def test_speed_is_the_inverse_of_time(self):
        one = self.judged(default=runs(1.0, 1.0), balanced=runs(2.0, 2.0))
        self.assertEqual(one["verdicts"]["balanced"]["ratio"]["median"], 0.5)

    def test_the_bounds_of_the_promises(self):
        default, slower = runs(*[0.96] * 9), runs(*[1.0] * 9)
        self.assertEqual(self.verdicts(default=default, balanced=slower, adaptive=slower, tight=slower),
                         {"balanced": NOT_MET, "adaptive": NOT_MET, "tight": MET})
        self.assertEqual(self.verdicts(default=default, balanced=runs(*[0.98] * 9), tight=runs(*[1.2] * 9)),
                         {"balanced": MET, "tight": NOT_MET})

    def test_adaptive_need_only_reach_default_with_its_interval(self):
        scattered = runs(0.9, 1.1, 1.02, 1.1, 0.95)
        default = runs(*[1.0] * 5)
        self.assertEqual(self.verdicts(default=default, adaptive=scattered), {"adaptive": MET})
        self.assertEqual(self.verdicts(default=default, adaptive=runs(*[1.0] * 5), kind=profiles.WIDE),
                         {"adaptive": NOT_MET})

    def test_an_interval_that_contains_the_bound_leaves_it_open(self):
        default = runs(*[1.0] * 6)
        around, below = (runs(*[1.0 / (bound + off) for off in (-0.02, -0.01, -0.01, 0.01, 0.02, 0.02)])
                         for bound in (0.97, 0.90))
        one = self.judged(default=default, balanced=around, tight=below)
        self.assertEqual({name: found["verdict"] for name, found in one["verdicts"].items()},
                         {"balanced": profiles.OPEN, "tight": MET})
        self.assertTrue(profiles.reaches(one["verdicts"]["balanced"], profiles.SPEED))
        text = "\n".join(profiles_page.summary({"rows": [one]}))
        self.assertIn("1 of 2 promises are met, 0 are not, and 1 are open, of which the median keeps 1.", text)
        self.assertIn("Open:\n\n- a, balanced: measured 0.97 (0.9", text)
        self.assertNotIn("Not met", text)
        self.assertEqual(self.verdicts(default=default, adaptive=runs(*[0.5 + 0.2 * i for i in range(6)]),
                                       kind=profiles.WIDE), {"adaptive": profiles.OPEN})

    def with_control(self, gain, speed):
        rows = [dict(row("a", default=runs(1.0, 1.0), adaptive=runs(1.0 / speed, 1.0 / speed)), asks=profiles.SPEED,
                     kind=profiles.WIDE, bench="")]
        rows += [dict(row("a: " + name, none=runs(time, time, figures={"huge_mib": 7.0})), asks=profiles.CONTROL, kind="",
                      bench="control") for name, time in ((profiles.SMALL, gain), (profiles.HUGE, 1.0))]
        section = {"rows": rows, "idle": 0}
        profiles.summarise(section)
        self.assertEqual([one["verdicts"] for one in rows[1:]], [{}, {}])
        return rows[0]["verdicts"]["adaptive"], section

    def test_what_huge_pages_are_worth_bounds_what_is_asked_of_them(self):
        found, section = self.with_control(1.5, 1.09)
        self.assertEqual((found["asked"], found["verdict"]), (1.10, NOT_MET))  # nothing is let off where they are worth it
        text = "\n".join(profiles_page.question(section, profiles.SPEED, "madvise"))
        self.assertIn("Huge pages make the control of a 1.50 (1.50–1.50) × as fast. In huge pages when the clock stopped: "
                      "the control 7.00 MiB.", text)
        found, section = self.with_control(1.06, 1.02)
        self.assertAlmostEqual(found["asked"], 0.95 * 1.06)
        self.assertEqual(found["verdict"], MET)
        self.assertIn("| a | –, ≥ 1.01, – |", "\n".join(profiles_page.question(section, profiles.SPEED, "madvise")))
        self.assertEqual(self.with_control(1.06, 1.0)[0]["verdict"], NOT_MET)
        self.assertEqual(self.with_control(0.8, 0.94)[0]["verdict"], NOT_MET)  # whatever they cost the control

    def test_controls_run_in_the_rounds_of_their_row(self):
        begun = []

        class Stub:
            def run(self, command, library):
                begun.append((os.path.basename(command[0]), library.name, command[command.index("--huge") + 1]
                              if "--huge" in command else ""))
                return {"wall_s": 1.0, "user_s": 1.0, "system_s": 0.0, "rss_kb": 1,
                        "output": '{"ops_per_s": 1, "ops": 1}\n'}
        name = "random_free, 768 MiB"
        group = [one for one in profiles.rows("build", 0.3, 1) if one.group == name]
        chosen = profiles.libraries_of("libhakmem.so")
        found = profiles.measure(group, chosen, 1, Stub(), running.Progress(1, True))
        self.assertEqual(len(begun), profiles.run_count(group, chosen, 1))
        times = profiles.TIMES[name]
        self.assertEqual([len(one["runs"]["none"]) for one in found[1:]], [times, times])
        self.assertEqual(begun[:4], [("huge_pages", "none", "1"), ("huge_pages", "none", "0"),
                                     ("random_free", "default", ""), ("random_free", "balanced", "")])

    def test_where_learning_has_something_to_learn_only_adaptive_promises(self):
        default = runs(1.1, 1.12)
        self.assertEqual(self.verdicts(default=default, balanced=runs(1.0, 1.0), adaptive=runs(1.0, 1.0),
                                       kind=profiles.WIDE), {"balanced": None, "adaptive": MET})

    def held(self, *mib):
        return [dict(runs(1.0)[0], figures={"excess_mean_mib": one}) for one in mib]

    def test_memory_is_what_is_held_beyond_live(self):
        self.assertEqual(self.verdicts(asks=profiles.MEMORY, default=self.held(10.0, 20.0),
                                       balanced=self.held(8.0, 16.0), adaptive=self.held(8.0, 16.0),
                                       tight=self.held(5.0, 9.0)),
                         {"balanced": MET, "adaptive": NOT_MET, "tight": MET})

    def test_a_timeline_that_ran_late_does_not_compare(self):
        def lived(live, held):
            return dict(runs(1.0)[0], figures={"excess_mean_mib": held, "live_mean_mib": live})
        one = self.judged(asks=profiles.MEMORY, kind="", default=[lived(300, 100), lived(300, 100)],
                          balanced=[lived(450, 20), lived(310, 90)], tight=[lived(450, 20)] * 2)
        self.assertEqual(one["verdicts"]["balanced"]["ratio"]["median"], 0.9)
        self.assertEqual(one["verdicts"]["tight"], {"ratio": None, "asked": 0.5, "verdict": NOT_MET})

    def test_overhead_is_against_the_twin_that_does_not_learn(self):
        one = self.judged(asks=profiles.USER, kind="", balanced=runs(1.02, 1.02), balanced_alone=runs(1.0, 1.0))
        self.assertEqual(one["verdicts"]["balanced"]["verdict"], NOT_MET)
        one = self.judged(asks=profiles.USER, kind="", adaptive=runs(1.02, 1.02), adaptive_alone=runs(1.0, 1.0))
        self.assertEqual(one["verdicts"]["adaptive"]["verdict"], MET)

    def test_a_promise_is_not_met_by_failing(self):
        self.assertEqual(self.verdicts(default=runs(1.0, 1.0), balanced=runs(0.5) + [failed()], tight=[failed()]),
                         {"balanced": NOT_MET, "tight": NOT_MET})
        self.assertEqual(self.verdicts(default=[failed()], balanced=runs(1.0)), {"balanced": NOT_MET})

    def test_every_profile_is_asked_every_question_in_rows_of_its_own_name(self):
        rows = profiles.rows("build", 0.3, 1)
        self.assertEqual(len({one.name for one in rows}), len(rows))
        for asks in (profiles.SPEED, profiles.MEMORY, profiles.USER, profiles.INSTRUCTIONS):
            for profile in profiles.LEARNING:
                self.assertTrue(any(one.asks == asks and profile in one.under for one in rows), (asks, profile))
        known = {library.name for library in profiles.libraries_of("libhakmem.so")}
        self.assertEqual({name for one in rows for name in one.under}, known)

    def test_overheads_of_one_work_share_a_line(self):
        rows = []
        for name in profiles.LEARNING:
            one = self.judged(asks=profiles.USER, kind="", **{name: runs(1.25), name + "_alone": runs(1.0)})
            rows.append(dict(one, name="work, %s: %s" % (name, profiles.USER)))
        self.assertEqual(profiles_page.joined(rows), [["work", "≤ 1.01, ≤ 1.03, ≤ 1.03"] +
                                                      ["+25.00 % (+25.00 to +25.00) **not met**"] * 3])


class Exports(unittest.TestCase):
    def runs_of(self, *moves, time=1.0, rss_kb=1000):
        return [{"time": time, "user": time, "rss_kb": rss_kb, "figures": {"moves": one}} for one in moves]

    def judged(self, **by_library):
        one = dict(row("a", **by_library), exported={})
        exports.judge(one)
        return one["met"]

    def test_held_against_both_learned_runs(self):
        alike = self.runs_of(100, 100)
        good = {"moves": True, "time": True, "rss_kb": True}
        self.assertEqual(self.judged(exported=self.runs_of(109, 109), learned=alike, adaptive=alike), good)
        self.assertEqual(self.judged(exported=self.runs_of(50, 50), learned=alike, adaptive=alike), good)
        for other in ("learned", "adaptive"):
            others = {"learned": alike, "adaptive": alike}
            others[other] = self.runs_of(90, 90, time=0.9, rss_kb=940)
            self.assertEqual(self.judged(exported=alike, **others), {"moves": False, "time": False, "rss_kb": False})

    def test_nothing_is_met_by_failing(self):
        met = self.judged(exported=[failed()], learned=self.runs_of(1), adaptive=self.runs_of(1))
        self.assertEqual(set(met.values()), {False})

    def test_the_last_statistics_count(self):
        line = "hakmem:   %12d %11d %11d %11d %11d %11d %11d %11d %11d\n"
        report = ("hakmem: statistics of x (pid 1)\n" + line % (64, 1, 1, 1, 1000, 1, 1, 1, 1) +
                  "hakmem: statistics of x (pid 1) at exit\nhakmem:   heaps   2  heaps made so far\n" +
                  line % (64, 0, 0, 0, 312, 32728, 240, 30720, 0) + line % (80, 0, 0, 0, 3, 9, 5, 9, 0))
        self.assertEqual(exports.moves(report), 560)
        self.assertIsNone(exports.moves("nothing of the kind"))

    def test_the_same_export_twice_is_told(self):
        some = {name: self.runs_of(1) for name in (exports.EXPORTED, exports.LEARNED, exports.LEARNING)}
        rows = [dict(row(name, **some), exported={exports.OVERRIDE: override})
                for name, override in (("a", "C1:9"), ("b", "C1:8"), ("c", "C1:9"))]
        section = {"rows": rows}
        exports.summarise(section)
        self.assertEqual(section["alike"], ["a", "c"])


class SideBySide(unittest.TestCase):
    def measure(self, run, at_once, rounds, names="AB"):
        class Stub:
            closed = False

            def run(self, command, library):
                return run(library)

            def close(self):
                self.closed = True
        stub = Stub()
        chosen = [libraries.Library(name, "") for name in names]
        try:
            return next(running.measure_memory([suite.Row("a", command=["a"], at_once=at_once)], chosen, rounds, stub,
                                               running.Progress(rounds * len(names), True))), stub
        except KeyboardInterrupt:
            return None, stub

    def test_runs_go_on_together(self):
        meeting = threading.Barrier(4, timeout=20)

        def run(library):
            meeting.wait()
            return {"wall_s": 1.0, "user_s": 1.0, "system_s": 0.0, "rss_kb": 1, "output": ""}
        found, _ = self.measure(run, 4, 2)
        self.assertEqual({name: len(some) for name, some in found["runs"].items()}, {"A": 2, "B": 2})
        self.assertTrue(all(figures.ok(run) for some in found["runs"].values() for run in some))

    def idling(self, stub, rounds=2, names="ABCD", threads=1):
        """Two rows that idle, which are one queue."""
        rows = [suite.Row(name, command=[name], at_once=8, idles=True, threads=threads) for name in ("a", "b")]
        chosen = [libraries.Library(name, "") for name in names]
        return list(running.measure_memory(rows, chosen, rounds, stub, running.Progress(16, True)))

    def test_only_one_works_while_others_idle(self):
        working, most = set(), [0, 0]
        meeting = threading.Barrier(8, timeout=20)

        class Stub:
            def run_and_idle(self, command, library, end_turn):
                working.add(library.name)
                time.sleep(0.005)
                most[0] = max(most[0], len(working))
                working.discard(library.name)
                end_turn()
                meeting.wait()
                most[1] += 1
                return {"failed": "no"}
        found = self.idling(Stub())
        self.assertEqual(most, [1, 16])
        self.assertEqual([(one["name"], [len(runs) for runs in one["runs"].values()]) for one in found],
                         [("a", [2, 2, 2, 2]), ("b", [2, 2, 2, 2])])

    def test_none_begins_without_room(self):
        begun, most = set(), [0]

        class Stub:
            def run_and_idle(self, command, library, end_turn):
                begun.add(library.name)
                most[0] = max(most[0], len(begun))
                end_turn()
                time.sleep(0.01)
                begun.discard(library.name)
                return {"failed": "no"}
        self.idling(Stub(), threads=running.THREADS_TOGETHER // 2 + 1)
        self.assertEqual(most, [1])

    def test_a_failure_is_kept(self):
        found, _ = self.measure(lambda library: failed("no"), 1, 1, "A")
        self.assertEqual(found["runs"]["A"], [failed("no")])

    def test_a_library_that_needs_too_long_runs_once(self):
        def run(library):
            seconds = running.PATIENCE_SECONDS + 1 if library.name == "A" else 1.0
            return {"wall_s": seconds, "user_s": 1.0, "system_s": 0.0, "rss_kb": 1, "output": ""}
        found, _ = self.measure(run, 1, 3)
        self.assertEqual({name: len(some) for name, some in found["runs"].items()}, {"A": 1, "B": 3})

    def test_an_interruption_ends_what_is_going_on(self):
        def run(library):
            raise KeyboardInterrupt
        found, stub = self.measure(run, 1, 1, "A")
        self.assertEqual((found, stub.closed), (None, True))

    def test_no_more_at_once_than_memory_allows(self):
        at_once = [running.runs_at_once(suite.Row("a", at_once=16, room_mib=room), 8000) for room in (0, 100, 500, 9000)]
        self.assertEqual(at_once, [16, 16, 9, 1])


class Rounds(unittest.TestCase):
    def test_libraries_take_turns_at_being_first(self):
        order = []

        class Stub:
            def run(self, command, library):
                order.append(library.name)
                return {"wall_s": 1.0, "user_s": 1.0, "system_s": 0.0, "rss_kb": 1, "output": ""}
        chosen = [libraries.Library(name, "") for name in "ABC"]
        running.measure_group([suite.Row("a", command=["a"])], chosen, None, 3, Stub(), running.Progress(9, True))
        self.assertEqual("".join(order), "ABCBCACAB")

    def test_a_library_may_be_asked_about_some_rows_only(self):
        some, everywhere = libraries.Library("some", ""), libraries.Library("everywhere", "")
        some.rows = suite.BEYOND_CEILINGS
        rows = suite.bench_rows("build", 1, latency=True)
        found = [row.name for row in rows if len(running.libraries_of(row, [some, everywhere])) == 2]
        self.assertEqual(found, list(suite.BEYOND_CEILINGS))
        self.assertEqual([name for name in found if "burst of 1000" not in name and "burst of 5000" not in name], [])
        self.assertEqual(running.run_count(rows, [some, everywhere], 1), len(rows) + len(found))

    def test_a_library_that_hangs_is_not_started_again(self):
        started = []

        class Stub:
            def run(self, command, library):
                started.append(library.name)
                return {"failed": "no end within 1 s"}
        rows = running.measure_group([suite.Row("a", command=["a"])], [libraries.Library("A", "")], None, 3, Stub(),
                                     running.Progress(3, True))
        self.assertEqual(started, ["A"])
        self.assertEqual(len([run for run in rows[0]["runs"]["A"] if "failed" in run]), 3)


class Text(unittest.TestCase):
    def test_numbers(self):
        shown = [markdown.number(value) for value in (0.456, 1.0, 12.34, 123.4)]
        self.assertEqual(shown, ["0.46", "1.00", "12.3", "123"])

    def test_every_program_of_the_folder_stands_in_the_table(self):
        folder = os.path.join(ROOT, "bench")
        sources = set()
        for name in os.listdir(folder):
            if name.endswith(".c"):
                with open(os.path.join(folder, name), encoding="utf-8") as f:
                    if "int main(" in f.read():
                        sources.add(name[:-2])
        self.assertEqual(sources - {"launch", "control", "huge_pages"}, {row[1] for row in suite.TABLE + suite.MEMORY_TABLE})

    def test_names_in_the_table_are_unique(self):
        names = [row[0] for row in suite.TABLE]
        self.assertEqual(len(names), len(set(names)))
        names = [row.name for row in suite.memory_rows("build", 1)]
        self.assertEqual(len(names), len(set(names)))
        self.assertLessEqual(set(suite.TIMED), set(names))

    def test_figures_with_their_unit(self):
        shown = [markdown.measured(*given) for given in ((2.5, "MiB"), (-12.34, "MiB"), (610.04, "MiB"), (40.0, ""),
                                                         (1.5, "×"))]
        self.assertEqual(shown, ["2.50 MiB", "-12.3 MiB", "610 MiB", "40", "1.50 ×"])


if __name__ == "__main__":
    unittest.main()
