"""Functions of each element. Every line is a row of a table of derivatives: d(y, x).

At a kink the derivative is a convention: relu'(0) = 0, abs'(0) = 0, and where maximum or minimum tie, each argument
gets half. The masks that decide are constants, taken from the plain values: their own derivative is zero.
"""
import math

import numpy

from .. import tree
from ..backend import as_array, module_of
from ..core import Box, LinearMap, Primitive, raw
from ..errors import DTypeError, message, shape
from ..kinds import elementwise, linear, signed, stretched, sum_to
from ..pieces import mapped

add = signed("add", +1, +1, doc="a + b, broadcast.")
subtract = signed("subtract", +1, -1, doc="a - b, broadcast.")
negative = signed("negative", -1, doc="-x.")
multiply = elementwise("multiply", lambda y, a, b: b, lambda y, a, b: a, doc="a b, broadcast.")
square = elementwise("square", lambda y, x: 2.0 * x, doc="x^2.")

exp = elementwise("exp", lambda y, x: y, doc="e^x.")
expm1 = elementwise("expm1", lambda y, x: y + 1.0, doc="e^x - 1, exact where x is small.")
log = elementwise("log", lambda y, x: 1.0 / x, doc="The natural logarithm.")
log1p = elementwise("log1p", lambda y, x: 1.0 / (1.0 + x), doc="log(1 + x), exact where x is small.")
sqrt = elementwise("sqrt", lambda y, x: 0.5 / y, doc="The square root.")
sin = elementwise("sin", lambda y, x: cos(x), doc="The sine of an angle in radians.")
cos = elementwise("cos", lambda y, x: -sin(x), doc="The cosine of an angle in radians.")
tanh = elementwise("tanh", lambda y, x: 1.0 - y * y, doc="The hyperbolic tangent.")
sigmoid = elementwise(lambda x: _sigmoid(x), lambda y, x: y * (1.0 - y), name="sigmoid",
                      doc="The logistic function 1 / (1 + e^-x), exact at both ends.")
softplus = elementwise(lambda x: module_of(x).logaddexp(x, 0.0), lambda y, x: sigmoid(x), name="softplus",
                       doc="log(1 + e^x), without overflow.")

_larger = mapped("maximum")
_masked = mapped(lambda t, y, out=None: module_of(t, y).multiply(t, y > 0, out=out))
_gate = linear(lambda t, at: _masked(t, at), lambda g, s, at: _gate(g, at=at), "relu")
relu = Primitive(lambda x: _larger(x, 0.0), lambda i, y, x: LinearMap(*2 * [lambda v: _gate(v, at=raw(y))]), "relu",
                 doc="max(x, 0). The derivative at 0 is 0.")
abs = elementwise("abs", lambda y, x: module_of(raw(x)).sign(raw(x)), doc="|x|. The derivative at 0 is 0.")


def _sigmoid(x):
    """1 / (1 + exp(-x)), exact at both ends: only exp of what is not positive is taken."""
    xp = module_of(x)
    x = xp.asarray(x)
    up = x.real >= 0
    z = xp.exp(xp.where(up, -x, x))
    return xp.where(up, 1.0, z) / (1.0 + z)


def _wins(y, a, b):
    """1 where the first argument is the result, 1/2 where both are, 0 elsewhere; NaN is nobody's result."""
    y, a, b = raw(y), raw(a), raw(b)
    return (a == y).astype(y.dtype) * (1.0 - 0.5 * (b == y).astype(y.dtype))


maximum = elementwise("maximum", lambda y, a, b: _wins(y, a, b), lambda y, a, b: _wins(y, b, a),
                      doc="The larger of a and b, broadcast. Where they are equal, each has the derivative 1/2.")
minimum = elementwise("minimum", lambda y, a, b: _wins(y, a, b), lambda y, a, b: _wins(y, b, a),
                      doc="The smaller of a and b, broadcast. Where they are equal, each has the derivative 1/2.")


def clip(x, a_min=None, a_max=None):
    """x kept between a_min and a_max: minimum(maximum(x, a_min), a_max), with their conventions. None is no bound."""
    x = x if a_min is None else maximum(x, a_min)
    return x if a_max is None else minimum(x, a_max)


def _divide_rule(i, y, a, b):
    s, sy = shape((a, b)[i]), shape(y)
    if i == 0:
        return LinearMap(lambda t: stretched(t / b, sy), lambda g: sum_to(g / b, s))
    return LinearMap(lambda t: stretched(-t * y / b, sy), lambda g: sum_to(-g * y / b, s))


divide = Primitive("divide", _divide_rule, doc="a / b, broadcast.")


def _base(y, a, b):
    """d/da a**b = b a**(b - 1), and 0 where both are 0."""
    if isinstance(b, (int, float)):
        return b * power(a, b - 1) if b else 0.0 * a
    return b * power(a, where((raw(b) == 0) & (raw(a) == 0), 1.0, b - 1.0))


def _exponent(y, a, b):
    """d/db a**b = a**b log a, and 0 at a = 0."""
    if isinstance(a, (int, float)):                         # a number stays one: as an array it would be float64
        return y * (math.log(a or 1.0) if a >= 0 else math.nan)
    return y * log(where(raw(a) == 0, 1.0, a))


power = elementwise("power", _base, _exponent, doc="a^b, broadcast. The derivatives at 0^0 and in b at a = 0 are 0.")


def _where_rule(i, y, condition, a, b):
    s, sy, c = shape((condition, a, b)[i]), shape(y), raw(condition)
    pick = (lambda v: where(c, v, 0.0)) if i == 1 else (lambda v: where(c, 0.0, v))
    return LinearMap(lambda t: stretched(pick(t), sy), lambda g: sum_to(pick(g), s))


_where = Primitive("where", _where_rule)


def where(condition, a, b):
    """a where the condition holds, else b. Nothing flows to the side not taken, not even NaN or infinity."""
    return _where(as_array(raw(condition), raw(a), raw(b)), a, b)


_astype = linear(lambda x, dtype, back: x.astype(dtype), lambda g, s, dtype, back: astype(g, back), "astype")


def astype(x, dtype):
    """x with elements of another type. The gradient comes back in the type of x; of integers there is none.

    Raises DTypeError where a traced value would become complex: its derivative would be lost.
    """
    x = x if hasattr(x, "dtype") else numpy.asarray(x)
    if numpy.dtype(dtype).kind == "c" and type(x) is Box:
        raise DTypeError(message("astype(x, dtype)", "only real numbers have derivatives here", [("x", x, "")],
                                 "keep real and imaginary part as two arrays"))
    if numpy.dtype(dtype).kind != "f":
        return raw(x).astype(dtype)
    return x if x.dtype == dtype else _astype(x, dtype=dtype, back=x.dtype)


def stop_gradient(x):
    """The same values, as constants to every derivative: d/dx stop_gradient(x) = 0. x may be any tree.

    >>> import minigrad as mg
    >>> float(mg.grad(lambda x: mg.stop_gradient(x) * x)(3.0))
    3.0
    """
    return tree.map(raw, x)
