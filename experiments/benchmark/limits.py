"""A lower bound on the cost of a training step: its FLOPs and bytes, and this machine's peak rate for each."""
import math
import time

import numpy as np

import minigrad as mg
from minigrad import backend
from minigrad.fast import threads

from .peers import NETWORKS, job
from .peers.of_minigrad import clock

SIDE, COPIED = 4096, 1 << 28                # side of the matrices that a GPU multiplies; bytes that it copies


class Shape:
    """The shape of an array in a network, and running counts of FLOPs and of bytes read and written."""

    def __init__(self, shape, count):
        self.shape, self.count = shape, count

    def to(self, shape, flops=0):
        """Count an operation on this array (float32) and return the Shape of its result."""
        self.count["flops"] += flops
        self.count["bytes"] += 4 * (math.prod(self.shape) + math.prod(shape))
        return Shape(shape, self.count)

    def __add__(self, other):
        return self.to(self.shape)


class Counting:
    """The operations of the networks in peers, on shapes: each only counts its cost."""

    def dense(self, x, weight, bias):
        """Count x W + b."""
        return x.to((x.shape[0], weight[1]), 2 * x.shape[0] * weight[0] * weight[1])

    def conv(self, x, k, stride=1, bias=None):
        """Count a convolution with "same" padding."""
        n, h, w, _ = x.shape
        shape = (n, -(-h // stride), -(-w // stride), k[3])
        return x.to(shape, 2 * math.prod(shape) * math.prod(k[:3]))

    def max_pool(self, x):
        """Count max pooling with stride 2."""
        n, h, w, c = x.shape
        return x.to((n, -(-h // 2), -(-w // 2), c))

    def norm(self, x, bias):
        """Count normalization and ReLU, which read x twice: once for the moments."""
        self.relu(x)
        return x.to(x.shape)

    def relu(self, x):
        """Count max(x, 0)."""
        return x.to(x.shape)

    def avg_pool(self, x):
        """Count the mean of each 2x2 block."""
        n, h, w, c = x.shape
        return x.to((n, h // 2, w // 2, c))

    def widen(self, x, more):
        """Count padding by `more` channels on either side."""
        return x.to((*x.shape[:3], x.shape[3] + 2 * more))

    def average_pixels(self, x):
        """Count the mean over all pixels."""
        return x.to((x.shape[0], x.shape[3]))

    def flatten(self, x):
        """Count nothing: flattening moves no data."""
        return Shape((x.shape[0], math.prod(x.shape[1:])), x.count)


def work(problem, shapes, route):
    """Return {"flops", "bytes"} of a step: in units of a forward pass, a push or a pull costs 2.

    shapes: of the weights, as in `peers.weights`.
    """
    count = {"flops": 0, "bytes": 0}
    NETWORKS[problem.network](Counting(), shapes, Shape((1, *problem.image), count), problem.size)
    passes = (1 if job(route) == "evaluation" else 3) * problem.noisy
    if job(route) == "Algorithm 1":
        passes = (1 + 2 + 2) * problem.noisy + 3 * problem.clean
    return {name: each * passes for name, each in count.items()}


def machine():
    """Measure the machine now: {"flops"} per second of a matrix product, {"bytes"} read and written per second.

    On the CPU in float32. On a GPU in the precision that is set; if that is TF32, "flops in float32" is measured, too.
    """
    return device() if backend.name() == "cupy" else host()


def host():
    """Measure the CPU, with all threads at once."""
    a, big = np.ones((1024, 1024), "float32"), np.ones((threads.threads(), 1 << 23), "float32")
    to = np.empty_like(big)
    lanes = list(range(threads.threads()))

    def best(f):
        threads.map_chunks(f, lanes)
        return min(_seconds(lambda: threads.map_chunks(f, lanes)) for _ in range(3))
    return {"flops": len(lanes) * 2 * 1024 ** 3 / best(lambda lane: a @ a),
            "bytes": 2 * big.nbytes / best(lambda lane: np.copyto(to[lane], big[lane]))}


def device():
    """Measure the GPU, by its own events."""
    a = (mg.xp.arange(SIDE * SIDE, dtype="float32") % 13 - 6).reshape(SIDE, SIDE)
    big = mg.xp.ones(COPIED // 4, "float32")
    to, elapsed, precision = mg.xp.empty_like(big), clock(), backend.matmul_precision()

    def best(f):
        elapsed(f, 1)
        return min(elapsed(f, 10) / 10 for _ in range(3))

    def flops():
        return 2 * SIDE ** 3 / best(lambda: mg.matmul(a, a))
    found = {"flops": flops(), "bytes": 2 * big.nbytes / best(lambda: mg.xp.copyto(to, big))}
    if precision != "float32":
        backend.matmul_precision("float32")
        found["flops in float32"] = flops()
        backend.matmul_precision(precision)
    a = big = to = None                                     # drop the references, so that the pool can free the memory
    mg.xp.get_default_memory_pool().free_all_blocks()
    return found


def _seconds(f):
    start = time.perf_counter()
    f()
    return time.perf_counter() - start
