"""The methods that are compared, by name. Each is a sampler (which examples make a batch) and a rule (what a batch is
worth): METHODS is the table.

Definitions follow the paper, section 4.1, and the authors' published code for what the paper leaves open. Where that
code does something else than the paper says, the paper's definition is implemented here, and a note says so.
"""
from typing import Any, Callable, NamedTuple

import numpy as np

from minigrad import reweight, sum, tree, value_and_grad, xp


class Batch(NamedTuple):
    """Images and labels on the array module in use, and the labels on the host, where samplers and rules read them."""
    images: Any
    labels: Any
    host_labels: np.ndarray


class Step(NamedTuple):
    """What a rule makes of a batch."""
    gradient: Any       # a tree shaped like the model
    weights: Any        # (n,) of the batch's examples, for the record
    losses: Any         # (n,)


class Method(NamedTuple):
    """sampler(labels, n, rng) -> indices; rule(loss, model, batch, clean, context) -> Step.

    loss(model, images, labels) -> (n,). uses_clean: whether the clean set is kept apart for the rule; if not, the
    method is trained on the task's `baseline` set. batch_size: other than that of the settings.
    """
    summary: str
    sampler: Callable
    rule: Callable
    uses_clean: bool = False
    batch_size: int = None


class Context(NamedTuple):
    """What a rule may know besides the batch: the generator of this step, and the share of each class in training."""
    rng: Any
    shares: np.ndarray


# ---------------------------------------------------------------------------------------------- samplers

def any_examples(labels, n, rng):
    """n examples without repetition, all equally likely."""
    return rng.choice(len(labels), min(n, len(labels)), replace=False)


def balanced_classes(labels, n, rng):
    """n examples, as many of each class: drawn without repetition where the class has enough, else with.

    The authors' list of experiments leaves their Resample out, and the class they have for it fills up the minority
    from the majority; this is the paper's "class-balanced mini-batches".
    """
    parts = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    each = max(n // len(parts), 1)
    return np.concatenate([rng.choice(part, each, replace=len(part) < each) for part in parts])


# ------------------------------------------------------------------------------------------------- rules

def weighted(weigh):
    """The rule whose update is the gradient of sum w_i l_i; w = weigh(labels, context) is known before the losses."""
    def rule(loss, model, batch, clean, context):
        w = xp.asarray(weigh(batch.host_labels, context), np.float32)

        def total(model):
            losses = loss(model, batch.images, batch.labels)
            return sum(w * losses), losses
        (_, losses), gradient = value_and_grad(total, has_aux=True)(model)
        return Step(gradient, w, losses)
    return rule


def equal(labels, context):
    """w_i = 1 / n."""
    return np.full(len(labels), 1.0 / len(labels))


def rectified_noise(labels, context):
    """w_i = max(z_i, 0) / sum max(z, 0), z normal and new at every step; all 0 if no z is positive."""
    return reweight.normalise(xp.asarray(context.rng.standard_normal(len(labels))))


def inverse_frequency(labels, context):
    """w_i = 1 / (n K p(y_i)), with K classes and p their shares in training: each class counts the same on average.

    The sum of the weights is 1 on average. The authors' weights, 1 - p(y_i), not divided by n, sum to 2 n p (1 - p)
    instead: 18 at a share of 0.9, 1 at 0.995, where both are the same. So their rate changes with the imbalance.
    """
    return 1.0 / (len(labels) * len(context.shares) * context.shares[labels])


def hardest(loss, model, batch, clean, context):
    """Hard mining: all of the minority and as many of the majority, those with the highest losses; equal weights.

    A batch without any of the minority is worth nothing: all weights are 0; in one with more of the minority than of
    the majority, as many of each are kept. The authors rank by the mean loss of the batch, one number for all, so that
    theirs chooses at random; here the majority is ranked by its own losses.
    """
    rare = np.flatnonzero(batch.host_labels == np.argmin(context.shares))
    common = np.flatnonzero(batch.host_labels != np.argmin(context.shares))
    losses = loss(model, batch.images, batch.labels)
    weights = xp.zeros(len(losses), losses.dtype)
    k = min(len(rare), len(common))
    if k == 0:
        return Step(tree.map(xp.zeros_like, model), weights, losses)
    common = xp.asarray(common)
    chosen = xp.concatenate([xp.asarray(rare[:k]), common[xp.argsort(-losses[common])[:k]]])
    weights[chosen] = 1.0 / (2 * k)
    images, labels = batch.images[chosen], batch.labels[chosen]
    _, gradient = value_and_grad(lambda model: sum(loss(model, images, labels)) / (2.0 * k))(model)
    return Step(gradient, weights, losses)


def reweighted(loss, model, batch, clean, context):
    """Algorithm 1 of the paper: weights by how much each example helps the clean set."""
    r = reweight.reweighted_gradient(lambda model: loss(model, batch.images, batch.labels),
                                     lambda model: loss(model, clean.images, clean.labels).mean(), model)
    return Step(r.gradient, r.weights, r.losses)


METHODS = {
    "uniform": Method("every example counts the same", any_examples, weighted(equal)),
    "random": Method("random weights, new at every step", any_examples, weighted(rectified_noise)),
    "proportion": Method("weights inverse to the class's share", any_examples, weighted(inverse_frequency)),
    "resample": Method("class-balanced batches", balanced_classes, weighted(equal)),
    "hard_mining": Method("the minority and the hardest of the majority", any_examples, hardest, batch_size=500),
    "reweight": Method("Algorithm 1: what helps the clean set", any_examples, reweighted, uses_clean=True),
}
