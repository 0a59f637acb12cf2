"""minigrad.special: SciPy's values and types, the laws of derivatives to third order, and what is refused."""
import importlib
import math

import numpy as np
import pytest
from scipy import special as scipy

import minigrad as mg
from minigrad import DTypeError, TraceError, backend, grad, special
from minigrad.check import check_derivatives
from minigrad.errors import RequirementError

SIGNED, ABOVE, ANY, UNIT = np.array([0.4, 3.3, -0.6]), np.array([0.3, 1.7, 4.2]), np.array([0.3, -1.2, 2.0]), np.array([0.3, 0.9, 0.5])
ONE = {**dict.fromkeys("erf erfc ndtr log_ndtr i0 i1 j0 j1 expit".split(), ANY), **dict.fromkeys("gammaln digamma psi gamma rgamma gammasgn".split(), SIGNED),
       **dict.fromkeys("y0 y1".split(), ABOVE), "logit": UNIT, "erfinv": UNIT - 0.6, "erfcinv": 2.0 * UNIT}
TWO = {"beta": (ABOVE, UNIT), "betaln": (ABOVE, UNIT), "xlogy": (ANY, ABOVE), "xlog1py": (ANY, -UNIT)}
ORDERED = {**dict.fromkeys("jv iv ive".split(), ((1.5, np.array([[2], [0]])), ABOVE)), "jn": ((3, np.array([[2], [0]])), ABOVE), "yn": ((3, 0, np.array([[2], [-1]])), ABOVE),
           **dict.fromkeys("gammainc gammaincc".split(), ((1.0, np.array([[2.2], [0.4]])), ABOVE)), "stdtr": ((3.0, np.array([[2.2], [0.4]])), ANY)}   # by the last argument alone
LACKED = {"jv", "jn", "iv", "ive", "stdtr"}                 # ... by CuPy, and with them some derivatives:
ORDERS = {"j0": 1, "i0": 1, "j1": 0, "i1": 0}               # to this order it has them
EXACT = {"float64": 1e-12, "float32": 1e-5, "float16": 2e-2}


def same(f, g, xs):
    """Compare values and types with SciPy's."""
    for dtype, rtol in EXACT.items():
        cast = [x.astype(dtype) for x in xs]
        y = f(*map(mg.xp.asarray, cast))
        assert y.dtype == dtype
        np.testing.assert_allclose(mg.to_host(y), g(*cast), rtol=rtol)


@pytest.mark.parametrize("name", ONE)
def test_functions_of_one_number(device, name):
    f, x = getattr(special, name), ONE[name]
    same(f, getattr(scipy, name), [x])
    order = ORDERS.get(name, 3) if device == "cupy" else 3
    if order:
        check_derivatives(f, mg.xp.asarray(x), order=order)
    else:
        with pytest.raises(DTypeError, match="has no attribute"):
            grad(f)(mg.xp.asarray(1.0))
    assert f(x[0]) == getattr(scipy, name)(x[0]) and f([0.5, 0.5])[1] == getattr(scipy, name)(0.5) and isinstance(f(0.5), float)


@pytest.mark.parametrize("name", TWO)
def test_functions_of_two_numbers(device, name):
    f, xs = getattr(special, name), TWO[name]
    same(f, getattr(scipy, name), xs)
    check_derivatives(f, *map(mg.xp.asarray, xs), order=3)
    check_derivatives(f, mg.xp.asarray(xs[0][:, None]), mg.xp.asarray(xs[1]), order=2)


@pytest.mark.parametrize("name", ORDERED)
def test_functions_with_an_order(device, name):
    (orders, x), f, g = ORDERED[name], getattr(special, name), getattr(scipy, name)
    if device == "cupy" and name in LACKED:
        with pytest.raises(DTypeError, match=f"has no attribute '{name.replace('jn', 'jv')}'"):
            f(2, mg.xp.asarray(x))
        return
    for n in orders:
        on = mg.xp.asarray(n) if np.ndim(n) else n
        np.testing.assert_allclose(mg.to_host(f(on, mg.xp.asarray(x))), g(n, x), rtol=1e-12)
        check_derivatives(lambda x, on=on: f(on, x), mg.xp.asarray(x), order=3)
    assert f(2, mg.xp.ones(2, "float16")).dtype == "float16"
    with pytest.raises(TraceError, match=rf"{name.replace('jn', 'jv')}\(\w+, x\): there is no derivative by this|stdtr\(df, t\)"):
        grad(lambda n: f(n, 1.5))(2.0)


def test_betainc(device):
    a, b, x = map(mg.xp.asarray, (ABOVE, ABOVE[::-1].copy()[:, None], UNIT))
    np.testing.assert_allclose(mg.to_host(special.betainc(a, b, x)), scipy.betainc(ABOVE, ABOVE[::-1, None], UNIT), rtol=1e-12)
    for a, b in ((a, b), (2.0, 0.5)):
        check_derivatives(lambda x, a=a, b=b: special.betainc(a, b, x), x, order=3)
    for f in (lambda a: special.betainc(a, 2.0, 0.5), lambda b: special.betainc(2.0, b, 0.5)):
        with pytest.raises(TraceError, match=r"betainc\(a, b, x\)"):
            grad(f)(1.5)


def test_orders_of_negative_numbers():
    for name in ("jv", "iv", "ive"):
        check_derivatives(lambda x, name=name: getattr(special, name)(2, x), -ABOVE, order=2)


def test_edges_have_no_nan():
    for f, x, expected in ((lambda x: special.xlogy(0.0, x), 0.0, 0.0), (lambda x: special.gammainc(1.0, x), 0.0, 1.0), (lambda x: special.betainc(1.0, 1.0, x), 1.0, 1.0),
                           (special.log_ndtr, -40.0, 40.02496887), (special.erfcinv, 1e-300, -math.sqrt(math.pi) / 2.0 * math.exp(scipy.erfcinv(1e-300) ** 2))):
        np.testing.assert_allclose(grad(f)(x), expected, rtol=1e-5)
    assert special.xlogy(0.0, 0.0) == special.xlog1py(0.0, -1.0) == 0.0
    np.testing.assert_allclose(grad(lambda a: grad(lambda x: special.xlogy(a, x))(2.0))(0.0), 0.5)


@pytest.mark.parametrize("x", [-1e10, -1e6, -300.0, -40.0, -5.0 - 1e-9, -5.0 + 1e-9, -1.0, 0.0, 4.0])
def test_log_ndtr_far_below_0(x):
    """Its slope is s = pdf / cdf, the second derivative -s (x + s): far below, |x| + 1 / |x| - 2 / |x|^3 ... and -1 + 1 / x^2 - 6 / x^4 ..."""
    first, second, third = (f(x) for f in (grad(special.log_ndtr), grad(grad(special.log_ndtr)), grad(grad(grad(special.log_ndtr)))))
    s = np.sqrt(2 / np.pi) / scipy.erfcx(-x / np.sqrt(2))
    np.testing.assert_allclose(first, s, rtol=1e-13)
    if x < -30:
        np.testing.assert_allclose(second, -1 + 1 / x**2 - 6 / x**4 + 50 / x**6, rtol=1e-6)
        np.testing.assert_allclose(third, -2 / x**3 + 24 / x**5, rtol=1e-2)
    else:
        np.testing.assert_allclose(second, -s * (x + s), rtol=1e-11)
        np.testing.assert_allclose(third, s * (x + s) * (x + 2 * s) - s, rtol=1e-9, atol=1e-12)
    for dtype, rtol in ((np.float32, 1e-5), (np.float16, 5e-3)):
        if abs(x) < float(np.finfo(dtype).max):
            found = grad(special.log_ndtr)(dtype(x))
            assert found.dtype == dtype
            np.testing.assert_allclose(found, s, rtol=rtol, atol=1e-4 if dtype is np.float16 else 0)


def test_integers_and_lists_are_taken_as_by_scipy():
    for given in ([1, 2, 3], np.array([1, 2, 3])):
        for b in (0.5, [0.5, 1.5, 2.5], 2, [1, 0, 2]):
            np.testing.assert_allclose(special.logsumexp(given, b=b), scipy.logsumexp(given, b=b), rtol=1e-14)
        for f in (special.xlogy, special.xlog1py, special.beta, special.betaln, special.gammainc):
            for other in (2, 0.5, [0.5, 2.0, 1.0]):
                np.testing.assert_allclose(f(given, other), getattr(scipy, f.__name__)(given, other), rtol=1e-14)
                np.testing.assert_allclose(f(other, given), getattr(scipy, f.__name__)(other, given), rtol=1e-14)


def test_polygamma():
    x = np.array([0.4, 3.3, 1.0])
    for n in range(4):
        np.testing.assert_allclose(special.polygamma(n, x), scipy.polygamma(n, x), rtol=1e-12)
        np.testing.assert_allclose(grad(lambda x, n=n: mg.sum(special.polygamma(n, x)))(x), scipy.polygamma(n + 1, x), rtol=1e-12)


def test_multigammaln(device):
    for d in (1, 2, 4):
        np.testing.assert_allclose(special.multigammaln(2.6, d), scipy.multigammaln(2.6, d), rtol=1e-12)
        check_derivatives(lambda a, d=d: special.multigammaln(a, d), mg.xp.asarray(ABOVE + 2.0), order=3)
    assert math.isnan(special.multigammaln(1.5, 4))
    np.testing.assert_allclose(mg.to_host(special.multigammaln([2.0, 3.0], 2)), scipy.multigammaln([2.0, 3.0], 2), rtol=1e-12)


A, B = np.random.default_rng(0).normal(size=(2, 3, 4))


@pytest.mark.parametrize("how", [{}, {"axis": 1}, {"axis": (0, 1), "keepdims": True}, {"b": abs(B)}, {"b": abs(B), "axis": -1, "keepdims": True}, {"b": abs(B[0]), "axis": 0}, {"b": B > -0.8, "axis": 0},
                                 {"b": B, "return_sign": True}, {"b": B, "axis": 1, "return_sign": True, "keepdims": True}, {"return_sign": True, "axis": 0}])
def test_logsumexp(device, how):
    on = {key: mg.xp.asarray(value) if key == "b" else value for key, value in how.items()}
    for shift in (0.0, 5000.0, -5000.0):
        for y, expected in zip(mg.tree.flatten(special.logsumexp(mg.xp.asarray(A + shift), **on))[0], mg.tree.flatten(scipy.logsumexp(A + shift, **how))[0], strict=True):
            np.testing.assert_allclose(mg.to_host(y), expected, rtol=1e-12)
            assert y.shape == expected.shape
    check_derivatives(lambda a: mg.tree.flatten(special.logsumexp(a, **on))[0][0], mg.xp.asarray(A), order=3)
    if how.get("b", np.zeros(1)).dtype == float and "b" in how:
        check_derivatives(lambda a, b: mg.tree.flatten(special.logsumexp(a, **{**how, "b": b}))[0][0], mg.xp.asarray(A), on["b"], order=2)


def test_logsumexp_keeps_float32(device):
    a = mg.xp.asarray(A, "float32")
    assert {special.logsumexp(a, return_sign=True)[0].dtype, special.logsumexp(a, 0, [[1.0]]).dtype, special.logsumexp(a, b=2).dtype} == {a.dtype}


def test_logsumexp_of_masks_and_infinities():
    assert special.logsumexp([1.0, 2.0], b=[0.0, 0.0]) == special.logsumexp([-math.inf] * 2, b=[1.0, 0.0]) == -math.inf
    assert special.logsumexp([1e9, 2.0], b=[0.0, 1.0]) == 2.0 and special.logsumexp([math.inf, 2.0], b=[0.0, 1.0]) == 2.0
    np.testing.assert_array_equal(grad(lambda a: special.logsumexp(a, b=[0.0, 1.0]))(np.array([1e9, 2.0])), [0.0, 1.0])
    with np.errstate(invalid="ignore"):
        assert math.isnan(special.logsumexp([1.0, 2.0], b=[1.0, -1.0]))
    assert special.logsumexp(np.zeros((2, 0)), axis=1, b=1.0).tolist() == special.logsumexp(np.zeros((2, 0)), axis=1).tolist() == [-math.inf] * 2


def test_without_scipy_it_is_named(monkeypatch):
    monkeypatch.setattr(importlib, "import_module", lambda name: (_ for _ in ()).throw(ImportError(f"No module named {name}")))
    with pytest.raises(RequirementError, match=r"scipy.special cannot be imported .*\n  help: pip install 'minigrad\[special\]'"):
        special.erf(1.0)


def test_all_are_tested():
    elsewhere = {"betainc", "polygamma", "multigammaln", "logsumexp"}
    assert {*ONE, *TWO, *ORDERED} | elsewhere == {*special.__all__} and backend.scipy_special(1.0) is scipy


@pytest.mark.parametrize("a", [1e-3, 1.0, 29.0, 31.0, 1e3, 1e8, 1e16])
@pytest.mark.parametrize("b", [1e-3, 0.5, 3.0, 1e4])
def test_slopes_of_the_beta_function(a, b):
    """psi(a) - psi(a + b) as a sum of positive terms: that over 1 / (a + k) - 1 / (a + b + k), and the rest of it by an integral."""
    count = 200_000
    k = np.arange(count) + a
    terms = math.fsum(b / k / (k + b)) + math.log1p(b / (a + count)) + 0.5 * b / (a + count) / (a + b + count)
    assert float(grad(lambda a: special.betaln(a, b))(a)) == pytest.approx(-terms, rel=1e-9)
    assert float(grad(lambda b: special.betaln(b, a), 0)(b)) == pytest.approx(float(scipy.psi(b) - scipy.psi(a + b)), rel=1e-9) or a < 31.0


def test_a_factor_of_0_has_a_derivative_in_logsumexp():
    """Where the factor is traced; only a constant 0 masks its element."""
    a, b = np.array([0.3, -1.0, 2.0]), np.array([1.0, 0.0, 0.5])
    expected = np.exp(a) / (b * np.exp(a)).sum()
    np.testing.assert_allclose(grad(lambda b: special.logsumexp(a, b=b))(b), expected, rtol=1e-14)
    np.testing.assert_allclose(grad(lambda a, b: special.logsumexp(a, b=b), 1)(a, b), expected, rtol=1e-14)
    check_derivatives(lambda a, b: special.logsumexp(a, b=b), a, b, order=2)


@pytest.mark.parametrize("a, b", [(31.5, -40.25), (100.5, -0.75), (45.25, -45.75), (31.0, -30.5)])
def test_slopes_of_the_beta_function_where_an_argument_is_negative(a, b):
    expected = [scipy.psi(a) - scipy.psi(a + b), scipy.psi(b) - scipy.psi(a + b)]
    np.testing.assert_allclose(grad(special.betaln, (0, 1))(a, b), expected, rtol=1e-9)
    np.testing.assert_allclose(grad(special.betaln, (1, 0))(b, a), expected, rtol=1e-9)
