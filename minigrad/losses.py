"""Losses: of each example, not their mean. Public as nn.cross_entropy and nn.sigmoid_cross_entropy."""
from . import kernels
from .backend import module_of, on_device
from .core import raw
from .errors import DTypeError, ShapeError, message, shape
from .functions import fused
from .ops import getitem, logsumexp, multiply, softplus, stop_gradient


def _check_labels(call, scores, labels, ndim):
    if len(shape(scores)) != ndim or shape(labels) != shape(scores)[:1]:
        raise ShapeError(message(call, "scores and labels do not fit", [("scores", scores, ""), ("labels", labels, "")],
                                 f"n examples have scores {'(n, classes)' if ndim == 2 else '(n,)'} and labels (n,)"))
    last = shape(scores)[1] - 1 if ndim == 2 else 1
    labels = raw(labels)
    if not on_device(labels) and labels.size and not 0 <= labels.min() <= labels.max() <= last:
        raise ShapeError(message(call, f"labels lie outside 0 ... {last}",
                                 [("labels", labels, f"from {labels.min()} to {labels.max()}")]))


def cross_entropy(logits, labels):
    """The loss of each example, -log softmax(logits)[label]: logits (n, classes), integer labels (n,), losses (n,).

    In nats. Raises ShapeError, and DTypeError unless the labels are integers. On a GPU their range is not checked, as
    that would wait for the device.
    """
    _check_labels("cross_entropy(logits, labels)", logits, labels, 2)
    if stop_gradient(labels).dtype.kind not in "iu":
        raise DTypeError(message("cross_entropy(logits, labels)", "labels are the integers 0 ... classes - 1",
                                 [("labels", labels, "")], "labels.astype(int)"))
    by_kernels = kernels.fit(raw(logits)) and on_device(raw(labels))
    return (_by_kernels if by_kernels else _cross_entropy)(logits, labels=stop_gradient(labels))


def _cross_entropy(logits, labels):
    rows = module_of(raw(logits)).arange(len(labels))
    return logsumexp(logits, axis=1) - getitem(logits, (rows, labels))


_by_kernels = fused(_cross_entropy, kernels.cross_entropy)


def sigmoid_cross_entropy(scores, labels):
    """The loss of each example of two classes, -log sigmoid(±score): scores (n,), labels (n,) of 0 and 1, losses (n,).

    softplus(z) - y z, in nats, without overflow. Raises ShapeError.
    """
    _check_labels("sigmoid_cross_entropy(scores, labels)", scores, labels, 1)
    return softplus(scores) - multiply(scores, stop_gradient(labels).astype(scores.dtype))
