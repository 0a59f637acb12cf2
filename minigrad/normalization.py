"""Normalization with gain and bias. Public as nn.batch_norm and nn.BatchNorm, and so on."""
from __future__ import annotations

import math
from typing import Any

import numpy

from . import deprecated
from .backend import as_array, is_float
from .boundary import guard
from .box import raw
from .communicators import Communicator, several
from .core import replaceable
from .errors import DTypeError, ShapeError, message, shape
from .functions import with_derivative
from .kinds import is_integer
from .ops import add, astype, multiply, relu, reshape, standardize
from .typing import Array


@deprecated.flags(rectify=(relu, "relu(batch_norm(x, gain, bias))"))
def batch_norm(x: Array, gain: Array | None, bias: Array, eps: float = 1e-5, comm: Any = None) -> Array:
    """Return standardize(x, all axes but the last) * gain + bias.

    gain: (channels,) or None for 1; bias: (channels,). comm: the communicator of ranks whose x are parts of one batch;
    None: x is the whole. Ioffe & Szegedy, 2015, Algorithm 1. Raises ShapeError, DTypeError.
    """
    return _normalize_batch(x, gain, bias, eps, comm=several(comm))


def _normalize_batch(x: Array, gain: Array | None, bias: Array, eps: float, then_relu: bool = False,
                     statistics: tuple[Array, ...] | None = None, comm: Communicator | None = None) -> Array:
    """Return batch_norm, or relu of it if `then_relu`.

    statistics: statistics_of(x, comm), if the caller has them.
    """
    x, gain, bias = (v if v is None or hasattr(v, "dtype") else as_array(v) for v in (x, gain, bias))
    rows = [("x", x, ""), *([] if gain is None else [("gain", gain, "")]), ("bias", bias, "")]
    if not all(is_float(v) for _, v, _ in rows):
        raise DTypeError(message("batch_norm(x, gain, bias)", "only floating-point arrays are normalized", rows,
                                 "x.astype(float)"))
    if len(shape(x)) < 2 or any(shape(v) != shape(x)[-1:] for _, v, _ in rows[1:]):
        raise ShapeError(message("batch_norm(x, gain, bias)", "shapes differ", rows,
                                 "x has shape (..., channels), gain and bias (channels,)"))
    if raw(x).dtype == "float16":                           # it ends at 65,504: sums over a batch are larger
        dtype = numpy.result_type(*(raw(v).dtype for _, v, _ in rows))
        wide = numpy.result_type(dtype, "float32")
        x, gain, bias = (v if v is None else astype(v, wide) for v in (x, gain, bias))
        return astype(_normalize_batch(x, gain, bias, eps, then_relu, comm=comm), dtype)
    return _batch_norm(x, gain, bias, eps=eps, then_relu=then_relu, statistics=statistics, comm=comm)


@with_derivative
def _batch_norm(x: Array, gain: Array | None, bias: Array, eps: float, then_relu: bool,
                statistics: tuple[Array, ...] | None, comm: Communicator | None = None) -> Array:
    """Return the definition. `statistics` spare a faster form a walk over x: here they are computed anew."""
    y = standardize(x, tuple(range(len(shape(x)) - 1)), eps, comm)
    y = (y if gain is None else y * gain) + bias
    return relu(y) if then_relu else y


@replaceable
def _move_averages(momentum: float, mean: Array, var: Array, batch_mean: Array,
                   batch_var: Array) -> tuple[Array, Array]:
    """Return momentum * average + (1 - momentum) * batch statistic for both averages. They keep their types."""
    def move(old: Array, now: Array) -> Array:
        return astype(momentum * old + (1.0 - momentum) * now, old.dtype)
    return move(mean, batch_mean), move(var, batch_var)


def layer_norm(x: Array, gain: Array | None, bias: Array | None = None, eps: float = 1e-5) -> Array:
    """Return standardize(x, the last axes) * gain + bias, over as many axes as gain has. Ba, Kiros & Hinton, 2016.

    gain: the shape of x without its first axes; None for 1, over the last axis. bias: the same shape, or None for 0.
    Raises ShapeError.
    """
    count = 1 if gain is None else len(shape(gain))
    rows = [(name, v, "") for name, v in (("x", x), ("gain", gain), ("bias", bias)) if v is not None]
    if not count or len(shape(x)) < count or any(shape(v) != shape(x)[-count:] for _, v, _ in rows[1:]):
        raise ShapeError(message("layer_norm(x, gain, bias)", "shapes differ", rows,
                                 "gain and bias have the shape of x, without its first axes"))
    return _affine(standardize(x, tuple(range(-count, 0)), eps), gain, bias)


def group_norm(x: Array, groups: int, gain: Array | None, bias: Array | None = None, eps: float = 1e-5) -> Array:
    """Return x standardized over each example's pixels and each group of channels, * gain + bias. Wu & He, 2018.

    x: (n, ..., channels); gain, bias: (channels,), or None for 1 and 0. As many groups as channels: instance
    normalization. Raises ShapeError.
    """
    s, rows = shape(x), [(name, v, "") for name, v in (("x", x), ("gain", gain), ("bias", bias)) if v is not None]
    if not is_integer(groups) or len(s) < 2 or groups < 1 or s[-1] % groups or any(shape(v) != s[-1:]
                                                                                    for _, v, _ in rows[1:]):
        raise ShapeError(message("group_norm(x, groups, gain, bias)", f"no {groups!r} equal groups of channels", rows,
                                 "x has shape (n, ..., channels), gain and bias (channels,); groups divides channels"))
    parts = reshape(x, (s[0], math.prod(s[1:-1]), groups, s[-1] // groups))
    return _affine(reshape(standardize(parts, (1, 3), eps), s), gain, bias)


def _affine(y: Array, gain: Array | None, bias: Array | None) -> Array:
    y = y if gain is None else multiply(y, gain)
    return y if bias is None else add(y, bias)


guard(__name__)
