"""Functions of each element. Every line is a row of a table of derivatives, d(y, x).

At kinks and where slopes are infinite a derivative is a convention. In the whole library:

    relu(x), abs(x)          0 at 0; leaky_relu and elu have the slope from the left there
    maximum(a, b), minimum   1/2 for each where they are equal; clip is made of them
    max(x), min(x)           1 for the first of equal elements, 0 for the others; so in every window of max_pool2d
    where(c, a, b), dropout  0 for the side that is not chosen, and where an element is dropped
    NaN                      wins in maximum, max, relu and their like, as in NumPy, and takes the derivative
    sqrt(x)                  infinity at 0, the limit; so the norm sqrt(sum(x * x)) has NaN at 0: infinity times 0
    linalg.norm(x)           0 where it is 0; linalg.py lists the conventions of linear algebra
    std(x)                   0 where it is 0: all elements are equal, or there is one; NaN where ddof leaves none
    x ** 0                   0 everywhere, at 0, infinity and NaN too: its value is 1 there, as in NumPy
    x ** b                   by b: 0 where x ** b is 0, and at 0 ** 0; NaN at 0 for b < 0, and for x < 0
    logsumexp(x)             0 where all x are -infinity. Of no elements its value is -infinity

The zeros of the first four lines select, they do not multiply: a NaN or an infinity that meets one is dropped, so
grad(sqrt(relu(x))) is 0 at -1. The result is an ordinary 0, though: multiplied by an infinite slope further in, it
makes NaN, as in grad of where(x > 0, log(x), 0) at 0. Restrict the input as well, as in
where(x > 0, log(where(x > 0, x, 1)), 0). Slopes and masks are computed from plain values, as constants: their own
derivative is 0.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol, overload

import numpy
from numpy.typing import DTypeLike

from .. import tree
from ..backend import as_array, module_of
from ..box import Box, raw
from ..core import LinearMap, Primitive
from ..errors import DTypeError, message, parameters, shape
from ..kinds import elementwise, linear, signed, stretch, sum_to
from ..typing import Array, Tree


class Unary(Protocol):
    """A primitive of one array, as a type checker sees it."""
    name: str

    def __call__(self, x: Array, /) -> Array:
        """Return f(x)."""


class Binary(Protocol):
    """A primitive of two arrays, as a type checker sees it."""
    name: str

    def __call__(self, a: Array, b: Array, /) -> Array:
        """Return f(a, b)."""


add: Binary = signed("add", +1, +1, doc="Return a + b, broadcast.")
subtract: Binary = signed("subtract", +1, -1, doc="Return a - b, broadcast.")
negative: Unary = signed("negative", -1, doc="Return -x.")
multiply: Binary = elementwise("multiply", lambda y, a, b: b, lambda y, a, b: a, doc="Return a b, broadcast.")
square: Unary = elementwise("square", lambda y, x: 2.0 * x, doc="Return x^2.")

exp: Unary = elementwise("exp", lambda y, x: y, doc="Return e^x.")
expm1: Unary = elementwise("expm1", lambda y, x: exp(x), doc="Return e^x - 1, exact where x is small.")
log: Unary = elementwise("log", lambda y, x: 1.0 / x, doc="Return the natural logarithm.")
log1p: Unary = elementwise("log1p", lambda y, x: 1.0 / (1.0 + x), doc="Return log(1 + x), exact where x is small.")
sqrt: Unary = elementwise("sqrt", lambda y, x: 0.5 / y, doc="Return the square root.")
sin: Unary = elementwise("sin", lambda y, x: cos(x), doc="Return the sine of an angle in radians.")
cos: Unary = elementwise("cos", lambda y, x: -sin(x), doc="Return the cosine of an angle in radians.")
tanh: Unary = elementwise("tanh", lambda y, x: 4.0 * _bell(2.0 * x), doc="Return the hyperbolic tangent.")
sigmoid: Unary = elementwise(lambda x: _sigmoid(x), lambda y, x: _bell(x), name="sigmoid",
                             doc="Return the logistic function 1 / (1 + e^-x), exact at both ends.")
softplus: Unary = elementwise(lambda x: module_of(x).logaddexp(x, 0.0), lambda y, x: sigmoid(x), name="softplus",
                              doc="Return log(1 + e^x), without overflow.")
_bell: Unary = elementwise(lambda x: _sigmoid_slope(x), lambda y, x: -y * tanh(0.5 * x), name="sigmoid'")


def _sigmoid(x: Array) -> Array:
    xp = module_of(x)
    x, z = xp.asarray(x), _exp_minus_abs(x)
    return xp.where(x.real >= 0, 1.0, z) / (1.0 + z)


def _sigmoid_slope(x: Array) -> Array:
    """Return sigmoid(x) sigmoid(-x): 1 - sigmoid(x) would lose all digits where x is large."""
    z = _exp_minus_abs(x)
    return z / ((1.0 + z) * (1.0 + z))


def _exp_minus_abs(x: Array) -> Array:
    """Return e^-|x|, which does not overflow; for complex x, to stay analytic, e^-x or e^x."""
    xp = module_of(x)
    x = xp.asarray(x)
    if x.dtype.kind in "ub":                                # which have no negative
        x = x.astype(numpy.result_type(x.dtype, numpy.float16))
    return xp.exp(xp.where(x.real >= 0, -x, x) if x.dtype.kind == "c" else -xp.abs(x))


# ----------------------------------------------------------- piecewise linear functions: slopes and masks select

def _select(v: Array, mask: Array) -> Array:
    """Return v where the mask holds, and 0 elsewhere, whatever v is there: a product would turn infinity into NaN."""
    return module_of(v, mask).where(mask, v, 0.0)


scale: Primitive = linear(lambda v, by: _select(v, by != 0) * by, lambda g, s, by: sum_to(scale(g, by=by), s))
_gate: Primitive = linear(lambda v, at: _select(v, at != 0), lambda g, s, at: _gate(g, at=at), "relu")


def piecewise_linear(name: str, *slopes: Callable[..., Array], doc: str) -> Primitive:
    """Return a primitive whose partial derivatives, slopes(y, *args), are constants: where one is 0, it selects."""
    def rule(i: int, y: Array, *args: Array) -> LinearMap:
        d, s, sy = slopes[i](raw(y), *map(raw, args)), shape(args[i]), shape(y)
        return LinearMap(lambda t: scale(stretch(t, sy), by=d), lambda g: sum_to(scale(g, by=d), s))
    return Primitive(name, rule, name, doc, parameters(slopes[0])[1:])


def _relu_rule(i: int, y: Array, x: Array) -> LinearMap:
    at = raw(y)                                             # y is 0 where the gate is closed: x need not be kept
    return LinearMap(lambda t: _gate(t, at=at), lambda g: _gate(g, at=at))


relu: Unary = Primitive(lambda x: module_of(x).maximum(x, 0.0), _relu_rule, "relu",
                        doc="Return max(x, 0). The derivative at 0 is 0.")


def _share(y: Array, a: Array, b: Array) -> Array:
    """Return 1 where the first argument is the result, 1/2 where both are, 0 elsewhere. A NaN may be the result."""
    first, second = (a == y) | (a != a) & (y != y), (b == y) | (b != b) & (y != y)
    return first.astype(y.dtype) * (1.0 - 0.5 * second.astype(y.dtype))


def _sign(x: Array) -> Array:
    """Return -1, 0 or 1. Raises DTypeError for complex x: |x| has no derivative there that is a factor."""
    if x.dtype.kind == "c":
        raise DTypeError(message("abs(x)", "only real numbers have derivatives here", [("x", x, "")],
                                 "keep real and imaginary part as two arrays: sqrt(a * a + b * b)"))
    return module_of(x).sign(x)


abs: Unary = piecewise_linear("abs", lambda y, x: _sign(x), doc="Return |x|. The derivative at 0 is 0.")
maximum: Binary = piecewise_linear(
    "maximum", lambda y, a, b: _share(y, a, b), lambda y, a, b: _share(y, b, a),
    doc="Return the larger of a and b, broadcast. Where they are equal, each has the derivative 1/2.")
minimum: Binary = piecewise_linear(
    "minimum", lambda y, a, b: _share(y, a, b), lambda y, a, b: _share(y, b, a),
    doc="Return the smaller of a and b, broadcast. Where they are equal, each has the derivative 1/2.")
fmax: Binary = piecewise_linear("fmax", lambda y, a, b: _share(y, a, b), lambda y, a, b: _share(y, b, a),
                                doc="Return maximum(a, b), or the other one where one is NaN.")
fmin: Binary = piecewise_linear("fmin", lambda y, a, b: _share(y, a, b), lambda y, a, b: _share(y, b, a),
                                doc="Return minimum(a, b), or the other one where one is NaN.")
fabs: Unary = piecewise_linear("fabs", lambda y, x: _sign(x), doc="Return |x| as a floating-point number.")
absolute = abs


def clip(x: Array, a_min: Array | None = None, a_max: Array | None = None, *, min: Array | None = None,
         max: Array | None = None) -> Array:
    """Return minimum(maximum(x, a_min), a_max), with their conventions at the bounds. None is no bound.

    min, max: the same bounds under the names that NumPy 2 has besides. Raises DTypeError for a bound given twice.
    """
    if a_min is not None and min is not None or a_max is not None and max is not None:
        raise DTypeError("clip(x, a_min, a_max): min and max are other names of these bounds, and one is given twice")
    a_min, a_max = (min if a_min is None else a_min), (max if a_max is None else a_max)
    x = x if a_min is None else maximum(x, a_min)
    return x if a_max is None else minimum(x, a_max)


# ------------------------------------------------------------------------ quotients, powers, choices and types

def _divide_rule(i: int, y: Array, a: Array, b: Array) -> LinearMap:
    s, sy = shape((a, b)[i]), shape(y)
    if i == 0:
        return LinearMap(lambda t: stretch(t / b, sy), lambda g: sum_to(g / b, s))
    return LinearMap(lambda t: stretch(-t * y / b, sy), lambda g: sum_to(-g * y / b, s))


divide: Binary = Primitive("divide", _divide_rule, doc="Return a / b, broadcast.", parameters="ab")
true_divide = divide


def _base(y: Array, a: Array, b: Array) -> Array:
    """Return d/da a**b = b a**(b - 1), and 0 where b is 0: at a = 0 and at NaN, too."""
    if isinstance(b, (int, float)):
        return b * power(a, b - 1) if b else module_of(raw(a)).zeros_like(raw(a))
    flat = (raw(b) == 0) & ((raw(a) == 0) | (raw(a) != raw(a)))
    return b * power(where(flat, 1.0, a), where(flat, 1.0, b - 1.0))


def _exponent(y: Array, a: Array, b: Array) -> Array:
    """Return d/db a**b = a**b log a, and 0 where a or a**b is 0."""
    if isinstance(a, (int, float)):                         # a number stays one: as an array it would be float64
        return y * (math.log(a or 1.0) if a >= 0 else math.nan)
    return y * log(where((raw(a) == 0) | (raw(y) == 0), 1.0, a))


power: Binary = elementwise("power", _base, _exponent,
                            doc="Return a^b, broadcast. The derivatives at 0^0 and in b at a = 0 are 0.")


def _where_rule(i: int, y: Array, condition: Array, a: Array, b: Array) -> LinearMap:
    s, sy, c = shape((condition, a, b)[i]), shape(y), raw(condition)

    def choose(v: Array) -> Array:
        return where(c, v, 0.0) if i == 1 else where(c, 0.0, v)
    return LinearMap(lambda t: stretch(choose(t), sy), lambda g: sum_to(choose(g), s))


_where = Primitive("where", _where_rule)


@overload
def where(condition: Array) -> tuple[Array, ...]: ...
@overload
def where(condition: Array, a: Array, b: Array) -> Array: ...
def where(condition: Array, a: Array = None, b: Array = None) -> Any:
    """Return a where the condition holds, else b; of a condition alone the indices where it holds, as in NumPy.

    Of the side that is not chosen nothing enters a derivative, not even NaN or infinity.
    """
    if a is None and b is None:
        return as_array(raw(condition)).nonzero()
    if a is None or b is None:
        raise DTypeError("where(condition, a, b): one of two sides is missing\n"
                         "  help: pass both, or the condition alone for its indices")
    return _where(as_array(raw(condition), raw(a), raw(b)), a, b)


_astype = linear(lambda x, dtype, back: x.astype(dtype), lambda g, s, dtype, back: astype(g, back), "astype")


def astype(x: Array, dtype: DTypeLike, copy: bool = False) -> Array:
    """Return x with elements of another type. Its cotangent has the type of x again; for integers there is none.

    It is x itself if it has this type, whatever `copy` says. Raises DTypeError where a traced value is complex or would
    be: its derivative would be lost.
    """
    x = x if hasattr(x, "dtype") else numpy.asarray(x)
    if x.dtype == dtype:
        return x
    if type(x) is Box and "c" in (numpy.dtype(dtype).kind, x.dtype.kind):
        raise DTypeError(message("astype(x, dtype)", "only real numbers have derivatives here", [("x", x, "")],
                                 "keep real and imaginary part as two arrays"))
    if numpy.dtype(dtype).kind != "f":
        return raw(x).astype(dtype)
    return _astype(x, dtype=dtype, back=x.dtype)


def like(v: Array, y: Array) -> Array:
    """Return v, a number, list or array, as an array of the module and type of y."""
    return astype(v if type(v) is Box else as_array(v, raw(y)), y.dtype)


def stop_gradient(x: Tree) -> Tree:
    """Return the same values as constants to every derivative. x may be any tree.

    >>> import minigrad as mg
    >>> float(mg.grad(lambda x: mg.stop_gradient(x) * x)(3.0))
    3.0
    """
    return tree.map(raw, x)
