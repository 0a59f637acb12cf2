"""Training steps in minigrad."""
import minigrad as mg
from minigrad import nn, optim, reweight, tree
from minigrad.backend import peak_memory, synchronize

from . import MOMENTUM, RATE, Library, data, minigrad_model


def routes(problem, model):
    """{route: step} from one model."""
    x, y, x_clean, y_clean = map(mg.xp.asarray, data(problem))
    loss = nn.sigmoid_cross_entropy if problem.network == "lenet" else nn.cross_entropy
    optimiser = optim.sgd(RATE, MOMENTUM)
    state = optimiser.init(model)

    def losses(m):
        return loss(m(x), y)

    def clean(m):
        return mg.mean(loss(m(x_clean), y_clean))

    def then(gradient):
        return optimiser.update(gradient, state, model)[0]

    def gradient():
        return mg.grad(lambda m: mg.mean(losses(m)))(model)

    def double_backward():
        weights = reweight.example_weights_unrolled(losses, clean, model)
        return then(mg.grad(lambda m: mg.sum(weights * losses(m)))(model))
    found = {"evaluation": lambda: model(x)} if problem.network == "mlp" else {}
    if not problem.clean:
        return found | {"gradient": gradient}
    return found | {
        "plain": lambda: then(gradient()),
        "Algorithm 1": lambda: then(reweight.reweighted_gradient(losses, clean, model).gradient),
        "double backward": double_backward}


def use(problem, backend=None):
    """minigrad; with a ResNet also with the inside of every unit forgotten (checkpoint)."""
    mg.use(backend or mg.backend.name())
    found = routes(problem, minigrad_model(problem))
    if problem.network == "resnet":
        forgetful = routes(problem, minigrad_model(problem, remember=False))
        found |= {f"{name}, units forgotten": forgetful[name] for name in ("plain", "Algorithm 1")}
    return Library(f"{mg.__version__}, {mg.backend.name()} {mg.xp.__version__}", found, synchronize,
                   lambda model: [mg.to_host(leaf) for leaf in tree.flatten(model)[0]], memory)


def memory(step):
    """By tracemalloc, or CuPy's memory pool."""
    with peak_memory() as peak:
        step()
    return peak()
