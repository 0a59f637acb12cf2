"""Activation functions: their kinks, their ends, their types, and the exact gelu."""
import math
import types

import numpy as np
import pytest

import minigrad as mg
from minigrad import grad

NAMES = "silu gelu leaky_relu elu selu".split()


@pytest.mark.parametrize("name", NAMES)
def test_types_are_kept(name):
    f = getattr(mg, name)
    for dtype in ("float16", "float32", "float64"):
        x = np.array([-2.0, -0.5, 0.0, 1.0], dtype)
        y, J = mg.linearize(f, x)
        assert y.dtype == J.push(x).dtype == J.pull(x).dtype == dtype
        np.testing.assert_allclose(y, f(x.astype(float)), rtol=4e-3 if dtype == "float16" else 1e-6)
    assert f(np.array([-1, 2])).dtype == np.float64 and f(3) == f(3.0) and f(np.zeros((0, 2))).shape == (0, 2)


def test_at_0():
    """leaky_relu has the slope there, as PyTorch, and elu alpha, as JAX: the derivatives from the left."""
    slopes = {"silu": 0.5, "gelu": 0.5, "leaky_relu": 0.01, "elu": 1.0, "selu": 1.0507009873554805 * 1.6732632423543772}
    for name, slope in slopes.items():
        assert getattr(mg, name)(0.0) == 0.0
        np.testing.assert_allclose(grad(getattr(mg, name))(0.0), slope)
    assert grad(lambda x: mg.leaky_relu(x, 0.0))(0.0) == 0.0 == grad(mg.relu)(0.0)
    assert grad(lambda x: mg.elu(x, 0.7))(0.0) == grad(grad(lambda x: mg.elu(x, 0.7)))(0.0) == 0.7
    assert grad(grad(mg.leaky_relu))(-1.0) == 0.0


@pytest.mark.parametrize("name", NAMES)
def test_far_from_0(name):
    f = getattr(mg, name)
    x = np.array([-1e4, -700.0, -40.0, 40.0, 700.0, 1e4])
    left = {"leaky_relu": 0.01 * x, "elu": -1.0 + 0.0 * x, "selu": -1.0507009873554805 * 1.6732632423543772 + 0.0 * x}.get(name, 0.0 * x)
    right = 1.0507009873554805 if name == "selu" else 1.0
    np.testing.assert_allclose(f(x), np.where(x > 0, right * x, left), atol=1e-14)
    np.testing.assert_allclose(grad(lambda x: mg.sum(f(x)))(x), np.where(x > 0, right, 0.01 if name == "leaky_relu" else 0.0), atol=1e-14)
    assert np.isnan(f(np.nan)) and f(np.inf) == np.inf
    if name not in ("silu", "gelu"):                        # -infinity times 0
        assert f(-np.inf) == (left.max() if name != "leaky_relu" else -np.inf)


def test_digits_of_small_values_are_kept():
    """x P(x) near P = 0: 1 + tanh(...) would have lost all digits by -6."""
    x = -6.0
    u = math.sqrt(2.0 / math.pi) * (x + 0.044715 * x ** 3)
    np.testing.assert_allclose(mg.gelu(x), x / (1.0 + math.exp(-2.0 * u)), rtol=1e-13)


def test_gelu_is_near_the_exact_one(monkeypatch):
    """Exact is x erfc(-x / sqrt(2)) / 2, with the erfc of minigrad.special, whose derivative is -2 / sqrt(pi) e^(-x^2)."""
    erfc = mg.elementwise(np.vectorize(math.erfc, "d"), lambda y, x: -2.0 / math.sqrt(math.pi) * mg.exp(-x * x), name="erfc")
    monkeypatch.setitem(__import__("sys").modules, "minigrad.special", types.SimpleNamespace(erfc=erfc))
    x = np.linspace(-6.0, 6.0, 101)
    exact = np.array([0.5 * v * math.erfc(-v / math.sqrt(2.0)) for v in x])
    np.testing.assert_allclose(mg.gelu(x, approximate=False), exact, rtol=1e-12)
    error = abs(mg.gelu(x) - exact).max()
    assert 4e-4 < error < 5e-4
    mg.check_derivatives(lambda x: mg.gelu(x, approximate=False), x[::20], order=3)
