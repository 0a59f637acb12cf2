"""Moving elements without changing them. Each operation stands beside its adjoint.

    reshape / reshape back      transpose / its inverse      pad / crop      x[index] / scatter_add

All are linear, so each is its own push.
"""
from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any

import numpy

from ..backend import as_indices, is_array, module_of
from ..box import raw
from ..core import LISTS, NUMBERS, LinearMap, Primitive, as_arrays
from ..errors import DTypeError, IndexingError, MinigradError, ShapeError, message, mixture
from ..errors import shape as shape_of
from ..kinds import as_integers, as_shape, linear, sum_to
from ..typing import Array, Shape
from .by_numpy import is_traced
from .elementwise import add

Pairs = tuple[tuple[int, int], ...]         # (before, after) for each axis

_reshape = linear(lambda x, shape: x.reshape(shape), lambda g, s, shape: reshape(g, s), "reshape")
_transpose = linear(lambda x, axes: x.transpose(axes), lambda g, s, axes: transpose(g, _inverse(axes)), "transpose")


def reshape(x: Array, shape: int | Sequence[int]) -> Array:
    """Return the same elements in the same order in another shape; one length may be -1."""
    return _reshape(x, shape=shape)


def ravel(x: Array) -> Array:
    """Return all elements in one row."""
    return reshape(x, (-1,))


def transpose(x: Array, axes: Sequence[int] | None = None) -> Array:
    """Return x with its axes in another order, reversed by default: y.shape[i] = x.shape[axes[i]]."""
    order = reversed(range(ndim(x))) if axes is None else axes
    return _transpose(x, axes=as_axes(order, ndim(x), "transpose"))


def _inverse(axes: Shape) -> Shape:
    return tuple(sorted(range(len(axes)), key=axes.__getitem__))


def moveaxis(x: Array, source: int | tuple[int, ...], destination: int | tuple[int, ...]) -> Array:
    """Return x with axes `source` at the positions `destination`, the others in their order."""
    old = as_axes(source, ndim(x), "moveaxis")
    new = as_axes(destination, ndim(x), "moveaxis")
    if len(old) != len(new):
        raise ShapeError(f"moveaxis(x): {len(old)} axes to {len(new)} positions")
    order = [a for a in range(ndim(x)) if a not in old]
    for position, axis in sorted(zip(new, old)):
        order.insert(position, axis)
    return transpose(x, order)


def swapaxes(x: Array, axis1: int, axis2: int) -> Array:
    """Return x with two axes exchanged."""
    axis1 = one_axis(axis1, ndim(x), "swapaxes")
    axis2 = one_axis(axis2, ndim(x), "swapaxes")
    order = list(range(ndim(x)))
    order[axis1], order[axis2] = axis2, axis1
    return transpose(x, order)


def matrix_transpose(x: Array) -> Array:
    """Return x with its last two axes exchanged."""
    n = ndim(x)
    return _transpose(x, axes=(1, 0) if n == 2 else (*range(n - 2), n - 1, n - 2))


def expand_dims(x: Array, axis: int | tuple[int, ...]) -> Array:
    """Return x with new axes of length 1, at these positions of the result."""
    count = ndim(x) + len(as_integers(axis) or ())
    new = as_axes(axis, count, "expand_dims")
    lengths = iter(shape_of(x))
    return reshape(x, tuple(1 if a in new else next(lengths) for a in range(count)))


def squeeze(x: Array, axis: int | tuple[int, ...] | None = None) -> Array:
    """Return x without these axes of length 1, or without all axes of length 1."""
    s = shape_of(x)
    axes = tuple(a for a, n in enumerate(s) if n == 1) if axis is None else as_axes(axis, len(s), "squeeze")
    if any(s[a] != 1 for a in axes):
        raise ShapeError(f"squeeze(x): cannot remove axes {axes} of shape {s}: not all have length 1")
    return reshape(x, tuple(n for a, n in enumerate(s) if a not in axes))


def flip(x: Array, axis: int | tuple[int, ...] | None = None) -> Array:
    """Return x with the order of its elements reversed along these axes, or along all."""
    axes = as_axes(axis, ndim(x), "flip")
    return getitem(x, tuple(slice(None, None, -1) if a in axes else slice(None) for a in range(ndim(x))))


def ndim(x: Array) -> int:
    """Return the number of axes."""
    return len(shape_of(x))


def as_axes(axis: Any, ndim: int, name: str) -> Shape:
    """Return axes, counted from the front, as a tuple. axis: an integer, several, or None for all.

    Raises ShapeError, naming the operation, for axes that x does not have, and for an axis named twice.
    """
    if axis is None:
        return tuple(range(ndim))
    axes = as_integers(axis)
    if axes is None:
        raise ShapeError(f"{name}(x): axis {axis!r} is neither an integer, nor several, nor None")
    if any(not -ndim <= a < ndim for a in axes):
        raise ShapeError(f"{name}(x): axis {axis} is out of bounds for {ndim} dimensions\n"
                         "  help: axes are counted 0, 1 ... from the first, or -1, -2 ... from the last")
    axes = tuple(a % ndim for a in axes)
    if len(set(axes)) < len(axes):
        raise ShapeError(f"{name}(x): axis {axis} names the same axis twice")
    return axes


def one_axis(axis: Any, ndim: int, name: str) -> int:
    """Return the index of one axis, counted from the front. Raises ShapeError for none and for several."""
    axes = as_axes(axis, ndim, name)
    if axis is None or len(axes) != 1:
        raise ShapeError(f"{name}(x): axis {axis} is not one axis\n  help: pass one integer")
    return axes[0]


# ---------------------------------------------------------------------------------- indexing and its adjoint

def _scatter_add(g: Array, shape: Shape, index: Any) -> Array:
    xp = module_of(g)
    x = xp.zeros(shape, g.dtype)
    if not _may_repeat(index):
        x[index] = g
    elif g.dtype.kind == "c":                               # cupy.add.at takes no complex numbers
        xp.add.at(x.real, index, g.real)
        xp.add.at(x.imag, index, g.imag)
    else:
        xp.add.at(x, index, g)
    return x


def _may_repeat(index: Any) -> bool:
    """Return whether an index may name one element twice: only integer arrays can."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(getattr(getattr(part, "dtype", None), "kind", "") in ("i", "u") for part in parts)


_getitem = linear(lambda x, index: x[index], lambda g, s, index: scatter_add(g, s, index), "getitem")
_scatter_add_primitive = linear(_scatter_add, lambda g, s, shape, index: sum_to(getitem(g, index), s))


def getitem(x: Array, index: Any) -> Array:
    """Return x[index]: slices, integers, None, Ellipsis, integer arrays and masks, as in NumPy.

    Raises IndexingError for anything else, BackendError for an index of another array module than that of x.
    """
    return _getitem(x, index=_as_index(index, x))


def _as_index(index: Any, x: Array) -> Any:
    """Return an index of x with its sequences as arrays. Raises what getitem does."""
    if isinstance(index, tuple):
        return tuple([_as_index_part(part, x) for part in index])
    return _as_index_part(index, x)


def _as_index_part(part: Any, x: Array) -> Any:
    part, x = raw(part), raw(x)
    if part is None or part is Ellipsis or isinstance(part, (slice, int)):
        return part
    if is_array(part) or isinstance(part, numpy.generic):
        if error := is_array(part) and mixture("getitem(x, index)", [("x", x, ""), ("index", part, "")]):
            raise error                                     # CuPy would copy the index to the device
        return part
    if not isinstance(part, (list, tuple, range)) and not hasattr(part, "dtype"):     # an array of another library
        raise IndexingError(message("getitem(x, index)", f"{part!r} is not an index", [("x", x, "")],
                                    "integers, slices, None, Ellipsis, masks, and arrays of integers are"))
    return as_indices(part, x)


def scatter_add(x: Array, shape: int | Sequence[int], index: Any) -> Array:
    """Return zeros of this shape with x added at the index, where elements that are named twice add up.

    It is the adjoint of getitem, and takes the same indices. Raises ShapeError, IndexingError.
    """
    return _scatter_add_primitive(x, shape=as_shape(shape, "scatter_add"), index=_as_index(index, x))


def take(x: Array, indices: Array, axis: int | None = None) -> Array:
    """Return the elements of x at integer indices along an axis; of the flattened x if axis is None."""
    indices = as_indices(raw(indices), raw(x))
    indices = indices.astype(int) if indices.dtype == bool else indices         # numbers, as in NumPy: not a mask
    if axis is None:
        return getitem(ravel(x), indices)
    axis = one_axis(axis, ndim(x), "take")
    return getitem(x, (slice(None),) * axis + (indices,))


# --------------------------------------------------------------------------------------- padding and joining

_pad = linear(lambda x, widths: module_of(x).pad(x, widths) if widths else module_of(x).asarray(x),
              lambda g, s, widths: crop(g, widths or 0), "pad")


def _as_pairs(x: Array, widths: Any, name: str) -> Pairs:
    """Return (before, after) for each axis. widths: one number, one pair, or a pair for each axis."""
    try:
        pairs = numpy.broadcast_to(numpy.asarray(widths), (ndim(x), 2))
        return tuple((_as_width(before), _as_width(after)) for before, after in pairs)
    except (ValueError, TypeError):
        raise ShapeError(f"{name}(x): width {widths} for {ndim(x)} axes\n"
                         "  help: one number, one (before, after), or one for each axis, all integers from 0") from None


def _as_width(n: Any) -> int:
    if n < 0:
        raise ValueError(n)
    return operator.index(n)


def pad(x: Array, pad_width: int | tuple[int, int] | Sequence[tuple[int, int]], mode: Any = "constant",
        constant_values: Array = 0.0) -> Array:
    """Return x with a border of constants, or of its elements: NumPy's modes edge, reflect, symmetric and wrap.

    pad_width: one width, one (before, after) for all axes, or one pair per axis. A number in place of a mode is the
    constant. Raises ShapeError.
    """
    mode, constant_values = (mode, constant_values) if isinstance(mode, str) else ("constant", mode)
    widths, xp, s = _as_pairs(x, pad_width, "pad"), module_of(raw(x)), shape_of(x)
    if mode not in ("constant", "edge", "reflect", "symmetric", "wrap"):
        raise ShapeError(f"pad(x, pad_width, mode): there is no mode {mode!r}\n"
                         "  help: constant, edge, reflect, symmetric or wrap")
    if widths and mode != "constant":
        return take(x, xp.pad(xp.arange(math.prod(s)).reshape(s), widths, mode))
    y = _pad(x, widths=widths)
    if not widths or isinstance(constant_values, (int, float)) and constant_values == 0:
        return y
    return add(y, xp.pad(xp.zeros(s, y.dtype), widths, constant_values=constant_values))


def crop(x: Array, crop_width: int | tuple[int, int] | Sequence[tuple[int, int]]) -> Array:
    """Return x without a border of this width, which is given as for pad. It is the adjoint of pad.

    Raises ShapeError where the border is wider than x.
    """
    pairs = _as_pairs(x, crop_width, "crop")
    if any(sum(pair) > n for pair, n in zip(pairs, shape_of(x))):
        raise ShapeError(message("crop(x)", "the border is wider than the array", [("x", x, f"border {pairs}")]))
    return getitem(x, tuple(slice(before, n - after) for (before, after), n in zip(pairs, shape_of(x))))


GROUP = 64              # arrays that are joined at a time


def _concatenate_rule(i: int, y: Array, *parts: Array, axis: int) -> LinearMap:
    lengths = [shape_of(part)[axis] for part in parts]
    before, after = sum(lengths[:i]), sum(lengths[i + 1:])
    widths = tuple((before, after) if a == axis else (0, 0) for a in range(len(shape_of(y))))
    return LinearMap(lambda t: pad(t, widths), lambda g: crop(g, widths))


_concatenate = Primitive(lambda *parts, axis: module_of(*parts).concatenate(parts, axis), _concatenate_rule,
                         "concatenate")


def _as_list(arrays: Any, name: str) -> list[Array]:
    """Return a sequence of arrays, numbers and lists of these as a list of arrays.

    Raises DTypeError, naming the operation, for anything that is not a sequence.
    """
    try:
        return list(as_arrays([gathered(x) for x in arrays], LISTS + NUMBERS))
    except TypeError as error:
        if isinstance(error, MinigradError):
            raise
        raise DTypeError(message(f"{name}(arrays)", "a sequence of arrays is needed",
                                 [("arrays", arrays, "")])) from None


def gathered(x: Any) -> Any:
    """Return a list with traced values in it as one array, anything else as it is."""
    return stack(x) if type(x) in LISTS and is_traced(x) else x


def concatenate(arrays: Iterable[Array], axis: int | None = 0) -> Array:
    """Return arrays joined along an existing axis; with axis None, all their elements in one row.

    Raises ShapeError for no arrays and for an axis that they do not have, DTypeError for no sequence.
    """
    arrays = _as_list(arrays, "concatenate")
    if axis is None:
        arrays, axis = [ravel(x) for x in arrays], 0
    if not arrays:
        raise ShapeError("concatenate(arrays): at least one array is needed")
    axis = one_axis(axis, ndim(arrays[0]), "concatenate")
    while len(arrays) > GROUP:                              # the rule of each part looks at all parts beside it
        arrays = [_concatenate(*arrays[i:i + GROUP], axis=axis) for i in range(0, len(arrays), GROUP)]
    return _concatenate(*arrays, axis=axis)


def stack(arrays: Iterable[Array], axis: int = 0) -> Array:
    """Return arrays of one shape joined along a new axis. Raises as concatenate does."""
    return concatenate([expand_dims(x, axis) for x in _as_list(arrays, "stack")], axis)
