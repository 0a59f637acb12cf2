"""Losses: one for each example, not their mean.

    nn.cross_entropy            one of several classes
    nn.sigmoid_cross_entropy    one of two classes, or several labels that do not exclude one another
    nn.squared_error            numbers

They belong to minigrad.nn, where they are public.
"""
from __future__ import annotations

from typing import Any

import numpy

from .backend import as_array, is_array, is_readable, module_of
from .boundary import guard
from .box import Box, raw
from .core import LinearMap, Primitive
from .errors import DTypeError, ShapeError, message, mixture, shape
from .functions import with_derivative
from .ops import reshape, softplus, square, stop_gradient, sum, where
from .ops.elementwise import scale
from .ops.reductions import log_total, probabilities, subtract_max, widen_sums
from .typing import Array


def label_array(call: str, labels: Any, kinds: str = "iu", like: Array = None, name: str = "labels") -> Array:
    """Return the labels of n examples as an array.

    Arrays are returned as they are, lists and columns of tables as arrays of the module of `like`. kinds: those of
    dtype.kind that are allowed. name: of the argument. Raises DTypeError for other kinds: strings, objects, missing
    values, dates.
    """
    labels = raw(labels)
    array = labels
    if not is_array(labels):
        try:
            array = numpy.asarray(labels) if numpy.size(labels) else numpy.zeros(numpy.shape(labels), int)
        except (TypeError, ValueError):
            raise DTypeError(message(call, f"{name} are not an array", [(name, labels, "")],
                                     "one number for each example")) from None
    if array.dtype.kind not in kinds:
        rule = f"{name} are the integers 0 ... classes - 1" if kinds == "iu" else f"{name} are numbers"
        help = ("labels.astype(int)" if array.dtype.kind in "bf" else
                "number the classes: numpy.unique(labels, return_inverse=True)[1]" if name == "labels" else
                f"numpy.asarray({name}, float)")
        raise DTypeError(message(call, rule, [(name, array, "")], help))
    return array if is_array(labels) else module_of(raw(like)).asarray(array)


def _check_labels(call: str, scores: Array, labels: Any, name: str = "labels", classes: bool = False) -> Array:
    """Return the labels as an array. Raises unless they fit the scores: (n, classes), or else one for each score."""
    labels = label_array(call, labels, "iu" if classes else "biuf", scores, name)
    ndim, rows = len(shape(scores)), [("scores", scores, ""), (name, labels, "")]
    if classes and ndim != 2 or ndim not in (1, 2) or shape(labels) != shape(scores)[:1 if classes else 2]:
        expected = f"(n, classes) and {name} (n,)" if classes else f"and {name} (n,), or both (n, outputs)"
        raise ShapeError(message(call, f"scores and {name} do not fit", rows, f"n examples have scores {expected}"))
    if error := mixture(call, [("scores", raw(scores), ""), (name, labels, "")]):
        raise error
    return labels


def _check_range(call: str, labels: Array, last: int) -> None:
    if is_readable(labels) and labels.size and not 0 <= labels.min() <= labels.max() <= last:
        raise ShapeError(message(call, f"labels lie outside 0 ... {last}",
                                 [("labels", labels, f"from {labels.min()} to {labels.max()}")]))


def cross_entropy(logits: Array, labels: Any) -> Array:
    """Return the loss of each example, -log softmax(logits)[label], in nats.

    logits: (n, classes); labels: (n,), integers in an array, a list or a column of a table; losses: (n,). Raises
    ShapeError, and DTypeError unless labels are integers. On a GPU their range is not checked, as that would wait for
    the device: the loss of a label that is no class is NaN there.
    """
    labels = _check_labels("cross_entropy(logits, labels)", logits, labels, classes=True)
    _check_range("cross_entropy(logits, labels)", labels, shape(logits)[1] - 1)
    return widen_sums(_cross_entropy)(logits, labels=labels)


@with_derivative
def _cross_entropy(logits: Array, labels: Array) -> Array:
    """Return the loss log(sum exp(z)) - z[label] as one primitive.

    Its derivative is p by the other classes, and minus their sum by the label. All is computed from the other classes,
    as 1 - p cancels where the label is almost certain.
    """
    xp = module_of(labels)
    e: Array = None                                         # exp(z), with 0 for the label
    total: Array = None                                     # the sum of all exp(z)
    label = xp.arange(len(labels)), labels
    is_label = labels[:, None] == xp.arange(shape(logits)[1])

    def evaluate(x: Array) -> Array:
        nonlocal e, total
        z, _ = subtract_max(x, (1,))
        z_label, e = z[label], xp.exp(z)
        e[label] = 0.0
        more = e.sum(1) + xp.expm1(z_label)                 # total - 1: exact where that is small
        total = 1.0 + more
        return xp.log1p(more) - z_label

    def rule(i: int, y: Array, x: Array) -> LinearMap:
        if type(x) is Box:
            z, _ = subtract_max(x, (1,))
            p = where(is_label, 0.0, probabilities(z, log_total(z, axis=(1,))))
            d = where(is_label, -sum(p, 1, keepdims=True), p)
        else:                                               # nothing watches x: e and total are those of evaluate
            d = e / (total + (total == 0.0))[:, None]
            d[label] = -d.sum(1)
        return LinearMap(lambda t: sum(d * t, 1), lambda g: d * reshape(g, (-1, 1)))
    return Primitive(evaluate, rule, "cross_entropy")(logits)


def sigmoid_cross_entropy(scores: Array, labels: Any) -> Array:
    """Return the loss of each example of two classes, -log sigmoid(±score), in nats; or of several labels, their sum.

    scores: (n,), or (n, K) for K labels that do not exclude one another; labels: of the same shape, 0 and 1, or numbers
    between them, which are the probability y of a 1; losses: (n,). A score z has the loss softplus(z) - y z, without
    overflow, and exact where it is small. Raises ShapeError, DTypeError.
    """
    scores = scores if hasattr(scores, "dtype") else as_array(scores)
    labels = _check_labels("sigmoid_cross_entropy(scores, labels)", scores, labels)
    _check_range("sigmoid_cross_entropy(scores, labels)", labels, 1)
    labels = _like_scores(labels, scores)
    nearest = module_of(labels).rint(labels)                # softplus(z) - z = softplus(-z), where nothing cancels
    return _each_example(softplus(scores * (1.0 - 2.0 * nearest)) - scale(scores, by=labels - nearest))


def squared_error(scores: Array, targets: Any) -> Array:
    """Return the loss of each example, (score - target)^2, or the sum of these over several outputs.

    scores: (n,), or (n, outputs); targets: numbers, of the same shape; losses: (n,). Raises ShapeError, DTypeError.
    """
    scores = scores if hasattr(scores, "dtype") else as_array(scores)
    targets = _check_labels("squared_error(scores, targets)", scores, targets, "targets")
    return _each_example(square(scores - _like_scores(targets, scores)))


def _like_scores(labels: Array, scores: Array) -> Array:
    """Return the labels as floating-point numbers, of the type of the scores if that is one."""
    own = scores.dtype.kind == "f"
    return stop_gradient(labels).astype(scores.dtype if own else numpy.result_type(scores.dtype, numpy.float32))


def _each_example(losses: Array) -> Array:
    return sum(losses, 1) if len(shape(losses)) == 2 else losses


guard(__name__)
