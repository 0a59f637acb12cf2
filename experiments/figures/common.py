"""What all pictures share: how a method looks, means and their spread, the runs inside a record, and files."""
import collections
import math
import statistics
import textwrap

import matplotlib.pyplot as plt
from scipy.special import stdtrit

from minigrad import MinigradError

from .paper import NAMES

COLOURS = {
    "uniform": "#7f7f7f", "random": "#bcbd22",
    "proportion": "#1f77b4", "oracle": "#0b3c6f", "dice": "#6baed6",                            # known weights
    "resample": "#17becf", "under_sample": "#0e7c86", "over_sample": "#5fd3c4", "smote": "#2f9e8f",     # samplers
    "adaboost": "#2ca02c", "adaboost_networks": "#7bc96f", "cost_boost": "#145214",             # boosting
    "hard_mining": "#9467bd", "low_loss": "#b9a3d6", "mentor": "#5b2a86", "mentornet_quoted": "#5b2a86",    # by loss
    "focal": "#d183c9",
    "bootstrap_soft": "#ffbb78", "bootstrap_hard": "#ff7f0e", "adaptation": "#c79a6b",          # labels are mended
    "adaptation_confusion": "#8c564b",
    "clean_only": "#e377c2", "fine_tune": "#f7b6d2",                                            # the clean set alone
    "reweight": "#d62728", "meta_weight_net": "#e7969c", "reweight_authors": "#843c39",         # weights are learned
}
OTHER = "#444444"
LINES = {"": ("-", "o"), "+es": ("--", "s"), "+ft": ("-.", "^"), "+es+ft": (":", "v")}


def color(method):
    """The color of a method, whatever its suffix; dark gray for one that the table does not know."""
    return COLOURS.get(method.partition("+")[0], OTHER)


def look(method):
    """How matplotlib draws the line of a method: the color is the method's, the line and its mark the suffix's."""
    base, plus, suffix = method.partition("+")
    line, mark = LINES.get(plus + suffix, LINES[""])
    bold = base == "reweight"
    return {"color": color(method), "linestyle": line, "marker": mark, "linewidth": 2.2 if bold else 1.2,
            "zorder": 3 if bold else 2}


def label(method):
    """Our name of a method, with the paper's behind it if it has one."""
    return f"{method} ({NAMES[method]})" if method in NAMES else method


def spread(values):
    """(mean, standard deviation); the deviation of a single value is 0."""
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def interval(values):
    """(mean, half of its 95 % interval) by Student's t; the half-interval of a single value is 0."""
    mean, deviation = spread(values)
    return mean, float(stdtrit(len(values) - 1, 0.975)) * deviation / math.sqrt(len(values)) if deviation else 0.0


def runs(lines):
    """{method: {seed: the lines of that run, by step}}, in the order of the lines."""
    found = collections.defaultdict(lambda: collections.defaultdict(list))
    for line in lines:
        found[line["method"]][line["seed"]].append(line)
    for seeds in found.values():
        for own in seeds.values():
            own.sort(key=lambda line: line["step"])
    return found


def check_one_setting(lines, free=()):
    """Raises MinigradError if the lines come from several settings, so that a mean over them would mean nothing."""
    for field in ("data", "bias", "share", "clean"):
        values = {line.get(field) for line in lines}
        if field not in free and len(values) > 1:
            raise MinigradError(f"the lines hold more than one {field}: {', '.join(sorted(map(str, values)))}\n"
                                "  help: draw the lines of one setting at a time")


def wrapped(text, width=130):
    """The text in lines of at most `width` characters."""
    return "\n".join(textwrap.wrap(text, width))


def legend(figure, axes, columns=3, place="outside lower center"):
    """A legend outside all panels, of what is labelled in these axes, each label once; nothing if nothing is."""
    entries = {}
    for panel in axes:
        for handle, text in zip(*panel.get_legend_handles_labels()):
            entries.setdefault(text, handle)
    if entries:
        figure.legend(entries.values(), entries, loc=place, ncols=columns, fontsize=8, handlelength=4)


def beside(axes, place, text, offset=6, **style):
    """A word to the right of the axes, at the height of a row; offset: in points."""
    axes.annotate(text, (1.0, place), (offset, 0), xycoords=axes.get_yaxis_transform(), textcoords="offset points",
                  va="center", fontsize=8, **style)


def hollow(axes, x, y, **style):
    """The paper's values: hollow diamonds, with error bars if given (xerr, yerr); empty lists make a legend entry."""
    style = {"color": "black", "marker": "D", "markersize": 7, "alpha": 0.7, "linestyle": "none"} | style
    axes.errorbar(x, y, markerfacecolor="none", **style)


def saved(figure, path):
    """Writes the figure, closes it, and gives the path."""
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path
