"""docs/profiles.md: the tables of the suites profiles and exports."""

from comparison import exports, profiles
from comparison.markdown import environment_parts, failed, failures, measured, number, ratio, table

HOW_TO_READ = """\
What the profiles promise, and what they do: every one runs in the same interleaved rounds as Default. A ratio is the
profile's figure divided by Default's, the median over the rounds and its bootstrap 95 % interval, paired by round.
Speed is better when it is larger, everything else when it is smaller. A promise is **met** where all of the interval
keeps it, **not met** where all of it breaks it, and **open** where the interval contains what is asked: these runs cannot
tell. Adaptive's promise to be no slower than Default is met if the interval reaches 1. "–" stands where nothing is
promised. The rows, how many times these rounds each has, and what is asked for stand in bench/comparison/profiles.py."""

TEXTS = {
    profiles.SPEED: ("Speed", """\
Operations per second, and for a program the inverse of its time (for Redis the client's), against Default. The bursts
are wider than the default ceiling of their bin, and timed after an untimed sweep, when learning has learned what there
is to learn; huge pages are worth something on a heap larger than the TLB reaches, if the system grants them on request
(`transparent_hugepage/enabled` is `{huge}`). In both Adaptive has to be faster, and nothing is promised of the
others. What huge pages are worth is the machine's doing, so the same accesses run in the same rounds without an
allocator, with and without them (bench/huge_pages.c); where that gains too little to leave room for the promise, {share}
× the gain is asked."""),
    profiles.MEMORY: ("Memory held beyond what is live", """\
The mean of resident memory beyond what the program has asked for and not freed: over the whole timeline of rss_1g, over
{idle} s of idling where threads have had a burst and block. Rounds in which the timeline of one ran late, so that more
was live for longer, are left out."""),
    profiles.USER: ("What learning costs: processor time", """\
User and system time for fixed work, against the same profile that does not learn (`HAKMEM_ALLOC_LEARN=0
HAKMEM_MEM_LEARN=0`), in short runs that make ABBA pairs: at least {pairs} for each figure. What learning saves is part of it."""),
    profiles.INSTRUCTIONS: ("What learning costs: instructions", """\
The same by callgrind, which counts the instructions of the whole process, start included, and knows no caches."""),
}
SIGN = {profiles.SPEED: "≥"}
PLAIN = (("rss_mean_mib", "mean RSS"), ("rss_highest_mib", "peak RSS"), ("live_mean_mib", "mean of what is live"),
         ("excess_mean_mib", "held beyond it"))


def verdict_cell(row, profile):
    found = row["verdicts"].get(profile)
    if not found:
        return "–"
    shown = [ratio(found["ratio"], interval=row["asks"] != profiles.INSTRUCTIONS) if found["ratio"] else "",
             failed(row["libraries"][profile])]
    if row["asks"] in (profiles.USER, profiles.INSTRUCTIONS) and found["ratio"]:
        shown[0] = percent(found["ratio"], row["asks"] == profiles.USER)
    if found["verdict"]:
        shown.append("**%s**" % found["verdict"])
    return " ".join(part for part in shown if part)


def percent(entry, interval):
    """An overhead: of a hundredth a ratio of two decimals would say nothing."""
    low, middle, high = ("%+.2f" % (100 * (entry[key] - 1)) for key in ("low", "median", "high"))
    return "%s %% (%s to %s)" % (middle, low, high) if interval else "%s %%" % middle


def asked_cell(row):
    bounds = [profiles.asked(row, profile) for profile in profiles.LEARNING]
    sign = SIGN.get(row["asks"], "≤")
    return ", ".join("–" if bound is None else "%s %s" % (sign, number(bound)) for bound in bounds)


def joined(rows):
    """One line for the rows of each profile apart that make up a question about overhead."""
    lines = {}
    for row in rows:
        name = row["name"].split(", %s: " % next(iter(row["verdicts"]), ""))[0]
        line = lines.setdefault(name, [name, asked_cell(row)] + ["–"] * len(profiles.LEARNING))
        for place, profile in enumerate(profiles.LEARNING):
            if profile in row["verdicts"]:
                line[2 + place] = verdict_cell(row, profile)
    return list(lines.values())


def fewest_pairs(rows):
    ratios = [found["ratio"] for row in rows for found in row["verdicts"].values() if found["ratio"]]
    return min((found["pairs"] for found in ratios), default=0)


def controls(section):
    """A line for each row that has a control: what that gains, and how much of the memory is huge in each."""
    lines = []
    for row in (row for row in section["rows"] if row["gain"]):
        huge = [(name, profiles.median_of(row, name, "huge_mib")) for name in profiles.PROFILES]
        huge += [("the control", profiles.median_of(one, "none", "huge_mib")) for one in section["rows"]
                 if one["name"] == "%s: %s" % (row["name"], profiles.HUGE)]
        lines.append("Huge pages make the control of %s %s × as fast. In huge pages when the clock stopped: %s." % (
            row["name"], ratio(row["gain"], interval=True),
            ", ".join("%s %s" % (name, measured(value, "MiB")) for name, value in huge if value is not None)))
    return lines


def question(section, asks, huge):
    rows = [row for row in section["rows"] if row["asks"] == asks]
    if not rows:
        return []
    title, text = TEXTS[asks]
    header = ["", "asked of " + ", ".join(profiles.LEARNING)] + list(profiles.LEARNING)
    text = text.format(idle=section["idle"], huge=huge, pairs=fewest_pairs(rows), share=number(profiles.CONTROL_SHARE))
    return ["## " + title, text, table(header, joined(rows), left=2)] + (controls(section) if asks == profiles.SPEED else [])


def cell(row, name):
    """A cell of the page: millions of operations per second."""
    described = row["libraries"].get(name, {})
    if "time" not in described:
        return failed(described) or "–"
    return " ".join(part for part in (number(1e3 / described["time"]["median"]), failed(described)) if part)


def the_page(section):
    """In the units of the table that this project began with."""
    lines = [[row["name"] + ", M ops/s"] + [cell(row, name) for name in profiles.PROFILES]
             for row in section["rows"] if row["kind"] == profiles.PAGE]
    for row in section["rows"]:
        if row["bench"] == "rss_1g":
            values = [profiles.median_of(row, name, "rss_mean_mib") for name in profiles.PROFILES]
            lines.append(["RSS of the 1 GiB timeline, mean, MiB"] + [
                measured(value, "") if value is not None else "–" for value in values])
    if not lines:
        return []
    return ["## The four profiles at a glance", table([""] + list(profiles.PROFILES), lines)]


def plain_memory(section):
    """Resident memory itself: each profile, and the C library, with the ratio to Default and to the C library."""
    names = profiles.PROFILES + (profiles.BESIDE,)
    lines = []
    for row in (row for row in section["rows"] if row["asks"] == profiles.MEMORY):
        for figure, text in PLAIN:
            values = {name: profiles.median_of(row, name, figure) for name in names}
            if any(values.values()):
                lines.append(["%s: %s" % (row["name"].split(":")[0], text)] + [
                    plain_cell(values, name, figure) for name in names])
    if not lines:
        return []
    return ["Resident memory itself, in MiB as medians; in brackets the quotients to Default's and to %s's:" %
            profiles.BESIDE, table([""] + list(names), lines)]


def plain_cell(values, name, figure):
    value = values[name]
    if value is None:
        return "–"
    if figure == "live_mean_mib":
        return measured(value, "")
    quotients = [number(value / values[other]) if values[other] else "–"
                 for other in (profiles.SUBJECT, profiles.BESIDE)]
    return "%s (%s, %s)" % (measured(value, ""), *quotients)


def listed(found, verdict):
    """The promises of which this is the verdict."""
    return ["- %s: measured %s, asked %s %s" % (
        row["name"] if profile in row["name"] else "%s, %s" % (row["name"], profile),
        ratio(one["ratio"], interval=True), SIGN.get(row["asks"], "≤"), number(one["asked"]))
            for row, profile, one in found if one["verdict"] == verdict]


def summary(section):
    found = [(row, profile, one) for row in section["rows"] for profile, one in row["verdicts"].items() if one["verdict"]]
    if not found:
        return []
    broken, undecided = listed(found, profiles.NOT_MET), listed(found, profiles.OPEN)
    reached = sum(profiles.reaches(one, row["asks"]) for row, _, one in found if one["verdict"] == profiles.OPEN)
    text = "%d of %d promises are met, %d are not, and %d are open, of which the median keeps %d." % (
        len(found) - len(broken) - len(undecided), len(found), len(broken), len(undecided), reached)
    return [text] + ["%s:\n\n%s" % (title, "\n".join(lines))
                     for title, lines in (("Not met", broken), ("Open", undecided)) if lines]


def parts(section):
    """Of a document's suite; the failures are the caller's."""
    found = ["%d interleaved rounds of %g s; for most benchmarks %d of %g s. Load of the machine before and "
             "after: %s and %s." % (section["rounds"], section["seconds"], profiles.SLICES * section["rounds"],
                                    section["seconds"] / profiles.SLICES, number(section["load"][0]),
                                    number(section["load"][1])), HOW_TO_READ]
    found += summary(section) + the_page(section)
    for asks in TEXTS:
        found += question(section, asks, section["huge_pages"])
        found += plain_memory(section) if asks == profiles.MEMORY else []
    return found


EXPORTS = """\
Each program ran once under Adaptive and exported what was learned (`HAKMEM_LEARN_EXPORT`). "Exported" is that profile
alone, as a fleet would run it; "learned" is the same with the learners still at work. Refills and flushes of the thread
caches are counted by the statistics at exit. The ratios are the exported run's figure to that of the learned run, and
behind it to that of a run under Adaptive, which learns from the start. Asked for, against both, are at most
{moves} × the refills and flushes, {memory} × the peak RSS, and a time whose interval reaches 1."""


def exported_cell(row, figure):
    learned, learning = (row["to"][name][figure] for name in (exports.LEARNED, exports.LEARNING))
    return "%s; %s **%s**" % (ratio(learned, interval=True), ratio(learning, interval=True),
                              "met" if row["met"][figure] else "not met")


def exported(section):
    if not section["rows"]:
        return ["## Exported profiles", "Nothing was measured."]
    counts = [[row["name"]] + ["%d" % row["moves"][name] if name in row["moves"] else "–"
                               for name in (exports.LEARNING, exports.LEARNED, exports.EXPORTED)] +
              [exported_cell(row, figure) for figure in ("moves", "time", "rss_kb")] for row in section["rows"]]
    header = ["", "refills and flushes: Adaptive", "learned", "exported", "their ratio", "time", "peak RSS"]
    overrides = [[row["name"], "`%s`" % row["exported"].get(exports.OVERRIDE, "") or "–"] for row in section["rows"]]
    alike = ("The exports of %s are the same: **not met**." % ", ".join(section["alike"]) if section["alike"] else
             "No two of the exports are the same.")
    return ["## Exported profiles", EXPORTS.format(moves=number(exports.ALLOWED["moves"]),
                                                    memory=number(exports.ALLOWED["rss_kb"])),
            "%d interleaved rounds. Load of the machine before and after: %s and %s." % (
                section["rounds"], number(section["load"][0]), number(section["load"][1])),
            table(header, counts), alike, table(["", exports.OVERRIDE], overrides, left=2)]


def report(documents):
    """The whole text."""
    found = ["# The four profiles, measured"] + environment_parts(documents)
    for document in documents:
        for name, section in document["suites"].items():
            found += (exported if name == "exports" else parts)(section) + failures(section)
    return "\n\n".join(found) + "\n"
