"""Batch normalization and sums of columns by the kernels in C: each walk over memory is one function."""
import ctypes
from collections.abc import Callable
from typing import Any

import numpy

from ..communicators import Communicator
from ..ops.normalize import statistics_of
from ..typing import Array, Shape
from .batch_norm import Passes, join_moments
from .elementwise import SMALL
from .native import address, contiguous, kernels
from .threads import map_chunks, split_rows, sum_chunks

NOWHERE, BEFORE, AFTER = range(3)       # where a ReLU selects: see kernels/batch_norm.c


def sum_to(x: Array, shape: Shape) -> Any:
    """Return the sums over all axes but the last: the gradient of a bias."""
    library = kernels(x)
    if not (library and x.size > SMALL and shape == x.shape[-1:]):
        return NotImplemented
    x = contiguous(x)

    def of_chunk(chunk: slice) -> Array:
        part, sums = x[chunk], numpy.empty(shape, x.dtype)
        library.column_sums(address(part), part.size // shape[0], shape[0], address(sums))
        return sums
    return sum_chunks(of_chunk, split_rows(x))


def moments(x: Array) -> Any:
    """Return the mean and the variance of each channel."""
    library = kernels(x)
    if not (library and x.ndim and x.size):
        return NotImplemented
    x, channels = contiguous(x), x.shape[-1]

    def of_chunk(chunk: slice) -> tuple[Array, Array]:
        part, result = x[chunk], numpy.empty((2, channels), x.dtype)
        library.moments(address(part), part.size // channels, channels, address(result[0]), address(result[1]))
        return result[0], result[1]
    return join_moments(x, of_chunk)


def batch_norm(x: Array, gain: Array | None, bias: Array, eps: float, then_relu: bool,
               statistics: tuple[Array, ...] | None, comm: Communicator | None = None) -> Any:
    """Return y, push and pull of nn.batch_norm, with relu if `then_relu`; see with_derivative."""
    library = kernels(x, bias, bias if gain is None else gain, *statistics or ())
    if not (library and x.ndim > 1 and (x.size or comm) and bias.shape == x.shape[-1:]
            and (gain is None or gain.shape == bias.shape)):
        return NotImplemented
    statistics = statistics or statistics_of(x, comm)
    passes = _NativePasses(library, contiguous(x), gain, bias, statistics, eps, then_relu, comm)
    return passes.y, passes.push, passes.pull


class _Layer(ctypes.Structure):
    """The struct `layer` of kernels/batch_norm.c."""
    _fields_ = [(name, ctypes.c_void_p) for name in ("x", "mean", "A", "bias")]


class _NativePasses(Passes):
    """The passes with walks in C. Where a ReLU is open is recomputed from x: faster than reading y."""

    def __init__(self, library: Any, *args: Any) -> None:
        self.library = library
        super().__init__(*args)

    def normalize(self) -> None:
        """Compute y."""
        self.constants = [self._channels(a) for a in (self.mean, self.A, self.bias)]
        self._walk(self.library.normalize, (), (self.then_relu,), self.y)

    def sums(self, t: Array, gated: bool = False) -> Array:
        """Return the sums of t and of c t over the batch: (2, channels)."""
        t = self._like_x(t)

        def of_chunk(chunk: slice) -> Array:
            sums = numpy.empty((2, self.x.shape[-1]), t.dtype)
            self._call(self.library.product_sums, chunk, (t,), (gated,), sums)
            return sums
        return sum_chunks(of_chunk, self.chunks)

    def gated_sums(self, g: Array) -> tuple[Array, Array]:
        """Return g, which the next walk selects from, and the sums of it where y > 0."""
        return g, self.sums(g, True)

    def slope(self, t: Array, A: Array, B: Array, C: Array) -> Array:
        """Return t A + c B + C, where y > 0."""
        return self._slope_in_c(t, A, B, C, AFTER if self.then_relu else NOWHERE)

    def slope_of_gated(self, v: Array, A: Array, B: Array, C: Array) -> Array:
        """Return v A + c B + C, with v only where y > 0 if there is a ReLU."""
        return self._slope_in_c(v, A, B, C, BEFORE if self.then_relu else NOWHERE)

    def _slope_in_c(self, t: Array, A: Array, B: Array, C: Array, gate: int) -> Array:
        y, constants = numpy.empty_like(self.x), [self._channels(a) for a in (A, B, C)]
        self._walk(self.library.slope, (self._like_x(t),), (*map(address, constants), gate), y)
        return y

    def _walk(self, f: Callable[..., Any], arrays: tuple[Array, ...], rest: tuple[Any, ...], y: Array) -> None:
        map_chunks(lambda chunk: self._call(f, chunk, arrays, rest, y[chunk]), self.chunks)

    def _call(self, f: Callable[..., Any], chunk: slice, arrays: tuple[Array, ...], rest: tuple[Any, ...],
              y: Array) -> None:
        """Call f(layer, *arrays, rows, channels, *rest, y) for a chunk."""
        x = self.x[chunk]
        layer = _Layer(address(x), *map(address, self.constants))
        channels = x.shape[-1]
        f(ctypes.byref(layer), *[address(a[chunk]) for a in arrays], x.size // channels, channels, *rest, address(y))

    def _channels(self, a: Any) -> Array:
        """Return a number for each channel in the type of x."""
        return contiguous(numpy.broadcast_to(a, self.x.shape[-1:]), self.x.dtype)

    def _like_x(self, t: Array) -> Array:
        return contiguous(numpy.broadcast_to(t, self.x.shape), self.x.dtype)
