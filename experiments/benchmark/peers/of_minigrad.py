"""Training steps in minigrad."""
import functools
import gc
import logging

import minigrad as mg
from minigrad import backend, nn, optim, reweight, tree
from minigrad.fast import native

from . import MOMENTUM, RATE, Library, clocks, data, minigrad_model, peak_memory


class Captured:
    """A step as a CUDA graph; each call continues from the weights and momentum of the last one.

    inputs: the batches, copied in at every step.
    """

    def __init__(self, step, state, inputs):
        self.step, self.start, self.inputs = step, state, inputs
        self.state, self.run, self.launches = state, None, None

    def __call__(self):
        """Return the weights after one more step; the first call captures the graph."""
        if self.run is None:
            self.run, self.state = self._capture(), self.start
        self.state, _ = self.run(self.state, *self.inputs)
        return self.state[0]

    def _capture(self):
        """Capture the step and return it. Raises MinigradError, with the reason, if it cannot be captured."""
        run, messages = mg.capture(self.step), []
        log = logging.Handler()
        log.emit = lambda record: messages.append(record.getMessage())
        logging.getLogger("minigrad").addHandler(log)
        try:
            for _ in range(2):                              # eager, then captured
                run(self.start, *self.inputs)
        finally:
            logging.getLogger("minigrad").removeHandler(log)
        self.launches = run.launches
        if backend.name() == "cupy" and self.launches is None:
            raise mg.MinigradError("; ".join(messages) or "there is no graph")
        return run


def both_losses(workload, x, y, x_clean, y_clean):
    """Return the losses of the noisy examples and the mean loss of the clean ones, as functions of the model."""
    loss = nn.sigmoid_cross_entropy if workload.network == "lenet" else nn.cross_entropy
    return lambda m: loss(m(x), y), lambda m: mg.mean(loss(m(x_clean), y_clean))


def gradients(workload):
    """Return {route: gradient(model, x, y, x_clean, y_clean)} for the routes that take a step."""
    def plain(model, *batches):
        losses, _ = both_losses(workload, *batches)
        return mg.grad(lambda m: mg.mean(losses(m)))(model)

    def algorithm_1(model, *batches):
        return reweight.reweighted_gradient(*both_losses(workload, *batches), model).gradient

    def double_backward(model, *batches):
        losses, clean = both_losses(workload, *batches)
        weights = reweight.example_weights_unrolled(losses, clean, model)
        return mg.grad(lambda m: mg.sum(weights * losses(m)))(model)
    return {"plain": plain, "Algorithm 1": algorithm_1, "double backward": double_backward}


def routes(workload, checkpoint=False):
    """Return {route: step}; all steps start from the same weights."""
    model = minigrad_model(workload, checkpoint)
    batches, found = [mg.xp.asarray(a) for a in data(workload)], gradients(workload)
    if not workload.clean:
        return {"gradient": lambda: found["plain"](model, *batches)}
    optimizer = optim.sgd(momentum=MOMENTUM)
    start = model, optimizer.init(model)

    def step(gradient, state, *inputs):
        model, momentum = state
        return optimizer.update(gradient(model, *inputs), momentum, model, RATE), ()
    steps = {route: functools.partial(step, gradient) for route, gradient in found.items()}
    eager = {route: lambda run=run: run(start, *batches)[0][0] for route, run in steps.items()}
    captured = {f"{route}, captured": Captured(steps[route], start, batches) for route in ("plain", "Algorithm 1")}
    return eager | (captured if backend.name() == "cupy" else {})


def use(workload, gpu=False, tf32=False):
    """Return the Library minigrad with a workload; of a ResNet also with each residual block checkpointed."""
    mg.use("cupy" if gpu else "numpy")
    backend.matmul_precision("tf32" if tf32 else "float32")
    found = routes(workload)
    if workload.network == "resnet":
        checkpointed = routes(workload, checkpoint=True)
        found |= {f"{route}, checkpointed": checkpointed[route] for route in ("plain", "Algorithm 1")}

    def release():
        for step in found.values():
            if isinstance(step, Captured):
                step.run = step.state = None
        gc.collect()
        if gpu:
            mg.xp.get_default_memory_pool().free_all_blocks()
    version = f"{mg.__version__}, {backend.name()} {mg.xp.__version__}"
    if not gpu:
        version += f", with{'' if native.wanted() and native.library('f') else 'out'} kernels in C"
    return Library(version, found, clocks.of_cupy() if gpu else clocks.on_host,
                   lambda model: [mg.to_host(leaf) for leaf in tree.flatten(model)[0]], memory, release)


def memory(step):
    """Return the most bytes held in a step, as `peak_memory`; None for a captured step, whose graph owns its memory."""
    return None if isinstance(step, Captured) else peak_memory(step)
