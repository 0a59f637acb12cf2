"""Many elements to one: sums, means, extremes and the logarithm of a sum of exponentials.

axis: an integer, a tuple of integers, or None for all; keepdims leaves axes of length 1, as in NumPy.
"""
import builtins
import functools
import math

import numpy

from ..backend import as_array, module_of
from ..core import LinearMap, Primitive, raw
from ..errors import ShapeError, message, shape
from ..kinds import broadcast_to, elementwise, linear
from .elementwise import astype, exp, scale, square, where
from .shaping import getitem, moveaxis, normal_axes, reshape

_sum = linear(lambda x, axis, keepdims: module_of(x).sum(x, axis, keepdims=keepdims),
              lambda g, s, axis, keepdims: broadcast_to(reshape(g, kept(s, axis)), s), "sum")


def kept(s, axis):
    """The shape that a reduction of shape s over these axes, counted from the front, has with keepdims."""
    return tuple([1 if a in axis else n for a, n in enumerate(s)])


def sum(x, axis=None, keepdims=False):
    """The sum over axes."""
    return _sum(x, axis=normal_axes(axis, len(shape(x)), "sum"), keepdims=keepdims)


def in_wider(f):
    """f(x, ...) with its sums taken in a wider type, as NumPy does: of float16, which ends at 65,504, in float32, of
    integers in float64. The result is float16 again, or float64."""
    @functools.wraps(f)
    def called(x, *args, **params):
        dtype = getattr(raw(x), "dtype", None)
        if dtype == numpy.float16:
            return astype(f(astype(x, "float32"), *args, **params), "float16")
        return f(astype(x, "float64") if dtype is not None and dtype.kind in "iub" else x, *args, **params)
    return called


def _count(x, axes):
    return math.prod([shape(x)[a] for a in axes])


@in_wider
def mean(x, axis=None, keepdims=False):
    """The mean over axes."""
    axes = normal_axes(axis, len(shape(x)), "mean")
    return _sum(x, axis=axes, keepdims=keepdims) / _count(x, axes)


@in_wider
def var(x, axis=None, ddof=0, keepdims=False):
    """The variance over axes: sum (x - mean)^2 / (n - ddof)."""
    axes = normal_axes(axis, len(shape(x)), "var")
    return sum(square(x - mean(x, axes, keepdims=True)), axes, keepdims) / builtins.max(_count(x, axes) - ddof, 0)


@in_wider
def std(x, axis=None, ddof=0, keepdims=False):
    """The standard deviation over axes: sqrt(var). Where it is 0, so is its derivative."""
    return _root(var(x, axis, ddof, keepdims))


def _root_slope(y, x):
    zero = raw(y) == 0.0
    return where(zero, 0.0, 0.5 / where(zero, 1.0, y))


_root = elementwise("sqrt", _root_slope)


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
    return _index_of(x, axis, "argmax")


def argmin(x, axis=None):
    """The index of the smallest element along an axis: plain integers, without a derivative."""
    return _index_of(x, axis, "argmin")


def _index_of(x, axis, choose):
    x = as_array(raw(x))
    axes = normal_axes(axis, x.ndim, choose)
    if axis is not None and len(axes) != 1:
        raise ShapeError(f"{choose}(x): axis {axis} is not one axis\n  help: give an integer, or None for all axes")
    if math.prod(x.shape[a] for a in axes) == 0:
        raise ShapeError(message(f"{choose}(x)", "no elements to choose from", [("x", x, f"axes {axes}")]))
    return getattr(x, choose)(None if axis is None else axes[0])


def _largest(x, axis):
    m = as_array(x).real.max(axis, keepdims=True)
    return module_of(m).where(abs(m) < math.inf, m, 0.0)


def _largest_rule(i, y, x, axis):
    """Equal shares, as constants, of what is largest: any others would do, as what is shifted is shifted back."""
    top = (raw(x) == raw(y)).astype(raw(y).dtype)
    count = top.sum(axis, keepdims=True)
    share = top / (count + (count == 0.0))
    return LinearMap(lambda t: sum(scale(t, by=share), axis, keepdims=True), lambda g: scale(g, by=share))


_largest_kept = Primitive(_largest, _largest_rule, "max")


def shifted(x, axis):
    """x - m and m: the largest element over axes, or 0 where that is not finite.

    What follows does not round at the size of m. Its derivative is taken, too: all derivatives are then relative to
    that of the largest element, and nothing cancels where that one is almost all.
    """
    m = _largest_kept(x, axis=axis) if math.prod(shape(x)) else 0.0
    return x - m, m


def _log_total(z, axis):
    """log(1 + others), where the elements z = 0 are 1: exact also where the others are small."""
    xp = module_of(z)
    largest = z == 0.0
    with numpy.errstate(divide="ignore", over="ignore"):    # log 0 and exp(infinity) are what they are
        others = xp.sum(xp.exp(z) - largest, axis, keepdims=True)
        return xp.log1p(others + (xp.sum(largest, axis, dtype=z.dtype, keepdims=True) - 1.0))


def _log_total_rule(i, y, z, axis):
    p = probabilities(z, y)
    return LinearMap(lambda t: sum(p * t, axis, keepdims=True), lambda g: p * g)


def probabilities(z, total):
    """exp(z - total), which is softmax(z) if total = log_total(z); 0 where all z are -infinity."""
    return exp(z - where(raw(total) == -math.inf, 0.0, total))


log_total = Primitive(_log_total, _log_total_rule, "logsumexp",
                      doc="log sum exp(z) with keepdims, for shifted z: the largest is 0, or none is finite.")


@in_wider
def logsumexp(x, axis=None, keepdims=False):
    """log sum exp(x) over axes, without overflow; of no elements -infinity."""
    axes = normal_axes(axis, len(shape(x)), "logsumexp")
    z, m = shifted(x, axes)
    y = log_total(z, axis=axes) + m
    return y if keepdims else reshape(y, tuple(n for a, n in enumerate(shape(x)) if a not in axes))


@in_wider
def log_softmax(x, axis=-1):
    """x - logsumexp(x): the logarithm of softmax, without overflow. A number added to all x changes nothing."""
    axes = normal_axes(axis, len(shape(x)), "log_softmax")
    z, _ = shifted(x, axes)
    return z - log_total(z, axis=axes)


def softmax(x, axis=-1):
    """exp(x) / sum exp(x) along axes, without overflow. A number added to all x changes nothing."""
    return exp(log_softmax(x, axis))
