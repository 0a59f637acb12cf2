"""Training steps in minigrad."""
import functools
import gc
import logging

import minigrad as mg
from minigrad import backend, nn, optim, reweight, tree
from minigrad.fast import native

from . import MOMENTUM, RATE, Library, data, minigrad_model
from .clocks import by_events, on_host


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
        run, log = mg.capture(self.step), Messages()
        logging.getLogger("minigrad").addHandler(log)
        try:
            for _ in range(2):                              # eager, then captured
                run(self.start, *self.inputs)
        finally:
            logging.getLogger("minigrad").removeHandler(log)
        self.launches = run.launches
        if backend.name() == "cupy" and self.launches is None:
            raise mg.MinigradError("; ".join(log.texts) or "there is no graph")
        return run


class Messages(logging.Handler):
    """A handler that collects the messages of a log."""

    def __init__(self):
        super().__init__()
        self.texts = []

    def emit(self, record):
        """Collect the message of a record."""
        self.texts.append(record.getMessage())


def both_losses(problem, x, y, x_clean, y_clean):
    """Return the losses of the noisy examples and the mean loss of the clean ones, as functions of the model."""
    loss = nn.sigmoid_cross_entropy if problem.network == "lenet" else nn.cross_entropy
    return lambda m: loss(m(x), y), lambda m: mg.mean(loss(m(x_clean), y_clean))


def gradients(problem):
    """Return {route: gradient(model, x, y, x_clean, y_clean)} for the routes that take a step."""
    def plain(model, *batches):
        losses, _ = both_losses(problem, *batches)
        return mg.grad(lambda m: mg.mean(losses(m)))(model)

    def algorithm_1(model, *batches):
        return reweight.reweighted_gradient(*both_losses(problem, *batches), model).gradient

    def double_backward(model, *batches):
        losses, clean = both_losses(problem, *batches)
        weights = reweight.example_weights_unrolled(losses, clean, model)
        return mg.grad(lambda m: mg.sum(weights * losses(m)))(model)
    return {"plain": plain, "Algorithm 1": algorithm_1, "double backward": double_backward}


def routes(problem, model):
    """Return {route: step}; all steps start from this model."""
    batches, found = [mg.xp.asarray(a) for a in data(problem)], gradients(problem)
    evaluation = {"evaluation": lambda: model(batches[0])} if problem.network == "mlp" else {}
    if not problem.clean:
        return evaluation | {"gradient": lambda: found["plain"](model, *batches)}
    optimizer = optim.sgd(momentum=MOMENTUM)
    start = model, optimizer.init(model)

    def step(gradient, state, *inputs):
        model, momentum = state
        return optimizer.update(gradient(model, *inputs), momentum, model, RATE), ()
    steps = {route: functools.partial(step, gradient) for route, gradient in found.items()}
    eager = {route: lambda run=run: run(start, *batches)[0][0] for route, run in steps.items()}
    captured = {f"{route}, captured": Captured(steps[route], start, batches) for route in ("plain", "Algorithm 1")}
    return evaluation | eager | (captured if backend.name() == "cupy" else {})


def use(problem, gpu=False, tf32=False):
    """Return the Library minigrad with a problem; of a ResNet also with each residual block checkpointed."""
    mg.use("cupy" if gpu else "numpy")
    backend.matmul_precision("tf32" if tf32 else "float32")
    found = routes(problem, minigrad_model(problem))
    if problem.network == "resnet":
        checkpointed = routes(problem, minigrad_model(problem, checkpoint=True))
        found |= {f"{name}, units forgotten": checkpointed[name] for name in ("plain", "Algorithm 1")}

    def release():
        for step in found.values():
            if isinstance(step, Captured):
                step.run = step.state = None
        gc.collect()
        if gpu:
            mg.xp.get_default_memory_pool().free_all_blocks()
    version = f"{mg.__version__}, {backend.name()} {mg.xp.__version__}"
    if not gpu:
        version += ", with kernels in C" if native.wanted() and native.library("f") else ", without kernels in C"
    return Library(version, found, clock(), lambda model: [mg.to_host(leaf) for leaf in tree.flatten(model)[0]],
                   memory, release)


def clock():
    """Return the clock of the array module in use: events of the device, or the host's clock."""
    if backend.name() == "numpy":
        return on_host
    return by_events(lambda: mg.xp.cuda.Event(), lambda start, end: mg.xp.cuda.get_elapsed_time(start, end))


def memory(step):
    """Return the peak of the bytes held during a step beyond those held before, by tracemalloc or CuPy's memory pool.

    None for a captured step, whose graph owns its memory.
    """
    if isinstance(step, Captured):
        return None
    with backend.peak_memory() as peak:
        step()
    return peak()
