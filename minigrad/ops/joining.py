"""Arrays made of others: of nested lists, joined, split, repeated, turned, cut to triangles and diagonals.

Argument names and results are NumPy's. Each is made of the operations in shaping.py, so that it is linear.
"""
from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from typing import Any

import numpy
from numpy.typing import DTypeLike

from .. import backend
from ..backend import is_array, module_of
from ..box import Box, raw
from ..errors import DTypeError, ShapeError, message, shape
from ..kinds import as_shape, broadcast_to, is_integer, linear
from ..typing import Array
from .by_numpy import by_numpy, constant, is_traced, leaves, numpys, row
from .elementwise import add, astype, like, where
from .reductions import sum
from .shaping import (
    concatenate,
    expand_dims,
    gathered,
    getitem,
    moveaxis,
    ndim,
    one_axis,
    ravel,
    reshape,
    scatter_add,
    stack,
    swapaxes,
    transpose,
)

__all__ = [
    "append", "array", "array_split", "asarray", "atleast_1d", "atleast_2d", "atleast_3d", "broadcast_arrays", "c_",
    "column_stack", "diag", "diagonal", "dsplit", "dstack", "fliplr", "flipud", "full_like", "hsplit", "hstack",
    "linspace", "meshgrid", "ones_like", "r_", "repeat", "roll", "rollaxis", "rot90", "row_stack", "select",
    "split", "tile", "trace", "tril", "triu", "vsplit", "vstack", "zeros_like"
]

zeros_like = constant("zeros_like", "Return zeros of the shape and type of a: plain, also where a is traced.")
ones_like = constant("ones_like", "Return ones of the shape and type of a: plain, also where a is traced.")
full_like = row("full_like", lambda a, fill_value, dtype=None: broadcast_to(
    like(fill_value, zeros_like(a, dtype)), shape(a)),
                "Return an array of the shape and type of a, or of type `dtype`, with this value, which may be traced.")


def array(object: Any, dtype: DTypeLike | None = None, *, copy: bool = True, ndmin: int = 0) -> Array:
    """Return an array of the numbers, arrays and traced values in nested lists.

    It belongs to the module of the arrays among them; to the one in use, minigrad.xp, if there are only numbers.
    """
    if is_traced(object):
        y = object if type(object) is Box else stack(object)
        y = y if ndim(y) >= ndmin else reshape(y, (1,) * (ndmin - ndim(y)) + shape(y))
        return y if dtype is None else astype(y, dtype)
    arrays = [x for x in leaves(object) if is_array(x)]
    return (module_of(*arrays) if arrays else backend.xp).array(object, dtype, copy=copy, ndmin=ndmin)


def asarray(a: Any, dtype: DTypeLike | None = None) -> Array:
    """Return array(a, dtype), which is a itself if it is an array of this type."""
    return module_of(a).asarray(a, dtype) if is_array(a) else array(a, dtype)


# ------------------------------------------------------------------------------------------ joining and splitting

def _each(f: Any, xs: Sequence[Array]) -> Any:
    """Return f(x) of one x, a tuple of several."""
    return f(*xs) if len(xs) == 1 else tuple(map(f, xs))


atleast_1d = row("atleast_1d", lambda *arys: _each(lambda x: reshape(x, shape(x) or (1,)), arys),
                 "Return arrays with an axis added to those that have none: one, or a tuple of several.")
atleast_2d = row("atleast_2d", lambda *arys: _each(lambda x: reshape(x, (1,) * (2 - ndim(x)) + shape(x)), arys),
                 "Return arrays as rows, (1, n), where they have fewer than two axes.")
atleast_3d = row("atleast_3d", lambda *arys: _each(lambda x: x if ndim(x) > 2 else expand_dims(atleast_2d(x), 2), arys),
                 "Return arrays with three axes at least: (1, n, 1) of (n,), (m, n, 1) of (m, n).")
append = row("append", lambda arr, values, axis=None: concatenate([arr, values], axis),
             "Return values joined to the end of arr along an axis; both flattened where that is None.")
vstack = row("vstack", lambda tup: concatenate([atleast_2d(x) for x in tup]),
             "Return arrays joined along their first axis, those of one axis as rows.")
hstack = row("hstack", lambda tup: concatenate([atleast_1d(x) for x in tup], 0 if ndim(tup[0]) < 2 else 1),
             "Return arrays joined along their second axis, or along their only one.")
dstack = row("dstack", lambda tup: concatenate([atleast_3d(x) for x in tup], 2),
             "Return arrays joined along their third axis.")
column_stack = row("column_stack", lambda tup: hstack([transpose(atleast_2d(x)) if ndim(x) < 2 else x for x in tup]),
                   "Return arrays joined along their second axis, those of one axis as columns.")
row_stack = vstack


class _Joined:
    """NumPy's r_ or c_, which join what stands in brackets: numbers, ranges and arrays, for c_ as columns."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getitem__(self, key: Any) -> Array:
        """Return the parts joined. Among traced ones there may be no text that gives directions: DTypeError."""
        parts, columns = list(key) if type(key) is tuple else [key], self.name == "c_"
        xp = module_of(*map(raw, leaves(parts)))
        join = getattr(xp, self.name)
        if not is_traced(parts):
            return join[key]
        if str in map(type, parts):
            raise DTypeError(f"{self.name}[...]: beside traced values text is not taken\n  help: concatenate, or stack")
        parts = [join[x] if isinstance(x, (slice, list, tuple)) else x for x in map(gathered, parts)]
        dtype = xp.result_type(*map(raw, parts))            # which numbers do not widen
        parts = [atleast_1d(x) if hasattr(x, "dtype") else xp.full(1, x, dtype) for x in parts]
        return concatenate([expand_dims(x, 1) if columns and ndim(x) < 2 else x for x in parts], -columns)


r_, c_ = _Joined("r_"), _Joined("c_")

# ------------------------------------------------------------------------------------------ repeating and turning

@by_numpy
def rollaxis(a: Array, axis: int, start: int = 0) -> Array:
    """Return a with an axis moved until it stands before the one that `start` was; at the end for the count of axes."""
    axis, start = one_axis(axis, ndim(a), "rollaxis"), one_axis(start, ndim(a) + (start >= 0), "rollaxis")
    return moveaxis(a, axis, start - (start > axis))


_roll = linear(lambda x, shift, axis: module_of(x).roll(x, shift, axis), lambda g, s, shift, axis: roll(
    g, tuple([-n for n in shift]), axis), "roll")


@by_numpy
def roll(a: Array, shift: int | Sequence[int], axis: int | Sequence[int] | None = None) -> Array:
    """Return a with its elements moved on by `shift` along axes, the last ones to the front; as one row for None."""
    shifts = as_shape(shift, "roll")
    if axis is None:
        return reshape(_roll(ravel(a), shift=(builtins.sum(shifts),), axis=(0,)), shape(a))
    return _roll(a, shift=shifts, axis=as_shape(axis, "roll"))


def _rearranged(name: str, doc: str) -> Callable[..., Any]:
    """Return NumPy's function of this name, which moves elements: on the indices of a, it tells where each is from."""
    def f(*args: Any, **params: Any) -> Any:
        bound = signature.bind(*args, **params)                     # a comes first, whatever NumPy calls it
        x, *settings = bound.args
        a = array(x)
        xp, flat = module_of(raw(a)), ravel(a)
        found = getattr(xp, name)(xp.arange(a.size).reshape(a.shape), *settings, **bound.kwargs)
        parts = [reshape(getitem(flat, i.ravel()), i.shape) for i in (found if isinstance(found, list) else [found])]
        return parts if isinstance(found, list) else parts[0]
    signature = numpys(name)
    f.__signature__ = signature         # type: ignore[attr-defined]
    return row(name, f, doc)


repeat = _rearranged("repeat", "Return each element of a, in turn, `repeats` times, one number or one for each.")
tile = _rearranged("tile", "Return a, side by side, `reps` times along each axis.")
rot90 = _rearranged("rot90", "Return a turned k times by 90 degrees, from the first of two axes towards the second.")
fliplr = _rearranged("fliplr", "Return flip(a, 1).")
flipud = _rearranged("flipud", "Return flip(a, 0).")
diagonal = _rearranged("diagonal", "Return the elements (i, i + offset) of two axes, as the last axis of the result.")
split = _rearranged("split", "Return a list of the parts of a between these indices, or of so many equal parts.")
array_split = _rearranged("array_split", "Return what split does; the first parts are longer by 1 where needed.")
vsplit = _rearranged("vsplit", "Return split along the first axis.")
hsplit = _rearranged("hsplit", "Return split along the second axis, or along the only one.")
dsplit = _rearranged("dsplit", "Return split along the third axis.")

# ------------------------------------------------------------------------------------------ diagonals and triangles

def triangle(a: Array, k: int = 0, lower: bool = True, other: Array = 0.0) -> Array:
    """Return a with `other` beyond its diagonal k: above it, or, where lower is False, below it."""
    mask = module_of(raw(a)).tri(*shape(a)[-2:], k=k if lower else k - 1, dtype=bool)
    return where(mask, a, other) if lower else where(mask, other, a)


tril = row("tril", lambda m, k=0: triangle(m, k), "Return matrices with 0 above the diagonal k.")
triu = row("triu", lambda m, k=0: triangle(m, k, lower=False), "Return matrices with 0 below the diagonal k.")
trace = row("trace", lambda a, offset=0, axis1=0, axis2=1: sum(diagonal(a, offset, axis1, axis2), -1),
            "Return the sum of the elements of a diagonal, as `diagonal` does.")


@by_numpy
def diag(v: Array, k: int = 0) -> Array:
    """Return the diagonal k of a matrix, or the matrix with the vector v on it."""
    if ndim(v) not in (1, 2):
        raise ShapeError(message("diag(v)", "a vector or a matrix is needed", [("v", v, "")], "diagonal(v)"))
    if ndim(v) == 2:
        return diagonal(v, k)
    n, i = shape(v)[0] + abs(k), module_of(raw(v)).arange(shape(v)[0])
    return scatter_add(v, (n, n), (i - builtins.min(k, 0), i + builtins.max(k, 0)))


# ------------------------------------------------------------------------------------------ grids and choices

broadcast_arrays = row("broadcast_arrays", lambda *args: tuple([
    broadcast_to(x, numpy.broadcast_shapes(*map(shape, args))) for x in args]), "Return arrays of one shape.")


@by_numpy
def select(condlist: Sequence[Array], choicelist: Sequence[Array], default: Array = 0.0) -> Array:
    """Return, for each element, that of the first choice whose condition holds; `default` where none does."""
    for condition, choice in reversed([*zip(condlist, choicelist, strict=True)]):
        default = where(condition, choice, default)
    return default


@by_numpy
def meshgrid(*xi: Array, indexing: str = "xy", sparse: bool = False) -> tuple[Array, ...]:
    """Return the coordinates of a grid as one array for each axis; with "xy" the first two axes change places."""
    if indexing not in ("xy", "ij"):
        raise ShapeError(f"meshgrid(x, y): indexing is 'xy' or 'ij', not {indexing!r}")
    grids = [expand_dims(ravel(x), tuple([a for a in range(len(xi)) if a != i])) for i, x in enumerate(xi)]
    grids = grids if sparse else broadcast_arrays(*grids)
    return tuple([swapaxes(x, 0, 1) if indexing == "xy" and len(xi) > 1 else x for x in grids])


def linspace(start: Array, stop: Array, num: int = 50, endpoint: bool = True, axis: int = 0, **params: Any) -> Any:
    """Return `num` numbers at equal distances from start to stop, which is the last one only with `endpoint`.

    They belong to the module of start and stop; to the one in use, minigrad.xp, if these are numbers.
    """
    if not is_traced((start, stop)):
        ends = [x for x in (start, stop) if is_array(x)]
        return (module_of(*ends) if ends else backend.xp).linspace(start, stop, num, endpoint, axis=axis, **params)
    return _spaced(start, stop, num, endpoint, axis, **params)


def _spaced(start: Array, stop: Array, num: int, endpoint: bool, axis: int) -> Array:
    if not is_integer(num) or num < 0:
        raise ShapeError(f"linspace: num = {num!r} is not an integer, 0 or more")
    span = add(start, stop)
    w = (module_of(raw(span)).arange(num) / builtins.max(num - endpoint, 1)).astype(span.dtype)
    w = reshape(w, (num,) + (1,) * ndim(span))
    return moveaxis(start * (1.0 - w) + stop * w, 0, axis)
