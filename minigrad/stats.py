"""Distributions by the names of SciPy, such as minigrad.stats.norm.logpdf(x, loc, scale): derivatives of any order.

There are derivatives of densities by all arguments; of cdf, sf, logcdf and logsf by those that special.py does not
refuse. Edges belong to the support, outside of it all derivatives are 0, and nothing is checked.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import linalg, ops
from . import special as sf
from .boundary import explains
from .box import raw
from .errors import DTypeError, shape
from .ops import exp, floor, log, subtract, sum, where
from .typing import Array

__all__ = ["beta", "chi2", "dirichlet", "gamma", "multivariate_normal", "norm", "poisson", "t"]

LOG_2PI, REAL, POSITIVE = math.log(2.0 * math.pi), (-math.inf, math.inf), (0.0, math.inf)
TINY = 1e-10                # of the largest eigenvalue: what counts as 0
INSIDE = 0.5                # of every support: it stands in for a z outside, where nothing is computed
F = Callable[..., Array]


class _Distribution:
    """A distribution of z = (x - loc) / scale: logpdf, pdf, cdf, sf, logcdf and logsf (x, *names, loc=0, scale=1).

    names: its own, and those of its parameters; support: the least and the largest z; the others: functions
    f(z, *parameters). Without sf it is symmetric: sf(z) = cdf(-z). pdf: the density itself, where that of the
    logarithm has no slope at an end of the support.
    """

    def __init__(self, names: str, support: tuple[float, float], logpdf: F, cdf: F, sf: F | None = None,
                 logcdf: F | None = None, pdf: F | None = None) -> None:
        (self.name, *self.names), self.support, self._log = names.split(), support, logpdf
        self._density = pdf or (lambda z, *p: exp(logpdf(z, *p)))
        below = logcdf or (lambda z, *p: log(cdf(z, *p)))
        above = (lambda z, *p: log(sf(z, *p))) if sf else (lambda z, *p: below(-z, *p))
        self.cdf = self._integral("cdf", cdf, (0.0, 1.0), "Return the probability of a value up to x.")
        self.sf = self._integral("sf", sf or (lambda z, *p: cdf(-z, *p)), (1.0, 0.0),
                                 "Return that of a value beyond x, 1 - cdf.")
        self.logcdf = self._integral("logcdf", below, (-math.inf, 0.0),
                                     "Return log(cdf), exact also where that is small, if it can be.")
        self.logsf = self._integral("logsf", above, (0.0, -math.inf),
                                    "Return log(sf), exact also where that is small, if it can be.")

    def __reduce__(self) -> str:
        return self.name                                    # which is that of a variable here

    def _standard(self, x: Array, args: Sequence[Array], params: Mapping[str, Array]) -> tuple[Array, Any, Array]:
        """Return z, the parameters and the scale. Raises DTypeError where one is missing or unknown."""
        names = [*self.names, "loc", "scale"]
        placed = dict(zip(names, args))
        given = {"loc": 0.0, "scale": 1.0, **placed, **params}
        if given.keys() != {*names} or len(args) > len(names) or placed.keys() & params.keys():
            raise DTypeError(f"stats.{self.name}: functions of x, {', '.join(names)}; given are x, {', '.join(given)}")
        *parameters, loc, scale = [given[name] for name in names]
        z = ops.divide(subtract(x, loc), scale)
        return z, [sf.as_parameter(p, z) for p in parameters], sf.as_parameter(scale, z)

    def _integral(self, name: str, f: F, ends: tuple[float, float], doc: str) -> F:
        """Return a method that is f on the support, and constant outside. ends: its values below and above."""
        def called(x: Array, *args: Array, **params: Array) -> Array:
            z, parameters, _ = self._standard(x, args, params)
            under, over = raw(z) < self.support[0], raw(z) > self.support[1]
            y = f(where(under | over, INSIDE, z), *parameters)
            return where(under, ends[0], where(over, ends[1], y))
        called.__name__, called.__qualname__, called.__doc__ = name, f"{self.name}.{name}", doc
        return called

    def logpdf(self, x: Array, *args: Array, **params: Array) -> Array:
        """Return the logarithm of the density."""
        outside, z, parameters, scale = self._inside(x, args, params)
        return where(outside, -math.inf, self._log(z, *parameters) - log(scale))

    def pdf(self, x: Array, *args: Array, **params: Array) -> Array:
        """Return the density."""
        outside, z, parameters, scale = self._inside(x, args, params)
        return where(outside, 0.0, self._density(z, *parameters) / scale)

    def _inside(self, x: Array, args: Sequence[Array], params: Mapping[str, Array]) -> tuple[Array, Array, Any, Array]:
        """Return where z lies outside of the support, z with INSIDE there, the parameters and the scale."""
        z, parameters, scale = self._standard(x, args, params)
        outside = (raw(z) < self.support[0]) | (raw(z) > self.support[1])
        return outside, where(outside, INSIDE, z), parameters, scale


class _Discrete(_Distribution):
    """A distribution of integers: pmf and logpmf in place of densities."""

    def logpmf(self, x: Array, *args: Array, **params: Array) -> Array:
        """Return the logarithm of the probability of x."""
        return self.logpdf(x, *args, **params)

    def pmf(self, x: Array, *args: Array, **params: Array) -> Array:
        """Return the probability of x."""
        return self.pdf(x, *args, **params)


norm = _Distribution("norm", REAL, lambda z: -z * z / 2.0 - LOG_2PI / 2.0, sf.ndtr, logcdf=sf.log_ndtr)
t = _Distribution("t df", REAL, lambda z, df: sf.log_t(df, z), lambda z, df: sf.stdtr(df, z))
gamma = _Distribution("gamma a", POSITIVE, lambda z, a: sf.log_gamma(a, z), lambda z, a: sf.gammainc(a, z),
                     lambda z, a: sf.gammaincc(a, z), pdf=lambda z, a: sf.gamma_density(a, z))
chi2 = _Distribution("chi2 df", POSITIVE, lambda z, df: sf.log_gamma(df / 2.0, z / 2.0) - math.log(2.0),
                    lambda z, df: sf.gammainc(df / 2.0, z / 2.0), lambda z, df: sf.gammaincc(df / 2.0, z / 2.0),
                    pdf=lambda z, df: sf.gamma_density(df / 2.0, z / 2.0) / 2.0)
beta = _Distribution("beta a b", (0.0, 1.0), lambda z, a, b: sf.log_beta(a, b, z), lambda z, a, b: sf.betainc(a, b, z),
                    lambda z, a, b: sf.betainc(b, a, 1.0 - z), pdf=lambda z, a, b: sf.beta_density(a, b, z))
poisson = _Discrete("poisson mu", POSITIVE, lambda z, mu: where(
    floor(z) < raw(z), -math.inf, sf.log_gamma(floor(z) + 1.0, mu)),
                   lambda z, mu: sf.gammaincc(floor(z) + 1.0, mu), lambda z, mu: sf.gammainc(floor(z) + 1.0, mu),
                   pdf=lambda z, mu: where(floor(z) < raw(z), 0.0, sf.gamma_density(floor(z) + 1.0, mu)))


def _log_det(cov: Array, singular: bool) -> tuple[Array, Any]:
    """Return the logarithm of the product of the eigenvalues and their number; those of about 0 do not count."""
    if not singular:
        return linalg.slogdet(cov)[1], shape(cov)[-1]
    s = linalg.svd(cov, compute_uv=False)
    counts = raw(s) > TINY * raw(s)[:1]
    return sum(where(counts, log(where(counts, s, 1.0)), 0.0), -1), counts.sum().astype(raw(s).dtype)


class dirichlet:
    """The Dirichlet distribution: of K shares, with K parameters."""

    @staticmethod
    @explains
    def logpdf(x: Array, alpha: Array) -> Array:
        """Return the logarithm of the density at x, (K, ...), or (K - 1, ...) without the last. alpha: (K,)."""
        x = ops.asarray(x)
        alpha = sf.as_parameter(alpha, x)
        x = ops.concatenate([x, 1.0 - sum(x, 0, True)]) if shape(x)[0] < shape(alpha)[0] else x
        return sum(sf.xlogy(alpha - 1.0, ops.transpose(x)), -1) + sf.gammaln(sum(alpha)) - sum(sf.gammaln(alpha))

    @staticmethod
    @explains
    def pdf(x: Array, alpha: Array) -> Array:
        """Return the density, of the same arguments."""
        return exp(dirichlet.logpdf(x, alpha))


class multivariate_normal:
    """The normal distribution of vectors of d components."""

    @staticmethod
    @explains
    def logpdf(x: Array, mean: Array, cov: Array, allow_singular: bool = False) -> Array:
        """Return the logarithm of the density at x, (..., d). mean: (d,); cov: (d, d), positive definite.

        allow_singular: eigenvalues of cov may be 0; the density is then that in the space of the others.
        """
        d, (log_det, rank) = ops.expand_dims(subtract(x, mean), -1), _log_det(cov, allow_singular)
        solved = ops.matmul(linalg.pinv(cov, TINY), d) if allow_singular else linalg.solve(cov, d)
        return -0.5 * (sum(ops.multiply(d, solved), (-2, -1)) + rank * LOG_2PI + log_det)

    @staticmethod
    @explains
    def pdf(x: Array, mean: Array, cov: Array, allow_singular: bool = False) -> Array:
        """Return the density, of the same arguments."""
        return exp(multivariate_normal.logpdf(x, mean, cov, allow_singular))

    @staticmethod
    @explains
    def entropy(mean: Array, cov: Array) -> Array:
        """Return the entropy, log(det(2 π e cov)) / 2, in nats."""
        return 0.5 * (_log_det(cov, False)[0] + shape(cov)[-1] * (1.0 + LOG_2PI))
