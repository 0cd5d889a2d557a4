"""The measured part of docs/memory.md: the suite memory, and what its requirements say of it. Where the documents of the
suites full and programs are read with it, what is asked of the peak of resident memory is judged by these."""

from comparison import figures
from comparison.markdown import (HOW_TO_READ_MEMORY, environment_parts, failed, failures, measured, number, ratio,
                                 roles_of, table)

BEGIN, END = "<!-- bench/compare --suite memory --docs writes what follows -->", "<!-- up to here -->"

# The subject is the profile Default; the others run as libraries of their own (bench/compare, VARIANTS).
SUBJECT, SLEEPING, LEAN = None, ("balanced", "adaptive", "tight"), ("adaptive", "tight")
TIMES, PLUS, LEANEST = "times", "plus", "leanest"
BURST, SURVIVORS = "burst of 610 MiB, then idle", "burst of 610 MiB, 1 block in 20 survives"
# row, figure, who, and the bound: a number, (TIMES, factor, peer), (PLUS, MiB, peer), or the best peer's own figure
PROMISES = (
    (BURST, figures.IDLE, (SUBJECT,), LEANEST),
    (BURST, figures.IDLE, SLEEPING, 30),
    (SURVIVORS, "rss_to_live_idle_end", LEAN, 2),
    ("realloc, 1 to 768 MiB", "time", (SUBJECT,), (TIMES, 2, "glibc")),
    ("map_lines", "map_lines_highest", (SUBJECT,), 200),
    ("start of true", figures.PEAK, (SUBJECT,), (PLUS, 1, "glibc")),
    ("start of python3", figures.PEAK, (SUBJECT,), (PLUS, 1, "glibc")),
)
PEAK_MEAN, PEAK_PROGRAM = 0.95, 1.15  # of the leanest single peer over all rows; of a program's own leanest
UNITS = {figure: (text, unit) for figure, text, unit in figures.MEMORY_FIGURES}


def bound_of(bound, measure):
    """(its value, in words); no value where the peer was not there."""
    values = measure["values"]
    if bound == LEANEST:
        return values.get(measure["best"]), "the leanest peer's, %s" % measure["best"]
    if not isinstance(bound, tuple):
        return bound, ""
    kind, amount, peer = bound
    theirs = values.get(peer)
    words = "%g × %s's" % (amount, peer) if kind == TIMES else "%s's and %g MiB" % (peer, amount)
    return None if theirs is None else amount * theirs if kind == TIMES else theirs + amount, words


def promises(suite, subject):
    """(text, whether it is met) of what can be said."""
    rows = {row["name"]: row for row in suite["rows"]}
    for name, figure, who, bound in PROMISES:
        measure = next((one for one in rows.get(name, {"measures": []})["measures"] if one["figure"] == figure), None)
        for library in (one or subject for one in who) if measure else ():
            if library not in measure["values"] and library not in rows[name]["runs"]:
                continue
            limit, words = bound_of(bound, measure)
            value, broken = measure["values"].get(library), failed(rows[name]["libraries"][library])
            text, unit = UNITS[figure]
            if limit is None:
                continue
            if unit is None:  # a bare time says nothing
                shown = "%s of the bound" % number(value / limit) if value else ""
            else:
                shown = "%s, asked at most %s" % (measured(value, unit), measured(limit, unit)) if value else ""
            shown = " ".join(filter(None, (shown, broken, "(%s)" % words if words else "")))
            yield "%s: %s under %s: %s" % (name, text, library, shown), bool(value and not broken and value <= limit)


def peak_promises(documents):
    """What is asked of the peak, where benchmarks and programs were run."""
    suites = {name: suite for document in documents for name, suite in document["suites"].items()
              if name in ("full", "programs")}
    if len(suites) < 2:
        return
    document = next(one for one in documents if "full" in one["suites"])
    subject, peers, _ = roles_of(document)
    rows = [row for suite in suites.values() for row in suite["rows"]]
    peers = [peer for peer in peers if all(peer in row["runs"] for row in rows)]
    means = figures.summarise_means(rows, subject, peers)
    leanest = max(peers, key=lambda peer: means[peer]["rss_kb"]["median"])
    mean = means[leanest]["rss_kb"]
    yield ("peak RSS of %d benchmarks and programs: %s × that of the leanest peer, %s, asked at most %s" % (
        mean["rows"], ratio(mean, interval=True), leanest, number(PEAK_MEAN)), mean["median"] <= PEAK_MEAN)
    for row in suites["programs"]["rows"]:
        entry = figures.best_ratio(row, "rss_kb")
        if entry:
            yield ("peak RSS of %s: %s × that of its leanest, %s, asked at most %s" % (
                row["name"], ratio(entry, interval=True), row["best"]["rss_kb"], number(PEAK_PROGRAM)),
                   entry["median"] <= PEAK_PROGRAM)


def cell(row, measure, name):
    """A figure; bold: the best peer's. A bare time says nothing, and stands as the quotient to the best peer's."""
    value, best = measure["values"].get(name), measure["values"].get(measure["best"])
    unit, shown = UNITS[measure["figure"]][1], ""
    if value is not None and unit is None:
        shown = number(value / best) if best else ""
    elif value is not None:
        shown = measured(value, unit).split(" ")[0]
    shown = "**%s**" % shown if shown and name == measure["best"] else shown
    return " ".join(filter(None, (shown, failed(row["libraries"].get(name, {}))))) or "–"


def figure_parts(suite, figure, subject, variants, peers):
    """One question, of all rows that answer it."""
    lines = [[row["name"]] + [cell(row, measure, name) for name in [subject] + variants + peers] +
             [ratio(measure["to_best"].get(subject), interval=True)]
             for row in suite["rows"] for measure in row["measures"] if measure["figure"] == figure]
    if not lines:
        return []
    text, unit = UNITS[figure]
    parts = ["### %s%s" % (text[0].upper() + text[1:], ", " + unit if unit else ""),
             table([""] + [subject] + variants + peers + ["%s to the best peer" % subject], lines)]
    means = [[other] + [ratio(suite["means"][name][other].get(figure), interval=True) for name in [subject] + variants]
             for other in peers + [figures.BEST] if suite["means"][subject].get(other, {}).get(figure)]
    if figure in figures.MEMORY_MEANS and means and len(lines) > 1:
        parts += ["Geometric means of the ratios to each peer:", table(["against", subject] + variants, means)]
    return parts


def suite_parts(document):
    suite = document["suites"]["memory"]
    subject, peers, others = roles_of(document)
    variants = [one for one in others if document["libraries"][one]["role"] == "variant"]
    if not suite["rows"]:
        return ["Nothing was measured."] + failures(suite)
    parts = ["%d runs, side by side where they idle. Load of the machine before and after: %s and %s. Transparent huge "
             "pages: `%s`." % (suite["rounds"], number(suite["load"][0]), number(suite["load"][1]), suite["huge_pages"]),
             HOW_TO_READ_MEMORY.format(subject=subject, idle=suite["idle"])]
    for figure in UNITS:
        parts += figure_parts(suite, figure, subject, variants, peers)
    return parts + failures(suite)


def section(documents):
    """The text between BEGIN and END."""
    measured_here = [document for document in documents if "memory" in document["suites"]]
    parts = ["## Measured beside others"] + environment_parts(measured_here)
    judged = [one for document in measured_here
              for one in promises(document["suites"]["memory"], roles_of(document)[0])] + list(peak_promises(documents))
    if judged:
        parts.append("%d of %d promises are met:\n\n%s" % (
            sum(met for _, met in judged), len(judged),
            "\n".join("- %s %s" % ("**met**" if met else "**not met**", text) for text, met in judged)))
    for document in measured_here:
        parts += suite_parts(document)
    return "\n\n".join(parts) + "\n"


def put_into(page, text):
    """The page with the section in its place; behind everything else where it has none yet."""
    head, begin, rest = page.partition(BEGIN)
    tail = rest.partition(END)[2] if begin else "\n"
    return "%s\n\n%s\n\n%s\n%s%s" % (head.rstrip("\n"), BEGIN, text, END, tail)
