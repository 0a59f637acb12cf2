"""Networks for data of your own: trained by each method, measured, saved and loaded."""
import math
import pathlib
from typing import Any, NamedTuple

import numpy as np
import pandas
import scipy.sparse
from sklearn.metrics import recall_score, roc_auc_score

import minigrad as mg
from minigrad import nn
from minigrad.errors import DataError, FileError
from minigrad.estimators import ReweightedClassifier
from minigrad.files import write_whole

from ..data import own as data
from ..training.folders import make_folder

METHODS = {"uniform": "plain training", "proportion": "weights by class", "clean_only": "clean examples alone",
           "reweight": "Algorithm 1"}


class Set(NamedTuple):
    """Examples as numbers: X (n, ...), labels (n,)."""
    X: Any
    y: np.ndarray

    def take(self, indices):
        """Return the examples with these indices."""
        return Set(self.X[indices], self.y[indices])

    def join(self, other):
        """Return these examples and then those of another set."""
        stack = scipy.sparse.vstack if scipy.sparse.issparse(self.X) else np.concatenate
        X = stack([self.X, other.X])
        return Set(X.tocsr() if scipy.sparse.issparse(X) else X, np.concatenate([self.y, other.y]))


class Model(NamedTuple):
    """A trained network, and how a file becomes its input."""
    inputs: Any
    classifier: ReweightedClassifier

    def predict(self, path):
        """Return a data frame: the row or file, the label and the probability of each label, for a file or folder."""
        examples = read_like(path, self.inputs)
        return predictions(examples, self.classifier, self.inputs(examples))

    def save(self, folder):
        """Write both to a folder."""
        make_folder(folder)
        self.classifier.save(folder / "network.safetensors")
        write_whole(folder / "inputs.json", data.to_json(self.inputs).encode())


def load(folder):
    """Return the Model in a folder. Raises FileError where there is none."""
    folder = pathlib.Path(folder)
    try:
        inputs = data.from_json((folder / "inputs.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileError(f"{folder}: there is no model in it ({error})\n"
                        "  help: pass the folder model/ that python -m experiments.own has written") from error
    return Model(inputs, ReweightedClassifier.load(folder / "network.safetensors", network(inputs)))


def convolutional(rng, shape, classes):
    """Return a network for images (n, *shape): two convolutions with pooling, a hidden layer of 100 units."""
    height, width, channels = shape
    return nn.Sequential((
        nn.Conv2d.init(rng, channels, 16, 3, padding="same"), mg.relu, _halve,
        nn.Conv2d.init(rng, 16, 32, 3, padding="same"), mg.relu, _halve, _flatten,
        nn.Linear.init(rng, -(-height // 4) * -(-width // 4) * 32, 100), mg.relu, nn.Linear.init(rng, 100, classes)))


def _halve(x):
    return mg.max_pool2d(x, 2, padding="same")


def _flatten(x):
    return mg.reshape(x, (len(x), -1))


def network(inputs):
    """Return the network for such inputs, as ReweightedClassifier takes it."""
    return convolutional if isinstance(inputs, data.Pixels) else None


def read_like(path, inputs, label=None, labeled=False):
    """Return the Examples of a further file, with the columns or the size of the training set."""
    columns = inputs.columns
    text = columns[0] if isinstance(inputs, data.Words) else None
    size = inputs.size if isinstance(inputs, data.Pixels) else 32
    if pathlib.Path(path).is_dir() != isinstance(inputs, data.Pixels):
        raise DataError(f"{path}: {'this is a file' if columns is None else 'this is a folder'}, unlike the training "
                        "set\n  help: pass folders of images everywhere, or CSV files everywhere")
    return data.read(path, label, text, (), columns, size, labeled)


def predictions(examples, classifier, X):
    """Return a data frame: the row or file, its label if it has one, the predicted one, and all probabilities."""
    p = classifier.predict_proba(X)
    frame = pandas.DataFrame({name_of(examples): examples.names})
    if examples.labels is not None:
        frame["label"] = examples.labels
    frame["prediction"] = classifier.classes_[p.argmax(1)]
    for label, column in zip(classifier.classes_, p.T):
        frame[f"p({label})"] = np.round(column.astype(float), 4)
    return frame


def name_of(examples):
    """Return what the names of these examples are: "row" or "file"."""
    return "row" if examples.names.dtype.kind == "i" else "file"


# ------------------------------------------------------------------------------------------------- training

def fit(method, rows, clean, classes, seed, options, progress, network=None):
    """Return a classifier trained with a method, whose trust_ and sample_weights_ are means over all passes.

    Args:
        method: of METHODS.
        rows: the Set to train on.
        clean: a mask of its rows.
        classes: all labels.
        seed: of all random numbers.
        options: passes, batch and rate.
        progress: called after each pass.
        network: see ReweightedClassifier.

    "clean_only" makes as many steps as the others. Raises DataError where the loss becomes infinite or NaN.
    """
    count = passes(method, len(clean), int(clean.sum()), options)
    model = ReweightedClassifier(network, method="uniform" if method == "clean_only" else method, random_state=seed,
                                 learning_rate_init=options.rate, batch_size=options.batch, max_iter=count)
    if method == "clean_only":
        rows, clean = rows.take(np.flatnonzero(clean)), clean[clean]
    trust, weights = np.zeros((2, len(clean)))
    for k in range(count):
        model.partial_fit(rows.X, rows.y, classes, clean=clean)
        if not math.isfinite(model.loss_curve_[-1]):
            raise DataError(f"{METHODS[method]}: the loss is {model.loss_curve_[-1]} in pass {k + 1}\n"
                            f"  help: a rate below {options.rate:g}, --rate {options.rate / 10:g}")
        trust, weights = trust + model.trust_, weights + model.sample_weights_
        progress()
    model.trust_, model.sample_weights_ = trust / count, weights / count
    return model


def passes(method, n, clean, options):
    """Return the number of passes: of clean examples alone, so many that there are as many steps."""
    if method != "clean_only":
        return options.passes
    return options.passes * -(-n // options.batch) // -(-clean // options.batch)


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
    return tuple(100 * (middle + side * half) / (1 + z * z / n) for side in (-1, 1))
