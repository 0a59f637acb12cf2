"""Forms for CuPy's arrays: CUDA kernels (the sources *.cu beside this file) and the functions that launch them.

Each computes in one pass over memory or two what the plain form computes in ten. They take plain arrays (no derivative
is taken in here); the rows of the table return NotImplemented for arrays that have no kernels: see has_kernels. A
kernel waits for nothing and returns the same bits every time.
"""
import functools
import math
import pathlib
import re

import numpy

from ..backend import module_of, on_device
from ..ops.windows import output_size
from .cublas import has_kernels
from .elementwise import SMALL

SOURCES = pathlib.Path(__file__).parent
THREADS = 256           # of a block
BLOCKS = 2048           # at most, of a kernel whose threads take one element after the other: enough for any device
SUM_BLOCKS = 1024       # at most, of a sum over rows: the second step adds up one partial sum for each
PLAIN, MOMENTS, CENTERED = 0, 1, 2       # see normalize.cu


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

def _geometry(size, channels, counts, window, stride, padding):
    return (*size, channels, *counts, *window, *stride, padding[0][0], padding[1][0])


def unfold(x, counts, window, stride, padding):
    """The windows of images (n, h, w, c), one in each row of a matrix: (n rows columns, A B c)."""
    (x,), channels, kind, xp = _contiguous(x), x.shape[3], _c_type(x), module_of(x)
    rows = xp.empty((x.shape[0] * counts[0] * counts[1], window[0] * window[1] * channels), x.dtype)
    four = kind == "float" and channels % 4 == 0 and x.data.ptr % 16 == 0
    count, channels = (rows.size // 4, channels // 4) if four else (rows.size, channels)
    _launch("windows", f"unfold<{kind}{'4' if four else ''}>", _blocks(count), x, rows, numpy.uint32(count),
            *_geometry(x.shape[1:3], channels, counts, window, stride, padding))
    return rows


def fold(windows, size, stride, padding, out=None):
    """The adjoint of unfold: windows (n, rows, columns, A, B, c), added up in images (n, *size, c), contiguous ones."""
    if not has_kernels(windows):
        return NotImplemented
    (windows,) = _contiguous(windows)
    n, rows, columns, A, B, channels = windows.shape
    x = module_of(windows).empty((n, *size, channels), windows.dtype) if out is None else out
    _launch("windows", f"fold<{_c_type(x)}>", _blocks(x.size), windows, x, numpy.uint32(x.size),
            *_geometry(size, channels, (rows, columns), (A, B), stride, padding))
    return x


def max_pool2d(x, window, stride, padding, winners=True):
    """The largest element of each window of images, and its index in the flattened image."""
    if not has_kernels(x):
        return NotImplemented
    (x,), channels, xp = _contiguous(x), x.shape[3], module_of(x)
    counts = output_size(x.shape[1:3], window, stride, padding)
    best = xp.empty((x.shape[0], *counts, channels), x.dtype)
    winners = xp.empty(best.shape, "int64")
    _launch("windows", f"max_pool<{_c_type(x)}>", _blocks(best.size), x, best, winners, numpy.uint32(best.size),
            *_geometry(x.shape[1:3], channels, counts, window, stride, padding))
    return best, winners


def take_winners(x, winners, **geometry):
    """Of every image its elements at these indices: x (n, size), winners (n, pooled)."""
    if not has_kernels(x):
        return NotImplemented
    (x,), y = _contiguous(x), module_of(x).empty(winners.shape, x.dtype)
    _launch("windows", f"take_winners<{_c_type(x)}>", _blocks(y.size), x, winners, y, numpy.uint32(y.size),
            x.shape[1], winners.shape[1])
    return y


def put_winners(y, winners, image, window, stride, padding):
    """The adjoint of take_winners: (n, pooled) to images, flattened (n, h w c), image = (h, w, c)."""
    if not has_kernels(y):
        return NotImplemented
    (y,), x = _contiguous(y), module_of(y).empty((len(y), image[0] * image[1] * image[2]), y.dtype)
    counts = output_size(image[:2], window, stride, padding)
    _launch("windows", f"put_winners<{_c_type(x)}>", _blocks(x.size), y, winners, x, numpy.uint32(x.size),
            *_geometry(image[:2], image[2], counts, window, stride, padding))
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


def sum_to(x, shape):
    """The sums over all axes but the last: the gradient of a bias."""
    if x.size <= SMALL or shape != x.shape[-1:] or not has_kernels(x):
        return NotImplemented
    return column_sums(x)


def column_sums(x):
    """The sums over all axes but the last."""
    (x,) = _contiguous(x)
    return _sums(x, x, x, x, PLAIN, False)[0]


def moments(x):
    """The mean and the variance (without Bessel's correction) of each channel, the last axis."""
    if not has_kernels(x):
        return NotImplemented
    (x,) = _contiguous(x)
    return tuple(_sums(x, x, x, x, MOMENTS, False))


def batch_norm(x, gain, bias, eps, then_relu, statistics):
    """y, push and pull of nn.batch_norm, with relu if `then_relu`; see with_derivative."""
    statistics = statistics or moments(x)
    if statistics is NotImplemented or not has_kernels(x, bias, *statistics, *([] if gain is None else [gain])):
        return NotImplemented
    passes = BatchNormPasses(x, gain, bias, statistics, eps, then_relu)
    return passes.y, passes.push, passes.pull


class BatchNormPasses:
    """What batch_norm.Passes computes, with its names: y, push and pull of a batch normalization."""

    def __init__(self, x, gain, bias, statistics, eps, then_relu):
        self.x, self.mean, self.var, bias = _contiguous(x, *statistics, bias)
        xp = self.xp = module_of(x)
        self.gain, self.then_relu = gain if gain is None else xp.ascontiguousarray(gain), then_relu
        self.eps, self.y = x.dtype.type(eps), xp.empty(x.shape, x.dtype)
        self._launch("normalize", self.x, self.mean, self.var, self._given(self.gain), bias, self.y, *self._size(),
                     self.eps, gain is not None, then_relu)

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
        return self._slope(t, sums, t_gain, t_bias, False, self.then_relu)

    def pull(self, g):
        """The cotangents of x, gain (None if there is no gain) and bias."""
        (g,) = _contiguous(g)
        sums = _sums(g, self.x, self.mean, self.y, CENTERED, self.then_relu)
        gain = None if self.gain is None else sums[1] / self.xp.sqrt(self.var + self.eps)
        return self._slope(g, sums, None, None, self.then_relu, False), gain, sums[0]


# ------------------------------------------------------------------------------------------ loss and update

def cross_entropy(x, labels):
    """The losses (n,) of scores (n, classes) with integer labels (n,), their push and pull (with_derivative)."""
    if not has_kernels(x):
        return NotImplemented
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


def sgd(p, g, m, rate, momentum, decay, nesterov):
    """The new parameters and momentum of one array: see update.cu. rate: a number, or an array of one."""
    if not has_kernels(p, m, g) or type(momentum) is not float or type(decay) is not float:
        return NotImplemented
    xp, s = module_of(p), p.shape                           # what is made contiguous has an axis at least
    p, m, g = _contiguous(p, m, g)
    kind, new, moved = _c_type(p), xp.empty(s, p.dtype), xp.empty(s, p.dtype)
    number = p.dtype.type
    by_array = on_device(rate)
    rate = rate.astype(p.dtype, copy=False) if by_array else number(rate)
    _launch("update", f"sgd<{kind}, {f'const {kind}*' if by_array else kind}>", _blocks(p.size), p, m, g, new, moved,
            numpy.int64(p.size), rate, number(momentum), number(decay), nesterov)
    return new, moved
