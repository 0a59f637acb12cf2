"""minigrad.stats: SciPy's values and types, derivatives by all arguments that have one, and edges of the supports."""
import copy
import pickle

import numpy as np
import pytest
from scipy import stats as scipy

import minigrad as mg
from minigrad import DTypeError, TraceError, grad, stats
from minigrad.check import check_derivatives

X, P, Q = np.array([0.3, 0.7, 0.45]), np.array([1.5, 2.5, 3.1]), np.array([[2.1], [0.9]])
PARAMETERS = {"norm": (), "t": (P,), "gamma": (P,), "chi2": (Q,), "beta": (P, Q)}
METHODS = "logpdf pdf cdf sf logcdf logsf".split()
COV = np.array([[2.0, 0.3, -0.4], [0.3, 1.5, 0.2], [-0.4, 0.2, 1.0]])


def of(name, method):
    return getattr(getattr(stats, name), method), getattr(getattr(scipy, name), method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", PARAMETERS)
def test_distributions(device, name, method):
    (f, g), parameters = of(name, method), PARAMETERS[name]
    on = [mg.xp.asarray(p) for p in parameters]
    if device == "cupy" and name == "t" and "pdf" not in method:
        with pytest.raises(DTypeError, match="stdtr"):
            f(mg.xp.asarray(X), *on)
        return
    for x in (X, -X, 4.0 * X + 1.0, np.array([0.0, np.nan, 1.0]), np.array([np.inf, -np.inf, 0.2])):
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(mg.to_host(f(mg.xp.asarray(x), *on, 0.1, 1.3)), g(x, *parameters, 0.1, 1.3), rtol=1e-11)
    check_derivatives(lambda x, loc, scale: f(x, *on, loc, scale), *map(mg.xp.asarray, (X + 0.1, 0.05, 1.2)), order=3)
    assert f(mg.xp.asarray(X, "float32"), *[2.0] * len(on)).dtype == "float32"
    if on and "pdf" in method:
        check_derivatives(lambda *on: f(mg.xp.asarray(X), *on), *on, order=3)
    elif on:
        with pytest.raises(TraceError, match="there is no derivative by this argument"):
            grad(lambda p: mg.sum(f(mg.xp.asarray(X), *[p] * len(on))))(mg.xp.asarray(1.5))


def test_names_of_parameters_are_scipys():
    assert stats.gamma.logpdf(1.2, a=2, scale=3.0) == pytest.approx(scipy.gamma.logpdf(1.2, a=2, scale=3.0))
    assert stats.beta.cdf([0.2, 0.4], b=2, a=3)[1] == pytest.approx(scipy.beta.cdf(0.4, b=2, a=3))
    np.testing.assert_allclose(stats.gamma.pdf([1.2, 2.0], [2, 3.0]), scipy.gamma.pdf([1.2, 2.0], [2, 3.0]))
    for wrong in (lambda: stats.gamma.pdf(1.0), lambda: stats.norm.cdf(1.0, 0.0, 1.0, 2.0), lambda: stats.t.pdf(1.0, dof=2)):
        with pytest.raises(DTypeError, match=r"^stats\.\w+: functions of x, "):
            wrong()


@pytest.mark.parametrize("method", [name.replace("pdf", "pmf") for name in METHODS])
def test_poisson(device, method):
    f, g = of("poisson", method)
    k, whole = np.array([0.0, 3.0, 2.5, -1.0, -0.5, -3.0]), mg.xp.asarray([0.0, 3.0, 5.0])
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(mg.to_host(f(mg.xp.asarray(k), mg.xp.asarray(Q))), g(k, Q), rtol=1e-12)
    np.testing.assert_allclose(f(np.array([2, 3]), 1.5, loc=1), g([2, 3], 1.5, loc=1), rtol=1e-12)
    check_derivatives(lambda mu: f(whole, mu), mg.xp.asarray(Q), order=3)


EDGED = {"gamma": (1.0,), "chi2": (2.0,), "beta": (1.0, 1.0), "poisson": (1.5,)}


@pytest.mark.parametrize("name", EDGED)
def test_at_the_edges_and_outside(name):
    """At an edge the slope of cdf is the density; outside, values are SciPy's and all derivatives 0; NaN stays NaN."""
    distribution, theirs, parameters = getattr(stats, name), getattr(scipy, name), EDGED[name]
    density, values = ("logpmf" if name == "poisson" else "logpdf"), [-3.0, -0.25, np.nan, *([1.5, 7.0] if name == "beta" else [])]
    with np.errstate(all="ignore"):
        for method in (density, density[3:], "cdf", "sf", "logcdf", "logsf"):
            f, g = getattr(distribution, method), getattr(theirs, method)
            np.testing.assert_array_equal(f(np.array(values), *parameters), g(values, *parameters))
            for x in (x for x in values if x == x):
                assert grad(lambda x, f=f: f(x, *parameters))(x) == 0.0
                if name == "poisson" or method in (density, density[3:]):
                    assert all(grad(f, k)(x, *parameters) == 0.0 for k in range(1, 1 + len(parameters)))
    if name != "poisson":
        for edge in [0.0, 1.0][:1 + (name == "beta")]:
            np.testing.assert_allclose(grad(lambda x: distribution.cdf(x, *parameters))(edge), theirs.pdf(edge, *parameters), rtol=1e-12)
    else:
        with np.errstate(all="ignore"):                     # nothing ever happens
            np.testing.assert_array_equal(distribution.cdf(np.array([-1.0, 0.0, 2.0]), 0.0), [0.0, 1.0, 1.0])
            np.testing.assert_array_equal(distribution.logsf(np.array([-1.0]), 0.0), [0.0])


def test_dirichlet_takes_lists():
    assert stats.dirichlet.logpdf([0.2, 0.8], [1, 2]) == pytest.approx(scipy.dirichlet.logpdf([0.2, 0.8], [1, 2]))


@pytest.mark.parametrize("method", ["pdf", "logpdf"])
def test_of_vectors(device, method):
    f, g = of("dirichlet", method)
    x = np.random.default_rng(0).dirichlet(P, 4).T
    np.testing.assert_allclose(mg.to_host(f(mg.xp.asarray(x), mg.xp.asarray(P))), g(x, P), rtol=1e-11)
    np.testing.assert_allclose(mg.to_host(f(mg.xp.asarray(x[:2]), [1.5, 2.5, 3.1])), g(x[:2], P), rtol=1e-11)
    check_derivatives(f, mg.xp.asarray(x), mg.xp.asarray(P), order=3)


@pytest.mark.needs("cusolver")
@pytest.mark.parametrize("method", ["pdf", "logpdf"])
def test_multivariate_normal(device, method):
    f, g = of("multivariate_normal", method)
    x, mean, cov = np.random.default_rng(1).normal(size=(2, 4, 3)), P, COV
    on = [mg.xp.asarray(part) for part in (x, mean, cov)]
    for singular in (False, True):
        np.testing.assert_allclose(mg.to_host(f(*on, allow_singular=singular)), g(x, mean, cov, allow_singular=singular), rtol=1e-11)
    check_derivatives(lambda x, mean, cov: f(x, mean, cov @ mg.swapaxes(cov, 0, 1)), *on, order=2)
    flat = np.diag([1.5, 0.0, 2.0])                         # what varies along two axes alone
    np.testing.assert_allclose(mg.to_host(f(mg.xp.asarray(P), on[1], mg.xp.asarray(flat), allow_singular=True)), g(P, P, flat, allow_singular=True), rtol=1e-11)
    np.testing.assert_allclose(mg.to_host(stats.multivariate_normal.entropy(on[1], on[2])), scipy.multivariate_normal.entropy(mean, cov), rtol=1e-12)


def test_a_distribution_is_copied_and_pickled_by_its_name():
    for distribution in (stats.norm, stats.t, stats.gamma, stats.chi2, stats.beta, stats.poisson, stats.dirichlet, stats.multivariate_normal):
        assert copy.deepcopy(distribution) is distribution is pickle.loads(pickle.dumps(distribution))


EDGES = [                                                   # a density or an integral by x, at an end of its support, and its one-sided limits
    (lambda x: stats.gamma.pdf(x, 2.0), 0.0), (lambda x: stats.gamma.pdf(x, 1.0), 0.0), (lambda x: stats.gamma.pdf(x, 3.0), 0.0), (lambda x: stats.gamma.pdf(x, 3.0, 0.0, 2.0), 0.0),
    (lambda x: stats.chi2.pdf(x, 4.0), 0.0), (lambda x: stats.chi2.pdf(x, 2.0), 0.0), (lambda x: stats.beta.pdf(x, 2.0, 2.0), 0.0), (lambda x: stats.beta.pdf(x, 2.0, 3.0), 1.0),
    (lambda x: stats.beta.pdf(x, 1.0, 1.0), 1.0), (lambda x: stats.beta.pdf(x, 4.0, 1.0), 1.0), (lambda x: stats.poisson.pmf(1.0, x), 0.0), (lambda x: stats.poisson.pmf(0.0, x), 0.0),
    (lambda x: stats.poisson.pmf(3.0, x), 0.0), (lambda x: stats.gamma.cdf(x, 2.0), 0.0), (lambda x: stats.beta.cdf(x, 2.0, 2.0), 0.0), (lambda x: stats.beta.sf(x, 3.0, 2.0), 1.0),
    (lambda x: stats.chi2.sf(x, 4.0), 0.0)]


@pytest.mark.parametrize("k", range(len(EDGES)))
def test_derivatives_at_the_ends_of_the_support(k):
    """Of the first and the second order: the limits from inside, as differences have them; and between the ends nothing is new."""
    f, end = EDGES[k]
    inside = 1e-6 if end == 0.0 else 1.0 - 1e-6
    for g, slack in ((f, 1e-4), (grad(f), 1e-4), (grad(grad(f)), 1e-3)):
        at, near = float(g(end)), float(g(inside))
        assert np.isfinite(at) and abs(at - near) < slack * max(1.0, abs(near)), (at, near)


@pytest.mark.parametrize("df", [1e-3, 1.0, 60.0, 61.0, 1e3, 1e6, 1e8])
def test_the_derivative_by_the_degrees_of_freedom(df):
    """Against its series for large df; its terms are a thousand times larger at 1e6, and were all of it rounding at 1e7."""
    x = 1.5
    found = float(grad(lambda d: stats.t.logpdf(x, d))(df))
    if df < 100.0:
        h = 1e-6 * df
        assert found == pytest.approx((scipy.t.logpdf(x, df + h) - scipy.t.logpdf(x, df - h)) / (2.0 * h), rel=1e-5)
    else:
        assert found == pytest.approx(-(x ** 4 - 2 * x * x - 1) / (4 * df * df) * 1.0, rel=2.0 / df * 10 + 1e-7)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_densities_of_vectors_keep_their_type(dtype):
    """Also beside numbers and lists of Python, and with a covariance that is singular."""
    x, cov, flat = P.astype(dtype), COV.astype(dtype), np.diag([1.5, 0.0, 2.0]).astype(dtype)
    share = (x / x.sum()).astype(dtype)
    calls = [lambda x: stats.multivariate_normal.logpdf(x, P.astype(dtype), cov), lambda x: stats.multivariate_normal.pdf(x, P.astype(dtype), flat, allow_singular=True),
             lambda x: stats.dirichlet.logpdf(x / x.sum(), [1.5, 2.5, 3.1]), lambda x: stats.dirichlet.pdf((x / x.sum())[:2], P.astype(dtype)), lambda x: stats.dirichlet.pdf(share, x)]
    for f in calls:
        y, pull = mg.vjp(f, x)
        assert y.dtype == f(x).dtype == pull(y)[0].dtype == dtype
    assert stats.multivariate_normal.entropy(x, cov).dtype == dtype


def test_a_parameter_given_twice_is_refused():
    """By position and by name: one of them would be lost."""
    for f in (stats.norm.logpdf, stats.norm.cdf, stats.norm.pdf):
        with pytest.raises(DTypeError, match="functions of x, loc, scale; given are x"):
            f(1.0, 0.5, loc=0.2)


@pytest.mark.parametrize("name, x, parameters", [
    ("norm", 12.0, ()), ("norm", 39.0, ()), ("norm", 300.0, ()), ("beta", 1.0 - 1e-4, (2.0, 5.0)), ("beta", 1.0 - 1e-9, (0.5, 3.0)), ("gamma", 80.0, (2.0,)), ("chi2", 200.0, (3.0,)), ("t", 1e5, (3.0,)),
    ("poisson", 60.0, (2.0,))])
def test_what_lies_far_out_keeps_its_digits(name, x, parameters):
    """1 - cdf would be 0 there, or have lost all digits: sf and logsf are not made of it."""
    ours, theirs = getattr(stats, name), getattr(scipy, name)
    with np.errstate(divide="ignore"):
        for method in ("logsf", *["sf"] * (x != 300.0)):
            np.testing.assert_allclose(getattr(ours, method)(x, *parameters), getattr(theirs, method)(x, *parameters), rtol=1e-9)
    if name == "norm":
        for f, at in ((stats.norm.logsf, x), (stats.norm.logcdf, -x)):
            np.testing.assert_allclose(abs(grad(f)(at)), x + 1.0 / (x + 2.0 / (x + 3.0 / (x + 4.0 / x))), rtol=1e-6)


@pytest.mark.parametrize("size", [1e-12, 1e-6, 1.0, 1e8])
def test_which_eigenvalues_are_0_does_not_depend_on_the_unit(size):
    u = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    cov, x = (u * np.array([2.0, 0.5, 0.0])) @ u.T * size, u[:, :2] @ np.array([0.3, -0.4]) * size ** 0.5
    found = stats.multivariate_normal.logpdf(x, np.zeros(3), cov, allow_singular=True)
    np.testing.assert_allclose(found, -0.5 * (0.09 / 2.0 + 0.16 / 0.5 + np.log(size ** 2) + 2.0 * np.log(2.0 * np.pi)), rtol=1e-9)
