"""A checkpointed function may hold what is differentiated: in its closure, its defaults, its object."""
import functools
import gc
import re
import types
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import checkpoint, grad, hessian, hvp, jvp, linearize, nn, tree, vjp
from minigrad.box import Box

RNG = np.random.default_rng(0)
W, X = RNG.standard_normal(3), RNG.standard_normal(3)


def block(u, x, w):
    return mg.sin(u * x + w) * x


class Block(nn.Module):
    """A model with a method beside __call__."""
    u: nn.Array
    w: nn.Array

    def __call__(self, x):
        return block(self.u, x, self.w)

    def other(self, x):
        return block(self.u, x, self.w)


def nested(u, w):
    def inner(x):
        return mg.sin(u * x + w)
    return lambda x: inner(x) * x


def by_defaults(u, w):
    def f(x, u=u, *, w=w):
        return block(u, x, w)
    return f


def repeating(u, w):
    """Return a function that calls itself, and so holds itself."""
    def f(x, depth=2):
        return f(x, depth - 1) if depth else block(u, x, w)
    return f


def shared(u, w):
    """Return a function that holds another one twice."""
    def sine(x):
        return mg.sin(u * x + w)
    return lambda x, again=sine: 0.5 * (sine(x) + again(x)) * x


def wrapped(f):
    @functools.wraps(f)
    def g(*args):
        return f(*args)
    return g


HOLDERS = {                 # the ways in which a function of x holds u and w
    "closure": lambda u, w: lambda x: block(u, x, w), "defaults": by_defaults, "nested": nested, "itself": repeating, "shared": shared,
    "tree": lambda u, w: (lambda p: lambda x: block(p["u"][0], x, p["w"]))({"u": [u, None], "w": w, "n": 3}),
    "partial": lambda u, w: functools.partial(lambda u, x, w: block(u, x, w), u, w=w),
    "method": lambda u, w: Block(u, w).other, "model": lambda u, w: Block(u, w), "decorated": lambda u, w: wrapped(nested(u, w)),
    "lambda in a model": lambda u, w: nn.Sequential((lambda x: (x, mg.sin(u * x + w)), lambda pair: pair[0] * pair[1])),
    "checkpoint of its own": lambda u, w: checkpoint(lambda x: block(u, x, w)), "derivative": lambda u, w: lambda x: grad(
        lambda scale: mg.sum(scale * block(u, x, w)))(np.ones(3))}


@pytest.mark.parametrize("name", HOLDERS)
def test_what_a_function_holds_is_an_argument_at_any_order(name):
    def hidden(w):
        return mg.sum(checkpoint(HOLDERS[name](w * w, w))(X + 0.1 * w) * mg.exp(w))

    def plain(w):
        return mg.sum(block(w * w, X + 0.1 * w, w) * mg.exp(w))
    for transform in (grad, hessian, lambda f: lambda w: hvp(f, w, X), lambda f: lambda w: jvp(f, (w,), (X,))[1],
                      lambda f: lambda w: linearize(f, w)[1].push(X), lambda f: grad(lambda w: mg.sum(grad(f)(w) ** 2)),
                      lambda f: lambda w: jvp(lambda w: jvp(f, (w,), (X,))[1], (w,), (X,))[1], lambda f: grad(lambda w: hvp(f, w, X) @ X)):
        np.testing.assert_allclose(transform(hidden)(W), transform(plain)(W), rtol=1e-9, atol=1e-12)


def test_levels_do_not_mix():
    """d/da d/db, where the closure holds a value of the outer derivative and the argument is one of the inner."""
    for outer in (grad, lambda f: lambda a: jvp(f, (a,), (1.0,))[1]):
        found = outer(lambda a: grad(lambda b: checkpoint(lambda c: a * a * mg.exp(c) * b)(b))(2.0))(3.0)
        np.testing.assert_allclose(found, 6.0 * np.exp(2.0) * 3.0, rtol=1e-12)


def test_what_is_held_is_not_stored_twice_nor_changed():
    """A pull runs the function again, with the values that it held; the function itself, and what is plain in it, stay."""
    runs, mask = [], np.array([1.0, 0.0, 1.0])

    def loss(w):
        def f(x):
            runs.append(1)
            return mask * mg.exp(w * x)
        y, J = vjp(lambda x: mg.sum(checkpoint(f)(x)), X)
        assert f.__closure__[0].cell_contents is mask and f(X)._trace is w._trace
        return y
    np.testing.assert_allclose(grad(loss)(W), mask * X * np.exp(W * X), rtol=1e-12)
    assert len(runs) == 3                                   # the value, the call above, and the outer pull


def test_an_unset_variable_and_a_counter_stay():
    def loss(w):
        count = 0

        def f(x):
            nonlocal count
            count += 1
            return later(x) if count > 9 else w * x
        y = checkpoint(f)(X)
        assert count == 1
        if count > 9:
            later = mg.exp
        return mg.sum(y)
    np.testing.assert_array_equal(grad(loss)(W), X)


def test_an_ended_trace_that_is_never_used_does_no_harm():
    old = []
    grad(lambda x: (old.append(x), x)[1])(1.0)
    assert grad(lambda x: checkpoint(lambda x, old=old[0]: x * x)(x))(3.0) == 6.0
    with pytest.raises(mg.TraceError, match="after it ended"):
        grad(lambda x: checkpoint(lambda x, old=old[0]: x * old)(x))(3.0)


def test_what_is_held_elsewhere_is_refused():
    for held in (types.SimpleNamespace, lambda w: type("Held", (), {"w": w})):
        with pytest.raises(mg.TraceError, match="traced value from outside its arguments and its closure"):
            grad(lambda w: mg.sum(checkpoint(lambda x, held=held(w=w): held.w * x)(X)))(W)


def test_a_closure_leaves_no_cycle():
    gc.collect()
    gc.disable()
    try:
        inside = []

        def loss(w):
            h = mg.sin(w)
            inside.append(weakref.ref(mg.core.raw(h)))
            return mg.sum(checkpoint(lambda x: mg.exp(h) * x)(w))
        grad(loss)(np.ones(1000))
        assert inside[0]() is None
    finally:
        gc.enable()


# ---------------------------------------------------------- leaves that are no floats, arguments by number and by name

def test_none_and_settings_of_a_tree_stay():
    p = {"w": W, "none": None, "name": "text", "f": mg.exp, "inside": [None, (W, None)], "empty": {}}
    gradient, H = grad(lambda p: mg.sum(p["f"](p["w"]) * p["inside"][1][0]))(p), mg.jacobian(lambda p: p["w"] * 2.0)(p)
    assert tree.flatten(gradient)[1] == tree.flatten(H)[1] == tree.flatten(p)[1]
    assert gradient["none"] is None and gradient["name"] == "text" and gradient["inside"][0] is None
    for leaf in (3, np.arange(3), np.array([True]), [True]):
        with pytest.raises(mg.DTypeError, match=r"argument 0\.n(.|\n)*leave it out of the differentiated arguments"):
            grad(lambda p: mg.sum(p["w"]))({"w": W, "n": leaf})
    assert (grad(lambda w, n, scale: scale * mg.sum(w[n]))(W, np.array([0, 0, 2]), scale=3) == [6, 0, 3]).all()


@pytest.mark.parametrize("transform", [mg.jacobian, mg.jacfwd, mg.jacrev])
def test_jacobians_by_each_way(transform):
    """For vectors, scalars, trees and several arguments, with aux and keywords; the same numbers."""
    A, b = RNG.standard_normal((2, 3)), RNG.standard_normal(2)
    np.testing.assert_allclose(transform(lambda x: A @ x)(W), A, rtol=1e-12)
    np.testing.assert_allclose(transform(lambda x: x @ A)(b), A.T, rtol=1e-12)
    J, aux = transform(lambda p, b, scale: ({"y": A @ p["x"] * b * scale, "s": mg.sum(b)}, "aux"), (0, 1), has_aux=True)({"x": W}, b, scale=2.0)
    assert aux == "aux" and J["s"][0]["x"].shape == (3,) and (J["s"][1] == 1.0).all()
    np.testing.assert_allclose(J["y"][0]["x"], 2.0 * b[:, None] * A, rtol=1e-12)
    np.testing.assert_allclose(J["y"][1], np.diag(2.0 * A @ W), rtol=1e-12)
    assert transform(mg.exp)(0.0) == 1.0 and transform(mg.exp, has_aux=False).__name__ == f"{transform.__name__}(exp)"
    assert transform(lambda x: x[:0])(W).shape == (0, 3) and transform(mg.sum)(W[:0]).shape == (0,)
    for second in (mg.jacfwd, mg.jacrev):
        np.testing.assert_allclose(transform(second(lambda x: mg.sum(x ** 3)))(W), np.diag(6.0 * W), rtol=1e-12)
    with pytest.raises(mg.ShapeError, match=rf"{transform.__name__}\(f\): argnums=2"):
        transform(mg.exp, 2)(W)
    with pytest.raises(mg.DTypeError, match=rf"{transform.__name__}\(f\): only floating"):
        transform(mg.exp)(3)


def test_jacfwd_pushes_and_jacrev_pulls():
    walks = []

    def counted(A):
        return mg.Primitive(lambda x: A @ x, lambda i, y, x: mg.LinearMap(lambda t: (walks.append("push"), A @ t)[1],
                                                                          lambda g: (walks.append("pull"), A.T @ g)[1]), "A")
    for A in (np.ones((2, 5)), np.ones((5, 2))):
        for transform, expected in ((mg.jacfwd, ["push"] * A.shape[1]), (mg.jacrev, ["pull"] * A.shape[0])):
            walks.clear()
            np.testing.assert_array_equal(transform(counted(A))(np.ones(A.shape[1])), A)
            assert walks == expected


def test_argnums_of_several_arguments_everywhere():
    def f(a, b, c, power=2):
        return mg.sum(a ** power * b) * c
    a, b, c = W, X, 2.0
    ga, gc_ = grad(f, (0, -1))(a, b, c, power=3)
    np.testing.assert_allclose(ga, 3 * a ** 2 * b * c)
    np.testing.assert_allclose(gc_, (a ** 3 * b).sum())
    value, (gb,) = mg.value_and_grad(f, [1])(a, b, c)
    np.testing.assert_allclose((value, *gb), (f(a, b, c), *(a ** 2 * c)))
    H = hessian(f, (0, 1))(a, b, c)
    np.testing.assert_allclose(H[0][1], np.diag(2 * a * c))
    np.testing.assert_allclose(H[0][0], np.diag(2 * b * c))
    assert not H[1][1].any() and hessian(lambda x: mg.stack([mg.sum(x ** 3), x[0]]))(W).shape == (2, 3, 3)


# ------------------------------------------------------------------------------------------ rules of one's own

WAYS = {                                                    # to make w x^2, and to tell it of w
    "elementwise": lambda w, x: mg.elementwise(lambda x: w * x * x, lambda y, x: 2.0 * w * x, name="own")(x),
    "linear": lambda w, x: mg.linear(lambda x: w * x, lambda g, s: w * g, name="own")(x) * x,
    "primitive": lambda w, x: mg.Primitive(lambda x: w * x * x, lambda i, y, x: mg.LinearMap(lambda t: 2.0 * w * x * t, lambda g: 2.0 * w * x * g), "own")(x),
    "a list as a setting": lambda w, x: mg.Primitive(lambda x, c: c[0] * x * x, lambda i, y, x, c: mg.LinearMap(lambda t: 2.0 * c[0] * x * t, lambda g: 2.0 * c[0] * x * g), "own")(x, c=[w]),
    "passes": lambda w, x: mg.with_derivative(lambda x: w * x * x, lambda x: (w * x * x, lambda t: 2.0 * w * x * t, lambda g: (2.0 * w * x * g,)))(x),
    "a keyword of passes": lambda w, x: mg.with_derivative(lambda x, w: w * x * x, lambda x, w: (w * x * x, lambda t: 2.0 * w * x * t, lambda g: (2.0 * w * x * g,)))(x, w=w),
    "without passes": lambda w, x: mg.with_derivative(lambda x: w * x * x)(x)}
ROUTES = {                                                  # derivatives by both w and x, and what is right at (2, 3)
    "inner w": (lambda f: grad(lambda x: grad(lambda w: f(w, x))(2.0))(3.0), 6.0),
    "inner x": (lambda f: grad(lambda w: grad(lambda x: f(w, x))(3.0))(2.0), 6.0),
    "one trace": (lambda f: jvp(f, (2.0, 3.0), (1.0, 1.0))[1], 21.0),
    "one tape": (lambda f: sum(grad(f, (0, 1))(2.0, 3.0)), 21.0),
    "forward over reverse": (lambda f: jvp(lambda x: grad(lambda w: f(w, x))(2.0), (3.0,), (1.0,))[1], 6.0)}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("way", WAYS)
def test_a_rule_that_computes_with_another_traced_value_is_right_or_refused(way, route):
    """The primitive knows its arguments alone: the derivative by what its function holds would be lost."""
    compute, right = ROUTES[route]
    try:
        found = compute(WAYS[way])
    except mg.TraceError as error:
        assert way != "without passes" and ("it computes with a traced value that is not one of its arguments" in str(error)
                                            or "a value from inside a derivative was used after it ended" in str(error))
        return
    assert type(found) is not Box and found == right


def test_a_slope_alone_that_is_traced_is_refused():
    own = lambda w, x: mg.elementwise(lambda x: 2.0 * x, lambda y, x: w, name="own")(x)     # noqa: E731
    with pytest.raises(mg.TraceError, match=r"own\(\.\.\.\): it computes with a traced value"):
        jvp(own, (2.0, 3.0), (1.0, 1.0))


@pytest.mark.parametrize("f, says", [
    (mg.Primitive(lambda x: x * x, lambda i, y, x: (lambda t: t, lambda g: g), name="own"), "own(...): its rule returned a tuple, not a LinearMap\n  help: return LinearMap(push, pull)"),
    (mg.Primitive(lambda x: x * x, lambda i, y, x: None, name="own"), "its rule returned a NoneType, not a LinearMap"),
    (mg.with_derivative(lambda x: x * x, lambda x: (x * x, lambda g: (2 * x * g,))), "its passes returned a tuple of 2, not three things\n  help: return y, push, pull"),
    (mg.with_derivative(lambda x: x * x, lambda x: None), "its passes returned a NoneType, not three things"),
    (mg.with_derivative(lambda x: x * x, lambda x: (x * x, lambda t: 2 * x * t, lambda g: ())), "its pull returned a tuple of 0, and not 1 cotangents\n  help: return a tuple"),
    (mg.with_derivative(lambda x: x * x, lambda x: (x * x, lambda t: 2 * x * t, lambda g: (g, g))), "its pull returned a tuple of 2, and not 1 cotangents"),
    (mg.with_derivative(lambda x: x * x, lambda x: (x * x, lambda t: 2 * x * t, lambda g: g)), "cotangents\n  help: return a tuple")])
def test_a_rule_that_returns_something_else_is_told_what_to_return(f, says):
    with pytest.raises(mg.DTypeError, match=re.escape(says)):
        grad(f)(3.0)
    if "rule" in says:
        with pytest.raises(mg.DTypeError, match=re.escape(says)):
            jvp(f, (3.0,), (1.0,))


# ------------------------------------------------------------------------------------------ functions that hold functions

@given(st.data())
def test_any_web_of_functions_is_computed_again(data):
    """Each may hold any of the others, in its closure, its defaults or an attribute, in cycles as well."""
    n = data.draw(st.integers(1, 4))
    edges = data.draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=6))
    def program(w, x, wrap):
        functions = []
        def made(k):
            calls = [b for a, b in edges if a == k]
            def f(x, depth, scale=w if k % 2 else 2.0):
                y = w * x * f.factor + scale
                for j in calls if depth else ():
                    y = y + functions[j](x, depth - 1) * w
                return y
            f.factor = w if k == 0 else 0.5
            return f
        functions.extend(made(k) for k in range(n))
        first = functions[0]
        return wrap(lambda x: first(x, 2) + (functions[-1](x, 1) if n > 1 else 0.0))(x)
    plain, again = ([grad(lambda w, x: program(w, x, wrap), (0, 1))(1.5, 0.7), grad(lambda w: grad(lambda x: program(w, x, wrap))(0.7))(1.5)] for wrap in (lambda f: f, checkpoint))
    np.testing.assert_allclose(again[0], plain[0], rtol=1e-12)
    np.testing.assert_allclose(again[1], plain[1], rtol=1e-12)


def test_cotangents_may_come_in_a_list():
    square = mg.with_derivative(lambda x, n: x * x, lambda x, n: (x * x, lambda t, _: 2 * x * t, lambda g: [2 * x * g, None]))
    assert grad(lambda x: square(x, None))(3.0) == 6.0


def test_a_cotangent_that_is_forgotten_is_an_error():
    """None is for what is not differentiated."""
    times = mg.with_derivative(lambda x, y: x * y, lambda x, y: (x * y, lambda t, u: t * y, lambda g: (g * y, None)))
    x = np.ones(2)
    assert mg.grad(lambda x: mg.sum(times(x, np.full(2, 3.0))))(x).tolist() == [3.0, 3.0]
    with pytest.raises(mg.DTypeError, match="its pull returned None for an array that is differentiated"):
        mg.grad(lambda x, y: mg.sum(times(x, y)), (0, 1))(x, x)


def test_a_number_may_be_an_argument_of_a_rule():
    times = mg.with_derivative(lambda x, n: x * n, lambda x, n: (x * n, lambda t, _: t * n, lambda g: (g * n, None)))
    for number in (2, 2.0, np.float32(2.0), np.array(2)):   # no array that is differentiated
        assert mg.grad(lambda x, n=number: mg.sum(times(x, n)))(np.ones(2)).tolist() == [2.0, 2.0] and mg.hvp(lambda x, n=number: mg.sum(times(x, n) ** 2), np.ones(2), np.ones(2)).tolist() == [8.0, 8.0]
        assert mg.jvp(lambda x, n=number: times(x, n), (np.ones(2),), (np.ones(2),))[1].tolist() == [2.0, 2.0]


def test_two_that_call_each_other():
    def f(w, x):
        def a(x, n):
            return x if n == 0 else w * b(x, n - 1)
        def b(x, n):
            return x if n == 0 else w * a(x, n - 1)
        return checkpoint(a)(x, 3)
    assert grad(f, (0, 1))(2.0, 3.0) == (36.0, 8.0)


@pytest.mark.parametrize("kind", ["int64", "uint8", "bool"])
def test_a_rule_with_an_argument_that_is_no_float_has_derivatives_of_any_order(kind):
    """Rows by their numbers, or by a mask, and the second argument beside a float that is differentiated as well."""
    index = np.array([0, 2, 2]).astype(kind) if kind != "bool" else np.array([True, False, True])

    def passes(x, s, i):
        def pull(g):
            zeros = np.zeros_like(x)
            np.add.at(zeros, i, g * s)
            return zeros, np.sum(g * x[i]), np.zeros(i.shape)
        return x[i] * s, lambda t, u, _: (0 if t is None else t[i] * s) + (0 if u is None else x[i] * u), pull
    rows = mg.with_derivative(lambda x, s, i: x[i] * s, passes)
    for f in (rows, mg.checkpoint(lambda x, s, i: x[i] * s)):
        mg.check_derivatives(lambda x, s, f=f: f(x, s, index), np.arange(1.0, 4.0), np.float64(1.5))
        np.testing.assert_array_equal(mg.hessian(lambda x, f=f: mg.sum(f(x, 2.0, index) ** 2))(np.ones(3)), mg.hessian(lambda x: mg.sum((x[index] * 2.0) ** 2))(np.ones(3)))
