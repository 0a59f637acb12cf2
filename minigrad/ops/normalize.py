"""Normalization."""
from .. import deprecated
from ..backend import module_of
from ..core import LinearMap, Primitive, replaceable
from ..errors import shape
from .elementwise import multiply, sqrt, square
from .reductions import in_wider, mean
from .shaping import normal_axes


def _standardize(x, axes, eps):
    c = x - mean(x, axes, keepdims=True)
    return c / sqrt(mean(square(c), axes, keepdims=True) + eps)


def _standardize_rule(i, y, x, axes, eps):
    """The Jacobian v -> r (v - mean(v) - y mean(y v)) is symmetric: push and pull are one function.

    r is computed from x by primitives, here and not in the forward function: saved there as a plain array it would be
    a constant to the second derivative, silently wrong at the order where somebody first looks.
    """
    c = x - mean(x, axes, keepdims=True)
    r = 1.0 / sqrt(mean(square(c), axes, keepdims=True) + eps)

    def J(v):
        return r * (v - mean(v, axes, keepdims=True) - y * mean(y * v, axes, keepdims=True))
    return LinearMap(J, J)


_standardize_primitive = Primitive(_standardize, _standardize_rule)


@deprecated.keywords(axes="axis")
@in_wider
def standardize(x, axis, eps=1e-5):
    """(x - mean) / sqrt(variance + eps) over these axes: batch normalization without its gain and bias.

    Ioffe & Szegedy, 2015, Algorithm 1.
    """
    axes = normal_axes(axis, len(shape(x)), "standardize")
    if 0 in shape(x):                                       # there is no mean of nothing
        return multiply(x, 1.0)
    return _standardize_primitive(x, axes=axes, eps=float(eps))         # a number of NumPy's would change types


@replaceable
def moments(x):
    """Return the mean and the variance (without Bessel's correction) of each channel, the last axis, of plain x."""
    axes = tuple(range(x.ndim - 1))
    if not x.size:
        return (module_of(x).zeros(x.shape[-1], x.dtype),) * 2
    wide = x.astype("float32") if x.dtype == "float16" else x
    return wide.mean(axes).astype(x.dtype), wide.var(axes).astype(x.dtype)
