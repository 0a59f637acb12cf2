"""Many elements to one: sums, means, extremes and the logarithm of a sum of exponentials.

axis: an integer, a tuple of integers, or None for all; keepdims leaves axes of length 1, as in NumPy.
"""
from __future__ import annotations

import builtins
import functools
import math
import operator
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy
from numpy.typing import DTypeLike

from ..backend import as_array, module_of
from ..box import raw
from ..core import LinearMap, Primitive
from ..errors import ShapeError, message, shape
from ..kinds import broadcast_to, elementwise, linear
from ..typing import Array, Shape
from .elementwise import astype, exp, like, maximum, minimum, scale, square, where
from .shaping import as_axes, gathered, getitem, moveaxis, reshape

F = TypeVar("F", bound=Callable[..., Array])

_sum = linear(lambda x, axis, keepdims: module_of(x).sum(x, axis, keepdims=keepdims),
              lambda g, s, axis, keepdims: broadcast_to(reshape(g, reduce_shape(s, axis, True)), s), "sum")


def reduce_shape(s: Shape, axes: Shape, keepdims: bool) -> Shape:
    """Return the shape of a reduction of shape s over these axes, which are counted from the front.

    Raises TypeError, as NumPy does, where keepdims is no integer: the third argument of a sum there is a type.
    """
    keep = operator.index(keepdims)
    return tuple([1 if a in axes else n for a, n in enumerate(s) if keep or a not in axes])


def sum(x: Array, axis: int | tuple[int, ...] | None = None, keepdims: bool = False, *, dtype: DTypeLike | None = None,
        initial: Array = None, where: Array = None) -> Array:
    """Return the sum over axes, of type `dtype`, of `initial` and the elements where the mask `where` holds."""
    x = chosen(x, where, 0, dtype)
    y = _sum(x, axis=as_axes(axis, len(shape(x)), "sum"), keepdims=keepdims)
    return y if initial is None else y + like(initial, y)


def chosen(x: Array, mask: Array, fill: Array, dtype: DTypeLike | None = None) -> Array:
    """Return x of this type, with `fill` where the mask does not hold; None is no mask, and the type of x."""
    x = gathered(x) if dtype is None else astype(gathered(x), dtype)
    return x if mask is None else where(mask, x, fill)


def widen_sums(f: F) -> F:
    """Return f(x, ...) with its sums computed in a wider type, as NumPy does.

    Those of float16, which ends at 65,504, are computed in float32, and the result is float16 again. Those of integers
    are computed in float64, and so is the result.
    """
    @functools.wraps(f)
    def called(x: Array, *args: Any, **params: Any) -> Array:
        x = gathered(x)
        dtype = getattr(raw(x), "dtype", None)
        if dtype == numpy.float16:
            return astype(f(astype(x, "float32"), *args, **params), "float16")
        return f(astype(x, "float64") if dtype is not None and dtype.kind in "iub" else x, *args, **params)
    return cast(F, called)


def _count(x: Array, axes: Shape) -> int:
    """Return the number of elements along these axes together."""
    return math.prod([shape(x)[a] for a in axes])


@widen_sums
def _mean(x: Array, axis: int | tuple[int, ...] | None, keepdims: bool, mask: Array) -> Array:
    axes = as_axes(axis, len(shape(x)), "mean")
    if mask is None:
        return _sum(x, axis=axes, keepdims=keepdims) / _count(x, axes)
    mask = as_array(raw(mask), raw(x))
    count = module_of(mask).broadcast_to(mask, shape(x)).sum(axes, keepdims=keepdims)
    y = sum(x, axes, keepdims, where=mask)
    return y / count.astype(y.dtype)


def mean(x: Array, axis: int | tuple[int, ...] | None = None, keepdims: bool = False, *, dtype: DTypeLike | None = None,
         where: Array = None) -> Array:
    """Return the mean over axes, of type `dtype`, of the elements where the mask `where` holds."""
    y = _mean(x if dtype is None else astype(gathered(x), dtype), axis, keepdims, where)
    return y if dtype is None else astype(y, dtype)


@widen_sums
def var(x: Array, axis: int | tuple[int, ...] | None = None, ddof: int = 0, keepdims: bool = False) -> Array:
    """Return the variance over axes: sum (x - mean)^2 / (n - ddof)."""
    axes = as_axes(axis, len(shape(x)), "var")
    squares = sum(square(x - mean(x, axes, keepdims=True)), axes, keepdims)
    return squares / builtins.max(_count(x, axes) - ddof, 0)


@widen_sums
def std(x: Array, axis: int | tuple[int, ...] | None = None, ddof: int = 0, keepdims: bool = False) -> Array:
    """Return the standard deviation over axes: sqrt(var). Where it is 0, so is its derivative."""
    return _root(var(x, axis, ddof, keepdims))


def _root_slope(y: Array, x: Array) -> Array:
    zero = raw(y) == 0.0
    return where(zero, 0.0, 0.5 / where(zero, 1.0, y))


_root = elementwise("sqrt", _root_slope)


# ---------------------------------------------------------------------------------------------------- extremes

def max(x: Array, axis: int | tuple[int, ...] | None = None, keepdims: bool = False, *, initial: Array = None,
        where: Array = None) -> Array:
    """Return the largest element over axes. Of equal ones the first is the winner: it alone has a derivative, 1.

    initial, where: as in sum; where they are equal, `initial` and the winner have 1/2 each.
    """
    return _bounded(x, axis, keepdims, "max", initial, where)


def min(x: Array, axis: int | tuple[int, ...] | None = None, keepdims: bool = False, *, initial: Array = None,
        where: Array = None) -> Array:
    """Return the smallest element over axes. Of equal ones the first is the winner: it alone has a derivative, 1.

    initial, where: as in sum; where they are equal, `initial` and the winner have 1/2 each.
    """
    return _bounded(x, axis, keepdims, "min", initial, where)


amax, amin = max, min


def _bounded(x: Array, axis: int | tuple[int, ...] | None, keepdims: bool, name: str, initial: Array,
             mask: Array) -> Array:
    """Return the extreme of the elements where the mask holds, and of `initial`."""
    if initial is None and mask is None:
        return _extreme(x, axis, keepdims, name)
    if initial is None:
        raise ShapeError(f"{name}(x, where=...): the value where the mask holds nowhere is needed\n"
                         "  help: max(x, where=mask, initial=value)")
    x = x if hasattr(x, "dtype") else as_array(x)
    s, axes, initial = shape(x), as_axes(axis, len(shape(x)), name), like(initial, x)
    if not _count(x, axes):
        return broadcast_to(initial, reduce_shape(s, axes, keepdims))
    larger = maximum if name == "max" else minimum
    return larger(_extreme(chosen(x, mask, raw(initial)), axes, keepdims, name), initial)


def _extreme(x: Array, axis: int | tuple[int, ...] | None, keepdims: bool, name: str) -> Array:
    """Return the winners. They are chosen on plain values; once they are fixed, indexing them is linear."""
    x = gathered(x)
    s, axes = shape(x), as_axes(axis, len(shape(x)), name)
    _check_elements(name, x, axes)
    last = tuple(range(len(s) - len(axes), len(s)))
    rows = reshape(moveaxis(x, axes, last), (math.prod(reduce_shape(s, axes, False)), _count(x, axes)))
    winners = getattr(raw(rows), "arg" + name)(axis=1)
    y = getitem(rows, (module_of(winners).arange(len(winners)), winners))
    return reshape(y, reduce_shape(s, axes, keepdims))


def argmax(x: Array, axis: int | None = None, *, keepdims: bool = False) -> Array:
    """Return the index of the largest element along an axis: plain integers, without a derivative."""
    return _index_of(x, axis, keepdims, "argmax")


def argmin(x: Array, axis: int | None = None, *, keepdims: bool = False) -> Array:
    """Return the index of the smallest element along an axis: plain integers, without a derivative."""
    return _index_of(x, axis, keepdims, "argmin")


def _index_of(x: Array, axis: int | None, keepdims: bool, name: str) -> Array:
    x = as_array(raw(x))
    axes = as_axes(axis, x.ndim, name)
    if axis is not None and len(axes) != 1:
        raise ShapeError(f"{name}(x): axis {axis} is not one axis\n  help: pass an integer, or None for all axes")
    _check_elements(name, x, axes)
    return getattr(x, name)(None if axis is None else axes[0], keepdims=keepdims)


def _check_elements(name: str, x: Array, axes: Shape) -> None:
    """Raise ShapeError where there is no element along these axes."""
    if _count(x, axes) == 0:
        raise ShapeError(message(f"{name}(x)", "no elements to choose from", [("x", x, f"axes {axes}")]))


# --------------------------------------------------------------------------- the logarithm of a sum of exponentials

def _largest_rule(i: int, y: Array, x: Array, axis: Shape) -> LinearMap:
    """Share the derivative equally among the largest elements, as a constant.

    Any other shares would do: logsumexp subtracts m and adds it again.
    """
    top = (raw(x) == raw(y)).astype(raw(y).dtype)
    count = top.sum(axis, keepdims=True)
    share = top / (count + (count == 0.0))
    return LinearMap(lambda t: sum(scale(t, by=share), axis, keepdims=True), lambda g: scale(g, by=share))


_largest = Primitive(lambda x, axis: as_array(x).real.max(axis, keepdims=True), _largest_rule, "max")


def subtract_max(x: Array, axes: Shape) -> tuple[Array, Array]:
    """Return x - m and m, the largest element over axes, or 0 where that is not finite.

    Sums of exp(x - m) do not round at the size of m. The derivative includes that of m: all derivatives are then
    relative to that of the largest element, and nothing cancels where that one is almost the whole sum.
    """
    if not math.prod(shape(x)):
        return (x if hasattr(x, "dtype") else as_array(x)) - 0.0, 0.0
    m = _largest(x, axis=axes)
    m = where(abs(raw(m)) < math.inf, m, 0.0)               # nothing that is not finite passes from one to the others
    return x - m, m


def _log_total(z: Array, *, axis: Shape) -> Array:
    """Return log(1 + others), where the elements z = 0 are 1: exact also where the others are small."""
    xp = module_of(z)
    largest = z == 0.0
    with numpy.errstate(divide="ignore", over="ignore"):    # log 0 and exp(infinity) are correct here
        others = xp.sum(xp.exp(z) - largest, axis, keepdims=True)
        return xp.log1p(others + (xp.sum(largest, axis, dtype=z.dtype, keepdims=True) - 1.0))


def _log_total_rule(i: int, y: Array, z: Array, axis: Shape) -> LinearMap:
    p = probabilities(z, y)
    return LinearMap(lambda t: sum(p * t, axis, keepdims=True), lambda g: p * g)


def probabilities(z: Array, total: Array) -> Array:
    """Return exp(z - total), which is softmax(z) if total = log_total(z); 0 where all z are -infinity."""
    return exp(z - where(raw(total) == -math.inf, 0.0, total))


log_total = Primitive(_log_total, _log_total_rule, "logsumexp",
                      doc="Return log sum exp(z) with keepdims, for z of subtract_max: the largest is 0 or not finite.")


@widen_sums
def logsumexp(x: Array, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Array:
    """Return log sum exp(x) over axes, without overflow; -infinity for no elements."""
    axes = as_axes(axis, len(shape(x)), "logsumexp")
    z, m = subtract_max(x, axes)
    return reshape(log_total(z, axis=axes) + m, reduce_shape(shape(x), axes, keepdims))


@widen_sums
def log_softmax(x: Array, axis: int | tuple[int, ...] | None = -1) -> Array:
    """Return x - logsumexp(x), the logarithm of softmax, without overflow. Adding a number to all x changes nothing."""
    axes = as_axes(axis, len(shape(x)), "log_softmax")
    z, _ = subtract_max(x, axes)
    return z - log_total(z, axis=axes)


def softmax(x: Array, axis: int | tuple[int, ...] | None = -1) -> Array:
    """Return exp(x) / sum exp(x) along axes, without overflow. Adding a number to all x changes nothing."""
    return exp(log_softmax(x, axis))
