"""Kernels for CuPy's arrays: CUDA sources (minigrad/cuda/*.cu) and the functions that launch them.

Each computes what a few lines of xp compute elsewhere in this library, in one pass over memory or two instead of ten;
the lines stay, for NumPy and as what the tests hold the kernels against. They take plain arrays (no derivative is taken
in here) for which `fit` is true. A kernel waits for nothing and gives the same bits every time.
"""
import functools
import math
import pathlib
import re

import numpy

from .backend import module_of, on_device

SOURCES = pathlib.Path(__file__).parent / "cuda"
THREADS = 256           # of a block
BLOCKS = 2048           # at most, of a kernel whose threads take one element after the other: enough for any device
SUM_BLOCKS = 1024       # at most, of a sum over rows: the second step adds up one partial sum for each
PLAIN, MOMENTS, CENTERED = 0, 1, 2       # see normalize.cu


def fit(*xs):
    """Whether there are kernels for these arrays: all of CuPy, all float32 or all float64, none of them empty."""
    if not all(map(on_device, xs)):
        return False
    types = {x.dtype for x in xs}
    return len(types) == 1 and next(iter(types)) in ("float32", "float64") and all(x.size for x in xs)


@functools.cache
def _module(xp_module, source):
    text = (SOURCES / f"{source}.cu").read_text()
    names = re.findall(r"^// kernel: (.+)$", text, re.M)
    return xp_module.RawModule(code=text, options=("-std=c++17",), name_expressions=names)


@functools.cache
def _kernel(xp_module, source, name):
    return _module(xp_module, source).get_function(name)


def _launch(source, name, grid, *args):
    """Launch a kernel; an int goes as a 32-bit one."""
    args = tuple(numpy.int32(arg) if isinstance(arg, (int, bool)) else arg for arg in args)
    _kernel(module_of(*args), source, name)(grid, (THREADS,), args)


def _blocks(count):
    return (min(-(-count // THREADS), BLOCKS),)


def _c_type(x):
    return {"float32": "float", "float64": "double"}[x.dtype.name]


def _contiguous(*xs):
    return [module_of(x).ascontiguousarray(x) for x in xs]


# ------------------------------------------------------------------------------------------------- windows

def _geometry(size, channels, places, window, stride, padding):
    return (*size, channels, *places, *window, *stride, padding[0][0], padding[1][0])


def unfold(x, places, window, stride, padding):
    """The windows of images (n, h, w, c), one in each row of a matrix: (n rows columns, A B c)."""
    (x,), channels, kind, xp = _contiguous(x), x.shape[3], _c_type(x), module_of(x)
    rows = xp.empty((x.shape[0] * places[0] * places[1], window[0] * window[1] * channels), x.dtype)
    four = kind == "float" and channels % 4 == 0 and x.data.ptr % 16 == 0
    count, channels = (rows.size // 4, channels // 4) if four else (rows.size, channels)
    _launch("windows", f"unfold<{kind}{'4' if four else ''}>", _blocks(count), x, rows, numpy.uint32(count),
            *_geometry(x.shape[1:3], channels, places, window, stride, padding))
    return rows


def fold(windows, size, stride, padding, out=None):
    """The adjoint of unfold: windows (n, rows, columns, A, B, c), added up in images (n, *size, c), contiguous ones."""
    (windows,) = _contiguous(windows)
    n, rows, columns, A, B, channels = windows.shape
    x = module_of(windows).empty((n, *size, channels), windows.dtype) if out is None else out
    _launch("windows", f"fold<{_c_type(x)}>", _blocks(x.size), windows, x, numpy.uint32(x.size),
            *_geometry(size, channels, (rows, columns), (A, B), stride, padding))
    return x


def max_pool(x, places, window, stride, padding):
    """The largest element of each window of images, and its place among the elements of its image, flattened."""
    (x,), channels, xp = _contiguous(x), x.shape[3], module_of(x)
    best = xp.empty((x.shape[0], *places, channels), x.dtype)
    winners = xp.empty(best.shape, "int64")
    _launch("windows", f"max_pool<{_c_type(x)}>", _blocks(best.size), x, best, winners, numpy.uint32(best.size),
            *_geometry(x.shape[1:3], channels, places, window, stride, padding))
    return best, winners


def take_winners(x, winners):
    """Of every image its elements at these places: x (n, size), winners (n, pooled)."""
    (x,), y = _contiguous(x), module_of(x).empty(winners.shape, x.dtype)
    _launch("windows", f"take_winners<{_c_type(x)}>", _blocks(y.size), x, winners, y, numpy.uint32(y.size),
            x.shape[1], winners.shape[1])
    return y


def put_winners(y, winners, image, places, window, stride, padding):
    """The adjoint of take_winners: (n, pooled) to images, flattened (n, h w c), image = (h, w, c)."""
    (y,), x = _contiguous(y), module_of(y).empty((len(y), image[0] * image[1] * image[2]), y.dtype)
    _launch("windows", f"put_winners<{_c_type(x)}>", _blocks(x.size), y, winners, x, numpy.uint32(x.size),
            *_geometry(image[:2], image[2], places, window, stride, padding))
    return x


# ------------------------------------------------------------------------------- sums and normalization

def _power(n, most):
    return min(1 << (n - 1).bit_length(), most)


def _sums(a, x, mean, y, kind, gated):
    """Two sums for each channel of a, (2, c): see normalize.cu. x, mean, y: a itself where they are not needed."""
    channels = a.shape[-1]
    count, width = a.size // channels, _power(channels, THREADS)
    blocks = min(-(-count * width // (4 * THREADS)), SUM_BLOCKS)
    xp = module_of(a)
    partial, sums = xp.empty((blocks, 2, channels), "float64"), xp.empty((2, channels), a.dtype)
    _launch("normalize", f"partial_sums<{_c_type(a)}>", (blocks, -(-channels // width)), a, x, mean, y, partial,
            numpy.int64(count), channels, width, kind, gated)
    width = _power(channels, 8)
    _launch("normalize", f"total_sums<{_c_type(a)}>", (-(-channels // width),), partial, a, sums, blocks,
            numpy.int64(count), channels, width, kind)
    return sums


def column_sums(x):
    """The sums over all axes but the last."""
    (x,) = _contiguous(x)
    return _sums(x, x, x, x, PLAIN, False)[0]


def moments(x):
    """The mean and the variance (without Bessel's correction) of each channel, the last axis."""
    (x,) = _contiguous(x)
    return tuple(_sums(x, x, x, x, MOMENTS, False))


class NormalizePasses:
    """What ops.normalize.NormalizePasses computes, with its names: y, push and pull of a batch normalization."""

    def __init__(self, x, gain, bias, known, eps, rectify):
        self.x, self.mean, self.var, bias = _contiguous(x, *known, bias)
        xp = self.xp = module_of(x)
        self.gain, self.rectify = gain if gain is None else xp.ascontiguousarray(gain), rectify
        self.eps, self.y = x.dtype.type(eps), xp.empty(x.shape, x.dtype)
        self._launch("normalize", self.x, self.mean, self.var, self._given(self.gain), bias, self.y, *self._size(),
                     self.eps, gain is not None, rectify)

    def _launch(self, name, *args):
        """As many blocks as the channels want: they divide the number of threads."""
        (blocks,), channels = _blocks(self.x.size), self.x.shape[-1]
        step = channels // math.gcd(channels, THREADS)
        _launch("normalize", f"{name}<{_c_type(self.x)}>", (-(-blocks // step) * step,), *args)

    def _given(self, a):
        """a, or where it is None any array: a kernel does not read what it is told is not there."""
        return self.mean if a is None else self.xp.ascontiguousarray(a)

    def _size(self):
        return numpy.int64(self.x.size), self.x.shape[-1]

    def _slope(self, v, sums, t_gain, t_bias, before, after):
        result = self.xp.empty(self.x.shape, self.x.dtype)
        given = [a is not None for a in (v, self.gain, t_gain, t_bias)]
        self._launch("normalize_slope", self.x if v is None else v, self.x, self.y, self.mean, self.var,
                     self._given(self.gain), sums, self._given(t_gain), self._given(t_bias), result, *self._size(),
                     self.eps, self.x.dtype.type(self.x.size // self.x.shape[-1]), *given, before, after)
        return result

    def push(self, t, t_gain, t_bias):
        """The tangent of y; None is zero."""
        t, sums = None if t is None else _contiguous(t)[0], self.mean
        if t is not None:
            sums = _sums(t, self.x, self.mean, self.y, CENTERED, False)
        return self._slope(t, sums, t_gain, t_bias, False, self.rectify)

    def pull(self, g):
        """The cotangents of x, gain (None if there is no gain) and bias."""
        (g,) = _contiguous(g)
        sums = _sums(g, self.x, self.mean, self.y, CENTERED, self.rectify)
        gain = None if self.gain is None else sums[1] / self.xp.sqrt(self.var + self.eps)
        return self._slope(g, sums, None, None, self.rectify, False), gain, sums[0]


# ------------------------------------------------------------------------------------------ loss and update

def cross_entropy(x, labels):
    """The losses (n,) of scores (n, classes) with integer labels (n,), their push and pull (with_derivative)."""
    (x,), (n, classes), xp = _contiguous(x), x.shape, module_of(x)
    labels = xp.ascontiguousarray(labels.astype("int64", copy=False))
    losses, most, more = (xp.empty(n, x.dtype) for _ in range(3))

    def launch(name, *args):
        _launch("losses", f"{name}<{_c_type(x)}>", (-(-n // THREADS),), *args, n, classes)
    launch("cross_entropy", x, labels, losses, most, more)

    def push(t):
        result = xp.empty(n, x.dtype)
        launch("cross_entropy_push", x, most, more, labels, xp.ascontiguousarray(t), result)
        return result

    def pull(g):
        result = xp.empty(x.shape, x.dtype)
        launch("cross_entropy_pull", x, most, more, labels, xp.ascontiguousarray(g), result)
        return (result,)
    return losses, push, pull


def sgd(p, m, g, rate, momentum, decay, nesterov):
    """The new parameters and momentum of one array: see update.cu. rate: a number, or an array of one."""
    (p, m, g), xp = _contiguous(p, m, g), module_of(p)
    kind, new, moved = _c_type(p), xp.empty(p.shape, p.dtype), xp.empty(p.shape, p.dtype)
    number = p.dtype.type
    by_array = on_device(rate)
    rate = rate.astype(p.dtype, copy=False) if by_array else number(rate)
    _launch("update", f"sgd<{kind}, {f'const {kind}*' if by_array else kind}>", _blocks(p.size), p, m, g, new, moved,
            numpy.int64(p.size), rate, number(momentum), number(decay), nesterov)
    return new, moved


def average(old, now, momentum):
    """momentum old + (1 - momentum) now, of short arrays."""
    (old, now), number = _contiguous(old, now), old.dtype.type
    moved = module_of(old).empty(old.shape, old.dtype)
    _launch("update", f"average<{_c_type(old)}>", (-(-old.size // THREADS),), old, now, moved, old.size,
            number(momentum), number(1.0 - momentum))
    return moved
