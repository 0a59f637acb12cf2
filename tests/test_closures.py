"""A checkpointed function may hold what is differentiated: in its closure, its defaults, its object."""
import functools
import gc
import types
import weakref

import numpy as np
import pytest

import minigrad as mg
from minigrad import checkpoint, grad, hessian, hvp, jvp, linearize, nn, tree, vjp

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
