"""Matrix products and sums of columns on NumPy: large ones in chunks, each with one thread of BLAS."""
import math
from collections.abc import Iterator

import numpy

from ..typing import Array
from .threads import one_blas_thread, run, split

SMALL = 1 << 12         # multiplications up to which OpenBLAS uses no threads of its own, whatever the shapes and types
CHUNK = 1 << 26         # multiplications of a chunk: a millisecond or so


def matmul(a: Array, b: Array) -> Array:
    """Return a @ b of two matrices, or of stacks of them that broadcast together.

    Large products are computed in chunks: of rows or columns of the result, or of matrices of a stack.
    """
    if not type(a) is type(b) is numpy.ndarray:
        return NotImplemented
    (n, k), m = a.shape[-2:], b.shape[-1]
    if n * k * m <= SMALL:
        return numpy.matmul(a, b)
    lead = () if a.ndim == b.ndim == 2 else numpy.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    if math.prod(lead) * n * k * m <= CHUNK:
        with one_blas_thread:
            return numpy.matmul(a, b)
    y = numpy.empty((*lead, n, m), numpy.result_type(a, b))

    def part(chunk: slice) -> tuple[Array, Array, Array]:
        if lead:
            left, right = (x[chunk] if x.ndim == y.ndim and len(x) == lead[0] else x for x in (a, b))
            return left, right, y[chunk]
        return (a[chunk], b, y[chunk]) if n >= m else (a, b[:, chunk], y[:, chunk])

    def work(chunks: Iterator[slice]) -> None:
        for chunk in chunks:
            left, right, out = part(chunk)
            numpy.matmul(left, right, out=out)
    length = lead[0] if lead else max(n, m)
    run(work, split(length, math.prod(lead) * n * k * m // length, CHUNK))
    return y


def column_sums(x: Array, y: Array = None) -> Array:
    """Return the sums over all axes but the last of x, or of x y: many times faster than NumPy's sum."""
    if y is None:
        return numpy.ones(x.size // x.shape[-1], x.dtype) @ x.reshape(-1, x.shape[-1])
    rows = (-1, math.prod(x.shape[-2:]) if x.ndim > 2 else x.shape[-1])
    return numpy.einsum("ij,ij->j", x.reshape(rows), y.reshape(rows)).reshape(-1, x.shape[-1]).sum(0)
