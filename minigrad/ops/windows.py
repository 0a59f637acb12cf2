"""Windows that slide over images: convolution and pooling.

Images are (n, height, width, channels), kernels (A, B, channels, outputs). A geometry is a window size (A, B),
a stride and a padding; the public functions take them as a user writes them, the primitives as pairs.

Convolution is one trilinear form in image x, kernel k and cotangent g,

    <g, conv2d(x, k)> = sum over n, i, j, a, b, c, o of  g[n, i, j, o] x[n, i s + a, j s + b, c] k[a, b, c, o]

(x padded), and has three faces, one for each argument left open: conv2d, conv2d_input and conv2d_kernel. Each is
bilinear, and its two adjoints are the other two faces; so derivatives of every order are again convolutions.

Each face gathers the windows of a few images at a time into the rows of a matrix that stays in cache, and multiplies
(pieces.py).
"""
import functools
import math
import operator

import numpy

from ..backend import xp
from ..core import Box, is_float, raw
from ..errors import DTypeError, ShapeError, message, shape
from ..kinds import bilinear, linear
from ..pieces import GROUPS, cut, each, scratch, share
from .reductions import mean
from .shaping import getitem, ravel, reshape

WINDOWS = 3 << 20       # bytes of windows, or of products with them, at a time on the CPU


# ---------------------------------------------------------------------------------------------- geometry

def _pair(value, what, least=1):
    """Two integers, of one or two given. Raises ShapeError."""
    try:
        pair = tuple(map(operator.index, value if isinstance(value, (tuple, list)) else (value, value)))
    except TypeError:
        pair = ()
    if len(pair) != 2 or min(pair) < least:
        raise ShapeError(f"{what} must be one integer or two, not below {least}: {value!r}")
    return pair


def _geometry(call, x, window, stride, padding):
    """Window, stride and padding ((top, bottom), (left, right)) as pairs, checked against the image."""
    window, stride, size = _pair(window, f"{call}: window"), _pair(stride, f"{call}: stride"), shape(x)[1:3]
    if padding == "same":                                   # ceil(size / stride) windows, the odd row at the end
        total = [max((-(-n // s) - 1) * s + w - n, 0) for n, w, s in zip(size, window, stride)]
        padding = [(t // 2, t - t // 2) for t in total]
    elif padding == "valid":
        padding = 0
    elif isinstance(padding, str):
        raise ShapeError(f"{call}: padding is 'same', 'valid', an integer or pairs, not {padding!r}")
    padding = padding if isinstance(padding, (tuple, list)) and len(padding) == 2 else (padding, padding)
    padding = tuple(_pair(p, f"{call}: the padding of each side", least=0) for p in padding)
    if any(n + sum(p) < w for n, p, w in zip(size, padding, window)):
        raise ShapeError(message(call, "the window is larger than the padded image",
                                 [("x", x, f"window {window}, padding {padding}")],
                                 "pad the image, or use padding='same'"))
    return window, stride, padding


def _check_image(call, x):
    if len(shape(x)) != 4:
        raise ShapeError(message(call, "an image batch has four axes", [("x", x, "")],
                                 "give (n, height, width, channels); one grey image is x[None, :, :, None]"))


def _counts(size, window, stride, padding):
    """How many windows fit, down and across."""
    return tuple((n + sum(p) - w) // s + 1 for n, w, s, p in zip(size, window, stride, padding))


# -------------------------------------------------------------------------- unfold and fold, on plain arrays

def _padded(x, padding, value=0.0):
    (top, bottom), (left, right) = padding
    if not (top or bottom or left or right):
        return x
    n, h, w, c = x.shape
    y = xp.full((n, h + top + bottom, w + left + right, c), value, x.dtype)
    y[:, top:top + h, left:left + w] = x
    return y


def _view(x, window, stride):
    """The windows of a padded batch as a view: (n, rows, columns, A, B, c)."""
    (rows, columns), (n, c) = _counts(x.shape[1:3], window, stride, ((0, 0), (0, 0))), (x.shape[0], x.shape[3])
    sn, sh, sw, sc = x.strides
    return xp.lib.stride_tricks.as_strided(x, (n, rows, columns, *window, c),
                                           (sn, sh * stride[0], sw * stride[1], sh, sw, sc))


def _unfold(x, window, stride, padding):
    return _view(_padded(x, padding), window, stride)


def _fold(v, size, stride, padding):
    n, rows, columns, A, B, c = v.shape
    (top, bottom), (left, right) = padding
    y = xp.zeros((n, size[0] + top + bottom, size[1] + left + right, c), v.dtype)
    for a in range(A):
        for b in range(B):
            y[:, a:a + stride[0] * rows:stride[0], b:b + stride[1] * columns:stride[1]] += v[:, :, :, a, b]
    return y[:, top:top + size[0], left:left + size[1]]


_unfold_primitive = linear(_unfold, lambda g, s, window, stride, padding: fold(g, s[1:3], stride, padding))
_fold_primitive = linear(_fold, lambda g, s, size, stride, padding: _unfold_primitive(
    g, window=s[3:5], stride=stride, padding=padding))


def unfold(x, window, stride=1, padding=0):
    """All windows of a batch of images: (n, h, w, c) to (n, rows, columns, A, B, c). A view where nothing is padded."""
    return _unfolded("unfold(x)", x, window, stride, padding)


def _unfolded(call, x, window, stride, padding):
    _check_image(call, x)
    window, stride, padding = _geometry(call, x, window, stride, padding)
    return _unfold_primitive(x, window=window, stride=stride, padding=padding)


def fold(v, size, stride, padding):
    """The adjoint of unfold: adds the windows up where they came from, in images of this size (pairs only)."""
    return _fold_primitive(v, size=size, stride=stride, padding=padding)


# ------------------------------------------------------------------------------------------- convolution

def _rows(x, pieces, window, stride, padding):
    """The windows of some pieces of a batch: (slice of the batch, matrix with one window per row) for each."""
    (top, bottom), (left, right) = padding
    n, h, w, c = x.shape
    padded = None
    for piece in pieces:
        count = piece.stop - piece.start
        if padded is None or count > len(padded):           # the border is written once, the inside for every piece
            padded = scratch("padded", (count, h + top + bottom, w + left + right, c), x.dtype)
            padded[...] = 0.0
        padded[:count, top:top + h, left:left + w] = x[piece]
        view = _view(padded[:count], window, stride)
        rows = scratch("rows", view.shape, x.dtype)
        rows[...] = view
        yield piece, rows.reshape(math.prod(view.shape[:3]), math.prod(view.shape[3:]))


def _conv2d(x, k, stride, padding):
    window, outputs = k.shape[:2], k.shape[3]
    places = _counts(x.shape[1:3], window, stride, padding)
    y = xp.empty((x.shape[0], *places, outputs), xp.result_type(x, k))
    if _few_channels(x, k.shape, stride):
        _conv2d_uncopied(x, k, padding, y)
        return y
    matrix = k.reshape(math.prod(k.shape[:3]), outputs)

    def work(pieces):
        for piece, rows in _rows(x, pieces, window, stride, padding):
            xp.matmul(rows, matrix, out=y[piece].reshape(len(rows), outputs))
    share(work, cut(len(x), math.prod(places) * len(matrix) * x.itemsize, WINDOWS))
    return y


def _conv2d_kernel(x, g, window, stride, padding):
    places, outputs = g.shape[1:3], g.shape[3]
    k = xp.zeros((*window, x.shape[3], outputs), xp.result_type(x, g))
    few = _few_channels(x, k.shape, stride)

    def product(pieces):
        if few:
            return functools.reduce(operator.iadd, _kernels_uncopied(x, g, pieces, window, padding))
        return functools.reduce(operator.iadd, (rows.T @ g[piece].reshape(len(rows), outputs)
                                                for piece, rows in _rows(x, pieces, window, stride, padding)))
    pieces = cut(len(x), math.prod(places) * math.prod(window) * x.shape[3] * x.itemsize // (3 if few else 1), WINDOWS)
    for part in each(product, [pieces[i::GROUPS] for i in range(min(len(pieces), GROUPS))]):
        k += part.reshape(k.shape)
    return k


# Where there are few channels, copying the windows takes as long as multiplying them. Nothing is copied here: the
# images lie row by row with zeros between, so that the B pixels under a row of the kernel are B c numbers in a row, and
# every B-th window is the next row of a matrix that BLAS takes as it is. There are A B such matrices for an image,
# small enough for OpenBLAS to multiply them without a copy of its own. ResNet-32, against the form above: 0.65 of the
# time with 16 channels, 0.8 with 32, 1.0 with 64 (and 1.6 for the kernel).

def _few_channels(x, kernel, stride):
    return stride == (1, 1) and min(kernel[2:]) < 64 and isinstance(x, numpy.ndarray)


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
            zeroed = scratch("zeroed", (count, image, c), x.dtype)
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
            z = scratch("products", (A, count, q, B, outputs), y.dtype)
            xp.matmul(windows.transpose(1, 0, 2, 3, 4), matrices, out=z.transpose(0, 1, 3, 2, 4))
            for a in range(1, A):
                z[0] += z[a]
            z = z[0].reshape(count, q * B, outputs)[:, :rows * across]
            y[piece] = z.reshape(count, rows, across, outputs)[:, :, :columns]
    share(work, cut(len(x), math.prod(y.shape[1:]) * (A + 1) * y.itemsize, WINDOWS))


def _kernels_uncopied(x, g, pieces, window, padding):
    """The kernel's gradient from each piece."""
    rows, columns, outputs = g.shape[1:]
    for piece, windows, across in _row_windows(x, pieces, window, padding):
        count, A, B, q, width = windows.shape
        z = scratch("products", (count, q * B, outputs), g.dtype)
        z[...] = 0.0
        z[:, :rows * across].reshape(count, rows, across, outputs)[:, :, :columns] = g[piece]
        z = z.reshape(count, 1, q, B, outputs).transpose(0, 1, 3, 2, 4)
        yield xp.add.reduce(xp.matmul(windows.transpose(0, 1, 2, 4, 3), z), (0, 2))


def _conv2d_input(g, k, size, stride, padding):
    A, B, channels, outputs = k.shape
    turned = tuple((w - 1 - before, n + before - m) for w, n, m, (before, _) in
                   zip((A, B), size, g.shape[1:3], padding))
    if stride == (1, 1) and all(p >= 0 for pair in turned for p in pair):       # a convolution with k turned round
        return _conv2d(g, k[::-1, ::-1].transpose(0, 1, 3, 2), stride, turned)
    x = xp.empty((g.shape[0], *size, channels), xp.result_type(g, k))
    matrix = k.reshape(math.prod(k.shape[:3]), outputs).T

    def work(pieces):
        for piece in pieces:
            part = g[piece]
            rows = part.reshape(math.prod(part.shape[:3]), outputs) @ matrix
            x[piece] = _fold(rows.reshape(*part.shape[:3], A, B, channels), size, stride, padding)
    share(work, cut(g.shape[0], math.prod(g.shape[1:3]) * matrix.shape[1] * g.dtype.itemsize, WINDOWS))
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
    _check_image("conv2d(x, k)", x)
    if len(shape(k)) != 4:
        raise ShapeError(message("conv2d(x, k)", "a kernel has four axes", [("k", k, "")],
                                 "give (window height, window width, channels in, channels out)"))
    if shape(x)[3] != shape(k)[2]:
        rows = [("x", x, f"channels {shape(x)[3]} (last axis)"), ("k", k, f"channels {shape(k)[2]} (axis 2)")]
        raise ShapeError(message("conv2d(x, k)", "channels differ", rows,
                                 f"a kernel for this image has shape {(*shape(k)[:2], shape(x)[3], shape(k)[3])}"))
    _, stride, padding = _geometry("conv2d(x, k)", x, shape(k)[:2], stride, padding)
    return _conv(x, k, stride=stride, padding=padding)


# ----------------------------------------------------------------------------------------------- pooling

def max_pool2d(x, window, stride=None, padding=0):
    """The largest element of each window and channel: (n, h, w, c) to (n, rows, columns, c).

    stride: that of the window if not given; padding as in conv2d, and never a winner. Where several elements are
    equal, the first one (left to right, top to bottom) is the winner and takes the derivative.
    """
    _check_image("max_pool2d(x)", x)
    if not is_float(raw(x)):
        raise DTypeError(message("max_pool2d(x)", "only floating-point images are pooled: padding is -infinity",
                                 [("x", x, "")], "x.astype(float)"))
    geometry = _geometry("max_pool2d(x)", x, window, window if stride is None else stride, padding)
    if any(p >= w for w, pair in zip(geometry[0], geometry[2]) for p in pair):
        raise ShapeError(f"max_pool2d(x): padding {geometry[2]} leaves windows {geometry[0]} without an element")
    taps = _taps(raw(x), *geometry)
    best = taps[0].copy()
    for tap in taps[1:]:
        xp.maximum(best, tap, out=best)
    if type(x) is not Box:
        return best
    winners = _winners(best, taps, shape(x), *geometry)     # in one row: taking and adding up is much faster so
    return reshape(getitem(ravel(x), winners.ravel()), winners.shape)


def _winners(best, taps, s, window, stride, padding):
    """For each window the place of its largest element in the flattened batch of shape s. Plain integers."""
    (n, h, w, c), (rows, columns) = s, best.shape[1:3]
    lost, winner = xp.ones(best.shape, bool), xp.zeros(best.shape, "uint8" if len(taps) < 256 else "int32")
    for tap in taps[:-1]:                                   # the winner's number: how many before it are not the best
        lost &= (tap != best) & (tap == tap)                # the first NaN is the best there is, as in argmax
        winner += lost
    a, b = xp.arange(window[0])[:, None], xp.arange(window[1])
    top = xp.arange(rows)[:, None, None, None] * stride[0] - padding[0][0] + a
    left = xp.arange(columns)[:, None, None] * stride[1] - padding[1][0] + b
    pixel = xp.maximum(top, 0) * w + xp.maximum(left, 0)     # a border wins in its corner only
    which = winner + xp.arange(rows * columns).reshape(rows, columns, 1) * len(taps)
    return (pixel * c).ravel()[which] + (xp.arange(n)[:, None, None, None] * (h * w * c) + xp.arange(c))


def _taps(x, window, stride, padding):
    """The first, second ... element of all windows, row by row: one view (n, rows, columns, c) for each.

    The pixels are sorted by their remainder modulo the stride first, so that neighbours in a view are neighbours in
    memory.
    """
    n, h, w, c = x.shape
    (rows, columns), (sh, sw) = _counts((h, w), window, stride, padding), stride
    down, across = rows + (window[0] - 1) // sh, columns + (window[1] - 1) // sw
    (top, _), (left, _) = padding
    image = xp.full((n, max(down * sh, top + h), max(across * sw, left + w), c), -xp.inf, x.dtype)
    image[:, top:top + h, left:left + w] = x
    image = image[:, :down * sh, :across * sw].reshape(n, down, sh, across, sw, c).transpose(2, 4, 0, 1, 3, 5)
    phases = xp.ascontiguousarray(image)
    return [phases[a % sh, b % sw, :, a // sh:a // sh + rows, b // sw:b // sw + columns]
            for a in range(window[0]) for b in range(window[1])]


def avg_pool2d(x, window, stride=None, padding=0):
    """The mean of each window and channel: (n, h, w, c) to (n, rows, columns, c).

    stride: that of the window if not given. Padding counts as zeros, as in PyTorch.
    """
    return mean(_unfolded("avg_pool2d(x)", x, window, window if stride is None else stride, padding), axis=(3, 4))
