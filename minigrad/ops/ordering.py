"""Products, running sums, differences, order and what is left out of a mean, by their NumPy names.

Products are made of products of two, so that zeros among the elements need no division. Sorting chooses a permutation
on plain values, stably: of equal elements the first comes first, and each keeps its own derivative.
"""
from __future__ import annotations

import builtins
import math
from typing import Any

from numpy.typing import DTypeLike

from ..backend import as_array, is_readable, module_of
from ..box import raw
from ..core import LISTS, NUMBERS, Primitive, as_arrays
from ..errors import ShapeError, message, shape
from ..kinds import broadcast_to, linear
from ..typing import Array, Shape
from .by_numpy import by_numpy, constant, row
from .elementwise import astype, divide, like, multiply, subtract, where
from .more_elementwise import floor
from .reductions import _count, chosen, max, mean, min, reduce_shape, sum
from .shaping import as_axes, concatenate, flip, getitem, moveaxis, ndim, one_axis, ravel, reshape, transpose

__all__ = [
    "all", "any", "argpartition", "argsort", "average", "count_nonzero", "cumprod", "cumsum", "diff", "gradient",
    "median", "nanmax", "nanmean", "nanmin", "nansum", "partition", "percentile", "prod", "ptp", "quantile", "sort",
    "take_along_axis"
]

Axis = int | tuple[int, ...] | None

argsort = constant("argsort", "Return the indices that sort a along an axis: plain integers, without a derivative.")
argpartition = constant("argpartition", "Return the indices that partition a: plain integers, without a derivative.")
all = constant("all", "Return whether all elements over axes are true: plain.")
any = constant("any", "Return whether any element over axes is true: plain.")
count_nonzero = constant("count_nonzero", "Return the number of elements over axes that are not 0: plain.")


def _rows(a: Array, axes: Shape) -> Array:
    """Return a with these axes as its last one, and the others as its first one."""
    last = tuple(range(ndim(a) - len(axes), ndim(a)))
    return reshape(moveaxis(a, axes, last), (math.prod(reduce_shape(shape(a), axes, False)), _count(a, axes)))


def _along(name: str, f: Any, a: Array, axis: int | None) -> Array:
    """Return f of a with this axis in front. Raises ShapeError, naming the operation."""
    a, axis = (ravel(a), 0) if axis is None else (a, one_axis(axis, ndim(a), name))
    return moveaxis(f(moveaxis(a, axis, 0)), 0, axis)


# ------------------------------------------------------------------------------------------ products, running sums

@by_numpy
def prod(a: Array, axis: Axis = None, dtype: DTypeLike | None = None, *, keepdims: bool = False, initial: Array = None,
         where: Array = None) -> Array:
    """Return the product over axes; dtype, initial, where: as in sum."""
    axes, x = as_axes(axis, ndim(a), "prod"), chosen(a, where, 1, dtype)
    y = _rows(x, axes)
    while (n := shape(y)[1]) > 1:
        y = concatenate([y[:, :n // 2] * y[:, n // 2:n // 2 * 2], y[:, n // 2 * 2:]], 1)
    y = reshape(y if n else y.sum(1) + 1, reduce_shape(shape(x), axes, keepdims))
    return y if initial is None else y * like(initial, y)


def _scan(x: Array) -> Array:
    """Return the running products: of neighbors first, then of those 2, 4, 8 ... apart."""
    step = 1
    while step < len(x):
        x, step = concatenate([x[:step], x[step:] * x[:-step]]), 2 * step
    return x


_cumsum: Primitive = linear(lambda x: x.cumsum(None if x.ndim == 1 else 0), lambda g, s: flip(_cumsum(flip(g, 0)), 0),
                            "cumsum")
cumsum = row("cumsum", lambda a, axis=None, dtype=None: _along("cumsum", _cumsum, chosen(a, None, 0, dtype), axis),
             "Return the sums of the elements up to each one, along an axis; of the flattened a for None.")
cumprod = row("cumprod", lambda a, axis=None, dtype=None: _along("cumprod", _scan, chosen(a, None, 1, dtype), axis),
              "Return the products of the elements up to each one, along an axis; of the flattened a for None.")


@by_numpy
def diff(a: Array, n: int = 1, axis: int = -1, prepend: Array = None, append: Array = None) -> Array:
    """Return the differences of neighbors along an axis, n times. prepend, append: values to join to a first."""
    if n < 0:
        raise ShapeError(f"diff(a, n): n is {n}, and must not be negative")
    parts = as_arrays([x for x in (prepend, a, append) if x is not None], LISTS + NUMBERS)
    if len(parts) > 1:
        a = concatenate([x if ndim(x) else broadcast_to(x, shape(sum(a, axis, True))) for x in parts], axis)
    for _ in range(builtins.min(n, 1 + builtins.max(shape(a), default=0))):      # of which none is left by then
        a = _along("diff", lambda x: subtract(x[1:], x[:-1]), a, axis)
    return a


@by_numpy
def gradient(f: Array, *varargs: Array, axis: Axis = None, edge_order: int = 1) -> Any:
    """Return the slopes of f over each axis: central inside, one-sided at both ends; one array, or a tuple.

    varargs: the distance of neighbors, or their coordinates: one for all axes, or one for each.
    """
    axes = as_axes(axis, ndim(f), "gradient")
    if edge_order != 1 or len(varargs) not in (0, 1, len(axes)):
        raise ShapeError(f"gradient(f): {len(varargs)} spacings for {len(axes)} axes, edge_order {edge_order}\n"
                         "  help: no spacing, one, or one for each axis; traced values have edge_order 1 alone")

    def slopes(x: Array, h: Array) -> Array:
        if shape(x)[0] < 2 or ndim(h) and shape(h) != shape(x)[:1]:
            raise ShapeError(message("gradient(f)", "an axis needs two elements, and one coordinate for each",
                                     [("f", x, "this axis first"), ("spacing", h, "")]))
        h = astype(reshape(subtract(h[1:], h[:-1]), (-1,) + (1,) * (ndim(x) - 1)), x.dtype) if ndim(h) else h
        p = (x[1:] - x[:-1]) / h
        if ndim(h):
            left, right = h[:-1], h[1:]
            inside = (right * p[:-1] + left * p[1:]) / (left + right)
        else:
            inside = (x[2:] - x[:-2]) / (2.0 * h)
        return concatenate([p[:1], inside, p[-1:]])
    spacings = varargs * len(axes) if len(varargs) == 1 else varargs or (1.0,) * len(axes)
    found = tuple([_along("gradient", lambda x, h=h: slopes(x, h), f, a) for a, h in zip(axes, spacings)])
    return found[0] if len(found) == 1 else found


# ------------------------------------------------------------------------------------------ order

_permute: Primitive = linear(
    lambda x, order: module_of(x).take_along_axis(x, order, 0), lambda g, s, order: _permute(g, order=order.argsort(0)),
    "sort")


@by_numpy
def take_along_axis(arr: Array, indices: Array, axis: int | None = -1) -> Array:
    """Return the elements of arr at these indices along an axis; the others broadcast. None: of the flattened arr."""
    if axis is None:
        arr, axis = ravel(arr), 0
    k, xp = one_axis(axis, ndim(arr), "take_along_axis"), module_of(raw(arr))
    if ndim(indices) != ndim(arr):
        raise ShapeError(message("take_along_axis(arr, indices)", "the numbers of axes differ",
                                 [("arr", arr, ""), ("indices", indices, "")]))
    others = [xp.arange(n).reshape((-1,) + (1,) * (ndim(arr) - i - 1)) for i, n in enumerate(shape(arr))]
    return getitem(arr, (*others[:k], indices, *others[k + 1:]))


@by_numpy
def sort(a: Array, axis: int | None = -1, *, kind: str | None = None, stable: bool | None = None) -> Array:
    """Return a sorted along an axis; the flattened one for None. NaN come last."""
    return _along("sort", lambda x: _permute(x, order=argsort(x, 0, kind="stable")), a, axis)


@by_numpy
def partition(a: Array, kth: int, axis: int | None = -1, kind: str = "introselect") -> Array:
    """Return a with the element of index kth in its sorted place, smaller ones before it and larger ones after it."""
    return _along("partition", lambda x: _permute(x, order=argpartition(x, kth, 0)), a, axis)


@by_numpy
def quantile(a: Array, q: Array, axis: Axis = None, *, keepdims: bool = False, method: str = "linear") -> Array:
    """Return the quantiles q, in [0, 1], over axes, linear between the sorted elements: q.shape, then the other axes.

    q may be traced. NaN among the elements makes NaN. Raises ShapeError for other methods, where a value is traced.
    """
    axes = as_axes(axis, ndim(a), "quantile")
    n, plain = _count(a, axes), as_array(raw(q), raw(a))
    if method != "linear" or not n or is_readable(plain) and not ((plain >= 0) & (plain <= 1)).all():
        raise ShapeError(f"quantile(a, q, method={method!r}): {n} elements, q {plain}\n"
                         "  help: method 'linear', at least one element, q from 0 to 1")
    rows = sort(moveaxis(_rows(a, axes), 0, 1), 0)
    below = floor(plain * (n - 1.0))
    low = below.astype(int)
    w = reshape(multiply(q, n - 1.0) - below, shape(low) + (1,))
    w = astype(w, rows.dtype) if type(q) in NUMBERS else w
    gap = rows[low + (low < n - 1)] - rows[low]
    gap = where((raw(w) == 0.0) & (abs(raw(gap)) == math.inf), 0.0, gap)        # to an infinity that does not count
    y = rows[low] + w * gap
    last = rows[-1]
    return reshape(where(raw(last) != raw(last), last, y), shape(low) + reduce_shape(shape(a), axes, keepdims))


percentile = row("percentile", lambda a, q, axis=None, *, keepdims=False, method="linear": quantile(
    a, q / 100.0 if type(q) in NUMBERS else divide(q, 100.0), axis, keepdims=keepdims, method=method),
                 "Return quantile(a, q / 100, axis, ...).")
median = row("median", lambda a, axis=None, *, keepdims=False: quantile(a, 0.5, axis, keepdims=keepdims),
             "Return the median over axes: the mean of the two elements in the middle.")


# ------------------------------------------------------------------------------------------ without NaN, with weights


def _nan(a: Array) -> Array:
    return raw(a) != raw(a)


def _without_nan(a: Array, axis: Axis, fill: float) -> Array:
    """Return a with this number in place of NaN, but for where all elements over the axes are NaN."""
    return where(_nan(a) & ~_nan(a).all(axis, keepdims=True), fill, a)


nansum = row("nansum", lambda a, axis=None, *, keepdims=False: sum(a, axis, keepdims, where=~_nan(a)),
             "Return the sum over axes of what is not NaN.")
nanmean = row("nanmean", lambda a, axis=None, *, keepdims=False: mean(a, axis, keepdims, where=~_nan(a)),
              "Return the mean over axes of what is not NaN.")
nanmax = row("nanmax", lambda a, axis=None, *, keepdims=False: max(_without_nan(a, axis, -math.inf), axis, keepdims),
             "Return the largest element over axes, as max does, that is not NaN; NaN if all are.")
nanmin = row("nanmin", lambda a, axis=None, *, keepdims=False: min(_without_nan(a, axis, math.inf), axis, keepdims),
             "Return the smallest element over axes, as min does, that is not NaN; NaN if all are.")
ptp = row("ptp", lambda a, axis=None, *, keepdims=False: max(a, axis, keepdims) - min(a, axis, keepdims),
          "Return max - min over axes.")


@by_numpy
def average(a: Array, axis: Axis = None, weights: Array = None, returned: bool = False, *,
            keepdims: bool = False) -> Any:
    """Return sum(weights a) / sum(weights) over axes, and the sum of weights if it is to be returned.

    weights: of the shape of a, or of its axes `axis` alone; None: all are 1.
    """
    axes = as_axes(axis, ndim(a), "average")
    if weights is None:
        y = mean(a, axes, keepdims)
        return (y, broadcast_to(like(_count(a, axes), y), shape(y))) if returned else y
    w = weights
    if shape(w) != shape(a):
        w = reshape(transpose(w, sorted(range(ndim(w)), key=axes.__getitem__)),
                    tuple([n if i in axes else 1 for i, n in enumerate(shape(a))]))
    total = sum(broadcast_to(w, shape(a)), axes, keepdims)
    y = sum(multiply(a, w), axes, keepdims) / total
    return (y, total) if returned else y
