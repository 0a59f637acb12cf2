"""Criteria: the loss of each example. criterion(scores, labels, layer, frequencies) -> (n,).

scores: (n, classes), log-probabilities up to a constant; labels: (n,) integers; layer: what the criterion learns
beside the model, or None; frequencies: (classes,), of the labels in training. Losses are in nats.
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
    softmax,
    stop_gradient,
    sum,
    xp,
)


def plain(scores, labels, layer, frequencies):
    """Return the cross-entropy, -log p(y)."""
    return nn.cross_entropy(scores, labels)


def focal(scores, labels, layer, frequencies, gamma=2.0):
    """Return (1 - p(y))^gamma times cross-entropy: well-learned examples count little. Lin et al., 2017, equation 4."""
    l = nn.cross_entropy(scores, labels)
    return (1.0 - exp(-l)) ** gamma * l


def bootstrap_soft(scores, labels, layer, frequencies, beta=0.95):
    """Return beta times cross-entropy + (1 - beta) times that against the model's own probabilities q: - sum q log p.

    q is a constant of the derivative, as in the authors' code. Reed et al., 2015, equation 6.
    """
    p = log_softmax(scores)
    return beta * nn.cross_entropy(scores, labels) - (1.0 - beta) * sum(exp(stop_gradient(p)) * p, axis=1)


def bootstrap_hard(scores, labels, layer, frequencies, beta=0.8):
    """Return beta times cross-entropy + (1 - beta) times that against the class that the model finds likeliest.

    Reed et al., 2015, equation 7.
    """
    own = argmax(stop_gradient(scores), axis=1)
    return beta * nn.cross_entropy(scores, labels) + (1.0 - beta) * nn.cross_entropy(scores, own)


def adaptation(scores, labels, layer, frequencies):
    """Return the cross-entropy after a noise adaptation layer: -log sum_k p(k) Q(k, y).

    Q(k, y): the probability that an example of class k has the label y, a softmax over each row of the layer, which is
    learned beside the network and left out at test. The layer is kept flat, (classes * classes,), so that weight decay,
    which is for matrices, leaves it alone. Sukhbaatar et al., 2015; Goldberger & Ben-Reuven, 2017, the simple model.
    """
    Q = log_softmax(reshape(layer, (len(frequencies), len(frequencies))), axis=1)
    return -logsumexp(log_softmax(scores, axis=1) + getitem(Q.T, labels), axis=1)


def adaptation_layer(matrix):
    """Return the layer whose softmax is about `matrix` (classes, classes): log(matrix + 1e-3), flat.

    Each row of the matrix holds probabilities. The paper has two: the identity, and the confusion matrix of a trained
    network.
    """
    return xp.asarray(np.log(matrix + 1e-3).ravel(), "float32")


def flip_probabilities(layer):
    """Return Q of an adaptation layer: (classes, classes), each row sums to 1."""
    classes = int(np.sqrt(len(layer)))
    return softmax(reshape(layer, (classes, classes)), axis=1)


def dice(scores, labels, layer, frequencies, gamma=1.0):
    """Return the self-adjusting dice loss of two classes: 1 - (2 (1 - p) p y + gamma) / ((1 - p) p + y + gamma).

    p: the probability of the rarer class; y: 1 for its examples, else 0. An example the model is sure of, either way,
    counts little. Li et al., 2020, equation 9. Raises MinigradError for more classes.
    """
    if len(frequencies) != 2:
        raise MinigradError(f"dice: {len(frequencies)} classes, and it tells the rarer of two from the other\n"
                            "  help: use it on a task of two classes (experiments.imbalance)")
    rare = int(np.argmin(frequencies))
    p = exp(log_softmax(scores, axis=1)[:, rare])
    y = (labels == rare).astype(scores.dtype)
    q = (1.0 - p) * p
    return 1.0 - (2.0 * q * y + gamma) / (q + y + gamma)
