"""Convolution: one trilinear form in image x, kernel k and cotangent g,

    <g, conv2d(x, k)> = sum over n, i, j, a, b, c, o of  g[n, i, j, o] x[n, i s + a, j s + b, c] k[a, b, c, o]

(x padded; images (n, height, width, channels), kernels (A, B, channels, outputs)). It has three faces, one for each
argument left open: conv2d, conv2d_input and conv2d_kernel. Each is bilinear, and its two adjoints are the other two
faces; so derivatives of every order are again convolutions.

Each face multiplies the windows of a few images at a time, which stay in cache (pieces.py).
"""
import functools
import math
import operator

import numpy

from .. import blas, kernels
from ..backend import module_of
from ..errors import ShapeError, message, shape
from ..kinds import bilinear
from ..pieces import GROUPS, cut, each, scratch, share
from .windows import check_image, counts, fold_plain, geometry, view

WINDOWS = 3 << 20       # bytes of windows, or of products with them, at a time on the CPU


def _rows(x, pieces, window, stride, padding):
    """The windows of some pieces of a batch: (slice of the batch, matrix with one window per row) for each."""
    (top, bottom), (left, right) = padding
    n, h, w, c = x.shape
    padded, on_device = None, kernels.fit(x)
    for piece in pieces:
        if on_device:
            yield piece, kernels.unfold(x[piece], counts((h, w), window, stride, padding), window, stride, padding)
            continue
        count = piece.stop - piece.start
        if padded is None or count > len(padded):           # the border is written once, the inside for every piece
            padded = scratch("padded", (count, h + top + bottom, w + left + right, c), x)
            padded[...] = 0.0
        padded[:count, top:top + h, left:left + w] = x[piece]
        windows = view(padded[:count], window, stride)
        rows = scratch("rows", windows.shape, x)
        rows[...] = windows
        yield piece, rows.reshape(math.prod(windows.shape[:3]), math.prod(windows.shape[3:]))


def _conv2d(x, k, stride, padding):
    window, outputs = k.shape[:2], k.shape[3]
    places, xp = counts(x.shape[1:3], window, stride, padding), module_of(x, k)
    y = xp.empty((x.shape[0], *places, outputs), xp.result_type(x, k))
    if _few(min(k.shape[2:]), x, stride):
        _conv2d_uncopied(x, k, padding, y)
        return y
    matrix = k.reshape(math.prod(k.shape[:3]), outputs)

    def work(pieces):
        for piece, rows in _rows(x, pieces, window, stride, padding):
            blas.matmul(rows, matrix, out=y[piece].reshape(len(rows), outputs))
    share(work, cut(len(x), math.prod(places) * len(matrix) * x.itemsize, x, WINDOWS), x)
    return y


def _conv2d_kernel(x, g, window, stride, padding):
    places, outputs, xp = g.shape[1:3], g.shape[3], module_of(x, g)
    s = (*window, x.shape[3], outputs)
    few = _few(max(s[2:]), x, stride)

    def product(pieces):
        if few:
            return functools.reduce(operator.iadd, _kernels_uncopied(x, g, pieces, window, padding))
        return functools.reduce(operator.iadd, (blas.matmul(rows.T, g[piece].reshape(len(rows), outputs))
                                                for piece, rows in _rows(x, pieces, window, stride, padding)))
    size = math.prod(places) * math.prod(window) * x.shape[3] * x.itemsize // (3 if few else 1)
    pieces = cut(len(x), size, x, WINDOWS)
    parts = each(product, [pieces[i::GROUPS] for i in range(min(len(pieces), GROUPS))], x)
    return functools.reduce(operator.iadd, parts).reshape(s) if parts else xp.zeros(s, xp.result_type(x, g))


# Where there are few channels, copying the windows takes as long as multiplying them. Nothing is copied here: the
# images lie row by row with zeros between, so that the B pixels under a row of the kernel are B c numbers in a row, and
# every B-th window is the next row of a matrix that BLAS takes as it is. There are A B such matrices for an image,
# small enough for OpenBLAS to multiply them without a copy of its own. With 100 images, 3x3 kernels, two threads, this
# takes 0.65 of the time of the form above at 32x32x16, 0.7 at 16x16x32, and at 8x8x64 1.0, for the kernel 1.2.

def _few(channels, x, stride):
    return channels < 64 and stride == (1, 1) and isinstance(x, numpy.ndarray)


def _row_windows(x, pieces, window, padding):
    """For some pieces: (slice, matrices (images, A, B, q, B c), pixels in a row with the zeros beside it).

    Row j of matrix (a, b) of an image holds the pixels under row a of the kernel for window j B + b of the image.
    """
    (A, B), ((top, bottom), (left, right)) = window, padding
    n, h, w, c = x.shape
    across = max(w + max(left, right), w + left + right - B + 1)       # the zeros to the right of a row serve the next
    q = -(-(h + top + bottom - A + 1) * across // B)
    image = max((h + top + bottom) * across, (A - 1) * across + q * B + B - 1)
    zeroed = None
    for piece in pieces:
        count = piece.stop - piece.start
        if zeroed is None or count > len(zeroed):
            zeroed = scratch("zeroed", (count, image, c), x)
            zeroed[...] = 0.0
        rows = zeroed[:count, :(h + top + bottom) * across].reshape(count, h + top + bottom, across, c)
        rows[:, top:top + h, left:left + w] = x[piece]
        strides = [m * x.itemsize for m in (image * c, across * c, c, B * c, 1)]
        yield piece, numpy.ndarray((count, A, B, q, B * c), x.dtype, zeroed, 0, strides), across


def _conv2d_uncopied(x, k, padding, y):
    A, B, c, outputs = k.shape
    rows, columns = y.shape[1:3]
    matrices = k.reshape(A, 1, 1, B * c, outputs)

    def work(pieces):
        for piece, windows, across in _row_windows(x, pieces, (A, B), padding):
            count, q = len(windows), windows.shape[3]
            z = scratch("products", (A, count, q, B, outputs), y)
            numpy.matmul(windows.transpose(1, 0, 2, 3, 4), matrices, out=z.transpose(0, 1, 3, 2, 4))
            for a in range(1, A):
                z[0] += z[a]
            z = z[0].reshape(count, q * B, outputs)[:, :rows * across]
            y[piece] = z.reshape(count, rows, across, outputs)[:, :, :columns]
    share(work, cut(len(x), math.prod(y.shape[1:]) * (A + 1) * y.itemsize, x, WINDOWS), x)


def _kernels_uncopied(x, g, pieces, window, padding):
    """The kernel's gradient from each piece."""
    rows, columns, outputs = g.shape[1:]
    for piece, windows, across in _row_windows(x, pieces, window, padding):
        count, A, B, q, width = windows.shape
        z = scratch("products", (count, q * B, outputs), g)
        z[...] = 0.0
        z[:, :rows * across].reshape(count, rows, across, outputs)[:, :, :columns] = g[piece]
        z = z.reshape(count, 1, q, B, outputs).transpose(0, 1, 3, 2, 4)
        yield numpy.add.reduce(numpy.matmul(windows.transpose(0, 1, 2, 4, 3), z), (0, 2))


def _conv2d_input(g, k, size, stride, padding):
    A, B, channels, outputs = k.shape
    turned = tuple((w - 1 - before, n + before - m) for w, n, m, (before, _) in
                   zip((A, B), size, g.shape[1:3], padding))
    if stride == (1, 1) and all(p >= 0 for pair in turned for p in pair):       # a convolution with k turned round
        return _conv2d(g, k[::-1, ::-1].transpose(0, 1, 3, 2), stride, turned)
    xp = module_of(g, k)
    x = xp.empty((g.shape[0], *size, channels), xp.result_type(g, k))
    matrix = k.reshape(math.prod(k.shape[:3]), outputs).T

    def work(pieces):
        for piece in pieces:
            part = g[piece]
            rows = blas.matmul(part.reshape(math.prod(part.shape[:3]), outputs), matrix)
            fold_plain(rows.reshape(*part.shape[:3], A, B, channels), size, stride, padding, x[piece])
    share(work, cut(g.shape[0], math.prod(g.shape[1:3]) * matrix.shape[1] * g.dtype.itemsize, g, WINDOWS), g)
    return x


_conv = bilinear(_conv2d,
                 lambda g, k, s, **p: _conv_input(g, k, size=s[1:3], **p),
                 lambda g, x, s, **p: _conv_kernel(x, g, window=s[:2], **p))
_conv_input = bilinear(_conv2d_input,
                       lambda v, k, s, size, **p: _conv(v, k, **p),
                       lambda v, g, s, size, **p: _conv_kernel(v, g, window=s[:2], **p))
_conv_kernel = bilinear(_conv2d_kernel,
                        lambda v, g, s, window, **p: _conv_input(g, v, size=s[1:3], **p),
                        lambda v, x, s, window, **p: _conv(x, v, **p))


def conv2d(x, k, stride=1, padding=0):
    """The convolution of neural networks (a cross-correlation) of images x with kernels k.

    y[n, i, j, o] = sum over a, b, c of x[n, i s + a, j s + b, c] k[a, b, c, o], with x padded by zeros.

    x: (n, height, width, c); k: (A, B, c, o); y: (n, rows, columns, o). stride: an integer or (down, across).
    padding: "valid" (none), "same" (ceil(size / stride) rows and columns, as in TensorFlow), an integer, or one
    (before, after) for the height and one for the width. Raises ShapeError.
    """
    check_image("conv2d(x, k)", x)
    if len(shape(k)) != 4:
        raise ShapeError(message("conv2d(x, k)", "a kernel has four axes", [("k", k, "")],
                                 "give (window height, window width, channels in, channels out)"))
    if shape(x)[3] != shape(k)[2]:
        rows = [("x", x, f"channels {shape(x)[3]} (last axis)"), ("k", k, f"channels {shape(k)[2]} (axis 2)")]
        raise ShapeError(message("conv2d(x, k)", "channels differ", rows,
                                 f"a kernel for this image has shape {(*shape(k)[:2], shape(x)[3], shape(k)[3])}"))
    _, stride, padding = geometry("conv2d(x, k)", x, shape(k)[:2], stride, padding)
    return _conv(x, k, stride=stride, padding=padding)
