"""Documents as Markdown: tables of ratios, never of bare times. figures.py has filled in what stands in them."""

from comparison import figures

HOW_TO_READ = """\
A ratio is {subject}'s figure divided by the other library's. Time, user time, peak of resident memory (RSS) and latency
are all better when they are smaller, so **below 1 {subject} is better**. Each ratio is the median over the rounds,
paired by round, because what disturbs the machine then disturbs both; the interval is a bootstrap 95 % interval of that
median. The best peer is the one with the smallest median in that row: another one from row to row, and maybe another
for time, user time and RSS. Time is the inverse of the operations per second that a benchmark counts, and wall time for
a program (for Redis: of the client). Spread is the range from the fastest to the slowest round over the median. The
options of every row stand in bench/comparison/suite.py, the inputs of the programs in bench/comparison/programs.py."""

HOW_TO_READ_LATENCY = """\
Every call of the benchmark is timed with the processor's cycle counter, whose own cost is subtracted. The figures are
ratios to the peer that is best at that very percentile. Two that differ by no more than a step of the counter
({resolution} ns here) cannot be told apart and count as equal, as a p50 often does. A maximum is a single call and
mostly says what else the machine did; "undisturbed" leaves out calls during which the thread was switched out by force.
The figure to trust is p99.9, which is given from {calls} calls on. "Switches" are the involuntary context switches of a
run, as medians: of {subject}, and of the peer that is best at p99.9."""

HOW_TO_READ_SCALING = """\
Here larger is better. "2 to 1" is the operations per second of two threads over those of one, divided by the same
quotient of a control loop that allocates nothing and ran in the same rounds: 1.00 scales as well as the machine does.
Where one thread hands its blocks to another the control does the same with blocks that are neither allocated nor freed
(bench/handover.c). "64 to 2" is the operations per second of 64 threads over those of two; as each thread has blocks of
its own, that is 32 times the memory as well. Behind the stroke 64 threads have no more blocks in all than two. The control
has the plain quotients."""


HOW_TO_READ_MEMORY = """\
The figures are medians over the runs; the best peer's is bold, and the last column is the ratio of {subject}'s to it, with
its interval. RSS is without the benchmark's own tables; "live" is what the program has asked for and not freed. The mean
beyond live is the integral over time of what is resident and not live, divided by the time: while idling ({idle} s here)
where the program falls idle after a burst, over the whole run elsewhere. What a program does stands at the head of its
source in bench/, its options in bench/comparison/suite.py."""


def number(value):
    return "%.2f" % value if value < 9.995 else "%.1f" % value if value < 99.95 else "%.0f" % value


def ratio(entry, interval=False):
    if not entry:
        return "–"
    text = number(entry["median"])
    return text + " (%s–%s)" % (number(entry["low"]), number(entry["high"])) if interval else text


def table(header, lines, left=1):
    """`left` columns of text, the others are numbers."""
    rule = ["---"] * left + ["---:"] * (len(header) - left)
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, rule] + lines)


def failed(described):
    """What stands in the table for a library that failed in a row, or ""."""
    count = len(described.get("failures", []))
    return "FAILED %d of %d" % (count, described["runs"]) if count else ""


def spread(described):
    return "%.0f %%" % (100 * described["time"]["spread"]) if "time" in described else "–"


def peer_cell(row, name):
    """Time and RSS against one library."""
    described = row["libraries"].get(name)
    if described is None:
        return "–"
    ratios = row["ratios"].get(name, {})
    cell = "%s · %s" % (ratio(ratios.get("time")), ratio(ratios.get("rss_kb"))) if ratios.get("time") else ""
    return " ".join(part for part in (cell, failed(described)) if part) or "–"


def best_cell(row, figure):
    best = row["best"][figure]
    return "%s %s" % (ratio(figures.best_ratio(row, figure)), best) if best else "–"


def timing_line(row, subject, names):
    ours = row["libraries"].get(subject, {"failures": [], "runs": 0})
    best = row["best"]["time"]
    theirs = row["libraries"].get(best, {})
    time = ratio(figures.best_ratio(row), interval=True)
    return [row["name"], best or "–", " ".join(part for part in (time, failed(ours)) if part),
            "%s, %s" % (spread(ours), spread(theirs)), best_cell(row, "user"), best_cell(row, "rss_kb")] + [
                peer_cell(row, name) for name in names]


def means_table(means):
    lines = [[name] + [ratio(means[name].get(figure), interval=True) for figure in figures.FIGURES] +
             [str(means[name].get("time", {}).get("rows", 0))] for name in means]
    return table(["against", "time", "user time", "RSS", "rows"], lines)


def together(documents):
    """One mean over benchmarks and programs alike, where both were run."""
    timed = [suite for document in documents for suite in document["suites"].values() if "geometric_means" in suite]
    if len(timed) < 2:
        return []
    subject, peers, _ = roles_of(documents[0])
    rows = [row for suite in timed for row in suite["rows"]]
    slow = sum(len(suite["slow"]) for suite in timed)
    return ["## All timings together", "Geometric means over the rows of the benchmarks and the programs:",
            means_table(figures.summarise_means(rows, subject, peers)),
            "%d of %d rows are slower than %s × the best peer." % (slow, len(rows), figures.SLOW_RATIO)]


def timings(suite, subject, peers, others):
    names = peers + others
    parts = [table(["", "best peer", "time against it (interval)", "spread of both", "user time against the best",
                    "RSS against the best"] + ["%s: time · RSS" % name for name in names],
                   [timing_line(row, subject, names) for row in suite["rows"]], left=2)]
    memory = [["%s, %s" % (row["name"], name)] + [ratio(ratios.get(peer), interval=True) for peer in peers]
              for row in suite["rows"] for name, ratios in row["memory"].items()]
    if memory:
        parts.append("Resident memory over time, where a benchmark watches it (excess: beyond what is live):")
        parts.append(table([""] + peers, memory))
    if len(suite["rows"]) > 1:
        parts += ["Geometric means over the rows:", means_table(suite["geometric_means"])]
    if suite["slow"]:
        lines = ["- %s: %s × %s" % (one["name"], ratio(one, interval=True), one["best"]) for one in suite["slow"]]
        parts.append("Slower than %s × the best peer:\n\n%s" % (figures.SLOW_RATIO, "\n".join(lines)))
    elif any(row["best"]["time"] for row in suite["rows"]):
        parts.append("No row is slower than %s × the best peer." % figures.SLOW_RATIO)
    return parts


def switches(row, name):
    values = [run["figures"].get("involuntary_switches", 0) for run in row["runs"].get(name, []) if figures.ok(run)]
    return "%d" % sorted(values)[len(values) // 2] if values else "–"


def counter_step(suite):
    steps = [run["figures"]["timer_resolution_ns"] for row in suite["rows"] for runs in row["runs"].values()
             for run in runs if figures.ok(run)]
    return max(steps) if steps else 0.0


def latency(suite, subject):
    lines = []
    for row in suite["rows"]:
        ours = failed(row["libraries"].get(subject, {}))
        for call, points in row["latency"].items():
            cells = [ratio(points.get(point)) for point in figures.LATENCY_POINTS]
            tail = points.get("p999") or points.get("p99")
            best = tail["best"] if tail else "–"
            if "p999" in points:
                cells[2] = "%s %s" % (ratio(points["p999"], interval=True), best)
            lines.append([row["name"], call] + cells + ["%s, %s" % (switches(row, subject), switches(row, best))])
        if ours or not row["latency"]:
            lines.append([row["name"], ours or "no calls"] + ["–"] * 6)
    parts = [table(["", "call", "p50", "p99", "p99.9 (interval) and best peer", "maximum, undisturbed", "maximum",
                    "switches"], lines, left=2)]
    if suite["geometric_mean_p999"]:
        parts.append("Geometric mean of the p99.9 ratios to the best peer of each: %s." %
                     number(suite["geometric_mean_p999"]))
    slow = ["- %s, %s: %s × %s" % (one["name"], one["call"], ratio(one, interval=True), one["best"])
            for one in suite["slow"]]
    parts.append("p99.9 above %s × the best peer's:\n\n%s" % (figures.SLOW_RATIO, "\n".join(slow)) if slow else
                 "No p99.9 is above %s × the best peer's." % figures.SLOW_RATIO)
    return parts


def tails(suite, subject, variants):
    """Of the variants, against the subject; nothing where none ran."""
    lines = []
    for row in suite["rows"]:
        calls = {call: None for name in variants for call in row["tails"].get(name, {})}
        for call in calls:
            points = [row["tails"].get(name, {}).get(call, {}) for name in variants]
            lines.append([row["name"], call] + [", ".join(ratio(some.get(point), interval=point == "p999")
                                                          for point in figures.TAIL_POINTS) for some in points])
        lines += [[row["name"], name + " " + failed(row["libraries"][name])] + ["–"] * len(variants)
                  for name in variants if name in row["tails"] and failed(row["libraries"][name])]
    if not lines:
        return []
    return ["The same file with other settings, against %s: p50, p99 and p99.9 of its calls divided by %s's." % (
        subject, subject), table(["", "call"] + list(variants), lines, left=2)]


def scaling(suite, subject, peers):
    few, two, many = suite["threads"]
    names = [subject] + peers
    lines = []
    for entry in suite["scaling"]:
        cells = []
        for name in names:
            found = entry["libraries"].get(name, {})
            shares = " / " + ratio(found["shares"]) if found.get("shares") else ""
            cells += [ratio(found.get("two_to_control"), interval=name == subject), ratio(found.get("many")) + shares]
        lines.append([entry["name"]] + cells + [ratio(entry["control"]["two"]), ratio(entry["control"]["many"])])
    header = [""]
    for name in names + ["control"]:
        header += ["%s: %d to %d" % (name, two, few), "%d to %d" % (many, two)]
    parts = [table(header, lines)]
    for figure, limit, text in (("two_to_control", 0.95, "Below 0.95 of the control loop's scaling"),
                                ("many", 0.9, "%d threads lose more than a tenth against %d" % (many, two)),
                                ("shares", 0.9, "%d threads with the blocks of %d lose more than a tenth" % (many, two))):
        found = [(entry["name"], entry["libraries"].get(subject, {}).get(figure)) for entry in suite["scaling"]]
        low = ["- %s: %s" % (name, ratio(one, interval=True)) for name, one in found if one and one["median"] < limit]
        parts.append("%s:%s" % (text, "\n\n" + "\n".join(low) if low else " none."))
    return parts


def measured(value, unit):
    """A figure with its unit."""
    decimals = 0 if abs(value) >= 99.95 or not unit else 1 if abs(value) >= 9.995 else 2
    text = "%.*f" % (decimals, value)
    return " ".join(part for part in (text, unit) if part)


TITLES = {"quick": "A quick look", "full": "Benchmarks", "programs": "Real programs", "scaling": "Scaling",
          "latency": "Latency of single calls", "command": "One command"}


def failures(suite):
    """Every failure by name, and every row that could not be run: nothing is dropped in silence."""
    lines = []
    for row in suite["rows"]:
        for name, described in row["libraries"].items():
            for reason in sorted(set(described["failures"])):
                lines.append("- %s under %s: %s (%d of %d runs)" % (
                    row["name"], name, reason, described["failures"].count(reason), described["runs"]))
    lines += ["- %s: not run: %s" % (one["name"], one["reason"]) for one in suite["not_run"]]
    return ["Failures:\n\n" + "\n".join(lines)] if lines else []


def roles_of(document):
    """The subject's name, the peers', and those that are never the best peer: the variants and the floor."""
    roles = {library: facts["role"] for library, facts in document["libraries"].items()}
    named = {role: [library for library in roles if roles[library] == role]
             for role in ("subject", "peer", "variant", "floor")}
    return named["subject"][0], named["peer"], named["variant"] + named["floor"]


def suite_parts(document, name):
    subject, peers, others = roles_of(document)
    suite = document["suites"][name]
    others = [one for one in others if any(one in row["runs"] for row in suite["rows"])]
    variants = [one for one in others if document["libraries"][one]["role"] == "variant"]
    parts = ["## %s" % TITLES[name]]
    seconds = "" if name == "programs" else ", %g s each" % suite["seconds"]
    if not suite["rows"]:
        return parts + ["Nothing was measured."] + failures(suite)
    parts.append("%d interleaved rounds%s. Load of the machine before and after: %s and %s." % (
        suite["rounds"], seconds, number(suite["load"][0]), number(suite["load"][1])))
    if name == "scaling":
        floor = [one for one in others if one not in variants]
        parts += [HOW_TO_READ_SCALING] + scaling(suite, subject, variants + peers + floor)
    elif name == "latency":
        parts += [HOW_TO_READ_LATENCY.format(subject=subject, calls="{:,}".format(figures.CALLS_FOR_P999),
                                             resolution=number(counter_step(suite)))]
        parts += latency(suite, subject) + tails(suite, subject, variants)
    else:
        parts += timings(suite, subject, peers, others)
    return parts + failures(suite)


def library_lines(document):
    for name, facts in document["libraries"].items():
        settings = " ".join("%s=%s" % pair for pair in sorted(facts["settings"].items()))
        file = "`%s`" % facts["file"] if facts["file"] else "no preload"
        yield [name, facts["role"], facts["version"], file, settings or "–"]


def environment_parts(documents):
    """The machine and the versions, each said once, and the command of every document."""
    machines, lines = [], []
    for document in documents:
        facts = document["machine"]
        text = "%s, %d processors, %.1f GiB, %s, Linux %s, %s; %s." % (
            facts["cpu"], facts["processors"], facts["memory_kb"] / 1048576.0, facts["architecture"], facts["kernel"],
            facts["system"], document["date"])
        machines += [text] if text not in machines else []
        lines += [line for line in library_lines(document) if line not in lines]
    commands = "```sh\n%s\n```" % "\n".join(document["command"] for document in documents)
    return machines + [table(["library", "role", "version", "file", "settings"], lines, left=5), commands]


def report(documents, charts=None):
    """The whole text but for the suite memory (memory_page.py). `charts`: {suite: [(title, path)]}."""
    subject = roles_of(documents[0])[0]
    parts = ["# Benchmarks of %s" % subject, HOW_TO_READ.format(subject=subject)] + environment_parts(documents)
    parts += together(documents)
    for document in documents:
        for name in (one for one in document["suites"] if one != "memory"):
            parts += suite_parts(document, name)
            parts += ["![%s](%s)" % picture for picture in (charts or {}).get(name, [])]
    return "\n\n".join(parts) + "\n"
