"""The laws must reject faults: each one here was once made in a real rule or engine."""
import itertools

import numpy as np
import pytest

import minigrad as mg
from minigrad import LinearMap, Primitive, core, elementwise, kinds
from minigrad.check import DerivativeError, check_buffers, check_derivatives
from minigrad.models import mlp
from minigrad.ops.reductions import mean

X = np.array([[0.5, -1.2, 0.8], [1.1, 0.4, -0.9]])


def stale_standardize(order):
    """Return a batch normalization whose reciprocal deviation is a constant in derivatives from this order on."""
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
    lambda t: mg.stop_gradient((b, a)[i]) * t,
    lambda g: mg.sum_to(mg.stop_gradient((b, a)[i]) * g, mg.errors.shape((a, b)[i]))), "stale product")


def in_place(v):
    v *= 2.0
    return v / 2.0


def rule(push, pull, forward=lambda x: x * 2.0, name="f"):
    """Return a primitive of one argument with this push and this pull."""
    return Primitive(forward, lambda i, y, x: LinearMap(push, pull), name)


def cleared(y):
    mg.core.raw(y)[...] = 0.0


KEPT, CALLS = [], itertools.count()
double = rule(lambda t: t * 2.0, lambda g: g * 2.0)
FAULTS = {                                                  # function, order, what the error says
    "a wrong factor": (elementwise("exp", lambda y, x: 2.0 * y, name="exp"), 1, "push is the derivative"),
    "a factor slightly wrong": (elementwise("exp", lambda y, x: 1.00001 * y, name="exp"), 1, "push is the derivative"),
    "a slope lost beside a large value": (elementwise(lambda x: 1000.0 + 0.01 * x, lambda y, x: 0.0 * x, name="f"), 1,
                                          "push is the derivative"),
    "eps forgotten": (Primitive(lambda x: mg.standardize(x, 0), lambda i, y, x: mg.ops.normalize._standardize_rule(
        i, y, x, (0,), 0.0), "standardize"), 1, "push is the derivative"),
    "a wrong sign": (elementwise("cos", lambda y, x: mg.sin(x), name="cos"), 1, "push is the derivative"),
    "a pull that is not the transpose": (rule(lambda t: t * 2.0, lambda g: g * 3.0), 1, "transpose"),
    "a transposition forgotten": (lambda x: mg.matmul(x, mg.bilinear(
        lambda a, b: a @ b, lambda g, b, s: mg.matmul(g, b), lambda g, a, s: mg.matmul(a, g), "bad")(
            x[:, :2], x[:, 1:])[0, 0] * np.eye(3)), 1, "transpose"),
    "no sum over a broadcast axis": (
        lambda x: rule(lambda t: mg.broadcast_to(t, (2, 3)), lambda g: g, lambda a: a + np.zeros((2, 3)))(x[0]), 1,
        r"f\(...\): the pull of its rule returns a cotangent of shape \(2, 3\) for an argument of shape \(3,\)"),
    "a broadcast axis averaged, not summed": (
        lambda x: rule(lambda t: mg.broadcast_to(t, (2, 3)), lambda g: mg.mean(g, 0), lambda a: a + np.zeros((2, 3)))(x[0]), 1,
        "transpose"),
    "a second derivative lost": (elementwise("exp", lambda y, x: mg.stop_gradient(y), name="exp"), 2, "push is the derivative: broken by pu.. of exp"),
    "statistics constant at second order": (stale_standardize(2), 2, "of stale 2"),
    "statistics constant at third order": (stale_standardize(3), 3, "of stale 3"),
    "a second derivative lost in the pull alone": (
        Primitive(lambda x: x ** 3, lambda i, y, x: LinearMap(
            lambda t: 3.0 * x * x * t, lambda g: mg.stop_gradient(3.0 * x * x) * g), "cube"), 2, "by pull of cube"),
    "a derivative of another shape": (rule(lambda t: t, lambda g: g[0], lambda x: x * 1.0), 1, "the pull of its rule returns"),
    "a pull in float32": (rule(lambda t: t * 2.0, lambda g: g.astype("float32") * np.float32(2)), 1, "cotangents have the form"),
    "float64 that leaks in": (rule(lambda t: t * np.float64(2), lambda g: g * 2.0), 1, "tangents have the form of values"),
    "a mask of float64": (
        rule(lambda t: t * np.ones((2, 3)), lambda g: g, lambda x: x * np.float32(1)), 1, "tangents have the form of values"),
    "a cotangent written to": (rule(lambda t: t * 2.0, lambda g: in_place(g) * 2.0), 1, "nothing is changed"),
    "a tangent written to": (rule(lambda t: in_place(t) * 2.0, lambda g: g * 2.0), 1, "nothing is changed"),
    "an argument written to": (
        rule(lambda t: t * 2.0, lambda g: g * 2.0, lambda x: in_place(x) * 2.0), 1, "nothing is changed"),
    "a push that is linear for small tangents alone": (
        rule(lambda t: t * (2.0 if abs(mg.core.raw(t)).max() < 1.0 else 2.1), lambda g: g * 2.0), 1, "push is linear"),
    "a pull that is linear for small cotangents alone": (
        rule(lambda t: t * 2.0, lambda g: g * (2.0 if abs(mg.core.raw(g)).max() < 1.0 else 2.1)), 1, "pull is linear"),
    "a pull of absolute values": (rule(lambda t: t, lambda g: mg.abs(g), lambda x: x + 0.0), 1, "transpose"),
    "a push that is affine": (rule(lambda t: t * 2.0 + 1e-3, lambda g: g * 2.0), 1, "push is the derivative"),
    "a push that differs in forward mode": (
        Primitive(lambda x: x * 2.0, lambda i, y, x: LinearMap(
            lambda t: t * (2.0 if next(CALLS) % 50 else 3.0), lambda g: g * 2.0), "f"), 3, None),
    "a second derivative lost in the push alone": (
        Primitive(lambda x: x ** 3, lambda i, y, x: LinearMap(
            lambda t: mg.stop_gradient(3.0 * x * x) * t, lambda g: 3.0 * x * x * g), "cube"), 2, "by push of cube"),
    "a result written to": (
        Primitive(lambda x: x * 2.0, lambda i, y, x: LinearMap(lambda t: t * 2.0, lambda g: (cleared(y), g * 2.0)[1]), "f"), 1,
        "nothing is changed"),
    "a value from a later call": (
        lambda x: Primitive(lambda x: (KEPT.append(np.array(mg.core.raw(x))), x * x)[1], lambda i, y, x: LinearMap(
            lambda t: 2.0 * KEPT[-1] * t, lambda g: 2.0 * KEPT[-1] * g), "f")(x), 2, "push is"),
    "another answer at every call": (
        Primitive(lambda x: x * (1.0 + 1e-3 * (next(CALLS) % 7)), lambda i, y, x: LinearMap(lambda t: t, lambda g: g), "f"), 1,
        "push is the derivative"),
    "the wrong winner": (
        rule(lambda t: t[0, 0], lambda g: mg.scatter_add(g, (2, 3), (0, 0)), lambda x: x.max(), "max"), 1, "push is the derivative"),
    "an index that names one element twice, written and not added": (
        rule(lambda t: t[:, [0, 0]], lambda g: mg.scatter_add(g, (2, 3), (slice(None), slice(0, 2))), lambda x: x[:, [0, 0]]), 1,
        "transpose"),
    "half of a product rule": (
        elementwise("multiply", lambda y, a, b: b, lambda y, a, b: 0.0 * a, name="multiply"), 1, "push is the derivative"),
    "NaN": (elementwise(lambda x: x * 1.0, lambda y, x: x * np.nan, name="f"), 1, "push is the derivative"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_rules_that_are_wrong_are_rejected(fault):
    f, order, says = FAULTS[fault]
    xs = (X.copy(), X.copy()) if fault == "half of a product rule" else (X.copy(),)
    with pytest.raises((DerivativeError, mg.ShapeError), match=says):
        check_derivatives(f, *xs, order=order)
    if order > 1 and "constant" in fault:
        check_derivatives(f, *xs, order=order - 1)          # ... and it is right one order below


def test_a_complex_step_sees_what_a_difference_cannot():
    nearly = elementwise(lambda x: np.exp(x), lambda y, x: y * (1.0 + 1e-8), name="nearly exp")
    check_derivatives(nearly, X, order=1)
    with pytest.raises(DerivativeError, match="push is the complex step: broken by nearly exp"):
        check_derivatives(nearly, X, order=1, analytic=True)
    check_derivatives(mg.exp, X, analytic=True)


def test_accepts_trees_and_what_is_right():
    check_derivatives(lambda p, x: {"y": mg.tanh(x @ p["w"]), "s": mg.sum(p["w"])}, {"w": X.T.copy()}, X, analytic=True)
    check_derivatives(lambda x: x, np.zeros((0, 2)))
    check_derivatives(double, X)


def test_a_program_may_close_over_float64():
    """A float32 program that uses float64 constants passes the check; a rule that returns float64 on its own fails."""
    w = np.linspace(0.5, 1.5, 3)
    for f in (lambda x: mg.astype(x * w, x.dtype), lambda x: mg.sum(mg.astype(mg.sin(x) @ w, x.dtype)) * x[0],
              lambda x: mg.astype(mg.maximum(x, w - 5.0), x.dtype), lambda x: mg.checkpoint(lambda x: mg.astype(x * w, x.dtype))(x),
              lambda x: mg.grad(lambda z: mg.sum(mg.astype(z * w, z.dtype) * x))(x)):
        check_derivatives(f, X)
    leaks = rule(lambda t: t * w, lambda g: g * w, lambda x: (x * w).astype(x.dtype), name="leaks")
    with pytest.raises(DerivativeError, match="broken by leaks"):
        check_derivatives(leaks, X, order=1)


def test_the_error_says_which_law_where_and_the_seed():
    wrong = elementwise(lambda x: x * x, lambda y, x: 3.0 * x, name="wrong")
    with pytest.raises(DerivativeError) as caught:
        check_derivatives(wrong, np.array([1.0, 2.0]), seed=5)
    law, where, size = str(caught.value).split("\n")
    assert law == "push is the derivative: broken by wrong (seed 5)"
    assert where.startswith("  result 0 of shape (2,), at (1,): ") and size.startswith("  largest error ")
    with pytest.raises(DerivativeError) as caught:
        check_derivatives(FAULTS["a pull in float32"][0], X)
    assert str(caught.value) == ("cotangents have the form of arguments: broken by f (seed 0): shape or dtype differs\n"
                                 "  found      (2, 3)  float32\n  should be  (2, 3)  float64")


# --------------------------------------------------------------------------------------- an engine that is wrong

def confused(monkeypatch):
    """An engine with one level for all derivatives."""
    monkeypatch.setattr(core, "levels", itertools.repeat(1))


def upside_down(monkeypatch):
    """An engine whose inner derivatives have lower levels than outer ones."""
    monkeypatch.setattr(core, "levels", itertools.count(10**9, -1))


def not_closed(monkeypatch):
    """An engine in which a derivative that ends with an exception stays open."""
    def run(trace, f, leaves, tags):
        y = f(*[core.Box(x, trace, tag) for x, tag in zip(leaves, tags)])
        trace.closed = True
        return y
    monkeypatch.setattr(mg.transforms, "run", run)


def last_use_only(monkeypatch):
    """An engine in which a value that is used twice gets the cotangent of only one use."""
    monkeypatch.setattr(core, "plus", lambda a, b: a if b is None else b)


def no_sum(monkeypatch):
    """An engine that does not undo broadcasting."""
    monkeypatch.setattr(kinds, "sum_to", lambda x, shape: x if mg.errors.shape(x) == shape else mg.reshape(
        mg.ravel(x)[:int(np.prod(shape))], shape))


def one_way(monkeypatch):
    """A tape that pushes only through the first argument of every step."""
    push = core.Tape.push

    def wrong(self, tangents, ends):
        self[:] = list(self[:len(tangents)]) + [(primitive, maps[:1], s) for primitive, maps, s in self[len(tangents):]]
        return push(self, tangents, ends)
    monkeypatch.setattr(core.Tape, "push", wrong)


def constants_that_move(monkeypatch):
    """An engine whose raw values are still traced: those that stop a gradient, and those that choose a winner."""
    monkeypatch.setattr(mg.ops.elementwise, "raw", lambda x: x)


def nested():
    """Check d/dx [x * d/dy (x + y)] and the like, which are wrong if levels are."""
    x = np.array([0.7, -0.3])
    for inner in (lambda x: mg.grad(lambda y: mg.sum(x * y * y))(x), lambda x: mg.jvp(lambda y: x * y * y, (x,), (x,))[1],
                  lambda x: mg.linearize(lambda y: x * y * y, x)[1].push(x)):
        check_derivatives(lambda x: x * inner(x), x, order=2)
    assert mg.grad(lambda x: x * mg.grad(lambda y: x + y)(1.0))(1.0) == 1.0


def after_an_exception():
    """Check that a value from a derivative that ended with an exception is refused."""
    kept = []

    def broken(x):
        kept.append(x * x)
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError):
        mg.grad(broken)(1.0)
    with pytest.raises(mg.TraceError):
        kept[0] + 1.0


def shared():
    check_derivatives(lambda x: mg.sin(x) * x + x[0], X, order=2)


def constants():
    assert mg.grad(lambda x: mg.stop_gradient(x) * x)(3.0) == 3.0


@pytest.mark.parametrize("fault, law", [
    (confused, nested), (upside_down, nested), (not_closed, after_an_exception), (last_use_only, shared), (no_sum, shared),
    (one_way, shared), (constants_that_move, constants)], ids=lambda f: f.__name__)
def test_engines_that_are_wrong_are_rejected(fault, law):
    law()                                                   # it passes for the engine as it is ...
    with pytest.MonkeyPatch.context() as monkeypatch:
        fault(monkeypatch)
        with pytest.raises((Exception, pytest.fail.Exception)) as caught:
            law()                                           # ... and fails for the faulty one
    assert isinstance(caught.value, (AssertionError, mg.MinigradError, pytest.fail.Exception))
    law()


# ------------------------------------------------------------------------------------------- buffers that are used again

BUFFERS = {"product": lambda w, b: mg.sum(w * b), "matmul": lambda w, b: w @ b, "power": lambda w, b: mg.sum(w ** b),
           "divide": lambda w, b: mg.sum(w / b), "where": lambda w, b: mg.sum(mg.where(b > 1.5, w, 0.0) * b),
           "index": lambda w, b: mg.sum(w[b.astype(int) - 1] * w), "view": lambda w, b: mg.sum(w * b[::-1])}


@pytest.mark.parametrize("name", BUFFERS)
def test_a_buffer_that_is_used_again_is_found(name):
    def f(w, copy=False):
        buffer, total = np.empty(2), 0.0
        for values in ([1.0, 2.0], [2.0, 1.0]):
            buffer[:] = values
            total = total + BUFFERS[name](w, buffer.copy() if copy else buffer)
        return total
    w = np.array([0.5, 2.0])
    check_buffers(lambda w: f(w, copy=True), w)
    if name not in ("where", "index", "power"):             # these made a mask, an index or a factor of their own
        with pytest.raises(DerivativeError, match=r"<lambda> writes into an array that its derivative needs\n  \w+ \(step \d+\) keeps"):
            check_buffers(lambda w: f(w), w)
        with pytest.raises(DerivativeError):
            check_derivatives(f, w, order=1)


def test_buffers_that_no_derivative_needs_may_be_used_again():
    def f(w):
        buffer = np.empty(2)
        for values in ([1.0, 2.0], [3.0, 4.0]):
            buffer[:] = values
            w = w + buffer
        return mg.sum(w * w)
    check_buffers(f, np.ones(2))
    np.testing.assert_array_equal(mg.grad(f)(np.zeros(2)), [8.0, 12.0])
    model, x = mlp(np.random.default_rng(0), (3, 4, 2), normalize=True), np.ones((4, 3), "float32")
    check_buffers(lambda model: mg.mean(mg.nn.cross_entropy(model(x), np.zeros(4, int))), model)


class Workspace:
    """Passes with memory of their own, which every call writes to."""

    def __init__(self):
        self.slope = np.empty(2)

    def passes(self, x):
        self.slope[:] = 2.0 * x
        return x * x, self.times, lambda g: (self.slope * g,)

    def times(self, t):
        return self.slope * t


SPACE = Workspace()


@pytest.mark.parametrize("passes", [SPACE.passes, lambda x: SPACE.passes(x), lambda x: (SPACE.passes(x)[0], SPACE.times, SPACE.times)], ids=["method", "function", "methods"])
def test_a_workspace_that_is_used_again_is_found(passes):
    """... also where the object of a method is all that knows it."""
    square = mg.with_derivative(lambda x: x * x, passes)
    check_buffers(square, np.ones(2))
    with pytest.raises(DerivativeError, match="keeps the array"):
        check_buffers(lambda x: square(square(x) + 1.0), np.ones(2))
