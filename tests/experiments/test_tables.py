"""Three public tables: the tasks are as documented, every method runs on the rows it should, and the command works."""
import concurrent.futures
import json
import threading

import numpy as np
import pytest
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split

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


@pytest.mark.parametrize("bias", tables.BIASES)
def test_what_is_done_to_a_table(bias):
    """Rows of the rare classes are left out, and labels flipped, by the bias; columns are scaled by the rows to train on alone."""
    found, (X, y) = task("wine", bias, 2), load_wine(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, stratify=y, random_state=2)
    rank = np.array([np.sum(y[:k] == c) for k, c in enumerate(y)])
    kept = (rank < 5) | (y > 0) | ((rank - 5) % 20 == 0) | (bias == "flips")        # one of three classes is rare
    mean, scale, wrong = X[kept].mean(0), X[kept].std(0), found.y != y[kept]
    np.testing.assert_allclose(found.X, (X[kept] - mean) / scale, atol=1e-9)
    np.testing.assert_allclose(found.X_test, (X_test - mean) / scale, atol=1e-9)
    np.testing.assert_array_equal(found.y_test, y_test)
    np.testing.assert_array_equal(found.clean, rank[kept] < 5)
    assert not wrong[found.clean].any() and wrong.sum() == (0 if bias == "imbalance" else round(0.4 * np.sum(~found.clean)))


def test_methods_are_what_their_names_say():
    """The rows, and of the classifier the kind, the weights of classes, early stopping and Algorithm 1; each of its parts has the seed."""
    rows = {"clean rows half *": "half", "clean rows alone *": "clean", "Algorithm 1 *": "marked"}
    for name, method in METHODS.items():
        kind, *more = name.split(", ")
        model = method.make(random_state=7)
        parts = [part for _, part in getattr(model, "steps", [("", model)])]
        assert method.rows == rows.get(more[-1] if more else "", "all"), name
        assert [type(part).__name__.removesuffix("Classifier") for part in parts] == [each.removesuffix("Classifier") for each in kind.split(" + ")]
        assert {part.get_params()["random_state"] for part in parts} == {7}, name
        settings = parts[-1].get_params()
        assert (settings.get("class_weight") == "balanced") == ("balanced" in more), name
        assert settings.get("early_stopping", False) == ("early stopping" in more), name
        assert settings.get("method", "no") == ({"Algorithm 1 *": "reweight"}.get(more[0], more[0]) if kind == "ReweightedClassifier" else "no"), name


def test_lines_are_in_the_order_of_the_tasks(monkeypatch, capsys):
    """Whichever is done first: here the last one."""
    class Backwards:
        def __init__(self, *settings):
            self.count = 0

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def submit(self, f, *task):
            future, self.count = concurrent.futures.Future(), self.count + 1
            threading.Timer(0.3 - 0.1 * self.count, future.set_result, [[task]]).start()
            return future
    monkeypatch.setattr(tables.concurrent.futures, "ProcessPoolExecutor", Backwards)
    tasks = [("wine", bias, 0, 5) for bias in ("imbalance", "flips")]
    assert tables.run_all(tasks, 1) == tasks


def test_the_score_counts_each_class_alike():
    """Whoever always says the same is right in half of two classes, of which one has 53 and one 90 rows to test on."""
    assert tables.score(tables.Method(Witness), task("breast cancer", "flips", 1), 1) == pytest.approx(50)


def test_a_table_or_seed_that_is_named_twice_is_run_once(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(tables, "run_all", lambda tasks, jobs: asked.extend(tasks) or LINES)
    assert tables.main(["--tables", "wine", "wine", "--seeds", "1", "1", "--out", str(tmp_path)]) == 0
    assert asked == [("wine", bias, 1, 5) for bias in tables.BIASES]


def test_the_picture_of_tables_says_of_how_many_seeds(tmp_path, drawn):
    figures.picture(LINES, tmp_path / "a.png")
    assert "mean ± standard deviation of 2 seeds" in drawn[0].get_suptitle().replace("\n", " ")


def test_progress_of_the_tables(monkeypatch, capsys):
    """A line for each task that is done."""
    class AtOnce(concurrent.futures.Executor):
        def __init__(self, *settings):
            pass

        def submit(self, f, *task):
            future = concurrent.futures.Future()
            future.set_result([task])
            return future
    monkeypatch.setattr(tables.concurrent.futures, "ProcessPoolExecutor", AtOnce)
    tables.run_all([("wine", "both", seed, 5) for seed in (0, 1)], 1)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and sorted(line.rpartition(": ")[2] for line in lines) == ["wine both 0", "wine both 1"] and lines[1].startswith("2/2 runs done: ")
