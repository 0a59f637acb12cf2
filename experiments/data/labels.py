"""Labels of a file, for images of a data set: those of CIFAR-10N and CIFAR-100N, or anybody's.

    .npy        an array of labels, or a dict of arrays: CIFAR-10_human.npy
    .npz        arrays
    .pt         a dict of arrays that torch.save wrote: CIFAR-10_human.pt, which needs no PyTorch here
    .csv .txt   one label on each line, or index,label; or columns with their names on the first line

No program in a file is run, see pickles.py. Of several arrays FILE:KEY names one. There is a label for each image of
the training set, in its order, or in that of an index: an array "index", or any that counts the images from 0, such as
the first column of a table that pandas wrote. An array "clean_label" must hold the true labels, which shows a wrong
order: that of CIFAR-10_human_ordered.npy is TensorFlow's. (The files are those of Wei et al. 2022.)
"""
import csv
import dataclasses
import hashlib
import pathlib
import re
import zipfile
from typing import NamedTuple

import numpy as np

from minigrad import FileError

from .pickles import Unpickler
from .tasks import Part

CLEAN, INDEX = "clean_label", "index"
LARGEST = 64 << 20                                          # bytes
LEGACY = 0x1950a86a20f9469cfc6c                             # the first of four pickles, in files of PyTorch before 1.6


class Given(NamedTuple):
    """Labels of a file (n,), the share of them that is wrong, and a name made of those of file and array."""
    name: str
    labels: np.ndarray
    share: float

    @property
    def digest(self):
        """The first 16 digits of the labels' sha256."""
        return hashlib.sha256(self.labels.tobytes()).hexdigest()[:16]


def read_labels(text, true, classes):
    """Return the Given of FILE or FILE:KEY.

    Args:
        text: the path of the file, and behind a colon the name of one of its arrays, if there are several.
        true: labels of the images, (n,).
        classes: number of classes.

    Raises FileError for a file that cannot be read, does not hold labels of these images, or asks for a program.
    """
    path, colon, key = (text, "", "") if pathlib.Path(text).expanduser().exists() else text.rpartition(":")
    path, key = pathlib.Path(path if colon else text).expanduser(), key if colon else ""
    arrays = _sort_by_index(path, _read(path), classes)
    key = _choose(path, arrays, key)
    labels = _check(path, key, arrays[key], len(true), classes)
    if CLEAN in arrays:
        differ = np.count_nonzero(_check(path, CLEAN, arrays[CLEAN], len(true), classes) != true)
        if differ:
            raise FileError(f"{path}: {CLEAN} differs from the label of the data for {differ} of {len(true)} images, "
                            "so the labels are of other images or in another order\n  help: a file in the order of the "
                            "training set: CIFAR-10_human.pt or .npy, not CIFAR-10_human_ordered.npy")
    name = "-".join(filter(None, ["labels", path.stem, key]))
    return Given(re.sub(r"[^\w.-]", "_", name), labels, round(float(np.mean(labels != true)), 4))


def relabel(task, labels):
    """Return a task whose training and validation images have these labels, (n,), of its source.

    The clean set and the test set keep the true labels.
    """
    def relabeled(part):
        return None if part is None else Part(part.images, labels[part.indices], part.indices, part.true)
    train = relabeled(task.train)
    text = f"{task.statement}; {train.wrong.sum()} labels of training wrong ({train.wrong.mean():.1%}, those of a file)"
    return dataclasses.replace(task, statement=text, train=train, validation=relabeled(task.validation),
                               baseline=relabeled(task.baseline))


def _read(path):
    """Return {key: array} of a file; the key of a single array without a name is ""."""
    reader = {".npy": _npy, ".npz": _npz, ".pt": _torch, ".pth": _torch, ".csv": _text, ".txt": _text}.get(
        path.suffix.lower())
    if reader is None:
        raise FileError(f"{path}: labels are not read from a file of this kind\n"
                        "  help: .npy, .npz, .pt, .csv or .txt; FILE:KEY for one of several arrays")
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"it has more than {LARGEST} bytes")
        found = reader(path)
        if not isinstance(found, dict):
            return {"": np.asarray(found)}
        return {key.decode() if isinstance(key, bytes) else str(key): np.asarray(array) for key, array in found.items()}
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{path}: the file cannot be read ({error.strerror})\n  help: --labels FILE or FILE:KEY"
                        ) from None
    except Exception as error:                              # a pickle can go wrong in any way
        raise FileError(f"{path}: not a file of labels ({type(error).__name__}: {error})\n"
                        "  help: one integer for each training image, see experiments/data/labels.py") from error


def _unpickler(content, path):
    return Unpickler(content, path, "such a file may run any program; where you trust it, open it and save the labels "
                     "alone: numpy.save('labels.npy', numpy.asarray(labels))")


def _npy(path):
    with open(path, "rb") as file:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        *_, dtype = read(file)
        if dtype.hasobject:                                 # a dict, as an array of shape ()
            found = _unpickler(file.read(), path).load()
            return found if found.shape else found.item()
    return np.load(path, allow_pickle=False)


def _npz(path):
    _check_size(zipfile.ZipFile(path))
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def _torch(path):
    if zipfile.is_zipfile(path):
        archive = zipfile.ZipFile(path)
        _check_size(archive)
        name, = (name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl")
        return _unpickler(archive.read(name), path).load()
    unpickler = _unpickler(path.read_bytes(), path)
    found = unpickler.load()
    for _ in range(3 if found == LEGACY else 0):
        found = unpickler.load()
    return found


def _check_size(archive):
    """Raise ValueError for a zip archive that unpacks to more than LARGEST bytes."""
    if sum(member.file_size for member in archive.infolist()) > LARGEST:
        raise ValueError(f"it unpacks to more than {LARGEST} bytes")


def _text(path):
    """Return {name: column} of a table. The separator is the one that the first line has most of."""
    lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    if not lines:
        raise ValueError("it is empty")
    separator = max(",;\t", key=lines[0].count)
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator, skipinitialspace=True)]
    names = {1: [""], 2: [INDEX, ""]}.get(len(rows[0]))
    if not all(_is_integer(cell) for cell in rows[0]):
        names, rows = rows[0], rows[1:]
    if names is None or not rows or any(len(row) != len(names) for row in rows):
        raise ValueError("its lines are neither LABEL nor INDEX,LABEL, nor as long as a first line with names")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"two columns have the name {twice!r}")
    columns = {name: [row[k] for row in rows] for k, name in enumerate(names)}
    others = {name: next((cell for cell in cells if not _is_integer(cell)), None) for name, cells in columns.items()}
    if None not in others.values():
        raise ValueError("no column holds integers alone: " + ", ".join(
            f"{name!r:.40} has {cell!r:.40}" for name, cell in others.items()))
    return {name: np.array(cells, np.int64) for name, cells in columns.items() if others[name] is None or name == INDEX}


def _is_integer(text):
    return re.fullmatch(r"-?[0-9]{1,18}", text) is not None


def _sort_by_index(path, arrays, classes):
    """Return the arrays in the order of an index, which is left out: `index`, or what can be no labels but counts."""
    found = {name: array for name, array in arrays.items() if name == INDEX or _counts(array, classes)}
    if not found:
        return arrays
    for name, array in found.items():
        if array.ndim != 1 or not np.array_equal(np.sort(array), np.arange(len(array))):
            raise FileError(f"{path}: its index {name!r} does not hold each number from 0 to {array.size - 1} once\n"
                            "  help: the numbers of the images in the training set, from 0")
        if not np.array_equal(array, next(iter(found.values()))):
            raise FileError(f"{path}: {' and '.join(map(repr, found))} count the images in different orders\n"
                            "  help: leave the order of the training set in the file alone")
    order = np.argsort(next(iter(found.values())))
    return {name: array[order] if array.shape == order.shape else array for name, array in arrays.items()
            if name not in found}


def _counts(array, classes):
    """Return whether an array holds numbers that follow one another, in any order, and are too many for labels."""
    return array.ndim == 1 and array.dtype.kind in "iu" and len(array) > classes and np.array_equal(
        np.sort(array) - array.min(), np.arange(len(array)))


def _choose(path, arrays, key):
    """Return the key of the labels: that which is asked for, or the only one beside the true labels."""
    found = [name for name in arrays if name != CLEAN]
    if not key and len(found) == 1:
        return found[0]
    if key not in arrays or not key:
        what = f"it has no {key}" if key else f"it has {len(found)} arrays of labels"
        if [*arrays] == [""]:
            raise FileError(f"{path}: {what}: its labels have no name\n  help: --labels {path}")
        raise FileError(f"{path}: {what}\n  help: --labels {path}:KEY, where KEY is one of "
                        f"{', '.join(map(repr, arrays)) or 'no name'}")
    return key


def _check(path, key, labels, count, classes):
    """Return labels as int64; raise FileError unless they are `count` integers from 0 to classes - 1."""
    what = f"{path}: its {key or 'array'}"
    if labels.shape != (count,):
        raise FileError(f"{what} has the shape {labels.shape}, but there are {count} training images\n"
                        "  help: one label for each, in the order of the training set")
    if labels.dtype.kind not in "iu":
        raise FileError(f"{what} is of {labels.dtype}, not of integers\n  help: labels from 0 to {classes - 1}")
    if labels.min() < 0 or labels.max() >= classes:
        raise FileError(f"{what} has labels from {labels.min()} to {labels.max()}\n"
                        f"  help: labels from 0 to {classes - 1}")
    return labels.astype(np.int64)
