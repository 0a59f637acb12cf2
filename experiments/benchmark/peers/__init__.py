"""The benchmark's workloads, and how each library takes a training step of them: minigrad, PyTorch, JAX and autograd.

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
    ..., checkpointed         each residual block checkpointed
    ..., captured             minigrad on a GPU: the whole step one CUDA graph (minigrad.capture)
    ..., CUDA graph           PyTorch on a GPU: the whole step one torch.cuda.CUDAGraph
    ..., compiled             PyTorch on a GPU: torch.compile of the step written with torch.func
"""
import importlib
from typing import Any, NamedTuple

import numpy as np

from minigrad import backend, models, tree

from .clocks import on_host

RATE, MOMENTUM, EPS = 1e-3, 0.9, 1e-3
KINDS = ("plain", "Algorithm 1", "gradient")


def kind(route):
    """Return the kind of step that a route takes, one of KINDS."""
    first = route.partition(",")[0]
    return first if first in KINDS else "Algorithm 1"


class Workload(NamedTuple):
    """A network with its loss, and the sizes of the two batches."""
    network: str                # a name in NETWORKS
    noisy: int
    clean: int
    size: Any = ()              # arguments of the network: layer sizes, or depth and widening factor

    @property
    def image(self):
        """The shape of one example."""
        return {"mlp": self.size[:1], "lenet": (28, 28, 1), "resnet": (32, 32, 3)}[self.network]


WORKLOADS = {
    "mlp-tiny": Workload("mlp", 6, 0, (8, 16, 16, 16, 10)),
    "mlp": Workload("mlp", 100, 10, (784, 256, 256, 10)),
    "lenet": Workload("lenet", 100, 10),
    "resnet32": Workload("resnet", 100, 100, (32, 1)),
    "wrn-28-10": Workload("resnet", 100, 100, (26, 10)),
}
BATCH_ON_CPU = {"wrn-28-10": 16}                # with 100 images, a step would take half a minute and more


def data(workload):
    """Return random images and labels of both batches: [x, y, x_clean, y_clean]."""
    rng, classes = np.random.default_rng(0), 2 if workload.network == "lenet" else 10
    return [array for n in (workload.noisy, workload.clean)
            for array in (rng.standard_normal((n, *workload.image), "float32"), rng.integers(0, classes, n))]


def minigrad_model(workload, checkpoint=False):
    """Return the network in minigrad, from which all libraries take their initial weights."""
    rng = backend.generator(0)
    if workload.network == "mlp":
        return models.mlp(rng, workload.size)
    if workload.network == "lenet":
        return models.lenet(rng)
    return models.resnet(rng, *workload.size, checkpoint=checkpoint)


def weights(workload):
    """Return the initial weights as NumPy arrays, in minigrad's order and layout."""
    return [backend.to_host(p) for p in tree.flatten(minigrad_model(workload))[0]]


# ------------------------ the networks; params: weights and biases in minigrad's order; ops, defined by each library:
#
#   dense(x, weight, bias)                  x W + b
#   conv(x, kernel, stride=1, bias=None)    a convolution with "same" padding (TensorFlow's), and the bias
#   norm(x, bias)                           relu(batch normalization of x, without gain, + bias)
#   relu(x)                                 max(x, 0)
#   max_pool(x)                             the maxima of 3x3 windows, with stride 2 and "same" padding
#   avg_pool(x), average_pixels(x)          the mean of each 2x2 block; of all pixels: (n, c)
#   widen(x, more)                          `more` channels of zeros on either side
#   flatten(x)                              each image as a row, in the order height, width, channel

def mlp(ops, params, x, size):
    """Return the scores (n, classes) of dense layers with ReLU between."""
    *hidden, last = zip(params[::2], params[1::2])
    for layer in hidden:
        x = ops.relu(ops.dense(x, *layer))
    return ops.dense(x, *last)


def lenet(ops, params, x, size):
    """Return the scores (n, 1) of the network in models/lenet.py."""
    for kernel, bias in zip(params[0:6:2], params[1:6:2]):
        x = ops.relu(ops.max_pool(ops.conv(x, kernel, bias=bias)))
    return mlp(ops, params[6:], ops.flatten(x), size)


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


class Steps:
    """The routes as functions of the weights, for libraries that differentiate functions: JAX and torch.func.

    Subclasses define x, y and clean (the batches), ops, grad, jvp, loss(scores, y), normalize (line 11 of Algorithm 1,
    a constant) and update(params, gradient), a step of SGD with a momentum that is 0 so far.
    """

    def losses(self, params, x, y):
        """Return the loss of each example: (n,)."""
        return self.loss(NETWORKS[self.workload.network](self.ops, params, x, self.workload.size), y)

    def noisy(self, params):
        """Return the losses of the noisy batch: (n,)."""
        return self.losses(params, self.x, self.y)

    def clean_loss(self, params):
        """Return L, the mean loss of the clean batch."""
        return self.losses(params, *self.clean).mean()

    def gradient(self, params):
        """Return the gradient of the mean loss."""
        return self.grad(lambda p: self.noisy(p).mean())(params)

    def plain(self, params):
        """Return the weights after a step on the mean loss."""
        return self.update(params, self.gradient(params))

    def forward_mode(self, params):
        """Return the weights after a step of Algorithm 1: one pass over the noisy batch, on dual numbers."""
        v = self.grad(self.clean_loss)(params)

        def weighted(p):
            losses, u = self.jvp(self.noisy, (p,), (v,))
            return (self.normalize(u) * losses).sum()
        return self.update(params, self.grad(weighted)(params))


# ---------------------------------------------------------------------------------------------- libraries

def peak_memory(step):
    """Return the most bytes that NumPy's or CuPy's arrays hold in a step beyond those held before."""
    with backend.peak_memory() as peak:
        step()
    return peak()


class Library(NamedTuple):
    """A library with a workload: its routes, and functions that time and inspect a step."""
    version: str
    routes: dict                    # {name: step}; step() returns the new weights; the first call may compile or record
    elapsed: Any = on_host          # elapsed(step, times): seconds that `times` steps take
    host: Any = list                # host(weights): NumPy arrays in minigrad's order and layout
    memory: Any = peak_memory       # memory(step): peak bytes held in a step, or None if unknown
    release: Any = lambda: None     # free captured steps, and cached memory of the device


class Entry(NamedTuple):
    """An entry of LIBRARIES: where a library's function `use` is, and what it runs."""
    module: str                     # the module beside this one
    settings: dict = {}             # of its function use(workload, gpu, tf32, **settings)
    gpu: bool = True                # whether it runs on a GPU
    runs: Any = lambda workload: True


WITHOUT_C = "minigrad without C"                                # its process is started with MINIGRAD_NATIVE=0
COMPILED = "PyTorch compiled"
LIBRARIES = {
    "minigrad": Entry("of_minigrad"),
    WITHOUT_C: Entry("of_minigrad", gpu=False),
    "PyTorch": Entry("of_torch"),
    "PyTorch channels_last": Entry("of_torch", {"channels_last": True}, runs=lambda w: w.network != "mlp"),
    COMPILED: Entry("of_torch", {"channels_last": True, "compiled": True}, False, lambda w: w.clean > 0),
    "JAX": Entry("of_jax"),
    "autograd": Entry("of_autograd", gpu=False, runs=lambda w: w.network == "mlp" and not w.clean),
}


def runs(library, workload, gpu=False):
    """Return whether a library runs this workload, on the CPU or a GPU."""
    entry = LIBRARIES[library]
    return (entry.gpu or not gpu) and entry.runs(workload)


def use(library, workload, gpu=False, tf32=False):
    """Return the Library of a name in LIBRARIES with a workload.

    Raises ImportError where it is not installed, RuntimeError where it finds no GPU, and other errors of its own.

    Args:
        library: the name.
        workload: the Workload.
        gpu: whether to compute on a GPU.
        tf32: whether matrix products are in TF32.
    """
    entry = LIBRARIES[library]
    return importlib.import_module(f"{__name__}.{entry.module}").use(workload, gpu, tf32, **entry.settings)
