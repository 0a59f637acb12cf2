"""Each method on a batch computed by hand."""
import pickle

import numpy as np
import pytest

import minigrad as mg
from experiments.methods import (
    METHODS,
    Aux,
    Batch,
    ByCleanLoss,
    ByLosses,
    Known,
    NoiseLayer,
    Now,
    TrainsOn,
    Weighting,
    by_weights,
    criteria,
    find_method,
    rules,
    samplers,
)
from minigrad import MinigradError, nn, optim
from minigrad.backend import generator

WEIGHTINGS = {name: method for name, method in METHODS.items() if isinstance(method, Weighting)}
LABELS = np.array([0, 1, 1, 1])
X = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 3.0], [0.0, 2.0]])
MODEL = np.array([1.0, 1.0])
CLEAN = Batch(np.array([[1.0, 0.0]]), np.array([0]))


def losses(params, batch):
    """Return losses, 1, 1, 3, 2 at the model (1, 1), whose gradients are the rows of X."""
    return mg.matmul(batch.images, params), Aux()


def known_and_now(frequencies=(0.25, 0.75), precision=(1.0, 1.0), decay=0.0, step=0, steps=1, rate=1.0, labels=LABELS):
    """Return the Known and the Now of a rule."""
    return Known(np.array(frequencies), np.array(precision), decay), Now(step, steps, rate, labels, generator(0))


def batch_for(method, x, known, now):
    """Return the batch, with the weights of the method for its labels."""
    weights = method.weigh(known, now) if method.rule is by_weights else None
    return Batch(x, now.labels, weights=None if weights is None else weights.astype("float32"))


def step(name, labels=LABELS, x=X, clean=CLEAN, memory=None, **rest):
    method, (known, now) = METHODS[name], known_and_now(labels=labels, **rest)
    return method.rule(losses, MODEL, batch_for(method, x, known, now), clean, memory, known, now)


@pytest.mark.parametrize("name, weights", [
    ("uniform", [0.25, 0.25, 0.25, 0.25]),
    ("resample", [0.25, 0.25, 0.25, 0.25]),
    ("proportion", [0.5, 1 / 6, 1 / 6, 1 / 6]),             # 1 / (4 * 2 * 0.25), 1 / (4 * 2 * 0.75)
    ("hard_mining", [0.5, 0, 0.5, 0]),                      # the one of the minority, the hardest of the majority
    ("reweight", [1, 0, 0, 0]),                             # the only one along the clean gradient (1, 0)
    ("reweight_authors", [1, 0, 0, 0]),
    ("oracle", [0.1, 0.3, 0.3, 0.3]),                       # label 0 is right in 30 % of its examples, label 1 in 90 %
    ("low_loss", [0.5, 0.5, 0, 0]),                         # 0.6 of 4 is 2, those with loss 1
    # quantile 0.75 of 1 1 3 2: 2.25; the threshold 0.95 * 1 + 0.05 * 2.25 = 1.0625, from there down to 0 within 1 nat
    ("mentor", np.array([1, 1, 0, 0.0625]) / 2.0625),
])
def test_weights_and_gradient(name, weights):
    result = step(name, precision=(0.3, 0.9), step=50, steps=100, memory=np.float32(1.0))
    np.testing.assert_allclose(result.weights, weights, rtol=1e-6)
    np.testing.assert_allclose(result.gradient, np.array(weights) @ X, rtol=1e-6)
    np.testing.assert_allclose(result.losses, [1, 1, 3, 2])


def test_random_weights():
    result = step("random")
    assert (result.weights >= 0).all() and abs(result.weights.sum() - 1) < 1e-6
    np.testing.assert_allclose(result.gradient, result.weights @ X, rtol=1e-6)
    z = np.maximum(generator(0).standard_normal(4), 0)
    np.testing.assert_allclose(result.weights, z / z.sum(), rtol=1e-6)


def test_proportion_counts_each_class_the_same_on_average():
    labels = np.repeat([0, 1], [5, 995])
    w = step("proportion", labels, np.ones((1000, 2)), frequencies=(0.005, 0.995)).weights
    np.testing.assert_allclose([w[:5].sum(), w[5:].sum()], [0.5, 0.5], rtol=1e-5)


def test_hard_mining_without_a_minority_does_nothing():
    result = step("hard_mining", np.ones(4, int))
    assert not result.gradient.any() and not result.weights.any()


def test_hard_mining_takes_as_many_of_each_class():
    np.testing.assert_allclose(step("hard_mining", np.array([0, 0, 1, 1]), frequencies=(0.4, 0.6)).weights, [0.25] * 4)
    three = step("hard_mining", np.array([0, 1, 2, 2]), frequencies=(0.25, 0.25, 0.5))
    np.testing.assert_allclose(three.weights, [1 / 3, 1 / 3, 1 / 3, 0], rtol=1e-6)


def test_curricula_begin_with_everything():
    for name in ("low_loss", "mentor"):
        result = step(name, step=19, steps=100, memory=np.float32(1.0))
        np.testing.assert_allclose(result.weights, [0.25] * 4)
    assert np.isclose(step("mentor", steps=100, memory=np.float32(7.0)).memory, 2.25)      # the first quantile itself
    assert np.isclose(step("mentor", step=1, steps=100, memory=np.float32(1.0)).memory, 1.0625)


def test_weight_decay_in_the_direction():
    """u = X (v + decay W), with W as a matrix, so that it decays: v = (1, 0), W = (-1, 1), decay 1/2."""
    W = np.array([[-1.0, 1.0]])

    def losses(params, batch):
        return mg.matmul(batch.images, params[0]), Aux()
    batch = Batch(X, LABELS)
    plain = ByCleanLoss()(losses, W, batch, CLEAN, None, *known_and_now(decay=0.5)).weights
    with_decay = ByCleanLoss(decay=True)(losses, W, batch, CLEAN, None, *known_and_now(decay=0.5)).weights
    np.testing.assert_allclose(plain, [1, 0, 0, 0])
    u = X @ np.array([0.5, 0.5])
    np.testing.assert_allclose(with_decay, u / u.sum(), rtol=1e-6)


def test_the_authors_draw_dropout_twice():
    """The weights come from one mask and the update from another; with one draw, both come from the same."""
    def losses(params, batch):
        x = mg.dropout(batch.images, 0.5, batch.key) if batch.key is not None else batch.images
        return mg.matmul(x, params), Aux()
    x, key = np.ones((6, 40)), (3, 1)
    batch, clean = Batch(x, np.zeros(6, int), key), Batch(np.ones((1, 40)), None)
    params = np.ones(40)
    first, second = (np.asarray(mg.dropout(x, 0.5, k)) for k in (key, nn.fold_in(key, 1)))
    once = ByCleanLoss()(losses, params, batch, clean, None, *known_and_now())
    twice = ByCleanLoss(decay=True, redraw=True)(losses, params, batch, clean, None, *known_and_now())
    w = first.sum(1) / first.sum()
    np.testing.assert_allclose(once.weights, w, rtol=1e-6)
    np.testing.assert_allclose(twice.weights, w, rtol=1e-6)
    np.testing.assert_allclose(once.gradient, w @ first, rtol=1e-6)
    np.testing.assert_allclose(twice.gradient, w @ second, rtol=1e-6)


def test_meta_weight_net():
    """V moves along the derivative of the clean loss after the step, by finite differences; the weights are the new
    V's, and Adam's first step is the rate times the sign."""
    memory = rules.meta_weight_net_memory(generator(0))
    memory = mg.tree.map(lambda p: p.astype("float64"), memory)
    rng = np.random.default_rng(0)
    x, clean = rng.standard_normal((5, 3)), Batch(rng.standard_normal((2, 3)), None)
    params = rng.standard_normal(3)

    def losses(params, batch):
        return mg.softplus(mg.matmul(batch.images, params)), Aux()

    def after(net):
        v = np.asarray(net(np.log1p(np.exp(x @ params))[:, None]))[:, 0]
        slope = 1 / (1 + np.exp(-(x @ params)))
        moved = params - 0.1 * ((v / v.sum() * slope) @ x)
        return np.log1p(np.exp(clean.images @ moved)).mean(), v / v.sum()
    result = rules.meta_weight_net(losses, params, Batch(x, None), clean, memory, *known_and_now(rate=0.1))
    leaves, structure = mg.tree.flatten(memory["net"])
    new = mg.tree.flatten(result.memory["net"])[0]
    checked = 0
    for k, (old, now) in enumerate(zip(leaves, new)):
        for place in list(np.ndindex(old.shape))[::7]:
            ends = []
            for h in (1e-5, -1e-5):
                moved = [p.copy() for p in leaves]
                moved[k][place] += h
                ends.append(after(mg.tree.unflatten(structure, moved))[0])
            slope = (ends[0] - ends[1]) / 2e-5
            if abs(slope) > 1e-7:
                assert np.isclose(now[place] - old[place], -1e-3 * np.sign(slope), rtol=1e-2)
                checked += 1
    assert checked > 10
    np.testing.assert_allclose(result.weights, after(result.memory["net"])[1], rtol=1e-6)
    slope = 1 / (1 + np.exp(-(x @ params)))
    np.testing.assert_allclose(result.gradient, (result.weights * slope) @ x, rtol=1e-6)
    np.testing.assert_allclose(result.clean_loss, after(memory["net"])[0], rtol=1e-6)


def test_every_rule_hands_on_what_the_network_gives():
    """Every rule returns the running averages of batch norm, the scores and the memory."""
    for name, method in WEIGHTINGS.items():
        marked = Aux(state=np.array([7.0]), scores=np.array([[3.0]]))

        def losses(params, batch):
            return mg.matmul(batch.images, params), marked
        memory = method.memory(generator(0)) if method.memory else np.float32(0.5)
        batch = batch_for(method, X.astype("float32"), *known_and_now())
        result = method.rule(losses, MODEL.astype("float32"), batch, CLEAN, memory, *known_and_now())
        assert result.aux.state == 7.0 and result.aux.scores == 3.0, name
        assert mg.tree.flatten(result.memory)[1] == mg.tree.flatten(memory)[1], name


# ------------------------------------------------------------------------------------------------- samplers

def test_samplers():
    labels = np.repeat([0, 1], [4, 396])
    for name, method in WEIGHTINGS.items():
        chosen = method.sampler(labels, 100, generator(0))
        assert len(chosen) == 100
        if name == "resample":
            assert np.bincount(labels[chosen]).tolist() == [50, 50]
            assert len(set(chosen[50:])) == 50              # the majority without repetition
        elif method.trains_on is not TrainsOn.CLEAN:
            assert len(set(chosen)) == 100
    assert len(METHODS["uniform"].sampler(labels, 500, generator(0))) == 400
    assert len(METHODS["clean_only"].sampler(labels[:3], 100, generator(0))) == 100
    reached = set(np.concatenate([METHODS["resample"].sampler(labels, 100, generator(k)) for k in range(200)]))
    assert reached == set(range(400))


# ------------------------------------------------------------------------------------------------- criteria

SCORES = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.6, 0.3]]))
GIVEN = np.array([0, 2])
SHARES = np.full(3, 1 / 3)


@pytest.mark.parametrize("criterion, expected", [
    (criteria.plain, [-np.log(0.5), -np.log(0.3)]),
    (criteria.focal, [-0.5 ** 2 * np.log(0.5), -0.7 ** 2 * np.log(0.3)]),
    # 0.95 of cross-entropy and 0.05 of the entropy of the model's own probabilities
    (criteria.bootstrap_soft, [-0.95 * np.log(0.5) - 0.05 * (0.5 * np.log(0.5) + 0.5 * np.log(0.25)),
                               -0.95 * np.log(0.3) - 0.05 * (0.1 * np.log(0.1) + 0.6 * np.log(0.6) + 0.3 * np.log(0.3))]),
    # 0.8 of cross-entropy and 0.2 of that of the model's own decision, 0 and 1
    (criteria.bootstrap_hard, [-np.log(0.5), -0.8 * np.log(0.3) - 0.2 * np.log(0.6)]),
])
def test_criteria(criterion, expected):
    np.testing.assert_allclose(criterion(SCORES, GIVEN, None, SHARES), expected, rtol=1e-12)


def test_bootstrapping_with_beta_1_is_cross_entropy_and_its_targets_are_constants():
    for criterion in (criteria.bootstrap_soft, criteria.bootstrap_hard):
        np.testing.assert_allclose(criterion(SCORES, GIVEN, None, SHARES, beta=1.0),
                                   criteria.plain(SCORES, GIVEN, None, SHARES))
        # with constant targets t the gradient of cross-entropy is p - t
        p, y = np.exp(SCORES), np.eye(3)[GIVEN]
        own = p if criterion is criteria.bootstrap_soft else np.eye(3)[p.argmax(1)]
        beta = 0.95 if criterion is criteria.bootstrap_soft else 0.8
        gradient = mg.grad(lambda s: mg.sum(criterion(s, GIVEN, None, SHARES)))(SCORES)
        np.testing.assert_allclose(gradient, p - (beta * y + (1 - beta) * own), atol=1e-12)


def test_adaptation_layer():
    Q = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.0, 0.4, 0.6]])
    layer = criteria.adaptation_layer(Q)
    rows = mg.softmax(layer.reshape(3, 3))
    np.testing.assert_allclose(rows.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(rows, Q, atol=2e-3)
    p = np.exp(SCORES)
    np.testing.assert_allclose(criteria.adaptation(SCORES, GIVEN, layer, SHARES),
                               -np.log([p[0] @ rows[:, 0], p[1] @ rows[:, 2]]), rtol=1e-5)
    identity = criteria.adaptation_layer(np.eye(3))
    np.testing.assert_allclose(criteria.adaptation(SCORES, GIVEN, identity, SHARES),
                               criteria.plain(SCORES, GIVEN, None, SHARES), atol=5e-3)
    assert layer.ndim == 1 and not optim.has_matrix_shape(layer)    # no weight decay


def test_the_adaptation_layer_learns_the_flips():
    """With a perfect network and labels flipped by a known matrix, the layer converges to that matrix."""
    rng, flips = np.random.default_rng(0), np.array([[0.6, 0.4, 0.0], [0.0, 1.0, 0.0], [0.0, 0.4, 0.6]])
    true = rng.integers(0, 3, 3000)
    given = np.array([rng.choice(3, p=flips[k]) for k in true])
    scores = np.where(np.eye(3)[true] == 1, 8.0, -8.0)
    layer, optimizer = criteria.adaptation_layer(np.eye(3)).astype("float64"), optim.adam()
    state = optimizer.init(layer)
    for _ in range(300):
        gradient = mg.grad(lambda layer: mg.mean(criteria.adaptation(scores, given, layer, SHARES)))(layer)
        layer, state = optimizer.update(gradient, state, layer, 0.05)
    np.testing.assert_allclose(mg.softmax(layer.reshape(3, 3)), flips, atol=0.03)


def test_dice():
    """Of two classes, class 1 is rarer: p = 0.2 and 0.9, (1 - p) p = 0.16 and 0.09."""
    scores, labels = np.log(np.array([[0.8, 0.2], [0.1, 0.9]])), np.array([1, 0])
    expected = [1 - (2 * 0.16 + 1) / (0.16 + 1 + 1), 1 - 1 / (0.09 + 1)]
    np.testing.assert_allclose(criteria.dice(scores, labels, None, np.array([0.9, 0.1])), expected, rtol=1e-12)


@pytest.mark.parametrize("name", [name for name in WEIGHTINGS if "bootstrap" not in name])      # constant targets: see above
def test_the_gradients_of_criteria(name):
    """They are equal to central differences, in the scores and in the layer."""
    rng = np.random.default_rng(1)
    scores, labels, shares = rng.standard_normal((6, 2)), np.array([0, 1, 1, 0, 1, 1]), np.array([1 / 3, 2 / 3])
    layer = rng.standard_normal(4)

    def total(scores, layer):
        return mg.sum(METHODS[name].criterion(scores, labels, layer, shares))
    gradients = mg.grad(total, argnums=(0, 1))(scores, layer)
    for k, gradient in enumerate(gradients):
        direction, ends = rng.standard_normal(gradient.shape), []
        for h in (1e-6, -1e-6):
            xs = [scores, layer]
            xs[k] = xs[k] + h * direction
            ends.append(total(*xs))
        assert np.isclose((ends[0] - ends[1]) / 2e-6, np.sum(gradient * direction), rtol=1e-6, atol=1e-8)


# ------------------------------------------------------------------------------------------------- the table

def test_the_table():
    for name, method in METHODS.items():
        assert method.name == name and method.summary and method.source, name
        assert method.base is None or method.base.base is None, name
    assert [name for name, method in WEIGHTINGS.items() if method.trains_on is TrainsOn.TRAIN] == [
        "reweight", "reweight_decay", "reweight_authors", "meta_weight_net"]
    for name, method in WEIGHTINGS.items():                 # a layer exists where the criterion reads it
        assert (method.layer is not None) == (method.criterion is criteria.adaptation), name
        assert method.layer is not NoiseLayer.CONFUSION or method.base is not None, name


@pytest.mark.parametrize("name", METHODS)
def test_methods_can_be_sent_to_other_processes(name):
    assert pickle.loads(pickle.dumps(METHODS[name])) == METHODS[name]


def test_a_method_is_found_by_its_name():
    assert find_method("reweight") is METHODS["reweight"]
    with pytest.raises(MinigradError) as caught:
        find_method("reweigh")
    assert str(caught.value).startswith("there is no method reweigh\n  help: choose from reweight, ")
    with pytest.raises(MinigradError) as caught:
        find_method("0")
    assert str(caught.value).endswith(f"choose from {', '.join(METHODS)}")


def test_two_kinds_of_rules_give_the_same_with_the_same_weights():
    w = np.array([0.1, 0.2, 0.3, 0.4], "float32")
    batch = Batch(X.astype("float32"), LABELS)
    a = by_weights(losses, MODEL.astype("float32"), batch._replace(weights=w), None, None, *known_and_now())
    b = ByLosses(lambda *_: (w, None))(losses, MODEL.astype("float32"), batch, None, None, *known_and_now())
    np.testing.assert_allclose(a.gradient, b.gradient, rtol=1e-6)
    np.testing.assert_allclose(a.losses, b.losses)


@pytest.mark.parametrize("n", [1, 9, 10, 25])
def test_balanced_batches_have_each_class(n):
    """One example at least, also where the batch is smaller than the number of classes."""
    labels = np.arange(40) % 10
    assert np.bincount(labels[samplers.balanced_classes(labels, n, generator(0))]).tolist() == [max(n // 10, 1)] * 10


def test_an_oracle_of_wrong_labels_alone_trusts_none():
    assert rules.oracle(*known_and_now(precision=(0.0, 0.0))).tolist() == [0.0] * 4


@pytest.mark.parametrize("n, keep, kept", [(1, 0.6, 1), (2, 0.1, 1), (3, 0.6, 2), (10, 0.6, 6), (10, 1.0, 10), (4, 0.0, 1)])
def test_the_lowest_losses_are_a_share_and_one_at_least(n, keep, kept):
    losses = np.random.default_rng(0).permutation(n).astype("float32")
    w, _ = rules.low_loss(losses, None, *known_and_now(step=50, steps=100), keep=keep)
    np.testing.assert_allclose(w, np.where(losses < kept, 1 / kept, 0), rtol=1e-6)
