"""Optimizers: pairs of pure functions, as in Optax. A state is a tree; nothing is changed in place.

    optimizer = adam(1e-3)
    state = optimizer.init(params)
    params, state = optimizer.update(gradient, state, params)

The state counts the steps where they matter: for Adam's correction of bias, and for a rate that is a schedule, a
function of the step, which counts from 0. `update(..., step=t)` takes step number t instead of the next one, and
`update(..., rate=r)` goes by the rate r in place of the optimizer's own. A gradient is clipped before it is handed in:

    params, state = optimizer.update(clip_by_global_norm(gradient, 1.0), state, params)

Parameters keep their type, whatever the type of a hyper-parameter. What an optimizer keeps is float32 at least: in
float16 the squares of small gradients, and Adam's eps, would be 0. Being pure and written with primitives, an update
can itself be differentiated (example_weights_unrolled does), also by its hyper-parameters.
"""
import builtins
import functools
import math
import numbers
from collections.abc import Callable
from typing import NamedTuple

import numpy

from . import core, tree
from .backend import as_array, is_readable, module_of
from .boundary import explains, guard
from .core import raw
from .errors import DTypeError, MinigradError, ShapeError, message, shape
from .ops import add, astype, multiply, sqrt, square, sum, where


class Optimizer(NamedTuple):
    """init(params) -> state; update(gradient, state, params, step=None, rate=None) -> (params, state)."""
    init: Callable
    update: Callable


def _number(call, name, value):
    """A hyper-parameter as Python's float, which takes the type of the array that it meets: NumPy's would turn
    float32 into float64. A traced value is still to be differentiated, and an array of a device not waited for."""
    if type(value) is core.Box or not is_readable(value):
        return value
    if isinstance(value, numpy.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise DTypeError(message(call, f"{name} is no real number", [(name, value, "")], f"{name}=0.1, for example"))
    return float(value)


def _schedule(call, rate):
    """A rate as a function of the step."""
    if callable(rate):
        return lambda step: _number(call, "rate(step)", rate(step))
    number = _number(call, "rate", rate)
    return lambda step: number


def _absent(number):
    return type(number) is float and number == 0.0


def _like(number, x):
    return number if type(number) is float else astype(number, x.dtype)


def _axpy(a, x, y):
    """a x + y, by primitives, which cut large arrays into pieces."""
    return add(multiply(_like(a, x), x), y)


def _wide(x):
    """The type in which to keep what belongs to x: its own, but float32 at least."""
    return numpy.result_type(x.dtype, numpy.float32)


def _zeros_like(params):
    return tree.map(lambda p: module_of(raw(p)).zeros(shape(p), _wide(p)), params)


def _begun(params):
    """The number of steps taken: none. An array beside the parameters, so that a captured step counts too."""
    return module_of(*map(raw, tree.flatten(params)[0])).zeros((), "int64")


def _counted(state, step):
    """The number of this step, from 0: that of the state if no other is given; and the count after it."""
    count = raw(state["count"])
    step = count if step is None else step
    return step, module_of(count).asarray(count * 0 + step + 1, "int64")


def _leaves(call, gradient, state, params, names):
    """The structure of the parameters, and the leaves of parameters, gradient and each of these parts of the state.

    Raises ShapeError where they do not belong together, DTypeError for parameters that are not floating-point.
    """
    if not isinstance(state, dict) or not set(names) <= set(state):
        found = sorted(map(str, state)) if isinstance(state, dict) else type(state).__name__
        raise ShapeError(f"{call}: the state is not one of this optimizer: it holds {found}, and not {sorted(names)}\n"
                         "  help: begin with optimizer.init(params), and hand in what update handed out")
    leaves, structure = tree.float_leaves((params,), call)
    columns = [leaves]
    for name, part in (("gradient", gradient), *((name, state[name]) for name in names if name != "count")):
        column = [x if hasattr(x, "dtype") else as_array(x) for x in tree.leaves_like(structure, (part,), call)]
        for k, (p, x) in enumerate(zip(leaves, column, strict=True)):
            if p.shape != x.shape:
                rows = [("params", p, ""), (name, x, "")]
                raise ShapeError(message(call, f"shapes differ at {tree.paths((params,))[k]}", rows))
        columns.append(column)
    return structure, columns


def matrices(p):
    """Whether weight decay applies: to kernels and matrices, not to biases and gains."""
    return len(shape(p)) > 1


def sgd(rate, momentum=0.0, nesterov=False, weight_decay=0.0, decays=matrices):
    """Stochastic gradient descent with momentum: g <- g + decay p;  m <- momentum m + g;  p <- p - rate m.

    With nesterov, p <- p - rate (g + momentum m). weight_decay acts on the leaves for which decays(leaf) is true and
    is the gradient of decay / 2 |p|^2. This is the form of PyTorch and TensorFlow. Sutskever et al., 2013.

    State: {"momentum": float32 at least}, if there is any, and {"count": steps taken}, if the rate is a schedule.
    Raises DTypeError for a hyper-parameter that is no number, and ShapeError where gradient and parameters differ.
    """
    counts, schedule = callable(rate), _schedule("sgd", rate)
    momentum, weight_decay = _number("sgd", "momentum", momentum), _number("sgd", "weight_decay", weight_decay)
    keeps = not _absent(momentum)
    if nesterov and not keeps:
        raise DTypeError("sgd: nesterov without momentum\n  help: give a momentum, such as 0.9")

    def init(params):
        return ({"momentum": _zeros_like(params)} if keeps else {}) | ({"count": _begun(params)} if counts else {})

    def update(gradient, state, params, step=None, rate=None):
        structure, columns = _leaves("sgd.update", gradient, state, params, ["momentum"] * keeps + ["count"] * counts)
        step, count = _counted(state, step) if counts else (step, None)
        r = schedule(step) if rate is None else _number("sgd.update", "rate", rate)
        columns = columns if keeps else [*columns, [None] * len(columns[0])]
        pairs = [_sgd_step(p, g, m, r, momentum, weight_decay if decays(p) else 0.0, nesterov)
                 for p, g, m in zip(*columns)]
        params, m = (tree.unflatten(structure, [pair[k] for pair in pairs])[0] for k in (0, 1))
        return params, ({"momentum": m} if keeps else {}) | ({"count": count} if counts else {})
    return Optimizer(init, update)


@core.replaceable
def _sgd_step(p, g, m, rate, momentum, decay, nesterov):
    """Return the parameters and the momentum of one leaf after the step. m: its momentum, None if none is kept."""
    wide, dtype = _wide(p) if m is None else m.dtype, p.dtype
    if dtype != wide or g.dtype != wide:
        p, g = astype(p, wide), astype(g, wide)
    g = g if _absent(decay) else _axpy(decay, p, g)
    m = g if m is None else _axpy(momentum, m, g)
    return astype(_axpy(-rate, _axpy(momentum, m, g) if nesterov else m, p), dtype), m


def adam(rate, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, decays=matrices):
    """Adam: m, v are averages of g and g^2, freed of their bias towards 0;  p <- p - rate m / (sqrt(v) + eps).

    weight_decay is decoupled (AdamW): p <- p - rate decay p beside it. Kingma & Ba, 2015, Algorithm 1; Loshchilov &
    Hutter, 2019. Where v is 0 the derivative of its root counts as 0: the first step from rest, m / (|g| + eps), has
    the derivative 1 / eps at g = 0.

    State: {"mean", "square": float32 at least, "count": steps taken}. Raises DTypeError for a hyper-parameter that is
    no number, MinigradError for a beta outside [0, 1), and ShapeError where gradient and parameters differ.
    """
    schedule = _schedule("adam", rate)
    beta1, beta2, eps, weight_decay = (_number("adam", name, value) for name, value in (
        ("beta1", beta1), ("beta2", beta2), ("eps", eps), ("weight_decay", weight_decay)))
    for name, beta in (("beta1", beta1), ("beta2", beta2)):
        if type(beta) is float and not 0.0 <= beta < 1.0:
            raise MinigradError(f"adam: {name} = {beta} lies outside [0, 1)\n  help: beta1=0.9, beta2=0.999")

    def init(params):
        return {"mean": _zeros_like(params), "square": _zeros_like(params), "count": _begun(params)}

    def moved(p, g, m, v, r, fair1, fair2):
        """The parameters and averages of one leaf after the step."""
        wide, dtype = m.dtype, p.dtype
        p, g = astype(p, wide), astype(g, wide)
        m = add(multiply(_like(beta1, m), m), multiply(_like(1.0 - beta1, m), g))
        v = add(multiply(_like(beta2, v), v), multiply(_like(1.0 - beta2, v), multiply(g, g)))
        unbiased = v / _like(fair2, v)
        root = where(raw(unbiased) > 0, sqrt(where(raw(unbiased) > 0, unbiased, 1.0)), raw(unbiased))
        change = (m / _like(fair1, m)) / (root + _like(eps, v))
        change = change if _absent(weight_decay) or not decays(p) else _axpy(weight_decay, p, change)
        return astype(_axpy(-r, change, p), dtype), m, v

    def update(gradient, state, params, step=None, rate=None):
        structure, columns = _leaves("adam.update", gradient, state, params, ["mean", "square", "count"])
        step, count = _counted(state, step)
        r = schedule(step) if rate is None else _number("adam.update", "rate", rate)
        fair1, fair2 = (_number("adam.update", "beta", 1.0 - beta ** (step + 1)) for beta in (beta1, beta2))
        rows = [moved(*row, r, fair1, fair2) for row in zip(*columns)]
        params, mean, square = (tree.unflatten(structure, [row[k] for row in rows])[0] for k in range(3))
        return params, {"mean": mean, "square": square, "count": count}
    return Optimizer(init, update)


# ------------------------------------------------------------------------------------------------- gradients

def clip_by_global_norm(gradient, max_norm):
    """The gradient g, scaled by max_norm / |g| where its norm over all leaves exceeds max_norm: a tree shaped like it.

    |g|^2 = sum of g_k^2 over all elements of all leaves, in float64, so that it does not overflow. A gradient that is
    not finite stays so. Differentiable; nothing is read from a device. Raises MinigradError unless max_norm > 0.
    Pascanu, Mikolov & Bengio, 2013, Algorithm 1.
    """
    most = _number("clip_by_global_norm", "max_norm", max_norm)
    if type(most) is float and not most > 0.0:
        raise MinigradError(f"clip_by_global_norm: max_norm = {most} is not above 0\n"
                            "  help: the largest norm to let pass, such as 1.0")
    leaves, structure = tree.flatten(gradient)
    squared = functools.reduce(add, [sum(square(astype(g, "float64"))) for g in leaves], 0.0)
    above = raw(squared) > raw(most) * raw(most)
    scale = where(above, most / sqrt(where(above, squared, 1.0)), 1.0)

    def scaled(g):
        return astype(multiply(astype(g, _wide(g)), astype(scale, _wide(g))), g.dtype)
    return tree.unflatten(structure, [scaled(g) for g in leaves])


# ------------------------------------------------------------------------------------------------- schedules

def piecewise(rate, boundaries, factor=0.1):
    """The rate, multiplied by `factor` at each of the boundaries (steps)."""
    @explains
    def schedule(step):
        return rate * factor ** builtins.sum(step >= b for b in boundaries)
    return schedule


def cosine(rate, steps, warmup=0):
    """From 0 up to the rate in `warmup` steps, then down to 0 along half a cosine until `steps`.

    The step may be an array of a device: nothing is read from it.
    """
    @explains
    def schedule(step):
        xp = module_of(step)
        done = xp.clip((step - warmup) / max(steps - warmup, 1), 0.0, 1.0)
        rising, falling = (step + 1) / max(warmup, 1), 0.5 * (1.0 + xp.cos(math.pi * done))
        return rate * xp.where(xp.asarray(step < warmup), rising, falling)
    return schedule


guard(__name__)
