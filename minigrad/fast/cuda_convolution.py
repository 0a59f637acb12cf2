"""Convolution on CuPy: the windows as rows of matrices, by a kernel, and products by cuBLAS.

With few output channels there is little arithmetic for each number in a window, and moving the windows costs more. With
all of them in the rows of one matrix (im2col), an image is written A B times over, and read as often. So where windows
overlap from left to right, the image is unfolded downwards alone, and written A times over: a *band* is the part of the
image that one row of windows covers, one column of A pixels after the other. In it a window is B columns side by side,
in one piece of memory. Window j of every band is a row of matrix j, and the matrices make a stack, a view of the bands
in which neighbors overlap. cuBLAS multiplies it in one call.

    a band       | | | | | |       B = 3
    window 0     -----             a row of matrix 0
    window 1       -----                        ... 1
    window 2         -----                      ... 2

The gradient of a kernel is a sum over all windows. It takes them as one matrix, so that `cublas.product` can split it.
"""
import math
from collections.abc import Iterator
from typing import Any

from ..backend import module_of
from ..ops.windows import Border, Pair, output_size
from ..typing import Array
from .convolution import turn
from .cublas import STACK, has_kernels, product
from .cuda_windows import fold, unfold
from .threads import split

CHUNK = 1 << 32         # bytes of windows at a time
SMALL = 1 << 22         # bytes of windows up to which bands do not pay, as they need the rows of the kernel reordered
OUTPUTS = 256           # ... output channels above which arithmetic takes several times as long, by a data sheet (H100)
BANDS = 128             # ... bands below which their matrices have fewer rows than a tile of cuBLAS


def _window_rows(x: Array, counts: Pair, window: Pair, stride: Pair, padding: Border) -> Iterator[tuple[slice, Array]]:
    """Return for each chunk of the batch its slice and the matrix with one window per row."""
    for chunk in split(len(x), math.prod(counts) * math.prod(window) * x.shape[3] * x.itemsize, CHUNK):
        yield chunk, unfold(x[chunk], counts, window, stride, padding)


def conv2d(x: Array, k: Array, stride: Pair, padding: Border) -> Any:
    """Return the convolution of x with k."""
    if not has_kernels(x, k):
        return NotImplemented
    window, outputs = k.shape[:2], k.shape[3]
    counts = output_size(x.shape[1:3], window, stride, padding)
    y = module_of(x).empty((len(x), *counts, outputs), x.dtype)
    if _bands_pay(y, k, stride):
        _conv2d_by_bands(x, k, stride, padding, y)
        return y
    matrix = k.reshape(-1, outputs)
    for chunk, rows in _window_rows(x, counts, window, stride, padding):
        product(rows, matrix, out=y[chunk].reshape(len(rows), outputs))
    return y


def _bands_pay(y: Array, k: Array, stride: Pair) -> bool:
    """Return whether y = conv2d(x, k) is computed by bands."""
    n, rows, columns, outputs = y.shape
    windows = n * rows * columns * math.prod(k.shape[:3]) * y.itemsize
    overlap: bool = k.shape[1] > stride[1]                  # else bands are no smaller than all windows
    return overlap and windows > SMALL and outputs <= OUTPUTS and n * rows >= BANDS and columns <= STACK


def _conv2d_by_bands(x: Array, k: Array, stride: Pair, padding: Border, y: Array) -> None:
    """Write the convolution of x with k to y."""
    (A, _, channels, outputs), (down, across) = k.shape, stride
    (rows, columns), width = y.shape[1:3], x.shape[2] + sum(padding[1])
    matrix = k.transpose(1, 0, 2, 3).reshape(-1, outputs)
    column = A * channels * x.itemsize                      # bytes of one column of pixels
    for chunk, bands in _window_rows(x, (rows, width), (A, 1), (down, 1), padding):
        windows = module_of(x).lib.stride_tricks.as_strided(
            bands, (columns, len(bands) // width, len(matrix)), (across * column, width * column, x.itemsize))
        product(windows, matrix, out=y[chunk].reshape(-1, columns, outputs).transpose(1, 0, 2))


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
