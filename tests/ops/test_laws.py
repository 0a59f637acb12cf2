"""Every public operation obeys the laws of derivatives to third order, and computes what NumPy computes."""
import types

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad.check import check_derivatives

from .. import requirements
from ..plain import plain
from ..strategies import trees
from ..table import NOT_A_PRIMITIVE, TABLE

any_inputs = settings(suppress_health_check=list(HealthCheck))


def leaves(y):
    return [mg.to_host(leaf) for leaf in mg.tree.flatten(y)[0]]


def needs_of(name):
    """Skip the test where CuPy lacks what this row needs."""
    if mg.backend.name() == "cupy":
        requirements.need(*TABLE[name].needs)


def case(data, name):
    """Return a case of a row: the operation as a function of its arguments, these on the device, and NumPy's result."""
    needs_of(name)
    f, xs = data.draw(TABLE[name].cases)
    return (lambda *xs: f(mg, *xs)), [mg.xp.asarray(x) for x in xs], leaves(f(plain, *xs))


def test_table_is_complete():
    exported = {name for name in vars(mg) if not name.startswith("_") and callable(getattr(mg, name))} | {"xp"}
    homes = "minigrad.losses", "minigrad.normalization"
    of_nn = {f"nn.{name}" for name in mg.nn.__all__ if getattr(getattr(mg.nn, name), "__module__", "") in homes}
    of_matrices = {f"linalg.{name}" for name in mg.linalg.__all__}
    assert exported | of_matrices | of_nn - {"nn.batch_norm"} == set(TABLE) | NOT_A_PRIMITIVE      # which is the row "with_derivative"


def hold(name, data):
    """Check the laws of a row. CuPy's complex power takes a logarithm, whose rounding error a complex step magnifies."""
    f, xs, expected = case(data, name)
    analytic = TABLE[name].analytic and not (name == "power" and mg.backend.name() == "cupy")
    for y, e in zip(leaves(f(*xs)), expected, strict=True):
        assert y.shape == e.shape and y.dtype == e.dtype
        np.testing.assert_allclose(y, e, rtol=1e-11, atol=1e-12)
    check_derivatives(f, *xs, order=3, analytic=analytic)
    if len(xs) > 1:                                         # ... and for one argument, with the others constant
        i = data.draw(st.integers(0, len(xs) - 1))
        check_derivatives(lambda x: f(*xs[:i], x, *xs[i + 1:]), xs[i], order=2, analytic=analytic)


@pytest.mark.parametrize("device", ["numpy"], indirect=True)
@pytest.mark.parametrize("name", TABLE)
@given(data=st.data())
@any_inputs
def test_laws(device, name, data):
    hold(name, data)


@pytest.mark.parametrize("name", TABLE)
@given(data=st.data())
@settings(any_inputs, max_examples=settings.default.max_examples // 5)
def test_laws_on_cupy(cupy, name, data):
    """A law is a few hundred small kernels there: this is slow, and fewer examples suffice."""
    hold(name, data)


@pytest.mark.parametrize("name", TABLE)
@given(data=st.data())
@settings(any_inputs, max_examples=settings.default.max_examples // 5)
def test_operations_follow_their_arrays(cupy, name, data):
    """All values and derivatives are arrays of the arguments' module, NumPy or CuPy, whichever is in use."""
    needs_of(name)
    f, xs = data.draw(TABLE[name].cases)
    for in_use, module in (("cupy", np), ("numpy", cupy)):
        mg.use(in_use)
        m = types.SimpleNamespace(**{**vars(mg), "xp": module})
        args = [module.asarray(x) for x in xs]
        y, J = mg.linearize(lambda *xs: f(m, *xs), *args)
        second = mg.jvp(lambda *xs: mg.vjp(lambda *xs: f(m, *xs), *xs)[1](y), args, args)
        found = mg.tree.flatten((y, J.push(*args), J.pull(y), second))[0]
        assert {mg.backend.on_device(x) for x in found} == {in_use == "numpy"}
        for a, b in zip(leaves(y), leaves(f(plain, *xs)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


SAME_BITS = ["add", "subtract", "multiply", "divide", "negative", "square", "exp", "expm1", "log", "log1p", "sqrt", "sin",
             "cos", "tanh"]


@pytest.mark.parametrize("name", SAME_BITS)
@given(data=st.data())
def test_values_are_numpys_to_the_bit(name, data):
    f, xs = data.draw(TABLE[name].cases)
    for dtype in (np.float32, np.float64):
        cast = [x.astype(dtype) for x in xs]
        np.testing.assert_array_equal(leaves(f(mg, *map(mg.xp.asarray, cast)))[0], f(plain, *cast))


@pytest.mark.parametrize("name", [name for name in TABLE if name != "astype"])
@given(data=st.data())
@any_inputs
def test_float32_stays_float32_and_means_the_same(device, name, data):
    f, xs, _ = case(data, name)
    xs = [x.astype(np.float32) for x in xs]
    (y, J), (y64, J64) = mg.linearize(f, *xs), mg.linearize(f, *[x.astype(np.float64) for x in xs])
    for a, b in zip(leaves([y, J.push(*xs), J.pull(y)]), leaves([y64, J64.push(*xs), J64.pull(y64)])):
        assert a.dtype == np.float32 and b.dtype == np.float64
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * np.max(abs(b), initial=1.0))


@given(trees())
@any_inputs
def test_laws_of_trees(device, t):
    """A function of a tree is a function of its leaves: empty nodes have none, and an array that occurs twice counts twice."""
    def f(t):
        some = [mg.sum(x * x) for x in mg.tree.flatten(t)[0]]
        return {"twice": [t, mg.tree.map(mg.sin, t)], "all": sum(some, 0.0), "none": None}
    t = mg.tree.map(mg.xp.asarray, t)
    check_derivatives(f, t, analytic=True)
    gradient = mg.grad(lambda t: sum((mg.sum(x * x) for x in mg.tree.flatten(t)[0]), 0.0 * mg.xp.ones(())))(t)
    assert mg.tree.flatten(gradient)[1] == mg.tree.flatten(t)[1]
    for g, x in zip(leaves(gradient), leaves(t)):
        np.testing.assert_allclose(g, 2.0 * x)
