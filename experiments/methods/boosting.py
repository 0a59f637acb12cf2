"""Boosting: a weighted vote of weak learners, each trained on the errors of the previous ones.

    state = init(len(y), [len(x_test)], classes=2)
    for t in range(50):
        predict = stump(x, y, state.weights, seed((7, t)))
        state, r = boost_round(state, y, predict(x), [predict(x_test)], classes=2)
        print(r.error, r.alpha, np.mean(decide(state.other_votes[0]) != y_test))

A learner is a function learner(x, y, weights, rng) -> predict, where predict(x) returns labels: `stump`, or
functools.partial(network, classes=2). x: images (n, ...), float32; y: labels (n,) from 0 to classes - 1; weights: (n,),
float64, of sum 1; all are NumPy arrays. A round is a pure function of a state that is a tree of arrays, so that a
training loop can save it after each round (minigrad.tree.save) and continue later; the learners need not be saved.
"""
from typing import NamedTuple

import numpy as np

from minigrad import MinigradError, ShapeError, grad, mean, nn, optim, to_host, tree, xp
from minigrad.errors import message
from models import mlp

SMALLEST_WEIGHT = np.finfo(np.float64).eps      # a lower bound on weights, so that 1 / error cannot overflow


class Ensemble(NamedTuple):
    """The state after a number of rounds: NumPy arrays, float64."""
    weights: np.ndarray         # (n,), of the training examples in the next round
    votes: np.ndarray           # (n, classes), the sum of the votes on the training examples
    other_votes: tuple          # the same on the other sets (test, validation), an array (m, classes) for each


class Round(NamedTuple):
    """The result of a round."""
    error: float                # the weighted training error of the learner, in [0, 1]
    alpha: float                # the weight of its vote, 0 or more


def init(n, sizes, classes, weights=None):
    """Return the state before the first round.

    Args:
        n: number of training examples.
        sizes: number of examples in each other set.
        classes: number of classes.
        weights: (n,), positive, the initial weights up to a factor; None: equal weights. With
            inverse_costs(frequencies)[y] the costs enter the initial weights only, and the rounds are those of AdaBoost
            (Landesa-Vázquez & Alba-Castro, 2012).
    """
    weights = np.ones(n) if weights is None else np.asarray(weights, np.float64)
    return Ensemble(_normalize(weights), np.zeros((n, classes)), tuple(np.zeros((m, classes)) for m in sizes))


def decide(votes):
    """Return the label with the most votes for each example: (n, classes) to (n,); the lowest where they tie."""
    return votes.argmax(1)


def boost_round(state, labels, predictions, other_predictions, classes, costs=None):
    """Do one round of AdaBoost with a learner's predictions p; return (state, Round).

        e = sum of w_i over the examples with p_i != y_i
        alpha = log((1 - e) / e) + log(classes - 1)
        w_i <- w_i exp(alpha) costs[y_i] if p_i != y_i, else w_i; then all are divided by their sum
        votes_i,k <- votes_i,k + alpha if p_i = k

    Args:
        state: an Ensemble.
        labels: (n,), of the training examples.
        predictions: (n,), labels predicted for the training examples.
        other_predictions: the same for each other set, (m,).
        classes: number of classes.
        costs: (classes,), positive, the cost of an error on an example of each class; None: 1 for all.

    For two classes this is AdaBoost.M1 (Freund & Schapire, 1997); many texts have half of this alpha, which leads to
    the same weights and the same majorities. For more classes it is SAMME (Zhu, Zou, Rosset & Hastie, 2009, Algorithm
    2). scikit-learn has the same alpha.

    In two cases the logarithm is of no use, and the weights are reset to equal, so that boosting can continue: a
    learner no better than chance, e >= 1 - 1 / classes, has no vote (alpha = 0); a learner without errors votes as if
    half an example of n were wrong, e = 1 / (2 n). (scikit-learn stops there.)

    With costs the rule is CSB2 (Ting, 2000), with equal initial weights and the plain weighted vote. Costs apply to
    errors only and do not change alpha; a rule in which they also apply to right predictions (AdaC2: Sun, Kamel, Wong &
    Wang, 2007) raises the weights of the costly class in every round, however well it is learned. With all costs 1 the
    bits are those of AdaBoost. The bound on the training error of two classes, the product of 2 sqrt(e (1 - e)) over
    the rounds, holds without costs, as long as no round resets the weights.

    Costs apply again in every round, so that the vote shifts more and more to the costly class: choose mild costs and
    few rounds. Test error of stumps on MNIST 4/9 at 99:1, one seed, after 20, 40 and 100 rounds: with cost 1 for the
    rare class 32, 29, 27 %; with cost 2 16, 10, 23 %; with cost 99 47, 47, 50 %. With 99 in the initial weights instead
    (see init) 12, 13 % after 20 and 40.

    Raises ShapeError for arrays that do not fit together, MinigradError for costs that are not positive.
    """
    state = tree.map(to_host, state)                        # a loaded state may be on a GPU
    _check_predictions(state, labels, predictions, other_predictions)
    wrong, factors = predictions != labels, _check_costs(costs, classes)[labels]
    error = float(np.average(wrong, weights=state.weights))
    equal = _normalize(np.ones(len(labels)))
    if error >= 1.0 - 1.0 / classes - 1e-12:                # up to rounding, or a learner at chance repeats for ever
        alpha, weights = 0.0, equal
    elif not wrong.any():
        alpha, weights = _alpha(0.5 / len(labels), classes), equal
    else:
        alpha = _alpha(error, classes)
        weights = _normalize(state.weights * np.where(wrong, np.exp(alpha) * factors, 1.0))
    others = tuple(_add_votes(votes, p, alpha) for votes, p in zip(state.other_votes, other_predictions))
    return Ensemble(weights, _add_votes(state.votes, predictions, alpha), others), Round(error, alpha)


def inverse_costs(frequencies):
    """Return max(frequencies) / frequencies, (classes,); 1 for a class that does not occur."""
    frequencies = np.asarray(frequencies, np.float64)
    return np.divide(frequencies.max(), frequencies, out=np.ones_like(frequencies), where=frequencies > 0)


def _normalize(weights):
    return np.maximum(weights / weights.sum(), SMALLEST_WEIGHT)


def _alpha(error, classes):
    return float(np.log((1.0 - error) / error) + np.log(classes - 1.0))


def _add_votes(votes, predictions, alpha):
    return votes + alpha * (predictions[:, None] == np.arange(votes.shape[1]))


def _check_costs(costs, classes):
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
                                 "one label for each example of every set that the state was initialized with"))


# -------------------------------------------------------------------------------------------------- learners

def stump(x, y, weights, rng):
    """Train a decision tree with one test, "is this pixel at most that bright?", on weighted examples.

    x: images (n, ...), flattened here; y: labels (n,); weights: (n,). The tree is scikit-learn's; raises MinigradError
    if that is not installed.
    """
    try:
        from sklearn.tree import DecisionTreeClassifier
    except ImportError as error:
        raise MinigradError(f"a stump needs scikit-learn, which cannot be imported ({error})\n"
                            "  help: pip install -e '.[experiments]'") from None
    classifier = DecisionTreeClassifier(max_depth=1, random_state=int(rng.integers(2 ** 31 - 1)))
    classifier.fit(_flatten(x), y, sample_weight=weights)
    return lambda x: classifier.predict(_flatten(x))


def network(x, y, weights, rng, classes, steps=200, hidden=32, rate=0.05, batch=100):
    """Train a new small network, with one hidden layer on flattened images, by SGD with momentum 0.9.

    Batches are drawn with repetition, each example with its weight as probability ("boosting by resampling", Freund &
    Schapire, 1996): the expected gradient is that of the weighted loss, and steps do not get longer when a few examples
    have most of the weight. Parameters and batches depend on rng only.

    Args:
        x: images, (n, ...).
        y: labels, (n,).
        weights: of the examples, (n,).
        rng: NumPy generator.
        classes: number of classes.
        steps: of SGD.
        hidden: number of hidden units.
        rate: learning rate.
        batch: number of examples in a batch.
    """
    images, labels = xp.asarray(_flatten(x)), xp.asarray(y)
    model = mlp(rng, (images.shape[1], hidden, classes))
    optimizer = optim.sgd(momentum=0.9)
    state = optimizer.init(model)
    batches = rng.choice(len(y), (steps, batch), p=weights / weights.sum())
    for step in range(steps):
        chosen = xp.asarray(batches[step])
        x, y = images[chosen], labels[chosen]
        gradient = grad(lambda model: mean(nn.cross_entropy(model(x), y)))(model)
        model, state = optimizer.update(gradient, state, model, rate)
    return lambda x: _classify(model, x)


def _flatten(x):
    return x.reshape(len(x), -1)


def _classify(model, x, chunk=2000):
    """Return predicted labels on the host; images are moved to the device in chunks."""
    parts = [to_host(model(xp.asarray(_flatten(x[i:i + chunk]))).argmax(1)) for i in range(0, len(x), chunk)]
    return np.concatenate([np.zeros(0, np.int64), *parts])
