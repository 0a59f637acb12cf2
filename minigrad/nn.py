"""Layers. A module is a frozen dataclass whose array fields are its parameters: the model *is* the tree.

    class Line(nn.Module):
        slope: Array
        offset: Array
        def __call__(self, x): return self.slope * x + self.offset

    model = Line(np.ones(()), np.zeros(()))
    gradient = grad(lambda model: loss(model(x), y))(model)         # again a Line

Nothing is registered, patched or switched between modes. Whatever else a layer needs is an argument:

    model(x)                                         batch statistics, no dropout: the function that is differentiated
    y, state = model.apply(x, state, train, key)     the same with everything said
    y = model.predict(x, state)                      in evaluation: running averages, no dropout

state   the running averages of batch normalization (`model.init_state()` at first), passed and returned as plain
        values, outside every derivative. Training uses the statistics of the batch and moves the averages one step;
        evaluation (train=False) uses the averages.
key     integers, or arrays of them, from which dropout draws its masks in training: the same key, the same masks.

Layers without state or randomness implement `__call__`; the others implement `apply`. The base class derives the other
method.
"""
from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Self, dataclass_transform

import numpy

from . import deprecated, tree
from .backend import as_array, is_array, module_of, xp
from .boundary import explains, guard, guard_class
from .box import raw
from .communicators import several
from .errors import DTypeError, ShapeError, message, shape
from .functions import checkpoint
from .initial import he_normal, normal, truncated_normal, uniform_unit_scaling, zeros
from .losses import cross_entropy, sigmoid_cross_entropy, squared_error
from .normalization import _move_averages, _normalize_batch, batch_norm
from .ops import astype, concatenate, conv2d, dropout, matmul, relu, sqrt, stop_gradient
from .ops.normalize import statistics_of
from .ops.windows import Padding, Pair
from .typing import Array, Key, Shape, Tree

__all__ = ["Array", "BatchNorm", "Checkpoint", "Conv2d", "Dropout", "Linear", "Module", "Sequential", "batch_norm",
           "cross_entropy", "fold_in", "he_normal", "normal", "sigmoid_cross_entropy", "squared_error", "static",
           "truncated_normal", "uniform_unit_scaling", "zeros"]

Initialize = Callable[[numpy.random.Generator, Shape], Array]


def static(default: Any = dataclasses.MISSING) -> Any:
    """Return a field that is not a parameter but a setting, part of the structure of the tree.

    Write nn.static(default=1): a type checker sees no default that is passed by position.
    """
    return dataclasses.field(default=default, metadata={"static": True})


@dataclass_transform(frozen_default=True, field_specifiers=(static, dataclasses.field))
class Module:
    """The base of all layers: subclasses become frozen dataclasses and nodes of trees."""

    def __init_subclass__(cls) -> None:
        deprecated.methods(cls, state="init_state")
        guard_class(cls)
        dataclasses.dataclass(frozen=True, eq=False, repr=False)(cls)
        fields = dataclasses.fields(cls)        # type: ignore[arg-type]      # the line above makes it a dataclass
        names = tuple(f.name for f in fields if not f.metadata.get("static"))
        settings = tuple(f.name for f in fields if f.metadata.get("static"))

        def split(module: Module) -> tuple[tuple[str, ...], list[Any], tuple[Any, ...]]:
            return names, [getattr(module, n) for n in names], tuple(getattr(module, n) for n in settings)

        def join(names: tuple[str, ...], children: list[Any], static: tuple[Any, ...]) -> Module:
            module = object.__new__(cls)                    # without the checks and the cost of a frozen __init__
            vars(module).update(zip(names, children), **dict(zip(settings, static)))
            return module
        tree.register(cls, split, join)

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
        """
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
    own = issubclass(cls, Module) and cls.apply not in (Module.apply, Sequential.apply, Checkpoint.apply)
    return own or any(map(_needs_apply, (*structure.children, tree.flatten(structure.static)[1])))


def _brief(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_brief, value))})"
    if hasattr(value, "shape"):
        return f"{value.dtype}{list(value.shape)}"
    return getattr(value, "__name__", repr(value))


# ---------------------------------------------------------------------------------------------------- layers

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


def _check_array(call: str, x: Any) -> None:
    """Raise DTypeError where x only looks like an array: it has a shape, and rules of its own."""
    plain = raw(x)
    if type(plain) is numpy.ndarray or not hasattr(x, "shape"):
        return
    if not is_array(plain) and not isinstance(plain, numpy.generic):
        kind = f"{type(x).__name__} of {type(x).__module__.partition('.')[0]}"
        raise DTypeError(message(call, f"x is a {kind}, not an array", [("x", x, "")],
                                 "x.to_numpy() of a table, x.toarray() of a sparse matrix"))


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


class BatchNorm(Module):
    """The layer standardize(x) * gain + bias over all axes but the last.

    gain: (channels,), or None for 1; bias: (channels,).

    state: {"mean", "var"}, each moved by average <- momentum * average + (1 - momentum) * batch statistic (the variance
    without Bessel's correction) once in every call of apply in training; it keeps its type. Ioffe & Szegedy, 2015.
    Raises ShapeError in training where each channel has only one value.

    comm: the communicator of ranks that train on parts of one batch (distributed.py): the statistics are then those of
    the whole batch, and the averages the same on all ranks. None: each rank has statistics of its own.
    """
    gain: Array
    bias: Array
    momentum: float = static(default=0.9)
    eps: float = static(default=1e-5)
    comm: Any = static(default=None)

    @classmethod
    @deprecated.flags(rectify=(lambda layer: Sequential((layer, relu)), "Sequential((layer, relu))"))
    def init(cls, channels: int, gain: bool = True, momentum: float = 0.9, eps: float = 1e-5,
             comm: Any = None) -> Self:
        """Return a layer with gain 1 (or none) and bias 0."""
        return cls(xp.ones(channels, "float32") if gain else None, zeros(channels), momentum, eps, comm)

    def init_state(self) -> Tree:
        """Return the averages of a standard normal: mean 0, variance 1, in float32 at least."""
        bias = raw(self.bias)
        xp, wide = module_of(bias), numpy.result_type(bias.dtype, numpy.float32)
        return {"mean": xp.zeros_like(bias, wide), "var": xp.ones_like(bias, wide)}

    def apply(self, x: Array, state: Tree = None, train: bool = True, key: Key | None = None,
              then_relu: bool = False) -> tuple[Array, Tree]:
        """Return the value for x, or relu of it if `then_relu`, and the averages."""
        _check_array("BatchNorm(x)", x)
        x = x if hasattr(x, "dtype") else as_array(x)
        if shape(x)[-1:] != shape(self.bias):
            raise ShapeError(message("BatchNorm(x)", "channels differ", [("x", x, "channels: last axis"),
                                                                         ("bias", self.bias, "")]))
        if not train:
            y = self._evaluate(x, state)
            return relu(y) if then_relu else y, state
        comm, count = several(self.comm), math.prod(shape(x)[:-1])
        if count == 1 and comm is None:
            raise ShapeError(message("BatchNorm(x)", "each channel has one value, which is its own mean: all "
                                     "examples would have the same output", [("x", x, "")],
                                     "model.predict(x, state) uses the running averages of training"))
        statistics = statistics_of(stop_gradient(x), comm)
        y = _normalize_batch(x, self.gain, self.bias, self.eps, then_relu, statistics, comm)
        return y, self._move(state, *statistics[:2]) if state and (comm or math.prod(shape(x))) else state

    def _evaluate(self, x: Array, state: Tree) -> Array:
        if state is None:
            raise DTypeError("BatchNorm.apply(x, train=False): evaluation needs the running averages\n"
                             "  help: pass the state that training returned")
        y = astype((x - state["mean"]) / sqrt(state["var"] + self.eps), x.dtype)
        return (y if self.gain is None else y * self.gain) + self.bias

    def _move(self, state: Tree, mean: Array, var: Array) -> Tree:
        """Return the averages, moved one step towards the statistics of a batch."""
        mean, var = _move_averages(self.momentum, state["mean"], state["var"], mean, var)
        return {"mean": mean, "var": var}


class Dropout(Module):
    """The layer dropout(x, rate) in training with a key; x itself in evaluation, and in model(x)."""
    rate: float = static(default=0.5)

    def apply(self, x: Array, state: Tree = None, train: bool = True, key: Key | None = None) -> tuple[Array, Tree]:
        """Return dropout(x, rate, key), or x, and the state as it is."""
        return dropout(x, self.rate, key) if train and key is not None else x, state


class Sequential(Module):
    """Layers (modules or plain functions) one after the other; each has its own part of the state and of the key."""
    layers: tuple[Callable[..., Any], ...]

    def __post_init__(self) -> None:
        """Raise DTypeError unless the layers are a tuple of modules and functions."""
        if not isinstance(self.layers, (tuple, list)):
            raise DTypeError(f"Sequential(layers): the layers are a {type(self.layers).__name__}, not a tuple\n"
                             "  help: Sequential((first, second))")
        for i, layer in enumerate(self.layers):
            if not callable(layer) or isinstance(layer, type):
                raise DTypeError(f"Sequential(layers): layer {i} is a {type(layer).__name__}, neither a module nor a "
                                 "function\n  help: Sequential(layer) of several layers is one layer")

    def init_state(self) -> Tree:
        """Return a tuple with the state of each layer."""
        return tuple(layer.init_state() if isinstance(layer, Module) else None for layer in self.layers)

    def apply(self, x: Array, state: Tree = None, train: bool = True, key: Key | None = None) -> tuple[Array, Tree]:
        """Return the value of the last layer, and a tuple with the next state of each."""
        states = list(state) if state is not None else [None] * len(self.layers)
        layers = enumerate(self.layers)
        for i, layer in layers:
            if type(layer) is BatchNorm and relu in self.layers[i + 1:i + 2]:
                x, states[i] = layer.apply(x, states[i], train, then_relu=True)     # one row of the table for both
                next(layers)
            elif isinstance(layer, Module):
                x, states[i] = layer.apply(x, states[i], train, fold_in(key, i + 1))
            else:
                x = layer(x)
        return x, tuple(states) if state is not None else None


class Checkpoint(Module):
    """A layer without stored intermediates: a derivative recomputes them. See functions.checkpoint."""
    layer: Module

    def __post_init__(self) -> None:
        """Raise DTypeError unless the layer is a module."""
        if not isinstance(self.layer, Module):
            raise DTypeError(f"Checkpoint(layer): the layer is a {type(self.layer).__name__}, not a module\n"
                             "  help: minigrad.checkpoint(f) for a function, Checkpoint(Sequential(layers)) of several")

    def init_state(self) -> Tree:
        """Return the state of the layer."""
        return self.layer.init_state()

    def apply(self, x: Array, state: Tree = None, train: bool = True, key: Key | None = None) -> tuple[Array, Tree]:
        """Return what the layer returns."""
        y, next_state = checkpoint(lambda layer, x: layer.apply(x, state, train, key))(self.layer, x)
        return y, stop_gradient(next_state)


def fold_in(key: Key | None, *parts: Any) -> Any:
    """Return the key of a part: the integers of the whole's key, then `parts`. Of no key, None, the parts have none."""
    return None if key is None else (*(key if isinstance(key, tuple) else (key,)), *parts)


guard(__name__)
deprecated.names(__name__, subkey="fold_in")
