"""Many elements to one: sums, means, extremes and the logarithm of a sum of exponentials.

axis: an integer, a tuple of integers, or None for all; keepdims leaves axes of length 1, as in NumPy.
"""
import builtins
import math

from ..backend import module_of
from ..core import LinearMap, Primitive, raw
from ..errors import ShapeError, message, shape
from ..kinds import broadcast_to, linear
from .elementwise import exp, sqrt, square, where
from .shaping import getitem, moveaxis, normal_axes, reshape

_sum = linear(lambda x, axis, keepdims: module_of(x).sum(x, axis, keepdims=keepdims),
              lambda g, s, axis, keepdims: broadcast_to(reshape(g, kept(s, axis)), s), "sum")


def kept(s, axis):
    """The shape that a reduction of shape s over these axes, counted from the front, has with keepdims."""
    return tuple([1 if a in axis else n for a, n in enumerate(s)])


def sum(x, axis=None, keepdims=False):
    """The sum over axes."""
    return _sum(x, axis=normal_axes(axis, len(shape(x)), "sum"), keepdims=keepdims)


def _count(x, axis):
    return math.prod(shape(x)[a] for a in normal_axes(axis, len(shape(x)), "mean"))


def mean(x, axis=None, keepdims=False):
    """The mean over axes."""
    axes, s = normal_axes(axis, len(shape(x)), "mean"), shape(x)
    return _sum(x, axis=axes, keepdims=keepdims) / math.prod([s[a] for a in axes])


def var(x, axis=None, ddof=0, keepdims=False):
    """The variance over axes: sum (x - mean)^2 / (n - ddof)."""
    return sum(square(x - mean(x, axis, keepdims=True)), axis, keepdims) / builtins.max(_count(x, axis) - ddof, 0)


def std(x, axis=None, ddof=0, keepdims=False):
    """The standard deviation over axes: sqrt(var)."""
    return sqrt(var(x, axis, ddof, keepdims))


def max(x, axis=None, keepdims=False):
    """The largest element over axes. Where several are equal, the first one is the winner and takes the derivative."""
    return _extreme(x, axis, keepdims, "argmax")


def min(x, axis=None, keepdims=False):
    """The smallest element over axes. Where several are equal, the first one is the winner and takes the derivative."""
    return _extreme(x, axis, keepdims, "argmin")


def _extreme(x, axis, keepdims, choose):
    """The winners, chosen on plain values; once they are fixed, taking them is linear."""
    s, axes = shape(x), normal_axes(axis, len(shape(x)), choose[3:])
    count = math.prod(s[a] for a in axes)
    if count == 0:
        raise ShapeError(message(f"{choose[3:]}(x)", "no elements to choose from", [("x", x, f"axes {axes}")]))
    rest = tuple(n for a, n in enumerate(s) if a not in axes)
    last = tuple(range(len(s) - len(axes), len(s)))
    rows = reshape(moveaxis(x, axes, last), (math.prod(rest), count))
    winners = getattr(raw(rows), choose)(axis=1)
    y = getitem(rows, (module_of(winners).arange(len(winners)), winners))
    return reshape(y, kept(s, axes) if keepdims else rest)


def argmax(x, axis=None):
    """The index of the largest element along an axis: plain integers, without a derivative."""
    return raw(x).argmax(axis)


def argmin(x, axis=None):
    """The index of the smallest element along an axis: plain integers, without a derivative."""
    return raw(x).argmin(axis)


def _logsumexp(x, axis):
    xp = module_of(x)
    m = xp.max(x.real, axis, keepdims=True)
    m = xp.where(xp.isfinite(m), m, 0.0)
    return xp.log(xp.sum(xp.exp(x - m), axis, keepdims=True)) + m


def _logsumexp_rule(i, y, x, axis):
    finite = module_of(raw(y)).isfinite(raw(y))
    p = exp(x - where(finite, y, 0.0))                      # softmax; 0 where all x are -infinity
    return LinearMap(lambda t: sum(p * t, axis, keepdims=True), lambda g: p * g)


_logsumexp_kept = Primitive(_logsumexp, _logsumexp_rule)


def logsumexp(x, axis=None, keepdims=False):
    """log sum exp(x) over axes, without overflow."""
    axes = normal_axes(axis, len(shape(x)), "logsumexp")
    y = _logsumexp_kept(x, axis=axes)
    return y if keepdims else reshape(y, tuple(n for a, n in enumerate(shape(x)) if a not in axes))


def log_softmax(x, axis=-1):
    """x - logsumexp(x): the logarithm of softmax, without overflow."""
    return x - logsumexp(x, axis, keepdims=True)


def softmax(x, axis=-1):
    """exp(x) / sum exp(x) along axes, without overflow."""
    return exp(log_softmax(x, axis))
