"""Batch normalization on NumPy: moments, and the whole layer with its first derivative, in few passes over memory."""
from collections.abc import Callable, Iterator
from typing import Any

import numpy

from ..communicators import Communicator
from ..ops.normalize import statistics_of
from ..typing import Array
from .elementwise import select
from .products import column_sums
from .threads import map_chunks, run, scratch, split_rows, sum_chunks


def moments(x: Array) -> Any:
    """Return the mean and the variance of each channel."""
    if not x.size or x.dtype == "float16":
        return NotImplemented

    def of_chunk(chunk: slice) -> tuple[Array, Array]:      # both sums while the chunk is in the cache
        mean = column_sums(x[chunk]) / (x[chunk].size // x.shape[-1])
        deviation = numpy.subtract(x[chunk], _tile(mean, x), out=scratch("deviation", x[chunk].shape, x))
        return mean, column_sums(deviation, deviation)
    return join_moments(x, of_chunk)


def join_moments(x: Array, of_chunk: Callable[[slice], tuple[Array, Array]]) -> tuple[Array, Array]:
    """Return the mean and the variance from the mean and the sum of squared deviations of each chunk of x.

    Chan, Golub & LeVeque, Updating formulae and a pairwise algorithm for computing sample variances, 1979.
    """
    chunks = split_rows(x)
    n, mean, squares = 0, 0.0, 0.0                          # the count, mean and squared deviations up to here
    for chunk, (mean_here, squares_here) in zip(chunks, map_chunks(of_chunk, chunks)):
        m, deviation = x[chunk].size // x.shape[-1], mean_here - mean
        squares = squares + squares_here + deviation * deviation * (n * m / (n + m))
        n, mean = n + m, mean + deviation * (m / (n + m))
    return mean, squares / n


def _tile(a: Array, x: Array) -> Array:
    """Return per-channel values tiled along the width of x, so that NumPy's inner loop is long."""
    return numpy.ascontiguousarray(numpy.broadcast_to(a, x.shape[-2:])) if x.ndim > 2 else a


def batch_norm(x: Array, gain: Array | None, bias: Array, eps: float, then_relu: bool,
               statistics: tuple[Array, ...] | None, comm: Communicator | None = None) -> Any:
    """Return y, push and pull of nn.batch_norm, with relu if `then_relu`; see with_derivative.

    statistics: statistics_of(x, comm), if they are known already.
    """
    if not x.size and comm is None:
        return NotImplemented
    passes = Passes(x, gain, bias, statistics or statistics_of(x, comm), eps, then_relu, comm)
    return passes.y, passes.push, passes.pull


class Passes:
    """y = A c + bias with c = x - mean, A = gain r, r = 1 / sqrt(var + eps), and relu of it; its push and pull.

    x: channels last; statistics: moments(x); gain: (c,) or None for 1; bias: (c,). For each channel,

        push    t A + c B + C,  where y > 0    B = r t_gain - A r^2 mean(c t)    C = t_bias - A mean(t)
        pull    v A + c B + C                  B = -A r^2 mean(c v)              C = -A mean(v)      v = g where y > 0

    and the cotangents of gain and bias are r sum(c v) and sum(v). Push and pull each walk over their arrays twice: for
    the sums over the batch, and for the rest. Of large arrays only x and y are stored; c is computed again. With a
    communicator the means are over the batches of all ranks; the cotangents of gain and bias are parts that add up.
    """

    def __init__(self, x: Array, gain: Array | None, bias: Array, statistics: tuple[Array, ...], eps: float,
                 then_relu: bool, comm: Communicator | None = None) -> None:
        self.x, self.bias, self.then_relu, self.has_gain, self.comm = x, bias, then_relu, gain is not None, comm
        self.y = numpy.empty(x.shape, numpy.result_type(x, bias, bias if gain is None else gain))
        self.mean, self.r = statistics[0], 1.0 / numpy.sqrt(statistics[1] + eps)
        self.A = self.r if gain is None else gain * self.r
        self.n, self.chunks = x.size / x.shape[-1] if comm is None else statistics[2], split_rows(x)
        self.normalize()

    def push(self, t: Array | None, t_gain: Array | None, t_bias: Array | None) -> Array:
        """Return the tangent of y; None is zero."""
        t, A = (self.x, 0.0 * self.A) if t is None else (t, self.A)     # whatever t is, it is then multiplied by 0
        sums = self.over_ranks(self.sums(t))
        B = (0.0 if t_gain is None else self.r * t_gain) - A * self.r ** 2 * (sums[1] / self.n)
        C = (0.0 if t_bias is None else t_bias) - A * (sums[0] / self.n)
        return self.slope(t, A, B, C)

    def pull(self, g: Array) -> tuple[Array, Array | None, Array]:
        """Return the cotangents of x, gain (None if there is no gain) and bias."""
        v, sums = self.gated_sums(g) if self.then_relu else (g, self.sums(g))
        of_all = self.over_ranks(sums)
        B, C = -self.A * self.r ** 2 * (of_all[1] / self.n), -self.A * (of_all[0] / self.n)
        return self.slope_of_gated(v, self.A, B, C), self.r * sums[1] if self.has_gain else None, sums[0]

    def over_ranks(self, sums: Array) -> Array:
        """Return the sums over all ranks of these sums."""
        return sums if self.comm is None else self.comm.allsum(sums)

    # ------------------------------------------------------- the walks over memory, which native_batch_norm.py replaces

    def normalize(self) -> None:
        """Compute y."""
        self.mean = _tile(self.mean, self.x)
        A, bias = _tile(self.A, self.x), _tile(self.bias, self.x)

        def work(chunks: Iterator[slice]) -> None:
            for chunk in chunks:
                y = numpy.subtract(self.x[chunk], self.mean, out=self.y[chunk])
                y *= A
                y += bias
                if self.then_relu:
                    numpy.maximum(y, 0.0, out=y)
        run(work, self.chunks)

    def sums(self, t: Array) -> Array:
        """Return the sums of t and of c t over the batch: (2, channels)."""
        return sum_chunks(lambda chunk: numpy.stack([column_sums(t[chunk]),
                                                   column_sums(self._center(chunk), t[chunk])]), self.chunks)

    def gated_sums(self, g: Array) -> tuple[Array, Array]:
        """Return v = g where y > 0, as an array to write to, and its sums."""
        v = numpy.empty_like(self.y)

        def of_chunk(chunk: slice) -> Array:
            part = select(g[chunk], self.y[chunk] != 0, out=v[chunk])
            return numpy.stack([column_sums(part), column_sums(self._center(chunk), part)])
        return v, sum_chunks(of_chunk, self.chunks)

    def slope(self, t: Array, A: Array, B: Array, C: Array) -> Array:
        """Return t A + c B + C, where y > 0."""
        return self._slope(t, A, B, C, numpy.empty_like(self.y), self.then_relu)

    def slope_of_gated(self, v: Array, A: Array, B: Array, C: Array) -> Array:
        """Return v A + c B + C, with v from `gated_sums` if there is a ReLU."""
        return self._slope(v, A, B, C, v if self.then_relu else numpy.empty_like(self.y), False)

    def _slope(self, v: Array, A: Array, B: Array, C: Array, out: Array, gated: bool) -> Array:
        A, B, C = (_tile(a, self.x) for a in (A, B, C))

        def work(chunks: Iterator[slice]) -> None:
            for chunk in chunks:
                c, part = self._center(chunk), numpy.multiply(v[chunk], A, out=out[chunk])
                c *= B
                part += c
                part += C
                if gated:
                    select(part, self.y[chunk] != 0, out=part)
        run(work, self.chunks)
        return out

    def _center(self, chunk: slice) -> Array:
        x = self.x[chunk]
        return numpy.subtract(x, self.mean, out=scratch("c", x.shape, x))
