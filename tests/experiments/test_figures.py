"""Tables have the right numbers, pictures the right marks, and a record with gaps is drawn as far as possible."""
import math

import numpy as np
import pytest

from experiments import figures
from experiments.figures import common, paper
from minigrad import MinigradError


def noisy(method, seed=0, step=10, error=40.0, **more):
    return {"data": "cifar10", "bias": "background", "share": 0.4, "clean": 100, "method": method, "seed": seed, "step": step,
            "train_loss": 1.0, "train_error": 30.0, "clean_loss": 1.0, "validation_error": error + 1, "validation_error_biased": error / 2,
            "test_error": error, "noisy_weight": 0.5, "minority_weight": None, "seconds": 1.0, **more}


def digits(method, share=0.99, seed=0, step=10, error=5.0, weight=0.3):
    return {"method": method, "share": share, "seed": seed, "step": step, "test_error": error, "minority_weight": weight}


def written(path):
    return path.read_bytes()[:4] == b"\x89PNG"


def diamonds(axes):
    """Return the hollow marks of the paper's values, without the empty ones for the legend."""
    return [line for line in axes.get_lines() if line.get_markerfacecolor() == "none" and len(line.get_xdata())]


def marks(axes):
    """Return the labels of everything drawn."""
    return axes.get_legend_handles_labels()[1]


def texts(axes):
    return [text.get_text() for text in axes.texts]


def row_of(table, name):
    return next(line for line in table.splitlines() if line.startswith(name))


# ------------------------------------------------------------------------------------------ the paper's values

def test_the_papers_values_agree_with_its_text():
    ours, baseline = paper.FIGURE_5["cifar10"]["reweight"], paper.FIGURE_5["cifar10"]["uniform"]
    assert ours[0.0] - ours[0.5] == pytest.approx(6.4, abs=0.02) and baseline[0.0] - baseline[0.5] > 40
    assert paper.FIGURE_2["reweight"][0.995][0] - paper.FIGURE_2["reweight"][0.9][0] == pytest.approx(2.34)
    assert paper.FIGURE_4["cifar10"]["reweight"][100] == ours[0.4]
    for table, bias in ((paper.TABLE_1, "uniform"), (paper.TABLE_2, "background")):
        for rows in table.values():
            assert max(rows, key=lambda method: rows[method][0]) == "reweight"
        mean = {method: 100 * np.mean(diagonal) for method, diagonal in paper.FIGURE_6[bias].items()}
        assert mean["reweight"] > 85 and mean["uniform"] < 71


def test_every_method_of_the_paper_has_its_name_and_a_color():
    everything = [paper.FIGURE_2, paper.FIGURE_7, *paper.FIGURE_6.values(),
                  *(rows for table in (paper.TABLE_1, paper.TABLE_2, paper.FIGURE_4, paper.FIGURE_5) for rows in table.values())]
    methods = {method for rows in everything for method in rows}
    assert methods <= set(paper.NAMES) and common.OTHER not in map(common.color, methods)
    assert paper.NAMES["uniform+es+ft"] == "Baseline +ES +FT" and common.label("focal") == "focal"
    assert common.color("never_heard_of+ft") == common.OTHER and common.look("reweight+es")["color"] == common.color("reweight")


# ---------------------------------------------------------------------------------------------- Tables 1 and 2

def test_intervals_are_students():
    mean, half = common.interval([60.0, 62.0, 64.0])
    assert mean == 62.0 and half == pytest.approx(4.302653 * 2.0 / math.sqrt(3), rel=1e-6)
    assert common.interval([60.0]) == (60.0, 0.0) and common.interval([3.0, 3.0]) == (3.0, 0.0)


TABLE_LINES = [noisy("uniform", seed, step, error, validation_error_biased=biased)
               for seed in (0, 1) for step, error, biased in ((20, 40.0 + 2 * seed, 30.0), (10, 31.0 + seed, 20.0), (5, 25.0, 21.0))]
TABLE_LINES += [noisy("reweight", 0, 20, 13.0), noisy("mine", 0, 20, 50.0), noisy("mine", 1, 10, 52.0)]
ROWS = {"uniform": (59.54, 2.16), "random": (69.51, 1.36), "mentornet_quoted": (76.6, None), "reweight": (86.73, 0.48)}


def test_accuracy_table():
    table = figures.accuracy_table(TABLE_LINES, ROWS, "Table 2")
    assert row_of(table, "uniform (Baseline)").split()[2:] == "59.0 ± 12.7 (2) 59.54 ± 2.16".split()
    assert row_of(table, "uniform, stopped").split()[5:] == "68.5 ± 6.4 (2) -".split()
    assert row_of(table, "random").split()[2:] == "- 69.51 ± 1.36".split()
    assert row_of(table, "mentornet").split()[2:] == "- 76.6 (quoted)".split()
    assert row_of(table, "reweight").split()[2:] == "87.0 (1) 86.73 ± 0.48".split()
    assert row_of(table, "mine").split()[1:] == "49.0 ± 12.7 (2) -".split()
    assert "the paper's +ES is a shorter schedule" in table and "Table 2" in table


def test_stopping_needs_a_validation_error_and_plain_training():
    lines = [noisy("uniform", validation_error_biased=None), noisy("uniform+es"), noisy("reweight")]
    assert "stopped" not in figures.accuracy_table(lines, ROWS, "")
    lines.append(noisy("uniform", step=5, error=12.0))                      # the one step that was validated
    assert row_of(figures.accuracy_table(lines, ROWS, ""), "uniform, stopped").split()[5:] == ["88.0", "(1)", "-"]
    tied = {"validation_error_biased": lines[-1]["validation_error_biased"]}
    lines += [noisy("uniform", step=step, error=error, **tied) for step, error in ((8, 9.0), (2, 20.0))]
    assert row_of(figures.accuracy_table(lines, ROWS, ""), "uniform, stopped").split()[5:] == ["80.0", "(1)", "-"]     # the first of equals
    del lines[-2:], lines[-1]["validation_error_biased"]
    assert "stopped" not in figures.accuracy_table(lines, ROWS, "")


def test_accuracy_bars(tmp_path, drawn):
    assert written(figures.accuracy_bars(TABLE_LINES, ROWS, tmp_path / "a.png", "quick mode, CIFAR-10"))
    axes = drawn[0].axes[0]
    assert [bar.get_width() for bar in axes.patches] == [59.0, 68.5, 87.0, 49.0]
    assert [line.get_xdata()[0] for line in diamonds(axes)] == [59.54, 69.51, 76.6, 86.73]
    assert {"59.0 ± 12.7 (2)", "76.6 (quoted)", "87.0 (1)"} <= set(texts(axes))
    assert "quick mode, CIFAR-10" in drawn[0].get_suptitle() and marks(axes) == ["the paper's value"]


@pytest.mark.parametrize("field, other", [("data", "cifar100"), ("bias", "uniform"), ("share", 0.2), ("clean", 50)])
def test_means_over_several_settings_are_refused(field, other, tmp_path):
    lines = [noisy("uniform"), noisy("uniform", **{field: other})]
    for draw in (lambda: figures.accuracy_table(lines, {}, ""), lambda: figures.accuracy_bars(lines, {}, tmp_path / "a.png", ""),
                 lambda: figures.training_curves(lines, tmp_path / "a.png", ""),
                 lambda: figures.weights_over_training(lines, tmp_path / "a.png", "")):
        with pytest.raises(MinigradError, match=f"more than one {field}.*\n  help:"):
            draw()


# ---------------------------------------------------------------------------------------------- Figures 3 to 7

def test_weight_histograms(tmp_path, drawn):
    noisy_weights, clean = np.array([0.0, 0.0, 0.0005, 0.01]), np.array([0.0, 0.0101, 0.0101, 0.0101, 0.5])
    assert written(figures.weight_histograms((noisy_weights, clean), ([0.03], []), tmp_path / "a.png", "quick mode"))
    left, right = drawn[0].axes
    assert "noisy: 75.0 % (the paper: 99.7 %)" in texts(left)[0] and "clean: 20.0 % (the paper: 24.5 %)" in texts(left)[0]
    assert "noisy: 0.0 % (the paper: 60.4 %)" in texts(right)[0] and "clean: no images (the paper: 0.1 %)" in texts(right)[0]
    values, edges, _ = left.patches[1].get_data()
    assert len(values) == 49 and edges[-1] == 0.04 and np.sum(values * np.diff(edges)) == pytest.approx(0.8)     # one lies above
    assert values.max() == pytest.approx(0.6 / (0.04 / 49))
    assert [line.get_ydata()[0] * 0.04 / 49 for line in diamonds(left)] == pytest.approx([0.997, 0.245])


def test_accuracy_against_clean_images(tmp_path, drawn):
    lines = [noisy(method, seed, error=error + seed, clean=clean) for clean, error in ((15, 20.0), (100, 15.0), (70, 14.0))
             for method in ("reweight", "mine") for seed in (0, 1)]
    lines = [line for line in lines if (line["method"], line["clean"]) != ("mine", 15)]
    assert written(figures.accuracy_against(lines, "clean", paper.FIGURE_4, tmp_path / "a.png", "quick mode", "clean images"))
    axes, = drawn[0].axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["15", "30", "50", "70", "100", "200", "500", "1000"]
    found = {container.get_label(): container for container in axes.containers}
    ours = found["reweight (Ours)"]
    assert list(ours.lines[0].get_ydata()) == [79.5, 85.5, 84.5]
    low, high = ours.lines[2][0].get_segments()[0][:, 1]
    assert (high - low) / 2 == pytest.approx(common.interval([79.0, 80.0])[1])
    assert len(found["mine"].lines[0].get_xdata()) == 2
    assert sum("only the paper's" in (text or "") for text in found) == 3 and len(diamonds(axes)) == 4
    assert "hollow: the paper's value" in marks(axes)


def test_accuracy_against_noise_has_a_panel_for_each_data_set(tmp_path, drawn):
    lines = [noisy("uniform", share=share, data=data, clean=clean) for share in (0.0, 0.4) for data, clean in (("cifar100", 1000), ("cifar10", 100))]
    assert written(figures.accuracy_against(lines, "share", paper.FIGURE_5, tmp_path / "a.png", "quick mode", "wrong labels"))
    assert [axes.get_title() for axes in drawn[0].axes] == ["cifar100", "cifar10"]
    for axes in drawn[0].axes:
        assert [text.get_text() for text in axes.get_xticklabels()] == ["0 %", "10 %", "20 %", "30 %", "40 %", "50 %"]
        assert sorted(tuple(line.get_ydata()) for line in diamonds(axes)) == sorted(
            tuple(row.values()) for row in paper.FIGURE_5[axes.get_title()].values())
    with pytest.raises(MinigradError, match="more than one clean"):
        figures.accuracy_against([*lines, noisy("uniform", clean=50)], "share", {}, tmp_path / "b.png", "", "")
    assert written(figures.accuracy_against(lines[::2], "share", {"cifar10": {}, "other": paper.FIGURE_4["cifar10"]}, tmp_path / "c.png", "", ""))
    assert not diamonds(drawn[-1].axes[0]) and marks(drawn[-1].axes[0]) == ["uniform (Baseline)"]


def test_confusion(tmp_path, drawn):
    counts = [[8, 2, 0], [1, 1, 2], [0, 0, 0]]
    assert written(figures.confusion({"uniform": counts, "mine": counts}, tmp_path / "a.png", "quick mode", ["a", "b", "c"],
                                     {"uniform": (0.7, 0.61, 0.62)}))
    left, right, _ = drawn[0].axes
    assert np.array_equal(left.images[0].get_array(), [[0.8, 0.2, 0.0], [0.25, 0.25, 0.5], [0.0, 0.0, 0.0]])
    assert texts(right) == ["0.80", "0.20", "0.00", "0.25", "0.25", "0.50", "0.00", "0.00", "0.00"]
    assert texts(left)[9:] == ["0.70", "0.61", "0.62", "the paper's\ndiagonal"]
    figures.confusion({"uniform": np.eye(30)}, tmp_path / "b.png", "", [str(k) for k in range(30)])
    assert not texts(drawn[1].axes[0]) and [t.get_text() for t in drawn[1].axes[0].get_xticklabels()] == ["0", "10", "20"]


def test_training_curves_are_against_the_part_that_is_done(tmp_path, drawn):
    lines = [noisy("uniform", seed, step, 50.0 - step / 10 + seed) for seed in (0, 1) for step in (100, 200, 400) if (seed, step) != (1, 400)]
    lines += [noisy("reweight", 0, step, 20.0, train_error=None) for step in (50, 100)]
    assert written(figures.training_curves(lines, tmp_path / "a.png", "quick mode"))
    left, right = drawn[0].axes
    means = {line.get_label(): line for line in left.get_lines()}
    assert list(means["uniform (Baseline)"].get_xdata()) == [0.25, 0.5, 1.0]
    assert list(means["uniform (Baseline)"].get_ydata()) == [58.5, 68.5, 89.0]      # the mean, then the one seed that has the step
    assert list(means["reweight (Ours)"].get_xdata()) == [0.5, 1.0]
    assert sum(line.get_linewidth() == 0.5 for line in left.get_lines()) == 2       # the seeds of uniform
    assert marks(right) == ["uniform (Baseline)"]
    assert [tuple(line.get_xdata()) for line in diamonds(left)][0] == (42 / 80, 50 / 80, 60 / 80, 1.0)
    assert {tuple(line.get_ydata()) for line in diamonds(right)} == {(90.0,), (62.0,)}
    figures.training_curves([{**line, "data": "cifar100"} for line in lines], tmp_path / "b.png", "")
    assert not diamonds(drawn[1].axes[0])                                           # the paper has no curves for this method


def test_weights_over_training(tmp_path, drawn):
    lines = [noisy("reweight", seed, step, noisy_weight=weight + seed / 10) for seed in (0, 1) for step, weight in ((1, 0.8), (2, 0.0))]
    lines += [noisy("uniform", noisy_weight=None), noisy("random", step=1, noisy_weight=1.0)]
    assert written(figures.weights_over_training(lines, tmp_path / "a.png", "quick mode"))
    axes, = drawn[0].axes
    assert marks(axes) == ["reweight (Ours)", "random (Random)", "1: no difference", "1/3"]
    curve = next(line for line in axes.get_lines() if line.get_label() == "reweight (Ours)")
    assert list(curve.get_ydata()) == pytest.approx([0.85, 0.05])


# -------------------------------------------------------------------------------------------------- imbalance

PAPERS = list(paper.FIGURE_2)
MORE = ["smote", "focal", "adaboost", "dice"]


def many(methods, shares=(0.9, 0.99), seeds=(0, 1)):
    return [digits(method, share, seed, step, 1.0 + k + seed + 10 / step, None if method == "adaboost" else 0.2)
            for k, method in enumerate(methods) for share in shares for seed in seeds for step in (10, 5)]


def test_error_against_share_stays_readable(tmp_path, drawn):
    assert written(figures.error_against_share(many(PAPERS + MORE), tmp_path / "a.png", "paper mode, mnist data", paper=True))
    axes, = drawn[0].axes
    assert marks(axes) == [*PAPERS, "the paper's value"] and len(diamonds(axes)) == 12
    assert "the paper's methods" in drawn[0].get_suptitle() and "paper mode, mnist data" in drawn[0].get_suptitle()
    figures.error_against_share(many(["uniform", "smote"]), tmp_path / "b.png", "quick mode")
    assert marks(drawn[1].axes[0]) == ["uniform", "smote"] and not diamonds(drawn[1].axes[0])
    lines = drawn[1].axes[0].containers[0].lines[0]
    assert list(lines.get_ydata()) == [2.5, 2.5]                                    # at the last step, over the seeds


def test_all_methods_are_sorted(tmp_path, drawn):
    lines = many(["dice", "uniform", "reweight"]) + [digits("smote", 0.9)] + [digits("never_heard_of", 0.99, error=2.6)]
    assert written(figures.all_methods(lines, tmp_path / "a.png", "quick mode", 0.99, paper=True))
    axes, = drawn[0].axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["dice", "never_heard_of", "uniform", "reweight"]
    assert [bar.get_width() for bar in axes.patches] == [2.5, 2.6, 3.5, 4.5]
    assert [line.get_xdata()[0] for line in diamonds(axes)] == [10.48, 2.5]
    assert texts(axes) == ["2.5 ± 0.7 (2)", "2.6 (1)", "3.5 ± 0.7 (2)", "4.5 ± 0.7 (2)"]
    figures.all_methods(lines, tmp_path / "b.png", "quick mode", 0.99)
    assert not diamonds(drawn[1].axes[0])


def test_weight_over_training(tmp_path, drawn):
    assert written(figures.weight_over_training(many(PAPERS[:2] + ["adaboost"]), tmp_path / "a.png", "quick mode"))
    assert [marks(axes) for axes in drawn[0].axes] == [["uniform", "random", "its share of the data"]] * 2


def test_table_fits_long_names():
    lines = many(["adaboost_networks", "uniform"], seeds=(0,))[:-2] + [digits("uniform", 0.9, 3, 10, 4.0)]
    table = figures.table(lines).splitlines()
    assert table[3].split() == ["adaboost_networks", "2.0", "(1)", "2.0", "(1)"] and table[4].split()[1:] == ["3.5", "±", "0.7", "(2)", "-"]
    assert len({len(line) for line in table[1:5]}) == 1


def test_example_weights_per_round(tmp_path, drawn):
    labels = np.array([0, 1, 1, 1])
    history = [np.full(4, 0.25), np.array([0.5, 0.3, 0.1, 0.1]), np.array([1.5, 0.3, 0.1, 0.1])]
    assert written(figures.example_weights_per_round(history, labels, tmp_path / "a.png", "AdaBoost, quick mode"))
    left, right = drawn[0].axes[:2]
    assert [list(line.get_ydata()) for line in right.get_lines()] == [pytest.approx([25, 50, 75]), pytest.approx([75, 50, 25])]
    picture = left.images[0].get_array()
    assert picture.shape == (400, 3) and np.allclose(picture[0], [1.0, 2.0, 3.0])       # class 0: its one example
    assert np.allclose(picture[200], [1.0, 1.2, 0.6]) and np.allclose(picture[-1], [1.0, 0.4, 1 / 3])       # clipped below
    assert marks(right) == ["class 0 (1 examples)", "class 1 (3 examples)"]


# ----------------------------------------------------------------------------------------------- nothing at all

NOTHING = {
    "bars": lambda path: figures.accuracy_bars([], {}, path, ""),
    "the paper's bars": lambda path: figures.accuracy_bars([], paper.TABLE_1["cifar100"], path, ""),
    "histograms": lambda path: figures.weight_histograms(([], []), ([], []), path, ""),
    "against": lambda path: figures.accuracy_against([], "share", {}, path, "", "x"),
    "the paper's against": lambda path: figures.accuracy_against([], "share", paper.FIGURE_5, path, "", "x"),
    "confusion": lambda path: figures.confusion({}, path, "", ["a", "b"]),
    "curves": lambda path: figures.training_curves([], path, ""),
    "weights": lambda path: figures.weights_over_training([], path, ""),
    "no weights": lambda path: figures.weights_over_training([noisy("uniform", noisy_weight=None)], path, ""),
    "step 0": lambda path: figures.training_curves([noisy("uniform", step=0)], path, ""),
    "shares": lambda path: figures.error_against_share([], path, "", paper=True),
    "all": lambda path: figures.all_methods([digits("uniform", 0.9)], path, "", 0.99, paper=True),
    "minority": lambda path: figures.weight_over_training([digits("adaboost", weight=None)], path, ""),
    "rounds": lambda path: figures.example_weights_per_round([], np.zeros(3), path, ""),
}


@pytest.mark.parametrize("name", NOTHING)
def test_a_record_with_nothing_in_it_is_drawn_all_the_same(name, tmp_path):
    assert written(NOTHING[name](tmp_path / "a.png"))


def test_tables_of_nothing():
    assert "test error %" in figures.table([]) and "test accuracy %" in figures.accuracy_table([], {}, "")
    assert figures.final_errors([]) == {}
