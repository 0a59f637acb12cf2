"""Layers that are functions of one array. Public as nn.Linear and so on."""
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Self

import numpy

from . import deprecated
from .backend import as_array, xp
from .boundary import guard
from .box import raw
from .errors import DTypeError, ShapeError, message, shape
from .initial import he_normal, normal, zeros
from .module import Module, _check_array, static
from .normalization import group_norm, layer_norm
from .ops import conv1d, conv2d, conv_transpose2d, matmul, take
from .ops.windows import Padding, Pair
from .typing import Array, Shape

Initialize = Callable[[numpy.random.Generator, Shape], Array]


class Linear(Module):
    """The layer x W + b: (..., inputs) to (..., outputs). weight: (inputs, outputs); bias: (outputs,) or None."""
    weight: Array
    bias: Array = None

    @classmethod
    @deprecated.keywords(initialise="initialize")
    def init(cls, rng: numpy.random.Generator, inputs: int, outputs: int, bias: bool = True,
             initialize: Initialize = he_normal) -> Self:
        """Return a layer with weights drawn by initialize(rng, shape) and biases 0. rng: see backend.generator."""
        return cls(initialize(rng, (inputs, outputs)), zeros(outputs) if bias else None)

    def __call__(self, x: Array) -> Array:
        """Return x W + b. Raises ShapeError where the number of inputs differs."""
        _check_array("Linear(x)", x)
        if shape(x)[-1:] != shape(self.weight)[:1]:
            rows = [("x", x, "inputs: last axis"), ("weight", self.weight, "inputs: axis 0")]
            raise ShapeError(message("Linear(x)", "the number of inputs differs", rows,
                                     f"x needs shape (..., {shape(self.weight)[0]}); x.reshape(n, -1) flattens images"))
        return _add_bias("Linear(x)", matmul(x, self.weight), self.bias)


def _add_bias(call: str, y: Array, bias: Array | None) -> Array:
    """Return y + bias, the bias having one element for each channel of y; y itself if there is no bias."""
    if bias is None:
        return y
    if shape(bias) != shape(y)[-1:]:
        raise ShapeError(message(call, "one bias for each output is needed", [("y", y, "outputs: last axis"),
                                                                              ("bias", bias, "")]))
    return y + bias


class Conv2d(Module):
    """The layer conv2d(x, kernel) + bias: (n, h, w, inputs) to (n, rows, columns, outputs).

    kernel: (A, B, inputs, outputs); bias: (outputs,) or None; stride and padding as in conv2d.
    """
    kernel: Array
    bias: Array = None
    stride: int | Pair = static(default=1)
    padding: Padding = static(default=0)

    @classmethod
    @deprecated.keywords(window="kernel_size", initialise="initialize")
    def init(cls, rng: numpy.random.Generator, inputs: int, outputs: int, kernel_size: int | Pair = 3,
             stride: int | Pair = 1, padding: Padding = 0, bias: bool = True,
             initialize: Initialize = he_normal) -> Self:
        """Return a layer with a kernel drawn by initialize(rng, shape) and biases 0. rng: see backend.generator."""
        A, B = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
        return cls(initialize(rng, (A, B, inputs, outputs)), zeros(outputs) if bias else None, stride, padding)

    def __call__(self, x: Array) -> Array:
        """Return conv2d(x, kernel) + bias. Raises ShapeError."""
        _check_array("Conv2d(x)", x)
        return _add_bias("Conv2d(x)", conv2d(x, self.kernel, self.stride, self.padding), self.bias)


class Conv1d(Module):
    """The layer conv1d(x, kernel) + bias. kernel: (window, inputs, outputs); bias: (outputs,) or None."""
    kernel: Array
    bias: Array = None
    stride: int = static(default=1)
    padding: str | int | Pair = static(default=0)

    @classmethod
    def init(cls, rng: numpy.random.Generator, inputs: int, outputs: int, kernel_size: int = 3, stride: int = 1,
             padding: str | int | Pair = 0, bias: bool = True, initialize: Initialize = he_normal) -> Self:
        """Return a layer as Conv2d.init does."""
        kernel = initialize(rng, (kernel_size, inputs, outputs))
        return cls(kernel, zeros(outputs) if bias else None, stride, padding)

    def __call__(self, x: Array) -> Array:
        """Return conv1d(x, kernel) + bias. Raises ShapeError."""
        _check_array("Conv1d(x)", x)
        return _add_bias("Conv1d(x)", conv1d(x, self.kernel, self.stride, self.padding), self.bias)


class ConvTranspose2d(Module):
    """The layer conv_transpose2d(x, kernel) + bias. kernel: (A, B, outputs, inputs); bias: (outputs,) or None."""
    kernel: Array
    bias: Array = None
    stride: int | Pair = static(default=1)
    padding: Padding = static(default=0)
    output_padding: int | Pair = static(default=0)

    @classmethod
    def init(cls, rng: numpy.random.Generator, inputs: int, outputs: int, kernel_size: int | Pair = 3,
             stride: int | Pair = 1, padding: Padding = 0, output_padding: int | Pair = 0, bias: bool = True,
             initialize: Initialize = he_normal) -> Self:
        """Return a layer as Conv2d.init does, its kernel drawn as (A, B, inputs, outputs)."""
        A, B = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
        kernel = xp.ascontiguousarray(initialize(rng, (A, B, inputs, outputs)).swapaxes(2, 3))
        return cls(kernel, zeros(outputs) if bias else None, stride, padding, output_padding)

    def __call__(self, x: Array) -> Array:
        """Return conv_transpose2d(x, kernel) + bias. Raises ShapeError."""
        call = "ConvTranspose2d(x)"
        _check_array(call, x)
        y = conv_transpose2d(x, self.kernel, self.stride, self.padding, self.output_padding)
        return _add_bias(call, y, self.bias)


class Embedding(Module):
    """The layer weight[x]: integers (...) to (..., features). weight: (count, features).

    Where a row is taken several times, its gradient is the sum over all of them.
    """
    weight: Array

    @classmethod
    def init(cls, rng: numpy.random.Generator, count: int, features: int, initialize: Initialize | None = None) -> Self:
        """Return a layer with weights drawn by initialize(rng, shape), by default of variance 1 / features."""
        draw = initialize or functools.partial(normal, scale=max(features, 1) ** -0.5)
        return cls(draw(rng, (count, features)))

    def __call__(self, x: Array) -> Array:
        """Return weight[x]. Raises DTypeError for numbers that are no integers, IndexingError beyond the last row."""
        x = raw(x) if hasattr(x, "dtype") else as_array(x, raw(self.weight))
        if x.dtype.kind not in "iu":
            raise DTypeError(message("Embedding(x)", "x has the numbers of rows: integers", [("x", x, "")],
                                     "x.astype(int)"))
        return take(self.weight, x, 0)


class LayerNorm(Module):
    """The layer layer_norm(x, gain, bias, eps). gain: the shape of the last axes of x; bias: the same, or None."""
    gain: Array
    bias: Array = None
    eps: float = static(default=1e-5)

    @classmethod
    def init(cls, features: int | Shape, bias: bool = True, eps: float = 1e-5) -> Self:
        """Return a layer with gain 1 and bias 0 (or none)."""
        return cls(xp.ones(features, "float32"), zeros(features) if bias else None, eps)

    def __call__(self, x: Array) -> Array:
        """Return layer_norm(x, gain, bias, eps). Raises ShapeError."""
        _check_array("LayerNorm(x)", x)
        return layer_norm(x, self.gain, self.bias, self.eps)


class GroupNorm(Module):
    """The layer group_norm(x, groups, gain, bias, eps). gain, bias: (channels,), or None."""
    gain: Array
    bias: Array
    groups: int = static()
    eps: float = static(default=1e-5)

    @classmethod
    def init(cls, groups: int, channels: int, eps: float = 1e-5) -> Self:
        """Return a layer with gain 1 and bias 0."""
        return cls(xp.ones(channels, "float32"), zeros(channels), groups, eps)

    def __call__(self, x: Array) -> Array:
        """Return group_norm(x, groups, gain, bias, eps). Raises ShapeError."""
        _check_array("GroupNorm(x)", x)
        return group_norm(x, self.groups, self.gain, self.bias, self.eps)


guard(__name__)
