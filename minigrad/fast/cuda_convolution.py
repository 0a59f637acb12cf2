"""Convolution on CuPy: the windows as rows of a matrix, by a kernel, and one product by cuBLAS."""
import math

from ..backend import module_of
from ..ops.windows import output_size
from . import cuda
from .convolution import turn
from .cublas import has_kernels, product

CHUNK = 1 << 32         # bytes of windows at a time, as kernels count elements in 32 bits


def _batches(n, bytes_each):
    step = max(CHUNK // max(bytes_each, 1), 1)
    return [slice(i, min(i + step, n)) for i in range(0, n, step)]


def _window_rows(x, counts, window, stride, padding):
    """The windows of the images, as many at a time as a kernel can count: (slice, matrix with one window per row)."""
    for part in _batches(len(x), math.prod(counts) * math.prod(window) * x.shape[3] * x.itemsize):
        yield part, cuda.unfold(x[part], counts, window, stride, padding)


def conv2d(x, k, stride, padding):
    """The convolution of x with k: im2col and cuBLAS."""
    if not has_kernels(x, k):
        return NotImplemented
    window, outputs = k.shape[:2], k.shape[3]
    counts, matrix = output_size(x.shape[1:3], window, stride, padding), k.reshape(-1, outputs)
    y = module_of(x).empty((len(x), *counts, outputs), x.dtype)
    for part, rows in _window_rows(x, counts, window, stride, padding):
        product(rows, matrix, out=y[part].reshape(len(rows), outputs))
    return y


def conv2d_kernel(x, g, window, stride, padding):
    """The convolution's pull to its kernel."""
    if not has_kernels(x, g):
        return NotImplemented
    outputs, total = g.shape[3], None
    for part, rows in _window_rows(x, g.shape[1:3], window, stride, padding):
        more = product(rows.T, g[part].reshape(len(rows), outputs))
        total = more if total is None else total + more
    return total.reshape(*window, x.shape[3], outputs)


def conv2d_input(g, k, size, stride, padding):
    """The convolution's pull to its image."""
    if not has_kernels(g, k):
        return NotImplemented
    if turned := turn(g, k, size, stride, padding):
        return conv2d(g, *turned)
    A, B, channels, outputs = k.shape
    x, matrix = module_of(g).empty((len(g), *size, channels), g.dtype), k.reshape(-1, outputs).T
    for part in _batches(len(g), math.prod(g.shape[1:3]) * matrix.shape[1] * g.itemsize):
        rows = product(g[part].reshape(-1, outputs), matrix)
        cuda.fold(rows.reshape(*g[part].shape[:3], A, B, channels), size, stride, padding, x[part])
    return x
