"""Layers. A module is a frozen dataclass whose array fields are its parameters: the model *is* the tree.

    class Line(nn.Module):
        slope: Array
        offset: Array
        def __call__(self, x): return self.slope * x + self.offset

    model = Line(np.ones(()), np.zeros(()))
    gradient = grad(lambda model: loss(model(x), y))(model)         # again a Line

Nothing is registered, patched or switched between modes. What else a layer needs is handed in:

    model(x)                                         batch statistics, no dropout: the function that is differentiated
    y, state = model.apply(x, state, train, key)     the same with everything said

state   the running averages of batch normalization (`model.init_state()` at first), passed in and returned as plain
        values, outside every derivative. Training uses the statistics of the batch and moves the averages one step;
        evaluation (train=False) uses the averages.
key     integers, or arrays of them, from which dropout draws its masks in training: the same key, the same masks.

A layer with neither writes `__call__`, a layer with either writes `apply`, and the base class gives the other one.
"""
import dataclasses
import math
from typing import Any, dataclass_transform

import numpy

from . import deprecated, tree
from .backend import as_array, is_array, is_float, module_of, xp
from .boundary import guard, guard_class
from .core import raw
from .errors import DTypeError, ShapeError, message, shape
from .functions import checkpoint, with_derivative
from .initial import he_normal as he_normal
from .initial import normal as normal
from .initial import truncated_normal as truncated_normal
from .initial import uniform_unit_scaling as uniform_unit_scaling
from .initial import zeros as zeros
from .losses import cross_entropy as cross_entropy
from .losses import sigmoid_cross_entropy as sigmoid_cross_entropy
from .ops import astype, conv2d, dropout, matmul, relu, sqrt, standardize, stop_gradient
from .ops.normalize import moments

Array = Any                     # a NumPy or CuPy array, or a traced value; in a gradient or a state, whatever it holds


def static(default=dataclasses.MISSING):
    """A field that is no parameter: a setting, part of the structure of the tree."""
    return dataclasses.field(default=default, metadata={"static": True})


@dataclass_transform(frozen_default=True, field_specifiers=(static, dataclasses.field))
class Module:
    """The base of all layers: subclasses become frozen dataclasses and nodes of trees."""

    def __init_subclass__(cls):
        deprecated.methods(cls, state="init_state")
        guard_class(cls)
        dataclasses.dataclass(frozen=True, eq=False, repr=False)(cls)
        fields = dataclasses.fields(cls)
        names = tuple(f.name for f in fields if not f.metadata.get("static"))
        settings = tuple(f.name for f in fields if f.metadata.get("static"))

        def split(module):
            return names, [getattr(module, n) for n in names], tuple(getattr(module, n) for n in settings)

        def join(names, children, static):
            module = object.__new__(cls)                    # without the checks and the cost of a frozen __init__
            vars(module).update(zip(names, children), **dict(zip(settings, static)))
            return module
        tree.register(cls, split, join)

    def __call__(self, x):
        if type(self).apply is Module.apply:
            raise DTypeError(f"{type(self).__name__} has neither __call__ nor apply\n  help: write one of them")
        return self.apply(x)[0]

    def apply(self, x, state=None, train=True, key=None):
        inside = [value for value in vars(self).values() if value is not None and not hasattr(value, "dtype")]
        if inside and _needs_apply(tree.flatten(self)[1]):
            raise DTypeError(f"{type(self).__name__}.apply: a layer inside keeps averages or drops elements: it needs "
                             "state and key\n  help: write apply (and init_state) in place of __call__, as Sequential "
                             "does")
        return self(x), state

    def init_state(self):
        """The running averages that this module begins with: None if it keeps none."""
        return

    state = deprecated.Method("init_state")

    def __repr__(self):
        inside = (f"{f.name}={_brief(getattr(self, f.name))}" for f in dataclasses.fields(self))
        return f"{type(self).__name__}({', '.join(inside)})"


def _needs_apply(structure):
    """Whether there is a module here, in any container or setting, with an `apply` that does more than pass on."""
    cls = structure.node
    if cls in (tree.LEAF, tree.STATIC):
        return False
    own = issubclass(cls, Module) and cls.apply not in (Module.apply, Sequential.apply, Checkpoint.apply)
    return own or any(map(_needs_apply, (*structure.children, tree.flatten(structure.static)[1])))


def _brief(value):
    if isinstance(value, tuple):
        return f"({', '.join(map(_brief, value))})"
    if hasattr(value, "shape"):
        return f"{value.dtype}{list(value.shape)}"
    return getattr(value, "__name__", repr(value))


# ---------------------------------------------------------------------------------------------------- layers

class Linear(Module):
    """x W + b: (..., inputs) to (..., outputs). weight: (inputs, outputs); bias: (outputs,) or None."""
    weight: Array
    bias: Array = None

    @classmethod
    @deprecated.keywords(initialise="initialize")
    def init(cls, rng, inputs, outputs, bias=True, initialize=he_normal):
        """A layer with weights drawn by initialize(rng, shape) and biases 0. rng: see backend.generator."""
        return cls(initialize(rng, (inputs, outputs)), zeros(outputs) if bias else None)

    def __call__(self, x):
        _check_array("Linear(x)", x)
        if shape(x)[-1:] != shape(self.weight)[:1]:
            rows = [("x", x, "inputs: last axis"), ("weight", self.weight, "inputs: axis 0")]
            raise ShapeError(message("Linear(x)", "the number of inputs differs", rows,
                                     f"x needs shape (..., {shape(self.weight)[0]}); x.reshape(n, -1) flattens images"))
        return _biased("Linear(x)", matmul(x, self.weight), self.bias)


def _check_array(call, x):
    """Raise where x only looks like an array: it has a shape, and rules of its own."""
    plain = raw(x)
    if type(plain) is not numpy.ndarray and hasattr(x, "shape") and not is_array(plain) and not isinstance(
            plain, numpy.generic):
        kind = f"{type(x).__name__} of {type(x).__module__.partition('.')[0]}"
        raise DTypeError(message(call, f"x is a {kind}, and no array", [("x", x, "")],
                                 "x.to_numpy() of a table, x.toarray() of a sparse matrix"))


def _biased(call, y, bias):
    """y + bias, the bias having one element for each channel of y."""
    if bias is None:
        return y
    if shape(bias) != shape(y)[-1:]:
        raise ShapeError(message(call, "one bias for each output is needed", [("y", y, "outputs: last axis"),
                                                                              ("bias", bias, "")]))
    return y + bias


class Conv2d(Module):
    """conv2d(x, kernel) + bias: (n, h, w, inputs) to (n, rows, columns, outputs).

    kernel: (A, B, inputs, outputs); bias: (outputs,) or None; stride and padding as in conv2d.
    """
    kernel: Array
    bias: Array = None
    stride: Any = static(1)
    padding: Any = static(0)

    @classmethod
    @deprecated.keywords(window="kernel_size", initialise="initialize")
    def init(cls, rng, inputs, outputs, kernel_size=3, stride=1, padding=0, bias=True, initialize=he_normal):
        """A layer with a kernel drawn by initialize(rng, shape) and biases 0. rng: see backend.generator."""
        A, B = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
        return cls(initialize(rng, (A, B, inputs, outputs)), zeros(outputs) if bias else None, stride, padding)

    def __call__(self, x):
        _check_array("Conv2d(x)", x)
        return _biased("Conv2d(x)", conv2d(x, self.kernel, self.stride, self.padding), self.bias)


class BatchNorm(Module):
    """standardize(x) * gain + bias over all axes but the last.

    gain: (channels,), or None for 1; bias: (channels,).

    state: {"mean", "var"}, moved by average <- momentum * average + (1 - momentum) * batch statistic (the variance
    without Bessel's correction) once for every call of apply in training; it keeps its type. Ioffe & Szegedy, 2015.
    Raises ShapeError in training if there is but one value of each channel.
    """
    gain: Array
    bias: Array
    momentum: float = static(0.9)
    eps: float = static(1e-5)

    @classmethod
    @deprecated.flags(rectify=(lambda layer: Sequential((layer, relu)), "Sequential((layer, relu))"))
    def init(cls, channels, gain=True, momentum=0.9, eps=1e-5):
        """A layer with gain 1 (or none) and bias 0."""
        return cls(xp.ones(channels, "float32") if gain else None, zeros(channels), momentum, eps)

    def init_state(self):
        """Averages of a standard normal: mean 0, variance 1, in float32 at least."""
        bias = raw(self.bias)
        xp, wide = module_of(bias), numpy.result_type(bias.dtype, numpy.float32)
        return {"mean": xp.zeros_like(bias, wide), "var": xp.ones_like(bias, wide)}

    def apply(self, x, state=None, train=True, key=None, then_relu=False):
        _check_array("BatchNorm(x)", x)
        x = x if hasattr(x, "dtype") else as_array(x)
        if shape(x)[-1:] != shape(self.bias):
            raise ShapeError(message("BatchNorm(x)", "channels differ", [("x", x, "channels: last axis"),
                                                                         ("bias", self.bias, "")]))
        if train:
            if math.prod(shape(x)[:-1]) == 1:
                raise ShapeError(message("BatchNorm(x)", "each channel has one value, which is its own mean: every "
                                         "example would give the same", [("x", x, "")],
                                         "y, _ = model.apply(x, state, train=False) goes by the averages of training"))
            statistics = moments(stop_gradient(x))
            y = _normalize_batch(x, self.gain, self.bias, self.eps, then_relu, statistics)
            return y, state and (self._move(state, *statistics) if math.prod(shape(x)) else state)
        if state is None:
            raise DTypeError("BatchNorm.apply(x, train=False): evaluation needs the running averages\n"
                             "  help: pass the state that training returned")
        y = astype((x - state["mean"]) / sqrt(state["var"] + self.eps), x.dtype)
        y = (y if self.gain is None else y * self.gain) + self.bias
        return relu(y) if then_relu else y, state

    def _move(self, state, mean, var):
        def move(old, now):
            return astype(self.momentum * old + (1.0 - self.momentum) * now, old.dtype)     # whatever the type of x
        return {"mean": move(state["mean"], mean), "var": move(state["var"], var)}


@deprecated.flags(rectify=(relu, "relu(batch_norm(x, gain, bias))"))
def batch_norm(x, gain, bias, eps=1e-5):
    """standardize(x, all axes but the last) * gain + bias.

    gain: (channels,) or None for 1; bias: (channels,). Ioffe & Szegedy, 2015, Algorithm 1. Raises ShapeError,
    DTypeError.
    """
    return _normalize_batch(x, gain, bias, eps)


def _normalize_batch(x, gain, bias, eps, then_relu=False, statistics=None):
    """batch_norm, and relu of it where that is wanted. statistics: moments(x), where they are known already."""
    x, gain, bias = (v if v is None or hasattr(v, "dtype") else as_array(v) for v in (x, gain, bias))
    rows = [("x", x, ""), *([] if gain is None else [("gain", gain, "")]), ("bias", bias, "")]
    if not all(is_float(v) for _, v, _ in rows):
        raise DTypeError(message("batch_norm(x, gain, bias)", "only floating-point arrays are normalized", rows,
                                 "x.astype(float)"))
    if len(shape(x)) < 2 or any(shape(v) != shape(x)[-1:] for _, v, _ in rows[1:]):
        raise ShapeError(message("batch_norm(x, gain, bias)", "shapes differ", rows,
                                 "x has shape (..., channels), gain and bias (channels,)"))
    if raw(x).dtype == "float16":                           # sums over a batch go beyond 65,504, its end
        dtype = numpy.result_type(*(raw(a).dtype for a in (x, gain, bias) if a is not None))
        x, gain, bias = (a if a is None else astype(a, numpy.result_type(dtype, "float32")) for a in (x, gain, bias))
        return astype(_normalize_batch(x, gain, bias, eps, then_relu), dtype)
    return _batch_norm(x, gain, bias, eps=eps, then_relu=then_relu, statistics=statistics)


@with_derivative
def _batch_norm(x, gain, bias, eps, then_relu, statistics):
    """The definition. `statistics` spares the row of the table a walk over x: here they are computed anew."""
    y = standardize(x, tuple(range(len(shape(x)) - 1)), eps)
    y = (y if gain is None else y * gain) + bias
    return relu(y) if then_relu else y


class Dropout(Module):
    """dropout(x, rate) in training with a key; x itself in evaluation, and in model(x)."""
    rate: float = static(0.5)

    def apply(self, x, state=None, train=True, key=None):
        return dropout(x, self.rate, key) if train and key is not None else x, state


class Sequential(Module):
    """Layers (modules or plain functions) one after the other; each has its own part of the state and of the key."""
    layers: tuple

    def __post_init__(self):
        if not isinstance(self.layers, (tuple, list)):
            raise DTypeError(f"Sequential(layers): the layers are a {type(self.layers).__name__}, not a tuple\n"
                             "  help: Sequential((first, second))")
        for i, layer in enumerate(self.layers):
            if not callable(layer) or isinstance(layer, type):
                raise DTypeError(f"Sequential(layers): layer {i} is a {type(layer).__name__}, neither a module nor a "
                                 "function\n  help: Sequential(layer) of several layers is one layer")

    def init_state(self):
        """A tuple with the state of each layer."""
        return tuple(layer.init_state() if isinstance(layer, Module) else None for layer in self.layers)

    def apply(self, x, state=None, train=True, key=None):
        states = list(state) if state is not None else [None] * len(self.layers)
        for i, layer in enumerate(self.layers):
            follower = self.layers[i + 1] if i + 1 < len(self.layers) else None
            if isinstance(layer, BatchNorm) and follower is relu:   # as one operation: the table has a row for both
                x, states[i] = layer.apply(x, states[i], train, then_relu=True)
            elif layer is relu and i and isinstance(self.layers[i - 1], BatchNorm):
                continue                                    # it came with the layer before
            elif isinstance(layer, Module):
                x, states[i] = layer.apply(x, states[i], train, fold_in(key, i + 1))
            else:
                x = layer(x)
        return x, tuple(states) if state is not None else None


class Checkpoint(Module):
    """A layer whose inside is forgotten and run again when a derivative needs it: see functions.checkpoint."""
    layer: Module

    def __post_init__(self):
        if not isinstance(self.layer, Module):
            raise DTypeError(f"Checkpoint(layer): the layer is a {type(self.layer).__name__}, not a module\n"
                             "  help: minigrad.checkpoint(f) for a function, Checkpoint(Sequential(layers)) of several")

    def init_state(self):
        """That of the layer."""
        return self.layer.init_state()

    def apply(self, x, state=None, train=True, key=None):
        y, moved = checkpoint(lambda layer, x: layer.apply(x, state, train, key))(self.layer, x)
        return y, stop_gradient(moved)


def fold_in(key, *parts):
    """The key of a part: that of the whole (integers, or arrays of them) and more at its end. No key has no parts."""
    return None if key is None else (*(key if isinstance(key, tuple) else (key,)), *parts)


guard(__name__)
deprecated.names(__name__, subkey="fold_in")
