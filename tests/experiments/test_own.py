"""One's own data: a real table, real texts and real images with wrong labels, all that is refused, and saved models."""
import csv
import importlib
import inspect
import json
import pathlib
import platform
import re
import types

import matplotlib.figure
import numpy as np
import pandas
import pytest
import sklearn
from matplotlib.colors import to_hex
from matplotlib.patches import Polygon
from PIL import Image
from scipy.stats import binomtest
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

import minigrad
from experiments import command_line
from experiments.data import own as data
from experiments.figures import own as figures
from experiments.pages import own, own_model, own_training
from experiments.training import folders
from minigrad import backend, nn, training
from minigrad.errors import DataError, FileError


def flip(labels, share, rng):
    """Return labels, a share of which are replaced by another one, and which these are."""
    classes, wrong = np.unique(labels), rng.random(len(labels)) < share
    return np.array([rng.choice(classes[classes != label]) if bad else label for label, bad in zip(labels, wrong)]), wrong


@pytest.fixture(scope="module")
def cancer(tmp_path_factory):
    """Write scikit-learn's table on breast cancer with two columns of strings, 40 % of the training labels wrong; return (folder, wrong)."""
    folder, rng, frame = tmp_path_factory.mktemp("cancer"), np.random.default_rng(0), load_breast_cancer(as_frame=True).frame
    frame["hospital"] = rng.choice(["north", "south, by the sea"], len(frame))
    frame["size"] = np.where(frame["mean radius"] > 14, "large", "small")
    frame["target"] = np.array(["malignant", "benign"])[frame["target"]]
    frame = frame.sample(frac=1, random_state=0)
    clean, test, train = frame[:40], frame[40:200], frame[200:].copy()
    train["target"], wrong = flip(train["target"].to_numpy(), 0.4, rng)
    for name, part in {"train": train, "clean": clean, "test": test, "new": test.drop(columns="target")}.items():
        part.to_csv(folder / f"{name}.csv", index=False)
    return folder, wrong


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Write threes, fives and eights as PNG; the names of wrong ones say so."""
    folder, rng = tmp_path_factory.mktemp("digits"), np.random.default_rng(0)
    X, y = load_digits(return_X_y=True)
    order = rng.permutation(np.flatnonzero(np.isin(y, [3, 5, 8])))
    given, wrong = flip(y[order], 0.4, rng)
    for k, i in enumerate(order[:450]):
        part = "clean" if k < 60 else "test" if k < 200 else "train"
        path = folder / part / f"digit {given[k] if part == 'train' else y[i]}"
        path.mkdir(parents=True, exist_ok=True)
        Image.fromarray((X[i].reshape(8, 8) * 15.9).astype("uint8")).save(path / f"{i}{'-wrong' * (part == 'train' and bool(wrong[k]))}.png")
    return folder


MODULES = {"network": "http.client urllib.request smtplib imaplib socketserver ftplib poplib http.server xmlrpc.client urllib.parse socket ssl http.cookiejar",
           "files": "shutil pathlib tarfile zipfile tempfile glob gzip bz2 os fileinput filecmp lzma mailbox io"}


def docstrings(module):
    """Yield the first sixty words of the docstrings in a module of Python."""
    own = [value for value in vars(module).values() if getattr(value, "__module__", None) == module.__name__]
    for value in [*own, *(inside for value in own if inspect.isclass(value) for inside in vars(value).values())]:
        words = getattr(value, "__doc__", None)
        if isinstance(words, str) and len(words.split()) >= 12:
            yield " ".join(words.split()[:60])


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Write docstrings of Python's modules on networks and on files; return (folder, wrong)."""
    folder, rng = tmp_path_factory.mktemp("texts"), np.random.default_rng(0)
    topic = {text: name for name, modules in MODULES.items() for module in modules.split() for text in docstrings(importlib.import_module(module))}
    rows = rng.permutation(np.array(sorted(topic.items()), object))
    rows[280:, 1], wrong = flip(rows[280:, 1], 0.4, rng)
    for name, part in {"clean": rows[:80], "test": rows[80:280], "train": rows[280:]}.items():
        with open(folder / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter="\t").writerows([["topic", "text"], *part[:, ::-1]])
    return folder, wrong


def run(capsys, *arguments):
    """Return status, output and errors of the command."""
    status = command_line.main(["own", *map(str, arguments)])
    return status, *capsys.readouterr()



@pytest.fixture(scope="module")
def table_run(cancer):
    folder, out = cancer[0], cancer[0] / "out"
    assert own.main([*files(folder, test=True, predict="new"), "--label", "target", "--passes", "40", "--quiet", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def image_run(digits):
    assert own.main([*files(digits, test=True, ending=""), "--image-size", "8", "--passes", "24", "--batch", "32", "--quiet", "--out", str(digits / "out")]) == 0
    return digits / "out"


@pytest.fixture(scope="module")
def text_run(texts):
    folder = texts[0]
    assert own.main([*files(folder, test=True), "--label", "topic", "--text", "text", "--passes", "20", "--quiet", "--out", str(folder / "out")]) == 0
    return folder / "out"


def files(folder, test=False, predict=None, ending=".csv"):
    """Return the options that name the files of a folder."""
    names = {"train": "train", "clean": "clean", **({"test": "test"} if test else {}), **({"predict": predict} if predict else {})}
    return [word for option, name in names.items() for word in (f"--{option}", str(folder / f"{name}{ending}"))]


def scores(out):
    return json.loads((out / "results.json").read_text())["scores"]


# ------------------------------------------------------------------------------------------ what it finds

def test_wrong_labels_of_a_table_are_found(cancer, table_run):
    found = pandas.read_csv(table_run / "suspects.csv")
    wrong, rows = cancer[1], found["row"] - 1
    given, right = pandas.read_csv(cancer[0] / "train.csv")["target"], scores(table_run)
    assert wrong[rows].mean() > 0.85 and wrong[rows].sum() > 0.9 * wrong.sum()      # seeds 0 to 5: 0.91 to 0.93, 0.97 to 0.98
    assert (found["label"] == given[rows].to_numpy()).all() and list(found) == ["row", "label", "suggestion", "probability", "trust", "weight"]
    assert (found["suggestion"] != found["label"]).mean() > 0.9 and found["probability"].between(0.5, 1).all()
    assert (np.diff(found["trust"]) >= 0).all() and (found["trust"] < 0.5).all() and found["weight"].median() < 0.1
    assert (np.diff(found["weight"])[np.diff(found["trust"]) == 0] >= 0).all()
    assert right["reweight"]["accuracy"] > right["uniform"]["accuracy"] + 10 and right["reweight"]["auc"] > right["uniform"]["auc"]
    assert list(right) == ["uniform", "proportion", "clean_only", "reweight"]


def test_wrong_labels_of_images_are_found(digits, image_run):
    found = pandas.read_csv(image_run / "suspects.csv")
    wrong = found["file"].str.contains("wrong")
    assert wrong.mean() > 0.7 and wrong.sum() > 0.5 * len([*digits.glob("train/*/*wrong*")])    # seeds 0 to 5: 0.80 to 0.90, 0.63 to 0.78
    assert (found["label"] == found["file"].str.partition("/")[0]).all() and (image_run / "suspects.png").exists()
    assert scores(image_run)["reweight"]["accuracy"] > scores(image_run)["uniform"]["accuracy"]
    assert scores(image_run)["reweight"]["auc"] is None


def test_wrong_labels_of_texts_are_found(texts, text_run):
    found = pandas.read_csv(text_run / "suspects.csv")
    train = pandas.read_csv(texts[0] / "train.csv", sep="\t")
    assert texts[1][found["row"] - 1].mean() > 0.65 > 1.4 * texts[1].mean() and len(found) > 0.2 * len(train)
    assert (found["label"] == train["topic"][found["row"] - 1].to_numpy()).all()
    assert scores(text_run)["reweight"]["auc"] > scores(text_run)["uniform"]["auc"] + 0.05
    assert not (text_run / "suspects.png").exists()


# ------------------------------------------------------------------------------------------ what is measured and written

@pytest.mark.parametrize("kind", ["image_run", "text_run"])
def test_scores_are_those_of_scikit_learn(kind, request):
    out = request.getfixturevalue(kind)
    table, found = pandas.read_csv(out / "predictions.csv"), scores(out)["reweight"]
    p = table.filter(like="p(").to_numpy()
    assert found["accuracy"] == pytest.approx(100 * accuracy_score(table["label"], table["prediction"]))
    assert found["balanced"] == pytest.approx(100 * balanced_accuracy_score(table["label"], table["prediction"]))
    assert np.allclose(p.sum(1), 1, atol=1e-3)
    assert (table["prediction"] == np.array([name[2:-1] for name in table.columns[3:]])[p.argmax(1)]).mean() > 0.99     # p is rounded
    if p.shape[1] == 2:
        assert found["auc"] == pytest.approx(roc_auc_score(table["label"] == table.columns[4][2:-1], p[:, 1]), abs=1e-3)


def test_what_is_printed(cancer, tmp_path, capsys):
    """Half of the clean rows are held out, for each seed others; Wilson's interval is SciPy's."""
    arguments = [*files(cancer[0]), "--label", "target", "--passes", "3", "--seeds", "0", "1", "--batch", "64", "--out", tmp_path]
    status, text, progress = run(capsys, *arguments)
    found = scores(tmp_path)
    assert status == 0 and "columns: 30 of numbers, 2 of categories (hospital, size); given labels benign: " in text
    assert "Measured on 20 clean examples held out, of 40 (mean over seeds 0, 1):" in text and "20 examples measure little: --test FILE" in text
    for method, name in own_training.METHODS.items():
        low, high = own_training.wilson(found[method]["accuracy"], 20)
        numbers = re.search(rf"^{name} +([\d.]+)  ([\d.]+) to ([\d.]+) +([\d.]+) +([\d.]+)$", text, re.M).groups()
        assert np.allclose([float(each) for each in numbers], [found[method]["accuracy"], low, high, found[method]["balanced"], found[method]["auc"]], atol=0.06)
    assert "8/8 runs done: Algorithm 1, seed 1" in progress
    held = pandas.read_csv(tmp_path / "predictions.csv")
    clean = pandas.read_csv(cancer[0] / "clean.csv")["target"]
    assert len(held) == 20 and (held["label"] == clean[held["row"] - 1].to_numpy()).all()
    assert (held["label"] == "benign").sum() == round((clean == "benign").sum() / 2)
    settings = json.loads((tmp_path / "results.json").read_text())
    assert settings["tested on"] == 20 and settings["settings"]["seeds"] == [0, 1] and settings["settings"]["out"] == str(tmp_path)
    assert f"more than half of the passes: {settings['suspects']} of 369 training labels" in text
    assert settings["suspects"] == len(pandas.read_csv(tmp_path / "suspects.csv"))


@pytest.mark.parametrize("n", range(1, 60, 2))
def test_the_interval_is_wilsons_and_holds_the_share(n):
    """Also where rounding would leave 100 % outside, for which an error bar of negative length is refused."""
    for right in (0, n // 2, n):
        low, high = own_training.wilson(100 * right / n, n)
        exact = binomtest(right, n).proportion_ci(method="wilson")
        assert np.allclose([low, high], [100 * exact.low, 100 * exact.high], atol=0.01) and str(low) != "-0.0"
        assert 0 <= low <= 100 * (right / n) <= high <= 100


@pytest.mark.parametrize("arguments", [["--hold-out", "0.9"], ["--hold-out", "0.1", "--batch", "3"], ["--test", "test.csv"]], ids=str)
def test_progress_counts_each_pass(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in (GOOD | {"test.csv": "size,color,label\n9,red,yes\n"}).items():
        (tmp_path / name).write_text(text)
    options = own.parser().parse_args([*CSV, *arguments, "--passes", "2", "--seeds", "0", "1", "--quiet"])
    found = own_training.gather(options)
    with own_training.start_progress(found, options) as progress:
        own_training.compare(found, options, progress)
    assert progress.done == progress.total and progress.ended == progress.count == 8


def test_what_fails_in_a_picture_costs_no_training(cancer, tmp_path, capsys, monkeypatch):
    def full(*arguments):
        raise OSError("no space left")
    monkeypatch.setattr(figures, "trust", full)
    status, text, error = run(capsys, *files(cancer[0]), "--label", "target", "--passes", "1", "--quiet", "--out", tmp_path)
    assert status == 1 and error == "error: no space left\n  help: --out FOLDER, with free space\n"
    assert [line.rpartition("/")[2] for line in text.splitlines() if line.startswith("written: ")] == ["model", "suspects.csv", "predictions.csv", "results.json"]
    assert len(own.load(tmp_path / "model").predict(cancer[0] / "new.csv")) == len(pandas.read_csv(cancer[0] / "new.csv"))


@pytest.mark.parametrize("kind, new", [("table_run", "new.csv"), ("image_run", "test"), ("text_run", "test.csv")])
def test_a_model_that_is_loaded_predicts_the_same(kind, new, request, tmp_path, capsys):
    out = request.getfixturevalue(kind)
    before = pandas.read_csv(out / "predictions.csv", dtype=str)
    assert ("label" in before) == (kind != "table_run")      # those to --predict need no label, and those to test on have one
    assert max(len(number.partition(".")[2]) for number in before.iloc[:, -1]) == 4
    status, text, _ = run(capsys, "--model", out / "model", "--predict", out.parent / new, "--out", tmp_path / "a")
    again = pandas.read_csv(tmp_path / "a" / "predictions.csv", dtype=str)
    assert status == 0 and "predictions.csv" in text and len(again) > 100
    assert again.equals(before.drop(columns="label", errors="ignore")) and before.columns[0] == ("file" if kind == "image_run" else "row")
    frame = own.load(out / "model").predict(out.parent / new)
    layers = own.load(out / "model").classifier.model_.layers
    assert any(isinstance(layer, nn.Conv2d) for layer in layers) == (kind == "image_run")
    assert (frame["prediction"] == before["prediction"]).all()
    assert len({*before["prediction"]}) == (3 if kind == "image_run" else 2)


def test_the_saved_model_knows_the_trust_of_all_passes(cancer, table_run):
    model = own.load(table_run / "model").classifier
    found = pandas.read_csv(table_run / "suspects.csv")
    assert model.n_iter_ == 40 and np.allclose(model.trust_[found["row"] - 1], found["trust"], atol=1e-4)
    assert np.allclose(model.sample_weights_[found["row"] - 1], found["weight"], atol=1e-4)
    assert model.trust_[len(cancer[1]):].mean() > 0.9 and len(model.trust_) == len(cancer[1]) + 40      # the clean rows come last


def test_a_network_is_never_given_the_inputs_of_another(table_run, text_run, tmp_path, monkeypatch):
    """Neither by hand, nor where writing over an old model was interrupted between its two files."""
    model = own.load(table_run / "model")
    model.save(tmp_path)
    assert own.load(tmp_path).inputs == model.inputs
    (tmp_path / "inputs.json").write_bytes((text_run / "model" / "inputs.json").read_bytes())
    with pytest.raises(FileError, match="inputs.json and network.safetensors are of different models .*\n  help: train again"):
        own.load(tmp_path)

    def interrupt(path, text):
        raise KeyboardInterrupt
    monkeypatch.setattr(own_model, "write_whole", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.save(tmp_path)
    with pytest.raises(FileError, match="there is no model in it"):
        own.load(tmp_path)


def test_a_model_tells_what_it_does_not_know(table_run, cancer, tmp_path, capsys):
    table = pandas.read_csv(cancer[0] / "new.csv").assign(hospital="west", note="x")
    table.to_csv(tmp_path / "new.csv", index=False)
    status, text, _ = run(capsys, "--model", table_run / "model", "--predict", tmp_path / "new.csv", "--out", tmp_path)
    new = tmp_path / "new.csv"
    assert (status, text.splitlines()) == (0, [f"note: {new}: columns not in the training set are not used: note",
                                               f"note: {new}: column hospital has values that the training set lacks: 'west'",
                                               f"written: {tmp_path / 'predictions.csv'}"])


def test_nothing_is_overwritten_unasked(cancer, table_run, capsys, monkeypatch):
    before = (table_run / "suspects.csv").read_bytes()
    arguments = [*files(cancer[0]), "--label", "target", "--passes", "1", "--quiet", "--out", table_run]
    status, _, error = run(capsys, *arguments)
    assert status == 2 and "already holds suspects.csv, predictions.csv, trust.png, results.json, model/network.safetensors\n  help: --out FOLDER, or --overwrite" in error
    status, _, error = run(capsys, "--model", table_run / "model", "--predict", cancer[0] / "new.csv", "--out", table_run)
    assert status == 2 and "already holds predictions.csv\n" in error and (table_run / "suspects.csv").read_bytes() == before
    monkeypatch.setattr(own, "report", lambda found, result, options: print("reported"))
    assert run(capsys, *arguments, "--overwrite")[:2][0] == 0


# ------------------------------------------------------------------------------------------ numbers by hand

def examples(values, columns=(), names=None, labels=None):
    return data.Examples("a.csv", np.arange(1, len(values) + 1) if names is None else names, labels, values, tuple(columns))


def test_a_table_by_hand():
    train = examples(np.array([["1", "red", "5", "x", "0"], ["3", "blue", "5", "x", "1"], ["5", "red", "5", "x", "2"]], object), ["a", "b", "c", "same", "d"])
    table = data.Table.fit(train)
    scale = np.std([1, 3, 5])
    assert table == data.Table({"a": [3.0, pytest.approx(scale)], "d": [1.0, pytest.approx(np.sqrt(2 / 3))]}, {"b": ["blue", "red"]}) and table.columns == ["a", "d", "b"]
    other = examples(np.array([["7", "1", "green"], ["-1e0", "2", "blue"]], object), ["a", "d", "b"])
    assert table(other).dtype == np.float32
    np.testing.assert_allclose(table(other), [[4 / scale, 0, 0, 0], [-4 / scale, np.sqrt(1.5), 1, 0]], rtol=1e-6)
    assert data.from_json(data.to_json(table)) == table and '"größe": [' in data.to_json(data.Table({}, {"größe": ["s"]}))      # to be read by people
    assert len(data.Table.fit(examples(np.array([[f"name {k}"] for k in range(100)], object), ["a"])).categories["a"]) == 100
    names = data.Table.fit(train, ["a", "d"])
    assert names.categories == {"a": ["1", "3", "5"], "b": ["blue", "red"], "d": ["0", "1", "2"]} and not names.numbers
    mixed = np.array([[str(k)] for k in range(8)] + [["x"], ["y"]], object)
    assert len(data.Table.fit(examples(mixed, ["a"])).categories["a"]) == 10                # 80 % of numbers: they are names
    formatted = np.array([[f"{k},5"] for k in range(9)] + [["x"]], object)
    with pytest.raises(DataError, match="column a has '0,5': numbers are written like 1234.5"):
        data.Table.fit(examples(formatted, ["a"]))
    parts = examples(np.array([["1.2.3"], ["1.2.4"]], object), ["version"])
    assert data.Table.fit(parts, ["version"]).categories == {"version": ["1.2.3", "1.2.4"]}


@pytest.mark.parametrize("sign", [1, -1])
def test_numbers_far_from_the_others_are_mistakes(sign):
    """More than 10,000 standard deviations from the mean, on either side."""
    table = data.Table.fit(examples(np.array([["-1"], ["1"]], object), ["a"]))
    assert table(examples(np.array([[str(9999 * sign)]], object), ["a"])) == 9999 * sign
    with pytest.raises(DataError, match=f"column a has '{10001 * sign}' in row 2, 1e\\+04 standard deviations from the mean in training, 0\n"):
        table(examples(np.array([["0"], [str(10001 * sign)]], object), ["a"]))


def test_the_most_frequent_words_are_kept(monkeypatch):
    values = np.array(["a cat and a dog", "cat and dog and cow", "cow and cat"], object)
    assert data.MOST_WORDS == 20_000 and data.Words.fit(examples(values, ["text"])).words == ["and", "cat", "cow", "dog"]
    monkeypatch.setattr(data, "MOST_WORDS", 2)
    assert data.Words.fit(examples(values, ["text"])).words == ["and", "cat"]


def test_words_are_those_of_scikit_learn():
    values = np.array(["the cat sat", "the dog sat", "a bird"], object)
    words = data.Words.fit(examples(values, ["text"]))
    assert words.words == ["sat", "the"] and words.columns == ["text"] and data.from_json(data.to_json(words)) == words
    np.testing.assert_allclose(words(examples(values)).toarray(), TfidfVectorizer(min_df=2).fit_transform(values).toarray())


@pytest.mark.parametrize("gray", [True, False])
def test_pixels_by_hand(gray):
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3)).astype("uint8")
    images = np.repeat(images[..., :1], 3, -1) if gray else images
    pixels = data.Pixels.fit(examples(images))
    x = images[..., :1 if gray else 3].astype(float)
    np.testing.assert_allclose(pixels(examples(images)), (x - x.mean((0, 1, 2))) / x.std((0, 1, 2)), rtol=1e-5, atol=1e-6)
    assert data.from_json(data.to_json(pixels)) == pixels and pixels.size == 4 and pixels.columns is None
    flat = examples(np.full((2, 4, 4, 3), 7, "uint8"))
    assert (data.Pixels.fit(flat)(flat) == 0).all()         # images of one color have no deviation to divide by


@pytest.mark.parametrize("size", [8, 9, 32])
def test_the_network_for_images_fits_any_size(size):
    network = own_model.convolutional(backend.generator(0), (size, size, 1), 4)
    assert network(np.zeros((2, size, size, 1), "float32")).shape == (2, 4)


def test_the_network_for_images_layer_by_layer():
    """Two convolutions of 3 x 3, each with ReLU and the largest of 2 x 2; then 100 units."""
    network, x = own_model.convolutional(backend.generator(0), (8, 4, 2), 4), np.random.default_rng(1).normal(size=(3, 8, 4, 2)).astype("float32")
    first, second, hidden, last = (layer for layer in network.layers if isinstance(layer, nn.Module))
    assert (first.kernel.shape, second.kernel.shape, hidden.weight.shape, last.weight.shape) == ((3, 3, 2, 16), (3, 3, 16, 32), (64, 100), (100, 4))
    y = x
    for layer in (first, second):
        y = np.maximum(layer(y), 0)
        y = y.reshape(3, y.shape[1] // 2, 2, y.shape[2] // 2, 2, -1).max((2, 4))
    np.testing.assert_allclose(network(x), last(np.maximum(hidden(y.reshape(3, -1)), 0)), rtol=1e-4, atol=1e-5)


def test_files_of_other_programs_are_read(tmp_path):
    (tmp_path / "a.csv").write_bytes("\ufeffsize;label;note\r\n 1,5; yes;\"a;b\"\r\n2;no;c\r\n".encode())
    found = data.read(tmp_path / "a.csv", "label", drop=["note"])
    assert found.columns == ("size",) and found.labels.tolist() == ["yes", "no"] and found.values.tolist() == [["1,5"], ["2"]]
    further = data.read(tmp_path / "a.csv", "label", columns=["note"])
    assert further.unused == ("size",) and further.values.tolist() == [["a;b"], ["c"]] and further.names.tolist() == [1, 2]
    turned = data.read(tmp_path / "a.csv", "label", columns=["size", "note"]), data.read(tmp_path / "a.csv", "label", columns=["note", "size"])
    assert [found.columns for found in turned] == [("size", "note"), ("note", "size")] and turned[1].values.tolist() == [["a;b", "1,5"], ["c", "2"]]
    assert data.read(tmp_path / "a.csv", text="note").values.tolist() == ["a;b", "c"]
    (tmp_path / "b.csv").write_text("size , label\n1 ,yes \n2, no\n")
    padded = data.read(tmp_path / "b.csv", "label")
    assert padded.columns == ("size",) and padded.labels.tolist() == ["yes", "no"] and padded.values.tolist() == [["1"], ["2"]]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("names", [["a,b,c,d", "label"], ["a;b;c;d", "label"], ["a\tb\tc\td", "label"], ["size", "label"]], ids=str)
def test_the_separator_is_found(separator, names, tmp_path):
    """Whatever else is in the names: by the column of the labels. A file may begin with empty lines."""
    path = tmp_path / "a.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        file.write("\n")
        csv.writer(file, delimiter=separator).writerows([names, ["1,5", "yes"], ["2", "no"]])
    found = data.read(path, "label")
    assert found.columns == (names[0],) and found.labels.tolist() == ["yes", "no"] and found.values.tolist() == [["1,5"], ["2"]]
    assert data.read(path, columns=names[:1]).values.tolist() == data.read(path, text=names[0]).values[:, None].tolist() == [["1,5"], ["2"]]
    with open(path, "w", newline="", encoding="utf-8") as file:
        file.write("\n")
        csv.writer(file, delimiter=separator).writerows([[*names, names[0]], ["1", "yes", "2"]])
    with pytest.raises(DataError, match="two columns have the name"):
        data.read(path, "label")


def test_rows_have_the_numbers_that_a_spreadsheet_shows(tmp_path):
    """Blank lines and rows of empty cells are no examples, and counted; lines before the header are not."""
    (tmp_path / "a.csv").write_text('\n \nsize,label\n\n1,yes\n,\n2,"no\nno"\n\n\n3,yes\n\n')
    found = data.read(tmp_path / "a.csv", "label")
    assert found.names.tolist() == [2, 4, 7] and found.values.tolist() == [["1"], ["2"], ["3"]] and found.labels.tolist() == ["yes", "no\nno", "yes"]
    (tmp_path / "b.csv").write_text("text\none\n\ntwo\n")
    assert data.read(tmp_path / "b.csv", text="text").values.tolist() == ["one", "two"]


@pytest.mark.filterwarnings("ignore:Metadata Warning")
def test_a_photo_with_damaged_facts_is_read_or_named(tmp_path):
    """Pillow raises errors of many types where a byte of the EXIF segment, or of another, is wrong."""
    exif, path, raised = Image.Exif(), tmp_path / "1.jpg", set()
    exif[0x0112], exif[0x011A] = 6, (72, 1)
    Image.new("RGB", (9, 9)).save(path, exif=exif)
    whole = path.read_bytes()
    for place in range(2, whole.index(b"\xff\xdb")):        # up to the tables of the picture itself
        for value in (0, 2, 255):
            path.write_bytes(whole[:place] + bytes([value]) + whole[place + 1:])
            try:
                assert data.read(tmp_path, labeled=False, size=4).values.shape == (1, 4, 4, 3)
            except FileError as error:
                assert str(error).startswith(f"{path}: this image cannot be read (")
                raised.add(type(error.__cause__))
    assert any(not issubclass(each, (OSError, ValueError)) for each in raised)      # which ones depends on Pillow's version


def test_images_are_turned_resized_and_sorted(tmp_path):
    picture = Image.new("RGB", (6, 4), "red")
    exif = picture.getexif()
    exif[0x0112] = 6                                        # a camera that was held upright
    picture.paste("blue", (0, 0, 3, 4))
    for name in ("b/2.jpg", "a/deep/1.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        picture.save(tmp_path / name, exif=exif)
    (tmp_path / "a" / "notes.txt").write_text("no image")
    found = data.read(tmp_path, size=4)
    assert found.names.tolist() == ["a/deep/1.png", "b/2.jpg"] and found.labels.tolist() == ["a", "b"] and found.values.shape == (2, 4, 4, 3)
    assert (found.values[0, 0] == [0, 0, 255]).all() and (found.values[0, 3] == [255, 0, 0]).all()
    assert data.read(tmp_path / "b", labeled=False).labels is None
    (tmp_path / "c").symlink_to(tmp_path / "a")             # data sets are often links to others
    assert data.read(tmp_path, size=4).names.tolist() == data.read(tmp_path, labeled=False).names.tolist() == ["a/deep/1.png", "b/2.jpg", "c/deep/1.png"]
    (tmp_path / "a" / "deep" / "1.png").rename(tmp_path / "0.png")
    assert data.read(tmp_path, labeled=False).names.tolist() == ["0.png", "b/2.jpg"]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_becomes_white(mode, tmp_path):
    alpha = Image.fromarray(np.array([[0, 255], [255, 0]], "uint8"))
    black = Image.new(mode, (2, 2))
    black.putalpha(alpha)
    black.save(tmp_path / "1.png")
    assert data.read(tmp_path, labeled=False, size=2).values[0, :, :, 1].tolist() == [[255, 0], [0, 255]]


def test_images_are_resized_smoothly_whatever_their_ending(tmp_path):
    """Half as large, each pixel is a mean over its neighborhood: of stripes, nearly gray."""
    Image.fromarray(np.tile(np.array([0, 255], "uint8"), (8, 4))).save(tmp_path / "1.PNG")
    pixels = data.read(tmp_path, labeled=False, size=4).values[0, :, :, 0]
    assert pixels.shape == (4, 4) and ((pixels > 60) & (pixels < 195)).all()


def test_hidden_files_are_not_read(tmp_path):
    for name in ("cat/1.png", "cat/.cache/2.png", "dog/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2)).save(tmp_path / name)
    (tmp_path / "cat" / "._1.png").write_text("what macOS writes beside it")
    assert data.read(tmp_path).names.tolist() == ["cat/1.png", "dog/1.png"]


def test_rows_of_the_clean_file_are_not_trained_on_twice(cancer, tmp_path):
    """Three clean rows stand in the training file as well, one of them twice, which is an example of its own."""
    train, clean = (pandas.read_csv(cancer[0] / f"{name}.csv") for name in ("train", "clean"))
    pandas.concat([clean[:3].assign(target="benign"), train[:50], clean[:1]]).to_csv(tmp_path / "train.csv", index=False)
    found = own_training.gather(own.parser().parse_args(["--train", str(tmp_path / "train.csv"), "--clean", str(cancer[0] / "clean.csv"), "--label", "target"]))
    assert found.train.names.tolist() == [*range(4, 55)]
    assert found.notes == ["3 training examples are in the clean or the test set, too: left out"]
    assert "note: 3 training examples" in own.describe(found)


def test_clean_rows_are_not_tested_on(cancer, tmp_path):
    """They are trained on: accuracy would be too high. A training row may then be in both files, and is left out."""
    clean, test = (pandas.read_csv(cancer[0] / f"{name}.csv") for name in ("clean", "test"))
    pandas.concat([test[:30], clean[:5]]).to_csv(tmp_path / "test.csv", index=False)
    pandas.concat([test[10:20], clean[:5], clean[20:22], pandas.read_csv(cancer[0] / "train.csv")[:10]]).to_csv(tmp_path / "train.csv", index=False)
    options = own.parser().parse_args(["--train", str(tmp_path / "train.csv"), "--clean", str(cancer[0] / "clean.csv"), "--test", str(tmp_path / "test.csv"), "--label", "target"])
    found = own_training.gather(options)
    assert found.test.names.tolist() == [*range(1, 31)] and found.test.labels.tolist() == test["target"][:30].tolist() and found.train.names.tolist() == [*range(18, 28)]
    assert found.notes[-2:] == ["5 test examples are in the clean set, too: left out", "17 training examples are in the clean or the test set, too: left out"]


def test_a_column_that_counts_the_rows_is_named(tmp_path):
    size = np.random.default_rng(0).permutation(25)
    pandas.DataFrame({"id": size + 7, "step": 2 * size, "age": size // 2, "label": np.where(size % 2, "yes", "no")}).to_csv(tmp_path / "a.csv", index=False)
    train = data.read(tmp_path / "a.csv", "label")
    assert own_training._counters(train, data.Table.fit(train)) == ["id"]
    assert own_training._counters(train.take(np.arange(10)), data.Table.fit(train)) == []


def test_clean_examples_alone_are_trained_on_for_as_many_steps():
    options = types.SimpleNamespace(passes=10, batch=100)
    assert [own_training.passes(method, 1000, 250, options) for method in ("reweight", "clean_only")] == [10, 33]
    rng = np.random.default_rng(0)
    rows, clean = training.Rows(rng.normal(size=(40, 3)).astype("float32"), np.array(["a", "b"] * 20)), np.arange(40) < 8
    counted = []
    model = own_training.fit("clean_only", rows, clean, 3, types.SimpleNamespace(passes=2, batch=10, rate=0.01), counted.append)
    assert counted == [model] * model.n_iter_ and model.n_iter_ == 8 and len(model.trust_) == 8 and model.batch_size == 10 and model.learning_rate_init == 0.01
    assert model.random_state == 3
    with np.errstate(all="ignore"), pytest.raises(DataError, match=r"the loss of pass \d is not finite\n  help: "):
        own_training.fit("reweight", rows, clean, 0, types.SimpleNamespace(passes=5, batch=10, rate=1e30), lambda model: None)


def test_measures_on_labels_that_lack_a_class():
    """A class that is not among the labels is not part of the balanced accuracy, even where it is predicted; and of three there is no AUC."""
    p = np.array([[0.8, 0.1, 0.1], [0.1, 0.2, 0.7], [0.1, 0.6, 0.3], [0.2, 0.5, 0.3]])
    assert own_training.measure(np.array(["a", "a", "b", "b"]), p, np.array(["a", "b", "c"])) == {"accuracy": 75.0, "balanced": 75.0, "auc": None}
    two = own_training.measure(np.array(["a", "b", "b"]), np.array([[0.9, 0.1], [0.8, 0.2], [0.95, 0.05]]), np.array(["a", "b"]))
    assert two == {"accuracy": pytest.approx(100 / 3), "balanced": 50.0, "auc": 0.5}
    assert own_training.measure(np.array(["a", "a"]), np.array([[0.9, 0.1]] * 2), np.array(["a", "b"])) == {"accuracy": 100.0, "balanced": 100.0, "auc": None}


def test_what_is_a_mean_over_the_seeds_and_what_of_the_first(tmp_path, monkeypatch):
    """Each seed holds out other clean rows; scores, trust, weights and probabilities are means, model and tested rows the first's."""
    rng = np.random.default_rng(0)
    for name, n in (("train", 30), ("clean", 16)):
        x = rng.normal(size=n)
        pandas.DataFrame({"x": x, "z": rng.normal(size=n), "label": np.where(x + rng.normal(size=n) > 0, "yes", "no")}).to_csv(tmp_path / f"{name}.csv", index=False)
    options = own.parser().parse_args([*files(tmp_path), "--label", "label", "--passes", "4", "--batch", "10", "--hold-out", "0.25", "--seeds", "7", "2", "--quiet"])
    found, made, fit = own_training.gather(options), [], own_training.fit

    def recorded(method, rows, clean, seed, *others):
        made.append((method, seed, rows, clean, fit(method, rows, clean, seed, *others)))
        return made[-1][-1]
    monkeypatch.setattr(own_training, "fit", recorded)
    with own_training.start_progress(found, options) as progress:
        result = own_training.compare(found, options, progress)
    assert [each[:2] for each in made] == [(method, seed) for seed in (7, 2) for method in own_training.METHODS]
    held = [own_training.held_out_of(found, options, seed) for seed in (7, 2)]
    labels = found.clean.labels
    for k, seed in enumerate((7, 2)):
        assert [*held[k]] == [*training.hold_out((labels == "yes").astype(int), 0.25, seed)] and len(held[k]) == 4
        _, _, rows, clean, _ = made[4 * k]
        rest = np.setdiff1d(np.arange(16), held[k])
        assert rows.y.tolist() == [*found.train.labels, *labels[rest]] and clean.tolist() == [False] * 30 + [True] * 12
    assert {*held[0]} != {*held[1]} and result.tested.names.tolist() == found.clean.take(held[0]).names.tolist()
    ours = [each[-1] for each in made if each[0] == "reweight"]
    assert result.model.classifier is ours[0] and result.model.inputs == found.inputs
    x = found.inputs(found.train)
    for name, of in (("trust", lambda model: model.trust_[:30]), ("weights", lambda model: model.sample_weights_[:30]),
                     ("probabilities", lambda model: model.predict_proba(x))):
        np.testing.assert_allclose(getattr(result, name), (of(ours[0]) + of(ours[1])) / 2, rtol=1e-6)
    np.testing.assert_array_equal(result.clean_trust, np.concatenate([model.trust_[30:] for model in ours]))
    for method in own_training.METHODS:
        each = []
        for k, model in enumerate(each[-1] for each in made if each[0] == method):
            part = found.clean.take(held[k])
            each.append(own_training.measure(part.labels, model.predict_proba(found.inputs(part)), np.array(["no", "yes"])))
        assert result.scores[method] == {key: pytest.approx((each[0][key] + each[1][key]) / 2) for key in each[0]}


def test_one_clean_example_of_a_class_is_enough_beside_a_test_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in (GOOD | {"clean.csv": "size,color,label\n9,red,yes\n8,red,yes\n3,blue,no\n", "test.csv": "size,color,label\n7,red,yes\n"}).items():
        (tmp_path / name).write_text(text)
    assert len(own_training.gather(own.parser().parse_args([*CSV, "--test", "test.csv"])).clean.names) == 3


def test_what_the_help_says_of_defaults():
    actions = [(action, re.search(r"default (?:runs/)?([\d.]+|own)", action.help or "")) for action in own.parser()._actions]
    said = {action.dest: found[1] for action, found in actions if found}
    assert {name: (own.parser().get_default(name)) for name in said} == {
        "image_size": 32, "hold_out": 0.5, "seeds": [0], "passes": 100, "batch": 100, "rate": 0.001, "out": pathlib.Path("runs", "own")}
    assert said == {"image_size": "32", "hold_out": "0.5", "seeds": "0", "passes": "100", "batch": "100", "rate": "0.001", "out": "own"}


def test_suspects_and_what_is_drawn_of_them(tmp_path, monkeypatch, capsys):
    """Trust below a half; by trust, then weight, then the probability of the given label. Pictures show those images, in that order."""
    images = np.arange(30)[:, None, None, None] * np.ones((30, 4, 4, 3), "uint8")
    labels = np.array([f"{k % 25:02d}" for k in range(30)])
    names = np.array([f"{k}.png" for k in range(30)])
    train = data.Examples("train", names, labels, images)
    trust = np.ones(30)
    trust[[3, 4, 5, 6, 7]], weights, p = [0.2, 0.1, 0.2, 0.2, 0.5], np.ones(30), np.full((30, 25), 0.01)
    weights[[3, 4, 5, 6]] = [0.4, 0.9, 0.1, 0.4]
    p[3, 3], p[6, 6], p[[3, 4, 5, 6], [9, 8, 7, 5]] = 0.2, 0.1, [0.5, 0.6, 0.7, 0.4]
    classifier = types.SimpleNamespace(classes_=np.unique(labels), predict_proba=lambda x: p[:2])
    tested = data.Examples("test", np.array(["a.png", "b.png"]), np.array(["00", "01"]), images[:2])
    inputs, saved, shown = data.Pixels(4, [0.0], [1.0]), [], {}
    model = types.SimpleNamespace(classifier=classifier, save=saved.append)
    scores = {method: {"accuracy": 50.0, "balanced": 40.0, "auc": None} for method in own_training.METHODS}
    result = own_training.Comparison(scores, tested, trust, weights, p, np.full(3, 0.9), model)
    found = own_training.Sources(train, train.take(np.arange(10)), tested, None, inputs, ["mind the gap"])
    (tmp_path / "suspects.png").write_text("of an earlier run")
    frame, order = own.suspects(found, result)
    assert order.tolist() == [4, 5, 6, 3] and frame["file"].tolist() == ["4.png", "5.png", "6.png", "3.png"]
    assert frame["label"].tolist() == ["04", "05", "06", "03"] and frame["suggestion"].tolist() == ["08", "07", "05", "09"]
    assert frame["probability"].tolist() == [0.6, 0.7, 0.4, 0.5] and frame["trust"].tolist() == [0.1, 0.2, 0.2, 0.2] and frame["weight"].tolist() == [0.9, 0.1, 0.4, 0.4]
    for name in ("trust", "suspects"):
        monkeypatch.setattr(figures, name, lambda *arguments, name=name: shown.update({name: arguments}))
    options = own.parser().parse_args(["--out", str(tmp_path), "--seeds", "4"])
    own.report(found, result, options)
    text = capsys.readouterr().out
    assert "Measured on 2 clean examples in test (seed 4):" in text and "half of the passes: 4 of 30 training labels. The first:" in text
    assert saved == [tmp_path / "model"] and pandas.read_csv(tmp_path / "predictions.csv", dtype=str)["file"].tolist() == ["a.png", "b.png"]
    _, trusted, clean, pairs, path, caption = shown["trust"]
    assert trusted is trust and clean is result.clean_trust and path == tmp_path / "trust.png" and caption == "train: 30 examples, 10 clean ones, seed 4"
    assert pairs.tolist() == [["04", "08"], ["05", "07"], ["06", "05"], ["03", "09"]]
    pixels, titles, path, _ = shown["suspects"]
    assert pixels[:, 0, 0, 0].tolist() == [4, 5, 6, 3] and titles == ["04 → 08", "05 → 07", "06 → 05", "03 → 09"] and path == tmp_path / "suspects.png"
    own.report(found, result._replace(trust=np.ones(30)), options)
    assert not (tmp_path / "suspects.png").exists() and "labels" in capsys.readouterr().out         # there are none to show
    first, second, note = own.describe(found).splitlines()
    assert first == "train: 30 examples, images, 4 x 4, gray; given labels " + ", ".join(f"{k:02d}: {2 if k < 5 else 1}" for k in range(20)) + " ..."
    assert second.startswith("train: 10 examples that are known") and note == "note: mind the gap"


def test_all_files_that_are_written_are_asked_for(image_run):
    assert {path.relative_to(image_run).as_posix() for path in image_run.rglob("*.*")} - {"model/inputs.json", ".lock"} == {*own.FILES}


@pytest.mark.parametrize("name", own.FILES)
def test_each_file_that_would_be_replaced_is_named(name, tmp_path, capsys, monkeypatch):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    status, _, error = run(capsys, *CSV, "--out", tmp_path)
    assert status == 2 and error == f"error: {tmp_path} already holds {name}\n  help: --out FOLDER, or --overwrite\n"


IDLE = {"a file to test": (["--test", "t.csv", "--hold-out", "0.3"], "--hold-out: without effect beside --test"), "a table": (["--image-size", "16"], "--image-size: without effect with CSV files"),
        "a model": (["--seeds", "1", "--rate", "0.01", "--drop", "size"], "--drop, --seeds, --rate: without effect beside --model, whose settings they are")}


@pytest.mark.parametrize("case", IDLE)
def test_options_that_change_nothing_are_refused(case, tmp_path, capsys, monkeypatch):
    """Even with the values of their defaults: whoever gives them believes that they count."""
    monkeypatch.chdir(tmp_path)
    for name, text in GOOD.items():
        (tmp_path / name).write_text(text)
    arguments, says = IDLE[case]
    status, _, error = run(capsys, *(["--model", "m", "--predict", "train.csv"] if case == "a model" else CSV), *arguments)
    assert status == 2 and error == f"error: {says}{', which is measured on' * (case == 'a file to test')}\n  help: leave it out\n"


@pytest.mark.parametrize("module", ["own", "tables"])
def test_a_folder_is_written_by_one_command(module, cancer, tmp_path, capsys, monkeypatch):
    """The second is refused before it trains; it would replace, without asking, what the first has written by then."""
    arguments = [*files(cancer[0]), "--label", "target"] if module == "own" else []
    monkeypatch.setattr(own, "compare", lambda *args: pytest.fail("training began"))
    with folders.lock_folder(tmp_path):
        assert command_line.main([module, *map(str, arguments), "--out", str(tmp_path)]) == 2
    assert f"{tmp_path}: another process is writing there\n  help: wait for it, or --out FOLDER" in capsys.readouterr().err
    with folders.lock_folder(tmp_path):
        pass


def test_a_failure_in_training_has_another_status(cancer, tmp_path, capsys, monkeypatch):
    def fail(*arguments, **settings):
        raise DataError("it went wrong")
    monkeypatch.setattr(own_training, "fit", fail)
    status, _, error = run(capsys, *files(cancer[0]), "--label", "target", "--quiet", "--out", tmp_path)
    assert status == 1 and error == "error: it went wrong\n" and {path.name for path in tmp_path.iterdir()} <= {".lock"}


# ------------------------------------------------------------------------------------------ pictures

SCORES = {"uniform": ("plain", 60.0, 50.0, 72.0), "reweight": ("ours", 90.0, 80.0, 95.0)}
PAIRS = [("cat", "dog")] * 5 + [("dog", "cat")] * 2 + [("dog", "dog")]


@pytest.fixture
def at(tmp_path, monkeypatch):
    """Return a path for a picture that is not written; the runs above write theirs."""
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda figure, path, **settings: None)
    return tmp_path / "a.png"


def texts_of(things):
    return [thing.get_text() for thing in things]


def test_the_picture_of_scores(drawn, at):
    assert figures.trust(SCORES, np.array([0.2, 0.8]), np.ones(1), PAIRS, at, "a caption " * 20) == at
    axes = drawn[0].axes[0]
    assert drawn[0].get_suptitle() == "\n".join(["a caption " * 12 + "a caption", "a caption " * 6 + "a caption"])
    assert texts_of(axes.get_yticklabels()) == ["ours", "plain"] and axes.get_ylim() == (-0.5, 1.6)
    assert [(text.get_text(), text.xy) for text in axes.texts] == [("90.0", (90.0, 0)), ("60.0", (60.0, 1))]
    for container, color, middle, low, high, k in zip(axes.containers, ("#d62728", "#7f7f7f"), (90, 60), (80, 50), (95, 72), (0, 1)):
        line, _, (bars,) = container.lines
        assert line.get_color() == color and line.get_xydata().tolist() == [[middle, k]] and bars.get_segments()[0].tolist() == [[low, k], [high, k]]
    assert axes.get_xlabel() == "accuracy, %, with the 95 % interval" and axes.get_title() == "Right labels, not trained on"


def test_the_picture_of_trust(drawn, at):
    """Shares of all examples in each twentieth, the clean ones as an outline; room above the highest for the legend."""
    figures.trust(SCORES, np.array([0.02, 0.12, 0.13, 0.62, 0.63, 0.97, 1.0]), np.array([0.9, 1.0, 1.0, 1.0]), PAIRS, at, "caption")
    axes = drawn[0].axes[1]
    expected = np.zeros(20)
    expected[[0, 2, 12, 19]] = [100 / 7, 200 / 7, 200 / 7, 200 / 7]
    np.testing.assert_allclose([bar.get_height() for bar in axes.containers[0]], expected)
    outline = next(patch for patch in axes.patches if isinstance(patch, Polygon) and to_hex(patch.get_edgecolor()) == "#1f77b4")
    assert outline.get_xy()[:, 1].max() == 75 and not outline.get_fill() and to_hex(axes.containers[0][0].get_facecolor()) == "#7f7f7f"
    assert axes.get_ylim() == pytest.approx((0, 1.3 * 1.05 * 75)) and axes.get_xlim() == (0, 1)
    assert texts_of(axes.texts) == ["3 suspects"] and texts_of(axes.get_legend().get_texts()) == ["given labels (7)", "labels known to be right (4)"]
    shade = axes.patches[0]
    assert (shade.get_x(), shade.get_width(), to_hex(shade.get_facecolor())) == (0, 0.5, "#d62728")
    assert axes.get_title() == "Who was trusted" and axes.get_ylabel() == "share of the examples, %"
    assert axes.get_xlabel() == "trust: share of passes with a weight above 0"


def test_the_picture_of_suspects_by_label(drawn, at):
    figures.trust(SCORES, np.ones(3), np.ones(0), PAIRS, at, "caption")
    axes = drawn[0].axes[2]
    np.testing.assert_array_equal(axes.images[0].get_array(), [[0, 5], [2, 1]])
    assert axes.images[0].get_clim() == (0, 5) and axes.images[0].get_cmap().name == "Reds" and axes.get_title() == "Suspects by label"
    assert [(text.get_text(), text.get_position(), text.get_color()) for text in axes.texts] == [
        ("0", (0, 0), "black"), ("5", (1, 0), "white"), ("2", (0, 1), "black"), ("1", (1, 1), "black")]
    assert texts_of(axes.get_yticklabels()) == texts_of(axes.get_xticklabels()) == ["cat", "dog"] and axes.get_xticklabels()[0].get_rotation() == 0
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("label that the network would give", "given label")
    figures.trust(SCORES, np.ones(3), np.ones(0), [], at, "caption")
    assert texts_of(drawn[1].axes[2].texts) == ["no suspects"] and not drawn[1].axes[2].axison


def test_labels_are_no_formulas(tmp_path):
    path = figures.trust(SCORES, np.ones(3), np.ones(1), [("$\\frac$", "$x_")] * 2, tmp_path / "a.png", r"$\frac$ a$b")
    assert figures.suspects(np.zeros((1, 4, 4, 3), "uint8"), [r"$\frac$ → $x_"], tmp_path / "b.png", r"$\frac$").exists() and path.exists()


def test_of_many_classes_the_most_frequent_are_drawn(drawn, at):
    names = [f"{k:02d}" if k else "00, which is a long name" for k in range(14)]
    pairs = [(name, names[0]) for k, name in enumerate(names) for _ in range(1 + (k > 2))]      # 01 and 02 least
    figures.trust(SCORES, np.ones(3), np.ones(1), pairs, at, "caption")
    axes = drawn[0].axes[2]
    assert texts_of(axes.get_xticklabels()) == ["00, which is …", *names[3:]] and axes.get_title() == "Suspects by label (the 12 most frequent)"
    assert axes.images[0].get_array()[:, 0].tolist() == [1, *[2] * 11] and axes.get_xticklabels()[0].get_rotation() == 30


def test_the_picture_of_suspects(drawn, at):
    images = np.random.default_rng(0).integers(0, 256, (9, 4, 4, 3)).astype("uint8")
    assert figures.suspects(images, [f"{k} → 1" for k in range(9)], at, "caption " * 20) == at
    panels = [axes for axes in drawn[0].axes if axes.images]
    assert drawn[0].get_suptitle().count("\n") == 1 and drawn[0].get_size_inches() == pytest.approx([12, 4.4])
    assert len(drawn[0].axes) == 16 and not any(axes.axison for axes in drawn[0].axes) and [axes.get_title() for axes in panels] == [f"{k} → 1" for k in range(9)]
    np.testing.assert_array_equal(panels[8].images[0].get_array(), images[8])


# ------------------------------------------------------------------------------------------ what is refused

GOOD = {"train.csv": "size,color,label\n1,red,yes\n2,blue,no\n3,red,yes\n4,blue,no\n", "clean.csv": "size,color,label\n1,red,yes\n2,red,yes\n3,blue,no\n5,blue,no\n"}
LONG = "".join(f"name {k},{'yes' if k % 2 else 'no'}\n" for k in range(101))
CSV = ["--train", "train.csv", "--clean", "clean.csv", "--label", "label"]
REFUSED = {
    "no --train": ({}, ["--label", "label"], "--train and --clean are both needed\n  help: --train FILE"),
    "no --label": ({}, CSV[:4], "--label: which column of the CSV file has the labels?\n  help: --label COLUMN"),
    "no such file": ({"train.csv": None}, CSV, "train.csv: it cannot be read (No such file or directory)\n  help: pass a CSV file"),
    "no such label": ({}, [*CSV[:5], "labels"], "train.csv: there is no column labels\n  columns: size, color, label\n  help: label?"),
    "a column missing": ({"clean.csv": "size,label\n1,yes\n2,no\n"}, CSV, "clean.csv: there is no column color\n  columns: size, label\n  help: correct its name"),
    "a value missing": ({"train.csv": "size,color,label\n1,red,yes\n,blue,no\n,red,no\n"}, CSV, "train.csv: column size has no value in row 2 and 1 others\n  help: fill it in"),
    "a label missing": ({"clean.csv": "size,color,label\n1,red,\n"}, CSV, "clean.csv: column label has no value in row 1\n"),
    "no text": ({"clean.csv": "size,color,label\n1,,yes\n"}, [*CSV, "--text", "color"], "clean.csv: column color has no value in row 1\n"),
    "not a number": ({"clean.csv": GOOD["clean.csv"].replace("3,", "three,")}, CSV, "clean.csv: column size has 'three' in row 3, where others have numbers\n  help: correct it, or --categories size"),
    "infinity": ({"test.csv": "size,color,label\ninf,red,yes\n"}, [*CSV, "--test", "test.csv"], "test.csv: column size has 'inf' in row 1, where"),
    "a huge number": ({"train.csv": GOOD["train.csv"] + "-1e31,red,yes\n"}, CSV, "train.csv: column size has '-1e31' in row 5, where others have numbers\n"),
    "far from the others": ({"test.csv": "size,color,label\n1,red,yes\n9e9,red,yes\n"}, [*CSV, "--test", "test.csv"], "test.csv: column size has '9e9' in row 2, "),
    "a number to predict": ({"new.csv": "color,size,label\nred,1 m,yes\n"}, [*CSV, "--predict", "new.csv"], "new.csv: column size has '1 m' in row 1, where"),
    "a typing error": ({"train.csv": "size,label\n" + "1,yes\n2,no\n" * 10 + "x,no\n"}, CSV, "train.csv: column size has 'x' in row 21, where others have numbers\n"),
    "too many categories": ({"train.csv": "name,label\n" + LONG}, CSV, "train.csv: column name has 101 different values, such as 'name 0': too many for a category\n  help: --text name if"),
    **{f"numbers like {number}": ({"train.csv": f'size,label\n"{number}",yes\n"2{number}",no\n'}, CSV,
                                  f"train.csv: column size has '{number}': numbers are written like 1234.5\n  help: write them so, or --categories size")
       for number in ("11.5%", "11 %", "11,5", "1 234")},
    "rows alike": ({"train.csv": "size,color,label\n1,red,yes\n1,red,no\n"}, CSV, "train.csv: no column has different values\n  help: pass more rows"),
    "long texts": ({"train.csv": "name,label\n" + LONG.replace("name", "x " * 50)}, CSV, "train.csv: column name has 101 different values, such as 'x x x x x x x x x x x x x x x x x x x x x x x x x x x [...]': too"),
    "no such category": ({}, [*CSV, "--categories", "colour"], "train.csv: there is no column colour\n  columns: size, color\n"),
    "a class missing": ({"train.csv": GOOD["train.csv"] + "5,red,maybe\n"}, CSV, "clean.csv: it has no example of 'maybe', which train.csv has\n  without one, every training example of such a class would "
                        "count as harmful\n  its labels: 'no', 'yes'\n  help: add some"),
    "one class": ({name: "size,label\n1,yes\n2,yes\n" for name in GOOD}, CSV, "clean.csv: all labels are 'yes': there is nothing to tell apart\n"),
    "one example": ({"clean.csv": "size,color,label\n9,red,yes\n8,red,yes\n3,blue,no\n"}, CSV, "clean.csv: it has one example of 'no', which leaves none to test on\n  help: two of each"),
    "only clean rows to test": ({}, [*CSV, "--test", "clean.csv"], "clean.csv: all its examples are in the clean set, too\n  help: pass other test examples"),
    "an unknown label": ({"test.csv": "size,color,label\n1,red,perhaps\n"}, [*CSV, "--test", "test.csv"], "test.csv: the labels 'perhaps' are in no training example\n  known: 'no', 'yes'\n"),
    "only copies": ({"train.csv": GOOD["clean.csv"]}, CSV, "train.csv: all its examples are in the clean or the test set, too\n"),
    "no row": ({"train.csv": "size,color,label\n"}, CSV, "train.csv: it has no row below the header\n"),
    "an empty file": ({"train.csv": ""}, CSV, "train.csv: not a CSV file (No columns to parse from file)\n  help: a header"),
    "rows too long": ({"train.csv": "size,label\n1,yes,2\n1,yes,3\n"}, CSV, "train.csv: not a CSV file ("),
    "an open quote": ({"train.csv": 'size,label\n1,"yes\n'}, CSV, "train.csv: not a CSV file ("),
    "another encoding": ({"train.csv": "size,label\n1,\xe4\n".encode("latin-1")}, CSV, "train.csv: not a text in UTF-8 ("),
    "no such column to drop": ({}, [*CSV, "--drop", "sizes"], "train.csv: there is no column sizes\n  columns: size, color, label\n  help: size?"),
    "a column without name": ({"train.csv": ",size,label\n0,1,yes\n1,2,no\n"}, CSV, "train.csv: a column has no name\n  help: name it, or --drop 'Unnamed: 0'\n"),
    "a column of nothing": ({"train.csv": "size,label,\n1,yes,\n2,no,\n"}, CSV, "train.csv: a column has no name\n  help: name it, or --drop 'Unnamed: 2'\n"),
    "two columns of one name": ({"train.csv": "size,label, label\n1,yes,yes\n2,no,no\n"}, CSV, "train.csv: two columns have the name label\n  help: rename or remove one"),
    "missing to pandas": ({"train.csv": "size,color,label\n1,red,yes\n2,NA,no\n"}, CSV, "train.csv: column color has no value in row 2\n"),
    "a file to write to": ({"f": ""}, [*CSV, "--out", "f"], "f: results cannot be written there ("),
    "blanks": ({"train.csv": "size,color,label\n1,red,yes\n2,' ',no\n".replace("'", '"')}, CSV, "train.csv: column color has no value in row 2\n"),
    "--text and --drop": ({}, [*CSV, "--text", "color", "--drop", "size"], "--text reads one column besides the labels\n  help: --text COLUMN --label COLUMN"),
    "--text and --categories": ({}, [*CSV, "--text", "color", "--categories", "size"], "--text reads one column besides the labels\n"),
    "labels as texts": ({}, [*CSV, "--text", "label"], "--text reads one column besides the labels\n"),
    "nothing left": ({}, [*CSV, "--drop", "size", "color"], "train.csv: no column is left to learn from\n"),
    "the label to drop": ({}, [*CSV, "--drop", "label"], "--drop label: without effect on the column of the labels\n  help: leave it out"),
    "a value missing below blank lines": ({"train.csv": "\nsize,color,label\n\n1,red,yes\n,,\n2,,no\n"}, CSV, "train.csv: column color has no value in row 4\n"),
    "only blank lines": ({"train.csv": "size,color,label\n\n,,\n"}, CSV, "train.csv: it has no row below the header\n"),
    "no word twice": ({}, [*CSV, "--text", "size"], "train.csv: no word of column size is in two texts\n"),
    "passes": ({}, [*CSV, "--passes", "0"], "--passes 0: out of range\n  help: passes and batch from 1"),
    "batch": ({}, [*CSV, "--batch", "0"], "--batch 0: out of range\n"),
    "rate": ({}, [*CSV, "--rate", "nan"], "--rate nan: out of range\n"),
    "hold-out": ({}, [*CSV, "--hold-out", "1"], "--hold-out 1.0: out of range\n"),
    "image-size": ({}, [*CSV, "--image-size", "3"], "--image-size 3: out of range\n"),
    "seeds": ({}, [*CSV, "--seeds", "1", "1"], "--seeds [1, 1]: out of range\n"),
    "a huge seed": ({}, [*CSV, "--seeds", str(2**32)], "--seeds [4294967296]: out of range\n"),
    "a negative seed": ({}, [*CSV, "--seeds", "-1"], "--seeds [-1]: out of range\n"),
    "--model and --train": ({}, [*CSV, "--model", "m", "--predict", "train.csv"], "--model predicts with a trained model, and trains none\n"),
    "--model alone": ({}, ["--model", "m"], "--model: there is nothing to predict\n"),
    "no model": ({}, ["--model", "m", "--predict", "train.csv"], "m: there is no model in it ("),
    "another JSON": ({"inputs.json": '{"kind": "sound"}'}, ["--model", ".", "--predict", "train.csv"], ".: there is no model in it (it has no kind, which is table, words or pixels)\n"),
    "another kind of JSON": ({"inputs.json": '{"kind": "table", "numbers": 3, "categories": {}}'}, ["--model", ".", "--predict", "train.csv"], ".: there is no model in it ("),
    "half a JSON": ({"inputs.json": '{"kind": "table"}'}, ["--model", ".", "--predict", "train.csv"], ".: there is no model in it ("),
}
FOLDERS = ["--train", "train", "--clean", "clean"]
REFUSED_IMAGES = {
    "--label": ([], [*FOLDERS, "--label", "x"], "--label: folders of images have no columns\n"),
    "a file": (["a.csv"], ["--train", "train", "--clean", "a.csv"], "a.csv: this is a file, unlike the training set\n  help: pass folders"),
    "a class missing": (["-clean/dog"], FOLDERS, "clean: it has no example of 'dog', which train has\n"),
    "an empty class": (["clean/bird/notes.txt"], FOLDERS, "clean: there is no image in its folder bird\n  help: it needs a folder for each class"),
    "no classes": (["flat/1.png"], ["--train", "flat", "--clean", "clean"], "flat: there is no folder in it\n"),
    "no image": (["new/notes.txt"], [*FOLDERS, "--predict", "new"], "new: there is no image in it\n  help: images end in .bmp"),
    "a broken image": (["train/cat/broken.png"], FOLDERS, "broken.png: this image cannot be read (cannot identify image file"),
    "half an image": (["train/cat/half.png"], FOLDERS, "half.png: this image cannot be read ("),
    "a name in another encoding": (["train/cat/caf\udce9.png"], FOLDERS, r"the name 'cat/caf\udce9.png' cannot be written to a file in UTF-8" + "\n  help: rename it"),
    "a class in another encoding": (["train/caf\udce9/1.png"], FOLDERS, r"the name 'caf\udce9/1.png' cannot be written"),
    "16 bits": (["train/cat/deep.png"], FOLDERS, "deep.png: this image cannot be read (it has more than 8 bits for each pixel and channel)\n  help: save it as an 8-bit PNG"),
}


def refused(arguments, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(own, "compare", lambda *args: pytest.fail("training began"))
    status, _, error = run(capsys, *arguments)
    assert status == 2 and "\n  help: " in error and "Traceback" not in error and {path.name for path in tmp_path.glob("runs/own/*")} <= {".lock"}
    return error.removeprefix("error: ")


@pytest.mark.parametrize("case", REFUSED)
def test_tables_that_cannot_be_trained_on_are_refused(case, tmp_path, capsys, monkeypatch):
    changes, arguments, says = REFUSED[case]
    for name, text in (GOOD | changes).items():
        if text is not None:
            (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    assert refused(arguments, tmp_path, capsys, monkeypatch).startswith(says)


@pytest.mark.parametrize("case", REFUSED_IMAGES)
def test_folders_that_cannot_be_trained_on_are_refused(case, tmp_path, capsys, monkeypatch):
    rng = np.random.default_rng(0)
    for k in range(8):
        path = tmp_path / ("train", "clean")[k % 2] / ("cat", "dog")[k // 2 % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8)).astype("uint8")).save(path)
    changes, arguments, says = REFUSED_IMAGES[case]
    for name in changes:
        path = tmp_path / name.removeprefix("-")
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.startswith("-"):
            path.rename(tmp_path / "elsewhere")
        elif path.stem == "half":
            path.write_bytes((tmp_path / "train/cat/0.png").read_bytes()[:60])
        elif path.stem == "deep":
            Image.fromarray(np.arange(64, dtype="uint16").reshape(8, 8) * 1000).save(path)
        else:
            path.write_text("no image")
    assert says in refused(arguments, tmp_path, capsys, monkeypatch)


def test_columns_that_are_not_used_are_named(tmp_path, capsys, monkeypatch):
    (tmp_path / "train.csv").write_text("\n".join(f"{line},{'1' if k else 'version'}" for k, line in enumerate(GOOD["train.csv"].splitlines())))
    (tmp_path / "clean.csv").write_text("date,version,size,color,label\n" + "".join(f"today,2,{line}\n" for line in GOOD["clean.csv"].splitlines()[1:]))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "new.csv").write_text("label,size,note,color\nyes,1,,pink\n")
    found = own_training.gather(own.parser().parse_args([*CSV, "--predict", "new.csv"]))
    assert found.notes[0] == "train.csv: columns with the same value in each row are not used: version"
    assert found.notes[2] == "new.csv: columns not in the training set are not used: note" and found.predict.labels is None
    assert found.notes[3] == "new.csv: column color has values that the training set lacks: 'pink'" and len(found.notes) == 5
    assert found.notes[1] == "clean.csv: columns not in the training set are not used: date" and found.clean.columns == ("size", "color")


def test_a_model_of_tables_refuses_folders(table_run, digits):
    model = own.load(table_run / "model")
    with pytest.raises(DataError, match="this is a folder, unlike the training set"):
        model.predict(digits / "test")
    with pytest.raises(FileError, match="it cannot be read"):
        model.predict(digits / "test.csv")


@pytest.mark.parametrize("option", [action for action in own.parser()._actions if action.option_strings and action.dest not in
                                    ("help", "model", "predict", "out", "overwrite", "quiet")], ids=lambda action: action.dest)
def test_beside_a_model_no_option_of_training_is_taken(option, tmp_path, capsys):
    """Whatever else the parser knows: it would have no effect."""
    value = {int: "5", float: "0.5"}.get(option.type, "x")
    status, _, error = run(capsys, "--model", "m", "--predict", "new.csv", option.option_strings[0], value, "--out", tmp_path)
    assert status == 2 and ("--model predicts with a trained model" in error or f"{option.option_strings[0]}: without effect beside --model" in error)


@pytest.mark.parametrize("rows", [own_training.MANY - 1, own_training.MANY])
def test_of_few_rows_no_column_is_their_number(rows):
    train = examples(np.arange(rows)[::-1].astype(str).astype(object)[:, None], ["id"])
    assert own_training._counters(train, data.Table.fit(train)) == ["id"] * (rows == own_training.MANY)


@pytest.mark.parametrize("numbers, kind", [(8, "category"), (9, "mistake"), (10, "number")])
def test_nine_numbers_of_ten_make_a_column_of_numbers(numbers, kind):
    train = examples(np.array([[str(k) if k < numbers else f"x{k}"] for k in range(10)], object), ["a"])
    if kind == "mistake":
        with pytest.raises(DataError, match="column a has 'x9' in row 10, where others have numbers"):
            data.Table.fit(train)
    else:
        assert [*(data.Table.fit(train).numbers if kind == "number" else data.Table.fit(train).categories)] == ["a"]


def test_unknown_values_are_listed_sorted():
    table = data.Table({}, {"a": ["x"]})
    values = np.random.default_rng(0).permutation([f"{k:02d}" for k in range(30)]).astype(object)
    assert table.unknown(examples(values[:, None], ["a"])) == {"a": sorted(values)}


def test_a_column_that_is_left_out_may_have_gaps(tmp_path):
    (tmp_path / "a.csv").write_text("size,note,label\n1,,yes\n2,x,no\n")
    found = data.read(tmp_path / "a.csv", "label", drop=["note"])
    assert found.columns == ("size",) and found.values.tolist() == [["1"], ["2"]] and not found.unused


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32"])
def test_images_of_more_than_8_bits_are_refused(dtype, tmp_path):
    """Pillow would cut their values off at 255."""
    Image.fromarray(np.arange(64).reshape(8, 8).astype(dtype) * 1000).save(tmp_path / "1.tiff")
    with pytest.raises(FileError, match="1.tiff: this image cannot be read .it has more than 8 bits"):
        data.read(tmp_path, labeled=False)


def test_a_folder_may_be_called_like_an_image(tmp_path):
    (tmp_path / "cat" / "from a.png").mkdir(parents=True)
    for name in ("1.png", "from a.png/2.png"):
        Image.new("L", (2, 2)).save(tmp_path / "cat" / name)
    assert data.read(tmp_path).names.tolist() == ["cat/1.png", "cat/from a.png/2.png"]


@pytest.mark.parametrize("labeled", [True, False])
def test_hidden_folders_are_no_classes(labeled, tmp_path):
    for name in ("cat/1.png", ".cache/2.png", ".3.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (2, 2)).save(tmp_path / name)
    assert data.read(tmp_path, labeled=labeled).names.tolist() == ["cat/1.png"]


@pytest.mark.parametrize("option, values, refused", [
    ("--rate", ["1e-9", "0.999"], ["0", "1", "-1"]), ("--hold-out", ["0.001", "0.999"], ["0", "1"]), ("--image-size", ["4", "512"], ["3", "513"]),
    ("--passes", ["1"], ["0"]), ("--batch", ["1"], ["0"]), ("--seeds", ["0", str(2**32 - 1)], ["-1", str(2**32)])])
def test_options_are_taken_up_to_their_limits(option, values, refused, tmp_path):
    for value in [*values, *refused]:
        options = own.parser().parse_args([*CSV, option, value, "--out", str(tmp_path)])
        if value in refused:
            with pytest.raises(DataError, match=f"{option} .*: out of range\n  help: "):
                own.check(options)
        else:
            own.check(options)


def test_the_versions_beside_the_results_are_those_in_use(table_run):
    assert json.loads((table_run / "results.json").read_text())["versions"] == {
        "minigrad": minigrad.__version__, "numpy": np.__version__, "pandas": pandas.__version__, "scikit-learn": sklearn.__version__, "python": platform.python_version()}


def test_of_a_table_without_categories_none_are_listed():
    train = examples(np.array([["1", "x"], ["2", "y"]], object), ["a", "b"], labels=np.array(["no", "yes"]))
    for dropped, says in ((0, "0 of numbers, 1 of categories (b)"), (1, "1 of numbers, 0 of categories")):
        kept = [k for k in (0, 1) if k != dropped]
        part = train._replace(values=train.values[:, kept], columns=tuple(np.array(train.columns)[kept]))
        found = own_training.Sources(part, part, None, None, data.Table.fit(part), [])
        assert own.describe(found).splitlines()[0] == f"a.csv: 2 examples, columns: {says}; given labels no: 1, yes: 1"
