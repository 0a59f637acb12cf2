"""What a training step cannot be had for less: its multiplications and bytes, and the machine's speed at both."""
import math
import time

import numpy as np

import minigrad as mg
from minigrad import backend
from minigrad.fast import threads

from .peers import NETWORKS, job
from .peers.of_minigrad import clock

SIDE, COPIED = 4096, 1 << 28                # of the device's matrices; bytes that it copies


class Shape:
    """Stands for an array in a network and counts: multiplications and additions, and bytes read and written."""

    def __init__(self, shape, count):
        self.shape, self.count = shape, count

    def made(self, shape, flops=0):
        """The result of an operation."""
        self.count["flops"] += flops
        self.count["bytes"] += 4 * (math.prod(self.shape) + math.prod(shape))
        return Shape(shape, self.count)

    def __add__(self, other):
        return self.made(self.shape)


class Counting:
    """The operations of a network (peers), on shapes."""

    def dense(self, x, weight, bias):
        """x W + b."""
        return x.made((x.shape[0], weight[1]), 2 * x.shape[0] * weight[0] * weight[1])

    def conv(self, x, k, stride=1, bias=None):
        """A convolution."""
        n, h, w, _ = x.shape
        shape = (n, -(-h // stride), -(-w // stride), k[3])
        return x.made(shape, 2 * math.prod(shape) * math.prod(k[:3]))

    def max_pool(self, x):
        """3x3 with stride 2."""
        n, h, w, c = x.shape
        return x.made((n, -(-h // 2), -(-w // 2), c))

    def norm(self, x, bias):
        """Normalization and ReLU: read twice, for the moments first."""
        self.relu(x)
        return x.made(x.shape)

    def relu(self, x):
        """max(x, 0)."""
        return x.made(x.shape)

    def average(self, x):
        """2x2."""
        n, h, w, c = x.shape
        return x.made((n, h // 2, w // 2, c))

    def widen(self, x, more):
        """More channels."""
        return x.made((*x.shape[:3], x.shape[3] + 2 * more))

    def pooled(self, x):
        """The mean over all pixels."""
        return x.made((x.shape[0], x.shape[3]))

    def flat(self, x):
        """No work."""
        return Shape((x.shape[0], math.prod(x.shape[1:])), x.count)


def work(problem, shapes, route):
    """Floating-point operations and bytes of a step: a pass over the network costs 1 forwards, 2 pushed or pulled."""
    count = {"flops": 0, "bytes": 0}
    NETWORKS[problem.network](Counting(), shapes, Shape((1, *problem.image), count), problem.size)
    passes = (1 if job(route) == "evaluation" else 3) * problem.noisy
    if job(route) == "Algorithm 1":
        passes = (1 + 2 + 2) * problem.noisy + 3 * problem.clean
    return {name: each * passes for name, each in count.items()}


def machine():
    """The machine now: FLOP/s of the best matrix product, and bytes copied (read and written) per second.

    On the CPU of float32; on a GPU in the precision that is set, and in full float32 too where that is another.
    """
    return device() if backend.name() == "cupy" else host()


def host():
    """The CPU, all threads at once."""
    a, big = np.ones((1024, 1024), "float32"), np.ones((threads.threads(), 1 << 23), "float32")
    to = np.empty_like(big)
    lanes = list(range(threads.threads()))

    def best(f):
        threads.map_chunks(f, lanes)
        return min(_seconds(lambda: threads.map_chunks(f, lanes)) for _ in range(3))
    return {"flops": len(lanes) * 2 * 1024 ** 3 / best(lambda lane: a @ a),
            "bytes": 2 * big.nbytes / best(lambda lane: np.copyto(to[lane], big[lane]))}


def device():
    """The GPU, by its own events."""
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
    a = big = to = None                                     # before their memory can be given back
    mg.xp.get_default_memory_pool().free_all_blocks()
    return found


def _seconds(f):
    start = time.perf_counter()
    f()
    return time.perf_counter() - start
