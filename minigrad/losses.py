"""Losses: one for each example, not their mean. Public as nn.cross_entropy and nn.sigmoid_cross_entropy."""
from __future__ import annotations

from typing import Any

import numpy

from .backend import as_array, is_array, is_readable, module_of
from .boundary import guard
from .box import Box, raw
from .core import LinearMap, Primitive
from .errors import DTypeError, ShapeError, message, mixture, shape
from .functions import with_derivative
from .ops import reshape, softplus, stop_gradient, sum, where
from .ops.elementwise import scale
from .ops.reductions import log_total, probabilities, subtract_max
from .typing import Array


def label_array(call: str, labels: Any, kinds: str = "iu", like: Array = None) -> Array:
    """Return the labels of n examples as an array.

    Arrays are returned as they are, lists and columns of tables as arrays of the module of `like`. kinds: those of
    dtype.kind that are allowed. Raises DTypeError for others: strings, objects, missing values, dates.
    """
    labels = raw(labels)
    array = labels
    if not is_array(labels):
        try:
            array = numpy.asarray(labels) if numpy.size(labels) else numpy.zeros(numpy.shape(labels), int)
        except (TypeError, ValueError):
            raise DTypeError(message(call, "labels are not an array", [("labels", labels, "")],
                                     "one number for each example")) from None
    if array.dtype.kind not in kinds:
        rule = "labels are the integers 0 ... classes - 1" if kinds == "iu" else "labels are numbers from 0 to 1"
        help = ("labels.astype(int)" if array.dtype.kind in "bf" else
                "number the classes: numpy.unique(labels, return_inverse=True)[1]")
        raise DTypeError(message(call, rule, [("labels", array, "")], help))
    return array if is_array(labels) else module_of(raw(like)).asarray(array)


def _check_labels(call: str, scores: Array, labels: Any, ndim: int) -> Array:
    """Return the labels as an array. Raises unless they fit the scores, which have `ndim` axes."""
    labels = label_array(call, labels, "iu" if ndim == 2 else "biuf", scores)
    if len(shape(scores)) != ndim or shape(labels) != shape(scores)[:1]:
        raise ShapeError(message(call, "scores and labels do not fit", [("scores", scores, ""), ("labels", labels, "")],
                                 f"n examples have scores {'(n, classes)' if ndim == 2 else '(n,)'} and labels (n,)"))
    if error := mixture(call, [("scores", raw(scores), ""), ("labels", labels, "")]):
        raise error
    last = shape(scores)[1] - 1 if ndim == 2 else 1
    if is_readable(labels) and labels.size and not 0 <= labels.min() <= labels.max() <= last:
        raise ShapeError(message(call, f"labels lie outside 0 ... {last}",
                                 [("labels", labels, f"from {labels.min()} to {labels.max()}")]))
    return labels


def cross_entropy(logits: Array, labels: Any) -> Array:
    """Return the loss of each example, -log softmax(logits)[label], in nats.

    logits: (n, classes); labels: (n,), integers in an array, a list or a column of a table; losses: (n,). Raises
    ShapeError, and DTypeError unless labels are integers. On a GPU their range is not checked, as that would wait for
    the device: the loss of a label that is no class is NaN there, or in float16 that of another class.
    """
    labels = _check_labels("cross_entropy(logits, labels)", logits, labels, 2)
    return _cross_entropy(logits, labels=labels)


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
    """Return the loss of each example of two classes, -log sigmoid(±score), in nats.

    scores: (n,); labels: (n,), 0 and 1, or numbers between them, which are the probability y of class 1; losses: (n,).
    It is softplus(z) - y z, without overflow, and exact where it is small. Raises ShapeError, DTypeError.
    """
    scores = scores if hasattr(scores, "dtype") else as_array(scores)
    labels = _check_labels("sigmoid_cross_entropy(scores, labels)", scores, labels, 1)
    labels = stop_gradient(labels).astype(scores.dtype)
    nearest = module_of(labels).rint(labels)                # softplus(z) - z = softplus(-z), where nothing cancels
    return softplus(scores * (1.0 - 2.0 * nearest)) - scale(scores, by=labels - nearest)


guard(__name__)
