#!/usr/bin/env python3
"""bench/compare as a user calls it, for fractions of a second: every promised field is there, and no failure is lost.

    test_compare.py --build BUILD_FOLDER --crashing LIBRARY
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import unittest
import xml.dom.minidom

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "bench"))
from comparison import charts, exports, figures, libraries, profiles  # noqa: E402

options = argparse.Namespace()


def compare(*arguments):
    command = [sys.executable, os.path.join(ROOT, "bench", "compare"), "--build", options.build, "--quiet"]
    return subprocess.run(command + list(arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=100,
                          universal_newlines=True, check=False)


class Watching(unittest.TestCase):
    """What the benchmarks say about resident memory agrees with itself, and with what they were told to do."""

    def figures_of(self, program, *arguments):
        command = [os.path.join(options.build, "bench", program), "--json"] + list(arguments)
        said = subprocess.run(command, stdout=subprocess.PIPE, timeout=60, check=True)
        found = json.loads(said.stdout.decode().splitlines()[-1])
        self.assertAlmostEqual(found["rss_mean_mib"] - found["live_mean_mib"], found["excess_mean_mib"], 6)
        self.assertGreaterEqual(found["rss_highest_mib"], found["rss_mean_mib"])
        return found

    def test_a_timeline(self):
        found = self.figures_of("rss_1g", "--mib", "16", "--seconds", "0.4")
        self.assertGreaterEqual(found["rss_highest_mib"], found["rss_grown_mib"])
        self.assertTrue(16 <= found["live_grown_mib"] < 18, found)
        self.assertTrue(found["live_lost_mib"] < found["live_mean_mib"] < found["live_grown_mib"], found)

    def test_a_burst_and_its_survivors(self):
        found = self.figures_of("idle_burst", "--thread-kib", "8192", "--survivors", "20", "--idle", "1")
        self.assertTrue(32 <= found["live_burst_mib"] < 33, found)
        self.assertGreater(found["rss_highest_mib"], 32)
        self.assertTrue(0.8 < found["live_idle_end_mib"] < 2.6, found)  # of about 860 blocks one in 20
        self.assertAlmostEqual(found["live_mean_mib"], found["live_idle_end_mib"], 6)
        self.assertAlmostEqual(found["rss_to_live_idle_end"], found["rss_idle_end_mib"] / found["live_idle_end_mib"], 3)

    def test_days(self):
        found = self.figures_of("session_days", "--seconds", "0.4", "--sessions", "1024", "--requests", "2000")
        self.assertAlmostEqual(found["growth_mib"], found["excess_last_quarter_mib"] -
                               found["excess_first_quarter_mib"], 6)
        # Of two times 1024 sessions with 3 KiB each between a quarter and all are open.
        self.assertTrue(2 < found["live_mean_mib"] < 5.5, found)


class Compare(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def run_json(self, *arguments, **expected):
        said = compare("--json", self.path("out.json"), "--markdown", self.path("out.md"), *arguments)
        self.assertEqual(said.returncode, expected.get("status", 0), said.stderr)
        with open(self.path("out.json"), encoding="utf-8") as f:
            document = json.load(f)
        with open(self.path("out.md"), encoding="utf-8") as f:
            return document, f.read()

    def test_two_benchmarks(self):
        document, text = self.run_json("--no-peers", "--lib", "glibc=", "--floor", "--only",
                                       "^(random_mixed|larson, 1 thread)$", "--rounds", "2", "--seconds", "0.05")
        for key in ("format", "command", "date", "machine", "libraries", "suites"):
            self.assertIn(key, document)
        for key in ("cpu", "processors", "memory_kb", "kernel", "architecture", "system"):
            self.assertTrue(document["machine"][key], key)
        self.assertEqual({name: facts["role"] for name, facts in document["libraries"].items()},
                         {"hakmem": "subject", "glibc": "peer", "floor": "floor"})
        for facts in document["libraries"].values():
            self.assertTrue(facts["version"])
        quick = document["suites"]["quick"]
        self.assertEqual((quick["rounds"], quick["seconds"], quick["not_run"]), (2, 0.05, []))
        self.assertEqual([row["name"] for row in quick["rows"]], ["random_mixed", "larson, 1 thread"])
        for row in quick["rows"]:
            self.assertEqual((row["unit"], row["threads"]), ("ns per operation", 1))
            self.assertEqual(set(row["runs"]), {"hakmem", "glibc", "floor"})
            for name, runs in row["runs"].items():
                self.assertEqual(len(runs), 2)
                for run in runs:
                    for key in ("time", "rss_kb", "wall_s"):
                        self.assertGreater(run[key], 0, (name, key))
                    # The kernel divides them by its ticks, of which a run on a busy machine may meet few.
                    self.assertGreater(run["user_s"] + run["system_s"], 0)
                    self.assertAlmostEqual(run["user"], run["user_s"] * 1e9 / run["figures"]["ops"])
                    self.assertGreater(run["figures"]["ops"], 0)
                    # The peak is that of the benchmark, not of the interpreter which started it.
                    self.assertLess(abs(run["rss_kb"] - run["figures"]["rss_peak_kb"]), 2048)
            self.assertEqual(set(row["ratios"]["glibc"]), set(figures.FIGURES))
            for figure in ("time", "rss_kb"):
                self.assertEqual(row["best"][figure], "glibc")
                ratio = row["ratios"]["glibc"][figure]
                self.assertTrue(0 < ratio["low"] <= ratio["median"] <= ratio["high"], ratio)
            for figure in figures.FIGURES:
                for key in ("median", "min", "max", "spread"):
                    self.assertIn(key, row["libraries"]["hakmem"][figure])
            self.assertIn("| %s | glibc |" % row["name"], text)
        self.assertEqual(set(quick["geometric_means"]), {"glibc", "best of all"})
        self.assertIn("below 1 hakmem is better", text)
        # What was measured can be reported again.
        again = compare("--read", self.path("out.json"))
        self.assertEqual((again.returncode, again.stdout), (0, text))

    def test_a_crash_is_reported(self):
        document, text = self.run_json("--no-peers", "--lib", "glibc=", "--lib", "broken=" + options.crashing, "--only",
                                       "^random_mixed$", "--rounds", "2", "--seconds", "0.02")
        row = document["suites"]["quick"]["rows"][0]
        self.assertEqual(row["libraries"]["broken"]["failures"], ["ended by SIGSEGV"] * 2)
        self.assertEqual(row["best"]["time"], "glibc")
        self.assertIn("FAILED 2 of 2", text)
        self.assertIn("- random_mixed under broken: ended by SIGSEGV (2 of 2 runs)", text)

    def test_a_crash_of_the_subject_is_the_exit_status(self):
        _, text = self.run_json("--no-peers", "--lib", "glibc=", "--lib", "hakmem=" + options.crashing, "--only",
                                "^random_mixed$", "--rounds", "1", "--seconds", "0.02", status=1)
        self.assertIn("FAILED 1 of 1", text)

    def test_what_cannot_be_preloaded_is_a_failure(self):
        with open(self.path("libtext.so"), "w", encoding="utf-8") as f:
            f.write("not a library")
        document, _ = self.run_json("--no-peers", "--lib", "text=" + self.path("libtext.so"), "--only",
                                    "^random_mixed$", "--rounds", "1", "--seconds", "0.02")
        runs = document["suites"]["quick"]["rows"][0]["runs"]
        self.assertEqual(runs["text"], [{"failed": "cannot be preloaded"}])

    def test_a_hanging_command_is_ended(self):
        document, _ = self.run_json("--no-peers", "--timeout", "0.2", "--rounds", "2", "--", "sleep", "60", status=1)
        runs = document["suites"]["command"]["rows"][0]["runs"]["hakmem"]
        self.assertEqual([run["failed"] for run in runs], ["no end within 0.2 s", "not run again"])

    def test_any_command(self):
        code = "import os; x = os.environ.get('SOME', '') * 1000000"
        document, text = self.run_json("--no-peers", "--lib", "glibc=", "--env", "glibc:SOME=setting", "--version-of",
                                       "glibc=9.87", "--rounds", "2", "--", sys.executable, "-c", code)
        row = document["suites"]["command"]["rows"][0]
        self.assertEqual(row["unit"], "seconds")
        self.assertEqual(document["libraries"]["glibc"]["settings"], {"SOME": "setting"})
        # Seven bytes a million times: so the setting has come where it should, and nowhere else.
        self.assertGreater(row["runs"]["glibc"][0]["rss_kb"], row["runs"]["hakmem"][0]["rss_kb"] + 4000)
        self.assertIn("| glibc | peer | 9.87 | no preload | SOME=setting |", text)

    def test_latency(self):
        document, text = self.run_json("--no-peers", "--lib", "glibc=", "--suite", "latency", "--only",
                                       "^(random_mixed|burst of 1000)$", "--rounds", "1", "--seconds", "0.05")
        row, burst = document["suites"]["latency"]["rows"]
        self.assertEqual([set(one["runs"]) for one in (row, burst)],
                         [{"hakmem", "glibc"}, {"hakmem", "glibc", "balanced", "adaptive"}])
        for name in ("balanced", "adaptive"):
            self.assertGreater(burst["tails"][name]["malloc"]["p999"]["median"], 0)
        self.assertIn("|  | call | balanced | adaptive |", text)
        for run in row["runs"]["hakmem"] + row["runs"]["glibc"]:
            said = run["figures"]
            for call in ("malloc", "free"):
                self.assertGreater(said[call + "_calls"], 10000)
                values = [said["%s_%s_ns" % (call, point)] for point in ("p50", "p99", "p999", "max")]
                self.assertEqual(values, sorted(values))
                self.assertLessEqual(said[call + "_max_undisturbed_ns"], said[call + "_max_ns"])
            self.assertEqual(said["realloc_calls"], 0)
            self.assertGreater(said["timer_overhead_ns"], 0)
            self.assertGreater(said["timer_resolution_ns"], 0)
            self.assertGreaterEqual(said["involuntary_switches"], 0)
        self.assertEqual(row["latency"]["malloc"]["p999"]["best"], "glibc")
        self.assertIn("| random_mixed | malloc |", text)

    def test_scaling(self):
        document, text = self.run_json("--no-peers", "--suite", "scaling", "--only", "^random_mixed$", "--rounds", "1",
                                       "--seconds", "0.02")
        entry = document["suites"]["scaling"]["scaling"][0]
        for key in ("two", "two_to_control", "many"):
            self.assertGreater(entry["libraries"]["hakmem"][key]["median"], 0)
        for key in ("two", "many"):
            self.assertGreater(entry["control"][key]["median"], 0)
        self.assertIn("| random_mixed |", text)

    def test_memory(self):
        own = os.path.join(options.build, "libhakmem.so")
        document, text = self.run_json("--no-peers", "--lib", "glibc=", "--lib", "tight=" + own, "--env",
                                       "tight:HAKMEM_PROFILE=tight", "--no-variants", "--suite", "memory", "--idle", "1",
                                       "--rounds", "2", "--only",
                                       "^(64 threads, 4 MiB each|redis.*|start of true)$")
        self.assertEqual(document["libraries"]["tight"]["role"], "variant")
        self.assertEqual(document["libraries"]["tight"]["settings"], {"HAKMEM_PROFILE": "tight"})
        suite = document["suites"]["memory"]
        rows = {row["name"]: row for row in suite["rows"]}
        for row in rows.values():
            self.assertEqual({name: len(some) for name, some in row["runs"].items()},
                             {"hakmem": 2, "glibc": 2, "tight": 2})
            self.assertEqual({measure["best"] for measure in row["measures"]}, {"glibc"})
            for measure in row["measures"]:
                self.assertGreater(measure["values"]["tight"], 0)
                self.assertGreater(measure["to_best"]["tight"]["median"], 0)
        burst = rows.pop("64 threads, 4 MiB each")
        self.assertEqual([measure["figure"] for measure in burst["measures"]],
                         [figures.PEAK, figures.IDLE, figures.EXCESS])
        for run in burst["runs"]["hakmem"]:
            # 64 threads held 4 MiB each, and the last block of each may have been a large one.
            self.assertGreater(run["figures"]["rss_highest_mib"], 256)
            self.assertEqual(run["figures"]["live_idle_end_mib"], 0)
            self.assertGreaterEqual(run["wall_s"], 1.0)  # it did idle
        self.assertEqual([measure["figure"] for measure in rows.pop("start of true")["measures"]], [figures.PEAK])
        cache = rows.pop("redis, 4 of 5 keys expire", None)  # where a redis-server is installed
        for run in cache["runs"]["hakmem"] if cache else ():
            said = run["figures"]
            self.assertTrue(10 < said["live_idle_end_mib"] < said["rss_idle_end_mib"] <= said["rss_highest_mib"], said)
            self.assertTrue(0 < said["excess_mean_mib"] < said["rss_full_mib"], said)
        self.assertEqual(rows, {})
        self.assertIn("### RSS after idling, MiB", text)
        self.assertIn("|  | hakmem | tight | glibc | hakmem to the best peer |", text)
        self.assertIn("met** start of true: peak RSS under hakmem: ", text)
        self.assertNotIn("# Benchmarks of", text)
        again = compare("--read", self.path("out.json"))
        self.assertEqual((again.returncode, again.stdout), (0, text))

    def test_the_other_profiles_are_asked_about_memory(self):
        document, text = self.run_json("--no-peers", "--lib", "glibc=", "--suite", "memory", "--suite", "quick",
                                       "--rounds", "1", "--seconds", "0.02", "--only", "^(start of true|random_mixed)$")
        variants = {name: facts["settings"] for name, facts in document["libraries"].items() if facts["role"] == "variant"}
        self.assertEqual(variants, {"background": {"HAKMEM_BACKGROUND": "1"}, "balanced": {"HAKMEM_PROFILE": "balanced"},
                                    "adaptive": {"HAKMEM_PROFILE": "adaptive"}, "tight": {"HAKMEM_PROFILE": "tight"}})
        ran = {name: set(section["rows"][0]["runs"]) for name, section in document["suites"].items()}
        self.assertEqual(ran, {"memory": {"hakmem", "glibc"} | set(variants), "quick": {"hakmem", "glibc"}})
        self.assertIn("| random_mixed | glibc |", text)
        self.assertIn("|  | hakmem | background | balanced | adaptive | tight | glibc |", text)
        self.assertLess(text.index("# Benchmarks of hakmem"), text.index("## Measured beside others"))

    def test_profiles(self):
        document, text = self.run_json("--suite", "profiles", "--rounds", "1", "--seconds", "0.02", "--idle", "1",
                                       "--work", "0.002", "--only", "^(random_mixed.*|burst of 600|"
                                       "64 threads burst and block, small.*)$")
        self.assertEqual([name for name, facts in document["libraries"].items() if facts["role"] == "subject"],
                         ["default"])
        self.assertEqual(document["libraries"]["tight"]["settings"], {"HAKMEM_PROFILE": "tight"})
        section = document["suites"]["profiles"]
        under = {row["name"]: set(row["runs"]) for row in section["rows"]}
        self.assertEqual(under.pop("random_mixed"), set(profiles.PROFILES))
        self.assertEqual(under.pop("burst of 600"), set(profiles.PROFILES))
        self.assertEqual(under.pop("64 threads burst and block, small blocks: held beyond live"),
                         set(profiles.PROFILES) | {"glibc"})
        for name, twin in profiles.TWIN.items():
            self.assertEqual(under.pop("random_mixed, %s: processor time" % name), {name, twin})
            if "random_mixed, %s: instructions" % name in under:  # valgrind is installed
                self.assertEqual(under.pop("random_mixed, %s: instructions" % name), {name, twin})
        self.assertEqual(under, {})
        for row in section["rows"]:
            for runs in row["runs"].values():
                self.assertTrue(runs and all(figures.ok(run) for run in runs), row["name"])
            for found in row["verdicts"].values():
                self.assertTrue(found["verdict"] is None or found["ratio"] or row["asks"] == profiles.USER, row["name"])
        self.assertIn("| random_mixed, M ops/s |", text)
        self.assertIn("| random_mixed | ≥ 0.97, ≥ 1.00, ≥ 0.85 |", text)
        self.assertIn("| burst of 600 | –, ≥ 1.10, – |", text)
        again = compare("--read", self.path("out.json"))
        self.assertEqual((again.returncode, again.stdout), (0, text))

    def test_exports(self):
        document, text = self.run_json("--suite", "exports", "--rounds", "1", "--only", "^python3$")
        row = document["suites"]["exports"]["rows"][0]
        self.assertEqual(row["exported"]["HAKMEM_ALLOC_LEARN"], "0")
        self.assertIn(exports.OVERRIDE, row["exported"])
        self.assertEqual(set(row["runs"]), {exports.LEARNING, exports.LEARNED, exports.EXPORTED})
        for runs in row["runs"].values():
            self.assertGreater(runs[0]["figures"]["moves"], 1000)
        self.assertIn("| python3 | `%s` |" % row["exported"][exports.OVERRIDE], text)
        again = compare("--read", self.path("out.json"))
        self.assertEqual((again.returncode, again.stdout), (0, text))

    def test_a_crash_under_a_profile_is_the_exit_status(self):
        _, text = self.run_json("--suite", "profiles", "--lib", "hakmem=" + options.crashing, "--only",
                                "^random_mixed$", "--rounds", "1", "--seconds", "0.02", status=1)
        self.assertIn("FAILED 3 of 3 **not met**", text)
        self.assertIn("- random_mixed under tight: ended by SIGSEGV (3 of 3 runs)", text)

    def test_charts(self):
        if not charts.available():
            self.assertNotEqual(os.environ.get("HAKMEM_REQUIRE_ALL"), "1", "gnuplot is not installed")
            self.skipTest("gnuplot is not installed")
        self.run_json("--no-peers", "--lib", "glibc=", "--only", "^random_mixed$", "--rounds", "1", "--seconds", "0.02",
                      "--charts", self.path("charts"))
        for name in ("quick-time.svg", "quick-rss.svg"):
            self.assertIn("random_mixed", xml.dom.minidom.parse(self.path(os.path.join("charts", name))).toxml())

    def test_wrong_arguments(self):
        for arguments in (["--lib", "x=/does/not/exist"], ["--lib", "x"], ["--env", "nobody:A=B"], ["--rounds", "0"],
                          ["--subject", "nobody"], ["ls"], ["--suite", "quick", "--", "ls"], ["--idle", "-1"],
                          ["--suite", "profiles", "--suite", "quick"], ["--suite", "profiles", "--lib", "x="],
                          ["--suite", "profiles", "--env", "tight:A=B"], ["--work", "0"]):
            self.assertEqual(compare(*arguments).returncode, 2, arguments)

    def test_peers_are_found(self):
        """Whatever is installed: the C library always is."""
        found = libraries.find_peers(os.path.join(options.build, "bench", "launch"))
        self.assertEqual(found[-1].name, "glibc")
        for peer in found[:-1]:
            self.assertTrue(os.path.isfile(peer.path))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True)
    parser.add_argument("--crashing", required=True)
    parser.parse_known_args(namespace=options)
    unittest.main(argv=sys.argv[:1])
