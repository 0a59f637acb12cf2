"""The special functions of SciPy, by its names: derivatives of any order, on both devices.

SciPy is imported when one is first computed on plain arrays of NumPy; on a GPU it is CuPy's. CuPy has no jv, jn, iv,
ive and stdtr: they are refused there, and so are derivatives that need them.

Where a derivative is refused or a convention:

    gammainc, gammaincc, stdtr       none by a, df; betainc: none by a and b
    jv, jn, yn, iv, ive              none by the order
    rgamma                           NaN at 0, -1, -2 ..., where digamma has its poles; gammasgn is plain
"""
from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any, NoReturn

from . import ops
from .backend import as_array, module_of, scipy_special
from .boundary import guard
from .box import raw
from .core import Primitive
from .errors import TraceError, message
from .kinds import elementwise
from .ops import abs, exp, log, log1p, multiply, power, sigmoid, sign, square, stop_gradient, sum, where
from .ops.by_numpy import Flat, is_traced
from .ops.elementwise import Binary, Unary
from .typing import Array

__all__ = [
    "beta", "betainc", "betaln", "digamma", "erf", "erfc", "erfcinv", "erfinv", "expit", "gamma", "gammainc",
    "gammaincc", "gammaln", "gammasgn", "i0", "i1", "iv", "ive", "j0", "j1", "jn", "jv", "log_ndtr", "logit",
    "logsumexp", "multigammaln", "ndtr", "polygamma", "psi", "rgamma", "stdtr", "xlog1py", "xlogy", "y0", "y1", "yn"
]


def _computed(name: str, *before: float) -> Any:
    """Return SciPy's function of this name, which keeps the type of its arguments; float16, too."""
    def f(*xs: Array) -> Array:
        y, dtype = getattr(scipy_special(*xs), name)(*before, *xs), module_of(*xs).result_type(*xs)
        return y.astype(dtype) if dtype.kind in "fc" else y
    return f


def _row(name: str, doc: str, *partials: Callable[..., Any]) -> Any:
    return elementwise(_computed(name), *partials, name=name, doc=doc)


def _none(name: str, a: Array) -> NoReturn:
    """Refuse a derivative by an order or a parameter."""
    raise TraceError(message(f"special.{name}", "there is no derivative by this argument", [("argument", a, "")],
                             "stop_gradient(a) makes a constant of it"))


def _polygamma(n: int) -> Primitive:
    """Return the derivative of order n of digamma: (-1)^(n + 1) n! zeta(n + 1, x)."""
    zeta, factor = _computed("zeta", n + 1.0), (-1.0) ** (n + 1) * math.factorial(n)
    return elementwise(lambda x: factor * zeta(x), lambda y, x: _polygamma(n + 1)(x), name="polygamma")


ROOT = math.sqrt(math.pi)

erf: Unary = _row("erf", "Return the error function.", lambda y, x: 2.0 / ROOT * exp(-x * x))
erfc: Unary = _row("erfc", "Return 1 - erf(x), exact also where x is large.", lambda y, x: -2.0 / ROOT * exp(-x * x))
erfinv: Unary = _row("erfinv", "Return the inverse of erf.", lambda y, x: ROOT / 2.0 * exp(y * y))
erfcinv: Unary = _row("erfcinv", "Return the inverse of erfc.", lambda y, x: -ROOT / 2.0 * exp(y * y))
ndtr: Unary = _row("ndtr", "Return the integral of the normal density up to x.", lambda y, x: _normal(x, 0.0))
log_ndtr: Unary = _row("log_ndtr", "Return log(ndtr(x)), exact also far below 0.", lambda y, x: _hazard(x, y))
gamma: Unary = _row("gamma", "Return the gamma function.", lambda y, x: y * digamma(x))
rgamma: Unary = _row("rgamma", "Return 1 / gamma(x).", lambda y, x: -y * digamma(x))
gammaln: Unary = _row("gammaln", "Return log |gamma(x)|.", lambda y, x: digamma(x))
gammasgn: Unary = Flat(_computed("gammasgn"), "x", "Return the sign of gamma(x): a plain value.", "gammasgn")
digamma: Unary = _row("digamma", "Return the derivative of gammaln.", lambda y, x: _polygamma(1)(x))
logit: Unary = _row("logit", "Return log(x / (1 - x)), the inverse of expit.", lambda y, x: 1.0 / (x * (1.0 - x)))
expit, psi = sigmoid, digamma
xlogy: Binary = _row("xlogy", "Return x log(y), and 0 where x is 0, also at y = 0.",
                     lambda z, x, y: log(as_parameter(y, x)),
                     lambda z, x, y: _ratio(x, y))
xlog1py: Binary = _row("xlog1py", "Return x log(1 + y), and 0 where x is 0, also at y = -1.",
                       lambda z, x, y: log1p(as_parameter(y, x)),
                       lambda z, x, y: _ratio(x, 1.0 + y))
beta: Binary = _row("beta", "Return gamma(a) gamma(b) / gamma(a + b).",
                    lambda y, a, b: -y * _psi_difference(a, b), lambda y, a, b: -y * _psi_difference(b, a))
betaln: Binary = _row("betaln", "Return log |beta(a, b)|.",
                      lambda y, a, b: -_psi_difference(a, b), lambda y, a, b: -_psi_difference(b, a))
gammainc: Binary = _row("gammainc", "Return the integral of t^(a-1) e^-t / gamma(a) from 0 to x.",
                        lambda y, a, x: _none("gammainc(a, x)", a), lambda y, a, x: gamma_density(a, x))
gammaincc: Binary = _row("gammaincc", "Return the integral of t^(a-1) e^-t / gamma(a) beyond x.",
                         lambda y, a, x: _none("gammaincc(a, x)", a), lambda y, a, x: -gamma_density(a, x))
betainc = _row("betainc", "Return the integral of t^(a-1) (1-t)^(b-1) / beta(a, b) from 0 to x.",
               lambda y, a, b, x: _none("betainc(a, b, x)", a), lambda y, a, b, x: _none("betainc(a, b, x)", b),
               lambda y, a, b, x: beta_density(a, b, x))
stdtr: Binary = _row("stdtr", "Return the integral of the density of Student's t up to t.",
                     lambda y, df, t: _none("stdtr(df, t)", df), lambda y, df, t: exp(log_t(df, t)))

# ------------------------------------------------------------- Bessel functions: each slope is one of two neighbors

j0: Unary = _row("j0", "Return the Bessel function J of order 0.", lambda y, x: -j1(x))
j1: Unary = _row("j1", "Return the Bessel function J of order 1.", lambda y, x: (j0(x) - jv(2, x)) / 2.0)
y0: Unary = _row("y0", "Return the Bessel function Y of order 0.", lambda y, x: -y1(x))
y1: Unary = _row("y1", "Return the Bessel function Y of order 1.", lambda y, x: (y0(x) - yn(2, x)) / 2.0)
i0: Unary = _row("i0", "Return the modified Bessel function I of order 0.", lambda y, x: i1(x))
i1: Unary = _row("i1", "Return the modified Bessel function I of order 1.", lambda y, x: (i0(x) + iv(2, x)) / 2.0)
jv: Binary = _row("jv", "Return the Bessel function J of order v.", lambda y, v, x: _none("jv(v, x)", v),
                  lambda y, v, x: (jv(v - 1, x) - jv(v + 1, x)) / 2.0)
yn: Binary = _row("yn", "Return the Bessel function Y of an integer order n.", lambda y, n, x: _none("yn(n, x)", n),
                  lambda y, n, x: (yn(n - 1, x) - yn(n + 1, x)) / 2.0)
iv: Binary = _row("iv", "Return the modified Bessel function I of order v.", lambda y, v, x: _none("iv(v, x)", v),
                  lambda y, v, x: (iv(v - 1, x) + iv(v + 1, x)) / 2.0)
ive: Binary = _row("ive", "Return iv(v, x) e^-|x|, without overflow.", lambda y, v, x: _none("ive(v, x)", v),
                   lambda y, v, x: (ive(v - 1, x) + ive(v + 1, x)) / 2.0 - sign(x) * y)
jn = jv


def _normal(x: Array, y: Array) -> Array:
    """Return the normal density at x, divided by e^y."""
    return exp(-square(x) / 2.0 - y) / math.sqrt(2.0 * math.pi)


def _hazard(x: Array, y: Array) -> Array:
    """Return the normal density at x over ndtr(x) = e^y: far below 0 by Laplace's continued fraction.

    There the logarithms of both are large and nearly equal. At -5, 24 terms are exact to rounding.
    """
    far = raw(x) < -5.0
    z = where(far, -x, 5.0)
    fraction = z
    for k in range(24, 0, -1):
        fraction = z + k / fraction
    return where(far, fraction, _normal(where(far, 0.0, x), where(far, 0.0, y)))


def as_parameter(p: Array, x: Array) -> Array:
    """Return p as an array: a number or a list as one of the type of x, of floating-point numbers if x has integers."""
    if hasattr(p, "dtype"):
        return p
    x = as_array(raw(x))
    return module_of(x).asarray(p, x.dtype if x.dtype.kind in "fc" else float)


def log_gamma(a: Array, x: Array) -> Array:
    """Return log(x^(a-1) e^-x / gamma(a)), the logarithm of a density."""
    return xlogy(a - 1.0, x) - x - gammaln(as_parameter(a, x))


def log_beta(a: Array, b: Array, x: Array) -> Array:
    """Return log(x^(a-1) (1-x)^(b-1) / beta(a, b)), the logarithm of a density."""
    return xlogy(a - 1.0, x) + xlog1py(b - 1.0, -x) - betaln(as_parameter(a, x), as_parameter(b, x))


def gamma_density(a: Array, x: Array) -> Array:
    """Return x^(a-1) e^-x / gamma(a): at 0 by the power, as the slope of the logarithm is infinite there."""
    a, edge = as_parameter(a, x), raw(x) == 0.0
    z = where(edge, x, 1.0)
    at_edge = power(z, a - 1.0) * exp(-z - gammaln(a))
    return where(edge, at_edge, exp(log_gamma(a, where(edge, 1.0, x))))


def beta_density(a: Array, b: Array, x: Array) -> Array:
    """Return x^(a-1) (1-x)^(b-1) / beta(a, b): at 0 and 1 by the powers."""
    a, b, edge = as_parameter(a, x), as_parameter(b, x), (raw(x) == 0.0) | (raw(x) == 1.0)
    z = where(edge, x, 0.5)
    at_edge = power(z, a - 1.0) * power(1.0 - z, b - 1.0) * exp(-betaln(a, b))
    return where(edge, at_edge, exp(log_beta(a, b, where(edge, 0.5, x))))


def _psi_difference(a: Array, b: Array) -> Array:
    """Return psi(a + b) - psi(a): for large a by the difference of the terms of its series, where nothing cancels."""
    a, b = as_parameter(a, b), as_parameter(b, a)
    far = (raw(a) > 30.0) & (raw(b) > 0.0)
    x, h = where(far, a, 30.0), where(far, b, 1.0)
    u, v = 1.0 / x, 1.0 / (x + h)
    p, q, step = u * u, v * v, h * u * v                    # step = u - v
    series, term, power_of_q = log1p(h * u) + step / 2.0, step * (u + v), q         # term = p^k - q^k
    for c in (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132):
        series = series + c * term
        term, power_of_q = p * term + step * (u + v) * power_of_q, q * power_of_q
    near = where(far, 1.0, a)
    return where(far, series, psi(near + where(far, 1.0, b)) - psi(near))


def log_t(df: Array, t: Array) -> Array:
    """Return the logarithm of the density of Student's t."""
    df = as_parameter(df, t)
    return -(df + 1.0) / 2.0 * log1p(t * t / df) - betaln(df / 2.0, 0.5) - log(df) / 2.0


def _ratio(a: Array, x: Array) -> Array:
    """Return a / x, and 0 where both are 0."""
    a = as_parameter(a, x)
    zero = (raw(a) == 0.0) & (raw(x) == 0.0)
    return where(zero, 0.0, a) / where(zero, 1.0, x)


def polygamma(n: int, x: Array) -> Array:
    """Return the derivative of order n, an integer, of digamma."""
    return digamma(x) if n == 0 else _polygamma(n)(x)


def multigammaln(a: Array, d: int) -> Array:
    """Return the logarithm of the gamma function of d x d matrices, for a > (d - 1) / 2; NaN for others."""
    a = ops.asarray(a) if isinstance(a, (list, tuple)) else a
    a = where(raw(a) > (d - 1) / 2.0, a, math.nan)
    return builtins.sum([gammaln(a - j / 2.0) for j in range(d)], d * (d - 1) / 4.0 * math.log(math.pi))


def logsumexp(a: Array, axis: int | tuple[int, ...] | None = None, b: Array = None, keepdims: bool = False,
              return_sign: bool = False) -> Any:
    """Return log |sum b exp(a)| over axes, without overflow, and with `return_sign` also the sign of the sum.

    Without it, a sum below 0 has the result NaN. A constant b of 0 masks an element.
    """
    a = ops.asarray(a)
    if not return_sign and b is None:
        return ops.logsumexp(a, axis, keepdims)
    a, b = ops.broadcast_arrays(a, as_parameter(1.0 if b is None else b, a))
    a = a if is_traced(b) else where(b == 0.0, -math.inf, a)
    if not raw(a).size:
        y = ops.logsumexp(a, axis, keepdims)
        return (y, ops.zeros_like(y)) if return_sign else y
    m = ops.max(stop_gradient(a), axis, True)
    m = where(abs(m) < math.inf, m, 0.0)
    total = sum(multiply(b, exp(a - m)), axis, True)
    none = raw(total) == 0.0
    y = where(none, -math.inf, log(where(none, 1.0, abs(total) if return_sign else total))) + m
    parts = [y if keepdims else ops.reshape(y, ops.max(stop_gradient(a), axis).shape) for y in (y, sign(total))]
    return tuple(parts) if return_sign else parts[0]


guard(__name__)
