"""Boosting: a weighted vote of weak learners, each trained on the errors of the previous ones.

    state = init(np.ones(len(y)), [len(x_test)], classes=2)
    for t in range(50):
        state, r = boost_round(state, None, x, y, [x_test], seed=t)
        print(r.error, r.alpha, np.mean(decide(state.other_votes[0]) != y_test))

Learners, errors and the weights of the votes come from scikit-learn's AdaBoostClassifier. AdaBoost remembers nothing
but the weights of the examples, so a round is scikit-learn's ensemble of a single learner, trained with the weights
that the previous round returned; n rounds are its ensemble of n learners. By hand are the new weights and the votes,
which scikit-learn does not return, and costs in every round, which it does not have. A round is a pure function of a
state that is a tree of arrays, so that a training loop can save it after each round; learners need not be saved.

x: examples (n, features), float32; y: labels (n,) from 0 to classes - 1; both NumPy arrays.
"""
import dataclasses
from typing import NamedTuple

import numpy as np

from minigrad import MinigradError, grad, mean, nn, optim, to_host, tree, xp
from minigrad.backend import generator
from minigrad.models import mlp


class Ensemble(NamedTuple):
    """The state after a number of rounds: NumPy arrays, float64."""
    weights: np.ndarray         # (n,), of the training examples in the next round
    votes: np.ndarray           # (n, classes), the sum of the votes on the training examples
    other_votes: tuple          # the same on the other sets (test, validation), an array (m, classes) for each


class Round(NamedTuple):
    """The result of a round."""
    error: float                # the weighted training error of the learner, in [0, 1]
    alpha: float                # the weight of its vote, 0 or more


def init(weights, sizes, classes):
    """Return the state before the first round.

    weights: (n,), positive, up to a factor, equal for plain AdaBoost. With inverse_costs(frequencies)[y] the costs
    enter the initial weights only (Landesa-Vázquez & Alba-Castro, 2012). sizes: number of examples in each other set.
    """
    return Ensemble(weights / weights.sum(), np.zeros((len(weights), classes)),
                    tuple(np.zeros((m, classes)) for m in sizes))


def decide(votes):
    """Return the label with the most votes for each example: (n, classes) to (n,); the lowest where they tie."""
    return votes.argmax(1)


def boost_round(state, learner, x, y, others, seed, costs=1.0):
    """Train a learner, whose labels on x are p, add its vote, and reweight the examples; return (state, Round).

        e = sum of w_i over the examples with p_i != y_i
        alpha = log((1 - e) / e) + log(classes - 1)
        w_i <- w_i exp(alpha) costs_i if p_i != y_i, else w_i; then all are divided by their sum
        votes_i,k <- votes_i,k + alpha if p_i = k

    Args:
        state: an Ensemble.
        learner: a classifier of scikit-learn that uses weights; None: a stump, "is this pixel at most that bright?".
        x: training examples.
        y: their labels.
        others: the examples of each other set, (m, features).
        seed: of the learner.
        costs: (n,), positive, the cost of an error on each training example.

    For two classes this is AdaBoost.M1 (Freund & Schapire, 1997); many texts have half of this alpha, which leads to
    the same weights and the same majorities. For more it is SAMME (Zhu, Zou, Rosset & Hastie, 2009, Algorithm 2).
    Classes without training examples do not count. With costs it is CSB2 (Ting, 2000), with the plain weighted vote.
    Costs apply again in every round, so that the vote shifts more and more to the costly class: choose mild costs and
    few rounds.

    A learner at chance or worse, e >= 1 - 1 / classes, is discarded: it has no vote, and its error counts as 1. One
    without errors has alpha = 1. In both cases scikit-learn would stop; here the weights stay as they are, and the next
    round trains a learner on them with its own seed. A stump, whose seed only breaks ties, is then the same again.

    Raises MinigradError if scikit-learn is not installed.
    """
    try:
        from sklearn.ensemble import AdaBoostClassifier
    except ImportError as error:
        raise MinigradError(f"boosting needs scikit-learn, which cannot be imported ({error})\n"
                            "  help: pip install -e '.[experiments]'") from None
    state = tree.map(to_host, state)                        # a loaded state may be on a GPU
    single = AdaBoostClassifier(learner, n_estimators=1, random_state=seed)
    try:
        single.fit(x, y, sample_weight=state.weights)
    except ValueError as error:
        if "worse than random" not in str(error):
            raise
        return state, Round(1.0, 0.0)
    predict, r = single.estimators_[0].predict, Round(single.estimator_errors_[0], single.estimator_weights_[0])
    predicted = predict(x)
    weights = state.weights * np.where(predicted != y, np.exp(r.alpha) * costs, 1.0)
    other_votes = tuple(_add_votes(votes, predict(x), r.alpha) for votes, x in zip(state.other_votes, others))
    return Ensemble(weights / weights.sum(), _add_votes(state.votes, predicted, r.alpha), other_votes), r


def _add_votes(votes, predicted, alpha):
    return votes + alpha * np.eye(votes.shape[1])[predicted]


def inverse_costs(frequencies):
    """Return max(frequencies) / frequencies, (classes,); 1 for a class that does not occur."""
    return np.divide(frequencies.max(), frequencies, out=np.ones_like(frequencies), where=frequencies > 0)


def double_rare(frequencies):
    """Return a cost of 2 for each class that is rarer than 1 / classes, and 1 for the others."""
    return np.where(frequencies < 1.0 / len(frequencies), 2.0, 1.0)


@dataclasses.dataclass
class Network:
    """A classifier for scikit-learn: a network with one hidden layer, trained by SGD with momentum 0.9.

    Batches are drawn with repetition, each example with its weight as probability ("boosting by resampling", Freund &
    Schapire, 1996): the expected gradient is that of the weighted loss, and steps do not get longer when a few examples
    have most of the weight. Parameters and batches depend on random_state, an integer, only.
    """
    steps: int = 200
    hidden: int = 32            # number of hidden units
    rate: float = 0.05
    batch: int = 100
    random_state: int = 0

    def get_params(self, deep=True):
        """Return the arguments by name; scikit-learn copies and seeds classifiers with this and set_params."""
        return dataclasses.asdict(self)

    def set_params(self, **params):
        """Change arguments, and return self."""
        vars(self).update(params)
        return self

    def fit(self, x, y, sample_weight):
        """Train a new network on weighted examples, and return self."""
        rng = generator(self.random_state)
        self.classes_, labels = np.unique(y, return_inverse=True)
        x, labels = xp.asarray(x), xp.asarray(labels)
        model, optimizer = mlp(rng, (x.shape[1], self.hidden, len(self.classes_))), optim.sgd(momentum=0.9)
        state = optimizer.init(model)
        for chosen in rng.choice(len(y), (self.steps, self.batch), p=sample_weight / sample_weight.sum()):
            batch, targets = x[xp.asarray(chosen)], labels[xp.asarray(chosen)]
            gradient = grad(lambda model: mean(nn.cross_entropy(model(batch), targets)))(model)
            model, state = optimizer.update(gradient, state, model, self.rate)
        self.model = model
        return self

    def predict(self, x):
        """Return labels (n,), on the host."""
        return self.classes_[to_host(self.model(xp.asarray(x)).argmax(1))]
