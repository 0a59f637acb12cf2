"""The benchmark's problems, and how each library takes a training step of them: minigrad, PyTorch, JAX and others.

The networks are written once, in terms of a few operations that each library defines. Every library takes the same
steps from the same weights, each in its fastest form, and returns the weights in minigrad's layout, so that they can be
compared. PyTorch is measured in both of its image layouts, (n, c, h, w) and channels_last; JAX, whose compiler chooses
its own, on images (n, h, w, c). "PyTorch compiled" is torch.compile on the CPU, in channels_last; it takes minutes to
build and is measured on request only. "minigrad without C" is minigrad without its kernels in C. A *route* is one way
to take a step:

    plain                     a step on the mean loss
    Algorithm 1               minigrad: one linearization, pushed and pulled
    ... double backward       the usual form: look-ahead, backward through the backward pass, and the step
    ... one graph             double backward with the clean gradient; one pass over the noisy batch serves both
    ... forward mode          a Jacobian-vector product for the example weights
    gradient                  no update: shows the overhead of a library on a tiny network
    evaluation                the scores, computed on plain arrays
    ..., units forgotten      each residual block checkpointed (a name kept for the sake of old records)
    ..., captured             minigrad on a GPU: the whole step one CUDA graph (minigrad.capture)
    ..., CUDA graph           PyTorch on a GPU: the whole step one torch.cuda.CUDAGraph
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
STEPS = ("plain", "Algorithm 1", "gradient", "evaluation")


def job(route):
    """Return the kind of step that a route takes, one of STEPS."""
    way = route.partition(",")[0]
    return way if way in STEPS else "Algorithm 1"


class Problem(NamedTuple):
    """A network with its loss, and the sizes of the two batches."""
    network: str                # a name in NETWORKS
    noisy: int
    clean: int
    size: Any = ()              # arguments of the network: layer sizes, or depth and widening factor

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
BATCH_ON_CPU = {"wrn-28-10": 16}                # with 100 images, a step would take half a minute and more


def find_problem(name, backend):
    """Return the Problem of a name, with the batches for a backend, "numpy" or "cupy"."""
    found = PROBLEMS[name]
    batch = BATCH_ON_CPU.get(name) if backend == "numpy" else None
    return found._replace(noisy=batch, clean=batch) if batch else found


def data(problem):
    """Return random images and labels of both batches: [x, y, x_clean, y_clean]."""
    rng = np.random.default_rng(0)
    classes = 2 if problem.network == "lenet" else 10
    both = []
    for n in (problem.noisy, problem.clean):
        both += [rng.standard_normal((n, *problem.image), "float32"), rng.integers(0, classes, n)]
    return both


def minigrad_model(problem, checkpoint=False):
    """Return the network in minigrad, from which all libraries take their initial weights."""
    if problem.network == "mlp":
        return models.mlp(generator(0), problem.size)
    if problem.network == "lenet":
        return models.lenet(generator(0))
    return models.resnet(generator(0), *problem.size, checkpoint=checkpoint)


def weights(problem):
    """Return the initial weights as NumPy arrays, in minigrad's order and layout."""
    return [to_host(p) for p in tree.flatten(minigrad_model(problem))[0]]


# ----------------------------------------- the networks, in terms of the operations of a library

def mlp(ops, params, x, size):
    """Return the scores (n, classes) of dense layers with ReLU between; params: weight, bias, weight ..."""
    layers = list(zip(params[::2], params[1::2]))
    for weight, bias in layers[:-1]:
        x = ops.relu(ops.dense(x, weight, bias))
    return ops.dense(x, *layers[-1])


def lenet(ops, params, x, size):
    """Return the scores (n, 1) of the network in models/lenet.py."""
    for kernel, bias in zip(params[0:6:2], params[1:6:2]):
        x = ops.relu(ops.max_pool(ops.conv(x, kernel, bias=bias)))
    return ops.dense(ops.relu(ops.dense(ops.flatten(x), *params[6:8])), *params[8:])


def resnet(ops, params, x, size):
    """Return the scores (n, classes) of the network in models/resnet.py; size: depth and widening factor."""
    left, (depth, widen), inputs = iter(params), size, 16
    x = ops.norm(ops.conv(x, next(left)), next(left))
    for stage, outputs in enumerate((16 * widen, 32 * widen, 64 * widen)):
        for unit in range(depth // 6):
            stride = 2 if stage and not unit else 1
            y = ops.norm(x, next(left)) if stage else x
            y = ops.norm(ops.conv(y, next(left), stride), next(left))
            y = ops.conv(y, next(left))
            x = ops.avg_pool(x) if stride == 2 else x
            x = y + (ops.widen(x, (outputs - inputs) // 2) if outputs > inputs else x)
            inputs = outputs
    return ops.dense(ops.average_pixels(ops.norm(x, next(left))), next(left), next(left))


NETWORKS = {"mlp": mlp, "lenet": lenet, "resnet": resnet}


def same(size, window, stride):
    """Return (before, after): the padding along an axis that TensorFlow calls "same"."""
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


# ---------------------------------------------------------------------------------------------- libraries

class Library(NamedTuple):
    """A library with a problem: its version, its routes {name: step}, and functions that time and inspect a step."""
    version: str
    routes: dict                # step() returns the new weights; the first call may compile or record
    elapsed: Any                # elapsed(step, times): seconds that `times` steps take
    host: Any                   # host(weights): NumPy arrays in minigrad's order and layout
    memory: Any                 # memory(step): peak bytes held in a step, or None if unknown
    release: Any = lambda: None     # free captured steps, and cached memory of the device


def trace_memory(step):
    """Return the peak of the bytes that NumPy's arrays hold during a step beyond those held before, by tracemalloc."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        step()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


WITHOUT_C = "minigrad without C"
COMPILED = "PyTorch compiled"
HOST = (WITHOUT_C, COMPILED, "autograd", "MyGrad", "NumPy")     # not offered on a GPU
LIBRARIES = {                   # name: the module beside this one, and the settings of its function `use`
    "minigrad": ("of_minigrad", {}),
    WITHOUT_C: ("of_minigrad", {}),                             # its process is started with MINIGRAD_NATIVE=0
    "PyTorch": ("of_torch", {}),
    "PyTorch channels_last": ("of_torch", {"channels_last": True}),
    COMPILED: ("of_torch", {"channels_last": True, "compiled": True}),
    "JAX": ("of_jax", {}),
    "autograd": ("of_autograd", {}),
    "MyGrad": ("of_mygrad", {}),
    "NumPy": ("of_numpy", {}),
}


def use(library, problem, backend=None, tf32=False):
    """Return a Library with a problem, in float32 or TF32.

    Raises ImportError where the library is not installed, and other errors where it cannot run.

    Args:
        library: a name in LIBRARIES.
        problem: the Problem.
        backend: "numpy" for the CPU or "cupy" for a GPU; by default minigrad's current one.
        tf32: whether matrix products are in TF32.
    """
    module, fixed = LIBRARIES[library]
    settings = {} if library in HOST else {"gpu": (backend or name()) == "cupy", "tf32": tf32}
    return importlib.import_module(f"{__name__}.{module}").use(problem, **fixed, **settings)


def offers(library, problem, backend=None):
    """Return whether a library runs this problem: some only have dense layers, for which no image layout matters.

    backend: "numpy" for the CPU or "cupy" for a GPU; by default minigrad's current one.
    """
    if library in HOST and (backend or name()) == "cupy":
        return False
    if library == "NumPy":
        return problem.network == "mlp"
    if library in ("autograd", "MyGrad"):
        return not problem.clean
    if library == COMPILED:
        return bool(problem.clean)
    return library != "PyTorch channels_last" or problem.network != "mlp"
