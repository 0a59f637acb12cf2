"""Learning to Reweight Examples for Robust Deep Learning (Ren, Zeng, Yang, Urtasun, ICML 2018), Algorithm 1.

At every step each training example has a weight: how much it helps a small clean set. The names are the paper's:

    θ params   l losses, one per noisy example   L clean loss   ε eps   α rate   u scores   w weights   v direction

    Algorithm 1, line                                              here, in one linearization read both ways
    4      ŷ_f <- forward(X_f, y_f, θ)                             losses, J = linearize(l, θ)
    5-6    ε <- 0;  ∇θ <- backward(Σ ε_i l_i, θ)                   nothing: Σ ε_i ∇l_i is the map ε -> J.pull(ε)
    7      θ̂ <- θ - α ∇θ                                           nothing: at ε = 0, θ̂ = θ
    8-9    ŷ_g <- forward(X_g, y_g, θ̂);  l_g <- mean loss          L(θ)
    10     ∇ε <- backward(l_g, ε)                                  v = ∇L(θ);  -∇ε = α J v = α J.push(v)
    11     w̃ <- max(-∇ε, 0);  w <- w̃ / (Σ w̃ + δ(Σ w̃))             w = normalize(J.push(v))
    12-13  ∇θ <- backward(Σ w_i l_i, θ)                            J.pull(w)
    14     θ <- OptimizerStep(θ, ∇θ)                               left to the caller

Why the short form is exact: θ̂(ε) = θ - α Σ ε_i ∇l_i(θ), so at ε = 0 the chain rule gives ∂L/∂ε_i = -α <∇l_i(θ),
∇L(θ)>: the derivative of l_i along v = ∇L, times -α. This holds for any network, also where batch normalization couples
the examples (l_i then depends on the other examples, and J v contains that), for every α > 0 (which cancels in line
11), and for any look-ahead step that is plain gradient descent. Another optimizer in the look-ahead preconditions v, so
that the short form no longer equals the paper's; `example_weights_unrolled` takes any, and is the reference for both.

At ε = 0 the weighted loss Σ ε_i l_i is 0, and so is its gradient, as it should be: what counts is the derivative of
that gradient with respect to ε, which is not 0.

Cost, in forward passes: clean 3, noisy 1, push 2, pull 2; 3 for a plain step; 11 to 12 with double backward.
"""
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy

from . import core, deprecated, distributed, tree
from .backend import as_array, is_array, is_float, is_readable, module_of
from .boundary import guard
from .box import Box, raw
from .communicators import find
from .core import replaceable
from .errors import ShapeError, message, shape
from .ops import astype, maximum, stop_gradient, sum, where
from .transforms import grad, jvp, linearize, split_aux, value_and_grad
from .typing import Array, Rate, Tree

Params = TypeVar("Params")


class Reweighted(NamedTuple):
    """The results of one step of Algorithm 1. The update needs the gradient alone; the rest is for the record."""
    gradient: Tree      # Σ w_i ∇l_i: a tree like the parameters
    weights: Array      # w, (n,): >= 0, sum 1 or all 0
    scores: Array       # u = J v, (n,): how much each example helps, before line 11
    losses: Array       # l, (n,)
    clean_loss: Array   # L, a scalar
    aux: Tree           # the second value that `losses` returns, with has_aux; else None
    not_finite: Array   # an integer: how many examples have no weight because l_i, u_i or L is not finite


def normalize(scores: Array, comm: Any = None) -> Array:
    """Return w = max(u, 0) / (Σ max(u, 0) + δ), with δ = 1 where the sum is 0: line 11. w >= 0, and Σ w is 1 or 0.

    A score that is NaN or infinite counts as 0. The sum is computed in float64, where that of float32 does not
    overflow. comm: the communicator of ranks whose scores are parts of one batch, over which the sum goes; None: the
    scores are the batch. The weights have the type of the scores, float64 for integers.
    """
    scores = scores if hasattr(scores, "dtype") else as_array(scores)
    u = maximum(where(_finite(scores), scores, 0.0), 0.0)
    u = astype(u, numpy.result_type(scores.dtype, numpy.float64))
    total = _over_ranks(sum(u), comm)
    w = u / (total + astype(stop_gradient(total) == 0, total.dtype))
    return astype(w, scores.dtype) if is_float(scores) else w


def _over_ranks(x: Array, comm: Any) -> Array:
    return x if comm is None else distributed.allsum(x, comm)


def _finite(x: Array) -> Array:
    return module_of(raw(x)).isfinite(raw(x))


def _check_per_example(losses: Array, call: str) -> None:
    if len(shape(losses)) != 1:
        raise ShapeError(message(call, "losses(params) must return one loss per example", [("losses", losses, "")],
                                 "return the losses without taking their mean: cross_entropy(model(x), y)"))


def reweighted_gradient(losses: Callable[[Params], Any], clean_loss: Callable[[Params], Array], params: Params,
                        has_aux: bool = False, comm: Any = None) -> Reweighted:
    """Return the gradient of the reweighted loss: Algorithm 1, lines 4 to 13, by one linearization read both ways.

    Args:
        losses: losses(params) -> (n,), the loss of each example of the noisy batch; with has_aux, (losses, aux).
        clean_loss: clean_loss(params) -> scalar, the mean loss of the clean batch.
        params: any tree.
        has_aux: whether losses returns a pair.
        comm: the communicator of ranks that each have a part of the batch, see below; None: the batch is here.

    The weights are constants of the update: no derivative flows through them. Raises ShapeError unless there is one
    loss per example and one clean loss.

    **The rate.** The weights sum to 1 over the examples that help. Where a class is rare, few examples do: in a batch
    of a hundred at 1:50 about three have all the weight, and where plain training averages a hundred gradients the step
    follows those three, up to forty times as far. So a rate that suits plain training may diverge: use a tenth of it,
    or clip, `optim.clip_by_global_norm(r.gradient, 1.0)`.

    **Values that are not finite.** An example whose loss or score is NaN or infinite has weight 0, adds exactly 0 to
    the gradient, and is counted in `not_finite`; the others are weighted as if it were not in the batch. If the clean
    loss is not finite there is no direction: all examples count as not finite, and the gradient is 0. This requires
    that `losses` keeps the examples apart. Batch normalization in training does not: one NaN makes all losses NaN, and
    all weights and the gradient 0. Running averages in aux are then NaN as well: keep those from before the step.

    To leave such examples out of the gradient, on NumPy the network is run again, up to three times, when there are
    any. On a GPU, where looking for them would wait for the device, the whole gradient of such a batch is 0; so it is
    on NumPy if the further runs do not reproduce the losses of the others (they draw other random numbers, or the
    examples are coupled).

    **Many ranks.** With a communicator, `losses` are those of this rank's examples and `clean_loss` is this rank's part
    of the clean loss, distributed.mean_part(l): the parts add up. Both are called with parameters that went through
    distributed.share. Gradient, clean loss and not_finite are then those of the whole batch, the same on
    all ranks; weights, scores and losses those of this rank's examples.
    """
    if comm is not None:
        comm = find(comm)
        losses, clean_loss = _shared(losses, comm), _shared(clean_loss, comm)
    L, v = value_and_grad(clean_loss)(params)                                       # lines 8-10
    L = _over_ranks(L, comm)
    l, J, aux = linearize(losses if has_aux else lambda p: (losses(p), None), params, has_aux=True)     # line 4
    u = J.push(v)                                                                   # lines 5-10
    _check_per_example(u, "reweighted_gradient(losses, ...)")
    good = _finite(l) & _finite(u) & _finite(L)
    w = stop_gradient(normalize(where(good, u, 0.0), comm))                         # line 11
    bad = _over_ranks((~good).sum(), comm)
    all_good = bad == 0
    if not is_readable(good):
        leaves, structure = tree.flatten(J.pull(w))                                 # lines 12-13
        gradient = tree.unflatten(structure, _zero_unless(all_good, *leaves))
    elif all_good:
        gradient = J.pull(w)
    else:
        found = _without(~good, _alone(losses, has_aux), params, l, w, comm)
        gradient = found[1] if found else tree.map(lambda leaf: where(False, leaf, 0.0), params)
    return Reweighted(gradient, w, u, l, L, aux, bad)


def _alone(losses: Callable[[Params], Any], has_aux: bool) -> Callable[[Params], Any]:
    """Return the losses without aux."""
    return (lambda params: split_aux(losses(params))[0]) if has_aux else losses


def _shared(f: Callable[[Params], Any], comm: Any) -> Callable[[Params], Any]:
    return lambda params: f(distributed.share(params, comm))


@replaceable
def _zero_unless(condition: Array, *leaves: Array) -> tuple[Array, ...]:
    """Return the leaves, or zeros if the condition, an array of one bool, is false."""
    return tuple(where(condition, leaf, 0.0) for leaf in leaves)


def example_weights(losses: Callable[[Params], Any], clean_loss: Callable[[Params], Array], params: Params,
                    comm: Any = None, *, has_aux: bool = False) -> Array:
    """Return the weights of Algorithm 1, lines 4 to 11, in forward mode: (n,). No tape of the noisy batch is kept.

    The arguments are those of reweighted_gradient, and so are its errors, and the weight 0 of examples that are not
    finite. With has_aux, the aux of losses is dropped.
    """
    losses = _alone(losses, has_aux)
    L, v = value_and_grad(clean_loss if comm is None else _shared(clean_loss, comm))(params)
    L = _over_ranks(L, comm)
    l, u = jvp(losses, (params,), (v,))
    _check_per_example(u, "example_weights(losses, ...)")
    return normalize(where(_finite(l) & _finite(L), u, 0.0), comm)


def example_weights_unrolled(losses: Callable[[Params], Any], clean_loss: Callable[[Params], Array], params: Params,
                             rate: Rate = 1.0, lookahead: Callable[[Params, Params], Params] | None = None, *,
                             has_aux: bool = False) -> Array:
    """Return the weights of Algorithm 1, lines 4 to 11, as the paper writes them: double backward.

    Args:
        losses: as in reweighted_gradient.
        clean_loss: as in reweighted_gradient.
        params: any tree.
        rate: α, the rate of the look-ahead step.
        lookahead: lookahead(params, gradient) -> params, line 7: any differentiable step, such as
            `lambda p, g: optimizer.update(g, state, p, rate)[0]`; without it, gradient descent. If it has no derivative
            at ε = 0, where the gradient is 0 (such as a root of its square), scores are not finite and weights are 0.
        has_aux: whether losses returns a pair, of which the second is dropped.

    Examples whose loss is not finite have weight 0, as in reweighted_gradient. On a GPU, or where they cannot be left
    out of the gradient, or where a slope alone is not finite, all weights of such a batch are 0.
    """
    losses = _alone(losses, has_aux)
    l = losses(params)
    _check_per_example(l, "example_weights_unrolled(losses, ...)")
    good = _finite(l)
    safe_losses = losses
    if is_readable(good) and not good.all():
        found = _without(~good, losses, params, l, astype(good, l.dtype))
        safe_losses, good = (found[0], good) if found else (losses, good & False)

    def descend(params: Params, gradient: Params) -> Params:
        moved: Params = tree.map(lambda p, g: p - rate * g, params, gradient)
        return moved

    def clean_loss_after(eps: Array) -> Array:
        gradient = grad(lambda p: sum(eps * safe_losses(p)))(params)                # lines 4-6
        return clean_loss((lookahead or descend)(params, gradient))                 # lines 7-9
    L, slope = value_and_grad(clean_loss_after)(module_of(raw(l)).zeros(shape(l), l.dtype))     # line 10
    return normalize(where(good & _finite(L), -slope, 0.0))                         # line 11


# ------------------------------------------------------------------------- examples that are not finite

def _without(bad: Array, losses: Callable[[Params], Array], params: Params, l: Array, w: Array,
             comm: Any = None) -> tuple[Callable[[Params], Array], Tree] | None:
    """Return the losses without the bad examples as a function, and Σ w_i ∇l_i over the others: lines 12-13, on NumPy.

    None where no way to leave them out reproduces the losses l of the others. Pulling w back along the tape does
    not do: the zeros in w meet the NaN that the forward pass left there, and 0 * NaN is NaN. So the network is run
    again.
    """
    for lost, rows in ((numpy.isnan, False), (_not_finite, False), (_not_finite, True)):
        masked = _mask(losses, functools.partial(_Mask, bad, lost, rows))
        again, J = linearize(masked, params)
        gradient = J.pull(w)
        same = numpy.allclose(raw(again)[~bad], raw(l)[~bad], rtol=1e-3)
        same = same and all(_finite(g).all() for g in tree.flatten(gradient)[0])
        if _over_ranks(numpy.asarray(int(not same)), comm) == 0:
            return masked, gradient
    return None


def _not_finite(x: Array) -> Array:
    return ~numpy.isfinite(x)


def _mask(losses: Callable[[Params], Array], new_trace: Callable[[], _Mask]) -> Callable[[Params], Array]:
    """Return the losses as a function that puts 0 in place of what the bad examples left in every array on the way."""
    def f(params: Params) -> Array:
        leaves, structure = tree.flatten(params)
        trace = new_trace()
        l = core.run(trace, lambda *boxes: losses(tree.unflatten(structure, boxes)), leaves, [False] * len(leaves))
        return core.unbox(l, trace)[0]
    return f


class _Mask:
    """A trace that takes no derivative: it selects 0 for bad examples before and after every primitive.

    So neither their values nor, on the way back, their cotangents reach anything. What is lost becomes 0: every NaN, or
    all that is not finite; where an axis has the length of the batch, only at the bad examples. This is enough for such
    values in the data, and takes nothing else for a part of the batch that happens to have its length: a constant, or
    the features. With `rows` all other values of the bad examples become 0 as well, which is needed where the network
    itself makes slopes that are not finite; there the first axis is taken for the batch if it has that length, unless
    the array is a constant. A box's tag is whether the value depends on arrays besides the parameters.
    """

    def __init__(self, bad: Array, lost: Callable[[Array], Array], rows: bool) -> None:
        self.level, self.closed, self.bad, self.lost, self.rows = next(core.levels), False, bad, lost, rows

    def interpret(self, primitive: core.Primitive, args: tuple[Any, ...], params: dict[str, Any]) -> Box:
        """Return the result of a primitive, boxed and masked."""
        pairs = [core.unbox(a, self) for a in args]
        batch = [is_array(raw(x)) if tag is None else tag for x, tag in pairs]
        y = primitive(*[self._select(x, tag is not None) if of_batch else x
                        for (x, tag), of_batch in zip(pairs, batch)], **params)
        return Box(self._select(y, True) if any(batch) else y, self, any(batch))

    def _select(self, x: Any, boxed: bool) -> Any:
        if isinstance(x, tuple):            # the arguments of checkpoint and with_derivative
            return type(x)([self._select(each, boxed) for each in x])
        value = raw(x)
        if not is_array(value) or not value.ndim or value.dtype.kind != "f":
            return x
        along = [self.bad.reshape(-1, *[1] * (value.ndim - 1 - axis))
                 for axis, length in enumerate(value.shape) if length == len(self.bad)]
        lost = self.lost(value)
        if along:
            lost &= functools.reduce(numpy.logical_or, along)
        if self.rows and boxed and len(value) == len(self.bad):
            lost |= self.bad.reshape(-1, *[1] * (value.ndim - 1))
        return where(lost, 0.0, x) if lost.any() else x


guard(__name__)
deprecated.names(__name__, normalise="normalize")
