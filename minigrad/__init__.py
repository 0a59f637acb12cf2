"""minigrad: a hand-written, minimal autodiff engine with higher-order gradients, on NumPy or CuPy arrays.

A derivative at a point is a linear map that can be applied both ways. To read the source, take the files in this order:

    core.py        the idea: LinearMap, Primitive, and the two traces, Forward and Tape
    box.py         a value that a derivative watches: it acts as an array
    kinds.py       elementwise, signed, linear, bilinear: a derivative stated once
    ops/           the table of derivatives: elementwise, shaping, reductions, products, windows, convolution ...
    linalg.py      decompositions, solutions, determinants and norms of matrices
    transforms.py  jvp, linearize, vjp, grad, value_and_grad, hvp (jacobians.py: jacobian, hessian)
    functions.py   checkpoint and with_derivative: a whole function as one primitive
    special.py     erf, gammaln and their like, by SciPy's names
    stats.py       densities and integrals of distributions, likewise
    numpy.py       import minigrad.numpy as np: NumPy's names on the arrays in use
    losses.py      the loss of each example (normalization.py: batch normalization)
    nn.py          layers: a module is a tree of arrays (layers.py; initial.py: initial values of parameters)
    optim.py       sgd, adam and rmsprop: pairs of pure functions (schedules.py: their rates)
    distributed.py many ranks that compute one thing: the sum over ranks as a linear map
    reweight.py    Learning to Reweight Examples, one linearization applied both ways
    models.py      networks, which lie in the folder models of the repository
    training.py    passes over data in batches, by Algorithm 1 or plainly
    labels.py      labels and clean rows as users pass them
    estimators.py  the same as a classifier of scikit-learn, which only this file imports
    check.py       the laws that every derivative obeys, to check your own primitives
    draw.py        what ran, as text and as a picture

and below them, when you want to know:

    errors.py      how an error explains itself (boundary.py: also one that nobody thought of)
    backend.py     xp: NumPy or CuPy; where the table of faster forms is looked up
    communicators.py  how ranks exchange arrays: MPI and NCCL, or one rank alone
    tree.py        nested dicts, lists, tuples and modules of arrays (files.py: their files, nodes.py: their parts)
    typing.py      the types in signatures
    deprecated.py  old names that still work for one version
    __main__.py    `python -m minigrad` prints what it runs on
    fast/          what makes it fast: one table, operation -> (its form in C, in NumPy, in CuPy)
"""
from . import backend, boundary, check, deprecated, distributed, linalg, nn, ops, optim, reweight, special, stats, tree
from .backend import from_dlpack, to_host, use, xp
from .check import DerivativeError, check_buffers, check_derivatives
from .core import LinearMap, Primitive
from .draw import draw
from .errors import (
    BackendError,
    DataError,
    DTypeError,
    FileError,
    IndexingError,
    LinAlgError,
    MinigradError,
    RankError,
    RequirementError,
    ShapeError,
    SizeError,
    TraceError,
)
from .fast.capture import capture
from .fast.info import info
from .functions import checkpoint, with_derivative
from .jacobians import hessian, jacfwd, jacobian, jacrev
from .kinds import bilinear, elementwise, linear, signed, sum_to
from .ops import *  # noqa: F403
from .reweight import example_weights, reweighted_gradient
from .transforms import grad, hvp, jvp, linearize, value_and_grad, vjp

__all__ = [
    "BackendError", "DTypeError", "DataError", "DerivativeError", "FileError", "IndexingError", "LinAlgError",
    "LinearMap", "MinigradError", "Primitive", "RankError", "RequirementError", "ShapeError", "SizeError", "TraceError",
    "backend", "bilinear", "capture", "check", "check_buffers", "check_derivatives",
    "checkpoint", "distributed", "draw", "elementwise", "example_weights", "from_dlpack", "grad", "hessian", "hvp",
    "info", "jacfwd", "jacobian", "jacrev", "jvp", "linalg", "linear", "linearize", "nn", "optim", "reweight",
    "reweighted_gradient", "signed", "special", "stats", "sum_to", "to_host", "tree", "use", "value_and_grad", "vjp",
    "with_derivative", "xp"
]
__all__ += ops.__all__

globals().update(boundary.explain_all(__name__))
deprecated.names(__name__, put="scatter_add", fused="with_derivative", pieces="fast.threads")

__version__ = "0.2.0.dev0"
