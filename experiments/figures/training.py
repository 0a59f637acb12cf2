"""Training on wrong labels as it proceeds: Figures 3 and 7 of the paper, and the weights over time."""
import statistics

import matplotlib.pyplot as plt
import numpy as np

from .common import check_one_setting, color, draw_hollow, label, legend, look, runs, save, wrap
from .paper import FIGURE_3, FIGURE_7, FIGURE_7_STEPS, is_main_task

BINS = np.linspace(0.0, 0.04, 50)           # 49 bins, as in the paper


def weight_histograms(unconditional, conditional, path, caption, paper=True):
    """Draw Figure 3, the distribution of example weights of right and wrong labels, and return the path.

    Densities; weights above 0.04 are counted, but not drawn. Each panel states the share of the images in the lowest
    bin.

    Args:
        unconditional: a pair of arrays, the weights of noisy and of clean images, for images of all classes.
        conditional: the same for images of one class that is not the background.
        path: the file to write.
        caption: what the runs were, for the title.
        paper: whether to state the paper's shares too, and draw them as hollow diamonds.
    """
    figure, panels = plt.subplots(1, 2, figsize=(10, 4.4), sharey=True, layout="constrained")
    for axes, pair, (kind, theirs) in zip(panels, (unconditional, conditional), FIGURE_3.items()):
        text = [f"in the lowest bin, w < {BINS[1]:.4f}:"]
        for (name, share), weights, shade in zip(theirs.items(), pair, ("#ff7f0e", "#1f77b4")):
            weights = np.asarray(weights).ravel()
            counts = np.histogram(weights, BINS)[0] / max(len(weights), 1)
            axes.stairs(counts / BINS[1], BINS, fill=True, alpha=0.45, color=shade, label=f"{name} labels")
            mine = f"{100 * counts[0]:.1f} %" if len(weights) else "no images"
            text.append(f"{name}: {mine}" + f" (the paper: {100 * share:.1f} %)" * paper)
            if paper:
                draw_hollow(axes, BINS[1] / 2, share / BINS[1], color=shade)
        axes.text(0.97, 0.97, "\n".join(text), transform=axes.transAxes, ha="right", va="top", fontsize=8)
        axes.set(xlabel="weight of an image", title=f"{kind}: " + {
            "unconditional": "images of all classes", "conditional": "images of one class"}[kind], xlim=(-0.0004, 0.04),
                 ylim=(0.1, 1e4))
        axes.set_yscale("log", nonpositive="clip")
    panels[0].set_ylabel("density (logarithmic)")
    if paper:
        draw_hollow(panels[0], [], [], label="the paper's lowest bin")
    legend(figure, panels)
    figure.suptitle(wrap(f"Example weights of right and wrong labels ({caption})", 110))
    return save(figure, path)


def _curves(axes, lines, value, progress=False):
    """Draw a thin line for each seed, and a bold one for the mean over the seeds that have the step.

    value(line) -> number, or None for a line to skip. progress: divide each step by the method's last one.
    """
    for method, seeds in runs(lines).items():
        unit = max(line["step"] for own in seeds.values() for line in own) if progress else 1
        every = {}
        for own in seeds.values():
            points = [(line["step"], value(line)) for line in own if value(line) is not None]
            for step, height in points:
                every.setdefault(step, []).append(height)
            if len(seeds) > 1:
                axes.plot([step / (unit or 1) for step, _ in points], [height for _, height in points], linewidth=0.5,
                          alpha=0.45, color=color(method))
        steps = sorted(every)
        if steps:
            axes.plot([step / (unit or 1) for step in steps], [statistics.mean(every[step]) for step in steps],
                      label=label(method), **look(method) | {"marker": "." if len(steps) == 1 else None})


def _accuracy(field):
    def value(line):
        return None if line.get(field) is None else 100.0 - line[field]
    return value


def training_curves(lines, path, caption):
    """Draw Figure 7, validation accuracy (right labels) and training accuracy (given labels), and return the path.

    Both are drawn against step / last step, so that runs of any length and the paper's points (hollow, of 80,000 steps)
    fit in one picture. The paper's points are drawn for methods that we ran, and only on the paper's task (CIFAR-10,
    40 % background flip, 100 clean images). Raises MinigradError for lines of several settings.
    """
    check_one_setting(lines)
    tasks = {tuple(line.get(key) for key in ("data", "bias", "share", "clean")) for line in lines}
    main = all(task[:2] == ("cifar10", "background") and is_main_task(*task) for task in tasks)
    drawn = {line["method"] for line in lines}
    theirs = {method: points for method, points in FIGURE_7.items() if main and method in drawn}
    figure, panels = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
    for axes, name, field in zip(panels, ("validation", "train"), ("validation_error", "train_error")):
        _curves(axes, lines, _accuracy(field), progress=True)
        for method, points in theirs.items():
            draw_hollow(axes, [step / FIGURE_7_STEPS for step in points[name]], list(points[name].values()),
                   color=color(method), alpha=1.0, zorder=4)
        axes.set(xlabel="progress of training: step / last step", xlim=(0, 1.03))
        axes.grid(alpha=0.3)
    panels[0].set(ylabel="accuracy, %", title="validation images, right labels")
    panels[1].set(title="training batches, given labels")
    if theirs:
        draw_hollow(panels[0], [], [], label="the paper's, at step / 80,000")
    legend(figure, panels)
    figure.suptitle(wrap(f"Training ({caption})", 110))
    return save(figure, path)


def weights_over_training(lines, path, caption):
    """Draw the mean weight of wrong labels divided by that of right labels during training, and return the path.

    The ratio is 1 for a method that cannot tell them apart; reweighting should get below 1/3. Lines without the value
    are skipped. Raises MinigradError for lines of several settings.
    """
    check_one_setting(lines)
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    _curves(axes, lines, lambda line: line.get("noisy_weight"))
    for height, name, line in ((1.0, "1: no difference", ":"), (1 / 3, "1/3", "--")):
        axes.axhline(height, color="black", linewidth=0.8, linestyle=line, label=name)
    axes.set(xlabel="step", ylabel="weight of wrong labels / weight of right labels", ylim=(0, None))
    axes.grid(alpha=0.3)
    legend(figure, [axes])
    figure.suptitle(wrap(f"The weight of wrong labels ({caption})", 80))
    return save(figure, path)
