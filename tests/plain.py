"""Reference implementations: every operation in plain NumPy, without derivatives.

`plain` has the names and arguments of minigrad's functions. Each is NumPy's function if there is one, else its
definition, written with loops. All take complex numbers where the operation is analytic.
"""
import itertools
import types

import numpy as np


class _Plain(types.SimpleNamespace):
    xp, row_stack = np, staticmethod(np.vstack)

    def __getattr__(self, name):
        return getattr(np, name)


plain = _Plain()


def _(f):
    setattr(plain, f.__name__, f)


@_
def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


@_
def softplus(x):
    return np.log(1.0 + np.exp(x))


@_
def relu(x):
    return np.where(x.real > 0, x, 0.0)


@_
def stop_gradient(x):
    return x


@_
def checkpoint(f):
    return f


@_
def logsumexp(x, axis=None, keepdims=False):
    return np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims))


@_
def softmax(x, axis=-1):
    return np.exp(x) / np.sum(np.exp(x), axis=axis, keepdims=True)


@_
def log_softmax(x, axis=-1):
    return np.log(plain.softmax(x, axis))


@_
def var(x, axis=None, ddof=0, keepdims=False):
    d = x - np.mean(x, axis=axis, keepdims=True)            # np.var takes |d|^2 of complex numbers, which is not analytic
    count = x.size // max(np.sum(x, axis=axis).size, 1) if x.size else 0
    return np.sum(d * d, axis=axis, keepdims=keepdims) / (count - ddof)


@_
def std(x, axis=None, ddof=0, keepdims=False):
    return np.sqrt(plain.var(x, axis, ddof, keepdims))


@_
def standardize(x, axes, eps=1e-5):
    d = x - np.mean(x, axis=axes, keepdims=True)
    return d / np.sqrt(np.mean(d * d, axis=axes, keepdims=True) + eps)


@_
def astype(x, dtype):
    return x.astype(dtype)


@_
def getitem(x, index):
    return x[index]


@_
def scatter_add(x, shape, index):
    y = np.zeros(shape, x.dtype)
    np.add.at(y, index, x)
    return y


@_
def crop(x, crop_width):
    widths = np.broadcast_to(crop_width, (x.ndim, 2))
    return x[tuple(slice(before, n - after) for (before, after), n in zip(widths, x.shape))]


@_
def sum_to(x, shape):
    while x.ndim > len(shape):
        x = np.sum(x, axis=0)
    for axis, n in enumerate(shape):
        x = x if x.shape[axis] == n else np.sum(x, axis=axis, keepdims=True)
    return x


def mask(size, rate, key):
    """Return the mask of the elements that dropout keeps; key: an integer or a sequence of them, of which 32 bits count."""
    def scrambled(n):                                       # of one Python integer
        n = (n ^ n >> 16) * 0x7FEB352D % 2**32
        n = (n ^ n >> 15) * 0x846CA68B % 2**32
        return n ^ n >> 16
    parts = [int(part) % 2**32 for part in (key if isinstance(key, (tuple, list)) else (key,))]
    salt = sum(scrambled(part ^ scrambled((i + 1) * 0x9E3779B9 % 2**32)) for i, part in enumerate(parts)) % 2**32
    bits = [scrambled(i * 0x9E3779B9 % 2**32 ^ salt) for i in range(size)]
    return np.array(bits) / 2**32 >= rate


@_
def dropout(x, rate, key):
    return np.where(np.reshape(mask(x.size, rate, key), x.shape), x / (1.0 - rate), 0.0)


# ------------------------------------------------------------------------------------------ products and matrices

@_
def cross(a, b, axisa=-1, axisb=-1, axisc=-1, axis=None):
    """Return what np.cross does, which warns of vectors with two components."""
    axisa, axisb, axisc = (axisa, axisb, axisc) if axis is None else (axis,) * 3
    a, b = np.moveaxis(a, axisa, -1), np.moveaxis(b, axisb, -1)
    flat = a.shape[-1] == b.shape[-1] == 2
    a, b = (np.concatenate([x, np.zeros((*x.shape[:-1], 3 - x.shape[-1]), x.dtype)], -1) for x in (a, b))
    return np.cross(a, b)[..., 2] if flat else np.moveaxis(np.cross(a, b), -1, axisc)


def solve_triangular(a, b, trans=0, lower=False, unit_diagonal=False):
    a = np.tril(a) if lower else np.triu(a)
    a = a + np.eye(a.shape[-1], dtype=a.dtype) * (1.0 - a) if unit_diagonal else a
    return np.linalg.solve(np.swapaxes(a, -1, -2) if trans in (1, "T") else a, b)


plain.linalg = types.SimpleNamespace(**vars(np.linalg), solve_triangular=solve_triangular)


# ------------------------------------------------------------------------------------------ windows over images

def sides(size, window, stride, padding):
    """Return the padding ((top, bottom), (left, right)) that a name or a number stands for."""
    if padding == "same":
        total = [max((-(-n // s) - 1) * s + w - n, 0) for n, w, s in zip(size, window, stride)]
        return [(t // 2, t - t // 2) for t in total]
    if padding == "valid":
        return [(0, 0)] * 2
    return [(padding, padding)] * 2 if isinstance(padding, int) else padding


def every_window(x, window, stride, padding, value=0.0):
    """Yield (n, i, j, the window of image n at row i and column j)."""
    x = np.pad(x, [(0, 0), *sides(x.shape[1:3], window, stride, padding), (0, 0)], constant_values=value)
    rows, columns = ((n - w) // s + 1 for n, w, s in zip(x.shape[1:3], window, stride))
    for n, i, j in itertools.product(range(len(x)), range(rows), range(columns)):
        top, left = i * stride[0], j * stride[1]
        yield n, i, j, x[n, top:top + window[0], left:left + window[1]]


def _over_windows(f, x, window, stride, padding, value=0.0):
    found = {(n, i, j): f(w) for n, i, j, w in every_window(x, window, stride, padding, value)}
    last = max(found)
    return np.array([[[found[n, i, j] for j in range(last[2] + 1)] for i in range(last[1] + 1)] for n in range(last[0] + 1)])


@_
def conv2d(x, k, stride=1, padding=0):
    return _over_windows(lambda w: np.tensordot(w, k, 3), x, k.shape[:2], stride, padding)


@_
def max_pool2d(x, window, stride, padding=0):
    return _over_windows(lambda w: w.max((0, 1)), x, window, stride, padding, -np.inf)


@_
def avg_pool2d(x, window, stride, padding=0):
    return _over_windows(lambda w: w.mean((0, 1)), x, window, stride, padding)


@_
def unfold(x, window, stride=1, padding=0):
    return _over_windows(np.copy, x, window, stride, padding)


@_
def fold(v, size, stride, padding):
    (top, bottom), (left, right) = padding
    y = np.zeros((len(v), size[0] + top + bottom, size[1] + left + right, v.shape[-1]), v.dtype)
    for n, i, j in itertools.product(*map(range, v.shape[:3])):
        y[n, i * stride[0]:i * stride[0] + v.shape[3], j * stride[1]:j * stride[1] + v.shape[4]] += v[n, i, j]
    return y[:, top:top + size[0], left:left + size[1]]


def _rows(losses):
    """Return one number for each example."""
    return np.array([np.sum(row) for row in losses])


plain.nn = types.SimpleNamespace(
    cross_entropy=lambda z, y: np.array([np.log(np.exp(row).sum()) - row[label] for row, label in zip(z, y)]),
    sigmoid_cross_entropy=lambda z, y: -_rows(y * np.log(plain.sigmoid(z)) + (1.0 - y) * np.log(1.0 - plain.sigmoid(z))),
    squared_error=lambda z, y: _rows((z - y) ** 2))
