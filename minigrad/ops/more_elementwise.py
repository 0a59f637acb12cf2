"""More functions of each element: angles, hyperbolic functions, logarithms; rounding, signs and remainders.

Every line is a row of the table of derivatives, d(y, x), as in elementwise.py. The conventions are those there, and:

    floor(x), sign(x), a // b    0: values are plain. x.round, a % b and fmod have the slopes between the jumps
    hypot(a, b), arctan2(a, b)   0 at a = b = 0, and copysign(a, b) at a = 0, as abs(x) at 0
    cbrt(x), arcsin(x) ...       infinity where the slope is: at 0, at 1 and -1
    logaddexp(a, b)              1/2 for each where both are the same infinity
    nan_to_num(x)                0 where a number stands in for NaN or infinity
"""
from __future__ import annotations

import functools
import inspect
import math
from typing import Any

from ..backend import as_array, module_of
from ..box import raw
from ..errors import DTypeError, message
from ..kinds import elementwise, signed
from ..typing import Array
from .by_numpy import Flat, constant, row
from .elementwise import Binary, Unary, like, multiply, piecewise_linear, sigmoid, sin, sqrt, square, where

__all__ = [
    "angle", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "around", "cbrt", "ceil", "conj",
    "conjugate", "copysign", "cosh", "deg2rad", "degrees", "divmod", "exp2", "floor", "floor_divide", "fmod",
    "hypot", "imag", "iscomplex", "log10", "log2", "logaddexp", "logaddexp2", "mod", "nan_to_num", "positive",
    "rad2deg", "radians", "real", "real_if_close", "reciprocal", "remainder", "rint", "round", "sign", "sinc",
    "sinh", "tan", "trunc"
]

LN2, LN10, DEGREE = math.log(2.0), math.log(10.0), math.pi / 180.0

tan: Unary = elementwise("tan", lambda y, x: 1.0 + y * y, doc="Return the tangent of an angle in radians.")
arcsin: Unary = elementwise("arcsin", lambda y, x: 1.0 / sqrt((1.0 - x) * (1.0 + x)), doc="Return the inverse sine.")
arccos: Unary = elementwise("arccos", lambda y, x: -1.0 / sqrt((1.0 - x) * (1.0 + x)), doc="Return the inverse cosine.")
arctan: Unary = elementwise("arctan", lambda y, x: 1.0 / (1.0 + x * x), doc="Return the inverse tangent.")
sinh: Unary = elementwise("sinh", lambda y, x: cosh(x), doc="Return the hyperbolic sine.")
cosh: Unary = elementwise("cosh", lambda y, x: sinh(x), doc="Return the hyperbolic cosine.")
arcsinh: Unary = elementwise("arcsinh", lambda y, x: 1.0 / _root_of_square(x), doc="Return the inverse of sinh.")
arccosh: Unary = elementwise("arccosh", lambda y, x: 1.0 / (sqrt(x - 1.0) * sqrt(x + 1.0)),
                             doc="Return the inverse of cosh.")
arctanh: Unary = elementwise("arctanh", lambda y, x: 1.0 / ((1.0 - x) * (1.0 + x)), doc="Return the inverse of tanh.")
exp2: Unary = elementwise("exp2", lambda y, x: LN2 * y, doc="Return 2^x.")
log2: Unary = elementwise("log2", lambda y, x: 1.0 / (LN2 * x), doc="Return the logarithm to base 2.")
log10: Unary = elementwise("log10", lambda y, x: 1.0 / (LN10 * x), doc="Return the logarithm to base 10.")
cbrt: Unary = elementwise("cbrt", lambda y, x: 1.0 / (3.0 * y * y), doc="Return the cube root, also of x < 0.")
reciprocal: Unary = elementwise("reciprocal", lambda y, x: -y * y, doc="Return 1 / x.")
positive: Unary = signed("positive", +1, doc="Return x.")
deg2rad: Unary = elementwise("deg2rad", lambda y, x: DEGREE, doc="Return degrees as radians.")
rad2deg: Unary = elementwise("rad2deg", lambda y, x: 1.0 / DEGREE, doc="Return radians as degrees.")
radians, degrees = deg2rad, rad2deg
hypot: Binary = elementwise("hypot", lambda y, a, b: _share(a, y), lambda y, a, b: _share(b, y),
                            doc="Return sqrt(a^2 + b^2), without overflow. The derivative at a = b = 0 is 0.")
arctan2: Binary = elementwise("arctan2", lambda y, a, b: _per_angle(b, a), lambda y, a, b: -_per_angle(a, b),
                              doc="Return the angle of the point (b, a). The derivative at a = b = 0 is 0.")
logaddexp: Binary = elementwise("logaddexp", lambda y, a, b: sigmoid(_ahead(a, b)), lambda y, a, b: sigmoid(
    _ahead(b, a)), doc="Return log(e^a + e^b), without overflow.")
logaddexp2: Binary = elementwise("logaddexp2", lambda y, a, b: sigmoid(LN2 * _ahead(a, b)), lambda y, a, b: sigmoid(
    LN2 * _ahead(b, a)), doc="Return log2(2^a + 2^b), without overflow.")

sign: Unary = Flat("sign", "x", "Return -1, 0 or 1: a plain value, as its derivative is 0.")
floor: Unary = Flat("floor", "x", "Return the largest integer that is not above x: plain, as its derivative is 0.")
ceil: Unary = Flat("ceil", "x", "Return the smallest integer that is not below x: plain, as its derivative is 0.")
trunc: Unary = Flat("trunc", "x", "Return x without its fraction: plain, as its derivative is 0.")
rint: Unary = Flat("rint", "x", "Return the nearest integer, the even one of two: plain, as its derivative is 0.")
floor_divide: Binary = Flat("floor_divide", "ab", "Return floor(a / b), broadcast: plain, as its derivative is 0.")
around = round = constant("round", "Return a rounded to `decimals`, 0 by default: plain, as its derivative is 0.")
mod: Binary = piecewise_linear("remainder", lambda y, a, b: y * 0 + 1, lambda y, a, b: -floor_divide(a, b),
                               doc="Return a - b floor(a / b), broadcast, of the sign of b.")
fmod: Binary = piecewise_linear("fmod", lambda y, a, b: y * 0 + 1, lambda y, a, b: rint((y - a) / b),
                                doc="Return a - b trunc(a / b), broadcast, of the sign of a.")
copysign: Binary = piecewise_linear("copysign", lambda y, a, b: sign(a) * sign(y), lambda y, a, b: sign(y) * 0,
                                    doc="Return |a| with the sign of b, broadcast.")
remainder = mod


def _of_real(name: str, f: Any, doc: str) -> Any:
    """Return NumPy's function of complex numbers, of traced ones for real ones alone: DTypeError for others."""
    @functools.wraps(f)
    def called(*args: Any, **params: Any) -> Array:
        x = signature.bind(*args, **params).args[0]
        if x.dtype.kind == "c":
            raise DTypeError(message(f"{name}(x)", "only real numbers have derivatives here", [("x", x, "")],
                                     "keep real and imaginary part as two arrays"))
        return f(*args, **params)
    signature = inspect.signature(f)
    return row(name, called, doc)


real = _of_real("real", lambda val: val, "Return the real part: real x itself.")
real_if_close = _of_real("real_if_close", lambda a, tol=100: a, "Return x as real numbers, where they are: real x.")
imag = _of_real("imag", lambda val: raw(val).imag, "Return the imaginary part: of real x zeros, which are plain.")
angle = _of_real("angle", lambda z, deg=False: module_of(raw(z)).angle(raw(z), deg),
                 "Return the angle of complex numbers: of real x 0, of those below 0 pi, which are plain.")
conjugate = conj = _of_real("conjugate", lambda x: x, "Return the complex conjugate: real x itself.")
iscomplex = constant("iscomplex", "Return where the imaginary part is not 0: plain.")


def _root_of_square(x: Array) -> Array:
    """Return sqrt(1 + x^2), without overflow; analytic, as hypot is not."""
    large = abs(raw(x)) > 100.0
    far, near = where(large, x, 100.0), where(large, 0.0, x)
    return where(large, where(raw(x).real > 0.0, far, -far) * sqrt(1.0 + square(1.0 / far)), sqrt(1.0 + square(near)))


def _share(a: Array, r: Array) -> Array:
    """Return a / r, and 0 where r is 0."""
    zero = raw(r) == 0.0
    return where(zero, 0.0, a / where(zero, 1.0, r))


def _per_angle(a: Array, b: Array) -> Array:
    """Return a / (a^2 + b^2), without overflow."""
    return _share(_share(a, hypot(a, b)), hypot(a, b))


def _ahead(a: Array, b: Array) -> Array:
    """Return a - b, and 0 where both are the same infinity."""
    a, b = (v if hasattr(v, "dtype") else like(v, w) for v, w in ((a, b), (b, a)))       # or numbers would be float64
    same = (raw(a) == raw(b)) & (abs(raw(a)) == math.inf)
    return where(same, 0.0, a) - where(same, 0.0, b)


def divmod(a: Array, b: Array) -> tuple[Array, Array]:
    """Return a // b and a % b."""
    return floor_divide(a, b), mod(a, b)


def nan_to_num(x: Array, copy: bool = True, nan: float = 0.0, posinf: Any = None, neginf: Any = None) -> Array:
    """Return x with `nan`, `posinf` and `neginf` in place of NaN and infinities; None: the largest and smallest number.

    A copy is made always.
    """
    value = as_array(raw(x))
    xp = module_of(value)
    return where(xp.isfinite(value), x, xp.nan_to_num(value, nan=nan, posinf=posinf, neginf=neginf))


def sinc(x: Array) -> Array:
    """Return sin(pi x) / (pi x), and 1 at 0: by its series there, which has derivatives of any order."""
    z = multiply(math.pi, x)
    near, series = abs(raw(z)) < 1.0, 1.0
    small, large = square(where(near, z, 0.0)), where(near, 1.0, z)
    for k in range(24, 0, -2):
        series = 1.0 - small / (k * (k + 1.0)) * series
    return where(near, series, sin(large) / large)
