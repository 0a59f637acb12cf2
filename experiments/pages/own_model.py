"""Models of data of your own: the network, how a file becomes its input, and the files that keep both."""
import pathlib
from typing import Any, NamedTuple

import numpy as np
import pandas

import minigrad as mg
from minigrad import nn
from minigrad.errors import DataError, FileError
from minigrad.estimators import ReweightedClassifier
from minigrad.files import write_whole
from minigrad.labels import listed
from minigrad.training import flatten

from ..data import own as data
from ..training.folders import make_folder


class Model(NamedTuple):
    """A trained network, and how a file becomes its input."""
    inputs: Any
    classifier: ReweightedClassifier

    def predict(self, path, note=lambda text: None):
        """Return a data frame: the row or file, the label and the probability of each label, for a file or folder.

        note: called with each text of notes.
        """
        examples = read_like(path, self.inputs)
        frame = predictions(examples, self.classifier, self.inputs(examples))
        for text in notes(examples, self.inputs):
            note(text)
        return frame

    def save(self, folder):
        """Write both to a folder."""
        make_folder(folder)
        (folder / "inputs.json").unlink(missing_ok=True)    # so that no other network ever has these inputs
        self.classifier.save(folder / "network.safetensors")
        write_whole(folder / "inputs.json", data.to_json(self.inputs).encode())


def load(folder):
    """Return the Model in a folder. Raises FileError where there is none."""
    folder = pathlib.Path(folder)
    try:
        inputs = data.from_json((folder / "inputs.json").read_text(encoding="utf-8"))
        shape = _shape(inputs)
    except (OSError, ValueError, TypeError) as error:
        raise FileError(f"{folder}: there is no model in it ({error})\n"
                        "  help: pass the folder model/ that python -m experiments.own has written") from error
    classifier = ReweightedClassifier.load(folder / "network.safetensors", network(inputs))
    try:
        classifier.predict_proba(np.zeros((1, *shape), "float32"))
    except ValueError as error:
        raise FileError(f"{folder}: inputs.json and network.safetensors are of different models ({error})\n"
                        "  help: train again, or copy both from one run") from error
    return Model(inputs, classifier)


def _shape(inputs):
    """Return the shape of an example after inputs(...)."""
    if isinstance(inputs, data.Pixels):
        return inputs.size, inputs.size, len(inputs.mean)
    if isinstance(inputs, data.Words):
        return (len(inputs.words),)
    return (len(inputs.numbers) + sum(map(len, inputs.categories.values())),)


def convolutional(rng, shape, classes):
    """Return a network for images (n, *shape): two convolutions with pooling, a hidden layer of 100 units."""
    height, width, channels = shape
    return nn.Sequential((
        nn.Conv2d.init(rng, channels, 16, 3, padding="same"), mg.relu, _halve,
        nn.Conv2d.init(rng, 16, 32, 3, padding="same"), mg.relu, _halve, flatten,
        nn.Linear.init(rng, -(-height // 4) * -(-width // 4) * 32, 100), mg.relu, nn.Linear.init(rng, 100, classes)))


def _halve(x):
    return mg.max_pool2d(x, 2, padding="same")


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


def notes(part, inputs, known=()):
    """Return what to know about further Examples, as texts: columns and values that the training set lacks.

    known: the names of columns that need no note.
    """
    found, unused = [], [name for name in part.unused if name not in known]
    if unused:
        found.append(f"{part.source}: columns not in the training set are not used: {', '.join(unused)}")
    for name, values in inputs.unknown(part).items() if isinstance(inputs, data.Table) else ():
        found.append(f"{part.source}: column {name} has values that the training set lacks: {listed(values)}")
    return found


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
