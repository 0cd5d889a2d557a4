"""Bar charts as SVG, drawn by gnuplot: one band for each row, one bar for each library, from 1 to the ratio."""

import os
import shutil
import subprocess

# Okabe & Ito's palette: told apart by colour-blind readers too.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999")
CHARTS = (("time", "time"), ("rss_kb", "rss"))
BAND_PIXELS_PER_BAR = 7
SHOWN_RANGE = (0.1, 4.0)


def available():
    return shutil.which("gnuplot") is not None


def quoted(text):
    return "'%s'" % text.replace("'", "''")


def script(suite, subject, names, figure, title, path):
    """A gnuplot program with its data, or None if there is nothing to draw."""
    rows = [row for row in suite["rows"] if any((row["ratios"].get(name) or {}).get(figure) for name in names)]
    if not rows:
        return None
    values = [(row["ratios"].get(name) or {}).get(figure) for row in rows for name in names]
    medians = [entry["median"] for entry in values if entry]
    low = max(SHOWN_RANGE[0], 0.95 * min(medians + [0.85]))
    high = min(SHOWN_RANGE[1], 1.05 * max(medians + [1.2]))
    height = 150 + len(rows) * (len(names) * BAND_PIXELS_PER_BAR + 8)
    thickness = 0.8 / len(names)
    lines = [
        "set terminal svg size 900,%d noenhanced font 'sans-serif,12' background 'white'" % height,
        "set output %s" % quoted(path),
        "set title %s" % quoted(title),
        "set key outside bottom center horizontal",
        "set logscale x 2",
        "set xrange [%g:%g]" % (low, high),
        "set yrange [%g:-0.5]" % (len(rows) - 0.5),
        "set xtics (0.125, 0.25, 0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 4)",
        "set ytics (%s) scale 0" % ", ".join("%s %d" % (quoted(row["name"]), i) for i, row in enumerate(rows)),
        "set grid xtics back linetype 1 linecolor rgb '#cccccc'",
        "set arrow from 1,graph 0 to 1,graph 1 nohead lc rgb 'black' front",
        "set xlabel %s" % quoted("%s / library; left of 1 %s is better; cut off at %g and %g" % (
            (subject, subject) + SHOWN_RANGE)),
    ]
    plots = []
    for position, name in enumerate(names):
        lines.append("$data%d << END" % position)
        for index, row in enumerate(rows):
            entry = (row["ratios"].get(name) or {}).get(figure)
            if entry:
                value = min(max(entry["median"], low), high)
                top = index - 0.4 + position * thickness
                lines.append("%g %g %g %g %g %g" % (value, index, min(1, value), max(1, value), top, top + thickness))
        lines.append("END")
        plots.append("$data%d using 1:2:3:4:5:6 with boxxyerror fill solid noborder lc rgb '%s' title %s" % (
            position, COLOURS[position % len(COLOURS)], quoted(name)))
    return "\n".join(lines + ["plot " + ", ".join(plots), ""])


def draw(documents, folder):
    """Draws what the documents hold; {suite: [(title, path)]} of what was drawn."""
    os.makedirs(folder, exist_ok=True)
    drawn = {}
    for document in documents:
        roles = {name: facts["role"] for name, facts in document["libraries"].items()}
        subject = next(name for name, role in roles.items() if role == "subject")
        names = [name for name, role in roles.items() if role == "peer"]
        for suite_name, suite in document["suites"].items():
            if "geometric_means" not in suite:
                continue
            for figure, word in CHARTS:
                path = os.path.join(folder, "%s-%s.svg" % (suite_name, word))
                title = "%s of %s against each library" % ("Time" if word == "time" else "Peak RSS", subject)
                program = script(suite, subject, names, figure, title, path)
                if program:
                    subprocess.run(["gnuplot", "-"], input=program.encode(), check=True)
                    drawn.setdefault(suite_name, []).append((title, path))
    return drawn
