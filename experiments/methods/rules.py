"""Rules: the gradient of the parameters for a batch, and the weights of its examples.

    rule(losses, params, batch, clean, memory, known, now) -> Step

losses(params, batch) -> ((n,), Aux): runs the network in training mode. clean: a Batch of the clean set, or None.
memory: the memory that the rule returned in the previous step. known, now: see step.py. There are three kinds of rules:

    by_weights              the weights do not depend on the losses: one forward pass, one backward pass
    ByLosses(weigh)         the weights depend on the losses: linearize, weigh, pull the weights back
    ByCleanLoss(...)        the weights depend on the clean loss: Algorithm 1

Where a run is trained on many ranks (known.comm), losses and batch are those of this rank's part of the batch. The
three kinds do what one rank would; other rules, which look at the whole batch in their own way, do not.

A rule with parameters is a frozen dataclass, so that a run can be sent to another process together with its method.

Where the authors' published code differs from the paper, the paper's definition is implemented, and a note mentions it.
The weights of a batch sum to 1, so that the rate means the same for every rule, unless a docstring says otherwise.
"""
import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from minigrad import (
    astype,
    grad,
    linearize,
    mean,
    nn,
    optim,
    relu,
    reshape,
    reweight,
    sigmoid,
    stop_gradient,
    sum,
    tree,
    value_and_grad,
    xp,
)
from minigrad.distributed import mean_part, part, share, whole

from .step import Step


def by_weights(losses, params, batch, clean, memory, known, now):
    """Update by the gradient of sum w_i l_i, where w = batch.weights, (n,), comes from the method's `weigh`."""
    def total(params):
        l, aux = losses(share(params, known.comm), batch)
        return sum(batch.weights * l), (l, aux)
    (_, (l, aux)), gradient = value_and_grad(total, has_aux=True)(params)
    return Step(gradient, batch.weights, l, aux, memory)


@dataclasses.dataclass(frozen=True)
class ByLosses:
    """The rule with w, memory = weigh(losses, memory, known, now), where w is constant in the derivative."""
    weigh: Callable

    def __call__(self, losses, params, batch, clean, memory, known, now):
        """Update by the gradient of sum w_i l_i."""
        l, J, aux = linearize(lambda params: losses(share(params, known.comm), batch), params, has_aux=True)
        w, new = self.weigh(whole(l, known.comm), memory, known, now)
        w = part(w, known.comm)
        return Step(J.pull(astype(w, l.dtype)), w, l, aux, new)


# ------------------------------------------------------------------------ weights without the losses

def equal(known, now):
    """Return equal weights: w_i = 1 / n."""
    return np.full(len(now.labels), 1.0 / len(now.labels))


def rectified_noise(known, now):
    """Return random weights: w_i = max(z_i, 0) / sum max(z, 0), z normal in every step; all 0 if no z is positive."""
    return reweight.normalize(xp.asarray(now.rng.standard_normal(len(now.labels))))


def inverse_frequency(known, now):
    """Return weights with an equal expected sum for each of K classes: w_i = 1 / (n K p(y_i)), p the class frequencies.

    The expected sum of all weights is 1. The authors' weights, 1 - p(y_i) without 1 / n, have the expected sum
    2 n p (1 - p): 18 at a frequency of 0.9, and 1 at 0.995, where the two definitions agree. Their effective rate thus
    depends on the imbalance.
    """
    return 1.0 / (len(now.labels) * len(known.frequencies) * known.frequencies[now.labels])


def oracle(known, now):
    """Return weights in proportion to the label precision of y_i in training, which only an oracle knows.

    This is the paper's Weighted, where only the label of the background can be wrong. The authors' code has
    0.1 / (0.4 + 0.6 / K) for its precision, which is right for 10 classes and a noise of 40 %, and identifies the
    background by its frequency.
    """
    precision = known.precision[now.labels]
    return precision / max(precision.sum(), 1e-12)


# ------------------------------------------------------------------------ weights from the losses

def hard_mining(losses, params, batch, clean, memory, known, now):
    """Train on the hardest examples of each class, as many as the rarest class has in the batch.

    Hard examples are those with the highest losses. With two classes these are all of the minority and as many of the
    majority. Their weights are equal; all weights are 0 in a batch without the rarest class. The paper, section 4.1.
    The authors' code ranks by the mean loss of the batch, one number for all, and so chooses at random; here each
    example has its own loss.
    """
    l, aux = losses(params, batch)
    w = xp.zeros(len(l), l.dtype)
    classes = [np.flatnonzero(now.labels == c) for c in range(len(known.frequencies))]
    k = min(map(len, classes))
    if k == 0:
        return Step(tree.map(xp.zeros_like, params), w, l, aux, memory)
    classes = [xp.asarray(indices) for indices in classes]
    chosen = xp.concatenate([indices[xp.argsort(-l[indices])[:k]] for indices in classes])
    w[chosen] = 1.0 / len(chosen)
    part = batch._replace(images=batch.images[chosen], labels=batch.labels[chosen])
    gradient, state = grad(lambda params: _mean_and_state(losses(params, part)), has_aux=True)(params)
    return Step(gradient, w, l, aux._replace(state=state), memory)


def _mean_and_state(result):
    l, aux = result
    return mean(l), aux.state


def low_loss(l, memory, known, now, keep=0.6):
    """Return equal weights of the examples with the lowest losses, a share `keep`, and 0 for the others.

    In the first fifth of training all examples have equal weights. Self-paced learning (Kumar et al., 2010), with the
    threshold at a share of the batch as in Co-teaching (Han et al., 2018). The default of `keep` fits the noise in the
    paper, 40 %.
    """
    if now.step < 0.2 * now.steps:
        return xp.full(len(l), 1.0 / len(l), l.dtype), memory
    k = max(round(keep * len(l)), 1)
    w = xp.zeros(len(l), l.dtype)
    w[xp.argsort(l)[:k]] = 1.0 / k
    return w, memory


def mentor_memory(rng):
    """Return the initial memory of `mentor`, a threshold of 0."""
    return xp.zeros((), "float32")


def mentor(l, memory, known, now, share=0.75, average=0.95, slope=1.0):
    """Return the weights of MentorNet's predefined curriculum, w = v / sum v.

    v is 1 for losses up to the threshold, and falls to 0 within `slope` nats above it; in the first fifth of training
    v = 1. The threshold, which is the memory, is a moving average with factor `average` of the `share` quantile of the
    losses. Jiang et al., 2018, equation 5 and section 4; the learned MentorNet is not implemented.
    """
    quantile = xp.quantile(l, share)
    threshold = average * memory + (1.0 - average) * quantile if now.step else quantile
    v = xp.clip(1.0 - (l - threshold) / slope, 0.0, 1.0)
    if now.step < 0.2 * now.steps:
        v = xp.ones_like(l)
    return reweight.normalize(astype(v, l.dtype)), astype(threshold, "float32")


# ------------------------------------------------------------------------ weights from the clean set

@dataclasses.dataclass(frozen=True)
class ByCleanLoss:
    """The rule of Algorithm 1 of the paper: weights by how much each example reduces the clean loss.

    decay: whether to add weight decay, decay / 2 |W|^2, to the clean loss, so that u_i = <grad l_i, v + decay W>.
    redraw: whether to run the network again for the update, with other dropout masks than for the weights.
    With both, this is the computation of the authors' code for CIFAR.
    """
    decay: bool = False
    redraw: bool = False

    def __call__(self, losses, params, batch, clean, memory, known, now):
        """Update by the gradient of sum w_i l_i, with the weights w of Algorithm 1."""
        def clean_loss(params):
            decay = _decay(params, known.decay) / known.comm.size if self.decay else 0.0
            return mean_part(losses(params, clean)[0], known.comm) + decay
        if self.redraw:
            w = reweight.example_weights(lambda params: losses(params, batch)[0], clean_loss, params, known.comm)
            again = batch._replace(key=nn.fold_in(batch.key, 1), weights=w)
            return by_weights(losses, params, again, clean, memory, known, now)
        r = reweight.reweighted_gradient(lambda params: losses(params, batch), clean_loss, params, has_aux=True,
                                         comm=known.comm)
        return Step(r.gradient, r.weights, r.losses, r.aux, memory, r.clean_loss)


def _decay(params, decay):
    return 0.5 * decay * functools.reduce(lambda a, b: a + b, [sum(p * p) for p in tree.flatten(params)[0]
                                                              if optim.has_matrix_shape(p)], 0.0)


_adam = optim.adam()


def meta_weight_net_memory(rng):
    """Return the initial memory: a network from loss to weight with 100 hidden units, and its optimizer state."""
    net = nn.Sequential((nn.Linear.init(rng, 1, 100), relu, nn.Linear.init(rng, 100, 1), sigmoid))
    return {"net": net, "adam": _adam.init(net)}


def meta_weight_net(losses, params, batch, clean, memory, known, now):
    """Update with the weights of a Meta-Weight-Net, w = V(l) / sum V(l), after a step of V that lowers the clean loss.

    V is trained on the clean loss after the look-ahead step theta - rate * (gradient of sum w_i l_i), whose derivative
    is a gradient of a gradient. Shu et al., 2019, equations 4 to 8; V's rate is their 1e-3, with Adam.
    """
    def weights(net, l):
        v = reshape(net(reshape(stop_gradient(l), (len(l), 1))), (len(l),))
        return v / (sum(v) + 1e-12)

    def clean_loss_after(net):
        def total(params):
            l, _ = losses(params, batch)
            return sum(weights(net, l) * l)
        ahead = tree.map(lambda p, g: p - now.rate * g, params, grad(total)(params))
        return mean(losses(ahead, clean)[0])
    L, direction = value_and_grad(clean_loss_after)(memory["net"])
    net, state = _adam.update(direction, memory["adam"], memory["net"], 1e-3)
    step = ByLosses(lambda l, *_: (weights(net, l), {"net": net, "adam": state}))
    return step(losses, params, batch, clean, memory, known, now)._replace(clean_loss=L)
