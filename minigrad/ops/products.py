"""Contractions. Each ends as a two-dimensional product where it can: that is the fastest on both devices."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy

from ..backend import module_of
from ..core import LISTS, NUMBERS, Primitive, as_arrays
from ..errors import ShapeError, message, shape
from ..kinds import bilinear, sum_to
from ..typing import Array, Shape
from .shaping import as_axes, expand_dims, matrix_transpose, reshape, transpose

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
