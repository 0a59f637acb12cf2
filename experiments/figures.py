"""Tables and pictures, drawn from the lines of the records alone."""
import collections
import statistics
import textwrap

import matplotlib.pyplot as plt

plt.switch_backend("Agg")               # into files, also where there is no screen

COLOURS = {"uniform": "#7f7f7f", "random": "#bcbd22", "proportion": "#1f77b4", "resample": "#17becf",
           "hard_mining": "#9467bd", "reweight": "#d62728"}

# Test error in percent, mean and half-height of the error bar: the paper, Figure 2, read off its vector drawing.
PAPER_FIGURE_2 = {
    "uniform": {0.9: (1.62, .21), 0.95: (2.86, .30), 0.98: (5.80, .61), 0.99: (10.48, 1.0), 0.995: (18.26, 1.7)},
    "random": {0.9: (1.78, .20), 0.95: (2.82, .55), 0.98: (5.62, .52), 0.99: (9.52, 1.4), 0.995: (17.74, 2.0)},
    "proportion": {0.9: (1.22, .17), 0.95: (2.04, .32), 0.98: (3.32, .44), 0.99: (5.40, .58), 0.995: (8.30, 1.4)},
    "resample": {0.9: (1.40, .24), 0.95: (1.78, .20), 0.98: (3.38, .41), 0.99: (5.96, .86), 0.995: (9.62, 1.1)},
    "hard_mining": {0.9: (1.34, .39), 0.95: (1.48, .53), 0.98: (2.16, .52), 0.99: (4.50, .87), 0.995: (7.74, 2.0)},
    "reweight": {0.9: (1.28, .54), 0.95: (1.44, .58), 0.98: (1.96, .62), 0.99: (2.50, .75), 0.995: (3.62, .65)},
}


def final_errors(lines):
    """{method: {share: [test error of each seed at its last step]}}, in the order of the lines."""
    last = {(line["method"], line["share"], line["seed"]): line["test_error"]
            for line in sorted(lines, key=lambda line: line["step"])}
    errors = collections.defaultdict(lambda: collections.defaultdict(list))
    for line in lines:
        key = line["method"], line["share"], line["seed"]
        if key in last:
            errors[key[0]][key[1]].append(last.pop(key))
    return errors


def _spread(values):
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def _cell(values):
    mean, deviation = _spread(values)
    return f"{mean:.1f} ± {deviation:.1f} ({len(values)})" if len(values) > 1 else f"{mean:.1f} (1)"


def table(lines):
    """Test error in percent at the last step: a row for each method, a column for each share of the majority."""
    errors = final_errors(lines)
    shares = sorted({share for row in errors.values() for share in row})
    head = f"{'test error %':14s}" + "".join(f"{share:>16}" for share in shares)
    rows = [head, "-" * len(head)]
    for method, row in errors.items():
        cells = (_cell(row[share]) if share in row else "-" for share in shares)
        rows.append(f"{method:14s}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(["", *rows, "mean ± standard deviation (seeds); the column is the share of the majority class"])


def error_against_share(lines, path, caption, paper=False):
    """Figure 2: test error against the share of the majority, with the standard deviation over seeds.

    paper: also draw the values that the paper reports, with its error bars, as hollow marks.
    """
    errors = final_errors(lines)
    shares = sorted({share for row in errors.values() for share in row})
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    for k, (method, row) in enumerate(errors.items()):
        at = [shares.index(share) + 0.06 * (k - len(errors) / 2 + 0.5) for share in sorted(row)]
        means, bars = zip(*(_spread(row[share]) for share in sorted(row)))
        axes.errorbar(at, means, bars, marker="o", capsize=3, label=method, color=COLOURS.get(method),
                      linewidth=2.2 if method == "reweight" else 1.2, zorder=3 if method == "reweight" else 2)
        theirs = PAPER_FIGURE_2.get(method, {}) if paper else {}
        for x, share in zip(at, sorted(row)):
            if share in theirs:
                axes.errorbar(x + 0.02, *theirs[share], marker="D", markerfacecolor="none", color=COLOURS.get(method),
                              markersize=8, alpha=0.6)
    if paper:
        axes.errorbar([], [], [], marker="D", markerfacecolor="none", color="black", alpha=0.6, linestyle="none",
                      label="the paper's own value")
    axes.set_xticks(range(len(shares)), [f"{100 * share:g} %" for share in shares])
    axes.set(xlabel="share of the majority class in training", ylabel="test error, %", ylim=(0, None),
             title=f"Class imbalance, fours and nines ({caption})")
    axes.grid(axis="y", alpha=0.3)
    axes.legend()
    return _saved(figure, path)


def weight_over_training(lines, path, caption):
    """How much of the weight goes to the minority as training goes on: one panel for each share, mean over seeds."""
    shares = sorted({line["share"] for line in lines})
    figure, panels = plt.subplots(1, len(shares), figsize=(2.0 + 3.0 * len(shares), 4.2), sharey=True, squeeze=False,
                                  layout="constrained")
    for axes, share in zip(panels[0], shares):
        curves = collections.defaultdict(lambda: collections.defaultdict(list))
        for line in lines:
            if line["share"] == share:
                curves[line["method"]][line["step"]].append(100.0 * line["minority_weight"])
        for method, curve in curves.items():
            steps = sorted(curve)
            axes.plot(steps, [statistics.mean(curve[step]) for step in steps], label=method, marker=".", markersize=4,
                      color=COLOURS.get(method), linewidth=2.2 if method == "reweight" else 1.2)
        axes.axhline(100.0 * (1.0 - share), color="black", linewidth=0.8, linestyle=":")
        axes.set(xlabel="step", title=f"majority {100 * share:g} %", ylim=(0, 100))
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("weight on the minority class, %\n(the rest is on the majority)")
    panels[0][-1].plot([], [], color="black", linewidth=0.8, linestyle=":", label="its share of the data")
    figure.legend(*panels[0][-1].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.suptitle(f"Who gets the weight ({caption})")
    return _saved(figure, path)


def _saved(figure, path):
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path


# ---------------------------------------------------------------------------------------------- benchmark

LIBRARY_COLOURS = {"minigrad": "#d62728", "PyTorch": "#1f77b4", "PyTorch channels_last": "#6baed6", "JAX": "#2ca02c",
                   "autograd": "#9467bd", "MyGrad": "#8c564b", "NumPy": "#7f7f7f"}


def _conditions(everything):
    versions = {}
    for problem in everything["problems"].values():
        versions |= problem["versions"]
    return (f"{everything['date']}, {everything['backend']}, {everything['threads']} threads, medians of "
            f"{everything['rounds']} rounds; " + ", ".join(f"{name} {version}" for name, version in versions.items()))


def bars(everything, path):
    """The time of each route of each library, a panel for each problem; the line on a bar spans the quartiles."""
    problems = everything["problems"]
    heights = [max(len(result["rows"]), 2) for result in problems.values()]
    figure, panels = plt.subplots(len(problems), 1, figsize=(9, 0.33 * sum(heights) + 1.1 * len(problems) + 0.6),
                                  squeeze=False, height_ratios=heights, layout="constrained")
    for panel, (name, result) in zip(panels[:, 0], problems.items()):
        rows = sorted(result["rows"], key=lambda row: row["ms"])
        for place, row in enumerate(rows):
            low, high = row["quartiles"]
            panel.barh(place, row["ms"], color=LIBRARY_COLOURS[row["library"]],
                       xerr=[[max(row["ms"] - low, 0)], [max(high - row["ms"], 0)]], error_kw={"ecolor": "#333333"})
        panel.set_yticks(range(len(rows)), [f"{row['library']}: {row['route']}" for row in rows], fontsize=8)
        panel.invert_yaxis()
        panel.set_title(f"{name}: milliseconds for one step", loc="left", fontsize=10)
        panel.grid(axis="x", alpha=0.3)
    figure.supxlabel(_wrapped(_conditions(everything)), fontsize=7)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _wrapped(text, width=130):
    return "\n".join(textwrap.wrap(text, width))


def growth(everything, path):
    """Time and peak memory against batch size (depth 32) and against depth (batch 50): one line for each route."""
    figure, panels = plt.subplots(2, 2, figsize=(10, 7.5), layout="constrained")
    wanted = [("minigrad", "plain"), ("minigrad", "Algorithm 1"), ("minigrad", "Algorithm 1, units forgotten"),
              ("PyTorch", "plain"), ("PyTorch", "double backward"), ("PyTorch", "one graph")]
    for column, (along, fixed, value) in enumerate((("batch", "depth", 32), ("depth", "batch", 50))):
        for library, route in wanted:
            points = sorted((p for p in everything["growth"] if (p["library"], p["route"], p[fixed]) ==
                             (library, route, value)), key=lambda p: p[along])
            style = {"color": LIBRARY_COLOURS[library], "marker": "o", "markersize": 3, "linestyle":
                     {"plain": "--", "one graph": "-.", "Algorithm 1, units forgotten": ":"}.get(route, "-")}
            for panel, key, unit in ((panels[0, column], "ms", 1.0), (panels[1, column], "memory", 1e6)):
                if points and all(p[key] for p in points):
                    panel.plot([p[along] for p in points], [p[key] / unit for p in points],
                               label=f"{library}: {route}", **style)
        for panel, what in zip(panels[:, column], ("ms for one step", "peak MB in one step")):
            panel.set_xlabel("images in each batch (ResNet-32)" if along == "batch" else "layers (50 images a batch)")
            panel.set_ylabel(what)
            panel.set_ylim(bottom=0)
            panel.grid(alpha=0.3)
    panels[0, 0].legend(fontsize=7, handlelength=4)
    rounds = everything["growth"][0].get("rounds", everything["rounds"])
    figure.supxlabel(_wrapped(_conditions({**everything, "rounds": rounds})), fontsize=7)
    figure.savefig(path, dpi=130)
    plt.close(figure)
