"""What programs written for NumPy do: traced results have NumPy's values, shapes and types; edges, kinks and mistakes."""
import inspect
import math
import operator
import warnings

import numpy as np
import pytest

import minigrad as mg
from minigrad import DTypeError, MinigradError, ShapeError, backend, grad, jvp, linearize, special, stats
from minigrad.check import check_derivatives

RNG = np.random.default_rng(0)
X, V = RNG.normal(size=(3, 4)), RNG.normal(size=4)
HOLES = np.where(np.array([[0, 1, 0, 0], [0, 1, 1, 0], [0, 1, 0, 0]], bool), np.nan, X)
REDUCED = [{}, {"axis": 0}, {"axis": (0, 1)}, {"axis": -1, "keepdims": True}]


def between(m, x, low, high):
    """Return clip by the names that it has since NumPy 2.1."""
    return m.clip(x, low, high) if m is np else m.clip(x, min=low, max=high)


def cases():
    """Return (a function of m and x, x) for which NumPy is the reference."""
    for how in REDUCED:
        for name in "sum prod mean max min median ptp nansum nanmean nanmax nanmin average".split():
            yield f"{name} {how}", lambda m, x, name=name, how=how: getattr(m, name)(x, **how), X
            if name != "average":
                yield f"{name} of NaN {how}", lambda m, x, name=name, how=how: getattr(m, name)(x, **how), HOLES
        for q in (0.25, 1, 0.0, [0.1, 0.9], np.array([[0.5]])):
            yield f"quantile {q} {how}", lambda m, x, q=q, how=how: m.quantile(x, q, **how), X
        yield f"percentile {how}", lambda m, x, how=how: m.percentile(x, [5, 70.5], **how), HOLES
    for axis in (None, 0, -1):
        for name in "cumsum cumprod sort".split():
            yield f"{name} {axis}", lambda m, x, name=name, axis=axis: getattr(m, name)(x, axis=axis), HOLES
            yield f"{name} {axis} of none", lambda m, x, name=name, axis=axis: getattr(m, name)(x, axis=axis), X[:, :0]
    for name, fill in (("sum", 0.3), ("prod", 0.3), ("max", 0.3), ("min", 0.3), ("max", 9.0)):
        yield f"{name} initial", lambda m, x, name=name, fill=fill: getattr(m, name)(x, axis=0, initial=fill), X
        yield f"{name} where", lambda m, x, name=name, fill=fill: getattr(m, name)(x, axis=1, initial=fill, where=[True, False, False, True]), X
        yield f"{name} of none", lambda m, x, name=name, fill=fill: getattr(m, name)(x, axis=1, initial=fill), X[:, :0]
        yield f"{name} of none, keepdims", lambda m, x, name=name, fill=fill: getattr(m, name)(x, axis=1, keepdims=True, initial=fill), X[:, :0]
        yield f"{name} initial of its type", lambda m, x, name=name: getattr(m, name)(x, initial=np.float64(0.3)), X
    yield "mean of whole numbers", lambda m, x: m.mean(x, axis=0, dtype=int) * x, 3.0 * X
    yield "prod of no whole numbers", lambda m, x: m.prod(x, axis=1, dtype=int) * m.sum(x, axis=1), X[:, :0]
    if np.quantile(np.float32(X), np.float64(0.3)).dtype == float:        # older versions keep float32
        yield "quantile by a number of NumPy", lambda m, x: m.quantile(x, np.float64(0.3)), X
    for mode in ("constant", "edge", "reflect", "symmetric", "wrap"):
        yield f"pad {mode}", lambda m, x, mode=mode: m.pad(x, ((1, 0), (2, 5)), mode), X
        yield f"pad {mode} of a number", lambda m, x, mode=mode: m.pad(x[0, 0], 2, mode="constant"), X
    yield "pad with a constant", lambda m, x: m.pad(x, 1, "constant", constant_values=2.5), X
    yield "clip by new names", lambda m, x: [between(m, x, -0.3, 0.5), between(m, x, None, 0.5)], X
    yield "astype, no copy", lambda m, x: x.astype(np.float64, copy=False), X
    yield "argmax, keepdims", lambda m, x: [m.argmax(x, axis=1, keepdims=True) * x, m.argmin(x, keepdims=True) * x], X
    yield "diff with ends", lambda m, x: [m.diff(x, prepend=0.5), m.diff(x, 2, 0, prepend=x[:1], append=[V]), m.diff(x, append=1)], X
    yield "mean where", lambda m, x: m.mean(x, axis=1, where=V > 0), X
    yield "mean where all", lambda m, x: m.mean(x, where=True), X
    for name in "sum mean prod cumsum cumprod".split():
        yield f"{name} dtype", lambda m, x, name=name: getattr(m, name)(x, axis=0, dtype=np.float64), X
    yield "array", lambda m, x: m.array([[x[0], 1.0], [2, x[1]]]), V
    yield "array dtype", lambda m, x: m.array([[x[0], 1.0], [2, x[1]]], dtype=np.float32), V
    yield "array of arrays", lambda m, x: m.array([x, [x[0], 1.0, x[2], 2], V]), V
    yield "array of none", lambda m, x: m.array([]) * m.sum(x), V
    yield "asarray", lambda m, x: m.asarray((x, x)), V
    yield "stack", lambda m, x: m.stack([x[0], 1, 2.0]), V
    yield "concatenate lists", lambda m, x: m.concatenate([[x[0], 1], [3, 4.0]]), V
    yield "append a number", lambda m, x: m.append(x, 3.0), V
    yield "append rows", lambda m, x: m.append(x, [[3.0, 1, 2, 5]], axis=0), X
    for name in "hstack vstack dstack column_stack".split():
        yield f"{name} of lists", lambda m, x, name=name: getattr(m, name)([x, [1, 2, 3, 4]]), V
        yield f"{name} of numbers", lambda m, x, name=name: getattr(m, name)([x[0], 1.5]), V
        yield f"{name} of rows", lambda m, x, name=name: getattr(m, name)(list(x)), X
    yield "hstack of one array", lambda m, x: m.hstack(x), X
    for where in ([1, 3], [3, 1], [-1], [9], 2, 3, np.array([1, 2]), (1,)):
        yield f"array_split {where}", lambda m, x, where=where: m.array_split(x, where), V
        yield f"hsplit {where}", lambda m, x, where=where: m.hsplit(x, 4 if where == 3 else where) if isinstance(where, int) else m.hsplit(x, where), X
    yield "repeat by counts", lambda m, x: m.repeat(x, np.array([1, 2, 0, 1])), V
    yield "repeat rows", lambda m, x: m.repeat(x, repeats=2, axis=0), X
    yield "tile", lambda m, x: m.tile(x, [2, 2]), V
    yield "tile by ()", lambda m, x: m.tile(x, ()), V
    yield "roll by two", lambda m, x: m.roll(x, (1, 2), axis=0), V
    yield "roll, no axis", lambda m, x: m.roll(x, [1, 2]), X
    yield "roll of none", lambda m, x: m.roll(x, 100), V[:0]
    for name in "tril triu diag".split():
        yield f"{name} of a row", lambda m, x, name=name: getattr(m, name)(x, -1), V
    for name in "tril triu diagonal trace".split():
        yield f"{name} of matrices", lambda m, x, name=name: getattr(m, name)(x * np.ones((2, 1, 1))), X
    yield "select", lambda m, x: m.select([x > 0, [True, False, True, False]], [x, 2 * x], default=x[0]), V
    yield "full_like of whole numbers", lambda m, x: m.full_like(np.arange(4), 2.5 + 0.0 * x, dtype=x.dtype), V
    yield "full_like, cut", lambda m, x: m.full_like(np.arange(4), 2.5 + 0.0 * x) * x, V
    yield "full_like", lambda m, x: m.full_like(np.ones((2, 3), x.dtype), x[0]), V
    yield "meshgrid of a number", lambda m, x: m.meshgrid(x, 2.0 * x[0], indexing="ij"), V
    yield "linspace, 50", lambda m, x: m.linspace(x[0], x[1]), V
    yield "linspace to a number", lambda m, x: m.linspace(x, 1, 3, axis=-1), V
    yield "linspace, one", lambda m, x: m.linspace(x, 1, 1, endpoint=False), V
    yield "broadcast_arrays", lambda m, x: m.broadcast_arrays(x, [[1.0], [2.0]]), V
    yield "diff five times", lambda m, x: m.diff(x, 5), V
    yield "gradient by coordinates", lambda m, x: m.gradient(x, [1, 2, 4.0], 3), X
    yield "gradient over axes", lambda m, x: m.gradient(x, 2, axis=(1, 0)), X
    yield "gradient of two", lambda m, x: m.gradient(x), V[:2]
    yield "average by columns", lambda m, x: m.average(x, axis=1, weights=[1, 2, 3, 4]), X
    yield "average by a matrix", lambda m, x: m.average(x, axis=(1, 0), weights=np.arange(12.0, dtype=x.dtype).reshape(4, 3), returned=True), X
    yield "partition", lambda m, x: m.partition(x, [1, 2], axis=0), X
    yield "round", lambda m, x: m.round(x, 1) * x + m.round(x, decimals=2) * x, X
    yield "operators", lambda m, x: [x % 0.7, 0.7 % x, x // 0.7 * x, 3.0 // x * x, *divmod(x, 2.0), *divmod(2.0, x)], X
    yield "nan_to_num", lambda m, x: m.nan_to_num(x, nan=3.0), HOLES
    for mode in "constant edge reflect symmetric wrap".split():
        yield f"pad by {mode}", lambda m, x, mode=mode: m.pad(x, [(1, 2), (0, 3)], mode), X
    yield "pad by a constant", lambda m, x: m.pad(x, (1, 0), "constant", constant_values=2.5), X
    for name in "sum mean var std max min linalg.norm".split():
        yield f"{name} of a list", lambda m, x, name=name: operator.attrgetter(name)(m)([[x[0], 1.0], (x[1] * x[2], 2)], axis=0), V
    for axis in (-3, 1, 2):
        for start in (-2, 0, 3):
            yield f"rollaxis {axis} {start}", lambda m, x, axis=axis, start=start: m.rollaxis(x * np.ones((2, 1, 1), x.dtype), axis, start), X
    yield "r_", lambda m, x: [m.r_[x], m.r_[x, x[0] * x[1], 1:4, x], m.r_[1:3, [x[0], 2.0], x], m.r_[x, [1, 2], 3], m.r_[x[:0], x]], V
    yield "r_ of rows", lambda m, x: m.r_[x, x[:1]], X
    yield "c_", lambda m, x: [m.c_[x], m.c_[x, x], m.c_[1:5, x * x], m.c_[x[0], 2.0]], V
    yield "c_ of rows", lambda m, x: m.c_[x, x[:, 0]], X
    yield "parts", lambda m, x: [m.real(x), m.imag(x) * x, m.conj(x), m.conjugate(x), m.real_if_close(x), m.angle(x) * x, m.angle(x, deg=True) * x / 9, m.angle(x, True) * x / 9, m.iscomplex(x) * x], X
    yield "nan_to_num of infinities", lambda m, x: [m.nan_to_num(x, nan=1.0, posinf=2.0, neginf=-3.0), m.nan_to_num(x)], np.where(X > 1.0, np.inf, np.where(X < -0.7, -np.inf, HOLES))
    for name in "logaddexp logaddexp2 hypot arctan2 fmax fmin copysign mod fmod".split():
        yield f"{name} of a number", lambda m, x, name=name: getattr(m, name)(x, 2), X


CASES = {name: (f, x) for name, f, x in cases()}


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("name", CASES)
def test_a_traced_result_is_numpys(name, dtype):
    """In value, shape and type: a plain one is NumPy's own, or as near."""
    f, x = CASES[name]
    x = x.astype(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")                     # NumPy's, of means of nothing
        expected, plain = mg.tree.flatten(f(np, x))[0], mg.tree.flatten(f(mg, x))[0]
        (y, J) = linearize(lambda x: list(mg.tree.flatten(f(mg, x))[0]), x)
    for traced, value, e in zip(y, plain, expected, strict=True):
        e = np.asarray(e)
        exact = {"float64": 1e-12, "float32": 1e-4, "float16": 2e-2}[dtype]
        assert traced.shape == value.shape == e.shape and traced.dtype == value.dtype == e.dtype
        np.testing.assert_allclose(traced, e, rtol=exact, atol=exact)
        np.testing.assert_allclose(value, e, rtol=exact, atol=exact)
    assert J.pull(y).dtype == x.dtype


@pytest.mark.parametrize("name", ["cumsum 0", "cumsum -1", "cumprod 0", "cumprod -1"])
def test_laws_along_axes(name):
    f, x = CASES[name]
    check_derivatives(lambda x: f(mg, x), np.where(np.abs(X) < 0.4, 0.0, X), order=2, analytic=True)


@pytest.mark.parametrize("name, x, slopes", [
    ("sinc", [0.0, 1e-9], [0.0, -math.pi ** 2 / 3 * 1e-9]), ("cbrt", [8.0, -8.0], [1 / 12, 1 / 12]), ("fabs", [-2.0, 0.0], [-1.0, 0.0]), ("nan_to_num", [math.nan, math.inf, 2.0], [0.0, 0.0, 1.0]),
    ("prod", [0.0, 3.0, 5.0], [15.0, 0.0, 0.0]), ("prod", [0.0, 0.0, 5.0], [0.0, 0.0, 0.0]), ("nanmax", [math.nan, 3.0, 3.0], [0.0, 1.0, 0.0]), ("nansum", [math.nan, 3.0], [0.0, 1.0]),
    ("median", [3.0, 1.0, 2.0, 9.0], [0.5, 0.0, 0.5, 0.0]), ("median", [1.0, 1.0, 1.0], [0.0, 1.0, 0.0]), ("median", [1.0, math.nan, 2.0], [0.0, 1.0, 0.0]), ("ptp", [1.0, 4.0, 1.0], [-1.0, 1.0, 0.0]), ("deg2rad", [0.0, 90.0], [math.pi / 180] * 2), ("floor", [1.5, 2.0], [0.0, 0.0]), ("sign", [0.0, -2.0], [0.0, 0.0])])
def test_slopes(name, x, slopes):
    np.testing.assert_allclose(grad(lambda x: mg.sum(getattr(mg, name)(x)))(np.array(x)), slopes, rtol=1e-12, atol=1e-20)


INF = math.inf


@pytest.mark.parametrize("name, a, b, by_a, by_b", [
    ("hypot", 0.0, 0.0, 0.0, 0.0), ("hypot", 3e200, 4e200, 0.6, 0.8), ("arctan2", 0.0, 0.0, 0.0, 0.0), ("arctan2", 0.0, -2.0, -0.5, 0.0), ("arctan2", 3e200, 4e200, 1.6e-201, -1.2e-201),
    ("logaddexp", -INF, -INF, 0.5, 0.5), ("logaddexp", INF, INF, 0.5, 0.5), ("logaddexp", -INF, 1.0, 0.0, 1.0), ("logaddexp2", 2000.0, 2000.0, 0.5, 0.5), ("fmax", math.nan, 2.0, 0.0, 1.0), ("fmax", math.nan, math.nan, 1.0, 1.0),
    ("fmin", 1.0, 1.0, 0.5, 0.5), ("mod", 7.0, 2.0, 1.0, -3.0), ("mod", -7.0, 2.0, 1.0, 4.0), ("fmod", -7.0, 2.0, 1.0, 3.0), ("mod", 6.0, 2.0, 1.0, -3.0), ("copysign", -2.0, 1.0, -1.0, 0.0), ("copysign", 0.0, -1.0, 0.0, 0.0), ("copysign", -2.0, 0.0, -1.0, 0.0), ("copysign", -2.0, -0.0, 1.0, 0.0)])
def test_slopes_by_two(name, a, b, by_a, by_b):
    f = getattr(mg, name)
    with np.errstate(invalid="ignore"):
        share = 0.5 if name == "fmax" and math.isnan(b) else 1.0            # both are the result: 1/2 each, as in maximum
        np.testing.assert_allclose(grad(f, (0, 1))(a, b), (by_a * share, by_b * share), rtol=1e-12)


@pytest.mark.parametrize("home, theirs", [(mg.ops, np), (mg.linalg, np.linalg)])
def test_defaults_are_numpys(home, theirs):
    """Also those that a traced value alone meets."""
    checked = 0
    for name in set(home.__all__) - {"astype", "einsum"}:   # which copy and order nothing
        if not hasattr(getattr(theirs, name, None), "__code__") and not hasattr(getattr(theirs, name, None), "__wrapped__"):
            continue                                        # it is of C, or there is none
        try:
            own, numpys = (inspect.signature(getattr(m, name)).parameters for m in (home, theirs))
        except ValueError:                                  # an older version does not say
            continue
        for key in own.keys() & numpys.keys():
            checked += own[key].default is not inspect.Parameter.empty
            default = numpys[key].default                   # older versions have fewer
            assert own[key].default == default or default is inspect.Parameter.empty or default is np._NoValue and not own[key].default, (name, key)
    assert checked > 10


def test_slopes_keep_their_digits_near_their_poles():
    """(1 - x) (1 + x) does, 1 - x^2 does not."""
    for e in (2.0 ** -20, 2.0 ** -40):
        np.testing.assert_allclose([grad(mg.arcsin)(1.0 - e), -grad(mg.arccos)(e - 1.0), grad(mg.arccosh)(1.0 + e), grad(mg.arctanh)(e - 1.0) ** 0.5],
                                   [(e * (2.0 - e)) ** -0.5, (e * (2.0 - e)) ** -0.5, (e * (2.0 + e)) ** -0.5, (e * (2.0 - e)) ** -0.5], rtol=1e-15)


def test_higher_orders_at_kinks_and_zeros():
    fourth = grad(grad(grad(grad(mg.sinc))))(0.0)
    np.testing.assert_allclose([grad(grad(mg.sinc))(0.0), fourth], [-math.pi ** 2 / 3, math.pi ** 4 / 5], rtol=1e-12)
    np.testing.assert_allclose(grad(grad(mg.logaddexp))(1.0, 1.0), 0.25)
    np.testing.assert_allclose(mg.hessian(mg.prod)(np.array([0.0, 0.0, 5.0])), [[0, 5, 0], [5, 0, 0], [0, 0, 0]])
    np.testing.assert_allclose(mg.hessian(lambda x: mg.sum(mg.cumprod(x)))(np.array([0.0, 0.0, 5.0])), [[0, 6, 0], [6, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize("n", range(20))
def test_products_of_any_number(n):
    """Halves, and doubling steps, leave no element out."""
    x = 1.0 + np.arange(n) / 10.0
    np.testing.assert_allclose(grad(mg.prod)(x), np.prod(x) / x, rtol=1e-13)
    y, tangent = jvp(mg.cumprod, (x,), (x,))
    np.testing.assert_allclose([y, tangent], [np.cumprod(x), np.cumprod(x) * np.arange(1, n + 1)], rtol=1e-13)


@pytest.mark.parametrize("name, initial, by_x, by_initial", [
    ("sum", 3.0, [1.0, 1.0], 1.0), ("prod", 3.0, [15.0, 6.0], 10.0), ("max", 3.0, [0.0, 1.0], 0.0), ("max", 7.0, [0.0, 0.0], 1.0), ("max", 5.0, [0.0, 0.5], 0.5), ("min", 1.0, [0.0, 0.0], 1.0), ("min", 2.0, [0.5, 0.0], 0.5)])
def test_initial_has_a_derivative(name, initial, by_x, by_initial):
    found = grad(lambda x, initial: getattr(mg, name)(x, initial=initial), (0, 1))(np.array([2.0, 5.0]), initial)
    np.testing.assert_array_equal(np.append(*found), [*by_x, by_initial])


def test_rounding_is_plain_and_indexes():
    def f(x):
        assert np.array_equal(round(x), [2.0, -2.0]) and round(x[0] / 3.0, 2) == 0.83
        assert isinstance(mg.floor(x), np.ndarray | np.floating) and math.floor(x[0]) == 2 and math.ceil(x[0]) == 3 and math.trunc(x[1]) == -1
        assert isinstance(math.floor(x[0]), int) and mg.any(x > 2) and not mg.all(x > 2) and mg.count_nonzero(x) == 2
        return x[math.floor(x[0]) - 2] * mg.argsort(x)[0] + x.cumsum()[1] * mg.zeros_like(x)[0] + x.prod(axis=0)
    np.testing.assert_allclose(grad(f)(np.array([2.5, -1.5])), [1.0 - 1.5, 2.5])
    assert jvp(mg.rint, (1.2,), (1.0,))[1] == 0.0


def test_equal_elements_keep_their_order():
    x = np.arange(60.0) % 3
    np.testing.assert_array_equal(grad(lambda x: mg.sum(mg.sort(x) * np.arange(60)))(x), np.argsort(np.argsort(x, kind="stable")))


def test_quantile_may_be_traced():
    x = np.array([4.0, 1.0, 2.0])
    np.testing.assert_allclose(grad(lambda q: mg.quantile(x, q))(0.75), 4.0)
    np.testing.assert_allclose(grad(lambda h: mg.sum(mg.gradient(x, h)))(0.5), -np.sum(np.gradient(x, 0.5)) / 0.5)
    np.testing.assert_allclose(grad(lambda h: mg.sum(mg.gradient(x, mg.stack([0.0, h, 3.0]))))(1.0), (np.gradient(x, [0.0, 1.000001, 3.0]).sum() - np.gradient(x, [0.0, 0.999999, 3.0]).sum()) / 2e-6, rtol=1e-5)


@pytest.mark.parametrize("call", [
    lambda x: mg.split(x, 3), lambda x: mg.quantile(x, 0.5, method="nearest"), lambda x: mg.quantile(x, 1.5), lambda x: mg.quantile(x, -0.5), lambda x: mg.median(x[:0]), lambda x: mg.max(x, where=x > 0), lambda x: mg.diff(x, -1),
    lambda x: mg.gradient(x, edge_order=2), lambda x: mg.gradient(x, 1.0, 2.0), lambda x: mg.repeat(x, [1, 2]), lambda x: mg.select([x > 0], [x, x]), lambda x: mg.array([x, x[:2]]), lambda x: mg.rot90(x), lambda x: mg.sort(x, 3),
    lambda x: mg.gradient(x[:1]), lambda x: mg.gradient(x[:2], [0.0, 1.0, 3.0]), lambda x: mg.diag(x[None, None]), lambda x: mg.meshgrid(x, x, indexing="yx"), lambda x: mg.pad(x, 1, "mean"), lambda x: mg.full_like(x[:2], x),
    lambda x: mg.average(x, weights=[1.0, 2.0]), lambda x: mg.array_split(x, 0), lambda x: mg.diagonal(x), lambda x: mg.max(x[:0])])
def test_mistakes_of_shape_are_explained(call):
    with pytest.raises(ShapeError):
        linearize(call, V)


@pytest.mark.parametrize("call, help", [
    (lambda x: mg.quantile(x, 0.5, method="nearest"), "method 'linear'"), (lambda x: mg.median(x[:0]), "at least one element"), (lambda x: mg.gradient(x, 1.0, 2.0), "no spacing, one, or one for each axis"), (lambda x: mg.gradient(x, edge_order=2), "edge_order 1 alone"),
    (lambda x: mg.max(x, where=x > 0), "initial=value"), (lambda x: mg.pad(x, 1, "mean"), "constant, edge, reflect, symmetric or wrap"), (lambda x: mg.diag(x[None, None]), r"diagonal\(v\)")])
def test_mistakes_have_a_remedy(call, help):
    with pytest.raises(ShapeError, match=rf"\n  help: .*{help}"):
        linearize(call, V)


@pytest.mark.parametrize("name", "sum mean var max min argmax prod cumsum cumprod sort diff gradient average quantile partition flip squeeze expand_dims".split())
def test_a_wrong_axis_is_told_by_name(name):
    for axis in (7, -8, 0.5, "x"):
        with pytest.raises(ShapeError, match=rf"^{name}\(x\): axis"):
            grad(lambda x, axis=axis: getattr(mg, name)(x, *{"quantile": (0.5,), "partition": (1,)}.get(name, ()), axis=axis))(X)


def test_other_mistakes_are_explained():
    with pytest.raises(DTypeError, match="out"):
        grad(lambda x: mg.prod(x, out=np.ones(())))(V)
    with pytest.raises(DTypeError, match="stack"):
        grad(lambda x: mg.floor([x, 1.0]))(1.0)
    with pytest.raises(DTypeError, match="tile"):
        grad(lambda x: mg.sum(mg.tile(x, 1.5)))(V)
    with pytest.raises(ShapeError, match="there is no mode 'maximum'"):
        mg.pad(V, 1, "maximum")
    with pytest.raises(DTypeError, match=r"c_\[...\]: beside traced values text is not taken"):
        grad(lambda x: mg.sum(mg.c_["0,2", x]))(V)
    for f in (mg.real, mg.imag, mg.angle, mg.conj, mg.real_if_close, lambda x: x.real, lambda x: x.imag):
        with pytest.raises(DTypeError, match="only real numbers have derivatives here"):
            grad(lambda x, f=f: mg.sum(f(x * 1j)))(V)
    for axis, start in ((0, 2), (1, 0), (0, -2)):
        with pytest.raises(ShapeError, match="rollaxis.*out of bounds"):
            grad(lambda x, axis=axis, start=start: mg.sum(mg.rollaxis(x, axis, start)))(V)
    with pytest.raises(ShapeError, match="holds nowhere"):
        mg.max(V, where=V > 0)


def test_plain_arguments_are_numpys_own(device):
    """Also keywords that only NumPy knows, integers and arrays of the module in use."""
    n = mg.xp.arange(6)
    assert mg.r_["-1", [1, 2], 3].tolist() == [1, 2, 3] and mg.pad(n[:2], 1, 7).tolist() == mg.pad(n[:2], 1, constant_values=7).tolist() == [7, 0, 1, 7] and mg.angle(-1.0, True) == 180.0
    assert mg.real(1 + 2j) == 1.0 and mg.conj(1j) == -1j and mg.iscomplex([1, 1j]).tolist() == [False, True] and backend.on_device(mg.r_[n, n]) == (device == "cupy")
    for y in (mg.array([[1, 2], [3, 4]]), mg.cumsum(n), mg.roll(n, 1), mg.mod(n, 4), mg.hstack([n, n]), mg.sort(n), mg.floor_divide(n, 2), mg.sign(n)):
        assert backend.on_device(y) == (device == "cupy") and y.dtype.kind == "i"
    np.testing.assert_array_equal(mg.pad(np.ones((1, 1)), 1, 2.5), np.pad(np.ones((1, 1)), 1, constant_values=2.5))
    assert mg.max([1, 2], initial=3) == 3 and mg.min([], initial=2) == 2 and mg.mean(2.5, where=True) == mg.mean([2.5], where=[True]) == 2.5 and mg.max(np.array([True]), initial=False).dtype == bool
    assert mg.array(np.ones(2)).__class__ is np.ndarray and mg.asarray(n) is n
    assert mg.median(np.ones(3), overwrite_input=True) == 1.0 and mg.prod(a=np.array([2, 3])) == 6 and mg.quantile(np.arange(3.0), 0.4, method="nearest") == 1.0


def test_numbers_go_with_the_arrays_of_the_module(device):
    """They fill, begin and end arrays of a GPU, too."""
    for f in (lambda m, x: m.sum(x, axis=0, initial=2.5), lambda m, x: m.max(x, axis=1, initial=2.5, where=x > 1), lambda m, x: m.min(x[:0], axis=0, initial=2), lambda m, x: m.prod(x, initial=2.0), lambda m, x: m.full_like(x, 2.5) * x,
              lambda m, x: m.diff(x, prepend=0.5, append=x[:, :1]), lambda m, x: m.pad(x, 1, "reflect"), lambda m, x: m.pad(x, 1, "constant", constant_values=2.0), lambda m, x: between(m, x, 1, 3), lambda m, x: m.argmax(x, axis=1, keepdims=True) * x, lambda m, x: m.mean(x, where=x > 0)):
        x = mg.xp.asarray(X)
        for y in (f(mg, x), jvp(lambda x, f=f: f(mg, x), (x,), (x,))[0]):
            assert backend.on_device(y) == (device == "cupy")
            np.testing.assert_allclose(mg.to_host(y), f(np, X), strict=True)


EXTREME = {"none": np.zeros(0), "no rows": np.zeros((0, 3)), "one": np.array([3.0]), "ties": np.array([1.0, 1.0, 0.0]), "NaN": np.array([1.0, np.nan, 0.0]),
           "infinities": np.array([1.0, np.inf, -np.inf]), "infinity": np.array([1.0, 2.0, np.inf]), "all NaN": np.array([[np.nan, 1.0], [np.nan, np.nan]]),
           "far apart": np.array([0.0, 1e20, 1.0]), "half": np.full(4, 3e4, np.float16), "float32": np.arange(4, dtype=np.float32) - 1, "view": np.arange(6.0).reshape(2, 3).T}
CALLS = {name: [(), (0,), (-1,)] for name in "sum mean max min var std median nansum nanmax nanmin ptp average cumsum sort diff argmax argmin flip".split()} | {
    "percentile": [(30,), ([30, 70],)], "quantile": [(0.3,)], "gradient": [(), (2.0,), (2,)], "clip": [(0, 1), (None, 1)], "roll": [(1,), (5, -1)], "repeat": [(2,), (0,)],
    "tile": [(2,), (0,)], "mod": [(2.0,), (np.inf,)], "fmod": [(2.0,)], "hypot": [(1.0,), (np.inf,)], "arctan2": [(0.0,)], "logaddexp": [(0.0,), (np.inf,)],
    "maximum": [(1.0,), (np.nan,)], "power": [(0,), (2,), (-1,), (0.5,)], "pad": [(1,)], "take": [([0, -1],), ([],)], "append": [(1.0,)], "outer": [([1.0, 2.0],)],
    "nan_to_num": [()], "sinc": [()], "gelu": [()], "arcsinh": [()], "logsumexp": [(), (0,)], "softmax": [()]}


@pytest.mark.parametrize("kind", EXTREME)
@pytest.mark.parametrize("name", CALLS)
def test_tracing_changes_no_value(name, kind):
    """Values, shapes and types are those of plain arrays; so is whether there is a result, but for medians of nothing."""
    f, x, told = getattr(mg, name), EXTREME[kind], {}

    def outcome(call):
        try:
            return call()
        except MinigradError:
            return None
    for args in CALLS[name]:
        def traced(x, args=args):
            told["y"] = mg.stop_gradient(f(x, *args))
            return 0.0
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            plain = outcome(lambda args=args: f(x.copy(), *args))
            found = outcome(lambda traced=traced: jvp(traced, (x.copy(),), (x * 0 + 1,)) and told["y"])
        if name in ("median", "percentile", "quantile") and (not x.size or name != "median" and np.isinf(x).any()) or name == "average" and kind == "no rows":
            continue                                        # NumPy interpolates between infinities in another way, 0 times them included
        assert (plain is None) == (found is None), args
        if plain is not None:
            assert np.shape(plain) == np.shape(found) and np.asarray(plain).dtype == np.asarray(found).dtype
            np.testing.assert_allclose(found, plain, rtol=1e-3 if kind == "half" else 1e-6)


def test_the_sum_of_no_weights_is_the_number_of_elements():
    """Also where the average is infinite."""
    for x, axis in ((np.array([1.0, np.inf]), None), (X, 0), (X, (0, 1))):
        with np.errstate(all="ignore"):
            told = []
            jvp(lambda x, axis=axis: told.append(mg.stop_gradient(mg.average(x, axis, returned=True))) or mg.sum(x), (x,), (x,))
            for found, plain in zip(told[0], np.average(x, axis, returned=True), strict=True):
                np.testing.assert_array_equal(found, plain)


SEEN = []
PROBE = mg.Primitive(lambda x: x * 1, lambda i, y, x: mg.LinearMap(lambda t: SEEN.append(t.dtype) or t, lambda g: SEEN.append(g.dtype) or g), name="probe")
BINARY = [mg.logaddexp, mg.logaddexp2, mg.hypot, mg.arctan2, mg.power, mg.divide, mg.multiply, mg.subtract, mg.maximum, mg.fmod, mg.mod, mg.copysign, special.xlogy,
          special.xlog1py, special.betaln, special.beta]
WITH_NUMBERS = {f"{f.__name__} {k}": (lambda x, f=f, k=k: f(*((x, 2.0) if k else (2.0, x)))) for f in BINARY for k in (0, 1)} | {
    "where": lambda x: mg.where(x > 1.5, x, 0.0), "percentile": lambda x: mg.percentile(x, 30), "quantile": lambda x: mg.quantile(x, 0.25), "pad": lambda x: mg.pad(x, 1, constant_values=2.0),
    "logcdf": lambda x: stats.norm.logcdf(x, 0.0, 1.5), "logpdf": lambda x: stats.gamma.logpdf(x, 2.0), "sf": lambda x: stats.gamma.sf(x, 2.0), "logsumexp": lambda x: special.logsumexp(x, b=2.0),
    "gradient": lambda x: mg.gradient(x, 0.5), "elu": lambda x: mg.elu(x, 1.0)}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", WITH_NUMBERS)
def test_a_number_makes_nothing_wider(name, dtype):
    """Value, tangent and cotangent of a float32 array beside a number are of float32, also before the cotangent reaches the argument, whose type would hide it."""
    f, x = WITH_NUMBERS[name], np.array([0.5, 1.0, 1.75], dtype)
    SEEN.clear()
    jvp(lambda x: PROBE(f(PROBE(x))), (x,), (x,))
    grad(lambda x: mg.sum(f(PROBE(x))))(x)
    assert mg.asarray(f(x)).dtype == dtype and {*SEEN} == {np.dtype(dtype)} and len(SEEN) == 3


@pytest.mark.parametrize("num", [-1, 2.5, True])
def test_linspace_needs_a_number_of_points(num):
    with pytest.raises(mg.ShapeError, match=f"linspace: num = {num} is not an integer, 0 or more"):
        mg.grad(lambda a: mg.sum(mg.linspace(a, 2.0, num)))(1.0)


@pytest.mark.parametrize("dtype", [None, "float64", "float32"])
def test_an_array_of_an_array_is_a_copy(dtype):
    """As in NumPy, also of one in a list, or of the same type."""
    for given in (np.ones(3), [np.ones(3)], np.ones((2, 3)).T):
        y = mg.array(given, dtype)
        y += 1.0
        assert (np.asarray(given) == 1.0).all() and (y == 2.0).all() and y.dtype == (dtype or float)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_lies_in_the_other_triangle_is_not_read(bad):
    """Neither in a value nor in a derivative, plain or traced."""
    a = np.array([[2.0, 0.5, 0.3], [0.5, 3.0, -0.4], [0.3, -0.4, 1.5]])
    lower, upper = np.where(np.tri(3, dtype=bool), a, bad), np.where(np.tri(3, dtype=bool).T, a, bad)
    b = np.arange(3.0)
    for f, x in ((mg.tril, lower), (mg.triu, upper), (lambda x: mg.linalg.solve_triangular(x, b, lower=True), lower), (lambda x: mg.linalg.solve_triangular(x, b), upper),
                 (mg.linalg.cholesky, lower), (lambda x: mg.linalg.cholesky(x, upper=True), upper), (lambda x: mg.linalg.eigh(x).eigenvalues, lower),
                 (lambda x: mg.linalg.eigh(x, "U").eigenvalues, upper), (mg.linalg.eigvalsh, lower), (lambda x: mg.linalg.eigvalsh(x, "U"), upper)):
        y, J = linearize(f, x)
        expected = linearize(f, np.where(np.isfinite(x), x, a))
        np.testing.assert_allclose(y, expected[0], rtol=1e-12)
        np.testing.assert_allclose(f(x), expected[0], rtol=1e-12)
        np.testing.assert_allclose(J.pull(y), expected[1].pull(expected[0]), rtol=1e-12, atol=1e-15)
        assert not J.pull(y)[~np.isfinite(x)].any()


@pytest.mark.parametrize("name, args", [("vstack", (5,)), ("hstack", (5,)), ("array_split", (np.ones(3), None)), ("trace", (np.ones((2, 2)), "x")), ("nanmax", (np.ones(3), "x"))])
def test_plain_arguments_that_numpy_refuses_are_explained_in_its_words(name, args):
    """... and not by what the form for traced values stumbles over."""
    try:
        expected = getattr(np, name)(*args)
    except TypeError as error:
        with pytest.raises(mg.MinigradError) as caught:
            getattr(mg, name)(*args)
        assert str(error).splitlines()[0] in str(caught.value)
    else:
        np.testing.assert_array_equal(getattr(mg, name)(*args), expected)


@pytest.mark.parametrize("name", ["sum", "prod", "max", "min"])
@pytest.mark.parametrize("how", [{"axis": 1}, {"axis": (0, 1)}, {"axis": -2}, {}])
@pytest.mark.parametrize("keepdims", [False, True])
def test_a_mask_and_axes_that_are_kept_go_together(name, how, keepdims):
    x = np.random.default_rng(0).normal(size=(3, 4))
    for mask in (x > 0.3, [True, False, True, True], False):
        how = {**how, "keepdims": keepdims, "initial": 0.5, "where": mask}
        y, J = mg.linearize(lambda x: getattr(mg, name)(x, **how), x)
        np.testing.assert_allclose(y, getattr(np, name)(x, **how), strict=True)
        h = 1e-6 * np.cos(np.arange(12.0)).reshape(3, 4)
        np.testing.assert_allclose(J.push(h), (getattr(np, name)(x + h, **how) - getattr(np, name)(x - h, **how)) / 2, atol=1e-9)
