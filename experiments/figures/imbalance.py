"""Table and pictures of the imbalance experiment: Figure 2 of the paper, and methods beyond the paper's."""
import collections
import statistics

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm

from .common import color, draw_hollow, legend, look, save, spread, spread_text, wrap, write_beside
from .paper import FIGURE_2


def final_errors(lines):
    """Return {method: {share: [test error of each seed at its last step]}}, in the order of the lines."""
    last = {(line["method"], line["share"], line["seed"]): line["test_error"]
            for line in sorted(lines, key=lambda line: line["step"])}
    errors = collections.defaultdict(lambda: collections.defaultdict(list))
    for line in lines:
        key = line["method"], line["share"], line["seed"]
        if key in last:
            errors[key[0]][key[1]].append(last.pop(key))
    return errors


def table(lines):
    """Format the test error in percent at the last step: a row per method, a column per share of the majority class."""
    errors = final_errors(lines)
    shares = sorted({share for row in errors.values() for share in row})
    width = max(14, *(len(method) + 1 for method in errors), 0)
    head = f"{'test error %':{width}s}" + "".join(f"{share:>16}" for share in shares)
    rows = [head, "-" * len(head)]
    for method, row in errors.items():
        cells = (spread_text(row[share]) if share in row else "-" for share in shares)
        rows.append(f"{method:{width}s}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(["", *rows, "mean ± standard deviation (seeds); the column is the share of the majority class"])


def _choose_methods(methods):
    """Return all methods, or only the paper's where there are more than a reader can tell apart."""
    papers = [method for method in methods if method in FIGURE_2]
    return papers if papers and len(methods) > len(FIGURE_2) else list(methods)


def error_against_share(lines, path, caption, paper=False):
    """Draw Figure 2, test error against the share of the majority, with the standard deviation over seeds.

    Where the lines have more than six methods, only the paper's are drawn: see `all_methods`. Returns the path.
    paper: also draw the values that the paper reports, with its error bars, as draw_hollow diamonds.
    """
    errors = final_errors(lines)
    shares = sorted({share for row in errors.values() for share in row})
    methods = _choose_methods(errors)
    figure, axes = plt.subplots(figsize=(7.6, 4.2), layout="constrained")
    for k, method in enumerate(methods):
        row = errors[method]
        at = [shares.index(share) + 0.1 * (k - (len(methods) - 1) / 2) for share in sorted(row)]
        means, bars = zip(*(spread(row[share]) for share in sorted(row)))
        axes.errorbar(at, means, bars, capsize=3, label=method, **look(method))
        for x, share in zip(at, sorted(row)):
            if paper and share in FIGURE_2.get(method, {}):
                mean, half = FIGURE_2[method][share]
                draw_hollow(axes, x + 0.04, mean, yerr=half, color=color(method))
    if paper:
        draw_hollow(axes, [], [], label="the paper's value")
    axes.set_xticks(range(len(shares)), [f"{100 * share:g} %" for share in shares])
    left_out = len(errors) - len(methods)
    axes.set(xlabel="share of the majority class in training", ylabel="test error, %", ylim=(0, None))
    axes.grid(axis="y", alpha=0.3)
    figure.suptitle(f"Class imbalance, fours and nines ({caption}" + ("; the paper's methods)" if left_out else ")"))
    legend(figure, [axes], 1, "outside right center")
    return save(figure, path)


def all_methods(lines, path, caption, share, paper=False):
    """Draw the test error of every method at one share of the majority, lowest first, with the standard deviation.

    Returns the path. paper: also draw the values that the paper reports, with its error bars, as draw_hollow
    diamonds.
    """
    rows = {method: row[share] for method, row in final_errors(lines).items() if share in row}
    rows = dict(sorted(rows.items(), key=lambda item: statistics.mean(item[1])))
    figure, axes = plt.subplots(figsize=(7.6, 1.6 + 0.3 * max(len(rows), 2)), layout="constrained")
    for k, (method, values) in enumerate(rows.items()):
        mean, deviation = spread(values)
        axes.barh(k, mean, color=color(method), alpha=0.85)
        if deviation:
            axes.errorbar(mean, k - 0.2, xerr=deviation, color="#333333", capsize=3, linestyle="none")
        if paper and share in FIGURE_2.get(method, {}):
            theirs, half = FIGURE_2[method][share]
            draw_hollow(axes, theirs, k + 0.15, xerr=half)
        write_beside(axes, k, spread_text(values))
    if paper:
        draw_hollow(axes, [], [], label="the paper's value")
    legend(figure, [axes])
    axes.set_yticks(range(len(rows)), rows)
    axes.set(xlabel="test error, %: mean ± standard deviation (seeds)", xlim=(0, None), ylim=(max(len(rows), 1), -1))
    axes.grid(axis="x", alpha=0.3)
    figure.suptitle(wrap(f"Majority {100 * share:g} %: every method ({caption})", 80))
    return save(figure, path)


def weight_over_training(lines, path, caption):
    """Draw the minority's share of the example weights during training, one panel per share, and return the path.

    Lines are means over seeds. Where there are more than six methods, only the paper's are drawn. Lines of the record
    without a weight are skipped.
    """
    lines = [line for line in lines if line.get("minority_weight") is not None]
    methods = _choose_methods(dict.fromkeys(line["method"] for line in lines))
    shares = sorted({line["share"] for line in lines})
    width = max(len(shares), 1)
    figure, panels = plt.subplots(1, width, figsize=(2.0 + 3.0 * width, 4.2), sharey=True, squeeze=False,
                                  layout="constrained")
    for axes, share in zip(panels[0], shares):
        for method in methods:
            curve = collections.defaultdict(list)
            for line in lines:
                if (line["share"], line["method"]) == (share, method):
                    curve[line["step"]].append(100.0 * line["minority_weight"])
            steps = sorted(curve)
            axes.plot(steps, [statistics.mean(curve[step]) for step in steps], label=method, markersize=4,
                      **look(method) | {"marker": "."})
        axes.axhline(100.0 * (1.0 - share), color="black", linewidth=0.8, linestyle=":", label="its share of the data")
        axes.set(xlabel="step", title=f"majority {100 * share:g} %", ylim=(0, 100))
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("weight on the minority class, %\n(the rest is on the majority)")
    legend(figure, panels[0], 4)
    figure.suptitle(wrap(f"Weight on the minority class ({caption})", 30 + 35 * width))
    return save(figure, path)


def example_weights_per_round(history, labels, path, caption):
    """Draw how the weights of the examples change from round to round of boosting, and return the path.

    Left, every example: all classes have the same height, and within a class examples are sorted by mean weight. A
    weight rises after a round that misclassified its example. Right: the share of the total weight of each class.

    Args:
        history: for each round the weights (n,) that it was trained with.
        labels: the classes of the examples (n,).
        path: the file to write.
        caption: what the runs were, for the title.
    """
    labels = np.asarray(labels)
    classes = np.unique(labels)
    weights = np.array([np.asarray(w) / np.sum(w) for w in history]).reshape(len(history), len(labels))
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    rounds = np.arange(1, len(history) + 1)
    rows = []
    for c in classes if weights.size else ():
        own = weights[:, labels == c]
        own = own[:, np.argsort(-own.mean(0), kind="stable")]
        rows.append(own[:, np.linspace(0, own.shape[1] - 1, 400 // len(classes)).astype(int)])
        right.plot(rounds, 100.0 * own.sum(1), marker=".", label=f"class {c} ({own.shape[1]} examples)")
    if rows:
        times = len(labels) * np.concatenate(rows, axis=1).T            # 1 is the weight of every example in round 1
        top = float(np.clip(times.max(), 2.0, 1e3))
        picture = left.imshow(np.clip(times, 1 / top, top), aspect="auto", cmap="RdBu_r", norm=LogNorm(1 / top, top),
                              extent=(0.5, len(rounds) + 0.5, len(classes), 0), interpolation="nearest")
        figure.colorbar(picture, ax=left, label="weight, in multiples of the initial weight")
        left.set_yticks(np.arange(len(classes)) + 0.5, [f"class {c}" for c in classes])
    left.set(xlabel="round", title="each example")
    right.set(xlabel="round", ylabel="share of the weight, %", ylim=(0, 100), title="each class")
    right.grid(alpha=0.3)
    legend(figure, [right], 4)
    figure.suptitle(wrap(f"Weights of the examples in each round of boosting ({caption})", 110))
    return save(figure, path)
