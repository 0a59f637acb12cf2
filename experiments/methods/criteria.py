"""Criteria: the loss of each example. criterion(scores, labels, layer, frequencies) -> (n,).

scores: (n, classes), log-probabilities up to a constant; labels: (n,), integers; layer: the flat noise layer that the
criterion learns together with the model, or None; frequencies: (classes,), of the labels in training. Losses are in
nats.
"""
import numpy as np

from minigrad import (
    MinigradError,
    argmax,
    exp,
    getitem,
    log_softmax,
    logsumexp,
    nn,
    reshape,
    stop_gradient,
    sum,
    xp,
)


def plain(scores, labels, layer, frequencies):
    """Return the cross-entropy, -log p(y)."""
    return nn.cross_entropy(scores, labels)


def focal(scores, labels, layer, frequencies, gamma=2.0):
    """Return the focal loss, -(1 - p(y))^gamma log p(y), small for well-learned examples.

    Lin et al., 2017, equation 4.
    """
    l = nn.cross_entropy(scores, labels)
    return (1.0 - exp(-l)) ** gamma * l


def bootstrap_soft(scores, labels, layer, frequencies, beta=0.95):
    """Return -beta log p(y) - (1 - beta) sum_k q(k) log p(k), where q = p are the predicted probabilities.

    q is constant in the derivative, as in the authors' code. Reed et al., 2015, equation 6.
    """
    p = log_softmax(scores)
    return beta * nn.cross_entropy(scores, labels) - (1.0 - beta) * sum(exp(stop_gradient(p)) * p, axis=1)


def bootstrap_hard(scores, labels, layer, frequencies, beta=0.8):
    """Return -beta log p(y) - (1 - beta) log p(z), where z is the predicted class. Reed et al., 2015, equation 7."""
    own = argmax(stop_gradient(scores), axis=1)
    return beta * nn.cross_entropy(scores, labels) + (1.0 - beta) * nn.cross_entropy(scores, own)


def adaptation(scores, labels, layer, frequencies):
    """Return the cross-entropy after a noise adaptation layer: -log sum_k p(k) Q(k, y).

    Q(k, y): the probability that an example of class k has the label y, a softmax over each row of the layer, which is
    learned together with the network and omitted at test time. The layer is flat, (classes * classes,), so that weight
    decay, which applies to matrices only, does not change it. Sukhbaatar et al., 2015; Goldberger & Ben-Reuven, 2017,
    the simple model.
    """
    Q = log_softmax(reshape(layer, (len(frequencies), len(frequencies))), axis=1)
    return -logsumexp(log_softmax(scores, axis=1) + getitem(Q.T, labels), axis=1)


def adaptation_layer(matrix):
    """Return log(matrix + 1e-3), flat: the layer whose softmax is approximately the matrix (classes, classes).

    Each row of the matrix holds probabilities. The paper uses the identity, and the confusion matrix of a trained
    network.
    """
    return xp.asarray(np.log(matrix + 1e-3).ravel(), "float32")


def dice(scores, labels, layer, frequencies, gamma=1.0):
    """Return the self-adjusting dice loss of two classes: 1 - (2 (1 - p) p y + gamma) / ((1 - p) p + y + gamma).

    p: the probability of the rarer class; y: 1 for its examples, else 0. Examples with p near 0 or 1 count little. Li
    et al., 2020, equation 9. Raises MinigradError for more than two classes.
    """
    if len(frequencies) != 2:
        raise MinigradError(f"dice: {len(frequencies)} classes, and this loss is defined for two\n"
                            "  help: use it on a task with two classes (experiments.imbalance)")
    rare = int(np.argmin(frequencies))
    p = exp(log_softmax(scores, axis=1)[:, rare])
    y = (labels == rare).astype(scores.dtype)
    q = (1.0 - p) * p
    return 1.0 - (2.0 * q * y + gamma) / (q + y + gamma)
