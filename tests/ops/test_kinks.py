"""Kinks and closed gates: a derivative that is 0 by convention blocks even NaN and infinity; and NaN propagates."""
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import grad, nn
from minigrad.fast.elementwise import select

from ..strategies import arrays

BAD = [np.inf, -np.inf, np.nan]
LEFT = np.array([True, False, True])
BATCH = np.array([[-2.0, 1.0], [1.0, 1.5], [3.0, -4.0], [0.5, 0.5]])


def closed(*mask):
    return np.array(mask, bool)


def dropped(x):
    return mg.dropout(x, 0.5, 3)


def normalized(x, gain=None):
    return nn.Sequential((nn.BatchNorm(gain, mg.xp.zeros(2)), mg.relu))(x)


GATES = {                   # f, x, where f(x) does not depend on x, where x does not affect f(x) (None: nowhere)
    "relu": (mg.relu, [-1.0, 0.0, 2.0], closed(1, 1, 0), closed(1, 1, 0)),
    "abs": (mg.abs, [-1.0, 0.0, 2.0], closed(0, 1, 0), closed(0, 1, 0)),
    "clip": (lambda x: mg.clip(x, -1.0, 1.0), [-3.0, 0.5, 4.0], closed(1, 0, 1), closed(1, 0, 1)),
    "maximum": (lambda x: mg.maximum(x, 1.0), [0.0, 2.0, -5.0], closed(1, 0, 1), closed(1, 0, 1)),
    "maximum of the other": (lambda x: mg.maximum(mg.xp.asarray([[1.0], [-9.0]]), x), [0.0, 2.0, -5.0],
                             closed(1, 0, 1, 0, 0, 0).reshape(2, 3), None),
    "minimum": (lambda x: mg.minimum(x, 1.0), [0.0, 2.0, -5.0], closed(0, 1, 0), closed(0, 1, 0)),
    "where": (lambda x: mg.where(mg.xp.asarray(LEFT), x, 0.0), [1.0, 2.0, 3.0], closed(0, 1, 0), closed(0, 1, 0)),
    "where not": (lambda x: mg.where(mg.xp.asarray(LEFT), 1.0, x), [1.0, 2.0, 3.0], closed(1, 0, 1), closed(1, 0, 1)),
    "max": (mg.max, [1.0, 3.0, 2.0], None, closed(1, 0, 1)),
    "min": (mg.min, [1.0, 3.0, 2.0], None, closed(0, 1, 1)),
    "max_pool2d": (lambda x: mg.max_pool2d(mg.reshape(x, (1, 2, 2, 1)), 2), [1.0, 3.0, 2.0, 0.0], None, closed(1, 0, 1, 1)),
    "dropout": (dropped, np.ones(40), np.asarray(mg.dropout(np.ones(40), 0.5, 3) == 0), np.asarray(mg.dropout(np.ones(40), 0.5, 3) == 0)),
    "batch_norm": (normalized, BATCH, BATCH.mean(0) > BATCH, None),
    "batch_norm with gain": (lambda x: normalized(x, mg.xp.asarray([2.0, 0.5])), BATCH, BATCH.mean(0) > BATCH, None)}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", GATES)
def test_nothing_flows_where_the_derivative_is_0_by_choice(device, name, dtype):
    f, x, of_y, of_x = GATES[name]
    y, J = mg.linearize(f, mg.xp.asarray(np.array(x, dtype)))
    for (mask, walk), bad in itertools.product([(of_x, J.push), (of_y, J.pull)], BAD):
        if mask is not None:
            v = np.linspace(0.5, 1.5, mask.size).reshape(mask.shape).astype(dtype)
            found, expected = (mg.to_host(walk(mg.xp.asarray(np.where(mask, dtype(other), v)))) for other in (bad, 0.0))
            assert found.dtype == dtype
            np.testing.assert_array_equal(found, expected)
    if name.startswith("batch_norm"):                       # and the output of a closed gate is 0
        with np.errstate(invalid="ignore"):
            t = mg.to_host(J.push(mg.xp.asarray(np.where(np.arange(8).reshape(4, 2) == 3, dtype(np.inf), dtype(1.0)))))
        assert (t[of_y] == 0.0).all()


BEFORE = {                                                  # constant around -1; the slope after the gate is infinite
    "sqrt of relu": lambda x: mg.sqrt(mg.relu(x)), "power of relu": lambda x: mg.relu(x) ** 0.5,
    "logs of relu": lambda x: mg.relu(mg.log(mg.relu(x))), "sqrt of clip": lambda x: mg.sqrt(mg.clip(x, 0.0, 1.0)),
    "sqrt of maximum": lambda x: mg.maximum(mg.sqrt(mg.maximum(x, 0.0)), 0.0),
    "sqrt of minimum": lambda x: mg.sqrt(-mg.minimum(-x, 0.0)), "sqrt of abs at 0": lambda x: mg.sqrt(mg.abs(x + 1.0)),
    "sqrt of where": lambda x: mg.sqrt(mg.where(x > 0.0, x, 0.0)), "sqrt of max": lambda x: mg.sqrt(mg.max(mg.relu(x))),
    "log of dropout": lambda x: mg.relu(mg.log(mg.dropout(x, 0.999, 1)))}
AFTER = {                                                   # the same, with the gate last
    "relu of an overflow": lambda x: mg.relu(1.0 - mg.exp(-1000.0 * x)), "relu of a logarithm": lambda x: mg.relu(mg.log(x + 1.0)),
    "clip of a power": lambda x: mg.clip((x + 1.0) ** -2.0, 0.0, 1.0), "maximum of a root": lambda x: mg.maximum(-mg.sqrt(x + 1.0), 3.0),
    "where of a logarithm": lambda x: mg.where(x > 0.0, mg.log(x + 1.0), 0.0),
    "dropout of a logarithm": lambda x: mg.dropout(mg.log(x + 1.0), 0.999, 1)}


@pytest.mark.parametrize("name", [*BEFORE, *AFTER])
def test_what_is_constant_around_a_point_has_derivatives_0(device, name):
    """To third order, in reverse and in forward mode, each where the gate is the last step of the walk."""
    x, t = mg.xp.asarray(np.array([-1.0])), mg.xp.ones(1)
    f = (lambda x: mg.sum(BEFORE[name](x))) if name in BEFORE else AFTER[name]
    with np.errstate(all="ignore"):
        for _ in range(3):
            f = (lambda f: lambda x: mg.sum(grad(f)(x)) if name in BEFORE else mg.jvp(f, (x,), (t,))[1])(f)
            assert mg.to_host(f(x)).tolist() in ([0.0], 0.0)


@given(arrays(), st.integers(0, 2**32 - 1))
def test_selected_is_where(x, seed):
    """Selecting by integer products returns the bits of where, for every layout, value and type, also in place."""
    rng = np.random.default_rng(seed)
    mask = rng.random(x.shape) < 0.5
    x = np.where(rng.random(x.shape) < 0.3, rng.choice([np.inf, np.nan, -0.0, 1e-310], x.shape), x)
    for dtype in (np.float16, np.float32, np.float64, np.longdouble, complex):
        with np.errstate(over="ignore"):
            a = x.astype(dtype)
        right = np.where(mask, a, dtype(0.0))
        out = np.full(x.shape, 7.0, dtype)
        for found in (select(a, mask), select(a, mask, out=out), out):
            assert np.asarray(found).dtype == dtype
            np.testing.assert_array_equal(found, right)
            np.testing.assert_array_equal(np.signbit(np.real(found)), np.signbit(np.real(right)))


def test_nan_wins_as_in_numpy(device):
    """Values are NumPy's to the bit, wherever NaN stands; the derivative goes to the argument that is NaN."""
    nan, xp = np.nan, mg.xp
    a, b = np.array([nan, 1.0, nan, 1.0, -np.inf]), np.array([1.0, nan, nan, 2.0, nan])
    for name in ("maximum", "minimum"):
        y, pull = mg.vjp(getattr(mg, name), xp.asarray(a), xp.asarray(b))
        np.testing.assert_array_equal(mg.to_host(y), getattr(np, name)(a, b))
        one, other = map(mg.to_host, pull(xp.ones(5)))
        assert one.tolist() == [1.0, 0.0, 0.5, float(name == "minimum"), 0.0] and (one + other == 1.0).all()
    for f, plain in ((mg.relu, lambda x: np.maximum(x, 0.0)), (lambda x: mg.clip(x, 0.0, 1.5), lambda x: np.clip(x, 0.0, 1.5)),
                     (mg.max, np.max), (mg.min, np.min), (mg.abs, np.abs)):
        x = np.array([2.0, nan, -1.0])
        y, pull = mg.vjp(f, xp.asarray(x))
        np.testing.assert_array_equal(mg.to_host(y), plain(x))
        gradient = mg.to_host(pull(xp.ones(y.shape))[0])
        assert gradient[1] == 1.0 or (f is mg.abs and np.isnan(gradient[1]))
    x = np.array([[1.0, 2.0], [nan, 3.0], [0.0, 1.0]])
    y, pull = mg.vjp(lambda x: nn.Sequential((nn.BatchNorm(None, xp.zeros(2)), mg.relu))(x), xp.asarray(x))
    with np.errstate(invalid="ignore"):
        for found in (mg.to_host(y), mg.to_host(pull(xp.ones((3, 2)))[0])):
            assert np.isnan(found[:, 0]).all() and np.isfinite(found[:, 1]).all()


def test_dropout_drops_what_is_not_finite(device):
    x = np.where(np.arange(40) % 2 == 0, np.inf, np.nan)
    y = mg.to_host(mg.dropout(mg.xp.asarray(x), 0.5, 3))
    np.testing.assert_array_equal(y, np.where(GATES["dropout"][2], 0.0, x))


def test_the_table_of_conventions():
    """As it stands in the docstring of ops/elementwise.py; relu, abs, maximum, max and ties are in test_values.py."""
    inf, nan = np.inf, np.nan
    with np.errstate(all="ignore"):
        assert grad(mg.sqrt)(0.0) == inf and np.isnan(grad(lambda x: mg.sqrt(mg.sum(x * x)))(np.zeros(2))).all()
        for x in (np.ones(3), np.zeros(1), np.full((2, 2), -7.0)):
            assert mg.std(x) == 0.0 and not grad(mg.std)(x).any() and not mg.hessian(mg.std)(x).any()
            assert not mg.jvp(mg.std, (x,), (x + 1.0,))[1].any()
        assert np.isnan(mg.std(np.ones(1), ddof=1)) and np.isnan(mg.var(np.ones(1), ddof=1))
        assert grad(mg.var)(np.ones(1)) == [0.0]
        for x in (0.0, inf, -inf, nan, -2.0):
            for zero in (0, 0.0, np.array(0.0)):
                assert mg.power(x, zero) == 1.0 and grad(lambda x: mg.power(x, zero))(x) == 0.0
                assert grad(grad(lambda x: mg.power(x, zero)))(x) == 0.0
        for base in (0.0, np.array(0.0)):
            assert [float(grad(lambda b: mg.power(base, b))(b)) for b in (0.0, 0.5, 3.0)] == [0.0] * 3
            assert np.isnan(grad(lambda b: mg.power(base, b))(-1.0))
        assert grad(lambda b: mg.power(np.array(inf), b))(-1.0) == 0.0
        assert np.isnan(grad(lambda x: mg.where(x > 0.0, mg.log(x), 0.0))(0.0))
        assert grad(lambda x: mg.where(x > 0.0, mg.log(mg.where(x > 0.0, x, 1.0)), 0.0))(0.0) == 0.0
        assert grad(lambda x: x ** 0.5)(0.0) == inf and grad(lambda x: x ** 1)(0.0) == 1.0


def test_clip_where_the_bounds_cross():
    """The upper one wins, as in NumPy, in the value and in the derivative."""
    x, low, high = np.array([0.0, 1.5, 3.0]), 2.0, 1.0
    y, J = mg.linearize(mg.clip, x, low, high)
    np.testing.assert_array_equal(y, np.clip(x, low, high))
    assert [np.sum(c) for c in J.pull(np.ones(3))] == [0.0, 0.0, 3.0]


def test_slopes_of_quantiles_by_q():
    """At an element, that to the right of it, also where the element is the median."""
    x = np.array([0.0, 1.0, 4.0, 10.0, 11.0])
    np.testing.assert_allclose(grad(lambda q: mg.sum(mg.quantile(x, q)))(np.array([0.0, 0.1, 0.25, 0.5, 0.6])), [4.0, 4.0, 12.0, 24.0, 24.0])


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("window", [(1, 2), (2, 1), (2, 2), (3, 2)])
def test_winners_among_nan_and_nothing_but_minus_infinity(window, fast, on_host):
    """The first NaN wins, and of a window without any number a pixel of the image: never one of the padding."""
    if not fast:
        mg.use("numpy", fast=False)                     # else the table is that of on_host
    try:
        for values in itertools.product([np.nan, -np.inf, 1.0], repeat=4):
            x = np.array(values).reshape(1, 2, 2, 1)
            y, J = mg.linearize(lambda x: mg.max_pool2d(x, window, 1, padding=((window[0] - 1, 0), (window[1] - 1, 0))), x)
            expected = np.zeros(4)
            for i, j in np.ndindex(2, 2):
                rows, columns = range(max(i - window[0] + 1, 0), i + 1), range(max(j - window[1] + 1, 0), j + 1)
                inside = [2 * a + b for a in rows for b in columns]
                winner = inside[int(np.argmax(x.ravel()[inside]))]
                np.testing.assert_array_equal(y[0, i, j, 0], x.ravel()[winner])
                expected[winner] += 1.0 if x.ravel()[winner] != -np.inf else 0.0
            found = J.pull(np.where(y == -np.inf, 0.0, 1.0)).ravel()
            np.testing.assert_array_equal(found, expected)
            assert J.pull(np.ones(y.shape)).sum() == 4.0
    finally:
        mg.use("numpy")
