"""The benchmark's problems, and how each library takes a training step of them: minigrad, PyTorch, JAX and others.

The networks are written once, over the few operations that a library says in its own words. Every library takes the
same steps from the same weights in its own best form, and hands out the weights in minigrad's layout, so that they can
be compared. A *route* is one way to take a step:

    plain                     the mean loss, backward
    Algorithm 1               minigrad: one linearization read both ways
    ... double backward       as it is usually written: look-ahead, backward through the backward pass, and the step
    ... one graph             double backward against the clean gradient, the noisy batch run once for both
    ... forward mode          a Jacobian-vector product for the weights
    gradient                  no update: the overhead of the library on a tiny network
    evaluation                the scores alone, of plain arrays
    ..., units forgotten      of each unit of a ResNet the input alone is kept (checkpoint)
    ..., captured             minigrad on a GPU: the whole step one CUDA graph (minigrad.capture)
    ..., CUDA graph           PyTorch on a GPU: the same, by torch.cuda.CUDAGraph
    ..., compiled             PyTorch on a GPU: torch.compile of the step written with torch.func
"""
import importlib
import tracemalloc
from typing import Any, NamedTuple

import numpy as np

import models
from minigrad import tree
from minigrad.backend import generator, name, to_host

RATE, MOMENTUM, EPS = 1e-3, 0.9, 1e-3


def job(route):
    """What a route computes: evaluation, gradient, plain or Algorithm 1."""
    way = route.partition(",")[0]
    return way if way in ("evaluation", "gradient", "plain") else "Algorithm 1"


class Problem(NamedTuple):
    """A network, its loss, and how many examples are in the two batches."""
    network: str                # a name in NETWORKS
    noisy: int
    clean: int
    size: Any = ()              # what the network is built with: layer sizes, or depth and widening

    @property
    def image(self):
        """The shape of one example."""
        return {"mlp": self.size[:1], "lenet": (28, 28, 1), "resnet": (32, 32, 3)}[self.network]


PROBLEMS = {
    "mlp-tiny": Problem("mlp", 6, 0, (8, 16, 16, 16, 10)),
    "mlp": Problem("mlp", 100, 10, (784, 256, 256, 10)),
    "lenet": Problem("lenet", 100, 10),
    "resnet32": Problem("resnet", 100, 100, (32, 1)),
    "wrn-28-10": Problem("resnet", 100, 100, (26, 10)),
}


def data(problem):
    """Random images and labels of both batches: x, y, x_clean, y_clean."""
    rng = np.random.default_rng(0)
    classes = 2 if problem.network == "lenet" else 10
    both = []
    for n in (problem.noisy, problem.clean):
        both += [rng.standard_normal((n, *problem.image), "float32"), rng.integers(0, classes, n)]
    return both


def minigrad_model(problem, checkpoint=False):
    """The network in minigrad: the weights of all others come from it."""
    if problem.network == "mlp":
        return models.mlp(generator(0), problem.size)
    if problem.network == "lenet":
        return models.lenet(generator(0))
    return models.resnet(generator(0), *problem.size, checkpoint=checkpoint)


def weights(problem):
    """The initial weights as NumPy arrays, in minigrad's order and layout."""
    return [to_host(p) for p in tree.flatten(minigrad_model(problem))[0]]


# --------------------------------------------------- the networks, over the operations of a library

def mlp(ops, params, x, size):
    """Dense layers with ReLU between; params: weight, bias ..."""
    layers = list(zip(params[::2], params[1::2]))
    for weight, bias in layers[:-1]:
        x = ops.relu(ops.dense(x, weight, bias))
    return ops.dense(x, *layers[-1])


def lenet(ops, params, x, size):
    """models/lenet.py."""
    for kernel, bias in zip(params[0:6:2], params[1:6:2]):
        x = ops.relu(ops.max_pool(ops.conv(x, kernel, bias=bias)))
    return ops.dense(ops.relu(ops.dense(ops.flat(x), *params[6:8])), *params[8:])


def resnet(ops, params, x, size):
    """models/resnet.py."""
    left, (depth, widen), inputs = iter(params), size, 16
    x = ops.norm(ops.conv(x, next(left)), next(left))
    for stage, outputs in enumerate((16 * widen, 32 * widen, 64 * widen)):
        for unit in range(depth // 6):
            stride = 2 if stage and not unit else 1
            y = ops.norm(x, next(left)) if stage else x
            y = ops.norm(ops.conv(y, next(left), stride), next(left))
            y = ops.conv(y, next(left))
            x = ops.average(x) if stride == 2 else x
            x = y + (ops.widen(x, (outputs - inputs) // 2) if outputs > inputs else x)
            inputs = outputs
    return ops.dense(ops.pooled(ops.norm(x, next(left))), next(left), next(left))


NETWORKS = {"mlp": mlp, "lenet": lenet, "resnet": resnet}


def same(size, window, stride):
    """(before, after): the padding of TensorFlow's "same"."""
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


# ---------------------------------------------------------------------------------------------- libraries

class Library(NamedTuple):
    """What a library offers for a problem: its version, {route: step}, and what is done with a step."""
    version: str
    routes: dict                # step() gives the new weights; the first call may build what the others use
    elapsed: Any                # elapsed(step, times): seconds of so many steps
    host: Any                   # host(weights): as NumPy arrays in minigrad's order and layout
    memory: Any                 # memory(step): the most bytes held in a step, or None where the library does not tell
    release: Any = lambda: None     # forget what steps have built, and give the device's memory to other processes


def traced_memory(step):
    """The most bytes held at once in a step, beyond those held before, as tracemalloc counts NumPy's arrays."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        step()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


HOST = ("autograd", "MyGrad", "NumPy")          # they know no GPU
LIBRARIES = {                   # name: the module beside this one, and the settings of its function `use`
    "minigrad": ("of_minigrad", {}),
    "PyTorch": ("of_torch", {}),
    "PyTorch channels_last": ("of_torch", {"channels_last": True}),
    "JAX": ("of_jax", {}),
    "autograd": ("of_autograd", {}),
    "MyGrad": ("of_mygrad", {}),
    "NumPy": ("of_numpy", {}),
}


def use(library, problem, backend=None, tf32=False):
    """A library with a problem, on the CPU ("numpy") or a GPU ("cupy"; default: as minigrad now), in float32 or TF32.

    Raises ImportError where it is not installed, and other errors where it cannot run there.
    """
    module, fixed = LIBRARIES[library]
    settings = {} if library in HOST else {"gpu": (backend or name()) == "cupy", "tf32": tf32}
    return importlib.import_module(f"{__name__}.{module}").use(problem, **fixed, **settings)


def offered(library, problem):
    """Whether a library has this problem: some are for dense layers alone, and dense layers have no layout."""
    if library == "NumPy":
        return problem.network == "mlp"
    if library in ("autograd", "MyGrad"):
        return not problem.clean
    return library != "PyTorch channels_last" or problem.network != "mlp"
