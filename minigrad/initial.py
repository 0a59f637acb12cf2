"""Initial values of parameters, drawn from a generator (backend.generator). Public as nn.he_normal and so on."""
import math

import numpy

from .backend import xp
from .boundary import guard
from .errors import DTypeError, ShapeError


def _check_draw(call, rng, shape):
    if not hasattr(rng, "standard_normal"):
        raise DTypeError(f"{call}: rng is a {type(rng).__name__}, and no generator of random numbers\n"
                         "  help: minigrad.backend.generator(0)")
    if not all(isinstance(n, (int, numpy.integer)) and n > 0 for n in shape):
        raise ShapeError(f"{call}: there are no parameters of shape {tuple(shape)}\n"
                         "  help: the numbers of inputs and outputs are integers, 1 or more")


def normal(rng, shape, scale, dtype="float32"):
    """Gaussian numbers of standard deviation `scale`."""
    _check_draw("normal(rng, shape, scale)", rng, shape)
    return xp.asarray((rng.standard_normal(shape) * scale).astype(dtype))


def truncated_normal(rng, shape, scale, dtype="float32"):
    """Gaussian numbers of standard deviation `scale`, those beyond two of it drawn again (as TensorFlow does)."""
    _check_draw("truncated_normal(rng, shape, scale)", rng, shape)
    x = rng.standard_normal(shape)
    while (far := abs(x) > 2.0).any():
        x[far] = rng.standard_normal(int(far.sum()))
    return xp.asarray((x * scale).astype(dtype))


def he_normal(rng, shape, dtype="float32"):
    """Gaussian numbers of variance 2 / inputs, for layers before a ReLU; inputs = the product of all axes but the last.

    He et al., 2015, equation 10.
    """
    _check_draw("he_normal(rng, shape)", rng, shape)
    return normal(rng, shape, math.sqrt(2.0 / math.prod(shape[:-1])), dtype)


def uniform_unit_scaling(rng, shape, dtype="float32"):
    """Uniform numbers of variance 1 / inputs; inputs = the product of all axes but the last (as TensorFlow has it)."""
    _check_draw("uniform_unit_scaling(rng, shape)", rng, shape)
    limit = math.sqrt(3.0 / math.prod(shape[:-1]))
    return xp.asarray(rng.uniform(-limit, limit, shape).astype(dtype))


def zeros(shape, dtype="float32"):
    """Zeros on the array module in use."""
    return xp.zeros(shape, dtype)


guard(__name__)
