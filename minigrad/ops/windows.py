"""Windows that slide over images, and pooling.

Images are (n, height, width, channels). Window size, stride and padding are integers or pairs for the public functions,
and pairs for the primitives: (A, B), (down, across) and ((top, bottom), (left, right)). Convolution is in
convolution.py.
"""
from __future__ import annotations

import math
import operator
from typing import Any, Literal, TypeAlias

from .. import deprecated
from ..backend import as_array, is_float, module_of
from ..box import Box, raw
from ..core import Primitive, replaceable
from ..errors import DTypeError, ShapeError, message, shape
from ..kinds import linear
from ..typing import Array
from .reductions import widen_sums
from .shaping import reshape

Pair: TypeAlias = tuple[int, int]
Border: TypeAlias = tuple[Pair, Pair]                       # ((top, bottom), (left, right))
Padding: TypeAlias = Literal["same", "valid"] | int | tuple[int | Pair, int | Pair]

# ------------------------------------------------------------------------------ window size, stride and padding

def as_pairs(call: str, x: Array, window: int | Pair, stride: int | Pair,
             padding: Padding) -> tuple[Pair, Pair, Border]:
    """Return window size, stride and padding as pairs. Raises ShapeError unless they fit the images x."""
    size = shape(x)[1:3]
    window = _pair(window, f"{call}: kernel_size")
    stride = _pair(stride, f"{call}: stride")
    border = _border(call, size, window, stride, padding)
    if any(n + sum(p) < w for n, p, w in zip(size, border, window)):
        raise ShapeError(message(call, "the window is larger than the padded image",
                                 [("x", x, f"window {window}, padding {border}")],
                                 "pad the image, or use padding='same'"))
    return window, stride, border


def _pair(value: Any, what: str, least: int = 1) -> Pair:
    """Return one integer, or two, as two. Raises ShapeError for others, and for integers below `least`."""
    try:
        pair = tuple(map(operator.index, value if isinstance(value, (tuple, list)) else (value, value)))
    except TypeError:
        pair = ()
    if len(pair) != 2 or min(pair) < least:
        raise ShapeError(f"{what} must be one integer or two, not below {least}: {value!r}")
    return pair[0], pair[1]


def _border(call: str, size: Any, window: Pair, stride: Pair, padding: Any) -> Border:
    """Return ((top, bottom), (left, right)) for the padding of images of this size."""
    name = padding if isinstance(padding, str) else None
    if name == "same":                                      # ceil(size / stride) windows, the odd row at the end
        total = [max((-(-n // s) - 1) * s + w - n, 0) for n, w, s in zip(size, window, stride)]
        padding = [(t // 2, t - t // 2) for t in total]
    elif name == "valid":
        padding = 0
    elif name is not None:
        raise ShapeError(f"{call}: padding is 'same', 'valid', an integer or pairs, not {padding!r}")
    sides = padding if isinstance(padding, (tuple, list)) and len(padding) == 2 else (padding, padding)
    vertical, horizontal = (_pair(side, f"{call}: the padding of each side", least=0) for side in sides)
    return vertical, horizontal


def check_image(call: str, x: Array) -> None:
    """Raise ShapeError unless x has the four axes of a batch of images."""
    if len(shape(x)) != 4:
        raise ShapeError(message(call, "an image batch has four axes", [("x", x, "")],
                                 "pass (n, height, width, channels); one gray image is x[None, :, :, None]"))


def output_size(size: Pair, window: Pair, stride: Pair, padding: Border) -> Pair:
    """Return the number of windows that fit into an image of this size, down and across."""
    rows, columns = ((n + sum(p) - w) // s + 1 for n, w, s, p in zip(size, window, stride, padding))
    return rows, columns


# -------------------------------------------------------------------------- unfold and fold, on plain arrays

def _pad(x: Array, padding: Border, value: float = 0.0) -> Array:
    (top, bottom), (left, right) = padding
    if not (top or bottom or left or right):
        return x
    n, h, w, c = x.shape
    y = module_of(x).full((n, h + top + bottom, w + left + right, c), value, x.dtype)
    y[:, top:top + h, left:left + w] = x
    return y


def view(x: Array, window: Pair, stride: Pair) -> Array:
    """Return the windows of a padded batch as a view: (n, rows, columns, A, B, c)."""
    n, h, w, c = x.shape
    sn, sh, sw, sc = x.strides
    rows, columns = output_size((h, w), window, stride, ((0, 0), (0, 0)))
    return module_of(x).lib.stride_tricks.as_strided(x, (n, rows, columns, *window, c),
                                                     (sn, sh * stride[0], sw * stride[1], sh, sw, sc))


def _unfold(x: Array, window: Pair, stride: Pair, padding: Border) -> Array:
    return view(_pad(x, padding), window, stride)


def _fold(v: Array, size: Pair, stride: Pair, padding: Border) -> Array:
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
def unfold(x: Array, kernel_size: int | Pair, stride: int | Pair = 1, padding: Padding = 0) -> Array:
    """Return all windows of a batch of images: (n, h, w, c) to (n, rows, columns, A, B, c).

    It is a view where nothing is padded. stride, padding: as in conv2d. Raises ShapeError.
    """
    check_image("unfold(x)", x)
    window, stride, border = as_pairs("unfold(x)", x, kernel_size, stride, padding)
    return _unfold_primitive(x, window=window, stride=stride, padding=border)


def fold(v: Array, size: Pair, stride: Pair, padding: Border) -> Array:
    """Return images of this size with each window of v added where unfold takes it from: its adjoint.

    v: (n, rows, columns, A, B, c); the result: (n, *size, c). The other arguments are pairs only.
    """
    return _fold_primitive(v, size=size, stride=stride, padding=padding)


# ----------------------------------------------------------------------------------------------- pooling

@deprecated.keywords(window="kernel_size")
def max_pool2d(x: Array, kernel_size: int | Pair, stride: int | Pair | None = None, padding: Padding = 0) -> Array:
    """Return the largest element of each window and channel: (n, h, w, c) to (n, rows, columns, c).

    stride: by default the window size; padding as in conv2d, and never a winner. Of equal elements the first (left to
    right, top to bottom) is the winner: it alone has a derivative, 1. Raises ShapeError, and DTypeError for integers.
    """
    x = x if type(x) is Box else as_array(x)
    check_image("max_pool2d(x)", x)
    if not is_float(raw(x)):
        raise DTypeError(message("max_pool2d(x)", "only floating-point images are pooled: padding is -infinity",
                                 [("x", x, "")], "x.astype(float)"))
    stride = kernel_size if stride is None else stride
    window, stride, border = as_pairs("max_pool2d(x)", x, kernel_size, stride, padding)
    if any(p >= w for w, pair in zip(window, border) for p in pair):
        raise ShapeError(f"max_pool2d(x): padding {border} leaves windows {window} without an element")
    best, winners = _max_pool2d(raw(x), window, stride, border, winners=type(x) is Box)
    if type(x) is not Box:
        return best
    n, image = len(winners), shape(x)[1:]
    y = _take(reshape(x, (n, math.prod(image))), winners=winners.reshape(n, math.prod(winners.shape[1:])), image=image,
              window=window, stride=stride, padding=border)
    return reshape(y, winners.shape)


@replaceable
def _max_pool2d(x: Array, window: Pair, stride: Pair, padding: Border, winners: bool = True) -> tuple[Array, Array]:
    """Return the largest element of each window of plain x, and its index in the flattened image.

    Of equal elements, the first one, as in argmax. winners: False where the caller does not need the indices, which a
    faster form may then leave out.
    """
    _, _, w, c = x.shape
    (A, B), ((top, _), (left, _)) = window, padding
    xp, windows = module_of(x), view(_pad(x, padding, -math.inf), window, stride)
    n, rows, columns = windows.shape[:3]
    flat = windows.reshape(n, rows, columns, A * B, c)
    winner = flat.argmax(3)
    best = xp.take_along_axis(flat, winner[:, :, :, None], 3)[:, :, :, 0]
    i = xp.arange(rows)[:, None, None] * stride[0] - top + winner // B
    j = xp.arange(columns)[:, None] * stride[1] - left + winner % B
    return best, (xp.maximum(i, 0) * w + xp.maximum(j, 0)) * c + xp.arange(c)      # padding wins against -inf alone


def _put_winners(g: Array, winners: Array, image: tuple[int, ...], window: Pair, stride: Pair,
                 padding: Border) -> Array:
    xp, size = module_of(g), math.prod(image)
    x = xp.zeros(len(g) * size, g.dtype)
    xp.add.at(x, (winners + xp.arange(len(g))[:, None] * size).ravel(), g.ravel())
    return x.reshape(len(g), size)


_take: Primitive = linear(
    lambda x, winners, image, window, stride, padding: module_of(x).take_along_axis(x, winners, 1),
    lambda g, s, **p: _put(g, **p), "max_pool2d")
_put: Primitive = linear(_put_winners, lambda g, s, **p: _take(g, **p))


@deprecated.keywords(window="kernel_size")
def avg_pool2d(x: Array, kernel_size: int | Pair, stride: int | Pair | None = None, padding: Padding = 0) -> Array:
    """Return the mean of each window and channel: (n, h, w, c) to (n, rows, columns, c).

    stride: by default the window size. Padding counts as zeros, as in PyTorch. Raises ShapeError.
    """
    check_image("avg_pool2d(x)", x)
    stride = kernel_size if stride is None else stride
    window, stride, border = as_pairs("avg_pool2d(x)", x, kernel_size, stride, padding)
    return _mean(x, window=window, stride=stride, padding=border)


def _mean_pool(x: Array, window: Pair, stride: Pair, padding: Border) -> Array:
    return _unfold(x, window, stride, padding).mean((3, 4))


def _mean_pool_input(g: Array, size: Pair, window: Pair, stride: Pair, padding: Border) -> Array:
    n, rows, columns, c = g.shape
    share = (g / math.prod(window))[:, :, :, None, None]
    windows = module_of(g).broadcast_to(share, (n, rows, columns, *window, c))
    return _fold_primitive(windows, size=size, stride=stride, padding=padding)


_mean_primitive: Primitive = linear(_mean_pool, lambda g, s, **p: _mean_input(g, size=s[1:3], **p), "avg_pool2d")
_mean_input: Primitive = linear(_mean_pool_input, lambda g, s, size, **p: _mean_primitive(g, **p))
_mean = widen_sums(_mean_primitive)
