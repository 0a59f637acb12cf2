"""Convolution on NumPy: a few images at a time, on threads.

The windows of a chunk stay in cache, where they are copied to the rows of a matrix and multiplied (im2col). With few
channels they are multiplied where they lie: see the second half.
"""
import functools
import math
import operator
from collections.abc import Iterable, Iterator

import numpy

from ..ops.windows import Border, Pair, _fold, output_size, view
from ..typing import Array
from .threads import GROUPS, map_chunks, run, scratch, split

WINDOWS = 3 << 20       # bytes of windows, or of products with them, at a time


def turn(g: Array, k: Array, size: Pair, stride: Pair, padding: Border) -> tuple[Array, Pair, Border] | None:
    """Return the kernel, stride and padding with which conv2d_input is a convolution of g; None where it is none.

    With stride 1 it is one with the kernel turned by half a turn, unless the image was padded wider than the kernel.
    """
    (top, bottom), (left, right) = [
        (window - 1 - before, n + before - count) for window, n, count, (before, _)
        in zip(k.shape[:2], size, g.shape[1:3], padding)]
    if stride != (1, 1) or min(top, bottom, left, right) < 0:
        return None
    return k[::-1, ::-1].transpose(0, 1, 3, 2), stride, ((top, bottom), (left, right))


def conv2d(x: Array, k: Array, stride: Pair, padding: Border) -> Array:
    """Return the convolution of x with k."""
    window, outputs = k.shape[:2], k.shape[3]
    rows, columns = output_size(x.shape[1:3], window, stride, padding)
    y = numpy.empty((x.shape[0], rows, columns, outputs), numpy.result_type(x, k))
    if _has_few_channels(min(k.shape[2:]), stride):
        _conv2d_uncopied(x, k, padding, y)
        return y
    matrix = k.reshape(math.prod(k.shape[:3]), outputs)

    def work(chunks: Iterator[slice]) -> None:
        for chunk, windows in _copied_windows(x, chunks, window, stride, padding):
            numpy.matmul(windows, matrix, out=y[chunk].reshape(len(windows), outputs))
    run(work, split(len(x), rows * columns * len(matrix) * x.itemsize, WINDOWS))
    return y


def conv2d_kernel(x: Array, g: Array, window: Pair, stride: Pair, padding: Border) -> Array:
    """Return the convolution's pull to its kernel: the sum over all images."""
    shape = (*window, x.shape[3], g.shape[3])
    few = _has_few_channels(max(shape[2:]), stride)
    bytes_each = math.prod(g.shape[1:3]) * math.prod(shape[:3]) * x.itemsize // (3 if few else 1)
    chunks = split(len(x), bytes_each, WINDOWS)

    def partial_sum(chunks: Iterable[slice]) -> Array:
        of_chunks = _kernels_uncopied if few else _kernels_copied
        return functools.reduce(operator.iadd, of_chunks(x, g, chunks, window, stride, padding))
    parts = map_chunks(partial_sum, [chunks[i::GROUPS] for i in range(min(len(chunks), GROUPS))])
    return functools.reduce(operator.iadd, parts).reshape(shape) if parts else numpy.zeros(
        shape, numpy.result_type(x, g))


def conv2d_input(g: Array, k: Array, size: Pair, stride: Pair, padding: Border) -> Array:
    """Return the convolution's pull to its image."""
    A, B, channels, outputs = k.shape
    if turned := turn(g, k, size, stride, padding):
        return conv2d(g, *turned)
    x = numpy.empty((g.shape[0], *size, channels), numpy.result_type(g, k))
    matrix = k.reshape(A * B * channels, outputs).T

    def work(chunks: Iterator[slice]) -> None:
        for chunk in chunks:
            n, rows, columns, _ = g[chunk].shape
            windows = numpy.matmul(g[chunk].reshape(n * rows * columns, outputs), matrix)
            x[chunk] = _fold(windows.reshape(n, rows, columns, A, B, channels), size, stride, padding)
    run(work, split(g.shape[0], math.prod(g.shape[1:3]) * matrix.shape[1] * g.dtype.itemsize, WINDOWS))
    return x


# ------------------------------------------------------------------------------------- windows, copied to a matrix

def _copied_windows(x: Array, chunks: Iterable[slice], window: Pair, stride: Pair,
                    padding: Border) -> Iterator[tuple[slice, Array]]:
    """Return for each chunk of a batch the slice, and a matrix with one window in each row."""
    (top, bottom), (left, right) = padding
    n, h, w, c = x.shape
    padded = None
    for chunk in chunks:
        count = chunk.stop - chunk.start
        if padded is None or count > len(padded):           # the border is written once, the inside for every chunk
            padded = scratch("padded", (count, h + top + bottom, w + left + right, c), x)
            padded[...] = 0.0
        padded[:count, top:top + h, left:left + w] = x[chunk]
        windows = view(padded[:count], window, stride)
        matrix = scratch("windows", windows.shape, x)
        matrix[...] = windows
        yield chunk, matrix.reshape(math.prod(windows.shape[:3]), math.prod(windows.shape[3:]))


def _kernels_copied(x: Array, g: Array, chunks: Iterable[slice], window: Pair, stride: Pair,
                    padding: Border) -> Iterator[Array]:
    """Return the kernel's gradient from each chunk."""
    for chunk, windows in _copied_windows(x, chunks, window, stride, padding):
        yield numpy.matmul(windows.T, g[chunk].reshape(len(windows), g.shape[3]))


# ---------------------------------------------------------------------------------------- windows, where they lie
#
# Where there are few channels, copying the windows takes as long as multiplying them. So an image is laid out once, as
# one long line of pixels: its rows one after the other, with zeros between. Here it has rows of 4 pixels, 2 zeros are
# between two rows (`across` = 6), and kernels are A x B = 3 x 3:
#
#     pixel     0  1  2  3  4  5 | 6  7  8  9 10 11 |12 13 14 15 16 17 | ...
#               x  x  x  x  0  0 | x  x  x  x  0  0 | x  x  x  x  0  0 | ...
#     window 0  --------           --------           --------            its rows a = 0, 1, 2
#     window 3           --------           --------           --------
#
# Under row a of the kernel, window p has the B pixels from a * across + p on: B c numbers side by side. Those of window
# p + B come next in memory. So the windows b, b + B, b + 2 B ... have their rows a in the rows of a matrix, without a
# copy; there are A B such matrices for each image, one for each pair (a, b). The windows that reach over the end of an
# image row are computed as well and left out of the result.
#
# BLAS takes the matrices as they are, and they are small enough for OpenBLAS to multiply them without a copy of its
# own. With 100 images, 3x3 kernels and two threads, this takes 0.65 of the time of the form above at 32x32x16, 0.7 at
# 16x16x32, and at 8x8x64 1.0, for the kernel 1.2.

FEW_CHANNELS = 64


def _has_few_channels(channels: int, stride: Pair) -> bool:
    return channels < FEW_CHANNELS and stride == (1, 1)


def _row_windows(x: Array, chunks: Iterable[slice], window: Pair,
                 padding: Border) -> Iterator[tuple[slice, Array, int]]:
    """Return for each chunk: the slice, the matrices (images, A, B, windows of a matrix, B c), and `across`.

    Row j of matrix (a, b) of an image holds the pixels under row a of the kernel for window j B + b of the image.
    """
    (A, B), ((top, bottom), (left, right)) = window, padding
    n, h, w, c = x.shape
    height = h + top + bottom
    across = max(w + max(left, right), w + left + right - B + 1)       # the zeros to the right of a row serve the next
    matrix_rows = -(-(height - A + 1) * across // B)
    image = max(height * across, (A - 1) * across + matrix_rows * B + B - 1)        # pixels of an image, and beyond it
    zeroed = None
    for chunk in chunks:
        count = chunk.stop - chunk.start
        if zeroed is None or count > len(zeroed):           # the zeros are written once, the rows for every chunk
            zeroed = scratch("zeroed", (count, image, c), x)
            zeroed[...] = 0.0
        rows = zeroed[:count, :height * across].reshape(count, height, across, c)
        rows[:, top:top + h, left:left + w] = x[chunk]
        strides = [step * x.itemsize for step in (image * c, across * c, c, B * c, 1)]
        yield chunk, numpy.ndarray((count, A, B, matrix_rows, B * c), x.dtype, zeroed, 0, strides), across


def _conv2d_uncopied(x: Array, k: Array, padding: Border, y: Array) -> None:
    """Write the convolution of x with k to y: the sum of the products with each row of the kernel."""
    A, B, c, outputs = k.shape
    rows, columns = y.shape[1:3]
    kernel_rows = k.reshape(A, 1, 1, B * c, outputs)

    def work(chunks: Iterator[slice]) -> None:
        for chunk, windows, across in _row_windows(x, chunks, (A, B), padding):
            count, matrix_rows = len(windows), windows.shape[3]
            z = scratch("products", (A, count, matrix_rows, B, outputs), y)         # in the order of the windows
            numpy.matmul(windows.transpose(1, 0, 2, 3, 4), kernel_rows, out=z.transpose(0, 1, 3, 2, 4))
            for a in range(1, A):
                z[0] += z[a]
            total = z[0].reshape(count, matrix_rows * B, outputs)[:, :rows * across]
            y[chunk] = total.reshape(count, rows, across, outputs)[:, :, :columns]
    run(work, split(len(x), math.prod(y.shape[1:]) * (A + 1) * y.itemsize, WINDOWS))


def _kernels_uncopied(x: Array, g: Array, chunks: Iterable[slice], window: Pair, stride: Pair,
                      padding: Border) -> Iterator[Array]:
    """Return the kernel's gradient from each chunk. Windows over the end of an image row have the cotangent 0."""
    rows, columns, outputs = g.shape[1:]
    for chunk, windows, across in _row_windows(x, chunks, window, padding):
        count, _, B, matrix_rows, _ = windows.shape
        z = scratch("products", (count, matrix_rows * B, outputs), g)
        z[...] = 0.0
        z[:, :rows * across].reshape(count, rows, across, outputs)[:, :, :columns] = g[chunk]
        matrices = z.reshape(count, 1, matrix_rows, B, outputs).transpose(0, 1, 3, 2, 4)
        yield numpy.add.reduce(numpy.matmul(windows.transpose(0, 1, 2, 4, 3), matrices), (0, 2))
