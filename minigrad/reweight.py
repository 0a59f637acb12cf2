"""Learning to Reweight Examples for Robust Deep Learning (Ren, Zeng, Yang, Urtasun, ICML 2018), Algorithm 1.

Every training example gets, at every step, a weight for how much it helps a small clean set. Names, as in the paper:

    θ params   l losses, one per noisy example   L clean loss   ε eps   α rate   u scores   w weights   v direction

    Algorithm 1, line                                              here, in one linearization read both ways
    4      ŷ_f <- forward(X_f, y_f, θ)                             losses, J = linearize(l, θ)
    5-6    ε <- 0;  ∇θ <- backward(Σ ε_i l_i, θ)                   nothing: Σ ε_i ∇l_i is the map ε -> J.pull(ε)
    7      θ̂ <- θ - α ∇θ                                           nothing: at ε = 0, θ̂ = θ
    8-9    ŷ_g <- forward(X_g, y_g, θ̂);  l_g <- mean loss          L(θ)
    10     ∇ε <- backward(l_g, ε)                                  v = ∇L(θ);  -∇ε = α J v = α J.push(v)
    11     w̃ <- max(-∇ε, 0);  w <- w̃ / (Σ w̃ + δ(Σ w̃))             w = normalize(J.push(v))
    12-13  ∇θ <- backward(Σ w_i l_i, θ)                            J.pull(w)
    14     θ <- OptimizerStep(θ, ∇θ)                               the caller's

Why the short form is exact: θ̂(ε) = θ - α Σ ε_i ∇l_i(θ), so at ε = 0 the chain rule gives ∂L/∂ε_i = -α <∇l_i(θ),
∇L(θ)>: the derivative of l_i along v = ∇L, times -α. This holds for any network, also where batch normalization couples
the examples (l_i then depends on the other examples, and J v contains that), for every α > 0 (which cancels in line
11), and for any look-ahead step that is plain gradient descent. It is not what the paper's form gives if the look-ahead
is another optimizer: that one preconditions v. `example_weights_unrolled` takes any, and is the reference for the rest.

The weighted loss Σ ε_i l_i is 0 at ε = 0, and so is its gradient; that is as it should be. What counts is the
derivative of the gradient in ε, which is not 0.

Cost, in forward passes: clean 3, noisy 1, push 2, pull 2, against 3 for a plain step; with double backward, 11 to 12.
"""
from typing import Any, NamedTuple

import numpy

from . import core, deprecated, tree
from .backend import is_array, is_readable, module_of
from .boundary import guard
from .core import raw
from .errors import ShapeError, message, shape
from .ops import astype, maximum, stop_gradient, sum, where
from .transforms import grad, jvp, linearize, value_and_grad


class Reweighted(NamedTuple):
    """What one step of Algorithm 1 computes. The update needs the gradient alone; the rest is for the record."""
    gradient: Any       # Σ w_i ∇l_i: a tree shaped like the parameters
    weights: Any        # w, (n,): >= 0, sum 1 or all 0
    scores: Any         # u = J v, (n,): how much each example helps, before line 11
    losses: Any         # l, (n,)
    clean_loss: Any     # L, a scalar
    aux: Any            # what `losses` handed out, with has_aux
    not_finite: Any     # how many examples have no weight because l_i, u_i or L is not finite: an integer


def normalize(scores):
    """Line 11: w = max(u, 0) / (Σ max(u, 0) + δ), with δ = 1 where the sum is 0. w >= 0, and Σ w is 1 or exactly 0.

    A score that is NaN or infinite counts as 0. The sum is taken in float32 at least.
    """
    u = maximum(where(_finite(scores), scores, 0.0), 0.0)
    u = astype(u, numpy.result_type(scores.dtype, numpy.float32))
    total = sum(u)
    return astype(u / (total + astype(stop_gradient(total) == 0, total.dtype)), scores.dtype)


def _finite(x):
    return module_of(raw(x)).isfinite(raw(x))


def _per_example(losses, call):
    if len(shape(losses)) != 1:
        raise ShapeError(message(call, "losses(params) must give one loss per example", [("losses", losses, "")],
                                 "return the losses without taking their mean: cross_entropy(model(x), y)"))
    return losses


def reweighted_gradient(losses, clean_loss, params, has_aux=False):
    """Algorithm 1, lines 4 to 13: the gradient of the reweighted loss, by one linearization read both ways.

    losses(params) -> (n,): the loss of each example of the noisy batch; with has_aux, (losses, aux).
    clean_loss(params) -> scalar: the mean loss of the clean batch.
    Gives a Reweighted. Weights are constants of the update: no derivative flows through them.
    Raises ShapeError unless there is one loss per example and one clean loss.

    **The rate.** Weights sum to 1 over the examples that help, and where a class is rare these are few: of a batch of a
    hundred at 1:50 some three have all the weight, and where plain training averages a hundred gradients the step
    follows those three, up to forty times as far. So a rate that suits plain training may diverge: take a tenth of it,
    or clip, `optim.clip_by_global_norm(r.gradient, 1.0)`. The README has the figures.

    **What is not finite.** An example whose loss or score is NaN or infinite has weight 0, adds exactly 0 to the
    gradient, and is counted in `not_finite`; the others are weighted as if it were not in the batch. If the clean loss
    is not finite there is no direction: that holds of all examples, and the gradient is 0. This supposes that `losses`
    keeps the examples apart. Batch normalization in training does not: one NaN makes all losses NaN, so that all
    weights and the gradient are 0. Running averages in aux are then NaN as well: keep those from before.

    To leave the example out of the gradient, the network is run once more, where NumPy finds that there is one. On a
    GPU, where that would have to wait for the device, the gradient of such a batch is 0 as a whole; and so it is on
    NumPy where the second run does not give the others' losses again (it draws other random numbers, or the examples
    are coupled).
    """
    L, v = value_and_grad(clean_loss)(params)                                       # lines 8-10
    l, J, *aux = linearize(losses, params, has_aux=has_aux)                         # line 4
    u = _per_example(J.push(v), "reweighted_gradient(losses, ...)")                 # lines 5-10
    good = _finite(l) & _finite(u) & _finite(L)
    w = stop_gradient(normalize(where(good, u, 0.0)))                               # line 11
    all_good = good.all()
    if not is_readable(good):
        gradient = tree.map(lambda g: where(all_good, g, 0.0), J.pull(w))           # lines 12-13
    elif all_good:
        gradient = J.pull(w)
    else:
        gradient = _pull_without(~good, (lambda p: losses(p)[0]) if has_aux else losses, params, l, w)
    return Reweighted(gradient, w, u, l, L, aux[0] if has_aux else None, (~good).sum())


def example_weights(losses, clean_loss, params):
    """The weights of Algorithm 1, lines 4 to 11, in forward mode: (n,). No tape of the noisy batch is kept.

    0 for examples that are not finite, as in reweighted_gradient.
    """
    L, v = value_and_grad(clean_loss)(params)
    l, u = jvp(losses, (params,), (v,))
    _per_example(u, "example_weights(losses, ...)")
    return normalize(where(_finite(l) & _finite(L), u, 0.0))


def example_weights_unrolled(losses, clean_loss, params, rate=1.0, lookahead=None):
    """The weights of Algorithm 1, lines 4 to 11, as the paper writes it: backward on backward through the look-ahead.

    rate: α. lookahead(params, gradient) -> params: line 7, any differentiable step; plain descent if not given, and
    for an optimizer `lambda p, g: optimizer.update(g, state, p, rate)[0]`. One without a derivative at ε = 0, where
    that gradient is 0 (such as a root of its square), gives scores that are not finite, and weights of 0.

    Examples that are not finite have weight 0, as in reweighted_gradient; on a GPU all weights of such a batch are 0.
    """
    l = _per_example(losses(params), "example_weights_unrolled(losses, ...)")
    good = _finite(l)
    apart = losses if not is_readable(good) or good.all() else _apart(losses, ~good)

    def descend(params, gradient):
        return tree.map(lambda p, g: p - rate * g, params, gradient)

    def clean_loss_after(eps):
        gradient = grad(lambda p: sum(eps * apart(p)))(params)                      # lines 4-6
        return clean_loss((lookahead or descend)(params, gradient))                 # lines 7-9
    L, slope = value_and_grad(clean_loss_after)(module_of(raw(l)).zeros(shape(l), l.dtype))     # line 10
    return normalize(where(good & _finite(L), -slope, 0.0))                         # line 11


# ------------------------------------------------------------------------- examples that are not finite

def _pull_without(bad, losses, params, l, w):
    """Lines 12-13 where some examples are bad: Σ w_i ∇l_i over the others, on NumPy.

    To pull w back along the tape does not do: the zeros in w meet the NaN that the forward pass left there, and
    0 * NaN is NaN. So the network is run again, with 0 in the rows of the bad examples.
    """
    again, J = linearize(_apart(losses, bad), params)
    gradient = J.pull(w)
    same = numpy.allclose(raw(again)[~bad], raw(l)[~bad], rtol=1e-3)
    same = same and all(_finite(g).all() for g in tree.flatten(gradient)[0])
    return gradient if same else tree.map(lambda g: where(False, g, 0.0), gradient)


def _apart(losses, bad):
    """The losses, with 0 for the bad examples in every array of the batch that comes up on the way."""
    def f(params):
        leaves, structure = tree.flatten(params)
        trace = _Apart(bad)
        l = core.run(trace, lambda *boxes: losses(tree.unflatten(structure, boxes)), leaves, [False] * len(leaves))
        return core.unbox(l, trace)[0]
    return f


class _Apart:
    """A trace that takes no derivative: it selects 0 for bad examples before and after every primitive.

    So neither their values nor, on the way back, their cotangents reach anything. A box's tag is whether the value
    depends on arrays besides the parameters. Of those, an array of the batch has its length as first axis; in others,
    such as a transposed batch, what is not finite becomes 0.
    """

    def __init__(self, bad):
        self.level, self.closed, self.bad = next(core.levels), False, bad

    def interpret(self, primitive, args, params):
        pairs = [core.unbox(a, self) for a in args]
        batch = [is_array(raw(x)) if tag is None else tag for x, tag in pairs]
        y = primitive(*[self._select(x) if of_batch else x for (x, _), of_batch in zip(pairs, batch)], **params)
        return core.Box(self._select(y) if any(batch) else y, self, any(batch))

    def _select(self, x):
        if isinstance(x, tuple):                            # the arguments of checkpoint and with_derivative
            return type(x)(map(self._select, x))
        value = raw(x)
        if not is_array(value) or not value.ndim or value.dtype.kind != "f":
            return x
        of_batch = len(value) == len(self.bad)
        lost = self.bad.reshape(-1, *[1] * (value.ndim - 1)) if of_batch else ~numpy.isfinite(value)
        return where(lost, 0.0, x) if lost.any() else x


guard(__name__)
deprecated.names(__name__, normalise="normalize")
