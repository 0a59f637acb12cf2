"""Boosting compared with results by hand, with scikit-learn, and with its error bound."""
import sys

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.ensemble import AdaBoostClassifier

from experiments.methods import boosting
from experiments.methods.boosting import Network, boost_round, decide, double_rare, init, inverse_costs
from minigrad import MinigradError, to_host, tree
from minigrad.backend import generator

LOG = np.log
LABELS = np.array([0, 0, 1, 1, 1])


class Says(BaseEstimator):
    """A learner that says the same whatever it is shown: answers[i] for the example [i]."""
    fits = 0

    def __init__(self, answers):
        self.answers = answers

    def fit(self, x, y, sample_weight):
        self.classes_ = np.unique(y)
        Says.fits += 1
        return self

    def predict(self, x):
        return np.array(self.answers)[x[:, 0].astype(int)]


def numbered(n):
    return np.arange(n, dtype=np.float32)[:, None]


def round_of(answers, labels, state=None, classes=2, **costs):
    """Do a round in which the learner gives these answers, first those for the training examples."""
    n, m = len(labels), len(answers) - len(labels)
    state = init(np.ones(n), [m] if m else [], classes) if state is None else state
    x = numbered(n + m)
    return boost_round(state, Says(answers), x[:n], np.asarray(labels), [x[n:]] if m else [], 0, **costs)


def clouds(classes, n, key=0, rare=None, size=6):
    """Return overlapping clouds of points; rare: the share of class 0, or None."""
    rng = generator((key, classes))
    y = rng.integers(0, classes, n) if rare is None else (rng.uniform(size=n) > rare).astype(int)
    centers = generator(99).standard_normal((classes, size))
    return (centers[y] + 1.2 * rng.standard_normal((n, size))).astype(np.float32), y


def rounds_of(learner, x, y, others=(), rounds=10, classes=2, state=None, start=0, seed=lambda t: 700 + t, **costs):
    """Return [(state, Round)] after each round."""
    state, found = init(np.ones(len(y)), [len(other) for other in others], classes) if state is None else state, []
    for t in range(start, rounds):
        state, r = boost_round(state, learner, x, y, others, seed(t), **costs)
        found.append((state, r))
    return found


def same_bits(a, b):
    return all(type(p) is type(q) and p.tobytes() == q.tobytes() for p, q in zip(tree.flatten(a)[0], tree.flatten(b)[0], strict=True))


# ------------------------------------------------------------------------------------------------- by hand

def test_two_rounds_by_hand():
    # Round 1: the last of five is wrong. e = 1/5, alpha = log 4; its weight 4/5 among 4 x 1/5, divided by 8/5.
    fits = Says.fits
    state, r = round_of([0, 0, 1, 1, 0] + [0, 1], LABELS)
    np.testing.assert_allclose(r, [1 / 5, LOG(4)])
    np.testing.assert_allclose(state.weights, [1 / 8, 1 / 8, 1 / 8, 1 / 8, 1 / 2])
    # Round 2: the first and third are wrong. e = 1/4, alpha = log 3; 3/8 1/8 3/8 1/8 4/8, divided by 12/8.
    state, r = round_of([1, 0, 0, 1, 1] + [1, 1], LABELS, state)
    np.testing.assert_allclose(r, [1 / 4, LOG(3)])
    np.testing.assert_allclose(state.weights, [3 / 12, 1 / 12, 3 / 12, 1 / 12, 4 / 12])
    assert Says.fits == fits + 2                            # one learner in each
    # The vote: log 4 against log 3 where the two differ, log 4 + log 3 = log 12 where they agree.
    np.testing.assert_allclose(state.votes, [[LOG(4), LOG(3)], [LOG(12), 0], [LOG(3), LOG(4)], [0, LOG(12)],
                                             [LOG(4), LOG(3)]])
    assert decide(state.votes).tolist() == [0, 0, 1, 1, 0]
    np.testing.assert_allclose(state.other_votes[0], [[LOG(4), LOG(3)], [0, LOG(12)]])
    assert all(leaf.dtype == np.float64 for leaf in tree.flatten(state)[0])


@pytest.mark.parametrize("classes", [3, 10])
def test_three_classes_by_hand(classes):
    # Half wrong is better than chance among three: alpha = log 1 + log 2; 2/4 2/4 1/4 1/4, divided by 6/4.
    # Classes of which there are no examples change nothing.
    state, r = round_of([1, 2, 2, 2], [0, 1, 2, 2], classes=classes)
    np.testing.assert_allclose(r, [1 / 2, LOG(2)])
    np.testing.assert_allclose(state.weights, [1 / 3, 1 / 3, 1 / 6, 1 / 6])
    assert state.votes.shape == (4, classes) and decide(state.votes).tolist() == [1, 2, 2, 2]


def test_costs_by_hand():
    # The last of five is wrong and costs 3: 3 x 4/5 among 4 x 1/5, divided by 16/5. Error and alpha are as without.
    costs = np.array([1.0, 3.0])[LABELS]
    state, r = round_of([0, 0, 1, 1, 0], LABELS, costs=costs)
    np.testing.assert_allclose(r, [1 / 5, LOG(4)])
    np.testing.assert_allclose(state.weights, [1 / 16, 1 / 16, 1 / 16, 1 / 16, 3 / 4])
    # It costs nothing more to mistake one of the other class: 4/5 among 4 x 1/5.
    state, _ = round_of([1, 0, 1, 1, 1], LABELS, costs=costs)
    np.testing.assert_allclose(state.weights, [1 / 2, 1 / 8, 1 / 8, 1 / 8, 1 / 8])


def test_initial_weights_and_costs():
    np.testing.assert_allclose(init(np.array([4, 2, 2]), (), 2).weights, [1 / 2, 1 / 4, 1 / 4])
    np.testing.assert_allclose(inverse_costs(np.array([0.1, 0.4, 0.5])), [5, 1.25, 1])
    assert inverse_costs(np.array([0.5, 0.5, 0.0])).tolist() == [1, 1, 1]
    assert double_rare(np.array([0.2, 0.3, 0.5])).tolist() == [2, 2, 1]
    assert double_rare(np.array([0.5, 0.5])).tolist() == [1, 1]


# ------------------------------------------------------------------------ where scikit-learn's ensembles stop

@pytest.mark.parametrize("classes, wrong", [(2, 2), (2, 3), (2, 4), (4, 3), (4, 4)])
def test_a_learner_at_chance_or_below_has_no_vote_and_the_weights_stay(classes, wrong):
    labels = np.arange(4) % classes
    start = init(np.ones(4), (1,), classes)
    state, r = round_of([(c + (i < wrong)) % classes for i, c in enumerate(labels)] + [1], labels, start, classes)
    assert r == (1, 0) and same_bits(state, start)
    state, r = round_of([1 - labels[0], *labels[1:], 1], labels, state, classes)           # a better one comes next
    assert r.error == 0.25 and r.alpha > 0 and state.weights[0] > 0.49


@pytest.mark.parametrize("learner", [None, Network(steps=100)])
def test_a_perfect_learner_has_one_vote_and_the_weights_stay(learner):
    x = numbered(5)
    for state, r in rounds_of(learner, x, LABELS, (x[:2],), 3, state=init(np.array([1, 2, 3, 4, 5.0]), (2,), 2)):
        assert r == (0, 1)
        np.testing.assert_allclose(state.weights, np.array([1, 2, 3, 4, 5]) / 15, rtol=1e-12)
    np.testing.assert_array_equal(state.votes, 3.0 * np.eye(2)[LABELS])
    np.testing.assert_array_equal(state.other_votes[0], [[3, 0], [3, 0]])


@pytest.mark.parametrize("learner", [None, Network(steps=3)])
@pytest.mark.parametrize("n", [1, 4])
def test_one_class_alone_is_learned_at_once(learner, n):
    (state, r), = rounds_of(learner, numbered(n), np.full(n, 7), (numbered(2),), 1, classes=10)
    assert r == (0, 1) and (state.weights == 1 / n).all() and (decide(state.other_votes[0]) == 7).all()


def test_other_errors_of_scikit_learn_are_no_chance():
    with pytest.raises(ValueError, match="NaN"):
        rounds_of(None, numbered(5) * np.nan, LABELS, rounds=1)


# ------------------------------------------------------------------------------------- against scikit-learn

@pytest.mark.parametrize("classes, first", [(2, False), (2, True), (3, False)])
def test_same_as_scikit_learn(classes, first):
    """An ensemble of one in each round is scikit-learn's ensemble of 15, with equal weights or with costs in them."""
    (x, y), (x_test, _) = clouds(classes, 150), clouds(classes, 80, key=1)
    weights = inverse_costs(np.array([0.1, 0.9]))[y] if first else np.ones(150)
    theirs = AdaBoostClassifier(n_estimators=15, random_state=3).fit(x, y, weights)
    seeds = np.random.RandomState(3)                        # draws the seed of a stump in each round, as theirs does
    ours = rounds_of(None, x, y, (x_test,), 15, classes, state=init(weights, [80], classes), seed=lambda t: seeds)
    assert len(theirs.estimators_) == 15
    np.testing.assert_allclose([r.error for _, r in ours], theirs.estimator_errors_, rtol=1e-9)
    np.testing.assert_allclose([r.alpha for _, r in ours], theirs.estimator_weights_, rtol=1e-9)
    for (state, _), train, test in zip(ours, theirs.staged_predict(x), theirs.staged_predict(x_test)):
        np.testing.assert_array_equal(decide(state.votes), train)
        np.testing.assert_array_equal(decide(state.other_votes[0]), test)


# ------------------------------------------------------------------------------------------------ the theory

def test_the_training_error_stays_below_its_bound_and_half_the_weight_is_on_mistakes():
    """The bound for two classes is the product of 2 sqrt(e (1 - e)) over the rounds."""
    x, y = clouds(2, 120)
    bound, steps = 1.0, rounds_of(None, x, y, rounds=25)
    before = np.zeros((120, 2))
    for state, r in steps:
        assert 0 < r.error < 0.5 and r.alpha > 0
        bound *= 2 * np.sqrt(r.error * (1 - r.error))
        assert np.mean(decide(state.votes) != y) <= bound
        said = (state.votes - before).argmax(1)
        assert abs(state.weights[said != y].sum() - 0.5) < 1e-9
        before = state.votes
    assert bound < 0.75 and np.mean(decide(state.votes) != y) < np.mean(decide(steps[0][0].votes) != y)


def test_costs_of_one_are_adaboost_to_the_bit():
    x, y = clouds(3, 100)
    for (a, r), (b, s) in zip(rounds_of(None, x, y, (x[:5],), classes=3),
                              rounds_of(None, x, y, (x[:5],), classes=3, costs=np.ones(100))):
        assert r == s and same_bits(a, b)


def test_a_larger_cost_raises_weight_and_recall_of_the_rare_class():
    (x, y), (x_test, y_test) = clouds(2, 300, rare=0.1), clouds(2, 300, key=1)
    recalls = []
    for costs in (np.array([1, 1]), np.array([2, 1])):
        steps = rounds_of(None, x, y, (x_test,), rounds=20, costs=costs[y])
        recalls.append(np.mean(decide(steps[-1][0].other_votes[0])[y_test == 0] == 0))
        recalls.append(steps[0][0].weights[y == 0].sum())
    assert recalls[2] > recalls[0] + 0.1 and recalls[3] > recalls[1]


# ----------------------------------------------------------------------------------------------- the network

def test_the_network_minds_the_weights():
    x, y = clouds(2, 200)
    x[y == 1] += 4                                          # easy, but half of the labels are wrong and weigh nothing
    labels = np.where(np.arange(200) < 100, 1 - y, y)
    network = Network(steps=60).fit(x, labels, np.where(np.arange(200) < 100, 0.0, 0.01))
    assert np.mean(network.predict(x) == y) > 0.95


def test_the_network_learns_and_comes_again_to_the_bit(device):
    (x, y), (x_test, y_test) = clouds(3, 300, size=16), clouds(3, 90, key=1, size=16)
    learner = Network(steps=60, hidden=8, batch=40)
    y, y_test = 2 * y, 2 * y_test                           # labels 0, 2, 4
    first, second = (rounds_of(learner, x, y, (x_test,), rounds=2, classes=5) for _ in range(2))
    for (a, r), (b, s) in zip(first, second):
        assert r == s and same_bits(a, b) and all(type(leaf) is np.ndarray for leaf in tree.flatten(a)[0])
    state, r = first[-1]
    assert np.mean(decide(state.other_votes[0]) != y_test) < 0.2                 # chance: 0.67
    other, _ = rounds_of(learner, x, y, (x_test,), 1, 5, seed=lambda t: 8)[0]
    assert (other.weights != first[0][0].weights).any()


# ------------------------------------------------------------------------------------------------- to go on

def test_a_saved_state_goes_on_to_the_same_bits(tmp_path):
    x, y = clouds(3, 120)
    others = (x[:7], x[50:90])
    whole = rounds_of(None, x, y, others, classes=3, rounds=6)
    tree.save(tmp_path / "state.safetensors", whole[2][0])
    loaded = tree.load(tmp_path / "state.safetensors", init(np.ones(120), (7, 40), 3))
    rest = rounds_of(None, x, y, others, classes=3, rounds=6, state=loaded, start=3)
    assert len(rest) == 3 and [r for _, r in rest] == [r for _, r in whole[3:]]
    assert same_bits(rest[-1][0], whole[-1][0])


def test_a_state_loaded_onto_the_device_is_taken(device):
    from minigrad import xp
    x, start = numbered(5), init(np.ones(5), (5,), 2)
    loaded = tree.map(xp.asarray, start)
    for (a, r), (b, s) in zip(*(rounds_of(Says([0, 0, 1, 1, 0]), x, LABELS, (x,), 2, state=state) for state in (start, loaded))):
        assert r == s and same_bits(a, b) and all(to_host(leaf) is leaf for leaf in tree.flatten(b)[0])


def test_no_state_is_changed_afterwards():
    x, y = clouds(2, 60)
    state = init(np.ones(60), (60,), 2)
    for t in range(5):
        before, copy = state, tree.map(np.copy, state)
        state, _ = boost_round(state, None, x, y, [x], t)
        assert same_bits(before, copy) and (state.weights != before.weights).any()


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    with pytest.raises(MinigradError) as caught:
        rounds_of(None, numbered(5), LABELS)
    assert "boosting needs scikit-learn, which cannot be imported" in str(caught.value)
    assert str(caught.value).endswith("\n  help: pip install -e '.[experiments]'")


def test_where_votes_tie_the_lowest_label_wins():
    assert boosting.decide(np.array([[1.0, 1.0, 0.0], [0.0, 2.0, 2.0], [0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])).tolist() == [0, 1, 0, 2]
