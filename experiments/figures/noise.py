"""Accuracy of networks trained on wrong labels: Tables 1 and 2, Figures 4, 5 and 6 of the paper.

Solid marks are our values over seeds, hollow ones the paper's. Accuracies are in percent, on the test set unless
stated otherwise.
"""
import matplotlib.pyplot as plt
import numpy as np

from .common import (
    check_one_setting,
    color,
    draw_hollow,
    interval,
    interval_text,
    label,
    legend,
    look,
    runs,
    save,
    wrap,
    write_beside,
)
from .paper import NAMES

PLAIN = "uniform"
STOPPED = "stopped by validation"
COLUMN = 90                                 # points from the axes to the paper's column


def final_accuracies(lines):
    """Return {method: [test accuracy of each seed at its last step]}."""
    return {method: [100.0 - own[-1]["test_error"] for own in seeds.values()] for method, seeds in runs(lines).items()}


def early_stopping_accuracies(lines):
    """Return [test accuracy of plain training for each seed, at the step of the lowest biased validation error].

    This is early stopping in the usual sense; the paper's "ES" is a shorter schedule. Steps without a validation
    error are skipped; of equal errors the first counts.
    """
    seen = [line for line in lines if line["method"] == PLAIN and line.get("validation_error_biased") is not None]
    return [100.0 - min(own, key=lambda line: line["validation_error_biased"])["test_error"]
            for own in runs(seen)[PLAIN].values()]


def _rows(lines, paper_rows):
    """Yield (method, label, [our accuracies], the paper's (mean, half) or None), in the paper's order first."""
    check_one_setting(lines)
    ours, stopped = final_accuracies(lines), early_stopping_accuracies(lines)
    for method in dict.fromkeys((*paper_rows, *ours)):
        yield method, label(method), ours.get(method, []), paper_rows.get(method)
        if method == PLAIN and stopped:
            yield method, f"{PLAIN}, {STOPPED} *", stopped, None


def _has_early_stopping(names):
    return any(STOPPED in name for name in names)


def _paper_cell(method, value):
    if value is None:
        return "-"
    mean, half = value
    return f"{mean:.1f}{' (quoted)' * ('_quoted' in method)}" if half is None else f"{mean:.2f} ± {half:.2f}"


def accuracy_rows(lines, paper_rows):
    """Return a row of texts for each method: its name, our accuracy, the paper's; see accuracy_table."""
    return [(name, interval_text(ours), _paper_cell(method, theirs))
            for method, name, ours, theirs in _rows(lines, paper_rows)]


def accuracy_table(lines, paper_rows, title):
    """Format Table 1 or 2: test accuracy at the last step, ours and the paper's, each with its 95 % interval.

    paper_rows: {method: (mean, half of the interval, None if quoted)}. Raises MinigradError for lines of several
    settings.
    """
    rows = accuracy_rows(lines, paper_rows)
    width = max([len(name) for name, *_ in rows] + [len("test accuracy %")]) + 1
    head = f"{'test accuracy %':{width}s}{'ours':>20}{'the paper':>20}"
    body = [f"{name:{width}s}{ours:>20}{theirs:>20}" for name, ours, theirs in rows]
    notes = ["mean ± half of the 95 % interval by Student's t (seeds); the paper's are of five seeds"]
    if _has_early_stopping(name for name, *_ in rows):
        notes.append("* ours: at the step with the fewest errors on the biased validation set; the paper's +ES is a"
                     " shorter schedule")
    return "\n".join(["", title, head, "-" * len(head), *body, *notes])


def accuracy_bars(lines, paper_rows, path, caption):
    """Draw the rows of `accuracy_table` and return the path: our bars, the paper's values as hollow diamonds.

    Both with their 95 % intervals. Raises MinigradError for lines of several settings.
    """
    rows = list(_rows(lines, paper_rows))
    figure, axes = plt.subplots(figsize=(10, 1.8 + 0.32 * max(len(rows), 2)), layout="constrained")
    for k, (method, _, ours, theirs) in enumerate(rows):
        if ours:
            mean, half = interval(ours)
            axes.barh(k, mean, color=color(method), alpha=0.85)
            if half:
                axes.errorbar(mean, k - 0.2, xerr=half, color="#333333", capsize=3, linestyle="none")
        if theirs:
            draw_hollow(axes, theirs[0], k + 0.15, xerr=theirs[1])
        write_beside(axes, k, interval_text(ours))
        write_beside(axes, k, _paper_cell(method, theirs), COLUMN)
    write_beside(axes, -1, "ours (seeds)", weight="bold")
    write_beside(axes, -1, "the paper", COLUMN, weight="bold")
    if paper_rows:
        draw_hollow(axes, [], [], label="the paper's value")
    legend(figure, [axes])
    axes.set_yticks(range(len(rows)), [name for _, name, *_ in rows], fontsize=8)
    note = "\n* ours: at the step with the fewest errors on the biased validation set"
    stopped = _has_early_stopping(name for _, name, *_ in rows)
    axes.set_xlabel("test accuracy, %: mean ± half of the 95 % interval" + note * stopped)
    axes.set(xlim=(0, 100), ylim=(len(rows) - 0.4, -1.5))
    figure.suptitle(wrap(f"Test accuracy ({caption})", 100))
    axes.grid(axis="x", alpha=0.3)
    return save(figure, path)


# ----------------------------------------------------------------------------------------- Figures 4 and 5

def _accuracy_panel(axes, lines, key, theirs):
    """Draw one data set: for each method our means with intervals and the paper's values, side by side."""
    ours = {}
    for value in {line[key] for line in lines}:
        for method, accuracies in final_accuracies([line for line in lines if line[key] == value]).items():
            ours.setdefault(method, {})[value] = interval(accuracies)
    values = sorted({value for row in (*ours.values(), *theirs.values()) for value in row})
    methods = list(dict.fromkeys((*theirs, *(line["method"] for line in lines))))
    for k, method in enumerate(methods):
        shift = 0.07 * (k - (len(methods) - 1) / 2)
        row, name = sorted(ours.get(method, {}).items()), label(method)
        if row:
            axes.errorbar([values.index(value) + shift for value, _ in row], [mean for _, (mean, _) in row],
                          [half for _, (_, half) in row], label=name, capsize=3, markersize=5, elinewidth=1.0,
                          **look(method))
        if method in theirs:
            points = sorted(theirs[method].items())
            draw_hollow(axes, [values.index(value) + shift for value, _ in points], [height for _, height in points],
                   **look(method) | {"linewidth": 0.7, "zorder": 1, "alpha": 0.5},
                   label=None if row else f"{NAMES.get(method, method)}: only the paper's")
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, 0.0), min(high, 100.0))          # the interval of two seeds is often longer than the scale
    axes.set_xticks(range(len(values)), [f"{100 * value:g} %" if key == "share" else f"{value:g}" for value in values])


def accuracy_against(lines, key, paper_values, path, caption, label):
    """Draw Figure 4 or 5, test accuracy at the last step against a setting, and return the path.

    One panel for each data set in the lines. Raises MinigradError for lines that differ in another setting.

    Args:
        lines: lines of the records.
        key: "clean" (number of clean images) or "share" (of wrong labels).
        paper_values: {data: {method: {value: accuracy}}}.
        path: the file to write.
        caption: what the runs were, for the title.
        label: of the horizontal axis, on which the values are equally spaced.
    """
    data = list(dict.fromkeys(line["data"] for line in lines)) or list(paper_values) or [""]
    figure, panels = plt.subplots(1, len(data), figsize=(3.0 + 6.0 * len(data), 5.4), squeeze=False,
                                  layout="constrained")
    for axes, name in zip(panels[0], data):
        own = [line for line in lines if line["data"] == name]
        check_one_setting(own, free=(key,))
        _accuracy_panel(axes, own, key, paper_values.get(name, {}))
        axes.set(xlabel=label, title=name)
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("test accuracy, %")
    if any(paper_values.get(name) for name in data):
        draw_hollow(panels[0][0], [], [], marker="o", linestyle="-", linewidth=0.7, label="hollow: the paper's value")
    legend(figure, panels[0], 2 if len(data) == 1 else 3)
    figure.suptitle(wrap(f"Test accuracy against {label} ({caption})", 30 + 60 * len(data)))
    return save(figure, path)


# ---------------------------------------------------------------------------------------------- Figure 6

def confusion(matrices, path, caption, classes, diagonals=None):
    """Draw Figure 6, a row-normalized confusion matrix for each method, and return the path.

    Rows are true classes, columns predicted ones. The numbers are written into the cells of up to ten classes. A class
    without images has a row of zeros.

    Args:
        matrices: {method: (K, K) counts}.
        path: the file to write.
        caption: what the runs were, for the title.
        classes: the names of the K classes.
        diagonals: {method: (K,)} of the paper, written to the right of the rows.
    """
    width = max(len(matrices), 1)
    figure, panels = plt.subplots(1, width, figsize=(1.0 + 5.4 * width, 5.4), squeeze=False, layout="constrained")
    few, picture = len(classes) <= 10, None
    for axes, (method, counts) in zip(panels[0], matrices.items()):
        counts = np.asarray(counts, float)
        parts = counts / np.maximum(counts.sum(1, keepdims=True), 1.0)
        picture = axes.imshow(parts, vmin=0, vmax=1, cmap="Blues")
        for (row, column), part in np.ndenumerate(parts) if few else ():
            axes.text(column, row, f"{part:.2f}", ha="center", va="center", fontsize=7,
                      color="white" if part > 0.5 else "black")
        for row, part in enumerate((diagonals or {}).get(method, ())):
            axes.text(len(classes) - 0.4, row, f"{part:.2f}", va="center", fontsize=7, color="#b30000", clip_on=False)
        if method in (diagonals or {}):
            axes.text(len(classes) - 0.4, -0.8, "the paper's\ndiagonal", va="center", fontsize=7, color="#b30000")
        ticks = range(len(classes)) if few else range(0, len(classes), 10)
        axes.set_xticks(ticks, [classes[k] for k in ticks], rotation=90)
        axes.set_yticks(ticks, [classes[k] for k in ticks])
        axes.set(xlabel="predicted", title=label(method))
    panels[0][0].set_ylabel("true class")
    if picture is not None:
        figure.colorbar(picture, ax=panels[0].tolist(), shrink=0.7, label="share of the true class")
    figure.suptitle(wrap(f"Confusion matrices ({caption})", 20 + 50 * width))
    return save(figure, path)
