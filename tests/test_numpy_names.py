"""minigrad.numpy: one import in place of NumPy's, on the arrays in use."""
import inspect

import numpy
import pytest

import minigrad as mg
import minigrad.numpy as np
from minigrad import DTypeError, TraceError


def logistic(w, x, y):
    """A loss as it was written for NumPy."""
    p = 1 / (1 + np.exp(-np.dot(np.hstack([x, np.ones((len(x), 1))]), w)))
    penalty = np.linalg.norm(w) + np.where(np.isnan(w), np.inf, np.zeros(3)).sum()
    return -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)) + 0.1 * np.pi * penalty


def test_a_program_of_numpy_runs_on_the_arrays_in_use(device):
    xp = mg.xp
    rng = numpy.random.default_rng(0)
    w, x, y = rng.normal(size=3), rng.normal(size=(5, 2)), numpy.array([0.0, 1.0, 1.0, 0.0, 1.0])
    p = lambda w: 1 / (1 + numpy.exp(-(x @ w[:2] + w[2])))  # noqa: E731
    expected = numpy.append(x, numpy.ones((5, 1)), 1).T @ (p(w) - y) / 5 + 0.1 * numpy.pi * w / numpy.linalg.norm(w)
    found = mg.grad(logistic)(*map(xp.asarray, (w, x, y)))
    assert type(found) is xp.ndarray
    numpy.testing.assert_allclose(mg.to_host(found), expected, rtol=1e-12)


def test_what_minigrad_lacks_is_the_array_module_s(device):
    xp = mg.xp
    assert np.float32 is xp.float32 and np.pi == xp.pi and np.newaxis is None and np.random is xp.random
    assert type(np.linspace(0, 1, 3)) is type(np.zeros(2)) is xp.ndarray
    assert np.concat is mg.concatenate and np.acos is mg.arccos and np.power is mg.power
    assert {"exp", "zeros", "einsum"} <= {*dir(np)} and {"norm", "eigvalsh"} <= {*dir(np.linalg)}
    assert mg.grad(lambda x: np.sum(x * np.isfinite(x)))(xp.ones(2)).tolist() == [1.0, 1.0]
    with pytest.raises(TraceError, match=r"np.histogram\(x\): minigrad has no such function of a traced value"):
        mg.grad(lambda x: np.histogram(x)[0])(xp.ones(2))
    with pytest.raises(AttributeError, match="exq"):
        np.exq


REDUCTIONS = [(module, name) for module in (mg, mg.linalg, mg.special) for name, f in vars(module).items()
              if not name.startswith("_") and callable(f) and not isinstance(f, type) and "keepdims" in inspect.signature(f).parameters]


@pytest.mark.parametrize("module, name", REDUCTIONS, ids=lambda each: getattr(each, "__name__", each))
def test_keepdims_is_an_integer_as_in_numpy(module, name):
    """Not a type, which is the third argument of NumPy's sum and mean; argmax and quantiles of plain arrays are NumPy's own, which takes anything."""
    f, more = getattr(module, name), {"quantile": (0.5,), "percentile": (50.0,)}.get(name, ())
    x = numpy.arange(6.0).reshape(2, 3)
    assert numpy.shape(f(x, *more, axis=0, keepdims=True)) == numpy.shape(f(x, *more, axis=0, keepdims=1)) == (1, 3)
    for given in ("float32", numpy.float32, None):
        if name not in ("argmax", "argmin", "median", "quantile", "percentile"):
            with pytest.raises(DTypeError, match="cannot be interpreted as an integer"):
                f(x, *more, axis=0, keepdims=given)
        if name not in ("argmax", "argmin", "any", "all", "count_nonzero"):
            with pytest.raises(DTypeError, match="cannot be interpreted as an integer"):
                mg.grad(lambda x, given=given: mg.sum(f(x, *more, axis=0, keepdims=given)))(x)


@pytest.mark.parametrize("name", ["sum", "mean", "max", "min", "amax", "amin"])
def test_a_type_by_position_is_refused(name):
    for dtype in ("float32", numpy.float32):
        with pytest.raises(DTypeError):
            getattr(mg, name)(numpy.ones((2, 3)), 0, dtype)


def test_private_names_of_the_array_module_are_not_handed_on():
    for names in (np, np.linalg):
        with pytest.raises(AttributeError):
            names._umath_linalg
        assert not hasattr(names, "_core")


def test_everyday_calls_of_numpy(device):
    """The indices of a mask, a copy, one more axis: also of traced values where they have a derivative."""
    x = mg.xp.asarray([[1.0, -2.0], [0.0, 3.0]])
    for found, expected in ((np.where(x > 0), ([0, 1], [0, 1])), (np.where([True, False, True]), ([0, 2],))):
        assert [each.tolist() for each in found] == [*expected]
    assert mg.grad(lambda x: np.sum(x[np.where(x > 0)] ** 2))(x).tolist() == [[2.0, 0.0], [0.0, 6.0]]
    again = np.array(x, copy=True)
    again[0, 0] = 9.0
    assert x[0, 0] == 1.0 and np.array(1.0, ndmin=2).shape == (1, 1) and np.array(x, ndmin=3).shape == (1, 2, 2)
    assert mg.linearize(lambda x: np.array([x, 2 * x], ndmin=4, copy=True), x)[0].shape == (1, 2, 2, 2)
    with pytest.raises(mg.MinigradError):
        np.where(x > 0, x)


def test_products_of_linalg_are_those_of_numpy():
    x, y = mg.xp.asarray([1.0, 2.0]), mg.xp.asarray([[3.0, 4.0], [5.0, 6.0]])
    for f in (lambda m, x, y: m.outer(x, x), lambda m, x, y: m.matmul(y, x), lambda m, x, y: m.tensordot(y, x, 1)):
        for found, expected in zip(mg.value_and_grad(lambda x, f=f: np.sum(f(np.linalg, x, y) ** 2))(x), mg.value_and_grad(lambda x, f=f: np.sum(f(mg, x, y) ** 2))(x), strict=True):
            numpy.testing.assert_array_equal(mg.to_host(found), mg.to_host(expected))
