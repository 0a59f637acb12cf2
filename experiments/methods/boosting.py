"""Boosting: many weak learners, each trained on what those before it got wrong, and a weighted vote.

    state = begin(len(y), [len(x_test)], classes=2)
    for t in range(50):
        predict = stump(x, y, state.weights, seed((7, t)))
        state, r = boost_round(state, y, predict(x), [predict(x_test)], classes=2)
        print(r.error, r.alpha, np.mean(predicted(state.other_votes[0]) != y_test))

A learner is a function learner(x, y, weights, rng) -> predict, and predict(x) gives labels: `stump`, or
functools.partial(network, classes=2). Here x is images (n, ...), float32, y labels 0 ... classes - 1 (n,), weights
(n,), float64, of sum 1: all NumPy arrays. One round is a pure function of a state that is a tree of arrays, so that a
training loop can save it after each round (minigrad.tree.save) and go on from there; learners need not be kept.
"""
from typing import NamedTuple

import numpy as np

from minigrad import MinigradError, ShapeError, grad, mean, nn, optim, to_host, tree, xp
from minigrad.errors import message
from models import mlp

LEAST = np.finfo(np.float64).eps        # no weight falls below it: 1 / error cannot overflow


class Ensemble(NamedTuple):
    """What is known after some rounds: NumPy arrays, float64.

    weights (n,) of the training examples, for the next round; votes (n, classes) so far on the training examples;
    other_votes: a tuple of such arrays (m, classes), one for each other set (test, validation).
    """
    weights: np.ndarray
    votes: np.ndarray
    other_votes: tuple


class Round(NamedTuple):
    """error: the learner's weighted error in training, in [0, 1]; alpha: the weight of its vote, 0 or more."""
    error: float
    alpha: float


def begin(n, sizes, classes, weights=None):
    """Return the state before the first round, for n training examples; sizes: of each other set.

    weights (n,): positive numbers, to which the weights are proportional at first; None: all equal. So a cost can count
    once, at the start, as inverse_costs(frequencies)[y], and what follows is AdaBoost (Landesa-Vázquez & Alba-Castro,
    2012).
    """
    weights = np.ones(n) if weights is None else np.asarray(weights, np.float64)
    return Ensemble(_normalized(weights), np.zeros((n, classes)), tuple(np.zeros((m, classes)) for m in sizes))


def predicted(votes):
    """Return the label with the most votes for each example: (n, classes) to (n,); the lowest where they tie."""
    return votes.argmax(1)


def boost_round(state, labels, predictions, other_predictions, classes, costs=None):
    """Do one round of AdaBoost with a learner's predictions; return (state, Round).

        e = sum of w_i of the examples that it gets wrong
        alpha = log((1 - e) / e) + log(classes - 1)
        w_i <- w_i exp(alpha) costs[y_i] where it is wrong, w_i where it is right, then all divided by their sum
        votes_i,k <- votes_i,k + alpha where it says k

    predictions (n,): labels for the training examples; other_predictions: for each of the other sets, (m,).

    For two classes this is AdaBoost.M1 (Freund & Schapire, 1997); the half of this alpha that many texts have gives the
    same weights and the same majorities. For more it is SAMME (Zhu, Zou, Rosset & Hastie, 2009, Algorithm 2).
    scikit-learn has the same alpha.

    Two cases have no useful logarithm, and both set the weights back to equal, so that boosting goes on: a learner no
    better than chance, e >= 1 - 1 / classes, has no vote (alpha = 0); one that makes no mistake votes as if it had got
    half an example of n wrong, e = 1 / (2 n). (scikit-learn ends there.)

    costs: None, or (classes,) positive numbers: what it costs to mistake an example of each class. The rule is CSB2
    (Ting, 2000) with equal weights to begin with and the plain weighted vote. It charges mistakes alone and leaves
    alpha as it is; a rule that charges right answers too (AdaC2: Sun, Kamel, Wong & Wang, 2007) raises the dear class
    against the others in every round, however well it is learnt. With all costs 1 it is AdaBoost to the bit. The bound
    on the training error of two classes, the product of 2 sqrt(e (1 - e)) over the rounds, holds without costs, as
    long as no round sets the weights back.

    A cost is charged again in every round, so that the vote leans to the dear class ever more: the costs are to be mild
    and the rounds few. Test error of stumps on MNIST 4/9 at 99:1, one seed, after 20, 40 and 100 rounds: cost 1 for the
    rare class 32, 29, 27 %; cost 2 16, 10, 23 %; cost 99 47, 47, 50 %. With 99 in the weights to begin with instead
    (see begin) 12, 13 % after 20 and 40.

    Raises ShapeError where the arrays do not fit together, MinigradError for costs that are not positive.
    """
    state = tree.map(to_host, state)                        # a state that was loaded may lie on a GPU
    _check_predictions(state, labels, predictions, other_predictions)
    wrong, charged = predictions != labels, _costs(costs, classes)[labels]
    error = float(np.average(wrong, weights=state.weights))
    equal = _normalized(np.ones(len(labels)))
    if error >= 1.0 - 1.0 / classes - 1e-12:                # to rounding: else a learner at chance comes again for ever
        alpha, weights = 0.0, equal
    elif not wrong.any():
        alpha, weights = _alpha(0.5 / len(labels), classes), equal
    else:
        alpha = _alpha(error, classes)
        weights = _normalized(state.weights * np.where(wrong, np.exp(alpha) * charged, 1.0))
    others = tuple(_voted(votes, p, alpha) for votes, p in zip(state.other_votes, other_predictions))
    return Ensemble(weights, _voted(state.votes, predictions, alpha), others), Round(error, alpha)


def inverse_costs(frequencies):
    """Return costs inverse to the classes' frequencies in training, 1 for the commonest: (classes,) to (classes,).

    Classes of equal frequency, and one that does not occur, cost 1.
    """
    frequencies = np.asarray(frequencies, np.float64)
    return np.divide(frequencies.max(), frequencies, out=np.ones_like(frequencies), where=frequencies > 0)


def _normalized(weights):
    return np.maximum(weights / weights.sum(), LEAST)


def _alpha(error, classes):
    return float(np.log((1.0 - error) / error) + np.log(classes - 1.0))


def _voted(votes, predictions, alpha):
    return votes + alpha * (predictions[:, None] == np.arange(votes.shape[1]))


def _costs(costs, classes):
    costs = np.ones(classes) if costs is None else np.asarray(costs, np.float64)
    if costs.shape != (classes,) or not ((costs > 0) & np.isfinite(costs)).all():
        raise MinigradError(f"boost_round: costs {costs.tolist()} for {classes} classes\n"
                            "  help: one positive, finite number for each class; all 1 is AdaBoost")
    return costs


def _check_predictions(state, labels, predictions, other_predictions):
    rows = [("votes", state.votes, ""), ("labels", labels, ""), ("predictions", predictions, "")]
    fits = len(state.votes) == len(labels) == len(predictions) and len(state.other_votes) == len(other_predictions)
    for i, (votes, other) in enumerate(zip(state.other_votes, other_predictions)):
        rows += [(f"other_votes[{i}]", votes, ""), (f"other_predictions[{i}]", other, "")]
        fits = fits and len(votes) == len(other)
    if not fits:
        raise ShapeError(message("boost_round", "state, labels and predictions do not fit", rows,
                                 "one label for each example of every set that the state was begun with"))


# -------------------------------------------------------------------------------------------------- learners

def stump(x, y, weights, rng):
    """Train a decision tree of one question, "is this pixel at most that bright?", on weighted examples.

    scikit-learn's, on flattened images. Raises MinigradError where it is not installed.
    """
    try:
        from sklearn.tree import DecisionTreeClassifier
    except ImportError as error:
        raise MinigradError(f"a stump needs scikit-learn, which cannot be imported ({error})\n"
                            "  help: pip install -e '.[experiments]'") from None
    tree_of_one = DecisionTreeClassifier(max_depth=1, random_state=int(rng.integers(2 ** 31 - 1)))
    tree_of_one.fit(_flat(x), y, sample_weight=weights)
    return lambda x: tree_of_one.predict(_flat(x))


def network(x, y, weights, rng, classes, steps=200, hidden=32, rate=0.05, batch=100):
    """Train a small network: one hidden layer on flattened images, SGD with momentum 0.9, from new parameters.

    Each batch is drawn with repetition, every example with its weight as probability ("boosting by resampling",
    Freund & Schapire, 1996): on average the gradient is that of the weighted loss, and a step is as long when a few
    examples have all the weight as when all are equal. Parameters and batches come from rng: one key, the same bits.
    """
    images, labels = xp.asarray(_flat(x)), xp.asarray(y)
    model = mlp(rng, (images.shape[1], hidden, classes))
    optimizer = optim.sgd(momentum=0.9)
    state = optimizer.init(model)
    batches = rng.choice(len(y), (steps, batch), p=weights / weights.sum())
    for step in range(steps):
        chosen = xp.asarray(batches[step])
        some, theirs = images[chosen], labels[chosen]
        gradient = grad(lambda model: mean(nn.cross_entropy(model(some), theirs)))(model)
        model, state = optimizer.update(gradient, state, model, rate)
    return lambda x: _classified(model, x)


def _flat(x):
    return x.reshape(len(x), -1)


def _classified(model, x, chunk=2000):
    """Return labels on the host; images go to the device by the chunk."""
    parts = [to_host(model(xp.asarray(_flat(x[i:i + chunk]))).argmax(1)) for i in range(0, len(x), chunk)]
    return np.concatenate([np.zeros(0, np.int64), *parts])
