"""Activation functions of networks, besides relu, sigmoid, softplus and tanh, which are in elementwise.py."""
from __future__ import annotations

import importlib
import math
from typing import Any

from ..backend import as_array
from ..kinds import elementwise
from ..typing import Array
from .elementwise import Unary, _bell, clip, expm1, multiply, sigmoid, square, where

silu: Unary = elementwise(lambda x: x * sigmoid(x), lambda y, x: sigmoid(x) + x * _bell(x), name="silu",
                          doc="Return x sigmoid(x), also called swish.")


def gelu(x: Array, approximate: bool = True) -> Array:
    """Return x P(x), with the normal distribution's P(x) = erfc(-x / sqrt(2)) / 2. Hendrycks & Gimpel, 2016.

    approximate: whether P is (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, as in JAX; its error is below 0.0005.
    Otherwise erfc is that of minigrad.special, which needs SciPy.
    """
    if approximate:
        near = clip(x, -30.0, 30.0)                         # beyond, P is 0 or 1 in every type, and x^3 would overflow
        return multiply(x, sigmoid(multiply(near, 2.0 * math.sqrt(2.0 / math.pi) * (1.0 + 0.044715 * square(near)))))
    special: Any = importlib.import_module("minigrad.special")          # which is written with these operations
    return multiply(multiply(x, 0.5), special.erfc(multiply(x, -math.sqrt(0.5))))


def leaky_relu(x: Array, negative_slope: Array = 0.01) -> Array:
    """Return x where x > 0, else negative_slope x: at 0 the derivative is the slope, as that of relu is 0."""
    x = x if hasattr(x, "dtype") else as_array(x)
    return where(x > 0, x, multiply(negative_slope, x))


def elu(x: Array, alpha: Array = 1.0) -> Array:
    """Return x where x > 0, else alpha (e^x - 1). The derivative at 0 is alpha. Clevert et al., 2016."""
    x = x if hasattr(x, "dtype") else as_array(x)
    return where(x > 0, x, multiply(alpha, expm1(where(x > 0, 0.0, x))))


def selu(x: Array) -> Array:
    """Return 1.0507 elu(x, 1.6733), which keeps mean 0 and variance 1 from layer to layer. Klambauer et al., 2017."""
    return multiply(1.0507009873554805, elu(x, 1.6732632423543772))
