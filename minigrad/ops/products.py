"""Contractions. Each ends as a two-dimensional product where it can: that is the fastest on both devices."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy

from ..backend import module_of
from ..box import Box
from ..core import LISTS, NUMBERS, Primitive, as_arrays
from ..errors import DTypeError, ShapeError, message, shape
from ..kinds import bilinear, sum_to
from ..typing import Array, Shape
from .elementwise import multiply
from .shaping import as_axes, expand_dims, getitem, matrix_transpose, moveaxis, pad, ravel, reshape, stack, transpose

_matmul: Primitive = bilinear(lambda a, b: module_of(a, b).matmul(a, b),
                              lambda g, b, s: sum_to(_matmul(g, matrix_transpose(b)), s),
                              lambda g, a, s: sum_to(_matmul(matrix_transpose(a), g), s), "matmul")


def matmul(a: Array, b: Array) -> Array:
    """Return the matrix product a @ b of NumPy: (..., n, k) by (..., k, m) is (..., n, m), the leading axes broadcast.

    A one-dimensional a is a row, a one-dimensional b a column. Raises ShapeError where the inner lengths differ.
    """
    if type(a) in LISTS or type(b) in LISTS:
        a, b = as_arrays((a, b), LISTS)
    sa, sb = shape(a), shape(b)
    if not sa or not sb or sa[-1] != sb[-2:][0]:
        rows = [("a", a, "inner axis: the last"), ("b", b, "inner axis: the last but one, or the only one")]
        raise ShapeError(message("matmul(a, b)", "the inner lengths differ", rows,
                                 "a has shape (..., n, k) and b (..., k, m); use multiply to scale by a number"))
    if len(sa) == 1:
        y = matmul(expand_dims(a, 0), b)
        return reshape(y, shape(y)[:-1] if len(sb) == 1 else shape(y)[:-2] + shape(y)[-1:])
    if len(sb) == 1:
        y = matmul(a, expand_dims(b, 1))
        return reshape(y, shape(y)[:-1])
    if len(sa) > 2 and len(sb) == 2:                        # the leading axes of a are only more rows
        return reshape(_matmul(reshape(a, (math.prod(sa[:-1]), sb[0])), b), (*sa[:-1], sb[1]))
    return _matmul(a, b)


def tensordot(a: Array, b: Array, axes: int | tuple[int | Sequence[int], int | Sequence[int]] = 2) -> Array:
    """Return the sum of products over pairs of axes, as in NumPy.

    axes: the number of last axes of a and first axes of b, or two sequences: the axes of a and of b. Raises ShapeError.
    """
    a, b = as_arrays((a, b), LISTS + NUMBERS)
    inner_a, inner_b = _inner_axes(axes, len(shape(a)), len(shape(b)))
    if [shape(a)[i] for i in inner_a] != [shape(b)[i] for i in inner_b]:
        rows = [("a", a, f"axes {inner_a}"), ("b", b, f"axes {inner_b}")]
        raise ShapeError(message("tensordot(a, b)", "the lengths of the summed axes differ", rows))
    outer_a = tuple(i for i in range(len(shape(a))) if i not in inner_a)
    outer_b = tuple(i for i in range(len(shape(b))) if i not in inner_b)
    sa = tuple(shape(a)[i] for i in outer_a)
    sb = tuple(shape(b)[i] for i in outer_b)
    k = math.prod(shape(a)[i] for i in inner_a)
    left = reshape(transpose(a, outer_a + inner_a), (math.prod(sa), k))
    right = reshape(transpose(b, inner_b + outer_b), (k, math.prod(sb)))
    return reshape(_matmul(left, right), sa + sb)


def _inner_axes(axes: Any, na: int, nb: int) -> tuple[Shape, Shape]:
    """Return the axes over which a, of na axes, and b, of nb axes, are summed."""
    if isinstance(axes, (int, numpy.integer)) and -64 <= axes <= 64:        # no array has more axes
        axes = range(na - axes, na), range(axes)
    if not isinstance(axes, (tuple, list)) or len(axes) != 2:
        raise ShapeError(f"tensordot(a, b, axes): {axes!r} is neither a number of axes nor two sequences of them")
    return as_axes(axes[0], na, "tensordot"), as_axes(axes[1], nb, "tensordot")


def dot(a: Array, b: Array) -> Array:
    """Return the sum of products over the last axis of a and the last but one, or only, axis of b; a number scales.

    With up to two axes it is matmul; the result has all other axes of a and then those of b. Raises ShapeError.
    """
    a, b = as_arrays((a, b), LISTS + NUMBERS)
    if not shape(a) or not shape(b):
        return multiply(a, b)
    return matmul(a, b) if len(shape(b)) < 3 else tensordot(a, b, (-1, -2))


def inner(a: Array, b: Array) -> Array:
    """Return the sum of products over the last axes of a and b; a number scales. Raises ShapeError."""
    a, b = as_arrays((a, b), LISTS + NUMBERS)
    return tensordot(a, b, (-1, -1)) if shape(a) and shape(b) else multiply(a, b)


def outer(a: Array, b: Array) -> Array:
    """Return all products of an element of a with one of b, both flattened: y[i, j] = a[i] b[j]."""
    return tensordot(ravel(a), ravel(b), 0)


def vdot(a: Array, b: Array) -> Array:
    """Return the sum of conj(a) b over all elements, both flattened. Raises DTypeError for a traced complex a."""
    a, b = as_arrays((a, b), LISTS + NUMBERS)
    if a.dtype.kind == "c" and type(a) is Box:
        raise DTypeError(message("vdot(a, b)", "only real numbers have derivatives here", [("a", a, "")],
                                 "keep real and imaginary part as two arrays"))
    return matmul(ravel(a.conj() if a.dtype.kind == "c" else a), ravel(b))


def kron(a: Array, b: Array) -> Array:
    """Return the Kronecker product: blocks of b, each times an element of a. The shorter shape gets ones in front."""
    n = max(len(shape(a)), len(shape(b)))
    sa, sb = ((1,) * (n - len(s)) + s for s in (shape(a), shape(b)))
    y = transpose(reshape(tensordot(a, b, 0), sa + sb), [axis for i in range(n) for axis in (i, n + i)])
    return reshape(y, tuple(p * q for p, q in zip(sa, sb)))


def cross(a: Array, b: Array, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None) -> Array:
    """Return (a1 b2 - a2 b1, a2 b0 - a0 b2, a0 b1 - a1 b0), the cross products of vectors; other axes broadcast.

    A missing third component is 0; if both lack it, the result is the last number alone. axisa, axisb, axisc: the axes
    of the components in a, b and the result; axis: all three. Raises ShapeError.
    """
    axisa, axisb, axisc = (axisa, axisb, axisc) if axis is None else (axis,) * 3
    a, b = (moveaxis(x, k, -1) for x, k in zip(as_arrays((a, b), LISTS + NUMBERS), (axisa, axisb)))
    counts = {shape(x)[-1:] for x in (a, b)}
    if not counts <= {(2,), (3,)}:
        raise ShapeError(message("cross(a, b)", "vectors have two or three components",
                                 [("a", a, "components: the last axis"), ("b", b, "components: the last axis")],
                                 "axisa and axisb, or axis, say which axis holds them"))
    a, b = (pad(x, [(0, 0)] * (len(shape(x)) - 1) + [(0, 3 - shape(x)[-1])]) if len(counts) == 2 else x for x in (a, b))
    a, b = ([getitem(x, (..., i)) for i in range(shape(x)[-1])] for x in (a, b))
    flat = counts == {(2,)}
    y = [a[i] * b[j] - a[j] * b[i] for i, j in (((0, 1),) if flat else ((1, 2), (2, 0), (0, 1)))]
    return y[0] if flat else stack(y, axisc)
