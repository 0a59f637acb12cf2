"""The tails: values and derivatives to third order over the whole range of a type, against decimal arithmetic.

Errors are relative to each value, not to the largest one: where a function or its derivative is tiny, it is still
correct to the last digits, until the type itself underflows. The decimal functions are written as they are defined, and
their derivatives are differences, so that nothing is copied from the rules under test.
"""
import decimal
import functools

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn

D = decimal.Decimal
DIGITS = {np.float32: 120, np.float64: 390}                 # 1 + e^-86 has 38, 1 + e^-700 has 305


@functools.cache
def softplus(x):
    return (1 + x.exp()).ln()


@functools.cache
def mirrored(x):
    return softplus(-x)


@functools.cache
def sigmoid(x):
    return 1 / (1 + (-x).exp())


def two_classes(f):
    """Return f of the scores (x, 0) of each element x."""
    return lambda x: f(mg.stack([x, 0.0 * x], 1))


def losses(label):
    return two_classes(lambda scores: nn.cross_entropy(scores, np.full(len(scores), label)))


def losses_of_second(label):
    return lambda x: nn.cross_entropy(mg.stack([0.0 * x, x], 1), np.full(len(x), label))


def losses_of_one(label):
    return lambda x: nn.sigmoid_cross_entropy(x, np.full(len(x), label))


def either(f):
    """Return both signs of x, and f."""
    return (1, -1), f


def positive(f):
    return (1,), f


FAR = {np.float32: ["1e-30", "1e-9", "0.003", "0.4", "2.5", "9.5", "17", "60", "86"],
       np.float64: ["1e-300", "1e-20", "1e-9", "0.003", "0.4", "2.5", "17", "40", "300", "700"]}
WIDE = {np.float32: ["1e-12", "1e-3", "0.7", "3", "1e4", "1e12"],
        np.float64: ["1e-90", "1e-20", "0.7", "3", "1e9", "1e90"]}
OFF_ZERO = {dtype: points[4:] for dtype, points in FAR.items()}     # at 0 odd derivatives vanish, but their terms do not
NEAR_POLE = {np.float32: ["1e-30", "1e-9", "0.003", "0.5", "0.99", "0.9999"],
         np.float64: ["1e-300", "1e-20", "0.003", "0.5", "0.99", "0.99999999"]}


ROWS = {                                                    # name: ours, signs of x and the same in decimals, points
    "exp": (mg.exp, either(D.exp), FAR),
    "expm1": (mg.expm1, either(lambda x: x.exp() - 1), FAR),
    "sigmoid": (mg.sigmoid, either(sigmoid), FAR),
    "softplus": (mg.softplus, either(softplus), FAR),
    "tanh": (mg.tanh, either(lambda x: 2 * sigmoid(2 * x) - 1), FAR),
    "log": (mg.log, positive(D.ln), WIDE),
    "log1p": (mg.log1p, positive(lambda x: (1 + x).ln()), WIDE),
    "log1p near -1": (mg.log1p, ((-1,), lambda x: (1 + x).ln()), NEAR_POLE),
    "sqrt": (mg.sqrt, positive(lambda x: x.sqrt()), WIDE),
    "cube": (lambda x: x ** 3, either(lambda x: x ** 3), WIDE),
    "power": (lambda x: mg.power(x, -1.5), positive(lambda x: 1 / (x * x.sqrt())), WIDE),
    "reciprocal": (lambda x: 1.0 / x, either(lambda x: 1 / x), WIDE),
    "base of a power": (lambda x: mg.power(2.5, x), either(lambda x: D("2.5") ** x), FAR),
    "sigmoid_cross_entropy of 0": (losses_of_one(0), either(softplus), FAR),
    "sigmoid_cross_entropy of 1": (losses_of_one(1), either(mirrored), FAR),
    "sigmoid_cross_entropy of 1.0": (losses_of_one(1.0), either(mirrored), FAR),
    "sigmoid_cross_entropy of 0.25": (losses_of_one(0.25), either(lambda x: softplus(x) - x / 4), FAR),
    "sigmoid_cross_entropy of almost 1": (losses_of_one(1 - 2.0**-20), either(lambda x: mirrored(x) + x / 2**20), FAR),
    "cross_entropy of the first": (losses(0), either(mirrored), OFF_ZERO),
    "cross_entropy of the second": (losses(1), either(softplus), OFF_ZERO),
    "cross_entropy in the other score": (losses_of_second(0), either(softplus), OFF_ZERO),
    "cross_entropy in its own score": (losses_of_second(1), either(mirrored), OFF_ZERO),
    "logsumexp": (two_classes(lambda s: mg.logsumexp(s, 1)), either(softplus), OFF_ZERO),
    "log_softmax": (two_classes(lambda s: mg.log_softmax(s, 1)[:, 0]), either(lambda x: -mirrored(x)), OFF_ZERO),
    "log_softmax of the other": (two_classes(lambda s: mg.log_softmax(s, 1)[:, 1]), either(lambda x: -softplus(x)), OFF_ZERO),
    "softmax": (two_classes(lambda s: mg.softmax(s, 1)[:, 0]), either(sigmoid), OFF_ZERO),
    "softmax of the other": (two_classes(lambda s: mg.softmax(s, 1)[:, 1]), either(lambda x: sigmoid(-x)), OFF_ZERO),
}


def differences(f, x, scale):
    """Return f and its first three derivatives at x, in decimals, by central differences with a relative error of about 1e-26."""
    h = scale * D("1e-13")
    far, near, here, more, most = (f(x + k * h) for k in (-2, -1, 0, 1, 2))
    return here, (more - near) / (2 * h), (more - 2 * here + near) / h ** 2, (most - 2 * more + 2 * near - far) / (2 * h ** 3)


def forward(f):
    return lambda x: mg.jvp(f, (x,), (np.ones_like(mg.core.raw(x)),))[1]


def backward(f):
    return mg.grad(lambda x: mg.sum(f(x)))


def close(found, right, dtype, what):
    """Check that a value is within a few roundings of a number, as far as the type can represent it."""
    info = np.finfo(dtype)
    for x, a, b in zip(what, found, right, strict=True):
        if abs(b) > D(float(info.max)):
            assert np.isinf(a) and (a > 0) == (b > 0), (x, a, b)
        else:
            error, allowed = float(abs(D(float(a)) - b)), float(60 * D(float(info.eps)) * abs(b) + 4 * D(float(info.tiny)))
            assert error <= allowed, (x, float(a), float(b))


@pytest.mark.parametrize("dtype", DIGITS)
@pytest.mark.parametrize("name", ROWS)
def test_tails(name, dtype):
    f, (signs, definition), points = ROWS[name]
    x = np.array([sign * float(point) for sign in signs for point in points[dtype]], dtype)
    with decimal.localcontext(prec=DIGITS[dtype], Emin=decimal.MIN_EMIN, Emax=decimal.MAX_EMAX), np.errstate(all="ignore"):
        scale = abs(x) if points is WIDE else 1.0 + x if points is NEAR_POLE else np.ones(len(x))   # to the next pole
        right = list(zip(*[differences(definition, D(float(each)), D(float(s))) for each, s in zip(x, scale)]))
        for derive in (forward, backward):
            g = f
            for order in range(4):
                y = g(x)
                assert y.dtype == dtype
                close(y, right[order], dtype, [(name, order, derive.__name__, each) for each in x])
                g = derive(g)


# --------------------------------------------------------------------------------------------- shift invariance

OFFSETS = {np.float16: [300.0, -3000.0], np.float32: [1e4, -1e9, 3e37], np.float64: [1e12, -1e17, 1e307]}
SHIFTED = {                                                 # functions that do not change when a number is added to all scores
    "softmax": mg.softmax, "log_softmax": mg.log_softmax, "softmax over all": lambda x: mg.softmax(x, (0, 1)),
    "cross_entropy": lambda x: nn.cross_entropy(x, mg.xp.asarray([0, 2])),
    "gradient of logsumexp": lambda x: mg.grad(lambda x: mg.sum(mg.logsumexp(x, 1)))(x)}


@pytest.mark.parametrize("dtype", OFFSETS)
@pytest.mark.parametrize("name", SHIFTED)
def test_a_number_added_to_all_changes_nothing(device, name, dtype):
    """Value, push, pull and second derivatives stay the same, with steps that the type can represent next to the number."""
    def all_of(x):
        x, t = mg.xp.asarray(x), mg.xp.asarray(np.array([[1.0, -2.0, 0.5], [0.25, 1.0, 3.0]], dtype))
        y, J = mg.linearize(SHIFTED[name], x)
        g = mg.xp.asarray(np.linspace(-1.0, 2.0, y.size).reshape(y.shape).astype(dtype))
        second = mg.jvp(lambda x: mg.vjp(SHIFTED[name], x)[1](g)[0], (x,), (t,))[1]
        return [mg.to_host(a) for a in (y, J.push(t), J.pull(g), second)]
    for offset in OFFSETS[dtype]:
        step = max(1.0, float(np.spacing(dtype(abs(offset)))))
        near = (np.array([[0.0, -1.0, -3.0], [2.0, 2.0, 0.0]]) * step).astype(dtype)
        far = near + dtype(offset)
        for a, b in zip(all_of(far), all_of(far - dtype(offset)), strict=True):
            assert a.dtype == dtype
            np.testing.assert_allclose(a, b, rtol=4 * np.finfo(dtype).eps, atol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DIGITS)
def test_scores_that_are_not_finite(device, dtype):
    """-infinity removes a class; undefined results are NaN, and never an unrelated number."""
    inf, nan = np.inf, np.nan
    for row, total, p in [([-inf, 0.0, 0.0], np.log(2.0), [0.0, 0.5, 0.5]), ([inf, 5.0, -inf], inf, [nan, 0.0, 0.0]),
                          ([nan, 5.0, 800.0], nan, [nan] * 3), ([-inf] * 3, -inf, [0.0] * 3), ([inf, nan, 0.0], nan, [nan] * 3)]:
        x = mg.xp.asarray(np.array([row, [1.0, 1.0, -inf]], dtype))
        with np.errstate(invalid="ignore"):
            y, pull = mg.vjp(lambda x: mg.logsumexp(x, 1), x)
            gradient = mg.to_host(pull(mg.xp.ones(2, dtype))[0])
            np.testing.assert_allclose(mg.to_host(y)[0], total, rtol=1e-6)
            np.testing.assert_allclose(gradient, [p, [0.5, 0.5, 0.0]], rtol=1e-6)
            if np.isfinite(total):
                np.testing.assert_allclose(mg.to_host(mg.softmax(x)), [p, [0.5, 0.5, 0.0]], rtol=1e-6)


def test_cross_entropy_of_scores_that_are_not_finite(device):
    inf, nan = np.inf, np.nan
    for row, loss, gradient in [([0.0, -inf, 0.0], np.log(2.0), [-0.5, 0.0, 0.5]), ([-inf, 0.0, 0.0], inf, [-1.0, 0.5, 0.5]),
                                ([0.0, -inf, -inf], 0.0, [0.0, 0.0, 0.0]), ([0.0, inf, 0.0], inf, [nan, nan, 0.0]),
                                ([-inf] * 3, nan, [0.0] * 3), ([nan, 0.0, 0.0], nan, [nan] * 3), ([0.0, nan, 0.0], nan, [nan] * 3)]:
        x, y = mg.xp.asarray(np.array([row, [0.0, 0.0, -inf]])), mg.xp.asarray([0, 0])
        with np.errstate(invalid="ignore", divide="ignore"):
            found, J = mg.linearize(lambda x: nn.cross_entropy(x, y), x)
            np.testing.assert_allclose(mg.to_host(found), [loss, np.log(2.0)])
            np.testing.assert_allclose(mg.to_host(J.pull(mg.xp.ones(2))), [gradient, [-0.5, 0.5, 0.0]])


def test_logsumexp_of_nothing_is_the_logarithm_of_0():
    assert mg.logsumexp(np.zeros(0, "float32")) == -np.inf and mg.logsumexp(np.zeros(0, "float32")).dtype == np.float32
    np.testing.assert_array_equal(mg.logsumexp(np.zeros((2, 0)), 1), [-np.inf, -np.inf])
    assert mg.softmax(np.zeros((2, 0))).shape == mg.grad(lambda x: mg.sum(mg.logsumexp(x, 1)))(np.zeros((2, 0))).shape == (2, 0)
    assert mg.logsumexp(np.zeros((0, 3)), 1).shape == (0,) and mg.logsumexp(2.5) == 2.5
