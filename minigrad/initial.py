"""Initial values of parameters, drawn from a generator (backend.generator). Public as nn.he_normal and so on."""
import math
from typing import Any

import numpy
from numpy.typing import DTypeLike

from .backend import xp
from .boundary import guard
from .errors import DTypeError, ShapeError
from .typing import Array, Shape


def _check_arguments(call: str, rng: Any, shape: Shape) -> None:
    if not hasattr(rng, "standard_normal"):
        raise DTypeError(f"{call}: rng is a {type(rng).__name__}, not a generator of random numbers\n"
                         "  help: minigrad.backend.generator(0)")
    if not all(isinstance(n, (int, numpy.integer)) and n > 0 for n in shape):
        raise ShapeError(f"{call}: there are no parameters of shape {tuple(shape)}\n"
                         "  help: the numbers of inputs and outputs are integers, 1 or more")


def normal(rng: numpy.random.Generator, shape: Shape, scale: float, dtype: DTypeLike = "float32") -> Array:
    """Return Gaussian numbers of standard deviation `scale`."""
    _check_arguments("normal(rng, shape, scale)", rng, shape)
    return xp.asarray((rng.standard_normal(shape) * scale).astype(dtype))


def truncated_normal(rng: numpy.random.Generator, shape: Shape, scale: float, dtype: DTypeLike = "float32") -> Array:
    """Return Gaussian numbers, those beyond 2 `scale` redrawn (as in TensorFlow): their deviation is 0.88 `scale`."""
    _check_arguments("truncated_normal(rng, shape, scale)", rng, shape)
    x = rng.standard_normal(shape)
    while (far := abs(x) > 2.0).any():
        x[far] = rng.standard_normal(int(far.sum()))
    return xp.asarray((x * scale).astype(dtype))


def he_normal(rng: numpy.random.Generator, shape: Shape, dtype: DTypeLike = "float32") -> Array:
    """Return Gaussian numbers of variance 2 / inputs, for layers before a ReLU.

    The number of inputs is the product of all axes but the last. He et al., 2015, equation 10.
    """
    _check_arguments("he_normal(rng, shape)", rng, shape)
    return normal(rng, shape, math.sqrt(2.0 / math.prod(shape[:-1])), dtype)


def uniform_unit_scaling(rng: numpy.random.Generator, shape: Shape, dtype: DTypeLike = "float32") -> Array:
    """Return uniform numbers of variance 1 / inputs (as in TensorFlow).

    The number of inputs is the product of all axes but the last.
    """
    _check_arguments("uniform_unit_scaling(rng, shape)", rng, shape)
    limit = math.sqrt(3.0 / math.prod(shape[:-1]))
    return xp.asarray(rng.uniform(-limit, limit, shape).astype(dtype))


def zeros(shape: int | Shape, dtype: DTypeLike = "float32") -> Array:
    """Return zeros on the array module in use."""
    return xp.zeros(shape, dtype)


guard(__name__)
