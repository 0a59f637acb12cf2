"""Operators and methods, conventions at kinks, values at the ends of the range, and refusals."""
import copy
import functools
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import grad

from ..plain import plain
from ..strategies import arrays, full_shapes, tied


@given(arrays(shape=full_shapes))
def test_operators_and_methods_are_the_functions(x):
    def check(method, function):
        np.testing.assert_array_equal(mg.jvp(method, (x,), (x,))[1], mg.jvp(function, (x,), (x,))[1])
    check(lambda x: 2.0 - x / 3.0 + 1.0 / x - (-x), lambda x: mg.subtract(mg.add(mg.subtract(2.0, mg.divide(x, 3.0)),
                                                                                 mg.divide(1.0, x)), mg.negative(x)))
    check(lambda x: x ** 1 + x ** 3 + abs(x) ** 0.5, lambda x: mg.add(mg.add(mg.power(x, 1), mg.power(x, 3)),
                                                                      mg.power(mg.abs(x), 0.5)))
    check(lambda x: x.reshape((1, -1)).reshape(-1, 1), lambda x: mg.reshape(x, (-1, 1)))
    check(lambda x: x.transpose(tuple(reversed(range(x.ndim)))) + x.transpose(), lambda x: mg.multiply(2.0, mg.transpose(x)))
    check(lambda x: abs(x) ** 2 * 2.0 ** x, lambda x: mg.multiply(mg.square(mg.abs(x)), mg.power(2.0, x)))
    check(lambda x: x.T.reshape(-1).sum(), lambda x: mg.sum(mg.reshape(mg.transpose(x), (-1,))))
    check(lambda x: x.transpose(*range(x.ndim)).mean(axis=0).ravel(), lambda x: mg.ravel(mg.mean(x, 0)))
    check(lambda x: x.max() + x.min(0) + x.var(0) + x.clip(0.0, 1.0).take(np.array(0)),
          lambda x: mg.max(x) + mg.min(x, 0) + mg.var(x, 0) + mg.take(mg.clip(x, 0.0, 1.0), np.array(0)))
    check(lambda x: np.ones(x.shape) * x @ x.swapaxes(0, -1) if x.ndim == 2 else x.squeeze(),
          lambda x: mg.matmul(x, mg.swapaxes(x, 0, -1)) if x.ndim == 2 else mg.squeeze(x))
    mg.grad(lambda x: (lambda rows: mg.sum(sum(rows)))(list(x)))(x)
    taken = []
    mg.grad(lambda x: (taken.append((len(x), bool((x > 0).all() | (x <= 0).any()), x.argmax(), x.argmin(), (x == x).all())),
                       mg.sum(x))[1])(x)
    assert taken == [(len(x), True, x.argmax(), x.argmin(), True)]


def test_conventions_at_kinks():
    assert grad(mg.relu)(0.0) == 0.0 and grad(mg.abs)(0.0) == 0.0
    assert grad(lambda x: mg.maximum(x, 1.0))(1.0) == 0.5 and grad(lambda x: mg.minimum(x, 1.0))(1.0) == 0.5
    assert list(grad(lambda x: mg.max(x))(np.array([1.0, 2.0, 2.0]))) == [0, 1, 0]
    assert list(grad(lambda x: mg.min(x))(np.array([3.0, 2.0, 2.0]))) == [0, 1, 0]
    assert grad(lambda x: x ** 2)(0.0) == 0.0 and grad(grad(lambda x: mg.power(x, 2)))(0.0) == 2.0
    assert grad(lambda x: mg.power(x, 1))(0.0) == 1.0 and grad(lambda x: mg.power(x, np.array(0.0)))(0.0) == 0.0
    assert grad(lambda b: mg.power(0.0, b))(2.0) == 0.0 and grad(lambda b: mg.power(0.0, b))(0.0) == 0.0
    assert grad(lambda b: mg.power(np.array(0.0), b))(0.0) == 0.0 and grad(lambda x: mg.power(x, 0))(0.0) == 0.0


def test_sigmoid_is_exact_at_both_ends():
    np.testing.assert_allclose(mg.sigmoid(np.array([-40.0, -800.0, 40.0])), [np.exp(-40.0), 0.0, 1.0], rtol=1e-12)
    assert mg.grad(lambda x: mg.log(mg.sigmoid(x)))(-40.0) == 1.0
    np.testing.assert_allclose(mg.sigmoid(np.float32(-18)), 1.5229979e-8, rtol=1e-6)


@pytest.mark.parametrize("a", [(3,), (2, 3), (5, 2, 3), (4, 1, 2, 3)])
@pytest.mark.parametrize("b", [(3,), (3, 2), (5, 3, 2), (1, 3, 2)])
def test_every_shape_of_matmul(a, b):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=a), rng.normal(size=b)
    y, J = mg.linearize(mg.matmul, a, b)
    assert y.shape == (a @ b).shape
    np.testing.assert_allclose(y, a @ b, rtol=1e-12)
    np.testing.assert_allclose(J.push(a, b), 2.0 * (a @ b), rtol=1e-12)
    assert [g.shape for g in J.pull(y)] == [a.shape, b.shape]


def test_defaults_are_numpys():
    def same(a, b):
        np.testing.assert_allclose(a, b, rtol=1e-12, strict=True)       # the shape too
    x = np.arange(24.0).reshape(2, 3, 4) ** 1.5
    same(mg.squeeze(x[:, None, :, :, None]), x)
    for name in ("sum", "mean", "var", "std", "max", "min", "argmax", "argmin", "squeeze", "transpose", "ravel"):
        same(getattr(mg, name)(x), getattr(np, name)(x))
    same(mg.tensordot(x, x.transpose(1, 2, 0)), np.tensordot(x, x.transpose(1, 2, 0)))
    same(mg.flip(x), np.flip(x))
    same(mg.take(x, np.array([5, 7])), np.take(x, [5, 7]))
    same(mg.clip(x), x)
    same(mg.standardize(x, 0), plain.standardize(x, 0))
    small = x / 40.0
    for name in ("logsumexp", "softmax", "log_softmax"):    # SciPy's and PyTorch's: all axes; the last axis
        same(getattr(mg, name)(small), getattr(plain, name)(small))
    image, k = x.reshape(1, 6, 4, 1), np.ones((2, 2, 1, 1))
    same(mg.conv2d(image, k), plain.conv2d(image, k, (1, 1), 0))
    for name in ("max_pool2d", "avg_pool2d"):
        same(getattr(mg, name)(image, 2), getattr(plain, name)(image, (2, 2), (2, 2)))
    same(mg.unfold(image, 2), plain.unfold(image, (2, 2), (1, 1)))
    same(mg.pad(x, 1), np.pad(x, 1))
    same(mg.stack([x, x]), np.stack([x, x]))
    same(mg.concatenate([x, x]), np.concatenate([x, x]))


@given(arrays(tied, full_shapes), st.data())
def test_ties(x, data):
    """Among equal elements, the derivative of max and min goes to the first; that of maximum and minimum is split in halves."""
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    for name in ("max", "min"):
        winner = np.zeros(x.shape)
        np.put_along_axis(winner, np.expand_dims(getattr(np, "arg" + name)(x, axis), axis), 1.0, axis)
        np.testing.assert_array_equal(grad(lambda x: mg.sum(getattr(mg, name)(x, axis)))(x), winner)
        first = np.zeros(x.size)
        first[getattr(np, "arg" + name)(x)] = 1.0
        np.testing.assert_array_equal(grad(getattr(mg, name))(x), first.reshape(x.shape))
    other = x[..., ::-1].copy()
    for name, sign in (("maximum", 1.0), ("minimum", -1.0)):
        a, b = grad(lambda a, b: mg.sum(getattr(mg, name)(a, b)), (0, 1))(x, other)
        np.testing.assert_array_equal(a, 0.5 + 0.5 * np.sign(sign * (x - other)))
        np.testing.assert_array_equal(a + b, np.ones(x.shape))


def test_numbers_and_lists_where_numpy_takes_them():
    np.testing.assert_array_equal(mg.scatter_add(np.array([1.0, 2.0]), (3,), [0, 0]), [3, 0, 0])
    np.testing.assert_array_equal(mg.scatter_add(np.array([1.0, 2.0]), (3, 1), ([0, 0], 0)), [[3], [0], [0]])
    np.testing.assert_array_equal(mg.take(np.array([5.0, 7.0]), [True, False]), np.take([5.0, 7.0], [True, False]))
    np.testing.assert_array_equal(mg.concatenate([np.ones((2, 2)), np.zeros(1)], None), [1, 1, 1, 1, 0])
    np.testing.assert_array_equal(mg.broadcast_to(np.ones(1), 3), np.ones(3))
    assert mg.where(True, 2.0, 3.0) == 2.0 and mg.sigmoid(0.0) == 0.5 and mg.astype(3.0, "float32").dtype == np.float32
    assert grad(lambda x: mg.where(True, x, 0.0))(2.0) == 1.0
    assert mg.elementwise(functools.partial(np.power, 2.0), lambda y, x: y)(1.0) == 2.0
    with np.errstate(divide="ignore"):
        assert mg.var(np.array([1.0, 2.0]), ddof=3) == np.inf


def test_a_negative_base_has_no_derivative_in_the_exponent():
    for base in (-0.5, -2.0):
        assert mg.power(base, 2.0) == base * base and np.isnan(grad(lambda b: mg.power(base, b))(2.0))


def test_a_number_beside_an_array_has_no_type():
    x = np.ones(3, np.float32)
    for f in (lambda x: 2.0 ** x, lambda x: x ** 2.5, lambda x: 2.0 / x, lambda x: mg.maximum(x, 0.5), lambda x: mg.clip(x, 0.0, 2),
              lambda x: mg.where(x > 0, x, 2.0), lambda x: 1 - x * 3):
        y, t = mg.jvp(f, (x,), (x,))
        tangent = mg.check._push(lambda x: [f(x)], [x], [x])[0]
        assert y.dtype == t.dtype == tangent.dtype == np.float32


def test_power_has_a_symmetric_hessian_at_exponent_zero():
    H = mg.hessian(lambda v: v[0] ** v[1])(np.array([2.0, 0.0]))
    np.testing.assert_allclose(H, [[0, 0.5], [0.5, np.log(2.0) ** 2]])


@pytest.mark.parametrize("index", [[0, 0], ((0, 0),), range(-1, 1), [True, False, True], [], np.array([0, 0])])
def test_an_index_is_read_as_numpy_reads_it(index):
    x = np.array([1.0, 2.0, 3.0])
    expected = np.zeros(3)
    np.add.at(expected, index if not isinstance(index, range) else list(index), 1.0)
    np.testing.assert_array_equal(grad(lambda x: mg.sum(x[index]))(x), expected)
    np.testing.assert_array_equal(grad(lambda x: mg.sum(mg.take(x, (0, 0), axis=0)))(x), [2, 0, 0])


class Foreign:
    """An array of another library: its dtype is not NumPy's."""
    dtype = "int64, as that library calls it"

    def __init__(self, values):
        self.values, self.shape = np.array(values), np.shape(values)

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype)


@pytest.mark.parametrize("index", [[0, 0, 2], [True, False, True], [[0, 2], [2, 2]]])
def test_an_index_of_another_library_is_that_of_numpy(index):
    """Also where it names an element twice: both cotangents add up."""
    x, foreign = np.arange(1.0, 4.0), Foreign(index)
    for f in (lambda x, i: x[i], lambda x, i: mg.scatter_add(x[i], 3, i), lambda x, i: mg.getitem(x, (i,)), lambda x, i: mg.take(x, i) if np.array(index).dtype != bool else x):
        for found, expected in zip(mg.value_and_grad(lambda x, i, f=f: mg.sum(f(x, i) ** 2))(x, foreign), mg.value_and_grad(lambda x, i, f=f: mg.sum(f(x, i) ** 2))(x, np.array(index)), strict=True):
            np.testing.assert_array_equal(found, expected)
    with pytest.raises(mg.DTypeError):
        mg.vjp(mg.sin, x)[1](foreign)


def test_integers_have_no_derivative():
    assert grad(lambda x: x * x.astype(np.int64))(2.5) == 2.0
    assert (grad(lambda x: mg.sum(x.astype(np.float32) * 2.0))(np.ones(2)) == 2.0).all()


def test_copies_of_a_traced_value_are_itself():
    for again in (copy.copy, copy.deepcopy):
        assert grad(lambda x: mg.sum(again({"w": x})["w"] ** 2))(np.array([3.0])) == [6.0]
    assert grad(lambda x: +x)(1.0) == 1.0


def test_put_undoes_its_broadcasting():
    gradient, = mg.vjp(lambda g: mg.scatter_add(g, (3,), slice(0, 2)), np.ones(1))[1](np.array([1.0, 2.0, 4.0]))
    assert gradient.tolist() == [3.0]


def test_where_lets_nothing_through_from_the_other_side():
    def f(x):
        return mg.sum(mg.where(x > 1.0, mg.sqrt(x - 1.0), x * 0.0))
    with np.errstate(invalid="ignore", divide="ignore"):
        assert list(grad(lambda x: mg.sum(mg.where(np.array([True, False]), x, np.inf)))(np.ones(2))) == [1, 0]
        assert np.isfinite(f(np.array([0.5, 2.0])))


def test_no_overflow_where_there_need_be_none():
    big = np.array([[1e4, -1e4], [1e4, 1e4]])
    np.testing.assert_allclose(mg.logsumexp(big, 1), [1e4, 1e4 + np.log(2)])
    np.testing.assert_allclose(mg.softplus(big), np.maximum(big, 0), atol=1)
    np.testing.assert_allclose(mg.sigmoid(big), [[1, 0], [1, 1]])
    np.testing.assert_allclose(mg.softmax(big), [[1, 0], [0.5, 0.5]])
    assert mg.logsumexp(np.array([-np.inf, 0.0])) == 0.0 and mg.logsumexp(np.array([np.inf, 0.0])) == np.inf
    with np.errstate(divide="ignore"):                      # log 0, as NumPy says
        assert mg.logsumexp(np.full(2, -np.inf)) == -np.inf
        assert grad(mg.logsumexp)(np.full(2, -np.inf)).tolist() == [0.0, 0.0]


def test_dropout_of_nothing_is_nothing():
    np.testing.assert_array_equal(mg.dropout(np.ones(50), 0.0, 1), np.ones(50))


def test_dropout_keeps_its_mean_and_its_key():
    x = np.ones((200, 200))
    y = mg.dropout(x, 0.3, (1, 2))
    assert abs(y.mean() - 1.0) < 0.02 and set(np.unique(y)) == {0.0, 1.0 / 0.7}
    np.testing.assert_array_equal(y, mg.dropout(x, 0.3, (1, 2)))
    for other in (1, 2, (2, 1), (1, 3), (1, 2, 0), (0, 1, 2)):
        assert abs(np.corrcoef(y.ravel(), mg.dropout(x, 0.3, other).ravel())[0, 1]) < 0.02


def test_dropout_draws_the_same_from_integers_in_arrays(device):
    """On every device, and in a captured step, whose changing inputs are arrays."""
    x = mg.xp.ones((30, 7), "float32")
    given = [mg.to_host(mg.dropout(x, 0.4, key)) for key in (
        (3, 2**32 + 1, 4), (3, mg.xp.asarray(1), 4), (mg.xp.asarray([3, 1]), 4), mg.xp.asarray([3, 1, 4], "uint32"))]
    step = mg.capture(lambda s, key: (s, mg.dropout(x, 0.4, (key, 4))))
    for last in (1, 5, 1):
        _, captured = step(mg.xp.zeros(()), np.array([3, last]))
    mg.use("numpy")
    expected = mg.dropout(np.ones((30, 7), "float32"), 0.4, (3, 1, 4))
    for y in (*given, mg.to_host(captured) if device == "numpy" else captured.get()):
        np.testing.assert_array_equal(y, expected)


def test_dropout_is_random():
    """Tested by z-scores: no pattern between masks of neighboring keys, in neighboring elements, rows or columns of images."""
    signs = np.stack([mg.dropout(np.ones((64, 64)), 0.5, (7, t)).ravel() - 1 for t in range(256)])
    between = (signs @ signs.T / 64)[np.triu_indices(256, 1)]
    beside = [(signs[:, lag:] * signs[:, :-lag]).sum(1) / np.sqrt(4096 - lag) for lag in (1, 2, 3, 8, 64, 65, 512)]
    lines = [signs.reshape(256, 64, 64).sum(axis) / 8 for axis in (1, 2)]
    elements = signs.sum(0) / 16
    for z in map(np.ravel, (between, np.array(beside), np.array(lines), elements)):
        assert abs(z.mean()) < 5 / np.sqrt(z.size) and abs(z.std() - 1) < 5 / np.sqrt(2 * z.size) and abs(z).max() < 6


def test_masked_arrays_are_refused():
    """Most functions would use the values behind the mask. Those that call NumPy's methods keep the mask."""
    m = np.ma.array([1.0, 2.0, 30.0], mask=[0, 0, 1])
    label = np.zeros(1, int)
    for f in (mg.mean, mg.var, mg.std, mg.sum, mg.sigmoid, mg.exp, mg.relu, mg.logsumexp, mg.softmax, mg.square,
              lambda m: mg.standardize(m, 0), lambda m: mg.matmul(m, np.ones(3)), lambda m: mg.matmul(np.ones((1, 3)), m),
              lambda m: mg.where(m > 1.0, m, 0.0), lambda m: mg.dropout(m, 0.5, 1), lambda m: mg.nn.cross_entropy(m[None], label),
              lambda m: mg.grad(lambda w: mg.mean(w * m))(np.ones(3)), lambda m: mg.grad(lambda w: mg.sum(m * w))(np.ones(3)),
              lambda m: mg.grad(lambda x: mg.sum(x * x))(m), lambda m: mg.nn.sigmoid_cross_entropy(m, np.zeros(3))):
        with pytest.raises(mg.DTypeError, match="masked arrays are not taken") as caught:
            f(m)
    assert mg.max(m) == m.max() and mg.argmax(m) == 1 and mg.reshape(m, (3, 1)).mask.sum() == 1
    assert str(caught.value) == (
        "minigrad: masked arrays are not taken: most functions would lose the mask\n  x  (3,)  float64\n"
        "  help: where(mask, 0.0, x.data) beside a weight for each element; their mean is sum(weights * x) / sum(weights)")


def test_negative_keys_are_others():
    keys = [1, -1, (1, -1), (-1, 1), (-1, -1), 2 ** 32 - 2, -3]
    masks = {mg.dropout(np.ones(64), 0.5, key).tobytes() for key in keys}
    assert len(masks) == len(keys) and np.array_equal(mg.dropout(np.ones(64), 0.5, -1), mg.dropout(np.ones(64), 0.5, 2 ** 32 - 1))


def test_an_array_of_its_own_type_is_itself():
    for x in (np.ones((2, 3)), np.ones((2, 3)).T, np.arange(3), np.ones(2, "float16")):
        assert mg.asarray(x) is x and mg.asarray(x, x.dtype) is x and mg.asarray(x, x.dtype.name) is x and mg.asarray(x, complex) is not x


@pytest.mark.parametrize("number", [float, np.float64, np.float32, np.asarray])
def test_settings_of_any_type_change_no_type(number):
    x = np.arange(24.0, dtype="float32").reshape(2, 3, 4)
    gain = np.ones(4, "float32")
    for f in (lambda x: mg.standardize(x, 0, number(0.1)), lambda x: mg.nn.layer_norm(x, gain, gain, number(0.1)), lambda x: mg.nn.group_norm(x, 2, gain, gain, number(0.1)),
              lambda x: mg.nn.batch_norm(x, gain, gain, number(0.1))):
        y, J = mg.linearize(f, x)
        assert f(x).dtype == y.dtype == J.push(x).dtype == np.float32


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "bool", "float32", "complex64"])
@pytest.mark.parametrize("rows", [3, 5000])
def test_sums_of_columns_are_numpys_in_every_type(dtype, rows):
    """... in value and type, few rows or many: small integers do not overflow."""
    x = (np.arange(2 * rows).reshape(rows, 2) % 3).astype(dtype)
    for shape, expected in (((2,), x.sum(0)), ((1, 2), x.sum(0, keepdims=True)), ((), x.sum())):
        np.testing.assert_array_equal(mg.sum_to(x, shape), expected, strict=True)


def test_the_product_of_no_whole_numbers_is_one():
    told = []
    for how in ({}, {"axis": 1}, {"axis": 1, "keepdims": True}):
        mg.grad(lambda x: mg.sum(x) + 0.0 * len([told.append(mg.stop_gradient(mg.prod(x, dtype=int, **how)))]))(np.ones((2, 0)))
        np.testing.assert_array_equal(told[-1], np.prod(np.ones((2, 0)), dtype=int, **how), strict=True)


def test_slopes_of_arcsinh_overflow_nowhere():
    with np.errstate(all="raise", under="ignore"):
        for dtype, large in (("float16", 6e4), ("float32", 3e38), ("float64", 1e308)):
            x = np.array([-large, -1.0, 0.5, large]).astype(dtype)
            np.testing.assert_allclose(mg.jvp(mg.arcsinh, (x,), (np.ones_like(x),))[1], 1.0 / np.hypot(1.0, x.astype(float)), rtol=2 * float(np.finfo(dtype).eps), atol=float(np.finfo(dtype).smallest_subnormal))


def test_the_sixth_derivative_of_sinc_keeps_its_digits():
    """By the series of its derivative: sum of (-1)^k z^2k / (2k + 1)!, term by term."""
    f = mg.sinc
    for _ in range(6):
        f = (lambda f: lambda x: mg.jvp(f, (x,), (np.ones(4),))[1])(f)
    z = [0.0, 0.5, 0.95, 0.999]
    expected = [math.fsum((-1) ** k * z ** (2 * k - 6) / math.factorial(2 * k - 6) / (2 * k + 1) for k in range(3, 20)) * math.pi ** 6 for z in z]
    np.testing.assert_allclose(f(np.array(z) / math.pi), expected, rtol=1e-11)


def test_several_axes_are_moved_as_in_numpy():
    """In any order, from both ends."""
    x = np.arange(24.0).reshape(1, 2, 3, 4)
    for source in itertools.permutations((0, 1, -1), 2):
        for destination in itertools.permutations((0, 1, 2, -1), 2):
            y, J = mg.linearize(lambda x: mg.moveaxis(x, source, destination), x)
            np.testing.assert_array_equal(y, np.moveaxis(x, source, destination), strict=True)
            np.testing.assert_array_equal(J.pull(y), x)
    np.testing.assert_array_equal(mg.grad(lambda x: mg.sum(mg.moveaxis(x, (3, 0, 1), (0, 2, 1)) * np.moveaxis(x * 1.0, (3, 0, 1), (0, 2, 1))))(x), 2 * x)


@pytest.mark.parametrize("f", [mg.add, mg.multiply, mg.maximum, mg.matmul, lambda x, m: mg.where(x > 0, x, m), lambda x, m: mg.clip(x, 0.0, m)])
def test_a_masked_array_is_refused_wherever_it_stands(f):
    x, m = np.ones(3), np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0])
    for call in (lambda: f(x, m), lambda: mg.jvp(lambda x: f(x, m), (x,), (x,))):
        with pytest.raises(mg.DTypeError, match="masked arrays are not taken"):
            call()
