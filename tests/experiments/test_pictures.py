"""Pictures show the record: every line, bar, error bar, image and label of every picture, number by number."""
import math
import os
import statistics
import types

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer
from scipy.stats import t as student

from experiments import COMMANDS, figures
from experiments.benchmark import benchmark, peers, precision
from experiments.data import Given
from experiments.data.tasks import Part
from experiments.figures import common, paper
from experiments.methods import METHODS
from experiments.pages import contradiction
from experiments.paper import figure2, figure3, grids
from minigrad import FileError


def error_bars(axes):
    """Return [{x, y, xerr, yerr, color, label, hollow}] for all error bars with marks, in drawing order."""
    found = []
    for container in axes.containers:
        if not isinstance(container, ErrorbarContainer):
            continue
        line, _, bars = container.lines
        (x, y), halves, bars = line.get_data(), {"xerr": None, "yerr": None}, list(bars)
        for key, has, at in (("xerr", container.has_xerr, 0), ("yerr", container.has_yerr, 1)):
            if has:
                segments = bars.pop(0).get_segments()
                halves[key] = [(s[1][at] - s[0][at]) / 2 for s in segments]
                assert [(s[1][at] + s[0][at]) / 2 for s in segments] == pytest.approx(list((x, y)[at]))
        if len(x):
            found.append({"x": list(x), "y": list(y), **halves, "color": to_hex(line.get_color()), "label": container.get_label(),
                          "hollow": line.get_markerfacecolor() == "none"})
    return found


def ours(axes):
    return [bars for bars in error_bars(axes) if not bars["hollow"]]


def theirs(axes):
    return [bars for bars in error_bars(axes) if bars["hollow"]]


def ticks(axis):
    return [text.get_text() for text in axis.get_ticklabels()]


def approx(*values):
    return pytest.approx([*values], rel=1e-9, abs=1e-9)


def half(values):
    """Return half of the 95 % interval of the mean by Student's t."""
    return student.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))


@pytest.fixture
def at(tmp_path, monkeypatch):
    """Return a path for a picture; these tests read the figures, and test_figures.py checks the files."""
    monkeypatch.setattr(plt.Figure, "savefig", lambda figure, path, **settings: None)
    return tmp_path / "a.png"


# ------------------------------------------------------------------------------------------- how methods look

LOOKS = {
    "uniform": "#7f7f7f", "random": "#bcbd22", "proportion": "#1f77b4", "oracle": "#0b3c6f", "dice": "#6baed6", "resample": "#17becf",
    "under_sample": "#0e7c86", "over_sample": "#5fd3c4", "smote": "#2f9e8f", "adaboost": "#2ca02c", "adaboost_networks": "#7bc96f",
    "cost_boost": "#145214", "hard_mining": "#9467bd", "low_loss": "#b9a3d6", "mentor": "#5b2a86", "focal": "#d183c9",
    "bootstrap_soft": "#ffbb78", "bootstrap_hard": "#ff7f0e", "adaptation": "#c79a6b", "adaptation_confusion": "#8c564b",
    "clean_only": "#e377c2", "fine_tune": "#f7b6d2", "reweight": "#d62728", "meta_weight_net": "#e7969c", "reweight_authors": "#843c39"}


def test_colors_lines_and_names():
    """Each color belongs to one method; a suffix changes the line and not the color."""
    assert {name: common.COLORS[name] for name in LOOKS} == LOOKS and len(set(LOOKS.values())) == len(LOOKS)
    assert {name for name in METHODS if common.color(name) == common.OTHER} == {"reweight_decay", "cost_boost_csb2"}
    for suffix, line, mark in (("", "-", "o"), ("+es", "--", "s"), ("+ft", "-.", "^"), ("+es+ft", ":", "v")):
        look = common.look("uniform" + suffix)
        assert (look["color"], look["linestyle"], look["marker"], look["linewidth"], look["zorder"]) == ("#7f7f7f", line, mark, 1.2, 2)
    assert (common.look("reweight")["linewidth"], common.look("reweight+ft")["zorder"]) == (2.2, 3)
    assert common.label("adaptation_confusion+es+ft") == "adaptation_confusion+es+ft (S-Model +Conf +ES +FT)"
    assert {name: paper.NAMES[name] for name in ("uniform", "oracle", "bootstrap_soft", "bootstrap_hard", "adaptation", "reweight")} == {
        "uniform": "Baseline", "oracle": "Weighted", "bootstrap_soft": "Reed Soft", "bootstrap_hard": "Reed Hard", "adaptation": "S-Model",
        "reweight": "Ours"}


def test_no_two_lines_of_a_picture_look_the_same():
    """Of all methods with all suffixes in a figure, in any mode."""
    for entry in COMMANDS.values():
        for grid in getattr(entry.script, "grids", {}).values():
            looks = [tuple(common.look(method).items()) for method in grid.methods]
            assert len({*looks}) == len(looks), grid.methods


def test_means_and_their_spread():
    values = [3.0, 4.0, 8.0, 9.0]
    assert common.spread(values) == (6.0, pytest.approx(np.std(values, ddof=1))) and common.spread([2.0]) == (2.0, 0.0)
    assert common.interval(values) == (6.0, pytest.approx(half(values)))
    assert common.interval([1.0, 2.0]) == (1.5, pytest.approx(12.7062047 * 0.5))


# --------------------------------------------------------------------------------------------------- imbalance

ERRORS = {"uniform": {0.9: [3.0, 4.0, 8.0], 0.99: [20.0, 31.0]}, "smote": {0.99: [12.5]}, "reweight": {0.9: [2.0, 3.5], 0.99: [13.0, 5.0]}}


def digits(errors=ERRORS, weight=None):
    """Return lines of runs of 20 steps; only the errors of the last step count, and the weights are made up."""
    return [{"method": method, "share": share, "seed": seed, "step": step, "test_error": error if step == 20 else 77.0,
             "minority_weight": 0.1 * (list(errors).index(method) + 1) + 0.01 * seed ** 2 + 0.001 * step + 0.2 * (share == 0.9)}
            for method, row in errors.items() for share, values in row.items() for seed, error in enumerate(values)
            for step in (20, 10)]


def test_error_against_share(at, drawn):
    figures.error_against_share(digits(), at, "quick mode, sample data", paper=True)
    axes, = drawn[0].axes
    places = {0.9: 0, 0.99: 1}
    assert [(bars["label"], bars["color"]) for bars in ours(axes)] == [(name, LOOKS[name]) for name in ERRORS]
    for k, (bars, (name, row)) in enumerate(zip(ours(axes), ERRORS.items(), strict=True)):
        assert bars["x"] == approx(*[places[share] + 0.1 * (k - 1) for share in row])
        assert bars["y"] == approx(*[statistics.mean(values) for values in row.values()])
        assert bars["yerr"] == approx(*[statistics.stdev(values) if len(values) > 1 else 0 for values in row.values()])
    expected = [(name, share, k) for k, name in enumerate(ERRORS) if name in paper.FIGURE_2 for share in ERRORS[name]]
    for bars, (name, share, k) in zip(theirs(axes), expected, strict=True):
        value, deviation = paper.FIGURE_2[name][share]
        assert (bars["x"], bars["y"], bars["yerr"]) == (approx(places[share] + 0.1 * (k - 1) + 0.04), approx(value), approx(deviation))
        assert bars["color"] == LOOKS[name]
    assert ticks(axes.xaxis) == ["90 %", "99 %"] and axes.get_ylim()[0] == 0
    assert axes.get_xlabel() == "share of the majority class in training" and axes.get_ylabel() == "test error, %"
    assert drawn[0].get_suptitle() == "Class imbalance, fours and nines (quick mode, sample data)"
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == [*ERRORS, "the paper's value"]


def test_all_methods_at_one_share(at, drawn):
    figures.all_methods(digits(), at, "quick mode", 0.99, paper=True)
    axes, = drawn[0].axes
    order = ["reweight", "smote", "uniform"]
    assert ticks(axes.yaxis) == order and axes.get_ylim() == (3, -1)
    for place, (bar, name) in enumerate(zip(axes.patches, order, strict=True)):
        assert (bar.get_x(), bar.get_width()) == (0, pytest.approx(statistics.mean(ERRORS[name][0.99])))
        assert bar.get_y() + bar.get_height() / 2 == pytest.approx(place) and to_hex(bar.get_facecolor()) == LOOKS[name]
    deviations = [(bars["x"][0], bars["y"][0], bars["xerr"][0]) for bars in ours(axes)]
    assert deviations == [approx(9.0, -0.2, math.sqrt(32)), approx(25.5, 1.8, math.sqrt(60.5))]
    assert [(bars["x"][0], bars["y"][0], bars["xerr"][0]) for bars in theirs(axes)] == [approx(2.50, 0.15, 0.75), approx(10.48, 2.15, 1.0)]
    assert [text.get_text() for text in axes.texts] == ["9.0 ± 5.7 (2)", "12.5 (1)", "25.5 ± 7.8 (2)"]
    assert [text.xy[1] for text in axes.texts] == [0, 1, 2]
    assert drawn[0].get_suptitle() == "Majority 99 %: every method (quick mode)"


def test_weight_over_training(at, drawn):
    figures.weight_over_training(digits(), at, "quick mode")
    assert [axes.get_title() for axes in drawn[0].axes] == ["majority 90 %", "majority 99 %"]
    for axes, share, names in zip(drawn[0].axes, (0.9, 0.99), (["uniform", "smote", "reweight"], list(ERRORS)), strict=True):
        *curves, data = axes.get_lines()
        for curve, name in zip(curves, names, strict=True):
            seeds = range(len(ERRORS[name].get(share, [])))
            expected = [statistics.mean(100 * (0.1 * (names.index(name) + 1) + 0.01 * s ** 2 + 0.001 * step + 0.2 * (share == 0.9)) for s in seeds)
                        for step in (10, 20)] if seeds else []
            assert list(curve.get_xdata()) == [10, 20][:len(expected)] and list(curve.get_ydata()) == approx(*expected)
            assert (curve.get_label(), to_hex(curve.get_color())) == (name, LOOKS[name])
        assert list(data.get_ydata()) == approx(*[100 * (1 - share)] * 2) and data.get_label() == "its share of the data"
        assert axes.get_ylim() == (0, 100) and axes.get_xlabel() == "step"
    assert drawn[0].axes[0].get_ylabel() == "weight on the minority class, %\n(the rest is on the majority)"
    assert drawn[0].get_suptitle() == "Weight on the minority class (quick mode)"


def test_weights_of_the_first_rounds_of_boosting(at, monkeypatch):
    """Twelve rounds, each with the weights that it was trained with."""
    told = []
    monkeypatch.setattr(figures, "example_weights_per_round", lambda *args: told.append(args) or args[2])

    class Trainer:
        examples = types.SimpleNamespace(labels=np.array([0, 1, 1]))

        def init(self):
            return types.SimpleNamespace(weights=np.array([0.5, 0.25, 0.25]))

        def step(self, learned, t):
            return types.SimpleNamespace(weights=learned.weights * (t + 2)), None
    monkeypatch.setattr(figure2, "trainer_of", lambda run: Trainer())
    run = types.SimpleNamespace(name="adaboost-0.9-3", method="adaboost", settings=types.SimpleNamespace(steps=40))
    assert figure2.boosting_picture(run, at, "quick mode") == at
    (history, labels, path, caption), = told
    assert len(history) == 12 and caption == "adaboost-0.9-3, quick mode" and list(labels) == [0, 1, 1]
    np.testing.assert_allclose([w[0] for w in history], [0.5 * math.factorial(t + 1) for t in range(12)])


def test_weights_in_each_round(at, drawn):
    """An image with the examples of class 0 above those of class 1, and the sum of each class."""
    weights, labels = np.array([[0.3, 0.1, 0.4, 0.2], [0.1, 0.6, 0.2, 0.1]]), np.array([1, 0, 1, 0])
    figures.example_weights_per_round(weights, labels, at, "a run")
    left, right = drawn[0].axes[:2]
    image = np.asarray(left.images[0].get_array())
    times = np.clip(4 * weights, 1 / 2.4, 2.4)              # multiples of the initial weight, clipped symmetrically
    np.testing.assert_allclose(image[[0, 199, 200, -1]], times.T[[1, 3, 2, 0]])             # within each class, the heaviest first
    assert tuple(left.images[0].get_extent()) == (0.5, 2.5, 2, 0) and ticks(left.yaxis) == ["class 0", "class 1"]
    for line, c in zip(right.get_lines(), (0, 1), strict=True):
        assert list(line.get_xdata()) == [1, 2] and list(line.get_ydata()) == approx(*(100 * weights[:, labels == c].sum(1)))
        assert line.get_label() == f"class {c} (2 examples)"


def test_weights_are_drawn_up_to_a_thousand_times_the_first(at, drawn):
    weights = np.full((1, 2000), 1e-9)
    weights[0, 5] = 1.0
    figures.example_weights_per_round(weights, np.repeat([0, 1], 1000), at, "a run")
    image = np.asarray(drawn[0].axes[0].images[0].get_array())
    assert (image.max(), image.min()) == approx(1e3, 1e-3) and image.shape == (400, 1)


def test_the_table_of_errors_to_the_letter():
    lines = digits({"adaboost_networks": {0.9: [3.0, 4.0]}, "uniform": {0.9: [3.0], 0.99: [20.0]}})
    assert figures.table(lines) == "\n".join([
        "",
        "test error %                   0.9            0.99",
        "--------------------------------------------------",
        "adaboost_networks    3.5 ± 0.7 (2)               -",
        "uniform                    3.0 (1)        20.0 (1)",
        "mean ± standard deviation (seeds); the column is the share of the majority class"])


# ------------------------------------------------------------------------------------- networks on wrong labels

def noisy(method, seed, step, error, **more):
    return {"data": "cifar10", "bias": "background", "share": 0.4, "clean": 100, "method": method, "seed": seed, "step": step,
            "train_error": error / 4, "validation_error": error + 3, "validation_error_biased": error / 2, "test_error": error,
            "noisy_weight": error / 100, **more}


FINAL = {"uniform": [40.0, 44.0, 45.0], "mine": [30.0], "reweight": [14.0, 12.0]}
NOISY = [noisy(method, seed, step, error + (0 if step == 100 else 10)) for method, errors in FINAL.items()
         for seed, error in enumerate(errors) for step in (100, 50)]
ROWS = {"uniform": (59.54, 2.16), "mentornet_quoted": (76.6, None), "reweight": (86.73, 0.48)}


def test_bars_of_accuracy(at, drawn):
    figures.accuracy_bars(NOISY, ROWS, at, "Table 2")
    axes, = drawn[0].axes
    expected = [(0, "uniform", [100 - e for e in FINAL["uniform"]]), (1, "uniform", [100 - e for e in FINAL["uniform"]]),
                (3, "reweight", [86.0, 88.0]), (4, "mine", [70.0])]
    assert ticks(axes.yaxis) == ["uniform (Baseline)", "uniform, stopped by validation *", "mentornet_quoted (MentorNet)", "reweight (Ours)",
                                 "mine"]
    for bar, (place, method, values) in zip(axes.patches, expected, strict=True):
        assert bar.get_width() == pytest.approx(statistics.mean(values)) and bar.get_y() + bar.get_height() / 2 == pytest.approx(place)
        assert to_hex(bar.get_facecolor()) == LOOKS.get(method, common.OTHER)
    drawn_bars = [(bars["x"][0], bars["y"][0], bars["xerr"][0]) for bars in ours(axes)]
    assert drawn_bars == [approx(statistics.mean(values), place - 0.2, half(values)) for place, _, values in expected if len(values) > 1]
    paper_bars = [(bars["x"][0], bars["y"][0], *(bars["xerr"] or [])) for bars in theirs(axes)]
    assert paper_bars == [approx(59.54, 0.15, 2.16), approx(76.6, 2.15), approx(86.73, 3.15, 0.48)]
    written = {text.get_text(): text.xy[1] for text in axes.texts}
    assert written["87.0 ± 12.7 (2)"] == 3 and written["86.73 ± 0.48"] == 3 and written["70.0 (1)"] == 4 and written["59.54 ± 2.16"] == 0
    assert axes.get_xlim() == (0, 100) and drawn[0].get_suptitle() == "Test accuracy (Table 2)"


@pytest.mark.parametrize("key, values", [("clean", (15, 100, 1000)), ("share", (0.0, 0.2, 0.4))])
def test_accuracy_against_something(key, values, at, drawn):
    lines = [{**line, key: value, "test_error": line["test_error"] + 5 * k} for k, value in enumerate(values[:2]) for line in NOISY]
    published = {"cifar10": {"reweight": dict(zip(values, (80.0, 70.0, 60.0))), "random": {values[2]: 55.0}}}
    figures.accuracy_against(lines, key, published, at, "quick mode", "that")
    axes, = drawn[0].axes
    assert ticks(axes.xaxis) == (["15", "100", "1000"] if key == "clean" else ["0 %", "20 %", "40 %"])
    order = ["reweight", "random", "uniform", "mine"]       # the paper's methods first
    shift = {name: 0.07 * (k - 1.5) for k, name in enumerate(order)}
    found = {bars["label"]: bars for bars in ours(axes)}
    assert list(found) == ["reweight (Ours)", "uniform (Baseline)", "mine"]
    for name, bars in zip(("reweight", "uniform", "mine"), found.values()):
        accuracies = [100 - error for error in FINAL[name]]
        assert bars["x"] == approx(0 + shift[name], 1 + shift[name])
        assert bars["y"] == approx(statistics.mean(accuracies), statistics.mean(accuracies) - 5)
        assert bars["yerr"] == approx(*[half(accuracies) if len(accuracies) > 1 else 0] * 2)
        assert bars["color"] == LOOKS.get(name, common.OTHER)
    assert [(bars["x"], bars["y"]) for bars in theirs(axes)] == [
        (approx(*[k + shift["reweight"] for k in range(3)]), approx(80, 70, 60)), (approx(2 + shift["random"]), approx(55))]
    assert axes.get_xlabel() == "that" and axes.get_ylabel() == "test accuracy, %" and axes.get_title() == "cifar10"
    assert drawn[0].get_suptitle() == "Test accuracy against that (quick mode)"


def test_confusion_matrices(at, drawn):
    """A row is a true class: 6 of 8 images of b are classified as c."""
    figures.confusion({"reweight": [[4, 0, 0], [0, 2, 6], [1, 0, 3]]}, at, "quick mode", ["a", "b", "c"], {"reweight": (0.7, 0.8, 0.9)})
    axes = drawn[0].axes[0]
    parts = [[1, 0, 0], [0, 0.25, 0.75], [0.25, 0, 0.75]]
    np.testing.assert_allclose(axes.images[0].get_array(), parts)
    assert axes.images[0].get_clim() == (0, 1) and ticks(axes.yaxis) == ticks(axes.xaxis) == ["a", "b", "c"]
    cells = {(int(text.get_position()[1]), int(text.get_position()[0])): text.get_text() for text in axes.texts[:9]}
    assert cells == {(i, j): f"{parts[i][j]:.2f}" for i in range(3) for j in range(3)}
    assert [(text.get_text(), text.get_position()[1]) for text in axes.texts[9:12]] == [("0.70", 0), ("0.80", 1), ("0.90", 2)]
    assert drawn[0].get_suptitle().replace("\n", " ") == "Confusion matrices (quick mode)"
    assert drawn[0].axes[1].get_ylabel() == "share of the true class"
    assert axes.get_xlabel() == "predicted" and axes.get_ylabel() == "true class" and axes.get_title() == "reweight (Ours)"


def test_histograms_of_weights(at, drawn):
    """Densities of 49 bins over [0, 0.04]; the left pair is of all classes, the right one of one class; noisy comes first."""
    rng = np.random.default_rng(0)
    pairs = [(rng.random(50) * 0.03, rng.random(80) * 0.05), (rng.random(20) * 0.01, rng.random(30) * 0.02)]
    figures.weight_histograms(*pairs, at, "quick mode")
    edges = np.arange(50) * 0.04 / 49
    for axes, pair, (kind, published) in zip(drawn[0].axes, pairs, paper.FIGURE_3.items(), strict=True):
        assert axes.get_title().startswith(f"{kind}:") and axes.get_yscale() == "log"
        assert axes.get_title().endswith("all classes" if kind == "unconditional" else "one class")
        for patch, weights, name, shade in zip(axes.patches, pair, ("noisy", "clean"), ("#ff7f0e", "#1f77b4"), strict=True):
            counts = [np.sum((weights >= low) & (weights < high)) / len(weights) / (0.04 / 49) for low, high in zip(edges, edges[1:])]
            np.testing.assert_allclose(patch.get_data()[0], counts)
            np.testing.assert_allclose(patch.get_data()[1], edges, atol=1e-12)
            assert patch.get_label() == f"{name} labels" and to_hex(patch.get_facecolor()) == shade
            lowest = f"{name}: {100 * np.mean(weights < edges[1]):.1f} % (the paper: {100 * published[name]:.1f} %)"
            assert lowest in axes.texts[0].get_text()
        assert axes.get_xlabel() == "weight of an image" and axes.get_xlim() == (-0.0004, 0.04)
        assert [(bars["x"][0], bars["y"][0], bars["color"]) for bars in theirs(axes)] == [
            (pytest.approx(0.02 / 49), pytest.approx(share * 49 / 0.04), shade)
            for share, shade in zip((published["noisy"], published["clean"]), ("#ff7f0e", "#1f77b4"))]
    assert drawn[0].get_suptitle() == "Example weights of right and wrong labels (quick mode)"
    assert drawn[0].axes[0].get_ylabel() == "density (logarithmic)" and drawn[0].axes[0].get_ylim() == (0.1, 1e4)


def curves(axes):
    """Return {label: (x, y, color)} of the bold lines, and [(x, y)] of the thin ones."""
    bold = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata()), to_hex(line.get_color())) for line in axes.get_lines()
            if line.get_linewidth() > 1 and not line.get_label().startswith("_") and len(line.get_xdata())}
    thin = [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines() if line.get_linewidth() == 0.5]
    return bold, thin


def test_curves_of_training(at, drawn):
    """Left, accuracy on validation images with right labels; right, training accuracy; both against step / last step."""
    figures.training_curves(NOISY, at, "quick mode")
    for axes, expected in zip(drawn[0].axes, (lambda e: 97 - e, lambda e: 100 - e / 4), strict=True):
        bold, thin = curves(axes)
        assert list(bold) == ["uniform (Baseline)", "mine", "reweight (Ours)"]
        for (name, errors), (x, y, color) in zip(FINAL.items(), bold.values(), strict=True):
            assert x == [0.5, 1.0] and y == approx(*[statistics.mean(expected(e + more) for e in errors) for more in (10, 0)])
            assert color == LOOKS.get(name, common.OTHER)
        assert thin == [([0.5, 1.0], approx(expected(e + 10), expected(e))) for name in ("uniform", "reweight") for e in FINAL[name]]
    left, right = drawn[0].axes
    for axes, name in ((left, "validation"), (right, "train")):
        assert [(bars["x"], bars["y"], bars["color"]) for bars in theirs(axes)] == [
            ([step / 80_000 for step in points[name]], list(points[name].values()), LOOKS[method])
            for method, points in paper.FIGURE_7.items() if method in FINAL]
    assert drawn[0].get_suptitle() == "Training (quick mode)" and left.get_ylabel() == "accuracy, %"
    assert left.get_xlabel() == "progress of training: step / last step" and left.get_xlim() == right.get_xlim() == (0, 1.03)
    assert left.get_title() == "validation images, right labels" and right.get_title() == "training batches, given labels"


def test_curves_of_weights(at, drawn):
    figures.weights_over_training(NOISY, at, "quick mode")
    axes, = drawn[0].axes
    bold, thin = curves(axes)
    for (name, errors), (x, y, _) in zip(FINAL.items(), bold.values(), strict=True):
        assert x == [50, 100] and y == approx(*[statistics.mean((e + more) / 100 for e in errors) for more in (10, 0)])
    levels = {line.get_label(): list(line.get_ydata()) for line in axes.get_lines()}
    assert levels["1: no difference"] == [1, 1] and levels["1/3"] == approx(1 / 3, 1 / 3)
    assert axes.get_xlabel() == "step" and axes.get_ylabel() == "weight of wrong labels / weight of right labels"
    assert drawn[0].get_suptitle() == "The weight of wrong labels (quick mode)" and axes.get_ylim()[0] == 0


# ------------------------------------------------------------------------------------------------- reports

def asked(row, out, data="cifar10", **changes):
    """Return the options of a report in paper mode, with the values of its grid but for these changes."""
    grid = grids.SCRIPTS[row].grids["paper"]._replace(network="a network")
    how = {"shares": [*grid.shares], "cleans": [*grid.cleans], "target": None, "given": None, "labels": None} | changes
    return types.SimpleNamespace(data=data, out=out, network="a network", mode="paper", grid=grid, seeds=[4, 2], **how)


class Told(list):
    """A stand-in for the functions that draw: a list of their calls."""
    def __getattr__(self, name):
        return lambda *args: self.append((name, *args)) or "a path"

    paper, training = paper, figures.training


@pytest.mark.parametrize("row, data, expected", [
    ("table1", "cifar10", [("accuracy_table", "TABLE_1"), ("accuracy_bars", "TABLE_1")]),
    ("table1", "cifar100", [("accuracy_table", "TABLE_1"), ("accuracy_bars", "TABLE_1")]),
    ("table2", "cifar10", [("accuracy_table", "TABLE_2"), ("accuracy_bars", "TABLE_2"), ("weights_over_training", None)]),
    ("table2", "cifar100", [("accuracy_table", "TABLE_2"), ("accuracy_bars", "TABLE_2"), ("weights_over_training", None)]),
    ("figure4", "cifar10", [("accuracy_against", "clean")]), ("figure5", "cifar10", [("accuracy_against", "share")]),
    ("figure5", "cifar100", [("accuracy_against", "share")]), ("figure7", "cifar10", [("training_curves", None)])])
def test_reports_draw_their_own_lines(row, data, expected, monkeypatch, tmp_path, capsys):
    told = Told()
    monkeypatch.setattr(grids, "figures", told)
    lines, options = ["the lines"], asked(row, tmp_path, data)
    list(grids.SCRIPTS[row].report(options, [], lines, "a caption"))
    capsys.readouterr()
    assert [name for name, *_ in told] == [name for name, _ in expected]
    for (name, first, *rest), (_, what) in zip(told, expected):
        assert first is lines and (name == "accuracy_table" or "a caption" in rest[-1] or "a caption" in rest[-2])
        if str(what).startswith("TABLE"):
            assert rest[0] == getattr(paper, what)[data] and what.replace("_", " ").title() in rest[-1]
        if what == "clean":
            assert rest[:2] == ["clean", {data: paper.FIGURE_4[data]}]
        if what == "share":
            assert rest[:2] == ["share", {data: paper.FIGURE_5[data]}]
        assert tmp_path / f"{row}-{data}{'-weights' * (name == 'weights_over_training')}.png" in rest or name == "accuracy_table"


@pytest.mark.parametrize("row", ["table1", "table2", "figure4"])
def test_reports_on_the_labels_of_a_file(row, monkeypatch, tmp_path, capsys):
    """The paper's values are of other labels and left out."""
    told = Told()
    monkeypatch.setattr(grids, "figures", told)
    options = asked(row, tmp_path, given=Given("x", None, 0.402), labels="at/home/x.pt:worse")
    options.grid = options.grid._replace(biases=("x",))
    list(grids.SCRIPTS[row].report(options, [], ["the lines"], "a caption"))
    capsys.readouterr()
    for name, _, *rest in told[:2]:
        assert ({} in rest[:2] or rest[1] == {"cifar10": {}}) and any("a caption, 40.2% wrong labels of x.pt:worse, a network" in str(each) for each in rest)
        assert row == "figure4" or f"Table {row[-1]}" in rest[-1] and "labels of a file" in rest[-1] and "flips" not in rest[-1]


@pytest.mark.parametrize("row, changes, values", [
    ("table1", {"shares": [0.2]}, {}), ("table1", {"cleans": [500]}, {}), ("table2", {"cleans": [60]}, {}), ("figure4", {"shares": [0.2]}, {"cifar10": {}}),
    ("table2", {"shares": [0.2]}, {method: (points[0.2], None) for method, points in paper.FIGURE_5["cifar10"].items()}), ("figure5", {"cleans": [50]}, {"cifar10": {}})])
def test_the_papers_values_stand_beside_its_own_tasks_alone(row, changes, values, monkeypatch, tmp_path, capsys):
    told = Told()
    monkeypatch.setattr(grids, "figures", told)
    list(grids.SCRIPTS[row].report(asked(row, tmp_path, **changes), [], ["the lines"], ""))
    assert all(values in each[2:4] for each in told if each[0].startswith("accuracy"))


def test_histograms_and_curves_without_the_papers_values(at, drawn):
    figures.weight_histograms(([0.1], [0.2]), ([], []), at, "", paper=False)
    figures.training_curves([{**line, "clean": 50} for line in NOISY], at, "")
    assert not any(theirs(axes) for figure in drawn for axes in figure.axes) and "the paper" not in drawn[0].axes[0].texts[0].get_text()


def test_figure_6_shows_the_first_seed_on_the_test_set(monkeypatch, tmp_path, capsys):
    """For each kind of flip and each method: the confusion matrix of its own run on the test images."""
    told = Told()
    monkeypatch.setattr(grids, "figures", told)
    monkeypatch.setattr(grids, "trainer_of", lambda run: types.SimpleNamespace(run=run, task=types.SimpleNamespace(test="test", clean="clean")))
    monkeypatch.setattr(grids, "restore", lambda run, trainer: f"learned by {run.name}")
    monkeypatch.setattr(grids, "confusion", lambda trainer, learned, part: (trainer.run.name, learned, part))
    runs = [types.SimpleNamespace(name=f"{bias} {method} {seed}", seed=seed, labels={"bias": bias, "method": method}, checkpoint=tmp_path)
            for bias in ("uniform", "background") for seed in (4, 2) for method in ("uniform", "reweight")]
    options = asked("figure6", tmp_path)
    list(grids.SCRIPTS["figure6"].report(options, runs, [], "a caption"))
    capsys.readouterr()
    for (name, matrices, path, caption, names, diagonals), bias in zip(told, ("uniform", "background"), strict=True):
        assert matrices == {method: (f"{bias} {method} 4", f"learned by {bias} {method} 4", "test") for method in ("uniform", "reweight")}
        assert path == tmp_path / f"figure6-cifar10-{bias}.png" and caption == f"{bias} flips, seed 4; a caption, a network"
        assert names[3] == "cat" and diagonals == paper.FIGURE_6[bias]


def test_figure_3_asks_for_wrong_and_right_labels(monkeypatch):
    """Batches of validation images with their labels, and batches of one class other than the background, 40 % of it flipped."""
    true, labels = np.repeat(np.arange(4), 25), np.repeat(np.arange(4), 25)
    labels[::5] = 1
    part = Part(np.arange(100), labels, np.arange(100), true)
    asked = []

    def weights_of(trainer, learned, images, labels, rng):
        asked.append((images, labels))
        return images / 1000 + labels                       # a weight that identifies its image and label
    monkeypatch.setattr(figure3, "weights_of", weights_of)
    monkeypatch.setattr(figure3, "BATCHES", 8)
    trainer = types.SimpleNamespace(classes=4, task=types.SimpleNamespace(validation=part), run=types.SimpleNamespace(
        settings=types.SimpleNamespace(batch=20), labels={"share": 0.4}))
    (noisy_all, clean_all), (noisy_one, clean_one) = figure3.histogram_data(trainer, None, 1, np.random.default_rng(0))
    for k, (images, given) in enumerate(asked):
        if k % 2 == 0:
            assert len(set(images)) == 20 and (given == labels[images]).all()
        else:
            one, = set(true[images])
            assert one == (0, 2, 2, 3)[k // 2 % 4] and given.tolist() == [1] * 8 + [one] * 12
    for weights, wrong in ((noisy_all, True), (clean_all, False), (noisy_one, True), (clean_one, False)):
        weights = np.array(weights)
        images = np.rint((weights % 1) * 1000).astype(int)
        assert ((weights.astype(int) != true[images]) == wrong).all() and len(weights)
    assert len(noisy_one) == 8 * 8 and len(clean_one) == 8 * 12 and len(noisy_all) + len(clean_all) == 160
    asked.clear()
    trainer.run.settings.batch = 200                        # of 100 images; without a background class labels are as they are
    (noisy_all, clean_all), (noisy_one, clean_one) = figure3.histogram_data(trainer, None, None, np.random.default_rng(0))
    assert all(len(images) == 100 and (given == labels[images]).all() for images, given in asked)
    assert [set(true[images]) for images, _ in asked[1::2]] == [{k % 4} for k in range(8)]
    assert len(noisy_all) == 8 * (labels != true).sum() and 0 < len(noisy_one) < len(clean_one)


@pytest.mark.parametrize("mode, data, beside", [("paper", "mnist", True), ("quick", "mnist", False), ("paper", "sample", False), ("night", "mnist", True), ("night", "sample", False)])
def test_imbalance_reports_all_lines(mode, data, beside, monkeypatch, tmp_path, capsys):
    """Methods in the order of the table, a picture for each share, and the paper's values only for the paper's settings."""
    told = Told()
    monkeypatch.setattr(figure2, "figures", told)
    lines = digits({"smote": {0.99: [12.5]}, "uniform": {0.9: [3.0], 0.99: [20.0]}})
    list(figure2.SCRIPTS["imbalance"].report(types.SimpleNamespace(mode=mode, data=data, out=tmp_path), [], list(lines), "a caption"))
    capsys.readouterr()
    assert [name for name, *_ in told] == ["table", "error_against_share", "weight_over_training", "all_methods", "all_methods"]
    drawn = told[0][1]
    assert [line["method"] for line in drawn] == ["uniform"] * 4 + ["smote"] * 2
    assert sorted(map(str, drawn)) == sorted(map(str, lines)) and all(each[1] == drawn for each in told[1:])
    assert [each[2].name for each in told[1:]] == ["error.png", "weight.png", "methods-0.9.png", "methods-0.99.png"]
    assert [each[3] for each in told[1:]] == ["a caption"] * 4 and [each[4] for each in told[3:5]] == [0.9, 0.99]
    assert (told[1][4], told[3][5], told[4][5]) == (beside, beside, beside)


def test_the_table_of_accuracies_to_the_letter():
    assert figures.accuracy_table(NOISY, ROWS, "Table 2: background flips") == "\n".join([
        "",
        "Table 2: background flips",
        "test accuracy %                                  ours           the paper",
        "-------------------------------------------------------------------------",
        "uniform (Baseline)                     57.0 ± 6.6 (3)        59.54 ± 2.16",
        "uniform, stopped by validation *       57.0 ± 6.6 (3)                   -",
        "mentornet_quoted (MentorNet)                        -       76.6 (quoted)",
        "reweight (Ours)                       87.0 ± 12.7 (2)        86.73 ± 0.48",
        "mine                                         70.0 (1)                   -",
        "mean ± half of the 95 % interval by Student's t (seeds); the paper's are of five seeds",
        "* ours: at the step with the fewest errors on the biased validation set; the paper's +ES is a shorter schedule"])


# --------------------------------------------------------------------------------------------- only our values

def test_bars_of_the_contradiction(at, drawn):
    errors = {"imbalance": {"uniform": [20.0, 22.0], "low_loss": [30.0]}, "noise": {"uniform": [9.0], "low_loss": [5.0, 8.0]},
              "both": {"low_loss": [12.0]}}
    lines = [{"task": task, "method": method, "seed": seed, "step": step, "test_error": error if step == 9 else 50.0}
             for task, row in errors.items() for method, values in row.items() for seed, error in enumerate(values) for step in (9, 3)]
    contradiction.picture(lines, at, "quick mode")
    axes, = drawn[0].axes
    expected = [(group + 0.42 * (k - 0.5), method, errors[task][method]) for group, task in enumerate(errors)
                for k, method in enumerate(("uniform", "low_loss")) if method in errors[task]]
    for bar, (x, method, values) in zip(axes.patches, expected, strict=True):
        assert bar.get_height() == pytest.approx(statistics.mean(values)) and bar.get_x() + bar.get_width() / 2 == pytest.approx(x)
        assert to_hex(bar.get_facecolor()) == LOOKS[method]
    deviations = [(bars["x"][0], bars["y"][0], bars["yerr"][0]) for bars in ours(axes)]
    assert deviations == [approx(x, statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0) for x, _, values in expected]
    assert [text.get_text() for text in axes.texts] == [f"{statistics.mean(values):.1f}" for *_, values in expected]
    levels = [c.get_segments()[0].tolist() for c in axes.collections if c.get_label().startswith("plain training")]
    assert levels == [[[-0.46, 21], [0.46, 21]], [approx(0.54, 9), approx(1.46, 9)]]
    assert [text.split("\n")[0] for text in ticks(axes.xaxis)] == list(errors)
    assert ticks(axes.xaxis) == ["imbalance\n97% nines", "noise\n55% nines,\n30% of the nines labeled 4", "both\n90% nines,\n40% of the fours labeled 9"]
    assert axes.get_ylim()[0] == 0 and "quick mode" in drawn[0].get_suptitle().replace("\n", " ")


def test_the_table_of_the_contradiction_to_the_letter():
    lines = [{"task": task, "method": method, "seed": seed, "step": 9, "test_error": error} for task, method, seed, error in (
        ("imbalance", "uniform", 0, 20.0), ("imbalance", "uniform", 1, 23.0), ("noise", "low_loss", 0, 5.5))]
    assert contradiction.table(lines) == "\n".join([
        "",
        "test error %           imbalance             noise              both",
        "--------------------------------------------------------------------",
        "uniform           21.5 ± 2.1 (2)                 -                 -",
        "low_loss                       -           5.5 (1)                 -",
        "mean ± standard deviation (seeds)"])


BENCH = {"date": "2026-01-02", "threads": [2], "backend": "numpy", "rounds": 5, "problems": {
    "lenet": {"versions": {"minigrad": "0.1"}, "rounds": 4, "rows": [
        {"library": "PyTorch", "route": "plain", "ms": 5.0, "quartiles": [4.0, 5.5]},
        {"library": "minigrad", "route": "Algorithm 1", "ms": 2.0, "quartiles": [1.5, 4.0]}]},
    "mlp": {"versions": {"JAX": "2"}, "rows": [{"library": "JAX", "route": "plain", "ms": 1.0, "quartiles": [1.0, 1.25]}]}}}


def test_bars_of_the_benchmark(at, drawn):
    """The fastest route first, the median with its quartiles; the conditions are written below."""
    figures.bars(BENCH, at)
    lenet, mlp = drawn[0].axes
    assert ticks(lenet.yaxis) == ["minigrad: Algorithm 1", "PyTorch: plain"] and ticks(mlp.yaxis) == ["JAX: plain"]
    assert [bar.get_width() for bar in lenet.patches] == [2.0, 5.0] and [bar.get_width() for bar in mlp.patches] == [1.0]
    assert [to_hex(bar.get_facecolor()) for bar in lenet.patches] == ["#d62728", "#1f77b4"]
    spans = [segment.tolist() for c in lenet.collections for segment in c.get_segments()]
    assert spans == [[[1.5, 0], [4.0, 0]], [[4.0, 1], [5.5, 1]]]
    assert lenet.get_title(loc="left") == "lenet: milliseconds for one step" and lenet.yaxis_inverted()
    assert drawn[0].get_supxlabel().replace("\n", " ") == (
        "2026-01-02, numpy, 2 threads, medians of 4 to 5 rounds; minigrad 0.1, JAX 2")


def test_numbers_of_threads_in_words():
    assert [figures.in_words(threads) for threads in ([1], [4], [1, 2])] == ["1 thread", "4 threads", "1 and 2 threads"]


def test_every_library_has_a_color_of_its_own():
    from experiments.figures.benchmark import COLORS
    assert set(COLORS) == set(peers.LIBRARIES) and len(set(COLORS.values())) == len(COLORS)


def test_growth_of_the_benchmark(at, drawn):
    def points(library, route, scale):
        return [{"library": library, "route": route, "batch": batch, "depth": depth, "ms": scale * batch + depth, "memory": 1e6 * scale * depth}
                for depth, batch in ((32, 100), (32, 50), (8, 50), (14, 50))]
    figures.growth({**BENCH, "growth": points("minigrad", "plain", 1) + points("PyTorch", "double backward", 2)}, at)
    panels = {(axes.get_xlabel(), axes.get_ylabel()): {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()}
              for axes in drawn[0].axes}
    by_batch, by_depth = "images in each batch (ResNet-32)", "layers (50 images a batch)"
    time, memory = "ms for one step", "peak MB in one step"
    assert panels == {
        (by_batch, time): {"minigrad: plain": ([50, 100], [82, 132]), "PyTorch: double backward": ([50, 100], [132, 232])},
        (by_depth, time): {"minigrad: plain": ([8, 14, 32], [58, 64, 82]), "PyTorch: double backward": ([8, 14, 32], [108, 114, 132])},
        (by_batch, memory): {"minigrad: plain": ([50, 100], [32, 32]), "PyTorch: double backward": ([50, 100], [64, 64])},
        (by_depth, memory): {"minigrad: plain": ([8, 14, 32], [8, 14, 32]), "PyTorch: double backward": ([8, 14, 32], [16, 28, 64])}}


def test_records_of_libraries_that_are_no_longer_measured_are_drawn(at, drawn):
    row = {"library": "MyGrad", "route": "gradient", "ms": 1.0, "quartiles": [1.0, 1.25]}
    figures.bars({**BENCH, "problems": {"mlp": {"versions": {}, "rows": [row]}}}, at)
    assert ticks(drawn[0].axes[0].yaxis) == ["MyGrad: gradient"] and to_hex(drawn[0].axes[0].patches[0].get_facecolor()) == "#7f7f7f"


def test_tables_of_the_benchmark():
    row = {"ms": 12.345, "quartiles": [11.1, 13.9], "memory": 25_400_000, "arithmetic": 0.25, "copying": 0.5}
    result = {"rows": {("minigrad", "plain"): row, ("PyTorch", "plain"): {**row, "memory": None, "launches": 17}}, "missing": {"JAX": "no module\nx"},
              "failed": {("PyTorch", "compiled"): "Error: no"}}
    assert benchmark._line(["net: plain / own", 1.5, 1.25, 2.0]).split() == "net: plain / own 1.50 (1.25 - 2.00)".split()
    assert benchmark._line(["net: peak memory", 1.5, None, None]).split() == "net: peak memory 1.50".split()
    head, first, second, missing, failed = benchmark.table("lenet", result).splitlines()
    assert head.split() == "lenet ms quartiles peak MB arithmetic copying".split()
    assert first.split() == "minigrad, plain 12.35 11.10 - 13.90 25.4 25% 50%".split()
    assert second.split() == "PyTorch, plain 12.35 11.10 - 13.90 25% 50% 17 launches".split()
    assert missing == "  JAX: left out (no module)" and failed == "  PyTorch, compiled: left out (Error: no)"
    text = precision.table([{"problem": "lenet", "precision": "tf32", "backend": "cupy", "gradient": 1.5e-3, "weights": 2.5e-4}])
    assert precision.relative(np.array([3.0, 4.0]), np.array([0.0, 5.0])) == pytest.approx(math.sqrt(10) / 5)
    assert text.splitlines()[1].split() == "lenet, tf32, cupy 1.5e-03 2.5e-04".split()


def test_nothing_is_left_open(tmp_path):
    before = plt.get_fignums()
    assert figures.bars(BENCH, tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert plt.get_fignums() == before


@pytest.mark.parametrize("changes, beside", [({}, True), ({"shares": [0.2]}, False), ({"cleans": [60]}, False), ({"data": "cifar100"}, False)], ids=str)
def test_the_papers_networks_stand_beside_its_own_tasks_alone(changes, beside, monkeypatch, tmp_path, capsys):
    """Figures 3 and 6, which look at networks: of other tasks the paper has none."""
    told, options = Told(), {}
    for place in (grids, figure3):
        monkeypatch.setattr(place, "figures", told)
        monkeypatch.setattr(place, "trainer_of", lambda run: types.SimpleNamespace(task=types.SimpleNamespace(test="test")))
        monkeypatch.setattr(place, "restore", lambda run, trainer: "learned")
    monkeypatch.setattr(grids, "confusion", lambda *args: "a matrix")
    monkeypatch.setattr(figure3, "histogram_data", lambda *args: ("left", "right"))
    for row in ("figure3", "figure6"):
        options = asked(row, tmp_path, **changes)
        share, clean = options.shares[0], options.cleans[0] or 100
        labels = {"data": options.data, "bias": "background", "share": share, "clean": clean, "target": 3, "method": "reweight"}
        run = types.SimpleNamespace(name="a run", seed=4, labels=labels, checkpoint=tmp_path)
        list(grids.SCRIPTS[row].report(options, [run], [], "a caption"))
    (_, *histograms), (_, *matrices) = told
    assert histograms[-1] == beside and matrices[-1] == (paper.FIGURE_6["background"] if beside else {})


@pytest.mark.parametrize("change", [{"bias": "uniform", "clean": 1000}, {"bias": "labels-worse"}, {"data": "cifar100", "clean": 1000}, {"share": 0.2}, {"clean": 50}], ids=str)
def test_the_papers_curves_are_of_one_task(change, at, drawn):
    """Figure 7 is of background flips on CIFAR-10, with the share and the clean images of Table 2: a report draws curves of any task."""
    figures.training_curves([{**line, **change} for line in NOISY], at, "")
    assert not any(theirs(axes) for axes in drawn[0].axes)


PICTURES = {
    "shares": lambda at: figures.error_against_share(digits(), at, "", paper=True), "weight": lambda at: figures.weight_over_training(digits(), at, ""),
    "bars": lambda at: figures.accuracy_bars(NOISY, ROWS, at, ""), "against": lambda at: figures.accuracy_against(NOISY, "clean", {}, at, "", ""),
    "histograms": lambda at: figures.weight_histograms(([0.1], [0.2]), ([0.1], [0.2]), at, ""), "curves": lambda at: figures.training_curves(NOISY, at, ""),
    "weights": lambda at: figures.weights_over_training(NOISY, at, ""), "growth": lambda at: figures.growth({**BENCH, "growth": GROWTH}, at)}
GROWTH = [{"library": library, "route": route, "batch": batch, "depth": 32, "ms": batch, "memory": 1e6 * batch}
          for library, route in figures.benchmark.STYLES for batch in (50, 100)]


def looks(thing):
    """Return the color, and of a line its style, of something that is drawn or that stands for it in a legend."""
    thing = thing.lines[0] if isinstance(thing, ErrorbarContainer) else thing
    color = thing.get_color() if hasattr(thing, "get_color") else thing.get_facecolor()
    return to_hex(np.ravel(color)[:4] if not isinstance(color, str) else color), thing.get_linestyle() if isinstance(thing, plt.Line2D) else None


@pytest.mark.parametrize("name", PICTURES)
def test_a_legend_shows_what_is_drawn(name, at, drawn):
    """Each label stands beside a mark in the color, and with the line, of what has this label in the picture."""
    PICTURES[name](at)
    (legend,), there = drawn[0].legends, {}
    for axes in drawn[0].axes:
        for thing, label in zip(*axes.get_legend_handles_labels()):
            there.setdefault(label, looks(thing))
    found = {text.get_text(): looks(mark) for mark, text in zip(legend.legend_handles, legend.get_texts(), strict=True)}
    assert found.keys() == there.keys() and all(a == b or None in (a[1], b[1]) and a[0] == b[0] for a, b in zip(found.values(), map(there.get, found)))


def test_lines_of_growth_have_the_colors_of_the_bars(at, drawn):
    figures.growth({**BENCH, "growth": GROWTH}, at)
    for axes in drawn[0].axes[:1]:
        for line in axes.get_lines():
            library, route = line.get_label().split(": ", 1)
            assert to_hex(line.get_color()) == figures.benchmark.COLORS[library]
            assert line.get_linestyle() == {"plain": "--", "Algorithm 1": "-", "double backward": "-", "one graph": "-."}.get(route, ":")


def test_a_picture_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    """Whoever looks at the old one meanwhile, or where writing fails, has the old one."""
    before = common.save(plt.figure(figsize=(1, 1)), tmp_path / "a.png").read_bytes()

    def fail(*paths):
        raise OSError("came to grief")
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(FileError):
        common.save(plt.figure(figsize=(2, 1)), tmp_path / "a.png")
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [before]


@pytest.mark.parametrize("count", [1, 6, 7])
def test_up_to_six_methods_are_all_drawn(count, at, drawn):
    """Of more only the paper's."""
    names = ["smote", "focal", *paper.FIGURE_2][:count]
    lines = digits({name: {0.9: [3.0]} for name in names})
    figures.error_against_share(lines, at, ""), figures.weight_over_training(lines, at, "")
    expected = [name for name in names if count <= 6 or name in paper.FIGURE_2]
    assert [bars["label"] for bars in ours(drawn[0].axes[0])] == [*curves(drawn[1].axes[0])[0]] == expected


def test_pictures_do_not_depend_on_the_order_of_the_lines(at, drawn):
    """But for that of the methods, which is that of the legend."""
    for lines in (digits(), sorted(digits(), key=lambda line: (-line["share"], line["step"]))):
        figures.error_against_share(lines, at, ""), figures.all_methods(lines, at, "", 0.99), figures.weight_over_training(lines, at, "")
    for one, other in zip(drawn[:3], drawn[3:], strict=True):
        for a, b in zip(one.axes, other.axes, strict=True):
            assert ticks(a.xaxis) == ticks(b.xaxis) and ticks(a.yaxis) == ticks(b.yaxis)
            assert error_bars(a) == error_bars(b) and [bar.get_width() for bar in a.patches] == [bar.get_width() for bar in b.patches]
            assert [line.get_xydata().tolist() for line in a.lines] == [line.get_xydata().tolist() for line in b.lines]


def brightness(color):
    return np.dot(plt.matplotlib.colors.to_rgb(color), (0.3, 0.6, 0.1))


def test_numbers_in_cells_can_be_read(at, drawn):
    """Each has another brightness than the cell behind it."""
    figures.confusion({"reweight": np.eye(10) * 6 + 1}, at, "", [str(k) for k in range(10)])
    axes = drawn[0].axes[0]
    picture, values = axes.images[0], axes.images[0].get_array()
    for text in axes.texts:
        column, row = text.get_position()
        assert abs(brightness(text.get_color()) - brightness(picture.cmap(picture.norm(values[row, column])))) > 0.4


def test_columns_stand_below_their_heads(at, drawn):
    """Ours and the paper's numbers, beside the bars."""
    figures.accuracy_bars(NOISY, ROWS, at, "")
    places = {text.get_text(): text.get_position()[0] for text in drawn[0].axes[0].texts}
    assert places["ours (seeds)"] == places["70.0 (1)"] < places["the paper"] == places["86.73 ± 0.48"] == places["76.6 (quoted)"]


@pytest.mark.parametrize("lines", [NOISY, [{**line, "validation_error_biased": None} for line in NOISY]], ids=["stopped", "not stopped"])
def test_a_star_is_explained_where_there_is_one(lines, at, drawn):
    figures.accuracy_bars(lines, ROWS, at, "")
    axes, = drawn[0].axes
    assert ("*" in axes.get_xlabel()) == any("*" in name for name in ticks(axes.yaxis)) == ("*" in figures.accuracy_table(lines, ROWS, "").splitlines()[-1])


def test_accuracies_are_drawn_between_0_and_100(at, drawn):
    """Whatever the interval of two seeds, which is often longer."""
    lines = [noisy("uniform", seed, 1, error, share=share) for share, errors in ((0.0, (1.0, 40.0)), (0.4, (60.0, 99.0))) for seed, error in enumerate(errors)]
    figures.accuracy_against(lines, "share", {}, at, "", "")
    low, high = drawn[0].axes[0].get_ylim()
    assert (low, high) == (0, 100)


def test_times_and_memory_are_drawn_from_0(at, drawn):
    """Else a growth of a tenth looks like one of ten times."""
    figures.growth({**BENCH, "growth": GROWTH}, at)
    assert [axes.get_ylim()[0] for axes in drawn[0].axes] == [0] * 4


@pytest.mark.parametrize("more, says", [({}, "numpy, 2 threads, medians"), ({"products": "tf32"}, "2 threads, products in TF32, medians"), ({"device": "H100"}, "numpy, H100, medians")])
def test_the_conditions_of_a_benchmark_stand_below_it(more, says, at, drawn):
    figures.bars({**BENCH, **more}, at), figures.growth({**BENCH, **more, "growth": GROWTH}, at)
    assert all(says in figure.get_supxlabel().replace("\n", " ") for figure in drawn)


def test_a_curve_of_one_point_can_be_seen(at, drawn):
    """A line needs two; curves of more have no marks."""
    for steps in ((50,), (50, 100)):
        lines = [noisy("reweight", 0, step, 20.0) for step in steps]
        figures.training_curves(lines, at, ""), figures.weights_over_training(lines, at, "")
    marks = [[line.get_marker() for line in figure.axes[0].get_lines() if line.get_label() == "reweight (Ours)"] for figure in drawn]
    assert marks == [["."], ["."], ["None"], ["None"]]


def test_equal_weights_are_drawn_halfway_between_blue_and_red(at, drawn):
    """The colors reach from a half to twice the first weight at least."""
    figures.example_weights_per_round(np.full((1, 4), 0.25), [0, 0, 1, 1], at, "")
    image = drawn[0].axes[0].images[0]
    assert image.get_clim() == (0.5, 2) and image.norm(1.0) == 0.5 and image.get_cmap().name == "RdBu_r"


@pytest.mark.parametrize("data, names", [("cifar10", "plane car bird cat deer dog frog horse ship truck".split()), ("cifar100", [str(k) for k in range(100)])])
def test_the_classes_of_figure_6_are_those_of_the_data(data, names, monkeypatch, tmp_path, capsys):
    told = Told()
    for name, stub in (("figures", told), ("trainer_of", lambda run: types.SimpleNamespace(task=types.SimpleNamespace(test="test"))),
                       ("restore", lambda run, trainer: "learned"), ("confusion", lambda *args: "a matrix")):
        monkeypatch.setattr(grids, name, stub)
    run = types.SimpleNamespace(name="a run", seed=4, labels={"bias": "background", "method": "uniform"}, checkpoint=tmp_path)
    list(grids.SCRIPTS["figure6"].report(asked("figure6", tmp_path, data), [run], [], ""))
    assert [each[4] for each in told] == [names]
