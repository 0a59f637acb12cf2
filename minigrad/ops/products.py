"""Contractions. Each ends as a two-dimensional product where it can: that is the fastest on both devices."""
import math

import numpy

from ..backend import module_of
from ..core import LISTS, NUMBERS, as_arrays
from ..errors import ShapeError, message, shape
from ..kinds import bilinear, sum_to
from .shaping import expand_dims, matrix_transpose, normal_axes, reshape, transpose

_matmul = bilinear(lambda a, b: module_of(a, b).matmul(a, b),
                   lambda g, b, s: sum_to(_matmul(g, matrix_transpose(b)), s),
                   lambda g, a, s: sum_to(_matmul(matrix_transpose(a), g), s), "matmul")


def matmul(a, b):
    """The matrix product a @ b of NumPy: (..., n, k) by (..., k, m) is (..., n, m), the leading axes broadcast.

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


def tensordot(a, b, axes=2):
    """The sum of products over pairs of axes, as in NumPy.

    axes: how many of the last axes of a meet the first of b, or two sequences: axes of a and of b.
    """
    a, b = as_arrays((a, b), LISTS + NUMBERS)
    na, nb = len(shape(a)), len(shape(b))
    if isinstance(axes, (int, numpy.integer)) and -64 <= axes <= 64:        # more axes has no array
        axes = range(na - axes, na), range(axes)
    if not isinstance(axes, (tuple, list)) or len(axes) != 2:
        raise ShapeError(f"tensordot(a, b, axes): {axes!r} is neither a number of axes nor two sequences of them")
    inner_a, inner_b = axes
    inner_a, inner_b = (normal_axes(axes, n, "tensordot") for axes, n in ((inner_a, na), (inner_b, nb)))
    lengths = [shape(a)[i] for i in inner_a], [shape(b)[i] for i in inner_b]
    if lengths[0] != lengths[1]:
        rows = [("a", a, f"axes {inner_a}"), ("b", b, f"axes {inner_b}")]
        raise ShapeError(message("tensordot(a, b)", "the lengths of the summed axes differ", rows))
    outer_a = tuple(i for i in range(na) if i not in inner_a)
    outer_b = tuple(i for i in range(nb) if i not in inner_b)
    k = math.prod(shape(a)[i] for i in inner_a)
    sa, sb = tuple(shape(a)[i] for i in outer_a), tuple(shape(b)[i] for i in outer_b)
    rows = reshape(transpose(a, outer_a + inner_a), (math.prod(sa), k))
    columns = reshape(transpose(b, inner_b + outer_b), (k, math.prod(sb)))
    return reshape(_matmul(rows, columns), sa + sb)
