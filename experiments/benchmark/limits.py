"""A lower bound on the cost of a training step: its FLOPs and bytes, and this machine's peak rate for each."""
import math

import numpy as np
from minigrad.models.resnet import Unit, average_pixels

import minigrad as mg
from minigrad import backend, models, nn
from minigrad.fast import threads

from .peers import clocks, kind, minigrad_model

SIDE, COPIED = 4096, 1 << 28                # side of the matrices that a GPU multiplies; bytes that it copies


def forward_pass(workload):
    """Return {"flops", "bytes"} of a forward pass for one example: the sums of two formulae over the layers.

    A layer with weights (..., inputs, outputs) takes a multiplication and an addition for each weight of an output,
    2 * output size * (... * inputs). It reads its input once and writes its output once, 4 * (input + output size).
    """
    found = layers(minigrad_model(workload), workload.image)
    return {"flops": sum(2 * math.prod(y) * math.prod(weights[:-1]) for _, y, weights in found if weights),
            "bytes": sum(4 * (math.prod(x) + math.prod(y)) for x, y, _ in found)}


def layers(layer, x):
    """Return [(input shape, output shape, shape of the weights or None)] of all layers, for one example of shape x."""
    if isinstance(layer, nn.Sequential):
        return layers(layer.layers, x)
    if isinstance(layer, models.LeNet):
        blocks = [(conv, mg.max_pool2d, mg.relu) for conv in (layer.conv1, layer.conv2, layer.conv3)]
        return layers((*sum(blocks, ()), layer.hidden, mg.relu, layer.score), x)
    if isinstance(layer, tuple):
        found = []
        for each in layer:
            found += layers(each, found[-1][1] if found else x)
        return found
    if isinstance(layer, Unit):
        branch = layers(layer.branch, x)
        y = branch[-1][1]
        smaller = (*y[:2], x[2])                            # the shortcut: fewer pixels, then more channels, then a sum
        return branch + [(x, smaller, None)] * (smaller != x) + [(smaller, y, None)] * (smaller != y) + [(y, y, None)]
    if isinstance(layer, nn.Linear):
        return [(x, layer.weight.shape[1:], layer.weight.shape)]
    if isinstance(layer, nn.Conv2d):                        # with "same" padding
        h, w = (math.ceil(size / layer.stride) for size in x[:2])
        return [(x, (h, w, layer.kernel.shape[3]), layer.kernel.shape)]
    if layer is mg.max_pool2d:                              # with a stride of 2 and "same" padding
        return [(x, (math.ceil(x[0] / 2), math.ceil(x[1] / 2), x[2]), None)]
    return [(x, x[2:] if layer is average_pixels else x, None)]         # of normalization and of ReLU


def passes(workload, route):
    """Return the cost of a step in forward passes of one example each: a push or a pull costs 2."""
    if kind(route) == "Algorithm 1":
        return (1 + 2 + 2) * workload.noisy + 3 * workload.clean
    return 3 * workload.noisy


def machine():
    """Measure the machine now: {"flops"} per second of a matrix product, {"bytes"} read and written per second.

    On the CPU in float32. On a GPU in the precision that is set; if that is TF32, "flops in float32" is measured, too.
    """
    return device() if backend.name() == "cupy" else host()


def host():
    """Measure the CPU, with all threads at once."""
    a, big = np.ones((1024, 1024), "float32"), np.ones((threads.threads(), 1 << 23), "float32")
    to, lanes = np.empty_like(big), list(range(threads.threads()))

    def best(f):
        threads.map_chunks(f, lanes)
        return min(clocks.on_host(lambda: threads.map_chunks(f, lanes), 1) for _ in range(3))
    return {"flops": len(lanes) * 2 * 1024 ** 3 / best(lambda lane: a @ a),
            "bytes": 2 * big.nbytes / best(lambda lane: np.copyto(to[lane], big[lane]))}


def device():
    """Measure the GPU, by its own events."""
    a = (mg.xp.arange(SIDE * SIDE, dtype="float32") % 13 - 6).reshape(SIDE, SIDE)
    big = mg.xp.ones(COPIED // 4, "float32")
    to, elapsed, precision = mg.xp.empty_like(big), clocks.of_cupy(), backend.matmul_precision()

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
