"""Windows that slide over images, and pooling.

Images are (n, height, width, channels). A geometry is a window size (A, B), a stride and a padding; the public
functions take them as a user writes them, the primitives as pairs. Convolution is in convolution.py.
"""
import math
import operator

import numpy

from .. import kernels
from ..backend import as_array, is_float, module_of
from ..core import Box, raw
from ..errors import DTypeError, ShapeError, message, shape
from ..kinds import linear
from ..pieces import cut_rows, share
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
    window, stride, size = _pair(window, f"{call}: window"), _pair(stride, f"{call}: stride"), shape(x)[1:3]
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


def counts(size, window, stride, padding):
    """How many windows fit, down and across."""
    return tuple((n + sum(p) - w) // s + 1 for n, w, s, p in zip(size, window, stride, padding))


# -------------------------------------------------------------------------- unfold and fold, on plain arrays

def _padded(x, padding, value=0.0):
    (top, bottom), (left, right) = padding
    if not (top or bottom or left or right):
        return x
    n, h, w, c = x.shape
    y = module_of(x).full((n, h + top + bottom, w + left + right, c), value, x.dtype)
    y[:, top:top + h, left:left + w] = x
    return y


def view(x, window, stride):
    """The windows of a padded batch as a view: (n, rows, columns, A, B, c)."""
    (rows, columns), (n, c) = counts(x.shape[1:3], window, stride, ((0, 0), (0, 0))), (x.shape[0], x.shape[3])
    sn, sh, sw, sc = x.strides
    return module_of(x).lib.stride_tricks.as_strided(x, (n, rows, columns, *window, c),
                                                     (sn, sh * stride[0], sw * stride[1], sh, sw, sc))


def _unfold(x, window, stride, padding):
    return view(_padded(x, padding), window, stride)


def fold_plain(v, size, stride, padding, out=None):
    """fold of plain arrays, written to `out` where that is given."""
    if kernels.fit(v):
        return kernels.fold(v, size, stride, padding, out)
    n, rows, columns, A, B, c = v.shape
    (top, bottom), (left, right) = padding
    y = module_of(v).zeros((n, size[0] + top + bottom, size[1] + left + right, c), v.dtype)
    for a in range(A):
        for b in range(B):
            y[:, a:a + stride[0] * rows:stride[0], b:b + stride[1] * columns:stride[1]] += v[:, :, :, a, b]
    y = y[:, top:top + size[0], left:left + size[1]]
    if out is None:
        return y
    out[...] = y
    return out


_unfold_primitive = linear(_unfold, lambda g, s, window, stride, padding: fold(g, s[1:3], stride, padding))
_fold_primitive = linear(fold_plain, lambda g, s, size, stride, padding: _unfold_primitive(
    g, window=s[3:5], stride=stride, padding=padding))


def unfold(x, window, stride=1, padding=0):
    """All windows of a batch of images: (n, h, w, c) to (n, rows, columns, A, B, c). A view where nothing is padded."""
    return _unfolded("unfold(x)", x, window, stride, padding)


def _unfolded(call, x, window, stride, padding):
    check_image(call, x)
    window, stride, padding = geometry(call, x, window, stride, padding)
    return _unfold_primitive(x, window=window, stride=stride, padding=padding)


def fold(v, size, stride, padding):
    """The adjoint of unfold: adds the windows up where they came from, in images of this size (pairs only)."""
    return _fold_primitive(v, size=size, stride=stride, padding=padding)


# ----------------------------------------------------------------------------------------------- pooling

def max_pool2d(x, window, stride=None, padding=0):
    """The largest element of each window and channel: (n, h, w, c) to (n, rows, columns, c).

    stride: that of the window if not given; padding as in conv2d, and never a winner. Where several elements are
    equal, the first one (left to right, top to bottom) is the winner and takes the derivative.
    """
    x = x if type(x) is Box else as_array(x)
    check_image("max_pool2d(x)", x)
    if not is_float(raw(x)):
        raise DTypeError(message("max_pool2d(x)", "only floating-point images are pooled: padding is -infinity",
                                 [("x", x, "")], "x.astype(float)"))
    where = geometry("max_pool2d(x)", x, window, window if stride is None else stride, padding)
    if any(p >= w for w, pair in zip(where[0], where[2]) for p in pair):
        raise ShapeError(f"max_pool2d(x): padding {where[2]} leaves windows {where[0]} without an element")
    if type(x) is not Box:
        return _max_pool2d(x, where)[0]
    winners = _max_pool2d(raw(x), where, True)[1]
    n, size, count = len(winners), math.prod(shape(x)[1:]), math.prod(winners.shape[1:])
    y = _taken(reshape(x, (n, size)), winners=winners.reshape(n, count), image=shape(x)[1:], geometry=where)
    return reshape(y, winners.shape)


def _max_pool2d(x, geometry, winners=False):
    """The largest elements of plain x, and the place of each among the elements of its image if they are wanted."""
    s = (len(x), *counts(x.shape[1:3], *geometry), x.shape[3])
    if kernels.fit(x):
        return kernels.max_pool(x, s[1:3], *geometry)
    xp = module_of(x)
    best, places = xp.empty(s, x.dtype), xp.empty(s if winners else 0, int)

    def work(pieces):
        for piece in pieces:
            taps = _taps(x[piece], *geometry)
            best[piece] = taps[0]
            for tap in taps[1:]:
                xp.maximum(best[piece], tap, out=best[piece])
            if winners:
                places[piece] = _winners(best[piece], taps, x.shape, *geometry)
    share(work, cut_rows(x), x)
    return best, places


def _winners(best, taps, s, window, stride, padding):
    """For each window the place of its largest element in an image of shape s[1:], flattened. Plain integers."""
    (_, _, w, c), (rows, columns), xp = s, best.shape[1:3], module_of(best)
    lost, winner = xp.ones(best.shape, bool), xp.zeros(best.shape, "uint8" if len(taps) < 256 else "int32")
    careful = not isinstance(best, numpy.ndarray) or numpy.isnan(best).any()      # a GPU would have to be waited for
    for tap in taps[:-1]:                                   # the winner's number: how many before it are not the best
        lost &= tap != best
        if careful:
            lost &= tap == tap                              # the first NaN is the best there is, as in argmax
        winner += lost.view("uint8")
    a, b = xp.arange(window[0])[:, None], xp.arange(window[1])
    top = xp.arange(rows)[:, None, None, None] * stride[0] - padding[0][0] + a
    left = xp.arange(columns)[:, None, None] * stride[1] - padding[1][0] + b
    pixel = xp.maximum(top, 0) * w + xp.maximum(left, 0)     # a border wins in its corner only
    which = winner + xp.arange(rows * columns).reshape(rows, columns, 1) * len(taps)
    return xp.take((pixel * c).ravel(), which) + xp.arange(c)


def _take_winners(x, winners, image, geometry):
    if kernels.fit(x):
        return kernels.take_winners(x, winners)
    xp = module_of(x)
    y = xp.empty(winners.shape, x.dtype)

    def work(pieces):
        for piece in pieces:
            y[piece] = xp.take_along_axis(x[piece], winners[piece], 1)
    share(work, cut_rows(x), x)
    return y


def _put_winners(g, winners, image, geometry):
    if kernels.fit(g):
        return kernels.put_winners(g, winners, image, counts(image, *geometry), *geometry)
    size, xp = math.prod(image), module_of(g)
    x = xp.zeros((len(g), size), g.dtype)

    def work(pieces):                                       # adding up in one row is many times faster than in rows
        for piece in pieces:
            part = x[piece]
            places = winners[piece] + xp.arange(len(part))[:, None] * size
            xp.add.at(part.reshape(-1), places.ravel(), g[piece].ravel())
    share(work, cut_rows(x), x)
    return x


_taken = linear(_take_winners, lambda g, s, **where: _put_back(g, **where), "max_pool2d")
_put_back = linear(_put_winners, lambda g, s, **where: _taken(g, **where))


def _taps(x, window, stride, padding):
    """The first, second ... element of all windows, row by row: one view (n, rows, columns, c) for each.

    The pixels are sorted by their remainder modulo the stride first, so that neighbors in a view are neighbors in
    memory.
    """
    n, h, w, c = x.shape
    (rows, columns), (sh, sw) = counts((h, w), window, stride, padding), stride
    down, across = rows + (window[0] - 1) // sh, columns + (window[1] - 1) // sw
    (top, _), (left, _), xp = *padding, module_of(x)
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
