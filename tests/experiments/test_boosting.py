"""Boosting compared with results by hand, with scikit-learn, and with its error bound."""
import functools
import sys

import numpy as np
import pytest

from experiments.methods.boosting import boost_round, decide, init, inverse_costs, network, stump
from minigrad import MinigradError, ShapeError, to_host, tree
from minigrad.backend import generator

LOG = np.log
LABELS = np.array([0, 0, 1, 1, 1])


def clouds(classes, n, key=0, rare=None, shape=(3, 2, 1)):
    """Return overlapping clouds of points, as images; rare: the share of class 0, or None."""
    rng = generator((key, classes))
    y = rng.integers(0, classes, n) if rare is None else (rng.uniform(size=n) > rare).astype(int)
    centers = generator(99).standard_normal((classes, *shape))
    return (centers[y] + 1.2 * rng.standard_normal((n, *shape))).astype(np.float32), y


def key_of_round(t):
    return generator((7, t))


def rounds_of(learner, x, y, others=(), rounds=10, classes=2, costs=None, state=None, start=0, rng_of_round=key_of_round):
    """Return [(state, Round)] after each round."""
    state, found = init(len(y), [len(other) for other in others], classes) if state is None else state, []
    for t in range(start, rounds):
        predict = learner(x, y, to_host(state.weights), rng_of_round(t))
        state, r = boost_round(state, y, predict(x), [predict(other) for other in others], classes, costs)
        found.append((state, r))
    return found


# ------------------------------------------------------------------------------------------------- by hand

def test_two_rounds_by_hand():
    state = init(5, (2,), 2)
    np.testing.assert_allclose(state.weights, [0.2] * 5)
    # Round 1: the last of five is wrong. e = 1/5, alpha = log 4; its weight 4/5 among 4 x 1/5, divided by 8/5.
    state, r = boost_round(state, LABELS, np.array([0, 0, 1, 1, 0]), (np.array([0, 1]),), 2)
    np.testing.assert_allclose(r, [1 / 5, LOG(4)])
    np.testing.assert_allclose(state.weights, [1 / 8, 1 / 8, 1 / 8, 1 / 8, 1 / 2])
    # Round 2: the first and third are wrong. e = 1/4, alpha = log 3; 3/8 1/8 3/8 1/8 4/8, divided by 12/8.
    state, r = boost_round(state, LABELS, np.array([1, 0, 0, 1, 1]), (np.array([1, 1]),), 2)
    np.testing.assert_allclose(r, [1 / 4, LOG(3)])
    np.testing.assert_allclose(state.weights, [3 / 12, 1 / 12, 3 / 12, 1 / 12, 4 / 12])
    # The vote: log 4 against log 3 where the two differ, log 4 + log 3 = log 12 where they agree.
    np.testing.assert_allclose(state.votes, [[LOG(4), LOG(3)], [LOG(12), 0], [LOG(3), LOG(4)], [0, LOG(12)],
                                             [LOG(4), LOG(3)]])
    assert decide(state.votes).tolist() == [0, 0, 1, 1, 0]
    np.testing.assert_allclose(state.other_votes[0], [[LOG(4), LOG(3)], [0, LOG(12)]])
    assert all(leaf.dtype == np.float64 for leaf in tree.flatten(state)[0])


def test_three_classes_by_hand():
    # Half wrong is better than chance among three: alpha = log 1 + log 2; 2/4 2/4 1/4 1/4, divided by 6/4.
    state, r = boost_round(init(4, (), 3), np.array([0, 1, 2, 2]), np.array([1, 2, 2, 2]), (), 3)
    np.testing.assert_allclose(r, [1 / 2, LOG(2)])
    np.testing.assert_allclose(state.weights, [1 / 3, 1 / 3, 1 / 6, 1 / 6])


def test_costs_by_hand():
    # The last of five is wrong and costs 3: 3 x 4/5 among 4 x 1/5, divided by 16/5. Error and alpha are as without.
    state, r = boost_round(init(5, (), 2), LABELS, np.array([0, 0, 1, 1, 0]), (), 2, costs=[1.0, 3.0])
    np.testing.assert_allclose(r, [1 / 5, LOG(4)])
    np.testing.assert_allclose(state.weights, [1 / 16, 1 / 16, 1 / 16, 1 / 16, 3 / 4])
    # It costs nothing more to mistake one of the other class: 4/5 among 4 x 1/5.
    state, _ = boost_round(init(5, (), 2), LABELS, np.array([1, 0, 1, 1, 1]), (), 2, costs=[1.0, 3.0])
    np.testing.assert_allclose(state.weights, [1 / 2, 1 / 8, 1 / 8, 1 / 8, 1 / 8])


def test_weights_to_begin_with():
    np.testing.assert_allclose(init(3, (), 2, [4, 2, 2]).weights, [1 / 2, 1 / 4, 1 / 4])
    np.testing.assert_allclose(inverse_costs([0.1, 0.4, 0.5]), [5, 1.25, 1])
    assert inverse_costs([0.5, 0.5, 0.0]).tolist() == [1, 1, 1]


# ----------------------------------------------------------------------------------------- the two odd cases

@pytest.mark.parametrize("classes, wrong", [(2, 2), (2, 3), (2, 4), (4, 3), (4, 4)])
def test_a_learner_at_chance_or_below_has_no_vote_and_the_weights_go_back(classes, wrong):
    labels = np.array([0, 1, 0, 1])
    predictions = np.where(np.arange(4) < wrong, 1 - labels, labels)
    uneven = init(4, (1,), classes, [2, 1, 1, 0.5])        # the first `wrong` weigh at least 2/3
    uneven = uneven if classes == 2 else init(4, (1,), classes)
    state, r = boost_round(uneven, labels, predictions, (np.array([1]),), classes)
    assert r.alpha == 0 and r.error >= 1 - 1 / classes
    assert (state.weights == 0.25).all() and not state.votes.any() and not state.other_votes[0].any()


def test_chance_to_rounding_is_chance():
    state = init(4, (), 2, [0.25 - 1e-14, 0.25, 0.125, 0.375])                     # e = 0.5 - 0.5e-14
    state, r = boost_round(state, np.array([0, 1, 0, 1]), np.array([1, 0, 0, 1]), (), 2)
    assert 0.499999 < r.error < 0.5 and r.alpha == 0 and (state.weights == 0.25).all()


@pytest.mark.parametrize("classes, alpha", [(2, LOG(9)), (3, LOG(18))])
def test_a_perfect_learner_votes_as_if_half_an_example_were_wrong(classes, alpha):
    state, r = boost_round(init(5, (), classes, [1, 2, 3, 4, 5]), LABELS, LABELS, (), classes)
    assert r.error == 0 and abs(r.alpha - alpha) < 1e-12                            # e = 1/10: log(0.9 / 0.1)
    assert (state.weights == 0.2).all() and decide(state.votes).tolist() == LABELS.tolist()


def test_boosting_goes_on_after_either_and_stays_finite():
    x = np.array([0.0, 1, 2, 3], np.float32)[:, None]
    for y in [np.array([0, 0, 1, 1]), np.array([0, 1, 1, 0])]:                      # one stump is perfect; none is
        for state, r in rounds_of(stump, x, y, rounds=12):
            assert all(np.isfinite(leaf).all() for leaf in tree.flatten((state, r))[0])
            assert abs(state.weights.sum() - 1) < 1e-12
    constant = rounds_of(lambda *_: lambda x: np.zeros(len(x), int), x, y, rounds=3)
    assert [r.alpha for _, r in constant] == [0, 0, 0]


def test_no_weight_becomes_so_small_that_an_error_overflows():
    state = init(3, (), 2, [1.0, 1.0, 1e-320])
    state, r = boost_round(state, np.array([0, 1, 1]), np.array([0, 1, 0]), (), 2)
    assert r.error > 1e-16 and np.isfinite(state.weights).all() and np.isfinite(r).all()
    state, labels = init(4, (), 2), np.zeros(4, int)
    for t in range(200):                                    # the first is always right: its weight shrinks by 0.6 or so
        state, r = boost_round(state, labels, (np.arange(4) == 1 + t % 3).astype(int), (), 2)
        assert 0.05 < r.error < 0.4
    assert state.weights[0] >= 2e-16


# ------------------------------------------------------------------------------------- against scikit-learn

class Seeds:
    """A stand-in for a generator that returns the seeds of scikit-learn's learners, one for each round."""
    def __init__(self, key):
        self.state = np.random.RandomState(key)

    def integers(self, high):
        return self.state.randint(high)


@pytest.mark.parametrize("classes", [2, 3])
def test_same_as_scikit_learn(classes):
    from sklearn.ensemble import AdaBoostClassifier
    from sklearn.tree import DecisionTreeClassifier
    (x, y), (x_test, _) = clouds(classes, 150), clouds(classes, 80, key=1)
    flat, flat_test = x.reshape(150, -1), x_test.reshape(80, -1)
    theirs = AdaBoostClassifier(DecisionTreeClassifier(max_depth=1), n_estimators=15, random_state=3).fit(flat, y)
    seeds = Seeds(3)
    ours = rounds_of(stump, x, y, (x_test,), 15, classes, rng_of_round=lambda t: seeds)
    assert len(theirs.estimators_) == 15
    np.testing.assert_allclose([r.error for _, r in ours], theirs.estimator_errors_, rtol=1e-9)
    np.testing.assert_allclose([r.alpha for _, r in ours], theirs.estimator_weights_, rtol=1e-9)
    for (state, _), train, test in zip(ours, theirs.staged_predict(flat), theirs.staged_predict(flat_test)):
        np.testing.assert_array_equal(decide(state.votes), train)
        np.testing.assert_array_equal(decide(state.other_votes[0]), test)


# ------------------------------------------------------------------------------------------------ the theory

def test_the_training_error_stays_below_its_bound_and_half_the_weight_is_on_mistakes():
    x, y = clouds(2, 120)
    bound, steps = 1.0, rounds_of(stump, x, y, rounds=25)
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
    for (a, r), (b, s) in zip(rounds_of(stump, x, y, (x[:5],), classes=3),
                              rounds_of(stump, x, y, (x[:5],), classes=3, costs=[1, 1, 1])):
        assert r == s
        for p, q in zip(tree.flatten(a)[0], tree.flatten(b)[0]):
            np.testing.assert_array_equal(p, q)


def test_a_larger_cost_raises_weight_and_recall_of_the_rare_class():
    (x, y), (x_test, y_test) = clouds(2, 300, rare=0.1), clouds(2, 300, key=1)
    recalls = []
    for costs in ([1, 1], [2, 1]):
        steps = rounds_of(stump, x, y, (x_test,), rounds=20, costs=costs)
        recalls.append(np.mean(decide(steps[-1][0].other_votes[0])[y_test == 0] == 0))
        recalls.append(steps[0][0].weights[y == 0].sum())
    assert recalls[2] > recalls[0] + 0.1 and recalls[3] > recalls[1]


# ---------------------------------------------------------------------------------------------- the learners

@pytest.mark.parametrize("learner", [stump, functools.partial(network, classes=2, steps=60)])
def test_a_learner_minds_the_weights(learner):
    x, y = clouds(2, 200)
    x[y == 1] += 4                                          # easy, but half of the labels are wrong and weigh nothing
    labels = np.where(np.arange(200) < 100, 1 - y, y)
    predict = learner(x, labels, np.where(np.arange(200) < 100, 0.0, 0.01), generator(0))
    assert np.mean(predict(x) == y) > 0.95


def test_the_key_of_the_round_decides():
    drawn = []
    rounds_of(lambda x, y, weights, rng: drawn.append(rng.integers(1 << 60)) or (lambda x: y), *clouds(2, 9), rounds=3)
    assert drawn == [key_of_round(t).integers(1 << 60) for t in range(3)]
    x, y = np.array([[0, 0], [1, 1]], np.float32), np.array([0, 1])                 # two pixels that are as good
    chosen = [stump(x, y, np.full(2, 0.5), generator(k))(np.array([[0, 1]], np.float32))[0] for k in range(20)]
    assert set(chosen) == {0, 1}


def test_the_network_learns_and_comes_again_to_the_bit(device):
    (x, y), (x_test, y_test) = clouds(3, 300, shape=(4, 4, 1)), clouds(3, 90, key=1, shape=(4, 4, 1))
    learner = functools.partial(network, classes=3, steps=60, hidden=8, batch=40)
    first, second = (rounds_of(learner, x, y, (x_test,), rounds=2, classes=3) for _ in range(2))
    for (a, r), (b, s) in zip(first, second):
        assert r == s
        for p, q in zip(tree.flatten(a)[0], tree.flatten(b)[0]):
            assert type(p) is np.ndarray and p.tobytes() == q.tobytes()
    state, r = first[-1]
    assert np.mean(decide(state.other_votes[0]) != y_test) < 0.2                 # chance: 0.67
    other, _ = rounds_of(learner, x, y, (x_test,), 1, 3, rng_of_round=lambda t: generator(8))[0]
    assert (other.weights != first[0][0].weights).any()


def test_predictions_do_not_depend_on_the_chunk():
    x, y = clouds(2, 50)
    predict = network(x, y, np.full(50, 0.02), generator(0), 2, steps=5)
    many = np.concatenate([x] * 90)                         # 4,500: more than two chunks
    np.testing.assert_array_equal(predict(many), np.concatenate([predict(x)] * 90))
    assert predict(x[:0]).shape == (0,)


# ------------------------------------------------------------------------------------------------- to go on

def test_a_saved_state_goes_on_to_the_same_bits(tmp_path):
    x, y = clouds(3, 120)
    others = (x[:7], x[50:90])
    whole = rounds_of(stump, x, y, others, classes=3, rounds=6)
    tree.save(tmp_path / "state.safetensors", whole[2][0])
    loaded = tree.load(tmp_path / "state.safetensors", init(120, (7, 40), 3))
    rest = rounds_of(stump, x, y, others, classes=3, rounds=6, state=loaded, start=3)
    assert len(rest) == 3 and [r for _, r in rest] == [r for _, r in whole[3:]]
    for p, q in zip(tree.flatten(rest[-1][0])[0], tree.flatten(whole[-1][0])[0]):
        np.testing.assert_array_equal(p, q)


def test_a_state_loaded_onto_the_device_is_taken(device):
    from minigrad import xp
    state = tree.map(xp.asarray, init(5, (2,), 2))
    state, r = boost_round(state, LABELS, np.array([0, 0, 1, 1, 0]), (np.array([0, 1]),), 2)
    np.testing.assert_allclose(r, [1 / 5, LOG(4)])
    assert all(to_host(leaf) is leaf for leaf in tree.flatten(state)[0])
    x = np.arange(5, dtype=np.float32)[:, None]
    start, loaded = init(5, (5,), 2), tree.map(xp.asarray, init(5, (5,), 2))
    for (a, r), (b, s) in zip(rounds_of(stump, x, LABELS, (x,), 2, state=start), rounds_of(stump, x, LABELS, (x,), 2, state=loaded)):
        assert r == s and a.weights.tobytes() == b.weights.tobytes()


def test_no_state_is_changed_afterwards():
    x, y = clouds(2, 60)
    state = init(60, (60,), 2)
    for t in range(5):
        before, copy, predict = state, tree.map(np.copy, state), stump(x, y, state.weights, key_of_round(t))
        state, _ = boost_round(state, y, predict(x), [predict(x)], 2)
        for p, q in zip(tree.flatten(before)[0], tree.flatten(copy)[0]):
            np.testing.assert_array_equal(p, q)
        assert (state.weights != before.weights).any()


# --------------------------------------------------------------------------------------------------- errors

def test_what_does_not_fit_is_refused():
    state = init(5, (2,), 2)
    for predictions, others in [(LABELS[:4], (LABELS[:2],)), (LABELS, ()), (LABELS, (LABELS[:3],))]:
        with pytest.raises(ShapeError, match="do not fit"):
            boost_round(state, LABELS, predictions, others, 2)


@pytest.mark.parametrize("costs", [[1.0], [1.0, 0.0], [1.0, -2.0], [1.0, np.inf], [np.nan, 1.0]])
def test_costs_must_be_positive_and_one_for_each_class(costs):
    with pytest.raises(MinigradError, match="help: one positive, finite number for each class"):
        boost_round(init(5, (), 2), LABELS, LABELS, (), 2, costs)


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.tree", None)
    with pytest.raises(MinigradError) as caught:
        stump(*clouds(2, 10), np.full(10, 0.1), generator(0))
    assert "a stump needs scikit-learn" in str(caught.value)
    assert str(caught.value).endswith("\n  help: pip install -e '.[experiments]'")
