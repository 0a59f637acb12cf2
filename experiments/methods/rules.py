"""Rules: the gradient that a batch gives, and the weight of each example in it.

    rule(losses, params, batch, clean, memory, known, now) -> Step

losses(params, batch) -> ((n,), Aux): runs the network in training mode. clean: a Batch of the clean set, or None.
memory: what the rule returned in the step before. known, now: see step.py. Three kinds cover nearly all methods:

    weighted                the weights are known before the losses: one pass forwards, one backwards
    by_losses(weigh)        the weights depend on the losses: linearize, weigh, pull the weights back
    reweighted(...)         the weights depend on what helps the clean set: Algorithm 1

Where the authors' published code differs from the paper, the paper's definition is implemented, and a note says so.
Weights sum to 1 over a batch, so that the rate means the same for every rule, unless a docstring says otherwise.
"""
import functools

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

from .step import Step


def weighted(losses, params, batch, clean, memory, known, now):
    """Update by the gradient of sum w_i l_i, where w = batch.weights, (n,), comes from the method's `weigh`."""
    def total(params):
        l, aux = losses(params, batch)
        return sum(batch.weights * l), (l, aux)
    (_, (l, aux)), gradient = value_and_grad(total, has_aux=True)(params)
    return Step(gradient, batch.weights, l, aux, memory)


def by_losses(weigh):
    """Return the rule with w, memory = weigh(losses, memory, known, now); w is a constant of the update."""
    def rule(losses, params, batch, clean, memory, known, now):
        l, J, aux = linearize(lambda params: losses(params, batch), params, has_aux=True)
        w, new = weigh(l, memory, known, now)
        return Step(J.pull(astype(w, l.dtype)), w, l, aux, new)
    return rule


# ------------------------------------------------------------------------ known before the losses

def equal(known, now):
    """Weigh all equally: w_i = 1 / n."""
    return np.full(len(now.labels), 1.0 / len(now.labels))


def rectified_noise(known, now):
    """Weigh at random: w_i = max(z_i, 0) / sum max(z, 0), z normal and new at every step; all 0 if no z is positive."""
    return reweight.normalize(xp.asarray(now.rng.standard_normal(len(now.labels))))


def inverse_frequency(known, now):
    """Let each of the K classes count the same on average: w_i = 1 / (n K p(y_i)), p their frequencies in training.

    The sum of the weights is 1 on average. The authors' weights, 1 - p(y_i), not divided by n, sum to 2 n p (1 - p)
    instead: 18 at a frequency of 0.9, 1 at 0.995, where both are the same. So their rate changes with the imbalance.
    """
    return 1.0 / (len(now.labels) * len(known.frequencies) * known.frequencies[now.labels])


def oracle(known, now):
    """Weigh in proportion to the precision of the label y_i in training, which only an oracle knows.

    The paper's Weighted, where the background's label alone is doubtful. The authors' code writes 0.1 / (0.4 + 0.6 / K)
    for that precision, which is right for 10 classes and a noise of 40 %, and finds the background by its frequency.
    """
    precision = known.precision[now.labels]
    return precision / max(precision.sum(), 1e-12)


# ------------------------------------------------------------------------ from the losses

def hard_mining(losses, params, batch, clean, memory, known, now):
    """Mine hard examples: of each class those with the highest losses, as many as the batch has of the rarest class.

    With two classes: all of the minority and as many of the majority. Equal weights; all are 0 in a batch without any
    example of the rarest class. The paper, section 4.1. The authors rank by the mean loss of the batch, one number for
    all, so that theirs chooses at random; here each example has its own loss.
    """
    l, aux = losses(params, batch)
    w = xp.zeros(len(l), l.dtype)
    classes = [np.flatnonzero(now.labels == c) for c in range(len(known.frequencies))]
    k = min(map(len, classes))
    if k == 0:
        return Step(tree.map(xp.zeros_like, params), w, l, aux, memory)
    classes = [xp.asarray(where) for where in classes]
    chosen = xp.concatenate([where[xp.argsort(-l[where])[:k]] for where in classes])
    w[chosen] = 1.0 / len(chosen)
    part = batch._replace(images=batch.images[chosen], labels=batch.labels[chosen])
    gradient, state = grad(lambda params: _mean_and_state(losses(params, part)), has_aux=True)(params)
    return Step(gradient, w, l, aux._replace(state=state), memory)


def _mean_and_state(result):
    l, aux = result
    return mean(l), aux.state


def low_loss(l, memory, known, now, keep=0.6):
    """Weigh the `keep` share of the batch with the lowest losses equally, after a fifth of training with all of it.

    Self-paced learning (Kumar et al., 2010) with the threshold at a share of the batch, as in Co-teaching (Han et al.,
    2018). It is told nothing of the classes; `keep` supposes the noise of the paper, 40 %.
    """
    if now.step < 0.2 * now.steps:
        return xp.full(len(l), 1.0 / len(l), l.dtype), memory
    k = max(round(keep * len(l)), 1)
    w = xp.zeros(len(l), l.dtype)
    w[xp.argsort(l)[:k]] = 1.0 / k
    return w, memory


def mentor_memory(rng):
    """Return a threshold of 0."""
    return xp.zeros((), "float32")


def mentor(l, memory, known, now, share=0.75, average=0.95, slope=1.0):
    """Weigh by MentorNet's predefined curriculum: v = 1 up to the threshold, then falling to 0 within `slope` nats.

    threshold: the moving average (memory) of the `share` quantile of the losses; all examples count in the first fifth
    of training. w = v / sum v. Jiang et al., 2018, equation 5 and section 4; the learned MentorNet is not here.
    """
    quantile = xp.quantile(l, share)
    threshold = average * memory + (1.0 - average) * quantile if now.step else quantile
    v = xp.clip(1.0 - (l - threshold) / slope, 0.0, 1.0)
    if now.step < 0.2 * now.steps:
        v = xp.ones_like(l)
    return reweight.normalize(astype(v, l.dtype)), astype(threshold, "float32")


# ------------------------------------------------------------------------ from the clean set

def reweighted(decay=False, redraw=False):
    """Return the rule of Algorithm 1 of the paper: weights by how much each example helps the clean set.

    decay: add the weight decay's term, decay / 2 |W|^2, to the clean loss, so that u_i = <grad l_i, v + decay W>.
    redraw: run the network once more for the update, with other dropout masks than for the weights.
    With both, this is the computation of the authors' code for CIFAR.
    """
    def rule(losses, params, batch, clean, memory, known, now):
        def clean_loss(params):
            return mean(losses(params, clean)[0]) + (_decay(params, known.decay) if decay else 0.0)
        if redraw:
            w = reweight.example_weights(lambda params: losses(params, batch)[0], clean_loss, params)
            again = batch._replace(key=nn.fold_in(batch.key, 1), weights=w)
            return weighted(losses, params, again, clean, memory, known, now)
        r = reweight.reweighted_gradient(lambda params: losses(params, batch), clean_loss, params, has_aux=True)
        return Step(r.gradient, r.weights, r.losses, r.aux, memory, r.clean_loss)
    return rule


def _decay(params, decay):
    return 0.5 * decay * functools.reduce(lambda a, b: a + b, [sum(p * p) for p in tree.flatten(params)[0]
                                                              if optim.has_matrix_shape(p)], 0.0)


_adam = optim.adam()


def meta_weight_net_memory(rng):
    """Return a network from a loss to a weight, 1 - 100 - 1, and the state of its optimizer."""
    net = nn.Sequential((nn.Linear.init(rng, 1, 100), relu, nn.Linear.init(rng, 100, 1), sigmoid))
    return {"net": net, "adam": _adam.init(net)}


def meta_weight_net(losses, params, batch, clean, memory, known, now):
    """Weigh by a Meta-Weight-Net: w = V(l) / sum V(l), V trained so that a step with its weights lowers the clean loss.

    The derivative goes back through the look-ahead step, theta - rate * gradient of sum w_i l_i: backward on backward,
    by the engine's gradient of a gradient. Shu et al., 2019, equations 4 to 8; V's rate is their 1e-3, with Adam.
    """
    def weights(net, l):
        v = reshape(net(reshape(stop_gradient(l), (len(l), 1))), (len(l),))
        return v / (sum(v) + 1e-12)

    def clean_loss_after(net):
        def total(params):
            l, _ = losses(params, batch)
            return sum(weights(net, l) * l)
        moved = tree.map(lambda p, g: p - now.rate * g, params, grad(total)(params))
        return mean(losses(moved, clean)[0])
    L, direction = value_and_grad(clean_loss_after)(memory["net"])
    net, state = _adam.update(direction, memory["adam"], memory["net"], 1e-3)
    step = by_losses(lambda l, *_: (weights(net, l), {"net": net, "adam": state}))
    return step(losses, params, batch, clean, memory, known, now)._replace(clean_loss=L)
