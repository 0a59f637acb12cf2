"""Optimisers against their formulas, and as differentiable functions."""
import numpy as np
import pytest

import minigrad as mg
from minigrad import optim
from minigrad.check import check_derivatives

P = {"w": np.array([[1.0, -2.0]]), "b": np.array([3.0])}
G = {"w": np.array([[0.5, 0.25]]), "b": np.array([-1.0])}


def steps(optimiser, count):
    p, state = P, optimiser.init(P)
    for t in range(count):
        p, state = optimiser.update(G, state, p, t)
    return p


def test_sgd_by_hand():
    np.testing.assert_allclose(steps(optim.sgd(0.1), 2)["w"], P["w"] - 0.2 * G["w"])
    np.testing.assert_allclose(steps(optim.sgd(0.1, momentum=0.9), 2)["b"], P["b"] - 0.1 * (1 + 1.9) * G["b"])
    np.testing.assert_allclose(steps(optim.sgd(0.1, momentum=0.9, nesterov=True), 1)["b"], P["b"] - 0.19 * G["b"])
    decayed = steps(optim.sgd(0.1, weight_decay=0.01), 1)
    np.testing.assert_allclose(decayed["w"], P["w"] - 0.1 * (G["w"] + 0.01 * P["w"]))
    np.testing.assert_allclose(decayed["b"], P["b"] - 0.1 * G["b"])     # a bias does not decay


def test_adam_by_hand():
    first = steps(optim.adam(0.1), 1)
    np.testing.assert_allclose(first["w"], P["w"] - 0.1 * np.sign(G["w"]), rtol=1e-6)
    np.testing.assert_allclose(steps(optim.adam(0.1), 3)["b"], P["b"] + 0.3, rtol=1e-6)     # a constant gradient
    decayed = steps(optim.adam(0.1, weight_decay=0.5), 1)
    np.testing.assert_allclose(decayed["w"], first["w"] - 0.05 * P["w"])


@pytest.mark.parametrize("optimiser", [optim.sgd(0.1, 0.9, weight_decay=0.1), optim.adam(0.1, weight_decay=0.1)])
def test_an_update_is_differentiable_and_changes_nothing_in_place(optimiser):
    state = mg.tree.map(lambda p: p + 0.7, optimiser.init(P))      # away from 0, where adam bends sharply
    check_derivatives(lambda g, s, p: optimiser.update(g, s, p, 1), G, state, P, order=2)


def test_types_stay_whatever_the_step_is():
    p = {"w": np.ones((2, 2), np.float32)}
    for optimiser in (optim.sgd(optim.piecewise(0.1, np.array([2])), 0.9, weight_decay=0.1), optim.adam(np.float64(0.1))):
        assert optimiser.update(p, optimiser.init(p), p, np.int64(3))[0]["w"].dtype == np.float32
    with pytest.raises(mg.DTypeError, match="nesterov without momentum"):
        optim.sgd(0.1, nesterov=True)


def test_both_minimise():
    for optimiser in (optim.sgd(0.1, 0.9), optim.adam(optim.cosine(0.3, 200, warmup=10))):
        x = np.array([3.0, -2.0])
        state = optimiser.init(x)
        for t in range(200):
            x, state = optimiser.update(mg.grad(lambda x: mg.sum((x - 1.0) ** 2))(x), state, x, t)
        np.testing.assert_allclose(x, [1, 1], atol=1e-2)


def test_schedules():
    rate = optim.piecewise(1.0, (10, 20))
    np.testing.assert_allclose([rate(0), rate(9), rate(10), rate(20)], [1, 1, 0.1, 0.01])
    rate = optim.cosine(2.0, 110, warmup=10)
    np.testing.assert_allclose([rate(0), rate(9), rate(10), rate(60), rate(110), rate(500)], [0.2, 2, 2, 1, 0, 0], atol=1e-12)
