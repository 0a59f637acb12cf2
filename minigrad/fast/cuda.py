"""Forms for CuPy's arrays: CUDA kernels, and the functions that launch them.

Each form computes in one or two passes over memory what the plain definition computes in ten. Forms take and return
plain arrays; for arrays without kernels (see has_kernels) they return NotImplemented. A kernel waits for nothing and
returns the same bits every time.

A `Kernel` is one statement or a few, run for every element of the output. Around them CuPy writes the loop, for each
type and layout of the arguments. What CUDA C++ needs to read here: T is the type of the elements; a `raw` array is
indexed in the statements, as x[at], any other argument stands for the element that broadcasting assigns to this one;
_ind.get() is the index of this element in the output. Sums over rows need threads that work together: sums.cu.
"""
import contextlib
import functools
import pathlib
import re
import threading
from collections.abc import Iterator
from typing import Any

import numpy

from ..backend import module_of
from ..communicators import Communicator
from ..ops.normalize import statistics_of
from ..typing import Array, Shape
from .cublas import has_kernels
from .elementwise import SMALL

THREADS = 256           # of a block
WIDTH = 16              # channels, at most, whose sums over rows a block computes: 64 bytes of a row of float32
SUM_BLOCKS = 512        # of a sum over rows, at most: the last block of a group adds up a partial sum of each
COUNTERS = 1 << 14      # for the sums of a graph, one for each WIDTH channels
PLAIN, MOMENTS, CENTERED = 0, 1, 2       # see sums.cu


class Kernel:
    """A CUDA kernel that runs `statements` for every element of its outputs, one thread for each.

    Args:
        name: of the kernel, for a profiler.
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

def launch(xp: Any, file: str, name: str, grid: Shape, *args: Any) -> None:
    """Launch a kernel of a file *.cu, such as "sums<float>", on blocks of THREADS threads."""
    _kernel(xp, file, name)(grid, (THREADS,), args)


@functools.cache
def _kernel(xp: Any, file: str, name: str) -> Any:
    return _module(xp, file).get_function(name)


@functools.cache
def _module(xp: Any, file: str) -> Any:
    code = pathlib.Path(__file__).with_name(file).read_text()
    names = re.findall(r"^// kernel: (.+)$", code, re.M)
    return xp.RawModule(code=code, options=("-std=c++17",), name_expressions=names)


def type_name(dtype: Any) -> str:
    """Return what CUDA C++ calls a type, float32 or float64."""
    return "float" if dtype == "float32" else "double"


def _power(n: int, most: int) -> int:
    """Return the smallest power of 2 that is not below n, but no more than `most`."""
    return min(1 << (n - 1).bit_length(), most)


_graph = threading.local()


@contextlib.contextmanager
def counters_of_graph(xp: Any) -> Iterator[Array]:
    """Inside, where a step is captured, each sum takes counters of its own from this array, which the graph must keep.

    They are 0 before and after every launch, so that the graph has no node that makes them so.
    """
    _graph.counters = zeros = xp.zeros(COUNTERS, "uint32")
    try:
        yield zeros
    finally:
        _graph.counters = None


def _counters(xp: Any, n: int) -> Array:
    """Return n counters that are 0 and that no other launch uses, at any time, on any stream."""
    left = getattr(_graph, "counters", None)
    if left is None or len(left) < n:
        return xp.zeros(n, "uint32")
    _graph.counters = left[n:]
    return left[:n]


def _sums(a: Array, x: Array, mean: Array, y: Array, kind: int, gated: bool) -> Array:
    """Return two sums for each channel of a, (2, c): see sums.cu. x, mean, y: any arrays where they are not needed."""
    xp, channels = module_of(a), a.shape[-1]
    a, x, mean, y = (xp.ascontiguousarray(each) for each in (a, x, mean, y))
    count, width = a.size // channels, _power(channels, WIDTH)
    if not count:
        return xp.zeros((2, channels), a.dtype)
    groups = -(-channels // width)
    blocks = min(-(-count * width // (4 * THREADS)), max(SUM_BLOCKS // groups, 1))
    partial = xp.empty((blocks, 2, channels), "float64") if blocks > 1 else None
    sums = xp.empty((2, channels), a.dtype)
    counters = _counters(xp, groups) if blocks > 1 else None
    launch(xp, "sums.cu", f"sums<{type_name(a.dtype)}>", (groups, blocks), a, x, mean, y, partial, counters, sums,
           numpy.int64(count), numpy.int64(channels), *map(numpy.int32, (width, kind, gated)))
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


def batch_norm(x: Array, gain: Array, bias: Array, eps: float, then_relu: bool, statistics: Any,
               comm: Communicator | None = None) -> Any:
    """Return y, push and pull of nn.batch_norm, with relu if `then_relu`; see with_derivative."""
    statistics = statistics or statistics_of(x, comm)
    rows = bias.astype(x.dtype) if comm and not x.size else x       # a rank without examples does what the others do
    if not has_kernels(rows, bias, *statistics, *([] if gain is None else [gain])):
        return NotImplemented
    passes = BatchNormPasses(x, gain, bias, statistics, eps, then_relu, comm)
    return passes.y, passes.push, passes.pull


class BatchNormPasses:
    """y, push and pull of a batch normalization: what batch_norm.Passes computes, with its equations and names."""

    def __init__(self, x: Array, gain: Array, bias: Array, statistics: Any, eps: float, then_relu: bool,
                 comm: Communicator | None = None) -> None:
        self.x, self.comm = module_of(x).ascontiguousarray(x), comm
        self.mean, self.var, self.n = statistics if comm else (*statistics, float(x.size // x.shape[-1]))
        self.has_gain, self.gain = gain is not None, 1.0 if gain is None else gain
        self.eps, self.then_relu = eps, then_relu
        self.y = _normalize(self.x, self.mean, self.var, self.gain, bias, eps, then_relu)

    def _slope(self, v: Any, sums: Any, t_gain: Any, t_bias: Any, gate_v: bool, gate_slope: bool) -> Array:
        of_all = sums if self.comm is None else self.comm.allsum(sums)
        return _normalize_slope(v, self.x, self.y, self.mean, self.var, self.gain, *of_all, t_gain, t_bias, self.eps,
                                self.n, gate_v, gate_slope)

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


_moved_averages = Kernel("move_averages", "T mean, T var, T batch_mean, T batch_var, float64 momentum",
                         "T new_mean, T new_var", """
    T kept = momentum, rest = 1.0 - momentum;
    new_mean = kept * mean + rest * batch_mean;
    new_var = kept * var + rest * batch_var;
    """)


def move_averages(momentum: float, *averages: Array) -> Any:
    """Return the running averages after a step, see normalization._move_averages."""
    fits = type(momentum) is float and has_kernels(*averages)
    return tuple(_moved_averages(*averages, momentum)) if fits else NotImplemented


# --------------------------------------------------------------------------------------------------- loss
#
# Cross-entropy, one thread for each row of scores x (n, K). With z = x - top, and `rest` the sum of exp(z) without the
# label's and plus exp(z) - 1 of the label, the probability of class k is exp(z[k]) / (1 + rest). Whether labels are
# classes cannot be checked without waiting for the device: all that depends on one that is not is NaN.

PROBABILITY = """
template <class T> __device__ T probability(T x, T top, T rest) {       // 0 where all scores are -infinity
    T total = T(1) + rest;
    return exp(x - top) / (total == T(0) ? T(1) : total);
}
template <class S> __device__ int class_of(S label, int K) {            // K for a label that is none
    return label >= 0 && (unsigned long long)label < K ? (int)label : K;
}
"""

# top is the largest score, or 0 where that is not finite; loss = log(1 + rest) - z[label]. Nothing is as large as the
# scores, and nothing cancels where the loss is small.
_cross_entropy = Kernel("cross_entropy", "raw T x, S label, int32 K", "T loss, T top, T rest", """
    ptrdiff_t row = i * K;
    int at = class_of(label, K);
    T largest = x[row], others = 0;
    for (int k = 1; k < K; k++)
        if (x[row + k] > largest || x[row + k] != x[row + k]) largest = x[row + k];
    if (!isfinite(largest)) largest = 0;
    for (int k = 0; k < K; k++)
        if (k != at) others += exp(x[row + k] - largest);
    T mine = at < K ? x[row + at] - largest : T(nan("")), more = others + expm1(mine);
    top = largest;
    rest = more;
    loss = log1p(more) - mine;
    """, preamble=PROBABILITY)

# The sum over the other classes of p[k] (t[k] - t[label]).
_cross_entropy_push = Kernel("cross_entropy_push", "raw T x, raw T t, S label, T top, T rest, int32 K", "T tangent", """
    ptrdiff_t row = i * K;
    int at = class_of(label, K);
    T sum = 0, mine = at < K ? t[row + at] : T(nan(""));
    for (int k = 0; k < K; k++)
        if (k != at) sum += probability(x[row + k], top, rest) * (t[row + k] - mine);
    tangent = sum;
    """, preamble=PROBABILITY)

# p[k] g, and for the label minus the sum of the others: p - 1 would cancel.
_cross_entropy_pull = Kernel("cross_entropy_pull", "raw T x, S label, T top, T rest, T g, int32 K",
                             "raw T cotangent", """
    ptrdiff_t row = i * K;
    int at = class_of(label, K);
    T sum = 0;
    for (int k = 0; k < K; k++) {
        if (k == at) continue;
        T here = probability(x[row + k], top, rest) * g;
        cotangent[row + k] = here;
        sum += here;
    }
    if (at < K) cotangent[row + at] = -sum;
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
