"""The operations, by their NumPy names. Importing this package also makes them the operators of boxes."""
import sys

from .. import box
from .activations import elu, gelu, leaky_relu, selu, silu
from .convolution import conv1d, conv2d, conv_transpose2d
from .dropout import dropout
from .elementwise import (
    abs,
    add,
    astype,
    clip,
    cos,
    divide,
    exp,
    expm1,
    log,
    log1p,
    maximum,
    minimum,
    multiply,
    negative,
    power,
    relu,
    sigmoid,
    sin,
    softplus,
    sqrt,
    square,
    stop_gradient,
    subtract,
    tanh,
    where,
)
from .normalize import standardize
from .products import matmul, tensordot
from .reductions import argmax, argmin, log_softmax, logsumexp, max, mean, min, softmax, std, sum, var
from .shaping import (
    concatenate,
    crop,
    expand_dims,
    flip,
    getitem,
    moveaxis,
    pad,
    ravel,
    reshape,
    scatter_add,
    squeeze,
    stack,
    swapaxes,
    take,
    transpose,
)
from .windows import avg_pool2d, fold, max_pool2d, unfold

__all__ = [
    "abs", "add", "argmax", "argmin", "astype", "avg_pool2d", "clip", "concatenate", "conv1d", "conv2d",
    "conv_transpose2d", "cos", "crop", "divide", "dropout", "elu", "exp", "expand_dims", "expm1", "flip", "fold",
    "gelu", "getitem", "leaky_relu", "log", "log1p", "log_softmax", "logsumexp", "matmul", "max", "max_pool2d",
    "maximum", "mean", "min", "minimum", "moveaxis", "multiply", "negative", "pad", "power", "ravel", "relu", "reshape",
    "scatter_add", "selu", "sigmoid", "silu", "sin", "softmax", "softplus", "sqrt", "square", "squeeze", "stack",
    "standardize", "std", "stop_gradient", "subtract", "sum", "swapaxes", "take", "tanh", "tensordot", "transpose",
    "unfold", "var", "where"
]

box.ops = sys.modules[__name__]        # what the operators of a box are written with
