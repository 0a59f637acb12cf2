"""A traced value acts as an array: functions of NumPy, methods, other libraries' tensors."""
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
import minigrad.numpy
from minigrad import TraceError, box, tree
from minigrad.errors import BackendError, DTypeError

from . import requirements
from .ops.test_laws import any_inputs
from .table import TABLE

X = np.array([[1.0, 2.0, 0.5], [3.0, 0.25, 4.0]])
BOTH = [name for name in TABLE if callable(getattr(np, name, None)) and name not in ("array", "asarray", "row_stack")]     # which NumPy leaves to no one, or deprecates


class NumPy(types.SimpleNamespace):
    """NumPy, with minigrad's own function where NumPy has none."""
    xp = np

    def __getattr__(self, name):
        return getattr(np, name) if hasattr(np, name) else getattr(mg, name)


@pytest.mark.parametrize("name", BOTH)
@given(data=st.data())
@settings(any_inputs, max_examples=5)
def test_functions_of_numpy_take_traced_values(name, data):
    """They are minigrad's: value, push and pull have the same bits."""
    f, xs = data.draw(TABLE[name].cases)
    (y, J), (z, K) = (mg.linearize(lambda *xs: f(m, *xs), *xs) for m in (mg, NumPy()))
    leaves, structure = tree.flatten(y)
    ts, g = [np.cos(x) for x in xs], tree.unflatten(structure, [np.sin(leaf) for leaf in leaves])
    for a, b in ((y, z), (J.push(*ts), K.push(*ts)), (J.pull(g), K.pull(g))):
        for left, right in zip(tree.flatten(a)[0], tree.flatten(b)[0], strict=True):
            np.testing.assert_array_equal(left, right)


METHODS = {"sum": (0,), "mean": (1,), "var": (), "std": (), "max": (1,), "min": (), "prod": (), "cumsum": (1,), "cumprod": (0,), "ravel": (), "flatten": (), "swapaxes": (0, 1),
           "squeeze": (), "astype": (float,), "clip": (0.5, 2.0), "take": (np.array([1, 1]), 1), "dot": (np.ones(3),), "repeat": (2, 0), "round": (1,), "diagonal": (), "trace": (1,), "conj": (), "conjugate": (),
           "reshape": (3, 2), "transpose": (), "copy": (), "argmax": (1,), "argmin": (), "all": (), "any": (), "argsort": (1,), "nonzero": ()}


@pytest.mark.parametrize("name", METHODS)
def test_methods_of_arrays(name):
    """Each has the value of the array's, and the derivative of finite differences."""
    f = lambda x: getattr(x, name)(*METHODS[name])  # noqa: E731
    found = []
    gradient = mg.grad(lambda x: mg.sum((found.append(f(x)) or found[0]) ** 2) if name not in ("argmax", "argmin", "all", "any", "argsort", "nonzero")
                       else mg.sum(x) + 0 * (found.append(f(x)) or 0))(X)
    expected = f(X)
    for a, b in zip(found[0] if name == "nonzero" else [found[0]], expected if name == "nonzero" else [expected]):
        np.testing.assert_array_equal(box.raw(a), b)
    if box.Box in map(type, found):
        rng, h = np.random.default_rng(0).normal(size=X.shape), 1e-6
        slope = (np.sum(f(X + h * rng) ** 2) - np.sum(f(X - h * rng) ** 2)) / (2 * h)
        assert name == "round" or np.sum(gradient * rng) == pytest.approx(slope, rel=1e-6)


def test_properties_of_arrays():
    def f(x):
        assert (x.shape, x.ndim, x.size, x.dtype, len(x)) == ((2, 3), 2, 6, np.float64, 2)
        assert x.__array_namespace__() is minigrad.numpy and not x.imag.any() and x.real is x
        return mg.sum(x.T * np.ones((3, 2))) + mg.sum(x.mT[0] * x.mT[0])
    np.testing.assert_array_equal(mg.grad(f)(X), [[3.0, 1.0, 1.0], [7.0, 1.0, 1.0]])


def test_operators_between_arrays_of_numpy_and_traced_values(device):
    """Also of CuPy: each leaves the operation to minigrad."""
    a, x = mg.xp.asarray(X), mg.xp.asarray(X[::-1].copy())
    f = lambda x: mg.sum(a + x - a * x / (a + x) + a ** x + (a < x) * x + a.T @ x @ mg.xp.ones(3))  # noqa: E731
    g = lambda x: mg.sum(mg.add(a, x) - mg.divide(mg.multiply(a, x), mg.add(a, x)) + mg.power(a, x) + (a < mg.stop_gradient(x)) * x + mg.matmul(mg.matmul(a.T, x), mg.xp.ones(3)))  # noqa: E731
    np.testing.assert_array_equal(mg.to_host(mg.grad(f)(x)), mg.to_host(mg.grad(g)(x)))
    assert float(mg.grad(lambda x: np.float64(2.0) * x + np.float32(3.0) / x)(2.0)) == 2.0 - 0.75


def test_reductions_by_ufuncs():
    for ufunc, f in ((np.add, mg.sum), (np.maximum, mg.max), (np.minimum, mg.min)):
        np.testing.assert_array_equal(mg.grad(lambda x: np.sum(ufunc.reduce(x) ** 2))(X), mg.grad(lambda x: mg.sum(f(x, 0) ** 2))(X))
        np.testing.assert_array_equal(mg.grad(lambda x: np.sum(ufunc.reduce(x, axis=1) ** 2))(X), mg.grad(lambda x: mg.sum(f(x, 1) ** 2))(X))


@pytest.mark.parametrize("ufunc", sorted((f for f in box.WITHOUT_DERIVATIVE if isinstance(f, np.ufunc)), key=lambda f: f.__name__), ids=lambda f: f.__name__)
def test_ufuncs_without_a_derivative_take_plain_values(ufunc):
    found = []
    mg.grad(lambda x: mg.sum(x) + 0 * len(found.append(ufunc(*[x] * ufunc.nin)) or found))(X)
    assert type(found[0]) is np.ndarray and np.array_equal(found[0], ufunc(*[X] * ufunc.nin))


def test_plain_values_reach_functions_of_numpy_from_everywhere():
    """Also from keywords, and from inside lists: their results have no derivative."""
    found = []
    mg.grad(lambda x: mg.sum(x) + 0 * len([found.extend([np.searchsorted(np.arange(4.0), v=x), np.array_equal(x, a2=[x[0], x[1]]), np.isclose(a=x, b=x).all()])]))(np.array([0.5, 2.5]))
    assert found[0].tolist() == [1, 3] and found[1] is True and bool(found[2])


def test_transposes_of_stacks():
    x = np.arange(24.0).reshape(2, 3, 4)
    w = np.cos(np.arange(24.0)).reshape(2, 4, 3)
    np.testing.assert_array_equal(mg.grad(lambda x: mg.sum(w * x.mT))(x), w.mT)
    np.testing.assert_array_equal(mg.grad(lambda x: mg.sum(w.T * x.mT.T))(x), w.mT)


@pytest.mark.parametrize("f, what", [
    (lambda x: np.fft.fft(x), "numpy.fft.fft(x): this would lose the derivative"),
    (lambda x: np.frexp(x), "numpy.frexp(x): this would lose the derivative"),
    (lambda x: np.add.accumulate(x), "numpy.add.accumulate(x): this would lose the derivative"),
    (lambda x: np.ones(3).__iadd__(x), "help: y = y + x in place of y += x"),
    (lambda x: np.exp(x, where=x > 0, dtype=float), "numpy.exp(x, where, dtype): this would lose the derivative"),
    (lambda x: np.exp(x, out=np.ones(3)), "help: y = y + x in place of y += x"),
    (lambda x: np.round(x, 1, out=np.ones(3)), "help: y = y + x in place of y += x"),
    (lambda x: np.sum(x, out=np.ones(())), "help: y = y + x in place of y += x"),
    (lambda x: np.from_dlpack(x), "this would lose the derivative"),
    (lambda x: mg.from_dlpack(x), "this would lose the derivative"),
    (lambda x: np.asarray(x), "this would lose the derivative"),
])
def test_what_would_lose_a_derivative_is_refused(f, what):
    with pytest.raises(TraceError) as caught:
        mg.grad(lambda x: mg.sum(x) + 0 * np.size(f(x)))(np.ones(3))
    assert what in str(caught.value)


@pytest.mark.parametrize("call, name", [
    (lambda x: np.split(x, 0), "split"), (lambda x: np.roll(x, 1, axis=7), "roll"), (lambda x: np.repeat(x, -1), "repeat"), (lambda x: x.repeat(-1), "repeat"), (lambda x: np.std(x, 0, None, None, 1), "std"),
    (lambda x: np.sum(x, dtype="real"), "sum"), (lambda x: np.tile(x, "two"), "tile"), (lambda x: np.sort(x, order="a"), "sort"),
    (lambda x: np.hstack((x, x), dtype=float), "hstack"), (lambda x: np.select([x > 0], [x, x]), "select"), (lambda x: np.linalg.inv(x), "linalg.inv"), (lambda x: np.add.reduce(x, out=1.0), "sum"), (lambda x: x.take(9, 5), "take")])
def test_errors_of_numpys_functions_explain_themselves(call, name):
    with pytest.raises(mg.MinigradError) as caught:
        mg.grad(call)(np.ones(3))
    assert str(caught.value).startswith(f"{name}(")


# ------------------------------------------------------------------------------------------------ other libraries

class Tensor:
    """A tensor on a device of this number."""
    def __init__(self, kind):
        self.kind = kind

    def __dlpack_device__(self):
        return self.kind, 0


def test_arrays_come_in_without_a_copy(device):
    x = mg.xp.arange(6.0).reshape(2, 3)
    y = mg.from_dlpack(x)
    assert type(y) is type(x) and y.shape == (2, 3)
    x[0, 0] = 7.0
    assert float(y[0, 0]) == 7.0
    np.testing.assert_array_equal(mg.to_host(mg.grad(lambda y: mg.sum(y * y))(y)), 2 * mg.to_host(x))


def test_what_cannot_come_in_is_told(monkeypatch):
    with pytest.raises(DTypeError, match="from_dlpack.x.: a list has no __dlpack__\n  help: xp.asarray"):
        mg.from_dlpack([1.0])
    monkeypatch.setattr(mg.backend, "cupy_or_reason", lambda: (None, "cupy is missing"))
    with pytest.raises(BackendError, match="x is on a GPU, and cupy is missing"):
        mg.from_dlpack(Tensor(2))


@pytest.mark.needs("torch")
def test_tensors_of_pytorch():
    torch = requirements.module("torch")
    t = torch.arange(3.0)
    x = mg.from_dlpack(t)
    t[0] = 5.0
    assert x[0] == 5.0 and torch.from_dlpack(mg.grad(lambda x: mg.sum(x * x))(x)).tolist() == [10.0, 2.0, 4.0]
    with pytest.raises(mg.MinigradError, match="requires? grad|requires_grad"):
        mg.from_dlpack(torch.ones(2, requires_grad=True))


@pytest.mark.needs("jax")
def test_arrays_of_jax():
    jnp = requirements.module("jax").numpy
    x = mg.from_dlpack(jnp.arange(3.0))
    assert jnp.from_dlpack(mg.grad(lambda x: mg.sum(x * x))(x)).tolist() == [0.0, 2.0, 4.0]


def test_methods_without_a_derivative_take_traced_values():
    found = []
    mg.grad(lambda x: mg.sum(x) + 0 * len([found.append(x.searchsorted(x[1:3] + 0.5))]))(np.arange(4.0))
    assert found[0].tolist() == [2, 3]
