"""Labels and clean rows as users pass them: arrays, lists and columns of pandas, some of which cannot be used."""
from __future__ import annotations

from typing import Any

import numpy
from numpy.typing import NDArray

from .boundary import guard
from .errors import DataError, message


def known_labels(values: Any, name: str) -> NDArray[Any]:
    """Return labels, (n,) or (n, 1), as without_objects does.

    Raises DataError for other shapes, and where a label is missing: None, NaN, NA or masked.
    """
    array = without_objects(values)
    if array.ndim == 0 or array.shape[1:] not in ((), (1,)):
        raise DataError(message("fit", f"{name} is not a list of labels", [(name, array, "")],
                                "pass an array (n,), not a column for each class"))
    missing = [i for i, label in enumerate(array.flat) if _is_missing(label)] if array.dtype.kind in "OfM" else []
    if missing:
        raise DataError(f"fit: {name} has no label at index {missing[0]}" + f" and {len(missing) - 1} others"
                        * (len(missing) > 1) + "\n  help: leave out rows without a label")
    return array


def _is_missing(label: Any) -> bool:
    try:
        return label is None or bool(label != label)
    except TypeError:               # NA of pandas is neither the same as itself nor different
        return True


def without_objects(values: Any) -> NDArray[Any]:
    """Return an array; one of dtype object, as pandas makes, as one of numbers or bools where it holds no strings.

    What is masked becomes None. A list of strings and others, which NumPy would make strings of, is one of objects.
    """
    array = numpy.asarray(values)
    if array.dtype.kind in "US" and isinstance(values, (list, tuple)):
        objects = numpy.array(values, object)
        array = array if all(isinstance(value, str) for value in objects.flat) else objects
    if isinstance(values, numpy.ma.MaskedArray):
        array = array.astype(object)
        array[numpy.ma.getmaskarray(values)] = None
    if array.dtype != object or any(isinstance(value, str) for value in array.flat):
        return array
    return numpy.array(array.tolist())


def different(labels: NDArray[Any]) -> NDArray[Any]:
    """Return the different labels, sorted. Raises DataError where they are neither all strings nor all numbers."""
    try:
        found = numpy.unique(labels)
        if any(isinstance(label, bytes) for label in found.tolist()):
            raise TypeError("some are bytes")
        return found
    except TypeError as error:
        raise DataError(f"fit: labels are neither all strings nor all numbers ({error})\n"
                        "  help: make all of them strings") from None


def check_several(classes: NDArray[Any]) -> None:
    """Raise DataError unless there are two classes or more."""
    if len(classes) < 2:
        raise DataError(f"fit: y has one class, {listed(classes)}: there is nothing to tell apart\n"
                        "  help: pass examples of two classes or more; for chunks of data, partial_fit(X, y, "
                        "classes=all)")


def encode(labels: NDArray[Any], classes: NDArray[Any], name: str) -> NDArray[Any]:
    """Return the index of each label among the classes. Raises DataError for a label that is not there."""
    index = {label: i for i, label in enumerate(classes.tolist())}
    unknown = set(labels.tolist()) - set(index)
    if unknown:
        raise DataError(f"fit: {name} has the labels {listed(unknown)}, which are not known\n"
                        f"  known: {listed(classes)}\n"
                        "  help: correct them; or name all labels in the first call, partial_fit(X, y, classes=...)")
    return numpy.array([index[label] for label in labels.tolist()], int)


def check_covered(y: NDArray[Any], clean: NDArray[Any], classes: NDArray[Any]) -> None:
    """Raise DataError unless each class in y is also in clean. Both are indices of classes."""
    missing = numpy.setdiff1d(y, clean)
    if len(missing):
        raise DataError(f"fit: the clean set has no example of {listed(classes[missing])}\n"
                        "  every training example of such a class would count as harmful, and have weight 0\n"
                        "  help: add a few examples of it that are known to be right, or leave the class out of y")


def clean_indices(clean: Any, n: int) -> NDArray[Any]:
    """Return the indices of the clean rows. Raises DataError unless clean is a mask (n,), or different indices."""
    help = f"a mask of {n} bools, True for the rows of X that are known to be right, or the indices of these rows"
    rows = row_indices("fit", "clean", clean, n, help)
    if not len(rows):
        raise DataError(message("fit", "clean has no row", [], help))
    return rows


def row_indices(call: str, name: str, values: Any, n: int, help: str) -> NDArray[Any]:
    """Return the indices of rows, if any. Raises DataError unless these are a mask (n,), or different indices."""
    rows = without_objects(values)
    rows = rows if rows.size else rows.astype(int)          # [] is an array of floats
    if rows.dtype.kind not in "biu" or rows.ndim != 1 or rows.dtype.kind == "b" and len(rows) != n:
        raise DataError(message(call, f"{name} is neither a mask of {n} rows nor indices", [(name, rows, "")], help))
    if rows.dtype.kind == "b":
        rows = numpy.flatnonzero(rows)
    if len(rows) and (rows.min() < 0 or rows.max() >= n):
        raise DataError(message(call, f"{name} has indices from {rows.min()} to {rows.max()}, of {n} rows", [], help))
    if len(numpy.unique(rows)) < len(rows):
        raise DataError(message(call, f"{name} has the same index twice: numbers 0 and 1 are not a mask", [], help))
    return rows


def listed(labels: Any) -> str:
    """Return labels as text, the first ten of them."""
    names = [repr(label) for label in sorted(numpy.asarray(list(labels)).tolist())]
    return ", ".join(names[:10]) + (f" ... ({len(names)})" if len(names) > 10 else "")


guard(__name__)
