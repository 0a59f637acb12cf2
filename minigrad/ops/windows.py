"""Windows that slide over images, and pooling.

Images are (n, height, width, channels). A geometry is a window size (A, B), a stride and a padding; the public
functions take them as a user writes them, the primitives as pairs. Convolution is in convolution.py.
"""
import math
import operator

from .. import deprecated
from ..backend import as_array, is_float, module_of
from ..core import Box, raw, replaceable
from ..errors import DTypeError, ShapeError, message, shape
from ..kinds import linear
from .reductions import mean
from .shaping import reshape

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


def geometry(call, x, window, stride, padding):
    """Window, stride and padding ((top, bottom), (left, right)) as pairs, checked against the image."""
    window, stride, size = _pair(window, f"{call}: kernel_size"), _pair(stride, f"{call}: stride"), shape(x)[1:3]
    name = padding if isinstance(padding, str) else None
    if name == "same":                                      # ceil(size / stride) windows, the odd row at the end
        total = [max((-(-n // s) - 1) * s + w - n, 0) for n, w, s in zip(size, window, stride)]
        padding = [(t // 2, t - t // 2) for t in total]
    elif name == "valid":
        padding = 0
    elif name:
        raise ShapeError(f"{call}: padding is 'same', 'valid', an integer or pairs, not {padding!r}")
    padding = padding if isinstance(padding, (tuple, list)) and len(padding) == 2 else (padding, padding)
    padding = tuple(_pair(p, f"{call}: the padding of each side", least=0) for p in padding)
    if any(n + sum(p) < w for n, p, w in zip(size, padding, window)):
        raise ShapeError(message(call, "the window is larger than the padded image",
                                 [("x", x, f"window {window}, padding {padding}")],
                                 "pad the image, or use padding='same'"))
    return window, stride, padding


def check_image(call, x):
    """Raise ShapeError unless x has the four axes of a batch of images."""
    if len(shape(x)) != 4:
        raise ShapeError(message(call, "an image batch has four axes", [("x", x, "")],
                                 "give (n, height, width, channels); one gray image is x[None, :, :, None]"))


def output_size(size, window, stride, padding):
    """Return how many windows fit, down and across."""
    return tuple((n + sum(p) - w) // s + 1 for n, w, s, p in zip(size, window, stride, padding))


# -------------------------------------------------------------------------- unfold and fold, on plain arrays

def _pad(x, padding, value=0.0):
    (top, bottom), (left, right) = padding
    if not (top or bottom or left or right):
        return x
    n, h, w, c = x.shape
    y = module_of(x).full((n, h + top + bottom, w + left + right, c), value, x.dtype)
    y[:, top:top + h, left:left + w] = x
    return y


def view(x, window, stride):
    """The windows of a padded batch as a view: (n, rows, columns, A, B, c)."""
    (rows, columns), (n, c) = output_size(x.shape[1:3], window, stride, ((0, 0), (0, 0))), (x.shape[0], x.shape[3])
    sn, sh, sw, sc = x.strides
    return module_of(x).lib.stride_tricks.as_strided(x, (n, rows, columns, *window, c),
                                                     (sn, sh * stride[0], sw * stride[1], sh, sw, sc))


def _unfold(x, window, stride, padding):
    return view(_pad(x, padding), window, stride)


def _fold(v, size, stride, padding):
    n, rows, columns, A, B, c = v.shape
    (top, bottom), (left, right) = padding
    y = module_of(v).zeros((n, size[0] + top + bottom, size[1] + left + right, c), v.dtype)
    for a in range(A):
        for b in range(B):
            y[:, a:a + stride[0] * rows:stride[0], b:b + stride[1] * columns:stride[1]] += v[:, :, :, a, b]
    return y[:, top:top + size[0], left:left + size[1]]


_unfold_primitive = linear(_unfold, lambda g, s, window, stride, padding: fold(g, s[1:3], stride, padding))
_fold_primitive = linear(_fold, lambda g, s, size, stride, padding: _unfold_primitive(
    g, window=s[3:5], stride=stride, padding=padding))


@deprecated.keywords(window="kernel_size")
def unfold(x, kernel_size, stride=1, padding=0):
    """All windows of a batch of images: (n, h, w, c) to (n, rows, columns, A, B, c). A view where nothing is padded."""
    return _unfolded("unfold(x)", x, kernel_size, stride, padding)


def _unfolded(call, x, window, stride, padding):
    check_image(call, x)
    window, stride, padding = geometry(call, x, window, stride, padding)
    return _unfold_primitive(x, window=window, stride=stride, padding=padding)


def fold(v, size, stride, padding):
    """The adjoint of unfold: adds the windows up where they came from, in images of this size (pairs only)."""
    return _fold_primitive(v, size=size, stride=stride, padding=padding)


# ----------------------------------------------------------------------------------------------- pooling

@deprecated.keywords(window="kernel_size")
def max_pool2d(x, kernel_size, stride=None, padding=0):
    """The largest element of each window and channel: (n, h, w, c) to (n, rows, columns, c).

    stride: that of the window if not given; padding as in conv2d, and never a winner. Where several elements are
    equal, the first one (left to right, top to bottom) is the winner and takes the derivative.
    """
    x = x if type(x) is Box else as_array(x)
    check_image("max_pool2d(x)", x)
    if not is_float(raw(x)):
        raise DTypeError(message("max_pool2d(x)", "only floating-point images are pooled: padding is -infinity",
                                 [("x", x, "")], "x.astype(float)"))
    stride = kernel_size if stride is None else stride
    window, stride, padding = geometry("max_pool2d(x)", x, kernel_size, stride, padding)
    if any(p >= w for w, pair in zip(window, padding) for p in pair):
        raise ShapeError(f"max_pool2d(x): padding {padding} leaves windows {window} without an element")
    best, winners = _max_pool2d(raw(x), window, stride, padding, winners=type(x) is Box)
    if type(x) is not Box:
        return best
    n, image = len(winners), shape(x)[1:]
    y = _take(reshape(x, (n, math.prod(image))), winners=winners.reshape(n, math.prod(winners.shape[1:])), image=image,
              window=window, stride=stride, padding=padding)
    return reshape(y, winners.shape)


@replaceable
def _max_pool2d(x, window, stride, padding, winners=True):
    """Return the largest element of each window of plain x, and its index in the flattened image.

    Of equal elements, the first one, as in argmax. winners: whether the indices are wanted.
    """
    (A, B), ((top, _), (left, _)), w, c = window, padding, x.shape[2], x.shape[3]
    xp, windows = module_of(x), view(_pad(x, padding, -math.inf), window, stride)
    n, rows, columns = windows.shape[:3]
    flat = windows.reshape(n, rows, columns, A * B, c)
    winner = flat.argmax(3)
    best = xp.take_along_axis(flat, winner[:, :, :, None], 3)[:, :, :, 0]
    i = xp.arange(rows)[:, None, None] * stride[0] - top + winner // B
    j = xp.arange(columns)[:, None] * stride[1] - left + winner % B
    return best, (xp.maximum(i, 0) * w + xp.maximum(j, 0)) * c + xp.arange(c)      # padding wins against -inf alone


def _put_winners(g, winners, image, window, stride, padding):
    xp, size = module_of(g), math.prod(image)
    x = xp.zeros(len(g) * size, g.dtype)
    xp.add.at(x, (winners + xp.arange(len(g))[:, None] * size).ravel(), g.ravel())
    return x.reshape(len(g), size)


_take = linear(lambda x, winners, image, window, stride, padding: module_of(x).take_along_axis(x, winners, 1),
               lambda g, s, **geometry: _put(g, **geometry), "max_pool2d")
_put = linear(_put_winners, lambda g, s, **geometry: _take(g, **geometry))


@deprecated.keywords(window="kernel_size")
def avg_pool2d(x, kernel_size, stride=None, padding=0):
    """The mean of each window and channel: (n, h, w, c) to (n, rows, columns, c).

    stride: that of the window if not given. Padding counts as zeros, as in PyTorch.
    """
    stride = kernel_size if stride is None else stride
    return mean(_unfolded("avg_pool2d(x)", x, kernel_size, stride, padding), axis=(3, 4))
