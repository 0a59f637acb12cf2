"""Helpers of all pictures: the look of a method, means and their spread, the runs in a record, legends and files."""
import collections
import io
import math
import pathlib
import statistics
import textwrap

import matplotlib.pyplot as plt
from scipy.special import stdtrit

from minigrad import MinigradError
from minigrad.files import write_whole

from .paper import NAMES

COLORS = {
    "uniform": "#7f7f7f", "random": "#bcbd22",
    "proportion": "#1f77b4", "oracle": "#0b3c6f", "dice": "#6baed6",                    # weights known beforehand
    "resample": "#17becf", "under_sample": "#0e7c86", "over_sample": "#5fd3c4", "smote": "#2f9e8f",     # samplers
    "adaboost": "#2ca02c", "adaboost_networks": "#7bc96f", "cost_boost": "#145214",             # boosting
    "hard_mining": "#9467bd", "low_loss": "#b9a3d6", "mentor": "#5b2a86", "mentornet_quoted": "#5b2a86",    # by loss
    "focal": "#d183c9",
    "bootstrap_soft": "#ffbb78", "bootstrap_hard": "#ff7f0e", "adaptation": "#c79a6b",          # corrected labels
    "adaptation_confusion": "#8c564b",
    "clean_only": "#e377c2", "fine_tune": "#f7b6d2",                                            # the clean set alone
    "reweight": "#d62728", "meta_weight_net": "#e7969c", "reweight_authors": "#843c39",         # learned weights
}
OTHER = "#444444"
LINES = {"": ("-", "o"), "+es": ("--", "s"), "+ft": ("-.", "^"), "+es+ft": (":", "v"), "+short": ((0, (1, 1)), "x"),
         "+half": ((0, (5, 1)), "D"), "+short+ft": ((0, (3, 1, 1, 1, 1, 1)), "<"), "+half+ft": ((0, (8, 2, 1, 2)), ">")}


def color(method):
    """Return the color of a method, whatever its suffix; dark gray for a method that COLORS does not list."""
    return COLORS.get(method.partition("+")[0], OTHER)


def look(method):
    """Return matplotlib's settings for the line of a method: its color, and a line style and marker for its suffix."""
    base, plus, suffix = method.partition("+")
    line, mark = LINES.get(plus + suffix, LINES[""])
    bold = base == "reweight"
    return {"color": color(method), "linestyle": line, "marker": mark, "linewidth": 2.2 if bold else 1.2,
            "zorder": 3 if bold else 2}


def label(method):
    """Return our name of a method, followed by the paper's in parentheses if it has one."""
    return f"{method} ({NAMES[method]})" if method in NAMES else method


def spread(values):
    """Return (mean, standard deviation); the deviation of a single value is 0."""
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def interval(values):
    """Return (mean, half of its 95 % confidence interval) by Student's t; 0 as the half of a single value."""
    mean, deviation = spread(values)
    return mean, float(stdtrit(len(values) - 1, 0.975)) * deviation / math.sqrt(len(values)) if deviation else 0.0


def spread_text(values):
    """Format values as "mean ± standard deviation (their number)"."""
    mean, deviation = spread(values)
    return f"{mean:.1f} ± {deviation:.1f} ({len(values)})" if len(values) > 1 else f"{mean:.1f} (1)"


def interval_text(values):
    """Format values as "mean ± half of the 95 % interval (their number)"; "-" if there is none."""
    if not values:
        return "-"
    mean, half = interval(values)
    return f"{mean:.1f} ± {half:.1f} ({len(values)})" if len(values) > 1 else f"{mean:.1f} (1)"


def runs(lines):
    """Return {method: {(seed, target): the lines of that run, by step}}, in the order of the lines.

    target: the background class, which may differ between the runs of one task; None where there is none.
    """
    found = collections.defaultdict(lambda: collections.defaultdict(list))
    for line in lines:
        found[line["method"]][line["seed"], line.get("target")].append(line)
    for some in found.values():
        for own in some.values():
            own.sort(key=lambda line: line["step"])
    return found


def check_one_setting(lines, free=()):
    """Raise MinigradError if the lines come from several settings, over which a mean would be meaningless.

    free: the fields that may differ.
    """
    for field in ("data", "bias", "share", "clean"):
        values = {line.get(field) for line in lines}
        if field not in free and len(values) > 1:
            raise MinigradError(f"the lines have more than one {field}: {', '.join(sorted(map(str, values)))}\n"
                                "  help: draw the lines of one setting at a time")


def wrap(text, width=130):
    """Break a text into lines of at most `width` characters."""
    return "\n".join(textwrap.wrap(text, width))


def legend(figure, axes, columns=3, location="outside lower center"):
    """Draw one legend outside all panels, with each label in these axes once; none if there is no label."""
    entries = {}
    for panel in axes:
        for handle, text in zip(*panel.get_legend_handles_labels()):
            entries.setdefault(text, handle)
    if entries:
        figure.legend(entries.values(), entries, loc=location, ncols=columns, fontsize=8, handlelength=4)


def write_beside(axes, y, text, offset=6, **style):
    """Write a text to the right of the axes, at height y; offset: the distance from the axes in points."""
    axes.annotate(text, (1.0, y), (offset, 0), xycoords=axes.get_yaxis_transform(), textcoords="offset points",
                  va="center", fontsize=8, **style)


def draw_hollow(axes, x, y, **style):
    """Draw values of the paper as hollow diamonds, with error bars if given (xerr, yerr).

    Empty lists draw nothing but make an entry in the legend.
    """
    style = {"color": "black", "marker": "D", "markersize": 7, "alpha": 0.7, "linestyle": "none"} | style
    axes.errorbar(x, y, markerfacecolor="none", **style)


def save(figure, path):
    """Write the figure to a file, whole or not at all; close it, and return the path."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format=pathlib.Path(path).suffix[1:], dpi=130)
    plt.close(figure)
    write_whole(path, drawn.getvalue())
    return path
