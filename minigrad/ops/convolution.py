"""Convolution: one trilinear form in image x, kernel k and cotangent g,

    <g, conv2d(x, k)> = sum over n, i, j, a, b, c, o of  g[n, i, j, o] x[n, i s + a, j s + b, c] k[a, b, c, o]

(x padded; images (n, height, width, channels), kernels (A, B, channels, outputs)). It has three faces, one for each
argument left open: conv2d, conv2d_input and conv2d_kernel. Each is bilinear, and its two adjoints are the other two
faces; so derivatives of every order are again convolutions.

In memory each is one product with the matrix of all windows, one in each row (im2col).
"""
from ..backend import module_of
from ..errors import ShapeError, message, shape
from ..kinds import bilinear
from .windows import _fold, _unfold, check_image, geometry


def _rows(x, window, stride, padding):
    """Return the windows as the rows of a matrix (n rows columns, A B c), and their number (n, rows, columns)."""
    windows = _unfold(x, window, stride, padding)
    n, rows, columns, A, B, c = windows.shape
    return windows.reshape(n * rows * columns, A * B * c), (n, rows, columns)


def _matrix(k):
    A, B, channels, outputs = k.shape
    return k.reshape(A * B * channels, outputs)


def _conv2d(x, k, stride, padding):
    rows, s = _rows(x, k.shape[:2], stride, padding)
    return module_of(x, k).matmul(rows, _matrix(k)).reshape(*s, k.shape[3])


def _conv2d_kernel(x, g, window, stride, padding):
    rows, _ = _rows(x, window, stride, padding)
    g = g.reshape(len(rows), g.shape[3])
    return module_of(x, g).matmul(rows.T, g).reshape(*window, x.shape[3], g.shape[1])


def _conv2d_input(g, k, size, stride, padding):
    n, rows, columns, outputs = g.shape
    v = module_of(g, k).matmul(g.reshape(n * rows * columns, outputs), _matrix(k).T)
    return _fold(v.reshape(n, rows, columns, *k.shape[:3]), size, stride, padding)


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
