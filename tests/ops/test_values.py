"""Operators and methods, conventions at kinks, values at the ends of the range, and refusals."""
import copy

import numpy as np
import pytest
from hypothesis import given

import minigrad as mg
from minigrad import grad

from ..strategies import arrays, full_shapes


@given(arrays(shape=full_shapes))
def test_operators_and_methods_are_the_functions(x):
    def check(method, function):
        np.testing.assert_array_equal(mg.jvp(method, (x,), (x,))[1], mg.jvp(function, (x,), (x,))[1])
    check(lambda x: 2.0 - x / 3.0 + 1.0 / x - (-x), lambda x: mg.subtract(mg.add(mg.subtract(2.0, mg.divide(x, 3.0)),
                                                                                 mg.divide(1.0, x)), mg.negative(x)))
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
    assert grad(lambda b: mg.power(0.0, b))(2.0) == 0.0


def test_sigmoid_is_exact_at_both_ends():
    np.testing.assert_allclose(mg.sigmoid(np.array([-40.0, -800.0, 40.0])), [np.exp(-40.0), 0.0, 1.0], rtol=1e-12)
    assert mg.grad(lambda x: mg.log(mg.sigmoid(x)))(-40.0) == 1.0
    np.testing.assert_allclose(mg.sigmoid(np.float32(-18)), 1.5229979e-8, rtol=1e-6)


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


def test_integers_have_no_derivative():
    assert grad(lambda x: x * x.astype(np.int64))(2.5) == 2.0
    assert (grad(lambda x: mg.sum(x.astype(np.float32) * 2.0))(np.ones(2)) == 2.0).all()


def test_copies_of_a_traced_value_are_itself():
    for again in (copy.copy, copy.deepcopy):
        assert grad(lambda x: mg.sum(again({"w": x})["w"] ** 2))(np.array([3.0])) == [6.0]
    assert grad(lambda x: +x)(1.0) == 1.0


def test_put_undoes_its_broadcasting():
    gradient, = mg.vjp(lambda g: mg.put(g, (3,), slice(0, 2)), np.ones(1))[1](np.array([1.0, 2.0, 4.0]))
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
    assert mg.logsumexp(np.array([-np.inf, 0.0])) == 0.0


def test_dropout_keeps_its_mean_and_its_key():
    x = np.ones((200, 200))
    y = mg.dropout(x, 0.3, (1, 2))
    assert abs(y.mean() - 1.0) < 0.02 and set(np.unique(y)) == {0.0, 1.0 / 0.7}
    np.testing.assert_array_equal(y, mg.dropout(x, 0.3, (1, 2)))
    assert (y != mg.dropout(x, 0.3, (1, 3))).any()
