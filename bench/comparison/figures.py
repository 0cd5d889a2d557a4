"""The statistics. One direction everywhere: a ratio is the subject's figure divided by the other library's, and every
figure (time, user time, peak of resident memory, latency) is better when it is smaller. So below 1 the subject wins."""

import itertools
import math
import random
import statistics

BOOTSTRAP_SAMPLES = 4000
FIGURES = ("time", "user", "rss_kb")
SLOW_RATIO = 1.05
BEST = "best of all"  # the best peer of each row
LATENCY_CALLS = ("malloc", "free", "realloc")
LATENCY_POINTS = ("p50", "p99", "p999", "max_undisturbed", "max")
TAIL_POINTS = ("p50", "p99", "p999")  # of a variant against the subject

# What the suite memory shows of a row that has it: the figure, what it is, its unit. "peak" is the highest sample where
# the benchmark takes some, so without its own tables, and what the kernel says elsewhere.
PEAK, IDLE, EXCESS = "rss_peak_mib", "rss_idle_end_mib", "excess_mean_mib"
MEMORY_FIGURES = (
    (PEAK, "peak RSS", "MiB"),
    (IDLE, "RSS after idling", "MiB"),
    ("rss_to_live_idle_end", "RSS after idling / live", "×"),
    (EXCESS, "mean RSS beyond live", "MiB"),
    ("growth_mib", "growth of that from the first to the last quarter", "MiB"),
    ("pss_total_mib", "sum of Pss", "MiB"),
    ("rss_each_kib", "RSS of each process", "KiB"),
    ("private_dirty_each_kib", "private memory of each process", "KiB"),
    ("map_lines_highest", "lines of /proc/self/maps", ""),
    ("time", "time against the best peer's", None),  # of a row that asks for it; never shown bare
)
MEMORY_MEANS = (PEAK, IDLE, EXCESS)
CALLS_FOR_P999 = 10000  # below this many fewer than ten calls lie beyond it


def interval_of(samples):
    """The middle 95 %."""
    ordered = sorted(samples)
    return ordered[int(0.025 * len(ordered))], ordered[max(0, int(0.975 * len(ordered)) - 1)]


def median_interval(values):
    """Percentile bootstrap, 95 %, of the median (Efron, "Bootstrap Methods", Annals of Statistics 7(1), 1979). The seed
    is fixed: the same data give the same interval."""
    generator = random.Random(1)
    return interval_of([statistics.median(generator.choices(values, k=len(values))) for _ in range(BOOTSTRAP_SAMPLES)])


def geometric_mean(values):
    return math.exp(math.fsum(math.log(value) for value in values) / len(values))


def geometric_mean_interval(lists):
    """Of the geometric mean of the medians, drawing anew from each row's ratios."""
    generator = random.Random(1)
    samples = BOOTSTRAP_SAMPLES // 4
    return interval_of([geometric_mean([statistics.median(generator.choices(one, k=len(one))) for one in lists])
                        for _ in range(samples)])


def geometric_mean_of(lists):
    """Of the medians of each row's ratios."""
    low, high = geometric_mean_interval(lists)
    return {"median": geometric_mean([statistics.median(one) for one in lists]), "low": low, "high": high,
            "rows": len(lists)}


def ok(run):
    return run is not None and "failed" not in run


def pairs(ours, theirs, figure):
    """Ratios of the rounds in which both have a positive figure: by round, so that what slows a round slows both."""
    return [a[figure] / b[figure] for a, b in zip(ours, theirs)
            if ok(a) and ok(b) and a.get(figure, 0) > 0 and b.get(figure, 0) > 0]


def ratio_of(values):
    """Median and interval of ratios; None for none."""
    if not values:
        return None
    low, high = median_interval(values)
    return {"median": statistics.median(values), "low": low, "high": high, "pairs": len(values)}


def describe(runs):
    """One library in one row: how often it ran and failed; median, extremes and spread of each figure."""
    good = [run for run in runs if ok(run)]
    result = {"runs": len(runs), "failures": [run["failed"] for run in runs if not ok(run)]}
    for figure in FIGURES:
        values = [run[figure] for run in good if figure in run]
        if values:
            middle = statistics.median(values)
            result[figure] = {"median": middle, "min": min(values), "max": max(values),
                              "spread": (max(values) - min(values)) / middle if middle > 0 else 0.0}
    return result


def best_of(described, peers, figure):
    """The peer with the least median; one that failed is the best only where all did. None if none has the figure. A
    user time of 0 is none: the kernel divides time into user and system by its ticks, and a short run may meet none."""
    candidates = [peer for peer in peers if described.get(peer, {}).get(figure, {"median": 0})["median"] > 0]
    sound = [peer for peer in candidates if not described[peer]["failures"]] or candidates
    return min(sound, key=lambda peer: described[peer][figure]["median"]) if sound else None


def summarise_row(row, subject, peers, others=()):
    """Adds `libraries`, `best` and `ratios` to a row with `runs`. `others` get a ratio but are never the best."""
    runs = row["runs"]
    row["libraries"] = {name: describe(results) for name, results in runs.items()}
    row["best"] = {figure: best_of(row["libraries"], peers, figure) for figure in FIGURES}
    row["ratios"] = {name: {figure: ratio_of(pairs(runs[subject], runs[name], figure)) for figure in FIGURES}
                     for name in list(peers) + list(others) if name in runs and subject in runs}


def best_ratio(row, figure="time"):
    """The row's ratio to its best peer, or None."""
    best = row["best"].get(figure)
    return row["ratios"][best][figure] if best in row["ratios"] else None


def summarise_means(rows, subject, peers):
    """Geometric means over the rows, against each peer, and against the best peer of every row."""
    means = {}
    for name in list(peers) + [BEST]:
        means[name] = {}
        for figure in FIGURES:
            lists = []
            for row in rows:
                other = row["best"][figure] if name == BEST else name
                found = pairs(row["runs"].get(subject, []), row["runs"].get(other, []), figure)
                lists += [found] if found else []
            if lists:
                means[name][figure] = geometric_mean_of(lists)
    return means


def memory_figures(row, subject, peers):
    """Ratios of what a benchmark itself says about resident memory beside its peak (rss_1g does)."""
    runs = row["runs"]
    names = sorted({name for run in runs.get(subject, []) if ok(run) for name in run["figures"]
                    if name.startswith(("rss_", "excess_")) and name != "rss_peak_kb"})
    values = {library: [run["figures"] if ok(run) else None for run in some] for library, some in runs.items()}
    return {name: {peer: ratio_of(pairs(values[subject], values[peer], name)) for peer in peers if peer in values}
            for name in names}


def summarise_timings(suite, subject, peers, others=()):
    for row in suite["rows"]:
        summarise_row(row, subject, peers, others)
        row["memory"] = memory_figures(row, subject, peers)
    suite["geometric_means"] = summarise_means(suite["rows"], subject, peers)
    suite["slow"] = []
    for row in suite["rows"]:
        ratio = best_ratio(row)
        if ratio and ratio["median"] > SLOW_RATIO:
            suite["slow"].append(dict(ratio, name=row["name"], best=row["best"]["time"]))


# ---- memory -------------------------------------------------------------------------------------------------------


def memory_run(run, timed):
    """What MEMORY_FIGURES names of a run; None for one that failed."""
    if not ok(run):
        return None
    values = {name: run["figures"][name] for name, _, _ in MEMORY_FIGURES if name in run["figures"]}
    values[PEAK] = run["figures"].get("rss_highest_mib", run["rss_kb"] / 1024.0)
    if timed:
        values["time"] = run["time"]
    return values


def best_with(runs, peers, figure):
    """The peer with the least median of a figure, if any has one above 0."""
    medians = {}
    for peer in peers:
        values = [run[figure] for run in runs.get(peer, []) if run and figure in run]
        if values and statistics.median(values) > 0:
            medians[peer] = statistics.median(values)
    sound = [peer for peer in medians if None not in runs[peer]] or list(medians)
    return min(sound, key=medians.get) if sound else None


def memory_measure(runs, figure, subject, peers, variants):
    """One line of the table: `values` by library, `best` peer, `ratios` of the subject to each peer, and of the subject
    and each variant to the best peer."""
    values = {name: [run[figure] for run in some if run and figure in run] for name, some in runs.items()}
    best = best_with(runs, peers, figure)
    own = runs.get(subject, [])
    return {"figure": figure, "best": best,
            "values": {name: statistics.median(some) for name, some in values.items() if some},
            "ratios": {peer: ratio_of(pairs(own, runs[peer], figure)) for peer in peers if peer in runs},
            "to_best": {name: ratio_of(pairs(runs.get(name, []), runs.get(best, []), figure))
                        for name in [subject] + variants}}


def summarise_memory(suite, subject, peers, variants):
    """Adds `measures` to each row, and `means`: of the subject and each variant, against each peer and the best peer of
    every row, the geometric means over the rows of those figures that most rows have."""
    lists = {}
    for row in suite["rows"]:
        row["libraries"] = {name: describe(results) for name, results in row["runs"].items()}
        runs = {name: [memory_run(run, row["timed"]) for run in some] for name, some in row["runs"].items()}
        present = {figure for some in runs.values() for run in some if run for figure in run if run[figure] != 0}
        row["measures"] = [memory_measure(runs, figure, subject, peers, variants)
                           for figure, _, _ in MEMORY_FIGURES if figure in present]
        for measure in row["measures"]:
            for name, other in itertools.product([subject] + variants, peers + [BEST]):
                theirs = runs.get(measure["best"] if other == BEST else other, [])
                found = pairs(runs.get(name, []), theirs, measure["figure"])
                if found and measure["figure"] in MEMORY_MEANS:
                    lists.setdefault((name, other, measure["figure"]), []).append(found)
    suite["means"] = {name: {other: {} for other in peers + [BEST]} for name in [subject] + variants}
    for (name, other, figure), some in lists.items():
        suite["means"][name][other][figure] = geometric_mean_of(some)


# ---- scaling ------------------------------------------------------------------------------------------------------


def speed_up(few, many):
    """By round, how many times the operations of the run with few threads the one with many did in the same time; the
    times are per operation. None for a round in which either failed."""
    return [a["time"] / b["time"] if ok(a) and ok(b) else None for a, b in zip(few, many)]


def known(values):
    return [value for value in values if value is not None]


def quotients(dividends, divisors):
    return [a / b for a, b in zip(dividends, divisors) if a is not None and b is not None]


def summarise_scaling(suite, subject, peers):
    """Rows of one group share `group` and differ in `threads`; one may have as many as another and fewer blocks for each.
    The control has no library."""
    groups = {}
    for row in suite["rows"]:
        summarise_row(row, subject, peers)
        kind = "shares" if row.get("shares") else row["bench"]
        groups.setdefault(row["group"], {})[(kind, row["threads"])] = row
    suite["scaling"] = []
    for group, rows in groups.items():
        control = [rows[("control", n)]["runs"]["none"] for n in suite["threads"]]
        control_two, control_many = speed_up(control[0], control[1]), speed_up(control[1], control[2])
        bench = next(name for name, _ in rows if name not in ("control", "shares"))
        by_threads = [rows[(bench, n)]["runs"] for n in suite["threads"]]
        entry = {"name": group, "libraries": {}, "control": {"two": ratio_of(known(control_two)),
                                                             "many": ratio_of(known(control_many))}}
        for library in by_threads[0]:
            two = speed_up(by_threads[0][library], by_threads[1][library])
            many = speed_up(by_threads[1][library], by_threads[2][library])
            shares = rows.get(("shares", suite["threads"][2]), {"runs": {}})["runs"].get(library, [])
            entry["libraries"][library] = {"two": ratio_of(known(two)), "many": ratio_of(known(many)),
                                           "shares": ratio_of(known(speed_up(by_threads[1][library], shares))),
                                           "two_to_control": ratio_of(quotients(two, control_two))}
        suite["scaling"].append(entry)


# ---- latency ------------------------------------------------------------------------------------------------------


def latency_value(run, call, point):
    """Nanoseconds, or None where there were no calls, or too few of them."""
    calls = run["figures"].get(call + "_calls", 0) if ok(run) else 0
    if not calls or (point == "p999" and calls < CALLS_FOR_P999):
        return None
    return run["figures"]["%s_%s_ns" % (call, point)]


def latency_ratio(ours, theirs, resolution):
    """What differs by no more than a step of the counter cannot be told apart; and nothing is shorter than a step. The
    tolerance is for the rounding of what the benchmark prints."""
    step = resolution * 1.05
    return 1.0 if abs(ours - theirs) <= step else max(ours, resolution) / max(theirs, resolution)


def latency_ratios(ours, theirs, call, point):
    """By round."""
    values = [(latency_value(a, call, point), latency_value(b, call, point), a) for a, b in zip(ours, theirs)]
    return [latency_ratio(a, b, run["figures"]["timer_resolution_ns"]) for a, b, run in values
            if a is not None and b is not None]


def latency_of_variant(row, variant, subject):
    """{call: {point: ratio to the subject}} of the calls there were."""
    found = {}
    for call in LATENCY_CALLS:
        points = {point: ratio_of(latency_ratios(row["runs"][variant], row["runs"].get(subject, []), call, point))
                  for point in TAIL_POINTS}
        if any(points.values()):
            found[call] = points
    return found


def summarise_latency(suite, subject, peers, variants=()):
    """Adds to each row `latency`: {call: {point: ratio to the peer with the least median, and its name}}, and `tails`: what
    latency_of_variant() says of each variant that ran it."""
    for row in suite["rows"]:
        summarise_row(row, subject, peers, variants)
        row["tails"] = {name: latency_of_variant(row, name, subject) for name in variants if name in row["runs"]}
        row["latency"] = {}
        for call in LATENCY_CALLS:
            for point in LATENCY_POINTS:
                medians = {}
                for peer in peers:
                    values = known([latency_value(run, call, point) for run in row["runs"].get(peer, [])])
                    if values:
                        medians[peer] = statistics.median(values)
                if medians:
                    best = min(peers, key=lambda peer: medians.get(peer, math.inf))
                    ratio = ratio_of(latency_ratios(row["runs"].get(subject, []), row["runs"][best], call, point))
                    if ratio:
                        row["latency"].setdefault(call, {})[point] = dict(ratio, best=best)
    suite["slow"] = [dict(points["p999"], name=row["name"], call=call) for row in suite["rows"]
                     for call, points in row["latency"].items()
                     if "p999" in points and points["p999"]["median"] > SLOW_RATIO]
    tails = [points["p999"]["median"] for row in suite["rows"] for points in row["latency"].values()
             if "p999" in points]
    suite["geometric_mean_p999"] = geometric_mean(tails) if tails else None


def summarise(document):
    """Fills in everything that follows from the runs of a document (running.py says what that is)."""
    roles = {name: library["role"] for name, library in document["libraries"].items()}
    subject = next(name for name, role in roles.items() if role == "subject")
    peers = [name for name, role in roles.items() if role == "peer"]
    variants = [name for name, role in roles.items() if role == "variant"]
    others = variants + [name for name, role in roles.items() if role == "floor"]
    for name, suite in document["suites"].items():
        if name == "scaling":
            summarise_scaling(suite, subject, peers)
        elif name == "latency":
            summarise_latency(suite, subject, peers, variants)
        elif name == "memory":
            summarise_memory(suite, subject, peers, variants)
        else:
            summarise_timings(suite, subject, peers, others)
