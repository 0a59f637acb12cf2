"""The transforms: trees, argnums, aux, agreement with one another, and refusals."""
import collections
import gc
import warnings
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import checkpoint, grad, hessian, hvp, jacobian, jvp, linearize, value_and_grad, vjp

from .strategies import smooth


def program(p, x):
    """Map a tree and an array to a tree, with shared values."""
    h = mg.tanh(x @ p["w"] + p["b"][0])
    return {"out": h * mg.sum(h, axis=1, keepdims=True), "scalar": mg.mean(mg.exp(h) * p["b"][1])}


def scalar(p, x):
    y = program(p, x)
    return mg.sum(y["out"] * y["out"]) + y["scalar"]


@st.composite
def arguments(draw):
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    n, k, m = (draw(st.integers(1, 3)) for _ in range(3))
    return {"w": smooth(rng, (k, m)), "b": (smooth(rng, m), smooth(rng, ()))}, smooth(rng, (n, k))


def dot(a, b):
    return sum(float((x * y).sum()) for x, y in zip(mg.tree.flatten(a)[0], mg.tree.flatten(b)[0]))


def close(a, b):
    for x, y in zip(*(mg.tree.flatten(t)[0] for t in (a, b)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-12)


@given(arguments())
def test_one_derivative_however_it_is_asked_for(args):
    p, x = args
    y, J = linearize(program, p, x)
    y2, pull = vjp(program, p, x)
    y3, t = jvp(program, (p, x), (p, x))
    close([y, y, t, pull(y)], [y2, y3, J.push(p, x), J.pull(y)])
    close(grad(scalar)(p, x), vjp(scalar, p, x)[1](1.0)[0])
    close(grad(scalar, argnums=(1, 0))(p, x), (grad(scalar, 1)(p, x), grad(scalar, -2)(p, x)))
    value, gradient = value_and_grad(scalar)(p, x)
    close([value, gradient], [scalar(p, x), grad(scalar)(p, x)])
    assert abs(dot(y, J.push(p, x)) - dot(J.pull(y), (p, x))) < 1e-9 * (1 + abs(dot(y, t)))


@given(arguments())
def test_second_derivatives_three_ways(args):
    p, x = args
    forward_over_reverse = hvp(lambda p: scalar(p, x), p, p)
    reverse_over_forward = grad(lambda q: jvp(lambda p: scalar(p, x), (q,), (p,))[1])(p)
    reverse_over_reverse = grad(lambda q: sum(mg.sum(a * b) for a, b in zip(
        mg.tree.flatten(grad(scalar)(q, x))[0], mg.tree.flatten(p)[0])))(p)
    H = hessian(scalar)(p, x)
    full = {"w": np.tensordot(H["w"]["w"], p["w"], 2) + np.tensordot(H["w"]["b"][0], p["b"][0], 1) +
            H["w"]["b"][1] * p["b"][1],
            "b": (np.tensordot(H["b"][0]["w"], p["w"], 2) + H["b"][0]["b"][0] @ p["b"][0] + H["b"][0]["b"][1] * p["b"][1],
                  np.tensordot(H["b"][1]["w"], p["w"], 2) + H["b"][1]["b"][0] @ p["b"][0] +
                  H["b"][1]["b"][1] * p["b"][1])}
    for other in (reverse_over_forward, reverse_over_reverse, full):
        close(forward_over_reverse, other)
    np.testing.assert_allclose(H["w"]["b"][0], np.moveaxis(H["b"][0]["w"], 0, -1), atol=1e-10)


@given(arguments())
def test_jacobian_holds_all_pushes_and_pulls(args):
    p, x = args
    for f in (lambda x: program(p, x)["scalar"], lambda x: program(p, x)["out"]):
        y, J = linearize(f, x)
        full = jacobian(f)(x)
        assert full.shape == y.shape + x.shape
        np.testing.assert_allclose(np.tensordot(full, x, x.ndim), J.push(x), atol=1e-10)
        np.testing.assert_allclose(np.tensordot(y, full, y.ndim), J.pull(y), atol=1e-10)


def test_jacobian_by_columns_is_the_jacobian_by_rows():
    A = np.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(jacobian(lambda x: A @ x)(np.ones(2)), A)
    np.testing.assert_array_equal(jacobian(lambda x: x @ A)(np.ones(3)), A.T)
    nested = jacobian(lambda a, b: (a * b, a), argnums=(0, 1))(np.ones(2), np.ones(2))
    np.testing.assert_array_equal(nested[1][1], np.zeros((2, 2)))
    listed = jacobian(lambda a, b: a * b, argnums=[1])(np.ones(2), np.full(2, 3.0))
    np.testing.assert_array_equal(listed[0], np.eye(2))
    for x in (np.zeros(0, "float32"), np.ones(3, "float32")):
        J, aux = jacobian(lambda x: (x[:0], None), has_aux=True)(x)
        assert J.shape == (0, len(x)) and J.dtype == np.float32 and aux is None


def test_the_first_argument_is_differentiated_if_none_is_named():
    a, b = np.array([2.0]), np.array([3.0])
    assert jacobian(lambda a, b: a * a * b)(a, b) == 12.0 and hessian(lambda a, b: mg.sum(a * a * b))(a, b) == 6.0
    assert grad(lambda a, b: mg.sum(a * a * b))(a, b) == 12.0 and value_and_grad(lambda a, b: mg.sum(a * a * b))(a, b)[1] == 12.0


def test_jacobian_takes_the_shorter_way():
    """One pull for each result or one push for each argument, whichever is fewer."""
    walks = []

    def counted(f):
        return mg.Primitive(f, lambda i, y, x: mg.LinearMap(lambda t: (walks.append("push"), f(t))[1],
                                                            lambda g: (walks.append("pull"), f.T(g))[1]))
    class Matrix:
        def __init__(self, A):
            self.A, self.__name__ = A, "A"

        def __call__(self, x):
            return self.A @ x

        def T(self, g):
            return self.A.T @ g
    for shape, expected in (((2, 5), ["pull"] * 2), ((5, 2), ["push"] * 2), ((1, 3), ["pull"])):
        walks.clear()
        A = np.arange(float(np.prod(shape))).reshape(shape)
        np.testing.assert_array_equal(jacobian(counted(Matrix(A)))(np.ones(shape[1])), A)
        assert walks == expected


@given(arguments())
def test_checkpoint_changes_nothing_at_any_order(args):
    p, x = args
    hidden = checkpoint(program)

    def same(p, x):
        y = hidden(p, x)
        return mg.sum(y["out"] * y["out"]) + y["scalar"]
    close(program(p, x), hidden(p, x))
    close(grad(scalar, (0, 1))(p, x), grad(same, (0, 1))(p, x))
    close(hvp(lambda p: scalar(p, x), p, p), hvp(lambda p: same(p, x), p, p))
    close(grad(lambda p: dot_traced(grad(scalar)(p, x), p))(p), grad(lambda p: dot_traced(grad(same)(p, x), p))(p))
    close(jvp(lambda p: jvp(lambda p: scalar(p, x), (p,), (args[0],))[1], (p,), (p,)),
          jvp(lambda p: jvp(lambda p: same(p, x), (p,), (args[0],))[1], (p,), (p,)))


def dot_traced(a, b):
    return sum(mg.sum(x * y) for x, y in zip(mg.tree.flatten(a)[0], mg.tree.flatten(b)[0]))


def test_checkpoint_runs_again_and_keeps_only_its_arguments():
    runs = []

    def block(x):
        runs.append(1)
        return mg.exp(mg.exp(x))
    _, J = linearize(checkpoint(block), np.ones(3))
    assert len(runs) == 1
    J.push(np.ones(3)), J.pull(np.ones(3))
    assert len(runs) == 3


def test_checkpoint_passes_integers_and_settings():
    f = checkpoint(lambda x, labels, scale=1.0: scale * mg.getitem(x, (np.arange(2), labels)))
    gradient = grad(lambda x: mg.sum(f(x, np.array([0, 1]), scale=3.0)))(np.ones((2, 2)))
    np.testing.assert_array_equal(gradient, [[3, 0], [0, 3]])


def test_functions_are_named_after_what_they_come_from():
    def f(x):
        return x * x
    assert [t(f).__name__ for t in (grad, value_and_grad, jacobian, hessian, checkpoint)] == [
        "grad(f)", "value_and_grad(f)", "jacobian(f)", "hessian(f)", "checkpoint(f)"]


def test_aux_comes_out_as_plain_values():
    def f(x):
        y = x * x
        return mg.sum(y), {"y": y, "n": 3, "none": None}
    gradient, aux = grad(f, has_aux=True)(np.array([1.0, 2.0]))
    assert type(aux["y"]) is np.ndarray and aux["n"] == 3 and aux["none"] is None
    (value, aux), gradient = value_and_grad(f, has_aux=True)(np.array([1.0, 2.0]))
    assert value == 5.0 and list(aux["y"]) == [1, 4] and list(gradient) == [2, 4]
    y, J, aux = linearize(f, np.ones(2), has_aux=True)
    y, pull, aux = vjp(f, np.ones(2), has_aux=True)
    y, t, aux = jvp(f, (np.ones(2),), (np.ones(2),), has_aux=True)
    assert t == 4.0 and aux["n"] == 3
    inner = grad(lambda x: mg.sum(grad(f, has_aux=True)(x)[1]["y"]))(np.array([3.0]))       # aux of an inner derivative
    assert list(inner) == [6.0]


def test_stop_gradient_is_a_constant():
    assert grad(lambda x: mg.stop_gradient({"a": [x]})["a"][0] * x)(3.0) == 3.0


def test_types_of_gradients_are_those_of_arguments():
    a, b = np.ones(2, np.float32), np.ones(2)
    ga, gb = grad(lambda a, b: mg.sum(a * b), (0, 1))(a, b)
    assert (ga.dtype, gb.dtype) == (np.float32, np.float64)
    y, t = jvp(lambda a: a * 2.0, (a,), (b,))
    assert t.dtype == np.float32


def test_what_does_not_depend_has_derivative_zero():
    np.testing.assert_array_equal(grad(lambda x: 3.0)(np.ones(2)), [0, 0])
    np.testing.assert_array_equal(jvp(lambda x: np.ones(3), (np.ones(2),), (np.ones(2),))[1], [0, 0, 0])
    y, J = linearize(lambda a, b: a, np.ones(2), np.ones(3))
    np.testing.assert_array_equal(J.pull(np.ones(2))[1], [0, 0, 0])
    np.testing.assert_array_equal(J.push(np.ones(2), np.ones(3)), [1, 1])


def test_results_may_hold_numbers_or_nothing():
    y, J = linearize(lambda x: {"f": 2.0, "x": x, "none": None}, np.ones(2))
    assert y["f"] == 2.0 and J.push(np.ones(2))["f"] == 0.0 and J.push(np.ones(2))["x"].sum() == 2.0
    assert jvp(lambda x: None, (1.0,), (1.0,)) == (None, None) and vjp(lambda x: {}, np.ones(2))[1]({})[0].sum() == 0.0


WAYS = {"grad": lambda f, x: grad(f)(x), "value_and_grad": lambda f, x: value_and_grad(f)(x),
        "jvp": lambda f, x: jvp(f, (x,), (x,)), "linearize": lambda f, x: linearize(f, x), "vjp": lambda f, x: vjp(f, x),
        "jacobian": lambda f, x: jacobian(f)(x), "hessian": lambda f, x: hessian(f)(x), "hvp": lambda f, x: hvp(f, x, x),
        "grad of grad": lambda f, x: grad(lambda x: mg.sum(grad(f)(x)))(x), "aux": lambda f, x: grad(lambda x: (f(x), x), has_aux=True)(x),
        "grad of checkpoint": lambda f, x: grad(checkpoint(f))(x)}
NOT_REAL = {"complex": lambda x: x * 1j, "comparison": lambda x: x > 0, "index": lambda x: mg.argmax(x), "number": lambda x: 3,
            "truth": lambda x: True, "imaginary": lambda x: 2j, "integers": lambda x: np.arange(3), "rounded": lambda x: mg.astype(x, int),
            "objects": lambda x: np.array([None]), "text": lambda x: np.array("a"), "in a tree": lambda x: {"y": mg.sum(x), "n": [x < 0]}}


@pytest.mark.parametrize("result", NOT_REAL)
@pytest.mark.parametrize("way", WAYS)
def test_what_has_no_real_derivative_is_refused(way, result):
    for x in (2.0, np.float32(2.0), np.array(2.0)):
        with pytest.raises(mg.DTypeError, match=r": only real floating-point results have derivatives\n  f\(...\).*\n  help: "):
            WAYS[way](NOT_REAL[result], x)


def right_or_refused(f, x, value):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", np.exceptions.ComplexWarning)       # NumPy's, about discarded imaginary parts
        for way in (grad, jacobian, lambda f: lambda x: jvp(f, (x,), (1.0,))[1], lambda f: lambda x: linearize(f, x)[1].push(1.0),
                    lambda f: lambda x: vjp(f, x)[1](1.0)[0], lambda f: grad(checkpoint(f)),
                    lambda f: lambda x: jvp(checkpoint(f), (x,), (1.0,))[1]):
            try:
                found = way(f)(x)
            except mg.MinigradError:
                continue
            np.testing.assert_allclose(found, value)


@pytest.mark.parametrize("f, value", [
    (lambda x: mg.abs(x * 1j), 1.0), (lambda x: mg.abs(mg.exp(1j * x) * x), 1.0), (lambda x: mg.astype(mg.abs(x * 1j), "float32"), 1.0),
    (lambda x: mg.astype(x * 1j * 1j, float), -1.0), (lambda x: mg.abs(mg.abs(x * 1j) * -1j), 1.0),
    (lambda x: mg.astype(mg.square(x * (1 + 1j)), float), 0.0), (lambda x: mg.abs(mg.sum(mg.stack([x, 1j * x]))), 2.0 ** 0.5),
    (lambda x: mg.abs(mg.checkpoint(lambda x: x * 1j)(x)), 1.0), (lambda x: mg.maximum(mg.abs(1j * x), 0.0), 1.0)])
def test_complex_numbers_inside_give_the_right_derivative_or_an_error(f, value):
    right_or_refused(f, 2.0, value)


@pytest.mark.parametrize("given", [np.array([1j, 0.0]), np.array(["a", "b"]), np.array([None, 1.0])])
def test_tangents_and_cotangents_are_real(given):
    x = np.ones(2)
    for call in (lambda: jvp(mg.exp, (x,), (given,)), lambda: linearize(mg.exp, x)[1].push(given), lambda: vjp(mg.exp, x)[1](given),
                 lambda: hvp(mg.sum, x, given), lambda: linearize(mg.exp, x)[1].pull([given])):
        with pytest.raises((mg.DTypeError, mg.ShapeError)):
            call()
    np.testing.assert_array_equal(jvp(mg.exp, (x,), (np.array([1, 0]),))[1], [np.e, 0.0])       # integers are


def test_every_gradient_is_writable_and_shares_no_memory():
    """Writing to a gradient changes neither another one nor any argument, even if f is the identity."""
    many = np.ones((80, 80))
    for x in (np.ones(5), np.ones(5000), many, many.T, np.ones((5000, 1)), np.broadcast_to(1.0, (80, 80)), np.array(1.0)):
        for f in (lambda a, b: mg.sum(a + b), lambda a, b: mg.sum(a) + mg.sum(b), lambda a, b: mg.mean(mg.reshape(a, (-1,)) - mg.ravel(b)),
                  lambda a, b: mg.sum(mg.broadcast_to(a, (2, *a.shape))) + 0.0 * mg.sum(b), lambda a, b: mg.sum(mg.transpose(a) * mg.transpose(b))):
            held_apart(grad(f, (0, 1))(x, x), x)
        for f in (lambda a, b: (a, b), lambda a, b: a + b, lambda a, b: [a, a, b], lambda a, b: mg.reshape(a, (-1,)) + mg.ravel(b)):
            y, J = linearize(f, x, x)
            g = mg.tree.map(np.ones_like, y)
            held_apart(J.pull(g), g)
            held_apart(vjp(f, x, x)[1](g), g)


def held_apart(gradients, given):
    arrays = [g for g in mg.tree.flatten(gradients)[0] if isinstance(g, np.ndarray)]
    for k, g in enumerate(arrays):
        assert g.flags.writeable
        for other in (*arrays[:k], *mg.tree.flatten(given)[0]):
            assert not np.shares_memory(g, other)
        g += 1.0


def test_params_by_keyword_are_not_differentiated():
    assert grad(lambda x, k=1.0: k * x)(2.0, k=5.0) == 5.0


def test_checkpoint_of_arguments_on_different_levels():
    """d/da d/db in every mix of modes: the inner derivative traces one argument, the outer one the other."""
    def f(a, b):
        return a * a * mg.exp(b) * b

    def inner(g, a):
        return grad(lambda b: g(a, b))(2.0), jvp(lambda b: g(a, b), (2.0,), (1.0,))[1]
    for k in (0, 1):
        expected = 6.0 * np.exp(2.0) * 3.0
        for g in (f, checkpoint(f)):
            outer = [grad(lambda a: inner(g, a)[k])(3.0), jvp(lambda a: inner(g, a)[k], (3.0,), (1.0,))[1],
                     linearize(lambda a: inner(g, a)[k], 3.0)[1].push(1.0), hvp(lambda a: a * inner(g, a)[k], 3.0, 0.5)]
            np.testing.assert_allclose(outer, [expected, expected, expected, 1.5 * expected], rtol=1e-12)


def test_checkpoint_leaves_no_cycle():
    gc.collect()
    gc.disable()
    try:
        x = np.ones(1000)
        inside = []

        def f(x):
            h = mg.sin(x)
            inside.append(weakref.ref(mg.core.raw(h)))
            return mg.sum(checkpoint(mg.exp)(h))
        grad(f)(x)
        assert inside[0]() is None
    finally:
        gc.enable()


def test_checkpoint_hands_through_what_is_no_float():
    def block(x, scale=1.0):
        return {"y": scale * x * x, "mask": x > 1.0, "n": 3, "none": None}
    out = []

    def f(x):
        y = checkpoint(block)(x, scale=x)
        out.append((y["n"], y["mask"].dtype, y["none"]))
        return mg.sum(mg.where(y["mask"], y["y"], 0.0))
    np.testing.assert_array_equal(grad(f)(np.array([0.5, 2.0])), [0, 12])
    assert out == [(3, bool, None)]
    with pytest.raises(ValueError, match="^bad config$"):
        checkpoint(lambda x: (_ for _ in ()).throw(ValueError("bad config")))(1.0)


def test_any_mapping_is_a_tree():
    aux = grad(lambda x: (mg.sum(x), collections.OrderedDict(a=x * 2.0)), has_aux=True)(np.ones(2))[1]
    assert type(aux) is collections.OrderedDict and type(aux["a"]) is np.ndarray
    counts = mg.tree.map(lambda x: x + 1, collections.defaultdict(list, a=1.0))
    assert counts["a"] == 2.0 and counts["b"] == []


def test_jacobian_and_hessian_return_aux_as_plain_values():
    def f(x):
        return x * x * x, {"x": x, "name": "cubes"}
    x = np.array([1.0, 2.0])
    for (found, aux), expected in ((jacobian(f, has_aux=True)(x), np.diag(3.0 * x ** 2)),
                                   (hessian(f, has_aux=True)(x), 6.0 * np.einsum("i,ij,ik->ijk", x, np.eye(2), np.eye(2)))):
        np.testing.assert_allclose(found, expected)
        assert aux["x"] is x and aux["name"] == "cubes"
    (H,), aux = hessian(lambda a, b: (mg.sum(a ** 3 * b), b), (0,), has_aux=True)(2.0, 3.0)
    assert H[0] == 36.0 and aux == 3.0


def test_hessian_of_several_values():
    """As in JAX and torch.func: for each value a symmetric matrix."""
    A = np.array([[2.0, 1.0], [0.0, 3.0]])
    H = hessian(lambda x: mg.stack([x @ A @ x, mg.sum(x ** 3), x[0]]))(np.array([1.0, 2.0]))
    np.testing.assert_allclose(H, [A + A.T, np.diag([6.0, 12.0]), np.zeros((2, 2))], atol=1e-12)
    nested = hessian(lambda p: {"y": p["a"] * p["b"]})({"b": np.array([2.0]), "a": np.array([3.0])})
    assert list(nested) == ["y"] and nested["y"]["a"]["b"].shape == (1, 1, 1) and nested["y"]["a"]["b"] == 1.0 and nested["y"]["a"]["a"] == 0.0
    pair = hessian(lambda a, b: mg.sum(a * a * b), (0, 1))(np.array([2.0]), np.array([3.0]))
    assert (pair[0][0], pair[0][1], pair[1][0], pair[1][1]) == (6.0, 4.0, 4.0, 0.0)


def keeps(push, pull, fun=np.copy, name="bad"):
    return mg.Primitive(fun, lambda i, y, x: mg.LinearMap(push, pull), name)


@pytest.mark.parametrize("wrong", [lambda v: v[0], lambda v: mg.sum(v), lambda v: mg.stack([v, v]), lambda v: v[None], lambda v: 0.0,
                                   lambda v: mg.reshape(v, (3, 1))], ids=["row", "number", "stack", "axis", "zero", "column"])
@pytest.mark.parametrize("before", [lambda x: x, mg.exp, lambda x: mg.broadcast_to(x, (3,)) * 2.0, lambda x: x + np.ones(3)],
                         ids=["first", "exp", "broadcast", "add"])
def test_a_rule_of_the_wrong_shape_is_found(before, wrong):
    """Wherever the rule is used, although earlier rules of the program could hide the mistake by broadcasting."""
    x, f = np.ones(3), lambda op: lambda x: mg.sum(op(before(x)) * np.arange(3.0))
    with pytest.raises(mg.ShapeError, match=r"bad\(...\): the pull of its rule returns a cotangent of shape \S.* for an argument of shape"):
        grad(f(keeps(lambda t: t, wrong)))(x)
    with pytest.raises(mg.ShapeError, match=r"bad\(...\): the push of its rule returns a tangent of shape \S.* for a result of shape"):
        jvp(f(keeps(wrong, lambda g: g)), (x,), (x,))
    with pytest.raises(mg.ShapeError, match=r"bad\(...\): the push of its rule"):
        linearize(f(keeps(wrong, lambda g: g)), x)[1].push(x)
    with pytest.raises(mg.ShapeError, match=r"bad\(...\): the pull of its rule"):
        hvp(f(keeps(lambda t: t, wrong)), x, x)


@pytest.mark.parametrize("wrong", [lambda v: v * 1j, lambda v: np.array([None] * 3), lambda v: np.array(["a"] * 3)],
                         ids=["complex", "objects", "text"])
def test_a_rule_of_the_wrong_type_is_found(wrong):
    f, x = lambda op: lambda x: mg.sum(op(x)), np.ones(3)
    with pytest.raises(mg.DTypeError, match="bad"):
        grad(f(keeps(lambda t: t, wrong)))(x)
    with pytest.raises(mg.DTypeError):
        jvp(lambda x: keeps(wrong, lambda g: g)(x), (x,), (x,))
    np.testing.assert_array_equal(grad(f(keeps(lambda t: t, lambda g: np.ones(3, int))))(x), np.ones(3))      # integers are numbers


def test_what_is_no_array_is_not_differentiated():
    class Net:
        def __init__(self):
            self.w = np.ones(2)

        def __call__(self, x):
            return mg.sum(self.w * x)
    for x in (Net(), mg.exp, "weights"):
        for call in (lambda: grad(lambda p: 0.0)(x), lambda: jvp(lambda p: 0.0, (x,), (x,)), lambda: linearize(lambda p: 0.0, x)):
            with pytest.raises(mg.DTypeError, match="only floating-point arrays have derivatives\n  argument 0 .*\n  help: leave it out; or, if there are arrays in it, make "):
                call()


@pytest.mark.parametrize("transform", [mg.grad, mg.jacobian, mg.hessian, lambda f, argnums: lambda *xs: mg.value_and_grad(f, argnums)(*xs)[1]])
def test_several_argnums_in_any_form_are_a_tuple(transform):
    """One integer, of Python or NumPy, is one argument; a list, range or array of them is what the tuple is."""
    def f(a, b):
        return a * a * b
    whole, one = transform(f, (0, 1))(2.0, 3.0), transform(f, 1)(2.0, 3.0)
    for several in ([0, 1], range(2), np.array([0, 1]), (np.int64(0), 1)):
        np.testing.assert_array_equal(transform(f, several)(2.0, 3.0), whole)
    np.testing.assert_array_equal(transform(f, np.int64(1))(2.0, 3.0), one)
    assert np.shape(transform(f, [1])(2.0, 3.0))[:1] == (1,)


@pytest.mark.parametrize("transform", [mg.grad, mg.value_and_grad, mg.jacobian, mg.jacfwd, mg.jacrev, mg.hessian], ids=lambda transform: transform.__name__)
@pytest.mark.parametrize("argnums", [0, 1, 2, -1, -2])
def test_one_of_several_arguments_is_the_only_one_of_a_function_of_it(transform, argnums):
    """... with the others held, also where these have other shapes, and with aux."""
    xs = np.array([0.3, -0.7]), np.array([[1.1, 0.2, -0.4]]), np.array(0.9)

    def f(a, b, c):
        return mg.sum(a * a) * mg.sum(mg.sin(b)) * c ** 3 + mg.sum(mg.exp(b)) * c

    def alone(x):
        full = list(xs)
        full[argnums] = x
        return f(*full)
    expected = transform(alone)(xs[argnums])
    found = transform(f, argnums)(*xs), transform(lambda *xs: (f(*xs), "aux"), argnums, has_aux=True)(*xs)
    for a, b, c in zip(*(mg.tree.flatten(y)[0] for y in (expected, *found)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
        np.testing.assert_allclose(a, c, rtol=1e-12)


def test_a_gradient_shares_no_memory_with_the_array_that_its_cotangent_is_a_part_of():
    for part in (lambda base: base[0], lambda base: base[:, 1], lambda base: base.T[1:, 0], lambda base: base[::-1, 0]):
        for f in (lambda x: x, lambda x: [x, x], lambda x: mg.reshape(x, (1, -1))[0]):
            base = np.ones((3, 3))
            J = linearize(f, np.ones(part(base).shape))[1]
            held_apart(J.pull([part(base)] * 2 if isinstance(f(0 * part(base)), list) else part(base)), base)


def test_derivatives_by_numbers_are_numbers():
    """... of NumPy, which go with the arrays of any module: whether the result depends on the argument, or is it, or not."""
    for f in (lambda x: x, lambda x: 3.0 * x, lambda x: np.float64(2.0), mg.exp):
        J = linearize(f, 1.0)[1]
        assert {type(d) for d in (grad(f)(1.0), jvp(f, (1.0,), (2.0,))[1], J.push(1.0), J.push(2), J.pull(1.0))} == {np.float64}


def test_jacobians_of_nothing_have_the_shapes_of_others():
    """By columns, by rows and by the shorter way, where the argument or the result has no element."""
    for f, x, s in ((lambda x: mg.sum(x) + np.ones(3), np.ones((0, 2)), (3, 0, 2)), (lambda x: x[:0], np.ones((3, 2)), (0, 2, 3, 2)),
                    (lambda x: x[:, 1:], np.ones((0, 2)), (0, 1, 0, 2))):
        assert {transform(f)(x).shape for transform in (mg.jacobian, mg.jacfwd, mg.jacrev)} == {s}


@pytest.mark.parametrize("transform", [mg.grad, mg.jacobian, mg.jacfwd, mg.jacrev, lambda f: mg.hessian(lambda m: mg.sum(f(m)))])
def test_a_tree_without_leaves_has_its_own_structure_as_derivative(transform):
    f = (lambda m: mg.sum(m["f"](np.ones(2)))) if transform is mg.grad else (lambda m: m["f"](np.ones(2)))
    m = {"f": mg.tanh, "none": []}
    found = transform(f)(m)
    assert mg.tree.flatten(found)[0] == [] and (found["f"], found["none"]) in ((mg.tanh, []), ({"f": mg.tanh, "none": []}, []), (m, []), (mg.tanh, m))
