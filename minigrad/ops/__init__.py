"""The operations, by their NumPy names. Importing this package also makes them the operators of boxes."""
import sys

from .. import box
from ..kinds import broadcast_to
from . import joining, more_elementwise, ordering
from .activations import elu, gelu, leaky_relu, selu, silu
from .convolution import conv1d, conv2d, conv_transpose2d, convolve
from .dropout import dropout
from .einsum import einsum
from .elementwise import (
    abs,
    absolute,
    add,
    astype,
    clip,
    cos,
    divide,
    exp,
    expm1,
    fabs,
    fmax,
    fmin,
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
    true_divide,
    where,
)
from .joining import *  # noqa: F403
from .more_elementwise import *  # noqa: F403
from .normalize import standardize
from .ordering import *  # noqa: F403
from .products import cross, dot, inner, kron, matmul, outer, tensordot, vdot
from .reductions import amax, amin, argmax, argmin, log_softmax, logsumexp, max, mean, min, softmax, std, sum, var
from .shaping import (
    concatenate,
    crop,
    expand_dims,
    flip,
    getitem,
    matrix_transpose,
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
    "abs", "absolute", "add", "amax", "amin", "argmax", "argmin", "astype", "avg_pool2d", "broadcast_to", "clip",
    "concatenate", "conv1d", "conv2d", "conv_transpose2d", "convolve", "cos", "crop", "cross", "divide", "dot",
    "dropout", "einsum", "elu", "exp", "expand_dims", "expm1", "fabs", "flip", "fmax", "fmin", "fold", "gelu",
    "getitem", "inner", "kron", "leaky_relu", "log", "log1p", "log_softmax", "logsumexp", "matmul",
    "matrix_transpose", "max", "max_pool2d", "maximum", "mean", "min", "minimum", "moveaxis", "multiply",
    "negative", "outer", "pad", "power", "ravel", "relu", "reshape", "scatter_add", "selu", "sigmoid", "silu",
    "sin", "softmax", "softplus", "sqrt", "square", "squeeze", "stack", "standardize", "std", "stop_gradient",
    "subtract", "sum", "swapaxes", "take", "tanh", "tensordot", "transpose", "true_divide", "unfold", "var", "vdot",
    "where"
]
__all__ += joining.__all__ + more_elementwise.__all__ + ordering.__all__

box.ops = sys.modules[__name__]        # what the operators of a box are written with
