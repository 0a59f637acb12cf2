"""Moving elements without changing them. Each operation stands beside its adjoint:

    reshape / reshape back      transpose / its inverse      pad / crop      x[index] / scatter_add
"""
import operator

import numpy

from ..backend import as_array, is_array, module_of
from ..core import LISTS, NUMBERS, LinearMap, Primitive, as_arrays, raw
from ..errors import DTypeError, IndexingError, MinigradError, ShapeError, message, mixture
from ..errors import shape as shape_of
from ..kinds import integers, linear, normal_shape, sum_to
from .elementwise import add

_reshape = linear(lambda x, shape: x.reshape(shape), lambda g, s, shape: reshape(g, s), "reshape")
_transpose = linear(lambda x, axes: x.transpose(axes), lambda g, s, axes: transpose(g, _inverse(axes)), "transpose")


def reshape(x, shape):
    """The same elements in the same order in another shape; one length may be -1."""
    return _reshape(x, shape=shape)


def ravel(x):
    """All elements in one row."""
    return reshape(x, (-1,))


def transpose(x, axes=None):
    """The axes in another order, reversed if none is given: y.shape[i] = x.shape[axes[i]]."""
    axes = reversed(range(ndim(x))) if axes is None else axes
    return _transpose(x, axes=normal_axes(axes, ndim(x), "transpose"))


def _inverse(axes):
    return tuple(sorted(range(len(axes)), key=axes.__getitem__))


def moveaxis(x, source, destination):
    """Axes moved to new positions, the others keeping their order. source, destination: an integer or a tuple each."""
    source, destination = (normal_axes(axis, ndim(x), "moveaxis") for axis in (source, destination))
    if len(source) != len(destination):
        raise ShapeError(f"moveaxis(x): {len(source)} axes to {len(destination)} places")
    order = [a for a in range(ndim(x)) if a not in source]
    for place, axis in sorted(zip(destination, source)):
        order.insert(place, axis)
    return transpose(x, order)


def swapaxes(x, axis1, axis2):
    """Two axes exchanged."""
    axis1, axis2 = (one_axis(axis, ndim(x), "swapaxes") for axis in (axis1, axis2))
    order = list(range(ndim(x)))
    order[axis1], order[axis2] = order[axis2], order[axis1]
    return transpose(x, order)


def matrix_transpose(x):
    """The last two axes exchanged."""
    n = ndim(x)
    return _transpose(x, axes=(1, 0) if n == 2 else (*range(n - 2), n - 1, n - 2))


def expand_dims(x, axis):
    """New axes of length 1 at these positions of the result."""
    count = ndim(x) + len(integers(axis) or ())
    new, old = normal_axes(axis, count, "expand_dims"), iter(shape_of(x))
    return reshape(x, tuple(1 if a in new else next(old) for a in range(count)))


def squeeze(x, axis=None):
    """The axes of length 1 removed: those given, or all."""
    s = shape_of(x)
    drop = [a for a, n in enumerate(s) if n == 1] if axis is None else normal_axes(axis, len(s), "squeeze")
    if any(s[a] != 1 for a in drop):
        raise ShapeError(f"squeeze(x): cannot remove axes {tuple(drop)} of shape {s}: not all have length 1")
    return reshape(x, tuple(n for a, n in enumerate(s) if a not in drop))


def flip(x, axis=None):
    """The order of the elements reversed along these axes, or along all."""
    axes = normal_axes(axis, ndim(x), "flip")
    return getitem(x, tuple(slice(None, None, -1) if a in axes else slice(None) for a in range(ndim(x))))


def ndim(x):
    """The number of axes."""
    return len(shape_of(x))


def normal_axes(axis, ndim, name):
    """A tuple of axes counted from the front: of None (all), an integer or a sequence. Raises ShapeError.

    name: of the operation that they are for.
    """
    if axis is None:
        return tuple(range(ndim))
    axes = integers(axis)
    if axes is None:
        raise ShapeError(f"{name}(x): axis {axis!r} is neither an integer, nor several, nor None")
    if any(not -ndim <= a < ndim for a in axes):
        raise ShapeError(f"{name}(x): axis {axis} is out of bounds for {ndim} dimensions\n"
                         "  help: axes are counted 0, 1 ... from the first, or -1, -2 ... from the last")
    axes = tuple(a % ndim for a in axes)
    if len(set(axes)) < len(axes):
        raise ShapeError(f"{name}(x): axis {axis} names the same axis twice")
    return axes


def one_axis(axis, ndim, name):
    """The number of one axis, counted from the front. Raises ShapeError for none and for several."""
    axes = normal_axes(axis, ndim, name)
    if axis is None or len(axes) != 1:
        raise ShapeError(f"{name}(x): axis {axis} is not one axis\n  help: give one integer")
    return axes[0]


# ---------------------------------------------------------------------------------- indexing and its adjoint

def _put(g, shape, index):
    xp = module_of(g)
    x = xp.zeros(shape, g.dtype)
    if _may_repeat(index):
        halves = g.dtype.kind == "c"                        # cupy.add.at takes no complex numbers
        for part, more in [(x.real, g.real), (x.imag, g.imag)] if halves else [(x, g)]:
            xp.add.at(part, index, more)
    else:
        x[index] = g
    return x


def _may_repeat(index):
    """Whether an index may name one element twice: only integer arrays can."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(getattr(getattr(part, "dtype", None), "kind", "") in ("i", "u") for part in parts)


_getitem = linear(lambda x, index: x[index], lambda g, s, index: scatter_add(g, s, index), "getitem")
_put_primitive = linear(_put, lambda g, s, shape, index: sum_to(getitem(g, index), s))


def getitem(x, index):
    """x[index]: slices, integers, None, Ellipsis, integer arrays and masks, as in NumPy."""
    return _getitem(x, index=_plain_index(index, x))


def _plain_index(index, x):
    """An index of x as NumPy would read it: sequences are arrays. Raises BackendError for those of another module."""
    if isinstance(index, tuple):
        return tuple([_plain(part, x) for part in index])
    return _plain(index, x)


def _plain(part, x):
    part, x = raw(part), raw(x)
    if part is None or part is Ellipsis or isinstance(part, (slice, int)):
        return part
    if hasattr(part, "dtype"):
        if error := is_array(part) and mixture("getitem(x, index)", [("x", x, ""), ("index", part, "")]):
            raise error                                     # CuPy would copy the index to the device
        return part
    if not isinstance(part, (list, tuple, range)):
        raise IndexingError(message("getitem(x, index)", f"{part!r} is no index", [("x", x, "")],
                                    "integers, slices, None, Ellipsis, masks, and arrays of integers are"))
    return as_array(part, x) if len(part) else module_of(x).zeros(0, int)


def scatter_add(x, shape, index):
    """Zeros of this shape with x added at the index: the adjoint of getitem, so elements named twice add up."""
    return _put_primitive(x, shape=normal_shape(shape, "scatter_add"), index=_plain_index(index, x))


def take(x, indices, axis=None):
    """The elements of x at integer indices along an axis; of the flattened x if axis is None."""
    indices = as_array(raw(indices), raw(x))
    indices = indices.astype(int) if indices.dtype == bool else indices         # numbers, as in NumPy: not a mask
    if axis is None:
        return getitem(ravel(x), indices)
    axis = one_axis(axis, ndim(x), "take")
    return getitem(x, (slice(None),) * axis + (indices,))


# --------------------------------------------------------------------------------------- padding and joining

_pad = linear(lambda x, widths: module_of(x).pad(x, widths) if widths else module_of(x).asarray(x),
              lambda g, s, widths: crop(g, widths or 0), "pad")


def _pairs(x, widths, name):
    """(before, after) for each axis: of one number, one pair, or a pair for each axis."""
    try:
        pairs = numpy.broadcast_to(numpy.asarray(widths), (ndim(x), 2))
        return tuple((_width(before), _width(after)) for before, after in pairs)
    except (ValueError, TypeError):
        raise ShapeError(f"{name}(x): width {widths} for {ndim(x)} axes\n"
                         "  help: one number, one (before, after), or one for each axis, all integers from 0") from None


def _width(n):
    if n < 0:
        raise ValueError(n)
    return operator.index(n)


def pad(x, pad_width, constant_values=0.0):
    """x with a border of constants. pad_width: one width, one (before, after) for all axes, or one pair per axis."""
    widths = _pairs(x, pad_width, "pad")
    y = _pad(x, widths=widths)
    if not widths or isinstance(constant_values, (int, float)) and constant_values == 0:
        return y
    xp = module_of(raw(x))
    return add(y, xp.pad(xp.zeros(shape_of(x), y.dtype), widths, constant_values=constant_values))


def crop(x, crop_width):
    """x without a border of this width: the adjoint of pad, and written like it."""
    pairs = _pairs(x, crop_width, "crop")
    if any(sum(pair) > n for pair, n in zip(pairs, shape_of(x))):
        raise ShapeError(message("crop(x)", "the border is wider than the array", [("x", x, f"border {pairs}")]))
    return getitem(x, tuple(slice(before, n - after) for (before, after), n in zip(pairs, shape_of(x))))


GROUP = 64              # parts that are joined at a time


def _concatenate_rule(i, y, *parts, axis):
    lengths = [shape_of(part)[axis] for part in parts]
    before, after = sum(lengths[:i]), sum(lengths[i + 1:])
    widths = tuple((before, after) if a == axis else (0, 0) for a in range(len(shape_of(y))))
    return LinearMap(lambda t: pad(t, widths), lambda g: crop(g, widths))


_concatenate = Primitive(lambda *parts, axis: module_of(*parts).concatenate(parts, axis), _concatenate_rule,
                         "concatenate")


def _several(arrays, name):
    """A list of arrays, those of numbers and lists of numbers too. Raises DTypeError for what is no sequence."""
    try:
        return as_arrays(list(arrays), LISTS + NUMBERS)
    except TypeError as error:
        if isinstance(error, MinigradError):
            raise
        raise DTypeError(message(f"{name}(arrays)", "a sequence of arrays is needed",
                                 [("arrays", arrays, "")])) from None


def concatenate(arrays, axis=0):
    """Arrays joined along an existing axis; with axis None, all their elements in one row."""
    arrays = _several(arrays, "concatenate")
    arrays = arrays if axis is not None else [ravel(x) for x in arrays]
    axis = 0 if axis is None else axis
    if not arrays:
        raise ShapeError("concatenate(arrays): at least one array is needed")
    axis = one_axis(axis, ndim(arrays[0]), "concatenate")
    while len(arrays) > GROUP:                              # the rule of each part looks at all parts beside it
        arrays = [_concatenate(*arrays[i:i + GROUP], axis=axis) for i in range(0, len(arrays), GROUP)]
    return _concatenate(*arrays, axis=axis)


def stack(arrays, axis=0):
    """Arrays of one shape joined along a new axis."""
    return concatenate([expand_dims(x, axis) for x in _several(arrays, "stack")], axis)
