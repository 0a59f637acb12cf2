"""Convolution on NumPy: a few images at a time, on threads.

The windows of a chunk stay in cache, where they are written as the rows of a matrix and multiplied (im2col). With few
channels nothing is copied at all: see _few.
"""
import functools
import math
import operator

import numpy

from ..ops.windows import _fold, output_size, view
from .threads import GROUPS, map_chunks, run, scratch, split

WINDOWS = 3 << 20       # bytes of windows, or of products with them, at a time


def turn(g, k, size, stride, padding):
    """Return the kernel, stride and padding with which conv2d_input is a convolution of g; None where it is none.

    With stride 1 it is one with the kernel turned round.
    """
    turned = tuple((w - 1 - before, n + before - m) for w, n, m, (before, _) in
                   zip(k.shape[:2], size, g.shape[1:3], padding))
    if stride != (1, 1) or any(p < 0 for pair in turned for p in pair):
        return None
    return k[::-1, ::-1].transpose(0, 1, 3, 2), stride, turned


def _rows(x, chunks, window, stride, padding):
    """The windows of some chunks of a batch: (slice of the batch, matrix with one window per row) for each."""
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
        rows = scratch("rows", windows.shape, x)
        rows[...] = windows
        yield chunk, rows.reshape(math.prod(windows.shape[:3]), math.prod(windows.shape[3:]))


def conv2d(x, k, stride, padding):
    """Return the convolution of x with k."""
    window, outputs = k.shape[:2], k.shape[3]
    counts = output_size(x.shape[1:3], window, stride, padding)
    y = numpy.empty((x.shape[0], *counts, outputs), numpy.result_type(x, k))
    if _few(min(k.shape[2:]), x, stride):
        _conv2d_uncopied(x, k, padding, y)
        return y
    matrix = k.reshape(math.prod(k.shape[:3]), outputs)

    def work(chunks):
        for chunk, rows in _rows(x, chunks, window, stride, padding):
            numpy.matmul(rows, matrix, out=y[chunk].reshape(len(rows), outputs))
    run(work, split(len(x), math.prod(counts) * len(matrix) * x.itemsize, WINDOWS))
    return y


def conv2d_kernel(x, g, window, stride, padding):
    """Return the convolution's pull to its kernel: the sum over all images."""
    counts, outputs = g.shape[1:3], g.shape[3]
    s = (*window, x.shape[3], outputs)
    few = _few(max(s[2:]), x, stride)

    def product(chunks):
        if few:
            return functools.reduce(operator.iadd, _kernels_uncopied(x, g, chunks, window, padding))
        return functools.reduce(operator.iadd, (numpy.matmul(rows.T, g[chunk].reshape(len(rows), outputs))
                                                for chunk, rows in _rows(x, chunks, window, stride, padding)))
    size = math.prod(counts) * math.prod(window) * x.shape[3] * x.itemsize // (3 if few else 1)
    chunks = split(len(x), size, WINDOWS)
    parts = map_chunks(product, [chunks[i::GROUPS] for i in range(min(len(chunks), GROUPS))])
    return functools.reduce(operator.iadd, parts).reshape(s) if parts else numpy.zeros(s, numpy.result_type(x, g))


# Where there are few channels, copying the windows takes as long as multiplying them. Nothing is copied here: the
# images lie row by row with zeros between, so that the B pixels under a row of the kernel are B c numbers in a row, and
# every B-th window is the next row of a matrix that BLAS takes as it is. There are A B such matrices for an image,
# small enough for OpenBLAS to multiply them without a copy of its own. With 100 images, 3x3 kernels, two threads, this
# takes 0.65 of the time of the form above at 32x32x16, 0.7 at 16x16x32, and at 8x8x64 1.0, for the kernel 1.2.

FEW_CHANNELS = 64


def _few(channels, x, stride):
    return channels < FEW_CHANNELS and stride == (1, 1)


def _row_windows(x, chunks, window, padding):
    """For some chunks: (slice, matrices (images, A, B, q, B c), pixels in a row with the zeros beside it).

    Row j of matrix (a, b) of an image holds the pixels under row a of the kernel for window j B + b of the image.
    """
    (A, B), ((top, bottom), (left, right)) = window, padding
    n, h, w, c = x.shape
    across = max(w + max(left, right), w + left + right - B + 1)       # the zeros to the right of a row serve the next
    q = -(-(h + top + bottom - A + 1) * across // B)
    image = max((h + top + bottom) * across, (A - 1) * across + q * B + B - 1)
    zeroed = None
    for chunk in chunks:
        count = chunk.stop - chunk.start
        if zeroed is None or count > len(zeroed):
            zeroed = scratch("zeroed", (count, image, c), x)
            zeroed[...] = 0.0
        rows = zeroed[:count, :(h + top + bottom) * across].reshape(count, h + top + bottom, across, c)
        rows[:, top:top + h, left:left + w] = x[chunk]
        strides = [m * x.itemsize for m in (image * c, across * c, c, B * c, 1)]
        yield chunk, numpy.ndarray((count, A, B, q, B * c), x.dtype, zeroed, 0, strides), across


def _conv2d_uncopied(x, k, padding, y):
    A, B, c, outputs = k.shape
    rows, columns = y.shape[1:3]
    matrices = k.reshape(A, 1, 1, B * c, outputs)

    def work(chunks):
        for chunk, windows, across in _row_windows(x, chunks, (A, B), padding):
            count, q = len(windows), windows.shape[3]
            z = scratch("products", (A, count, q, B, outputs), y)
            numpy.matmul(windows.transpose(1, 0, 2, 3, 4), matrices, out=z.transpose(0, 1, 3, 2, 4))
            for a in range(1, A):
                z[0] += z[a]
            z = z[0].reshape(count, q * B, outputs)[:, :rows * across]
            y[chunk] = z.reshape(count, rows, across, outputs)[:, :, :columns]
    run(work, split(len(x), math.prod(y.shape[1:]) * (A + 1) * y.itemsize, WINDOWS))


def _kernels_uncopied(x, g, chunks, window, padding):
    """The kernel's gradient from each chunk."""
    rows, columns, outputs = g.shape[1:]
    for chunk, windows, across in _row_windows(x, chunks, window, padding):
        count, A, B, q, width = windows.shape
        z = scratch("products", (count, q * B, outputs), g)
        z[...] = 0.0
        z[:, :rows * across].reshape(count, rows, across, outputs)[:, :, :columns] = g[chunk]
        z = z.reshape(count, 1, q, B, outputs).transpose(0, 1, 3, 2, 4)
        yield numpy.add.reduce(numpy.matmul(windows.transpose(0, 1, 2, 4, 3), z), (0, 2))


def conv2d_input(g, k, size, stride, padding):
    """Return the convolution's pull to its image."""
    A, B, channels, outputs = k.shape
    if turned := turn(g, k, size, stride, padding):
        return conv2d(g, *turned)
    x = numpy.empty((g.shape[0], *size, channels), numpy.result_type(g, k))
    matrix = k.reshape(math.prod(k.shape[:3]), outputs).T

    def work(chunks):
        for chunk in chunks:
            part = g[chunk]
            rows = numpy.matmul(part.reshape(math.prod(part.shape[:3]), outputs), matrix)
            x[chunk] = _fold(rows.reshape(*part.shape[:3], A, B, channels), size, stride, padding)
    run(work, split(g.shape[0], math.prod(g.shape[1:3]) * matrix.shape[1] * g.dtype.itemsize, WINDOWS))
    return x
