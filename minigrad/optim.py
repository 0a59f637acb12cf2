"""Optimisers: pairs of pure functions, as in Optax. A state is a tree; nothing is changed in place.

    optimiser = sgd(0.1, momentum=0.9)
    state = optimiser.init(params)
    params, state = optimiser.update(gradient, state, params, step)

Being pure and written with operators, an update can itself be differentiated (example_weights_unrolled does).
A rate is a number or a schedule: a function of the step, which counts from 0.
"""
import math
from typing import Callable, NamedTuple

from . import kernels, tree
from .backend import module_of
from .core import raw
from .errors import DTypeError, shape
from .ops import add, astype, multiply, sqrt


class Optimiser(NamedTuple):
    """init(params) -> state; update(gradient, state, params, step) -> (params, state)."""
    init: Callable
    update: Callable


def _rate(rate, step):
    return rate(step) if callable(rate) else rate


def _axpy(a, x, y):
    """a x + y, by primitives, which cut large arrays into pieces."""
    return add(multiply(a, x), y)


def _zeros_like(params):
    return tree.map(lambda p: module_of(raw(p)).zeros(shape(p), p.dtype), params)


def matrices(p):
    """Whether weight decay applies: to kernels and matrices, not to biases and gains."""
    return len(shape(p)) > 1


def sgd(rate, momentum=0.0, nesterov=False, weight_decay=0.0, decays=matrices):
    """Stochastic gradient descent with momentum: g <- g + decay p;  m <- momentum m + g;  p <- p - rate m.

    With nesterov, p <- p - rate (g + momentum m). weight_decay acts on the leaves for which decays(leaf) is true and
    is the gradient of decay / 2 |p|^2. This is the form of PyTorch and TensorFlow. Sutskever et al., 2013.
    """
    if nesterov and not momentum:
        raise DTypeError("sgd: nesterov without momentum\n  help: give a momentum, such as 0.9")

    def init(params):
        return {"momentum": _zeros_like(params)} if momentum else {}

    def moved(p, m, g, r):
        """The parameters and momentum of one leaf after the step."""
        decay = weight_decay if weight_decay and decays(p) else 0.0
        if momentum and kernels.fit(p, m, g):
            return kernels.sgd(p, m, g, r, momentum, decay, nesterov)
        g = _axpy(decay, p, g) if decay else g
        m = _axpy(momentum, m, g) if momentum else g
        return astype(_axpy(-r, _axpy(momentum, m, g) if nesterov else m, p), p.dtype), m

    def update(gradient, state, params, step=0):
        (leaves, structure), (gradients, other) = tree.flatten(params), tree.flatten(gradient)
        tree.check_same(structure, other, "sgd")
        momenta, r = tree.flatten(state["momentum"])[0] if momentum else gradients, _rate(rate, step)
        pairs = [moved(p, m, g, r) for p, m, g in zip(leaves, momenta, gradients, strict=True)]
        params, m = (tree.unflatten(structure, [pair[k] for pair in pairs]) for k in (0, 1))
        return params, {"momentum": m} if momentum else state
    return Optimiser(init, update)


def adam(rate, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, decays=matrices):
    """Adam: m, v are averages of g and g^2, freed of their bias towards 0;  p <- p - rate m / (sqrt(v) + eps).

    weight_decay is decoupled (AdamW): p <- p - rate decay p beside it. Kingma & Ba, 2015, Algorithm 1; Loshchilov &
    Hutter, 2019.
    """
    def init(params):
        return {"mean": _zeros_like(params), "square": _zeros_like(params)}

    def update(gradient, state, params, step=0):
        r, t = _rate(rate, step), step + 1
        mean = tree.map(lambda m, g: beta1 * m + (1.0 - beta1) * g, state["mean"], gradient)
        square = tree.map(lambda v, g: beta2 * v + (1.0 - beta2) * (g * g), state["square"], gradient)
        fair1, fair2 = 1.0 - beta1 ** t, 1.0 - beta2 ** t

        def moved(p, m, v):
            change = (m / fair1) / (sqrt(v / fair2) + eps)
            change = change + weight_decay * p if weight_decay and decays(p) else change
            return astype(p - r * change, p.dtype)
        return tree.map(moved, params, mean, square), {"mean": mean, "square": square}
    return Optimiser(init, update)


# ------------------------------------------------------------------------------------------------- schedules

def piecewise(rate, boundaries, factor=0.1):
    """The rate, multiplied by `factor` at each of the boundaries (steps)."""
    return lambda step: rate * factor ** sum(step >= b for b in boundaries)


def cosine(rate, steps, warmup=0):
    """From 0 up to the rate in `warmup` steps, then down to 0 along half a cosine until `steps`."""
    def schedule(step):
        if step < warmup:
            return rate * (step + 1) / warmup
        done = min((step - warmup) / max(steps - warmup, 1), 1.0)
        return rate * 0.5 * (1.0 + math.cos(math.pi * done))
    return schedule
