"""Each method on a batch worked out by hand."""
import numpy as np
import pytest

import minigrad as mg
from experiments.methods import METHODS, Batch, Context
from minigrad.backend import seed

LABELS = np.array([0, 1, 1, 1])
X = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 3.0], [0.0, 2.0]])
MODEL = np.array([1.0, 1.0])


def loss(model, images, labels):
    """Losses 1, 1, 3, 2 at the model (1, 1); the gradient of each is its row of X."""
    return mg.matmul(images, model)


def step(name, labels=LABELS, x=X, shares=(0.25, 0.75), clean=((1.0, 0.0),)):
    batch = Batch(x, labels, labels)
    return METHODS[name].rule(loss, MODEL, batch, Batch(np.array(clean), np.array([0]), np.array([0])),
                              Context(seed(0), np.array(shares)))


@pytest.mark.parametrize("name, weights", [
    ("uniform", [0.25, 0.25, 0.25, 0.25]),
    ("resample", [0.25, 0.25, 0.25, 0.25]),
    ("proportion", [0.5, 1 / 6, 1 / 6, 1 / 6]),             # 1 / (4 * 2 * 0.25), 1 / (4 * 2 * 0.75)
    ("hard_mining", [0.5, 0, 0.5, 0]),                      # the one of the minority, the hardest of the majority
    ("reweight", [1, 0, 0, 0]),                             # the only one along the clean gradient (1, 0)
])
def test_weights_and_gradient(name, weights):
    result = step(name)
    np.testing.assert_allclose(result.weights, weights, rtol=1e-6)
    np.testing.assert_allclose(result.gradient, np.array(weights) @ X, rtol=1e-6)
    np.testing.assert_allclose(result.losses, [1, 1, 3, 2])


def test_random_weights():
    result = step("random")
    assert (result.weights >= 0).all() and abs(result.weights.sum() - 1) < 1e-6
    np.testing.assert_allclose(result.gradient, result.weights @ X, rtol=1e-6)
    z = np.maximum(seed(0).standard_normal(4), 0)
    np.testing.assert_allclose(result.weights, z / z.sum(), rtol=1e-6)


def test_proportion_counts_each_class_the_same_on_average():
    labels = np.repeat([0, 1], [5, 995])
    w = step("proportion", labels, np.ones((1000, 2)), (0.005, 0.995)).weights
    np.testing.assert_allclose([w[:5].sum(), w[5:].sum()], [0.5, 0.5], rtol=1e-5)


def test_hard_mining_without_a_minority_does_nothing():
    result = step("hard_mining", np.ones(4, int))
    assert not result.gradient.any() and not result.weights.any()


def test_hard_mining_takes_as_many_of_the_majority():
    result = step("hard_mining", np.array([0, 0, 1, 1]), shares=(0.4, 0.6))
    np.testing.assert_allclose(result.weights, [0.25] * 4)


def test_samplers():
    labels = np.repeat([0, 1], [4, 396])
    for name, method in METHODS.items():
        chosen = method.sampler(labels, 100, seed(0))
        assert len(chosen) == 100
        if name == "resample":
            assert np.bincount(labels[chosen]).tolist() == [50, 50]
            assert len(set(chosen[50:])) == 50              # the majority without repetition
        else:
            assert len(set(chosen)) == 100
    assert len(METHODS["uniform"].sampler(labels, 500, seed(0))) == 400
    reached = set(np.concatenate([METHODS["resample"].sampler(labels, 100, seed(k)) for k in range(200)]))
    assert reached == set(range(400))
