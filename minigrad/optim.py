"""Optimizers: pairs of pure functions, as in Optax. A state is a tree; nothing is changed in place.

    optimizer, rate = adam(), cosine(1e-3, steps=1000)
    state = optimizer.init(params)
    for step in range(1000):
        params, state = optimizer.update(gradient(params), state, params, rate(step))

The rate is an argument of every update, so that a schedule, a function step -> rate, belongs to the loop; in a captured
step it is an array of the device. The state counts the steps where the formula needs them: for Adam's correction of
bias. Clip a gradient before you pass it:

    params, state = optimizer.update(clip_by_global_norm(gradient, 1.0), state, params, rate)

Parameters keep their type, whatever the type of a hyper-parameter. The state is kept in float32 at least: in float16
the squares of small gradients, and Adam's eps, would be 0. Being pure and written with primitives, an update can itself
be differentiated (example_weights_unrolled does), also with respect to its rate and its hyper-parameters.
"""
from __future__ import annotations

import functools
import itertools
import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar, cast

import numpy

from . import deprecated, tree
from .backend import as_array, is_readable, module_of
from .boundary import explains, guard
from .box import Box, raw
from .core import replaceable
from .errors import DTypeError, MinigradError, ShapeError, message, shape
from .ops import add, astype, maximum, multiply, sqrt, square, sum, where
from .schedules import cosine as cosine
from .schedules import piecewise as piecewise
from .schedules import takes_rate
from .typing import Array, Rate, Tree

F = TypeVar("F", bound=Callable[..., Any])


class Update(Protocol):
    """One step: update(gradient, state, params, rate) -> (params, state).

    The rate is a float, a 0-d array (in a captured step one of the device), or a traced value, to be differentiated.
    """

    def __call__(self, gradient: Tree, state: Tree, params: Tree, rate: Rate) -> tuple[Tree, Tree]:
        """Return the parameters and the state after the step."""


class Optimizer(NamedTuple):
    """A pair of pure functions: init(params) -> state, and update, see Update."""
    init: Callable[[Tree], Tree]
    update: Update


def _number(call: str, name: str, value: Any) -> Any:
    """Return a hyper-parameter as a Python float, which adapts to the type of the array that it meets.

    A NumPy float would turn float32 into float64. A traced value stays as it is, to be differentiated, and so does an
    array of a device, which to read would mean to wait for it. Raises DTypeError for anything but a real number.
    """
    if type(value) is Box or not is_readable(value):
        return value
    if isinstance(value, numpy.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise DTypeError(message(call, f"{name} is no real number", [(name, value, "")],
                                 "rate=schedule(step)" if callable(value) else f"{name}=0.1, for example"))
    return float(value)


def _is_zero(number: Any) -> bool:
    return type(number) is float and number == 0.0


def _like(number: Any, x: Array) -> Any:
    return number if type(number) is float else astype(number, x.dtype)


def _axpy(a: Any, x: Array, y: Array) -> Array:
    """Return a x + y."""
    return add(multiply(_like(a, x), x), y)


def _wide(x: Array) -> Any:
    """Return the type in which to keep the state of x: its own, but float32 at least."""
    return numpy.result_type(getattr(x, "dtype", numpy.float64), numpy.float32)


def _zeros_like(params: Tree) -> Tree:
    return tree.map(lambda p: module_of(raw(p)).zeros(shape(p), _wide(p)), params)


def _leaves(call: str, gradient: Tree, state: Tree, params: Tree, names: list[str]) -> tuple[Any, list[list[Array]]]:
    """Return the structure of the parameters, and the leaves of parameters, gradient and these parts of the state.

    Raises ShapeError where they do not belong together, DTypeError for parameters that are not floating-point.
    """
    if not isinstance(state, dict) or not set(names) <= set(state):
        found = sorted(map(str, state)) if isinstance(state, dict) else type(state).__name__
        raise ShapeError(f"{call}: the state is not one of this optimizer: it holds {found}, and not {sorted(names)}\n"
                         "  help: begin with optimizer.init(params), then pass the state that update returned")
    leaves, structure = tree.float_leaves((params,), call)
    columns = [leaves]
    for name, part in (("gradient", gradient), *((name, state[name]) for name in names if name != "count")):
        column = [x if hasattr(x, "dtype") else as_array(x) for x in tree.leaves_like(structure, (part,), call)]
        for k, (p, x) in enumerate(zip(leaves, column, strict=True)):
            if p.shape != x.shape:
                rows = [("params", p, ""), (name, x, "")]
                raise ShapeError(message(call, f"shapes differ at {tree.paths((params,))[k]}", rows))
            if x.dtype.kind == "c":
                raise DTypeError(message(call, f"complex numbers at {tree.paths((params,))[k]}", [(name, x, "")],
                                         "the gradient of a real loss is real; x.real if that is meant"))
        columns.append(column)
    return structure, columns


def has_matrix_shape(p: Array) -> bool:
    """Return whether a leaf has two axes or more, as kernels and matrices have, but not biases and gains."""
    return len(shape(p)) > 1


@takes_rate("momentum", "nesterov", "weight_decay", "decays")
def sgd(*, momentum: Rate = 0.0, nesterov: bool = False, weight_decay: Rate = 0.0,
        decays: Callable[[Array], bool] = has_matrix_shape) -> Optimizer:
    """Return stochastic gradient descent with momentum: g <- g + decay p;  m <- momentum m + g;  p <- p - rate m.

    With nesterov, p <- p - rate (g + momentum m). This is the form of PyTorch and TensorFlow. Sutskever et al., 2013.

    Args:
        momentum: 0 keeps no momentum in the state, which is then {}; otherwise it is {"momentum": float32 at least}.
        nesterov: whether to look ahead along the momentum, which then must not be 0.
        weight_decay: adds its gradient, that of decay / 2 |p|^2, to the gradient of each leaf p with decays(p).
        decays: which leaves decay: leaf -> bool.

    Raises DTypeError for a hyper-parameter that is no number; update raises ShapeError where gradient and parameters
    differ.
    """
    momentum, weight_decay = _number("sgd", "momentum", momentum), _number("sgd", "weight_decay", weight_decay)
    keeps = not _is_zero(momentum)
    if nesterov and not keeps:
        raise DTypeError("sgd: nesterov without momentum\n  help: give a momentum, such as 0.9")

    def init(params: Tree) -> Tree:
        return {"momentum": _zeros_like(params)} if keeps else {}

    def update(gradient: Tree, state: Tree, params: Tree, rate: Rate) -> tuple[Tree, Tree]:
        rate = _number("sgd.update", "rate", rate)
        structure, columns = _leaves("sgd.update", gradient, state, params, ["momentum"] * keeps)
        decaying = tuple([bool(decays(p)) for p in columns[0]])
        new = _sgd_steps(rate, momentum, weight_decay, nesterov, decaying, *itertools.chain(*columns))
        params, *moved = (tree.unflatten(structure, column)[0] for column in _columns(new, 1 + keeps))
        return params, {"momentum": moved[0]} if keeps else {}
    return Optimizer(explains(init), cast(Update, explains(update)))


def _columns(leaves: Sequence[Array], count: int) -> list[Sequence[Array]]:
    """Return `count` parts of equal length, one after the other."""
    n = len(leaves) // count
    return [leaves[k * n:(k + 1) * n] for k in range(count)]


@replaceable
def _sgd_steps(rate: Any, momentum: Any, decay: Any, nesterov: bool, decays: tuple[bool, ...],
               *leaves: Array) -> tuple[Array, ...]:
    """Return the parameters of all leaves after the step, then the momenta if there are any.

    decays: which leaves decay; leaves: all parameters, then all gradients, then all momenta if they are kept.
    """
    rows = [_sgd_step(p, g, m[0] if m else None, rate, momentum, decay if decaying else 0.0, nesterov)[:1 + len(m)]
            for decaying, p, g, *m in zip(decays, *_columns(leaves, 2 if _is_zero(momentum) else 3))]
    return tuple([x for column in zip(*rows) for x in column])


@replaceable
def _sgd_step(p: Array, g: Array, m: Array, rate: Any, momentum: Any, decay: Any,
              nesterov: bool) -> tuple[Array, Array]:
    """Return the parameters and the momentum of one leaf after the step. m: its momentum, None if none is kept."""
    wide, dtype = _wide(p) if m is None else m.dtype, p.dtype
    if dtype != wide or g.dtype != wide:
        p, g = astype(p, wide), astype(g, wide)
    g = g if _is_zero(decay) else _axpy(decay, p, g)
    m = g if m is None else _axpy(momentum, m, g)
    return astype(_axpy(-rate, _axpy(momentum, m, g) if nesterov else m, p), dtype), m


@takes_rate("beta1", "beta2", "eps", "weight_decay", "decays")
def adam(*, beta1: Rate = 0.9, beta2: Rate = 0.999, eps: Rate = 1e-8, weight_decay: Rate = 0.0,
         decays: Callable[[Array], bool] = has_matrix_shape, eps_root: Rate = 0.0) -> Optimizer:
    """Return Adam: m, v are averages of g and g^2, corrected for their bias to 0;  p <- p - rate m / (sqrt(v) + eps).

    Kingma & Ba, 2015, Algorithm 1; Loshchilov & Hutter, 2019. Where v is 0 the derivative of its root counts as 0: the
    first step from rest, m / (|g| + eps), has the derivative 1 / eps at g = 0. eps_root removes that kink.

    State: {"mean", "square": float32 at least, "count": steps taken}.

    Args:
        beta1: by which the average of g decays in a step, in [0, 1).
        beta2: by which the average of g^2 decays in a step, in [0, 1).
        eps: added to the root.
        weight_decay: subtracts rate decay p from each leaf p with decays(p), apart from the averages (AdamW).
        decays: which leaves decay: leaf -> bool.
        eps_root: added to v below the root, as in Optax.

    Raises DTypeError for a hyper-parameter that is no number and MinigradError for a beta outside [0, 1); update raises
    ShapeError where gradient and parameters differ.
    """
    b1, b2, tiny, below, decay = (_number("adam", name, value) for name, value in (
        ("beta1", beta1), ("beta2", beta2), ("eps", eps), ("eps_root", eps_root), ("weight_decay", weight_decay)))
    tiny = tiny if _is_zero(below) else (tiny, below)       # for which there is no faster form
    for name, beta in (("beta1", b1), ("beta2", b2)):
        if type(beta) is float and not 0.0 <= beta < 1.0:
            raise MinigradError(f"adam: {name} = {beta} lies outside [0, 1)\n  help: beta1=0.9, beta2=0.999")

    def init(params: Tree) -> Tree:
        # The count is an array beside the parameters, so that a captured step counts too.
        count = module_of(*map(raw, tree.flatten(params)[0])).zeros((), "int64")
        return {"mean": _zeros_like(params), "square": _zeros_like(params), "count": count}

    def update(gradient: Tree, state: Tree, params: Tree, rate: Rate) -> tuple[Tree, Tree]:
        rate = _number("adam.update", "rate", rate)
        structure, columns = _leaves("adam.update", gradient, state, params, ["mean", "square", "count"])
        count = raw(state["count"])
        count = module_of(count).asarray(count + 1, "int64")
        fair1, fair2 = (_number("adam.update", "beta", 1.0 - beta ** count) for beta in (b1, b2))
        decaying = tuple([bool(decays(p)) for p in columns[0]])
        new = _adam_steps(rate, b1, b2, fair1, fair2, tiny, decay, decaying, *itertools.chain(*columns))
        params, mean, square = (tree.unflatten(structure, column)[0] for column in _columns(new, 3))
        return params, {"mean": mean, "square": square, "count": count}
    return Optimizer(explains(init), cast(Update, explains(update)))


@replaceable
def _adam_steps(rate: Any, b1: Any, b2: Any, fair1: Any, fair2: Any, eps: Any, decay: Any, decays: tuple[bool, ...],
                *leaves: Array) -> tuple[Array, ...]:
    """Return the parameters of all leaves after the step, then the averages of g, then those of g^2.

    decays: which leaves decay; leaves: all parameters, then all gradients, then the averages.
    """
    rows = [_adam_step(p, g, m, v, rate, b1, b2, fair1, fair2, eps, decay if decaying else 0.0)
            for decaying, p, g, m, v in zip(decays, *_columns(leaves, 4))]
    return tuple([x for column in zip(*rows) for x in column])


@replaceable
def _adam_step(p: Array, g: Array, m: Array, v: Array, rate: Any, b1: Any, b2: Any, fair1: Any, fair2: Any, eps: Any,
               decay: Any) -> tuple[Array, Array, Array]:
    """Return the parameters and the averages of one leaf after the step. fair1, fair2: 1 - b1^t, 1 - b2^t.

    eps: a number, or the pair (eps, eps_root).
    """
    eps, eps_root = eps if type(eps) is tuple else (eps, 0.0)
    wide, dtype = m.dtype, p.dtype
    p, g = astype(p, wide), astype(g, wide)
    m = add(multiply(_like(b1, m), m), multiply(_like(1.0 - b1, m), g))
    v = add(multiply(_like(b2, v), v), multiply(_like(1.0 - b2, v), multiply(g, g)))
    change = (m / _like(fair1, m)) / (_root(v / _like(fair2, v), eps_root) + _like(eps, v))
    change = change if _is_zero(decay) else _axpy(decay, p, change)
    return astype(_axpy(-rate, change, p), dtype), m, v


def _root(v: Array, eps_root: Any) -> Array:
    """Return sqrt(v + eps_root); where that is 0, so is its derivative."""
    v = v if _is_zero(eps_root) else v + _like(eps_root, v)
    return where(raw(v) > 0, sqrt(where(raw(v) > 0, v, 1.0)), raw(v))


def rmsprop(*, decay: Rate = 0.99, eps: Rate = 1e-8, momentum: Rate = 0.0, eps_root: Rate = 0.0) -> Optimizer:
    """Return RMSprop: v <- decay v + (1 - decay) g^2;  then sgd(momentum=momentum) with g / (sqrt(v + eps_root) + eps).

    This is the form and the default of PyTorch; that of Optax and TensorFlow has eps = 0 and a larger eps_root. v
    begins at 0 and is not corrected. State: that of sgd, and "square": float32 at least. Tieleman & Hinton, 2012.

    Raises DTypeError for a hyper-parameter that is no number; update raises ShapeError as that of sgd does.
    """
    d, tiny, below = (_number("rmsprop", *pair) for pair in (("decay", decay), ("eps", eps), ("eps_root", eps_root)))
    inner = sgd(momentum=momentum)

    def init(params: Tree) -> Tree:
        return {"square": _zeros_like(params), **inner.init(params)}

    def update(gradient: Tree, state: Tree, params: Tree, rate: Rate) -> tuple[Tree, Tree]:
        structure, (_, *columns) = _leaves("rmsprop.update", gradient, state, params, ["square"])
        rows = [(astype(g, v.dtype), v) for g, v in zip(*columns)]
        square = [add(multiply(_like(d, v), v), multiply(_like(1.0 - d, v), multiply(g, g))) for g, v in rows]
        scaled = [g / (_root(v, below) + _like(tiny, v)) for (g, _), v in zip(rows, square)]
        params, moved = inner.update(tree.unflatten(structure, scaled)[0], state, params, rate)
        return params, {"square": tree.unflatten(structure, square)[0], **moved}
    return Optimizer(explains(init), cast(Update, explains(update)))


def ema(average: Tree, params: Tree, decay: Rate, step: Any = None) -> Tree:
    """Return the average of parameters, moved towards those after a step: a <- decay a + (1 - decay) p.

    With step = 0, 1, ... the bias to what the average was at first is taken away, as in Adam: p of k steps ago then has
    the weight decay^k / (1 + decay + ... + decay^step). `average` keeps its types: begin with float32 at least.
    """
    d = _number("ema", "decay", decay)
    equal = type(d) is float and d == 1.0                   # the weights of all
    move = _number("ema", "step", 1.0 - d if step is None else 1.0 / (step + 1) if equal else
                   (1.0 - d) / (1.0 - d ** (step + 1)))

    def moved(a: Array, p: Array) -> Array:
        if shape(a) != shape(p):
            raise ShapeError(message("ema(average, params)", "shapes differ", [("average", a, ""), ("params", p, "")]))
        a = a if hasattr(a, "dtype") else as_array(float(a))
        return _axpy(move, astype(p, a.dtype) - a, a)
    return tree.map(moved, average, params)


# ------------------------------------------------------------------------------------------------- gradients

def clip_by_global_norm(gradient: Tree, max_norm: Rate) -> Tree:
    """Return the gradient g, scaled by max_norm / |g| where its norm over all leaves exceeds max_norm.

    |g|^2 = sum of g_k^2 over all elements of all leaves, in float64, without overflow. A gradient that is not finite
    stays so. Differentiable; nothing is read from a device. Raises MinigradError unless max_norm > 0, DTypeError unless
    all leaves are real floats. Pascanu, Mikolov & Bengio, 2013, Algorithm 1.
    """
    most = _number("clip_by_global_norm", "max_norm", max_norm)
    if type(most) is float and not most > 0.0:
        raise MinigradError(f"clip_by_global_norm: max_norm = {most} is not above 0\n"
                            "  help: the largest norm to let pass, such as 1.0")
    leaves, structure = tree.float_leaves((gradient,), "clip_by_global_norm")
    # in this unit no square overflows or becomes 0; it is 1 for all but extreme gradients, and what is not finite
    sizes = [abs(raw(g)).max().astype("float64") for g in leaves if raw(g).size]
    unit = functools.reduce(lambda a, b: raw(maximum(a, b)), sizes, numpy.float64(0.0))
    unit = raw(where((unit > 1e-100) & (unit < 1e100) | ~(unit > 0.0) | ~(unit < math.inf), 1.0, unit))
    squared = functools.reduce(add, [sum(square(astype(g, "float64") / unit)) for g in leaves], 0.0)
    above = sqrt(raw(squared)) * unit > raw(most)
    scale = where(above, most / where(above, sqrt(where(above, squared, 1.0)) * unit, 1.0), 1.0)

    def scaled(g: Array) -> Array:
        return astype(multiply(astype(g, _wide(g)), astype(scale, _wide(g))), g.dtype)
    return cast(Tree, tree.unflatten(structure, [scaled(g) for g in leaves])[0])

guard(__name__)
deprecated.names(__name__, Optimiser="Optimizer", matrices="has_matrix_shape")
