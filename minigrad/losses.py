"""Losses: of each example, not their mean. Public as nn.cross_entropy and nn.sigmoid_cross_entropy."""
import numpy

from .backend import as_array, is_array, is_readable, module_of
from .boundary import guard
from .core import Box, LinearMap, Primitive, raw
from .errors import DTypeError, ShapeError, message, mixture, shape
from .functions import with_derivative
from .ops import reshape, softplus, stop_gradient, sum, where
from .ops.elementwise import scale
from .ops.reductions import log_total, probabilities, shifted


def label_array(call, labels, kinds="iu", like=None):
    """The labels of n examples as an array: arrays as they are, lists and columns of tables as arrays like `like`.

    kinds: of elements, as dtype.kind has them. Raises DTypeError for others: strings, objects, missing values, dates.
    """
    labels = raw(labels)
    array = labels
    if not is_array(labels):
        try:
            array = numpy.asarray(labels) if numpy.size(labels) else numpy.zeros(numpy.shape(labels), int)
        except (TypeError, ValueError):
            raise DTypeError(message(call, "labels are no array", [("labels", labels, "")],
                                     "one number for each example")) from None
    if array.dtype.kind not in kinds:
        known = array.dtype.kind in "bf"
        rule = "labels are the integers 0 ... classes - 1" if kinds == "iu" else "labels are numbers from 0 to 1"
        raise DTypeError(message(call, rule, [("labels", array, "")], "labels.astype(int)" if known else
                                 "number the classes: numpy.unique(labels, return_inverse=True)[1]"))
    return array if is_array(labels) else module_of(raw(like)).asarray(array)


def _check_labels(call, scores, labels, ndim):
    """The labels as an array. Raises unless they fit the scores."""
    labels = label_array(call, labels, "iu" if ndim == 2 else "biuf", scores)
    if len(shape(scores)) != ndim or shape(labels) != shape(scores)[:1]:
        raise ShapeError(message(call, "scores and labels do not fit", [("scores", scores, ""), ("labels", labels, "")],
                                 f"n examples have scores {'(n, classes)' if ndim == 2 else '(n,)'} and labels (n,)"))
    last = shape(scores)[1] - 1 if ndim == 2 else 1
    if error := mixture(call, [("scores", raw(scores), ""), ("labels", labels, "")]):
        raise error
    if is_readable(labels) and labels.size and not 0 <= labels.min() <= labels.max() <= last:
        raise ShapeError(message(call, f"labels lie outside 0 ... {last}",
                                 [("labels", labels, f"from {labels.min()} to {labels.max()}")]))
    return labels


def cross_entropy(logits, labels):
    """The loss of each example, -log softmax(logits)[label]: logits (n, classes), integer labels (n,), losses (n,).

    In nats. Labels may be an array, a list or a column of a table. Raises ShapeError, and DTypeError unless they are
    integers. On a GPU their range is not checked, as that would wait for the device.
    """
    labels = _check_labels("cross_entropy(logits, labels)", logits, labels, 2)
    return _cross_entropy(logits, labels=labels)


@with_derivative
def _cross_entropy(logits, labels):
    """One primitive: where the label is almost certain 1 - p cancels, so that all is written with the other classes.

    The loss is log(sum exp(z)) - z[label], its derivative p by the others, and minus the sum of those by the label.
    """
    xp, e, total = module_of(labels), None, None
    label, is_label = (xp.arange(len(labels)), labels), labels[:, None] == xp.arange(shape(logits)[1])

    def evaluate(x):
        nonlocal e, total
        z = shifted(x, (1,))[0]
        mine, e = z[label], xp.exp(z)
        e[label] = 0.0
        more = e.sum(1) + xp.expm1(mine)                    # the sum of all exp(z), less 1: exact if that is little
        total = 1.0 + more
        return xp.log1p(more) - mine

    def rule(i, y, x):
        if type(x) is Box:
            z = shifted(x, (1,))[0]
            p = where(is_label, 0.0, probabilities(z, log_total(z, axis=(1,))))
            d = where(is_label, -sum(p, 1, keepdims=True), p)
        else:                                               # e is kept from the forward function: nothing watches x
            d = e / (total + (total == 0.0))[:, None]
            d[label] = -d.sum(1)
        return LinearMap(lambda t: sum(d * t, 1), lambda g: d * reshape(g, (-1, 1)))
    return Primitive(evaluate, rule, "cross_entropy")(logits)


def sigmoid_cross_entropy(scores, labels):
    """The loss of each example of two classes, -log sigmoid(±score): scores (n,), labels (n,) of 0 and 1, losses (n,).

    softplus(z) - y z, in nats, without overflow, and exact where it is small. y may lie between 0 and 1: it is then the
    probability of class 1. Raises ShapeError.
    """
    scores = scores if hasattr(scores, "dtype") else as_array(scores)
    labels = _check_labels("sigmoid_cross_entropy(scores, labels)", scores, labels, 1)
    labels = stop_gradient(labels).astype(scores.dtype)
    nearest = module_of(labels).rint(labels)                # softplus(z) - z = softplus(-z), where nothing cancels
    return softplus(scores * (1.0 - 2.0 * nearest)) - scale(scores, by=labels - nearest)


guard(__name__)
