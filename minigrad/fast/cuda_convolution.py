"""Convolution on CuPy: by a kernel where output channels are few, else by windows as rows of matrices, and cuBLAS.

The kernel, in conv2d.cu, reads windows where they lie. It is for float32. cuBLAS is as fast or faster where each number
of a window serves many outputs, and where it may use tensor cores: in float64, and in float32 with "tf32".

There too, moving the windows costs more than multiplying them unless outputs are very many. With all windows in the
rows of one matrix (im2col), an image is written A B times over, and read as often. So where windows overlap from left
to right, the image is unfolded downwards alone, and written A times over: a *band* is the part of the image that one
row of windows covers, one column of A pixels after the other. In it a window is B columns side by side, in one piece of
memory. Window j of every band is a row of matrix j, and the matrices make a stack, a view of the bands in which
neighbors overlap. cuBLAS multiplies it in one call.

    a band       | | | | | |       B = 3
    window 0     -----             a row of matrix 0
    window 1       -----                        ... 1
    window 2         -----                      ... 2

The gradient of a kernel is a sum over all windows. It takes them as one matrix, so that `cublas.product` can split it.
"""
import math
from collections.abc import Iterator
from typing import Any

import numpy

from ..backend import matmul_precision, module_of
from ..ops.windows import Border, Pair, output_size
from ..typing import Array
from .convolution import turn
from .cublas import LONGEST, STACK, has_kernels, product
from .cuda import launch
from .cuda_windows import fold, unfold
from .threads import split

# Of the kernel, as measured on an H100:
TILES = {16: (256, 16), 32: (128, 32)}      # outputs: (pixels, slice), see conv2d.cu. A tile of 64 outputs is no faster
FEW = 128               # outputs, at most: 1.7 times as fast as cuBLAS for 96; in tiles of 64, 1.3 for 128, 1.0 for 160
LONG = 2048             # numbers in a window, at most, as a block walks along all of them: 5 times as fast for 1440
SHORT = 256             # ... with fewer than BLOCKS: two take 27 us for 576 and 88 us for 1980, so about 12 us for 256,
BLOCKS = 64             # and cuBLAS 13 us and more. 100 blocks are faster than cuBLAS: 28 us for 576, against 34 us

# Of cuBLAS, not measured:
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
    if _kernel_pays(y, k, stride, padding):
        _conv2d_by_kernel(x, k, stride, padding, y)
        return y
    if _bands_pay(y, k, stride):
        _conv2d_by_bands(x, k, stride, padding, y)
        return y
    matrix = k.reshape(-1, outputs)
    for chunk, rows in _window_rows(x, counts, window, stride, padding):
        product(rows, matrix, out=y[chunk].reshape(len(rows), outputs))
    return y


def _kernel_pays(y: Array, k: Array, stride: Pair, padding: Border) -> bool:
    """Return whether y = conv2d(x, k) is computed by the kernel."""
    if y.dtype != "float32" or matmul_precision() == "tf32" or math.prod(y.shape[:3]) > LONGEST:
        return False
    one_pixel = k.shape[:2] == stride == (1, 1) and padding == ((0, 0), (0, 0))         # a product as it is
    longest = LONG if math.prod(_grid(y)) >= BLOCKS else SHORT
    return y.shape[3] <= FEW and math.prod(k.shape[:3]) <= longest and not one_pixel


def _tile(y: Array) -> int:
    """Return the outputs that a block of the kernel computes."""
    return min(TILES) if y.shape[3] <= min(TILES) else max(TILES)


def _grid(y: Array) -> Pair:
    """Return the number of blocks: along the pixels of y, and along its outputs."""
    tile = _tile(y)
    return -(-math.prod(y.shape[:3]) // TILES[tile][0]), -(-y.shape[3] // tile)


def _conv2d_by_kernel(x: Array, k: Array, stride: Pair, padding: Border, y: Array) -> None:
    """Write the convolution of x with k to y, by conv2d.cu."""
    xp, tile = module_of(x), _tile(y)
    pixels, depth = TILES[tile]
    x, k = xp.ascontiguousarray(x), xp.ascontiguousarray(k)
    count, wide = math.prod(y.shape[:3]), x.shape[3] % 4 == 0 and x.data.ptr % 16 == 0
    geometry = numpy.array([*x.shape[1:], *y.shape[1:], *k.shape[:2], *stride, padding[0][0], padding[1][0]], "int32")
    launch(xp, "conv2d.cu", f"conv2d<{pixels}, {tile}, {depth}>", _grid(y), x, k, y, numpy.uint32(count),
           geometry.view("V48"), numpy.int32(wide))


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
