"""Algorithm 1 on your own data: a table, a column of texts, or folders of images, some labels of which are wrong.

    python -m experiments.own --train train.csv --clean clean.csv --label COLUMN
    python -m experiments.own --train train.csv --clean clean.csv --label COLUMN --text COLUMN
    python -m experiments.own --train train/ --clean clean/         (a folder of images for each class in both)
    python -m experiments.own --model runs/own/model --predict new.csv

--clean names examples whose labels are known to be right, at least two of each class, better ten. A part of them is
held out to test on, unless there is a file to --test. Plain training, weights by class, training on the clean examples
alone and Algorithm 1 are compared; all else is from Algorithm 1:

    suspects.csv        training labels without weight in more than half of the passes, the most suspicious first:
                        the row (the first below the header is 1) or the file, its label, the label that the network
                        would give and its probability, trust (the share of passes with a weight above 0) and the mean
                        weight (1 in plain training)
    predictions.csv     for --predict, or for the examples tested on: the label and the probability of each label
    trust.png           accuracies, the distribution of trust, suspects by label; of images also suspects.png
    results.json        settings and scores
    model/              for --model, or in Python: experiments.pages.own.load(folder).predict("new.csv"); its inputs.json
                        says how columns, words or pixels become numbers

Scores and suspects are means over the seeds; predictions and model are those of the first.
"""
import json
import pathlib
import platform
import sys
from typing import Any, NamedTuple

import numpy as np
import pandas
import sklearn

import minigrad as mg
from minigrad import MinigradError
from minigrad.errors import DataError
from minigrad.files import write_whole
from minigrad.training import hold_out, listed

from .. import console
from ..data import own as data
from ..figures import own as figures
from ..training.folders import check_folder
from .own_model import METHODS, Model, Set, fit, load, measure, name_of, network, passes, predictions, read_like, wilson

FEW = 30                                        # examples to test on: fewer measure little
FILES = "suspects.csv", "predictions.csv", "trust.png", "suspects.png", "results.json", "model/network.safetensors"


class Sources(NamedTuple):
    """What was read: Examples, those to test and to predict or None; and how they become numbers."""
    train: data.Examples
    clean: data.Examples
    test: Any
    predict: Any
    inputs: Any
    notes: list

    def numbers(self, part):
        """Return the Set of some of these examples."""
        return Set(self.inputs(part), part.labels)


# ------------------------------------------------------------------------------------------------- reading

def gather(options):
    """Read all files, and return the Sources. Raises DataError or FileError for whatever cannot be used."""
    images = pathlib.Path(options.train).is_dir()
    for name in ("label", "text", "drop", "categories"):
        if images and getattr(options, name):
            raise DataError(f"--{name}: folders of images have no columns\n  help: leave it out")
    if not images and options.label is None:
        raise DataError("--label: which column of the CSV file has the labels?\n  help: --label COLUMN")
    train = data.read(options.train, options.label, options.text, options.drop, None, options.image_size)
    inputs = (data.Pixels.fit(train) if images else data.Words.fit(train) if options.text
              else data.Table.fit(train, options.categories))
    clean = read_like(options.clean, inputs, options.label, True)
    test = read_like(options.test, inputs, options.label, True) if options.test else None
    predict = read_like(options.predict, inputs) if options.predict else None
    _check_labels(train, clean, test)
    notes = [f"{part.source}: columns not in the training set are not used: {', '.join(part.unused)}"
             for part in (clean, test, predict) if part and set(part.unused) - {options.label, *options.drop}]
    return _without_copies(Sources(train, clean, test, predict, inputs, notes))


def _check_labels(train, clean, test):
    classes, counts = np.unique(clean.labels, return_counts=True)
    missing = np.setdiff1d(train.labels, classes)
    if len(missing):
        raise DataError(f"{clean.source}: it has no example of {listed(missing)}, which {train.source} has\n"
                        "  without one, every training example of such a class would count as harmful\n"
                        "  help: add some that are known to be right, or leave the class out of the training set")
    if len(classes) < 2:
        raise DataError(f"{clean.source}: all labels are {classes[0]!r}: there is nothing to tell apart\n"
                        "  help: pass examples of two classes or more")
    if test is None and counts.min() < 2:
        raise DataError(f"{clean.source}: it has one example of {listed(classes[counts < 2])}, which leaves none to "
                        "test on\n  help: two of each class at least, better ten; or --test FILE")
    if test is not None and len(np.setdiff1d(test.labels, classes)):
        raise DataError(f"{test.source}: the labels {listed(np.setdiff1d(test.labels, classes))} are in no training "
                        f"example\n  known: {listed(classes)}\n  help: correct them, or leave these examples out")


def _without_copies(found):
    """Leave out of the training set what is also in the clean or the test set: one row for each row there."""
    def rows(part):
        X = found.inputs(part)
        return [row.tobytes() for row in X] if isinstance(X, np.ndarray) else list(part.values)
    left = {}
    for part in (found.clean, found.test):
        for row in rows(part) if part else ():
            left[row] = left.get(row, 0) + 1
    kept = []
    for k, row in enumerate(rows(found.train)):
        if left.get(row, 0):
            left[row] -= 1
        else:
            kept.append(k)
    copies = len(found.train.names) - len(kept)
    if not kept:
        raise DataError(f"{found.train.source}: all its examples are in the clean or the test set, too\n"
                        "  help: pass other examples, whose labels may be wrong, to --train")
    note = [f"{copies} training examples are in the clean or the test set, too: left out of training"] if copies else []
    return found._replace(train=found.train.take(np.array(kept)), notes=found.notes + note)


# ------------------------------------------------------------------------------------------------- comparing

class Comparison(NamedTuple):
    """What training by all methods found."""
    scores: dict                # {method: {measure: its mean over the seeds}}
    tested: data.Examples       # by the first seed
    trust: np.ndarray           # (n,) for the training set, means over the seeds, as the next two
    weights: np.ndarray
    probabilities: np.ndarray   # (n, labels)
    clean_trust: np.ndarray     # of all seeds
    model: Model                # of the first seed


def compare(found, options, progress):
    """Train by all methods and with all seeds, and return the Comparison. progress: see `start_progress`."""
    own, clean = found.numbers(found.train), found.numbers(found.clean)
    classes, n = np.unique(clean.y), len(own.y)
    scores, means, clean_trust, first = {method: [] for method in METHODS}, [], [], None
    for seed in options.seeds:
        held_out = np.zeros(0, int)
        if found.test is None:
            held_out = hold_out(np.searchsorted(classes, clean.y), options.hold_out, seed)
        tested = found.test or found.clean.take(held_out)
        rest = np.setdiff1d(np.arange(len(clean.y)), held_out)
        rows, known, test = own.join(clean.take(rest)), np.arange(n + len(rest)) >= n, found.numbers(tested)
        for method in METHODS:
            name = f"{METHODS[method]}, seed {seed}"
            model = fit(method, rows, known, classes, seed, options, lambda: progress.advance(1, name),  # noqa: B023
                        network(found.inputs))
            scores[method].append(measure(test.y, model.predict_proba(test.X), classes))
            progress.end(name, False)
        means.append((model.trust_[:n], model.sample_weights_[:n], model.predict_proba(own.X)))
        clean_trust.append(model.trust_[n:])
        first = first or (tested, Model(found.inputs, model))
    mean = {method: {key: None if each[0][key] is None else float(np.mean([one[key] for one in each]))
                     for key in each[0]} for method, each in scores.items()}
    trust, weights, p = (sum(each) / len(each) for each in zip(*means))
    return Comparison(mean, first[0], trust, weights, p, np.concatenate(clean_trust), first[1])


class Silent:
    """Progress that is not shown."""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def advance(self, steps, name):
        """Show nothing."""

    def end(self, name, failed):
        """Show nothing."""


def start_progress(found, options):
    """Return what shows the progress of all passes."""
    if options.quiet:
        return Silent()
    held = 0 if found.test else options.hold_out
    clean = round(len(found.clean.names) * (1 - held))
    total = sum(passes(method, len(found.train.names) + clean, clean, options) for method in METHODS)
    return console.Progress(total * len(options.seeds), len(METHODS) * len(options.seeds))


# ------------------------------------------------------------------------------------------------- what is written

def suspects(found, result):
    """Return a data frame of the training labels with trust below 0.5, the most suspicious first, and their indices.

    They are sorted by trust, then by weight, then by the probability of the given label.
    """
    labels = np.searchsorted(result.model.classifier.classes_, found.train.labels)
    given = result.probabilities[np.arange(len(labels)), labels]
    order = np.lexsort((given, result.weights, result.trust))
    order = order[result.trust[order] < 0.5]
    best = result.probabilities[order].argmax(1)
    return pandas.DataFrame({
        name_of(found.train): found.train.names[order], "label": found.train.labels[order],
        "suggestion": result.model.classifier.classes_[best],
        "probability": np.round(result.probabilities[order, best].astype(float), 4),
        "trust": np.round(result.trust[order], 4), "weight": np.round(result.weights[order], 4)}), order


def table(result):
    """Return the scores of all methods as a text."""
    n = len(result.tested.names)
    lines = [f"{'':22s}{'accuracy, %':>12s}  {'95 % interval':16s}{'balanced accuracy, %':>20s}{'AUC':>8s}"]
    for method, name in METHODS.items():
        each = result.scores[method]
        low, high = wilson(each["accuracy"], n)
        auc = "-" if each["auc"] is None else f"{each['auc']:.3f}"
        lines.append(f"{name:22s}{each['accuracy']:12.1f}  {f'{low:.1f} to {high:.1f}':16s}{each['balanced']:20.1f}"
                     f"{auc:>8s}")
    return "\n".join(lines)


def describe(found):
    """Return what is trained on, as a text."""
    labels, counts = np.unique(found.train.labels, return_counts=True)
    kinds = {data.Table: lambda t: f"{len(t.numbers)} columns of numbers, {len(t.categories)} of categories",
             data.Words: lambda t: f"texts, {len(t.words)} words",
             data.Pixels: lambda t: f"images, {t.size} x {t.size}, {'gray' if len(t.mean) == 1 else 'color'}"}
    shown = ", ".join(f"{label}: {count}" for label, count in list(zip(labels, counts))[:20])
    lines = [f"{found.train.source}: {len(found.train.names)} examples, {kinds[type(found.inputs)](found.inputs)}; "
             f"given labels {shown}{' ...' * (len(labels) > 20)}",
             f"{found.clean.source}: {len(found.clean.names)} examples that are known to be right"]
    return "\n".join(lines + [f"note: {note}" for note in found.notes])


def write(frame, path):
    """Write a data frame as a CSV file, and return its path."""
    write_whole(path, frame.to_csv(index=False).encode())
    return path


def report(found, result, options):
    """Print the table, write all files and print their paths."""
    n, out, (frame, order) = len(result.tested.names), options.out, suspects(found, result)
    where = "in " + result.tested.source if found.test else f"held out, of {len(found.clean.names)}"
    several = len(options.seeds) > 1
    seeds = f"{'mean over seeds' if several else 'seed'} {', '.join(map(str, options.seeds))}"
    print(f"\nMeasured on {n} clean examples {where} ({seeds}):\n{table(result)}")
    if n < FEW:
        print(f"note: {n} examples measure little: --test FILE, with hundreds whose labels are right, measures more")
    print(f"\n{len(frame)} of {len(found.train.names)} training labels are suspects: they had no weight in more than "
          "half of the passes" + (". The first:\n" + frame[:5].to_string(index=False) if len(frame) else ""))
    scores = {method: (METHODS[method], each["accuracy"], *wilson(each["accuracy"], n))
              for method, each in result.scores.items()}
    caption = f"{found.train.source}: {len(found.train.names)} examples, {len(found.clean.names)} clean ones, {seeds}"
    written = [write(frame, out / "suspects.csv")]
    written.append(figures.trust(scores, result.trust, result.clean_trust, frame[["label", "suggestion"]].to_numpy(str),
                                 out / "trust.png", caption))
    if isinstance(found.inputs, data.Pixels) and len(frame):
        titles = [f"{row.label} → {row.suggestion}" for row in frame[:24].itertuples()]
        written.append(figures.suspects(found.train.values[order[:24]], titles, out / "suspects.png", "The most "
                                        "suspicious labels, and those that the network would give"))
    asked, classifier = found.predict or result.tested, result.model.classifier
    written.append(write(predictions(asked, classifier, found.inputs(asked)), out / "predictions.csv"))
    settings = {name: str(value) if isinstance(value, pathlib.Path) else value for name, value in vars(options).items()}
    versions = {"minigrad": mg.__version__, "numpy": np.__version__, "pandas": pandas.__version__,
                "scikit-learn": sklearn.__version__, "python": platform.python_version()}
    write_whole(out / "results.json", json.dumps({"settings": settings, "tested on": n, "suspects": len(frame),
                                                  "scores": result.scores, "versions": versions}, indent=1).encode())
    result.model.save(out / "model")
    for path in [*written, out / "results.json", out / "model"]:
        print("written:", path)


# ------------------------------------------------------------------------------------------------- the command

def parser():
    """Return the parser of the options."""
    p = console.Parser(prog="python -m experiments.own", description=__doc__)
    p.add_argument("--train", type=console.folder, help="CSV file, or folder of images: some labels may be wrong")
    p.add_argument("--clean", type=console.folder, help="examples whose labels are known to be right")
    p.add_argument("--test", type=console.folder, help="more of those, to measure on; default: a part of --clean")
    p.add_argument("--predict", type=console.folder, help="examples to predict, with or without labels")
    p.add_argument("--model", type=console.folder, help="folder of a trained model: predict only")
    p.add_argument("--label", metavar="COLUMN", help="the column of the labels")
    p.add_argument("--text", metavar="COLUMN", help="the column of the texts; default: all columns, as a table")
    p.add_argument("--drop", metavar="COLUMN", nargs="+", default=[], help="columns of a table to leave out")
    p.add_argument("--categories", metavar="COLUMN", nargs="+", default=[],
                   help="columns of a table whose numbers are only names, such as postcodes")
    p.add_argument("--image-size", type=int, default=32, help="images become so many pixels wide and high, default 32")
    p.add_argument("--hold-out", type=float, default=0.5, help="share of --clean to measure on, default 0.5")
    p.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds to train with, default 0")
    p.add_argument("--passes", type=int, default=100, help="passes over the training set, default 100")
    p.add_argument("--batch", type=int, default=100, help="examples in a step, default 100")
    p.add_argument("--rate", type=float, default=1e-3, help="learning rate of Adam, default 0.001")
    p.add_argument("--out", type=console.folder, default=pathlib.Path("runs", "own"), help="folder, default runs/own")
    p.add_argument("--overwrite", action="store_true", help="replace the files that --out holds")
    p.add_argument("--quiet", action="store_true", help="show no progress")
    return p


def check(options):
    """Raise DataError for options out of range, or that do not go together."""
    limits = {"--passes": options.passes >= 1, "--batch": options.batch >= 1, "--rate": 0 < options.rate < 1,
              "--hold-out": 0 < options.hold_out < 1, "--image-size": 4 <= options.image_size <= 512,
              "--seeds": min(options.seeds) >= 0 and len(set(options.seeds)) == len(options.seeds)}
    for name, holds in limits.items():
        if not holds:
            value = getattr(options, name[2:].replace("-", "_"))
            raise DataError(f"{name} {value}: out of range\n  help: passes and batch from 1, rate and hold-out "
                            "between 0 and 1, image-size from 4 to 512, different seeds from 0")
    if options.model and (options.train or options.clean or options.test):
        raise DataError("--model predicts with a trained model, and trains none\n  help: --model FOLDER --predict FILE")
    if options.model and not options.predict:
        raise DataError("--model: there is nothing to predict\n  help: --model FOLDER --predict FILE")
    if not options.model and not (options.train and options.clean):
        raise DataError("--train and --clean are both needed\n  help: --train FILE --clean FILE --label COLUMN: "
                        "the clean file has some examples whose labels you have checked")
    check_folder(options.out)
    old = [name for name in (("predictions.csv",) if options.model else FILES) if (options.out / name).exists()]
    if old and not options.overwrite:
        raise DataError(f"{options.out} already holds {', '.join(old)}\n  help: --out FOLDER, or --overwrite")


def main(arguments=None):
    """Run the command; return the exit status: 0; 2 for what was refused before training; 1 for a later error."""
    console.prepare()
    options, status = parser().parse_args(arguments), 2
    try:
        check(options)
        if options.model:
            print("written:", write(load(options.model).predict(options.predict), options.out / "predictions.csv"))
            return 0
        found = gather(options)
        print(describe(found), flush=True)
        status = 1
        with start_progress(found, options) as progress:
            result = compare(found, options, progress)
        report(found, result, options)
        return 0
    except MinigradError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        print(f"error: {error}\n  help: --out FOLDER, with free space", file=sys.stderr)
    return status
