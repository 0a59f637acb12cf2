"""The base of all layers, and those that are functions of one array. Public in nn.py, which says what a module is."""
from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar, Self, dataclass_transform

import numpy

from . import deprecated, tree
from .backend import as_array, as_indices, is_array, xp
from .boundary import explain_init, explains, guard, guard_class
from .box import raw
from .errors import DTypeError, ShapeError, message, shape
from .initial import he_normal, normal, zeros
from .kinds import is_integer
from .normalization import group_norm, layer_norm
from .ops import concatenate, conv1d, conv2d, conv_transpose2d, matmul, take
from .ops.windows import Padding, Pair
from .typing import Array, Key, Shape, Tree

Initialize = Callable[[numpy.random.Generator, Shape], Array]


def static(default: Any = dataclasses.MISSING) -> Any:
    """Return a field that is not a parameter but a setting, part of the structure of the tree.

    Write nn.static(default=1): a type checker sees no default that is passed by position.
    """
    return dataclasses.field(default=default, metadata={"static": True})


def _split(module: Module) -> tuple[tuple[str, ...], list[Any], tuple[Any, ...]]:
    names, settings = module._minigrad_fields               # of the class: cloudpickle makes that before its fields
    return names, [getattr(module, n) for n in names], tuple([getattr(module, n) for n in settings])


@dataclass_transform(frozen_default=True, field_specifiers=(static, dataclasses.field))
class Module:
    """The base of all layers: subclasses become frozen dataclasses and nodes of trees."""
    _minigrad_fields: ClassVar[tuple[tuple[str, ...], tuple[str, ...]]] = ((), ())      # parameters and settings

    def __init_subclass__(cls) -> None:
        deprecated.methods(cls, state="init_state")
        guard_class(cls)
        generated = "__init__" not in vars(cls)
        dataclasses.dataclass(frozen=True, eq=False, repr=False)(cls)
        explain_init(cls, generated)
        fields = dataclasses.fields(cls)        # type: ignore[arg-type]      # the line above makes it a dataclass
        names = tuple(f.name for f in fields if not f.metadata.get("static"))
        cls._minigrad_fields = names, tuple(f.name for f in fields if f.metadata.get("static"))

        def join(names: tuple[str, ...], children: list[Any], static: tuple[Any, ...]) -> Module:
            module = object.__new__(cls)                    # without the checks and the cost of a frozen __init__
            vars(module).update(zip(names, children), **dict(zip(cls._minigrad_fields[1], static)))
            return module
        tree.register(cls, _split, join)

    def __call__(self, x: Array) -> Array:
        """Return the value for x: that of `apply` in training, without state and key. To predict, call `predict`."""
        if type(self).apply is Module.apply:
            raise DTypeError(f"{type(self).__name__} has neither __call__ nor apply\n  help: write one of them")
        return self.apply(x)[0]

    def apply(self, x: Array, state: Tree = None, train: bool = True, key: Key | None = None) -> tuple[Array, Tree]:
        """Return the value for x and the next state. state, train, key: see the top of this file."""
        inside = [value for value in vars(self).values() if value is not None and not hasattr(value, "dtype")]
        if inside and _needs_apply(tree.flatten(self)[1]):
            raise DTypeError(f"{type(self).__name__}.apply: a layer inside keeps averages or drops elements: it needs "
                             "state and key\n  help: write apply (and init_state) in place of __call__, as Sequential "
                             "does")
        return self(x), state

    @explains
    def predict(self, x: Any, state: Tree = None, batch_size: int = 500,
                prepare: Callable[[Any], Array] | None = None) -> Array:
        """Return the value for x in evaluation, where the output of an example does not depend on the others.

        Args:
            x: the examples, (n, ...): an array, or a sparse matrix with a `prepare` for it.
            state: the running averages that training returned; None for a model without.
            batch_size: the number of examples evaluated at a time.
            prepare: a function from the examples of a batch to the model's input, such as one that moves them to the
                device or scales them; None: they are the input.

        Raises ShapeError unless batch_size is 1 or more.
        """
        if not is_integer(batch_size) or batch_size < 1:
            raise ShapeError(f"predict: batch_size = {batch_size!r} is not an integer, 1 or more")
        x = x if hasattr(x, "shape") else as_array(x)
        batches = [x[i:i + batch_size] for i in range(0, max(x.shape[0], 1), batch_size)]
        return concatenate([self.apply(prepare(batch) if prepare else batch, state, False)[0] for batch in batches])

    def init_state(self) -> Tree:
        """Return the running averages that this module begins with: None if it has none."""
        return None

    state = deprecated.Method("init_state")

    def __repr__(self) -> str:
        inside = (f"{f.name}={_brief(getattr(self, f.name))}"
                  for f in dataclasses.fields(self))        # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(inside)})"


def _needs_apply(structure: tree.Structure) -> bool:
    """Return whether a module here, in any container or setting, has an `apply` of its own and is not a container."""
    cls = structure.node
    if cls in (tree.LEAF, tree.STATIC):
        return False
    own = issubclass(cls, Module) and cls.apply not in HAND_ON
    return own or any(map(_needs_apply, (*structure.children, tree.flatten(structure.static)[1])))


def _brief(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_brief, value))})"
    if hasattr(value, "shape"):
        return f"{value.dtype}{list(value.shape)}"
    return getattr(value, "__name__", repr(value))


HAND_ON: set[Any] = {Module.apply}      # methods that hand state and key on; nn.py adds those of its containers


def _check_array(call: str, x: Any) -> None:
    """Raise DTypeError where x only looks like an array: it has a shape, and rules of its own."""
    plain = raw(x)
    if type(plain) is numpy.ndarray or not hasattr(x, "shape"):
        return
    if not is_array(plain) and not isinstance(plain, numpy.generic):
        kind = f"{type(x).__name__} of {type(x).__module__.partition('.')[0]}"
        raise DTypeError(message(call, f"x is a {kind}, not an array", [("x", x, "")],
                                 "x.to_numpy() of a table, x.toarray() of a sparse matrix"))


# ------------------------------------------------------------------- layers without state or randomness

class Linear(Module):
    """The layer x W + b: (..., inputs) to (..., outputs). weight: (inputs, outputs); bias: (outputs,) or None."""
    weight: Array
    bias: Array = None

    @classmethod
    @deprecated.keywords(initialise="initialize")
    def init(cls, rng: numpy.random.Generator, inputs: int, outputs: int, bias: bool = True,
             initialize: Initialize = he_normal) -> Self:
        """Return a layer with weights drawn by initialize(rng, shape) and biases 0. rng: see backend.generator.

        inputs, outputs: their numbers; bias: whether there is one. Raises ShapeError, DTypeError.
        """
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
        """Return a layer with a kernel drawn by initialize(rng, shape) and biases 0. rng: see backend.generator.

        Args:
            rng: the generator.
            inputs: number of channels of the images.
            outputs: number of channels of the result.
            kernel_size: of the window: a number, or (rows, columns).
            stride: as in conv2d.
            padding: as in conv2d.
            bias: whether there is one.
            initialize: the function that draws the kernel.

        Raises ShapeError, DTypeError.
        """
        A, B = (kernel_size, kernel_size) if isinstance(kernel_size, (int, numpy.integer)) else kernel_size
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
        """Return a layer as Conv2d.init does, whose arguments it has."""
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
        A, B = (kernel_size, kernel_size) if isinstance(kernel_size, (int, numpy.integer)) else kernel_size
        kernel = xp.ascontiguousarray(initialize(rng, (A, B, inputs, outputs)).swapaxes(2, 3))
        return cls(kernel, zeros(outputs) if bias else None, stride, padding, output_padding)

    def __call__(self, x: Array) -> Array:
        """Return conv_transpose2d(x, kernel) + bias. Raises ShapeError."""
        _check_array("ConvTranspose2d(x)", x)
        y = conv_transpose2d(x, self.kernel, self.stride, self.padding, self.output_padding)
        return _add_bias("ConvTranspose2d(x)", y, self.bias)


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
        x = as_indices(raw(x), raw(self.weight))
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
