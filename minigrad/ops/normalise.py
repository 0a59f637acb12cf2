"""Normalisation and dropout."""
from ..backend import seed, xp
from ..core import LinearMap, Primitive
from ..errors import DTypeError, ShapeError, shape
from .elementwise import sqrt, square
from .reductions import mean
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


def standardize(x, axes, eps=1e-5):
    """(x - mean) / sqrt(variance + eps) over these axes: batch normalisation without its gain and bias.

    Ioffe & Szegedy, 2015, Algorithm 1.
    """
    return _standardize_primitive(x, axes=normal_axes(axes, len(shape(x)), "standardize"), eps=eps)


def dropout(x, rate, key):
    """Each element is set to 0 with probability `rate`, the others divided by 1 - rate.

    key: an integer or a sequence of integers; the same key drops the same elements, so that a function that is run
    again (checkpoint, finite differences) stays the same function. Srivastava et al., 2014.
    """
    if not 0.0 <= rate < 1.0:
        raise ShapeError(f"dropout(x): the rate must lie in [0, 1), not {rate}")
    if key is None:
        raise DTypeError("dropout(x): it draws its mask from a key, and there is none\n"
                         "  help: give an integer, or several: (seed of the run, step)")
    stays = seed(key).random(shape(x), "float32") >= rate
    return x * (xp.asarray(stays).astype(x.dtype) / (1.0 - rate))
