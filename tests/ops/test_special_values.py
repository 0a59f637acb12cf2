"""NaN, the infinities, zeros of both signs and the ends of the range: the same values as NumPy, if it has the operation."""
import numpy as np
import pytest

import minigrad as mg

SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 700.0, -700.0, 1e-300, -1e-300, 1e16])
UNARY = ["abs", "cos", "exp", "expm1", "log", "log1p", "negative", "sin", "sqrt", "square", "tanh"]
BINARY = ["add", "subtract", "multiply", "divide", "power", "maximum", "minimum"]
DEFINED = {                                                 # operations that NumPy lacks: their limits
    "relu": lambda x: np.where(np.isnan(x), x, np.maximum(x, 0.0)),
    "sigmoid": lambda x: np.where(x > 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))),
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))}


def same(found, expected):
    """Check that two arrays are equal up to rounding, with NaN in the same elements, and zeros of the same sign."""
    np.testing.assert_allclose(found, expected, rtol=1e-14, atol=0, strict=True)
    np.testing.assert_array_equal(np.signbit(found)[expected == 0], np.signbit(expected)[expected == 0])


@pytest.mark.parametrize("name", UNARY)
def test_of_one_number(name):
    with np.errstate(all="ignore"):
        same(getattr(mg, name)(SPECIAL), getattr(np, name)(SPECIAL))


@pytest.mark.parametrize("name", BINARY)
def test_of_every_pair(name):
    a, b = SPECIAL[:, None], SPECIAL[None, :]
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(a, b)
        found = getattr(mg, name)(a, b)
        np.testing.assert_allclose(found, expected, rtol=1e-14, atol=0, strict=True)
        for value in SPECIAL.tolist():                      # beside a Python number, on either side
            np.testing.assert_allclose(getattr(mg, name)(SPECIAL, value), getattr(np, name)(SPECIAL, value), rtol=1e-14)
            np.testing.assert_allclose(getattr(mg, name)(value, SPECIAL), getattr(np, name)(value, SPECIAL), rtol=1e-14)


@pytest.mark.parametrize("name", DEFINED)
def test_of_what_numpy_has_not(name):
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(getattr(mg, name)(SPECIAL), DEFINED[name](SPECIAL), rtol=1e-14, strict=True)


@pytest.mark.parametrize("name", ["sum", "mean", "max", "min", "argmax", "argmin", "var", "std"])
def test_of_many_numbers(name):
    rows = np.array([[1.0, np.nan, 3.0], [np.inf, 1.0, 2.0], [-np.inf, 1.0, -2.0], [np.inf, -np.inf, 0.0], [-0.0, 0.0, -0.0], [2.0, 1.0, 2.0]])
    with np.errstate(all="ignore"):
        for axis in (0, 1, None):
            np.testing.assert_allclose(getattr(mg, name)(rows, axis), getattr(np, name)(rows, axis), rtol=1e-14)


def test_clipped_and_chosen():
    with np.errstate(all="ignore"):
        for low, high in ((-1.0, 1.0), (None, 0.5), (-0.25, None)):
            np.testing.assert_array_equal(mg.clip(SPECIAL, low, high), np.clip(SPECIAL, low, high))
        np.testing.assert_array_equal(mg.where(SPECIAL > 0, SPECIAL, np.nan), np.where(SPECIAL > 0, SPECIAL, np.nan))


def test_maximum_of_a_window_with_what_is_not_a_number():
    """As in NumPy's max, the maximum of a window with NaN is NaN; padding is lower than all numbers."""
    x = np.array([[1.0, np.nan, 2.0, -np.inf], [3.0, 0.0, -np.inf, -np.inf]]).reshape(1, 2, 4, 1)
    np.testing.assert_array_equal(mg.max_pool2d(x, 2)[0, :, :, 0], [[np.nan, 2.0]])
    np.testing.assert_array_equal(mg.max_pool2d(np.full((1, 2, 2, 1), -7.0), 3, 2, 1)[0, :, :, 0], [[-7.0]])
