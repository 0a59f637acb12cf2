"""A multilayer perceptron."""
from collections.abc import Callable, Sequence

from numpy.random import Generator

from minigrad import DTypeError, ShapeError, deprecated, nn, relu
from minigrad.typing import Array


@deprecated.keywords(normalise="normalize")
def mlp(rng: Generator, sizes: Sequence[int], activation: Callable[[Array], Array] = relu,
        normalize: bool = False) -> nn.Sequential:
    """Return a network of linear layers with an activation between them, from (n, inputs) to (n, outputs).

    Raises ShapeError for fewer than two sizes, DTypeError for a number in place of them.

    Args:
        rng: a generator of random numbers, such as backend.generator(seed).
        sizes: (inputs, hidden units of each layer ..., outputs).
        activation: the function between two layers.
        normalize: whether batch normalization comes before each activation.
    """
    if not hasattr(sizes, "__len__"):
        raise DTypeError(f"mlp: sizes = {sizes!r} is not a sequence\n  help: (inputs, hidden, outputs), for example")
    if len(sizes) < 2:
        raise ShapeError(f"mlp: sizes {sizes!r} are too few\n  help: (inputs, outputs), (inputs, hidden, outputs) ...")
    layers: list[Callable[[Array], Array]] = []
    for i, (inputs, outputs) in enumerate(zip(sizes, sizes[1:])):
        layers.append(nn.Linear.init(rng, inputs, outputs))
        if i < len(sizes) - 2:
            layers += [nn.BatchNorm.init(outputs)] if normalize else []
            layers.append(activation)
    return nn.Sequential(tuple(layers))
