"""Training steps in minigrad."""
import functools
import gc
import logging

import minigrad as mg
from minigrad import backend, nn, optim, reweight, tree

from . import MOMENTUM, RATE, Library, data, minigrad_model
from .clocks import by_events, on_host


class Captured:
    """A step as a CUDA graph: weights and momentum are handed on from call to call, the batches are inputs."""

    def __init__(self, step, state, inputs):
        self.step, self.start, self.inputs = step, state, inputs
        self.state, self.run, self.launches = state, None, None

    def __call__(self):
        """The weights after one more step; the first call builds the graph and begins from the first weights."""
        if self.run is None:
            self.run, self.state = self._built(), self.start
        self.state, _ = self.run(self.state, *self.inputs)
        return self.state[0]

    def _built(self):
        """The captured step. Raises MinigradError, with the reason, where it would go on being run as it is."""
        run, kept = mg.capture(self.step), Kept()
        logging.getLogger("minigrad").addHandler(kept)
        try:
            for _ in range(2):                              # eager, then captured
                run(self.start, *self.inputs)
        finally:
            logging.getLogger("minigrad").removeHandler(kept)
        self.launches = run.launches
        if backend.name() == "cupy" and self.launches is None:
            raise mg.MinigradError("; ".join(kept.said) or "there is no graph")
        return run


class Kept(logging.Handler):
    """The messages of a log."""

    def __init__(self):
        super().__init__()
        self.said = []

    def emit(self, record):
        """Keep it."""
        self.said.append(record.getMessage())


def both_losses(problem, x, y, x_clean, y_clean):
    """The losses of the noisy examples and the mean loss of the clean ones, as functions of the model."""
    loss = nn.sigmoid_cross_entropy if problem.network == "lenet" else nn.cross_entropy
    return lambda m: loss(m(x), y), lambda m: mg.mean(loss(m(x_clean), y_clean))


def gradients(problem):
    """{route: gradient(model, x, y, x_clean, y_clean)}, of the routes that take a step."""
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
    """{route: step} from one model."""
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
    """minigrad; with a ResNet also with the inside of every unit forgotten (checkpoint)."""
    mg.use("cupy" if gpu else "numpy")
    backend.matmul_precision("tf32" if tf32 else "float32")
    found = routes(problem, minigrad_model(problem))
    if problem.network == "resnet":
        forgetful = routes(problem, minigrad_model(problem, checkpoint=True))
        found |= {f"{name}, units forgotten": forgetful[name] for name in ("plain", "Algorithm 1")}

    def release():
        for step in found.values():
            if isinstance(step, Captured):
                step.run = step.state = None
        gc.collect()
        if gpu:
            mg.xp.get_default_memory_pool().free_all_blocks()
    return Library(f"{mg.__version__}, {mg.backend.name()} {mg.xp.__version__}", found, clock(),
                   lambda model: [mg.to_host(leaf) for leaf in tree.flatten(model)[0]], memory, release)


def clock():
    """Events of the device, or the host's clock."""
    if backend.name() == "numpy":
        return on_host
    return by_events(lambda: mg.xp.cuda.Event(), lambda start, end: mg.xp.cuda.get_elapsed_time(start, end))


def memory(step):
    """By tracemalloc, or CuPy's memory pool; not told of a captured step, whose graph has memory of its own."""
    if isinstance(step, Captured):
        return None
    with backend.peak_memory() as peak:
        step()
    return peak()
