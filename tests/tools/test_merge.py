#!/usr/bin/env python3
"""`hakmem merge`: what it makes of profiles, what it refuses, and how.   test_merge.py TOOL PROFILES_FOLDER"""

import os
import subprocess
import sys
import tempfile
import unittest

TOOL, PROFILES = (os.path.realpath(p) for p in sys.argv[1:3])
OVERRIDE = "HAKMEM_TINY_TLS_CLASS_OVERRIDE"


class Merge(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()

    def tearDown(self):
        self.folder.cleanup()

    def file(self, name, *lines):
        with open(os.path.join(self.folder.name, name), "w") as f:
            f.write("".join(line + "\n" for line in lines))
        return name

    def run_tool(self, *args, **options):
        return subprocess.run([TOOL] + list(args), stdout=options.get("stdout", subprocess.PIPE),
                              stderr=subprocess.PIPE, universal_newlines=True, cwd=self.folder.name)

    def merge(self, *args):
        """The output's lines; it must have worked in silence."""
        said = self.run_tool("merge", *args)
        self.assertEqual((said.returncode, said.stderr), (0, ""))
        return said.stdout.splitlines()

    def settings(self, lines):
        return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))

    def refused(self, *messages, files):
        said = self.run_tool("merge", *files)
        self.assertEqual((said.returncode, said.stdout), (1, ""))
        self.assertEqual(said.stderr.splitlines(), list(messages))

    def profile(self, name):
        with open(os.path.join(PROFILES, name)) as f:
            return self.settings(f.read().splitlines())

    def test_one_profile_stays_what_it_is(self):
        for name in os.listdir(PROFILES):
            self.assertEqual(self.settings(self.merge(os.path.join(PROFILES, name))), self.profile(name))

    def test_every_variable_is_set_once_in_the_plain_alphabet(self):
        lines = self.merge(*(os.path.join(PROFILES, n) for n in sorted(os.listdir(PROFILES))))
        found = [line.split("=")[0] for line in lines if line and line[0] != "#"]
        self.assertEqual(sorted(found), sorted(self.profile("default.env")))
        for line in lines:
            if line and line[0] != "#":
                self.assertRegex(line, r"^HAKMEM_[A-Z_]+=[A-Za-z0-9.:,_/%-]+$")

    def test_rules(self):
        files = [self.file("%d.env" % i, "HAKMEM_DECAY_MS=%d" % decay, "HAKMEM_THREAD_CACHE_BYTES=%s" % cache,
                           "HAKMEM_SUPERSLAB_REUSE=%d" % reuse, "HAKMEM_TINY_PRESET=" + preset,
                           "HAKMEM_SUPERSLAB_PREWARM=%d" % prewarm, "HAKMEM_DECAY_RATE=%d" % decay)
                 for i, (decay, cache, reuse, preset, prewarm) in enumerate((
                     (9000, "1M", 1, "ultra_tight", 0), (10, "2M", 0, "default", 7),
                     (500, "64K", 1, "ultra_tight", 2)))]
        lines = self.merge(*files)
        said = self.settings(lines)
        self.assertEqual(said["HAKMEM_DECAY_MS"], "500")
        self.assertEqual(said["HAKMEM_THREAD_CACHE_BYTES"], "2097152")
        self.assertEqual(said["HAKMEM_DECAY_RATE"], "500")
        self.assertEqual(said["HAKMEM_SUPERSLAB_REUSE"], "1")
        self.assertEqual(said["HAKMEM_SUPERSLAB_PREWARM"], "7")
        self.assertEqual(said["HAKMEM_TINY_PRESET"], "ultra_tight")
        text = "\n".join(lines)
        self.assertIn("\n# Median of 3 files: 10 (1.env) to 9000 (0.env).\nHAKMEM_DECAY_MS=500\n", text)
        self.assertIn("\n# Largest of 3 files: 65536 (2.env) to 2097152 (1.env).\nHAKMEM_THREAD_CACHE_BYTES=", text)
        self.assertIn("\n# No file sets it: the default.\nHAKMEM_ALLOC_LEARN=0\n", text)
        self.assertTrue(text.startswith("# HAKMEM profile, merged by `hakmem merge` from\n#   0.env\n#   1.env\n"))
        # Two in the middle: the lower one; as frequent: the first file's.
        said = self.settings(self.merge(files[0], files[1]))
        self.assertEqual(said["HAKMEM_DECAY_MS"], "10")
        self.assertEqual(said["HAKMEM_SUPERSLAB_REUSE"], "0")
        self.assertEqual(said["HAKMEM_TINY_PRESET"], "ultra_tight")
        self.assertEqual(self.settings(self.merge(files[1], files[0]))["HAKMEM_TINY_PRESET"], "default")

    def test_bins_are_weighted(self):
        a = self.file("a.env", "# weight C3.112 900 misses of something", OVERRIDE + "=C3.112:100:10,C0:50:5")
        b = self.file("b.env", OVERRIDE + "=C3.112:400:40,C7:96", "# weight C3.112 100")
        c = self.file("c.env", OVERRIDE + "=C3.112:500:50")  # no weight: one miss
        lines = self.merge(a, b)
        # 900 misses of ten blocks and 100 of forty make 13 on average; C7's refill is by the rule: cap/16, at least 8
        self.assertEqual(self.settings(lines)[OVERRIDE], "C0:50:5,C3.112:100:13,C7:96:8")
        self.assertIn("# weight C3.112 1000 misses; files: 2, caps 100 to 400", lines)
        self.assertIn("# weight C0.16 1 misses; files: 1, caps 50 to 50", lines)
        self.assertIn("C3.112:400:", self.settings(self.merge(b, c))[OVERRIDE])
        self.assertIn("C3.112:500:", self.settings(self.merge("--max", a, b, c))[OVERRIDE])
        # The result can be merged again, and weighs what its parts weighed.
        with open(os.path.join(self.folder.name, "ab.env"), "w") as f:
            f.write("\n".join(lines) + "\n")
        self.assertIn("# weight C3.112 1001 misses; files: 2, caps 100 to 500", self.merge("ab.env", c))

    def test_files_weigh_what_they_have_seen(self):
        """A shell starts the program and exports as well: what it was started with, as often as it was started."""
        started = ("HAKMEM_DECAY_MS=1000", "HAKMEM_TINY_PRESET=default", "HAKMEM_SUPERSLAB_PREWARM=16",
                   OVERRIDE + "=C0:512:32,C1:512:32")
        shells = [self.file("sh.%d.env" % i, "# evidence 300 misses 0 windows", "# weight C0.16 300", *started)
                  for i in range(9)]
        real = self.file("real.env", "# evidence 5000 misses 40 windows", "# weight C0.16 5000", "HAKMEM_DECAY_MS=250",
                         "HAKMEM_TINY_PRESET=ultra_tight", "HAKMEM_SUPERSLAB_PREWARM=3", OVERRIDE + "=C0:90:16")
        wanted = {"HAKMEM_DECAY_MS": "250", "HAKMEM_TINY_PRESET": "ultra_tight", "HAKMEM_SUPERSLAB_PREWARM": "3",
                  OVERRIDE: "C0:90:16"}
        for options in ([], ["--max"]):
            lines = self.merge(*(options + shells + [real]))
            said = self.settings(lines)
            self.assertEqual({name: said[name] for name in wanted}, wanted)
            self.assertIn("#   sh.0.env (no say: nothing was learned in it)", lines)
            self.assertIn("#   real.env", lines)
            self.assertIn("# evidence 5000 misses 40 windows", lines)
        # Where nobody has learned anything, all have a say, and weigh by their misses.
        calm = self.file("calm.env", "# evidence 100 misses 0 windows", "HAKMEM_DECAY_MS=7", "HAKMEM_TINY_PRESET=ultra_tight")
        lines = self.merge(calm, calm, shells[0])
        self.assertEqual(self.settings(lines)["HAKMEM_DECAY_MS"], "1000")
        self.assertEqual(self.settings(lines)["HAKMEM_TINY_PRESET"], "default")
        self.assertIn("# Median of 3 files: 7 (calm.env) to 1000 (sh.0.env).", lines)
        self.assertEqual(self.settings(self.merge(calm, calm, calm, shells[0]))["HAKMEM_DECAY_MS"], "7")
        # Three small processes against a large one; and what is merged weighs on.
        small = self.file("small.env", "# evidence 1000 misses 2 windows", "HAKMEM_DECAY_MS=90")
        with open(os.path.join(self.folder.name, "merged.env"), "w") as f:
            f.write("\n".join(self.merge(small, small, small)) + "\n")
        self.assertEqual(self.settings(self.merge("merged.env", real))["HAKMEM_DECAY_MS"], "250")
        self.assertIn("# evidence 8000 misses 46 windows", self.merge("merged.env", real))
        # A profile by hand has a say, but hardly any weight.
        hand = self.file("hand.env", "HAKMEM_DECAY_MS=5", "HAKMEM_RETAINED_RATIO=0.5")
        said = self.settings(self.merge(hand, hand, small))
        self.assertEqual((said["HAKMEM_DECAY_MS"], said["HAKMEM_RETAINED_RATIO"]), ("90", "0.5"))

    def test_last_setting_counts_and_shell_files_are_read(self):
        name = self.file("x.env", "export HAKMEM_DECAY_MS=1", "", "#HAKMEM_DECAY_MS=9", "HAKMEM_DECAY_MS=2",
                         "HAKMEM_THREAD_CACHE_BYTES=")
        said = self.settings(self.merge(name))
        self.assertEqual(said["HAKMEM_DECAY_MS"], "2")
        self.assertEqual(said["HAKMEM_THREAD_CACHE_BYTES"], "4194304")

    def test_refusals(self):
        good = self.file("good.env", "HAKMEM_DECAY_MS=1")
        bad = self.file("bad.env", "# fine", "HAKMEM_DECAY_MS=fast", "HAKMEM_DECAY=1", "nonsense",
                        "HAKMEM_PROFILE=tight", "# weight C3.113 5", "# weight C3.112", OVERRIDE + "=C9:1",
                        "HAKMEM_DECAY_MS='1'", "# evidence 5 misses")
        self.refused("bad.env:2: HAKMEM_DECAY_MS: accepted is 0..3600000 ms",
                     "bad.env:3: unknown variable; the nearest known one is HAKMEM_DECAY_MS",
                     "bad.env:4: neither NAME=VALUE nor a comment",
                     "bad.env:5: not a variable of profiles: HAKMEM_PROFILE",
                     "bad.env:6: there is no such bin: C3.113 5",
                     "bad.env:7: accepted is # weight Ck.size count",
                     "bad.env:8: HAKMEM_TINY_TLS_CLASS_OVERRIDE: accepted is Ck:cap[:refill] or Ck.size:cap[:refill], "
                     "cap 1..65535, refill 1..cap",
                     "bad.env:9: HAKMEM_DECAY_MS: accepted is 0..3600000 ms",
                     "bad.env:10: accepted is # evidence count misses count windows",
                     "none.env: No such file or directory",
                     files=[good, bad, "none.env"])
        self.refused(".: Is a directory", files=["."])

    def test_usage(self):
        for args in ([], ["nonsense"], ["merge"], ["merge", "--min", "x"], ["merge", "--"]):
            said = self.run_tool(*args)
            self.assertEqual((said.returncode, said.stdout), (2, ""))
            self.assertNotEqual(said.stderr, "")
        for args in (["--help"], ["merge", "--help"], ["--version"]):
            said = self.run_tool(*args)
            self.assertEqual((said.returncode, said.stderr), (0, ""))
            self.assertIn("hakmem", said.stdout)
        self.file("-odd.env", "HAKMEM_DECAY_MS=3")
        self.assertEqual(self.settings(self.merge("--", "-odd.env"))["HAKMEM_DECAY_MS"], "3")

    def test_full_disk(self):
        with open("/dev/full", "w") as full:
            said = self.run_tool("merge", self.file("a.env"), stdout=full)
        self.assertEqual(said.returncode, 1)
        self.assertIn("standard output", said.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
