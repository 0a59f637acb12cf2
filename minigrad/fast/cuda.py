"""Forms for CuPy's arrays: CUDA kernels, and the functions that launch them.

Each form computes in one or two passes over memory what the plain definition computes in ten. Forms take and return
plain arrays; for arrays without kernels (see has_kernels) they return NotImplemented. A kernel waits for nothing and
returns the same bits every time.

A `Kernel` is one statement or a few, run for every element of the output. Around them CuPy writes the loop, for each
type and layout of the arguments. What CUDA C++ needs to read here: T is the type of the elements; a `raw` array is
indexed in the statements, as x[at], any other argument stands for the element that broadcasting assigns to this one;
_ind.get() is the index of this element in the output. Sums over rows need threads that work together: sums.cu.
"""
import functools
import pathlib
import re
from typing import Any

import numpy

from ..backend import module_of, on_device
from ..typing import Array, Shape
from .cublas import has_kernels
from .elementwise import SMALL

THREADS = 256           # of a block
SUM_BLOCKS = 1024       # at most, of a sum over rows: the second step adds up one partial sum for each
PLAIN, MOMENTS, CENTERED = 0, 1, 2       # see sums.cu


class Kernel:
    """A CUDA kernel that runs `statements` for every element of its outputs, one thread for each.

    Args:
        inputs: types and names, as cupy.ElementwiseKernel takes them.
        outputs: the same; a call returns them, or writes to arrays that are passed after the inputs.
        statements: CUDA C++.
        by_axes: whether they use _ind.get(); without it CuPy joins axes where it can.
        preamble: functions that they call.
    """

    def __init__(self, name: str, inputs: str, outputs: str, statements: str, by_axes: bool = False,
                 preamble: str = "") -> None:
        self.name, settings = name, (inputs, outputs, statements, name, not by_axes, preamble)
        self._made = functools.cache(lambda xp: xp.ElementwiseKernel(*settings))

    def __call__(self, *args: Any) -> Any:
        """Launch the kernel on arrays and numbers, and return its outputs."""
        return self._made(module_of(*args))(*args)


# ---------------------------------------------------------------------------------------------------- sums

@functools.cache
def _sums_kernel(xp: Any, name: str) -> Any:
    return _sums_module(xp).get_function(name)


@functools.cache
def _sums_module(xp: Any) -> Any:
    code = (pathlib.Path(__file__).parent / "sums.cu").read_text()
    names = re.findall(r"^// kernel: (.+)$", code, re.M)
    return xp.RawModule(code=code, options=("-std=c++17",), name_expressions=names)


def _launch(name: str, grid: Shape, a: Array, *args: Any) -> None:
    """Launch a kernel of sums.cu for the type of a, an int as one of 32 bits."""
    name = f"{name}<{'float' if a.dtype == 'float32' else 'double'}>"
    args = tuple(numpy.int32(arg) if isinstance(arg, (int, bool)) else arg for arg in args)
    _sums_kernel(module_of(a), name)(grid, (THREADS,), args)


def _power(n: int, most: int) -> int:
    """Return the smallest power of 2 that is not below n, but no more than `most`."""
    return min(1 << (n - 1).bit_length(), most)


def _sums(a: Array, x: Array, mean: Array, y: Array, kind: int, gated: bool) -> Array:
    """Return two sums for each channel of a, (2, c): see sums.cu. x, mean, y: any arrays where they are not needed."""
    xp, channels = module_of(a), a.shape[-1]
    a, x, mean, y = (xp.ascontiguousarray(each) for each in (a, x, mean, y))
    count, width = a.size // channels, _power(channels, THREADS)
    blocks = min(-(-count * width // (4 * THREADS)), SUM_BLOCKS)
    partial, sums = xp.empty((blocks, 2, channels), "float64"), xp.empty((2, channels), a.dtype)
    _launch("partial_sums", (blocks, -(-channels // width)), a, a, x, mean, y, partial, numpy.int64(count), channels,
            width, kind, gated)
    width = _power(channels, 8)
    _launch("total_sums", (-(-channels // width),), a, partial, a, sums, blocks, numpy.int64(count), channels, width,
            kind)
    return sums


def sum_to(x: Array, shape: Shape) -> Array:
    """Return the sums over all axes but the last: the gradient of a bias."""
    if x.size <= SMALL or shape != x.shape[-1:] or not has_kernels(x):
        return NotImplemented
    return column_sums(x)


def column_sums(x: Array) -> Array:
    """Return the sums over all axes but the last."""
    return _sums(x, x, x, x, PLAIN, False)[0]


def moments(x: Array) -> Any:
    """Return the mean and the variance (without Bessel's correction) of each channel, the last axis."""
    return tuple(_sums(x, x, x, x, MOMENTS, False)) if has_kernels(x) else NotImplemented


# -------------------------------------------------------------------------------------------------- masks

_gate = Kernel("gate", "T v, T at", "T y", "y = at != 0 ? v : T(0);")
_scale = Kernel("scale", "T v, T by", "T y", "y = by != 0 ? v * by : T(0);")


def gate(v: Array, at: Array) -> Array:
    """Return v, and 0 where `at` is 0: the derivative of a ReLU, both ways."""
    return _gate(v, at) if has_kernels(v, at) else NotImplemented


def scale(v: Array, by: Array) -> Array:
    """Return v times the constants `by`; 0 where these are 0, whatever v is there."""
    return _scale(v, by) if has_kernels(v, by) else NotImplemented


# ------------------------------------------------------------------------------------- batch normalization

_normalize = Kernel("normalize", "T x, T mean, T var, T gain, T bias, T eps, bool then_relu", "T y", """
    T value = (x - mean) * (T(1) / sqrt(var + eps) * gain) + bias;
    y = then_relu && value < 0 ? T(0) : value;
    """)

# Push and pull are v A + (x - mean) B + C, with the sums of v and of (x - mean) v over n rows: see batch_norm.Passes.
# Behind a ReLU, the pull takes only the v of elements that it let through, and the push is 0 for the others.
_normalize_slope = Kernel("normalize_slope", """
    T v, T x, T y, T mean, T var, T gain, T sum, T product, T t_gain, T t_bias, T eps, T n, bool gate_v, bool gate_slope
    """, "T slope", """
    T r = T(1) / sqrt(var + eps), A = gain * r;
    T B = r * t_gain - A * r * r * (product / n), C = t_bias - A * (sum / n);
    T total = (x - mean) * B + C;
    if (!gate_v || y != 0) total += v * A;
    slope = gate_slope && y == 0 ? T(0) : total;
    """)


def batch_norm(x: Array, gain: Array, bias: Array, eps: float, then_relu: bool, statistics: Any) -> Any:
    """Return y, push and pull of nn.batch_norm, with relu if `then_relu`; see with_derivative."""
    statistics = statistics or moments(x)
    if statistics is NotImplemented or not has_kernels(x, bias, *statistics, *([] if gain is None else [gain])):
        return NotImplemented
    passes = BatchNormPasses(x, gain, bias, statistics, eps, then_relu)
    return passes.y, passes.push, passes.pull


class BatchNormPasses:
    """y, push and pull of a batch normalization: what batch_norm.Passes computes, with its equations and names."""

    def __init__(self, x: Array, gain: Array, bias: Array, statistics: Any, eps: float, then_relu: bool) -> None:
        self.x, (self.mean, self.var) = module_of(x).ascontiguousarray(x), statistics
        self.has_gain, self.gain = gain is not None, 1.0 if gain is None else gain
        self.eps, self.then_relu = eps, then_relu
        self.y = _normalize(self.x, self.mean, self.var, self.gain, bias, eps, then_relu)

    def _slope(self, v: Any, sums: Any, t_gain: Any, t_bias: Any, gate_v: bool, gate_slope: bool) -> Array:
        n = float(self.x.size // self.x.shape[-1])
        return _normalize_slope(v, self.x, self.y, self.mean, self.var, self.gain, *sums, t_gain, t_bias, self.eps, n,
                                gate_v, gate_slope)

    def push(self, t: Array, t_gain: Array, t_bias: Array) -> Array:
        """Return the tangent of y; None is zero."""
        sums = (0.0, 0.0) if t is None else _sums(t, self.x, self.mean, self.y, CENTERED, False)
        t, t_gain, t_bias = (0.0 if tangent is None else tangent for tangent in (t, t_gain, t_bias))
        return self._slope(t, sums, t_gain, t_bias, False, self.then_relu)

    def pull(self, g: Array) -> tuple[Array, Array, Array]:
        """Return the cotangents of x, gain (None if there is no gain) and bias."""
        sums = _sums(g, self.x, self.mean, self.y, CENTERED, self.then_relu)
        gain = sums[1] / module_of(g).sqrt(self.var + self.eps) if self.has_gain else None
        return self._slope(g, sums, 0.0, 0.0, self.then_relu, False), gain, sums[0]


# ------------------------------------------------------------------------------------------ loss and update
#
# Cross-entropy, one thread for each row of scores x (n, K). With z = x - top, and `rest` the sum of exp(z) without the
# label's and plus exp(z) - 1 of the label, the probability of class k is exp(z[k]) / (1 + rest).

PROBABILITY = """
template <class T> __device__ T probability(T x, T top, T rest) {       // 0 where all scores are -infinity
    T total = T(1) + rest;
    return exp(x - top) / (total == T(0) ? T(1) : total);
}
"""

# top is the largest score, or 0 where that is not finite; loss = log(1 + rest) - z[label]. Nothing is as large as the
# scores, and nothing cancels where the loss is small.
_cross_entropy = Kernel("cross_entropy", "raw T x, S label, int32 K", "T loss, T top, T rest", """
    ptrdiff_t row = i * K;
    T largest = x[row], others = 0;
    for (int k = 1; k < K; k++)
        if (x[row + k] > largest || x[row + k] != x[row + k]) largest = x[row + k];
    if (!isfinite(largest)) largest = 0;
    for (int k = 0; k < K; k++)
        if (k != label) others += exp(x[row + k] - largest);
    T mine = x[row + label] - largest, more = others + expm1(mine);
    top = largest;
    rest = more;
    loss = log1p(more) - mine;
    """)

# The sum over the other classes of p[k] (t[k] - t[label]).
_cross_entropy_push = Kernel("cross_entropy_push", "raw T x, raw T t, S label, T top, T rest, int32 K", "T tangent", """
    ptrdiff_t row = i * K;
    T sum = 0;
    for (int k = 0; k < K; k++)
        if (k != label) sum += probability(x[row + k], top, rest) * (t[row + k] - t[row + label]);
    tangent = sum;
    """, preamble=PROBABILITY)

# p[k] g, and for the label minus the sum of the others: p - 1 would cancel.
_cross_entropy_pull = Kernel("cross_entropy_pull", "raw T x, S label, T top, T rest, T g, int32 K",
                             "raw T cotangent", """
    ptrdiff_t row = i * K;
    T sum = 0;
    for (int k = 0; k < K; k++) {
        if (k == label) continue;
        T here = probability(x[row + k], top, rest) * g;
        cotangent[row + k] = here;
        sum += here;
    }
    cotangent[row + label] = -sum;
    """, preamble=PROBABILITY)


def cross_entropy(x: Array, labels: Array) -> Any:
    """Return the losses (n,) of scores (n, classes) with integer labels (n,), their push and pull (with_derivative)."""
    if not has_kernels(x):
        return NotImplemented
    xp, classes = module_of(x), x.shape[1]
    losses, top, rest = _cross_entropy(x, labels, classes)

    def push(t: Array) -> Array:
        return _cross_entropy_push(x, t, labels, top, rest, classes)

    def pull(g: Array) -> tuple[Array]:
        return (_cross_entropy_pull(x, labels, top, rest, g, classes, xp.empty(x.shape, x.dtype)),)
    return losses, push, pull


_sgd = Kernel("sgd", "T p, T m, T g, T rate, T momentum, T decay, bool nesterov", "T p_new, T m_new", """
    T d = decay * p + g, moved = momentum * m + d;
    m_new = moved;
    p_new = p - rate * (nesterov ? momentum * moved + d : moved);
    """)


def sgd(p: Array, g: Array, m: Array, rate: Any, momentum: Any, decay: Any, nesterov: bool) -> Any:
    """Return the parameters and momentum of one array after a step, see optim.sgd.

    rate: a number, or an array of one, which a CUDA graph then reads anew every time.
    """
    if not has_kernels(p, m, g) or type(momentum) is not float or type(decay) is not float:
        return NotImplemented
    rate = rate.astype(p.dtype, copy=False) if on_device(rate) else rate
    return _sgd(p, m, g, rate, momentum, decay, nesterov)
