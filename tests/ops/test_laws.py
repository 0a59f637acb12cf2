"""Every public operation obeys the laws of derivatives to third order, and computes what NumPy computes."""
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad.check import check_derivatives

from ..table import NOT_A_PRIMITIVE, TABLE


def test_table_is_complete():
    exported = {name for name in vars(mg) if not name.startswith("_") and callable(getattr(mg, name))} | {"xp"}
    assert exported == set(TABLE) | NOT_A_PRIMITIVE


@pytest.mark.parametrize("name", TABLE)
@given(data=st.data())
@settings(suppress_health_check=list(HealthCheck))
def test_laws(name, data):
    f, xs = data.draw(TABLE[name])
    check_derivatives(f, *xs, order=3 if sum(x.size for x in xs) < 20 else 2)


SAME_AS_NUMPY = ["add", "subtract", "multiply", "divide", "negative", "square", "exp", "expm1", "log", "log1p", "sqrt",
                 "sin", "cos", "tanh"]


@pytest.mark.parametrize("name", SAME_AS_NUMPY)
@given(data=st.data())
def test_values_are_numpys(name, data):
    f, xs = data.draw(TABLE[name])
    for dtype in (np.float32, np.float64):
        cast = [x.astype(dtype) for x in xs]
        y = f(*cast)
        np.testing.assert_array_equal(y, getattr(np, name)(*cast))
        assert y.dtype == dtype


@pytest.mark.parametrize("name", TABLE)
@given(data=st.data())
@settings(max_examples=4, suppress_health_check=list(HealthCheck))
def test_float32_stays_float32(name, data):
    if name == "astype":
        pytest.skip("it is there to change the type")
    f, xs = data.draw(TABLE[name])
    xs = [x.astype(np.float32) for x in xs]
    y, J = mg.linearize(f, *xs)
    for leaf in mg.tree.flatten([y, J.push(*xs), J.pull(y)])[0]:
        assert leaf.dtype == np.float32
