"""Table and picture of `tables`: Algorithm 1 beside scikit-learn and imbalanced-learn on public tables."""
import collections

import matplotlib.pyplot as plt

from .common import OTHER, color, save, spread, wrap

OURS = "ReweightedClassifier, Algorithm 1 *"


def scores(lines):
    """Return {table: {bias: {method: [balanced accuracy in percent of each seed]}}}, in the order of the lines."""
    found = collections.defaultdict(lambda: collections.defaultdict(lambda: collections.defaultdict(list)))
    for line in lines:
        found[line["table"]][line["bias"]][line["method"]].append(line["balanced_accuracy"])
    return found


def table(lines):
    """Format the balanced accuracy, for each table a row per method and a column per bias; < marks the best mean."""
    rows = []
    for name, biases in scores(lines).items():
        head = f"{name + ', balanced accuracy, %':50}" + "".join(f"{bias:>16}" for bias in biases)
        rows += ["", head, "-" * len(head)]
        found = {bias: {method: spread(own) for method, own in methods.items()} for bias, methods in biases.items()}
        best = {bias: max(mean for mean, _ in own.values()) for bias, own in found.items()}
        for method in next(iter(found.values())):
            cells = (f"{mean:.1f} ± {deviation:.1f} {'<' if mean == best[bias] else ' '}"
                     for bias, own in found.items() for mean, deviation in [own[method]])
            rows.append(f"{method:50}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join([*rows, "mean ± standard deviation over seeds; * knows which rows are clean"])


def picture(lines, path):
    """Draw the balanced accuracy, a panel for each table and bias, a dot and a bar for each method; return the path.

    The bar is the standard deviation over seeds, the dashed line Algorithm 1.
    """
    found = scores(lines)
    biases = list(dict.fromkeys(line["bias"] for line in lines))
    methods = list(dict.fromkeys(line["method"] for line in lines))
    figure, panels = plt.subplots(len(found), len(biases), figsize=(4.0 + 2.8 * len(biases), 1.0 + 2.7 * len(found)),
                                  sharey=True, squeeze=False, layout="constrained")
    for row, (name, own) in zip(panels, found.items()):
        for axes, bias in zip(row, biases):
            for k, method in enumerate(methods):
                mean, deviation = spread(own[bias][method])
                tone = color("reweight") if method == OURS else color("proportion") if "*" in method else OTHER
                axes.errorbar(mean, k, xerr=deviation, marker="o", color=tone, capsize=2, markersize=5)
                if method == OURS:
                    axes.axvline(mean, color=tone, linestyle="--", linewidth=1.0)
            axes.set(title=f"{name}, {bias}", xlim=(None, 100))
            axes.grid(alpha=0.3)
        row[0].set_yticks(range(len(methods)), methods, fontsize=8)
        row[0].invert_yaxis()
    for axes in panels[-1]:
        axes.set_xlabel("balanced accuracy, %")
    seeds, clean = len({line["seed"] for line in lines}), {line["clean"] for line in lines}
    figure.suptitle(wrap("Algorithm 1 (red), others that know which rows are clean (blue), and those that do not: "
                         f"{', '.join(map(str, sorted(clean)))} clean rows of each class, mean ± standard deviation of "
                         f"{seeds} seeds", 110))
    return save(figure, path)
