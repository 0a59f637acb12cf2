"""Matrix products of medium size by the register tiles of convolution, on threads.

Smaller ones are done before a second thread has begun, and larger ones are left to BLAS, in chunks (products.py). In
between BLAS would need threads of its own, which wait in loops that slow down all else.
"""
from typing import Any

import numpy

from ..typing import Array
from .native import contiguous, kernels
from .native_convolution import Convolution
from .products import CHUNK

SMALL = 1 << 21         # multiplications up to which one thread is as fast
LONG = 1 << 12          # elements of the longest sum whose factors stay in cache


def matmul(a: Array, b: Array) -> Any:
    """Return a @ b of two matrices: a convolution whose pixels are the rows of a.

    The image has one row, and the columns of a as its channels. Or, if a is the transpose of a matrix, that is the
    image, of one channel, and the kernel is as high as it.
    """
    if not type(a) is type(b) is numpy.ndarray or not a.ndim == b.ndim == 2 or a.shape[1] != len(b):
        return NotImplemented
    (n, k), m = a.shape, b.shape[1]
    library = kernels(a, b) if SMALL < n * k * m <= CHUNK and k <= LONG else None
    if library is None:
        return NotImplemented
    y = numpy.empty((1, 1, n, m), a.dtype)
    if a.T.flags.c_contiguous and a.flags.aligned:
        product = Convolution(library, a.T[None, :, :, None], b[:, None, None, :], y, (1, 1), (0, 0))
    else:
        product = Convolution(library, contiguous(a)[None, None], b[None, None], y, (1, 1), (0, 0))
    product.in_parts()
    return y[0, 0]
