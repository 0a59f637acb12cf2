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

To tie weights, put one parameter into both places inside the differentiated function, as in
`dataclasses.replace(model, head=nn.Linear(model.embedding.weight.T))`: its gradient is the sum. The same array in two
places of a tree is two parameters, with a gradient for each.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Self

import numpy

from . import deprecated
from .backend import as_array, is_float, module_of, xp
from .boundary import guard
from .box import raw
from .communicators import several
from .errors import DTypeError, ShapeError, message, shape
from .functions import checkpoint
from .initial import he_normal, normal, truncated_normal, uniform_unit_scaling, zeros
from .layers import (
    HAND_ON,
    Conv1d,
    Conv2d,
    ConvTranspose2d,
    Embedding,
    GroupNorm,
    LayerNorm,
    Linear,
    Module,
    _check_array,
    static,
)
from .losses import cross_entropy, sigmoid_cross_entropy, squared_error
from .normalization import _move_averages, _normalize_batch, batch_norm, group_norm, layer_norm
from .ops import astype, dropout, relu, sqrt, stop_gradient
from .ops.normalize import statistics_of
from .typing import Array, Key, Tree

__all__ = ["Array", "BatchNorm", "Checkpoint", "Conv1d", "Conv2d", "ConvTranspose2d", "Dropout", "Embedding",
           "GroupNorm", "LayerNorm", "Linear", "Module", "Sequential", "batch_norm", "cross_entropy", "fold_in",
           "group_norm", "he_normal", "layer_norm", "normal", "sigmoid_cross_entropy", "squared_error", "static",
           "truncated_normal", "uniform_unit_scaling", "zeros"]


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
        if not is_float(x):
            raise DTypeError(message("BatchNorm(x)", "only floating-point arrays are normalized", [("x", x, "")],
                                     "x.astype(float)"))
        if state is not None and (not isinstance(state, dict) or set(state) != {"mean", "var"}):
            raise ShapeError("BatchNorm.apply(x, state): the state is not a dict of mean and var\n"
                             "  help: begin with model.init_state(), and pass what apply returned")
        if state is not None and {*map(shape, state.values())} != {shape(self.bias)}:
            raise ShapeError(message("BatchNorm.apply(x, state)", "the averages are of other channels", [
                ("mean", state["mean"], ""), ("var", state["var"], ""), ("bias", self.bias, "")],
                "begin with model.init_state(), and pass what apply returned"))
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
        if len(states) != len(self.layers):
            raise ShapeError(f"Sequential.apply(x, state): a state of {len(states)} layers, and the model has "
                             f"{len(self.layers)}\n  help: begin with model.init_state(), and pass what apply returned")
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


HAND_ON.update((Sequential.apply, Checkpoint.apply))


def fold_in(key: Key | None, *parts: Any) -> Any:
    """Return the key of a part: the integers of the whole's key, then `parts`. Of no key, None, the parts have none."""
    return None if key is None else (*(key if isinstance(key, (tuple, list)) else (key,)), *parts)


guard(__name__)
deprecated.names(__name__, subkey="fold_in")
