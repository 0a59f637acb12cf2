"""The special functions of SciPy, by its names: derivatives of any order, on both devices.

SciPy is imported when one is first computed on plain arrays of NumPy; on a GPU it is CuPy's.
"""
from __future__ import annotations

import math
from typing import Any

from .backend import scipy_special
from .core import Primitive
from .kinds import elementwise
from .ops import exp, sigmoid
from .ops.elementwise import Unary
from .typing import Array

__all__ = ["digamma", "erf", "erfc", "expit", "gammaln", "logit", "polygamma"]


def _computed(name: str, *before: float) -> Any:
    """Return SciPy's function of this name, which keeps the type of its last argument; float16, too."""
    def f(x: Array) -> Array:
        y = getattr(scipy_special(x), name)(*before, x)
        return y.astype(x.dtype) if getattr(x, "dtype", y.dtype).kind in "fc" else y
    return f


def _polygamma(n: int) -> Primitive:
    """Return the derivative of order n of digamma: (-1)^(n + 1) n! zeta(n + 1, x)."""
    zeta, factor = _computed("zeta", n + 1.0), (-1.0) ** (n + 1) * math.factorial(n)
    return elementwise(lambda x: factor * zeta(x), lambda y, x: _polygamma(n + 1)(x), name="polygamma")


erf: Unary = elementwise(_computed("erf"), lambda y, x: 2.0 / math.sqrt(math.pi) * exp(-x * x), name="erf",
                         doc="Return the error function.")
erfc: Unary = elementwise(_computed("erfc"), lambda y, x: -2.0 / math.sqrt(math.pi) * exp(-x * x), name="erfc",
                          doc="Return 1 - erf(x), exact also where x is large.")
gammaln: Unary = elementwise(_computed("gammaln"), lambda y, x: digamma(x), name="gammaln",
                             doc="Return the logarithm of the absolute value of the gamma function.")
digamma: Unary = elementwise(_computed("digamma"), lambda y, x: _polygamma(1)(x), name="digamma",
                             doc="Return the derivative of gammaln.")
logit: Unary = elementwise(_computed("logit"), lambda y, x: 1.0 / (x * (1.0 - x)), name="logit",
                           doc="Return log(x / (1 - x)), the inverse of expit.")
expit = sigmoid


def polygamma(n: int, x: Array) -> Array:
    """Return the derivative of order n, an integer, of digamma."""
    return digamma(x) if n == 0 else _polygamma(n)(x)
