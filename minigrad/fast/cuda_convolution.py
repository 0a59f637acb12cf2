"""Convolution on CuPy: the windows as rows of a matrix, by a kernel, and one product by cuBLAS."""
import math
from collections.abc import Iterator
from typing import Any

from ..backend import module_of
from ..ops.windows import Border, Pair, output_size
from ..typing import Array
from .convolution import turn
from .cublas import has_kernels, product
from .cuda_windows import fold, unfold
from .threads import split

CHUNK = 1 << 32         # bytes of windows at a time


def _window_rows(x: Array, counts: Pair, window: Pair, stride: Pair, padding: Border) -> Iterator[tuple[slice, Array]]:
    """Return for each chunk of the batch its slice and the matrix with one window per row."""
    for chunk in split(len(x), math.prod(counts) * math.prod(window) * x.shape[3] * x.itemsize, CHUNK):
        yield chunk, unfold(x[chunk], counts, window, stride, padding)


def conv2d(x: Array, k: Array, stride: Pair, padding: Border) -> Any:
    """Return the convolution of x with k: im2col and cuBLAS."""
    if not has_kernels(x, k):
        return NotImplemented
    window, outputs = k.shape[:2], k.shape[3]
    counts, matrix = output_size(x.shape[1:3], window, stride, padding), k.reshape(-1, outputs)
    y = module_of(x).empty((len(x), *counts, outputs), x.dtype)
    for chunk, rows in _window_rows(x, counts, window, stride, padding):
        product(rows, matrix, out=y[chunk].reshape(len(rows), outputs))
    return y


def conv2d_kernel(x: Array, g: Array, window: Pair, stride: Pair, padding: Border) -> Any:
    """Return the convolution's pull to its kernel."""
    if not has_kernels(x, g):
        return NotImplemented
    outputs = g.shape[3]
    total: Array = None
    for chunk, rows in _window_rows(x, g.shape[1:3], window, stride, padding):
        more = product(rows.T, g[chunk].reshape(len(rows), outputs))
        total = more if total is None else total + more
    return total.reshape(*window, x.shape[3], outputs)


def conv2d_input(g: Array, k: Array, size: Pair, stride: Pair, padding: Border) -> Any:
    """Return the convolution's pull to its image."""
    if not has_kernels(g, k) or not math.prod(size):        # images without pixels
        return NotImplemented
    if turned := turn(g, k, size, stride, padding):
        return conv2d(g, *turned)
    A, B, channels, outputs = k.shape
    x, matrix = module_of(g).empty((len(g), *size, channels), g.dtype), k.reshape(-1, outputs).T
    for chunk in split(len(g), math.prod(g.shape[1:3]) * matrix.shape[1] * g.itemsize, CHUNK):
        rows = product(g[chunk].reshape(-1, outputs), matrix)
        fold(rows.reshape(*g[chunk].shape[:3], A, B, channels), size, stride, padding, x[chunk])
    return x
