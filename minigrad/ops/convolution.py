"""Convolution is one trilinear form in image x, kernel k and cotangent g.

    <g, conv2d(x, k)> = sum over n, i, j, a, b, c, o of  g[n, i, j, o] x[n, i s + a, j s + b, c] k[a, b, c, o]

(x padded; images (n, height, width, channels), kernels (A, B, channels, outputs)). It has three partial contractions,
one for each argument that is left open: conv2d, conv2d_input and conv2d_kernel. Each is bilinear, and its two adjoints
are the other two; so derivatives of every order are again convolutions.

In memory each is one product with the matrix of all windows, one in each row (im2col).
"""
from __future__ import annotations

from typing import Any, Literal

from ..backend import module_of
from ..core import LISTS, NUMBERS, Primitive, as_arrays
from ..errors import ShapeError, message, shape
from ..kinds import bilinear
from ..typing import Array, Shape
from .shaping import expand_dims, flip, reshape, squeeze
from .windows import Border, Padding, Pair, _border, _fold, _pair, _unfold, as_pairs, check_image, output_size


def _rows(x: Array, window: Pair, stride: Pair, padding: Border) -> tuple[Array, Shape]:
    """Return the windows as the rows of a matrix (n rows columns, A B c), and their number (n, rows, columns)."""
    windows = _unfold(x, window, stride, padding)
    n, rows, columns, A, B, c = windows.shape
    return windows.reshape(n * rows * columns, A * B * c), (n, rows, columns)


def _matrix(k: Array) -> Array:
    A, B, channels, outputs = k.shape
    return k.reshape(A * B * channels, outputs)


def _conv2d(x: Array, k: Array, stride: Pair, padding: Border) -> Array:
    rows, s = _rows(x, k.shape[:2], stride, padding)
    return module_of(x, k).matmul(rows, _matrix(k)).reshape(*s, k.shape[3])


def _conv2d_kernel(x: Array, g: Array, window: Pair, stride: Pair, padding: Border) -> Array:
    rows, _ = _rows(x, window, stride, padding)
    g = g.reshape(len(rows), g.shape[3])
    return module_of(x, g).matmul(rows.T, g).reshape(*window, x.shape[3], g.shape[1])


def _conv2d_input(g: Array, k: Array, size: Pair, stride: Pair, padding: Border) -> Array:
    n, rows, columns, outputs = g.shape
    v = module_of(g, k).matmul(g.reshape(n * rows * columns, outputs), _matrix(k).T)
    return _fold(v.reshape(n, rows, columns, *k.shape[:3]), size, stride, padding)


_conv: Primitive = bilinear(_conv2d,
                            lambda g, k, s, **p: _conv_input(g, k, size=s[1:3], **p),
                            lambda g, x, s, **p: _conv_kernel(x, g, window=s[:2], **p))
_conv_input: Primitive = bilinear(_conv2d_input,
                                  lambda v, k, s, size, **p: _conv(v, k, **p),
                                  lambda v, g, s, size, **p: _conv_kernel(v, g, window=s[:2], **p))
_conv_kernel: Primitive = bilinear(_conv2d_kernel,
                                   lambda v, g, s, window, **p: _conv_input(g, v, size=s[1:3], **p),
                                   lambda v, x, s, window, **p: _conv(x, v, **p))


def conv2d(x: Array, k: Array, stride: int | Pair = 1, padding: Padding = 0) -> Array:
    """Return the convolution of neural networks (a cross-correlation) of images x with kernels k.

    y[n, i, j, o] = sum over a, b, c of x[n, i s + a, j s + b, c] k[a, b, c, o], with x padded by zeros.

    Args:
        x: (n, height, width, c).
        k: (A, B, c, o); the result is (n, rows, columns, o).
        stride: an integer, or (down, across).
        padding: "valid" (none), "same" (ceil(size / stride) rows and columns, as in TensorFlow), an integer, or one
            integer or (before, after) for the height and one for the width.

    Raises:
        ShapeError: where the shapes do not fit, or the window is larger than the padded image.
    """
    check_image("conv2d(x, k)", x)
    if len(shape(k)) != 4:
        raise ShapeError(message("conv2d(x, k)", "a kernel has four axes", [("k", k, "")],
                                 "pass (window height, window width, channels in, channels out)"))
    channels, wanted = shape(x)[3], shape(k)[2]
    if channels != wanted:
        rows = [("x", x, f"channels {channels} (last axis)"), ("k", k, f"channels {wanted} (axis 2)")]
        raise ShapeError(message("conv2d(x, k)", "channels differ", rows,
                                 f"a kernel for this image has shape {(*shape(k)[:2], channels, shape(k)[3])}"))
    A, B = shape(k)[:2]
    _, stride, border = as_pairs("conv2d(x, k)", x, (A, B), stride, padding)
    return _conv(x, k, stride=stride, padding=border)


def conv1d(x: Array, k: Array, stride: int = 1, padding: str | int | Pair = 0) -> Array:
    """Return the convolution of sequences x with kernels k: conv2d of images of height 1.

    y[n, i, o] = sum over a, c of x[n, i s + a, c] k[a, c, o]. x: (n, length, c); k: (A, c, o). stride: s. padding:
    "valid", "same", an integer, or (before, after). Raises ShapeError.
    """
    if len(shape(x)) != 3 or len(shape(k)) != 3 or shape(x)[2] != shape(k)[1]:
        rows = [("x", x, ""), ("k", k, "")]
        raise ShapeError(message("conv1d(x, k)", "channels differ, or there are not three axes", rows,
                                 "x has shape (n, length, channels), k (window, channels in, channels out)"))
    sides: Any = padding if isinstance(padding, str) else (0, padding)
    return squeeze(conv2d(expand_dims(x, 1), expand_dims(k, 0), (1, stride), sides), 1)


def conv_transpose2d(x: Array, k: Array, stride: int | Pair = 1, padding: Padding = 0,
                     output_padding: int | Pair = 0) -> Array:
    """Return the adjoint of conv2d, which makes images larger: <conv_transpose2d(x, k), v> = <x, conv2d(v, k)>.

    x: (n, rows, columns, o); k: (A, B, c, o), as for conv2d; the result is (n, height, width, c), with
    height = (rows - 1) stride + A - padding above and below + output_padding, or rows stride where padding is "same"
    and no window is smaller than the stride. output_padding: below the stride. Raises ShapeError.
    """
    call = "conv_transpose2d(x, k)"
    check_image(call, x)
    if len(shape(k)) != 4 or shape(k)[3] != shape(x)[3]:
        raise ShapeError(message(call, "channels differ, or the kernel has not four axes", [("x", x, ""), ("k", k, "")],
                                 f"a kernel for this x has shape (A, B, channels out, {shape(x)[3]})"))
    count, window, stride = shape(x)[1:3], (shape(k)[0], shape(k)[1]), _pair(stride, f"{call}: stride")
    more = _pair(output_padding, f"{call}: output_padding", least=0)
    border = _border(call, [n * d for n, d in zip(count, stride)], window, stride, padding)
    height, width = [(n - 1) * d + w - sum(p) + e for n, d, w, p, e in zip(count, stride, window, border, more)]
    if min(height, width) < 1 or output_size((height, width), window, stride, border) != count:
        raise ShapeError(message(call, "no image has this convolution", [("x", x, ""), ("k", k, "")],
                                 "output_padding is below the stride, and padding narrower than the result"))
    return _conv_input(x, k, size=(height, width), stride=stride, padding=border)


def convolve(a: Array, v: Array, mode: Literal["full", "same", "valid"] = "full") -> Array:
    """Return the convolution of two rows, y[i] = sum over k of a[i - k] v[k], as conv2d of an image of one row.

    mode: "full" has all n + m - 1 sums that are not empty, "same" the max(n, m) in their middle, "valid" those of
    min(n, m) products. Raises ShapeError.
    """
    a, v = (reshape(x, (1,)) if shape(x) == () else x for x in as_arrays((a, v), LISTS + NUMBERS))
    if len(shape(a)) != 1 or len(shape(v)) != 1 or 0 in shape(a) + shape(v):
        raise ShapeError(message("convolve(a, v)", "two rows with elements are needed", [("a", a, ""), ("v", v, "")]))
    a, v = (v, a) if shape(a) < shape(v) else (a, v)
    m = shape(v)[0] - 1
    border = {"full": (m, m), "same": (m - m // 2, m // 2), "valid": (0, 0)}.get(mode)
    if border is None:
        raise ShapeError(f"convolve(a, v, mode): mode is 'full', 'same' or 'valid', not {mode!r}")
    y = conv2d(reshape(a, (1, 1, -1, 1)), reshape(flip(v), (1, -1, 1, 1)), padding=(0, border))
    return reshape(y, (-1,))
