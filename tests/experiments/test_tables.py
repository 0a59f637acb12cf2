"""Three public tables: the tasks are as documented, every method runs on the rows it should, and the command works."""
import json

import numpy as np
import pytest

from experiments import command_line
from experiments.figures import common
from experiments.figures import tables as figures
from experiments.pages import tables
from experiments.pages.tables import METHODS, task

from .test_pictures import error_bars, ticks


@pytest.mark.parametrize("bias, counts, wrong", [("imbalance", [13, 267], 0), ("flips", [159, 267], 166), ("both", [13, 267], 108)])
def test_tasks(bias, counts, wrong):
    """Of 159 malignant rows 5 are clean, and every 20th of the other 154 is kept: 13; 0.4 * 416 = 166, 0.4 * 270 = 108."""
    found, plain = task("breast cancer", bias, 1), task("breast cancer", "imbalance" if bias != "flips" else "flips", 1)
    assert len(found.y) == sum(counts) and np.bincount(found.y[found.clean]).tolist() == [5, 5] and len(found.y_test) == 143
    assert found.X.shape == (len(found.y), 30) and np.allclose(found.X.mean(0), 0) and np.allclose(found.X.std(0), 1)
    if bias == "both":
        assert np.sum(found.y != plain.y) == wrong and (found.y == plain.y)[found.clean].all()
    if bias == "imbalance":
        assert np.bincount(found.y).tolist() == counts
    assert np.array_equal(task("breast cancer", bias, 1).y, found.y) and not np.array_equal(task("breast cancer", bias, 2).X_test, found.X_test)


def test_of_ten_classes_five_are_rare():
    assert (np.bincount(task("digits", "imbalance", 0, clean=3).y) < 12).tolist() == [True] * 5 + [False] * 5


class Witness:
    """A classifier that keeps what it is given, and predicts the first class."""
    seen = {}

    def __init__(self, random_state):
        self.seed = random_state

    def fit(self, X, y, **mask):
        self.seen.update(X=X, y=y, seed=self.seed, mask=mask)
        return self

    def predict(self, X):
        return np.zeros(len(X), int)


@pytest.mark.parametrize("rows", ["all", "half", "clean", "marked"])
def test_rows(rows):
    found = task("wine", "both", 3)
    assert tables.score(tables.Method(Witness, rows), found, 3) == pytest.approx(100 / 3)
    X, y, known, seen = found.X, found.y, np.flatnonzero(found.clean), Witness.seen
    more = np.resize(known, len(y) - 30)
    assert np.array_equal(seen["X"], {"half": np.r_[X, X[more]], "clean": X[known]}.get(rows, X))
    assert np.array_equal(seen["y"], {"half": np.r_[y, y[more]], "clean": y[known]}.get(rows, y)) and seen["seed"] == 3
    assert list(seen["mask"]) == ["clean"] * (rows == "marked") and len(seen["y"]) == {"half": 2 * len(y) - 30, "clean": 15}.get(rows, len(y))


def test_methods_that_know_the_clean_rows_are_marked():
    assert {name for name in METHODS if name.endswith(" *")} == {name for name, method in METHODS.items() if method.rows != "all"}
    assert METHODS[figures.OURS].rows == "marked" and METHODS[figures.OURS].make(random_state=0).method == "reweight"


def made_up(**scores):
    return [{"table": "wine", "bias": bias, "clean": 5, "method": method, "seed": seed, "balanced_accuracy": mean + seed}
            for bias in ("flips", "both") for method, mean in scores.items() for seed in (0, 2)]


LINES = made_up(**{"Forest": 90.0, "Network *": 80.0, figures.OURS: 93.0})


def test_the_table():
    text = figures.table(LINES)
    assert [row[-30:].split() for row in text.splitlines()[3:6]] == [["91.0", "±", "1.4"] * 2, ["81.0", "±", "1.4"] * 2, ["94.0", "±", "1.4", "<"] * 2]
    assert text.splitlines()[1].split() == ["wine,", "balanced", "accuracy,", "%", "flips", "both"]


def test_the_picture(tmp_path, drawn):
    assert figures.picture(LINES, tmp_path / "picture.png").read_bytes()[:4] == b"\x89PNG"
    (figure,) = drawn
    assert [axes.get_title() for axes in figure.axes] == ["wine, flips", "wine, both"] and "5 clean rows" in figure.get_suptitle()
    for axes in figure.axes:
        bars = error_bars(axes)
        assert [(bar["x"][0], bar["y"][0], bar["xerr"][0]) for bar in bars] == [pytest.approx(row) for row in ((91, 0, 2 ** .5), (81, 1, 2 ** .5), (94, 2, 2 ** .5))]
        assert [bar["color"] for bar in bars] == [common.OTHER, common.color("proportion"), common.color("reweight")]
        (line,) = [line for line in axes.lines if line.get_linestyle() == "--"]
        assert list(line.get_xdata()) == [94, 94] and axes.get_xlim()[1] == 100 and axes.yaxis_inverted()
    assert ticks(figure.axes[0].yaxis) == ["Forest", "Network *", figures.OURS]


def test_records(monkeypatch):
    monkeypatch.setattr(tables, "METHODS", {"first class": tables.Method(Witness)})
    assert tables.records("wine", "flips", 6, 4) == [{"table": "wine", "bias": "flips", "clean": 4, "method": "first class", "seed": 6,
                                                      "balanced_accuracy": pytest.approx(100 / 3)}]
    assert Witness.seen["seed"] == 6 and np.array_equal(Witness.seen["y"], task("wine", "flips", 6, 4).y)


def test_most_passes_of_the_networks():
    found = {name: method.make(random_state=0).get_params().get("max_iter") for name, method in METHODS.items()}
    assert {name for name, passes in found.items() if passes == 1000} == {"MLPClassifier, clean rows alone *", *(name for name in METHODS if "Logistic" in name)}
    assert {passes for name, passes in found.items() if "Reweighted" in name or "MLPClassifier" in name and "+" not in name} == {100, 1000, 10}


@pytest.mark.parametrize("jobs, expected", [([], 3), (["--jobs", "2"], 2)])
def test_defaults(jobs, expected, tmp_path, monkeypatch):
    seen = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tables, "default_jobs", lambda: 3)
    monkeypatch.setattr(tables, "run_all", lambda *arguments: seen.extend(arguments) or LINES)
    assert tables.main(jobs) == 0 and (tmp_path / "runs" / "tables" / "tables.png").exists()
    assert seen == [[(table, bias, seed, 5) for table in ("breast cancer", "wine", "digits") for bias in ("imbalance", "flips", "both") for seed in range(5)], expected]


def test_stopped_by_ctrl_c(tmp_path, monkeypatch, capsys):
    def stop(*arguments):
        raise KeyboardInterrupt
    monkeypatch.setattr(tables, "run_all", stop)
    assert tables.main(["--out", str(tmp_path)]) == 130 and "nothing is written" in capsys.readouterr().err and {path.name for path in tmp_path.iterdir()} <= {".lock"}


def test_the_command(tmp_path, capsys, monkeypatch):
    """All methods on one task, in a process of its own."""
    monkeypatch.setattr(tables, "BIASES", {"both": tables.BIASES["both"]})
    assert command_line.main(["tables", "--tables", "wine", "--seeds", "4", "4", "--clean", "3", "--jobs", "1", "--out", str(tmp_path)]) == 0
    text, lines = capsys.readouterr().out, [json.loads(line) for line in (tmp_path / "tables.jsonl").read_text().splitlines()]
    assert figures.table(lines) in text and [line["method"] for line in lines] == list(METHODS) and (tmp_path / "tables.png").exists()
    assert {(line["table"], line["bias"], line["clean"], line["seed"]) for line in lines} == {("wine", "both", 3, 4)}
    scores = {line["method"]: line["balanced_accuracy"] for line in lines}
    assert all(0 < value <= 100 for value in scores.values()) and len({*scores.values()}) > 5
    name = "LogisticRegression, balanced, clean rows half *"
    assert scores[name] == tables.score(METHODS[name], task("wine", "both", 4, 3), 4)


def test_an_error_of_the_file_system_promises_no_resume(tmp_path, capsys, monkeypatch):
    """There is nothing to resume here; the other command without checkpoints is held in test_own.py."""
    def fail(*args):
        raise OSError("no space left")
    monkeypatch.setattr(tables, "run_all", fail)
    assert command_line.main(["tables", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "error: no space left\n  help: --out FOLDER, with free space\n"


@pytest.mark.parametrize("arguments, says", [
    (["--clean", "0"], "--clean 0: it must be at least 1"), (["--jobs", "0"], "--jobs 0: it must be at least 1"),
    (["--seeds", "-1"], "--seeds -1: it must be at least 0"), (["--clean", "37"], "--clean 37: the smallest class of wine has 36 rows")])
def test_what_cannot_be_run(arguments, says, tmp_path, capsys):
    assert command_line.main(["tables", *arguments, "--out", str(tmp_path)]) == 2
    assert says in capsys.readouterr().err and {path.name for path in tmp_path.iterdir()} <= {".lock"}
