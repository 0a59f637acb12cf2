"""Normalization."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy

from .. import deprecated
from ..backend import module_of
from ..box import raw
from ..communicators import Communicator, several
from ..core import LinearMap, Primitive, replaceable
from ..errors import shape
from ..typing import Array, Shape
from .collectives import allsum
from .elementwise import multiply, sqrt, square
from .reductions import mean, sum, widen_sums
from .shaping import as_axes, stack


def _mean_over(axes: Shape, comm: Communicator | None, x: Array) -> Callable[..., tuple[Array, ...]]:
    """Return the function from arrays of the shape of x to their means over these axes, and over all ranks."""
    if comm is None:
        return lambda *vs: tuple([mean(v, axes, keepdims=True) for v in vs])
    count = allsum(module_of(raw(x)).full((), math.prod([shape(x)[axis] for axis in axes]), raw(x).dtype), comm)

    def means(*vs: Array) -> tuple[Array, ...]:
        sums = allsum(stack([sum(v, axes, keepdims=True) for v in vs]), comm)       # one message
        return tuple([sums[i] / count for i in range(len(vs))])
    return means


def _standardize(x: Array, *, axes: Shape, eps: float, comm: Communicator | None) -> Array:
    mean_of = _mean_over(axes, comm, x)
    c = x - mean_of(x)[0]
    return c / sqrt(mean_of(square(c))[0] + eps)


def _standardize_rule(i: int, y: Array, x: Array, axes: Shape, eps: float,
                      comm: Communicator | None = None) -> LinearMap:
    """Return the Jacobian v -> r (v - mean(v) - y mean(y v)). It is symmetric: push and pull are one function.

    r is computed from x by primitives, here and not in the forward function: saved there as a plain array it would be
    a constant to the second derivative, silently wrong at the order where somebody first looks.
    """
    mean_of = _mean_over(axes, comm, x)
    c = x - mean_of(x)[0]
    r = 1.0 / sqrt(mean_of(square(c))[0] + eps)

    def J(v: Array) -> Array:
        of_v, of_product = mean_of(v, y * v)
        return r * (v - of_v - y * of_product)
    return LinearMap(J, J)


_standardize_primitive = Primitive(_standardize, _standardize_rule)


@deprecated.keywords(axes="axis")
@widen_sums
def standardize(x: Array, axis: int | tuple[int, ...] | None, eps: float = 1e-5,
                comm: Any = None) -> Array:
    """Return (x - mean) / sqrt(variance + eps) over these axes: batch normalization without its gain and bias.

    comm: the communicator of ranks whose x are parts of one array, split along one of the axes; None: x is the whole.
    Ioffe & Szegedy, 2015, Algorithm 1.
    """
    axes = as_axes(axis, len(shape(x)), "standardize")
    comm = several(comm)
    if comm is None and 0 in shape(x):                      # there is no mean of no elements
        return multiply(x, 1.0)
    return _standardize_primitive(x, axes=axes, eps=float(eps), comm=comm)      # a scalar of NumPy would change types


@replaceable
def moments(x: Array) -> tuple[Array, Array]:
    """Return the mean and the variance (without Bessel's correction) of each channel, the last axis, of plain x.

    Those of float16 are float32: its squares end at 65,504.
    """
    axes = tuple(range(x.ndim - 1))
    if not x.size:
        zeros = module_of(x).zeros(x.shape[-1], x.dtype)
        return zeros, zeros
    wide = x.astype("float32") if x.dtype == "float16" else x
    return wide.mean(axes), wide.var(axes)


def moments_over(x: Array, comm: Communicator) -> tuple[Array, Array, Array]:
    """Return mean, variance and number of rows of the whole of which each rank has the part x, in two messages.

    Both are those of `moments`, weighted by the rows of each part: sums of squares, which would cancel, are not formed.
    """
    own_mean, own_var = moments(x)
    xp, wide = module_of(x), numpy.result_type(x.dtype, "float32")
    own_mean, own_var = own_mean.astype(wide), own_var.astype(wide)
    rows = xp.full(1, x.size // max(x.shape[-1], 1), wide)
    sums = comm.allsum(xp.concatenate([own_mean * rows, rows]))
    mean, count = sums[:-1] / sums[-1:], sums[-1:]
    squares = comm.allsum(rows * (own_var + xp.square(own_mean - mean)))
    return mean, squares / count, count


def statistics_of(x: Array, comm: Communicator | None) -> tuple[Array, ...]:
    """Return moments(x), or moments_over(x, comm) if there is a communicator."""
    return moments(x) if comm is None else moments_over(x, comm)
