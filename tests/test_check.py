"""The checker must reject what is wrong: every fault here is one that somebody has made."""
import numpy as np
import pytest

import minigrad as mg
from minigrad import DTypeError, LinearMap, Primitive, elementwise
from minigrad.check import DerivativeError, check_derivatives
from minigrad.ops.reductions import mean

X = np.array([[0.5, -1.2, 0.8], [1.1, 0.4, -0.9]])


def stale_standardize(order):
    """Batch normalisation whose reciprocal deviation is a constant to derivatives from this order on."""
    def rule(i, y, x):
        c = x - mean(x, 0, keepdims=True)
        r = 1.0 / mg.sqrt(mean(c * c, 0, keepdims=True) + 0.1)
        r = mg.stop_gradient(r) if order == 2 else r

        def J(v):
            inner = v - mean(v, 0, keepdims=True) - y * mean(y * v, 0, keepdims=True)
            return stale_product(r, inner) if order == 3 else r * inner
        return LinearMap(J, J)
    return Primitive(lambda x: mg.standardize(x, 0, eps=0.1), rule, f"stale {order}")


stale_product = Primitive(lambda a, b: a * b, lambda i, y, a, b: LinearMap(
    lambda t: mg.stop_gradient((b, a)[i]) * t, lambda g: mg.stop_gradient((b, a)[i]) * g), "stale product")


def in_place(g):
    g *= 2.0
    return g / 2.0


KEPT = []
FAULTS = {
    "a wrong factor": (elementwise("exp", lambda y, x: 2.0 * y, name="exp"), 1, "push is the derivative"),
    "a factor slightly wrong": (elementwise("exp", lambda y, x: 1.00001 * y, name="exp"), 1, "push is the derivative"),
    "a slope lost beside a large value": (elementwise(lambda x: 1000.0 + 0.01 * x, lambda y, x: 0.0 * x, name="f"), 1,
                                          "push is the derivative"),
    "eps forgotten": (Primitive(lambda x: mg.standardize(x, 0), lambda i, y, x: mg.ops.normalise._standardize_rule(
        i, y, x, (0,), 0.0), "standardize"), 1, "push is the derivative"),
    "a wrong sign": (elementwise("cos", lambda y, x: mg.sin(x), name="cos"), 1, "push is the derivative"),
    "a pull that is not the transpose": (
        Primitive(lambda x: x * 2.0, lambda i, y, x: LinearMap(lambda t: t * 2.0, lambda g: g * 3.0), "f"), 1, "transpose"),
    "a transposition forgotten": (lambda x: mg.matmul(x, mg.bilinear(
        lambda a, b: a @ b, lambda g, b, s: mg.matmul(g, b), lambda g, a, s: mg.matmul(a, g), "bad")(
            x[:, :2], x[:, 1:])[0, 0] * np.eye(3)), 1, "transpose"),
    "no sum over a broadcast axis": (
        lambda x: Primitive(lambda a: a + np.zeros((2, 3)), lambda i, y, a: LinearMap(
            lambda t: mg.broadcast_to(t, (2, 3)), lambda g: g), "f")(x[0]), 1, None),
    "a second derivative lost": (elementwise("exp", lambda y, x: mg.stop_gradient(y), name="exp"), 2, "push of"),
    "statistics constant at second order": (stale_standardize(2), 2, "of stale 2"),
    "statistics constant at third order": (stale_standardize(3), 3, "of stale 3"),
    "a derivative of another type": (
        Primitive(lambda x: x * 1.0, lambda i, y, x: LinearMap(
            lambda t: t, lambda g: g[0]), "f"), 1, None),
    "an argument written to": (
        Primitive(lambda x: x * 2.0, lambda i, y, x: LinearMap(lambda t: t * 2.0, lambda g: in_place(g) * 2.0), "f"), 1,
        "nothing is changed"),
    "a push that is not linear": (
        Primitive(lambda x: x + 0.0, lambda i, y, x: LinearMap(lambda t: t + 1e-3 * t * t, lambda g: g), "f"), 1, None),
    "a pull that is not linear": (
        Primitive(lambda x: x + 0.0, lambda i, y, x: LinearMap(lambda t: t, lambda g: mg.abs(g)), "f"), 1, None),
    "a value from a later call": (
        lambda x: Primitive(lambda x: (KEPT.append(np.array(mg.core.raw(x))), x * x)[1], lambda i, y, x: LinearMap(
            lambda t: 2.0 * KEPT[-1] * t, lambda g: 2.0 * KEPT[-1] * g), "f")(x), 2, None),
    "the wrong winner": (
        Primitive(lambda x: x.max(), lambda i, y, x: LinearMap(lambda t: t[0, 0], lambda g: mg.put(g, (2, 3), (0, 0))),
                  "max"), 1, "push is the derivative"),
    "half of a product rule": (
        elementwise("multiply", lambda y, a, b: b, lambda y, a, b: 0.0 * a, name="multiply"), 1, None),
    "NaN": (elementwise(lambda x: x * 1.0, lambda y, x: x * np.nan, name="f"), 1, None),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bites(fault):
    f, order, says = FAULTS[fault]
    xs = (X.copy(), X.copy()) if fault == "half of a product rule" else (X.copy(),)
    with pytest.raises((DerivativeError, ValueError), match=says):
        check_derivatives(f, *xs, order=order)
    if order > 1 and "constant" in fault:
        check_derivatives(f, *xs, order=order - 1)          # ... and it is right one order below


def test_accepts_trees_and_what_is_right():
    check_derivatives(lambda p, x: {"y": mg.tanh(x @ p["w"]), "s": mg.sum(p["w"])}, {"w": X.T.copy()}, X, order=3)
    check_derivatives(lambda x: x, np.zeros((0, 2)))


def test_wants_float64():
    with pytest.raises(DTypeError, match="float64 is needed"):
        check_derivatives(mg.exp, X.astype(np.float32))
