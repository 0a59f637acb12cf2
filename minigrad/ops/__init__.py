"""The operations, by their NumPy names. Importing this package also makes them the operators of boxes."""
import sys

from .. import box
from .convolution import conv2d, convolve
from .dropout import dropout
from .einsum import einsum
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
from .products import cross, dot, inner, kron, matmul, outer, tensordot, vdot
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
    "abs", "add", "argmax", "argmin", "astype", "avg_pool2d", "clip", "concatenate", "conv2d", "convolve", "cos",
    "crop", "cross", "divide", "dot", "dropout", "einsum", "exp", "expand_dims", "expm1", "flip", "fold", "getitem",
    "inner", "kron", "log", "log1p", "log_softmax", "logsumexp", "matmul", "max", "max_pool2d", "maximum", "mean",
    "min", "minimum", "moveaxis", "multiply", "negative", "outer", "pad", "power", "ravel", "relu", "reshape",
    "scatter_add", "sigmoid", "sin", "softmax", "softplus", "sqrt", "square", "squeeze", "stack", "standardize", "std",
    "stop_gradient", "subtract", "sum", "swapaxes", "take", "tanh", "tensordot", "transpose", "unfold", "var", "vdot",
    "where"
]

box.ops = sys.modules[__name__]        # what the operators of a box are written with
