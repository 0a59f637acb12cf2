"""Algorithm 1: three ways that agree, and what weights must be."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import ShapeError, grad, nn, optim, tree
from minigrad.backend import seed
from minigrad.reweight import example_weights, example_weights_unrolled, normalise, reweighted_gradient
from models import lenet, mlp


def float64(model):
    return tree.map(lambda p: p.astype("float64"), model)


def batch_normalised(rng):
    return nn.Sequential((
        nn.Conv2d.init(rng, 1, 4, padding="same", bias=False), nn.BatchNorm.init(4), mg.relu,
        nn.Conv2d.init(rng, 4, 4, stride=2, padding="same", bias=False), nn.BatchNorm.init(4), mg.relu,
        lambda x: mg.mean(x, (1, 2)), nn.Linear.init(rng, 4, 3)))


def problem(name, key=0):
    """losses, clean_loss and a model in float64, on random images with random labels."""
    rng = seed(key)
    model, shape, loss, classes = {
        "mlp": (lambda: mlp(rng, (6, 8, 3)), (6,), nn.cross_entropy, 3),
        "lenet": (lambda: lenet(rng), (28, 28, 1), nn.sigmoid_cross_entropy, 2),
        "batch norm": (lambda: batch_normalised(rng), (8, 8, 1), nn.cross_entropy, 3),
    }[name]
    x, y = rng.normal(size=(12, *shape)), rng.integers(0, classes, 12)
    x_clean, y_clean = rng.normal(size=(5, *shape)), rng.integers(0, classes, 5)
    return (lambda m: loss(m(x), y)), (lambda m: mg.mean(loss(m(x_clean), y_clean))), float64(model())


@pytest.mark.parametrize("name", ["mlp", "lenet", "batch norm"])
def test_three_ways_agree(name):
    losses, clean_loss, model = problem(name)
    r = reweighted_gradient(losses, clean_loss, model)
    forward = example_weights(losses, clean_loss, model)
    assert 0 < (forward > 0).sum() < 12
    np.testing.assert_allclose(r.weights, forward, atol=1e-12)
    for rate in (0.1, 1.0):                                 # α cancels
        np.testing.assert_allclose(example_weights_unrolled(losses, clean_loss, model, rate), forward, atol=1e-6, rtol=1e-6)
    by_hand = grad(lambda m: mg.sum(r.weights * losses(m)))(model)
    for a, b in zip(tree.flatten(r.gradient)[0], tree.flatten(by_hand)[0]):
        np.testing.assert_allclose(a, b, atol=1e-12)
    np.testing.assert_allclose(r.losses, losses(model))
    np.testing.assert_allclose(r.clean_loss, clean_loss(model))


def test_scores_are_the_finite_difference_of_the_look_ahead():
    losses, clean_loss, model = problem("batch norm")
    scores = reweighted_gradient(losses, clean_loss, model).scores

    def after(eps):
        gradient = grad(lambda m: mg.sum(eps * losses(m)))(model)
        return clean_loss(tree.map(lambda p, g: p - 0.1 * g, model, gradient))
    for i in range(12):
        h = np.zeros(12)
        h[i] = 1e-5
        np.testing.assert_allclose(-(after(h) - after(-h)) / 2e-5 / 0.1, scores[i], atol=1e-6)
    assert after(np.zeros(12)) == clean_loss(model)         # the look-ahead is θ itself ...
    assert abs(scores).max() > 1e-3                         # ... and its derivative is not 0


def test_any_differentiable_look_ahead():
    losses, clean_loss, model = problem("mlp")
    plain = example_weights(losses, clean_loss, model)
    optimiser = optim.sgd(0.1, momentum=0.9)                # from rest, its first step is plain descent
    state = optimiser.init(model)
    same = example_weights_unrolled(losses, clean_loss, model,
                                    lookahead=lambda p, g: optimiser.update(g, state, p, 0)[0])
    np.testing.assert_allclose(same, plain, atol=1e-9)
    moving = tree.map(lambda p: 0.1 * np.sign(p), state | {"momentum": model})
    other = example_weights_unrolled(losses, clean_loss, model,
                                     lookahead=lambda p, g: optimiser.update(g, moving, p, 0)[0])
    assert abs(other - plain).max() > 1e-3 and abs(other.sum() - 1) < 1e-9


@given(st.integers(0, 50), st.permutations(range(12)))
def test_permuting_examples_permutes_weights(key, order):
    order = np.array(order)
    losses, clean_loss, model = problem("mlp", key)
    w = example_weights(losses, clean_loss, model)
    np.testing.assert_allclose(example_weights(lambda m: losses(m)[order], clean_loss, model), w[order], atol=1e-12)
    assert (w >= 0).all() and abs(w.sum() - 1) < 1e-12 or not w.any()


def test_what_opposes_the_clean_direction_gets_nothing():
    p = np.array([1.0, 2.0])
    sides = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    r = reweighted_gradient(lambda p: mg.matmul(sides, p), lambda p: 3.0 * p[0], p)
    np.testing.assert_allclose(r.weights, [0.5, 0, 0, 0.5])
    np.testing.assert_allclose(r.gradient, [1, 0])
    r = reweighted_gradient(lambda p: mg.matmul(-sides[:1], p), lambda p: p[0], p)
    assert r.weights.tolist() == [0] and r.gradient.tolist() == [0, 0]      # nobody helps: no weight, no NaN


def test_one_small_step_lowers_the_clean_loss():
    for key in range(5):
        losses, clean_loss, model = problem("mlp", key)
        r = reweighted_gradient(losses, clean_loss, model)
        assert clean_loss(tree.map(lambda p, g: p - 1e-3 * g, model, r.gradient)) < r.clean_loss


def test_weights_are_constants_and_plain():
    losses, clean_loss, model = problem("mlp")
    r = reweighted_gradient(losses, clean_loss, model)
    for leaf in (r.weights, r.scores, r.losses):
        assert type(leaf) is np.ndarray
    scale = np.arange(1.0, 13.0)                            # it changes the weights, and still no derivative flows

    def weight(s, call):
        return call(lambda m: (1.0 + s * scale) * losses(m), clean_loss, model)[np.argmax(r.weights)]
    assert grad(lambda s: weight(s, lambda *a: reweighted_gradient(*a).weights))(1.0) == 0.0
    assert grad(lambda s: weight(s, example_weights))(1.0) != 0.0


def test_averages_of_batch_norm_come_from_the_noisy_pass_alone():
    _, clean_loss, model = problem("batch norm")
    x, y = seed(3).normal(size=(6, 8, 8, 1)), np.zeros(6, int)
    state = model.state()

    def losses(m):
        scores, new = m.apply(x, state)
        return nn.cross_entropy(scores, y), new
    r = reweighted_gradient(losses, clean_loss, model, has_aux=True)
    once = model.apply(x, state)[1]
    for a, b in zip(tree.flatten(r.aux)[0], tree.flatten(once)[0]):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("scores, weights", [([1.0, -2.0, 3.0], [0.25, 0, 0.75]), ([-1.0, -2.0], [0, 0]), ([0.0], [0])])
def test_normalise(scores, weights):
    w = normalise(np.array(scores, np.float32))
    assert w.dtype == np.float32 and w.tolist() == weights


def test_a_mean_instead_of_losses_is_explained():
    losses, clean_loss, model = problem("mlp")
    for call in (reweighted_gradient, example_weights, example_weights_unrolled):
        with pytest.raises(ShapeError, match="one loss per example\n  losses  \\(\\)  float64\n  help: return the losses"):
            call(lambda m: mg.mean(losses(m)), clean_loss, model)
