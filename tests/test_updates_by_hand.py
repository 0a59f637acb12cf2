"""Optimizers over several steps with gradients that change, against NumPy: every constant of their formulas counts."""
import inspect

import numpy as np
import pytest

from minigrad import MinigradError, optim

RNG = np.random.default_rng(4)
P = {"w": RNG.standard_normal((2, 3)), "b": RNG.standard_normal(3)}
GRADIENTS = [{key: 10.0 ** -t * RNG.standard_normal(p.shape) for key, p in P.items()} for t in (0, 1, 4, 8)]


def updated(optimizer, rate):
    """Return the parameters after each of the steps."""
    p, state, found = P, optimizer.init(P), []
    for g in GRADIENTS:
        p, state = optimizer.update(g, state, p, rate)
        found.append(p)
    return found


def by_hand(move, decay=0.0):
    """Return the parameters after each step of move(p, g, memory, t) -> p, memory; decay is added to gradients of matrices."""
    found, memory = [], {key: None for key in P}
    p = dict(P)
    for t, g in enumerate(GRADIENTS):
        for key in P:
            p[key], memory[key] = move(p[key], g[key] + (decay * p[key] if key == "w" else 0.0), memory[key], t)
        found.append(dict(p))
    return found


def same(found, expected):
    for a, b in zip(found, expected, strict=True):
        for key in P:
            np.testing.assert_allclose(a[key], b[key], rtol=1e-12)


@pytest.mark.parametrize("momentum, nesterov", [(0.0, False), (0.9, False), (0.75, True)])
@pytest.mark.parametrize("decay", [0.0, 0.05])
def test_sgd(momentum, nesterov, decay):
    def move(p, g, m, t):
        m = g + (0.0 if m is None else momentum * m)
        return p - 0.3 * (g + momentum * m if nesterov else m), m
    same(updated(optim.sgd(momentum=momentum, nesterov=nesterov, weight_decay=decay), 0.3), by_hand(move, decay))


@pytest.mark.parametrize("settings", [{}, {"beta1": 0.8, "beta2": 0.95, "eps": 1e-3}, {"eps_root": 1e-4}])
def test_adam(settings):
    beta1, beta2, eps = (settings.get(key, default) for key, default in (("beta1", 0.9), ("beta2", 0.999), ("eps", 1e-8)))
    root = settings.get("eps_root", 0.0)

    def move(p, g, memory, t):
        m, v = memory or (0.0, 0.0)
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
        return p - 0.02 * (m / (1 - beta1 ** (t + 1))) / (np.sqrt(v / (1 - beta2 ** (t + 1)) + root) + eps), (m, v)
    same(updated(optim.adam(**settings), 0.02), by_hand(move))


@pytest.mark.parametrize("settings", [{}, {"decay": 0.8, "momentum": 0.9, "eps": 1e-3}, {"eps": 0.0, "eps_root": 1e-4}])
def test_rmsprop(settings):
    d, eps, momentum, root = ({"decay": 0.99, "eps": 1e-8, "momentum": 0.0, "eps_root": 0.0, **settings}[key]
                              for key in ("decay", "eps", "momentum", "eps_root"))

    def move(p, g, memory, t):
        v, m = memory or (0.0, 0.0)
        v = d * v + (1 - d) * g * g
        m = momentum * m + g / (np.sqrt(v + root) + eps)
        return p - 0.02 * m, (v, m)
    same(updated(optim.rmsprop(**settings), 0.02), by_hand(move))


def test_averages_of_parameters():
    """By definition: the parameters of k steps ago have the weight decay^k, and with a step these add up to 1."""
    plain = fair = {key: np.full_like(p, 7.0) for key, p in P.items()}
    for t, now in enumerate(GRADIENTS):
        plain, fair = optim.ema(plain, now, 0.8), optim.ema(fair, now, 0.8, step=t)
        weights = 0.8 ** np.arange(t, -1, -1)
        for key in P:
            total = sum(w * g[key] for w, g in zip(weights, GRADIENTS))
            np.testing.assert_allclose(fair[key], total / weights.sum(), rtol=1e-12)
            np.testing.assert_allclose(plain[key], 0.8 ** (t + 1) * 7.0 + 0.2 * total, rtol=1e-12)


def test_adam_with_decoupled_decay():
    """p <- p - rate (change + decay p), for matrices alone: the decay does not go through the averages."""
    plain = updated(optim.adam(), 0.02)
    first = updated(optim.adam(weight_decay=0.5), 0.02)
    np.testing.assert_allclose(first[0]["w"], plain[0]["w"] - 0.01 * P["w"], rtol=1e-12)
    np.testing.assert_allclose(first[1]["w"] - first[0]["w"], plain[1]["w"] - plain[0]["w"] - 0.01 * first[0]["w"], rtol=1e-9)
    np.testing.assert_array_equal(first[3]["b"], plain[3]["b"])
    everything = updated(optim.adam(weight_decay=0.5, decays=lambda p: True), 0.02)
    np.testing.assert_allclose(everything[0]["b"], plain[0]["b"] - 0.01 * P["b"], rtol=1e-12)


def test_tiny_gradients_meet_eps():
    """A first gradient as large as eps moves Adam by half the rate."""
    p, g = np.array([1.0]), np.array([1e-8])
    optimizer = optim.adam()
    np.testing.assert_allclose(optimizer.update(g, optimizer.init(p), p, 0.1)[0], [0.95], rtol=1e-9)


@pytest.mark.parametrize("optimizer", [optim.sgd(), optim.sgd(momentum=0.9), optim.adam(), optim.rmsprop()])
def test_a_gradient_of_another_form_is_refused(optimizer):
    for other in ({"w": P["w"]}, {"w": P["w"], "c": P["b"]}, [P["w"], P["b"]]):
        with pytest.raises(MinigradError):
            optimizer.update(other, optimizer.init(P), P, 0.1)


def test_what_is_used_where_nobody_says():
    def given(f):
        return {key: value.default for key, value in inspect.signature(f).parameters.items() if value.default is not value.empty}
    assert {key: value for key, value in given(optim.sgd).items() if key != "decays"} == {
        "momentum": 0.0, "nesterov": False, "weight_decay": 0.0}
    assert {key: value for key, value in given(optim.adam).items() if key != "decays"} == {
        "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0, "eps_root": 0.0}
    assert given(optim.rmsprop) == {"decay": 0.99, "eps": 1e-8, "momentum": 0.0, "eps_root": 0.0}


def test_schedules_step_by_step():
    rate = optim.piecewise(0.5, (3, 5), 0.2)
    np.testing.assert_allclose([rate(t) for t in range(7)], [0.5] * 3 + [0.1] * 2 + [0.02] * 2)
    assert optim.piecewise(1.0, (1,))(1) == pytest.approx(0.1)
    rate = optim.piecewise(2.0, iter([3, 5]), 0.5, warmup=4)
    np.testing.assert_allclose([rate(t) for t in range(7)], [0.5, 1.0, 1.5, 1.0, 1.0, 0.5, 0.5])
    rate = optim.cosine(2.0, 12, 4)
    np.testing.assert_allclose([rate(t) for t in range(4)], [0.5, 1.0, 1.5, 2.0])
    np.testing.assert_allclose([rate(4 + t) for t in range(12)], [1 + np.cos(np.pi * min(t / 8, 1)) for t in range(12)], atol=1e-12)
