"""Normalization."""
from __future__ import annotations

from .. import deprecated
from ..backend import module_of
from ..core import LinearMap, Primitive, replaceable
from ..errors import shape
from ..typing import Array, Shape
from .elementwise import multiply, sqrt, square
from .reductions import mean, widen_sums
from .shaping import as_axes


def _standardize(x: Array, *, axes: Shape, eps: float) -> Array:
    c = x - mean(x, axes, keepdims=True)
    return c / sqrt(mean(square(c), axes, keepdims=True) + eps)


def _standardize_rule(i: int, y: Array, x: Array, axes: Shape, eps: float) -> LinearMap:
    """Return the Jacobian v -> r (v - mean(v) - y mean(y v)). It is symmetric: push and pull are one function.

    r is computed from x by primitives, here and not in the forward function: saved there as a plain array it would be
    a constant to the second derivative, silently wrong at the order where somebody first looks.
    """
    c = x - mean(x, axes, keepdims=True)
    r = 1.0 / sqrt(mean(square(c), axes, keepdims=True) + eps)

    def J(v: Array) -> Array:
        return r * (v - mean(v, axes, keepdims=True) - y * mean(y * v, axes, keepdims=True))
    return LinearMap(J, J)


_standardize_primitive = Primitive(_standardize, _standardize_rule)


@deprecated.keywords(axes="axis")
@widen_sums
def standardize(x: Array, axis: int | tuple[int, ...] | None, eps: float = 1e-5) -> Array:
    """Return (x - mean) / sqrt(variance + eps) over these axes: batch normalization without its gain and bias.

    Ioffe & Szegedy, 2015, Algorithm 1.
    """
    axes = as_axes(axis, len(shape(x)), "standardize")
    if 0 in shape(x):                                       # there is no mean of no elements
        return multiply(x, 1.0)
    return _standardize_primitive(x, axes=axes, eps=float(eps))         # a scalar of NumPy would change types


@replaceable
def moments(x: Array) -> tuple[Array, Array]:
    """Return the mean and the variance (without Bessel's correction) of each channel, the last axis, of plain x."""
    axes = tuple(range(x.ndim - 1))
    if not x.size:
        zeros = module_of(x).zeros(x.shape[-1], x.dtype)
        return zeros, zeros
    wide = x.astype("float32") if x.dtype == "float16" else x
    return wide.mean(axes).astype(x.dtype), wide.var(axes).astype(x.dtype)
