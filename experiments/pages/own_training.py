"""Training on data of your own: reading its files, and comparing the methods on them."""
import collections
import math
import pathlib
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from sklearn.metrics import recall_score, roc_auc_score

from minigrad.errors import DataError
from minigrad.estimators import ReweightedClassifier
from minigrad.labels import listed
from minigrad.training import Rows, hold_out

from .. import console
from ..data import own as data
from .own_model import Model, network, notes, read_like

METHODS = {"uniform": "plain training", "proportion": "weights by class", "clean_only": "clean examples alone",
           "reweight": "Algorithm 1"}
MANY = 20                   # rows that make it unlikely that a column without a gap is anything but their number


class Sources(NamedTuple):
    """What was read: Examples, those to test and to predict or None; and how they become numbers."""
    train: data.Examples
    clean: data.Examples
    test: Any
    predict: Any
    inputs: Any
    notes: list

    def numbers(self, part):
        """Return the Rows of some of these examples; y are the labels of the file."""
        return Rows(self.inputs(part), part.labels)


# ------------------------------------------------------------------------------------------------- reading

def gather(options):
    """Read all files, and return the Sources. Raises DataError or FileError for whatever cannot be used."""
    images = pathlib.Path(options.train).is_dir()
    for name in ("label", "text", "drop", "categories"):
        if images and getattr(options, name):
            raise DataError(f"--{name}: folders of images have no columns\n  help: leave it out")
    if not images and options.label is None:
        raise DataError("--label: which column of the CSV file has the labels?\n  help: --label COLUMN")
    if options.text and (options.drop or options.categories or options.text == options.label):
        raise DataError("--text reads one column besides the labels\n"
                        "  help: --text COLUMN --label COLUMN, without --drop and --categories")
    train = data.read(options.train, options.label, options.text, options.drop, None, options.image_size)
    inputs = (data.Pixels.fit(train) if images else data.Words.fit(train) if options.text
              else data.Table.fit(train, options.categories))
    clean = read_like(options.clean, inputs, options.label, True)
    test = read_like(options.test, inputs, options.label, True) if options.test else None
    predict = read_like(options.predict, inputs) if options.predict else None
    _check_labels(train, clean, test)
    if predict:
        inputs(predict)                                     # refuses a wrong value now, not after training
    found, same = [], [name for name in train.columns if inputs.columns and name not in inputs.columns]
    if same:
        found.append(f"{train.source}: columns with the same value in each row are not used: {', '.join(same)}")
    found += [f"{train.source}: column {name} counts the rows: --drop {name}, unless it says something about the label"
              for name in _counters(train, inputs)]
    for part in filter(None, (clean, test, predict)):
        found += notes(part, inputs, (options.label, *options.drop, *same))
    return _without_copies(Sources(train, clean, test, predict, inputs, found))


def _counters(train, inputs):
    """Return the columns of a table of many rows whose numbers, in order, go up by one."""
    if not isinstance(inputs, data.Table) or len(train.names) < MANY:
        return []
    return [name for name in inputs.numbers if (np.diff(np.sort(inputs.read_numbers(train, name))) == 1).all()]


def _check_labels(train, clean, test):
    classes, counts = np.unique(clean.labels, return_counts=True)
    missing = np.setdiff1d(train.labels, classes)
    if len(missing):
        raise DataError(f"{clean.source}: it has no example of {listed(missing)}, which {train.source} has\n"
                        "  without one, every training example of such a class would count as harmful\n"
                        f"  its labels: {listed(classes)}\n"
                        "  help: add some that are known to be right, or leave the class out of the training set")
    if len(classes) < 2:
        raise DataError(f"{clean.source}: all labels are {listed(classes)}: there is nothing to tell apart\n"
                        "  help: pass examples of two classes or more")
    if test is None and counts.min() < 2:
        raise DataError(f"{clean.source}: it has one example of {listed(classes[counts < 2])}, which leaves none to "
                        "test on\n  help: two of each class at least, better ten; or --test FILE")
    if test is not None and len(np.setdiff1d(test.labels, classes)):
        raise DataError(f"{test.source}: the labels {listed(np.setdiff1d(test.labels, classes))} are in no training "
                        f"example\n  known: {listed(classes)}\n  help: correct them, or leave these examples out")


def _without_copies(found):
    """Leave out what would be measured or trained on twice: test examples of the clean set, training ones of both."""
    test, made = found.test, list(found.notes)
    if test:
        test = _left(test, [found.clean], "test", "the clean set", found.inputs, made)
    train = _left(found.train, filter(None, [found.clean, found.test]), "training", "the clean or the test set",
                  found.inputs, made)
    return found._replace(train=train, test=test, notes=made)


def _left(part, others, name, where, inputs, made):
    """Return the examples of a part without those in others: one row for each row there. Append a note to `made`."""
    def rows(examples):
        X = inputs(examples)
        return [row.tobytes() for row in X] if isinstance(X, np.ndarray) else list(examples.values)
    left, kept = collections.Counter(row for other in others for row in rows(other)), []
    for k, row in enumerate(rows(part)):
        if left[row]:
            left[row] -= 1
        else:
            kept.append(k)
    if not kept:
        raise DataError(f"{part.source}: all its examples are in {where}, too\n"
                        f"  help: pass other {name} examples")
    if len(kept) < len(part.names):
        made.append(f"{len(part.names) - len(kept)} {name} examples are in {where}, too: left out")
    return part.take(np.array(kept))


# ------------------------------------------------------------------------------------------------- training

def fit(method, rows, clean, seed, options, progress, network=None):
    """Return a classifier trained with a method.

    Args:
        method: of METHODS.
        rows: the Rows to train on.
        clean: a mask of its rows.
        seed: of all random numbers.
        options: passes, batch and rate.
        progress: called with the classifier after each pass.
        network: see ReweightedClassifier.

    "clean_only" makes as many steps as the others. Raises DataError where the loss is not finite.
    """
    count = passes(method, len(clean), int(clean.sum()), options)
    model = ReweightedClassifier(network, method="uniform" if method == "clean_only" else method, random_state=seed,
                                 learning_rate_init=options.rate, batch_size=options.batch, max_iter=count)
    if method == "clean_only":
        rows, clean = rows.take(np.flatnonzero(clean)), clean[clean]
    return model.fit(rows.x, rows.y, clean=clean, after_pass=progress)


def passes(method, n, clean, options):
    """Return the number of passes: of clean examples alone, so many that there are as many steps."""
    if method != "clean_only":
        return options.passes
    return options.passes * -(-n // options.batch) // -(-clean // options.batch)


def join(rows, others):
    """Return these Rows and then others."""
    sparse = scipy.sparse.issparse(rows.x)
    x = scipy.sparse.vstack([rows.x, others.x]).tocsr() if sparse else np.concatenate([rows.x, others.x])
    return Rows(x, np.concatenate([rows.y, others.y]))


def measure(y, probabilities, classes):
    """Return accuracy and balanced accuracy in percent, and the area under the ROC curve, of two classes alone."""
    predicted = classes[probabilities.argmax(1)]
    balanced = recall_score(y, predicted, labels=np.unique(y), average="macro", zero_division=0)
    auc = None
    if len(classes) == 2 and len(np.unique(y)) == 2:
        auc = float(roc_auc_score(y == classes[1], probabilities[:, 1]))
    return {"accuracy": 100 * float((y == predicted).mean()), "balanced": 100 * float(balanced), "auc": auc}


def wilson(percent, n):
    """Return the ends of the 95 % interval of a share, in percent, that was measured on n examples (Wilson 1927)."""
    p, z = percent / 100, 1.96
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = ((middle + side * half) / (1 + z * z / n) for side in (-1, 1))
    return 100 * max(min(low, p), 0.0), 100 * min(max(high, p), 1.0)        # rounding may leave p outside


class Comparison(NamedTuple):
    """What training by all methods found."""
    scores: dict                # {method: {measure: its mean over the seeds}}
    tested: data.Examples       # by the first seed
    trust: np.ndarray           # (n,) for the training set, means over the seeds, as the next two
    weights: np.ndarray
    probabilities: np.ndarray   # (n, labels)
    clean_trust: np.ndarray     # of all seeds
    model: Model                # of the first seed


def held_out_of(found, options, seed):
    """Return the indices of the clean examples to measure on: none where there are others to test."""
    if found.test is not None:
        return np.zeros(0, int)
    return hold_out(np.unique(found.clean.labels, return_inverse=True)[1], options.hold_out, seed)


def compare(found, options, progress):
    """Train by all methods and with all seeds, and return the Comparison. progress: see `start_progress`."""
    own, clean = found.numbers(found.train), found.numbers(found.clean)
    classes, n = np.unique(clean.y), len(own.y)
    scores, means, clean_trust, first = {method: [] for method in METHODS}, [], [], None
    for seed in options.seeds:
        held_out = held_out_of(found, options, seed)
        tested = found.test or found.clean.take(held_out)
        rest = np.setdiff1d(np.arange(len(clean.y)), held_out)
        rows, known, test = join(own, clean.take(rest)), np.arange(n + len(rest)) >= n, found.numbers(tested)
        for method in METHODS:
            name = f"{METHODS[method]}, seed {seed}"
            model = fit(method, rows, known, seed, options, lambda _: progress.advance(1, name),  # noqa: B023
                        network(found.inputs))
            scores[method].append(measure(test.y, model.predict_proba(test.x), classes))
            progress.end(name, False)
        means.append((model.trust_[:n], model.sample_weights_[:n], model.predict_proba(own.x)))
        clean_trust.append(model.trust_[n:])
        first = first or (tested, Model(found.inputs, model))
    mean = {method: {key: None if each[0][key] is None else float(np.mean([one[key] for one in each]))
                     for key in each[0]} for method, each in scores.items()}
    trust, weights, p = (sum(each) / len(each) for each in zip(*means))
    return Comparison(mean, first[0], trust, weights, p, np.concatenate(clean_trust), first[1])


def start_progress(found, options):
    """Return the Progress of all passes."""
    clean = len(found.clean.names) - len(held_out_of(found, options, options.seeds[0]))
    total = sum(passes(method, len(found.train.names) + clean, clean, options) for method in METHODS)
    return console.Progress(total * len(options.seeds), len(METHODS) * len(options.seeds), options.quiet)
