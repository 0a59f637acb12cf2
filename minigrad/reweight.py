"""Learning to Reweight Examples for Robust Deep Learning (Ren, Zeng, Yang, Urtasun, ICML 2018), Algorithm 1.

Every training example gets, at every step, a weight for how much it helps a small clean set. Names, as in the paper:

    θ params   l losses, one per noisy example   L clean loss   ε eps   α rate   u scores   w weights   v direction

    Algorithm 1, line                                              here, in one linearisation read both ways
    4      ŷ_f <- forward(X_f, y_f, θ)                             losses, J = linearize(l, θ)
    5-6    ε <- 0;  ∇θ <- backward(Σ ε_i l_i, θ)                   nothing: Σ ε_i ∇l_i is the map ε -> J.pull(ε)
    7      θ̂ <- θ - α ∇θ                                           nothing: at ε = 0, θ̂ = θ
    8-9    ŷ_g <- forward(X_g, y_g, θ̂);  l_g <- mean loss          L(θ)
    10     ∇ε <- backward(l_g, ε)                                  v = ∇L(θ);  -∇ε = α J v = α J.push(v)
    11     w̃ <- max(-∇ε, 0);  w <- w̃ / (Σ w̃ + δ(Σ w̃))             w = normalise(J.push(v))
    12-13  ∇θ <- backward(Σ w_i l_i, θ)                            J.pull(w)
    14     θ <- OptimizerStep(θ, ∇θ)                               the caller's

Why the short form is exact: θ̂(ε) = θ - α Σ ε_i ∇l_i(θ), so at ε = 0 the chain rule gives ∂L/∂ε_i = -α <∇l_i(θ),
∇L(θ)>: the derivative of l_i along v = ∇L, times -α. This holds for any network, also where batch normalisation couples
the examples (l_i then depends on the other examples, and J v contains that), for every α > 0 (which cancels in line
11), and for any look-ahead step that is plain gradient descent. It is not what the paper's form gives if the look-ahead
is another optimiser: that one preconditions v. `example_weights_unrolled` takes any, and is the reference for the rest.

The weighted loss Σ ε_i l_i is 0 at ε = 0, and so is its gradient; that is as it should be. What counts is the
derivative of the gradient in ε, which is not 0.

Cost, in forward passes: clean 3, noisy 1, push 2, pull 2, against 3 for a plain step; with double backward, 11 to 12.
"""
from typing import Any, NamedTuple

from . import tree
from .backend import module_of
from .core import raw
from .errors import ShapeError, message, shape
from .ops import astype, maximum, stop_gradient, sum
from .transforms import grad, jvp, linearize, value_and_grad


class Reweighted(NamedTuple):
    """What one step of Algorithm 1 computes. The update needs the gradient alone; the rest is for the record."""
    gradient: Any       # Σ w_i ∇l_i: a tree shaped like the parameters
    weights: Any        # w, (n,): >= 0, sum 1 or all 0
    scores: Any         # u = J v, (n,): how much each example helps, before line 11
    losses: Any         # l, (n,)
    clean_loss: Any     # L, a scalar
    aux: Any            # what `losses` handed out, with has_aux


def normalise(scores):
    """Line 11: w = max(u, 0) / (Σ max(u, 0) + δ), with δ = 1 where the sum is 0. w >= 0, and Σ w is 1 or exactly 0."""
    u = maximum(scores, 0.0)
    total = sum(u)
    return u / (total + astype(stop_gradient(total) == 0, total.dtype))


def _per_example(losses, call):
    if len(shape(losses)) != 1:
        raise ShapeError(message(call, "losses(params) must give one loss per example", [("losses", losses, "")],
                                 "return the losses without taking their mean: cross_entropy(model(x), y)"))
    return losses


def reweighted_gradient(losses, clean_loss, params, has_aux=False):
    """Algorithm 1, lines 4 to 13: the gradient of the reweighted loss, by one linearisation read both ways.

    losses(params) -> (n,): the loss of each example of the noisy batch; with has_aux, (losses, aux).
    clean_loss(params) -> scalar: the mean loss of the clean batch.
    Gives a Reweighted. Weights are constants of the update: no derivative flows through them.
    Raises ShapeError unless there is one loss per example and one clean loss.
    """
    L, v = value_and_grad(clean_loss)(params)                                       # lines 8-10
    l, J, *aux = linearize(losses, params, has_aux=has_aux)                         # line 4
    u = J.push(v)                                                                   # lines 5-10
    w = stop_gradient(normalise(_per_example(u, "reweighted_gradient(losses, ...)")))      # line 11
    return Reweighted(J.pull(w), w, u, l, L, aux[0] if has_aux else None)           # lines 12-13


def example_weights(losses, clean_loss, params):
    """The weights of Algorithm 1, lines 4 to 11, in forward mode: (n,). No tape of the noisy batch is kept."""
    v = grad(clean_loss)(params)
    return normalise(_per_example(jvp(losses, (params,), (v,))[1], "example_weights(losses, ...)"))


def example_weights_unrolled(losses, clean_loss, params, rate=1.0, lookahead=None):
    """The weights of Algorithm 1, lines 4 to 11, as the paper writes it: backward on backward through the look-ahead.

    rate: α. lookahead(params, gradient) -> params: line 7, any differentiable step; plain descent if not given, and
    for an optimiser `lambda p, g: optimiser.update(g, state, p)[0]`. One that divides by the root of the
    gradient's own square (Adam in its first step) is not differentiable at ε = 0, where that gradient is 0.
    """
    def descend(params, gradient):
        return tree.map(lambda p, g: p - rate * g, params, gradient)

    def clean_loss_after(eps):
        gradient = grad(lambda p: sum(eps * losses(p)))(params)                     # lines 4-6
        return clean_loss((lookahead or descend)(params, gradient))                 # lines 7-9
    l = _per_example(losses(params), "example_weights_unrolled(losses, ...)")
    return normalise(-grad(clean_loss_after)(module_of(raw(l)).zeros(shape(l), l.dtype)))     # lines 10-11
