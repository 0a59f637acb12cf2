"""Functions of each element. Every line is a row of a table of derivatives: d(y, x).

At kinks and where slopes are infinite a derivative is a convention. In the whole library:

    relu(x), abs(x)          0 at 0
    maximum(a, b), minimum   1/2 for each where they are equal; clip is made of them
    max(x), min(x)           1 for the first of equal elements, 0 for the others; so in every window of max_pool2d
    where(c, a, b), dropout  0 for the side that is not taken, and where an element is dropped
    NaN                      wins in maximum, max, relu and their like, as in NumPy, and takes the derivative
    sqrt(x)                  infinity at 0, the limit; so the norm sqrt(sum(x * x)) has NaN at 0: infinity times 0
    std(x)                   0 where it is 0: all elements are equal, or there is one; NaN where ddof leaves none
    x ** 0                   0 everywhere, at 0, infinity and NaN too: its value is 1 there, as in NumPy
    x ** b                   by b: 0 where x ** b is 0, and at 0 ** 0; NaN at 0 for b < 0, and for x < 0
    logsumexp(x)             0 where all x are -infinity. Of no elements its value is -infinity

The zeros of the first four lines select and do not multiply: what meets them is dropped, be it NaN or infinity. So
grad(sqrt(relu(x))) is 0 at -1. But what comes out is a 0 like any other, and makes NaN with an infinite slope that
lies before the choice: so does grad of where(x > 0, log(x), 0) at 0. Choose what goes in, too, as in
where(x > 0, log(where(x > 0, x, 1)), 0). Slopes and masks are constants, taken from plain values: their own
derivative is 0.
"""
import math

import numpy

from .. import tree
from ..backend import as_array, module_of
from ..core import Box, LinearMap, Primitive, raw
from ..errors import DTypeError, message, parameters, shape
from ..kinds import elementwise, linear, signed, stretch, sum_to

add = signed("add", +1, +1, doc="a + b, broadcast.")
subtract = signed("subtract", +1, -1, doc="a - b, broadcast.")
negative = signed("negative", -1, doc="-x.")
multiply = elementwise("multiply", lambda y, a, b: b, lambda y, a, b: a, doc="a b, broadcast.")
square = elementwise("square", lambda y, x: 2.0 * x, doc="x^2.")

exp = elementwise("exp", lambda y, x: y, doc="e^x.")
expm1 = elementwise("expm1", lambda y, x: exp(x), doc="e^x - 1, exact where x is small.")
log = elementwise("log", lambda y, x: 1.0 / x, doc="The natural logarithm.")
log1p = elementwise("log1p", lambda y, x: 1.0 / (1.0 + x), doc="log(1 + x), exact where x is small.")
sqrt = elementwise("sqrt", lambda y, x: 0.5 / y, doc="The square root.")
sin = elementwise("sin", lambda y, x: cos(x), doc="The sine of an angle in radians.")
cos = elementwise("cos", lambda y, x: -sin(x), doc="The cosine of an angle in radians.")
tanh = elementwise("tanh", lambda y, x: 4.0 * _bell(2.0 * x), doc="The hyperbolic tangent.")
sigmoid = elementwise(lambda x: _sigmoid(x), lambda y, x: _bell(x), name="sigmoid",
                      doc="The logistic function 1 / (1 + e^-x), exact at both ends.")
softplus = elementwise(lambda x: module_of(x).logaddexp(x, 0.0), lambda y, x: sigmoid(x), name="softplus",
                       doc="log(1 + e^x), without overflow.")
_bell = elementwise(lambda x: _sigmoid_slope(x), lambda y, x: -y * tanh(0.5 * x), name="sigmoid'")


def _sigmoid(x):
    xp = module_of(x)
    x, z = xp.asarray(x), _falling(x)
    return xp.where(x.real >= 0, 1.0, z) / (1.0 + z)


def _sigmoid_slope(x):
    """sigmoid(x) sigmoid(-x): 1 - sigmoid(x) would lose all digits where x is large."""
    z = _falling(x)
    return z / ((1.0 + z) * (1.0 + z))


def _falling(x):
    """e^-|x|, which does not overflow; for complex x, to stay analytic, e^-x or e^x."""
    xp = module_of(x)
    x = xp.asarray(x)
    return xp.exp(xp.where(x.real >= 0, -x, x) if x.dtype.kind == "c" else -xp.abs(x))


# --------------------------------------------------------------------- straight lines with kinks: masks select

def _select(v, mask):
    """v where the mask holds, and 0 elsewhere, whatever v is there: a product would make NaN of infinity."""
    return module_of(v, mask).where(mask, v, 0.0)


scale = linear(lambda v, by: _select(v, by != 0) * by, lambda g, s, by: sum_to(scale(g, by=by), s))
_gate = linear(lambda v, at: _select(v, at != 0), lambda g, s, at: _gate(g, at=at), "relu")


def _straight(name, *slopes, doc):
    """A primitive made of straight lines: slopes(y, *args) are arrays of constants. Where one is 0, nothing flows."""
    def rule(i, y, *args):
        d, s, sy = slopes[i](raw(y), *map(raw, args)), shape(args[i]), shape(y)
        return LinearMap(lambda t: scale(stretch(t, sy), by=d), lambda g: sum_to(scale(g, by=d), s))
    return Primitive(name, rule, name, doc, parameters(slopes[0])[1:])


def _relu_rule(i, y, x):
    at = raw(y)                                             # y is 0 where the gate is closed: x need not be kept
    return LinearMap(lambda t: _gate(t, at=at), lambda g: _gate(g, at=at))


relu = Primitive(lambda x: module_of(x).maximum(x, 0.0), _relu_rule, "relu",
                 doc="max(x, 0). The derivative at 0 is 0.")


def _wins(y, a, b):
    """1 where the first argument is the result, 1/2 where both are, 0 elsewhere. A NaN is the result."""
    won, tied = (a == y) | (a != a), (b == y) | (b != b)
    return won.astype(y.dtype) * (1.0 - 0.5 * tied.astype(y.dtype))


def _sign(x):
    """-1, 0 or 1. Raises DTypeError for complex x: |x| has no derivative there that is a factor."""
    if x.dtype.kind == "c":
        raise DTypeError(message("abs(x)", "only real numbers have derivatives here", [("x", x, "")],
                                 "keep real and imaginary part as two arrays: sqrt(a * a + b * b)"))
    return module_of(x).sign(x)


abs = _straight("abs", lambda y, x: _sign(x), doc="|x|. The derivative at 0 is 0.")
maximum = _straight("maximum", lambda y, a, b: _wins(y, a, b), lambda y, a, b: _wins(y, b, a),
                    doc="The larger of a and b, broadcast. Where they are equal, each has the derivative 1/2.")
minimum = _straight("minimum", lambda y, a, b: _wins(y, a, b), lambda y, a, b: _wins(y, b, a),
                    doc="The smaller of a and b, broadcast. Where they are equal, each has the derivative 1/2.")


def clip(x, a_min=None, a_max=None):
    """x kept between a_min and a_max: minimum(maximum(x, a_min), a_max), with their conventions. None is no bound."""
    x = x if a_min is None else maximum(x, a_min)
    return x if a_max is None else minimum(x, a_max)


def _divide_rule(i, y, a, b):
    s, sy = shape((a, b)[i]), shape(y)
    if i == 0:
        return LinearMap(lambda t: stretch(t / b, sy), lambda g: sum_to(g / b, s))
    return LinearMap(lambda t: stretch(-t * y / b, sy), lambda g: sum_to(-g * y / b, s))


divide = Primitive("divide", _divide_rule, doc="a / b, broadcast.", parameters="ab")


def _base(y, a, b):
    """d/da a**b = b a**(b - 1), and 0 where b is 0: at a = 0 and at NaN, too."""
    if isinstance(b, (int, float)):
        return b * power(a, b - 1) if b else module_of(raw(a)).zeros_like(raw(a))
    flat = (raw(b) == 0) & ((raw(a) == 0) | (raw(a) != raw(a)))
    return b * power(where(flat, 1.0, a), where(flat, 1.0, b - 1.0))


def _exponent(y, a, b):
    """d/db a**b = a**b log a, and 0 where a or a**b is 0."""
    if isinstance(a, (int, float)):                         # a number stays one: as an array it would be float64
        return y * (math.log(a or 1.0) if a >= 0 else math.nan)
    return y * log(where((raw(a) == 0) | (raw(y) == 0), 1.0, a))


power = elementwise("power", _base, _exponent, doc="a^b, broadcast. The derivatives at 0^0 and in b at a = 0 are 0.")


def _where_rule(i, y, condition, a, b):
    s, sy, c = shape((condition, a, b)[i]), shape(y), raw(condition)
    pick = (lambda v: where(c, v, 0.0)) if i == 1 else (lambda v: where(c, 0.0, v))
    return LinearMap(lambda t: stretch(pick(t), sy), lambda g: sum_to(pick(g), s))


_where = Primitive("where", _where_rule)


def where(condition, a, b):
    """a where the condition holds, else b. Nothing flows to the side not taken, not even NaN or infinity."""
    return _where(as_array(raw(condition), raw(a), raw(b)), a, b)


_astype = linear(lambda x, dtype, back: x.astype(dtype), lambda g, s, dtype, back: astype(g, back), "astype")


def astype(x, dtype):
    """x with elements of another type. The gradient comes back in the type of x; of integers there is none.

    Raises DTypeError where a traced value is complex or would be: its derivative would be lost.
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


def stop_gradient(x):
    """The same values, as constants to every derivative: d/dx stop_gradient(x) = 0. x may be any tree.

    >>> import minigrad as mg
    >>> float(mg.grad(lambda x: mg.stop_gradient(x) * x)(3.0))
    3.0
    """
    return tree.map(raw, x)
