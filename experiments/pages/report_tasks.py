"""What a report shows of a task, and of several tasks together: tables, and pictures of the finished runs."""
import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

from .. import console, figures
from ..figures.common import label, spread_text
from ..figures.common import runs as by_method
from . import contradiction, html_page

DATA = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
FLIPS = {"background": "flipped to one class, the background", "uniform": "flipped to random classes"}
REDRAWN = {"cifar": ("table?-*.png", "figure[457]-*.png"), "contradiction": ("contradiction.png",),
           "imbalance": ("error.png", "weight.png", "methods-*.png"), "other": ()}     # which the commands draw as well
BARS = 4                                                    # methods, at least, in a table that is also drawn


class Draw(NamedTuple):
    """A picture: draw(path) writes it."""
    draw: Callable
    caption: str


def kind(labels):
    """Return the experiment that runs with these labels belong to: cifar, contradiction, imbalance or other."""
    if "task" in labels:
        return "contradiction"
    if {"data", "network", "bias", "share", "clean"} <= {*labels}:
        return "cifar"
    return "imbalance" if "share" in labels else "other"


def _percent(share):
    return f"{100 * share:g} %" if isinstance(share, (int, float)) else str(share)


def _wrong(bias):
    """Return a text about the wrong labels of this bias: flips, or the labels of a file with its name."""
    return f"{bias} flips" if bias in FLIPS else f"wrong labels, {bias}"


def _hollow(theirs):
    """Return the end of a caption: what hollow marks are, where there are any."""
    return "; hollow: the paper's values." if theirs else "."


def describe(runs):
    """Return a heading for the task of these runs."""
    labels, which = runs[0].labels, kind(runs[0].labels)
    if which == "cifar":
        targets = sorted({str(run.labels["target"]) for run in runs if "target" in run.labels},
                         key=lambda target: (len(target), target))
        to = f" to class {', '.join(targets)}" if targets else ""
        text = (f"{DATA.get(labels['data'], labels['data'])}: {_percent(labels['share'])} {_wrong(labels['bias'])}"
                f"{to}, {labels['clean']} clean images, {labels['network']}")
    elif which == "imbalance":
        text = f"Class imbalance: {_percent(labels['share'])} of the training examples are of one class"
    elif which == "contradiction":
        text = f"Task \"{labels['task']}\""
    else:
        others = [f"{name} {value}" for name, value in labels.items() if name not in ("method", "seed")]
        text = ", ".join(others) or "One task"
    return f"{runs[0].source}: {text}" if runs[0].source else text


def explain(labels):
    """Return how training differs from test by these labels, in a sentence; "" for other records."""
    which, share = kind(labels), _percent(labels.get("share"))
    if which == "cifar":
        return (f"In training {share} of the labels are {FLIPS.get(labels['bias'], 'wrong')}; {labels['clean']} clean "
                "images and the test images have right labels.")
    if which == "imbalance":
        return f"In training {share} of the examples are of one class; the clean and the test set are balanced."
    if which == "contradiction":
        known = labels["task"] in contradiction.TASKS
        about = contradiction.describe_task(labels["task"]).replace("\n", " ") if known else f"{share} nines"
        return f"Fours and nines; in training {about}; the clean and the test set are balanced and labeled correctly."
    return ""


def _paper_values(labels):
    return figures.paper.accuracies(*(labels[key] for key in ("data", "bias", "share", "clean")))


def _error_rows(lines, theirs):
    """Return rows for a table of test errors, each with the paper's value."""
    return [[label(method), spread_text([own[-1]["test_error"] for own in seeds.values()]),
             "{:.2f} ± {:.2f}".format(*theirs[method]) if method in theirs else "-"]
            for method, seeds in by_method(lines).items()]


def result_table(lines):
    """Return the table of final results of one task, and a note on it.

    Accuracies for tasks on CIFAR, as in the paper's tables; else errors, as in its Figure 2.
    """
    if kind(lines[0]) == "cifar":
        head, rows = "test accuracy, %", figures.accuracy_rows(lines, _paper_values(lines[0]))
        after = "half of the 95 % interval by Student's t"
    else:
        head, share, after = "test error, %", lines[0].get("share"), "standard deviation"
        theirs = figures.paper.FIGURE_2 if kind(lines[0]) == "imbalance" else {}
        rows = _error_rows(lines, {method: row[share] for method, row in theirs.items() if share in row})
    columns = 3 if any(row[2] != "-" for row in rows) else 2
    note = f"At the last step: mean ± {after} (number of seeds)."
    if columns == 3:
        note += " The paper's values are of its own networks, data and numbers of steps."
    if any("*" in row[0] for row in rows):
        note += " *: at the step with the fewest errors on the validation set, whose labels are biased too."
    heads = ["method", f"{head}: ours" if columns == 3 else head, "the paper"]
    return [html_page.table(heads[:columns], [row[:columns] for row in rows], (1, 2)),
            html_page.element("p", note, kind="note")]


def task_pictures(lines, caption):
    """Yield the Draws of one task on CIFAR: results, training curves, and weights of wrong labels."""
    if kind(lines[0]) != "cifar":
        return
    if len(by_method(lines)) >= BARS:
        theirs = _paper_values(lines[0])
        yield Draw(lambda path: figures.accuracy_bars(lines, theirs, path, caption),
                   f"Test accuracy of each method{_hollow(theirs)}")
    if all(len(own) < 2 for seeds in by_method(lines).values() for own in seeds.values()):
        return
    if any(line.get("validation_error") is not None for line in lines):
        yield Draw(lambda path: figures.training_curves(lines, path, caption),
                   "Accuracy during training: on validation images with right labels, and on training batches with "
                   "the given labels.")
    if any(line.get("noisy_weight") is not None for line in lines):
        yield Draw(lambda path: figures.weights_over_training(lines, path, caption),
                   "Mean weight of wrong labels, divided by that of right labels.")


def comparisons(runs, settings, caption, problems):
    """Return Draws and sentences on several tasks, and the names of the pictures in the folder that they replace.

    runs: the finished ones; settings: of the folder; caption: for the titles; problems: what cannot be shown is added.
    """
    found, redrawn = [], set()
    for (source, which), group in itertools.groupby(sorted(runs, key=_group), _group):
        lines = [line for run in group for line in run.lines]
        try:
            found += SHOWN[which](lines, settings, f"{source}, {caption}" if source else caption)
            redrawn |= {*REDRAWN[which]}
        except Exception as error:                          # of a strange record: the rest of the page is still made
            problems.append(f"not compared: {console.reason(error).splitlines()[0]}")
    return found, redrawn


def _group(run):
    return run.source, kind(run.labels)


def _on_cifar(lines, settings, caption):
    """Yield Figures 5 and 4 of what differs in the share of flips alone, or in the number of clean images alone."""
    for along, fixed, words in (("share", "clean", "share of flipped labels"),
                                ("clean", "share", "number of clean images")):
        keys = ("data", "network", "bias", fixed)
        groups = {}
        for line in lines:
            groups.setdefault(tuple(line.get(key) for key in keys), []).append(line)
        for values, own in groups.items():
            data, network, bias, value = values
            if len({line[along] for line in own}) > 1:
                theirs = {data: figures.paper.curves(along, data, bias, value)}
                about = f"{caption}; {network}, {_wrong(bias)}, {fixed} {value}"
                yield Draw(functools.partial(_draw_against, own, along, theirs, about, words),
                           f"{DATA.get(data, data)}, {_wrong(bias)}: test accuracy against the {words}"
                           f"{_hollow(any(theirs.values()))}")


def _draw_against(lines, along, theirs, caption, words, path):
    return figures.accuracy_against(lines, along, theirs, path, caption, words)


def _on_imbalance(lines, settings, caption):
    """Yield the pictures of Figure 2."""
    paper = settings.get("mode") != "quick" and settings.get("data") == "mnist"
    yield Draw(lambda path: figures.error_against_share(lines, path, caption, paper),
               "Test error against the share of the majority class; the bars are standard deviations over seeds.")
    for share in sorted({line["share"] for line in lines}):
        if len({line["method"] for line in lines if line["share"] == share}) >= BARS:
            yield Draw(lambda path, share=share: figures.all_methods(lines, path, caption, share, paper),
                       f"Test error of every method where {_percent(share)} of the examples are of one class.")
    if any(line.get("minority_weight") is not None for line in lines):
        yield Draw(lambda path: figures.weight_over_training(lines, path, caption),
                   "Weight of the rare class during training.")


def _on_contradiction(lines, settings, caption):
    """Yield the picture of the three tasks, and whether each claim held."""
    yield Draw(lambda path: contradiction.picture(lines, path, caption),
               "Test error with weights on high losses, on low losses, and by the clean set.")
    for name, verdict in contradiction.verdicts(lines).items():
        yield f"{name}: {verdict.sentence}"


SHOWN = {"cifar": _on_cifar, "imbalance": _on_imbalance, "contradiction": _on_contradiction,
         "other": lambda lines, settings, caption: ()}
